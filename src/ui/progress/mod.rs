//! Reporters: all of them consume the one stream of events. [`Bars`] draws on a terminal, [`Plain`] prints
//! lines, [`JsonLines`] speaks to machines, [`LogFile`] keeps everything; [`Reporter`] is what a command
//! holds. Times come from a clock that is passed in. What the events mean for the run is not decided here.

mod bars;
mod board;
mod lines;
mod plain;
#[cfg(test)]
mod script;

use std::io;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use indicatif::ProgressDrawTarget;
use jiff::Timestamp;

pub use bars::{Bars, Size};
pub use lines::{JsonLines, LogFile, json_line};
pub use plain::Plain;

use super::output::{Format, Ui, lock};
use super::render::{Document, View};
use super::style::strip;
use crate::model::event::{Event, EventSink, Events};

/// Where times come from; tests pass their own.
pub type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

pub fn system_clock() -> Clock {
    Arc::new(Timestamp::now)
}

/// A reporter that also shows what time does: ages, and steps that say nothing for long.
pub trait Live: EventSink {
    fn tick(&self, now: Timestamp);
    /// The run is over: the screen is left clean.
    fn finish(&self) {}
}

/// The same events to several sinks.
pub struct Tee(Vec<Arc<dyn EventSink>>);

impl Tee {
    pub fn new(sinks: Vec<Arc<dyn EventSink>>) -> Self {
        Self(sinks)
    }
}

impl EventSink for Tee {
    fn emit(&self, event: Event) {
        let Some((last, others)) = self.0.split_last() else { return };
        for sink in others {
            sink.emit(event.clone());
        }
        last.emit(event);
    }
}

