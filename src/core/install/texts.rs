//! Fetches the present texts of files that a plan changes, so that it can show what changes in them.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::quote;
use crate::model::file::HostPath;

/// A larger file gives no diff, in bytes.
const LARGEST: usize = 256 << 10;

/// A command that prints each of the files: its size in bytes and its path on a line, its bytes, a newline.
pub fn texts_command(paths: &[HostPath]) -> (String, Vec<u8>) {
    let mut script = String::from(
        "show() {\n    [ -f \"$1\" ] || return 0\n    size=$(wc -c <\"$1\") || return 0\n    \
         [ \"$size\" -le 262144 ] || return 0\n    \
         printf '%s %s\\n' \"$((size))\" \"$1\"\n    cat \"$1\"\n    echo\n}\nmain() {\n    printf '\\nclusterctl-texts 1\\n'\n",
    );
    for path in paths {
        let _ = writeln!(script, "    show {}", quote(path.as_str()));
    }
    script.push_str("}\nmain </dev/null\n");
    ("sh -s".to_owned(), script.into_bytes())
}

/// The texts in the answer, of those that were asked for. What is no UTF-8, or garbage, is left out: it
/// costs a diff, nothing else.
pub fn parse_texts(answer: &[u8], asked: &[HostPath]) -> BTreeMap<HostPath, String> {
    const BEGIN: &[u8] = b"\nclusterctl-texts 1\n";
    let mut texts = BTreeMap::new();
    let Some(at) = answer.windows(BEGIN.len()).position(|window| window == BEGIN) else { return texts };
    let mut rest = &answer[at + BEGIN.len()..];
    while let Some((path, bytes, after)) = next(rest) {
        if let (Some(path), Ok(text)) = (asked.iter().find(|asked| asked.as_str() == path), std::str::from_utf8(bytes))
        {
            texts.insert(path.clone(), text.to_owned());
        }
        rest = after;
    }
    texts
}

fn next(answer: &[u8]) -> Option<(&str, &[u8], &[u8])> {
    let end = answer.iter().position(|byte| *byte == b'\n')?;
    let (size, path) = std::str::from_utf8(&answer[..end]).ok()?.split_once(' ')?;
    let size: usize = size.parse().ok().filter(|size| *size <= LARGEST)?;
    let body = &answer[end + 1..];
    // The file's newline comes after its bytes; a file that changed while it was read ends the parsing.
    (body.get(size) == Some(&b'\n')).then(|| (path, &body[..size], &body[size + 1..]))
}
