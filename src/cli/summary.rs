//! `--junit FILE`: what the command showed, and how it ended, as a file for a CI server.

use std::fs::Permissions;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result};
use tempfile::NamedTempFile;

use super::{exit, hints};
use crate::model::name::ClusterName;
use crate::ui::error;
use crate::ui::render::junit::{self, Case, Verdict};

/// Gathers cases while the command runs; all clones are one.
#[derive(Debug, Clone, Default)]
pub struct Summary(Arc<Mutex<Gathered>>);

#[derive(Debug, Default)]
struct Gathered {
    cluster: Option<ClusterName>,
    cases: Vec<Case>,
}

impl Summary {
    /// The cluster that it is about, once that is known.
    pub fn cluster(&self, cluster: &ClusterName) {
        self.gathered().cluster = Some(cluster.clone());
    }

    pub fn add(&self, cases: Vec<Case>) {
        self.gathered().cases.extend(cases);
    }

    fn gathered(&self) -> std::sync::MutexGuard<'_, Gathered> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes the file, beside its place first: nobody reads half of it.
    pub fn write(&self, file: &Path, verb: &str, took: Duration, ended: &Result<u8>) -> Result<()> {
        let Gathered { cluster, cases } = &mut *self.gathered();
        let command = format!("clusterctl {verb}");
        let verdict = verdict(ended);
        cases.insert(0, Case { group: "command", name: command.clone(), verdict });
        let suite = cluster.as_ref().map_or(command.clone(), |cluster| format!("{command} {cluster}"));
        let text = junit::xml(&suite, took, cases).with_context(|| writing(file))?;
        let mut beside = beside(file)?;
        beside.write_all(text.as_bytes()).with_context(|| writing(file))?;
        beside.persist(file).map_err(|error| error.error).with_context(|| writing(file))?;
        Ok(())
    }
}

fn verdict(ended: &Result<u8>) -> Verdict {
    let code = ended.as_ref().map_or_else(hints::code, |code| *code);
    let (message, more) = match ended {
        Err(error) => {
            let mut said = error::chain(error.as_ref()).into_iter();
            (
                said.next().unwrap_or_default(),
                said.chain(hints::hint(error).map(|hint| format!("hint: {hint}"))).collect(),
            )
        }
        Ok(exit::HOSTS_FAILED) => ("not all is as it should be: see the other cases".to_owned(), Vec::new()),
        Ok(code) => (format!("it exited {code}"), Vec::new()),
    };
    match code {
        exit::OK | exit::CHANGES => Verdict::Good,
        exit::INTERRUPTED if ended.is_ok() => Verdict::Interrupted { message: "interrupted".to_owned() },
        exit::INTERRUPTED | exit::TIMED_OUT => Verdict::Interrupted { message },
        code => Verdict::Failed { kind: format!("exit {code}"), message, more },
    }
}

/// # Errors
/// When no file can be written there.
pub fn writable(file: &Path) -> Result<()> {
    let is_folder = file.is_dir() || file.file_name().is_none() || file.as_os_str().as_encoded_bytes().ends_with(b"/");
    anyhow::ensure!(!is_folder, super::Usage(format!("--junit {}: that is a folder", file.display())));
    beside(file).map(drop)
}

fn beside(file: &Path) -> Result<NamedTempFile> {
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder).with_context(|| writing(file))?;
    // As any file that is made here, rather than a secret.
    let mut builder = tempfile::Builder::new();
    builder.prefix(".clusterctl-junit-").permissions(Permissions::from_mode(0o666));
    builder.tempfile_in(folder).with_context(|| writing(file))
}

fn writing(file: &Path) -> String {
    format!("writing --junit {}", file.display())
}

#[cfg(test)]
mod tests {
    use anyhow::anyhow;

    use super::*;

    fn written(ended: &Result<u8>) -> String {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("reports/up.xml");
        let summary = Summary::default();
        summary.cluster(&ClusterName::new("shop").unwrap());
        writable(&file).unwrap();
        summary.clone().write(&file, "up", Duration::from_millis(1500), ended).unwrap();
        let left: Vec<_> = std::fs::read_dir(file.parent().unwrap()).unwrap().collect();
        assert_eq!(left.len(), 1, "{left:?}");
        std::fs::read_to_string(file).unwrap()
    }

    #[test]
    fn how_a_command_ends_is_a_case_of_its_own() {
        insta::assert_snapshot!("good", written(&Ok(exit::OK)));
        insta::assert_snapshot!("hosts_failed", written(&Ok(exit::HOSTS_FAILED)));
        insta::assert_snapshot!("interrupted", written(&Ok(exit::INTERRUPTED)));
        let error = anyhow!("no route <to> host").context("listing the instances");
        insta::assert_snapshot!("error", written(&Err(error)));
        assert_eq!(written(&Ok(exit::CHANGES)), written(&Ok(exit::OK)), "a plan with changes is no failure");
    }

    #[test]
    fn where_nothing_can_be_written_is_known_before() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["", "new/", "new/.."] {
            let said = writable(&folder.path().join(name)).unwrap_err();
            assert!(said.to_string().contains("is a folder"), "{said}");
        }
        let file = folder.path().join("file");
        std::fs::write(&file, "").unwrap();
        let said = format!("{:#}", writable(&file.join("up.xml")).unwrap_err());
        assert!(said.starts_with("writing --junit "), "{said}");
    }
}
