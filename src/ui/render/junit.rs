//! A run as a JUnit report, which every CI server can show: a case for the command itself, and for each host one for
//! its installation, one for Consul and one for each of our targets. Pure: `cli` writes the file.

use std::time::Duration;

use quick_junit::{NonSuccessKind, Report, TestCase, TestCaseStatus, TestSuite};

use super::super::escape;
use crate::model::baking::{BakeReport, Fate, Made};
use crate::model::fleet::{FleetReport, MemberStatus};
use crate::model::name::HostName;
use crate::model::report::{Failure, HostOutcome, HostResult, HostStatus, Proof, RunReport, StatusReport, Witness};

/// The step of a host that was installed and then not confirmed.
const VERIFY: &str = "verify";

/// Why there is no word of Consul's and of Prometheus'.
const NOT_ASKED: [&str; 2] = ["Consul was not asked", "Prometheus was not asked"];

/// One line of a test report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Case {
    /// What kind of thing was looked at: `command`, `host`, `consul`, `prometheus`.
    pub group: &'static str,
    pub name: String,
    pub verdict: Verdict,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    Good,
    Failed {
        /// A word for what failed, such as the step.
        kind: String,
        message: String,
        more: Vec<String>,
    },
    /// It did not come to an end, which says nothing about whether it would have been good.
    Interrupted {
        message: String,
    },
    /// Nobody looked.
    Skipped {
        why: &'static str,
    },
}

impl Verdict {
    /// Bad with a reason, good without.
    fn of(kind: &str, problem: Option<&str>) -> Self {
        problem.map_or(Self::Good, |problem| Self::Failed {
            kind: kind.to_owned(),
            message: problem.to_owned(),
            more: Vec::new(),
        })
    }
}

/// The document, with a suite of this name.
///
/// # Errors
/// None that is known of: every text is one that XML can hold.
pub fn xml(suite: &str, took: Duration, cases: &[Case]) -> Result<String, quick_junit::SerializeError> {
    let mut shown = TestSuite::new(plain(suite));
    shown.set_time(took);
    for case in cases {
        let mut test = TestCase::new(plain(&case.name), status(&case.verdict));
        test.set_classname(case.group);
        shown.add_test_case(test);
    }
    let mut report = Report::new("clusterctl");
    report.set_time(took).add_test_suite(shown);
    report.to_string()
}

/// One line, with what acts on a terminal or has no place in XML shown as its escape.
fn plain(text: &str) -> String {
    xml_can_hold(&escape::plain(text))
}

/// XML has no way to write these two; control characters are escaped already.
fn xml_can_hold(line: &str) -> String {
    line.replace('\u{fffe}', "\\u{fffe}").replace('\u{ffff}', "\\u{ffff}")
}

fn status(verdict: &Verdict) -> TestCaseStatus {
    let mut status = match verdict {
        Verdict::Good => TestCaseStatus::success(),
        Verdict::Failed { .. } => TestCaseStatus::non_success(NonSuccessKind::Failure),
        Verdict::Interrupted { .. } => TestCaseStatus::non_success(NonSuccessKind::Error),
        Verdict::Skipped { .. } => TestCaseStatus::skipped(),
    };
    match verdict {
        Verdict::Good => {}
        Verdict::Failed { kind, message, more } => {
            status.set_type(plain(kind)).set_message(plain(message));
            // The message again, since not every server shows the attribute.
            let text: Vec<String> = std::iter::once(message)
                .chain(more)
                .flat_map(|text| escape::lines(text))
                .map(|line| xml_can_hold(&line))
                .collect();
            status.set_description(text.join("\n"));
        }
        Verdict::Interrupted { message } => {
            status.set_type("interrupted").set_message(plain(message));
        }
        Verdict::Skipped { why } => {
            status.set_message(*why);
        }
    }
    status
}

/// The cases of `up` and `join-node`.
pub fn of_run(report: &RunReport) -> Vec<Case> {
    report.hosts.iter().map(installed).chain(report.hosts.iter().flat_map(|host| asked(report, host))).collect()
}

fn installed(host: &HostOutcome) -> Case {
    let verdict = match &host.result {
        HostResult::Unchanged | HostResult::Changed { .. } | HostResult::Booted { .. } => Verdict::Good,
        HostResult::Interrupted { step } if step == VERIFY => Verdict::Good,
        HostResult::Interrupted { step } => Verdict::Interrupted { message: format!("interrupted: {step}") },
        // That is the next cases' matter.
        HostResult::Failed(failure) if failure.step == VERIFY => Verdict::Good,
        HostResult::Failed(failure) => failed(failure),
    };
    Case { group: "host", name: format!("{} is installed", host.host), verdict }
}

