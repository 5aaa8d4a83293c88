//! Looks at hosts: one connection each, one command, all facts.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use futures::future::join_all;

use super::{Limits, failure};
use crate::core::install;
use crate::core::render::Peer;
use crate::model::event::{Doing, EventKind, Events};
use crate::model::facts::{Facts, FactsQuery};
use crate::model::host::Host;
use crate::model::report::{HostOutcome, HostResult};
use crate::world::remote::{Command, Connector, Part, Remote, Unwatched};

/// A host that answered; the connection stays open for the rest of the run.
#[derive(Clone)]
pub struct Observed {
    pub host: Host,
    pub remote: Arc<dyn Remote>,
    pub facts: Facts,
}

impl Observed {
    /// The address that the other hosts use: the provider's, else the one its own default route goes out by.
    pub fn address(&self) -> Option<IpAddr> {
        self.host.private_address.or_else(|| self.facts.addresses.first().copied())
    }

    pub fn peer(&self) -> Option<Peer> {
        Some(Peer { name: self.host.name.clone(), role: self.host.role, address: self.address()? })
    }
}

/// Connects to all hosts at once and reads their facts.
pub async fn observe(
    hosts: Vec<Host>,
    connector: &dyn Connector,
    query: &(dyn Fn(&Host) -> FactsQuery + Send + Sync),
    rehash: bool,
    limits: &Limits,
    events: &Events,
) -> (Vec<Observed>, Vec<HostOutcome>) {
    let looks = hosts.into_iter().map(|host| async move {
        match look(&host, connector, query, rehash, limits, events).await {
            Ok(observed) => Ok(observed),
            Err(result) => {
                if let HostResult::Failed(failure) = &result {
                    let kind = EventKind::HostFailed { step: failure.step.clone(), message: failure.message.clone() };
                    events.emit(Some(&host.name), kind);
                }
                Err(failure::outcome(&host, result))
            }
        }
    });
    let (mut observed, mut failed) = (Vec::new(), Vec::new());
    for result in join_all(looks).await {
        match result {
            Ok(host) => observed.push(host),
            Err(outcome) => failed.push(outcome),
        }
    }
    (observed, failed)
}

async fn look(
    host: &Host,
    connector: &dyn Connector,
    query: &(dyn Fn(&Host) -> FactsQuery + Send + Sync),
    rehash: bool,
    limits: &Limits,
    events: &Events,
) -> Result<Observed, HostResult> {
    let deadline = Instant::now() + limits.connect;
    let remote =
        connector.connect(host, deadline, events).await.map_err(|error| failure::of_connect(&host.name, &error))?;
    events.began(Some(&host.name), Doing::ReadFacts);
    let (line, stdin) = install::facts_command(&query(host), rehash);
    let command = Command { line, stdin: vec![Part::Bytes(stdin)], timeout: limits.facts, root: true };
    let output = remote
        .run(command, Arc::new(Unwatched))
        .await
        .map_err(|error| failure::of_remote(&host.name, "read-facts", &error))?;
    if output.status != 0 {
        let mut failed = failure::plain("read-facts", format!("the command exited {}", output.status));
        failed.lines = last_lines(&output.stderr, 10);
        return Err(HostResult::Failed(failed));
    }
    let facts = install::parse_facts(&output.stdout)
        .map_err(|error| HostResult::Failed(failure::plain("read-facts", failure::chain(&error))))?;
    events.ended(Some(&host.name), Doing::ReadFacts, false);
    Ok(Observed { host: host.clone(), remote, facts })
}

/// The last lines of a program's output, for a failure's report.
pub fn last_lines(output: &[u8], count: usize) -> Vec<String> {
    let text = String::from_utf8_lossy(output);
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    lines[lines.len().saturating_sub(count)..].iter().map(|line| (*line).to_owned()).collect()
}
