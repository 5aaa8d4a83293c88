//! Prometheus: its configuration, the alerts' rules, the unit.

use serde_json::json;

use super::context::{Values, external_labels, scraped_services};
use super::place::{config, dir, path, program_path, unit, user};
use super::{ALERTMANAGER_PORT, Making, PROMETHEUS_PORT, RenderError, Unit};
use crate::core::dialect::Capability;
use crate::model::file::{Check, ManagedFile, Reaction, Word};
use crate::model::spec::{Discovery, Span};
use crate::model::version::Program;

pub const CONFIG: &str = "/etc/prometheus/prometheus.yml";
pub(super) const DATA: &str = "/var/lib/prometheus";

impl Making<'_> {
    pub(super) fn prometheus(&mut self) -> Result<(), RenderError> {
        let unit = unit("prometheus");
        let by_template = self.spec.prometheus.discovery == Discovery::ConsulTemplate;
        self.wanted.users.push(user("prometheus", DATA));
        // Consul Template, as the same user, puts new configurations beside the old one and renames. The sticky bit
        // keeps what is root's there out of its reach.
        let (mode, group, owner) =
            if by_template { (0o1770, "prometheus", "prometheus") } else { (0o755, "root", "root") };
        self.wanted.dirs.push(dir("/etc/prometheus", mode, "root", group));
        self.wanted.dirs.push(dir("/etc/prometheus/rules", 0o755, "root", "root"));
        self.wanted.dirs.push(dir(DATA, 0o750, "prometheus", "prometheus"));
        self.programs(Program::Prometheus, &unit)?;

        // What Prometheus begins with where Consul Template has not written yet: all but what Consul tells.
        let values = self.prometheus_values(if by_template { "none" } else { "consul-sd" });
        let main = self.text("prometheus/prometheus.yml", values)?;
        let main = config(CONFIG, main, "prometheus", &unit, Reaction::Reload);
        let mut main = ManagedFile { seed: by_template, owner: owner.to_owned(), ..main };
        if by_template {
            // It writes only what differs from what it wrote before: where that is gone, it begins anew.
            main.reactions.push((super::place::unit("consul-template"), Reaction::Restart));
        }
        self.wanted.files.push(main);
        let rules_name = if self.dialect.has(Capability::YamlRules) { "cluster.rules.yml" } else { "cluster.rules" };
        let rules = self.text(&format!("prometheus/{rules_name}"), Values::new())?;
        let rules_path = format!("/etc/prometheus/rules/{rules_name}");
        self.wanted.files.push(config(&rules_path, rules, "prometheus", &unit, Reaction::Reload));
        let args = self.prometheus_arguments(&self.listen(PROMETHEUS_PORT));
        let of = Unit { name: "prometheus", program: Program::Prometheus, user: "prometheus", args };
        self.unit_file(of, Values::new())?;
        if let Some(arguments) = self.promtool_arguments() {
            self.wanted.checks.push(promtool_check(&arguments));
        }
        Ok(())
    }

    /// What `prometheus.yml` is given, whoever renders it in the end.
    pub(super) fn prometheus_values(&self, discovery: &'static str) -> Values {
        let spec = self.spec;
        let of = &spec.prometheus;
        let alertmanager = spec.alertmanager.as_ref().map(|_| format!("127.0.0.1:{ALERTMANAGER_PORT}"));
        vec![
            ("discovery", json!(discovery)),
            ("listen", json!(self.prometheus_target())),
            ("scrape_interval", json!(of.scrape_interval)),
            ("scrape_timeout", json!(of.scrape_interval.min(Span::from_secs(10)))),
            ("retention", json!(of.retention)),
            ("external_labels", json!(external_labels(spec))),
            ("scraped_services", json!(scraped_services(spec))),
            ("alertmanager", json!(alertmanager)),
        ]
    }

    /// Where Prometheus finds itself.
    fn prometheus_target(&self) -> String {
        match self.subject.address {
            Some(_) => self.listen(PROMETHEUS_PORT),
            None => format!("127.0.0.1:{PROMETHEUS_PORT}"),
        }
    }

    /// What stands between `promtool` and the file to check.
    pub(super) fn promtool_arguments(&self) -> Option<Vec<&'static str>> {
        if !self.dialect.has(Capability::Promtool) {
            return None;
        }
        let subcommands = self.dialect.has(Capability::PromtoolSubcommands);
        Some(if subcommands { vec!["check", "config"] } else { vec!["check-config"] })
    }
}

fn promtool_check(arguments: &[&str]) -> Check {
    let mut argv = vec![Word::Program(program_path("promtool"))];
    argv.extend(arguments.iter().map(|word| Word::Plain((*word).to_owned())));
    argv.push(Word::Shadow(path(CONFIG)));
    let title = format!("promtool {}", arguments.join(" "));
    Check { title, covers: vec![path("/etc/prometheus")], argv, complaints: Vec::new() }
}
