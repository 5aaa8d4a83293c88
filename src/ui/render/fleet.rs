//! `fleet status`: counts first, so that a thousand instances fit a screen, then what is wrong.

use std::collections::BTreeMap;

use super::super::escape::plain;
use super::super::style::{BAD, BOLD, DIM, GOOD, NONE, WARN, paint};
use super::super::table::{Cell, Table};
use super::junit::{Case, of_fleet};
use super::{Document, View, envelope, sign};
use crate::model::fleet::{FleetReport, Lifecycle, MemberStatus};

/// So many lines of what is wrong, where not all are asked for.
const LINES: usize = 20;

impl Document for FleetReport {
    fn json(&self) -> String {
        envelope("fleet", self)
    }

    fn cases(&self) -> Vec<Case> {
        of_fleet(self)
    }

    fn text(&self, view: &View) -> String {
        let mut out = head(self);
        if view.all && !self.members.is_empty() {
            let mut table =
                Table::new(&["", "INSTANCE", "TYPE", "ZONE", "STATE", "MAKE", "CONSUL", "PROMETHEUS", "PURCHASE"]);
            for member in &self.members {
                table.row(row(member));
            }
            out.push('\n');
            out.push_str(&table.render(view.width));
        }
        out.push_str(&problems(self, if view.all { usize::MAX } else { LINES }));
        out
    }
}

fn head(report: &FleetReport) -> String {
    let word = if report.is_well() { paint(GOOD, "well") } else { paint(BAD, "not well") };
    let mut out = format!("{}: {word}\n", paint(BOLD, &format!("fleet {} of {}", plain(&report.name), report.cluster)));
    out.push_str(&format!(
        "{} wanted (from {} to {}): {} in service, {} well, {} pending, {} ending, {} outdated\n",
        report.wanted,
        report.min,
        report.max,
        report.in_service,
        report.well,
        report.pending,
        report.ending,
        report.outdated,
    ));
    let present: usize = report.types.values().sum();
    if present > 0 {
        out.push_str(&format!(
            "{}; {}; {} on demand, {} spot\n",
            counts(&report.types),
            counts(&report.zones),
            present - report.spot.min(present),
            report.spot
        ));
    }
    if let Some(make) = &report.make {
        out.push_str(&format!(
            "new ones are of version {} of the template, image {}\n",
            make.version,
            plain(&make.image)
        ));
    }
    if report.outdated > 0 {
        let are = if report.outdated == 1 { "is" } else { "are" };
        let what = format!("{} {are} of an older version: `clusterctl fleet roll` replaces them", report.outdated);
        out.push_str(&format!("{}\n", paint(WARN, &what)));
    }
    out
}

/// `t3.large 3, t3.small 97`.
fn counts(of: &BTreeMap<String, usize>) -> String {
    of.iter().map(|(name, n)| format!("{} {n}", plain(name))).collect::<Vec<_>>().join(", ")
}

fn row(status: &MemberStatus) -> Vec<Cell> {
    let member = &status.member;
    let state = if member.lifecycle == Lifecycle::InService { NONE } else { WARN };
    vec![
        sign(status.problem.is_none()),
        plain(&member.id.0).into(),
        plain(&member.instance_type).into(),
        plain(&member.zone).into(),
        Cell::new(state, member.lifecycle.to_string()),
        if status.outdated { Cell::new(WARN, "outdated") } else { "current".into() },
        said(status.consul.as_deref(), "alive"),
        said(status.scraped.as_deref(), "up"),
        if member.spot { "spot" } else { "on demand" }.into(),
    ]
}

fn said(word: Option<&str>, good: &str) -> Cell {
    match word {
        None => Cell::new(DIM, "-"),
        Some(word) if word == good => Cell::new(GOOD, word),
        Some(word) => Cell::new(BAD, plain(word)),
    }
}

/// The fleet's problems, then those of its members.
fn problems(report: &FleetReport, most: usize) -> String {
    let own = report.problems.iter().map(|problem| plain(problem));
    let members = report.members.iter();
    let members = members.filter_map(|m| Some(format!("{}: {}", plain(&m.member.id.0), plain(m.problem.as_ref()?))));
    let all: Vec<String> = own.chain(members).collect();
    if all.is_empty() {
        return String::new();
    }
    let mut out = String::from("\n");
    out.extend(all.iter().take(most).map(|problem| format!("{} {problem}\n", paint(BAD, "✗"))));
    if all.len() > most {
        out.push_str(&format!(
            "and {} more (--all shows every instance)
",
            all.len() - most
        ));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::super::samples::{text, view};
    use super::*;
    use crate::model::fleet::{Make, Member};
    use crate::model::host::{HostId, HostState};
    use crate::model::name::ClusterName;

    fn member(n: usize, problem: Option<&str>) -> MemberStatus {
        MemberStatus {
            member: Member {
                id: HostId(format!("i-{n:03}")),
                instance_type: "t3.small".to_owned(),
                zone: ["us-east-1a", "us-east-1b"][n % 2].to_owned(),
                lifecycle: Lifecycle::InService,
                healthy: true,
                state: Some(HostState::Running),
                mark: None,
                launched: None,
                spot: n.is_multiple_of(3),
            },
            outdated: n == 1,
            consul: Some("alive".to_owned()),
            scraped: problem.is_none().then(|| "up".to_owned()),
            problem: problem.map(str::to_owned),
        }
    }

    fn report(size: usize, sick: usize) -> FleetReport {
        let members: Vec<MemberStatus> =
            (0..size).map(|n| member(n, (n < sick).then_some("Prometheus has no target of it"))).collect();
        FleetReport {
            cluster: ClusterName::new("shop").unwrap(),
            name: "clusterctl-shop".to_owned(),
            wanted: size as u16,
            min: 0,
            max: 1000,
            in_service: size,
            well: size - sick,
            pending: 0,
            ending: 0,
            outdated: 0,
            spot: size / 3,
            types: BTreeMap::from([("t3.small".to_owned(), size)]),
            zones: BTreeMap::from([("us-east-1a".to_owned(), size / 2), ("us-east-1b".to_owned(), size - size / 2)]),
            make: Some(Make { version: 3, mark: Some("0123".to_owned()), image: "ami-1".to_owned() }),
            problems: Vec::new(),
            members,
        }
    }

    #[test]
    fn a_fleet_that_is_well_is_a_few_lines() {
        insta::assert_snapshot!(text(&report(1000, 0), &view()));
    }

    #[test]
    fn what_is_wrong_is_named_and_bounded() {
        let mut bad = report(1000, 30);
        bad.outdated = 1;
        bad.problems = vec!["EC2 launches no more: \u{1b}[31mno capacity".to_owned()];
        let shown = text(&bad, &view());
        assert!(shown.lines().count() < 30, "{shown}");
        insta::assert_snapshot!(shown);
        let all = text(&bad, &View { all: true, ..view() });
        assert!(all.lines().count() > 1000 && !all.contains("--all"));
    }

    #[test]
    fn every_instance_has_a_row() {
        let mut few = report(4, 1);
        few.members[2].member.lifecycle = Lifecycle::Pending;
        insta::assert_snapshot!(text(&few, &View { all: true, ..view() }));
    }
}
