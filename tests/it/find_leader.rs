//! `find-leader`, which asks EC2 for the leader at boot where Consul cannot: with the real AWS CLI, against moto, in
//! dash and in busybox with nothing but busybox' own programs.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::TempDir;
use tera::{Context, Tera, Value};

use crate::moto::{Metadata, Moto, Service};
use crate::support::{Answer, answer, put_program};

/// What the script is rendered with.
#[derive(Debug, Clone, Copy)]
pub struct Asked {
    pub key: &'static str,
    pub value: &'static str,
    pub region: &'static str,
    pub cluster: &'static str,
}

impl Default for Asked {
    fn default() -> Self {
        Self { key: "consul-leader", value: "true", region: "us-east-1", cluster: "shop" }
    }
}

pub fn rendered(asked: &Asked) -> String {
    let mut tera = Tera::default();
    tera.autoescape_on(Vec::new());
    tera.register_filter("sh", |value: &Value, _: &_| {
        Ok(Value::String(clusterctl::core::install::quote(value.as_str().unwrap())))
    });
    tera.add_raw_template("join/find-leader.sh", include_str!("../../templates/join/find-leader.sh")).unwrap();
    let mut context = Context::new();
    context.insert("tag_key", asked.key);
    context.insert("tag_value", asked.value);
    context.insert("region", asked.region);
    context.insert("cluster", asked.cluster);
    tera.render("join/find-leader.sh", &context).unwrap()
}

const SHELLS: [&str; 2] = ["dash", "busybox"];
/// All that the script calls, but for curl or wget, and aws.
const TOOLS: [&str; 10] = ["awk", "grep", "mktemp", "rm", "sed", "sleep", "sort", "tail", "timeout", "tr"];

/// A machine to run it on: a folder of programs, which is all of its PATH.
struct Machine {
    dir: TempDir,
    shell: &'static str,
    environment: Vec<(String, String)>,
}

impl Machine {
    fn new(shell: &'static str, moto: &Moto, more: &[&str]) -> Self {
        let machine = Self { dir: tempfile::tempdir().unwrap(), shell, environment: Vec::new() };
        fs::create_dir(machine.path("bin")).unwrap();
        fs::create_dir(machine.path("tmp")).unwrap();
        for tool in TOOLS.iter().chain(more) {
            let program = match *tool {
                "aws" => moto.programs.join("aws"),
                _ if shell == "busybox" && *tool != "curl" => which("busybox"),
                _ => which(tool),
            };
            symlink(program, machine.path("bin").join(tool)).unwrap();
        }
        let tmp = machine.path("tmp").display().to_string();
        machine
            .with("AWS_ENDPOINT_URL", &moto.endpoint)
            .with("AWS_ACCESS_KEY_ID", "test")
            .with("AWS_SECRET_ACCESS_KEY", "test")
            .with("AWS_EC2_METADATA_DISABLED", "true")
            .with("TMPDIR", &tmp)
            .with("HOME", &tmp)
    }

