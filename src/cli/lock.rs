//! One changing command a cluster on this machine: the second is told who runs, since when.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::model::name::ClusterName;

/// How often the folder may vanish while the lock is taken; what vanishes more often has another cause.
const MOST_TRIES: u32 = 1000;

/// Held while a command changes a cluster; the system frees it however the process ends.
#[derive(Debug)]
pub struct ClusterLock {
    file: File,
    path: PathBuf,
}

impl ClusterLock {
    /// Ends the lock and removes its file, and its folder where nothing else is in it: a cluster that is gone
    /// leaves nothing here.
    pub fn remove(self) {
        let _ = fs::remove_file(&self.path);
        let _ = fs::remove_dir(self.path.parent().unwrap_or(Path::new("/")));
    }
}

impl Drop for ClusterLock {
    /// By hand, and not by closing alone: a child that is being started just now shares the open file for a
    /// moment, and would hold the lock that long.
    fn drop(&mut self) {
        let _ = self.file.unlock();
    }
}

/// Takes the cluster's lock.
///
/// # Errors
/// When another process holds it: its id and command, and since when.
pub fn take(path: &Path, cluster: &ClusterName, command: &str) -> Result<ClusterLock> {
    let mut tries = 0;
    let mut file = loop {
        let file = match open(path) {
            Ok(file) => file,
            // A `down` removed the folder just now: after it was made here, or between finding that it exists and
            // looking at what it is.
            Err(error)
                if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::AlreadyExists) && tries < MOST_TRIES =>
            {
                tries += 1;
                continue;
            }
            Err(error) => return Err(error).with_context(|| format!("opening {}", path.display())),
        };
        if file.try_lock().is_err() {
            let mut holder = String::new();
            let _ = (&file).take(300).read_to_string(&mut holder);
            let holder = holder.trim();
            let holder = if holder.is_empty() { "another clusterctl" } else { holder };
            bail!("{cluster} is being changed by {holder}; wait until it ends");
        }
        // A `down` that held it may have removed the file: then this lock is on a file that nobody else opens.
        let locked = file.metadata().with_context(|| format!("reading {}", path.display()))?;
        if fs::metadata(path).is_ok_and(|now| (now.dev(), now.ino()) == (locked.dev(), locked.ino())) {
            break file;
        }
    };
    file.set_len(0).with_context(|| format!("writing {}", path.display()))?;
    let line = format!(
        "`clusterctl {command}` (process {}) since {}",
        std::process::id(),
        jiff::Zoned::now().strftime("%Y-%m-%d %H:%M:%S %Z")
    );
    file.write_all(line.as_bytes()).with_context(|| format!("writing {}", path.display()))?;
    Ok(ClusterLock { file, path: path.to_owned() })
}

fn open(path: &Path) -> std::io::Result<File> {
    fs::create_dir_all(path.parent().unwrap_or(Path::new("/")))?;
    OpenOptions::new().create(true).truncate(false).read(true).write(true).open(path)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

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
        let last = take(&path, &cluster, "down").unwrap();
        last.remove();
        assert!(!dir.path().join("shop").exists());
    }

    #[test]
    fn what_else_is_in_the_folder_stays() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("shop/lock");
        let lock = take(&path, &ClusterName::new("shop").unwrap(), "down").unwrap();
        fs::write(path.with_file_name("known_hosts"), "").unwrap();
        lock.remove();
        assert!(!path.exists() && path.with_file_name("known_hosts").exists());
    }

    /// With the file removed after each turn, nobody may come to hold one that the others no longer find.
    #[test]
    fn one_at_a_time_also_when_the_file_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("shop/lock");
        let cluster = ClusterName::new("shop").unwrap();
        let (inside, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..200 {
                        let Ok(lock) = take(&path, &cluster, "down") else { continue };
                        most.fetch_max(inside.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                        inside.fetch_sub(1, Ordering::SeqCst);
                        lock.remove();
                    }
                });
            }
        });
        assert_eq!(most.into_inner(), 1);
    }
}
