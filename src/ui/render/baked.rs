//! Images: how a build went, which there are, and what a machine got that becomes one.

use jiff::Timestamp;

use super::super::escape::plain;
use super::super::style::{BAD, BOLD, DIM, GOOD, WARN, paint};
use super::super::table::{Cell, Table};
use super::super::words::{age, count, seconds};
use super::junit::{Case, of_bake};
use super::run::{duration, failed};
use super::{Document, View, envelope, sign};
use crate::model::baked::{Baked, BakedState};
use crate::model::baking::{BakeReport, Fate, ImagesReport, Listed, Made, ProvisionReport};
use crate::model::report::HostResult;

impl Document for BakeReport {
    fn json(&self) -> String {
        envelope("bake", self)
    }

    fn cases(&self) -> Vec<Case> {
        of_bake(self)
    }

    fn text(&self, view: &View) -> String {
        let head = paint(BOLD, &format!("cluster {}", self.cluster));
        let mut out = format!("{head}: {} in {}\n", count(self.images.len(), "image"), duration(self.seconds));
        if !self.images.is_empty() {
            let mut table = Table::new(&["", "ROLE", "NAME", "IMAGE", "RESULT"]);
            for made in &self.images {
                table.row(made_row(made));
            }
            out.push('\n');
            out.push_str(&table.render(view.width));
        }
        let stages: Vec<String> =
            self.stages.iter().map(|took| format!("{} {}", took.stage.as_str(), duration(took.seconds))).collect();
        if !stages.is_empty() {
            out.push_str(&format!("\n{}\n", paint(DIM, &stages.join(", "))));
        }
        if let Some(failure) = &self.failure {
            out.push('\n');
            out.push_str(&failed(self.cluster.as_str(), failure));
        }
        out.push('\n');
        out.extend(self.left.iter().map(|left| format!("{} {}\n", paint(BAD, "still there:"), plain(left))));
        out.push_str(&truth(self));
        out.push('\n');
        out
    }
}

fn made_row(made: &Made) -> Vec<Cell> {
    let result = match made.fate {
        Fate::Trusted => Cell::new(GOOD, with_copies(made)),
        Fate::Removed => Cell::new(BAD, "not proved; removed"),
        Fate::Unproven => Cell::new(WARN, "not proved; kept"),
        Fate::Left => Cell::new(BAD, "not proved; still there"),
    };
    let good = sign(made.fate == Fate::Trusted);
    vec![good, made.role.as_str().into(), made.name.as_str().into(), made.id.0.as_str().into(), result]
}

fn with_copies(made: &Made) -> String {
    let copies = made.copies.iter().map(|(region, id)| format!("; in {region} {id}"));
    format!("trusted{}", copies.collect::<String>())
}

/// What the hosts that booted from the images came to.
fn truth(report: &BakeReport) -> String {
    let proved = match &report.verified {
        Some(verified) => {
            format!("{} booted from the images, alive in Consul and up in Prometheus", count(verified.alive, "host"))
        }
        None => "nothing was proved".to_owned(),
    };
    let mut parts = vec![proved];
    if let Some(step) = &report.interrupted {
        parts.push(format!("interrupted: {}", plain(step)));
    }
    parts.push(if report.left.is_empty() { "the temporary cluster is gone" } else { "not all is gone" }.to_owned());
    paint(if report.is_good() { GOOD } else { BAD }, &parts.join("; "))
}

impl Document for ImagesReport {
    fn json(&self) -> String {
        envelope("images", self)
    }

    fn text(&self, view: &View) -> String {
        if self.images.is_empty() {
            return String::new();
        }
        let mut table = Table::new(&["", "ROLE", "NAME", "IMAGE", "AGE", "PROVED", "PROGRAMS", "SPEC", "USED BY"]);
        for Listed { baked, used_by } in &self.images {
            let since = |at: Timestamp| age(seconds(at, view.now));
            let proved = match (baked.state, baked.proved) {
                (BakedState::Available, Some(at)) => Cell::new(GOOD, format!("{} ago", since(at))),
                (BakedState::Available, None) => Cell::new(WARN, "no"),
                (BakedState::Pending, _) => Cell::new(WARN, "pending"),
                (BakedState::Failed, _) => Cell::new(BAD, "failed"),
            };
            table.row([
                sign(baked.is_trusted()),
                baked.label.role.as_str().into(),
                baked.label.name.as_str().into(),
                baked.id.0.as_str().into(),
                since(baked.label.created).into(),
                proved,
                programs(baked).into(),
                short(&baked.label.spec, view.verbose).into(),
                if used_by.is_empty() { "-".to_owned() } else { used_by.join(", ") }.into(),
            ]);
        }
        table.render(view.width)
    }

    fn beside(&self, _view: &View) -> Option<String> {
        self.images.is_empty().then(|| format!("{} has no images: `clusterctl ami build` makes them", self.cluster))
    }
}

fn programs(baked: &Baked) -> String {
    baked.label.programs.iter().map(|(program, version)| format!("{program} {version}")).collect::<Vec<_>>().join(" ")
}

/// So many digits tell commits apart.
fn short(spec: &str, verbose: bool) -> String {
    let digits = if spec.starts_with("sha256:") { 7 + 12 } else { 12 };
    if verbose { spec.to_owned() } else { spec.chars().take(digits).collect() }
}

