//! Hosts that are told who they are when they boot: the script that writes `boot.json`, and the unit that runs it.
//!
//! Consul reads its folder in the order of the names, and of two values the last one holds: `consul.json` comes after
//! `boot.json`, so whatever the script may write stands in that file alone.

use serde_json::json;

use super::consul::Joining;
use super::context::Values;
use super::place::{config, dir, plain_file, script_path, unit, unit_path};
use super::{Making, RenderError};
use crate::core::dialect::Capability;
use crate::model::ec2::tag::{CLUSTER, LEADS};
use crate::model::file::{HostPath, ManagedFile, Reaction};
use crate::model::init::Init;
use crate::model::spec::{Join, Secrets};

/// The service that systemd runs before Consul. Upstart's job of Consul calls the script itself.
const UNIT: &str = "clusterctl-boot";

impl Making<'_> {
    /// The script's path; empty where hosts are told nothing when they boot. It is no unit of its own in `units`: whoever
    /// starts Consul starts it, and a task that has ended would not count as running.
    pub(super) fn boot_script(&mut self, joining: &Joining) -> Result<String, RenderError> {
        if self.spec.join != Join::Boot {
            return Ok(String::new());
        }
        let values = vec![
            ("by_script", json!(joining.by_script)),
            ("find_leader", json!(script_path("find-leader"))),
            ("leader_tag", json!(LEADS)),
            ("cluster_tag", json!(CLUSTER)),
            ("secrets", json!(self.spec.image.secrets == Secrets::Ssm)),
        ];
        let text = self.text("image/boot.sh", values)?;
        let script = script_path("boot");
        let restart = vec![(unit("consul"), Reaction::Restart)];
        let file = plain_file(script.clone(), 0o755, "root", "root", text);
        self.wanted.files.push(ManagedFile { reactions: restart.clone(), ..file });
        if self.subject.init == Init::Systemd {
            let text = self.text("systemd/clusterctl-boot.service", vec![("boot_script", json!(script))])?;
            let file = plain_file(unit_path(UNIT), 0o644, "root", "root", text);
            self.wanted.files.push(ManagedFile { reactions: restart, ..file });
        }
        // Whoever judges the files has no boot.json, and Consul without an address refuses a machine that has several.
        // boot.json always holds one where this Consul has a template for it.
        if self.dialect.has(Capability::SockaddrTemplates) {
            let text = self.text("image/address.json", Values::new())?;
            let consul = unit("consul");
            self.wanted.files.push(config("/etc/consul.d/address.json", text, "consul", &consul, Reaction::Restart));
        }
        // What it is told may stand there.
        self.wanted.dirs.push(dir("/etc/clusterctl", 0o755, "root", "root"));
        Ok(script.to_string())
    }

    /// The unit beside those that are wanted.
    pub(super) fn boot_unit(&self) -> Option<HostPath> {
        let at = unit_path(UNIT);
        self.wanted.files.iter().any(|file| file.path == at).then_some(at)
    }
}