    fn with(mut self, key: &str, value: &str) -> Self {
        self.environment.retain(|(known, _)| known != key);
        self.environment.push((key.to_owned(), value.to_owned()));
        self
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn program(&self, name: &str, text: &str) {
        let path = self.path("bin").join(name);
        let _ = fs::remove_file(&path);
        put_program(&path, text);
    }

    fn command(&self, asked: &Asked, args: &[&str]) -> Command {
        let script = self.path("find-leader");
        fs::write(&script, rendered(asked)).unwrap();
        // The script also looks into /usr/local/bin, where this machine may have what the test's has not.
        let mut command = Command::new(which("unshare"));
        command.args(["--mount", "--propagation=private", "/bin/sh", "-c"]);
        command.arg("PATH=/usr/sbin:/usr/bin:/sbin:/bin mount -t tmpfs none /usr/local/bin && exec \"$@\"");
        command.arg("sh").arg(which(self.shell));
        if self.shell == "busybox" {
            command.arg("sh");
        }
        command.arg(script).args(args).env_clear().env("PATH", self.path("bin")).current_dir(self.path("tmp"));
        command.envs(self.environment.iter().map(|(k, v)| (k, v))).stdin(Stdio::null());
        command
    }

    fn once(&self, asked: &Asked) -> Answer {
        let answer = answer(self.command(asked, &["--once"]));
        assert_eq!(fs::read_dir(self.path("tmp")).unwrap().count(), 0, "it leaves nothing: {answer}");
        answer
    }

    /// It finds these, and says nothing else.
    #[track_caller]
    fn finds(&self, asked: &Asked, addresses: &[&String]) {
        let flags: Vec<String> = addresses.iter().map(|address| format!("-retry-join {address}")).collect();
        let answer = self.once(asked).expect(0);
        assert_eq!((answer.stdout.as_str(), answer.stderr.as_str()), (format!("{}\n", flags.join(" ")).as_str(), ""));
    }

    /// It finds none and says why, in one line.
    #[track_caller]
    fn complains(&self, asked: &Asked, why: &[&str]) {
        let answer = self.once(asked).expect(1);
        assert_eq!(answer.stdout, "");
        assert!(answer.stderr.starts_with("find-leader: ") && answer.stderr.lines().count() == 1, "{answer}");
        for word in why {
            assert!(answer.stderr.contains(word), "no \"{word}\": {answer}");
        }
    }
}

fn which(program: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap();
    let folders = std::env::split_paths(&path).chain([PathBuf::from("/usr/sbin"), PathBuf::from("/sbin")]);
    let mut found = folders.map(|folder| folder.join(program)).filter(|path| path.exists());
    found.next().unwrap_or_else(|| panic!("{program} is not installed: scripts/install-needs tests lab"))
}

fn tag(moto: &Moto, id: &str, key: &str, value: &str) {
    moto.ec2("CreateTags", &[("ResourceId.1", id), ("Tag.1.Key", key), ("Tag.1.Value", value)]);
}

#[test]
fn the_script_is_clean() {
    let hostile = Asked { key: "it's $(x) `y`", value: "\\", region: "", cluster: "" };
    for asked in [Asked::default(), hostile] {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("find-leader");
        fs::write(&path, rendered(&asked)).unwrap();
        let mut shellcheck = Command::new(which("shellcheck"));
        // Only of a value's own signs it says that they may be meant for the shell.
        shellcheck.args(["--shell=sh", if asked.value == "\\" { "--exclude=SC2016" } else { "--norc" }]).arg(path);
        answer(shellcheck).expect(0);
    }
    assert!(rendered(&Asked::default()).lines().take(4).any(|line| line.contains("Written by clusterctl")));
}

#[test]
fn who_counts_as_a_leader() {
    let moto = Moto::start();
    moto.launch(1, &[("Name", "nobody")]);
    let (first, one) = moto.launch(1, &[("consul-leader", "True"), ("clusterctl:cluster", "shop")]);
    let (second, two) = moto.launch(1, &[("consul-leader", "False")]);
    moto.launch(1, &[("consul-leader", "true"), ("clusterctl:cluster", "another")]);
    moto.launch(1, &[("consul-leader", "true"), ("clusterctl:cluster", "")]);
    moto.launch(1, &[("Consul-Leader", "true")]);
    let (stopped, _) = moto.launch(1, &[("consul-leader", "true")]);
    moto.ec2("StopInstances", &[("InstanceId.1", &stopped)]);
    let machines = SHELLS.map(|shell| Machine::new(shell, &moto, &["aws"]));
    let finds = |asked: &Asked, addresses: &[&String]| {
        machines.iter().for_each(|machine| machine.finds(asked, addresses));
    };
    for value in ["true", "True", "TRUE", "yes", "Yes", "1", " true "] {
        tag(&moto, &first, "consul-leader", value);
        finds(&Asked::default(), &[&one[0]]);
    }
    // Only where the value that is asked for is true do other words mean the same.
    for (value, asked) in [("yes", "1"), ("no", "true"), ("11", "true"), ("true", "yes")] {
        tag(&moto, &first, "consul-leader", value);
        let asked = Asked { value: asked, ..Asked::default() };
        machines.iter().for_each(|machine| machine.complains(&asked, &["consul-leader"]));
    }
    tag(&moto, &first, "consul-leader", "True");
    finds(&Asked { value: "TRUE", ..Asked::default() }, &[&one[0]]);
    // Any value; and one that says nothing of a cluster counts as well.
    let mut both = [&one[0], &two[0]];
    both.sort();
    finds(&Asked { value: "", ..Asked::default() }, &both);
    tag(&moto, &second, "consul-leader", "TRUE");
    finds(&Asked::default(), &both);
    moto.ec2("TerminateInstances", &[("InstanceId.1", &first)]);
    finds(&Asked::default(), &[&two[0]]);
    moto.ec2("StopInstances", &[("InstanceId.1", &second)]);
    for machine in &machines {
        machine.complains(&Asked::default(), &["us-east-1", "consul-leader", "true", "yet"]);
    }
}

/// Without --once it asks until there is one, and says meanwhile what is missing.
#[test]
fn it_waits_for_a_leader() {
    let moto = Moto::start();
    let (id, addresses) = moto.launch(1, &[]);
    for shell in SHELLS {
        moto.ec2("DeleteTags", &[("ResourceId.1", &id), ("Tag.1.Key", "consul-leader")]);
        let machine = Machine::new(shell, &moto, &["aws"]);
        let mut command = machine.command(&Asked::default(), &[]);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut complaints = BufReader::new(child.stderr.take().unwrap()).lines();
        let first = complaints.next().unwrap().unwrap();
        assert!(first.contains("has the tag consul-leader") && first.ends_with("asking again in 2 s"), "{first}");
        tag(&moto, &id, "consul-leader", "true");
        let found = child.wait_with_output().unwrap();
        assert_eq!(String::from_utf8(found.stdout).unwrap(), format!("-retry-join {}\n", addresses[0]));
        assert!(found.status.success());
        assert!(complaints.map(Result::unwrap).all(|line| line.starts_with("find-leader: ")));
    }
}

#[test]
fn what_is_in_the_way_is_said() {
    let moto = Moto::start();
    let (_, addresses) = moto.launch(1, &[("consul-leader", "true")]);
    let nowhere = "http://127.0.0.1:1";
    for shell in SHELLS {
        let asked = Asked::default();
        Machine::new(shell, &moto, &[]).complains(&asked, &["no aws command", "install"]);
        let poor = Machine::new(shell, &moto, &["aws"]).with("AWS_ACCESS_KEY_ID", "");
        poor.complains(&asked, &["ec2:DescribeInstances", "Unable to locate credentials"]);
        let cut = Machine::new(shell, &moto, &["aws"]).with("AWS_ENDPOINT_URL", nowhere).with("AWS_MAX_ATTEMPTS", "1");
        cut.complains(&asked, &["Could not connect", "127.0.0.1:1"]);
        let lost = Asked { region: "", ..asked };
        let asks = Machine::new(shell, &moto, &["aws", "curl"]).with("AWS_EC2_METADATA_SERVICE_ENDPOINT", nowhere);
        asks.complains(&lost, &["no region", nowhere]);
        Machine::new(shell, &moto, &["aws"]).complains(&lost, &["no region", "neither curl nor wget"]);
        // Neither a `timeout` nor a place for a temporary file is needed; without the latter the CLI's words are lost.
        fs::remove_file(cut.path("bin/timeout")).unwrap();
        let cut = cut.with("TMPDIR", "/nonexistent");
        cut.complains(&asked, &["ec2:DescribeInstances", "exit status"]);
        cut.with("AWS_ENDPOINT_URL", &moto.endpoint).finds(&asked, &[&addresses[0]]);
        let wrong = answer(asks.command(&asked, &["--twice"])).expect(64);
        assert!(wrong.stderr.contains("--once"), "{wrong}");
    }
}

/// The region comes from the instance's metadata, whichever way they want to be asked.
#[test]
fn the_region_is_asked_for() {
    let moto = Moto::start();
    let (_, addresses) = moto.launch(1, &[("consul-leader", "true")]);
    let asked = Asked { region: "", ..Asked::default() };
    let current: &[_] = &[("placement/region", "us-east-1"), ("placement/availability-zone", "us-east-1b")];
    let old: &[_] = &[("placement/availability-zone", "us-east-1-bos-1a")];
    let region = "GET /latest/meta-data/placement/region";
    for (kind, knows) in [(Metadata::Both, current), (Metadata::First, old), (Metadata::Second, current)] {
        for (shell, asks) in [("dash", "curl"), ("dash", "wget"), ("busybox", "wget")] {
            let service = Service::start(kind, knows);
            let machine = Machine::new(shell, &moto, &["aws", asks])
                .with("AWS_EC2_METADATA_SERVICE_ENDPOINT", &format!("{}/", service.endpoint))
                .with("http_proxy", "http://127.0.0.1:1");
            if kind == Metadata::Second && shell == "busybox" {
                // Its wget cannot ask for a token.
                machine.complains(&asked, &["no region"]);
                continue;
            }
            // It is what asks for metadata that must go past the proxy: others must get out by it.
            let real = moto.programs.join("aws");
            machine.program("aws", &format!("#!/bin/sh\nunset http_proxy\nexec {} \"$@\"\n", real.display()));
            machine.finds(&asked, &[&addresses[0]]);
            let seen = service.asked();
            let token = if kind == Metadata::First || shell == "busybox" { "" } else { " with a token" };
            assert!(seen.contains(&format!("{region}{token}")), "{kind:?} {shell} {asks}: {seen:?}");
            assert_eq!(seen[0] == "PUT /latest/api/token", shell != "busybox", "{seen:?}");
        }
    }
    // What is no region is not taken for one.
    let service = Service::start(Metadata::Both, &[("placement/region", "us-east-1 --no-verify-ssl; $(id)")]);
    let machine =
        Machine::new("dash", &moto, &["aws", "curl"]).with("AWS_EC2_METADATA_SERVICE_ENDPOINT", &service.endpoint);
    machine.complains(&asked, &["no region"]);
}

/// Tags and addresses are other people's text: it is compared, and nothing else.
#[test]
fn hostile_text_goes_nowhere() {
    let moto = Moto::start();
    let key = "a \"b\" 'c' `d` \\ * ? , = $(touch x); é";
    let value = "\"]\n[ \"10.6.6.6\", -retry-join 10.6.6.6 $(touch x) `touch x` É";
    let (_, addresses) = moto.launch(1, &[(key, value), ("clusterctl:cluster", "it's")]);
    moto.launch(
        1,
        &[(key, "x\",\n        null\n    ],\n    [\n        \"10.6.6.6\",\n        \"yes\",\n        null")],
    );
    moto.launch(1, &[("a \"b\" 'c' `d` \\ xx ? , = $(touch x); é", "yes")]);
    for shell in SHELLS {
        let machine = Machine::new(shell, &moto, &["aws"]);
        let asked = Asked { key, value: "yes", cluster: "it's", ..Asked::default() };
        machine.complains(&asked, &["no running instance", "touch x"]);
        let one = Asked { value: "", ..asked };
        let found = machine.once(&one).expect(0);
        assert!(found.stdout.contains(&addresses[0]) && !found.stdout.contains("10.6.6.6"), "{found}");
        assert_eq!(found.stdout.split_whitespace().count(), 4, "two of three: {found}");
        // No real API gives such addresses.
        let rows: Vec<String> =
            HOSTILE.iter().map(|a| format!("    [\n        {a},\n        \"True\",\n        null\n    ]")).collect();
        machine.program(
            "aws",
            &format!(
                "#!/bin/sh\nwhile read -r line; do echo \"$line\"; done <<'EOF'\n[\n{}\n]\nEOF\n",
                rows.join(",\n")
            ),
        );
        machine.finds(&Asked::default(), &[&"10.0.0.1".to_owned(), &"223.255.255.255".to_owned()]);
        assert!(!machine.path("tmp/x").exists() && !Path::new("x").exists());
    }
}

const HOSTILE: [&str; 16] = [
    "\"10.0.0.1\"",
    "\"10.0.0.1\"",
    "\"223.255.255.255\"",
    "null",
    "\"\"",
    "\"10.0.0\"",
    "\"10.0.0.1.1\"",
    "\"10.0.0.256\"",
    "\"010.0.0.1\"",
    "\"10.0.0.1 -dev\"",
    "\"10.0.0.1\\n10.0.0.2\"",
    "\"$(touch x)\"",
    "\"0.0.0.0\"",
    "\"255.255.255.255\"",
    "\"fd00::1\"",
    "\"10.0.0.1e1\"",
];

/// All pages are read: an account has more instances than fit on one.
#[test]
fn more_than_one_page() {
    let moto = Moto::start();
    let (_, first) = moto.launch(1, &[("consul-leader", "true")]);
    // Moto's pages have a hundred launches each.
    for _ in 0..105 {
        moto.launch(10, &[("consul-leader", "no")]);
    }
    let (_, last) = moto.launch(1, &[("consul-leader", "true")]);
    let page = moto.ec2("DescribeInstances", &[]);
    assert!(page.contains("<nextToken>") && page.contains(&first[0]) && !page.contains(&last[0]));
    let mut both = [&first[0], &last[0]];
    both.sort();
    for shell in SHELLS {
        Machine::new(shell, &moto, &["aws"]).finds(&Asked::default(), &both);
    }
}
