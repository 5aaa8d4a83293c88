//! `doctor`: each thing that was looked at, with the cure where it is not well; and `discover`: one address.

use super::super::escape::plain;
use super::super::style::{BAD, GOOD, WARN};
use super::super::table::{Cell, Table};
use super::super::words::count;
use super::{Document, View, envelope};
use crate::model::report::{DoctorReport, Finding, Health, LeaderReport};

impl Document for DoctorReport {
    fn json(&self) -> String {
        envelope("doctor", self)
    }

    fn text(&self, view: &View) -> String {
        let mut table = Table::new(&["", "TOPIC", "FOUND"]);
        for finding in &self.findings {
            table.row([sign(finding.health), finding.topic.as_str().into(), finding.what.as_str().into()]);
        }
        let mut out = table.render(view.width);
        let cures = |finding: &&Finding| finding.health != Health::Good;
        for finding in self.findings.iter().filter(cures) {
            if let Some(cure) = &finding.cure {
                out.push_str(&format!("\n{}: {}\n  {}\n", plain(&finding.topic), plain(&finding.what), plain(cure)));
            }
        }
        out
    }

    fn beside(&self, _: &View) -> Option<String> {
        let bad = self.findings.iter().filter(|finding| finding.health == Health::Bad).count();
        Some(match bad {
            0 => format!("{} looked at: `clusterctl up` has what it needs", count(self.findings.len(), "thing")),
            n => format!("{} would keep `clusterctl up` from its end", count(n, "thing")),
        })
    }
}

fn sign(health: Health) -> Cell {
    match health {
        Health::Good => Cell::new(GOOD, "✓"),
        Health::Doubtful => Cell::new(WARN, "!"),
        Health::Bad => Cell::new(BAD, "✗"),
    }
}

impl Document for LeaderReport {
    fn json(&self) -> String {
        envelope("leader", self)
    }

    /// The address alone, for scripts and units.
    fn text(&self, _: &View) -> String {
        self.leader.private_address.map(|address| format!("{address}\n")).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::super::samples::{text, view};
    use super::*;
    use crate::model::name::ClusterName;

    #[test]
    fn what_is_not_well_has_its_cure() {
        let report = DoctorReport {
            cluster: ClusterName::new("shop").unwrap(),
            provider: "ec2".to_owned(),
            findings: vec![
                Finding::good("credentials", "arn:aws:iam::1:user/me"),
                Finding::doubtful("clock", "it is 70 s off", "set it"),
                Finding::bad("quota", "4 vCPUs are left\x1b[2J, 6 are needed", "ask for more"),
            ],
        };
        insta::assert_snapshot!(text(&report, &view()));
        assert_eq!(report.beside(&view()).as_deref(), Some("1 thing would keep `clusterctl up` from its end"));
    }
}
