//! Terminal safety. Hosts, Consul and Prometheus say what they like; nothing of it may move the cursor,
//! colour the screen, rewrite what stands there or hide itself. Every text renderer and reporter passes
//! foreign strings through [`plain`]; JSON passes through [`json`].

use std::fmt::Write;

/// Does this character do something to a terminal or a reader other than stand there?
const fn is_unsafe(c: char) -> bool {
    matches!(c,
        // Control characters: C0, DEL, and C1, whose U+009B begins sequences as ESC [ does.
        '\0'..='\x1f' | '\x7f'..='\u{9f}'
        // Marks, embeddings, overrides and isolates that reorder a line.
        | '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
        // Separators that some terminals take for line ends.
        | '\u{2028}' | '\u{2029}'
        // What cannot be seen: soft hyphen, zero-width spaces, old formats, annotations, tags.
        | '\u{ad}' | '\u{180e}' | '\u{200b}' | '\u{2060}'..='\u{2065}' | '\u{206a}'..='\u{206f}'
        | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// `text` as one line that is safe to show: a tab becomes four spaces, every other character that acts on
/// the terminal becomes its escape (`\n`, `\u{1b}`).
pub fn plain(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\t' => out.push_str("    "),
            c if is_unsafe(c) => out.extend(c.escape_default()),
            c => out.push(c),
        }
    }
    out
}

/// Each line of `text`, made safe by [`plain`]. Trailing empty lines are left out.
pub fn lines(text: &str) -> impl Iterator<Item = String> {
    text.trim_end().lines().map(plain)
}

/// The same for a JSON document: the characters can only stand inside its strings, where `\uXXXX` means
/// the same to every reader. Line feeds between the members stay.
pub fn json(document: &str) -> String {
    let mut out = String::with_capacity(document.len());
    for c in document.chars() {
        if c != '\n' && is_unsafe(c) {
            let mut units = [0; 2];
            for unit in c.encode_utf16(&mut units) {
                let _ = write!(out, "\\u{unit:04x}");
            }
        } else {
            out.push(c);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_acts_on_the_terminal_is_shown_instead() {
        assert_eq!(plain("\x1b[2Jgone\r\n"), "\\u{1b}[2Jgone\\r\\n");
        assert_eq!(plain("a\u{9b}31mb"), "a\\u{9b}31mb");
        assert_eq!(plain("user\u{202e}txt.exe"), "user\\u{202e}txt.exe");
        assert_eq!(plain("a\tb"), "a    b");
    }

    #[test]
    fn what_is_harmless_stays() {
        for text in ["", "plain", "größer → 日本 ✓ 👩‍🚀", "a\\b"] {
            assert_eq!(plain(text), text);
        }
    }

    #[test]
    fn lines_are_split_before_they_are_escaped() {
        assert_eq!(lines("one\r\ntwo\x07\n\n").collect::<Vec<_>>(), ["one", "two\\u{7}"]);
    }

    proptest! {
        #[test]
        fn nothing_unsafe_comes_out(text in any::<String>()) {
            let shown = plain(&text);
            prop_assert!(!shown.chars().any(|c| c.is_control() || is_unsafe(c)));
            prop_assert_eq!(plain(&shown), shown.clone());
        }

        #[test]
        fn json_keeps_its_meaning(text in any::<String>()) {
            let document = serde_json::to_string(&text).unwrap();
            let safe = json(&document);
            prop_assert!(!safe.chars().any(is_unsafe));
            prop_assert_eq!(serde_json::from_str::<String>(&safe).unwrap(), text);
        }
    }
}
