use anyhow::Result;
use clap::Args;

use super::context::Session;
use super::{Global, converge, exit};
use crate::core::select;
use crate::engine::services;
use crate::engine::status::{ask_servers, report};
use crate::model::host::Host;

/// Show what is there: hosts, services, Consul's members and leader, what Prometheus scrapes
///
/// Exits 0 when all is well and 3 when something is wrong.
#[derive(Debug, Args)]
pub struct StatusArgs {
    /// Show every host of a large cluster, not only those with a problem
    #[arg(long)]
    all: bool,
}

pub async fn run(global: Global, args: StatusArgs) -> Result<u8> {
    let session = Session::open(global, "status")?;
    let hosts: Vec<Host> = session.cloud.list().await?.into_iter().filter(|host| host.state.exists()).collect();
    let (observed, unreached) = converge::look(&session, select::to_look_at(&hosts), false, session.glance()).await?;
    let answers = ask_servers(&observed).await;
    let critical = match &answers {
        // Without a leader nobody knows.
        Ok((server, answers)) if answers.leader.is_some() => {
            services::critical(&observed, server, services::first_check(&session.spec.services)).await
        }
        _ => Vec::new(),
    };
    let (cluster, provider) = (&session.spec.cluster, session.spec.provider.as_str());
    let report = report(cluster, provider, &hosts, &observed, &unreached, answers, critical);
    session.show(&report, args.all)?;
    let well = report.problems.is_empty() && report.hosts.iter().all(|host| host.problem.is_none());
    Ok(if well { exit::OK } else { exit::HOSTS_FAILED })
}
