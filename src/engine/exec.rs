//! Runs one command on many hosts at once: one outcome a host.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::join_all;
use tokio::sync::Semaphore;

use super::{Limits, failure};
use crate::model::event::{Doing, EventKind, Events};
use crate::model::host::Host;
use crate::model::report::ExecOutcome;
use crate::world::remote::{Command, Connector, Output, Unwatched};

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
        let ended = run(host, connector, line, root, timeout, limits, events).await;
        let kind = match &ended {
            Ok(_) => EventKind::HostDone { changes: 0 },
            Err((step, message)) => EventKind::HostFailed { step: (*step).to_owned(), message: message.clone() },
        };
        events.emit(Some(&host.name), kind);
        outcome(host, ended)
    });
    join_all(runs).await
}

/// Where it stopped, and why.
type Stopped = (&'static str, String);

async fn run(
    host: &Host,
    connector: &dyn Connector,
    line: &str,
    root: bool,
    timeout: Duration,
    limits: &Limits,
    events: &Events,
) -> Result<Output, Stopped> {
    // A filter picked it, so it is answered for: leaving it out would call a run good that missed a host.
    if !host.state.is_running() {
        return Err(("connect", format!("it is {}", host.state)));
    }
    let remote = match connector.connect(host, Instant::now() + limits.connect, events).await {
        Ok(remote) => remote,
        Err(error) => return Err(("connect", failure::sentence(&failure::of_connect(&host.name, &error)))),
    };
    events.began(Some(&host.name), Doing::Run { command: line.to_owned() });
    let command = Command { line: line.to_owned(), stdin: Vec::new(), timeout, root };
    let ran = remote.run(command, Arc::new(Unwatched)).await;
    ran.map_err(|error| ("run", failure::sentence(&failure::of_remote(&host.name, "run", &error))))
}

fn outcome(host: &Host, ended: Result<Output, Stopped>) -> ExecOutcome {
    let host = host.name.clone();
    match ended {
        Ok(output) => ExecOutcome {
            host,
            status: Some(output.status),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
            problem: None,
        },
        Err((_, problem)) => {
            ExecOutcome { host, status: None, stdout: String::new(), stderr: String::new(), problem: Some(problem) }
        }
    }
}
