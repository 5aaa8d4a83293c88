//! clusterctl in a pipeline: without anybody to ask, in its time, with a report; and the files of docs/ci, whose shell
//! parts are run as they stand.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use clap::Parser as _;
use clusterctl::cli::Cli;
use serde_yaml_ng::Value as Yaml;

use crate::support::{Answer, Cluster, answer, binary, eventually, redacted, traces};

pub fn document(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/ci").join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

pub fn yaml(name: &str) -> Yaml {
    serde_yaml_ng::from_str(&document(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// A step of the workflow by its name.
fn github(step: &str) -> String {
    let workflow = yaml("github-actions.yml");
    let steps = workflow["jobs"]["cluster"]["steps"].as_sequence().unwrap().clone();
    let found = steps.iter().find(|one| one["name"] == step).unwrap_or_else(|| panic!("no step {step}"));
    found["run"].as_str().unwrap().to_owned()
}

/// A job's lines, as the runner joins them.
fn gitlab(job: &str, key: &str) -> String {
    let lines = yaml("gitlab-ci.yml")[job][key].as_sequence().unwrap_or_else(|| panic!("no {key} in {job}")).clone();
    lines.iter().map(|line| format!("{}\n", line.as_str().unwrap())).collect()
}

/// What stands between the quotes of each `sh`.
fn jenkins() -> Vec<String> {
    let pattern = regex::Regex::new(r"(?s)\bsh '''(.*?)'''|\bsh '([^'\n]+)'").unwrap();
    let text = document("Jenkinsfile");
    let found = pattern.captures_iter(&text);
    found.map(|found| found.get(1).or(found.get(2)).unwrap().as_str().to_owned()).collect()
}

/// A folder with a spec for one host on this machine where nothing listens, or something that says nothing.
struct Folder(tempfile::TempDir);

impl Folder {
    fn new(port: u16) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let text = format!(
            "[cluster]\nname = \"shop\"\nprovider = \"inventory\"\n[[host]]\nname = \"a\"\nrole = \"server\"\n\
             address = \"127.0.0.1\"\nport = {port}\n"
        );
        std::fs::write(folder.path().join("cluster.toml"), text).unwrap();
        Self(folder)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = binary();
        command.current_dir(self.0.path()).args(args).env("CI", "true").env("HOME", self.path("home"));
        for (variable, folder) in [("CLUSTERCTL_STATE_DIR", "state"), ("CLUSTERCTL_CACHE_DIR", "cache")] {
            command.env(variable, self.path(folder));
        }
        command
    }

    fn run(&self, args: &[&str]) -> Answer {
        answer(self.command(args))
    }

    /// The lock as another clusterctl holds it.
    fn lock(&self) -> File {
        std::fs::create_dir_all(self.path("state/shop")).unwrap();
        let mut file = File::create(self.path("state/shop/lock")).unwrap();
        file.lock().unwrap();
        file.write_all(b"`clusterctl up` (process 4711) since 2026-11-25 02:16:38 UTC").unwrap();
        file
    }
}

/// The report as a parser that is none of ours reads it: each case with its group, and how it is.
fn junit(file: &Path) -> String {
    let program = "import sys, xml.etree.ElementTree as tree\n\
                   for suite in tree.parse(sys.argv[1]).getroot():\n\
                   \x20   print(suite.get('name'))\n\
                   \x20   for case in suite:\n\
                   \x20       print(case.get('classname'), '|', case.get('name'), '|', ' '.join(one.tag for one in case))";
    let output = Command::new("python3").args(["-c", program]).arg(file).output().expect("these tests need python3");
    assert!(output.status.success(), "{}: {}", file.display(), String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn the_second_pipeline_is_told_of_the_first() {
    let folder = Folder::new(1);
    let held = folder.lock();
    insta::assert_snapshot!("the_lock_is_held", redacted(&folder.run(&["up", "--yes", "--junit", "up.xml"])));
    assert_eq!(junit(&folder.path("up.xml")), "clusterctl up shop\ncommand | clusterctl up | failure\n");
    let waited = folder.run(&["up", "--yes", "--lock-timeout", "300ms"]);
    insta::assert_snapshot!("the_lock_is_not_let_go_of", redacted(&waited));
    // It ends, and the other one begins: there it finds that nothing listens.
    let waits = folder.command(&["up", "--yes", "--lock-timeout", "1m", "--connect-timeout", "1s"]);
    let waits = std::thread::spawn(move || answer(waits));
    std::thread::sleep(Duration::from_millis(500));
    drop(held);
    let got = waits.join().unwrap().expect(3);
    assert!(got.stderr.contains("waiting for its end, 1m at most") && got.stdout.contains("refused"), "{got}");
}

#[test]
fn a_command_ends_in_its_time() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let folder = Folder::new(silent.local_addr().unwrap().port());
    let args = ["--yes", "--timeout", "1s", "--junit", "report.xml"];
    let up = folder.run(&[&["up"], &args[..]].concat()).expect(124);
    for said in ["--timeout 1s is over: stopping", "error: the time of --timeout 1s was over", "hint: run it again"] {
        assert!(up.stderr.contains(said), "no {said}: {up}");
    }
    assert!(up.stdout.contains("interrupted: connect"), "{up}");
    insta::assert_snapshot!("junit_of_an_up_in_vain", junit(&folder.path("report.xml")));
    let status = folder.run(&[&["status"], &args[..]].concat()).expect(124);
    assert!(status.stderr.contains("hint: give it longer"), "{status}");
    insta::assert_snapshot!("junit_of_a_status_in_vain", junit(&folder.path("report.xml")));
    let _held = folder.lock();
    let locked = folder.run(&["up", "--yes", "--lock-timeout", "1h", "--timeout", "1s"]).expect(124);
    assert!(locked.stderr.contains("interrupted while waiting for the cluster's lock"), "{locked}");
}

#[test]
fn an_interrupted_command_leaves_its_report() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let folder = Folder::new(silent.local_addr().unwrap().port());
    for verb in ["up", "status"] {
        let mut command = folder.command(&[verb, "--yes", "--output", "json", "--junit", "report.xml"]);
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        // The connection is there, so it waits for what the host says.
        let _connection = silent.accept().unwrap();
        let killed = Command::new("kill").args(["-TERM", &child.id().to_string()]).status().unwrap();
        assert!(killed.success());
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(130), "{verb}: {}", String::from_utf8_lossy(&output.stderr));
        let report = junit(&folder.path("report.xml"));
        assert!(report.contains(&format!("command | clusterctl {verb} | error\n")), "{report}");
        let shown: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(shown["hosts"].as_array().unwrap().len(), 1, "{shown}");
        for line in String::from_utf8(output.stderr).unwrap().lines() {
            serde_json::from_str::<serde_json::Value>(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        }
    }
}

/// Some servers lend a job a terminal; `script` does here.
#[test]
fn a_terminal_with_nobody_before_it() {
    let folder = Folder::new(1);
    let on_terminal = |ci: &str, args: &[&str]| {
        let inner = folder.command(args);
        let words = std::iter::once(inner.get_program()).chain(inner.get_args()).map(|word| word.to_str().unwrap());
        let mut command = Command::new("script");
        command.args(["-qec", &shlex::try_join(words).unwrap(), "/dev/null"]).current_dir(folder.path("."));
        for (name, value) in inner.get_envs().filter_map(|(name, value)| Some((name, value?))) {
            command.env(name, value);
        }
        command.env_remove("NO_COLOR").env("TERM", "xterm").env("CI", ci).stdin(Stdio::null());
        answer(command)
    };
    let args = ["plan", "-f", "nowhere.toml"];
    for (ci, colours) in [("", true), ("false", true), ("true", false), ("1", false)] {
        let said = on_terminal(ci, &args).expect(64);
        assert!(said.stdout.contains("there is no spec"), "{said}");
        assert_eq!(said.stdout.contains('\x1b'), colours, "CI={ci}: {said}");
    }
    let always = on_terminal("true", &[&args[..], &["--color", "always"]].concat()).expect(64);
    assert!(always.stdout.contains('\x1b'), "{always}");
    let bars = on_terminal("true", &["status", "--connect-timeout", "1s"]).expect(3);
    assert!(bars.stdout.contains("Reading the hosts' state") && !bars.stdout.contains('\x1b'), "{bars}");
    let asked = on_terminal("true", &["status", "--ask-sudo-password"]).expect(64);
    assert!(asked.stdout.contains("CI is set") && !asked.stdout.contains("Password"), "{asked}");
}

#[test]
fn where_no_report_can_be_written_nothing_begins() {
    let folder = Folder::new(1);
    std::fs::write(folder.path("file"), "").unwrap();
    let refused = folder.run(&["up", "--yes", "--junit", "file/up.xml"]).expect(1);
    assert!(refused.stderr.contains("writing --junit file/up.xml"), "{refused}");
    assert!(!folder.path("state").exists(), "something began");
    folder.run(&["up", "--yes", "--junit", "state/.."]).expect(64);
}

/// Each command line of the documents, as our own parser reads it.
#[test]
fn every_command_line_is_understood() {
    let names = ["github-actions.yml", "gitlab-ci.yml", "Jenkinsfile", "README.md"];
    let pattern = regex::Regex::new(r"(?m)^\s*(?:- )?(clusterctl [a-z][^>|\n]*)|`(clusterctl [^`]+)`").unwrap();
    for name in names {
        let (text, mut seen) = (document(name), 0);
        for found in pattern.captures_iter(&text) {
            let line = found.get(1).or(found.get(2)).unwrap().as_str();
            let words = shlex::split(line).unwrap();
            // With a name of the suite's (`clusterctl up shop`) among them, which is no command line.
            if words.iter().any(|word| word == "shop") {
                continue;
            }
            // Read only: some of them would fetch from far away.
            if let Err(error) = Cli::try_parse_from(&words) {
                panic!("{name}: {line}: {error}");
            }
            seen += 1;
        }
        assert!(seen >= 3, "{name}: {seen} command lines found");
    }
}

#[test]
fn what_the_files_promise() {
    let workflow = yaml("github-actions.yml");
    assert_eq!(workflow["permissions"]["id-token"], "write");
    assert_eq!(workflow["concurrency"]["cancel-in-progress"], false);
    let pipeline = yaml("gitlab-ci.yml");
    assert_eq!(pipeline["plan"]["allow_failure"]["exit_codes"][0], 2);
    let base = &pipeline[".clusterctl"];
    let token = base["variables"]["AWS_WEB_IDENTITY_TOKEN_FILE"].as_str().unwrap();
    assert!(
        token.ends_with("/.aws-token")
            && gitlab(".clusterctl", "before_script").contains("> \"$AWS_WEB_IDENTITY_TOKEN_FILE\"")
    );
    let mut scripts = jenkins();
    assert_eq!(scripts.len(), 3, "{scripts:?}");
    scripts.extend(["clusterctl and its key", "plan", "up", "status"].map(github));
    scripts.extend([gitlab(".clusterctl", "before_script"), gitlab("plan", "script"), gitlab("up", "script")]);
    for script in scripts {
        let mut child = Command::new("bash").arg("-n").stdin(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(script.as_bytes()).unwrap();
        assert!(child.wait().unwrap().success(), "{script}");
    }
}

/// A job on a runner of this machine, with the cluster's folder as its workspace.
fn job(cluster: &Cluster, home: &Path, shell: &[&str], script: &str) -> Answer {
    let mut command = Command::new(shell[0]);
    command.args(&shell[1..]).arg(script).current_dir(cluster.dir.path()).stdin(Stdio::null());
    let path = format!("{}:{}", home.join(".local/bin").display(), std::env::var("PATH").unwrap());
    command.env("PATH", path).env("CI", "true").env("CLUSTERCTL_STATE_DIR", cluster.path("state"));
    command.env("GITHUB_STEP_SUMMARY", cluster.path("summary.md")).env("KEY", cluster.path("cluster.toml"));
    answer(command)
}

/// The three pipelines one after the other on one cluster: the first makes it, the others find nothing to do.
#[test]
fn the_pipelines_run() {
    let cluster = Cluster::new("e2e-ci");
    cluster.spec("[sandbox]\nservers = 1\nnodes = 1\n");
    let home = cluster.path("home");
    let github_shell = ["bash", "-e", "-c"];
    let mut fetch = Command::new("bash");
    fetch.args(["-e", "-c", &github("clusterctl and its key")]).env("HOME", &home).env("KEY", "a key");
    fetch.env("URL", format!("file://{}", env!("CARGO_BIN_EXE_clusterctl"))).env("GITHUB_PATH", cluster.path("paths"));
    answer(fetch).expect(0);
    assert_eq!(std::fs::read_to_string(home.join(".ssh/cluster")).unwrap(), "a key\n");
    let folder = std::fs::read_to_string(cluster.path("paths")).unwrap();
    assert_eq!(Path::new(folder.trim()), home.join(".local/bin"));
    let step = |name: &str| job(&cluster, &home, &github_shell, &github(name));

    let plan = step("plan").expect(0);
    assert!(plan.stdout.contains("e2e-ci-node-1") && plan.stdout.contains("to launch"), "{plan}");
    assert!(std::fs::read_to_string(cluster.path("summary.md")).unwrap().contains("e2e-ci-server-1"));
    assert_eq!(junit(&cluster.path("reports/plan.xml")), "clusterctl plan e2e-ci\ncommand | clusterctl plan | \n");
    let up = step("up").expect(0);
    assert!(!up.stderr.contains('\x1b'), "{up}");
    for line in up.stderr.lines() {
        serde_json::from_str::<serde_json::Value>(line).unwrap_or_else(|error| panic!("{error}: {line}"));
    }
    insta::assert_snapshot!("junit_of_up", junit(&cluster.path("reports/up.xml")));
    step("status").expect(0);
    insta::assert_snapshot!("junit_of_status", junit(&cluster.path("reports/status.xml")));
    let processes = cluster.processes();

    for (shell, script) in [("plan", gitlab("plan", "script")), ("up", gitlab("up", "script"))] {
        job(&cluster, &home, &["bash", "-e", "-c"], &script).expect(0);
        assert!(cluster.path(&format!("reports/{shell}.xml")).exists());
    }
    for script in jenkins() {
        job(&cluster, &home, &["sh", "-xe", "-c"], &script).expect(0);
    }
    assert_eq!(cluster.processes(), processes, "a pipeline restarted something");

    // A host is gone from Consul: the next status says which, in the file too.
    cluster.run(&["exec", "--host", "e2e-ci-node-1", "--", "systemctl stop consul"]).expect(0);
    eventually("the report names it", || {
        let status = step("status");
        let mut text = String::new();
        File::open(cluster.path("reports/status.xml")).unwrap().read_to_string(&mut text).unwrap();
        let named = junit(&cluster.path("reports/status.xml")).contains("consul | e2e-ci-node-1 is alive | failure");
        if status.status == 3 && named { Ok(()) } else { Err(text) }
    });
    cluster.run(&["down"]).expect(0);
    assert_eq!(traces("e2e-ci"), Vec::<String>::new());
}

/// A run whose time is over leaves what the next one goes on with.
#[test]
fn a_run_out_of_time_is_run_again() {
    let cluster = Cluster::new("e2e-late");
    let up = |timeout: &str| cluster.run(&["up", "--timeout", timeout, "--output", "json", "--junit", "up.xml"]);
    let ends: Vec<i32> = ["300ms", "2s", "4s"].iter().map(|timeout| up(timeout).status).collect();
    assert!(ends[0] == 124 && ends.iter().all(|status| [0, 124].contains(status)), "{ends:?}");
    let up = up("5m").expect(0);
    assert_eq!(up.json()["verified"]["alive"], 3, "{up}");
    assert!(junit(&cluster.path("up.xml")).contains("command | clusterctl up | \n"));
    cluster.run(&["plan"]).expect(0);
    cluster.run(&["down"]).expect(0);
    assert_eq!(traces("e2e-late"), Vec::<String>::new());
}
