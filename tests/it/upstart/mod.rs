//! The real installer and our jobs on a real host that boots with Upstart, with real programs.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use clusterctl::core::install::{self, InstallerLine, bundle, facts_command, parse_facts, parse_line};
use clusterctl::core::plan::{host_plan, query};
use clusterctl::core::upstart::{self, OLDEST};
use clusterctl::model::facts::{Facts, UnitFact};
use clusterctl::model::file::{FileSource, HostPath, ManagedDir, ManagedFile, Reaction, SystemUser, UnitName, Wanted};
use clusterctl::model::host::Role;
use clusterctl::model::init::Init;
use clusterctl::model::name::{ClusterName, HostName};
use clusterctl::model::plan::HostPlan;
use clusterctl::model::spec::Spec;
use clusterctl::model::version::Program;
use clusterctl::world::remote::{Command, Remote, Unwatched, Watch};
use semver::Version;
use tera::{Context, Tera, Value};

mod host;

use host::Machine;

const XENIAL: Version = Version::new(1, 13, 2);

const JOBS: [(&str, &str); 5] = [
    ("consul", include_str!("../../../templates/upstart/consul.conf")),
    ("node_exporter", include_str!("../../../templates/upstart/node_exporter.conf")),
    ("prometheus", include_str!("../../../templates/upstart/prometheus.conf")),
    ("consul-template", include_str!("../../../templates/upstart/consul-template.conf")),
    ("alertmanager", include_str!("../../../templates/upstart/alertmanager.conf")),
];

