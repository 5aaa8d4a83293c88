//! The functions for hosts that run Upstart, in real shells, with a small `initctl` of our own: jobs that a real
//! Upstart does not have in store when it is wanted. tests/it/upstart has the real one.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use tempfile::TempDir;

use super::super::bundle::{INSTALLER, UPSTART};
use super::super::facts::facts_script;
use crate::core::install::{InstallerLine, parse_facts, parse_line};
use crate::core::render::tests::put_program;
use crate::model::facts::{Facts, FactsQuery, UnitFact};
use crate::model::file::UnitName;
use crate::model::init::Init;

const SHELLS: [&str; 3] = ["dash", "busybox", "bash"];

/// Jobs are files in $JOBS: `known` lists their names; NAME.pid is the main process of a running one; NAME.state
/// overrules what `status` says; NAME.refuses makes `start` fail, NAME.hangs makes it hang. All calls are noted.
const INITCTL: &str = r#"#!/bin/sh
cd "$JOBS" || exit 9
[ "$1" = status ] || [ "$1" = version ] || echo "$*" >>calls
known() {
    grep -qx "$1" known 2>/dev/null || { echo "initctl: Unknown job: $1" >&2; exit 1; }
}
# One that has ended may wait for its parent to notice.
running() {
    [ -f "$1.pid" ] && grep -q ') [^Z]' "/proc/$(cat "$1.pid")/stat" 2>/dev/null
}
case $1 in
version) echo 'init (upstart 0.6.5)' ;;
reload-configuration) [ ! -f fresh ] || { cat fresh >>known; rm fresh; } ;;
status)
    known "$2"
    if [ -f "$2.state" ]; then cat "$2.state"
    elif running "$2"; then echo "$2 start/running, process $(cat "$2.pid")"
    else echo "$2 stop/waiting"
    fi
    ;;
start)
    known "$2"
    [ ! -f "$2.hangs" ] || exec sleep 100
    [ ! -f "$2.refuses" ] || { echo 'initctl: Job failed to start' >&2; exit 1; }
    ! running "$2" || { echo "initctl: Job is already running: $2" >&2; exit 1; }
    setsid sh -c "$(cat "$2.command" 2>/dev/null || echo 'exec sleep 30')" >/dev/null 2>&1 </dev/null &
    echo $! >"$2.pid"
    rm -f "$2.state"
    ;;
stop)
    known "$2"
    running "$2" || [ -f "$2.state" ] || { echo 'initctl: Unknown instance: ' >&2; exit 1; }
    rm -f "$2.state"
    kill "$(cat "$2.pid")" 2>/dev/null
    rm -f "$2.pid"
    ;;
esac
"#;

struct Host {
    dir: TempDir,
    shell: &'static str,
}

impl Host {
    fn new(shell: &'static str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let host = Self { dir, shell };
        for folder in ["bin", "jobs", "stage", "root/etc/init", "root/var/log/clusterctl", "root/var/lib/clusterctl"] {
            fs::create_dir_all(host.dir.path().join(folder)).unwrap();
        }
        put_program(&host.at("bin/initctl"), INITCTL);
        host
    }

    fn at(&self, path: &str) -> PathBuf {
        self.dir.path().join(path)
    }

    fn write(&self, path: &str, text: &str) {
        fs::write(self.at(path), text).unwrap();
    }

    fn read(&self, path: &str) -> String {
        fs::read_to_string(self.at(path)).unwrap_or_default()
    }

