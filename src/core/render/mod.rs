//! Renders all that is wanted on a host: a pure function of the spec, the host, its init system and the
//! artifacts. What differs from the wanted state is `plan`'s matter.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde_json::json;
use tera::{Context, Tera, Value};
use thiserror::Error;

use super::dialect::Dialect;
use super::templates::{EMBEDDED, Overrides};
use super::upstart;
use crate::model::artifact::Artifact;
use crate::model::file::{ManagedFile, Reaction, UnitName, Wanted};
use crate::model::host::Role;
use crate::model::init::Init;
use crate::model::name::HostName;
use crate::model::spec::Spec;
use crate::model::version::Program;

mod alertmanager;
mod arguments;
mod boot;
mod consul;
mod consul_template;
mod context;
mod layout;
mod node_exporter;
mod place;
mod prometheus;
mod quote;
mod reap;
mod units;

pub use consul_template::{CANDIDATE as PROMETHEUS_CANDIDATE, FOLDER as CONSUL_TEMPLATE_FOLDER};
pub use layout::{absent, image_layout, layout};
pub use prometheus::CONFIG as PROMETHEUS_CONFIG;
pub use quote::{hcl_string, hcl_value};

use context::{Values, host_context};
use place::{plain_file, unit};
use quote::{json_value, systemd_word};

pub const CONSUL_HTTP_PORT: u16 = 8500;
pub const PROMETHEUS_PORT: u16 = 9090;
pub const NODE_EXPORTER_PORT: u16 = 9100;
pub const ALERTMANAGER_PORT: u16 = 9093;

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
    #[error("template {name} renders to a job that Upstart {version} refuses: {mistakes}")]
    NoJob { name: String, version: semver::Version, mistakes: String },
    #[error("no artifact for {program}")]
    NoArtifact { program: Program },
    #[error("no units can be written for {init}: systemd and Upstart are known")]
    NoInit { init: Init },
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

/// Whose files are rendered: one host, or any host of a role, as in an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subject {
    pub role: Role,
    pub init: Init,
    /// `None`: whatever the machine is named when it starts.
    pub name: Option<HostName>,
    /// `None`: whatever private address the machine has when it starts.
    pub address: Option<IpAddr>,
    /// The addresses of the cluster's servers, in the order of their names, where agents are to be told them.
    pub servers: Vec<IpAddr>,
}

impl Subject {
    /// One host of the cluster. `peers` are all of its hosts, in any order.
    pub fn of(host: &Peer, peers: &[Peer], init: Init) -> Self {
        let mut servers: Vec<&Peer> = peers.iter().filter(|peer| peer.role.is_server()).collect();
        servers.sort_by(|a, b| a.name.cmp(&b.name));
        Self {
            role: host.role,
            init,
            name: Some(host.name.clone()),
            address: Some(host.address),
            servers: servers.iter().map(|peer| peer.address).collect(),
        }
    }
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
        tera.register_filter("hcl", |value: &Value, _: &_| Ok(Value::String(hcl_value(value))));
        tera.register_filter("json", |value: &Value, _: &_| Ok(Value::String(json_value(value))));
        tera.register_filter("systemd", |value: &Value, _: &_| word("systemd", value).map(|w| systemd_word(w).into()));
        tera.register_filter("sh", |value: &Value, _: &_| word("sh", value).map(|w| super::install::quote(w).into()));
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

    /// A template that is no host's file.
    ///
    /// # Errors
    /// It does not render.
    pub fn document(&self, name: &str, context: &Context) -> Result<String, RenderError> {
        self.text(name, context)
    }

    fn text(&self, name: &str, context: &Context) -> Result<String, RenderError> {
        self.tera
            .render(name, context)
            .map_err(|error| RenderError::Template { name: name.to_owned(), cause: Box::new(error) })
    }

    /// All that is wanted on `subject`, its jobs read by the strictness of its own Upstart.
    ///
    /// # Errors
    /// A template that fails (only the user's own can), an artifact that is not given, an init system that is
    /// neither systemd nor Upstart.
    pub fn wanted(
        &self,
        spec: &Spec,
        subject: &Subject,
        artifacts: &BTreeMap<Program, Artifact>,
    ) -> Result<Wanted, RenderError> {
        self.made(spec, subject, artifacts, true)
    }

