//! Who may judge rendered files, what is given to them, and what their words mean. Running them is `world::trial`'s
//! matter, their order `engine::checks`'s.

use semver::Version;
use serde_json::json;

use super::dialect;
use super::upstart;
use crate::model::file::{FileSource, HostPath, Wanted};
use crate::model::init::Init;
use crate::model::version::Program;

/// So many of a program's lines are shown, its last.
const LINES: usize = 20;

/// The program whose release holds this executable.
pub fn owner(executable: &str) -> Option<Program> {
    let newest = Version::new(u64::MAX, 0, 0);
    Program::ALL.into_iter().find(|program| program.executables(&newest).contains(&executable))
}

/// The best judge among those on offer: the very version, else the newest that understands the same.
pub fn choose<'a, T>(program: Program, wanted: &Version, offers: &'a [(Version, T)]) -> Option<&'a (Version, T)> {
    let exact = offers.iter().find(|(version, _)| version == wanted);
    let near = || {
        let same = offers.iter().filter(|(version, _)| dialect::same(program, version, wanted));
        same.max_by(|(one, _), (other, _)| one.cmp(other))
    };
    exact.or_else(near)
}

/// The first version number in what a program says of itself.
pub fn version_in(text: &str) -> Option<Version> {
    let trimmed = |word: &str| word.trim_matches(|c: char| !c.is_ascii_alphanumeric()).to_owned();
    text.split_whitespace().map(trimmed).find_map(|word| word.strip_prefix('v').unwrap_or(&word).parse().ok())
}

/// The last lines of a program's words, the empty ones left out.
pub fn words(said: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(said);
    let lines: Vec<&str> = text.lines().map(str::trim_end).filter(|line| !line.is_empty()).collect();
    lines[lines.len().saturating_sub(LINES)..].iter().map(|line| (*line).to_owned()).collect()
}

/// Why a text is no JSON; `None`: it is.
pub fn json_mistake(text: &str) -> Option<String> {
    serde_json::from_str::<serde_json::Value>(text).err().map(|error| error.to_string())
}

/// A script for a shell, and what it is called for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Script {
    pub name: String,
    pub text: String,
}

/// Every script on the host: files of their own, and the bodies in Upstart's jobs.
pub fn scripts(wanted: &Wanted, init: &Init) -> Vec<Script> {
    let mut scripts = Vec::new();
    for (path, text) in texts(wanted) {
        if text.starts_with("#!/bin/sh") {
            scripts.push(Script { name: path.to_string(), text: text.to_owned() });
        }
        if let (Init::Upstart(version), true) = (init, path.as_str().starts_with("/etc/init/"))
            && let Ok(job) = upstart::check(text, version)
        {
            let bodies = job.scripts().enumerate();
            let script = |(at, text): (usize, &str)| Script {
                name: format!("{path}, script {}", at + 1),
                text: text.to_owned(),
            };
            scripts.extend(bodies.map(script));
        }
    }
    scripts
}

/// All texts, by their paths.
pub fn texts(wanted: &Wanted) -> impl Iterator<Item = (&HostPath, &str)> {
    wanted.files.iter().filter_map(|file| match &file.source {
        FileSource::Text(text) => Some((&file.path, text.as_str())),
        FileSource::Executable(_) => None,
    })
}

/// A text that names paths of the host, for a tree that stands at `root`: below `/usr/local` all is the tree's own.
pub fn moved(text: &str, root: &str) -> String {
    text.replace("/usr/local/", &format!("{root}/usr/local/"))
}

/// Consul's configuration with an address where a host puts its own: whether this machine has a private one says nothing
/// of the file.
pub fn settled(text: &str) -> String {
    text.replace("{{ GetPrivateIP }}", "127.0.0.1")
}

/// [`moved`] for Consul Template's configuration, which is to ask the Consul at `consul`.
pub fn moved_consul_template(text: &str, root: &str, consul: &str) -> String {
    moved(text, root).replace("\"/etc/", &format!("\"{root}/etc/")).replace("127.0.0.1:8500", consul)
}

/// The text that a dry run of Consul Template prints for one file; what it prints is `> PATH`, then the text.
pub fn dry(stdout: &str) -> Option<&str> {
    let (path, rest) = stdout.split_once('\n')?;
    path.starts_with("> ").then(|| rest.split("\n> /").next().unwrap_or(rest))
}

