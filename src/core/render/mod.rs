//! Renders all that is wanted on a host: a pure function of the spec, the cluster's hosts and the
//! artifacts. What differs from the wanted state is `plan`'s matter.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use tera::{Context, Tera, Value};
use thiserror::Error;

use super::dialect::Capability;
use super::templates::{EMBEDDED, Overrides};
use crate::model::artifact::{Arch, Artifact, ArtifactId, Executable, Packed, Sha256};
use crate::model::file::{
    Check, FileSource, HostPath, ManagedDir, ManagedFile, Reaction, SystemUser, UnitName, Wanted, Word,
};
use crate::model::host::Role;
use crate::model::name::HostName;
use crate::model::spec::{Span, Spec};
use crate::model::version::Program;

mod context;
mod quote;

use context::{external_labels, host_context, node_exporter_service, runs_on, scraped_services, service_context};
use quote::systemd_word;

pub const CONSUL_HTTP_PORT: u16 = 8500;
pub const PROMETHEUS_PORT: u16 = 9090;
pub const NODE_EXPORTER_PORT: u16 = 9100;

#[derive(Debug, Error)]
pub enum RenderError {
    #[error("template {name}: {}", causes(.cause))]
    Template {
        name: String,
        // Not named `source`, which `thiserror` would take as one: Tera's own chain is in the message, since its
        // first line says nothing.
        cause: Box<tera::Error>,
    },
    #[error("there is no template \"{name}\" to replace{}", near_hint(.near))]
    NoSuchTemplate { name: String, near: Option<String> },
    #[error("no artifact for {program}")]
    NoArtifact { program: Program },
}

fn causes(error: &tera::Error) -> String {
    let mut text = error.to_string();
    let mut next = std::error::Error::source(error);
    while let Some(cause) = next {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        next = cause.source();
    }
    text
}

fn near_hint(near: &Option<String>) -> String {
    near.as_ref().map(|n| format!(": did you mean \"{n}\"?")).unwrap_or_default()
}

/// A host as the others see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    pub name: HostName,
    pub role: Role,
    pub address: IpAddr,
}

/// Compiled templates. Made once a run, used for every host.
pub struct Renderer {
    tera: Tera,
}

impl Renderer {
    /// # Errors
    /// A template of the user's that does not compile, or that has no namesake among ours.
    pub fn new(overrides: &Overrides) -> Result<Self, RenderError> {
        let mut tera = Tera::default();
        // These are no web pages: each filter below quotes for its own language.
        tera.autoescape_on(Vec::new());
        tera.register_filter("json", |value: &Value, _: &_| Ok(Value::String(value.to_string())));
        tera.register_filter("systemd", |value: &Value, _: &_| match value {
            Value::String(word) => Ok(Value::String(systemd_word(word))),
            other => Err(tera::Error::msg(format!("the filter `systemd` takes a string, not {other}"))),
        });
        for name in overrides.keys() {
            if !EMBEDDED.iter().any(|(known, _)| known == name) {
                let near = super::names::nearest(name, EMBEDDED.iter().map(|(known, _)| *known));
                return Err(RenderError::NoSuchTemplate { name: name.clone(), near: near.map(str::to_owned) });
            }
        }
        for (name, text) in EMBEDDED {
            let text = overrides.get(name).map_or(text, String::as_str);
            tera.add_raw_template(name, text)
                .map_err(|error| RenderError::Template { name: name.to_owned(), cause: Box::new(error) })?;
        }
        Ok(Self { tera })
    }

    fn text(&self, name: &str, context: &Context) -> Result<String, RenderError> {
        self.tera
            .render(name, context)
            .map_err(|error| RenderError::Template { name: name.to_owned(), cause: Box::new(error) })
    }

    /// All that is wanted on `host`. `peers` are all hosts of the cluster, `host` among them, in any order.
    ///
    /// # Errors
    /// A template that fails (only the user's own can), or an artifact that is not given.
    pub fn wanted(
        &self,
        spec: &Spec,
        host: &Peer,
        peers: &[Peer],
        artifacts: &BTreeMap<Program, Artifact>,
    ) -> Result<Wanted, RenderError> {
        let context = host_context(spec, host, peers);
        let mut wanted = Wanted::default();
        self.consul(spec, host, &context, artifacts, &mut wanted)?;
        self.node_exporter(host, &context, artifacts, &mut wanted)?;
        if host.role.is_server() {
            self.prometheus(spec, host, &context, artifacts, &mut wanted)?;
        }
        let units = wanted.units.iter().map(|unit| unit_path(unit.as_str())).collect();
        wanted.checks.push(units_check(units));
        Ok(wanted)
    }

