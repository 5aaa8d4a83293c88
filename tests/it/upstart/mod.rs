//! The real installer and our jobs on a real host that boots with Upstart, with real programs.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use clusterctl::core::dialect::OLDEST_UPSTART;
use clusterctl::core::install::{InstallerLine, bundle, facts_command, parse_facts, parse_line};
use clusterctl::core::plan::{host_plan, query};
use clusterctl::core::render::{Peer, Renderer, Subject, absent};
use clusterctl::model::artifact::Artifact;
use clusterctl::model::facts::{Facts, UnitFact};
use clusterctl::model::file::{FileSource, HostPath, ManagedFile, Reaction, UnitName, Wanted};
use clusterctl::model::host::Role;
use clusterctl::model::init::Init;
use clusterctl::model::name::{ClusterName, HostName};
use clusterctl::model::plan::HostPlan;
use clusterctl::model::spec::{AlertmanagerSpec, Discovery, Spec};
use clusterctl::model::version::Program;
use clusterctl::world::remote::{Command, Remote, Unwatched, Watch};
use semver::Version;

mod host;

use host::Machine;

use crate::support::{eventually, put_program};

const XENIAL: Version = Version::new(1, 13, 2);

/// All that is wanted of a server, as it is rendered for this version of Upstart.
fn rendered(spec: &Spec, version: &Version, address: IpAddr, artifacts: &BTreeMap<Program, Artifact>) -> Wanted {
    let name = HostName::new("old-1").unwrap();
    let init = Init::Upstart(version.clone());
    let host = Peer { name, role: Role::Server, address };
    let subject = Subject::of(&host, std::slice::from_ref(&host), init);
    Renderer::new(&BTreeMap::new()).unwrap().wanted(spec, &subject, artifacts).unwrap()
}

fn spec() -> Spec {
    Spec::sandbox(ClusterName::new("old").unwrap())
}

/// The text of a job among what is wanted.
fn job<'a>(wanted: &'a mut Wanted, name: &str) -> &'a mut String {
    let at = format!("/etc/init/{name}.conf");
    let file = wanted.files.iter_mut().find(|file| file.path.as_str() == at);
    match &mut file.unwrap_or_else(|| panic!("no {at}")).source {
        FileSource::Text(text) => text,
        FileSource::Executable(_) => panic!("{at} is an executable"),
    }
}

fn path(text: &str) -> HostPath {
    HostPath::new(text).unwrap()
}

fn unit(name: &str) -> UnitName {
    UnitName::new(name).unwrap()
}

fn file(at: &str, text: &str, group: &str, unit_name: &str, reaction: Reaction) -> ManagedFile {
    ManagedFile {
        path: path(at),
        mode: 0o640,
        owner: "root".to_owned(),
        group: group.to_owned(),
        source: FileSource::Text(text.to_owned()),
        reactions: vec![(unit(unit_name), reaction)],
        secret: false,
        seed: false,
    }
}

struct Site {
    remote: Arc<dyn Remote>,
    machine: Machine,
}

#[derive(Default)]
struct Lines(Mutex<Vec<InstallerLine>>);

impl Watch for Lines {
    fn line(&self, line: &str) {
        self.0.lock().unwrap().extend(parse_line(line));
    }
}

impl Site {
    async fn boot() -> Self {
        let mut machine = Machine::new();
        machine.boot();
        Self { remote: machine.connect().await, machine }
    }

    /// A whole server; node_exporter with these arguments in front of its own.
    fn wanted(&self, node_exporter: &str) -> Wanted {
        let mut wanted = rendered(&spec(), &XENIAL, self.machine.address(), &crate::programs::artifacts(&spec()));
        let job = job(&mut wanted, "node_exporter");
        let program = "exec /usr/local/bin/node_exporter";
        assert!(job.contains(program), "{job}");
        *job = job.replace(program, &format!("{program} {node_exporter}"));
        wanted
    }

