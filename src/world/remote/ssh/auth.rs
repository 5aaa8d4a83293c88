//! Logging in as one user, with the keys that there are.

use std::io::Read as _;
use std::path::Path;

use ssh2::{ErrorCode, ExtendedData, Session};

use super::candidates::wanted_instead;
use super::login::{Attempt, HANDSHAKE, Login, Transient, millis};
use super::resolve::Keys;
use crate::world::remote::ConnectError;

/// More is not read of what a first command says.
const MAX_SAID: usize = 8 << 10;

impl Login {
    /// `Some` says why the user was refused.
    pub fn authenticate(&self, session: &Session, user: &str, keys: &Keys) -> Result<Option<String>, Attempt> {
        let mut tried = Vec::new();
        let files = match keys {
            Keys::Only(path) => {
                self.check_key_file(path)?;
                std::slice::from_ref(path)
            }
            Keys::AgentThen(files) => {
                self.try_agent(session, user, &mut tried);
                files.as_slice()
            }
        };
        for path in files.iter().filter(|path| path.exists()) {
            if session.authenticated() {
                break;
            }
            match session.userauth_pubkey_file(user, None, path, None) {
                Ok(()) => self.logged_in(user, &path.display().to_string()),
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
            return Ok(None);
        }
        if self.settings.cancel.is_cancelled() {
            return Err(self.cancelled().into());
        }
        let offers = match session.auth_methods(user) {
            Ok(methods) => methods.to_owned(),
            // Whether it hung up or refuses cannot be told when the connection is gone: sshd that is
            // still starting (or limits its connections) does this.
            Err(error) => return Err(Attempt::Again(Transient::Dropped(error.message().to_owned()))),
        };
        let tried =
            if tried.is_empty() { "no key was found".to_owned() } else { format!("tried {}", tried.join(", ")) };
        Ok(Some(format!("{tried}; it takes {offers}")))
    }

    /// Is this a login that runs commands? An image's root may run only one, which names another user.
    /// `Some` is who that is.
    pub fn wants_instead(&self, session: &Session) -> Result<Option<String>, Attempt> {
        let dropped = |detail: &str| Attempt::Again(Transient::Dropped(detail.to_owned()));
        session.set_timeout(millis(HANDSHAKE));
        let opened = session.channel_session().and_then(|mut channel| {
            channel.handle_extended_data(ExtendedData::Merge)?;
            channel.exec("true")?;
            Ok(channel)
        });
        let mut channel = opened.map_err(|error| dropped(error.message()))?;
        let mut said = Vec::new();
        let mut buffer = [0; 1024];
        // Its command says so, and then sleeps.
        while said.len() < MAX_SAID {
            match channel.read(&mut buffer) {
                Ok(0) => break,
                Ok(n) => said.extend_from_slice(&buffer[..n]),
                Err(error) => return Err(dropped(&error.to_string())),
            }
            if let Some(user) = wanted_instead(&String::from_utf8_lossy(&said)) {
                // Closing the channel would wait until it has slept.
                self.socket.shut_down();
                return Ok(Some(user.to_owned()));
            }
        }
        let _ = channel.close();
        Ok(None)
    }

    fn try_agent(&self, session: &Session, user: &str, tried: &mut Vec<String>) {
        let Ok(mut agent) = session.agent() else { return };
        if agent.connect().is_err() || agent.list_identities().is_err() {
            return;
        }
        for identity in agent.identities().unwrap_or_default() {
            let key = format!("{} from the agent", identity.comment());
            if agent.userauth(user, &identity).is_ok() {
                self.logged_in(user, &key);
                break;
            }
            tried.push(key);
        }
        let _ = agent.disconnect();
    }

    fn logged_in(&self, user: &str, key: &str) {
        tracing::debug!(host = %self.host.name, user, key, "logged in");
    }

    fn check_key_file(&self, path: &Path) -> Result<(), ConnectError> {
        std::fs::File::open(path)
            .map(drop)
            .map_err(|error| self.setup(format!("reading the key {}", path.display()), Some(error.into())))
    }
}
