//! Runs one command on many hosts at once: one outcome a host.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::join_all;
use tokio::sync::Semaphore;

use super::{Limits, failure};
use crate::model::event::{Doing, EventKind, Events};
use crate::model::host::Host;
use crate::model::report::ExecOutcome;
use crate::world::remote::{Command, Connector, Unwatched};

/// Connects to each host and runs `line` there, as root where `root` says so. A host that does not run is a failure.
pub async fn exec(
    hosts: &[Host],
    connector: &dyn Connector,
    line: &str,
    root: bool,
    timeout: Duration,
    limits: &Limits,
    events: &Events,
) -> Vec<ExecOutcome> {
    let permits = Semaphore::new(limits.parallel);
    let runs = hosts.iter().map(|host| async {
        let _permit = permits.acquire().await.expect("the semaphore is never closed");
        let outcome = run(host, connector, line, root, timeout, limits, events).await;
        let kind = match &outcome.problem {
            Some(message) => EventKind::HostFailed { step: "exec".to_owned(), message: message.clone() },
            None => EventKind::HostDone { changes: 0 },
        };
        events.emit(Some(&host.name), kind);
        outcome
    });
    join_all(runs).await
}

async fn run(
    host: &Host,
    connector: &dyn Connector,
    line: &str,
    root: bool,
    timeout: Duration,
    limits: &Limits,
    events: &Events,
) -> ExecOutcome {
    let mut outcome = ExecOutcome {
        host: host.name.clone(),
        status: None,
        stdout: String::new(),
        stderr: String::new(),
        problem: None,
    };
    // A filter picked it, so it is answered for: leaving it out would call a run good that missed a host.
    if !host.state.is_running() {
        outcome.problem = Some(format!("it is {}", host.state));
        return outcome;
    }
    let remote = match connector.connect(host, Instant::now() + limits.connect, events).await {
        Ok(remote) => remote,
        Err(error) => {
            outcome.problem = Some(failure::sentence(&failure::of_connect(&host.name, &error)));
            return outcome;
        }
    };
    events.began(Some(&host.name), Doing::Run { command: line.to_owned() });
    let command = Command { line: line.to_owned(), stdin: Vec::new(), timeout, root };
    match remote.run(command, Arc::new(Unwatched)).await {
        Ok(output) => {
            outcome.status = Some(output.status);
            outcome.stdout = String::from_utf8_lossy(&output.stdout).into_owned();
            outcome.stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        }
        Err(error) => outcome.problem = Some(failure::sentence(&failure::of_remote(&host.name, "exec", &error))),
    }
    outcome
}
