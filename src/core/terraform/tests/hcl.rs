//! A strict reader of the part of Terraform's language that the module is written in: what it does not know, it
//! refuses.

use std::iter::Peekable;
use std::str::Chars;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Token {
    Word(String),
    /// A string; each expression in it stands as `\0` in the text, and in the list.
    Text(String, Vec<Vec<Token>>),
    Sign(char),
    Pair(&'static str),
    End,
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Body {
    pub attributes: Vec<(String, Vec<Token>)>,
    pub blocks: Vec<Block>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block {
    pub kind: String,
    pub labels: Vec<String>,
    pub body: Body,
}

impl Body {
    pub fn get(&self, name: &str) -> Option<&[Token]> {
        self.attributes.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_slice())
    }

    pub fn block(&self, kind: &str, labels: &[&str]) -> &Block {
        let found = self.blocks.iter().find(|block| block.kind == kind && block.labels == labels);
        found.unwrap_or_else(|| panic!("no {kind} {labels:?}"))
    }
}

pub fn read(text: &str) -> Result<Body, String> {
    let tokens = tokens(&mut text.chars().peekable(), None)?;
    let mut at = 0;
    let body = body(&tokens, &mut at, false)?;
    if at == tokens.len() { Ok(body) } else { Err(format!("left over: {:?}", &tokens[at..])) }
}

/// The text of a value that is one string without expressions in it.
pub fn string(value: &[Token]) -> Option<&str> {
    match value {
        [Token::Text(text, inner)] if inner.is_empty() => Some(text),
        _ => None,
    }
}

/// Up to `until`, which is taken too.
fn tokens(chars: &mut Peekable<Chars<'_>>, until: Option<char>) -> Result<Vec<Token>, String> {
    let mut out = Vec::new();
    let mut depth = 0_usize;
    while let Some(c) = chars.next() {
        match c {
            '\n' => out.push(Token::End),
            ' ' => {}
            '#' => while chars.next_if(|c| *c != '\n').is_some() {},
            '"' => out.push(text(chars)?),
            c if Some(c) == until && depth == 0 => return Ok(out),
            c if c.is_ascii_alphanumeric() || c == '_' => {
                let mut word = String::from(c);
                while let Some(c) = chars.next_if(|c| c.is_ascii_alphanumeric() || *c == '_' || *c == '-') {
                    word.push(c);
                }
                out.push(Token::Word(word));
            }
            '=' | '!' | '<' | '>' | '&' | '|' => out.push(operator(c, chars)?),
            '{' | '}' | '[' | ']' | '(' | ')' | ',' | '.' | '?' | ':' | '*' | '-' | '+' => {
                depth = match c {
                    '{' => depth + 1,
                    '}' => depth.saturating_sub(1),
                    _ => depth,
                };
                out.push(Token::Sign(c));
            }
            other => return Err(format!("{other:?} is no sign of the language")),
        }
    }
    if until.is_some() { Err("an expression in a string does not end".to_owned()) } else { Ok(out) }
}

fn operator(c: char, chars: &mut Peekable<Chars<'_>>) -> Result<Token, String> {
    let second = chars.peek().copied().unwrap_or(' ');
    let pair = ["==", "!=", "<=", ">=", "&&", "||"].into_iter().find(|pair| pair.chars().eq([c, second]));
    if let Some(pair) = pair {
        chars.next();
        return Ok(Token::Pair(pair));
    }
    if "=<>!".contains(c) { Ok(Token::Sign(c)) } else { Err(format!("{c} by itself")) }
}

/// What stands behind an opening quote.
fn text(chars: &mut Peekable<Chars<'_>>) -> Result<Token, String> {
    let (mut out, mut inner) = (String::new(), Vec::new());
    loop {
        match chars.next().ok_or("a string does not end")? {
            '"' => return Ok(Token::Text(out, inner)),
            '\n' => return Err("a string goes over a line's end".to_owned()),
            '\\' => out.push(escape(chars)?),
            c @ ('$' | '%') => {
                // Before a brace, two are one of text, and a single one opens a template.
                let mut signs = 1;
                while chars.next_if_eq(&c).is_some() {
                    signs += 1;
                }
                if chars.peek() != Some(&'{') {
                    out.extend(std::iter::repeat_n(c, signs));
                } else if signs > 1 {
                    out.extend(std::iter::repeat_n(c, signs - 1));
                } else if c == '$' {
                    chars.next();
                    inner.push(tokens(chars, Some('}'))?);
                    out.push('\0');
                } else {
                    return Err("a directive in a string".to_owned());
                }
            }
            c if c.is_control() => return Err(format!("{c:?} in a string")),
            c => out.push(c),
        }
    }
}

fn escape(chars: &mut Peekable<Chars<'_>>) -> Result<char, String> {
    Ok(match chars.next().ok_or("an escape does not end")? {
        'n' => '\n',
        'r' => '\r',
        't' => '\t',
        c @ ('"' | '\\') => c,
        'u' => {
            let digits: String = chars.take(4).collect();
            let number = u32::from_str_radix(&digits, 16).map_err(|error| format!("\\u{digits}: {error}"))?;
            char::from_u32(number).ok_or_else(|| format!("\\u{digits} is no character"))?
        }
        other => return Err(format!("there is no escape \\{other}")),
    })
}

fn body(tokens: &[Token], at: &mut usize, inner: bool) -> Result<Body, String> {
    let mut body = Body::default();
    while let Some(token) = tokens.get(*at) {
        *at += 1;
        match token {
            Token::End => {}
            Token::Sign('}') if inner => return Ok(body),
            Token::Word(name) if tokens.get(*at) == Some(&Token::Sign('=')) => {
                *at += 1;
                if body.get(name).is_some() {
                    return Err(format!("{name} stands twice"));
                }
                let value = expression(tokens, at)?;
                body.attributes.push((name.clone(), value));
            }
            Token::Word(kind) => body.blocks.push(block(kind, tokens, at)?),
            other => return Err(format!("{other:?} begins neither an attribute nor a block")),
        }
    }
    if inner { Err("a block does not end".to_owned()) } else { Ok(body) }
}

fn block(kind: &str, tokens: &[Token], at: &mut usize) -> Result<Block, String> {
    let mut labels = Vec::new();
    loop {
        let token = tokens.get(*at).ok_or("a block has no body")?;
        *at += 1;
        match token {
            Token::Text(label, inner) if inner.is_empty() => labels.push(label.clone()),
            Token::Sign('{') => break,
            other => return Err(format!("{other:?} in the head of {kind}")),
        }
    }
    Ok(Block { kind: kind.to_owned(), labels, body: body(tokens, at, true)? })
}

/// The tokens of a value, without the line ends within its brackets.
fn expression(tokens: &[Token], at: &mut usize) -> Result<Vec<Token>, String> {
    let (mut out, mut open) = (Vec::new(), Vec::new());
    while let Some(token) = tokens.get(*at) {
        match token {
            Token::End | Token::Sign('}') if open.is_empty() => break,
            Token::Sign('{') => open.push('}'),
            Token::Sign('[') => open.push(']'),
            Token::Sign('(') => open.push(')'),
            Token::Sign(c @ ('}' | ']' | ')')) if open.pop() != Some(*c) => return Err(format!("{c} closes nothing")),
            _ => {}
        }
        if *token != Token::End {
            out.push(token.clone());
        }
        *at += 1;
    }
    if out.is_empty() || !open.is_empty() { Err(format!("an expression is not whole: {out:?}")) } else { Ok(out) }
}
