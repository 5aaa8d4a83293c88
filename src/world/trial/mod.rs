//! A bench for trying rendered files on this machine: a temporary tree, the programs that judge, one run of a command
//! with a limit, and a stand-in for Consul. What is tried, and what the outcome means, is not decided here.

mod consul;
mod programs;

use std::ffi::OsString;
use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use thiserror::Error;
use tokio::process::Command;

pub use consul::StandIn;
pub use programs::{Programs, executable_on};

use crate::model::file::HostPath;

#[derive(Debug, Error)]
pub enum TrialError {
    #[error("{doing} {}", path.display())]
    File {
        doing: &'static str,
        path: PathBuf,
        #[source]
        cause: io::Error,
    },
    #[error("running {program}")]
    Run {
        program: String,
        #[source]
        cause: io::Error,
    },
    #[error("the artifact cache")]
    Cache(#[source] Box<super::artifacts::ArtifactError>),
}

fn file<'a>(doing: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> TrialError + 'a {
    move |cause| TrialError::File { doing, path: path.to_owned(), cause }
}

/// A folder laid out as a host would be; gone when dropped.
#[derive(Debug)]
pub struct Tree {
    dir: tempfile::TempDir,
}

impl Tree {
    /// # Errors
    /// [`TrialError`], as everywhere here, when this machine has no room for it.
    pub fn new() -> Result<Self, TrialError> {
        let dir = tempfile::Builder::new().prefix("clusterctl-render-").tempdir();
        Ok(Self { dir: dir.map_err(file("making a folder in", &std::env::temp_dir()))? })
    }

    pub fn root(&self) -> &Path {
        self.dir.path()
    }

    pub fn at(&self, path: &HostPath) -> PathBuf {
        self.dir.path().join(path.as_str().trim_start_matches('/'))
    }

    /// # Errors
    /// [`TrialError`].
    pub fn put(&self, path: &HostPath, text: &[u8], executable: bool) -> Result<PathBuf, TrialError> {
        let at = self.at(path);
        if let Some(folder) = at.parent() {
            fs::create_dir_all(folder).map_err(file("making", folder))?;
        }
        fs::write(&at, text).map_err(file("writing", &at))?;
        if executable {
            fs::set_permissions(&at, fs::Permissions::from_mode(0o755)).map_err(file("changing the mode of", &at))?;
        }
        Ok(at)
    }
}

/// Between two attempts to run a program that is still open somewhere.
const BUSY: Duration = Duration::from_millis(10);

/// How a command ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ran {
    Ended { good: bool, stdout: Vec<u8>, stderr: Vec<u8> },
    TimedOut,
}

/// Runs `words[0]` with the rest, with nothing of this process' environment and nothing to read.
///
/// # Errors
/// When it cannot be started.
pub async fn run(words: &[OsString], limit: Duration) -> Result<Ran, TrialError> {
    let (program, arguments) = words.split_first().expect("a command has a program");
    let mut command = Command::new(program);
    command
        .args(arguments)
        .env_clear()
        .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
        .env("LC_ALL", "C.UTF-8")
        .stdin(Stdio::null())
        .kill_on_drop(true);
    let cause = |cause| TrialError::Run { program: program.to_string_lossy().into_owned(), cause };
    let ended = async {
        loop {
            match command.output().await {
                // It was written just now, and a process that was started meanwhile still has the file open.
                Err(error) if error.kind() == ErrorKind::ExecutableFileBusy => tokio::time::sleep(BUSY).await,
                ended => return ended,
            }
        }
    };
    match tokio::time::timeout(limit, ended).await {
        Ok(output) => {
            let output = output.map_err(cause)?;
            Ok(Ran::Ended { good: output.status.success(), stdout: output.stdout, stderr: output.stderr })
        }
        Err(_) => Ok(Ran::TimedOut),
    }
}

#[cfg(test)]
mod tests;
