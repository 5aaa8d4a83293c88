//! What Consul Template makes of our template: real programs, the oldest and today's, beside a Consul of the test's
//! own on this machine.

use std::collections::BTreeSet;
use std::fs;
use std::net::{IpAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use clusterctl::core::render::{Peer, Renderer, Subject, absent};
use clusterctl::core::specfile;
use clusterctl::model::file::FileSource;
use clusterctl::model::host::Role;
use clusterctl::model::init::Init;
use clusterctl::model::name::HostName;
use clusterctl::model::version::Program;
use serde_yaml_ng::Value as Yaml;

use crate::programs::unpack;
use crate::support::{answer, eventually};

/// An agent that is a cluster by itself; gone with the test.
struct Consul {
    agent: Child,
    url: String,
    address: String,
}

impl Consul {
    fn new(folder: &Path) -> Self {
        unpack(Program::Consul, "1.22.7", folder);
        // Held together, so that they differ.
        let free: Vec<TcpListener> = (0..3).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
        let port: Vec<u16> = free.iter().map(|listener| listener.local_addr().unwrap().port()).collect();
        drop(free);
        let agent = Command::new(folder.join("consul"))
            .args(["agent", "-dev", "-bind=127.0.0.1", "-node=agent", "-log-level=err", "-serf-wan-port=-1"])
            .args(["-dns-port=-1", "-grpc-port=-1", "-grpc-tls-port=-1"])
            .arg(format!("-http-port={}", port[0]))
            .arg(format!("-server-port={}", port[1]))
            .arg(format!("-serf-lan-port={}", port[2]))
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let address = format!("127.0.0.1:{}", port[0]);
        let consul = Self { agent, url: format!("http://{address}/v1"), address };
        eventually("Consul has a leader", || {
            let mut curl = curl();
            let leader = answer({
                curl.arg(format!("{}/status/leader", consul.url));
                curl
            });
            if leader.stdout.contains(':') { Ok(()) } else { Err(leader) }
        });
        consul
    }

    /// A service of a node, with a check of its own.
    fn register(&self, node: (&str, &str), service: &str, port: u16, tags: &[&str], status: &str) {
        let body = serde_json::json!({
            "Node": node.0, "Address": node.1,
            "Service": { "ID": service, "Service": service, "Port": port, "Tags": tags },
            "Check": { "CheckID": format!("check of {service}"), "Name": "c", "ServiceID": service, "Status": status },
        });
        let mut curl = curl();
        curl.args(["-X", "PUT", "--data-binary", &body.to_string()]);
        curl.arg(format!("{}/catalog/register", self.url));
        answer(curl).expect(0);
    }
}

fn curl() -> Command {
    let mut curl = Command::new("curl");
    curl.args(["-sS", "--fail-with-body", "--noproxy", "*", "--max-time", "10"]);
    curl
}

impl Drop for Consul {
    fn drop(&mut self) {
        let _ = self.agent.kill();
        let _ = self.agent.wait();
    }
}

/// The template for this version of Consul Template.
fn template(version: &str) -> String {
    let text = format!(
        "[cluster]\nname = \"shop\"\nprovider = \"sandbox\"\n[versions]\nconsul_template = \"{version}\"\n[prometheus]\n\
         discovery = \"consul-template\"\nexternal_labels = {{ odd = \"{{{{ x }}}} 'y'\" }}\n\
         [[service]]\nname = \"web\"\nport = 80\nmetrics = {{ unhealthy = \"skip\" }}\n\
         [[service]]\nname = \"api\"\nport = 81\nmetrics = {{ port = 9200, path = \"/m\" }}\n\
         [[service]]\nname = \"nobody\"\nport = 82\nmetrics = {{}}\n"
    );
    let spec = specfile::parse(&text, "cluster.toml").unwrap();
    let server = Peer {
        name: HostName::new("shop-server-1").unwrap(),
        role: Role::Server,
        address: IpAddr::from([10, 0, 0, 1]),
    };
    let subject = Subject::of(&server, std::slice::from_ref(&server), Init::Systemd);
    let renderer = Renderer::new(&std::collections::BTreeMap::new()).unwrap();
    let wanted = renderer.wanted(&spec, &subject, &absent(&spec, Role::Server)).unwrap();
    let file = wanted.files.iter().find(|file| file.path.as_str().ends_with(".ctmpl")).unwrap();
    match &file.source {
        FileSource::Text(text) => text.clone(),
        FileSource::Executable(_) => panic!("{} is a program", file.path),
    }
}

/// `JOB TARGET INSTANCE ROLE` of every target of the jobs that Consul is asked for.
fn targets(rendered: &str) -> BTreeSet<String> {
    let yaml: Yaml = serde_yaml_ng::from_str(rendered).unwrap_or_else(|error| panic!("{error}: {rendered}"));
    let mut found = BTreeSet::new();
    for job in yaml["scrape_configs"].as_sequence().unwrap() {
        let name = job["job_name"].as_str().unwrap();
        if ["consul", "prometheus"].contains(&name) {
            continue;
        }
        for group in job["static_configs"].as_sequence().unwrap() {
            let label = |label: &str| group["labels"][label].as_str().unwrap_or("-");
            for target in group["targets"].as_sequence().unwrap() {
                found.insert(format!("{name} {} {} {}", target.as_str().unwrap(), label("instance"), label("role")));
            }
        }
    }
    found
}

#[test]
fn the_oldest_and_todays_consul_template_render_the_same_targets() {
    let folder = tempfile::tempdir().unwrap();
    let consul = Consul::new(folder.path());
    unpack(Program::Prometheus, "3.13.3", folder.path());
    for version in ["0.10.0", "0.42.1"] {
        let programs = folder.path().join(version);
        fs::create_dir_all(&programs).unwrap();
        unpack(Program::ConsulTemplate, version, &programs);
        fs::write(programs.join("ctmpl"), template(version)).unwrap();
    }
    let render = |version: &str, flag: &str| {
        let programs = folder.path().join(version);
        let out = programs.join("prometheus.yml");
        let mut once = Command::new(programs.join("consul-template"));
        once.arg(format!("{flag}={}", consul.address)).arg("-once");
        once.arg(format!("-template={}:{}", programs.join("ctmpl").display(), out.display()));
        answer(once).expect(0);
        let mut promtool = Command::new(folder.path().join("promtool"));
        promtool.args(["check", "config"]).arg(&out);
        answer(promtool).expect(0);
        fs::read_to_string(out).unwrap()
    };

    // Nobody is there yet.
    for (version, flag) in [("0.10.0", "-consul"), ("0.42.1", "-consul-addr")] {
        assert_eq!(targets(&render(version, flag)), BTreeSet::new(), "{version}");
    }

    let odd = ("q\"uo'te {{x}} \\", "10.0.0.3");
    consul.register(("a", "10.0.0.1"), "node-exporter", 9100, &["server"], "passing");
    // A host whose check fails stays a target.
    consul.register(("six", "fd00::2"), "node-exporter", 9100, &["node"], "critical");
    consul.register(odd, "node-exporter", 9101, &["x", "node", "server", "y"], "passing");
    consul.register(("none", "10.0.0.4"), "node-exporter", 9100, &[], "passing");
    // Whatever the letter case.
    consul.register(("a", "10.0.0.1"), "Web", 80, &[], "passing");
    consul.register(("six", "fd00::2"), "web", 8080, &[], "passing");
    consul.register(("none", "10.0.0.4"), "web", 80, &[], "critical");
    consul.register(("a", "10.0.0.1"), "api", 81, &[], "critical");
    consul.register(("six", "fd00::2"), "api", 81, &[], "passing");
    let expected = [
        "node 10.0.0.1:9100 a server",
        "node [fd00::2]:9100 six node",
        "node 10.0.0.3:9101 q\"uo'te {{x}} \\ server",
        "node 10.0.0.4:9100 none -",
        "web 10.0.0.1:80 a -",
        "web [fd00::2]:8080 six -",
        "api 10.0.0.1:9200 a -",
        "api [fd00::2]:9200 six -",
    ];
    let expected: BTreeSet<String> = expected.map(str::to_owned).into();
    for (version, flag) in [("0.10.0", "-consul"), ("0.42.1", "-consul-addr")] {
        let rendered = render(version, flag);
        assert_eq!(targets(&rendered), expected, "{version}: {rendered}");
        let yaml: Yaml = serde_yaml_ng::from_str(&rendered).unwrap();
        assert_eq!(yaml["global"]["external_labels"]["odd"], "{{ x }} 'y'", "{version}");
    }
}
