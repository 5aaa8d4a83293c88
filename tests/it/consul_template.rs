//! Discovery by Consul Template, on real hosts: it follows Consul, a bad rendering does no harm, and a running
//! cluster moves from one way of discovery to the other without a gap.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value as Json;

use crate::support::{Cluster, answer, eventually};

mod rendering;

/// A service whose metrics are node_exporter's once more; each node says by a file whether it is well.
const WEB: &str = "[[service]]\nname = \"web\"\nport = 9100\n\
                   check = { args = [\"/usr/bin/test\", \"-e\", \"/run/well\"], interval = \"1s\", timeout = \"1s\" }\n\
                   metrics = { unhealthy = \"skip\" }\n";

fn spec(cluster: &Cluster, nodes: usize, discovery: &str, interval: &str) -> PathBuf {
    cluster.spec(&format!(
        "[sandbox]\nnodes = {nodes}\n[prometheus]\ndiscovery = \"{discovery}\"\nscrape_interval = \"{interval}\"\n{WEB}"
    ))
}

/// Prometheus' own API, over the sandbox's network.
struct Prometheus {
    url: String,
}

impl Prometheus {
    fn of(cluster: &Cluster) -> Self {
        let status = cluster.run(&["status", "--output", "json"]).json();
        let hosts = status["hosts"].as_array().unwrap();
        let server = hosts.iter().find(|host| host["role"] == "server").unwrap();
        Self { url: format!("http://{}:9090/api/v1", server["address"].as_str().unwrap()) }
    }

    fn get(&self, path: &str, parameters: &[(&str, &str)]) -> Json {
        let mut curl = Command::new("curl");
        curl.args(["-sS", "--fail-with-body", "--noproxy", "*", "--max-time", "10", "--get"]);
        for (key, value) in parameters {
            curl.arg("--data-urlencode").arg(format!("{key}={value}"));
        }
        curl.arg(format!("{}/{path}", self.url));
        answer(curl).expect(0).json()["data"].clone()
    }

    fn query(&self, query: &str) -> Vec<Json> {
        self.get("query", &[("query", query)])["result"].as_array().unwrap().clone()
    }

    /// `JOB INSTANCE` of each target that is up.
    fn up(&self) -> BTreeSet<String> {
        let targets = self.get("targets", &[("state", "active")]);
        let up = targets["activeTargets"].as_array().unwrap().iter().filter(|target| target["health"] == "up");
        let name = |target: &Json| {
            let label = |label: &str| target["labels"][label].as_str().unwrap().to_owned();
            format!("{} {}", label("job"), label("instance"))
        };
        up.map(name).collect()
    }

    #[track_caller]
    fn eventually(&self, what: &str, is: impl Fn(&BTreeSet<String>) -> bool) {
        eventually(what, || {
            let up = self.up();
            if is(&up) { Ok(()) } else { Err(up) }
        });
    }

    /// The samples of each series of `up` in the last minutes, by its labels.
    fn samples(&self) -> BTreeMap<String, Vec<(f64, String)>> {
        let sample = |pair: &Json| (pair[0].as_f64().unwrap(), pair[1].as_str().unwrap().to_owned());
        let series = |series: &Json| {
            let samples = series["values"].as_array().unwrap().iter().map(sample).collect();
            (series["metric"].to_string(), samples)
        };
        self.query("up[5m]").iter().map(series).collect()
    }
}

/// When Prometheus' process began.
fn started(cluster: &Cluster) -> String {
    let show = "systemctl show -p MainPID,ExecMainStartTimestampMonotonic,NRestarts prometheus";
    cluster.run(&["exec", "--role", "server", "--", show]).expect(0).stdout
}

fn on(cluster: &Cluster, host: &str, command: &str) {
    let host = format!("{}-{host}", cluster.name);
    cluster.run(&["exec", "--host", &host, "--", command]).expect(0);
}

