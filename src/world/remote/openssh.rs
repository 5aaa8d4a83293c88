//! The user's own OpenSSH: what it knows already (keys in their known_hosts, read through `ssh-keygen`, which
//! understands hashed names, and never written), and how it is called.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::model::jump::Jump;

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

/// A hop as arguments of `ssh`, which end its options.
pub fn destination(jump: &Jump) -> Vec<OsString> {
    let mut arguments: Vec<OsString> = Vec::new();
    if let Some(user) = &jump.user {
        arguments.extend(["-l".into(), user.into()]);
    }
    if let Some(port) = jump.port {
        arguments.extend(["-p".into(), port.to_string().into()]);
    }
    arguments.extend(["--".into(), (&jump.host).into()]);
    arguments
}

/// The key files that a bastion is offered: `key`, then the usual ones, which OpenSSH leaves out as soon as
/// one is named.
pub fn offered_keys(key: &Path, home: &Path) -> Vec<PathBuf> {
    let usual = ["id_rsa", "id_ecdsa", "id_ecdsa_sk", "id_ed25519", "id_ed25519_sk"];
    let usual = usual.map(|name| home.join(".ssh").join(name));
    std::iter::once(key.to_owned()).chain(usual.into_iter().filter(|path| path != key && path.exists())).collect()
}

/// The options with which `ssh HOST` goes through `bastion`. With a key that is `-J` in full, since `-J` offers
/// the bastion no key of the command line.
///
/// # Errors
/// When `bastion` is none.
pub fn through(bastion: &str, key: Option<&Path>, home: &Path) -> Result<Vec<OsString>, String> {
    if bastion.eq_ignore_ascii_case(Jump::NONE) {
        return Ok(vec!["-o".into(), "ProxyJump=none".into()]);
    }
    let jump: Jump = bastion.parse()?;
    let Some(key) = key else { return Ok(vec!["-J".into(), jump.to_string().into()]) };
    let mut words = vec!["ssh".to_owned()];
    for key in offered_keys(key, home) {
        let key = key.to_str().ok_or_else(|| format!("the path {} is no text", key.display()))?;
        // Its tokens are expanded before a shell reads it.
        words.extend(["-i".to_owned(), key.replace('%', "%%")]);
    }
    let quote = |word: &str| shlex::try_quote(word).map(|word| word.into_owned()).map_err(|error| error.to_string());
    let mut line = words.iter().map(|word| quote(word)).collect::<Result<Vec<_>, _>>()?.join(" ");
    // Quoted, or a shell takes the brackets for a pattern of file names.
    line.push_str(" -W '[%h]:%p'");
    for word in destination(&jump) {
        line.push(' ');
        line.push_str(&quote(&word.to_string_lossy())?);
    }
    Ok(vec!["-o".into(), format!("ProxyCommand={line}").into()])
}

/// Does OpenSSH read this file by itself? It looks for the home folder in the user database, not in HOME.
pub fn reads_by_itself(config: &Path) -> bool {
    let uid = rustix::process::getuid().as_raw().to_string();
    let users = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let home = users.lines().find_map(|line| {
        let fields: Vec<&str> = line.split(':').collect();
        (fields.get(2) == Some(&uid.as_str())).then(|| fields.get(5).map(PathBuf::from)).flatten()
    });
    match home {
        Some(home) => config == home.join(".ssh/config"),
        // A user of a directory service: theirs is where HOME says.
        None => config.ends_with(".ssh/config"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_way_of_the_users_ssh() {
        let home = tempfile::tempdir().unwrap();
        let words = |bastion: &str, key: Option<&str>| through(bastion, key.map(Path::new), home.path()).unwrap();
        assert_eq!(words("me@gate:22", None), ["-J", "me@gate:22"]);
        assert_eq!(words("none", Some("/k")), ["-o", "ProxyJump=none"]);
        assert_eq!(
            words("me@[fd00::1]:23", Some("/my keys/100%")),
            ["-o", "ProxyCommand=ssh -i '/my keys/100%%' -W '[%h]:%p' -l me -p 23 -- fd00::1"]
        );
        std::fs::create_dir(home.path().join(".ssh")).unwrap();
        std::fs::write(home.path().join(".ssh/id_rsa"), "").unwrap();
        assert_eq!(offered_keys(Path::new("/k"), home.path()), [Path::new("/k"), &home.path().join(".ssh/id_rsa")]);
        assert!(through("-oProxyCommand=x", None, home.path()).is_err());
    }

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
