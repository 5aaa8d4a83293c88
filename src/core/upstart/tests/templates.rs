//! Our own job templates, rendered for old and new Upstarts, read by `check` and run by real shells.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::process::{Command, Stdio};

use proptest::prelude::*;
use semver::Version;
use tera::{Context, Tera, Value};

use super::super::*;

const JOBS: [(&str, &str); 5] = [
    ("consul", include_str!("../../../../templates/upstart/consul.conf")),
    ("node_exporter", include_str!("../../../../templates/upstart/node_exporter.conf")),
    ("prometheus", include_str!("../../../../templates/upstart/prometheus.conf")),
    ("consul-template", include_str!("../../../../templates/upstart/consul-template.conf")),
    ("alertmanager", include_str!("../../../../templates/upstart/alertmanager.conf")),
];

/// Each release that brought something, and the last.
const VERSIONS: [Version; 6] = [
    OLDEST,
    Version::new(0, 6, 7),
    Version::new(1, 3, 0),
    Version::new(1, 4, 0),
    Version::new(1, 10, 0),
    Version::new(1, 13, 2),
];

fn tera() -> Tera {
    let mut tera = Tera::default();
    tera.autoescape_on(Vec::new());
    tera.register_filter("sh", |value: &Value, _: &_| {
        Ok(Value::String(crate::core::install::quote(value.as_str().ok_or("a string")?)))
    });
    tera.add_raw_templates(JOBS).unwrap();
    tera
}

fn context(version: &Version, args: &[&str]) -> Context {
    let mut context = Context::new();
    context.insert("cluster", "shop");
    context.insert("role", "server");
    context.insert("user", "worker");
    context.insert("program", "/usr/local/bin/program");
    context.insert("args", args);
    context.insert("stop_signal", "INT");
    context.insert("candidate", "/etc/prometheus/prometheus.yml.candidate");
    context.insert("can", &BTreeMap::from(features(version)));
    context
}

fn render(name: &str, context: &Context) -> String {
    tera().render(name, context).unwrap()
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
        for (name, _) in JOBS {
            for join in ["", "/usr/local/lib/clusterctl/join"] {
                let mut context = context(version, &["agent", "-x=a b"]);
                context.insert("join_script", join);
                let text = render(name, &context);
                let job =
                    check(&text, version).unwrap_or_else(|mistakes| panic!("{name} {version} {mistakes:?}\n{text}"));
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
    for (name, _) in JOBS {
        let job = check(&render(name, &context(&OLDEST, &[])), &OLDEST).unwrap();
        let behind = ["prometheus", "consul-template"].contains(&name);
        assert_eq!(job.start_on, if behind { vec!["stopped", "started"] } else { vec!["stopped"] }, "{name}");
    }
}

#[test]
fn each_version_gets_what_it_has() {
    let shown = |name: &str, version: Version| {
        let mut context = context(&version, &["agent", "-config-dir=/etc/consul.d"]);
        context.insert("join_script", "/usr/local/lib/clusterctl/join");
        render(name, &context)
    };
    insta::assert_snapshot!("consul on 0.6.5", shown("consul", OLDEST));
    insta::assert_snapshot!("consul on 1.13.2", shown("consul", Version::new(1, 13, 2)));
    insta::assert_snapshot!("consul-template on 0.6.5", shown("consul-template", OLDEST));
    insta::assert_snapshot!("consul-template on 1.13.2", shown("consul-template", Version::new(1, 13, 2)));
    insta::assert_snapshot!("node_exporter on 1.13.2", shown("node_exporter", Version::new(1, 13, 2)));
    insta::assert_snapshot!("prometheus on 0.6.5", shown("prometheus", OLDEST));
    insta::assert_snapshot!("alertmanager on 0.6.5", shown("alertmanager", OLDEST));
}

/// Runs the main process's script as Upstart would, with programs of its own in place of those that are named.
fn arguments_of(name: &str, version: &Version, args: &[&str], flags: &str) -> Vec<String> {
    joined(name, version, args, flags, None)
}

/// The same, with a script that finds servers.
fn joined(name: &str, version: &Version, args: &[&str], flags: &str, join: Option<&str>) -> Vec<String> {
    let dir = tempfile::tempdir().unwrap();
    let show = dir.path().join("show");
    std::fs::write(&show, "#!/bin/sh\nfor word; do printf '%s\\0' \"$word\"; done\n").unwrap();
    // `chroot` hands its program on.
    std::fs::write(dir.path().join("chroot"), "#!/bin/sh\nshift 3\nexec \"$@\"\n").unwrap();
    std::fs::write(dir.path().join("join"), format!("#!/bin/sh\n{}\n", join.unwrap_or_default())).unwrap();
    for file in ["show", "chroot", "join"] {
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(dir.path().join(file), mode).unwrap();
    }
    let mut context = context(version, args);
    context.insert("program", show.to_str().unwrap());
    if join.is_some() {
        context.insert("join_script", dir.path().join("join").to_str().unwrap());
    }
    let job = check(&render(name, &context), version).unwrap();
    assert_eq!(job.scripts().filter(|script| script.contains("exec ")).count(), 1);
    // The log's place is the host's.
    let log = |line: &&str| !line.contains("/var/log/");
    let script: Vec<&str> = job.scripts().next().unwrap().lines().filter(log).collect();
    let script = script.join("\n");
    let path = format!("{}:/usr/bin:/bin", dir.path().display());
    let output = Command::new("dash")
        .args(["-e", "-c", &script])
        .env_clear()
        .env("PATH", path)
        .env("CONSUL_FLAGS", flags)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let words = String::from_utf8(output.stdout).unwrap();
    words.split_terminator('\0').map(ToOwned::to_owned).collect()
}

#[test]
fn a_hosts_own_flags_are_words_and_no_patterns() {
    let words = arguments_of("consul", &OLDEST, &["agent"], "-x  -y=* -z");
    assert_eq!(words, ["agent", "-x", "-y=*", "-z"]);
    assert_eq!(arguments_of("consul", &VERSIONS[5], &["agent"], ""), ["agent"]);
}

#[test]
fn servers_are_joined_and_a_reload_meanwhile_ends_nothing() {
    let join = "kill -s HUP $PPID; echo -retry-join 10.0.0.1 -retry-join '*'";
    let words = joined("consul", &OLDEST, &["agent"], "-x", Some(join));
    assert_eq!(words, ["agent", "-retry-join", "10.0.0.1", "-retry-join", "*", "-x"]);
}

#[test]
fn an_argument_may_try_to_end_the_script() {
    let args = ["a\nend script\nexec evil", "\n", "", "'\n\"", "$(evil) `evil` # \\", "*"];
    for (name, _) in JOBS {
        for version in [OLDEST, Version::new(1, 13, 2)] {
            assert_eq!(arguments_of(name, &version, &args, ""), args, "{name} {version}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    #[test]
    fn any_arguments_arrive(args in prop::collection::vec("[^\0]*", 0..4), old in any::<bool>()) {
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let version = if old { OLDEST } else { Version::new(1, 13, 2) };
        prop_assert_eq!(arguments_of("prometheus", &version, &args, ""), args);
    }
}
