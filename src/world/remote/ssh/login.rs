//! From an address to a session that is logged in: retries what may be a host that still boots, and tells
//! apart what is final.

use std::sync::Arc;
use std::time::{Duration, Instant};

use ssh2::Session;

use super::candidates::Candidates;
use super::channel::Channeler;
use super::dial::Dialled;
use super::hostkey::known_keys;
use super::resolve::Resolved;
use super::turns::Turns;
use super::{Socket, SshSettings};
use crate::model::event::{Doing, Events};
use crate::model::host::Host;
use crate::model::lasting::Lasting;
use crate::world::remote::known_hosts::KnownHosts;
use crate::world::remote::users::{KnownUsers, is_login_name};
use crate::world::remote::{ConnectError, Obstacle};

/// The longest that one attempt waits for each step of the handshake.
pub(super) const HANDSHAKE: Duration = Duration::from_secs(10);
const FIRST_PAUSE: Duration = Duration::from_millis(25);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

pub(super) struct Login {
    pub settings: Arc<SshSettings>,
    pub known: KnownHosts,
    pub users: KnownUsers,
    pub turns: Turns,
    pub host: Host,
    pub deadline: Instant,
    pub events: Events,
    pub socket: Socket,
}

/// Why an attempt failed that may be repeated.
pub(super) enum Transient {
    Refused,
    TimedOut,
    Dropped(String),
    Bastion(Obstacle, String),
}

pub(super) enum Attempt {
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
        let target = self.resolve()?;
        let mut candidates = Candidates::new(target.users.clone());
        let begun = Instant::now();
        let mut pause = FIRST_PAUSE;
        let mut last: Option<String> = None;
        for attempt in 1.. {
            if self.settings.cancel.is_cancelled() {
                return Err(self.cancelled());
            }
            self.events.began(Some(&self.host.name), Doing::Connect { attempt, last: last.take() });
            let transient = match self.attempt(&target, &mut candidates) {
                Ok(session) => {
                    tracing::debug!(
                        host = %self.host.name,
                        address = self.address(&target),
                        user = session.user,
                        attempt,
                        took = %Lasting(begun.elapsed()),
                        "connected"
                    );
                    self.events.ended(Some(&self.host.name), Doing::Connect { attempt, last: None }, false);
                    return Ok(session);
                }
                Err(Attempt::Final(error)) => return Err(error),
                Err(Attempt::Again(transient)) => transient,
            };
            if self.settings.cancel.is_cancelled() {
                return Err(self.cancelled());
            }
            let jittered = pause.mul_f64(0.5 + jitter());
            if Instant::now() + jittered >= self.deadline {
                return Err(self.give_up(&target, transient, begun.elapsed()));
            }
            let why = match transient {
                Transient::Refused => "refused".to_owned(),
                Transient::TimedOut => "no answer".to_owned(),
                Transient::Dropped(detail) | Transient::Bastion(_, detail) => detail,
            };
            tracing::debug!(host = %self.host.name, address = self.address(&target), attempt, why, "not connected");
            last = Some(why);
            std::thread::sleep(jittered);
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
        unreachable!("the loop ends by its deadline")
    }

    pub fn setup(&self, what: String, source: Option<Box<dyn std::error::Error + Send + Sync>>) -> ConnectError {
        ConnectError::Setup { host: self.host.name.clone(), what, source }
    }

    pub fn cancelled(&self) -> ConnectError {
        ConnectError::Cancelled { host: self.host.name.clone() }
    }

    /// What the bastion is called, where the way leads through one.
    fn bastion(&self, target: &Resolved) -> Option<String> {
        let user = target.users.first().map_or("", String::as_str);
        self.way(target, user).ok().flatten().map(|way| way.name())
    }

    fn address(&self, target: &Resolved) -> String {
        let bare = if target.host.contains(':') {
            format!("[{}]:{}", target.host, target.port)
        } else {
            format!("{}:{}", target.host, target.port)
        };
        match self.bastion(target) {
            Some(bastion) => format!("{bare} (through {bastion})"),
            None => bare,
        }
    }

    fn give_up(&self, target: &Resolved, transient: Transient, waited: Duration) -> ConnectError {
        let (host, address) = (self.host.name.clone(), self.address(target));
        let waited = Duration::from_millis(u64::try_from(waited.as_millis()).unwrap_or(u64::MAX));
        match transient {
            Transient::Refused => ConnectError::Refused { host, address, waited },
            Transient::TimedOut => ConnectError::TimedOut { host, address, waited },
            Transient::Dropped(detail) => ConnectError::Dropped { host, address, detail },
            Transient::Bastion(obstacle, detail) => {
                self.closed(&self.bastion(target).unwrap_or_default(), obstacle, detail)
            }
        }
    }

    /// Tries the users that are left, each on a connection of its own.
    fn attempt(&self, target: &Resolved, candidates: &mut Candidates) -> Result<Channeler, Attempt> {
        while let Some(user) = candidates.current().map(str::to_owned) {
            let Dialled { stream, proxy } = self.dial(target, &user)?;
            if self.settings.cancel.is_cancelled() {
                return Err(self.cancelled().into());
            }
            let known = known_keys(&self.known, &self.host)?;
            let session = self.handshake(&stream, &known)?;
            self.check_key(&session, known)?;
            if let Some((why, instead)) = self.refusal(&session, &user, target)? {
                candidates.refuse(why, instead);
                continue;
            }
            session.set_keepalive(false, 15);
            return Ok(Channeler {
                host: self.host.name.clone(),
                user,
                session,
                stream,
                proxy,
                sudo_password: self.settings.sudo_password.clone(),
                sudo: None,
                cancel: self.settings.cancel.clone(),
            });
        }
        let (user, detail) = candidates.report();
        Err(ConnectError::Denied { host: self.host.name.clone(), user, address: self.address(target), detail }.into())
    }

    /// Why the user cannot be used, and who is wanted instead; `None` where they are logged in.
    fn refusal(
        &self,
        session: &Session,
        user: &str,
        target: &Resolved,
    ) -> Result<Option<(String, Option<String>)>, Attempt> {
        if let Some(why) = self.authenticate(session, user, &target.keys)? {
            return Ok(Some((why, None)));
        }
        if !target.are_candidates {
            return Ok(None);
        }
        if user == "root"
            && let Some(instead) = self.wants_instead(session)?
        {
            let why = format!("it asks to log in as \"{}\"", instead.escape_debug());
            return Ok(Some((why, Some(instead).filter(|user| is_login_name(user)))));
        }
        // Without the note, the next run finds out again.
        if self.users.user(&self.host.id).as_deref() != Some(user) {
            let _ = self.users.remember(&self.host.id, user);
        }
        Ok(None)
    }
}

pub(super) fn millis(duration: Duration) -> u32 {
    u32::try_from(duration.as_millis()).unwrap_or(u32::MAX).max(1)
}

/// Somewhere in 0..1: spreads the attempts of many hosts, and need not be more random than the clock.
fn jitter() -> f64 {
    let nanos = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |d| d.subsec_nanos());
    f64::from(nanos % 1000) / 1000.0
}
