use anyhow::{Result, bail};
use clap::Args;

use super::super::context::Session;
use super::super::{Global, Usage, exit};
use super::{Waiting, agreed, answer, fleet, servers, told, watch};
use crate::core::ec2::fleet::resized;
use crate::engine::fleet::FleetError;
use crate::model::event::Phase;
use crate::model::fleet::FleetFacts;

/// Set the fleet's size, and wait until it is so
///
/// Ends well only when Consul lists exactly so many instances alive, Prometheus scrapes each of them, and nothing is
/// left of those that ended. `--wait 0s` does not wait. The size lives in the group: `up` leaves it.
#[derive(Debug, Args)]
pub struct ScaleArgs {
    /// How many instances
    #[arg(value_name = "N")]
    size: u16,
    #[command(flatten)]
    waiting: Waiting,
}

pub async fn run(global: Global, args: ScaleArgs) -> Result<u8> {
    let session = Session::open(global, "fleet scale")?;
    let _lock = session.lock("fleet scale").await?;
    let fleet = fleet(&session)?;
    let absent = || told(FleetError::Absent { cluster: session.spec.cluster.clone() });
    let facts = fleet.look().await?.ok_or_else(absent)?;
    if args.size < facts.min || args.size > facts.max {
        let FleetFacts { name, min, max, .. } = &facts;
        let what = format!("the fleet {name} has from {min} to {max} instances, and not {}", args.size);
        bail!(Usage(format!("{what}: set min and max in [fleet], and run `clusterctl up`")));
    }
    if facts.wanted != args.size {
        let what = format!("set the size of the fleet {} from {} to {}", facts.name, facts.wanted, args.size);
        if !agreed(&session, what, resized(facts.wanted, args.size))? {
            return Ok(exit::FAILED);
        }
    }
    let servers = servers(&session).await?;
    session.events.phase(Phase::Apply);
    let watch = watch(&session, fleet, &servers, args.waiting.wait);
    watch.scale(args.size).await.map_err(told)?;
    let report = watch.report().await.map_err(told)?;
    let code = answer(&session, &report, false)?;
    // Whoever does not wait is not told that it has not come yet.
    Ok(if args.waiting.wait.as_duration().is_zero() { exit::OK } else { code })
}
