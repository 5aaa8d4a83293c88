//! From an address to a session that is logged in: retries what may be a host that still boots, and tells
//! apart what is final.

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ssh2::{ErrorCode, MethodType, Session};

use super::channel::Channeler;
use super::{Socket, SshSettings, UnknownKey};
use crate::model::event::{Doing, Events};
use crate::model::host::Host;
use crate::world::remote::ConnectError;
use crate::world::remote::known_hosts::{KnownHosts, PublicKey};
use crate::world::remote::ssh_config::{self, HostConfig};

/// The longest that one attempt waits for a TCP connection, and for each step of the handshake.
const ATTEMPT: Duration = Duration::from_secs(3);
const HANDSHAKE: Duration = Duration::from_secs(10);
const FIRST_PAUSE: Duration = Duration::from_millis(25);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// AES in GCM is several times faster than the alternatives on any processor with AES instructions, and
/// needs no separate MAC.
const CIPHERS: &str = "aes128-gcm@openssh.com,aes256-gcm@openssh.com,aes128-ctr,aes256-ctr";
const KEY_EXCHANGES: &str = "curve25519-sha256,curve25519-sha256@libssh.org,ecdh-sha2-nistp256,\
     diffie-hellman-group14-sha256,diffie-hellman-group16-sha512";
const HOST_KEYS: &str =
    "ssh-ed25519,ecdsa-sha2-nistp256,ecdsa-sha2-nistp384,ecdsa-sha2-nistp521,rsa-sha2-512,rsa-sha2-256";

pub(super) struct Login {
    pub settings: Arc<SshSettings>,
    pub known: KnownHosts,
    pub host: Host,
    pub deadline: Instant,
    pub events: Events,
    pub socket: Socket,
}

/// Why an attempt failed that may be repeated.
enum Transient {
    Refused,
    TimedOut,
    Dropped(String),
}

enum Attempt {
    Again(Transient),
    Final(ConnectError),
}

impl From<ConnectError> for Attempt {
    fn from(error: ConnectError) -> Self {
        Self::Final(error)
    }
}

