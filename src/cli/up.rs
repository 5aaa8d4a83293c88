use std::time::Instant;

use anyhow::Result;
use clap::Args;

use super::context::Session;
use super::{Global, converge, exit, fleet, imaged};
use crate::core::select;
use crate::engine::launch::launch;
use crate::model::host::Host;
use crate::model::name::HostName;
use crate::model::spec::Span;

/// Make the cluster as its spec says: launch what is missing, install, and verify
///
/// Ends well only when Consul lists every host alive and Prometheus scrapes each of them. Running it
/// again changes nothing. Hosts that joined later are kept.
#[derive(Debug, Args)]
pub struct UpArgs {
    /// Hash every program on the hosts instead of trusting its size and time
    #[arg(long)]
    rehash: bool,
    /// Set the fleet's size: so many nodes that an Auto Scaling group launches ([fleet] in the spec)
    #[arg(long, value_name = "N")]
    fleet: Option<u16>,
    /// How long a new size of the fleet may take until all of it is well (0s: do not wait)
    #[arg(long, value_name = "DURATION", default_value = "5m")]
    fleet_wait: Span,
    /// Launch the hosts from this image, which holds all programs and files; nobody logs in to install (sandbox only)
    #[arg(long, value_name = "NAME")]
    image: Option<HostName>,
}

pub async fn run(global: Global, args: UpArgs) -> Result<u8> {
    let begun = Instant::now();
    let session = Session::open(global, "up")?;
    imaged::check(&session, args.image.as_ref())?;
    let _lock = session.lock("up").await?;
    let (existing, resources) = tokio::join!(session.cloud.list(), session.cloud.survey());
    let existing = existing?;
    let mut resources = resources?;
    let fleet_steps = fleet::survey(&session, args.fleet).await?;
    let mends_fleet = args.fleet.is_some() || !fleet_steps.is_empty();
    resources.extend(fleet_steps);
    converge::refuse_conflicts(&existing)?;
    let missing = select::to_launch(&session.spec, &existing);
    let missing = imaged::assign(&session, args.image.as_ref(), &existing, missing)?;
    if !converge::ready(&session, &missing, resources).await? {
        return Ok(exit::FAILED);
    }
    let (launched, failed) = launch(session.cloud.as_ref(), &missing, &session.limits, &session.events).await;
    let mut hosts: Vec<Host> = existing
        .into_iter()
        .filter(|host| host.state.exists() && !missing.iter().any(|launch| launch.name == host.name))
        .collect();
    hosts.extend(launched);
    let running = hosts.iter().filter(|host| host.state.is_running()).cloned().collect();
    let booted = converge::booted(&missing);
    let agreed = missing.into_iter().map(|launch| launch.name).collect();
    let run = converge::Run { begun, rehash: args.rehash, agreed, booted, failed };
    match converge::converge(&session, &hosts, running, run).await? {
        exit::OK if mends_fleet => fleet::ensure(&session, args.fleet, args.fleet_wait).await,
        code => Ok(code),
    }
}
