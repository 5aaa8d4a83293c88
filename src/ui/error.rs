//! Errors for people: what failed, every cause below it, and what to do. Exit codes and hints are chosen
//! in `cli`; this only lays them out.

use std::error::Error;

use jiff::Timestamp;
use serde::Serialize;

use super::escape::{self, lines};
use super::style::{BAD, DIM, INFO, paint};

/// The messages of `error` and of all its sources. A source that the message above it already ends with
/// is left out: some libraries put it in both places.
pub fn chain(error: &(dyn Error + '_)) -> Vec<String> {
    let mut chain = vec![error.to_string()];
    let mut source = error.source();
    while let Some(cause) = source {
        let message = cause.to_string();
        if chain.last().is_some_and(|above| !above.ends_with(&message)) {
            chain.push(message);
        }
        source = cause.source();
    }
    chain
}

/// `error: …`, `caused by: …` for each cause, `hint: …`; no line feed at the end.
pub fn text(chain: &[String], hint: Option<&str>) -> String {
    let mut out = Vec::new();
    for (at, message) in chain.iter().enumerate() {
        let label = if at == 0 { paint(BAD, "error:") } else { paint(DIM, "  caused by:") };
        entry(&mut out, &label, message);
    }
    if let Some(hint) = hint {
        entry(&mut out, &paint(INFO, "hint:"), hint);
    }
    out.join("\n")
}

fn entry(out: &mut Vec<String>, label: &str, message: &str) {
    let mut shown = lines(message);
    out.push(format!("{label} {}", shown.next().unwrap_or_default()));
    out.extend(shown.map(|line| format!("    {line}")));
}

/// The same as one JSON object in the stream of events.
pub fn json(now: Timestamp, chain: &[String], hint: Option<&str>) -> String {
    #[derive(Serialize)]
    struct Line<'a> {
        time: Timestamp,
        event: &'static str,
        message: &'a str,
        causes: &'a [String],
        #[serde(skip_serializing_if = "Option::is_none")]
        hint: Option<&'a str>,
    }
    let (message, causes) = chain.split_first().map_or(("", &[][..]), |(m, c)| (m.as_str(), c));
    let line = Line { time: now, event: "error", message, causes, hint };
    escape::json(&serde_json::to_string(&line).expect("strings and a time always serialize"))
}

#[cfg(test)]
mod tests {
    use super::super::style::strip;
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{0}")]
    struct Layer(&'static str, #[source] Option<Box<Layer>>);

    fn error() -> Layer {
        let inner = Layer("connection refused", None);
        let repeated = Layer("tcp: connection refused", Some(Box::new(inner)));
        Layer("cannot reach dev-node-1\n10.0.0.2:22", Some(Box::new(repeated)))
    }

    #[test]
    fn every_cause_once() {
        insta::assert_snapshot!(strip(&text(&chain(&error()), Some("is it \x1b[5mup?"))), @r"
        error: cannot reach dev-node-1
            10.0.0.2:22
          caused by: tcp: connection refused
        hint: is it \u{1b}[5mup?
        ");
    }

    #[test]
    fn the_same_for_machines() {
        insta::assert_snapshot!(json(Timestamp::UNIX_EPOCH, &chain(&error()), None), @r#"{"time":"1970-01-01T00:00:00Z","event":"error","message":"cannot reach dev-node-1\n10.0.0.2:22","causes":["tcp: connection refused"]}"#);
    }

    #[test]
    fn anyhow_passes_as_it_is() {
        let error = anyhow::Error::new(error()).context("up failed");
        assert_eq!(chain(error.as_ref()).len(), 3);
    }
}
