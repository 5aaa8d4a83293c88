//! [`Ui`]: the only thing that writes to standard output and standard error. It knows whether colours are
//! wanted, how wide the terminal is, and that a reader of standard output may go away (`| head`).

use std::ffi::OsString;
use std::io::{self, BufRead, IsTerminal, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use indicatif::ProgressBar;
use jiff::tz::TimeZone;

use super::error;
use super::escape::lines;
use super::progress::{self, Clock};
use super::render::{Document, View};
use super::style::{BOLD, INFO, WARN, paint, strip};
use crate::model::event::{Event, EventKind};

/// What `--output` takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Format {
    #[default]
    Text,
    Json,
}

/// What `--color` takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum ColorWhen {
    #[default]
    Auto,
    Always,
    Never,
}

impl ColorWhen {
    /// `env` looks up an environment variable. The option wins over `NO_COLOR`, that over
    /// `CLICOLOR_FORCE`, that over what the stream is.
    pub fn decide(self, env: &dyn Fn(&str) -> Option<OsString>, is_terminal: bool) -> bool {
        let set = |name| env(name).is_some_and(|v| !v.is_empty());
        let is_terminal = is_terminal && !is_ci(env);
        let is = |name, value: &str| env(name).is_some_and(|v| v == value);
        match self {
            Self::Always => true,
            Self::Never => false,
            Self::Auto if set("NO_COLOR") => false,
            Self::Auto if set("CLICOLOR_FORCE") && !is("CLICOLOR_FORCE", "0") => true,
            Self::Auto => is_terminal && !is("TERM", "dumb") && !is("CLICOLOR", "0"),
        }
    }
}

/// Does a CI server run this? They all set `CI`; nobody looks on then, whatever the streams are.
pub fn is_ci(env: &dyn Fn(&str) -> Option<OsString>) -> bool {
    env("CI").is_some_and(|value| !value.is_empty() && value != "false" && value != "0")
}

/// One of the two streams, as the process got it or as a test wants it.
pub struct Stream {
    to: Mutex<Box<dyn Write + Send>>,
    color: bool,
    /// Columns, where it is a terminal.
    width: Option<usize>,
    /// The reader is gone: what follows is dropped in silence.
    closed: AtomicBool,
}

impl Stream {
    pub fn new(to: Box<dyn Write + Send>, color: bool, width: Option<usize>) -> Self {
        Self { to: Mutex::new(to), color, width, closed: AtomicBool::new(false) }
    }

    fn write(&self, text: &str) -> io::Result<()> {
        if self.closed.load(Ordering::Relaxed) {
            return Ok(());
        }
        let mut to = lock(&self.to);
        let stripped;
        let text = if self.color {
            text
        } else {
            stripped = strip(text);
            &stripped
        };
        match to.write_all(text.as_bytes()).and_then(|()| to.flush()) {
            Err(e) if e.kind() == io::ErrorKind::BrokenPipe => {
                self.closed.store(true, Ordering::Relaxed);
                Ok(())
            }
            result => result,
        }
    }
}

/// A panic while the lock was held has left at most a half-written line.
pub(super) fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What a [`Ui`] is made of; [`Ui::new`] fills it from the process, tests by hand.
pub struct Parts {
    pub format: Format,
    pub out: Stream,
    pub err: Stream,
    pub input: Mutex<Box<dyn BufRead + Send>>,
    /// Standard input and standard error are terminals: questions can be asked.
    pub can_ask: bool,
    /// A CI server runs this: nobody is there to ask, whatever the streams are.
    pub ci: bool,
    /// Standard error is a terminal that moves its cursor: bars can be drawn.
    pub can_draw: bool,
    pub clock: Clock,
    pub zone: TimeZone,
}

/// Cheap to clone; all clones write to the same streams.
#[derive(Clone)]
pub struct Ui(Arc<Inner>);

pub(super) struct Inner {
    pub(super) parts: Parts,
    /// The bars on the screen, which step aside for everything else on standard error.
    live: Mutex<Option<ProgressBar>>,
}

impl Ui {
    /// The process' own streams.
    pub fn new(format: Format, color: ColorWhen) -> Self {
        let env = |name: &str| std::env::var_os(name);
        let columns = |size: Option<(terminal_size::Width, terminal_size::Height)>| size.map(|(w, _)| w.0.into());
        let (out, err) = (io::stdout(), io::stderr());
        let (out_is_tty, err_is_tty) = (out.is_terminal(), err.is_terminal());
        let out_width = columns(terminal_size::terminal_size_of(&out));
        let err_width = columns(terminal_size::terminal_size_of(&err));
        Self::from_parts(Parts {
            format,
            out: Stream::new(Box::new(out), color.decide(&env, out_is_tty), out_width),
            err: Stream::new(Box::new(err), color.decide(&env, err_is_tty), err_width),
            input: Mutex::new(Box::new(io::BufReader::new(io::stdin()))),
            can_ask: io::stdin().is_terminal() && err_is_tty,
            ci: is_ci(&env),
            can_draw: err_is_tty && !is_ci(&env) && env("TERM").is_some_and(|t| !t.is_empty() && t != "dumb"),
            clock: progress::system_clock(),
            zone: TimeZone::system(),
        })
    }

