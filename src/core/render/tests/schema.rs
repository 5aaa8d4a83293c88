//! What the programs of 2015 read, key by key and strictly: an unknown key, which some of them ignore, is a mistake.

use std::collections::BTreeMap;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer};

/// A duration as Go reads it: what Consul is given.
#[derive(Debug)]
pub struct GoDuration;

impl<'de> Deserialize<'de> for GoDuration {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        duration(&String::deserialize(from)?, &["ms", "h", "m", "s"]).map(|()| Self).map_err(D::Error::custom)
    }
}

/// A duration as the first Prometheus reads it.
#[derive(Debug)]
pub struct OldDuration;

impl<'de> Deserialize<'de> for OldDuration {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        duration(&String::deserialize(from)?, &["y", "w", "d", "h", "m", "s"]).map(|()| Self).map_err(D::Error::custom)
    }
}

/// One whole number and one unit.
fn duration(text: &str, units: &[&str]) -> Result<(), String> {
    let number = units.iter().find_map(|unit| text.strip_suffix(unit));
    let fine = number.is_some_and(|number| !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit()));
    if fine { Ok(()) } else { Err(format!("{text} is no duration")) }
}

/// Consul 0.5.2's configuration, as far as anything of it is written; it refuses all other keys at the top.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Agent {
    pub node_name: Option<String>,
    pub datacenter: Option<String>,
    pub data_dir: Option<String>,
    pub bind_addr: Option<String>,
    pub client_addr: Option<String>,
    pub log_level: Option<String>,
    pub server: Option<bool>,
    pub leave_on_terminate: Option<bool>,
    pub skip_leave_on_interrupt: Option<bool>,
    pub disable_remote_exec: Option<bool>,
    pub disable_update_check: Option<bool>,
    pub bootstrap_expect: Option<u16>,
    pub retry_interval: Option<GoDuration>,
    #[serde(default)]
    pub retry_join: Vec<String>,
    #[serde(default)]
    pub services: Vec<Service>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Service {
    pub name: String,
    #[serde(default)]
    pub tags: Vec<String>,
    pub port: Option<u16>,
    pub check: Option<Check>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Check {
    pub script: Option<String>,
    pub http: Option<String>,
    pub interval: GoDuration,
    pub timeout: GoDuration,
}

/// Prometheus 0.14's configuration.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Prometheus {
    pub global: Global,
    pub rule_files: Vec<String>,
    pub scrape_configs: Vec<ScrapeConfig>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "reading them is the test")]
pub struct Global {
    pub scrape_interval: OldDuration,
    pub scrape_timeout: OldDuration,
    pub evaluation_interval: OldDuration,
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScrapeConfig {
    pub job_name: String,
    pub metrics_path: Option<String>,
    #[serde(default)]
    pub target_groups: Vec<TargetGroup>,
    #[serde(default)]
    pub consul_sd_configs: Vec<ConsulSd>,
    #[serde(default)]
    pub relabel_configs: Vec<Relabel>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TargetGroup {
    pub targets: Vec<String>,
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConsulSd {
    pub server: String,
    pub services: Vec<String>,
}

/// Neither `regex` nor `replacement` has a default in that version.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "reading them is the test")]
pub struct Relabel {
    pub source_labels: Vec<String>,
    pub regex: String,
    pub target_label: String,
    pub replacement: String,
}

impl Prometheus {
    pub fn read(text: &str) -> Self {
        let read: Self = serde_yaml_ng::from_str(text).unwrap_or_else(|error| panic!("{error} in\n{text}"));
        let mut names = std::collections::BTreeSet::new();
        for job in &read.scrape_configs {
            let name = &job.job_name;
            let first = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
            assert!(first && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-".contains(&b)), "job {name}");
            assert!(names.insert(name), "two jobs {name}");
            for group in &job.target_groups {
                assert!(group.targets.iter().all(|target| !target.contains('/') && !target.is_empty()), "{name}");
            }
            for sd in &job.consul_sd_configs {
                assert!(!sd.server.is_empty() && !sd.services.is_empty(), "{name}");
            }
        }
        read
    }
}

/// An alert of the rules' language before Prometheus 2.
#[derive(Debug, PartialEq, Eq)]
pub struct Alert {
    pub name: String,
    pub expression: String,
    pub wait: Option<String>,
    pub labels: BTreeMap<String, String>,
    /// `summary` and `description`, in whichever form they were written.
    pub texts: BTreeMap<String, String>,
}

/// Reads rules: with `WITH`, `SUMMARY` and `DESCRIPTION`, all in this order, or with `LABELS` and `ANNOTATIONS`.
pub fn rules(text: &str, annotations: bool) -> Vec<Alert> {
    let lines = text.lines().filter(|line| !line.trim_start().starts_with('#'));
    let mut rest = lines.collect::<Vec<_>>().join("\n");
    let mut alerts = Vec::new();
    while !rest.trim().is_empty() {
        let mut at = rest.trim_start();
        keyword(&mut at, "ALERT");
        let name = word(&mut at);
        keyword(&mut at, "IF");
        let stops = ["FOR", "WITH", "SUMMARY", "LABELS", "ANNOTATIONS"];
        let mut expression = Vec::new();
        while !stops.iter().any(|stop| at.starts_with(stop)) {
            expression.push(word(&mut at));
        }
        let wait = at.starts_with("FOR").then(|| {
            keyword(&mut at, "FOR");
            word(&mut at)
        });
        wait.iter().for_each(|wait| duration(wait, &["y", "w", "d", "h", "m", "s"]).unwrap());
        let with = if annotations { "LABELS" } else { "WITH" };
        let labels = optional_map(&mut at, with);
        let texts = if annotations {
            optional_map(&mut at, "ANNOTATIONS")
        } else {
            let mut texts = BTreeMap::new();
            for key in ["SUMMARY", "DESCRIPTION"] {
                keyword(&mut at, key);
                texts.insert(key.to_lowercase(), string(&mut at));
            }
            texts
        };
        alerts.push(Alert { name, expression: expression.join(" "), wait, labels, texts });
        rest = at.to_owned();
    }
    alerts
}

fn keyword(at: &mut &str, expected: &str) {
    assert_eq!(word(at), expected, "before {at:?}");
}

fn word(at: &mut &str) -> String {
    let end = at.find(char::is_whitespace).unwrap_or(at.len());
    let (word, rest) = at.split_at(end);
    *at = rest.trim_start();
    assert!(!word.is_empty(), "the rules end early");
    word.to_owned()
}

fn string(at: &mut &str) -> String {
    let inner = at.strip_prefix('"').unwrap_or_else(|| panic!("no string: {at:?}"));
    let (text, rest) = inner.split_once('"').expect("a string ends");
    assert!(!text.contains(['\\', '\n']), "{text:?}");
    *at = rest.trim_start();
    text.to_owned()
}

fn optional_map(at: &mut &str, name: &str) -> BTreeMap<String, String> {
    let mut entries = BTreeMap::new();
    if !at.starts_with(name) {
        return entries;
    }
    keyword(at, name);
    keyword(at, "{");
    while !at.starts_with('}') {
        let key = word(at);
        keyword(at, "=");
        entries.insert(key, string(at));
        if !at.starts_with('}') {
            keyword(at, ",");
        }
    }
    keyword(at, "}");
    entries
}
