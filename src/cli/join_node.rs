use std::net::IpAddr;
use std::time::Instant;

use anyhow::{Result, bail};
use clap::Args;

use super::context::Session;
use super::{Global, converge, exit, imaged};
use crate::core::ec2::discover;
use crate::core::select;
use crate::engine::launch::{adopt, launch};
use crate::model::host::{Host, HostId};
use crate::model::report::HostOutcome;
use crate::model::spec::ProviderSpec;
use crate::world::cloud::{Adopt, Machine};

/// Add hosts to a running cluster; Prometheus scrapes them with nobody touching Prometheus
///
/// Launches new ones, or takes in instances that exist already: those stay yours, and `down` only lets go of them.
/// Ends well only when Consul lists each new host alive and Prometheus scrapes it.
#[derive(Debug, Args)]
pub struct JoinNodeArgs {
    /// How many new hosts to add [default: 1, or none where --instance or --address is given]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=200))]
    count: Option<u32>,
    /// Take in this EC2 instance (i-…); may be given more than once
    #[arg(long = "instance", value_name = "ID", value_parser = instance_id)]
    instances: Vec<HostId>,
    /// Take in the EC2 instance that has this private or public address; may be given more than once
    #[arg(long = "address", value_name = "ADDRESS")]
    addresses: Vec<IpAddr>,
}

fn instance_id(text: &str) -> Result<HostId, String> {
    let digits = text.strip_prefix("i-").unwrap_or_default();
    if (digits.len() == 8 || digits.len() == 17) && digits.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Ok(HostId(text.to_owned()));
    }
    Err("an instance's id is i- and 8 or 17 hexadecimal digits".to_owned())
}

pub async fn run(global: Global, args: JoinNodeArgs) -> Result<u8> {
    let begun = Instant::now();
    let session = Session::open(global, "join-node")?;
    if matches!(session.spec.provider, ProviderSpec::Inventory { .. }) {
        bail!("an inventory's hosts are listed in the spec: add a [[host]] there and run `clusterctl up`");
    }
    let _lock = session.lock("join-node").await?;
    let mut all: Vec<Host> = session.cloud.list().await?.into_iter().filter(|host| host.state.exists()).collect();
    converge::refuse_conflicts(&all)?;
    if !all.iter().any(|host| host.role.is_server() && host.state.is_running()) {
        // Which of the reasons it is (none, stopped, pending, lost), discovery tells with the cure.
        discover::leader(&session.spec.cluster, &session.cloud.leaders().await?)?;
        bail!("no server of {} runs, so there is nothing to join: run `clusterctl up` first", session.spec.cluster);
    }
    let (existing, new) = wanted(&session, &all, &args);
    let new = imaged::assign(&session, None, &all, new)?;
    // What is mended around them is agreed to as well.
    let mends = session.asks_before_changes() && !new.is_empty();
    let resources = if mends { session.cloud.survey().await? } else { Vec::new() };
    if !converge::ready(&session, &new, resources).await? {
        return Ok(exit::FAILED);
    }
    let (adopted, mut failed) = adopt(session.cloud.as_ref(), &existing, &session.limits, &session.events).await;
    let (launched, unlaunched) = launch(session.cloud.as_ref(), &new, &session.limits, &session.events).await;
    failed.extend(unlaunched);
    let joining: Vec<Host> = adopted.into_iter().chain(launched).collect();
    all.retain(|host| !joining.iter().any(|joined| joined.id == host.id));
    all.extend(joining.iter().cloned());
    let booted = converge::booted(&new);
    let agreed = new.into_iter().map(|launch| launch.name).collect();
    let run = converge::Run { begun, rehash: false, agreed, booted, failed: failed as Vec<HostOutcome> };
    converge::converge(&session, &all, joining, run).await
}

/// The machines to take in and the hosts to launch, with names after the highest in use.
fn wanted(session: &Session, all: &[Host], args: &JoinNodeArgs) -> (Vec<Adopt>, Vec<select::ToLaunch>) {
    let instances = args.instances.iter().cloned().map(Machine::Instance);
    let machines: Vec<Machine> = instances.chain(args.addresses.iter().copied().map(Machine::Address)).collect();
    let new = args.count.unwrap_or(u32::from(machines.is_empty()));
    let taken_in = u32::try_from(machines.len()).unwrap_or(u32::MAX);
    let mut names = select::to_join(&session.spec.cluster, all, taken_in.saturating_add(new));
    let launched = names.split_off(machines.len());
    let adopted = machines.into_iter().zip(names).map(|(machine, named)| Adopt { machine, name: named.name });
    (adopted.collect(), launched)
}
