//! What the end-to-end tests share: a cluster of their own, and the binary run as a user runs it.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value as Json;
use tempfile::TempDir;

/// What the binary answered.
#[derive(Debug)]
pub struct Answer {
    pub status: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Answer {
    pub fn json(&self) -> Json {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("no JSON ({error}): {self}"))
    }

    #[track_caller]
    pub fn expect(self, status: i32) -> Self {
        assert_eq!(self.status, status, "{self}");
        self
    }
}

impl std::fmt::Display for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "exit {}\n--- stdout\n{}\n--- stderr\n{}", self.status, self.stdout, self.stderr)
    }
}

/// A sandbox cluster of this test's own, with local state of its own; gone when the test ends.
pub struct Cluster {
    pub name: String,
    pub dir: TempDir,
}

impl Cluster {
    /// A name that no other test uses; leftovers of an earlier run of the same test are removed first.
    pub fn new(name: &str) -> Self {
        assert!(is_root(), "this test boots real hosts: run it as root (scripts/test does)");
        let cluster = Self { name: name.to_owned(), dir: tempfile::tempdir().unwrap() };
        cluster.run(&["down"]).expect(0);
        cluster
    }

    /// A cluster that is made of another one's machines; only its local state is its own.
    pub fn beside(_machines: &Self, name: &str) -> Site {
        Site(Self { name: name.to_owned(), dir: tempfile::tempdir().unwrap() })
    }

    /// With something on standard input.
    pub fn run_with_input(&self, file: &Path, args: &[&str], input: &str) -> Answer {
        let at = args.iter().position(|arg| *arg == "--").unwrap_or(args.len());
        let mut all = args.to_vec();
        all.splice(at..at, ["-f", file.to_str().unwrap()]);
        let mut command = self.command(&all);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        to_answer(child.wait_with_output().unwrap())
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The binary with this cluster's state folder, and nothing of the caller's terminal.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = binary();
        command.env("CLUSTERCTL_STATE_DIR", self.path("state")).current_dir(self.dir.path()).args(args);
        command
    }

    /// `clusterctl VERB … --sandbox --cluster NAME`.
    pub fn run(&self, args: &[&str]) -> Answer {
        let mut all = args.to_vec();
        // Before a `--`, behind which all belongs to the host's command.
        let at = all.iter().position(|arg| *arg == "--").unwrap_or(all.len());
        all.splice(at..at, ["--sandbox", "--cluster", &self.name]);
        answer(self.command(&all))
    }

    /// `clusterctl VERB … -f FILE`.
    pub fn run_with(&self, file: &Path, args: &[&str]) -> Answer {
        let mut all = args.to_vec();
        let at = all.iter().position(|arg| *arg == "--").unwrap_or(all.len());
        all.splice(at..at, ["-f", file.to_str().unwrap()]);
        answer(self.command(&all))
    }

    /// Writes a spec for hosts of the sandbox; `more` is whatever else stands in it.
    pub fn spec(&self, more: &str) -> PathBuf {
        let path = self.path("cluster.toml");
        let text = format!("[cluster]\nname = \"{}\"\nprovider = \"sandbox\"\n{more}", self.name);
        std::fs::write(&path, text).unwrap();
        path
    }

    /// Each service's process on each host, which changes when it restarts.
    pub fn processes(&self) -> Vec<(String, String, u64)> {
        let status = self.run(&["status", "--output", "json"]).expect(0).json();
        let mut found = Vec::new();
        for host in status["hosts"].as_array().unwrap() {
            for unit in host["units"].as_array().unwrap() {
                let text = |value: &Json| value.as_str().unwrap().to_owned();
                let started = unit["started_monotonic_us"].as_u64().unwrap();
                assert_ne!(started, 0, "{unit}");
                found.push((text(&host["host"]), text(&unit["unit"]), started));
            }
        }
        found
    }

    /// Names of the hosts whose node_exporter is `up`, as Prometheus says it.
    pub fn scraped(&self) -> Vec<String> {
        let targets = self.run(&["targets", "--output", "json"]).json();
        let targets = targets["targets"].as_array().unwrap().clone();
        let up = targets.iter().filter(|t| t["job"] == "node" && t["health"] == "up");
        let mut names: Vec<String> = up.map(|t| t["instance"].as_str().unwrap().to_owned()).collect();
        names.sort();
        names
    }
}

