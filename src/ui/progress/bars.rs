//! The live view on a terminal: who is at what, and since when. With many hosts it shows counts and the
//! slowest, so that it never takes more than a part of the screen. [`frame`] is pure; indicatif draws it.

use std::sync::Mutex;

use anstyle::Style;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use jiff::Timestamp;

use super::super::escape::{self, plain};
use super::super::output::lock;
use super::super::style::{BAD, BOLD, DIM, GOOD, INFO, Line, NONE, WARN, strip, width};
use super::super::words::{self, bytes_of, count, seconds, short_age};
use super::board::{Board, Lane, State, Step, Who};
use super::{Clock, Live};
use crate::model::event::{Doing, Event, EventKind, EventSink};
use crate::model::name::HostName;

/// With more hosts than this only counts and the slowest are shown.
const EACH: usize = 12;
/// So many of the slowest.
const SLOWEST: usize = 8;
/// Seconds from which a step's age is coloured: late, and very late.
const LATE: u64 = 10;
const VERY_LATE: u64 = 60;
/// Failures that are printed above the summary; the final table has them all.
const FAILURES: usize = 20;
/// Milliseconds between two frames.
const FRAME: i128 = 100;
const GAUGE: usize = 12;

/// Columns and rows of the terminal.
pub type Size = Box<dyn Fn() -> (usize, usize) + Send + Sync>;

/// Of the terminal at standard error; the size may change while the bars stand.
pub(super) fn terminal_size() -> Size {
    Box::new(|| terminal_size::terminal_size_of(std::io::stderr()).map_or((80, 24), |(w, h)| (w.0.into(), h.0.into())))
}

pub struct Bars {
    state: Mutex<Drawn>,
    bar: ProgressBar,
    color: bool,
    size: Size,
    clock: Clock,
}

#[derive(Default)]
struct Drawn {
    board: Board,
    last: Option<Timestamp>,
    failures: usize,
    finished: bool,
}

impl Bars {
    pub fn new(target: ProgressDrawTarget, color: bool, size: Size, clock: Clock) -> Self {
        let bar = ProgressBar::with_draw_target(None, target);
        bar.set_style(ProgressStyle::with_template("{msg}").expect("the template is fixed"));
        Self { state: Mutex::default(), bar, color, size, clock }
    }

    /// For whoever wants to write beside the bars: it can suspend them.
    pub fn handle(&self) -> ProgressBar {
        self.bar.clone()
    }

    fn painted(&self, line: &Line) -> String {
        // One column stays free: a full line makes some terminals wrap.
        let text = line.paint(Some((self.size)().0.saturating_sub(1)));
        if self.color { text } else { strip(&text) }
    }

    fn draw(&self, state: &mut Drawn, now: Timestamp) {
        state.last = Some(now);
        let (_, rows) = (self.size)();
        let lines: Vec<_> = frame(&state.board, now, rows).iter().map(|line| self.painted(line)).collect();
        self.bar.set_message(lines.join("\n"));
    }

    /// Lines that stay, above the bars. They may be longer than the terminal is wide: nothing is cut.
    fn above(&self, style: Style, label: &str, host: Option<&HostName>, message: &str) {
        let host = host.map_or(String::new(), |h| format!("{h}: "));
        for (at, text) in escape::lines(message).enumerate() {
            let line = match at {
                0 => Line::new().push(style, label).push(NONE, format!("{host}{text}")),
                _ => Line::new().push(NONE, format!("  {text}")),
            };
            let text = line.paint(None);
            self.bar.println(if self.color { text } else { strip(&text) });
        }
    }
}

impl EventSink for Bars {
    fn emit(&self, event: Event) {
        let mut state = lock(&self.state);
        if state.finished {
            return;
        }
        let now = (self.clock)();
        state.board.take(&event, now);
        let host = event.host.as_ref();
        match &event.kind {
            EventKind::Warning { message } => self.above(WARN, "warning: ", host, message),
            EventKind::Note { message } => self.above(NONE, "", host, message),
            EventKind::HostFailed { step, message } if state.board.hosts().count() > EACH => {
                state.failures += 1;
                if state.failures <= FAILURES {
                    self.above(BAD, "✗ ", host, &format!("{step}: {message}"));
                }
            }
            _ => {}
        }
        if state.last.is_none_or(|last| (now.as_millisecond() - last.as_millisecond()).abs() as i128 >= FRAME) {
            self.draw(&mut state, now);
        }
    }
}

impl Live for Bars {
    fn tick(&self, now: Timestamp) {
        let mut state = lock(&self.state);
        if !state.finished {
            self.draw(&mut state, now);
        }
    }

    fn finish(&self) {
        lock(&self.state).finished = true;
        self.bar.finish_and_clear();
    }
}