    /// `strict`: is a job refused that its Upstart could not read? Not where only places and names matter.
    fn made(
        &self,
        spec: &Spec,
        subject: &Subject,
        artifacts: &BTreeMap<Program, Artifact>,
        strict: bool,
    ) -> Result<Wanted, RenderError> {
        if subject.init == Init::Other {
            return Err(RenderError::NoInit { init: subject.init.clone() });
        }
        let dialect = Dialect { versions: &spec.versions, init: &subject.init };
        let context = host_context(spec, subject, dialect);
        let mut make =
            Making { renderer: self, spec, subject, dialect, context, artifacts, strict, wanted: Wanted::default() };
        for program in spec.programs(subject.role) {
            match program {
                Program::Consul => make.consul()?,
                Program::NodeExporter => make.node_exporter()?,
                Program::Prometheus => make.prometheus()?,
                Program::ConsulTemplate => make.consul_template()?,
                Program::Alertmanager => make.alertmanager()?,
                Program::Pushgateway => {}
            }
        }
        make.reap()?;
        make.units_of_all()?;
        Ok(make.wanted)
    }
}

fn word<'a>(filter: &str, value: &'a Value) -> tera::Result<&'a str> {
    value.as_str().ok_or_else(|| tera::Error::msg(format!("the filter `{filter}` takes a string, not {value}")))
}

/// One host's files in the making; each program's own module adds its part.
struct Making<'a> {
    renderer: &'a Renderer,
    spec: &'a Spec,
    subject: &'a Subject,
    dialect: Dialect<'a>,
    /// What every template is given.
    context: Context,
    artifacts: &'a BTreeMap<Program, Artifact>,
    strict: bool,
    wanted: Wanted,
}

/// What a program's unit is made of.
struct Unit {
    name: &'static str,
    /// The executable's file name.
    program: Program,
    user: &'static str,
    args: Vec<String>,
}

impl Making<'_> {
    /// Renders one template. Its own values stand in the host's context only meanwhile: a clone of that for every
    /// file would take longer than the rendering.
    fn text(&mut self, template: &str, values: Values) -> Result<String, RenderError> {
        let mut keys = Vec::with_capacity(values.len());
        for (key, value) in values {
            debug_assert!(self.context.get(key).is_none(), "{key} is every template's already");
            self.context.insert(key, &value);
            keys.push(key);
        }
        let text = self.renderer.text(template, &self.context);
        for key in keys {
            self.context.remove(key);
        }
        text
    }

    /// A program's unit, in the language of the host's init system.
    fn unit_file(&mut self, of: Unit, mut values: Values) -> Result<(), RenderError> {
        values.extend([
            ("program", json!(place::program_path(of.program.as_str()))),
            ("user", json!(of.user)),
            ("args", json!(of.args)),
        ]);
        self.running_unit(of.name, values)
    }

    /// The unit of whatever is to run all the time.
    fn running_unit(&mut self, name: &'static str, values: Values) -> Result<(), RenderError> {
        let (template, at) = match &self.subject.init {
            Init::Upstart(_) => (format!("upstart/{name}.conf"), place::job_path(name)),
            _ => (format!("systemd/{name}.service"), place::unit_path(name)),
        };
        let text = self.text(&template, values)?;
        if let (true, Init::Upstart(version)) = (self.strict, &self.subject.init)
            && let Err(mistakes) = upstart::check(&text, version)
        {
            let mistakes: Vec<String> = mistakes.iter().map(ToString::to_string).collect();
            return Err(RenderError::NoJob { name: template, version: version.clone(), mistakes: mistakes.join("; ") });
        }
        let reactions = vec![(unit(name), Reaction::Restart)];
        self.wanted.files.push(ManagedFile { reactions, ..plain_file(at, 0o644, "root", "root", text) });
        self.wanted.units.push(unit(name));
        Ok(())
    }

    /// The program's executables; only the one that the unit runs makes it restart.
    fn programs(&mut self, program: Program, unit: &UnitName) -> Result<(), RenderError> {
        let artifact = self.artifacts.get(&program).ok_or(RenderError::NoArtifact { program })?;
        for executable in &artifact.executables {
            let runs = executable.name == program.as_str();
            let reactions = if runs { vec![(unit.clone(), Reaction::Restart)] } else { Vec::new() };
            self.wanted.files.push(place::executable(executable, reactions));
        }
        Ok(())
    }
}

#[cfg(test)]
pub(crate) mod tests;
