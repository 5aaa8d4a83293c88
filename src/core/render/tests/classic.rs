//! The stack of 2015: every text of it as a snapshot, and each read by the schema of its time.

use super::readers::{Instance, consul_template, literal, unit, words};
use super::schema::{Agent, Prometheus, rules};
use super::*;
use crate::core::image;
use crate::model::spec::{Discovery, ServiceMetrics};

fn classic() -> Spec {
    let mut spec = spec();
    spec.versions = Preset::Classic.versions();
    spec.prometheus.discovery = Discovery::of(Preset::Classic);
    spec.prometheus.external_labels.insert("region".to_owned(), "eu $1".to_owned());
    let check = |kind| Some(ServiceCheck { kind, interval: Span::from_secs(10), timeout: Span::from_millis(500) });
    let mut web = service("web");
    web.check = check(CheckKind::Args(["/usr/lib/check web", "--for=it's $HOME"].map(str::to_owned).to_vec()));
    web.metrics = Some(ServiceMetrics { path: "/metrics".to_owned(), port: None, unhealthy: false });
    let mut cache = service("cache");
    cache.check = check(CheckKind::Http("http://127.0.0.1:81/".to_owned()));
    cache.metrics = Some(ServiceMetrics { path: "/stats".to_owned(), port: Some(9200), unhealthy: true });
    spec.services = vec![web, cache];
    spec
}

fn files(spec: &Spec, role: Role) -> BTreeMap<String, String> {
    let (name, last) = if role.is_server() { ("shop-server-1", 1) } else { ("shop-node-1", 2) };
    texts(&wanted(spec, &peer(name, role, last)))
}

fn shown(files: &BTreeMap<String, String>) -> String {
    files.iter().map(|(at, text)| format!("=== {at}\n{text}\n")).collect()
}

#[test]
fn every_text_of_a_classic_server() {
    insta::assert_snapshot!(shown(&files(&classic(), Role::Server)));
}

#[test]
fn every_text_of_a_classic_node() {
    let node = files(&classic(), Role::Node);
    insta::assert_snapshot!(shown(&node));
    // The two that a server has not, and nothing of what only a server has.
    assert_eq!(node.len(), files(&classic(), Role::Server).len() - 5);
}

/// What `clusterctl render --preset classic` prints, of both roles: images that find their servers by tag.
#[test]
fn every_text_of_a_classic_image_for_upstart() {
    let cluster = ClusterName::new("main").unwrap();
    let (spec, servers) =
        image::spec_with(image::without_spec(cluster, Preset::Classic), &image::Wishes::default()).unwrap();
    let init = image::usual_init(Preset::Classic);
    assert_eq!(init, Init::Upstart(upstart::OLDEST));
    let texts = |role| {
        let images = image::images(&RENDERER, &spec, &[role], &init, &servers).unwrap();
        texts(&images[0].wanted)
    };
    let (server, mut node) = (texts(Role::Server), texts(Role::Node));
    insta::assert_snapshot!("classic image server", shown(&server));
    node.retain(|at, text| server.get(at) != Some(text));
    insta::assert_snapshot!("classic image node, what differs", shown(&node));
}

#[test]
fn consul_0_5_reads_every_key() {
    for role in [Role::Server, Role::Node] {
        let files = files(&classic(), role);
        let read = |at: &str| serde_json::from_str::<Agent>(&files[at]).unwrap_or_else(|error| panic!("{at}: {error}"));
        let agent = read("/etc/consul.d/consul.json");
        assert_eq!(
            (agent.server, agent.bootstrap_expect),
            if role.is_server() { (Some(true), Some(1)) } else { (None, None) }
        );
        assert_eq!((agent.node_name.is_some(), agent.datacenter.as_deref()), (true, Some("dc1")));
        assert_eq!((agent.data_dir.as_deref(), agent.log_level.as_deref()), (Some("/var/lib/consul"), Some("INFO")));
        assert_eq!((agent.client_addr.as_deref(), agent.bind_addr.is_some()), (Some("127.0.0.1"), true));
        assert_eq!((agent.retry_join, agent.retry_interval.is_some()), (vec!["10.0.0.1".to_owned()], true));
        assert_eq!((agent.leave_on_terminate, agent.skip_leave_on_interrupt), (Some(false), Some(true)));
        // On unless it is turned off, and it asks HashiCorp for updates.
        assert_eq!((agent.disable_remote_exec, agent.disable_update_check), (Some(true), Some(true)));
        let services = files.keys().filter(|at| at.contains("/service-"));
        let services: Vec<_> = services.flat_map(|at| read(at).services).collect();
        assert_eq!(services.len(), if role.is_server() { 1 } else { 3 });
        for service in services {
            assert!(!service.name.is_empty() && service.port.is_some() && !service.tags.is_empty());
            let check = service.check.unwrap();
            assert!(check.http.is_some() != check.script.is_some(), "{}", service.name);
            assert!(format!("{:?}{:?}", check.interval, check.timeout).contains("GoDuration"));
        }
    }
}

