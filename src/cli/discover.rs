use std::time::{Duration, Instant};

use anyhow::Result;
use clap::Args;

use super::context::Session;
use super::{Global, exit};
use crate::core::ec2::discover::{DiscoverError, leader};
use crate::model::ec2::Candidate;
use crate::model::report::LeaderReport;
use crate::model::spec::Span;

/// Print the address of the instance tagged consul-leader, alone on stdout, for scripts and units
///
/// The tag's key and value are read in any letter case (True, true, TRUE, 1, yes). Only a running instance of this
/// cluster leads; none, several, and one that is pending or stopped are told apart.
#[derive(Debug, Args)]
pub struct DiscoverArgs {
    /// Ask again for so long while there is no leader yet
    #[arg(long, value_name = "DURATION")]
    wait: Option<Span>,
}

/// Between two looks while waiting: EC2's own limits are shared by everything in the account.
const PAUSE: Duration = Duration::from_secs(2);

pub async fn run(global: Global, args: DiscoverArgs) -> Result<u8> {
    let session = Session::open(global, "discover")?;
    let deadline = args.wait.map(|wait| Instant::now() + wait.as_duration());
    let leader = loop {
        let candidates = session.cloud.leaders().await?;
        match look(&session, &candidates) {
            Ok(leader) => break leader,
            Err(error) => match deadline {
                Some(deadline) if error.may_come() && Instant::now() + PAUSE < deadline => {}
                _ => return Err(error.into()),
            },
        }
        tokio::select! {
            () = session.cancel.cancelled() => return Ok(exit::INTERRUPTED),
            () = tokio::time::sleep(PAUSE) => {}
        }
    };
    session.show(&LeaderReport { cluster: session.spec.cluster.clone(), leader }, true)?;
    Ok(exit::OK)
}

fn look(session: &Session, candidates: &[Candidate]) -> Result<Candidate, DiscoverError> {
    leader(&session.spec.cluster, candidates).cloned()
}
