//! The expressions of `start on` and `stop on`: events with arguments, `and`, `or`, parentheses.

use super::Mistake;
use super::cursor::{Cursor, EVENT, Word};

enum Token {
    Open(usize),
    Close(usize),
    /// `and` or `or`.
    Operator(Word),
    Word(Word),
}

impl Token {
    fn line(&self) -> usize {
        match self {
            Self::Open(line) | Self::Close(line) => *line,
            Self::Operator(word) | Self::Word(word) => word.line,
        }
    }
}

/// The names of the events, in their order. Reads to the end of the line, or of the lines that parentheses hold together.
pub(super) fn expression(cursor: &mut Cursor) -> Result<Vec<String>, Mistake> {
    let line = cursor.line;
    let tokens = tokens(cursor)?;
    let mut parser = Parser { tokens: tokens.into_iter().peekable(), events: Vec::new(), line };
    parser.alternatives()?;
    match parser.tokens.next() {
        None => Ok(parser.events),
        Some(Token::Close(line)) => Err(Mistake::new(line, "`)` closes nothing")),
        Some(token) => Err(Mistake::new(token.line(), "`and` or `or` is missing")),
    }
}

fn tokens(cursor: &mut Cursor) -> Result<Vec<Token>, Mistake> {
    let mut tokens = Vec::new();
    // The lines of the parentheses that are open.
    let mut open = Vec::new();
    loop {
        cursor.skip_blanks();
        let line = cursor.line;
        match cursor.peek() {
            Some('(') => {
                cursor.take();
                open.push(line);
                tokens.push(Token::Open(line));
            }
            Some(')') => {
                cursor.take();
                // One too many is reported with its place by the parser.
                open.pop();
                tokens.push(Token::Close(line));
            }
            Some(_) if cursor.has_word() => {
                let word = cursor.word(EVENT)?;
                let operator = word.raw == "and" || word.raw == "or";
                tokens.push(if operator { Token::Operator(word) } else { Token::Word(word) });
            }
            Some(_) if !open.is_empty() => cursor.skip_line(),
            _ => break,
        }
    }
    cursor.skip_line();
    match open.pop() {
        Some(line) => Err(Mistake::new(line, "`(` is never closed")),
        None => Ok(tokens),
    }
}

struct Parser {
    tokens: std::iter::Peekable<std::vec::IntoIter<Token>>,
    events: Vec<String>,
    /// Of the last token.
    line: usize,
}

impl Parser {
    fn next(&mut self) -> Option<Token> {
        let token = self.tokens.next()?;
        self.line = token.line();
        Some(token)
    }

    /// Operands with operators between them; both bind alike.
    fn alternatives(&mut self) -> Result<(), Mistake> {
        // As deep as the parentheses, without recursion: no text may exhaust the stack.
        let mut depth = 0_usize;
        loop {
            self.operand(&mut depth)?;
            while depth > 0 && matches!(self.tokens.peek(), Some(Token::Close(_))) {
                self.next();
                depth -= 1;
            }
            if !matches!(self.tokens.peek(), Some(Token::Operator(_))) {
                break;
            }
            self.next();
        }
        if depth > 0 {
            let line = self.tokens.peek().map_or(self.line, Token::line);
            return Err(Mistake::new(line, "`and`, `or` or `)` is missing"));
        }
        Ok(())
    }

    fn operand(&mut self, depth: &mut usize) -> Result<(), Mistake> {
        while matches!(self.tokens.peek(), Some(Token::Open(_))) {
            self.next();
            *depth += 1;
        }
        match self.next() {
            Some(Token::Word(event)) if !event.text.is_empty() => {
                self.events.push(event.text);
                self.arguments()
            }
            _ => Err(Mistake::new(self.line, "an event is missing")),
        }
    }

    fn arguments(&mut self) -> Result<(), Mistake> {
        let mut named = false;
        while let Some(Token::Word(word)) = self.tokens.next_if(|token| matches!(token, Token::Word(_))) {
            self.line = word.line;
            if word.text.contains('=') {
                named = true;
            } else if named {
                return Err(Mistake::new(
                    word.line,
                    format!("`{}` has no name and stands behind one that has", word.raw),
                ));
            }
        }
        Ok(())
    }
}