#[test]
fn prometheus_0_14_reads_every_key() {
    let here = |port| Instance { node: "shop-node-1", address: "10.0.0.2", port, tags: &["node"] };
    let catalog = BTreeMap::from([("node-exporter", vec![here(9100)]), ("web", vec![here(80)])]);
    for discovery in Discovery::ALL {
        let mut spec = classic();
        spec.prometheus.discovery = discovery;
        // That version does not learn of health: such a spec is refused.
        spec.services[0].metrics.as_mut().unwrap().unhealthy = true;
        let files = files(&spec, Role::Server);
        let main = Prometheus::read(&files["/etc/prometheus/prometheus.yml"]);
        assert_eq!(main.global.labels["region"], "eu $1");
        assert_eq!(main.rule_files, ["/etc/prometheus/rules/cluster.rules"]);
        let jobs = |read: &Prometheus| read.scrape_configs.iter().map(|job| job.job_name.clone()).collect::<Vec<_>>();
        if discovery == Discovery::ConsulSd {
            assert_eq!(jobs(&main), ["node", "cache", "web", "prometheus"]);
            let node = &main.scrape_configs[0];
            assert_eq!((node.consul_sd_configs.len(), node.relabel_configs.len()), (1, 2));
            continue;
        }
        // Until Consul Template has written, all but what Consul tells.
        assert_eq!(jobs(&main), ["prometheus"]);
        let template = &files["/etc/consul-template/prometheus.yml.ctmpl"];
        let empty = Prometheus::read(&consul_template(template, &BTreeMap::new()));
        assert!(empty.scrape_configs[0].target_groups.is_empty());
        let full = Prometheus::read(&consul_template(template, &catalog));
        assert_eq!(jobs(&full), ["node", "cache", "web", "prometheus"]);
        let [node, cache, web, _] = &full.scrape_configs[..] else { panic!() };
        assert_eq!(
            (&node.target_groups[0].targets[..], &*node.target_groups[0].labels["role"]),
            (&["10.0.0.2:9100".to_owned()][..], "node")
        );
        assert_eq!((cache.target_groups.len(), cache.metrics_path.as_deref()), (0, Some("/stats")));
        assert_eq!(web.target_groups[0].targets, ["10.0.0.2:80"]);
    }
}

#[test]
fn rules_before_prometheus_2_are_read_in_the_words_of_their_time() {
    for (consul, prometheus, annotations, alerts) in [
        ("0.5.2", "0.14.0", false, 2),
        ("1.22.7", "0.14.0", false, 2),
        ("1.22.7", "0.15.1", false, 3),
        ("1.22.7", "0.16.2", false, 3),
        ("0.5.2", "0.17.0", true, 2),
        ("1.22.7", "1.8.2", true, 3),
    ] {
        let mut spec = classic();
        spec.versions.consul = consul.parse().unwrap();
        spec.versions.prometheus = prometheus.parse().unwrap();
        let files = files(&spec, Role::Server);
        let read = rules(&files["/etc/prometheus/rules/cluster.rules"], annotations);
        assert_eq!(read.len(), alerts, "Prometheus {prometheus} with Consul {consul}");
        for alert in read {
            let severity = if alert.name == "PrometheusConfigRejected" { "warn" } else { "page" };
            assert_eq!((alert.wait.as_deref(), &*alert.labels["severity"]), (Some("1m"), severity));
            assert!(alert.expression.ends_with("== 0") && alert.texts["summary"].len() > 10, "{}", alert.name);
            assert_eq!(alert.texts.contains_key("description"), !annotations);
        }
    }
}

/// The programs' own flags, as systemd hands them on.
#[test]
fn flags_of_the_time_have_one_dash() {
    let files = files(&classic(), Role::Server);
    let started = |name: &str| {
        let unit = unit(&files[&format!("/etc/systemd/system/{name}.service")]);
        let (_, _, line) = unit.into_iter().find(|(_, key, _)| key == "ExecStart").unwrap();
        words(&line)
            .iter()
            .filter(|word| *word != "$CONSUL_FLAGS")
            .map(|word| literal(word))
            .collect::<Vec<_>>()
            .join(" ")
    };
    assert_eq!(started("consul"), "/usr/local/bin/consul agent -config-dir=/etc/consul.d");
    assert_eq!(started("node_exporter"), "/usr/local/bin/node_exporter -logtostderr -web.listen-address=10.0.0.1:9100");
    assert_eq!(
        started("prometheus"),
        "/usr/local/bin/prometheus -config.file=/etc/prometheus/prometheus.yml -storage.local.path=/var/lib/prometheus \
         -storage.local.retention=360h -web.listen-address=10.0.0.1:9090"
    );
    let template = "/usr/local/bin/consul-template -config=/etc/consul-template/consul-template.hcl";
    assert_eq!(started("consul-template"), template);
}
