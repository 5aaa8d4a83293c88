//! Consul Template: it writes Prometheus' configuration, and a script of ours makes Prometheus read it.

use serde_json::json;

use super::context::Values;
use super::place::{dir, path, plain_file, program_path, script_path, unit};
use super::prometheus::CONFIG;
use super::{Making, RenderError, Unit};
use crate::core::dialect::Capability;
use crate::model::file::{ManagedFile, Reaction};
use crate::model::version::Program;

/// Its own folder.
pub const FOLDER: &str = "/etc/consul-template";

/// What it writes: beside the file that becomes of it, so that a rename is enough.
pub const CANDIDATE: &str = "/etc/prometheus/prometheus.yml.candidate";

/// The link that makes it start at boot: gone when it is no longer wanted.
const ENABLED: &str = "/etc/systemd/system/multi-user.target.wants/consul-template.service";

impl Making<'_> {
    /// Runs after Prometheus' part, whose user it shares: so it may write that one file and signal that one
    /// program, and nothing else.
    pub(super) fn consul_template(&mut self) -> Result<(), RenderError> {
        let name = unit("consul-template");
        self.wanted.dirs.push(dir(FOLDER, 0o755, "root", "root"));
        self.programs(Program::ConsulTemplate, &name)?;

        let restart = vec![(name.clone(), Reaction::Restart)];
        for (template, at, values) in [
            (
                "prometheus/prometheus.yml",
                path(&format!("{FOLDER}/prometheus.yml.ctmpl")),
                self.prometheus_values("consul-template"),
            ),
            (
                "consul-template/consul-template.hcl",
                path(&format!("{FOLDER}/consul-template.hcl")),
                vec![("candidate", json!(CANDIDATE)), ("reload", json!(script_path("reload-prometheus")))],
            ),
        ] {
            let text = self.text(template, values)?;
            let file = plain_file(at, 0o640, "root", "prometheus", text);
            self.wanted.files.push(ManagedFile { reactions: restart.clone(), ..file });
        }
        let script = self.text("consul-template/reload-prometheus.sh", self.reload_values())?;
        self.wanted.files.push(plain_file(script_path("reload-prometheus"), 0o755, "root", "root", script));

        let interrupt = self.dialect.has(Capability::StopsOnInterrupt);
        let stop_signal = if interrupt { "INT" } else { "TERM" };
        let args = vec![format!("-config={FOLDER}/consul-template.hcl")];
        let of = Unit { name: "consul-template", program: Program::ConsulTemplate, user: "prometheus", args };
        let values = vec![
            ("stop_signal", json!(stop_signal)),
            ("candidate", json!(CANDIDATE)),
            ("config", json!(CONFIG)),
            ("reload", json!(script_path("reload-prometheus"))),
        ];
        self.unit_file(of, values)
    }

    fn reload_values(&self) -> Values {
        let promtool = self.promtool_arguments().map(|args| (program_path("promtool"), args));
        let scraped = self.spec.services.iter().filter(|service| service.metrics.is_some());
        let names: Vec<&str> = scraped.map(|service| service.name.as_str()).collect();
        vec![
            ("promtool", json!(promtool)),
            ("prometheus", json!(program_path("prometheus"))),
            ("config", json!(CONFIG)),
            ("candidate", json!(CANDIDATE)),
            ("enabled", json!(ENABLED)),
            ("scraped_names", json!(names)),
        ]
    }
}

#[cfg(test)]
mod tests;
