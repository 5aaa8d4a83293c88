//! Our own jobs, rendered for old and new Upstarts, read by `check` and run by real shells.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::process::{Command, Stdio};

use semver::Version;

use super::super::*;
use crate::core::render::tests::readers::{literal, unit, words};
use crate::core::render::tests::{RENDERER, put_program, texts};
use crate::core::render::{Subject, absent};
use crate::model::host::Role;
use crate::model::init::Init;
use crate::model::name::ClusterName;
use crate::model::spec::{AlertmanagerSpec, Discovery, Join, Spec};
use crate::model::version::Preset;

/// Each release that brought something, and the last.
const VERSIONS: [Version; 6] = [
    OLDEST,
    Version::new(0, 6, 7),
    Version::new(1, 3, 0),
    Version::new(1, 4, 0),
    Version::new(1, 10, 0),
    Version::new(1, 13, 2),
];

const NEWEST: &Version = &VERSIONS[5];

/// With every program that has a job, and agents that find their servers by tag.
fn spec(preset: Preset) -> Spec {
    let mut spec = Spec::ec2(ClusterName::new("shop").unwrap());
    spec.versions = preset.versions();
    spec.join = Join::Tag;
    spec.prometheus.discovery = Discovery::ConsulTemplate;
    spec.alertmanager = Some(AlertmanagerSpec { webhooks: Vec::new() });
    spec
}

/// The texts in this folder, by their names without its path and `suffix`.
fn rendered(preset: Preset, role: Role, init: Init, folder: &str, suffix: &str) -> BTreeMap<String, String> {
    let spec = spec(preset);
    let subject = Subject { role, init, name: None, address: None, servers: Vec::new() };
    let wanted = RENDERER.wanted(&spec, &subject, &absent(&spec, role)).unwrap();
    let name = |at: &str| at.strip_prefix(folder)?.strip_suffix(suffix).map(str::to_owned);
    texts(&wanted).into_iter().filter_map(|(at, text)| Some((name(&at)?, text))).collect()
}

fn jobs(preset: Preset, role: Role, version: &Version) -> BTreeMap<String, String> {
    rendered(preset, role, Init::Upstart(version.clone()), "/etc/init/", ".conf")
}