fn job(name: &str, version: &Version, program: &str, user: &str, args: &[String]) -> String {
    let mut tera = Tera::default();
    tera.autoescape_on(Vec::new());
    tera.register_filter("sh", |value: &Value, _: &_| Ok(Value::String(install::quote(value.as_str().unwrap()))));
    tera.add_raw_templates(JOBS).unwrap();
    let mut context = Context::new();
    context.insert("cluster", "old");
    context.insert("role", "server");
    context.insert("program", program);
    context.insert("user", user);
    context.insert("args", args);
    context.insert("stop_signal", "INT");
    context.insert("candidate", "/etc/prometheus/prometheus.yml.candidate");
    context.insert("can", &BTreeMap::from(upstart::features(version)));
    let text = tera.render(name, &context).unwrap();
    upstart::check(&text, version).unwrap_or_else(|mistakes| panic!("{mistakes:?}\n{text}"));
    text
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

/// A service: its user, its program from the cache, its job.
fn service(wanted: &mut Wanted, program: Program, args: &[String]) {
    let name = program.as_str();
    let artifact =
        crate::programs::artifacts(&Spec::sandbox(ClusterName::new("old").unwrap())).remove(&program).unwrap();
    let executable = artifact.executables.into_iter().find(|executable| executable.name == name).unwrap();
    let at = format!("/usr/local/bin/{name}");
    let binary = ManagedFile {
        mode: 0o755,
        source: FileSource::Executable(executable),
        ..file(&at, "", "root", name, Reaction::Restart)
    };
    let text = job(name, &XENIAL, &at, name, args);
    wanted.users.push(SystemUser { name: name.to_owned(), home: path("/nonexistent") });
    wanted.files.push(binary);
    wanted.files.push(file(&format!("/etc/init/{name}.conf"), &text, "root", name, Reaction::Restart));
    wanted.units.push(unit(name));
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

    fn wanted(&self, consul: &[&str], node_exporter: Option<&[&str]>) -> Wanted {
        let address = self.machine.address();
        let mut wanted = Wanted::default();
        let dir = |at: &str, owner: &str| ManagedDir {
            path: path(at),
            mode: 0o750,
            owner: owner.to_owned(),
            group: "consul".to_owned(),
        };
        wanted.dirs = vec![dir("/etc/consul.d", "root"), dir("/var/lib/consul", "consul")];
        let mut args: Vec<String> = ["agent", "-server", "-bootstrap-expect=1", "-config-dir=/etc/consul.d"]
            .into_iter()
            .chain(consul.iter().copied())
            .map(ToOwned::to_owned)
            .collect();
        args.extend([format!("-bind={address}"), "-data-dir=/var/lib/consul".to_owned()]);
        service(&mut wanted, Program::Consul, &args);
        let settings = "{ \"disable_update_check\": true, \"performance\": { \"raft_multiplier\": 1 } }\n";
        wanted.files.push(file("/etc/consul.d/consul.json", settings, "consul", "consul", Reaction::Restart));
        let owned = |at: &str, owner: &str| ManagedDir { group: owner.to_owned(), ..dir(at, owner) };
        wanted.dirs.extend([owned("/etc/prometheus", "prometheus"), owned("/var/lib/prometheus", "prometheus")]);
        let args = ["--config.file=/etc/prometheus/prometheus.yml", "--storage.tsdb.path=/var/lib/prometheus"];
        let listen = format!("--web.listen-address={address}:9090");
        let args: Vec<String> = args.into_iter().map(ToOwned::to_owned).chain([listen]).collect();
        service(&mut wanted, Program::Prometheus, &args);
        let yaml = "scrape_configs: []\n";
        wanted.files.push(file("/etc/prometheus/prometheus.yml", yaml, "prometheus", "prometheus", Reaction::Reload));
        if let Some(more) = node_exporter {
            let more = more.iter().map(|word| (*word).to_owned());
            let args: Vec<String> =
                std::iter::once(format!("--web.listen-address={address}:9100")).chain(more).collect();
            service(&mut wanted, Program::NodeExporter, &args);
        }
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
    let wanted = site.wanted(&[], Some(&[]));
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
    let changed = site.wanted(&[], Some(&["--no-collector.arp"]));
    site.apply_well(&changed).await;
    let after = site.service(&changed, "node_exporter").await;
    let args = site.run(&format!("tr '\\0' ' ' </proc/{}/cmdline", after.main_pid)).await;
    assert!(args.ends_with("--no-collector.arp") && after.main_pid != exporter.main_pid, "{args}");
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
    let broken = site.wanted(&[], Some(&["--no-such-flag"]));
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
    let less = site.wanted(&[], None);
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
    site.run("useradd --system --user-group worker; mkdir -p /etc/service; echo 'CONSUL_FLAGS=\"-a -b=*\"' >/etc/service/consul")
        .await;
    let program = "#!/bin/sh\necho \"$(id -un):$(id -gn) $(id -Gn) umask $(umask)\" \"$@\"\ntrap 'echo INT; exit 12' INT\n\
                   trap 'exit 1' TERM\nwhile :; do sleep 0.1; done\n";
    std::fs::write(site.machine.file("usr/local/bin/worker"), program).unwrap();
    site.run("chmod 755 /usr/local/bin/worker").await;
    let args: Vec<String> = ["agent", "it's", "a\nend script\nexec reboot"].map(ToOwned::to_owned).to_vec();
    for (version, log) in [(OLDEST, "/var/log/clusterctl"), (XENIAL, "/var/log/upstart")] {
        for (name, _) in JOBS {
            let text = job(name, &version, "/usr/local/bin/worker", "worker", &args);
            std::fs::write(site.machine.file(&format!("etc/init/{name}.conf")), text).unwrap();
        }
        site.run("initctl reload-configuration").await;
        let more = |name: &str| if name == "consul" { " -a -b=*" } else { "" };
        for (name, _) in JOBS {
            let said =
                site.run(&format!("initctl start {name}; sleep 0.3; tail -n 3 {log}/{name}.log | tr -d '\\r'")).await;
            let expected =
                format!("worker:worker worker umask 0027 agent it's a\nend script\nexec reboot{}", more(name));
            assert!(said.contains(&expected), "{name} for {version}: {said}");
        }
        let stop: Vec<String> = JOBS.iter().map(|(name, _)| format!("initctl stop {name}")).collect();
        site.run(&stop.join(" && ")).await;
        let last = site.run(&format!("tail -n 1 {log}/consul-template.log | tr -d '\\r'")).await;
        assert_eq!(last, "INT", "for {version}");
    }
    // Whoever keeps ending waits before it starts again, and may be stopped meanwhile.
    std::fs::write(site.machine.file("usr/local/bin/worker"), "#!/bin/sh\necho once\nexit 1\n").unwrap();
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

    // The other discovery, and another interval with it: Prometheus reloads and goes on.
    write("consul-sd", "1s");
    let up = clusterctl(&["up", "--yes"]).expect(0);
    clusterctl(&["plan"]).expect(0);
    let after: BTreeMap<String, u64> = processes();
    let kept: BTreeMap<_, _> = before.iter().filter(|(unit, _)| !unit.contains("template")).collect();
    assert_eq!(after.iter().collect::<BTreeMap<_, _>>(), kept, "{up}");
    let targets = clusterctl(&["targets"]).expect(0);
    assert!(targets.stdout.contains("3 of 3 targets up"), "{targets}");
}
