//! A lock that other processes respect and that ends with its process, however it ends.

use std::fs::{self, File, TryLockError};
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::file_error;
use crate::world::cloud::CloudError;

/// Held until dropped.
#[derive(Debug)]
pub struct Lock {
    _file: File,
    path: PathBuf,
}

impl Lock {
    /// Waits for the lock; `waiting` is called once if another holds it.
    pub fn take(path: &Path, waiting: impl FnOnce()) -> Result<Self, CloudError> {
        let failed = |e| file_error("locking", path, e);
        let mut waiting = Some(waiting);
        loop {
            let file = match open(path) {
                Ok(file) => file,
                // Whoever held it last removed the folder just now: after it was made here, or between finding
                // that it exists and looking at what it is.
                Err(e) if e.kind() == ErrorKind::NotFound => continue,
                Err(e) if e.kind() == ErrorKind::AlreadyExists && !path.parent().is_some_and(Path::is_file) => continue,
                Err(e) => return Err(failed(e)),
            };
            if !try_lock(&file).map_err(failed)? {
                if let Some(waiting) = waiting.take() {
                    waiting();
                }
                file.lock().map_err(failed)?;
            }
            // Whoever held it may have removed the file: then this lock is on a file that nobody else opens.
            let locked = file.metadata().map_err(failed)?;
            if fs::metadata(path).is_ok_and(|now| (now.dev(), now.ino()) == (locked.dev(), locked.ino())) {
                return Ok(Self { _file: file, path: path.to_owned() });
            }
        }
    }

    /// Ends the lock and removes its file, and its folder if nothing else is in it; who waits for it makes
    /// both anew.
    pub fn remove(self) {
        let _ = fs::remove_file(&self.path);
        let _ = fs::remove_dir(self.path.parent().unwrap_or(Path::new("/")));
    }
}

fn open(path: &Path) -> std::io::Result<File> {
    fs::create_dir_all(path.parent().unwrap_or(Path::new("/")))?;
    File::options().create(true).append(true).open(path)
}

/// Is it ours now? `false`: another process holds it.
fn try_lock(file: &File) -> std::io::Result<bool> {
    match file.try_lock() {
        Ok(()) => Ok(true),
        Err(TryLockError::WouldBlock) => Ok(false),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn one_at_a_time_also_when_the_file_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("locks/lock");
        let (inside, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            for turn in 0..8 {
                let (path, inside, most) = (&path, &inside, &most);
                scope.spawn(move || {
                    for _ in 0..50 {
                        let lock = Lock::take(path, || {}).unwrap();
                        most.fetch_max(inside.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                        inside.fetch_sub(1, Ordering::SeqCst);
                        if turn % 2 == 0 { lock.remove() } else { drop(lock) }
                    }
                });
            }
        });
        assert_eq!(most.into_inner(), 1);
    }
}
