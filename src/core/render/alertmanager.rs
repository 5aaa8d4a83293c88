//! Alertmanager, where the spec wants one: its configuration and its unit.

use serde_json::json;

use super::context::Values;
use super::place::{config, dir, path, program_path, unit, user};
use super::{ALERTMANAGER_PORT, Making, RenderError, Unit};
use crate::model::file::{Check, Reaction, Word};
use crate::model::version::Program;

const CONFIG: &str = "/etc/alertmanager/alertmanager.yml";
const DATA: &str = "/var/lib/alertmanager";

impl Making<'_> {
    pub(super) fn alertmanager(&mut self) -> Result<(), RenderError> {
        let name = unit("alertmanager");
        self.wanted.users.push(user("alertmanager", DATA));
        self.wanted.dirs.push(dir("/etc/alertmanager", 0o755, "root", "root"));
        self.wanted.dirs.push(dir(DATA, 0o750, "alertmanager", "alertmanager"));
        self.programs(Program::Alertmanager, &name)?;
        let webhooks = self.spec.alertmanager.as_ref().map(|spec| spec.webhooks.clone()).unwrap_or_default();
        let text = self.text("alertmanager/alertmanager.yml", vec![("webhooks", json!(webhooks))])?;
        self.wanted.files.push(config(CONFIG, text, "alertmanager", &name, Reaction::Reload));
        let args = vec![
            format!("--config.file={CONFIG}"),
            format!("--storage.path={DATA}"),
            // Only the Prometheus of the same host speaks with it.
            format!("--web.listen-address=127.0.0.1:{ALERTMANAGER_PORT}"),
            // Empty: it looks for no others of its kind, and opens no port for them.
            "--cluster.listen-address=".to_owned(),
        ];
        let of = Unit { name: "alertmanager", program: Program::Alertmanager, user: "alertmanager", args };
        self.unit_file(of, Values::new())?;
        self.wanted.checks.push(Check {
            title: "amtool check-config".to_owned(),
            covers: vec![path("/etc/alertmanager")],
            argv: vec![
                Word::Program(program_path("amtool")),
                Word::Plain("check-config".to_owned()),
                Word::Shadow(path(CONFIG)),
            ],
            complaints: Vec::new(),
        });
        Ok(())
    }
}
