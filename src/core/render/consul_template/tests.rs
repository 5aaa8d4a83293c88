//! The script that makes Prometheus read a new configuration, run by real shells in a folder of its own.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;
use tera::Context;

use crate::core::render::Renderer;
use crate::core::render::tests::put_program;
use crate::core::templates::Overrides;

const SHELLS: [&str; 2] = ["dash", "busybox"];

/// A folder with the script, a promtool and a Prometheus of the test's own.
struct Place {
    dir: TempDir,
    shell: &'static str,
}

impl Place {
    /// `promtool`: the body of a script that is given the file; `None`: of a version that has none.
    fn new(shell: &'static str, promtool: Option<&str>) -> Self {
        let place = Self { dir: tempfile::tempdir().unwrap(), shell };
        let words = promtool.map(|body| {
            place.program("promtool", &format!("#!/bin/sh\n{body}\n"));
            (place.name("promtool"), ["check", "config"])
        });
        let mut context = Context::new();
        context.insert("promtool", &words);
        context.insert("scraped_names", &["web"]);
        context.insert("can", &std::collections::BTreeMap::from([("consul_sd_refresh", true)]));
        context.insert("enabled", &place.name("enabled"));
        for (key, file) in [("prometheus", "bin prometheus"), ("config", "it's.yml"), ("candidate", "new $HOME.yml")] {
            context.insert(key, &place.name(file));
        }
        let script = Renderer::new(&Overrides::new()).unwrap().text("consul-template/reload-prometheus.sh", &context);
        place.program("reload", &script.unwrap());
        fs::write(place.config(), "old").unwrap();
        place
    }

    fn at(&self, file: &str) -> PathBuf {
        self.dir.path().join(file)
    }

    fn name(&self, file: &str) -> String {
        self.at(file).to_str().unwrap().to_owned()
    }

    fn program(&self, file: &str, text: &str) {
        put_program(&self.at(file), text);
    }

    fn config(&self) -> PathBuf {
        self.at("it's.yml")
    }

    fn candidate(&self) -> PathBuf {
        self.at("new $HOME.yml")
    }

    fn command(&self) -> Command {
        let mut command = Command::new(self.shell);
        if self.shell == "busybox" {
            command.arg("sh");
        }
        command.arg(self.at("reload")).stdin(Stdio::null());
        command
    }

    fn reload(&self) -> Output {
        self.command().output().unwrap_or_else(|error| panic!("{} (scripts/install-needs tests): {error}", self.shell))
    }

    /// A real process whose program is where Prometheus' is; it says what signals it gets. It has no children, which
    /// for a moment would be the same program.
    fn prometheus(&self) -> Child {
        fs::copy(fs::canonicalize("/bin/dash").unwrap(), self.at("bin prometheus")).unwrap();
        let log = self.name("log");
        let script = format!("trap 'echo hup >>\"{log}\"' HUP; echo up >\"{log}\"; while :; do read -r line; done");
        // Below `nohup` the tests ignore the signal, and a shell cannot trap what was ignored before it began.
        let mut command = Command::new("env");
        command.arg("--default-signal=HUP").arg(self.at("bin prometheus"));
        let child = command.args(["-c", &script]).stdin(Stdio::piped()).spawn().unwrap();
        self.eventually("up\n");
        child
    }

