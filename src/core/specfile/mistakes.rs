//! What is wrong with a spec, shown where it stands.

use std::cell::RefCell;
use std::fmt;
use std::ops::Range;

/// A part of the text, in bytes.
pub(super) type Span = Range<usize>;

/// Collects mistakes, so that a user meets all of them at once.
pub(super) struct Sink<'a> {
    text: &'a str,
    found: RefCell<Vec<(Span, String, String)>>,
}

impl<'a> Sink<'a> {
    pub fn new(text: &'a str) -> Self {
        Self { text, found: RefCell::default() }
    }

    pub fn add(&self, at: &Span, message: impl Into<String>, cure: impl Into<String>) {
        self.found.borrow_mut().push((at.clone(), message.into(), cure.into()));
    }

    /// The line of a place, from 1.
    pub fn line(&self, at: &Span) -> usize {
        position(self.text, at.start).0
    }

    /// `None`: nothing was wrong.
    pub fn into_errors(self, file: &str) -> Option<SpecErrors> {
        let mut found = self.found.into_inner();
        if found.is_empty() {
            return None;
        }
        found.sort_by_key(|(at, ..)| at.start);
        let mistakes = found.into_iter().map(|(at, message, cure)| Mistake::new(self.text, &at, message, cure));
        Some(SpecErrors { file: file.to_owned(), mistakes: mistakes.collect() })
    }
}

/// Line and column of a byte, both from 1, the column in characters.
fn position(text: &str, byte: usize) -> (usize, usize) {
    let before = text.get(..byte).unwrap_or(text);
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
}

/// One mistake with its place and its cure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake {
    /// From 1.
    pub line: usize,
    /// From 1, in characters.
    pub column: usize,
    pub message: String,
    pub cure: String,
    source: String,
    width: usize,
}

/// The longest piece of a line that is shown, in characters.
const SHOWN: usize = 100;

impl Mistake {
    fn new(text: &str, at: &Span, message: String, cure: String) -> Self {
        let (line, column) = position(text, at.start);
        let whole = text.split('\n').nth(line - 1).unwrap_or("").trim_end_matches('\r');
        // What a terminal would take for a command must not reach it.
        let plain = |c: char| {
            if c == '\t' {
                ' '
            } else if c.is_control() {
                '\u{fffd}'
            } else {
                c
            }
        };
        let source: String = whole.chars().map(plain).take(SHOWN).collect();
        let marked = text.get(at.clone()).unwrap_or("");
        let marked = marked.split('\n').next().unwrap_or("").trim_end().chars().count();
        let room = source.chars().count().saturating_sub(column - 1);
        Self { line, column, message, cure, width: marked.min(room).max(1), source }
    }
}

/// All that is wrong with a spec; never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpecErrors {
    pub file: String,
    pub mistakes: Vec<Mistake>,
}

impl fmt::Display for SpecErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, mistake) in self.mistakes.iter().enumerate() {
            if number > 0 {
                f.write_str("\n\n")?;
            }
            let Mistake { line, column, message, cure, source, width } = mistake;
            let margin = " ".repeat(line.to_string().len());
            write!(f, "{}:{line}:{column}: {message}\n{margin} |\n{line} | {source}\n{margin} | ", self.file)?;
            if *column <= SHOWN {
                write!(f, "{}{}", " ".repeat(column - 1), "^".repeat(*width))?;
            }
            write!(f, "\n{margin} = {cure}")?;
        }
        Ok(())
    }
}

impl std::error::Error for SpecErrors {}
