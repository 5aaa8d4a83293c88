//! The basics of `~/.ssh/config`: `Host` patterns with HostName, Port, User, IdentityFile, ProxyJump and
//! ProxyCommand, and `Include`; the first value found wins, as in ssh_config(5). `Match` and all else is left
//! to the OpenSSH client.

use std::io::ErrorKind;
use std::path::{Component, Path, PathBuf};

/// As deep as OpenSSH follows `Include`, and more files than anybody has: a file may include itself.
const MAX_DEPTH: usize = 16;
const MAX_FILES: usize = 256;

/// What the file says of one host.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HostConfig {
    pub host_name: Option<String>,
    pub port: Option<u16>,
    pub user: Option<String>,
    pub identity_files: Vec<PathBuf>,
    pub proxy: Option<Proxy>,
}

/// How a connection is made instead of directly. ProxyJump and ProxyCommand compete: the first one wins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Proxy {
    /// `none`: directly after all.
    Off,
    Jump(String),
    Command(String),
}

impl Proxy {
    pub fn jump(value: &str) -> Self {
        Self::of(value, Self::Jump)
    }

    fn of(value: &str, make: impl FnOnce(String) -> Self) -> Self {
        if value.eq_ignore_ascii_case("none") { Self::Off } else { make(value.to_owned()) }
    }
}

/// Reads what the file at `path` says of `host`; `home` stands for `~` and `%d`. A file that is not there says
/// nothing.
pub fn lookup(path: &Path, host: &str, home: &Path) -> std::io::Result<HostConfig> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(HostConfig::default()),
        Err(error) => return Err(error),
    };
    let mut lookup = Lookup { host, home, found: HostConfig::default(), files: 0 };
    lookup.read(&text, 0, true);
    Ok(lookup.found)
}

struct Lookup<'a> {
    host: &'a str,
    home: &'a Path,
    found: HostConfig,
    files: usize,
}

impl Lookup<'_> {
    /// `within`: does the block apply in which the file is included? Where it does not, nothing in it does.
    fn read(&mut self, text: &str, depth: usize, within: bool) {
        let mut applies = within;
        for line in text.lines() {
            let Some((keyword, value)) = split(line) else { continue };
            match keyword.as_str() {
                "host" => applies = within && matches_any(value, self.host),
                // What a Match would decide is not known here, so its block is passed over.
                "match" => applies = within && value.trim().eq_ignore_ascii_case("all"),
                _ if !applies => {}
                "include" => self.include(value, depth),
                _ => self.take(&keyword, value),
            }
        }
    }

    fn take(&mut self, keyword: &str, value: &str) {
        let found = &mut self.found;
        match keyword {
            "hostname" => {
                found.host_name.get_or_insert_with(|| unquote(value).replace("%h", self.host));
            }
            "port" => {
                if let (None, Ok(port)) = (found.port, value.trim().parse()) {
                    found.port = Some(port);
                }
            }
            "user" => {
                found.user.get_or_insert_with(|| unquote(value).to_owned());
            }
            "identityfile" => found.identity_files.push(expand(unquote(value), self.home)),
            "proxyjump" => {
                found.proxy.get_or_insert_with(|| Proxy::jump(unquote(value)));
            }
            // To the end of the line, quotes and all: a shell reads it.
            "proxycommand" => {
                found.proxy.get_or_insert_with(|| Proxy::of(value, Proxy::Command));
            }
            _ => {}
        }
    }

    /// Files that are not there or cannot be read are passed over.
    fn include(&mut self, patterns: &str, depth: usize) {
        if depth >= MAX_DEPTH {
            return;
        }
        for pattern in shlex::split(patterns).unwrap_or_default() {
            let pattern = self.home.join(".ssh").join(expand(&pattern, self.home));
            for path in matching_files(&pattern) {
                self.files += 1;
                if self.files > MAX_FILES {
                    return;
                }
                if let Ok(text) = std::fs::read_to_string(&path) {
                    self.read(&text, depth + 1, true);
                }
            }
        }
    }
}