impl Login {
    pub fn run(self) -> Result<Channeler, ConnectError> {
        let config = self.config()?;
        let begun = Instant::now();
        let mut pause = FIRST_PAUSE;
        let mut last: Option<String> = None;
        for attempt in 1.. {
            if self.settings.cancel.is_cancelled() {
                return Err(ConnectError::Cancelled { host: self.host.name.clone() });
            }
            self.events.began(Some(&self.host.name), Doing::Connect { attempt, last: last.take() });
            let transient = match self.attempt(&config) {
                Ok(session) => {
                    self.events.ended(Some(&self.host.name), Doing::Connect { attempt, last: None }, false);
                    return Ok(session);
                }
                Err(Attempt::Final(error)) => return Err(error),
                Err(Attempt::Again(transient)) => transient,
            };
            let jittered = pause.mul_f64(0.5 + jitter());
            if Instant::now() + jittered >= self.deadline {
                return Err(self.give_up(&config, transient, begun.elapsed()));
            }
            last = Some(match transient {
                Transient::Refused => "refused".to_owned(),
                Transient::TimedOut => "no answer".to_owned(),
                Transient::Dropped(detail) => detail,
            });
            std::thread::sleep(jittered);
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
        unreachable!("the loop ends by its deadline")
    }

    fn config(&self) -> Result<Resolved, ConnectError> {
        let from_file = match &self.settings.ssh_config {
            Some(path) => match std::fs::read_to_string(path) {
                Ok(text) => ssh_config::lookup(&text, &self.host.ssh.host, &self.settings.home),
                Err(error) if error.kind() == ErrorKind::NotFound => HostConfig::default(),
                Err(error) => return Err(self.setup(format!("reading {}", path.display()), Some(error.into()))),
            },
            None => HostConfig::default(),
        };
        let ssh = &self.host.ssh;
        let keys = match &ssh.key {
            Some(key) => Keys::Only(key.clone()),
            None if !from_file.identity_files.is_empty() => Keys::AgentThen(from_file.identity_files),
            None => {
                let named = |name| self.settings.home.join(".ssh").join(name);
                Keys::AgentThen(["id_ed25519", "id_ecdsa", "id_rsa"].map(named).to_vec())
            }
        };
        Ok(Resolved {
            host: from_file.host_name.unwrap_or_else(|| ssh.host.clone()),
            port: ssh.port.or(from_file.port).unwrap_or(22),
            user: ssh.user.clone().or(from_file.user).unwrap_or_else(|| self.settings.default_user.clone()),
            keys,
        })
    }

    fn setup(&self, what: String, source: Option<Box<dyn std::error::Error + Send + Sync>>) -> ConnectError {
        ConnectError::Setup { host: self.host.name.clone(), what, source }
    }

    fn give_up(&self, config: &Resolved, transient: Transient, waited: Duration) -> ConnectError {
        let (host, address) = (self.host.name.clone(), format!("{}:{}", config.host, config.port));
        let waited = Duration::from_millis(u64::try_from(waited.as_millis()).unwrap_or(u64::MAX));
        match transient {
            Transient::Refused => ConnectError::Refused { host, address, waited },
            Transient::TimedOut => ConnectError::TimedOut { host, address, waited },
            Transient::Dropped(detail) => ConnectError::Dropped { host, address, detail },
        }
    }

    fn attempt(&self, config: &Resolved) -> Result<Channeler, Attempt> {
        let stream = self.dial(config)?;
        self.socket.set(stream.try_clone().ok());
        if self.settings.cancel.is_cancelled() {
            return Err(ConnectError::Cancelled { host: self.host.name.clone() }.into());
        }
        let known = self.known_keys()?;
        let session = self.handshake(&stream, &known)?;
        self.check_key(&session, known)?;
        self.authenticate(&session, config)?;
        session.set_keepalive(false, 15);
        Ok(Channeler {
            host: self.host.name.clone(),
            user: config.user.clone(),
            session,
            stream,
            sudo_password: self.settings.sudo_password.clone(),
            sudo: None,
            cancel: self.settings.cancel.clone(),
        })
    }

    fn dial(&self, config: &Resolved) -> Result<TcpStream, Attempt> {
        let unresolved =
            |source| ConnectError::Unresolved { host: self.host.name.clone(), address: config.host.clone(), source };
        let addresses: Vec<SocketAddr> =
            (config.host.as_str(), config.port).to_socket_addrs().map_err(unresolved)?.collect();
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

    /// Keys that the provider vouches for come first; else those seen before.
    fn known_keys(&self) -> Result<Vec<PublicKey>, ConnectError> {
        let vouched = self.vouched();
        if !vouched.is_empty() {
            return Ok(vouched);
        }
        let path = self.known.path();
        self.known
            .keys(&self.host.id)
            .map_err(|error| self.setup(format!("reading {}", path.display()), Some(error.into())))
    }

    fn vouched(&self) -> Vec<PublicKey> {
        self.host.host_keys.iter().filter_map(|key| PublicKey::from_openssh(key)).collect()
    }

    fn handshake(&self, stream: &TcpStream, known: &[PublicKey]) -> Result<Session, Attempt> {
        let local = |error: ssh2::Error| self.setup("preparing the SSH session".to_owned(), Some(error.into()));
        let mut session = Session::new().map_err(local)?;
        // Ask for the types that are known: another type's key would look like a changed one.
        let wanted: Vec<&str> = known.iter().map(PublicKey::algorithms).collect();
        let wanted = if wanted.is_empty() { HOST_KEYS.to_owned() } else { wanted.join(",") };
        session.method_pref(MethodType::HostKey, &wanted).map_err(local)?;
        session.method_pref(MethodType::Kex, KEY_EXCHANGES).map_err(local)?;
        session.method_pref(MethodType::CryptCs, CIPHERS).map_err(local)?;
        session.method_pref(MethodType::CryptSc, CIPHERS).map_err(local)?;
        session.set_timeout(millis(HANDSHAKE));
        session.set_tcp_stream(stream.try_clone().map_err(|e| self.setup("the socket".to_owned(), Some(e.into())))?);
        match session.handshake() {
            Ok(()) => Ok(session),
            Err(_) if self.settings.cancel.is_cancelled() => {
                Err(ConnectError::Cancelled { host: self.host.name.clone() }.into())
            }
            // No algorithm in common; with known keys that means that the host has a key of another type.
            Err(error) if error.code() == ErrorCode::Session(-5) && !known.is_empty() => {
                Err(self.changed(known, "a key of another type").into())
            }
            Err(error) if error.code() == ErrorCode::Session(-9) => Err(Attempt::Again(Transient::TimedOut)),
            Err(error) => Err(Attempt::Again(Transient::Dropped(error.message().to_owned()))),
        }
    }

    fn changed(&self, known: &[PublicKey], shown: &str) -> ConnectError {
        let known: Vec<String> = known.iter().map(PublicKey::fingerprint).collect();
        ConnectError::KeyChanged {
            host: self.host.name.clone(),
            known: known.join(", "),
            shown: shown.to_owned(),
            known_hosts: self.vouched().is_empty().then(|| self.known.path().to_owned()),
        }
    }

    /// Nothing secret has been sent when this refuses.
    fn check_key(&self, session: &Session, known: Vec<PublicKey>) -> Result<(), ConnectError> {
        let shown = session.host_key().and_then(|(blob, _)| PublicKey::from_blob(blob.to_vec()));
        let Some(shown) = shown else { return Err(self.setup("it showed no host key".to_owned(), None)) };
        if !known.is_empty() && !known.contains(&shown) {
            return Err(self.changed(&known, &shown.fingerprint()));
        }
        if known.is_empty() && self.settings.unknown_key == UnknownKey::Refuse {
            return Err(ConnectError::KeyUnknown {
                host: self.host.name.clone(),
                shown: shown.fingerprint(),
                known_hosts: self.known.path().to_owned(),
            });
        }
        let keys = if known.is_empty() { vec![shown] } else { known };
        let path = self.known.path();
        self.known
            .remember(&self.host.id, &keys)
            .map_err(|error| self.setup(format!("writing {}", path.display()), Some(error.into())))
    }

    fn authenticate(&self, session: &Session, config: &Resolved) -> Result<(), Attempt> {
        let user = config.user.as_str();
        let mut tried = Vec::new();
        let files = match &config.keys {
            Keys::Only(path) => {
                self.check_key_file(path)?;
                std::slice::from_ref(path)
            }
            Keys::AgentThen(files) => {
                try_agent(session, user, &mut tried);
                files.as_slice()
            }
        };
        for path in files.iter().filter(|path| path.exists()) {
            if session.authenticated() {
                break;
            }
            match session.userauth_pubkey_file(user, None, path, None) {
                Ok(()) => {}
                Err(error) if error.code() == ErrorCode::Session(-16) => {
                    tried.push(format!(
                        "{} (cannot be read, or needs a passphrase: load it into ssh-agent)",
                        path.display()
                    ));
                }
                Err(_) => tried.push(path.display().to_string()),
            }
        }
        if session.authenticated() {
            return Ok(());
        }
        if self.settings.cancel.is_cancelled() {
            return Err(ConnectError::Cancelled { host: self.host.name.clone() }.into());
        }
        let offers = match session.auth_methods(user) {
            Ok(methods) => methods.to_owned(),
            // Whether it hung up or refuses cannot be told when the connection is gone: sshd that is
            // still starting (or limits its connections) does this.
            Err(error) => return Err(Attempt::Again(Transient::Dropped(error.message().to_owned()))),
        };
        let tried =
            if tried.is_empty() { "no key was found".to_owned() } else { format!("tried {}", tried.join(", ")) };
        Err(ConnectError::Denied {
            host: self.host.name.clone(),
            user: config.user.clone(),
            address: format!("{}:{}", config.host, config.port),
            detail: format!("{tried}; it takes {offers}"),
        }
        .into())
    }

    fn check_key_file(&self, path: &Path) -> Result<(), ConnectError> {
        std::fs::File::open(path)
            .map(drop)
            .map_err(|error| self.setup(format!("reading the key {}", path.display()), Some(error.into())))
    }
}

struct Resolved {
    host: String,
    port: u16,
    user: String,
    keys: Keys,
}

enum Keys {
    Only(PathBuf),
    AgentThen(Vec<PathBuf>),
}

fn try_agent(session: &Session, user: &str, tried: &mut Vec<String>) {
    let Ok(mut agent) = session.agent() else { return };
    if agent.connect().is_err() || agent.list_identities().is_err() {
        return;
    }
    for identity in agent.identities().unwrap_or_default() {
        if agent.userauth(user, &identity).is_ok() {
            break;
        }
        tried.push(format!("{} from the agent", identity.comment()));
    }
    let _ = agent.disconnect();
}

pub(super) fn millis(duration: Duration) -> u32 {
    u32::try_from(duration.as_millis()).unwrap_or(u32::MAX).max(1)
}

/// Somewhere in 0..1: spreads the attempts of many hosts, and need not be more random than the clock.
fn jitter() -> f64 {
    let nanos = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |d| d.subsec_nanos());
    f64::from(nanos % 1000) / 1000.0
}
