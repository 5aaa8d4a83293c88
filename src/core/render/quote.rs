//! Quoting for the languages that have no filter of Tera's own.

use std::fmt::Write as _;

use tera::Value;

/// A value in JSON, which is YAML too, and safe in a template of Go's: `{{` opens an action there, and nowhere in
/// JSON does it stand outside a string, where a brace may be written as an escape.
pub(super) fn json_value(value: &Value) -> String {
    let text = value.to_string().replace("{{", "{\\u007b");
    if !text.contains(is_special_in_yaml) {
        return text;
    }
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        if is_special_in_yaml(c) {
            let _ = write!(escaped, "\\u{:04x}", u32::from(c));
        } else {
            escaped.push(c);
        }
    }
    escaped
}

/// What JSON takes as it is and YAML does not: more line breaks, a byte order mark, and what it calls not printable.
/// All of it stands in strings only, and has four hexadecimal digits.
const fn is_special_in_yaml(c: char) -> bool {
    matches!(c, '\u{7f}'..='\u{9f}' | '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}')
}

/// One word of an `ExecStart=`, quoted for systemd: specifiers and variables are doubled, the rest is
/// put in double quotes where it needs them.
pub(super) fn systemd_word(word: &str) -> String {
    let doubled = word.replace('%', "%%").replace('$', "$$");
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-/:@+,=%$[]".contains(c);
    if !doubled.is_empty() && doubled.chars().all(plain) {
        return doubled;
    }
    let mut quoted = String::from("\"");
    for c in doubled.chars() {
        match c {
            '"' | '\\' => {
                quoted.push('\\');
                quoted.push(c);
            }
            // A line break would end the line, and systemd wants the others as escapes too.
            c if c.is_control() => {
                let _ = write!(quoted, "\\u{:04x}", u32::from(c));
            }
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

/// A string of Terraform's language, in its quotes. Beside its escapes, `${` and `%{` open a template there; doubling
/// the sign makes it one of text.
pub fn hcl_string(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            '$' | '%' if rest.peek() == Some(&'{') => quoted.extend([c, c]),
            // Nobody sees them: line breaks of other alphabets, and what turns the direction of writing.
            c if c.is_control()
                || is_special_in_yaml(c)
                || matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}') =>
            {
                let _ = write!(quoted, "\\u{:04x}", u32::from(c));
            }
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

/// A value as an expression of Terraform's language, on one line.
pub fn hcl_value(value: &Value) -> String {
    let list = |items: Vec<String>| items.join(", ");
    match value {
        Value::String(text) => hcl_string(text),
        Value::Array(items) => format!("[{}]", list(items.iter().map(hcl_value).collect())),
        Value::Object(entries) if entries.is_empty() => "{}".to_owned(),
        Value::Object(entries) => {
            let entry = |(key, value): (&String, &Value)| format!("{} = {}", hcl_string(key), hcl_value(value));
            format!("{{ {} }}", list(entries.iter().map(entry).collect()))
        }
        plain => plain.to_string(),
    }
}
