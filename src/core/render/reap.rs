//! On servers of a cluster with a fleet: what takes instances out of Consul that are gone.

use serde_json::json;

use super::context::Values;
use super::place::{plain_file, script_path, unit};
use super::{Making, RenderError};
use crate::model::file::{ManagedFile, Reaction};
use crate::model::spec::ProviderSpec;

const UNIT: &str = "clusterctl-reap";

impl Making<'_> {
    /// Does this host see instances come and go that nobody plans one by one?
    pub(super) fn minds_a_fleet(&self) -> bool {
        self.subject.role.is_server() && self.spec.fleet.is_some() && matches!(self.spec.provider, ProviderSpec::Ec2(_))
    }

    pub(super) fn reap(&mut self) -> Result<(), RenderError> {
        if !self.minds_a_fleet() {
            return Ok(());
        }
        let text = self.text("image/reap.sh", Values::new())?;
        let script = script_path("reap");
        let reactions = vec![(unit(UNIT), Reaction::Restart)];
        let file = plain_file(script.clone(), 0o755, "root", "root", text);
        self.wanted.files.push(ManagedFile { reactions, ..file });
        let no_arguments: [&str; 0] = [];
        let values = vec![("program", json!(script)), ("user", json!("consul")), ("args", json!(no_arguments))];
        self.running_unit(UNIT, values)
    }
}
