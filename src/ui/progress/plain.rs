//! Plain lines for logs and pipes: one line for each event that matters, and a sign of life for steps that
//! say nothing for long.

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::Mutex;

use anstyle::Style;
use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::super::escape;
use super::super::output::lock;
use super::super::style::{BAD, BOLD, DIM, GOOD, Line, NONE, WARN, width};
use super::super::words::{self, age, bytes_of, count, seconds};
use super::board::{Board, Step, Who};
use super::{Clock, Live};
use crate::model::event::{Doing, Event, EventKind, EventSink, Phase};

/// Seconds between two lines about one transfer.
const TRANSFER: u64 = 5;
/// Seconds of silence after which a running step is mentioned again.
const SILENCE: u64 = 30;
/// How many silent steps are mentioned at once; the others are counted.
const MENTIONED: usize = 5;
/// Seconds from which a finished step is worth its duration.
const WORTH: u64 = 2;

pub struct Plain {
    state: Mutex<State>,
    clock: Clock,
    zone: TimeZone,
}

struct State {
    board: Board,
    to: Box<dyn Write + Send>,
    /// When each was last mentioned.
    said: BTreeMap<Who, Timestamp>,
    /// Columns of the longest host name so far.
    column: usize,
}

impl Plain {
    pub fn new(to: Box<dyn Write + Send>, clock: Clock, zone: TimeZone) -> Self {
        let state = State { board: Board::default(), to, said: BTreeMap::new(), column: 0 };
        Self { state: Mutex::new(state), clock, zone }
    }

    fn say(&self, state: &mut State, now: Timestamp, who: Option<&Who>, style: Style, text: &str) {
        let clock = now.to_zoned(self.zone.clone()).strftime("%H:%M:%S").to_string();
        let mut head = Line::new().push(DIM, clock).push(NONE, "  ");
        if let Some(Who::Host(host)) = who {
            state.column = state.column.max(width(host.as_str()));
            let end = head.width() + state.column + 2;
            head = head.push(NONE, host.as_str()).pad_to(end);
        }
        if let Some(who) = who {
            state.said.insert(who.clone(), now);
        }
        let mut out = String::new();
        for (at, line) in escape::lines(text).enumerate() {
            let indent = if at == 0 { "" } else { "  " };
            out.push_str(&head.clone().push(NONE, indent).push(style, line).paint(None));
            out.push('\n');
        }
        // Whoever stopped reading has chosen not to know.
        let _ = state.to.write_all(out.as_bytes());
    }

    fn show(&self, state: &mut State, now: Timestamp, event: &Event, who: Option<&Who>, ended: Option<&Step>) {
        match &event.kind {
            EventKind::Phase { phase } => self.say(state, now, None, BOLD, words::phase(*phase)),
            EventKind::Began { doing } if is_announced(doing) => {
                self.say(state, now, who, NONE, &words::doing(doing));
            }
            EventKind::Ended { doing, changed } if *changed || is_announced(doing) || is_arrival(doing) => {
                let took = ended.map_or(0, |step| seconds(step.since, now));
                let took = if took >= WORTH { format!(" ({})", age(took)) } else { String::new() };
                self.say(state, now, who, NONE, &format!("{}{took}", words::did(doing)));
            }
            EventKind::Progress { done, total } | EventKind::Fetched { done, total, .. } => {
                self.transfer(state, now, who, *done, *total);
            }
            EventKind::HostDone { changes } => {
                let phase = state.board.phase;
                if *changes > 0 || phase.is_some_and(|p| matches!(p, Phase::Apply)) {
                    let text = if *changes == 0 { "unchanged".to_owned() } else { count(*changes, "change") };
                    self.say(state, now, who, GOOD, &format!("done: {text}"));
                }
            }
            EventKind::HostFailed { step, message } => {
                self.say(state, now, who, BAD, &format!("failed: {step}: {message}"));
            }
            EventKind::Warning { message } => self.say(state, now, who, WARN, &format!("warning: {message}")),
            EventKind::Note { message } => self.say(state, now, who, NONE, message),
            EventKind::Began { .. } | EventKind::Ended { .. } => {}
        }
    }

    fn transfer(&self, state: &mut State, now: Timestamp, who: Option<&Who>, done: u64, total: u64) {
        let Some(who) = who else { return };
        let Some((since, what)) =
            state.board.running().find(|(w, _)| *w == who).map(|(_, s)| (s.since, words::doing(&s.doing)))
        else {
            return;
        };
        let last = state.said.get(who).map_or(since, |said| since.max(*said));
        if seconds(last, now) >= TRANSFER {
            self.say(state, now, Some(who), DIM, &format!("{what}: {}", bytes_of(done, total)));
        }
    }
}

impl EventSink for Plain {
    fn emit(&self, event: Event) {
        let mut state = lock(&self.state);
        let now = (self.clock)();
        let (who, ended) = state.board.take(&event, now);
        self.show(&mut state, now, &event, who.as_ref(), ended.as_ref());
    }
}

