use anyhow::{Result, bail};
use clap::Args;

use super::context::Session;
use super::{Global, converge, exit};
use crate::engine::status::ask_servers;
use crate::model::host::Host;
use crate::model::report::{Failure, HostResult, TargetsReport};

/// Show what Prometheus scrapes, as Prometheus itself says it
///
/// Exits 0 when every target is up and 3 when one is not.
#[derive(Debug, Args)]
pub struct TargetsArgs {
    /// Show every target of a large cluster, not only those that are not up
    #[arg(long)]
    all: bool,
}

pub async fn run(global: Global, args: TargetsArgs) -> Result<u8> {
    let session = Session::open(global, "targets")?;
    let hosts = session.cloud.list().await?;
    let servers: Vec<Host> =
        hosts.into_iter().filter(|host| host.role.is_server() && host.state.is_running()).collect();
    if servers.is_empty() {
        bail!("no server of {} runs: `clusterctl up` makes one", session.spec.cluster);
    }
    let (observed, unreached) = converge::look(&session, servers, false, session.glance()).await?;
    for outcome in &unreached {
        // What failed was told when it did.
        if let HostResult::Failed(Failure { hint: Some(hint), .. }) = &outcome.result {
            session.events.note(Some(&outcome.host), format!("hint: {hint}"));
        }
    }
    let targets = match ask_servers(&observed).await {
        Ok((_, answers)) if answers.prometheus_problem.is_none() => answers.targets,
        Ok((server, answers)) => {
            bail!("{server}: Prometheus: {}", answers.prometheus_problem.unwrap_or_default())
        }
        Err(problems) => bail!("{}", problems.join("; ")),
    };
    let report = TargetsReport { cluster: session.spec.cluster.clone(), targets };
    session.show(&report, args.all)?;
    let up = report.targets.iter().all(|target| target.health == "up");
    Ok(if up && !report.targets.is_empty() { exit::OK } else { exit::HOSTS_FAILED })
}
