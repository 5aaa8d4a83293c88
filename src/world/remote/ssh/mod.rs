//! SSH by libssh2: one thread a host owns the session and takes jobs from a channel; async callers await
//! the answers. `login` gets to a session (where and who in `resolve`, the way there in `dial`, the host's key
//! in `hostkey`, the user in `auth`), `channel` runs commands and forwards on it.

mod auth;
mod candidates;
mod channel;
mod dial;
mod flow;
mod hostkey;
mod login;
mod proxy;
mod resolve;
mod stream;
mod trace;
mod turns;
mod verdict;
mod way;

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use self::stream::Stream;
use self::turns::Turns;
use super::known_hosts::{KnownHosts, PublicKey};
use super::users::KnownUsers;
use super::{Command, ConnectError, Connector, Output, Remote, RemoteError, Watch};
use crate::model::event::Events;
use crate::model::host::{Host, HostId};
use crate::model::name::HostName;

/// A password; never shown, not even by `{:?}`.
#[derive(Clone)]
pub struct Secret(String);

impl Secret {
    pub fn new(text: String) -> Self {
        Self(text)
    }

    fn reveal(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// What to do with the key of a host for which none is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnknownKey {
    Refuse,
    /// Trust the first one shown, and remember it.
    AcceptNew,
}

#[derive(Debug, Clone)]
pub struct SshSettings {
    /// The cluster's own file.
    pub known_hosts: PathBuf,
    /// The user's `~/.ssh/config`, where it is to be honoured.
    pub ssh_config: Option<PathBuf>,
    pub home: PathBuf,
    /// The login user where nothing names one.
    pub default_user: String,
    pub sudo_password: Option<Secret>,
    pub unknown_key: UnknownKey,
    /// Cancels everything: connections are closed under the commands that use them.
    pub cancel: CancellationToken,
}

/// Opens SSH connections.
pub struct SshConnector {
    settings: Arc<SshSettings>,
    known: KnownHosts,
    users: KnownUsers,
    turns: Turns,
}

impl SshConnector {
    pub fn new(settings: SshSettings) -> Self {
        let known = KnownHosts::new(settings.known_hosts.clone());
        let users = KnownUsers::beside(&settings.known_hosts);
        Self { settings: Arc::new(settings), known, users, turns: Turns::default() }
    }
}

/// Who logged in to `id` the last time, where the host had several candidates. `known_hosts` is the cluster's.
pub fn last_user(known_hosts: &Path, id: &HostId) -> Option<String> {
    KnownUsers::beside(known_hosts).user(id)
}

/// Writes the keys that somebody vouches for into the cluster's `known_hosts`, for whoever reads only that file.
///
/// # Errors
/// When the file cannot be written.
pub fn remember_keys(known_hosts: &Path, host: &Host) -> std::io::Result<()> {
    let keys: Vec<PublicKey> = host.host_keys.iter().filter_map(|key| PublicKey::from_openssh(key)).collect();
    if keys.is_empty() { Ok(()) } else { KnownHosts::new(known_hosts.to_owned()).remember(&host.id, &keys) }
}

/// The socket of a running session, so that it can be closed from outside.
#[derive(Clone, Default)]
struct Socket(Arc<Mutex<Option<Stream>>>);

impl Socket {
    fn set(&self, stream: Option<Stream>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = stream;
    }

    fn shut_down(&self) {
        if let Some(stream) = &*self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            stream.shut_down();
        }
    }
}

#[async_trait]
impl Connector for SshConnector {
    async fn connect(&self, host: &Host, deadline: Instant, events: &Events) -> Result<Arc<dyn Remote>, ConnectError> {
        let socket = Socket::default();
        let (jobs, inbox) = mpsc::channel();
        let (connected, answer) = oneshot::channel();
        let login = login::Login {
            settings: Arc::clone(&self.settings),
            known: self.known.clone(),
            users: self.users.clone(),
            turns: self.turns.clone(),
            host: host.clone(),
            deadline,
            events: events.clone(),
            socket: socket.clone(),
        };
        let name = host.name.clone();
        let spawned = std::thread::Builder::new().name(format!("ssh {name}")).spawn(move || match login.run() {
            Ok(session) => {
                if connected.send(Ok(session.user.clone())).is_ok() {
                    session.serve(&inbox);
                }
            }
            Err(error) => drop(connected.send(Err(error))),
        });
        let setup = |what: &str, source| ConnectError::Setup { host: name.clone(), what: what.to_owned(), source };
        spawned.map_err(|error| setup("starting its thread", Some(error.into())))?;
        let guard = self.close_when_cancelled(&socket);
        let user = match answer.await {
            Ok(result) => result?,
            Err(_) => return Err(setup("its thread ended", None)),
        };
        Ok(Arc::new(SshRemote { host: host.name.clone(), user, jobs: Mutex::new(jobs), _guard: guard }))
    }

    fn knows(&self, host: &Host) -> Result<bool, ConnectError> {
        hostkey::known_keys(&self.known, host).map(|keys| !keys.is_empty())
    }
}

impl SshConnector {
    /// Closes the socket when the run is cancelled. The task ends with what is returned.
    fn close_when_cancelled(&self, socket: &Socket) -> tokio_util::sync::DropGuard {
        let done = CancellationToken::new();
        let (cancel, over, socket) = (self.settings.cancel.clone(), done.clone(), socket.clone());
        tokio::spawn(async move {
            tokio::select! {
                () = cancel.cancelled() => socket.shut_down(),
                () = over.cancelled() => {}
            }
        });
        done.drop_guard()
    }
}

enum Job {
    Run {
        command: Command,
        watch: Arc<dyn Watch>,
        answer: oneshot::Sender<Result<Output, RemoteError>>,
    },
    Exchange {
        to: SocketAddr,
        request: Vec<u8>,
        timeout: Duration,
        answer: oneshot::Sender<Result<Vec<u8>, RemoteError>>,
    },
}

/// The async side of one connection. Dropping it ends the thread, which closes the connection.
struct SshRemote {
    host: HostName,
    user: String,
    jobs: Mutex<mpsc::Sender<Job>>,
    _guard: tokio_util::sync::DropGuard,
}

impl SshRemote {
    fn lost(&self, doing: &str) -> RemoteError {
        let detail = "the connection is closed".to_owned();
        RemoteError::Lost { host: self.host.clone(), doing: doing.to_owned(), detail }
    }

    async fn ask<T>(
        &self,
        doing: &str,
        job: impl FnOnce(oneshot::Sender<Result<T, RemoteError>>) -> Job,
    ) -> Result<T, RemoteError> {
        let (answer, answered) = oneshot::channel();
        let sent = self.jobs.lock().unwrap_or_else(PoisonError::into_inner).send(job(answer));
        sent.map_err(|_| self.lost(doing))?;
        answered.await.map_err(|_| self.lost(doing))?
    }
}

#[async_trait]
impl Remote for SshRemote {
    fn user(&self) -> String {
        self.user.clone()
    }

    async fn run(&self, command: Command, watch: Arc<dyn Watch>) -> Result<Output, RemoteError> {
        self.ask("running a command", |answer| Job::Run { command, watch, answer }).await
    }

    async fn exchange(
        &self,
        address: IpAddr,
        port: u16,
        request: Vec<u8>,
        timeout: Duration,
    ) -> Result<Vec<u8>, RemoteError> {
        let to = SocketAddr::new(address, port);
        self.ask("forwarding", |answer| Job::Exchange { to, request, timeout, answer }).await
    }
}
