//! `exec`: what each host answered, its name before every line; who failed is said on standard error.

use serde::Serialize;

use super::super::escape::{lines, plain};
use super::super::style::{BAD, DIM, GOOD, INFO, paint, width};
use super::super::words::count;
use super::{Document, View, envelope};
use crate::model::report::ExecOutcome;

/// The answers of all hosts to one command.
#[derive(Serialize)]
pub struct ExecReport<'a> {
    pub hosts: &'a [ExecOutcome],
}

impl Document for ExecReport<'_> {
    fn json(&self) -> String {
        envelope("exec", self)
    }

    /// `host| line` from its standard output, `host! line` from its standard error.
    fn text(&self, _view: &View) -> String {
        let column = self.hosts.iter().map(|o| width(o.host.as_str())).max().unwrap_or(0);
        let mut out = String::new();
        for outcome in self.hosts {
            let host = format!("{:<column$}", outcome.host);
            for (text, sign, style) in [(&outcome.stdout, "|", INFO), (&outcome.stderr, "!", DIM)] {
                let prefix = paint(style, &format!("{host}{sign}"));
                for line in lines(text) {
                    let line = format!("{prefix} {line}");
                    out.push_str(line.trim_end());
                    out.push('\n');
                }
            }
        }
        out
    }

    /// What the hosts said is the user's, and may be long.
    fn logged(&self, view: &View) -> String {
        self.beside(view).unwrap_or_default()
    }

    fn beside(&self, _view: &View) -> Option<String> {
        let good = self.hosts.iter().filter(|o| is_good(o)).count();
        let mut out = String::new();
        for outcome in self.hosts.iter().filter(|o| !is_good(o)) {
            let end = match (&outcome.problem, outcome.status) {
                (Some(problem), _) => plain(problem),
                (None, Some(status)) => format!("exit status {status}"),
                (None, None) => "did not run to its end".to_owned(),
            };
            out.push_str(&format!("{} {}: {end}\n", paint(BAD, "✗"), outcome.host));
        }
        let style = if good == self.hosts.len() { GOOD } else { BAD };
        out.push_str(&paint(style, &format!("{good} of {} succeeded", count(self.hosts.len(), "host"))));
        Some(out)
    }
}

fn is_good(outcome: &ExecOutcome) -> bool {
    outcome.problem.is_none() && outcome.status == Some(0)
}

#[cfg(test)]
mod tests {
    use super::super::samples::{exec, text, view};
    use super::*;
    use crate::ui::style::strip;

    #[test]
    fn answers_are_data_and_failures_are_said_beside() {
        let outcomes = exec();
        let report = ExecReport { hosts: &outcomes };
        insta::assert_snapshot!(text(&report, &view()), @r"
        dev-server-1| one
        dev-server-1|
        dev-server-1|   two    \u{1b}[1mthree
        dev-node-1  ! no such file
        dev-node-3  | half
        ");
        insta::assert_snapshot!(strip(&report.beside(&view()).unwrap()), @"
        ✗ dev-node-1: exit status 3
        ✗ dev-node-2: cannot connect: timed out
        ✗ dev-node-3: did not run to its end
        1 of 4 hosts succeeded
        ");
    }

    #[test]
    fn the_document() {
        insta::assert_snapshot!(ExecReport { hosts: &exec()[..2] }.json(), @r#"
        {
          "document": "exec",
          "version": 1,
          "hosts": [
            {
              "host": "dev-server-1",
              "status": 0,
              "stdout": "one\n\n  two\t\u001b[1mthree\n",
              "stderr": ""
            },
            {
              "host": "dev-node-1",
              "status": 3,
              "stdout": "",
              "stderr": "no such file\n"
            }
          ]
        }
        "#);
    }
}
