//! Can the hosts that are there be logged in to, and become root? One finding a host.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::join_all;

use super::failure;
use crate::model::event::Events;
use crate::model::host::Host;
use crate::model::report::{Finding, HostResult};
use crate::world::remote::{Command, Connector, Unwatched};

const TOPIC: &str = "reachability";

/// Tries each host once, all at once.
pub async fn reach(hosts: &[Host], connector: &dyn Connector, limit: Duration, events: &Events) -> Vec<Finding> {
    join_all(hosts.iter().map(|host| one(host, connector, limit, events))).await
}

async fn one(host: &Host, connector: &dyn Connector, limit: Duration, events: &Events) -> Finding {
    let remote = match connector.connect(host, Instant::now() + limit, events).await {
        Ok(remote) => remote,
        Err(error) => return bad(host, failure::of_connect(&host.name, &error)),
    };
    let command = Command { line: "true".to_owned(), stdin: Vec::new(), timeout: limit, root: true };
    match remote.run(command, Arc::new(Unwatched)).await {
        Ok(_) => Finding::good(TOPIC, format!("{} lets you in, and you become root", host.name)),
        Err(error) => bad(host, failure::of_remote(&host.name, "sudo", &error)),
    }
}

fn bad(host: &Host, result: HostResult) -> Finding {
    match result {
        HostResult::Failed(failure) => Finding::bad(
            TOPIC,
            format!("{}: {}", host.name, failure.message),
            failure.hint.unwrap_or_else(|| format!("look at {} itself", host.name)),
        ),
        _ => Finding::bad(TOPIC, format!("{}: interrupted", host.name), "run it again"),
    }
}
