//! Reports for the tests of the renderers.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use jiff::Timestamp;
use semver::Version;

use super::{Document, View};
use crate::model::artifact::{Arch, Artifact, ArtifactId, Executable, Packed, Sha256};
use crate::model::file::{Check, FileSource, HostPath, ManagedDir, ManagedFile, Reaction, SystemUser, UnitName, Word};
use crate::model::host::{HostId, HostState, Role};
use crate::model::name::{ClusterName, HostName};
use crate::model::plan::{Action, FileChange, HostPlan, Plan, Reason, Step};
use crate::model::report::{
    ExecOutcome, Failure, HostOutcome, HostResult, HostStatus, Millis, RunReport, StatusReport, Target, TargetsReport,
    UnitStatus,
};
use crate::model::version::Program;
use crate::ui::style::strip;

pub fn view() -> View {
    let now = Timestamp::from_second(1_800_000_000).unwrap();
    View { width: Some(120), all: false, verbose: false, now }
}

pub fn text(document: &dyn Document, view: &View) -> String {
    strip(&document.text(view))
}

fn cluster() -> ClusterName {
    ClusterName::new("dev").unwrap()
}

fn host(name: &str) -> HostName {
    HostName::new(name).unwrap()
}

fn address(n: usize) -> Option<IpAddr> {
    let [.., high, low] = u32::try_from(n).unwrap().to_be_bytes();
    Some(IpAddr::V4(Ipv4Addr::new(10, 77, high, low)))
}

pub fn host_status(n: usize) -> HostStatus {
    let (role, name) =
        if n == 1 { (Role::Server, "dev-server-1".into()) } else { (Role::Node, format!("dev-node-{n}")) };
    let unit = |unit: &str| UnitStatus {
        unit: unit.into(),
        active: "active".into(),
        main_pid: 100,
        started_monotonic_us: 5_000_000,
    };
    HostStatus {
        host: host(&name),
        id: HostId(format!("sb-{n}")),
        role,
        state: HostState::Running,
        address: address(n),
        consul: Some("alive".into()),
        scraped: Some("up".into()),
        units: vec![unit("consul"), unit("node_exporter")],
        problem: None,
    }
}

pub fn status(hosts: usize) -> StatusReport {
    StatusReport {
        cluster: cluster(),
        provider: "sandbox".into(),
        leader: Some("10.77.0.1:8300".into()),
        hosts: (1..=hosts).map(host_status).collect(),
        problems: vec![],
        proofs: vec![],
    }
}

pub fn targets() -> TargetsReport {
    let target = |n: usize, health: &str, last_scrape: &str, last_error: &str| Target {
        job: "node".into(),
        instance: format!("dev-node-{n}"),
        health: health.into(),
        labels: BTreeMap::from([("role".into(), "node".into()), ("instance".into(), format!("dev-node-{n}"))]),
        scrape_url: format!("http://10.77.0.{n}:9100/metrics"),
        last_scrape: last_scrape.into(),
        last_error: last_error.into(),
    };
    let targets = vec![
        target(1, "up", "2027-01-15T07:59:57.123456789Z", ""),
        target(2, "down", "2027-01-15T07:57:00Z", "connection refused\n\u{1b}]0;owned\u{7}"),
        target(3, "unknown", "0001-01-01T00:00:00Z", ""),
        target(4, "strange\u{202e}", "yesterday", ""),
    ];
    TargetsReport { cluster: cluster(), targets }
}

pub fn run() -> RunReport {
    let outcome = |n: usize, result| {
        let HostStatus { host, role, address, .. } = host_status(n);
        HostOutcome { host, role, address, result }
    };
    let failure = Failure {
        step: "unpack".into(),
        message: "the installer exited with status 2\non its second try".into(),
        lines: vec!["tar: write error: No space left on device".into(), "\x1b[31mtar: exiting\x1b[0m\r\n".into()],
        log: Some("clusterctl exec --host dev-node-3 -- journalctl -n 50".into()),
        hint: Some("free some space on /opt".into()),
    };
    RunReport {
        cluster: cluster(),
        hosts: vec![
            outcome(1, HostResult::Changed { changes: 12 }),
            outcome(2, HostResult::Unchanged),
            outcome(3, HostResult::Failed(failure)),
            outcome(4, HostResult::Interrupted { step: "sending 28.0 MB".into() }),
        ],
        verified: None,
        unconfirmed: None,
        proofs: vec![],
        look: vec!["Prometheus  http://10.77.0.1:9090".into(), "log in      ssh root@10.77.0.1".into()],
        seconds: Millis(14_260),
    }
}

