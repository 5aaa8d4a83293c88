//! One changing command a cluster on this machine: the second is told who runs, since when.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::path::Path;

use anyhow::{Context, Result, bail};

use crate::model::name::ClusterName;

/// Held while a command changes a cluster; the system frees it however the process ends.
#[derive(Debug)]
pub struct ClusterLock(File);

impl Drop for ClusterLock {
    /// By hand, and not by closing alone: a child that is being started just now shares the open file for a
    /// moment, and would hold the lock that long.
    fn drop(&mut self) {
        let _ = self.0.unlock();
    }
}

/// Takes the cluster's lock.
///
/// # Errors
/// When another process holds it: its id and command, and since when.
pub fn take(path: &Path, cluster: &ClusterName, command: &str) -> Result<ClusterLock> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
    }
    let mut file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .read(true)
        .write(true)
        .open(path)
        .with_context(|| format!("opening {}", path.display()))?;
    if file.try_lock().is_err() {
        let mut holder = String::new();
        let _ = (&file).take(300).read_to_string(&mut holder);
        let holder = holder.trim();
        let holder = if holder.is_empty() { "another clusterctl" } else { holder };
        bail!("{cluster} is being changed by {holder}; wait until it ends");
    }
    file.set_len(0).with_context(|| format!("writing {}", path.display()))?;
    let line = format!(
        "`clusterctl {command}` (process {}) since {}",
        std::process::id(),
        jiff::Zoned::now().strftime("%Y-%m-%d %H:%M:%S %Z")
    );
    file.write_all(line.as_bytes()).with_context(|| format!("writing {}", path.display()))?;
    Ok(ClusterLock(file))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_is_told_of_the_first_and_gets_it_afterwards() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("shop/lock");
        let cluster = ClusterName::new("shop").unwrap();
        let first = take(&path, &cluster, "up").unwrap();
        let refused = take(&path, &cluster, "down").unwrap_err().to_string();
        assert!(refused.contains("`clusterctl up`") && refused.contains("since"), "{refused}");
        drop(first);
        take(&path, &cluster, "down").unwrap();
    }
}