/// From one to the other and back: each target keeps its series, misses no scrape, and nothing restarts.
#[test]
fn a_move_between_both_ways_shows_no_gap() {
    let cluster = Cluster::new("e2e-ct-move");
    let spec = |discovery| spec(&cluster, 2, discovery, "2s");
    let file = spec("consul-sd");
    cluster.run_with(&file, &["up"]).expect(0);
    on(&cluster, "node-*", "touch /run/well");
    let prometheus = Prometheus::of(&cluster);
    prometheus.eventually("all is up", |up| up.len() == 7);
    // A few scrapes of all of them before the first move.
    std::thread::sleep(Duration::from_secs(6));
    let (process, before) = (started(&cluster), prometheus.samples());
    assert_eq!(before.len(), 7, "{before:?}");
    let since = before.values().map(|samples| samples.last().unwrap().0).fold(f64::MAX, f64::min);

    for discovery in ["consul-template", "consul-sd", "consul-template", "consul-sd"] {
        let file = spec(discovery);
        cluster.run_with(&file, &["up"]).expect(0);
        cluster.run_with(&file, &["plan"]).expect(0);
        cluster.run_with(&file, &["status"]).expect(0);
        eventually("Prometheus reads the new configuration", || {
            let config = prometheus.get("status/config", &[]).to_string();
            if config.contains("consul_sd_configs") == (discovery == "consul-sd") { Ok(()) } else { Err(config) }
        });
        std::thread::sleep(Duration::from_secs(5));
        assert_eq!(started(&cluster), process, "{discovery}: Prometheus restarted");
    }
    let after = prometheus.samples();
    assert_eq!(after.keys().collect::<Vec<_>>(), before.keys().collect::<Vec<_>>());
    for (series, samples) in &after {
        let moved: Vec<_> = samples.iter().filter(|(at, _)| *at >= since - 2.5).collect();
        assert!(moved.len() > 10, "{series}: {samples:?}");
        for pair in moved.windows(2) {
            // A reload in the very moment of a scrape leaves that one out, on a busy machine; none is missing else.
            assert!(pair[1].0 - pair[0].0 < 4.5, "{series} has a gap: {pair:?} in {samples:?}");
        }
        assert!(moved.iter().all(|(_, value)| value == "1"), "{series} was down: {samples:?}");
    }
    // No series ended and began again in between, which raw samples do not show.
    let now = prometheus.query("vector(time())")[0]["value"][1].as_str().unwrap().to_owned();
    let range = [("query", "count(up)"), ("start", &since.to_string()), ("end", &now), ("step", "0.1")];
    let count = prometheus.get("query_range", &range)["result"][0]["values"].clone();
    assert!(count.as_array().unwrap().iter().all(|pair| pair[1] == "7"), "a series ended: {count}");

    // Nothing of Consul Template's is left.
    let find = "find / -xdev \\( -name '*consul-template*' -o -name '*.candidate' -o -name '*.checked' -o -name 'reload-prometheus' \\) \
                ! -type d ! -path '/var/log/*' ! -path '/proc/*'; systemctl list-units --all --plain --no-legend consul-template.service";
    let left = cluster.run(&["exec", "--role", "server", "--", find]).expect(0);
    assert!(!left.stdout.contains("consul-template") && !left.stdout.contains("prometheus"), "{left}");
}

/// Nodes come and go and fall ill: Prometheus follows and is never restarted, whoever tells it.
#[test]
fn prometheus_follows_consul() {
    let cluster = Cluster::new("e2e-ct-follow");
    let file = spec(&cluster, 1, "consul-template", "1s");
    cluster.run_with(&file, &["up"]).expect(0);
    let prometheus = Prometheus::of(&cluster);
    let process = started(&cluster);
    let has = |job: &'static str, host: &str| {
        let target = format!("{job} e2e-ct-follow-{host}");
        move |up: &BTreeSet<String>| up.contains(&target)
    };
    let lacks = |job: &'static str, host: &str| {
        let has = has(job, host);
        move |up: &BTreeSet<String>| !has(up)
    };
    assert!(lacks("web", "node-1")(&prometheus.up()), "its check does not pass yet");
    on(&cluster, "node-1", "touch /run/well");
    prometheus.eventually("a check that passes", has("web", "node-1"));

    cluster.run_with(&file, &["join-node", "--count", "2"]).expect(0);
    prometheus.eventually("two join", |up| has("node", "node-2")(up) && has("node", "node-3")(up));
    on(&cluster, "node-2", "consul leave && systemctl stop consul");
    prometheus.eventually("one leaves", lacks("node", "node-2"));
    on(&cluster, "node-1", "rm /run/well");
    prometheus.eventually("a check fails", lacks("web", "node-1"));
    assert!(has("node", "node-1")(&prometheus.up()), "the host itself is scraped whatever the checks say");
    assert_eq!(started(&cluster), process, "Prometheus restarted");

    on(&cluster, "node-2", "systemctl start consul");
    prometheus.eventually("it is back", has("node", "node-2"));
    let file = spec(&cluster, 1, "consul-sd", "1s");
    cluster.run_with(&file, &["up"]).expect(0);
    for (command, is) in [("touch /run/well", true), ("rm /run/well", false)] {
        on(&cluster, "node-1", command);
        prometheus.eventually(command, |up| has("web", "node-1")(up) == is);
    }
    assert_eq!(started(&cluster), process, "Prometheus restarted");
}

