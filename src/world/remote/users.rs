//! Who logs in to a host where several users may: which one it was the last time, by the host's id, in a
//! file beside the cluster's known_hosts. It saves the connections that are refused.

use std::path::Path;

use super::by_id::ById;
use crate::model::host::HostId;

#[derive(Debug, Clone)]
pub struct KnownUsers(ById);

impl KnownUsers {
    /// Beside that known_hosts file.
    pub fn beside(known_hosts: &Path) -> Self {
        Self(ById::new(known_hosts.with_file_name("users")))
    }

    /// Whom `id` took the last time. It is only a hint, so a file that cannot be read gives none.
    pub fn user(&self, id: &HostId) -> Option<String> {
        self.0.values(id).unwrap_or_default().into_iter().find(|user| is_login_name(user))
    }

    pub fn remember(&self, id: &HostId, user: &str) -> std::io::Result<()> {
        self.0.replace(id, &[user.to_owned()])
    }
}

/// A name as Linux systems give it: what a host says of itself is believed only if it looks like this.
pub fn is_login_name(text: &str) -> bool {
    let first = text.bytes().next().is_some_and(|b| b.is_ascii_lowercase() || b == b'_');
    let fine = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_' || b == b'-';
    first && text.len() <= 32 && text.bytes().all(fine)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_user_is_remembered_and_checked() {
        let dir = tempfile::tempdir().unwrap();
        let users = KnownUsers::beside(&dir.path().join("known_hosts"));
        let id = HostId("i-1".to_owned());
        assert_eq!(users.user(&id), None);
        users.remember(&id, "ec2-user").unwrap();
        users.remember(&HostId("i-2".to_owned()), "admin").unwrap();
        users.remember(&id, "ubuntu").unwrap();
        assert_eq!(users.user(&id).as_deref(), Some("ubuntu"));
        let path = dir.path().join("users");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "i-2 admin\ni-1 ubuntu\n");
        std::fs::write(&path, "i-1 -oProxyCommand=x\n").unwrap();
        assert_eq!(users.user(&id), None);
    }

    #[test]
    fn login_names() {
        for good in ["root", "ec2-user", "_apt", "a1"] {
            assert!(is_login_name(good), "{good}");
        }
        for bad in ["", "-x", "1a", "Root", "a b", "a;b", "ä", "NONE", "x\n", &"a".repeat(33)] {
            assert!(!is_login_name(bad), "{bad}");
        }
    }
}
