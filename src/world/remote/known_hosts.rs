//! The host keys of one cluster, by the host's id rather than its address: an address that another machine
//! uses today is no alarm, a changed key of the same machine is one. The file has OpenSSH's form with the
//! id for a name, so that `ssh -o HostKeyAlias=<id>` reads it too.

use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use sha2::{Digest, Sha256};

use super::by_id::ById;
use crate::model::host::HostId;

/// A public key as it travels: its blob, and the type that the blob names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicKey {
    pub kind: String,
    pub blob: Vec<u8>,
}

impl PublicKey {
    /// From `ssh-ed25519 AAAA… comment`.
    pub fn from_openssh(text: &str) -> Option<Self> {
        let mut fields = text.split_whitespace();
        let (kind, encoded) = (fields.next()?, fields.next()?);
        let key = Self::from_blob(STANDARD.decode(encoded).ok()?)?;
        (key.kind == kind).then_some(key)
    }

    /// The blob begins with its type as a length and that many bytes (RFC 4253, 6.6).
    pub fn from_blob(blob: Vec<u8>) -> Option<Self> {
        let length = u32::from_be_bytes(blob.get(..4)?.try_into().ok()?) as usize;
        let kind = std::str::from_utf8(blob.get(4..4usize.checked_add(length)?)?).ok()?.to_owned();
        let fine = !kind.is_empty() && kind.bytes().all(|b| b.is_ascii_alphanumeric() || b"-@.".contains(&b));
        fine.then_some(Self { kind, blob })
    }

    pub fn to_openssh(&self) -> String {
        format!("{} {}", self.kind, STANDARD.encode(&self.blob))
    }

    /// As OpenSSH shows it: `ssh-ed25519 SHA256:…`.
    pub fn fingerprint(&self) -> String {
        format!("{} SHA256:{}", self.kind, STANDARD_NO_PAD.encode(Sha256::digest(&self.blob)))
    }

    /// The host key algorithms that prove a key of this type, best first.
    pub fn algorithms(&self) -> &str {
        if self.kind == "ssh-rsa" { "rsa-sha2-512,rsa-sha2-256,ssh-rsa" } else { &self.kind }
    }
}

/// The cluster's known_hosts file.
#[derive(Debug, Clone)]
pub struct KnownHosts(ById);

impl KnownHosts {
    pub fn new(path: PathBuf) -> Self {
        Self(ById::new(path))
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// The keys known for `id`. A line that makes no sense is passed over: it vouches for nobody.
    pub fn keys(&self, id: &HostId) -> std::io::Result<Vec<PublicKey>> {
        Ok(self.0.values(id)?.iter().filter_map(|key| PublicKey::from_openssh(key)).collect())
    }

    /// Makes `keys` the known ones of `id`.
    pub fn remember(&self, id: &HostId, keys: &[PublicKey]) -> std::io::Result<()> {
        self.0.replace(id, &keys.iter().map(PublicKey::to_openssh).collect::<Vec<_>>())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGHgoxN4fa6UXXrV1n8mCpgGQ6Qw0e3C2fJ2VXvFtkHk";
    const OTHER: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

    fn key(text: &str) -> PublicKey {
        PublicKey::from_openssh(text).unwrap()
    }

    #[test]
    fn keys_are_kept_by_id() {
        let dir = tempfile::tempdir().unwrap();
        let known = KnownHosts::new(dir.path().join("state/known_hosts"));
        let (a, b) = (HostId("c/a".to_owned()), HostId("c/ab".to_owned()));
        assert!(known.keys(&a).unwrap().is_empty());
        known.remember(&a, &[key(KEY)]).unwrap();
        known.remember(&b, &[key(OTHER)]).unwrap();
        assert_eq!(known.keys(&a).unwrap(), [key(KEY)]);
        known.remember(&a, &[key(OTHER)]).unwrap();
        assert_eq!(known.keys(&a).unwrap(), [key(OTHER)]);
        assert_eq!(known.keys(&b).unwrap(), [key(OTHER)]);
        let text = std::fs::read_to_string(known.path()).unwrap();
        assert_eq!(text.lines().count(), 2, "{text}");
        assert!(known.remember(&HostId("a b".to_owned()), &[]).is_err());
    }

    #[test]
    fn many_hosts_at_once_lose_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let known = KnownHosts::new(dir.path().join("known_hosts"));
        std::thread::scope(|scope| {
            for n in 0..16 {
                let known = &known;
                scope.spawn(move || known.remember(&HostId(format!("host-{n}")), &[key(KEY)]).unwrap());
            }
        });
        for n in 0..16 {
            assert_eq!(known.keys(&HostId(format!("host-{n}"))).unwrap(), [key(KEY)]);
        }
    }

    #[test]
    fn what_is_no_key_is_none() {
        for text in
            ["", "ssh-ed25519", "ssh-ed25519 !!!", "ssh-rsa AAAAC3NzaC1lZDI1NTE5AAAAIGHg", "x AAAA", "x /////w=="]
        {
            assert_eq!(PublicKey::from_openssh(text), None, "{text}");
        }
    }

    #[test]
    fn fingerprints_are_those_of_openssh() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("key.pub");
        std::fs::write(&file, KEY).unwrap();
        let output = std::process::Command::new("ssh-keygen").arg("-lf").arg(&file).output().unwrap();
        let shown = String::from_utf8(output.stdout).unwrap();
        let ours = key(KEY).fingerprint();
        assert!(shown.contains(ours.split(' ').next_back().unwrap()), "{ours}: {shown}");
    }
}
