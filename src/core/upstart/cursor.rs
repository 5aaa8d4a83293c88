//! Reads words as Upstart's library (libnih) does: quotes, backslashes and comments mean the same here and there.

use super::Mistake;

/// Blanks; an escaped line break is one as well.
const BLANKS: &str = " \t\r";
/// What ends an argument.
pub(super) const ARGUMENT: &str = " \t\r#\n";
/// What ends an event or its argument in `start on` and `stop on`.
pub(super) const EVENT: &str = "() \t\r#\n";
/// What ends a command.
pub(super) const COMMAND: &str = "#\n";

/// A word as it stands, and as it is meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Word {
    pub line: usize,
    pub raw: String,
    pub text: String,
}

pub(super) struct Cursor {
    chars: Vec<char>,
    at: usize,
    /// Counts from 1.
    pub line: usize,
}

impl Cursor {
    pub fn new(text: &str) -> Self {
        Self { chars: text.chars().collect(), at: 0, line: 1 }
    }

    pub fn peek(&self) -> Option<char> {
        self.chars.get(self.at).copied()
    }

    fn bump(&mut self) -> Option<char> {
        let next = self.peek()?;
        self.at += 1;
        self.line += usize::from(next == '\n');
        Some(next)
    }

    pub fn at_end(&self) -> bool {
        self.at >= self.chars.len()
    }

    /// Neither at a comment nor at the end of the line.
    pub fn has_word(&self) -> bool {
        self.peek().is_some_and(|c| c != '#' && c != '\n')
    }

    pub fn skip_blanks(&mut self) {
        while let Some(next) = self.peek() {
            let escaped_break = next == '\\' && self.chars.get(self.at + 1) == Some(&'\n');
            if escaped_break {
                self.bump();
            } else if !BLANKS.contains(next) {
                break;
            }
            self.bump();
        }
    }

    pub fn skip_line(&mut self) {
        while self.bump().is_some_and(|c| c != '\n') {}
    }

    /// One character, for the parentheses of events.
    pub fn take(&mut self) {
        self.bump();
    }

    /// The rest of the line may only be a comment.
    pub fn end_line(&mut self) -> Result<(), Mistake> {
        let extra = self.has_word();
        let line = self.line;
        let rest = self.at;
        self.skip_line();
        if extra {
            let rest: String = self.chars[rest..self.at].iter().take_while(|c| **c != '\n').collect();
            return Err(Mistake::new(line, format!("`{}` is too much here", rest.trim_end())));
        }
        Ok(())
    }

    /// Up to an unquoted one of `ends`, and the blanks behind it.
    pub fn word(&mut self, ends: &str) -> Result<Word, Mistake> {
        let line = self.line;
        let mut word = Word { line, raw: String::new(), text: String::new() };
        let (mut quote, mut escaped, mut broken, mut blanks) = (None, false, false, String::new());
        while let Some(c) = self.peek() {
            let mut marks = false;
            if escaped {
                escaped = false;
                if c == '\n' {
                    broken = true;
                    self.bump();
                    continue;
                }
                word.push(&mut blanks, &mut broken);
                word.raw.push('\\');
            } else if c == '\\' {
                escaped = true;
                self.bump();
                continue;
            } else if quote == Some(c) {
                quote = None;
                marks = true;
            } else if quote.is_some() && c == '\n' {
                broken = true;
                self.bump();
                continue;
            } else if quote.is_none() && (c == '"' || c == '\'') {
                quote = Some(c);
                marks = true;
            } else if quote.is_none() && ends.contains(c) {
                break;
            } else if BLANKS.contains(c) {
                blanks.push(c);
                self.bump();
                continue;
            }
            word.push(&mut blanks, &mut broken);
            word.raw.push(c);
            if !marks {
                word.text.push(c);
            }
            self.bump();
        }
        if quote.is_some() {
            return Err(Mistake::new(line, "a quote is opened here and never closed"));
        }
        if escaped {
            return Err(Mistake::new(line, "a backslash is the last character of the file"));
        }
        if self.peek() == Some('#') && self.at > 0 && !BLANKS.contains(self.chars[self.at - 1]) {
            let rest = "`#` begins a comment even inside a word: quote it, or put a blank before it";
            return Err(Mistake::new(self.line, rest));
        }
        self.skip_blanks();
        Ok(word)
    }

    /// An argument, which may not be empty.
    pub fn argument(&mut self) -> Result<Word, Mistake> {
        let line = self.line;
        let word = self.word(ARGUMENT)?;
        if word.text.is_empty() {
            return Err(Mistake::new(line, "an argument is missing or empty"));
        }
        Ok(word)
    }

    /// The argument that comes next, without moving.
    pub fn ahead(&self) -> Option<String> {
        let mut ahead = Self { chars: self.chars[self.at..].to_vec(), at: 0, line: self.line };
        ahead.has_word().then(|| ahead.word(ARGUMENT).ok())?.map(|word| word.raw)
    }

    /// The lines up to `end script`, without the blanks that all of them begin with; `None`: there is no end.
    pub fn block(&mut self) -> Option<String> {
        let mut lines: Vec<String> = Vec::new();
        while !self.at_end() {
            let start = self.at;
            self.skip_line();
            let line: String = self.chars[start..self.at].iter().collect();
            if ends_block(&line) {
                return Some(without_margin(&lines));
            }
            lines.push(line);
        }
        None
    }
}

impl Word {
    /// Blanks inside a word stand as they are, a line break and the blanks around it as one blank.
    fn push(&mut self, blanks: &mut String, broken: &mut bool) {
        if std::mem::take(broken) {
            blanks.clear();
            blanks.push(' ');
        }
        self.raw.push_str(blanks);
        self.text.push_str(blanks);
        blanks.clear();
    }
}

/// Is this line `end script`, perhaps with a comment?
pub(super) fn ends_block(line: &str) -> bool {
    let blank = |c: char| BLANKS.contains(c);
    let Some(rest) = line.trim_start_matches(blank).strip_prefix("end") else { return false };
    let Some(rest) = rest.trim_start_matches(blank).strip_prefix("script").filter(|_| rest.starts_with(blank)) else {
        return false;
    };
    let rest = rest.trim_start_matches(blank);
    rest.is_empty() || rest.starts_with('\n') || rest.starts_with('#')
}

fn without_margin(lines: &[String]) -> String {
    let Some(first) = lines.first() else { return String::new() };
    let margin: &str = &first[..first.len() - first.trim_start_matches(|c| BLANKS.contains(c)).len()];
    let common = |line: &String| margin.bytes().zip(line.bytes()).take_while(|(a, b)| a == b).count();
    let width = lines.iter().map(common).min().unwrap_or(0);
    lines.iter().map(|line| &line[width..]).collect()
}
