//! The basics of `~/.ssh/config`: `Host` patterns with HostName, Port, User and IdentityFile; the first
//! value found wins, as in ssh_config(5). `Match` and all else is left to the OpenSSH client.

use std::path::{Path, PathBuf};

/// What the file says of one host.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HostConfig {
    pub host_name: Option<String>,
    pub port: Option<u16>,
    pub user: Option<String>,
    pub identity_files: Vec<PathBuf>,
}

/// Reads what `text` says of `host`; `home` stands for `~` and `%d`.
pub fn lookup(text: &str, host: &str, home: &Path) -> HostConfig {
    let mut found = HostConfig::default();
    let mut applies = true;
    for line in text.lines() {
        let Some((keyword, value)) = split(line) else { continue };
        match keyword.as_str() {
            "host" => applies = matches_any(value, host),
            // What a Match would decide is not known here, so its block is passed over.
            "match" => applies = value.trim().eq_ignore_ascii_case("all"),
            _ if !applies => {}
            "hostname" => {
                found.host_name.get_or_insert_with(|| unquote(value).replace("%h", host));
            }
            "port" => {
                if let (None, Ok(port)) = (found.port, value.trim().parse()) {
                    found.port = Some(port);
                }
            }
            "user" => {
                found.user.get_or_insert_with(|| unquote(value).to_owned());
            }
            "identityfile" => found.identity_files.push(expand(unquote(value), home)),
            _ => {}
        }
    }
    found
}

/// `Keyword value`, `Keyword=value`; comments and empty lines are none.
fn split(line: &str) -> Option<(String, &str)> {
    let line = line.trim();
    if line.is_empty() || line.starts_with('#') {
        return None;
    }
    let end = line.find(|c: char| c.is_whitespace() || c == '=')?;
    let value = line[end..].trim_start().trim_start_matches('=').trim();
    (!value.is_empty()).then(|| (line[..end].to_ascii_lowercase(), value))
}

fn unquote(value: &str) -> &str {
    value.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(value)
}

fn expand(value: &str, home: &Path) -> PathBuf {
    match value.strip_prefix("~/").or_else(|| value.strip_prefix("%d/")) {
        Some(rest) => home.join(rest),
        None => PathBuf::from(value),
    }
}

/// A host matches where one pattern does and no `!pattern` does.
fn matches_any(patterns: &str, host: &str) -> bool {
    let mut matched = false;
    for pattern in patterns.split_whitespace().map(unquote) {
        match pattern.strip_prefix('!') {
            Some(pattern) if glob(pattern.as_bytes(), host.as_bytes()) => return false,
            Some(_) => {}
            None => matched |= glob(pattern.as_bytes(), host.as_bytes()),
        }
    }
    matched
}

/// `*` and `?`, in time that grows with the product of both lengths.
fn glob(pattern: &[u8], text: &[u8]) -> bool {
    let mut reachable = vec![false; text.len() + 1];
    reachable[0] = true;
    for p in pattern {
        if *p == b'*' {
            if let Some(first) = reachable.iter().position(|r| *r) {
                reachable[first..].fill(true);
            }
            continue;
        }
        for at in (0..text.len()).rev() {
            reachable[at + 1] = reachable[at] && (*p == b'?' || p.eq_ignore_ascii_case(&text[at]));
        }
        reachable[0] = false;
    }
    reachable[text.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIG: &str = "\
# a comment
Host web-* !web-9
    HostName %h.example.net
    User deploy
    IdentityFile ~/.ssh/web
Host=\"web-1\" other
    Port = 2222
    User second
Match host web-1
    Port 9
Host *
    User everyone
    IdentityFile /keys/all
";

    #[test]
    fn the_first_value_wins() {
        let found = lookup(CONFIG, "web-1", Path::new("/home/me"));
        assert_eq!(found.host_name.as_deref(), Some("web-1.example.net"));
        assert_eq!(found.port, Some(2222));
        assert_eq!(found.user.as_deref(), Some("deploy"));
        assert_eq!(found.identity_files, [Path::new("/home/me/.ssh/web"), Path::new("/keys/all")]);
    }

    #[test]
    fn a_negated_pattern_excludes() {
        let found = lookup(CONFIG, "web-9", Path::new("/home/me"));
        assert_eq!(found.host_name, None);
        assert_eq!(found.user.as_deref(), Some("everyone"));
        assert_eq!(found.port, None);
    }

    #[test]
    fn globs() {
        for (pattern, text, expected) in [
            ("*", "", true),
            ("a*c", "abbc", true),
            ("a*c", "abbd", false),
            ("?", "a", true),
            ("?", "", false),
            ("10.0.*.?", "10.0.12.3", true),
            ("***a", "bbba", true),
            ("a", "A", true),
        ] {
            assert_eq!(glob(pattern.as_bytes(), text.as_bytes()), expected, "{pattern} {text}");
        }
    }
}
