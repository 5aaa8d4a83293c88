//! The first look at a new host's SSH keys: its console tells them, over the cloud's API, so that the first login
//! is as safe as every later one.

use std::time::{Duration, Instant};

use futures::future::join_all;
use tokio_util::sync::CancellationToken;

use super::failure::at_host;
use crate::core::ec2::console;
use crate::model::event::{Doing, Events};
use crate::model::host::Host;
use crate::world::cloud::Cloud;
use crate::world::remote::Connector;

const FIRST_PAUSE: Duration = Duration::from_millis(500);
/// The API is the account's, and has limits.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// The hosts, with the keys that their consoles tell where none is known yet. Waits up to `limit` for a console that
/// is still silent; a host whose console never tells is returned as it came, and refused by whoever connects.
pub async fn learn(
    hosts: Vec<Host>,
    cloud: &dyn Cloud,
    connector: &dyn Connector,
    limit: Duration,
    cancel: &CancellationToken,
    events: &Events,
) -> Vec<Host> {
    if !cloud.console_has_host_keys() {
        return hosts;
    }
    let deadline = Instant::now() + limit;
    let learned = hosts.into_iter().map(|host| async move {
        // Whoever is interrupted connects to nothing any more.
        let without = host.clone();
        tokio::select! {
            () = cancel.cancelled() => without,
            host = one(host, cloud, connector, deadline, events) => host,
        }
    });
    join_all(learned).await
}

async fn one(mut host: Host, cloud: &dyn Cloud, connector: &dyn Connector, deadline: Instant, events: &Events) -> Host {
    match connector.knows(&host) {
        Ok(false) => {}
        // What cannot be read is told by whoever connects.
        Ok(true) | Err(_) => return host,
    }
    events.began(Some(&host.name), Doing::HostKeys);
    let mut pause = FIRST_PAUSE;
    loop {
        match cloud.console(&host.id).await {
            Ok(text) => host.host_keys = console::host_keys(&text),
            Err(error) => {
                events.warn(Some(&host.name), format!("its console cannot be read: {}", at_host(&host.name, &error)));
                return host;
            }
        }
        if !host.host_keys.is_empty() {
            if let Err(error) = cloud.remember_host_keys(&host.id, &host.host_keys).await {
                events.warn(Some(&host.name), format!("its keys are known here only: {}", at_host(&host.name, &error)));
            }
            events.ended(Some(&host.name), Doing::HostKeys, false);
            return host;
        }
        if Instant::now() + pause >= deadline {
            events.warn(Some(&host.name), "its console does not tell its SSH keys");
            return host;
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}