fn failed(failure: &Failure) -> Verdict {
    let mut more = failure.lines.clone();
    more.extend(failure.log.iter().map(|log| format!("more: {log}")));
    more.extend(failure.hint.iter().map(|hint| format!("hint: {hint}")));
    Verdict::Failed { kind: failure.step.clone(), message: format!("{}: {}", failure.step, failure.message), more }
}

/// What Consul and Prometheus say of the host. They are asked about hosts that were installed only.
fn asked(report: &RunReport, host: &HostOutcome) -> Vec<Case> {
    let said = proven(&report.proofs, &host.host);
    if !said.is_empty() {
        return said;
    }
    let verdict = match &host.result {
        HostResult::Failed(failure) if failure.step == VERIFY => failed(failure),
        HostResult::Interrupted { .. } => Verdict::Skipped { why: "interrupted before" },
        HostResult::Failed(_) => Verdict::Skipped { why: "the host is not installed" },
        HostResult::Unchanged | HostResult::Changed { .. } | HostResult::Booted { .. } => {
            Verdict::Skipped { why: NOT_ASKED[0] }
        }
    };
    let prometheus = match &verdict {
        Verdict::Skipped { why } if *why != NOT_ASKED[0] => Verdict::Skipped { why },
        _ => Verdict::Skipped { why: NOT_ASKED[1] },
    };
    unproven(&host.host, verdict, prometheus)
}

fn proven(proofs: &[Proof], host: &HostName) -> Vec<Case> {
    let case = |proof: &Proof| {
        let verdict = |kind| Verdict::of(kind, proof.problem.as_deref());
        match &proof.by {
            Witness::Consul => alive(host, verdict("consul")),
            Witness::Prometheus { job } => scraped(host, job, verdict("prometheus")),
        }
    };
    proofs.iter().filter(|proof| proof.host == *host).map(case).collect()
}

fn unproven(host: &HostName, consul: Verdict, prometheus: Verdict) -> Vec<Case> {
    vec![alive(host, consul), scraped(host, "node", prometheus)]
}

fn alive(host: &HostName, verdict: Verdict) -> Case {
    Case { group: "consul", name: format!("{host} is alive"), verdict }
}

fn scraped(host: &HostName, job: &str, verdict: Verdict) -> Case {
    Case { group: "prometheus", name: format!("{job} of {host} is up"), verdict }
}

/// The cases of `fleet` and of `up --fleet`: each instance, by the word of EC2, Consul and Prometheus together.
pub fn of_fleet(report: &FleetReport) -> Vec<Case> {
    let of_all = report.problems.iter().map(|problem| Case {
        group: "fleet",
        name: format!("{} has what it wants", report.name),
        verdict: Verdict::of("fleet", Some(problem)),
    });
    let member = |member: &MemberStatus| Case {
        group: "fleet",
        name: format!("{} is well", member.member.id),
        verdict: Verdict::of("fleet", member.problem.as_deref()),
    };
    of_all.chain(report.members.iter().map(member)).collect()
}

/// The cases of `ami build`: each image, and what was said of the hosts that booted from them.
pub fn of_bake(report: &BakeReport) -> Vec<Case> {
    let verdict = |made: &Made| match (made.fate, &report.failure) {
        (Fate::Trusted, _) => Verdict::Good,
        (_, Some(failure)) => failed(failure),
        _ => Verdict::Interrupted { message: "interrupted before it was proved".to_owned() },
    };
    let image = |made: &Made| Case {
        group: "image",
        name: format!("{} ({}) is trusted", made.name, made.role),
        verdict: verdict(made),
    };
    let mut cases: Vec<Case> = report.images.iter().map(image).collect();
    if let (true, Some(failure)) = (cases.iter().all(|case| case.verdict == Verdict::Good), &report.failure) {
        cases.push(Case { group: "image", name: format!("{} is built", report.cluster), verdict: failed(failure) });
    }
    let mut hosts: Vec<&HostName> = report.proofs.iter().map(|proof| &proof.host).collect();
    hosts.dedup();
    cases.extend(hosts.into_iter().flat_map(|host| proven(&report.proofs, host)));
    cases.extend(report.left.iter().map(|left| Case {
        group: "image",
        name: "everything but the images is gone".to_owned(),
        verdict: Verdict::of("remove", Some(left)),
    }));
    cases
}

