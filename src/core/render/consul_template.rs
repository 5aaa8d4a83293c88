//! Consul Template: it writes Prometheus' configuration, and a script of ours makes Prometheus read it.

use serde_json::json;

use super::context::Values;
use super::place::{dir, path, plain_file, program_path, script_path, unit};
use super::{Making, RenderError, Unit};
use crate::core::dialect::Capability;
use crate::model::file::{ManagedFile, Reaction};
use crate::model::version::Program;

/// Its own folder.
const FOLDER: &str = "/etc/consul-template";

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
            ("consul-template/consul-template.hcl", path(&format!("{FOLDER}/consul-template.hcl")), Values::new()),
        ] {
            let text = self.text(template, values)?;
            let file = plain_file(at, 0o640, "root", "prometheus", text);
            self.wanted.files.push(ManagedFile { reactions: restart.clone(), ..file });
        }
        let promtool = self.promtool_arguments().map(|args| (program_path("promtool"), args));
        let values = vec![("promtool", json!(promtool)), ("prometheus", json!(program_path("prometheus")))];
        let script = self.text("consul-template/reload-prometheus.sh", values)?;
        self.wanted.files.push(plain_file(script_path("reload-prometheus"), 0o755, "root", "root", script));

        let interrupt = self.dialect.has(Capability::StopsOnInterrupt);
        let stop_signal = if interrupt { "INT" } else { "TERM" };
        let args = vec![format!("-config={FOLDER}/consul-template.hcl")];
        let of = Unit { name: "consul-template", program: Program::ConsulTemplate, user: "prometheus", args };
        self.unit_file(of, vec![("stop_signal", json!(stop_signal))])
    }
}
