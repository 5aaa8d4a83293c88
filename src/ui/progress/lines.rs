//! The reporters that leave nothing out: JSON lines for machines, and the log file.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::sync::Mutex;

use jiff::Timestamp;
use serde::Serialize;

use super::super::escape::{self, plain};
use super::super::output::lock;
use super::super::words;
use super::Clock;
use crate::model::artifact::ArtifactId;
use crate::model::event::{Event, EventKind, EventSink};
use crate::model::name::HostName;

/// The event as one JSON object with its time, without a line feed.
pub fn json_line(time: Timestamp, event: &Event) -> String {
    #[derive(Serialize)]
    struct Line<'a> {
        time: Timestamp,
        #[serde(flatten)]
        event: &'a Event,
    }
    let line = serde_json::to_string(&Line { time, event });
    escape::json(&line.expect("events have nothing that JSON cannot hold"))
}

/// Whose bytes, and of which artifact.
type Transfer = (Option<HostName>, Option<ArtifactId>);

/// Transfers report every piece; a line a second for each, and the one that completes it, tell as much.
#[derive(Default)]
struct Thinner(Mutex<HashMap<Transfer, i64>>);

impl Thinner {
    fn lets_pass(&self, event: &Event, now: Timestamp) -> bool {
        let (artifact, done, total) = match &event.kind {
            EventKind::Progress { done, total } => (None, done, total),
            EventKind::Fetched { artifact, done, total } => (Some(artifact.clone()), done, total),
            _ => return true,
        };
        let second = now.as_second();
        let before = lock(&self.0).insert((event.host.clone(), artifact), second);
        before != Some(second) || done == total
    }
}

/// One JSON object a line.
pub struct JsonLines {
    to: Mutex<Box<dyn Write + Send>>,
    clock: Clock,
    thinner: Thinner,
}

impl JsonLines {
    pub fn new(to: Box<dyn Write + Send>, clock: Clock) -> Self {
        Self { to: Mutex::new(to), clock, thinner: Thinner::default() }
    }
}

impl EventSink for JsonLines {
    fn emit(&self, event: Event) {
        let now = (self.clock)();
        if !self.thinner.lets_pass(&event, now) {
            return;
        }
        let line = format!("{}\n", json_line(now, &event));
        // Whoever stopped reading has chosen not to know.
        let _ = lock(&self.to).write_all(line.as_bytes());
    }
}

/// Every event with its time in UTC (of bytes one a second), a line each, at the end of a file that several runs may share.
pub struct LogFile {
    to: Mutex<Box<dyn Write + Send>>,
    clock: Clock,
    thinner: Thinner,
}

impl LogFile {
    /// # Errors
    /// When the file cannot be opened for appending.
    pub fn append(path: &Path, clock: Clock) -> io::Result<Self> {
        let file = File::options().create(true).append(true).open(path)?;
        Ok(Self::new(Box::new(file), clock))
    }

    pub fn new(to: Box<dyn Write + Send>, clock: Clock) -> Self {
        Self { to: Mutex::new(to), clock, thinner: Thinner::default() }
    }

    /// Something that is no event: the command line at the beginning, the error at the end.
    pub fn line(&self, text: &str) {
        for line in escape::lines(text) {
            self.write((self.clock)(), "-", &line);
        }
    }

    /// A full disk under the log must not end the run: what cannot be written is lost.
    fn write(&self, now: Timestamp, who: &str, what: &str) {
        let line = format!("{now:.3} {who} {what}\n");
        let _ = lock(&self.to).write_all(line.as_bytes());
    }
}

impl EventSink for LogFile {
    fn emit(&self, event: Event) {
        let now = (self.clock)();
        if !self.thinner.lets_pass(&event, now) {
            return;
        }
        self.write(now, event.host.as_ref().map_or("-", |h| h.as_str()), &sentence(&event.kind));
    }
}