    fn consul(
        &self,
        spec: &Spec,
        host: &Peer,
        context: &Context,
        artifacts: &BTreeMap<Program, Artifact>,
        wanted: &mut Wanted,
    ) -> Result<(), RenderError> {
        let unit = unit("consul");
        wanted.users.push(user("consul", "/var/lib/consul"));
        wanted.dirs.push(dir("/etc/consul.d", 0o750, "root", "consul"));
        wanted.dirs.push(dir("/var/lib/consul", 0o750, "consul", "consul"));
        programs(artifacts, Program::Consul, &unit, wanted)?;
        let agent = self.text("consul/agent.json", context)?;
        wanted.files.push(config("/etc/consul.d/consul.json", agent, "consul", &unit, Reaction::Restart));
        wanted.files.push(self.unit_file("consul", context)?);

        let mut definitions = vec![("node-exporter".to_owned(), node_exporter_service(host))];
        for service in spec.services.iter().filter(|service| runs_on(service, host)) {
            definitions.push((service.name.to_string(), service_context(service)));
        }
        for (name, definition) in definitions {
            let mut context = Context::new();
            context.insert("service", &definition);
            let text = self.text("consul/service.json", &context)?;
            let path = format!("/etc/consul.d/service-{name}.json");
            wanted.files.push(config(&path, text, "consul", &unit, Reaction::Reload));
        }
        wanted.checks.push(Check {
            title: "consul validate".to_owned(),
            covers: vec![path("/etc/consul.d")],
            argv: vec![
                Word::Program(path("/usr/local/bin/consul")),
                Word::Plain("validate".to_owned()),
                Word::Shadow(path("/etc/consul.d")),
            ],
            complaints: Vec::new(),
        });
        wanted.units.push(unit);
        Ok(())
    }

    fn node_exporter(
        &self,
        host: &Peer,
        context: &Context,
        artifacts: &BTreeMap<Program, Artifact>,
        wanted: &mut Wanted,
    ) -> Result<(), RenderError> {
        let unit = unit("node_exporter");
        let mut context = context.clone();
        context.insert("listen", &SocketAddr::new(host.address, NODE_EXPORTER_PORT).to_string());
        wanted.users.push(user("node_exporter", "/nonexistent"));
        programs(artifacts, Program::NodeExporter, &unit, wanted)?;
        wanted.files.push(self.unit_file("node_exporter", &context)?);
        wanted.units.push(unit);
        Ok(())
    }

    fn prometheus(
        &self,
        spec: &Spec,
        host: &Peer,
        context: &Context,
        artifacts: &BTreeMap<Program, Artifact>,
        wanted: &mut Wanted,
    ) -> Result<(), RenderError> {
        let unit = unit("prometheus");
        let mut context = context.clone();
        context.insert("listen", &SocketAddr::new(host.address, PROMETHEUS_PORT).to_string());
        context.insert("scrape_interval", &spec.prometheus.scrape_interval);
        context.insert("scrape_timeout", &spec.prometheus.scrape_interval.min(Span::from_secs(10)));
        context.insert("retention", &spec.prometheus.retention);
        context.insert("external_labels", &external_labels(spec));
        context.insert("scraped_services", &scraped_services(spec));
        context.insert("retention_in_config", &Capability::RetentionInConfig.is_in(&spec.versions));
        context.insert("discovery_reload_flag", &Capability::DiscoveryReloadFlag.is_in(&spec.versions));

        wanted.users.push(user("prometheus", "/var/lib/prometheus"));
        wanted.dirs.push(dir("/etc/prometheus", 0o755, "root", "root"));
        wanted.dirs.push(dir("/etc/prometheus/rules", 0o755, "root", "root"));
        wanted.dirs.push(dir("/var/lib/prometheus", 0o750, "prometheus", "prometheus"));
        programs(artifacts, Program::Prometheus, &unit, wanted)?;
        let main = self.text("prometheus/prometheus.yml", &context)?;
        wanted.files.push(config("/etc/prometheus/prometheus.yml", main, "prometheus", &unit, Reaction::Reload));
        let rules = self.text("prometheus/cluster.rules.yml", &context)?;
        let rules_path = "/etc/prometheus/rules/cluster.rules.yml";
        wanted.files.push(config(rules_path, rules, "prometheus", &unit, Reaction::Reload));
        wanted.files.push(self.unit_file("prometheus", &context)?);
        wanted.checks.push(Check {
            title: "promtool check config".to_owned(),
            covers: vec![path("/etc/prometheus")],
            argv: vec![
                Word::Program(path("/usr/local/bin/promtool")),
                Word::Plain("check".to_owned()),
                Word::Plain("config".to_owned()),
                Word::Shadow(path("/etc/prometheus/prometheus.yml")),
            ],
            complaints: Vec::new(),
        });
        wanted.units.push(unit);
        Ok(())
    }