    async fn run(&self, line: &str) -> String {
        let command =
            Command { line: line.to_owned(), stdin: Vec::new(), timeout: Duration::from_secs(60), root: true };
        let output = self.remote.run(command, Arc::new(Unwatched)).await.unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
        assert_eq!(output.status, 0, "{line}: {} {}", text(&output.stdout), text(&output.stderr));
        text(&output.stdout)
    }

    async fn facts(&self, wanted: &Wanted) -> Facts {
        let (line, stdin) = facts_command(&query(std::slice::from_ref(wanted)), false);
        let stdin = vec![clusterctl::world::remote::Part::Bytes(stdin)];
        let command = Command { line, stdin, timeout: Duration::from_secs(60), root: true };
        let output = self.remote.run(command, Arc::new(Unwatched)).await.unwrap();
        assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
        parse_facts(&output.stdout).unwrap()
    }

    async fn plan(&self, wanted: &Wanted) -> (HostPlan, Facts) {
        let facts = self.facts(wanted).await;
        let plan = host_plan(&HostName::new("old-1").unwrap(), Role::Server, wanted, &facts, &BTreeMap::new());
        assert_eq!(plan.blocked, None);
        (plan, facts)
    }

    /// Observes, plans, installs; the steps of the plan and what the installer said.
    async fn apply(&self, wanted: &Wanted) -> (Vec<String>, Vec<InstallerLine>) {
        let (plan, facts) = self.plan(wanted).await;
        let steps =
            plan.steps.iter().map(|step| format!("{:?}: {}", std::mem::discriminant(&step.action), step.reason.0));
        let manifest: BTreeSet<HostPath> = wanted.files.iter().map(|file| file.path.clone()).collect();
        let bundle = bundle(&plan, &facts.init, facts.compression, &manifest, "test");
        let lines = Arc::new(Lines::default());
        let command = Command { line: bundle.line, stdin: bundle.parts, timeout: Duration::from_secs(120), root: true };
        let output = self.remote.run(command, Arc::clone(&lines) as Arc<dyn Watch>).await.unwrap();
        assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
        let lines = std::mem::take(&mut *lines.0.lock().unwrap());
        (steps.collect(), lines)
    }

    async fn apply_well(&self, wanted: &Wanted) {
        let (steps, lines) = self.apply(wanted).await;
        assert_eq!(lines.last(), Some(&InstallerLine::Done { changes: steps.len() }), "{steps:?} {lines:?}");
        self.assert_converged(wanted).await;
    }

    async fn assert_converged(&self, wanted: &Wanted) {
        let (plan, _) = self.plan(wanted).await;
        assert!(plan.steps.is_empty(), "{:?}", plan.steps);
    }

    async fn service(&self, wanted: &Wanted, name: &str) -> UnitFact {
        self.facts(wanted).await.units.remove(&unit(name)).unwrap()
    }

    async fn get(&self, address: std::net::IpAddr, port: u16, at: &str) -> Option<String> {
        let request = format!("GET {at} HTTP/1.0\r\nHost: x\r\n\r\n").into_bytes();
        let answer = self.remote.exchange(address, port, request, Duration::from_secs(10)).await.ok()?;
        let answer = String::from_utf8_lossy(&answer).into_owned();
        answer.split_once("\r\n\r\n").filter(|(head, _)| head.contains(" 200 ")).map(|(_, body)| body.to_owned())
    }

    /// Consul has a leader, Prometheus is ready, node_exporter answers.
    async fn works(&self) {
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            let leader = self.get([127, 0, 0, 1].into(), 8500, "/v1/status/leader").await;
            let metrics = self.get(self.machine.address(), 9100, "/metrics").await;
            let ready = self.get(self.machine.address(), 9090, "/-/ready").await.is_some();
            let led = leader.as_ref().is_some_and(|leader| leader.contains(":8300"));
            if led && ready && metrics.as_ref().is_some_and(|text| text.contains("node_exporter_build_info")) {
                return;
            }
            assert!(Instant::now() < deadline, "{leader:?} {ready} {:?}", metrics.map(|text| text.len()));
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }
}

