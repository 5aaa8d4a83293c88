//! Upstart's job files: a strict reading of them, as the version of a host would read them or stricter. It judges
//! what we write; Upstart itself says nothing of a broken file but "Unknown job".

use semver::Version;
use thiserror::Error;

mod arguments;
mod cursor;
mod events;
mod stanzas;

use cursor::Cursor;
use stanzas::{Arguments, STANZAS, Stanza};

/// The oldest Upstart whose jobs are as this module knows them: Amazon Linux 1's and RHEL 6's.
pub const OLDEST: Version = Version::new(0, 6, 5);

/// One mistake in a job file.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("line {line}: {message}")]
pub struct Mistake {
    /// Counts from 1.
    pub line: usize,
    pub message: String,
}

impl Mistake {
    fn new(line: usize, message: impl Into<String>) -> Self {
        Self { line, message: message.into() }
    }
}

/// What a process of a job runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Body {
    /// A shell runs it where a character of it means something to a shell.
    Exec(String),
    /// `sh -e` runs it.
    Script(String),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    /// `main`, `pre-start`, `post-start`, `pre-stop` or `post-stop`.
    pub name: &'static str,
    /// Where its stanza begins.
    pub line: usize,
    pub body: Body,
}

/// What a job file says, as far as anybody asked for it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Job {
    pub description: Option<String>,
    /// The events that it names, without their arguments.
    pub start_on: Vec<String>,
    pub stop_on: Vec<String>,
    pub processes: Vec<Process>,
    pub respawns: bool,
}

impl Job {
    pub fn scripts(&self) -> impl Iterator<Item = &str> {
        self.processes.iter().filter_map(|process| match &process.body {
            Body::Script(script) => Some(script.as_str()),
            Body::Exec(_) => None,
        })
    }

    pub fn execs(&self) -> impl Iterator<Item = &str> {
        self.processes.iter().filter_map(|process| match &process.body {
            Body::Exec(command) => Some(command.as_str()),
            Body::Script(_) => None,
        })
    }
}

/// Reads a job file for this version of Upstart.
///
/// # Errors
/// All mistakes, in the order of their lines: what Upstart refuses, and what it accepts but nobody can have meant (a
/// stanza that stands twice, of which the last counts).
pub fn check(text: &str, version: &Version) -> Result<Job, Vec<Mistake>> {
    let mut reader = Reader {
        cursor: Cursor::new(text),
        version,
        job: Job::default(),
        seen: std::collections::BTreeMap::new(),
        mistakes: Vec::new(),
    };
    reader.file();
    let Reader { job, mut mistakes, .. } = reader;
    mistakes.sort_by_key(|mistake| mistake.line);
    if mistakes.is_empty() { Ok(job) } else { Err(mistakes) }
}

struct Reader<'a> {
    cursor: Cursor,
    version: &'a Version,
    job: Job,
    /// Stanzas that may stand once, and the line of each.
    seen: std::collections::BTreeMap<String, usize>,
    mistakes: Vec<Mistake>,
}

