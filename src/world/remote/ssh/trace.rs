//! What `-vv` tells of commands and forwarded connections: how long, how much, how it ended. Never what: arguments,
//! input and output may hold secrets.

use std::net::SocketAddr;
use std::time::Duration;

use crate::model::lasting::Lasting;
use crate::model::name::HostName;
use crate::world::remote::{Output, RemoteError};

pub(super) fn ran(host: &HostName, line: &str, sent: u64, ran: &Result<Output, RemoteError>, took: Duration) {
    let (command, took) = (program(line), Lasting(took));
    match ran {
        Ok(Output { status, stdout, stderr }) => {
            let (stdout, stderr) = (stdout.len(), stderr.len());
            tracing::debug!(%host, command, %took, status, sent, stdout, stderr, "ran");
        }
        Err(error) => tracing::debug!(%host, command, %took, sent, %error, "did not run to its end"),
    }
}

pub(super) fn exchanged(
    host: &HostName,
    to: SocketAddr,
    sent: usize,
    got: &Result<Vec<u8>, RemoteError>,
    took: Duration,
) {
    let took = Lasting(took);
    match got {
        Ok(answer) => tracing::debug!(%host, %to, %took, sent, received = answer.len(), "exchanged"),
        Err(error) => tracing::debug!(%host, %to, %took, sent, %error, "no answer"),
    }
}

/// The first word, where it is the name of a program and nothing else.
fn program(line: &str) -> &str {
    let word = line.split_whitespace().next().unwrap_or_default();
    let fine = |b: u8| b.is_ascii_alphanumeric() || b"._/-".contains(&b);
    if !word.is_empty() && word.len() <= 80 && word.bytes().all(fine) { word } else { "(a line)" }
}

#[cfg(test)]
mod tests {
    use super::program;

    #[test]
    fn a_command_is_told_by_its_program_alone() {
        for (line, told) in [
            ("sh -s", "sh"),
            ("/usr/bin/mysql -psecret", "/usr/bin/mysql"),
            ("PASSWORD=secret mysql", "(a line)"),
            ("'secret word'", "(a line)"),
            ("", "(a line)"),
        ] {
            assert_eq!(program(line), told);
        }
    }
}