    /// Waits until the process has said just this.
    fn eventually(&self, said: &str) {
        let begun = Instant::now();
        while fs::read_to_string(self.at("log")).unwrap_or_default() != said {
            assert!(begun.elapsed() < Duration::from_secs(20), "{}: it never said {said:?}", self.shell);
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn assert_refused(&self, output: &Output, why: &[&str]) {
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{}: {said}", self.shell);
        for why in why {
            assert!(said.contains(why), "{}: no {why}: {said}", self.shell);
        }
        assert_eq!(fs::read_to_string(self.config()).unwrap(), "old", "{}", self.shell);
        self.assert_tidy();
        assert!(!self.candidate().exists(), "{}: it would not be written again", self.shell);
    }

    fn assert_tidy(&self) {
        let left = fs::read_dir(self.dir.path()).unwrap().map(|entry| entry.unwrap().file_name());
        let left: Vec<_> = left.filter(|name| name.to_string_lossy().ends_with(".checked")).collect();
        assert!(left.is_empty(), "{}: {left:?}", self.shell);
    }
}

/// Is what it was given good?
const JUDGE: &str = "echo \"judged $*\"; grep -q good \"$3\"";

#[test]
fn a_good_configuration_is_put_in_place_and_prometheus_is_told() {
    for shell in SHELLS {
        let place = Place::new(shell, Some(JUDGE));
        let mut prometheus = place.prometheus();
        // Twice in a row, and the second time nothing differs: the first may have ended before its signal.
        for said in ["up\nhup\n", "up\nhup\nhup\n"] {
            fs::write(place.candidate(), "good").unwrap();
            let output = place.reload();
            assert!(output.status.success(), "{shell}: {output:?}");
            place.eventually(said);
        }
        assert!(prometheus.try_wait().unwrap().is_none(), "{shell}: it ended");
        prometheus.kill().unwrap();
        prometheus.wait().unwrap();
        assert_eq!(fs::read_to_string(place.config()).unwrap(), "good", "{shell}");
        assert_eq!(fs::metadata(place.config()).unwrap().permissions().mode() & 0o7777, 0o640, "{shell}");
        // Consul Template compares the next one with it.
        assert!(place.candidate().exists(), "{shell}");
        place.assert_tidy();
    }
}

/// A signal in its first moments would end it.
#[test]
fn a_prometheus_that_has_just_started_is_told_later() {
    let place = Place::new("dash", Some(JUDGE));
    let mut prometheus = place.prometheus();
    let begun = Instant::now();
    fs::write(place.candidate(), "good").unwrap();
    assert!(place.reload().status.success());
    assert!(begun.elapsed() >= Duration::from_secs(1), "{:?}", begun.elapsed());
    place.eventually("up\nhup\n");
    prometheus.kill().unwrap();
    prometheus.wait().unwrap();
}

#[test]
fn what_promtool_refuses_is_thrown_away_with_its_words() {
    for shell in SHELLS {
        let place = Place::new(shell, Some(JUDGE));
        fs::write(place.candidate(), "bad").unwrap();
        place.assert_refused(
            &place.reload(),
            &["judged check config ", "promtool refuses", "the old configuration stays"],
        );
        // It is mended.
        fs::write(place.candidate(), "good").unwrap();
        assert!(place.reload().status.success(), "{shell}");
        assert_eq!(fs::read_to_string(place.config()).unwrap(), "good", "{shell}");
    }
}

#[test]
fn no_prometheus_and_no_promtool_are_fine_and_no_configuration_is_not() {
    for shell in SHELLS {
        let place = Place::new(shell, None);
        for empty in [false, true] {
            if empty {
                fs::write(place.candidate(), "").unwrap();
            }
            place.assert_refused(&place.reload(), &["there is no new configuration"]);
        }
        fs::write(place.candidate(), "whatever").unwrap();
        assert!(place.reload().status.success(), "{shell}");
        assert_eq!(fs::read_to_string(place.config()).unwrap(), "whatever", "{shell}");
    }
}

/// A file that changes while it is judged is not put in place unjudged.
#[test]
fn what_was_judged_is_what_is_put_in_place() {
    for shell in SHELLS {
        let place = Place::new(shell, Some("echo bad >\"$(dirname \"$3\")/new \\$HOME.yml\"; grep -q good \"$3\""));
        fs::write(place.candidate(), "good").unwrap();
        assert!(place.reload().status.success(), "{shell}");
        assert_eq!(fs::read_to_string(place.config()).unwrap(), "good", "{shell}");
        assert_eq!(fs::read_to_string(place.candidate()).unwrap(), "bad\n", "{shell}");
    }
}

/// What stands in the way of the copy, as a full disk would.
#[test]
fn a_copy_that_fails_changes_nothing() {
    for shell in SHELLS {
        let place = Place::new(shell, Some(JUDGE));
        fs::create_dir(place.at("it's.yml.checked")).unwrap();
        fs::create_dir(place.at("it's.yml.checked/new $HOME.yml")).unwrap();
        fs::write(place.candidate(), "good").unwrap();
        let output = place.reload();
        assert_eq!(output.status.code(), Some(1), "{shell}: {output:?}");
        assert!(String::from_utf8_lossy(&output.stderr).contains("cannot be copied"), "{shell}: {output:?}");
        assert_eq!(fs::read_to_string(place.config()).unwrap(), "old", "{shell}");
    }
}

/// A promtool that hangs is ended, in `limit` of the script's seconds; here it is told to stop before.
#[test]
fn told_to_stop_it_leaves_nothing_half_done() {
    for shell in SHELLS {
        let place = Place::new(shell, Some(": >\"$0.began\"; exec sleep 3"));
        fs::write(place.candidate(), "good").unwrap();
        let child = place.command().stderr(Stdio::piped()).spawn().unwrap();
        while !place.at("promtool.began").exists() {
            std::thread::sleep(Duration::from_millis(10));
        }
        assert!(Command::new("kill").arg(child.id().to_string()).status().unwrap().success());
        place.assert_refused(&child.wait_with_output().unwrap(), &["it was told to stop"]);
    }
}

#[test]
fn a_promtool_that_hangs_is_ended() {
    for shell in SHELLS {
        let place = Place::new(shell, Some("exec sleep 60"));
        // The same with a shorter limit.
        let script = fs::read_to_string(place.at("reload")).unwrap();
        assert_eq!(script.matches("KILL 20").count(), 2);
        place.program("reload", &script.replace("KILL 20", "KILL 1"));
        fs::write(place.candidate(), "good").unwrap();
        let begun = Instant::now();
        place.assert_refused(&place.reload(), &["took longer than"]);
        assert!(begun.elapsed() < Duration::from_secs(30), "{shell}");
    }
}

/// When Consul Template goes for good, Prometheus keeps its targets and begins to ask Consul.
#[test]
fn prometheus_begins_to_ask_consul_when_consul_template_goes_for_good() {
    for shell in SHELLS {
        let place = Place::new(shell, Some("grep -q scrape_configs \"$3\""));
        let ours = "scrape_configs:\n  - job_name: node\n    static_configs:\n      - targets: ['a:9100']\n";
        let config = || fs::read_to_string(place.config()).unwrap();
        fs::write(place.config(), ours).unwrap();
        std::os::unix::fs::symlink("/nowhere", place.at("enabled")).unwrap();
        let hand_over = || place.command().arg("--hand-over").output().unwrap();
        assert!(hand_over().status.success(), "{shell}");
        assert_eq!(config(), ours, "{shell}: it will start again");

        fs::remove_file(place.at("enabled")).unwrap();
        // Twice, as after a run that was killed.
        for _ in 0..2 {
            let output = hand_over();
            assert!(output.status.success(), "{shell}: {output:?}");
            let yaml: serde_yaml_ng::Value = serde_yaml_ng::from_str(&config()).unwrap();
            let jobs = yaml["scrape_configs"].as_sequence().unwrap();
            assert_eq!(jobs.len(), 2, "{shell}: {yaml:?}");
            assert_eq!(jobs[0]["static_configs"][0]["targets"][0], "a:9100", "{shell}");
            let asked: Vec<_> = jobs[1]["consul_sd_configs"].as_sequence().unwrap().iter().collect();
            assert_eq!((&asked[0]["services"][0], &asked[1]["services"][0]), (&"node-exporter".into(), &"web".into()));
            assert_eq!(jobs[1]["relabel_configs"][0]["action"], "drop", "{shell}");
        }

        // A configuration of somebody's own that cannot be continued so stays as it is.
        fs::write(place.config(), "mine").unwrap();
        assert_eq!(hand_over().status.code(), Some(1), "{shell}");
        assert_eq!(config(), "mine", "{shell}");
        place.assert_tidy();
    }
}

#[test]
fn shellcheck_finds_nothing() {
    for promtool in [None, Some("exit 0")] {
        let place = Place::new("dash", promtool);
        // The file's name has a dollar sign on purpose.
        let arguments = ["--shell=sh", "--exclude=SC2016"];
        let output = Command::new("shellcheck").args(arguments).arg(place.at("reload")).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    }
}