    fn unit_file(&self, name: &str, context: &Context) -> Result<ManagedFile, RenderError> {
        let text = self.text(&format!("systemd/{name}.service"), context)?;
        Ok(ManagedFile {
            path: unit_path(name),
            mode: 0o644,
            owner: "root".to_owned(),
            group: "root".to_owned(),
            source: FileSource::Text(text),
            reactions: vec![(unit(name), Reaction::Restart)],
            secret: false,
        })
    }
}

/// Where everything stands on a host of this role: `wanted` with artifacts and addresses that do not matter,
/// for asking a host before they are known.
pub fn layout(renderer: &Renderer, spec: &Spec, name: &HostName, role: Role) -> Result<Wanted, RenderError> {
    let peer = Peer { name: name.clone(), role, address: IpAddr::from([0, 0, 0, 0]) };
    let artifacts = spec.versions.all().into_iter().map(|(program, version)| (program, absent(program, version)));
    renderer.wanted(spec, &peer, std::slice::from_ref(&peer), &artifacts.collect())
}

/// An artifact that only has its executables' names.
fn absent(program: Program, version: &semver::Version) -> Artifact {
    let nothing = Sha256::of(b"");
    let executable = |name: &&str| Executable {
        name: (*name).to_owned(),
        sha256: nothing.clone(),
        size: 0,
        gzip: Packed::default(),
        zstd: Packed::default(),
    };
    Artifact {
        id: ArtifactId { program, version: version.clone(), arch: Arch::Amd64 },
        sha256: nothing.clone(),
        source: String::new(),
        executables: program.executables().iter().map(executable).collect(),
    }
}

fn path(text: &str) -> HostPath {
    HostPath::new(text).expect("our own paths are valid, and names in them are validated")
}

fn unit(name: &str) -> UnitName {
    UnitName::new(name).expect("our own unit names are valid")
}

fn unit_path(name: &str) -> HostPath {
    path(&format!("/etc/systemd/system/{name}.service"))
}

fn user(name: &str, home: &str) -> SystemUser {
    SystemUser { name: name.to_owned(), home: path(home) }
}

fn dir(at: &str, mode: u32, owner: &str, group: &str) -> ManagedDir {
    ManagedDir { path: path(at), mode, owner: owner.to_owned(), group: group.to_owned() }
}

/// A configuration file: root writes it, the program's own group reads it.
fn config(at: &str, text: String, group: &str, unit: &UnitName, reaction: Reaction) -> ManagedFile {
    ManagedFile {
        path: path(at),
        mode: 0o640,
        owner: "root".to_owned(),
        group: group.to_owned(),
        source: FileSource::Text(text),
        reactions: vec![(unit.clone(), reaction)],
        secret: false,
    }
}

/// The program's executables; only the one that the unit runs makes it restart.
fn programs(
    artifacts: &BTreeMap<Program, Artifact>,
    program: Program,
    unit: &UnitName,
    wanted: &mut Wanted,
) -> Result<(), RenderError> {
    let artifact = artifacts.get(&program).ok_or(RenderError::NoArtifact { program })?;
    for executable in &artifact.executables {
        let runs = executable.name == program.as_str();
        wanted.files.push(ManagedFile {
            path: path(&format!("/usr/local/bin/{}", executable.name)),
            mode: 0o755,
            owner: "root".to_owned(),
            group: "root".to_owned(),
            reactions: if runs { vec![(unit.clone(), Reaction::Restart)] } else { Vec::new() },
            source: FileSource::Executable(executable.clone()),
            secret: false,
        });
    }
    Ok(())
}

fn units_check(units: Vec<HostPath>) -> Check {
    let mut argv = vec![Word::Plain("systemd-analyze".to_owned()), Word::Plain("verify".to_owned())];
    argv.extend(units.iter().cloned().map(Word::Shadow));
    // It says "consul.service: …" or "/…/consul.service:12: …" of what it ignores, and accepts the unit.
    let name = |path: &HostPath| path.as_str().rsplit('/').next().map(|name| format!("{name}:"));
    let complaints = units.iter().filter_map(name).collect();
    Check { title: "systemd-analyze verify".to_owned(), covers: units, argv, complaints }
}

#[cfg(test)]
pub(crate) mod tests;
