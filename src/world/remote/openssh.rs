//! What the user's own OpenSSH knows already: keys in their known_hosts. Read through `ssh-keygen`, which
//! understands hashed names; never written.

use std::path::Path;
use std::process::{Command, Stdio};

/// The public keys that `known_hosts` has for a host, as `type base64`. Nothing where it has none, where
/// there is no such file, or where OpenSSH is not installed: then no key is known, which is the safe answer.
pub fn known_keys(known_hosts: &Path, host: &str, port: u16) -> Vec<String> {
    let name = if port == 22 { host.to_owned() } else { format!("[{host}]:{port}") };
    let output = Command::new("ssh-keygen")
        .arg("-F")
        .arg(&name)
        .arg("-f")
        .arg(known_hosts)
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output();
    match output {
        Ok(output) if output.status.success() => parse(&String::from_utf8_lossy(&output.stdout)),
        _ => Vec::new(),
    }
}

/// The public half of a private key: from the file beside it, else made of it where it has no passphrase. `None`
/// where there is neither.
pub fn public_key(private: &Path) -> Option<String> {
    let mut beside = private.as_os_str().to_owned();
    beside.push(".pub");
    if let Ok(text) = std::fs::read_to_string(Path::new(&beside)) {
        return Some(text.trim().to_owned()).filter(|text| !text.is_empty());
    }
    let mut made = Command::new("ssh-keygen");
    made.args(["-y", "-P", "", "-f"]).arg(private);
    let output = made.stdin(Stdio::null()).stderr(Stdio::null()).output().ok()?;
    let text = String::from_utf8(output.stdout).ok().filter(|_| output.status.success())?;
    Some(text.trim().to_owned())
}

/// The keys in known_hosts lines. Lines with a marker (`@revoked`, `@cert-authority`) are no plain host keys.
fn parse(text: &str) -> Vec<String> {
    let key = |line: &str| {
        let mut fields = line.split_whitespace();
        let name = fields.next()?;
        if name.starts_with('#') || name.starts_with('@') {
            return None;
        }
        Some(format!("{} {}", fields.next()?, fields.next()?))
    };
    text.lines().filter_map(key).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGHgoxN4fa6UXXrV1n8mCpgGQ6Qw0e3C2fJ2VXvFtkHk";

    #[test]
    fn a_public_half_is_read_or_made() {
        let dir = tempfile::tempdir().unwrap();
        let key = dir.path().join("key");
        assert_eq!(public_key(&key), None);
        let made =
            Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-C", "", "-f"]).arg(&key).status();
        assert!(made.unwrap().success());
        let beside = public_key(&key).unwrap();
        std::fs::remove_file(key.with_extension("pub")).unwrap();
        assert_eq!(public_key(&key).unwrap(), beside);
    }

    #[test]
    fn finds_plain_hashed_and_ported_names_and_no_others() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("known_hosts");
        std::fs::write(&file, format!("10.0.0.1 {KEY}\n[10.0.0.2]:2222 {KEY} comment\n@revoked 10.0.0.3 {KEY}\n"))
            .unwrap();
        assert_eq!(known_keys(&file, "10.0.0.1", 22), [KEY]);
        assert_eq!(known_keys(&file, "10.0.0.2", 2222), [KEY]);
        assert_eq!(known_keys(&file, "10.0.0.2", 22), [""; 0]);
        assert_eq!(known_keys(&file, "10.0.0.3", 22), [""; 0]);
        let hashed = Command::new("ssh-keygen").args(["-q", "-H", "-f"]).arg(&file).output().unwrap();
        assert!(hashed.status.success(), "{hashed:?}");
        assert!(!std::fs::read_to_string(&file).unwrap().contains("10.0.0.1"));
        assert_eq!(known_keys(&file, "10.0.0.1", 22), [KEY]);
        assert_eq!(known_keys(&dir.path().join("none"), "10.0.0.1", 22), [""; 0]);
    }
}
