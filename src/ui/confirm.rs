//! Questions before something is changed or removed. Only asked on a terminal; a script says `--yes`.

use std::io;

use thiserror::Error;

use super::escape::plain;
use super::output::{Ui, lock};
use super::style::{BOLD, paint};
use crate::model::name::ClusterName;

/// What is asked.
#[derive(Debug, Clone, Copy)]
pub enum Question<'a> {
    /// `what` ends with its question mark; only `y` and `yes` agree.
    YesNo { what: &'a str },
    /// For what cannot be undone: the cluster's name must be typed. `what` is a sentence that says what
    /// will happen.
    Name { what: &'a str, cluster: &'a ClusterName },
}

#[derive(Debug, Error)]
pub enum ConfirmError {
    #[error("this needs your consent, and there is no terminal to ask on: pass --yes to go ahead")]
    NoTerminal,
    #[error("this needs your consent, and CI is set, so that nobody is asked: pass --yes to go ahead")]
    Ci,
    #[error("cannot read your answer")]
    Read(#[source] io::Error),
}

impl Question<'_> {
    fn prompt(&self) -> String {
        match self {
            Self::YesNo { what } => format!("{} [y/N] ", paint(BOLD, &plain(what))),
            Self::Name { what, cluster } => {
                format!("{}\nType the cluster's name ({cluster}) to go ahead: ", paint(BOLD, &plain(what)))
            }
        }
    }

    fn agrees(&self, answer: &str) -> bool {
        match self {
            Self::YesNo { .. } => ["y", "yes"].iter().any(|yes| answer.eq_ignore_ascii_case(yes)),
            Self::Name { cluster, .. } => answer == cluster.as_str(),
        }
    }
}

impl Ui {
    /// Asks, and reads one line. Everything but consent, the end of input included, is a no.
    ///
    /// # Errors
    /// [`ConfirmError`] when nobody can be asked.
    pub fn confirm(&self, question: Question<'_>) -> Result<bool, ConfirmError> {
        if self.parts().ci {
            return Err(ConfirmError::Ci);
        }
        if !self.parts().can_ask {
            return Err(ConfirmError::NoTerminal);
        }
        self.prompt(&question.prompt());
        let mut answer = String::new();
        let read = lock(&self.parts().input).read_line(&mut answer).map_err(ConfirmError::Read)?;
        if read == 0 {
            // Ctrl-D leaves the cursor behind the question.
            self.people("\n");
        }
        Ok(question.agrees(answer.trim()))
    }
}

#[cfg(test)]
mod tests {
    use super::super::output::tests::{Captured, captured};
    use super::*;

    fn ask(input: &'static str, question: Question<'_>) -> (bool, String) {
        let Captured { ui, err, .. } = captured(|parts| {
            parts.can_ask = true;
            parts.input = std::sync::Mutex::new(Box::new(input.as_bytes()));
        });
        (ui.confirm(question).unwrap(), err.text())
    }

    #[test]
    fn only_yes_is_consent() {
        let question = Question::YesNo { what: "Remove 3 hosts?" };
        for yes in ["y\n", "YES\n", " y \n"] {
            assert!(ask(yes, question).0, "{yes:?}");
        }
        for no in ["\n", "n\n", "yep\n", ""] {
            assert!(!ask(no, question).0, "{no:?}");
        }
        assert_eq!(ask("y\n", question).1, "Remove 3 hosts? [y/N] ");
        assert_eq!(ask("", question).1, "Remove 3 hosts? [y/N] \n");
    }

    #[test]
    fn the_name_must_be_the_clusters_own() {
        let cluster = ClusterName::new("dev").unwrap();
        let question = Question::Name { what: "This removes all hosts of dev.", cluster: &cluster };
        assert!(ask("dev\n", question).0);
        for no in ["y\n", "DEV\n", "de\n", ""] {
            assert!(!ask(no, question).0, "{no:?}");
        }
        insta::assert_snapshot!(ask("dev\n", question).1, @"
        This removes all hosts of dev.
        Type the cluster's name (dev) to go ahead:
        ");
    }

    #[test]
    fn without_a_terminal_it_says_what_to_pass() {
        let Captured { ui, err, .. } = captured(|_| ());
        let error = ui.confirm(Question::YesNo { what: "Remove?" }).unwrap_err();
        assert!(error.to_string().contains("--yes"));
        assert_eq!(err.text(), "");
    }

    #[test]
    fn a_ci_server_is_not_asked_though_it_lends_a_terminal() {
        let Captured { ui, err, .. } = captured(|parts| {
            (parts.can_ask, parts.ci) = (true, true);
            parts.input = std::sync::Mutex::new(Box::new("y\n".as_bytes()));
        });
        let error = ui.confirm(Question::YesNo { what: "Remove?" }).unwrap_err();
        assert!(error.to_string().contains("CI is set") && error.to_string().contains("--yes"), "{error}");
        assert_eq!(err.text(), "");
    }
}
