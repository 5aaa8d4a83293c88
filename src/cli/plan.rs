use anyhow::Result;
use clap::Args;

use super::context::Session;
use super::{Global, converge, exit, fleet, imaged};
use crate::core::{plan as planning, select};
use crate::engine::failure;
use crate::engine::plan::whole;
use crate::model::ec2::tag;
use crate::model::host::Host;
use crate::model::plan::HostPlan;

/// Show what `up` would change, and why; exits 0 when that is nothing and 2 when it is something
#[derive(Debug, Args)]
pub struct PlanArgs {
    /// Hash every program on the hosts instead of trusting its size and time
    #[arg(long)]
    rehash: bool,
}

pub async fn run(global: Global, args: PlanArgs) -> Result<u8> {
    let session = Session::open(global, "plan")?;
    let (existing, resources) = tokio::join!(session.cloud.list(), session.cloud.survey());
    // What was terminated is a reason for a launch, and no host.
    let listed = existing?;
    let mut resources = resources?;
    resources.extend(fleet::survey(&session, None).await?);
    let missing = imaged::assign(&session, None, &listed, select::to_launch(&session.spec, &listed))?;
    let existing: Vec<Host> = listed.into_iter().filter(|host| host.state.exists()).collect();
    let launches: Vec<HostPlan> =
        missing.iter().map(|launch| planning::launched(&launch.name, launch.role, &launch.reason)).collect();
    let (observed, unreached) =
        converge::look(&session, select::to_install(&existing), args.rehash, session.glance()).await?;
    let mut plans: Vec<HostPlan> = unreached
        .iter()
        .map(|outcome| planning::blocked(&outcome.host, outcome.role, failure::sentence(&outcome.result)))
        .collect();
    let conflicts = select::conflicts(&existing);
    let refused = !conflicts.is_empty();
    let mut notes = conflicts;
    notes.extend(planning::left_alone(existing.iter().filter(|host| host.is_baked()).count()));
    let of_fleet = existing.iter().filter(|host| host.tags.get(tag::ORIGIN).is_some_and(|origin| origin == tag::FLEET));
    let of_fleet = of_fleet.count();
    if of_fleet > 0 && session.spec.fleet.is_none() {
        notes.push(format!(
            "the spec has no [fleet], and its group keeps {of_fleet} instances: put [fleet] back, or take it away with \
             `clusterctl down`"
        ));
    }
    let is_new = |launch: &select::ToLaunch| !existing.iter().any(|host| host.name == launch.name);
    let new_server = missing.iter().any(|launch| launch.role.is_server() && is_new(launch));
    if new_server || !existing.iter().any(|host| host.role.is_server()) {
        // Their configuration holds the server's address, which nobody knows before it is launched.
        plans.extend(observed.iter().map(|on| planning::waiting(&on.host.name, on.host.role)));
        if !observed.is_empty() {
            notes.push("what changes on the other hosts follows from the new server's address".to_owned());
        }
    } else if !observed.is_empty() {
        let planned = converge::plan(&session, &existing, &observed, &observed, true).await?;
        plans.extend(planned.into_iter().map(|planned| planned.plan));
    }
    let plan = whole(resources, launches, plans, notes);
    session.show(&plan, true)?;
    if session.cancel.is_cancelled() {
        return Ok(exit::INTERRUPTED);
    }
    if refused || plan.hosts.iter().any(|host| host.blocked.is_some()) {
        return Ok(exit::HOSTS_FAILED);
    }
    Ok(if plan.is_empty() { exit::OK } else { exit::CHANGES })
}