    fn sh(&self, script: &str) -> String {
        let mut command = Command::new(self.shell);
        if self.shell == "busybox" {
            command.arg("sh");
        }
        let path = format!("{}:{}", self.at("bin").display(), std::env::var("PATH").unwrap());
        let output = command
            .args(["-c", script])
            .env("PATH", path)
            .env("JOBS", self.at("jobs"))
            .output()
            .unwrap_or_else(|error| panic!("{}: {error}: scripts/install-needs tests", self.shell));
        assert!(output.stderr.is_empty(), "{}: {}", self.shell, String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// Runs these calls of the installer's functions; its lines.
    fn install(&self, calls: &str) -> Vec<InstallerLine> {
        let dir = self.dir.path().display();
        let head =
            format!("set -uf\nstage={dir}/stage root={dir}/root own={dir}/root/var/lib/clusterctl out={dir}/out\n");
        self.sh(&format!("{INSTALLER}\n{UPSTART}\n{head}{calls}\n")).lines().filter_map(parse_line).collect()
    }

    fn install_well(&self, calls: &str) {
        let lines = self.install(calls);
        let ended = |line: &InstallerLine| !matches!(line, InstallerLine::Failed { .. } | InstallerLine::Log(_));
        assert!(!lines.is_empty() && lines.iter().all(ended), "{}: {lines:?}", self.shell);
    }

    /// The step that failed, why, and what the log of it says.
    fn install_badly(&self, calls: &str) -> (String, String, String) {
        let lines = self.install(calls);
        let log = lines.iter().filter_map(|line| match line {
            InstallerLine::Log(text) => Some(text.as_str()),
            _ => None,
        });
        let log = log.collect::<Vec<_>>().join("\n");
        match lines.last() {
            Some(InstallerLine::Failed { step, message }) => (step.clone(), message.clone(), log),
            other => panic!("{}: {other:?}", self.shell),
        }
    }

    fn facts(&self, units: &[&str]) -> Facts {
        let units = units.iter().map(|unit| UnitName::new(*unit).unwrap()).collect();
        let root = self.at("root");
        let script = facts_script(&FactsQuery { units, ..FactsQuery::default() }, false, root.to_str().unwrap());
        // The script looks where a host has its programs; the test has one of them elsewhere.
        let script =
            script.replace("PATH=/usr/local/sbin:", &format!("PATH={}:/usr/local/sbin:", self.at("bin").display()));
        parse_facts(self.sh(&script).as_bytes()).unwrap()
    }

    fn unit(&self, unit: &str) -> Option<UnitFact> {
        self.facts(&[unit]).units.remove(&UnitName::new(unit).unwrap())
    }

    fn pid(&self, unit: &str) -> String {
        self.read(&format!("jobs/{unit}.pid"))
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        for entry in fs::read_dir(self.at("jobs")).unwrap().flatten() {
            if entry.path().extension().is_some_and(|extension| extension == "pid") {
                let _ = Command::new("kill").arg(fs::read_to_string(entry.path()).unwrap().trim()).output();
            }
        }
    }
}

#[test]
fn a_new_job_is_read_started_and_told_of_in_facts() {
    for shell in SHELLS {
        let host = Host::new(shell);
        assert_eq!(host.facts(&[]).init, Init::Upstart(semver::Version::new(0, 6, 5)));
        assert_eq!(host.unit("consul"), None);
        host.write("jobs/fresh", "consul\n");
        host.write("root/etc/init/consul.override", "# mine\n  manual\nnice 5\n");
        host.install_well("enable consul\ndaemon_reload\nact start consul\nsettle start consul");
        assert_eq!(host.read("root/etc/init/consul.override"), "# mine\nnice 5\n", "{shell}");
        let fact = host.unit("consul").unwrap();
        assert!(fact.is_running() && fact.is_enabled() && !fact.needs_daemon_reload, "{shell}: {fact:?}");
        assert_eq!(fact.main_pid.to_string(), host.pid("consul").trim());
        let uptime: f64 = fs::read_to_string("/proc/uptime").unwrap().split(' ').next().unwrap().parse().unwrap();
        let age = uptime - fact.started_monotonic_us as f64 / 1e6;
        assert!((0.3..60.0).contains(&age), "{shell}: {age}");
        // Another start leaves it alone.
        host.install_well("act start consul\nsettle start consul");
        assert_eq!(host.unit("consul").unwrap(), fact);
    }
}

#[test]
fn a_job_that_is_switched_off_or_between_two_states_says_so() {
    let host = Host::new("dash");
    host.write("jobs/known", "consul\nprometheus\n");
    host.write("root/etc/init/consul.override", "manual");
    let fact = host.unit("consul").unwrap();
    assert_eq!((fact.active.as_str(), fact.is_enabled(), fact.main_pid), ("inactive", false, 0));
    for (state, active) in [
        ("consul start/post-stop, process 12\n", "activating"),
        ("consul stop/killed, process 12\n", "deactivating"),
        ("consul start/running\n", "active"),
        ("consul start/running, process 4000000\n\tpost-start process 5\n", "active"),
    ] {
        host.write("jobs/consul.state", state);
        assert_eq!(host.unit("consul").unwrap().active, active, "{state}");
    }
}

#[test]
fn a_restart_stops_and_starts_since_only_that_takes_a_changed_file() {
    for shell in SHELLS {
        let host = Host::new(shell);
        host.write("jobs/known", "consul\nprometheus\n");
        host.install_well("act start consul\nact start prometheus\nsettle start consul\nsettle start prometheus");
        let before = host.pid("consul");
        host.write("jobs/calls", "");
        host.install_well("act restart consul\nsettle restart consul");
        assert_eq!(host.read("jobs/calls"), "stop consul\nstart consul\n", "{shell}");
        assert_ne!(host.pid("consul"), before);
        // One that keeps ending is stopped first as well, or its old file would go on.
        host.write("jobs/prometheus.state", "prometheus start/post-stop, process 1\n");
        host.write("jobs/calls", "");
        host.install_well("act start prometheus\nsettle start prometheus");
        assert_eq!(host.read("jobs/calls"), "stop prometheus\nstart prometheus\n", "{shell}");
    }
}

#[test]
fn a_stop_of_what_does_not_run_is_done() {
    for shell in SHELLS {
        let host = Host::new(shell);
        host.write("jobs/known", "consul\n");
        host.install_well("stop consul\nstop gone");
        assert_eq!(host.read("jobs/calls"), "", "{shell}");
        host.install_well("act start consul\nsettle start consul\nstop consul");
        assert_eq!(host.unit("consul").unwrap().active, "inactive", "{shell}");
        // Unlike a restart, it tells the job that this is for good.
        assert!(host.read("jobs/calls").ends_with("\nstop consul CLUSTERCTL_STOP=for-good\n"), "{shell}");
    }
}

#[test]
fn what_does_not_come_up_is_reported_with_its_last_words() {
    for shell in SHELLS {
        let host = Host::new(shell);
        host.write("jobs/known", "dies\nloops\nrefused\n");
        host.write("root/var/log/clusterctl/dies.log", "first\nport is taken\n");

        host.write("jobs/dies.command", "sleep 0.1");
        let (step, message, log) = host.install_badly("act start dies\nsettle start dies");
        assert_eq!((step.as_str(), message.as_str()), ("start dies", "the job dies is not running"), "{shell}");
        assert!(log.ends_with("port is taken"), "{shell}: {log}");

        let loops =
            "act start loops\necho 'loops start/post-stop, process 1' >\"$JOBS/loops.state\"\nsettle start loops";
        let respawns = loops.replace("act start loops\n", "act start loops\nwait\n");
        let (_, message, _) = host.install_badly(&respawns);
        assert_eq!(message, "the job loops ended again at once", "{shell}");

        host.write("jobs/refused.refuses", "");
        let (_, message, log) = host.install_badly("act start refused\nsettle start refused");
        assert_eq!(message, "the job refused did not start", "{shell}");
        assert!(log.contains("Job failed to start"), "{shell}: {log}");

        let (step, message, _) = host.install_badly("enable broken");
        assert_eq!(step, "enable broken", "{shell}");
        assert_eq!(message, "Upstart does not accept /etc/init/broken.conf");
    }
}

#[test]
fn a_reload_is_a_hangup_and_who_does_not_bear_it_is_reported() {
    for shell in SHELLS {
        let host = Host::new(shell);
        host.write("jobs/known", "bears\ndies\n");
        host.write("jobs/bears.command", "trap 'touch hup' HUP; while :; do sleep 0.05; done");
        host.install_well("act start bears\nact start dies\nsettle start bears\nsettle start dies");
        let before = host.pid("bears");
        host.install_well("act reload bears\nsettle reload bears");
        assert!(host.at("jobs/hup").exists() && host.pid("bears") == before, "{shell}");
        let (_, message, _) = host.install_badly("act reload dies\nsettle reload dies");
        assert!(message.contains("not running") || message.contains("told to reload"), "{shell}: {message}");
    }
}

/// A host without a usable `timeout` has limits all the same.
#[test]
fn nothing_waits_for_ever() {
    for shell in SHELLS {
        let host = Host::new(shell);
        for own in [false, true] {
            if own {
                put_program(&host.at("bin/timeout"), "#!/bin/sh\nexit 1\n");
            }
            // busybox' shell has a `timeout` of its own, which comes first.
            let said = host.install(
                "code=0\nlimited 1 sleep 60 || code=$?\n[ \"$code\" = 0 ] || say done 1\n\
                 limited 5 true && say done 2\ncode=0\nlimited 5 sh -c 'exit 3' || code=$?\nsay done $code",
            );
            let done: Vec<usize> = said
                .iter()
                .map(|line| match line {
                    InstallerLine::Done { changes } => *changes,
                    other => panic!("{other:?}"),
                })
                .collect();
            assert_eq!(done, [1, 2, 3], "{shell}");
        }
    }
}
