//! The lease that a changing command holds where several machines change the same hosts, beside its local lock: taken
//! before anything is done, renewed while it runs, given back at its end.

use std::fs;
use std::io::Read;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use jiff::Timestamp;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::local_lock::{ClusterLock, Wait};
use super::paths::Paths;
use super::signals::Interrupted;
use crate::model::event::Events;
use crate::model::lease::{Lease, RENEWAL, TERM};
use crate::model::name::ClusterName;
use crate::model::spec::Span;
use crate::world::cloud::{Cloud, CloudError, Leases, Turn};

/// Between two looks at a lease that somebody holds.
const PAUSE: Duration = Duration::from_secs(2);
/// How long the end of a command waits for its lease to be given back.
const FAREWELL: Duration = Duration::from_secs(10);

/// What still runs when a command has ended, all clones being one: giving leases back.
#[derive(Debug, Clone, Default)]
pub struct Farewells(Arc<Mutex<Vec<JoinHandle<()>>>>);

impl Farewells {
    fn add(&self, handle: JoinHandle<()>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(handle);
    }

    /// Waits for all of it, but not for long.
    pub async fn finish(&self) {
        let handles = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        let _ = tokio::time::timeout(FAREWELL, futures::future::join_all(handles)).await;
    }
}

/// A lease that is held; dropping it gives it back.
#[derive(Debug)]
pub struct Held(CancellationToken);

impl Drop for Held {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

/// Who takes it, and what stops what.
pub struct Taking<'a> {
    pub cloud: &'a Arc<dyn Cloud>,
    pub cluster: &'a ClusterName,
    pub paths: &'a Paths,
    pub command: &'a str,
    pub wait: Wait<'a>,
    pub farewells: &'a Farewells,
    /// Held until the lease is given back: whoever gets the local lock takes what lease it finds for a dead one's.
    pub local: &'a Arc<LocalHold>,
}

/// The local lock, freed when the last who needs it lets go.
#[derive(Debug)]
pub struct LocalHold {
    lock: Option<ClusterLock>,
    removed: AtomicBool,
}

impl LocalHold {
    pub const fn new(lock: ClusterLock) -> Self {
        Self { lock: Some(lock), removed: AtomicBool::new(false) }
    }

    /// Its file goes with it.
    pub fn removed(&self) {
        self.removed.store(true, Ordering::Relaxed);
    }
}

impl Drop for LocalHold {
    fn drop(&mut self) {
        if let Some(lock) = self.lock.take()
            && self.removed.load(Ordering::Relaxed)
        {
            lock.remove();
        }
    }
}

/// Takes the lease where the provider has one. Only for who holds the local lock.
///
/// # Errors
/// When another machine holds it, for longer than was waited for.
pub async fn take(taking: Taking<'_>) -> Result<Option<Held>> {
    let Some(leases) = taking.cloud.leases() else { return Ok(None) };
    let lease = claim(taking.paths, taking.command)?;
    match obtain(leases, &lease, &taking).await {
        Ok(()) => Ok(Some(keep(&taking, lease))),
        Err(error) => match error.downcast::<CloudError>() {
            Ok(CloudError::Cancelled) => bail!(Interrupted),
            // An account that allows no parameters, a network that does not lead to them, bad credentials, of which the
            // command itself will hear and tell better. Not where many want it at once: it is there for just that.
            Ok(error @ CloudError::Api { .. }) if !error.is_passing() => {
                let events = taking.wait.events;
                events.warn(None, format!("{error}: no other machine is kept from changing {} now", taking.cluster));
                Ok(None)
            }
            Ok(other) => Err(other.into()),
            Err(other) => Err(other),
        },
    }
}

fn claim(paths: &Paths, command: &str) -> Result<Lease> {
    let now = Timestamp::now();
    Ok(Lease {
        id: random()?,
        owner: format!("{}@{}", paths.user, host()),
        machine: machine(&paths.state)?,
        process: std::process::id(),
        command: command.to_owned(),
        since: now,
        until: now + TERM,
    })
}