/// What promtool refuses is never put in place; `up` and `status` say so, and a mended template heals it.
#[test]
fn a_bad_rendering_does_no_harm() {
    let cluster = Cluster::new("e2e-ct-bad");
    let file = spec(&cluster, 0, "consul-sd", "1s");
    let templates = |text: &str| text.replace("provider", "templates = \"templates\"\nprovider");
    std::fs::create_dir_all(cluster.path("templates/prometheus")).unwrap();
    let ours = include_str!("../../templates/prometheus/prometheus.yml");
    let write =
        |more: &str| std::fs::write(cluster.path("templates/prometheus/prometheus.yml"), format!("{ours}{more}"));
    write("{% if discovery == \"consul-template\" %}\nno_such_key: true\n{% endif %}").unwrap();
    std::fs::write(&file, templates(&std::fs::read_to_string(&file).unwrap())).unwrap();
    cluster.run_with(&file, &["up"]).expect(0);
    let prometheus = Prometheus::of(&cluster);
    let process = started(&cluster);
    let config = || cluster.run(&["exec", "--", "cat /etc/prometheus/prometheus.yml"]).expect(0).stdout;
    let before = config();

    let file = spec(&cluster, 0, "consul-template", "1s");
    std::fs::write(&file, templates(&std::fs::read_to_string(&file).unwrap())).unwrap();
    // The second time nothing is left to write, and still it does not end well.
    for _ in 0..2 {
        let up = cluster.run_with(&file, &["up"]).expect(3);
        for said in ["start consul-template", "no_such_key", "promtool refuses", "the old configuration stays"] {
            assert!(up.stdout.contains(said), "no {said}: {up}");
        }
        assert_eq!(config(), before);
        assert_eq!(prometheus.up().len(), 3);
    }
    let status = cluster.run_with(&file, &["status"]).expect(3);
    assert!(status.stdout.contains("consul-template is activating"), "{status}");
    assert_eq!(started(&cluster), process, "Prometheus restarted");

    write("").unwrap();
    cluster.run_with(&file, &["up"]).expect(0);
    cluster.run_with(&file, &["status"]).expect(0);
    // Bad once more, on the way that the hosts are on already, and mended.
    write("\nno_such_key: true\n").unwrap();
    let up = cluster.run_with(&file, &["up"]).expect(3);
    assert!(up.stdout.contains("restart consul-template") && up.stdout.contains("no_such_key"), "{up}");
    write("").unwrap();
    cluster.run_with(&file, &["up"]).expect(0);
    cluster.run_with(&file, &["plan"]).expect(0);
    assert_eq!(prometheus.up().len(), 3);
    assert_eq!(started(&cluster), process, "Prometheus restarted");
}

/// `kill -9` in the middle of a move, with another interval at once; then again: it converges.
#[test]
fn a_move_that_was_killed_is_finished() {
    let cluster = Cluster::new("e2e-ct-killed");
    let file = spec(&cluster, 0, "consul-sd", "2s");
    cluster.run_with(&file, &["up"]).expect(0);
    let (prometheus, process) = (Prometheus::of(&cluster), started(&cluster));
    for (discovery, interval) in [("consul-template", "1s"), ("consul-sd", "2s")] {
        let file = spec(&cluster, 0, discovery, interval);
        for moment in ["\"step\":\"send\"", "\"step\":\"unit\""] {
            let args = ["up", "--output", "json", "-f", "cluster.toml"];
            let mut child = cluster.command(&args).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
            let events = BufReader::new(child.stderr.take().unwrap()).lines();
            // Where the first kill came too late to stop the installer, there is no second moment.
            events.map_while(Result::ok).any(|line| line.contains(moment));
            child.kill().unwrap();
            child.wait().unwrap();
        }
        cluster.run_with(&file, &["up"]).expect(0);
        cluster.run_with(&file, &["plan"]).expect(0);
        cluster.run_with(&file, &["status"]).expect(0);
        eventually("Prometheus reads the new configuration", || {
            let config = prometheus.get("status/config", &[]).to_string();
            let is = config.contains(&format!("scrape_interval: {interval}"))
                && config.contains("consul_sd_configs") == (discovery == "consul-sd");
            if is { Ok(()) } else { Err(config) }
        });
        assert_eq!(started(&cluster), process, "Prometheus restarted");
    }
}
