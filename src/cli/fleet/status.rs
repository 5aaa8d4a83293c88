use anyhow::Result;
use clap::Args;

use super::super::Global;
use super::super::context::Session;
use super::{answer, fleet, servers, told, watch};
use crate::model::spec::Span;

/// Show the fleet: how many are wanted, in service and well, of which make, and what is wrong with the others
///
/// Exits 0 when all is well and 3 when something is wrong.
#[derive(Debug, Args)]
pub struct StatusArgs {
    /// Show every instance of a large fleet, not only the first that have a problem
    #[arg(long)]
    all: bool,
}

pub async fn run(global: Global, args: StatusArgs) -> Result<u8> {
    let session = Session::open(global, "fleet status")?;
    let fleet = fleet(&session)?;
    let servers = servers(&session).await?;
    let watch = watch(&session, fleet, &servers, Span::from_secs(0));
    let report = watch.report().await.map_err(told)?;
    answer(&session, &report, args.all)
}