    pub fn from_parts(parts: Parts) -> Self {
        Self(Arc::new(Inner { parts, live: Mutex::new(None) }))
    }

    pub(super) fn parts(&self) -> &Parts {
        &self.0.parts
    }

    pub fn format(&self) -> Format {
        self.parts().format
    }

    /// A CI server runs this: nobody is there to ask.
    pub fn is_ci(&self) -> bool {
        self.parts().ci
    }

    /// How much standard output shows; commands set `all` and `verbose` from their flags.
    pub fn view(&self) -> View {
        View { width: self.parts().out.width, all: false, verbose: false, now: (self.parts().clock)() }
    }

    /// The answer of a command: text or its JSON document on standard output, and what is said beside it
    /// on standard error.
    ///
    /// # Errors
    /// When standard output cannot be written, such as on a full disk. That its reader is gone is none.
    pub fn show(&self, document: &dyn Document, view: &View) -> io::Result<()> {
        match self.format() {
            Format::Text => {
                self.data(&document.text(view))?;
                if let Some(beside) = document.beside(view) {
                    self.people(&beside);
                }
                Ok(())
            }
            Format::Json => self.data(&document.json()),
        }
    }

    /// Text that is data already, such as a completion script or a commented `cluster.toml`.
    ///
    /// # Errors
    /// As [`Self::show`].
    pub fn data(&self, text: &str) -> io::Result<()> {
        self.parts().out.write(&ended(text))
    }

    /// A line (or several) for people. Nobody can be told that standard error is broken.
    pub fn people(&self, text: &str) {
        self.err_raw(&ended(text));
    }

    fn err_raw(&self, text: &str) {
        let write = || {
            let _ = self.parts().err.write(text);
        };
        // Cloned, so that a bar that ends meanwhile does not wait for this lock.
        let live = lock(&self.0.live).clone();
        match live {
            Some(bar) => bar.suspend(write),
            None => write(),
        }
    }

    /// A question: no line feed behind it.
    pub(super) fn prompt(&self, text: &str) {
        self.err_raw(text);
    }

    pub fn note(&self, message: &str) {
        let kind = EventKind::Note { message: message.to_owned() };
        self.say(kind, str::to_owned);
    }

    pub fn warn(&self, message: &str) {
        let kind = EventKind::Warning { message: message.to_owned() };
        self.say(kind, |line| format!("{} {}", paint(WARN, "warning:"), line));
    }

    pub fn hint(&self, message: &str) {
        let kind = EventKind::Note { message: message.to_owned() };
        self.say(kind, |line| format!("{} {}", paint(INFO, "hint:"), line));
    }

    /// A title over what follows.
    pub fn heading(&self, message: &str) {
        let kind = EventKind::Note { message: message.to_owned() };
        self.say(kind, |line| paint(BOLD, line));
    }

    fn say(&self, kind: EventKind, text: impl Fn(&str) -> String) {
        match self.format() {
            Format::Json => {
                let event = Event { host: None, kind };
                self.people(&progress::json_line((self.parts().clock)(), &event));
            }
            Format::Text => {
                let (EventKind::Note { message } | EventKind::Warning { message }) = &kind else { return };
                let mut shown = lines(message);
                let first = text(&shown.next().unwrap_or_default());
                self.people(&shown.fold(first, |all, line| format!("{all}\n  {line}")));
            }
        }
    }

    /// An error with all its causes, then what to do about it.
    pub fn error(&self, error: &(dyn std::error::Error + '_), hint: Option<&str>) {
        let chain = error::chain(error);
        match self.format() {
            Format::Text => self.people(&error::text(&chain, hint)),
            Format::Json => self.people(&error::json((self.parts().clock)(), &chain, hint)),
        }
    }

    /// For `tracing`: everything written goes to standard error, beside the bars.
    pub fn err_writer(&self) -> ErrWriter {
        ErrWriter(self.clone())
    }

    pub(super) fn color_on_err(&self) -> bool {
        self.parts().err.color
    }

    pub(super) fn set_live(&self, bar: Option<ProgressBar>) {
        *lock(&self.0.live) = bar;
    }
}

/// `text` with a line feed at its end; nothing stays nothing.
fn ended(text: &str) -> String {
    if text.is_empty() || text.ends_with('\n') { text.to_owned() } else { format!("{text}\n") }
}

/// Standard error as a writer.
#[derive(Clone)]
pub struct ErrWriter(Ui);

impl Write for ErrWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.err_raw(&String::from_utf8_lossy(bytes));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
pub(super) mod tests;