impl Live for Plain {
    /// Mentions the steps that have been silent for long, the oldest first.
    fn tick(&self, now: Timestamp) {
        let mut state = lock(&self.state);
        let said = &state.said;
        let mut silent: Vec<(Who, Step)> = state
            .board
            .running()
            .filter(|(who, step)| seconds(said.get(who).map_or(step.since, |s| step.since.max(*s)), now) >= SILENCE)
            .map(|(who, step)| (who.clone(), step.clone()))
            .collect();
        silent.sort_by_key(|(_, step)| step.since);
        let more = silent.len().saturating_sub(MENTIONED);
        for (at, (who, step)) in silent.into_iter().enumerate() {
            if at < MENTIONED {
                let got = step.bytes.map_or(String::new(), |(done, total)| format!("{}, ", bytes_of(done, total)));
                let text = format!("still {}: {got}{}", words::doing(&step.doing), age(seconds(step.since, now)));
                self.say(&mut state, now, Some(&who), DIM, &text);
            } else {
                state.said.insert(who, now);
            }
        }
        if more > 0 {
            let text = format!("and {more} more are still busy for {SILENCE} s or longer");
            self.say(&mut state, now, None, DIM, &text);
        }
    }
}

/// What takes long enough that its beginning is news.
const fn is_announced(doing: &Doing) -> bool {
    matches!(
        doing,
        Doing::BuildBase { .. }
            | Doing::FetchArtifact { .. }
            | Doing::Launch
            | Doing::Send { .. }
            | Doing::Run { .. }
            | Doing::Seal
            | Doing::CopyImage { .. }
    )
}

/// What everybody waits for, though it changes nothing.
const fn is_arrival(doing: &Doing) -> bool {
    matches!(doing, Doing::JoinConsul | Doing::Scrape)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::script::{Hand, Script, at, began, event, play};
    use super::*;
    use crate::ui::output::tests::Tape;
    use crate::ui::style::strip;

    fn run(script: Script, ticks: &[i64]) -> String {
        let tape = Tape::default();
        let (plain, _): (_, Hand) =
            play(script, |clock| Arc::new(Plain::new(Box::new(tape.clone()), clock, TimeZone::UTC)));
        for second in ticks {
            plain.tick(at(*second));
        }
        strip(&tape.text())
    }

    #[test]
    fn three_hosts_at_once() {
        insta::assert_snapshot!(run(Script::mixed(), &[20, 31, 32, 61]), @r"
        08:00:00  Installing
        08:00:00  dev-node-1  sending 82.1 MB
        08:00:03  dev-node-2  warning: clock is 3 s ahead
        08:00:06  dev-node-1  sending 82.1 MB: 28.0 of 82.1 MB
        08:00:08  dev-node-2  failed: consul validate: no
        08:00:08  dev-node-2    such key
        08:00:09  dev-node-1  sent 82.1 MB (9 s)
        08:00:09  dev-node-1  wrote /etc/consul.d/agent.hcl
        08:00:12  dev-node-1  restarted consul (2 s)
        08:00:12  dev-node-1  done: 2 changes
        08:00:13  1 of 3 hosts is done
        08:00:31  dev-server-1  still connecting, attempt 2 (connection \u{1b}[31mrefused): 31 s
        08:01:01  dev-server-1  still connecting, attempt 2 (connection \u{1b}[31mrefused): 1 min 01 s
        ");
    }

    #[test]
    fn downloads_side_by_side() {
        insta::assert_snapshot!(run(Script::downloads(), &[29, 35]), @r"
        08:00:00  Preparing
        08:00:00  building the base system: fetching packages
        08:00:00  fetching consul 1.22.7 linux/amd64
        08:00:01  fetching prometheus 3.13.3 linux/amd64
        08:00:04  fetched prometheus 3.13.3 linux/amd64 (3 s)
        08:00:05  building the base system: unpacking \u{1b}[2J
        08:00:35  still building the base system: unpacking \u{1b}[2J: 35 s
        08:00:35  still fetching consul 1.22.7 linux/amd64: 12.1 of 35.0 MB, 35 s
        ");
    }

    #[test]
    fn a_thousand_silent_hosts_are_counted() {
        let names = (0..1000).map(|n| (0, began(&format!("n{n}"), Doing::ReadFacts))).collect();
        insta::assert_snapshot!(run(Script(names), &[30, 31]), @"
        08:00:30  n0  still reading facts: 30 s
        08:00:30  n1  still reading facts: 30 s
        08:00:30  n10  still reading facts: 30 s
        08:00:30  n100  still reading facts: 30 s
        08:00:30  n101  still reading facts: 30 s
        08:00:30  and 995 more are still busy for 30 s or longer
        ");
    }

    #[test]
    fn an_unchanged_host_says_so_only_where_it_could_have_changed() {
        let done = || event("a", EventKind::HostDone { changes: 0 });
        let phase = |phase| event("", EventKind::Phase { phase });
        let script = vec![(0, phase(Phase::Observe)), (1, done()), (2, phase(Phase::Apply)), (3, done())];
        insta::assert_snapshot!(run(Script(script), &[]), @"
        08:00:00  Reading the hosts' state
        08:00:02  Installing
        08:00:03  a  done: unchanged
        ");
    }
}