#[tokio::test]
async fn a_host_with_upstart_is_installed_changed_and_taken_back() {
    let mut site = Site::boot().await;
    let wanted = site.wanted("");
    let facts = site.facts(&wanted).await;
    assert_eq!((&facts.init, facts.os_version.as_str()), (&Init::Upstart(XENIAL), "16.04"));
    assert!(facts.units.is_empty() && facts.missing_tools.is_empty(), "{facts:?}");

    site.apply_well(&wanted).await;
    site.works().await;
    for name in ["consul", "prometheus", "node_exporter"] {
        let fact = site.service(&wanted, name).await;
        assert!(fact.is_running() && fact.is_enabled() && fact.started_monotonic_us > 0, "{fact:?}");
        let user = site.run(&format!("ps -o user= -o group= -o args= -p {}", fact.main_pid)).await;
        assert!(user.contains(&format!("/usr/local/bin/{name}")) && !user.starts_with("root"), "{user}");
    }

    // A changed job restarts that service and no other.
    let (consul, exporter) = (site.service(&wanted, "consul").await, site.service(&wanted, "node_exporter").await);
    let changed = site.wanted("--no-collector.arp");
    site.apply_well(&changed).await;
    let after = site.service(&changed, "node_exporter").await;
    let args = site.run(&format!("tr '\\0' ' ' </proc/{}/cmdline", after.main_pid)).await;
    assert!(args.contains("--no-collector.arp") && after.main_pid != exporter.main_pid, "{args}");
    assert_eq!(site.service(&changed, "consul").await, consul);

    // A service that is added is a reload.
    let mut reloaded = changed.clone();
    let web = "{ \"service\": { \"name\": \"web\", \"port\": 80 } }\n";
    reloaded.files.push(file("/etc/consul.d/service-web.json", web, "consul", "consul", Reaction::Reload));
    site.apply_well(&reloaded).await;
    assert_eq!(site.service(&reloaded, "consul").await, consul);
    let found = site.get([127, 0, 0, 1].into(), 8500, "/v1/agent/services").await.unwrap();
    assert!(found.contains("\"web\""), "{found}");

    // One that ends at once is reported with its own words, and the next run mends it.
    let broken = site.wanted("--no-such-flag");
    let (_, lines) = site.apply(&broken).await;
    let Some(InstallerLine::Failed { step, message }) = lines.last() else { panic!("{lines:?}") };
    assert_eq!(step, "restart node_exporter");
    assert!(message.contains("ended") || message.contains("not running"), "{message}");
    let log: Vec<&InstallerLine> = lines.iter().filter(|line| matches!(line, InstallerLine::Log(_))).collect();
    assert!(format!("{log:?}").contains("no-such-flag"), "{log:?}");
    site.apply_well(&wanted).await;
    site.works().await;

    the_host_starts_them_again(&mut site, &wanted).await;

    // What is no longer wanted goes.
    let pid = site.service(&wanted, "node_exporter").await.main_pid;
    let mut less = wanted.clone();
    less.files.retain(|file| !file.path.as_str().contains("node_exporter"));
    less.units.retain(|unit| unit.as_str() != "node_exporter");
    site.apply_well(&less).await;
    let gone = site.run(&format!("initctl status node_exporter 2>&1; [ ! -e /proc/{pid} ] && ls /etc/init")).await;
    assert!(gone.contains("Unknown job") && !gone.contains("node_exporter.conf"), "{gone}");
    site.run("! test -e /etc/init/node_exporter.conf").await;
}

