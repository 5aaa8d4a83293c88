//! Launches the hosts that are missing.

use std::time::Instant;

use futures::future::join_all;

use super::{Limits, failure};
use crate::core::select::ToLaunch;
use crate::model::event::{Doing, EventKind, Events, Phase};
use crate::model::host::{Host, HostId, HostState, Role, SshTarget};
use crate::model::report::{HostOutcome, HostResult};
use crate::world::cloud::{Adopt, Cloud, CloudError, Launch};

/// Takes in machines that exist. One outcome a host.
pub async fn adopt(
    cloud: &dyn Cloud,
    wanted: &[Adopt],
    limits: &Limits,
    events: &Events,
) -> (Vec<Host>, Vec<HostOutcome>) {
    if wanted.is_empty() {
        return (Vec::new(), Vec::new());
    }
    events.phase(Phase::Launch);
    let wanted_as: Vec<ToLaunch> = wanted
        .iter()
        .map(|one| ToLaunch {
            name: one.name.clone(),
            role: Role::Node,
            reason: "it joins the cluster".to_owned(),
            image: None,
        })
        .collect();
    let begun = cloud.adopt(wanted, events).await;
    arrive(cloud, &wanted_as, begun, limits, events).await
}

/// Launches and waits until each host runs. One outcome a host: those that failed do not hold up the others.
pub async fn launch(
    cloud: &dyn Cloud,
    wanted: &[ToLaunch],
    limits: &Limits,
    events: &Events,
) -> (Vec<Host>, Vec<HostOutcome>) {
    if wanted.is_empty() {
        return (Vec::new(), Vec::new());
    }
    events.phase(Phase::Launch);
    let launch = |host: &ToLaunch| Launch { image: host.image.clone(), ..Launch::plain(host.name.clone(), host.role) };
    let launches: Vec<Launch> = wanted.iter().map(launch).collect();
    let begun = cloud.launch(&launches, events).await;
    arrive(cloud, wanted, begun, limits, events).await
}

/// The same for hosts that a build needs, however each is launched.
pub async fn launch_for_build(
    cloud: &dyn Cloud,
    launches: &[Launch],
    limits: &Limits,
    events: &Events,
) -> (Vec<Host>, Vec<HostOutcome>) {
    let reason = || "images are built on it, or prove themselves".to_owned();
    let wanted: Vec<ToLaunch> = launches
        .iter()
        .map(|one| ToLaunch { name: one.name.clone(), role: one.role, image: one.image.clone(), reason: reason() })
        .collect();
    events.phase(Phase::Launch);
    let begun = cloud.launch(launches, events).await;
    arrive(cloud, &wanted, begun, limits, events).await
}

/// Waits until each host that was begun runs.
async fn arrive(
    cloud: &dyn Cloud,
    wanted: &[ToLaunch],
    begun: Vec<Result<Host, CloudError>>,
    limits: &Limits,
    events: &Events,
) -> (Vec<Host>, Vec<HostOutcome>) {
    let deadline = Instant::now() + limits.boot;
    let waits = wanted.iter().zip(begun).map(|(wanted, begun)| async move {
        let host = match begun {
            Ok(host) => host,
            Err(error) => return Err((absent(wanted), failure::of_cloud(&wanted.name, "launch", &error))),
        };
        events.began(Some(&host.name), Doing::Boot);
        match cloud.wait(&host.id, deadline).await {
            Ok(host) => {
                events.ended(Some(&host.name), Doing::Boot, true);
                Ok(host)
            }
            Err(error) => {
                let result = failure::of_cloud(&host.name, "boot", &error);
                Err((host, result))
            }
        }
    });
    let (mut up, mut failed) = (Vec::new(), Vec::new());
    for result in join_all(waits).await {
        match result {
            Ok(host) => up.push(host),
            Err((host, result)) => {
                report(&host, &result, events);
                failed.push(failure::outcome(&host, result));
            }
        }
    }
    (up, failed)
}

fn report(host: &Host, result: &HostResult, events: &Events) {
    if let HostResult::Failed(failure) = result {
        let kind = EventKind::HostFailed { step: failure.step.clone(), message: failure.message.clone() };
        events.emit(Some(&host.name), kind);
    }
}

/// A host that never came to be, for the report.
fn absent(wanted: &ToLaunch) -> Host {
    Host {
        id: HostId(String::new()),
        name: wanted.name.clone(),
        role: wanted.role,
        state: HostState::Terminated,
        private_address: None,
        ssh: SshTarget::default(),
        host_keys: Vec::new(),
        tags: std::collections::BTreeMap::new(),
    }
}