async fn obtain(leases: &dyn Leases, lease: &Lease, taking: &Taking<'_>) -> Result<()> {
    let Taking { cluster, wait, .. } = taking;
    let deadline = Instant::now() + wait.most.map_or(Duration::ZERO, Span::as_duration);
    let mut told = None;
    loop {
        let Turn::Theirs(there) = leases.take_lease(&lease.renewed(Timestamp::now())).await? else { return Ok(()) };
        let holder = there.holder();
        let Some(most) = wait.most else {
            bail!(
                "{cluster} is being changed by {holder}; wait until it ends, let --lock-timeout DURATION wait, or, if it \
                 is dead, `clusterctl lock release{}`",
                if taking.command.starts_with("ami ") { " --build" } else { "" }
            );
        };
        if Instant::now() >= deadline {
            bail!("{cluster} is being changed by {holder}, and --lock-timeout {most} is over");
        }
        if told.as_ref() != Some(&there.id) {
            wait.events
                .note(None, format!("{cluster} is being changed by {holder}: waiting for its end, {most} at most"));
            told = Some(there.id);
        }
        tokio::select! {
            () = wait.cancel.cancelled() => bail!(Interrupted),
            () = tokio::time::sleep(PAUSE.min(deadline.saturating_duration_since(Instant::now()))) => {}
        }
    }
}

/// Renews the lease until it is dropped, and gives it back then. Whoever has lost it stops cleanly: another one changes
/// the cluster by now.
fn keep(taking: &Taking<'_>, lease: Lease) -> Held {
    let done = CancellationToken::new();
    let held = Held(done.clone());
    let cloud = Arc::clone(taking.cloud);
    let (events, cancel) = (taking.wait.events.clone(), taking.wait.cancel.clone());
    let (cluster, local) = (taking.cluster.clone(), Arc::clone(taking.local));
    taking.farewells.add(tokio::spawn(async move {
        let Some(leases) = cloud.leases() else { return };
        while tokio::time::timeout(RENEWAL, done.cancelled()).await.is_err() {
            renew(leases, &lease, &cluster, &events, &cancel).await;
        }
        if let Err(error) = leases.end_lease(&lease.id).await {
            events.warn(None, format!("the lease on {cluster} stays until it runs out, in 5 min: {error}"));
        }
        drop(local);
    }));
    held
}

async fn renew(leases: &dyn Leases, lease: &Lease, cluster: &ClusterName, events: &Events, cancel: &CancellationToken) {
    let whose = match leases.renew_lease(&lease.renewed(Timestamp::now())).await {
        Ok(Turn::Ours) => return,
        Ok(Turn::Theirs(other)) => other.holder(),
        Ok(Turn::Nobodys) => "somebody released it".to_owned(),
        Err(error) => return events.warn(None, format!("the lease on {cluster} could not be renewed: {error}")),
    };
    events.warn(None, format!("the lease on {cluster} is lost ({whose}): stopping"));
    cancel.cancel();
}

/// The id of this state folder: whoever uses another one, on this machine or elsewhere, has other local locks.
fn machine(state: &Path) -> Result<String> {
    let path = state.join("id");
    let read = || fs::read_to_string(&path).ok().map(|id| id.trim().to_owned()).filter(|id| id.len() == 32);
    if let Some(id) = read() {
        return Ok(id);
    }
    fs::create_dir_all(state).with_context(|| format!("making {}", state.display()))?;
    let file = tempfile::NamedTempFile::new_in(state).with_context(|| format!("writing in {}", state.display()))?;
    fs::write(file.path(), random()?).with_context(|| format!("writing {}", file.path().display()))?;
    // Another one may have made it just now: the first counts.
    match file.persist_noclobber(&path) {
        Ok(_) => {}
        Err(error) if error.error.kind() == std::io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(error.error).with_context(|| format!("writing {}", path.display())),
    }
    read().with_context(|| format!("{} holds no id: remove it", path.display()))
}

fn random() -> Result<String> {
    let mut bytes = [0; 16];
    fs::File::open("/dev/urandom").and_then(|mut file| file.read_exact(&mut bytes)).context("reading /dev/urandom")?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

fn host() -> String {
    let name = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    name.chars().filter(|c| c.is_ascii_alphanumeric() || ".-".contains(*c)).take(64).collect()
}

#[cfg(test)]
mod tests;