impl Reader<'_> {
    fn file(&mut self) {
        while !self.cursor.at_end() {
            self.cursor.skip_blanks();
            if !self.cursor.has_word() {
                self.cursor.skip_line();
                continue;
            }
            let line = self.cursor.line;
            if let Err(mistake) = self.stanza(line) {
                // What follows is judged as well, unless a quote has swallowed it. A stanza of several lines was read
                // to where it is wrong.
                if self.cursor.line == line {
                    self.cursor.skip_line();
                }
                self.mistakes.push(mistake);
            }
        }
    }

    fn stanza(&mut self, line: usize) -> Result<(), Mistake> {
        let first = self.cursor.argument()?.text;
        let second = self.cursor.ahead();
        if first == "end" && second.as_deref() == Some("script") {
            return Err(Mistake::new(line, "this `end script` ends nothing"));
        }
        let stanza = find(&first, second.as_deref()).map_err(|message| Mistake::new(line, message))?;
        for _ in 1..stanza.words.len() {
            self.cursor.argument()?;
        }
        let name = stanza.words.join(" ");
        if let Some(since) = stanza.since.as_ref().filter(|since| self.version < *since) {
            // Reading goes on: its arguments may be wrong as well, and a script has more lines.
            let message =
                format!("`{name}` came with Upstart {since} ({}); this is for {}", stanza.source, self.version);
            self.mistakes.push(Mistake::new(line, message));
        }
        let once = match stanza.arguments {
            Arguments::Limit => format!("limit {}", self.cursor.ahead().unwrap_or_default()),
            _ => stanza.once.to_owned(),
        };
        if !once.is_empty() {
            if let Some(before) = self.seen.get(&once) {
                let message = format!("`{once}` may stand once, and stands on line {before} already");
                self.mistakes.push(Mistake::new(line, message));
            } else {
                self.seen.insert(once, line);
            }
        }
        self.arguments(stanza, line)
    }

    fn arguments(&mut self, stanza: &'static Stanza, line: usize) -> Result<(), Mistake> {
        match stanza.arguments {
            Arguments::Events => {
                let events = events::expression(&mut self.cursor)?;
                match stanza.words[0] {
                    "start" => self.job.start_on = events,
                    _ => self.job.stop_on = events,
                }
                Ok(())
            }
            Arguments::Command => {
                let command = self.cursor.word(cursor::COMMAND)?.raw;
                self.cursor.skip_line();
                if command.is_empty() {
                    return Err(Mistake::new(line, "a command is missing"));
                }
                self.process(stanza, line, Body::Exec(command));
                Ok(())
            }
            Arguments::Script => {
                self.cursor.end_line()?;
                let Some(script) = self.cursor.block() else {
                    return Err(Mistake::new(line, "this script has no `end script`"));
                };
                self.process(stanza, line, Body::Script(script));
                Ok(())
            }
            _ => {
                let mut words = Vec::new();
                while self.cursor.has_word() {
                    words.push(self.cursor.argument()?.text);
                }
                self.cursor.end_line()?;
                arguments::check(stanza, &words).map_err(|message| Mistake::new(line, message))?;
                match stanza.words {
                    ["description"] => self.job.description = words.pop(),
                    ["respawn"] => self.job.respawns = true,
                    _ => {}
                }
                Ok(())
            }
        }
    }

    fn process(&mut self, stanza: &'static Stanza, line: usize, body: Body) {
        let name = if stanza.words.len() == 2 { stanza.words[0] } else { "main" };
        self.job.processes.push(Process { name, line, body });
    }
}

/// The form that fits best, or why none does.
fn find(first: &str, second: Option<&str>) -> Result<&'static Stanza, String> {
    let of_first: Vec<&'static Stanza> = STANZAS.iter().filter(|stanza| stanza.words[0] == first).collect();
    if of_first.is_empty() {
        let near = crate::core::names::nearest(first, STANZAS.iter().map(|stanza| stanza.words[0]));
        let hint = near.map(|near| format!(": did you mean `{near}`?")).unwrap_or_default();
        return Err(format!("there is no stanza `{}`{hint}", first.escape_debug()));
    }
    let whole = of_first.iter().find(|stanza| stanza.words.len() == 2 && Some(stanza.words[1]) == second);
    whole.or_else(|| of_first.iter().find(|stanza| stanza.words.len() == 1)).copied().ok_or_else(|| {
        let seconds: Vec<String> = of_first.iter().map(|stanza| format!("`{}`", stanza.words[1])).collect();
        let found = second.map_or("nothing".to_owned(), |second| format!("`{}`", second.escape_debug()));
        format!("behind `{first}` comes {}, not {found}", seconds.join(" or "))
    })
}

#[cfg(test)]
mod tests;
