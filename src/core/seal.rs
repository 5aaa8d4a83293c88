//! The command that clears what belongs to one machine alone, before an image is made of it. The script is
//! templates/image/seal.sh; docs/boot.md says what it clears and why.

use super::install::quote;

const SCRIPT: &str = include_str!("../../templates/image/seal.sh");

/// The command line and its standard input: for root, over SSH or locally, and the last before the machine is switched
/// off, since nobody can log in to it afterwards. Where something is not cleared it says what on standard error and
/// exits 1.
pub fn command() -> (String, Vec<u8>) {
    ("sh -s".to_owned(), script("").into_bytes())
}

/// `root` is a prefix for all paths; tests clear a tree of their own.
fn script(root: &str) -> String {
    format!("root={}\n{SCRIPT}", quote(root))
}

#[cfg(test)]
mod tests;
