//! What is said to a host's shell and what it answers: the command that reads facts, the bundle that installs,
//! and the parsers of both answers. The scripts stand in templates/install; docs/installer.md tells how they work.
//!
//! All values pass [`quote`]. All answers are those of a machine that may be compromised: parsed strictly,
//! bounded, and never trusted to be what was asked for.

mod bundle;
mod facts;
mod lines;
mod texts;

pub use bundle::{Bundle, INSTALLER, SYSTEMD, UPSTART, bundle, bundle_for};
pub use facts::{FactsError, facts_command, parse_facts};
pub use lines::{InstallerLine, NOT_UNPACKED, parse_line, title};
pub use texts::{parse_texts, texts_command};

/// One word of a POSIX shell, whatever is in it. (No NUL passes: a shell has no way to hold one.)
pub fn quote(word: &str) -> String {
    let word: String = word.chars().filter(|c| *c != '\0').collect();
    shlex::try_quote(&word).map(std::borrow::Cow::into_owned).unwrap_or_default()
}

#[cfg(test)]
mod tests;
