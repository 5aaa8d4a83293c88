//! One changing command a cluster on this machine: the second is told who runs, since when.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::signals::Interrupted;
use crate::model::event::Events;
use crate::model::name::ClusterName;
use crate::model::spec::Span;

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

/// How long to wait for the other's end, and what may end the waiting.
#[derive(Clone, Copy)]
pub struct Wait<'a> {
    /// `None`: not at all.
    pub most: Option<Span>,
    pub cancel: &'a CancellationToken,
    pub events: &'a Events,
}

/// Between two attempts.
const PAUSE: Duration = Duration::from_millis(200);

/// Takes the cluster's lock.
///
/// # Errors
/// When another process holds it, for longer than was waited for: its id and command, and since when.
pub async fn take(path: &Path, cluster: &ClusterName, command: &str, wait: Wait<'_>) -> Result<ClusterLock> {
    let deadline = Instant::now() + wait.most.map_or(Duration::ZERO, Span::as_duration);
    let mut told = None;
    loop {
        let holder = match attempt(path, command)? {
            Ok(lock) => return Ok(lock),
            Err(holder) => holder,
        };
        let Some(most) = wait.most else {
            bail!("{cluster} is being changed by {holder}; wait until it ends, or let --lock-timeout DURATION wait");
        };
        if Instant::now() >= deadline {
            bail!("{cluster} is being changed by {holder}, and --lock-timeout {most} is over");
        }
        // Another one may have come first since.
        if told.as_ref() != Some(&holder) {
            wait.events
                .note(None, format!("{cluster} is being changed by {holder}: waiting for its end, {most} at most"));
            told = Some(holder);
        }
        tokio::select! {
            () = wait.cancel.cancelled() => bail!(Interrupted),
            () = tokio::time::sleep(PAUSE.min(deadline.saturating_duration_since(Instant::now()))) => {}
        }
    }
}

/// The lock, or who holds it.
fn attempt(path: &Path, command: &str) -> Result<std::result::Result<ClusterLock, String>> {
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
            return Ok(Err(if holder.is_empty() { "another clusterctl".to_owned() } else { holder.to_owned() }));
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
    Ok(Ok(ClusterLock { file, path: path.to_owned() }))
}

fn open(path: &Path) -> std::io::Result<File> {
    fs::create_dir_all(path.parent().unwrap_or(Path::new("/")))?;
    OpenOptions::new().create(true).truncate(false).read(true).write(true).open(path)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    const NO_WAIT: Option<Span> = None;

    async fn take(path: &Path, command: &str, most: Option<Span>, cancel: &CancellationToken) -> Result<ClusterLock> {
        let wait = Wait { most, cancel, events: &Events::silent() };
        super::take(path, &ClusterName::new("shop").unwrap(), command, wait).await
    }

    #[tokio::test]
    async fn the_second_is_told_of_the_first_and_gets_it_afterwards() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("shop/lock");
        let cancel = CancellationToken::new();
        let first = take(&path, "up", NO_WAIT, &cancel).await.unwrap();
        let refused = take(&path, "down", NO_WAIT, &cancel).await.unwrap_err().to_string();
        for said in ["`clusterctl up`", "since", "--lock-timeout"] {
            assert!(refused.contains(said), "no {said}: {refused}");
        }
        drop(first);
        let last = take(&path, "down", NO_WAIT, &cancel).await.unwrap();
        last.remove();
        assert!(!dir.path().join("shop").exists());
    }

    #[tokio::test]
    async fn who_waits_gets_it_when_the_other_ends() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("shop/lock");
        let cancel = CancellationToken::new();
        let first = take(&path, "up", NO_WAIT, &cancel).await.unwrap();
        let end = async {
            tokio::time::sleep(Duration::from_millis(500)).await;
            drop(first);
        };
        let begun = Instant::now();
        let (second, ()) = tokio::join!(take(&path, "plan", Some(Span::from_secs(60)), &cancel), end);
        let waited = begun.elapsed();
        assert!(waited >= Duration::from_millis(500) && waited < Duration::from_secs(30), "{waited:?}");
        let _second = second.unwrap();
        let third = take(&path, "down", Some(Span::from_millis(300)), &cancel).await.unwrap_err().to_string();
        assert!(third.contains("`clusterctl plan`") && third.ends_with("--lock-timeout 300ms is over"), "{third}");
    }

    #[tokio::test]
    async fn waiting_ends_with_an_interruption() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("shop/lock");
        let cancel = CancellationToken::new();
        let _first = take(&path, "up", NO_WAIT, &cancel).await.unwrap();
        let (second, ()) =
            tokio::join!(take(&path, "up", Some(Span::from_secs(3600)), &cancel), async { cancel.cancel() });
        assert_eq!(super::super::hints::code(&second.unwrap_err()), super::super::exit::INTERRUPTED);
    }

    #[test]
    fn what_else_is_in_the_folder_stays() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("shop/lock");
        let lock = attempt(&path, "down").unwrap().unwrap();
        fs::write(path.with_file_name("known_hosts"), "").unwrap();
        lock.remove();
        assert!(!path.exists() && path.with_file_name("known_hosts").exists());
    }

    /// With the file removed after each turn, nobody may come to hold one that the others no longer find.
    #[test]
    fn one_at_a_time_also_when_the_file_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("shop/lock");
        let (inside, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..200 {
                        let Ok(Ok(lock)) = attempt(&path, "down") else { continue };
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