/// Has no hosts of its own to take away.
pub struct Site(Cluster);

impl std::ops::Deref for Site {
    type Target = Cluster;
    fn deref(&self) -> &Cluster {
        &self.0
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let answer = self.run(&["down"]);
        if !std::thread::panicking() {
            assert_eq!(answer.status, 0, "{answer}");
        }
    }
}

pub fn binary() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_clusterctl"));
    command
        .env_remove("RUST_LOG")
        .env_remove("CI")
        .env("NO_COLOR", "1")
        .env("AWS_EC2_METADATA_DISABLED", "true")
        .stdin(Stdio::null());
    command
}

pub fn answer(mut command: Command) -> Answer {
    to_answer(command.output().unwrap())
}

pub fn to_answer(output: std::process::Output) -> Answer {
    Answer {
        status: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

/// An answer without what differs from run to run: times of day, durations, sizes, addresses,
/// and what only a slow run says (how long a step took, signs of life).
pub fn redacted(answer: &Answer) -> String {
    let mut text = answer.to_string();
    for (pattern, with) in [
        (r"\d\d:\d\d:\d\d", "[TIME]"),
        (r"\d+\.\d+\.\d+\.\d+", "[ADDRESS]"),
        (r" \(\d+ (s|min)( \d+ s)?\)", ""),
        (r"(?m)^\[TIME\]  .*(  | )still .*: .*\n", ""),
        (r"(?m)^\[TIME\]  .*: [\d.]+( kB| MB| B)? of [\d.]+ (kB|MB|B)\n", ""),
        (r"\b\d+(\.\d+)? (ms|s|min)\b( ago)?", "[DURATION]"),
        (r"\b\d+(\.\d+)? (kB|MB)\b", "[SIZE]"),
        // Columns are as wide as what stands in them.
        (r"  +", "  "),
    ] {
        text = regex::Regex::new(pattern).unwrap().replace_all(&text, with).into_owned();
    }
    text
}

/// A program of the test's own. Written by a child: a file that this process has open for writing is open in whatever
/// another test's thread starts in that moment, too, and then cannot be run ("Text file busy").
pub fn put_program(at: &std::path::Path, text: impl AsRef<[u8]>) {
    let write = ["-c", "cat >\"$0\" && chmod 755 \"$0\""];
    let mut child = Command::new("sh").args(write).arg(at).stdin(std::process::Stdio::piped()).spawn().unwrap();
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), text.as_ref()).unwrap();
    assert!(child.wait().unwrap().success(), "{}", at.display());
}

pub fn is_root() -> bool {
    let output = Command::new("id").arg("-u").output().unwrap();
    output.stdout == b"0\n"
}

/// Asks until it is so, or panics with what was seen last.
#[track_caller]
pub fn eventually<T: std::fmt::Debug>(what: &str, ask: impl FnMut() -> Result<(), T>) {
    within(Duration::from_secs(60), what, ask);
}

/// The same, for what takes its time.
#[track_caller]
pub fn within<T: std::fmt::Debug>(limit: Duration, what: &str, mut ask: impl FnMut() -> Result<(), T>) {
    let deadline = Instant::now() + limit;
    loop {
        match ask() {
            Ok(()) => return,
            Err(seen) if Instant::now() > deadline => panic!("{what}: {seen:?}"),
            Err(_) => std::thread::sleep(Duration::from_millis(100)),
        }
    }
}

/// Everything on this machine that belongs to the cluster and should not outlive it.
pub fn traces(cluster: &str) -> Vec<String> {
    let mut found = Vec::new();
    let root = format!("/clusterctl-sandbox/clusters/{cluster}");
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    found.extend(mounts.lines().filter(|line| line.contains(&root)).map(|line| format!("mount: {line}")));
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let command = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let command = String::from_utf8_lossy(&command).replace('\0', " ");
        if command.contains(&root) {
            found.push(format!("process: {command}"));
        }
    }
    let folder = PathBuf::from("/var/lib/clusterctl-sandbox/clusters").join(cluster);
    if folder.exists() {
        found.push(format!("folder: {}", folder.display()));
    }
    found
}
