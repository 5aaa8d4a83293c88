//! A small text file with lines `id value`, written by many hosts and many runs at once: the cluster's
//! known_hosts, and its login users. What the values mean does not belong here.

use std::io::{Error, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use crate::model::host::HostId;

/// Writers of one process take turns; those of several meet at the lock file.
static WRITING: Mutex<()> = Mutex::new(());

#[derive(Debug, Clone)]
pub struct ById {
    path: PathBuf,
}

impl ById {
    pub fn new(path: PathBuf) -> Self {
        Self { path }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The values of `id`, in their order.
    pub fn values(&self, id: &HostId) -> std::io::Result<Vec<String>> {
        let text = match std::fs::read_to_string(&self.path) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => String::new(),
            Err(error) => return Err(error),
        };
        let of_id = |line: &str| line.strip_prefix(&id.0)?.strip_prefix(' ').map(str::to_owned);
        Ok(text.lines().filter_map(of_id).collect())
    }

    /// Makes `values` those of `id`. The file is written anew beside and renamed.
    pub fn replace(&self, id: &HostId, values: &[String]) -> std::io::Result<()> {
        if id.0.is_empty() || id.0.contains(|c: char| c.is_whitespace() || c.is_control()) {
            return Err(Error::other(format!("the host's id cannot stand in {}", self.path.display())));
        }
        let _turn = WRITING.lock().unwrap_or_else(PoisonError::into_inner);
        let folder = self.path.parent().unwrap_or(Path::new("."));
        std::fs::create_dir_all(folder)?;
        let lock = std::fs::File::create(self.path.with_extension("lock"))?;
        lock.lock()?;
        if self.values(id)? == values {
            return Ok(());
        }
        let old = match std::fs::read_to_string(&self.path) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => String::new(),
            // What others wrote there would be lost.
            Err(error) => return Err(error),
        };
        let mut file = tempfile::Builder::new().prefix(".by-id").tempfile_in(folder)?;
        let prefix = format!("{} ", id.0);
        for line in old.lines().filter(|line| !line.starts_with(&prefix)) {
            writeln!(file, "{line}")?;
        }
        for value in values {
            writeln!(file, "{prefix}{value}")?;
        }
        file.as_file().sync_all()?;
        file.persist(&self.path).map_err(|error| error.error)?;
        Ok(())
    }
}
