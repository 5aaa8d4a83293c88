use anyhow::Result;
use clap::Args;
use jiff::Timestamp;

use super::super::context::Session;
use super::super::{Global, exit};
use super::{agreed, answer, fleet, servers, survey, told, watch};
use crate::core::fleet::{Whom, batch_size, candidates, judge};
use crate::model::event::Phase;
use crate::model::plan::Plan;
use crate::model::spec::{FleetSpec, Span};
use crate::world::cloud::Fleet;

/// Replace the fleet's instances by new ones, in batches, without ever having too few
///
/// Replaces those that were launched before the template changed (another image, another type). A batch leaves
/// `min_healthy` of [fleet] in service, and the next begins when Consul lists as many alive as before and Prometheus
/// scrapes them. A batch that does not come back stops the roll. Interrupted, running it again goes on.
#[derive(Debug, Args)]
pub struct RollArgs {
    /// Replace those that are not well, of whatever make
    #[arg(long, conflicts_with = "all")]
    unhealthy: bool,
    /// Replace all of them
    #[arg(long)]
    all: bool,
    /// How long a batch may take until Consul lists its successors alive and Prometheus scrapes them
    #[arg(long, value_name = "DURATION", default_value = "5m", value_parser = Span::positive)]
    wait: Span,
}

impl RollArgs {
    const fn whom(&self) -> Whom {
        match (self.unhealthy, self.all) {
            (true, _) => Whom::Unhealthy,
            (_, true) => Whom::All,
            _ => Whom::Outdated,
        }
    }
}

pub async fn run(global: Global, args: RollArgs) -> Result<u8> {
    let session = Session::open(global, "fleet roll")?;
    let _lock = session.lock("fleet roll").await?;
    let fleet = fleet(&session)?;
    if !renewed(&session, fleet).await? {
        return Ok(exit::FAILED);
    }
    let servers = servers(&session).await?;
    let watch = watch(&session, fleet, &servers, args.wait);
    let min_healthy = session.spec.fleet.as_ref().map_or(FleetSpec::default().min_healthy, |fleet| fleet.min_healthy);
    let (whom, now) = (args.whom(), Timestamp::now());
    let (facts, words) = watch.look().await.map_err(told)?;
    let going = candidates(&judge(&facts, &words), &whom, now).len();
    if going > 0 {
        let reason = match whom {
            Whom::Outdated => "they are of an older make than the template",
            Whom::Unhealthy => "they are not well",
            Whom::All => "--all says so",
        };
        let what = format!(
            "end {going} of the {} instances of the fleet {}, {} at a time, and launch others in their place",
            facts.members.len(),
            facts.name,
            batch_size(facts.wanted, min_healthy)
        );
        if !agreed(&session, what, reason.to_owned())? {
            return Ok(exit::FAILED);
        }
    }
    session.events.phase(Phase::Apply);
    let ended = watch.roll(&whom, min_healthy, now).await.map_err(told)?;
    if ended.is_empty() {
        session.events.note(None, "there was none to replace");
    }
    answer(&session, &watch.report().await.map_err(told)?, false)
}

/// A newer image, and whatever else the spec says by now, is in the template before anything is replaced.
async fn renewed(session: &Session, fleet: &dyn Fleet) -> Result<bool> {
    let steps = survey(session, None).await?;
    if steps.is_empty() {
        return Ok(true);
    }
    if session.asks_before_changes() {
        let plan = Plan { resources: steps, hosts: Vec::new(), notes: Vec::new() };
        if !session.confirm(&plan, &format!("Change the fleet of {}?", session.spec.cluster))? {
            session.events.note(None, "nothing was changed");
            return Ok(false);
        }
    }
    session.events.phase(Phase::Prepare);
    fleet.ensure(None, &session.events).await?;
    Ok(true)
}
