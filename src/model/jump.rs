//! A hop on the way to a host, as `ssh -J` takes it. How it is connected to does not belong here.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

/// `[user@]host[:port]`; an IPv6 address with a port stands in brackets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Jump {
    pub user: Option<String>,
    /// An address, a DNS name, or a `Host` of `~/.ssh/config`.
    pub host: String,
    pub port: Option<u16>,
}

impl Jump {
    /// The word that turns a jump off.
    pub const NONE: &'static str = "none";

    /// What a person types to log in there.
    pub fn command(&self) -> String {
        let user = self.user.as_ref().map(|user| format!("{user}@")).unwrap_or_default();
        match self.port {
            Some(port) => format!("ssh -p {port} {user}{}", self.host),
            None => format!("ssh {user}{}", self.host),
        }
    }
}

impl FromStr for Jump {
    type Err = String;

    /// Names are held narrow: the user's ssh may put them into a `ProxyCommand` or a `Match exec`, which a
    /// shell reads.
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = |what: &str| format!("\"{}\" {what}", text.escape_debug());
        if text.contains(',') {
            return Err(wrong("names several hosts"));
        }
        let bare = text.strip_prefix("ssh://").map_or(text, |rest| rest.strip_suffix('/').unwrap_or(rest));
        let (user, rest) = match bare.rsplit_once('@') {
            Some((user, rest)) => (Some(user), rest),
            None => (None, bare),
        };
        if user.is_some_and(|user| !is_user(user)) {
            return Err(wrong("has no login name before the @"));
        }
        let (host, port) = host_and_port(rest).ok_or_else(|| {
            wrong("is no host: it is [user@]host[:port], with an IPv6 address in brackets where a port follows")
        })?;
        let port = match port.map(str::parse::<u16>) {
            None => None,
            Some(Ok(port)) if port != 0 => Some(port),
            Some(_) => return Err(wrong("ends in no port (1 to 65535)")),
        };
        Ok(Self { user: user.map(str::to_owned), host: host.to_owned(), port })
    }
}

/// A login name that ssh may be given: what begins with a hyphen would be an option, and a shell may read it (see
/// above). `@` and `\` are for names with a domain; at the end, OpenSSH takes no `\` either.
pub fn is_user(user: &str) -> bool {
    let fine = |b: u8| b.is_ascii_alphanumeric() || b"._-+@\\".contains(&b);
    !user.is_empty() && !user.starts_with('-') && !user.ends_with('\\') && user.bytes().all(fine)
}

fn host_and_port(text: &str) -> Option<(&str, Option<&str>)> {
    if text.parse::<IpAddr>().is_ok() {
        return Some((text, None));
    }
    if let Some(rest) = text.strip_prefix('[') {
        let (host, rest) = rest.split_once(']')?;
        host.parse::<Ipv6Addr>().ok()?;
        return if rest.is_empty() { Some((host, None)) } else { Some((host, Some(rest.strip_prefix(':')?))) };
    }
    let (host, port) = match text.split_once(':') {
        Some((host, port)) => (host, Some(port)),
        None => (text, None),
    };
    let fine = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
    let numbers = |b: u8| b.is_ascii_digit() || b == b'.';
    let is_name = !host.is_empty() && host.len() <= 253 && !host.starts_with('-') && host.bytes().all(fine);
    let is_address = host.parse::<IpAddr>().is_ok() || !host.bytes().all(numbers);
    (is_name && is_address).then_some((host, port))
}

impl fmt::Display for Jump {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(user) = &self.user {
            write!(f, "{user}@")?;
        }
        match (self.port, self.host.contains(':')) {
            (Some(port), true) => write!(f, "[{}]:{port}", self.host),
            (Some(port), false) => write!(f, "{}:{port}", self.host),
            (None, true) => write!(f, "[{}]", self.host),
            (None, false) => f.write_str(&self.host),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hops_are_read_and_shown() {
        for (text, user, host, port) in [
            ("gate", None, "gate", None),
            ("me@gate.example", Some("me"), "gate.example", None),
            ("me@gate:2222", Some("me"), "gate", Some(2222)),
            ("me@corp.example@gate", Some("me@corp.example"), "gate", None),
            ("me@[fd00::1]:2222", Some("me"), "fd00::1", Some(2222)),
            ("[fd00::1]", None, "fd00::1", None),
            ("10.0.0.1:22", None, "10.0.0.1", Some(22)),
        ] {
            let jump: Jump = text.parse().unwrap();
            assert_eq!((jump.user.as_deref(), jump.host.as_str(), jump.port), (user, host, port), "{text}");
            assert_eq!(jump.to_string(), text);
        }
        let command = |text: &str| text.parse::<Jump>().unwrap().command();
        assert_eq!([command("me@[fd00::1]:23"), command("gate")], ["ssh -p 23 me@fd00::1", "ssh gate"]);
        assert_eq!("fd00::1".parse::<Jump>().unwrap().to_string(), "[fd00::1]");
        assert_eq!("ssh://me@gate:22/".parse::<Jump>().unwrap().to_string(), "me@gate:22");
    }

    #[test]
    fn login_names() {
        for good in ["root", "ec2-user", "me@corp.example", "CORP\\me", "Ops_1", "a+b"] {
            assert!(is_user(good), "{good}");
        }
        for bad in ["", "-x", "root;id", "a b", "$(id)", "a:b", "a/b", "me\\", "ä", "a'b", "a\nb"] {
            assert!(!is_user(bad), "{bad}");
        }
    }

    #[test]
    fn what_is_no_hop_is_refused() {
        for text in [
            "",
            "@gate",
            "me@",
            "-oProxyCommand=x",
            "me@-x",
            "-l@gate",
            "a b",
            "gate:",
            "gate:0",
            "gate:70000",
            "gate:x",
            "[gate]:22",
            "[fd00::1",
            "[fd00::1]22",
            "10.0.0.300",
            "me;id@gate",
            "gate$(id)",
            "a,b",
            "me@gate/x",
        ] {
            assert!(text.parse::<Jump>().is_err(), "{text}");
        }
    }
}