/// At its end the host stops its services while it still has a network; at its next start they run, without a hand.
async fn the_host_starts_them_again(site: &mut Site, wanted: &Wanted) {
    site.run("telinit 0").await;
    site.machine.wait_for_its_end();
    let log = std::fs::read_to_string(site.machine.file("var/log/upstart/consul.log")).unwrap();
    let told = log.rfind("Caught signal: signal=terminated").or_else(|| log.rfind("signal=terminated"));
    assert!(told.is_some_and(|at| log[at..].contains("Exit code")), "{log}");
    site.machine.boot();
    site.remote = site.machine.connect().await;
    site.works().await;
    site.assert_converged(wanted).await;
}

/// Upstart itself reads each job, as rendered for it and as rendered for the oldest.
#[tokio::test]
async fn upstart_reads_every_job() {
    let site = Site::boot().await;
    let mut spec = spec();
    spec.prometheus.discovery = Discovery::ConsulTemplate;
    spec.alertmanager = Some(AlertmanagerSpec { webhooks: Vec::new() });
    let users =
        "for user in consul node_exporter prometheus alertmanager; do useradd --system --user-group $user; done";
    site.run(&format!("{users}; mkdir -p /etc/service; echo 'CONSUL_FLAGS=\"-a -b=*\"' >/etc/service/consul")).await;
    let program = "#!/bin/sh\necho \"$(id -un):$(id -gn) $(id -Gn) umask $(umask)\" \"$@\"\ntrap 'echo INT; exit 12' INT\n\
                   trap 'exit 1' TERM\nwhile :; do sleep 0.1; done\n";
    let put = |name: &str, program: &str| {
        let at = site.machine.file(&format!("usr/local/bin/{name}"));
        put_program(&at, program);
    };
    site.run("mkdir -p /usr/local/lib/clusterctl && chmod 755 /usr/local/lib/clusterctl").await;
    put("../lib/clusterctl/reload-prometheus", "#!/bin/sh\necho \"$(id -un) $(id -Gn) $*\" >>/tmp/handed\n");
    for (version, log) in [(OLDEST_UPSTART, "/var/log/clusterctl"), (XENIAL, "/var/log/upstart")] {
        let mut wanted = rendered(&spec, &version, site.machine.address(), &absent(&spec, Role::Server));
        let units = wanted.units.clone();
        assert_eq!(units.len(), 5);
        // What the program is given, as the job says it; and who runs it.
        let mut expected = BTreeMap::new();
        for name in units.iter().map(UnitName::as_str) {
            let text = job(&mut wanted, name);
            put(name, program);
            std::fs::write(site.machine.file(&format!("etc/init/{name}.conf")), &text).unwrap();
            let (_, args) = text.split_once(&format!("/usr/local/bin/{name} ")).unwrap();
            let args = args.lines().next().unwrap().replace("${CONSUL_FLAGS-}", "-a '-b=*'");
            let user = if name == "consul-template" { "prometheus" } else { name };
            let args = shlex::split(&args).unwrap().join(" ");
            expected.insert(name, format!("{user}:{user} {user} umask 0027 {args}"));
        }
        site.run("initctl reload-configuration").await;
        for (name, expected) in &expected {
            let said = site
                .run(&format!("initctl start {name} >/dev/null; sleep 0.3; tail -n 1 {log}/{name}.log | tr -d '\\r'"))
                .await;
            assert_eq!(&said, expected, "{name} for {version}");
        }
        let stop: Vec<String> = units.iter().map(|unit| format!("initctl stop {unit}")).collect();
        site.run(&stop.join(" && ")).await;
        let last = site.run(&format!("tail -n 1 {log}/consul-template.log | tr -d '\\r'")).await;
        assert_eq!(last, "INT", "for {version}");
        // Only who is stopped for good hands over, as the user whose file it is.
        site.run("! test -e /tmp/handed; initctl start consul-template; initctl stop consul-template CLUSTERCTL_STOP=for-good").await;
        let handed = site.run("cat /tmp/handed; rm /tmp/handed").await;
        assert_eq!(handed, "prometheus prometheus --hand-over", "for {version}");
    }
    // Whoever keeps ending waits before it starts again, and may be stopped meanwhile.
    put("consul", "#!/bin/sh\necho once\nexit 1\n");
    site.run("initctl start consul; sleep 3").await;
    let count = site.run("tr -d '\\r' </var/log/upstart/consul.log | grep -cx once").await;
    assert!(["1", "2"].contains(&count.as_str()), "{count}");
    let state = site.run("initctl status consul").await;
    assert!(state.starts_with("consul start/"), "{state}");
    site.run("initctl stop consul").await;
    assert_eq!(site.run("initctl status consul").await, "consul stop/waiting");
}

