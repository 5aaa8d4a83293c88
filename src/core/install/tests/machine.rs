//! A folder that stands for a host, and what is done on it.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};

use tempfile::TempDir;

use super::super::bundle::{On, bundle_at};
use super::super::facts::facts_script;
use super::path;
use crate::core::install::{InstallerLine, parse_facts, parse_line};
use crate::model::artifact::{Compression, Executable, Packed, Sha256};
use crate::model::facts::{Facts, FactsQuery};
use crate::model::file::{Check, FileSource, HostPath, ManagedDir, ManagedFile, Word};
use crate::model::host::Role;
use crate::model::init::Init;
use crate::model::name::HostName;
use crate::model::plan::{Action, FileChange, HostPlan, Reason, Step};
use crate::model::stream::Part;

/// The shells that hosts have.
pub(super) const SHELLS: [&str; 3] = ["dash", "busybox", "bash"];

/// A folder that stands for a host, and the shell it has.
pub(super) struct Machine {
    pub(super) dir: TempDir,
    pub(super) shell: &'static str,
    /// Does its init system sleep?
    pub(super) asleep: bool,
}

impl Machine {
    pub(super) fn new(shell: &'static str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        for folder in ["bin", "root/var/lib", "root/usr/local/bin", "cache"] {
            fs::create_dir_all(dir.path().join(folder)).unwrap();
        }
        let output = Command::new("sh").args(["-c", &format!("command -v {shell}")]).output().unwrap();
        assert!(output.status.success(), "{shell} is not installed: scripts/install-needs tests");
        let program = String::from_utf8(output.stdout).unwrap();
        std::os::unix::fs::symlink(program.trim(), dir.path().join("bin/sh")).unwrap();
        Self { dir, shell, asleep: false }
    }

    /// Programs come as zstd to the hosts that have it, which those with busybox alone do not.
    pub(super) fn compression(&self) -> Compression {
        if self.shell == "busybox" { Compression::Gzip } else { Compression::Zstd }
    }

    pub(super) fn root(&self) -> String {
        self.dir.path().join("root").to_str().unwrap().to_owned()
    }

    pub(super) fn at(&self, path: &str) -> PathBuf {
        PathBuf::from(self.root() + path)
    }

    pub(super) fn read(&self, path: &str) -> String {
        fs::read_to_string(self.at(path)).unwrap()
    }

    /// A line as sshd runs it, the machine's own shell being `sh`.
    pub(super) fn spawn(&self, line: &str, stdin: Vec<u8>) -> Child {
        let path = format!("{}:{}", self.dir.path().join("bin").display(), std::env::var("PATH").unwrap());
        let mut child = Command::new(self.dir.path().join("bin/sh"))
            .args(["-c", line])
            .env("PATH", path)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut pipe = child.stdin.take().unwrap();
        // Written beside, or a program that answers before it has read all would lock both sides.
        std::thread::spawn(move || drop(pipe.write_all(&stdin)));
        child
    }

    pub(super) fn run(&self, line: &str, stdin: Vec<u8>) -> Output {
        self.spawn(line, stdin).wait_with_output().unwrap()
    }

    pub(super) fn facts(&self, query: &FactsQuery, rehash: bool) -> Facts {
        let output = self.run("sh -s", facts_script(query, rehash, &self.root()).into_bytes());
        parse_facts(&output.stdout).unwrap_or_else(|error| panic!("{}: {error}: {output:?}", self.shell))
    }

    pub(super) fn bundle(&self, plan: &HostPlan) -> (String, Vec<u8>) {
        let manifest: BTreeSet<HostPath> = plan
            .steps
            .iter()
            .filter_map(|step| match &step.action {
                Action::PutFile { path, .. } => Some(path.clone()),
                _ => None,
            })
            .collect();
        let bundle = bundle_at(
            plan,
            On { init: &Init::Systemd, compression: self.compression(), asleep: self.asleep },
            &manifest,
            "test",
            &self.root(),
        );
        let mut stream = Vec::new();
        for part in &bundle.parts {
            match part {
                Part::Bytes(bytes) => stream.extend(bytes),
                Part::File { path, size } => {
                    let bytes = fs::read(path).unwrap();
                    assert_eq!(bytes.len() as u64, *size);
                    stream.extend(bytes);
                }
            }
        }
        assert_eq!(stream.len() as u64, bundle.bytes);
        (bundle.line, stream)
    }

    pub(super) fn install(&self, steps: Vec<Action>) -> (Output, Vec<InstallerLine>) {
        let (line, stream) = self.bundle(&plan(steps));
        let output = self.run(&line, stream);
        let lines = String::from_utf8_lossy(&output.stdout).lines().filter_map(parse_line).collect();
        (output, lines)
    }

    pub(super) fn install_well(&self, steps: Vec<Action>) {
        let count = steps.len();
        let (output, lines) = self.install(steps);
        assert!(output.status.success(), "{}: {output:?}", self.shell);
        assert_eq!(lines.last(), Some(&InstallerLine::Done { changes: count }), "{}: {output:?}", self.shell);
        self.assert_tidy();
    }

    /// Nothing of a run's own is left.
    pub(super) fn assert_tidy(&self) {
        let output = Command::new("find").arg(self.root()).output().unwrap();
        let all = String::from_utf8(output.stdout).unwrap();
        let left: Vec<&str> = all
            .lines()
            .filter(|line| line.contains("clusterctl-new") || line.contains("/stage") || line.ends_with(".tmp"))
            .collect();
        assert_eq!(left, Vec::<&str>::new(), "{}", self.shell);
    }

    /// A program in the cache: a script, so that it runs.
    pub(super) fn program(&self, at: &str, text: &str) -> ManagedFile {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(text.as_bytes()).unwrap();
        let in_cache = |suffix: &str, bytes: Vec<u8>| {
            let path = self.dir.path().join("cache").join(format!("{}.{suffix}", Sha256::of(text.as_bytes())));
            fs::write(&path, &bytes).unwrap();
            Packed { path, size: bytes.len() as u64, sha256: None }
        };
        let executable = Executable {
            name: "program".to_owned(),
            sha256: Sha256::of(text.as_bytes()),
            size: text.len() as u64,
            gzip: in_cache("gz", encoder.finish().unwrap()),
            zstd: in_cache("zst", zstd::encode_all(text.as_bytes(), 3).unwrap()),
        };
        ManagedFile { mode: 0o755, source: FileSource::Executable(executable), ..file(at, "") }
    }
}

