use std::collections::BTreeSet;
use std::sync::LazyLock;

use proptest::prelude::*;
use serde_json::Value as Json;
use serde_yaml_ng::Value as Yaml;

use super::*;
use crate::model::artifact::{Arch, ArtifactId, Executable, Packed, Sha256};
use crate::model::file::FileSource;
use crate::model::name::{ClusterName, ServiceName};
use crate::model::spec::{CheckKind, Service, ServiceCheck, Span};
use crate::model::version::Preset;

mod boot;
mod capabilities;
mod classic;
mod hostile;
pub(crate) mod readers;
mod schema;
mod strings;

/// A program of the test's own. Written by a child: a file that this process has open for writing is open in whatever
/// another test's thread starts in that moment, too, and then cannot be run ("Text file busy").
pub(crate) fn put_program(at: &std::path::Path, text: impl AsRef<[u8]>) {
    let write = ["-c", "cat >\"$0\" && chmod 755 \"$0\""];
    let mut child =
        std::process::Command::new("sh").args(write).arg(at).stdin(std::process::Stdio::piped()).spawn().unwrap();
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), text.as_ref()).unwrap();
    assert!(child.wait().unwrap().success(), "{}", at.display());
}

pub(crate) fn artifacts() -> BTreeMap<Program, Artifact> {
    let versions = Preset::Current.versions();
    let artifact = |(program, version): (Program, &semver::Version)| {
        let executables = program.executables(version).iter().map(|name| Executable {
            name: (*name).to_owned(),
            sha256: Sha256::of(format!("{name} {version}").as_bytes()),
            size: 100 << 20,
            gzip: Packed { path: format!("/cache/{name}.gz").into(), size: 30 << 20, sha256: None },
            zstd: Packed { path: format!("/cache/{name}.zst").into(), size: 20 << 20, sha256: None },
        });
        let artifact = Artifact {
            id: ArtifactId { program, version: version.clone(), arch: Arch::Amd64 },
            sha256: Sha256::of(b"archive"),
            source: "test".to_owned(),
            executables: executables.collect(),
        };
        (program, artifact)
    };
    let versioned = Program::ALL.iter().filter_map(|program| Some((*program, versions.get(*program)?)));
    versioned.map(artifact).collect()
}

fn peer(name: &str, role: Role, last: u8) -> Peer {
    Peer { name: HostName::new(name).unwrap(), role, address: IpAddr::from([10, 0, 0, last]) }
}

fn spec() -> Spec {
    Spec::sandbox(ClusterName::new("shop").unwrap())
}

fn service(name: &str) -> Service {
    Service {
        name: ServiceName::new(name).unwrap(),
        port: Some(80),
        tags: BTreeSet::from(["http".to_owned()]),
        roles: BTreeSet::from([Role::Node]),
        hosts: BTreeSet::new(),
        check: None,
        metrics: None,
    }
}

/// Compiled once: a property test renders hundreds of times.
pub(crate) static RENDERER: LazyLock<Renderer> = LazyLock::new(|| Renderer::new(&Overrides::new()).unwrap());

fn wanted(spec: &Spec, host: &Peer) -> Wanted {
    let peers = [peer("shop-server-1", Role::Server, 1), peer("shop-node-1", Role::Node, 2)];
    RENDERER.wanted(spec, &Subject::of(host, &peers, Init::Systemd), &artifacts()).unwrap()
}

/// Every text file by its path.
pub(crate) fn texts(wanted: &Wanted) -> BTreeMap<String, String> {
    let text = |file: &ManagedFile| match &file.source {
        FileSource::Text(text) => Some((file.path.to_string(), text.clone())),
        FileSource::Executable(_) => None,
    };
    wanted.files.iter().filter_map(text).collect()
}

fn text<'a>(wanted: &'a Wanted, path: &str) -> &'a str {
    let file = wanted.files.iter().find(|file| file.path.as_str() == path);
    match &file.unwrap_or_else(|| panic!("no {path}")).source {
        FileSource::Text(text) => text,
        FileSource::Executable(_) => panic!("{path} is an executable"),
    }
}

#[test]
fn server_files() {
    let wanted = wanted(&spec(), &peer("shop-server-1", Role::Server, 1));
    let paths: Vec<&str> = wanted.files.iter().map(|file| file.path.as_str()).collect();
    insta::assert_snapshot!(paths.join("\n"));
    insta::assert_snapshot!("consul.json server", text(&wanted, "/etc/consul.d/consul.json"));
    insta::assert_snapshot!("prometheus.yml", text(&wanted, "/etc/prometheus/prometheus.yml"));
    insta::assert_snapshot!("prometheus.service", text(&wanted, "/etc/systemd/system/prometheus.service"));
    insta::assert_snapshot!("consul.service server", text(&wanted, "/etc/systemd/system/consul.service"));
    insta::assert_snapshot!("rules", text(&wanted, "/etc/prometheus/rules/cluster.rules.yml"));
}

#[test]
fn node_files() {
    let mut spec = spec();
    let mut web = service("web");
    web.check = Some(ServiceCheck {
        kind: CheckKind::Http("http://127.0.0.1/".to_owned()),
        interval: Span::from_secs(10),
        timeout: Span::from_secs(5),
    });
    spec.services.push(web);
    let wanted = wanted(&spec, &peer("shop-node-1", Role::Node, 2));
    assert!(!wanted.files.iter().any(|file| file.path.as_str().contains("prometheus")));
    insta::assert_snapshot!("consul.json node", text(&wanted, "/etc/consul.d/consul.json"));
    insta::assert_snapshot!("service-web.json", text(&wanted, "/etc/consul.d/service-web.json"));
    insta::assert_snapshot!("node_exporter.service", text(&wanted, "/etc/systemd/system/node_exporter.service"));
}

