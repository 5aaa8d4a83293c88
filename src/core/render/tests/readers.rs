//! Small strict readers of the languages that no crate reads: they panic at whatever the real program would not
//! take, so that a test needs only to compare values.

use std::collections::BTreeMap;
use std::iter::Peekable;

/// The assignments of a systemd unit: section, key, value, with continued lines joined.
pub fn unit(text: &str) -> Vec<(String, String, String)> {
    let mut section = String::new();
    let mut assignments = Vec::new();
    let joined = text.replace("\\\n", " ");
    for line in joined.lines().filter(|line| !line.is_empty() && !line.starts_with(['#', ';'])) {
        if let Some(name) = line.strip_prefix('[') {
            section = name.strip_suffix(']').unwrap_or_else(|| panic!("no section: {line}")).to_owned();
            continue;
        }
        let (key, value) = line.split_once('=').unwrap_or_else(|| panic!("no assignment: {line:?}"));
        assert!(key.chars().all(|c| c.is_ascii_alphanumeric()), "no key: {line:?}");
        assert!(!section.is_empty(), "{key} stands in no section");
        assignments.push((section.clone(), key.to_owned(), value.to_owned()));
    }
    assignments
}

/// The words of an `ExecStart=`, before specifiers and variables are looked at (systemd.syntax(7)).
pub fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut chars = line.chars().peekable();
    loop {
        while chars.next_if(|c| c.is_ascii_whitespace()).is_some() {}
        let Some(first) = chars.peek().copied() else { return words };
        let quote = ['"', '\''].contains(&first).then(|| chars.next().unwrap());
        words.push(word(&mut chars, quote));
    }
}

fn word(chars: &mut Peekable<impl Iterator<Item = char>>, quote: Option<char>) -> String {
    let mut word = String::new();
    loop {
        match chars.next() {
            Some('\\') => word.push(escape(chars)),
            Some(c) if Some(c) == quote => {
                assert!(chars.peek().is_none_or(|c| c.is_ascii_whitespace()), "{word:?} goes on behind its quote");
                return word;
            }
            Some(c) if quote.is_none() && c.is_ascii_whitespace() => return word,
            None if quote.is_none() => return word,
            None => panic!("{word:?} has no second quote"),
            Some(c) => {
                assert!(quote.is_some() || !['"', '\'', ';'].contains(&c), "{c} within {word:?}");
                assert!(!c.is_control(), "{c:?} as it is in {word:?}");
                word.push(c);
            }
        }
    }
}

fn escape(chars: &mut impl Iterator<Item = char>) -> char {
    match chars.next() {
        Some('u') => {
            let digits: String = chars.take(4).collect();
            let c = char::from_u32(u32::from_str_radix(&digits, 16).unwrap()).unwrap();
            assert!(c != '\0', "systemd takes no NUL");
            c
        }
        Some(c @ ('"' | '\'' | '\\')) => c,
        other => panic!("no escape: {other:?}"),
    }
}

/// What a program is given for a word in which systemd is to expand nothing.
pub fn literal(word: &str) -> String {
    let mut out = String::new();
    let mut chars = word.chars();
    while let Some(c) = chars.next() {
        if c == '%' || c == '$' {
            assert_eq!(chars.next(), Some(c), "a lone {c} in {word}");
        }
        out.push(c);
    }
    out
}

/// An instance of a service, as Consul Template finds it in Consul's catalog.
pub struct Instance {
    pub node: &'static str,
    pub address: &'static str,
    pub port: u16,
    pub tags: &'static [&'static str],
}

/// What Consul Template makes of a template of ours. It panics at every action that is none of ours.
pub fn consul_template(text: &str, catalog: &BTreeMap<&str, Vec<Instance>>) -> String {
    let mut tokens = tokens(text).into_iter().peekable();
    let mut out = String::new();
    let end = block(&mut tokens, &mut out, &Scope { catalog, instance: None });
    assert_eq!(end, None, "an action closes nothing");
    out
}

struct Scope<'a> {
    catalog: &'a BTreeMap<&'a str, Vec<Instance>>,
    instance: Option<&'a Instance>,
}

