//! Strings that mean something to somebody.

use proptest::prelude::*;

/// What has a meaning in TOML, JSON, YAML, a shell, systemd, Upstart, Go's templates, Tera or a regular expression.
const MEANINGS: [&str; 62] = [
    "\"",
    "'",
    "\\",
    "\\\"",
    "\n",
    "\r\n",
    "\t",
    "\0",
    "\u{1b}[2J",
    "\u{7f}",
    "\u{85}",
    "\u{a0}",
    "\u{2028}",
    "\u{2029}",
    " \u{2028} ",
    "\u{feff}",
    "\u{fffe}",
    "\u{ffff}",
    "\u{1fffe}",
    "\u{202e}",
    "{{",
    "}}",
    "{{{",
    "{\\u007b",
    "{{end}}",
    "{{ key \"x\" }}",
    "{{/*",
    "{%",
    "%}",
    "{#",
    "#}",
    "$",
    "$$",
    "$1",
    "${HOME}",
    "$(id)",
    "`id`",
    "%",
    "%%",
    "%n",
    "%s",
    "#",
    " #",
    ": ",
    "- ",
    "--- ",
    "&",
    "*",
    "!",
    "|",
    ">",
    "[",
    "]",
    ";",
    "\\;",
    "~",
    "=",
    ",",
    "ü",
    "日本",
    "😀",
    "Á",
];

/// Up to 10 kB of them, of letters, and of any character there is.
pub fn text() -> impl Strategy<Value = String> + Clone {
    let piece = prop_oneof![
        6 => proptest::sample::select(&MEANINGS[..]).prop_map(str::to_owned),
        2 => "[a-z ]{1,8}",
        1 => any::<String>(),
    ];
    let pieces = proptest::collection::vec(piece, 1..8).prop_map(|pieces| pieces.concat());
    prop_oneof![
        9 => pieces.clone(),
        1 => pieces.prop_map(|text| text.chars().cycle().take(if text.is_empty() { 0 } else { 2500 }).collect()),
    ]
}

/// The same without what no string of a spec may hold.
pub fn plain() -> impl Strategy<Value = String> + Clone {
    text().prop_map(|text| text.chars().filter(|c| !c.is_control()).chain(['x']).collect())
}