impl Document for ProvisionReport {
    fn json(&self) -> String {
        envelope("provisioned", self)
    }

    fn text(&self, _view: &View) -> String {
        match &self.outcome.result {
            HostResult::Failed(failure) => failed(self.outcome.host.as_str(), failure),
            HostResult::Interrupted { step } => format!("{}\n", paint(WARN, &format!("interrupted: {}", plain(step)))),
            HostResult::Unchanged | HostResult::Booted { .. } => self.line("everything is in place already"),
            HostResult::Changed { changes } => self.line(&format!("{} made", count(*changes, "change"))),
        }
    }
}

impl ProvisionReport {
    fn line(&self, what: &str) -> String {
        let sealed = if self.sealed { "; what belongs to one machine is cleared" } else { "" };
        let role = self.outcome.role;
        format!("{}\n", paint(GOOD, &format!("a {role} of {}: {what}, nothing was started{sealed}", self.cluster)))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::super::samples::{text, view};
    use super::*;
    use crate::model::artifact::Sha256;
    use crate::model::baked::{ImageId, Label};
    use crate::model::baking::{Stage, Took};
    use crate::model::host::Role;
    use crate::model::name::ClusterName;
    use crate::model::report::{Failure, Millis, Verified};
    use crate::model::version::Program;

    fn made(fate: Fate) -> Made {
        Made {
            id: ImageId("ami-0123456789abcdef0".to_owned()),
            name: "clusterctl-dev-node-20270115-080000".to_owned(),
            role: Role::Node,
            fate,
            copies: BTreeMap::from([("us-east-1".to_owned(), ImageId("ami-1".to_owned()))]),
        }
    }

    fn report() -> BakeReport {
        let took = |stage, millis| Took { stage, seconds: Millis(millis) };
        BakeReport {
            cluster: ClusterName::new("dev").unwrap(),
            provider: "ec2".to_owned(),
            images: vec![made(Fate::Trusted)],
            stages: vec![took(Stage::Launch, 31_200), took(Stage::Seal, 75_000)],
            verified: Some(Verified { alive: 1, targets_up: 2, targets: 2, ..Verified::default() }),
            proofs: Vec::new(),
            failure: None,
            interrupted: None,
            left: Vec::new(),
            seconds: Millis(120_400),
        }
    }

    fn broken() -> BakeReport {
        let failure = Failure {
            step: "prove".to_owned(),
            message: "not confirmed within 180 s".to_owned(),
            lines: vec!["dev-build-node-1: no \u{1b}[2J route".to_owned()],
            log: None,
            hint: None,
        };
        let left = vec!["the cluster dev-build: it is busy".to_owned()];
        BakeReport { images: vec![made(Fate::Removed)], verified: None, failure: Some(failure), left, ..report() }
    }

    #[test]
    fn a_build() {
        insta::assert_snapshot!(text(&report(), &view()));
        insta::assert_snapshot!("a_broken_build", text(&broken(), &view()));
        let interrupted = BakeReport { interrupted: Some("seal".to_owned()), images: Vec::new(), ..report() };
        assert!(text(&interrupted, &view()).contains("interrupted: seal"));
        insta::assert_snapshot!("the_build_document", broken().json());
    }

    #[test]
    fn a_builds_test_report() {
        assert!(report().cases().iter().all(|case| case.verdict == super::super::junit::Verdict::Good));
        let cases = broken().cases();
        assert_eq!(cases.len(), 2);
        assert!(cases.iter().all(|case| matches!(case.verdict, super::super::junit::Verdict::Failed { .. })));
        // One that never came to an image has a case all the same.
        assert_eq!(BakeReport { images: Vec::new(), left: Vec::new(), ..broken() }.cases().len(), 1);
    }

    #[test]
    fn the_list() {
        let created = Timestamp::from_second(1_800_000_000 - 90_000).unwrap();
        let label = Label {
            name: "web".to_owned(),
            cluster: ClusterName::new("dev").unwrap(),
            role: Role::Node,
            servers: 1,
            programs: BTreeMap::from([(Program::Consul, semver::Version::new(1, 22, 7))]),
            sums: BTreeMap::from([(Program::Consul, Sha256::of(b"x"))]),
            spec: "0123456789abcdef0123456789abcdef01234567".to_owned(),
            created,
        };
        let id = ImageId("web/node".to_owned());
        let baked = Baked { id, label, state: BakedState::Available, proved: Some(created) };
        let unproved = Baked { proved: None, ..baked.clone() };
        let images = ImagesReport {
            cluster: ClusterName::new("dev").unwrap(),
            provider: "sandbox".to_owned(),
            images: vec![
                Listed { baked, used_by: vec!["dev-node-1".to_owned()] },
                Listed { baked: unproved, used_by: Vec::new() },
            ],
        };
        insta::assert_snapshot!(text(&images, &view()));
        insta::assert_snapshot!("the_list_document", images.json());
        let none = ImagesReport { images: Vec::new(), ..images };
        assert_eq!((none.text(&view()).as_str(), none.beside(&view()).is_some()), ("", true));
    }
}