/// The whole tool: a cluster of one host that boots with Upstart, by Consul Template and by Prometheus' own discovery.
#[test]
fn up_makes_a_cluster_of_a_host_with_upstart() {
    let mut machine = Machine::new();
    machine.boot();
    let dir = tempfile::tempdir().unwrap();
    let spec = dir.path().join("cluster.toml");
    let ssh = machine.ssh();
    let write = |discovery: &str, interval: &str| {
        let text = format!(
            "[cluster]\nname = \"old\"\nprovider = \"inventory\"\n[prometheus]\ndiscovery = \"{discovery}\"\n\
             scrape_interval = \"{interval}\"\n[[host]]\nname = \"old-1\"\nrole = \"server\"\nuser = \"root\"\n\
             address = \"{}\"\nkey = \"{}\"\nhost_keys = [\"{}\"]\n",
            machine.address(),
            ssh.0.display(),
            ssh.1
        );
        std::fs::write(&spec, text).unwrap();
    };
    let clusterctl = |args: &[&str]| {
        let mut command = crate::support::binary();
        command.env("CLUSTERCTL_STATE_DIR", dir.path().join("state")).current_dir(dir.path()).args(args);
        crate::support::answer(command)
    };
    let processes = || {
        let status = clusterctl(&["status", "--output", "json"]).expect(0).json();
        let units = status["hosts"][0]["units"].as_array().unwrap();
        units.iter().map(|unit| (unit["unit"].to_string(), unit["started_monotonic_us"].as_u64().unwrap())).collect()
    };
    write("consul-template", "2s");
    let up = clusterctl(&["up", "--yes", "--output", "json"]).expect(0).json();
    assert_eq!(up["verified"]["alive"], 1, "{up}");
    clusterctl(&["plan"]).expect(0);
    let before: BTreeMap<String, u64> = processes();
    assert_eq!(before.len(), 4, "{before:?}");
    let again = clusterctl(&["up", "--yes", "--output", "json"]).expect(0).json();
    assert_eq!(again["hosts"][0]["result"], "unchanged", "{again}");

    // The other discovery, and another interval with it: Prometheus reloads and goes on. Twice: Consul Template has
    // handed over to it first.
    let loads = || {
        let log = std::fs::read_to_string(machine.file("var/log/upstart/prometheus.log")).unwrap();
        log.matches("Completed loading of configuration file").count()
    };
    let loaded = loads();
    write("consul-sd", "1s");
    let up = clusterctl(&["up", "--yes"]).expect(0);
    clusterctl(&["plan"]).expect(0);
    let after: BTreeMap<String, u64> = processes();
    let kept: BTreeMap<_, _> = before.iter().filter(|(unit, _)| !unit.contains("template")).collect();
    assert_eq!(after.iter().collect::<BTreeMap<_, _>>(), kept, "{up}");
    assert_eq!(loads(), loaded + 2);
    assert!(!machine.file("etc/prometheus/prometheus.yml.candidate").exists());
    // After the last reload each is scraped anew, at a moment of its interval.
    eventually("all are scraped", || {
        let targets = clusterctl(&["targets"]);
        if targets.stdout.contains("3 of 3 targets up") { Ok(()) } else { Err(targets.stdout) }
    });
}
