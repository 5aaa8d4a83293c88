//! Renderers: a report becomes text for people, or one JSON document for machines. Pure functions; what is
//! printed where is [`super::output`]'s matter.

mod baked;
mod doctor;
mod exec;
mod fleet;
mod image;
pub mod junit;
mod listing;
mod plan;
mod run;
#[cfg(test)]
mod samples;
mod status;
mod targets;
mod terraform;

use jiff::Timestamp;
use serde::Serialize;

pub use exec::ExecReport;
pub use listing::{ArtifactsReport, Listing};

use super::escape;
use super::style::{BAD, GOOD};
use super::table::Cell;
use crate::model::report::DOCUMENT_VERSION;

/// With more rows than this, those that are as they should be are only counted, unless all are asked for.
const SHORT: usize = 30;
/// So many rows at most where not all are asked for, however many are wrong.
const LONG: usize = 100;

/// How a text is to look.
#[derive(Debug, Clone, Copy)]
pub struct View {
    /// The terminal's columns; `None` never wraps.
    pub width: Option<usize>,
    /// Every row, however many.
    pub all: bool,
    /// What was left alone too, and long values whole.
    pub verbose: bool,
    pub now: Timestamp,
}

/// What a command answers with.
pub trait Document {
    fn text(&self, view: &View) -> String;
    /// `{ "document": …, "version": …, … }`, indented, with the members in the order of the fields.
    fn json(&self) -> String;

    /// What a log file keeps of it.
    fn logged(&self, view: &View) -> String {
        self.text(view)
    }

    /// What is said on standard error beside the text, so that the text stays data.
    fn beside(&self, _view: &View) -> Option<String> {
        None
    }

    /// What a test report has of it.
    fn cases(&self) -> Vec<junit::Case> {
        Vec::new()
    }
}

/// The JSON document `name` around the members of `body`. A body has string keys and text that is UTF-8:
/// whoever adds a path turns it into a string first.
fn envelope(name: &str, body: &impl Serialize) -> String {
    #[derive(Serialize)]
    struct Envelope<'a, T> {
        document: &'a str,
        version: u32,
        #[serde(flatten)]
        body: &'a T,
    }
    let envelope = Envelope { document: name, version: DOCUMENT_VERSION, body };
    let mut text = serde_json::to_string_pretty(&envelope).expect("bodies are plain data");
    text.push('\n');
    escape::json(&text)
}

/// The first column: is this row as it should be?
fn sign(good: bool) -> Cell {
    if good { Cell::new(GOOD, "✓") } else { Cell::new(BAD, "✗") }
}

/// Which rows are shown, and the line about those that are not.
fn select<'a, T>(rows: &'a [T], all: bool, noun: &str, is_good: impl Fn(&T) -> bool) -> (Vec<&'a T>, Option<String>) {
    if all || rows.len() <= SHORT {
        return (rows.iter().collect(), None);
    }
    let bad: Vec<_> = rows.iter().filter(|row| !is_good(row)).collect();
    let good = rows.len() - bad.len();
    let cut = bad.len().saturating_sub(LONG);
    let mut left = Vec::new();
    if cut > 0 {
        left.push(format!("{cut} more that are not well"));
    }
    if good > 0 {
        left.push(format!("{} that {} well", super::words::count(good, noun), if good == 1 { "is" } else { "are" }));
    }
    let note = (!left.is_empty()).then(|| format!("not shown: {} (--all shows every {noun})\n", left.join(", ")));
    (bad.into_iter().take(LONG).collect(), note)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::plan::{Action, Reason};
    use crate::model::report::{ExecOutcome, Failure, HostResult};

    /// All documents with `evil` wherever a host, Consul or Prometheus has a say.
    fn documents(evil: &str) -> Vec<Box<dyn Document>> {
        let evil = || evil.to_owned();
        let mut status = samples::status(1);
        status.provider = evil();
        status.leader = Some(evil());
        status.problems = vec![evil()];
        let host = &mut status.hosts[0];
        (host.consul, host.scraped, host.problem) = (Some(evil()), Some(evil()), Some(evil()));
        (host.units[0].unit, host.units[0].active) = (evil(), evil());
        let mut targets = samples::targets();
        let t = &mut targets.targets[0];
        for field in
            [&mut t.job, &mut t.instance, &mut t.health, &mut t.scrape_url, &mut t.last_scrape, &mut t.last_error]
        {
            *field = evil();
        }
        let mut run = samples::run();
        run.look = vec![evil()];
        run.hosts[0].result = HostResult::Interrupted { step: evil() };
        let (step, message, lines) = (evil(), evil(), vec![evil()]);
        run.hosts[1].result =
            HostResult::Failed(Failure { step, message, lines, log: Some(evil()), hint: Some(evil()) });
        let mut plan = samples::plan();
        plan.notes = vec![evil()];
        let host = &mut plan.hosts[0];
        (host.blocked, host.skipped, host.launch) = (Some(evil()), vec![evil()], Some(Reason(evil())));
        for step in &mut host.steps {
            step.reason = Reason(evil());
            if let Action::PutFile { diff, .. } = &mut step.action {
                *diff = Some(evil());
            }
        }
        vec![Box::new(status), Box::new(targets), Box::new(run), Box::new(plan)]
    }

    /// Our own colours are the only thing in `text` that acts on a terminal.
    fn is_tame(text: &str) -> bool {
        let own = ["\x1b[0m", "\x1b[1m", "\x1b[2m", "\x1b[31m", "\x1b[32m", "\x1b[33m", "\x1b[36m"];
        let rest = own.iter().fold(text.to_owned(), |rest, code| rest.replace(code, ""));
        rest.lines().all(|line| escape::plain(line) == line)
    }

    proptest::proptest! {
        #[test]
        fn nothing_foreign_acts_on_the_terminal(evil in "(\\PC|\\pC|\\x1b\\[2J|\u{9b}1A|\u{202e}|[\r\n\t]){0,30}") {
            let view = View { verbose: true, ..samples::view() };
            for document in documents(&evil) {
                proptest::prop_assert!(is_tame(&document.text(&view)), "{:?}", document.text(&view));
                proptest::prop_assert!(is_tame(&document.json()));
                proptest::prop_assert!(serde_json::from_str::<serde_json::Value>(&document.json()).is_ok());
            }
            let outcome = ExecOutcome { stdout: evil.clone(), stderr: evil.clone(), ..samples::exec().remove(0) };
            let outcomes = [ExecOutcome { problem: Some(evil.clone()), ..outcome }];
            let report = ExecReport { hosts: &outcomes };
            proptest::prop_assert!(is_tame(&report.text(&view)) && is_tame(&report.beside(&view).unwrap()));
        }
    }

    #[test]
    fn the_property_above_can_fail() {
        assert!(!is_tame("\x1b[2J") && !is_tame("a\u{202e}b") && is_tame("\x1b[1ma\x1b[0m\n"));
    }

    #[test]
    fn few_rows_are_all_shown() {
        let (rows, note) = select(&[true; 30], false, "host", |good| *good);
        assert_eq!((rows.len(), note), (30, None));
    }

    #[test]
    fn many_rows_are_cut_and_the_cut_is_named() {
        let mut rows = vec![true; 1000];
        rows[..150].fill(false);
        let (shown, note) = select(&rows, false, "host", |good| *good);
        assert_eq!(shown.len(), 100);
        let note = note.unwrap();
        assert_eq!(note, "not shown: 50 more that are not well, 850 hosts that are well (--all shows every host)\n");
        let (shown, note) = select(&rows, true, "host", |good| *good);
        assert_eq!((shown.len(), note), (1000, None));
    }
}