/// What a Consul with these hosts answers, as far as templates ask. Each host runs whatever is asked for.
pub fn consul_answer(path: &str, hosts: &[&str]) -> String {
    let path = path.split('?').next().unwrap_or(path);
    if let Some(service) = path.strip_prefix("/v1/health/service/") {
        let entry = |(at, address): (usize, &&str)| {
            let name = format!("host-{}", at + 1);
            json!({
                "Node": { "Node": name, "Address": address },
                "Service": { "ID": service, "Service": service, "Port": 9100, "Tags": ["node"], "Address": "" },
                "Checks": [{ "Node": name, "CheckID": "serfHealth", "Name": "alive", "Status": "passing", "ServiceID": "" }],
            })
        };
        return serde_json::Value::Array(hosts.iter().enumerate().map(entry).collect()).to_string();
    }
    // A map there, lists elsewhere.
    if path == "/v1/catalog/services" { "{}".to_owned() } else { "[]".to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn v(text: &str) -> Version {
        text.parse().unwrap()
    }

    #[test]
    fn versions_as_programs_say_them() {
        for (said, version) in [
            ("Consul v1.22.7\nBuild Date 1970", Some("1.22.7")),
            ("consul-template v0.42.1 (abc)\n", Some("0.42.1")),
            ("promtool, version 3.13.3 (branch: , revision: unknown)", Some("3.13.3")),
            ("amtool, version 0.25.0 (branch: debian/sid)", Some("0.25.0")),
            ("flag provided but not defined: -version", None),
        ] {
            assert_eq!(version_in(said), version.map(v), "{said}");
        }
    }

    #[test]
    fn the_very_version_judges_before_its_like_and_never_another_dialect() {
        let offers = |versions: &[&str]| versions.iter().map(|version| (v(version), ())).collect::<Vec<_>>();
        let chosen = |wanted: &str, versions: &[&str]| {
            choose(Program::Consul, &v(wanted), &offers(versions)).map(|(version, ())| version.to_string())
        };
        assert_eq!(chosen("1.22.7", &["1.22.9", "1.22.7"]).as_deref(), Some("1.22.7"));
        assert_eq!(chosen("1.22.7", &["1.21.0", "1.22.1", "1.8.7"]).as_deref(), Some("1.22.1"));
        assert_eq!(chosen("0.5.2", &["1.22.7", "1.8.7"]), None);
        assert_eq!(chosen("1.22.7", &[]), None);
    }

    #[test]
    fn executables_belong_to_their_programs() {
        assert_eq!(owner("promtool"), Some(Program::Prometheus));
        assert_eq!(owner("amtool"), Some(Program::Alertmanager));
        assert_eq!(owner("systemd-analyze"), None);
    }

    #[test]
    fn a_dry_run_is_read_back() {
        assert_eq!(dry("> /etc/a.yml\nglobal:\n  x: 1\n"), Some("global:\n  x: 1\n"));
        assert_eq!(dry("> /etc/a.yml\na\n> /etc/b.yml\nb\n"), Some("a"));
        assert_eq!(dry("error"), None);
    }

    #[test]
    fn consuls_answers_are_what_its_api_has() {
        assert_eq!(consul_answer("/v1/health/service/web?index=1", &[]), "[]");
        let two: serde_json::Value =
            serde_json::from_str(&consul_answer("/v1/health/service/web?stale=", &["10.0.0.1", "fd00::1"])).unwrap();
        assert_eq!(two[1]["Node"]["Address"], "fd00::1");
        assert_eq!(two[0]["Service"]["Service"], "web");
        assert_eq!(consul_answer("/v1/catalog/services", &[]), "{}");
    }

    #[test]
    fn the_last_words_count() {
        let said: String = (0..30).map(|n| format!("line {n}\n\n")).collect();
        let words = words(said.as_bytes());
        assert_eq!((words.len(), words[0].as_str()), (20, "line 10"));
        assert!(json_mistake("{\"a\": 1,}").is_some_and(|mistake| mistake.contains("line 1")));
        assert_eq!(json_mistake("{}"), None);
    }
}