#[test]
fn a_service_stands_only_where_it_belongs() {
    let mut spec = spec();
    let mut only = service("only");
    only.hosts = BTreeSet::from([HostName::new("shop-node-2").unwrap()]);
    spec.services = vec![service("web"), only];
    let has = |wanted: &Wanted, name: &str| wanted.files.iter().any(|f| f.path.as_str().contains(name));
    let node = wanted(&spec, &peer("shop-node-1", Role::Node, 2));
    assert!(has(&node, "service-web") && !has(&node, "service-only"));
    let server = wanted(&spec, &peer("shop-server-1", Role::Server, 1));
    assert!(!has(&server, "service-web"));
    assert!(has(&wanted(&spec, &peer("shop-node-2", Role::Node, 3)), "service-only"));
}

#[test]
fn scripts_are_allowed_only_where_a_check_needs_them() {
    let mut spec = spec();
    let node = peer("shop-node-1", Role::Node, 2);
    let enabled = |spec: &Spec| {
        let json: Json = serde_json::from_str(text(&wanted(spec, &node), "/etc/consul.d/consul.json")).unwrap();
        json["enable_local_script_checks"].as_bool().unwrap()
    };
    assert!(!enabled(&spec));
    let mut script = service("script");
    script.check = Some(ServiceCheck {
        kind: CheckKind::Args(vec!["/bin/true".to_owned()]),
        interval: Span::from_secs(10),
        timeout: Span::from_secs(5),
    });
    spec.services.push(script);
    assert!(enabled(&spec));
}

#[test]
fn an_older_prometheus_gets_retention_as_a_flag() {
    let mut spec = spec();
    spec.versions.prometheus = semver::Version::new(2, 53, 0);
    let wanted = wanted(&spec, &peer("shop-server-1", Role::Server, 1));
    assert!(text(&wanted, "/etc/systemd/system/prometheus.service").contains("--storage.tsdb.retention.time=360h"));
    assert!(!text(&wanted, "/etc/prometheus/prometheus.yml").contains("retention"));
}

#[test]
fn an_unknown_template_is_refused_with_the_near_one() {
    let overrides = Overrides::from([("consul/agents.json".to_owned(), String::new())]);
    let error = Renderer::new(&overrides).err().unwrap().to_string();
    assert_eq!(error, "there is no template \"consul/agents.json\" to replace: did you mean \"consul/agent.json\"?");
}

#[test]
fn a_broken_template_is_named() {
    let overrides = Overrides::from([("consul/agent.json".to_owned(), "{{ nam }}".to_owned())]);
    let peers = [peer("shop-server-1", Role::Server, 1)];
    let error = Renderer::new(&overrides)
        .unwrap()
        .wanted(&spec(), &Subject::of(&peers[0], &peers, Init::Systemd), &artifacts())
        .err()
        .unwrap()
        .to_string();
    assert!(error.contains("consul/agent.json") && error.contains("`nam`"), "{error}");
}

#[test]
fn the_reference_names_every_template_and_every_value() {
    let reference = include_str!("../../../../docs/templates.md");
    let regex = |text: &str| regex::Regex::new(text).unwrap();
    let (raw, tag) = (regex(r"(?s)\{% raw %\}.*?\{% endraw %\}"), regex(r"(?s)\{[{%]-?(.*?)-?[%}]\}"));
    let (string, word) = (regex("\"[^\"]*\"|'[^']*'"), regex(r"([.|]\s*)?\b([a-z_]+)\b(=)?"));
    let tera = "if elif else endif for endfor in set and or not is loop split join concat with import include as macro endmacro";
    // What templates make themselves.
    let own = "label arg word url address port group groups rule type key value job log kept become command wait";
    for (name, text) in EMBEDDED {
        assert!(reference.contains(&format!("`{name}`")), "{name}");
        for found in tag.captures_iter(&raw.replace_all(text, "")) {
            let words = string.replace_all(&found[1], "").into_owned();
            // Not a field, a filter or a filter's argument.
            for found in word.captures_iter(&words).filter(|found| found.get(1).or(found.get(3)).is_none()) {
                let known = |list: &str| list.split(' ').any(|known| *known == found[2]);
                let told = known(tera) || known(own) || reference.contains(&format!("`{}`", &found[2]));
                assert!(told, "{} of {name}", &found[2]);
            }
        }
    }
}

#[test]
fn a_mistake_in_a_template_is_told_once() {
    for text in ["{% if %}", "{{ nam }}", "{{ name | jsonn }}"] {
        let overrides = Overrides::from([("consul/agent.json".to_owned(), text.to_owned())]);
        let error = match Renderer::new(&overrides) {
            Err(error) => error,
            Ok(renderer) => renderer.text("consul/agent.json", &Context::new()).unwrap_err(),
        };
        assert!(error.to_string().starts_with("template consul/agent.json: "), "{error}");
        assert!(std::error::Error::source(&error).is_none(), "{text}: its causes are in its message already");
    }
}