/// Does a shell accept the syntax?
fn is_shell(shell: &[&str], script: &str) -> bool {
    let mut child = Command::new(shell[0]).args(&shell[1..]).arg("-n").stdin(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(script.as_bytes()).unwrap();
    child.wait().unwrap().success()
}

#[test]
fn each_job_is_read_by_each_version_and_by_shells() {
    for version in &VERSIONS {
        for preset in Preset::ALL {
            let (server, node) = (jobs(preset, Role::Server, version), jobs(preset, Role::Node, version));
            assert_eq!((server.len(), node.len()), (5, 2));
            for (name, text) in server.iter().chain(&node) {
                let job =
                    check(text, version).unwrap_or_else(|mistakes| panic!("{name} {version} {mistakes:?}\n{text}"));
                assert!(job.description.unwrap().ends_with(" of the cluster shop"));
                assert!(job.respawns && job.stop_on == ["starting"]);
                for process in job.processes {
                    let (Body::Script(script) | Body::Exec(script)) = process.body;
                    assert!(is_shell(&["dash"], &script) && is_shell(&["busybox", "sh"], &script), "{name}: {script}");
                }
                let first = text.lines().next().unwrap();
                assert!(first.starts_with("# ") && first.contains(" cluster shop. "), "{first}");
                assert!(
                    first.ends_with(" Written by clusterctl: a change by hand is undone by its next run."),
                    "{first}"
                );
                assert!(text.ends_with('\n') && !text.contains("\n\n\n") && !text.contains(" \n"), "{text}");
            }
        }
    }
}

#[test]
fn jobs_that_ask_consul_start_behind_it() {
    for (name, text) in jobs(Preset::Current, Role::Server, &OLDEST) {
        let behind = ["prometheus", "consul-template"].contains(&name.as_str());
        let start_on = check(&text, &OLDEST).unwrap().start_on;
        assert_eq!(start_on, if behind { vec!["stopped", "started"] } else { vec!["stopped"] }, "{name}");
    }
}

/// What Upstart 0.6.5 gets beside these stands among the texts of the stack of 2015.
#[test]
fn each_version_gets_what_it_has() {
    let oldest = jobs(Preset::Current, Role::Server, &OLDEST);
    let newest = jobs(Preset::Current, Role::Server, NEWEST);
    insta::assert_snapshot!("alertmanager on 0.6.5", oldest["alertmanager"]);
    insta::assert_snapshot!("consul on 1.13.2", newest["consul"]);
    insta::assert_snapshot!("consul-template on 0.6.5", oldest["consul-template"]);
    insta::assert_snapshot!("consul-template on 1.13.2", newest["consul-template"]);
    insta::assert_snapshot!("node_exporter on 1.13.2", newest["node_exporter"]);
}

/// Runs the main process's script as Upstart would, with programs of its own in place of those that are named: the
/// arguments that the job's own program is given. `join` is what the script that finds servers does.
fn arguments_of(name: &str, text: &str, version: &Version, flags: &str, join: &str) -> Vec<String> {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name).display().to_string();
    // `chroot` hands its program on.
    for (file, script) in [
        ("show", "for word; do printf '%s\\0' \"$word\"; done"),
        ("chroot", "shift 3\nexec \"$@\""),
        ("find-leader", join),
    ] {
        put_program(at(file).as_ref(), format!("#!/bin/sh\n{script}\n"));
    }
    let job = check(text, version).unwrap();
    assert_eq!(job.scripts().filter(|script| script.contains("exec ")).count(), 1);
    // The log's place is the host's.
    let host = |line: &&str| !line.contains("/var/log/") && !line.contains("rm -f ");
    let script: Vec<&str> = job.scripts().next().unwrap().lines().filter(host).collect();
    let program = format!("/usr/local/bin/{name}");
    assert_eq!(text.matches(&program).count(), 1, "{text}");
    let script = script.join("\n").replace(&program, &at("show"));
    let script = script.replace("/usr/local/lib/clusterctl/find-leader", &at("find-leader"));
    let output = Command::new("dash")
        .args(["-e", "-c", &script])
        .env_clear()
        .env("PATH", format!("{}:/usr/bin:/bin", dir.path().display()))
        .env("CONSUL_FLAGS", flags)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let words = String::from_utf8(output.stdout).unwrap();
    words.split_terminator('\0').map(ToOwned::to_owned).collect()
}

#[test]
fn each_program_is_given_what_systemd_gives_it() {
    for preset in Preset::ALL {
        let units = rendered(preset, Role::Server, Init::Systemd, "/etc/systemd/system/", ".service");
        for version in [&OLDEST, NEWEST] {
            for (name, text) in jobs(preset, Role::Server, version) {
                let unit = unit(&units[&name]);
                let (_, _, start) = unit.iter().find(|(_, key, _)| key == "ExecStart").unwrap();
                let words = words(start);
                let expected: Vec<String> =
                    words[1..].iter().filter(|word| *word != "$CONSUL_FLAGS").map(|word| literal(word)).collect();
                assert!(!expected.is_empty(), "{start}");
                assert_eq!(arguments_of(&name, &text, version, "", ""), expected, "{name} {version}");
            }
        }
    }
}

#[test]
fn a_hosts_own_flags_are_words_and_no_patterns() {
    for version in [&OLDEST, NEWEST] {
        let text = &jobs(Preset::Current, Role::Server, version)["consul"];
        let words = arguments_of("consul", text, version, "-x  -y=* -z", "");
        assert_eq!(words, ["agent", "-config-dir=/etc/consul.d", "-x", "-y=*", "-z"]);
    }
}

#[test]
fn servers_are_joined_and_a_reload_meanwhile_ends_nothing() {
    let join = "kill -s HUP $PPID; echo -retry-join 10.0.0.1 -retry-join '*'";
    let text = &jobs(Preset::Classic, Role::Node, &OLDEST)["consul"];
    let words = arguments_of("consul", text, &OLDEST, "-x", join);
    let joins = ["-retry-join", "10.0.0.1", "-retry-join", "*"];
    assert_eq!(words, [&["agent", "-config-dir=/etc/consul.d"][..], &joins, &["-x"]].concat());
}
