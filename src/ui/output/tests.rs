use std::io::{self, Write};
use std::sync::{Arc, Mutex};

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::*;
use crate::ui::render::Listing;

/// A stream that remembers.
#[derive(Clone, Default)]
pub struct Tape(Arc<Mutex<Vec<u8>>>);

impl Tape {
    pub fn text(&self) -> String {
        String::from_utf8(lock(&self.0).clone()).expect("only text is written")
    }
}

impl Write for Tape {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        lock(&self.0).extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A stream that fails.
struct Broken(io::ErrorKind);

impl Write for Broken {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(self.0.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

pub struct Captured {
    pub ui: Ui,
    pub out: Tape,
    pub err: Tape,
}

/// A [`Ui`] without terminal, colours and time, changed by `change`.
pub fn captured(change: impl FnOnce(&mut Parts)) -> Captured {
    let (out, err) = (Tape::default(), Tape::default());
    let mut parts = Parts {
        format: Format::Text,
        out: Stream::new(Box::new(out.clone()), false, None),
        err: Stream::new(Box::new(err.clone()), false, None),
        input: Mutex::new(Box::new(io::empty())),
        can_ask: false,
        ci: false,
        can_draw: false,
        clock: Arc::new(|| Timestamp::UNIX_EPOCH),
        zone: TimeZone::UTC,
    };
    change(&mut parts);
    Captured { ui: Ui::from_parts(parts), out, err }
}

fn listing() -> Listing<'static> {
    Listing { document: "removed", lines: &[], kept: &[] }
}

#[test]
fn colours_follow_the_option_then_the_environment_then_the_stream() {
    let decide = |when: ColorWhen, vars: &[(&str, &str)], tty| {
        let env = |name: &str| vars.iter().find(|(n, _)| *n == name).map(|(_, v)| OsString::from(v));
        when.decide(&env, tty)
    };
    use ColorWhen::{Always, Auto, Never};
    assert!(decide(Auto, &[("TERM", "xterm")], true));
    assert!(!decide(Auto, &[("TERM", "xterm")], false));
    assert!(!decide(Auto, &[("TERM", "dumb")], true));
    assert!(!decide(Auto, &[("CLICOLOR", "0")], true));
    assert!(!decide(Auto, &[("NO_COLOR", "1")], true));
    assert!(decide(Auto, &[("NO_COLOR", "")], true), "an empty NO_COLOR counts for nothing");
    assert!(decide(Auto, &[("CLICOLOR_FORCE", "1")], false));
    assert!(!decide(Auto, &[("CLICOLOR_FORCE", "0")], false));
    assert!(!decide(Auto, &[("CLICOLOR_FORCE", "1"), ("NO_COLOR", "1")], false));
    for (ci, wanted) in [("true", false), ("1", false), ("false", true), ("0", true), ("", true)] {
        assert_eq!(decide(Auto, &[("TERM", "xterm"), ("CI", ci)], true), wanted, "CI={ci}");
    }
    assert!(decide(Always, &[("CI", "true")], true), "asked for");
    assert!(decide(Auto, &[("CI", "true"), ("CLICOLOR_FORCE", "1")], false), "asked for");
    assert!(decide(Always, &[("NO_COLOR", "1"), ("TERM", "dumb")], false));
    assert!(!decide(Never, &[("CLICOLOR_FORCE", "1")], true));
}

#[test]
fn colours_are_removed_from_a_stream_that_takes_none() {
    let Captured { ui, err, .. } = captured(|_| ());
    ui.warn("low on\ndisk \x1b[2J");
    assert_eq!(err.text(), "warning: low on\n  disk \\u{1b}[2J\n");
    let tape = Tape::default();
    let to = tape.clone();
    let Captured { ui, .. } = captured(|parts| parts.err = Stream::new(Box::new(to), true, None));
    ui.hint("x");
    assert_eq!(tape.text(), "\x1b[36mhint:\x1b[0m x\n");
}

#[test]
fn a_reader_that_is_gone_is_no_error_but_a_full_disk_is() {
    let gone = |kind| {
        let Captured { ui, .. } = captured(|parts| parts.out = Stream::new(Box::new(Broken(kind)), false, None));
        (ui.data("one"), ui.data("two"))
    };
    let (first, second) = gone(io::ErrorKind::BrokenPipe);
    assert!(first.is_ok() && second.is_ok());
    let (first, second) = gone(io::ErrorKind::StorageFull);
    assert!(first.is_err() && second.is_err());
}

#[test]
fn json_mode_speaks_json_on_both_streams() {
    let Captured { ui, out, err } = captured(|parts| parts.format = Format::Json);
    ui.show(&listing(), &ui.view()).unwrap();
    ui.warn("careful");
    ui.error(&io::Error::other("broken"), Some("mend it"));
    insta::assert_snapshot!(out.text(), @r#"
    {
      "document": "removed",
      "version": 1,
      "items": []
    }
    "#);
    insta::assert_snapshot!(err.text(), @r#"
    {"time":"1970-01-01T00:00:00Z","event":"warning","message":"careful"}
    {"time":"1970-01-01T00:00:00Z","event":"error","message":"broken","causes":[],"hint":"mend it"}
    "#);
}

#[test]
fn what_tracing_writes_arrives_whole() {
    let Captured { ui, err, .. } = captured(|_| ());
    writeln!(ui.err_writer(), "\x1b[2m DEBUG\x1b[0m connected").unwrap();
    assert!(err.text().contains(" DEBUG connected\n"), "{:?}", err.text());
}