pub(super) fn plan(actions: Vec<Action>) -> HostPlan {
    let step = |action| Step { action, reason: Reason("a test".to_owned()) };
    HostPlan {
        host: HostName::new("a").unwrap(),
        role: Role::Node,
        launch: None,
        steps: actions.into_iter().map(step).collect(),
        blocked: None,
        skipped: Vec::new(),
    }
}

pub(super) fn file(at: &str, text: &str) -> ManagedFile {
    ManagedFile {
        path: path(at),
        mode: 0o640,
        owner: "root".to_owned(),
        group: "daemon".to_owned(),
        source: FileSource::Text(text.to_owned()),
        reactions: Vec::new(),
        secret: false,
        seed: false,
    }
}

pub(super) fn put(file: ManagedFile, change: FileChange) -> Action {
    Action::PutFile { path: file.path.clone(), file: Box::new(file), change, diff: None }
}

pub(super) fn dir(at: &str) -> Action {
    Action::PutDir {
        dir: ManagedDir { path: path(at), mode: 0o750, owner: "root".to_owned(), group: "daemon".to_owned() },
    }
}

/// Runs `/usr/local/bin/judge` on the shadow of /etc/app.
pub(super) fn check() -> Action {
    let argv = vec![
        Word::Program(path("/usr/local/bin/judge")),
        Word::Plain("two words; $HOME 'quoted'".to_owned()),
        Word::Shadow(path("/etc/app")),
    ];
    let complaints = vec!["odd:".to_owned()];
    Action::Check { check: Check { title: "judge it".to_owned(), covers: vec![path("/etc/app")], argv, complaints } }
}

/// Accepts a folder whose file `a` says "good", and says what it was given.
pub(super) const JUDGE: &str = "#!/bin/sh\n[ \"$1\" = \"two words; \\$HOME 'quoted'\" ] || { echo \"words: $1\"; exit 9; }\n\
                     echo 'odd: take care'; ls \"$2\"; cat \"$2\"/*\ngrep -q good \"$2/a\"\n";

pub(super) fn query(files: &[&str], dirs: &[&str]) -> FactsQuery {
    FactsQuery {
        files: files.iter().map(|at| path(at)).collect(),
        dirs: dirs.iter().map(|at| path(at)).collect(),
        ..FactsQuery::default()
    }
}