/// The cases of `status`.
pub fn of_status(report: &StatusReport) -> Vec<Case> {
    let problems = (!report.problems.is_empty()).then(|| report.problems.join("\n"));
    let whole = Verdict::of("cluster", problems.as_deref());
    let mut cases = vec![Case { group: "cluster", name: format!("{} is well", report.cluster), verdict: whole }];
    cases.extend(report.hosts.iter().map(well));
    for HostStatus { host, .. } in &report.hosts {
        let said = proven(&report.proofs, host);
        let skipped = |why| Verdict::Skipped { why };
        cases.extend(if said.is_empty() { unproven(host, skipped(NOT_ASKED[0]), skipped(NOT_ASKED[1])) } else { said });
    }
    cases
}

fn well(host: &HostStatus) -> Case {
    Case {
        group: "host",
        name: format!("{} is well", host.host),
        verdict: Verdict::of("host", host.problem.as_deref()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::samples;
    use super::*;

    fn shown(cases: &[Case]) -> String {
        xml("clusterctl up dev", Duration::from_millis(14_260), cases).unwrap()
    }

    fn proof(host: &str, job: Option<&str>, problem: Option<&str>) -> Proof {
        let by = job.map_or(Witness::Consul, |job| Witness::Prometheus { job: job.to_owned() });
        Proof { host: HostName::new(host).unwrap(), by, problem: problem.map(str::to_owned) }
    }

    #[test]
    fn a_run_that_was_not_verified() {
        insta::assert_snapshot!(shown(&of_run(&samples::run())));
    }

    #[test]
    fn what_consul_and_prometheus_said() {
        let mut run = samples::run();
        run.hosts.truncate(2);
        let verify = Failure {
            step: VERIFY.into(),
            message: "Prometheus on dev-server-1 says: job node is down: no route".into(),
            lines: vec![],
            log: None,
            hint: None,
        };
        run.hosts[1].result = HostResult::Failed(verify);
        run.proofs = vec![
            proof("dev-server-1", None, None),
            proof("dev-server-1", Some("node"), None),
            proof("dev-server-1", Some("prometheus"), None),
            proof("dev-node-2", None, None),
            proof("dev-node-2", Some("node"), Some("Prometheus on dev-server-1 says: job node is down: no route")),
        ];
        insta::assert_snapshot!(shown(&of_run(&run)));
        // Where the answers are not known, the failure is not lost.
        run.proofs.clear();
        let failures = of_run(&run).into_iter().filter(|case| matches!(case.verdict, Verdict::Failed { .. }));
        assert_eq!(failures.map(|case| case.name).collect::<Vec<_>>(), ["dev-node-2 is alive"]);
    }

    #[test]
    fn a_status() {
        let mut status = samples::status(2);
        status.problems = vec!["Consul has no leader (asked dev-server-1)".into()];
        status.hosts[1].problem = Some("it is stopped".into());
        status.proofs = vec![proof("dev-server-1", None, Some("Consul has no leader"))];
        insta::assert_snapshot!(shown(&of_status(&status)));
    }

    /// Whatever a host says, a parser reads the document, and finds the same cases.
    #[test]
    fn nothing_foreign_breaks_the_document() {
        let evil = "a]]>b</failure>&amp;\"'<\u{0}\u{1}\x1b[31m\u{b}\u{fffe}\u{ffff}\u{202e}\r\n\tü→日本";
        let verdict =
            Verdict::Failed { kind: evil.into(), message: evil.into(), more: vec![evil.into(), "]]>".into()] };
        let broken = Verdict::Interrupted { message: evil.into() };
        let cases = [verdict, broken].map(|verdict| Case { group: "host", name: evil.into(), verdict });
        let text = xml(evil, Duration::ZERO, &cases).unwrap();
        assert!(!text.contains('\x1b') && !text.contains("</failure>&amp;"), "{text}");
        let read = Report::deserialize_from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
        assert_eq!((read.tests, read.failures, read.errors), (2, 1, 1));
        let name = read.test_suites[0].test_cases[0].name.as_str();
        for kept in ["]]>b</failure>&amp;\"'<", "\\u{0}", "\\u{1b}[31m", "\\u{202e}", "\\u{fffe}", "ü→日本"] {
            assert!(name.contains(kept), "{kept}: {name}");
        }
    }
}
