//! Consul Template: it writes Prometheus' configuration, and a script of ours makes Prometheus read it.

use tera::Context;

use super::place::{dir, path, plain_file, program_path, script_path, unit};
use super::prometheus::CONFIG;
use super::{Making, RenderError, Unit};
use crate::core::dialect::Capability;
use crate::model::file::{ManagedFile, Reaction};
use crate::model::version::Program;

/// Its own folder.
const FOLDER: &str = "/etc/consul-template";

/// What it writes: beside the file that becomes of it, so that a rename is enough.
const CANDIDATE: &str = "/etc/prometheus/prometheus.yml.candidate";

/// The link that makes it start at boot: gone when it is no longer wanted.
const ENABLED: &str = "/etc/systemd/system/multi-user.target.wants/consul-template.service";

impl Making<'_> {
    /// Runs after Prometheus' part, whose user it shares: so it may write that one file and signal that one
    /// program, and nothing else.
    pub(super) fn consul_template(&mut self) -> Result<(), RenderError> {
        let name = unit("consul-template");
        self.wanted.dirs.push(dir(FOLDER, 0o755, "root", "root"));
        self.programs(Program::ConsulTemplate, &name)?;

        let mut context = self.prometheus_context();
        context.insert("discovery", "consul-template");
        context.insert("promtool", &self.promtool_arguments().map(|args| (program_path("promtool"), args)));
        context.insert("prometheus", &program_path("prometheus"));
        context.insert("config", CONFIG);
        context.insert("candidate", CANDIDATE);
        context.insert("reload", &script_path("reload-prometheus"));
        context.insert("enabled", ENABLED);
        let names: Vec<&str> =
            self.spec.services.iter().filter(|s| s.metrics.is_some()).map(|s| s.name.as_str()).collect();
        context.insert("scraped_names", &names);
        let restart = vec![(name.clone(), Reaction::Restart)];
        for (template, at) in [
            ("prometheus/prometheus.yml", path(&format!("{FOLDER}/prometheus.yml.ctmpl"))),
            ("consul-template/consul-template.hcl", path(&format!("{FOLDER}/consul-template.hcl"))),
        ] {
            let text = self.renderer.text(template, &context)?;
            let file = plain_file(at, 0o640, "root", "prometheus", text);
            self.wanted.files.push(ManagedFile { reactions: restart.clone(), ..file });
        }
        let script = self.renderer.text("consul-template/reload-prometheus.sh", &context)?;
        self.wanted.files.push(plain_file(script_path("reload-prometheus"), 0o755, "root", "root", script));

        let mut extra = Context::new();
        let interrupt = self.dialect.has(Capability::StopsOnInterrupt);
        extra.insert("stop_signal", if interrupt { "INT" } else { "TERM" });
        extra.insert("candidate", CANDIDATE);
        extra.insert("config", CONFIG);
        extra.insert("reload", &script_path("reload-prometheus"));
        let args = vec![format!("-config={FOLDER}/consul-template.hcl")];
        let of = Unit { name: "consul-template", program: Program::ConsulTemplate, user: "prometheus", args };
        self.unit_file(of, &extra)
    }
}

#[cfg(test)]
mod tests;
