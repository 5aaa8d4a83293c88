//! What belongs to all units together: the check of systemd's, the logs of Upstart's jobs.

use super::context::Values;
use super::place::{dir, path, plain_file, unit_path};
use super::{Making, RenderError};
use crate::core::dialect::Capability;
use crate::model::file::{Check, HostPath, Word};
use crate::model::init::Init;

impl Making<'_> {
    pub(super) fn units_of_all(&mut self) -> Result<(), RenderError> {
        if self.subject.init == Init::Systemd {
            let mut units: Vec<_> = self.wanted.units.iter().map(|unit| unit_path(unit.as_str())).collect();
            units.extend(self.boot_unit());
            self.wanted.checks.push(units_check(units));
        } else if !self.dialect.has(Capability::UpstartConsoleLog) {
            // Upstart keeps no output of jobs before that: they write files, which somebody must rotate.
            self.wanted.dirs.push(dir("/var/log/clusterctl", 0o755, "root", "root"));
            let text = self.text("upstart/logrotate", Values::new())?;
            self.wanted.files.push(plain_file(path("/etc/logrotate.d/clusterctl"), 0o644, "root", "root", text));
        }
        Ok(())
    }
}

fn units_check(units: Vec<HostPath>) -> Check {
    let mut argv = vec![Word::Plain("systemd-analyze".to_owned()), Word::Plain("verify".to_owned())];
    argv.extend(units.iter().cloned().map(Word::Shadow));
    // It says "consul.service: …" or "/…/consul.service:12: …" of what it ignores, and accepts the unit.
    let name = |path: &HostPath| path.as_str().rsplit('/').next().map(|name| format!("{name}:"));
    let complaints = units.iter().filter_map(name).collect();
    Check { title: "systemd-analyze verify".to_owned(), covers: units, argv, complaints }
}