/// All lines of the live view, from the top.
pub fn frame(board: &Board, now: Timestamp, rows: usize) -> Vec<Line> {
    let mut lines = vec![header(board, now)];
    let own: Vec<_> = board.running().filter(|(who, _)| !who.is_host()).collect();
    lines.extend(own.iter().map(|(who, step)| own_line(who, step, now)));
    // Room for what stands above, and for the line that says how many more there are.
    let room = rows.saturating_sub(lines.len() + 3).max(1);
    let hosts: Vec<_> = board.hosts().collect();
    let column = hosts.iter().map(|(host, _)| width(host.as_str())).max().unwrap_or(0);
    if hosts.len() <= EACH.min(room) {
        lines.extend(hosts.iter().map(|(host, lane)| host_line(host, lane, column, now)));
        return lines;
    }
    let mut busy: Vec<_> = hosts.iter().filter(|(_, lane)| matches!(lane.state, State::Running(_))).collect();
    busy.sort_by_key(|(_, lane)| match &lane.state {
        State::Running(step) => step.since,
        _ => now,
    });
    let shown = busy.len().min(SLOWEST).min(room);
    lines.extend(busy[..shown].iter().map(|(host, lane)| host_line(host, lane, column, now)));
    if busy.len() > shown {
        lines.push(Line::new().push(DIM, format!("  … and {} more", busy.len() - shown)));
    }
    lines
}

fn header(board: &Board, now: Timestamp) -> Line {
    let mut line = Line::new().push(BOLD, board.phase.map_or("Working", words::phase));
    let counts = board.counts();
    if counts.hosts > 0 {
        line = line.push(NONE, format!("  {}:", count(counts.hosts, "host")));
        let mut comma = " ";
        for (n, what, style) in
            [(counts.done, "done", GOOD), (counts.busy, "busy", NONE), (counts.failed, "failed", BAD)]
        {
            if n > 0 {
                line = line.push(NONE, comma).push(style, format!("{n} {what}"));
                comma = ", ";
            }
        }
    }
    let begin = board.begin.unwrap_or(now);
    line.push(DIM, format!("  {}", short_age(seconds(begin, now))))
}

/// What the command itself is at: a download, the base build.
fn own_line(who: &Who, step: &Step, now: Timestamp) -> Line {
    let line = aged(Line::new().push(INFO, "  ↓ "), step, now);
    match (who, &step.doing) {
        (Who::Artifact(artifact), _) => {
            let (done, total) = step.bytes.unwrap_or((0, 0));
            gauge(line.push(NONE, format!("{artifact}  ")), done, total)
        }
        (Who::Base, Doing::BuildBase { part }) => {
            let line = line.push(NONE, format!("base system: {}", plain(part)));
            match step.bytes {
                Some((done, total)) => gauge(line.push(NONE, "  "), done, total),
                None => line,
            }
        }
        _ => line.push(NONE, words::doing(&step.doing)),
    }
}

fn gauge(line: Line, done: u64, total: u64) -> Line {
    let line = if total > 0 {
        let part = u128::from(done.min(total)) * GAUGE as u128 / u128::from(total);
        let full = usize::try_from(part).unwrap_or(GAUGE);
        line.push(INFO, "━".repeat(full)).push(DIM, "─".repeat(GAUGE - full)).push(NONE, "  ")
    } else {
        line
    };
    if total == 0 && done == 0 { line } else { line.push(NONE, bytes_of(done, total)) }
}

fn host_line(host: &HostName, lane: &Lane, column: usize, now: Timestamp) -> Line {
    let head = |style, sign: &str| {
        Line::new().push(style, format!("  {sign} ")).push(NONE, host.as_str()).pad_to(column + 4).push(NONE, "  ")
    };
    match &lane.state {
        State::Done => head(GOOD, "✓").push(
            DIM,
            match lane.changes {
                0 => "no changes".to_owned(),
                n => count(n, "change"),
            },
        ),
        State::Failed { step, message } => {
            let first = escape::lines(message).next().unwrap_or_default();
            head(BAD, "✗").push(BAD, plain(step)).push(NONE, format!(": {first}"))
        }
        State::Idle(since) => head(DIM, "·").push(DIM, format!("{:>7}  waiting", short_age(seconds(*since, now)))),
        State::Running(step) => {
            let line = aged(head(INFO, "•"), step, now);
            match (step.bytes, &step.doing) {
                // The gauge names the size already.
                (Some((done, total)), Doing::Send { .. }) => gauge(line.push(NONE, "sending  "), done, total),
                (Some((done, total)), doing) => {
                    gauge(line.push(NONE, format!("{}  ", words::doing(doing))), done, total)
                }
                (None, doing) => line.push(NONE, words::doing(doing)),
            }
        }
    }
}

/// The step's age in a column of its own; a straggler stands out.
fn aged(line: Line, step: &Step, now: Timestamp) -> Line {
    let old = seconds(step.since, now);
    let style = match old {
        VERY_LATE.. => BAD,
        LATE.. => WARN,
        _ => DIM,
    };
    line.push(style, format!("{:>7}", short_age(old))).push(NONE, "  ")
}

#[cfg(test)]
mod tests;
