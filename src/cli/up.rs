use std::time::Instant;

use anyhow::Result;
use clap::Args;

use super::context::Session;
use super::{Global, converge, exit, imaged};
use crate::core::select;
use crate::engine::launch::launch;
use crate::model::host::Host;
use crate::model::name::HostName;

/// Make the cluster as its spec says: launch what is missing, install, and verify
///
/// Ends well only when Consul lists every host alive and Prometheus scrapes each of them. Running it
/// again changes nothing. Hosts that joined later are kept.
#[derive(Debug, Args)]
pub struct UpArgs {
    /// Hash every program on the hosts instead of trusting its size and time
    #[arg(long)]
    rehash: bool,
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
    converge::refuse_conflicts(&existing)?;
    let missing = select::to_launch(&session.spec, &existing);
    let missing = imaged::assign(&session, args.image.as_ref(), &existing, missing)?;
    if !converge::ready(&session, &missing, resources?).await? {
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
    converge::converge(&session, &hosts, running, run).await
}
