//! Quoting for the languages that have no filter of Tera's own.

use tera::Value;

/// A value in JSON, which is YAML too, and safe in a template of Go's: `{{` opens an action there, and nowhere in
/// JSON does it stand outside a string, where a brace may be written as an escape.
pub(super) fn json_value(value: &Value) -> String {
    value.to_string().replace("{{", "{\\u007b")
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
            '\n' => quoted.push_str("\\n"),
            '\t' => quoted.push_str("\\t"),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}
