use std::time::Duration;

use anyhow::Result;
use clap::Args;

use super::context::Session;
use super::{Global, exit};
use crate::core::ec2::discover::leader;
use crate::engine::doctor::reach;
use crate::model::report::{DoctorReport, Finding, Health};

/// Look at all that `up` needs, and say what is missing with its cure; changes nothing
///
/// Exits 0 when `up` has what it needs and 3 when something would keep it from its end.
#[derive(Debug, Args)]
pub struct DoctorArgs {}

/// A host that does not answer at once is worth a finding, not a wait.
const CONNECT: Duration = Duration::from_secs(10);

pub async fn run(global: Global, _: DoctorArgs) -> Result<u8> {
    let session = Session::open(global, "doctor")?;
    let mut findings = session.cloud.examine().await;
    match session.cloud.list().await {
        Ok(hosts) => {
            let running: Vec<_> = hosts.into_iter().filter(|host| host.state.is_running()).collect();
            if !running.is_empty() {
                findings.push(
                    match leader(&session.spec.cluster, &session.cloud.leaders().await.unwrap_or_default()) {
                        Ok(found) => Finding::good("leader", format!("{} is tagged consul-leader", found.id)),
                        Err(error) => Finding::doubtful("leader", error.to_string(), error.cure()),
                    },
                );
            }
            let running = session.with_host_keys(running, session.glance()).await;
            findings.extend(reach(&running, session.connector.as_ref(), CONNECT, &session.events).await);
        }
        // The provider's own findings say why already.
        Err(_) if findings.iter().any(|finding| finding.health == Health::Bad) => {}
        Err(error) => {
            let cure = error.cure().unwrap_or("see the message").to_owned();
            findings.push(Finding::bad("hosts", error.to_string(), cure));
        }
    }
    findings.sort_by_key(|finding| std::cmp::Reverse(finding.health));
    let report =
        DoctorReport { cluster: session.spec.cluster.clone(), provider: session.cloud.provider().to_owned(), findings };
    session.show(&report, true)?;
    let well = report.findings.iter().all(|finding| finding.health != Health::Bad);
    Ok(if well { exit::OK } else { exit::HOSTS_FAILED })
}