pub fn exec() -> Vec<ExecOutcome> {
    let outcome = |name: &str, status, stdout: &str, stderr: &str, problem: Option<&str>| ExecOutcome {
        host: host(name),
        status,
        stdout: stdout.into(),
        stderr: stderr.into(),
        problem: problem.map(Into::into),
    };
    vec![
        outcome("dev-server-1", Some(0), "one\n\n  two\t\x1b[1mthree\n", "", None),
        outcome("dev-node-1", Some(3), "", "no such file\n", None),
        outcome("dev-node-2", None, "", "", Some("cannot connect: timed out")),
        outcome("dev-node-3", None, "half", "", None),
    ]
}

pub fn artifacts() -> Vec<Artifact> {
    let artifact = |program: Program, version, names: &[&str]| Artifact {
        id: ArtifactId { program, version, arch: Arch::Amd64 },
        sha256: Sha256::of(program.as_str().as_bytes()),
        source: format!("imported from {program}.tar.gz"),
        executables: names
            .iter()
            .map(|name| Executable {
                name: (*name).into(),
                sha256: Sha256::of(name.as_bytes()),
                size: 50_000_000,
                gzip: Packed { path: format!("/cache/{name}.gz").into(), size: 17_000_000, sha256: None },
                zstd: Packed { path: format!("/cache/{name}.zst").into(), size: 14_000_000, sha256: None },
            })
            .collect(),
    };
    vec![
        artifact(Program::Consul, Version::new(1, 22, 7), &["consul"]),
        artifact(Program::Prometheus, Version::new(3, 13, 3), &["prometheus", "promtool"]),
    ]
}

fn put(path: &str, change: FileChange, diff: Option<&str>) -> Action {
    let path = HostPath::new(path).unwrap();
    let file = ManagedFile {
        path: path.clone(),
        mode: 0o640,
        owner: "root".into(),
        group: "consul".into(),
        source: FileSource::Text("x".repeat(1234)),
        reactions: vec![],
        secret: false,
        seed: false,
    };
    Action::PutFile { file: Box::new(file), path, change, diff: diff.map(Into::into) }
}

const DIFF: &str = "--- /etc/prometheus/prometheus.yml\n+++ /etc/prometheus/prometheus.yml\n@@ -1,3 +1,3 @@\n global:\n\
                    -  scrape_interval: 15s\n+  scrape_interval: 5s\n   evil: \x1b[2J\n";

pub fn plan() -> Plan {
    let step = |action, reason: &str| Step { action, reason: Reason(reason.into()) };
    let path = |p: &str| HostPath::new(p).unwrap();
    let unit = |u: &str| UnitName::new(u).unwrap();
    let user = SystemUser { name: "consul".into(), home: path("/var/lib/consul") };
    let dir = ManagedDir { path: path("/etc/consul.d"), mode: 0o750, owner: "root".into(), group: "consul".into() };
    let check = Check {
        title: "consul validate".into(),
        covers: vec![],
        argv: vec![Word::Plain("consul".into())],
        complaints: vec![],
    };
    let server = vec![
        step(Action::CreateUser { user }, "it is missing"),
        step(Action::PutDir { dir }, "it is missing"),
        step(put("/etc/consul.d/agent.hcl", FileChange::Create, None), "it is missing"),
        step(put("/etc/prometheus/prometheus.yml", FileChange::Content, Some(DIFF)), "its content differs"),
        step(put("/etc/hosts", FileChange::Attributes, None), "its mode is 0600"),
        step(Action::RemoveFile { path: path("/etc/consul.d/old.hcl") }, "nothing wants it any more"),
        step(Action::Check { check }, "/etc/consul.d changes"),
        step(Action::Enable { unit: unit("consul") }, "it is disabled"),
        step(Action::Start { unit: unit("consul") }, "it is not running"),
        step(Action::React { unit: unit("prometheus"), reaction: Reaction::Reload }, "prometheus.yml changes"),
        step(Action::React { unit: unit("node_exporter"), reaction: Reaction::Restart }, "its unit changes"),
        step(Action::Stop { unit: unit("web") }, "the spec has no such service"),
    ];
    let host_plan = |n: usize, launch: Option<&str>, steps, blocked: Option<&str>, skipped: &[&str]| {
        let HostStatus { host, role, .. } = host_status(n);
        HostPlan {
            host,
            role,
            launch: launch.map(|l| Reason(l.into())),
            steps,
            blocked: blocked.map(Into::into),
            skipped: skipped.iter().map(|s| (*s).to_owned()).collect(),
        }
    };
    Plan {
        resources: Vec::new(),
        hosts: vec![
            host_plan(1, Some("the cluster has no server"), server, None, &["/etc/hostname is as wanted"]),
            host_plan(2, None, vec![], Some("cannot connect: refused\nis sshd running?"), &[]),
            host_plan(3, None, vec![], None, &["consul 1.22.7 is installed", "nothing to restart"]),
        ],
        notes: vec![],
    }
}
