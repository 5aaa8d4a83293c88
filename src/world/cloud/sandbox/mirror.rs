//! The Debian mirror that this machine's own apt uses. Pure: text in, address out.

use std::path::Path;
use std::{fs, io};

/// The mirror for `suite`, or `None` where the machine names none (it is no Debian): then debootstrap
/// knows a default.
pub fn of_machine(suite: &str) -> Option<String> {
    let read = |path: &Path| fs::read_to_string(path).unwrap_or_default();
    let codename = codename(&read(Path::new("/etc/os-release")));
    let mut sources = entries(&read(Path::new("/etc/apt/sources.list")), false);
    let mut files: Vec<_> = fs::read_dir("/etc/apt/sources.list.d")
        .and_then(|dir| dir.map(|e| Ok(e?.path())).collect::<io::Result<_>>())
        .unwrap_or_default();
    files.sort();
    for file in files {
        match file.extension().and_then(|e| e.to_str()) {
            Some("list") => sources.extend(entries(&read(&file), false)),
            Some("sources") => sources.extend(entries(&read(&file), true)),
            _ => {}
        }
    }
    // A mirror of Debian has all of its suites: the machine's own says where it is too.
    choose(&sources, suite).or_else(|| choose(&sources, codename.as_deref()?))
}

/// `VERSION_CODENAME` of a Debian; other systems' mirrors hold no Debian.
fn codename(os_release: &str) -> Option<String> {
    let field = |name: &str| {
        let line = os_release.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix('='))?;
        Some(line.trim().trim_matches('"').to_owned())
    };
    (field("ID")? == "debian").then(|| field("VERSION_CODENAME"))?
}

/// One source of packages, as far as it matters here.
#[derive(Debug, Default, PartialEq, Eq)]
struct Entry {
    uris: Vec<String>,
    suites: Vec<String>,
    components: Vec<String>,
    signed_by: Option<String>,
}

fn choose(entries: &[Entry], suite: &str) -> Option<String> {
    // Third parties use Debian's suite names as well, but have keys of their own.
    let official = |e: &&Entry| e.signed_by.as_ref().is_none_or(|s| s.contains("debian-archive-keyring"));
    let fits = |e: &&Entry| e.suites.iter().any(|s| s == suite) && e.components.iter().any(|c| c == "main");
    let mut uris = entries.iter().filter(official).filter(fits).flat_map(|e| &e.uris);
    uris.find(|u| ["http://", "https://", "file:///"].iter().any(|scheme| u.starts_with(scheme))).cloned()
}

fn entries(text: &str, deb822: bool) -> Vec<Entry> {
    if deb822 { stanzas(text) } else { text.lines().filter_map(one_line).collect() }
}

/// `deb [signed-by=… arch=…] uri suite component…`
fn one_line(line: &str) -> Option<Entry> {
    let line = line.split('#').next()?.trim().strip_prefix("deb")?;
    let mut rest = line.strip_prefix([' ', '\t'])?.trim_start();
    let mut entry = Entry::default();
    if let Some(bracket) = rest.strip_prefix('[') {
        let (options, after) = bracket.split_once(']')?;
        entry.signed_by =
            options.split_ascii_whitespace().find_map(|o| o.strip_prefix("signed-by=")).map(ToOwned::to_owned);
        rest = after;
    }
    let mut words = rest.split_ascii_whitespace().map(ToOwned::to_owned);
    entry.uris.push(words.next()?);
    entry.suites.push(words.next()?);
    entry.components = words.collect();
    Some(entry)
}

/// deb822: stanzas of `Field: words`, continued by lines that begin with a blank.
fn stanzas(text: &str) -> Vec<Entry> {
    let mut all = Vec::new();
    let mut fields: Vec<(String, String)> = Vec::new();
    for line in text.lines().filter(|l| !l.starts_with('#')).chain([""]) {
        if line.trim().is_empty() {
            all.extend(stanza(&std::mem::take(&mut fields)));
        } else if line.starts_with([' ', '\t']) {
            if let Some((_, value)) = fields.last_mut() {
                *value += line;
            }
        } else if let Some((name, value)) = line.split_once(':') {
            fields.push((name.to_ascii_lowercase(), value.to_owned()));
        }
    }
    all
}

fn stanza(fields: &[(String, String)]) -> Option<Entry> {
    let value = |name: &str| fields.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str());
    let words = |name: &str| value(name).unwrap_or("").split_ascii_whitespace().map(ToOwned::to_owned).collect();
    let types: Vec<String> = words("types");
    let disabled = value("enabled").is_some_and(|e| e.trim() == "no");
    (types.iter().any(|t| t == "deb") && !disabled).then(|| Entry {
        uris: words("uris"),
        suites: words("suites"),
        components: words("components"),
        signed_by: value("signed-by").map(|s| s.trim().to_owned()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_one_line_source_is_found_among_others() {
        let text = "# deb http://old.example/debian bookworm main\n\
            deb-src http://src.example/debian bookworm main\n\
            deb [signed-by=/usr/share/keyrings/x.gpg] https://third.example bookworm main\n\
            deb cdrom:[Debian]/ bookworm main\n\
            deb [ arch=amd64 ] http://mirror.example/debian/ bookworm main contrib # the one\n";
        assert_eq!(choose(&entries(text, false), "bookworm").unwrap(), "http://mirror.example/debian/");
        assert_eq!(choose(&entries(text, false), "trixie"), None);
    }

    #[test]
    fn a_stanza_is_found_among_others() {
        let text = "Types: deb\nURIs: http://security.example/d\nSuites: bookworm-security\nComponents: main\n\n\
            Types: deb\nEnabled: no\nURIs: http://off.example/d\nSuites: bookworm\nComponents: main\n\n\
            Types: deb deb-src\n# a comment\nURIs: http://mirror.example/debian\nSuites: bookworm\n bookworm-updates\n\
            Components: main\nSigned-By: /usr/share/keyrings/debian-archive-keyring.gpg\n";
        assert_eq!(choose(&entries(text, true), "bookworm").unwrap(), "http://mirror.example/debian");
        assert_eq!(choose(&entries(text, true), "bookworm-updates").unwrap(), "http://mirror.example/debian");
    }

    #[test]
    fn only_debians_codename_counts() {
        assert_eq!(codename("ID=debian\nVERSION_CODENAME=trixie\n").as_deref(), Some("trixie"));
        assert_eq!(codename("ID=ubuntu\nVERSION_CODENAME=noble\n"), None);
        assert_eq!(codename("ID=debian\n"), None);
        assert_eq!(codename(""), None);
    }

    #[test]
    fn nonsense_has_no_mirror() {
        for text in ["", "deb", "deb [", "deb [x", "deb x", "debug http://a bookworm main", ":\n:\n", " x"] {
            for form in [false, true] {
                assert_eq!(choose(&entries(text, form), "bookworm"), None, "{text:?}");
            }
        }
    }
}
