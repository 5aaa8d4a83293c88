//! A machine to run a script of an image's on.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use clusterctl::model::host::Role;
use clusterctl::model::spec::Spec;
use serde_json::Value as Json;
use tempfile::TempDir;

use super::{BOOT, rendered};
use crate::support::{Answer, to_answer};

pub const SHELLS: [&str; 2] = ["dash", "busybox"];
/// All that the scripts call, but for curl or wget, and aws.
pub const TOOLS: [&str; 20] = [
    "awk", "cat", "chmod", "chown", "cmp", "cut", "grep", "mktemp", "mv", "rm", "sed", "sleep", "sort", "tail",
    "timeout", "tr", "true", "head", "wc", "mkdir",
];

/// A machine to run a script on: its /etc, /usr/local and all of its PATH are the test's own.
pub struct Machine {
    dir: TempDir,
    shell: &'static str,
    metadata: String,
}

impl Machine {
    pub fn new(shell: &'static str, metadata: &str, more: &[&str]) -> Self {
        let machine = Self { dir: tempfile::tempdir().unwrap(), shell, metadata: metadata.to_owned() };
        for folder in ["bin", "tmp", "etc/consul.d", "etc/clusterctl", "local/bin", "local/lib/clusterctl", "ssm"] {
            fs::create_dir_all(machine.path(folder)).unwrap();
        }
        fs::write(machine.path("etc/passwd"), "root:x:0:0::/root:/bin/sh\nconsul:x:977:977::/:/bin/false\n").unwrap();
        fs::write(machine.path("etc/group"), "root:x:0:\nconsul:x:977:\n").unwrap();
        for tool in TOOLS.iter().chain(more) {
            // Links that lead through /etc lead nowhere there.
            let own = shell == "busybox" && *tool != "curl";
            let program = which(if own { "busybox" } else { tool }).canonicalize().unwrap();
            let program = format!("{}{}", program.display(), if own { format!(" {tool}") } else { String::new() });
            // It notes what anybody on the machine could see of it.
            machine.program(tool, &format!("{NOTES}exec {program} \"$@\"\n"));
        }
        machine
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn program(&self, name: &str, text: &str) {
        let path = self.path("bin").join(name);
        fs::write(&path, format!("#!/bin/dash\n{text}")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    pub fn command(&self, script: &str, args: &[&str]) -> Command {
        fs::write(self.path("script"), script).unwrap();
        let mut command = Command::new(which("unshare"));
        command.args(["--mount", "--propagation=private", "/bin/sh", "-c"]);
        command.arg(
            "PATH=/usr/sbin:/usr/bin:/sbin:/bin; mount --bind \"$1/local\" /usr/local && mount --bind \"$1/etc\" /etc && \
             shift && PATH=$OWN exec \"$@\"",
        );
        command.arg("sh").arg(self.dir.path()).arg(which(self.shell));
        if self.shell == "busybox" {
            command.arg("sh");
        }
        command.arg(self.path("script")).args(args).env_clear().env("OWN", self.path("bin"));
        command.current_dir(self.path("tmp")).stdin(Stdio::null());
        command.env("HERE", self.dir.path()).env("TMPDIR", self.path("tmp")).env("HOME", self.path("tmp"));
        command.env("AWS_EC2_METADATA_SERVICE_ENDPOINT", &self.metadata).env("http_proxy", "http://127.0.0.1:1");
        command
    }

    /// What was noted of programs that ran: their command lines and environments.
    pub fn seen(&self) -> String {
        fs::read_to_string(self.path("seen")).unwrap_or_default()
    }

    pub fn output(&self) -> PathBuf {
        self.path("etc/consul.d/boot.json")
    }

    pub fn told(&self, text: &str) {
        fs::write(self.path("etc/clusterctl/boot"), text).unwrap();
    }

    /// An account with these parameters, and no others.
    pub fn parameters(&self, parameters: &[(&str, &str)]) {
        let _ = fs::remove_dir_all(self.path("ssm"));
        for (name, value) in parameters {
            let path = self.path("ssm").join(name.trim_start_matches('/'));
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, format!("{value}\n")).unwrap();
        }
        self.program("aws", &format!("{NOTES}{PARAMETERS}"));
    }

    #[track_caller]
    pub fn boots(&self, spec: &Spec, role: Role) -> (Json, Answer) {
        let mut command = self.command(&rendered(spec, role, BOOT), &[]);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let since = Instant::now();
        while child.try_wait().unwrap().is_none() {
            // It would wait for ever.
            if since.elapsed() > Duration::from_secs(20) {
                child.kill().unwrap();
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        let answer = to_answer(child.wait_with_output().unwrap()).expect(0);
        assert_eq!(answer.stdout, "");
        assert_eq!(fs::read_dir(self.path("tmp")).unwrap().count(), 0, "it leaves nothing: {answer}");
        let folder = fs::read_dir(self.path("etc/consul.d")).unwrap();
        assert_eq!(folder.count(), 1, "boot.json alone");
        let about = fs::metadata(self.output()).unwrap();
        assert_eq!((about.mode() & 0o7777, about.uid(), about.gid()), (0o640, 0, 977));
        let text = fs::read_to_string(self.output()).unwrap();
        (serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}")), answer)
    }

    pub fn start(&self, spec: &Spec, role: Role) -> (Child, impl Iterator<Item = String> + use<>) {
        let mut command = self.command(&rendered(spec, role, BOOT), &[]);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap);
        (child, lines)
    }

    /// It says why not, and waits: nothing is written.
    #[track_caller]
    pub fn waits(&self, spec: &Spec, role: Role, why: &[&str]) -> String {
        let before = fs::read(self.output()).ok();
        let (mut child, mut lines) = self.start(spec, role);
        let complaint = lines.next().expect("it says what is in the way");
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(complaint.starts_with("boot: ") && complaint.ends_with("; trying again in 1 s"), "{complaint}");
        for word in why {
            assert!(complaint.contains(word), "no \"{word}\" in: {complaint}");
        }
        assert!(!complaint.chars().any(char::is_control));
        assert_eq!(fs::read(self.output()).ok(), before, "{complaint}");
        let _ = fs::remove_dir_all(self.path("tmp"));
        fs::create_dir(self.path("tmp")).unwrap();
        complaint
    }
}

pub const NOTES: &str = "{ printf '%s\\n' \"$0 $*\"; /usr/bin/env; } >>\"$HERE/seen\"\n";

/// An AWS CLI that has parameters.
const PARAMETERS: &str = r#"
case "$1 $2" in "ssm get-parameter") ;; *) echo "what is $1 $2?" >&2; exit 252 ;; esac
while [ $# -gt 0 ]; do case $1 in --name) name=$2 ;; --region) region=$2 ;; esac; shift; done
[ "$region" = eu-west-1 ] || { echo "An error occurred (WrongRegion)" >&2; exit 254; }
[ ! -e "$HERE/denied" ] || { printf '\nAn error occurred (AccessDeniedException) when calling it\n' >&2; exit 254; }
if [ -e "$HERE/ssm$name" ]; then
    exec /bin/cat "$HERE/ssm$name"
fi
printf '\nAn error occurred (ParameterNotFound) when calling the GetParameter operation:\n' >&2
exit 254
"#;

pub fn which(program: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap();
    let folders = std::env::split_paths(&path).chain([PathBuf::from("/usr/sbin"), PathBuf::from("/sbin")]);
    let mut found = folders.map(|folder| folder.join(program)).filter(|path| path.exists());
    found.next().unwrap_or_else(|| panic!("{program} is not installed: scripts/install-needs tests lab"))
}