/// Calls `tick` every `period` until it is dropped.
struct Ticker {
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Ticker {
    fn spawn(period: Duration, live: Arc<dyn Live>, clock: Clock) -> Self {
        let (stop, stopped) = channel::<()>();
        let thread = std::thread::Builder::new().name("progress".to_owned()).spawn(move || {
            while stopped.recv_timeout(period) == Err(RecvTimeoutError::Timeout) {
                live.tick(clock());
            }
        });
        // Without a thread ages stand still between events; the run itself does not suffer.
        Self { stop: Some(stop), thread: thread.ok() }
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.stop.take();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// What shows a command's run, chosen for where its output goes. Events go to [`Self::events`]; the screen
/// is cleaned by [`Self::finish`], at the latest when it is dropped.
pub struct Reporter {
    sink: Arc<dyn EventSink>,
    live: Option<Arc<dyn Live>>,
    ticker: Mutex<Option<Ticker>>,
    log: Option<Arc<LogFile>>,
    ui: Ui,
}

impl Reporter {
    pub fn events(&self) -> Events {
        Events::new(self.sink.clone())
    }

    /// The command's answer, once progress has ended; in the log file it stands as text.
    ///
    /// # Errors
    /// As [`Ui::show`].
    pub fn show(&self, document: &dyn Document, view: &View) -> io::Result<()> {
        self.finish();
        if let Some(log) = &self.log {
            log.line(&strip(&document.logged(&View { width: None, ..*view })));
        }
        self.ui.show(document, view)
    }

    /// Stops the clock and clears the bars. Events that still come show nothing on the terminal, but
    /// reach the log file.
    pub fn finish(&self) {
        let ticker = lock(&self.ticker).take();
        drop(ticker);
        self.ui.set_live(None);
        if let Some(live) = &self.live {
            live.finish();
        }
    }
}

impl Drop for Reporter {
    fn drop(&mut self) {
        self.finish();
    }
}

impl Ui {
    /// Bars on a terminal, plain lines elsewhere, JSON lines with `--output json`; and into `log`, if any.
    pub fn reporter(&self, log: Option<Arc<LogFile>>) -> Reporter {
        let parts = self.parts();
        let clock = parts.clock.clone();
        let mut sinks: Vec<Arc<dyn EventSink>> = Vec::new();
        if let Some(log) = &log {
            sinks.push(log.clone());
        }
        let (live, period): (Option<Arc<dyn Live>>, _) = match parts.format {
            Format::Json => {
                sinks.push(Arc::new(JsonLines::new(Box::new(self.err_writer()), clock.clone())));
                (None, Duration::ZERO)
            }
            Format::Text if parts.can_draw => {
                let target = ProgressDrawTarget::stderr_with_hz(20);
                let bars = Arc::new(Bars::new(target, self.color_on_err(), bars::terminal_size(), clock.clone()));
                self.set_live(Some(bars.handle()));
                sinks.push(bars.clone());
                (Some(bars), Duration::from_millis(250))
            }
            Format::Text => {
                let plain = Plain::new(Box::new(self.err_writer()), clock.clone(), parts.zone.clone());
                let plain = Arc::new(plain);
                sinks.push(plain.clone());
                (Some(plain), Duration::from_secs(1))
            }
        };
        let ticker = live.as_ref().map(|live| Ticker::spawn(period, live.clone(), clock));
        Reporter { sink: Arc::new(Tee::new(sinks)), live, ticker: Mutex::new(ticker), log, ui: self.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::script::{Script, at, event};
    use super::*;
    use crate::model::event::{Doing, EventKind};
    use crate::ui::output::tests::{Captured, Tape, captured};

    fn note(text: &str) -> Event {
        event("", EventKind::Note { message: text.into() })
    }

    #[test]
    fn a_reporter_shows_and_logs_the_same_events() {
        let (log, clock): (_, Clock) = (Tape::default(), Arc::new(|| at(0)));
        let Captured { ui, out, err } = captured(|parts| parts.clock = clock.clone());
        let reporter = ui.reporter(Some(Arc::new(LogFile::new(Box::new(log.clone()), clock))));
        let events = reporter.events();
        events.note(None, "hello");
        reporter.finish();
        events.warn(None, "late");
        assert_eq!(out.text(), "", "events are no data");
        assert_eq!(err.text(), "08:00:00  hello\n08:00:00  warning: late\n");
        let time = "2027-01-15T08:00:00.000Z";
        assert_eq!(log.text(), format!("{time} - note: hello\n{time} - warning: late\n"));
    }

    #[test]
    fn machines_get_events_as_objects() {
        let Captured { ui, err, .. } = captured(|parts| parts.format = Format::Json);
        ui.reporter(None).events().note(None, "hello");
        assert_eq!(err.text(), "{\"time\":\"1970-01-01T00:00:00Z\",\"event\":\"note\",\"message\":\"hello\"}\n");
    }

    #[test]
    fn no_message_acts_on_the_terminal() {
        let evil = || "a\x1b[2J\u{9b}1A\u{202e}\r\nb\x07".to_owned();
        let doing = [
            Doing::BuildBase { part: evil() },
            Doing::Connect { attempt: 2, last: Some(evil()) },
            Doing::Check { title: evil() },
            Doing::Run { command: evil() },
        ];
        let mut kinds: Vec<_> = vec![
            EventKind::Warning { message: evil() },
            EventKind::Note { message: evil() },
            EventKind::HostFailed { step: evil(), message: evil() },
        ];
        for doing in doing {
            kinds.push(EventKind::Began { doing: doing.clone() });
            kinds.push(EventKind::Ended { doing, changed: true });
        }
        let (plain, log, machine) = (Tape::default(), Tape::default(), Tape::default());
        let clock: Clock = Arc::new(|| at(0));
        let sinks: [Arc<dyn EventSink>; 3] = [
            Arc::new(Plain::new(Box::new(plain.clone()), clock.clone(), jiff::tz::TimeZone::UTC)),
            Arc::new(LogFile::new(Box::new(log.clone()), clock.clone())),
            Arc::new(JsonLines::new(Box::new(machine.clone()), clock)),
        ];
        let count = kinds.len();
        let tee = Tee::new(sinks.to_vec());
        kinds.into_iter().for_each(|kind| tee.emit(event("a", kind)));
        // The colours of Plain are its own; what is left must be tame.
        let own = ["\x1b[0m", "\x1b[1m", "\x1b[2m", "\x1b[31m", "\x1b[33m"];
        let shown = own.iter().fold(plain.text(), |text, code| text.replace(code, ""));
        for text in [shown, log.text(), machine.text()] {
            assert!(text.lines().all(|line| crate::ui::escape::plain(line) == line), "{text:?}");
        }
        assert_eq!((log.text().lines().count(), machine.text().lines().count()), (count, count));
    }

    #[test]
    fn a_tee_gives_each_sink_every_event_in_order() {
        struct Keep(Mutex<Vec<Event>>);
        impl EventSink for Keep {
            fn emit(&self, event: Event) {
                lock(&self.0).push(event);
            }
        }
        let keeps = [Arc::new(Keep(Mutex::default())), Arc::new(Keep(Mutex::default()))];
        let tee = Tee::new(keeps.iter().map(|k| k.clone() as Arc<dyn EventSink>).collect());
        let sent: Vec<_> = Script::mixed().0.into_iter().map(|(_, event)| event).collect();
        sent.iter().for_each(|event| tee.emit(event.clone()));
        assert!(keeps.iter().all(|k| *lock(&k.0) == sent));
        Tee::new(vec![]).emit(note("to nobody"));
    }

    #[test]
    fn the_ticker_ticks_with_the_clocks_time_and_stops_when_dropped() {
        struct Count(Mutex<Sender<Timestamp>>);
        impl EventSink for Count {
            fn emit(&self, _: Event) {}
        }
        impl Live for Count {
            fn tick(&self, now: Timestamp) {
                let _ = lock(&self.0).send(now);
            }
        }
        let (send, ticks) = channel();
        let ticker = Ticker::spawn(Duration::from_millis(1), Arc::new(Count(Mutex::new(send))), Arc::new(|| at(7)));
        assert_eq!(ticks.recv_timeout(Duration::from_secs(60)), Ok(at(7)));
        drop(ticker);
        // The thread is gone, and with it the only sender.
        while ticks.recv().is_ok() {}
    }
}
