//! The SSH handshake and the check of the host's key; nothing secret is sent before it is over.

use std::path::Path;

use ssh2::{ErrorCode, MethodType, Session};

use super::UnknownKey;
use super::login::{Attempt, HANDSHAKE, Login, Transient, millis};
use super::stream::Stream;
use crate::model::host::Host;
use crate::world::remote::ConnectError;
use crate::world::remote::known_hosts::{KnownHosts, PublicKey};

/// AES in GCM is several times faster than the alternatives on any processor with AES instructions, and
/// needs no separate MAC.
const CIPHERS: &str = "aes128-gcm@openssh.com,aes256-gcm@openssh.com,aes128-ctr,aes256-ctr";
const KEY_EXCHANGES: &str = "curve25519-sha256,curve25519-sha256@libssh.org,ecdh-sha2-nistp256,\
     diffie-hellman-group14-sha256,diffie-hellman-group16-sha512";
const HOST_KEYS: &str =
    "ssh-ed25519,ecdsa-sha2-nistp256,ecdsa-sha2-nistp384,ecdsa-sha2-nistp521,rsa-sha2-512,rsa-sha2-256";

/// Keys that the provider vouches for come first; else those seen before.
pub(super) fn known_keys(known: &KnownHosts, host: &Host) -> Result<Vec<PublicKey>, ConnectError> {
    let vouched = vouched(host);
    if !vouched.is_empty() {
        return Ok(vouched);
    }
    known.keys(&host.id).map_err(|error| setup(host, "reading", known.path(), error))
}

fn vouched(host: &Host) -> Vec<PublicKey> {
    host.host_keys.iter().filter_map(|key| PublicKey::from_openssh(key)).collect()
}

fn setup(host: &Host, doing: &str, path: &Path, error: std::io::Error) -> ConnectError {
    let what = format!("{doing} {}", path.display());
    ConnectError::Setup { host: host.name.clone(), what, source: Some(error.into()) }
}

impl Login {
    pub fn handshake(&self, stream: &Stream, known: &[PublicKey]) -> Result<Session, Attempt> {
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
            Err(_) if self.settings.cancel.is_cancelled() => Err(self.cancelled().into()),
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
            known_hosts: vouched(&self.host).is_empty().then(|| self.known.path().to_owned()),
        }
    }

    /// Nothing secret has been sent when this refuses.
    pub fn check_key(&self, session: &Session, known: Vec<PublicKey>) -> Result<(), ConnectError> {
        let shown = session.host_key().and_then(|(blob, _)| PublicKey::from_blob(blob.to_vec()));
        let Some(shown) = shown else { return Err(self.setup("it showed no host key".to_owned(), None)) };
        let fingerprint = shown.fingerprint();
        tracing::debug!(host = %self.host.name, key = fingerprint, known = known.contains(&shown), "host key");
        if !known.is_empty() && !known.contains(&shown) {
            return Err(self.changed(&known, &fingerprint));
        }
        if known.is_empty() && self.settings.unknown_key == UnknownKey::Refuse {
            return Err(ConnectError::KeyUnknown {
                host: self.host.name.clone(),
                shown: fingerprint,
                known_hosts: self.known.path().to_owned(),
            });
        }
        let keys = if known.is_empty() { vec![shown] } else { known };
        let remembered = self.known.remember(&self.host.id, &keys);
        remembered.map_err(|error| setup(&self.host, "writing", self.known.path(), error))
    }
}
