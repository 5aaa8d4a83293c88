//! From a resolved target to a stream on which the host speaks SSH: directly, or by a program that makes the
//! way.

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use super::UnknownKey;
use super::login::{Attempt, Login, Transient};
use super::proxy::{Opened, Proxy};
use super::resolve::Resolved;
use super::stream::Stream;
use super::verdict::{Verdict, judge};
use super::way::{Client, Target, Way, ssh_arguments};
use crate::world::remote::{ConnectError, Obstacle, openssh};

/// The longest that one attempt waits for a TCP connection.
const ATTEMPT: Duration = Duration::from_secs(3);
/// A bastion may be far away, and behind others.
const BASTION: Duration = Duration::from_secs(10);
/// Logging in to the bastion, and its own connection to the host.
const OPENING: Duration = Duration::from_secs(10);

/// A stream, and the program at its other end where there is one.
pub(super) struct Dialled {
    pub stream: Stream,
    pub proxy: Option<Proxy>,
}

impl Login {
    pub fn dial(&self, target: &Resolved, user: &str) -> Result<Dialled, Attempt> {
        match self.way(target, user)? {
            None => {
                let stream = Stream::Tcp(self.dial_directly(target)?);
                self.socket.set(stream.try_clone().ok());
                Ok(Dialled { stream, proxy: None })
            }
            Some(way) => self.dial_through(&way, target, user),
        }
    }

    pub fn way(&self, target: &Resolved, user: &str) -> Result<Option<Way>, ConnectError> {
        Way::of(target.proxy.as_ref(), &self.target(target, user))
            .map_err(|problem| self.setup(format!("the way to it: {problem}"), None))
    }

    fn target<'a>(&'a self, target: &'a Resolved, user: &'a str) -> Target<'a> {
        Target {
            host: &target.host,
            name: &self.host.ssh.host,
            port: target.port,
            user,
            local_user: &self.settings.default_user,
            home: &self.settings.home,
        }
    }

    fn dial_directly(&self, target: &Resolved) -> Result<TcpStream, Attempt> {
        let unresolved =
            |source| ConnectError::Unresolved { host: self.host.name.clone(), address: target.host.clone(), source };
        let addresses: Vec<SocketAddr> =
            (target.host.as_str(), target.port).to_socket_addrs().map_err(unresolved)?.collect();
        let mut refused = false;
        for address in &addresses {
            match TcpStream::connect_timeout(address, ATTEMPT) {
                Ok(stream) => {
                    let _ = stream.set_nodelay(true);
                    return Ok(stream);
                }
                Err(error) => refused |= error.kind() == ErrorKind::ConnectionRefused,
            }
        }
        if addresses.is_empty() {
            return Err(unresolved(std::io::Error::other("no address")).into());
        }
        Err(Attempt::Again(if refused { Transient::Refused } else { Transient::TimedOut }))
    }

    /// Names are resolved at the other end of the way.
    fn dial_through(&self, way: &Way, target: &Resolved, user: &str) -> Result<Dialled, Attempt> {
        let name = way.name();
        let cancel = &self.settings.cancel;
        // Held until the host speaks: then the bastion has let us in.
        let Some(_turn) = self.turns.take(&name, self.deadline, cancel) else {
            if cancel.is_cancelled() {
                return Err(self.cancelled().into());
            }
            let detail = "the time was over before the ways to other hosts were open".to_owned();
            return Err(Attempt::Again(Transient::Bastion(Obstacle::Unreachable, detail)));
        };
        let left = self.deadline.saturating_duration_since(Instant::now()).max(Duration::from_secs(1));
        let command = self.command(way, target, user, left.min(BASTION))?;
        let program = command.get_program().to_string_lossy().into_owned();
        let (mut proxy, stream) = Proxy::start(command)
            .map_err(|error| self.closed(&name, Obstacle::Program, format!("starting {program}: {error}")))?;
        let stream = Stream::Proxied(stream);
        self.socket.set(stream.try_clone().ok());
        let opened = proxy.wait_until_open(left.min(BASTION) + OPENING, cancel);
        match opened.map_err(|error| self.setup("waiting for the way".to_owned(), Some(error.into())))? {
            Opened::Yes => Ok(Dialled { stream, proxy: Some(proxy) }),
            Opened::Cancelled => Err(self.cancelled().into()),
            Opened::TimedOut => Err(Attempt::Again(Transient::TimedOut)),
            Opened::Closed => {
                let (said, exit) = proxy.last_words();
                Err(match judge(&said, exit) {
                    Verdict::HostRefused => Attempt::Again(Transient::Refused),
                    Verdict::HostSilent => Attempt::Again(Transient::TimedOut),
                    Verdict::Later(obstacle, detail) => Attempt::Again(Transient::Bastion(obstacle, detail)),
                    Verdict::Final(obstacle, detail) => self.closed(&name, obstacle, detail).into(),
                })
            }
        }
    }

    pub fn closed(&self, bastion: &str, obstacle: Obstacle, detail: String) -> ConnectError {
        ConnectError::Bastion { host: self.host.name.clone(), bastion: bastion.to_owned(), obstacle, detail }
    }

    fn command(&self, way: &Way, target: &Resolved, user: &str, timeout: Duration) -> Result<Command, ConnectError> {
        match way {
            Way::Jump { before, last } => {
                let keys = self.bastion_keys(&last.host)?;
                let config = match self.settings.ssh_config.as_deref() {
                    Some(path) if !path.exists() || openssh::reads_by_itself(path) => None,
                    Some(path) => Some(path),
                    None => Some(Path::new("none")),
                };
                let client = Client {
                    config,
                    keys: keys.iter().map(AsRef::as_ref).collect(),
                    accept_new_keys: self.settings.unknown_key == UnknownKey::AcceptNew,
                    timeout,
                };
                let mut command = Command::new("ssh");
                command.args(ssh_arguments(before, last, &client, &self.target(target, user)));
                Ok(command)
            }
            Way::Command(line) => {
                let mut command = Command::new("sh");
                // As OpenSSH does it, so that the shell does not stay in between.
                command.arg("-c").arg(format!("exec {line}"));
                Ok(command)
            }
        }
    }
}
