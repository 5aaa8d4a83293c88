use std::time::Instant;

use anyhow::{Result, bail};
use clap::Args;

use super::context::Session;
use super::{Global, converge};
use crate::core::select;
use crate::engine::launch::launch;
use crate::model::event::Phase;
use crate::model::host::Host;
use crate::model::spec::ProviderSpec;

/// Add hosts to a running cluster; Prometheus scrapes them with nobody touching Prometheus
///
/// Ends well only when Consul lists each new host alive and Prometheus scrapes it.
#[derive(Debug, Args)]
pub struct JoinNodeArgs {
    /// How many hosts to add
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=200))]
    count: u32,
}

pub async fn run(global: Global, args: JoinNodeArgs) -> Result<u8> {
    let begun = Instant::now();
    let session = Session::open(global, "join-node")?;
    if matches!(session.spec.provider, ProviderSpec::Inventory { .. }) {
        bail!("an inventory's hosts are listed in the spec: add a [[host]] there and run `clusterctl up`");
    }
    let _lock = session.lock("join-node")?;
    let mut all: Vec<Host> = session.cloud.list().await?.into_iter().filter(|host| host.state.exists()).collect();
    if !all.iter().any(|host| host.role.is_server() && host.state.is_running()) {
        bail!("no server of {} runs, so there is nothing to join: run `clusterctl up` first", session.spec.cluster);
    }
    let joining = select::to_join(&session.spec.cluster, &all, args.count);
    if !joining.is_empty() {
        session.events.phase(Phase::Prepare);
        session.cloud.prepare(&session.events).await?;
    }
    let (launched, failed) = launch(session.cloud.as_ref(), &joining, &session.limits, &session.events).await;
    all.extend(launched.iter().cloned());
    converge::converge(&session, &all, launched, failed, begun, false).await
}