/// The files that a path with `*` and `?` in its components means, sorted, as glob(3) does it.
fn matching_files(pattern: &Path) -> Vec<PathBuf> {
    let mut found = vec![PathBuf::new()];
    for component in pattern.components() {
        let Component::Normal(name) = component else {
            found.iter_mut().for_each(|path| path.push(component));
            continue;
        };
        let name = name.to_string_lossy();
        if !name.contains(['*', '?']) {
            found.iter_mut().for_each(|path| path.push(component));
            continue;
        }
        let mut next = Vec::new();
        for entry in found.iter().filter_map(|folder| std::fs::read_dir(folder).ok()).flatten().flatten() {
            let file = entry.file_name();
            let file = file.to_string_lossy();
            let hidden = file.starts_with('.') && !name.starts_with('.');
            if !hidden && glob(name.as_bytes(), file.as_bytes()) {
                next.push(entry.path());
            }
        }
        next.sort();
        found = next;
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

    fn said(text: &str, host: &str) -> HostConfig {
        let home = Path::new("/home/me");
        let mut lookup = Lookup { host, home, found: HostConfig::default(), files: 0 };
        lookup.read(text, 0, true);
        lookup.found
    }

    #[test]
    fn the_first_value_wins() {
        let found = said(CONFIG, "web-1");
        assert_eq!(found.host_name.as_deref(), Some("web-1.example.net"));
        assert_eq!(found.port, Some(2222));
        assert_eq!(found.user.as_deref(), Some("deploy"));
        assert_eq!(found.identity_files, [Path::new("/home/me/.ssh/web"), Path::new("/keys/all")]);
    }

    #[test]
    fn a_negated_pattern_excludes() {
        let found = said(CONFIG, "web-9");
        assert_eq!(found.host_name, None);
        assert_eq!(found.user.as_deref(), Some("everyone"));
        assert_eq!(found.port, None);
    }

    #[test]
    fn jumps_and_commands_compete() {
        let config = "Host a\n ProxyJump me@gate:22,last\nHost b\n ProxyCommand nc -X 5 '%h' %p\n ProxyJump gate\n\
                      Host c\n ProxyJump none\nHost d\n ProxyCommand NONE\nHost *\n ProxyJump everywhere\n";
        let proxy = |host| said(config, host).proxy.unwrap();
        assert_eq!(proxy("a"), Proxy::Jump("me@gate:22,last".to_owned()));
        assert_eq!(proxy("b"), Proxy::Command("nc -X 5 '%h' %p".to_owned()));
        assert_eq!(proxy("c"), Proxy::Off);
        assert_eq!(proxy("d"), Proxy::Off);
        assert_eq!(proxy("e"), Proxy::Jump("everywhere".to_owned()));
    }

    #[test]
    fn included_files_are_read_where_they_stand() {
        let home = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| {
            let path = home.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, text).unwrap();
            path
        };
        file(".ssh/config.d/10-a", "Host web\n User first\nHost never\n User wrong\n");
        file(".ssh/config.d/20-b", "Host *\n Port 2222\n User second\n");
        file(".ssh/config.d/.hidden", "Port 1\n");
        file(".ssh/only-db", "Host *\n HostName inside\n");
        file("elsewhere", "Include ~/elsewhere elsewhere\nInclude ~/elsewhere\nIdentityFile ~/k\n");
        let config = file(
            ".ssh/config",
            "Include config.d/* none\nHost db\n  Include \"only-db\"\nHost *\n  HostName after\n  Include ~/elsewhere\n",
        );
        let web = lookup(&config, "web", home.path()).unwrap();
        assert_eq!((web.user.as_deref(), web.port), (Some("first"), Some(2222)));
        // A block of an included file ends with the file, and an included file with its block.
        assert_eq!(web.host_name.as_deref(), Some("after"));
        assert_eq!(lookup(&config, "db", home.path()).unwrap().host_name.as_deref(), Some("inside"));
        // A file that includes itself ends, and says what it says.
        assert!(web.identity_files.contains(&home.path().join("k")));
        assert_eq!(lookup(&home.path().join("no"), "web", home.path()).unwrap(), HostConfig::default());
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