/// The whole event as one line.
fn sentence(kind: &EventKind) -> String {
    match kind {
        EventKind::Phase { phase } => format!("phase: {}", words::phase(*phase)),
        EventKind::Began { doing } => format!("begin: {}", words::doing(doing)),
        EventKind::Progress { done, total } => format!("bytes: {done} of {total}"),
        EventKind::Fetched { artifact, done, total } => format!("bytes: {done} of {total} of {artifact}"),
        EventKind::Ended { doing, changed } => {
            format!("end: {}{}", words::did(doing), if *changed { ", changed" } else { "" })
        }
        EventKind::HostDone { changes } => format!("done: {}", words::count(*changes, "change")),
        EventKind::HostFailed { step, message } => format!("failed: {}: {}", plain(step), plain(message)),
        EventKind::Warning { message } => format!("warning: {}", plain(message)),
        EventKind::Note { message } => format!("note: {}", plain(message)),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::script::{Script, at, consul, event, play};
    use super::*;
    use crate::ui::output::tests::Tape;

    #[test]
    fn the_log_has_everything() {
        let tape = Tape::default();
        play(Script::mixed(), |clock| Arc::new(LogFile::new(Box::new(tape.clone()), clock)));
        insta::assert_snapshot!(tape.text(), @r"
        2027-01-15T08:00:00.000Z - phase: Installing
        2027-01-15T08:00:00.000Z dev-server-1 begin: connecting
        2027-01-15T08:00:00.000Z dev-node-1 begin: sending 82.1 MB
        2027-01-15T08:00:01.000Z dev-node-2 begin: checking with consul validate
        2027-01-15T08:00:01.000Z dev-node-1 bytes: 1000000 of 82100000
        2027-01-15T08:00:02.000Z dev-server-1 begin: connecting, attempt 2 (connection \u{1b}[31mrefused)
        2027-01-15T08:00:03.000Z dev-node-2 warning: clock is 3 s ahead
        2027-01-15T08:00:06.000Z dev-node-1 bytes: 28000000 of 82100000
        2027-01-15T08:00:07.000Z dev-node-1 bytes: 30000000 of 82100000
        2027-01-15T08:00:08.000Z dev-node-2 failed: consul validate: no\nsuch key
        2027-01-15T08:00:09.000Z dev-node-1 end: sent 82.1 MB, changed
        2027-01-15T08:00:09.000Z dev-node-1 begin: writing /etc/consul.d/agent.hcl
        2027-01-15T08:00:09.000Z dev-node-1 end: wrote /etc/consul.d/agent.hcl, changed
        2027-01-15T08:00:10.000Z dev-node-1 begin: restarting consul
        2027-01-15T08:00:12.000Z dev-node-1 end: restarted consul, changed
        2027-01-15T08:00:12.000Z dev-node-1 done: 2 changes
        2027-01-15T08:00:13.000Z - note: 1 of 3 hosts is done
        ");
    }

    #[test]
    fn machines_get_an_object_a_line() {
        let tape = Tape::default();
        play(Script::mixed(), |clock| Arc::new(JsonLines::new(Box::new(tape.clone()), clock)));
        for line in tape.text().lines() {
            let value: serde_json::Value = serde_json::from_str(line).unwrap();
            assert!(value["time"].is_string() && value["event"].is_string(), "{line}");
        }
        insta::assert_snapshot!(tape.text(), @r#"
        {"time":"2027-01-15T08:00:00Z","event":"phase","phase":"apply"}
        {"time":"2027-01-15T08:00:00Z","host":"dev-server-1","event":"began","step":"connect","attempt":1,"last":null}
        {"time":"2027-01-15T08:00:00Z","host":"dev-node-1","event":"began","step":"send","bytes":82100000}
        {"time":"2027-01-15T08:00:01Z","host":"dev-node-2","event":"began","step":"check","title":"consul validate"}
        {"time":"2027-01-15T08:00:01Z","host":"dev-node-1","event":"progress","done":1000000,"total":82100000}
        {"time":"2027-01-15T08:00:02Z","host":"dev-server-1","event":"began","step":"connect","attempt":2,"last":"connection \u001b[31mrefused"}
        {"time":"2027-01-15T08:00:03Z","host":"dev-node-2","event":"warning","message":"clock is 3 s ahead"}
        {"time":"2027-01-15T08:00:06Z","host":"dev-node-1","event":"progress","done":28000000,"total":82100000}
        {"time":"2027-01-15T08:00:07Z","host":"dev-node-1","event":"progress","done":30000000,"total":82100000}
        {"time":"2027-01-15T08:00:08Z","host":"dev-node-2","event":"host-failed","step":"consul validate","message":"no\nsuch key"}
        {"time":"2027-01-15T08:00:09Z","host":"dev-node-1","event":"ended","step":"send","bytes":82100000,"changed":true}
        {"time":"2027-01-15T08:00:09Z","host":"dev-node-1","event":"began","step":"write","path":"/etc/consul.d/agent.hcl"}
        {"time":"2027-01-15T08:00:09Z","host":"dev-node-1","event":"ended","step":"write","path":"/etc/consul.d/agent.hcl","changed":true}
        {"time":"2027-01-15T08:00:10Z","host":"dev-node-1","event":"began","step":"unit","unit":"consul","verb":"restart"}
        {"time":"2027-01-15T08:00:12Z","host":"dev-node-1","event":"ended","step":"unit","unit":"consul","verb":"restart","changed":true}
        {"time":"2027-01-15T08:00:12Z","host":"dev-node-1","event":"host-done","changes":2}
        {"time":"2027-01-15T08:00:13Z","event":"note","message":"1 of 3 hosts is done"}
        "#);
    }

    #[test]
    fn bytes_are_told_once_a_second_and_at_their_end() {
        let thinner = Thinner::default();
        let at_host = |name, done| event(name, EventKind::Progress { done, total: 9 });
        let fetched = event("", EventKind::Fetched { artifact: consul(), done: 1, total: 9 });
        assert!(thinner.lets_pass(&at_host("a", 1), at(1)));
        assert!(!thinner.lets_pass(&at_host("a", 2), at(1)));
        assert!(thinner.lets_pass(&at_host("b", 2), at(1)), "another host is another transfer");
        assert!(thinner.lets_pass(&fetched, at(1)), "so is an artifact");
        assert!(thinner.lets_pass(&at_host("a", 9), at(1)), "the end always counts");
        assert!(thinner.lets_pass(&at_host("a", 3), at(2)));
        let note = event("a", EventKind::Note { message: "x".into() });
        assert!(thinner.lets_pass(&note, at(2)) && thinner.lets_pass(&note, at(2)));
    }

    #[test]
    fn a_log_is_continued_and_its_lines_are_safe() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        for text in ["first\n\x1b[2J", "second"] {
            LogFile::append(&path, Arc::new(|| Timestamp::UNIX_EPOCH)).unwrap().line(text);
        }
        let time = "1970-01-01T00:00:00.000Z";
        let want = format!("{time} - first\n{time} - \\u{{1b}}[2J\n{time} - second\n");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), want);
    }
}