/// What our template takes for the role of an instance: the last tag that is one.
fn role(instance: &Instance) -> Option<&str> {
    instance.tags.iter().rev().find(|tag| ["server", "node"].contains(tag)).copied()
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Token<'a> {
    Text(&'a str),
    Action(&'a str),
}

fn tokens(text: &str) -> Vec<Token<'_>> {
    let mut tokens = Vec::new();
    let mut rest = text;
    while let Some((before, behind)) = rest.split_once("{{") {
        let (action, after) = behind.split_once("}}").expect("an action ends");
        tokens.extend([Token::Text(before), Token::Action(action)]);
        rest = after;
    }
    tokens.push(Token::Text(rest));
    tokens
}

type Tokens<'a> = Peekable<std::vec::IntoIter<Token<'a>>>;

/// Writes up to the `end` or `else` that closes this block, and says which it was.
fn block<'a>(tokens: &mut Tokens<'a>, out: &mut String, scope: &Scope<'_>) -> Option<&'a str> {
    while let Some(token) = tokens.next() {
        match token {
            Token::Text(text) => out.push_str(text),
            Token::Action(action @ ("end" | "else")) => return Some(action),
            Token::Action(action) if action.starts_with("range ") => {
                let name = action.strip_prefix("range service \"").unwrap_or_else(|| panic!("{action}"));
                let name = name.strip_suffix(" \"any\"").unwrap_or(name).strip_suffix('"').unwrap();
                let found = scope.catalog.get(name).map(Vec::as_slice).unwrap_or_default();
                let found: Vec<_> = found.iter().map(Some).collect();
                each(tokens, out, scope, &found);
            }
            Token::Action(action) if action.starts_with("if ") => {
                let holds = condition(action, scope);
                let runs = if holds { vec![scope.instance] } else { Vec::new() };
                each(tokens, out, scope, &runs);
            }
            Token::Action(action) => out.push_str(&printed(action, scope)),
        }
    }
    None
}

/// A block once for each item, or what stands behind its `else` where there is none.
fn each<'a>(tokens: &mut Tokens<'_>, out: &mut String, scope: &Scope<'a>, items: &[Option<&'a Instance>]) {
    let body = tokens.clone();
    let mut unused = String::new();
    let skip = Scope { instance: Some(&NOBODY), ..*scope };
    for instance in items {
        let scope = Scope { instance: *instance, ..*scope };
        block(&mut body.clone(), out, &scope);
    }
    if block(tokens, &mut unused, &skip) == Some("else") {
        let skipped = if items.is_empty() { (out, scope) } else { (&mut unused, &skip) };
        assert_eq!(block(tokens, skipped.0, skipped.1), Some("end"));
    }
}

/// For reading over a block that is not run.
const NOBODY: Instance = Instance { node: "", address: "", port: 0, tags: &[] };

fn condition(action: &str, scope: &Scope<'_>) -> bool {
    let instance = scope.instance.unwrap();
    match action {
        "if .Address | regexMatch \":\"" | "if .NodeAddress | regexMatch \":\"" => instance.address.contains(':'),
        "if join \",\" .Tags | regexMatch \"^(?:.*,)?(server|node)(?:,.*)?$\"" => role(instance).is_some(),
        other => panic!("no action of ours: {other}"),
    }
}

fn printed(action: &str, scope: &Scope<'_>) -> String {
    let quoted = |text: &str| serde_json::to_string(text).unwrap();
    let instance = scope.instance.unwrap_or_else(|| panic!("outside of a range: {action}"));
    match action {
        "printf \"%q\" .Node" => return quoted(instance.node),
        "join \",\" .Tags | regexReplaceAll \"^(?:.*,)?(server|node)(?:,.*)?$\" \"$1\"" => {
            return role(instance).unwrap_or_default().to_owned();
        }
        _ => {}
    }
    // Neither of these instances has an address that is not its node's.
    let action = &action.replace(".NodeAddress", ".Address");
    let inner = action.strip_suffix(" | printf \"%q\"").unwrap_or_else(|| panic!("no action of ours: {action}"));
    let (port, brackets) = match inner.strip_prefix("printf \"[%s]:%d\" .Address ") {
        Some(port) => (port, true),
        None => (inner.strip_prefix("printf \"%s:%d\" .Address ").unwrap_or_else(|| panic!("{action}")), false),
    };
    let port = if port == ".Port" { instance.port } else { port.parse().unwrap() };
    let host = if brackets { format!("[{}]", instance.address) } else { instance.address.to_owned() };
    quoted(&format!("{host}:{port}"))
}
