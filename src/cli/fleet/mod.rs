//! `fleet …`, and the fleet's part of `up` and `plan`.

mod roll;
mod scale;
mod status;

use anyhow::{Result, bail};
use clap::{Args, Subcommand};

use super::context::Session;
use super::{Global, Usage, converge, exit};
use crate::engine::fleet::{FleetError, Watch};
use crate::engine::observe::Observed;
use crate::model::event::Phase;
use crate::model::fleet::FleetReport;
use crate::model::host::Host;
use crate::model::plan::{Plan, Reason, ResourceStep};
use crate::model::spec::Span;
use crate::ui::Document as _;
use crate::world::cloud::{CloudError, Fleet};

/// The fleet: nodes that an Auto Scaling group launches from an image, and replaces by itself (EC2)
#[derive(Debug, Subcommand)]
pub enum FleetVerb {
    Status(status::StatusArgs),
    Scale(scale::ScaleArgs),
    Roll(roll::RollArgs),
}

/// How long a change may take.
#[derive(Debug, Clone, Args)]
pub struct Waiting {
    /// How long new instances may take until Consul lists them alive and Prometheus scrapes them
    #[arg(long, value_name = "DURATION", default_value = "5m")]
    wait: Span,
}

impl FleetVerb {
    /// Run again, it goes on where it was stopped.
    pub const fn goes_on(&self) -> bool {
        matches!(self, Self::Scale(_) | Self::Roll(_))
    }
}

pub async fn run(global: Global, verb: FleetVerb) -> Result<u8> {
    match verb {
        FleetVerb::Status(args) => status::run(global, args).await,
        FleetVerb::Scale(args) => scale::run(global, args).await,
        FleetVerb::Roll(args) => roll::run(global, args).await,
    }
}

/// The provider's fleets.
fn fleet(session: &Session) -> Result<&dyn Fleet> {
    match session.cloud.fleet() {
        Some(fleet) => Ok(fleet),
        None => bail!(CloudError::Unsupported {
            provider: session.cloud.provider(),
            what: "keep a fleet",
            cure: "fleets are Auto Scaling groups: say provider = \"ec2\" in [cluster]".to_owned(),
        }),
    }
}

/// Open connections to the servers that run: they are asked about the members.
async fn servers(session: &Session) -> Result<Vec<Observed>> {
    let hosts = session.cloud.list().await?.into_iter();
    let servers: Vec<Host> = hosts.filter(|host| host.role.is_server() && host.state.is_running()).collect();
    let (observed, unreached) = converge::look(session, servers, false, session.glance()).await?;
    for outcome in unreached {
        let why = crate::engine::failure::sentence(&outcome.result);
        session.events.warn(Some(&outcome.host), format!("it cannot be asked about the fleet: {why}"));
    }
    Ok(observed)
}

fn watch<'a>(session: &'a Session, fleet: &'a dyn Fleet, servers: &'a [Observed], wait: Span) -> Watch<'a> {
    Watch {
        cluster: &session.spec.cluster,
        fleet,
        servers,
        wait: wait.as_duration(),
        every: None,
        cancel: &session.cancel,
        events: &session.events,
    }
}

/// The provider's errors stay what they are, for their cures and codes.
fn told(error: FleetError) -> anyhow::Error {
    match error {
        FleetError::Cloud(error) => error.into(),
        other => other.into(),
    }
}

/// Shows the fleet as it is now.
fn answer(session: &Session, report: &FleetReport, all: bool) -> Result<u8> {
    session.show(report, all)?;
    Ok(if report.is_well() { exit::OK } else { exit::HOSTS_FAILED })
}

/// Asks for consent to one change, which names how many instances end.
fn agreed(session: &Session, what: String, reason: String) -> Result<bool> {
    let resources = vec![ResourceStep { what, reason: Reason(reason) }];
    let plan = Plan { resources, hosts: Vec::new(), notes: Vec::new() };
    if !session.asks_before_changes() {
        return Ok(true);
    }
    let agreed = session.confirm(&plan, &format!("Change the fleet of {}?", session.spec.cluster))?;
    if !agreed {
        session.events.note(None, "nothing was changed");
    }
    Ok(agreed)
}

/// What `up` would make or mend of the fleet.
pub async fn survey(session: &Session, size: Option<u16>) -> Result<Vec<ResourceStep>> {
    match (&session.spec.fleet, size) {
        (Some(spec), Some(_)) if spec.made_elsewhere => bail!(Usage(
            "[fleet] says that Terraform makes the fleet: set its size there, or by `clusterctl fleet scale`"
                .to_owned()
        )),
        (Some(spec), None) if spec.made_elsewhere => Ok(Vec::new()),
        (Some(_), size) => Ok(fleet(session)?.survey(size).await?),
        (None, None) => Ok(Vec::new()),
        (None, Some(_)) => bail!(Usage("--fleet needs a [fleet] in the spec (docs/fleet.md)".to_owned())),
    }
}

/// Makes and mends the fleet; where a size was given, or the group is new, waits until all of it is well.
pub async fn ensure(session: &Session, size: Option<u16>, wait: Span) -> Result<u8> {
    let fleet = fleet(session)?;
    session.events.phase(Phase::Prepare);
    let before = fleet.look().await?;
    fleet.ensure(size, &session.events).await?;
    let Some(now) = fleet.look().await? else { return Ok(exit::OK) };
    if (size.is_none() && before.is_some()) || wait.as_duration().is_zero() {
        return Ok(exit::OK);
    }
    let servers = servers(session).await?;
    session.events.phase(Phase::Verify);
    let watch = watch(session, fleet, &servers, wait);
    let settled = watch.settle(size.unwrap_or(now.wanted), &before.unwrap_or(now)).await;
    let report = watch.report().await.map_err(told)?;
    // The answer on stdout was the servers'; this is for people, and for a summary.
    session.global.summary.add(report.cases());
    settled.map_err(told)?;
    session.events.note(None, format!("fleet {}: {} of {} well", report.name, report.well, report.wanted));
    Ok(if report.is_well() { exit::OK } else { exit::HOSTS_FAILED })
}
