//! How the user's own services are, as Consul holds it.

use std::time::{Duration, Instant};

use futures::future::join_all;

use super::failure::at_host;
use super::observe::Observed;
use crate::core::specfile::RESERVED;
use crate::model::name::HostName;
use crate::model::spec::Service;
use crate::world::consul::{self, Check};
use crate::world::http::ApiError;

/// How often Consul is asked again about a check that may not have run yet.
const INTERVAL: Duration = Duration::from_millis(200);
const LONGEST: Duration = Duration::from_secs(15);

/// From a check's run to the servers' knowing of it; also for checks that the spec at hand does not name.
const REPORT: Duration = Duration::from_secs(3);

/// How long a service's first check may take to come: its interval, within reason, and the way to the servers.
pub fn first_check(services: &[Service]) -> Duration {
    let checks = services.iter().filter_map(|service| service.check.as_ref());
    checks.map(|check| check.interval.as_duration()).max().unwrap_or_default().min(LONGEST) + REPORT
}

/// The services that are critical, a line each; asked of that server. From its definition to its first check a service
/// is critical too, and the check says nothing: `patience` is for that one to come.
pub async fn critical(observed: &[Observed], server: &HostName, patience: Duration) -> Vec<String> {
    let Some(server) = observed.iter().find(|host| host.host.name == *server) else { return Vec::new() };
    let deadline = Instant::now() + patience;
    let mut checks = loop {
        let checks = match ask(observed, server).await {
            Ok(checks) => checks,
            Err(error) => return vec![format!("{}: Consul: {}", server.host.name, at_host(&server.host.name, &error))],
        };
        if Instant::now() >= deadline || checks.iter().all(|check| said(check).is_some()) {
            break checks;
        }
        tokio::time::sleep(INTERVAL).await;
    };
    checks.sort_by(|a, b| (&a.service_name, &a.node).cmp(&(&b.service_name, &b.node)));
    let line = |check: &Check| {
        let said = said(check).unwrap_or("its check says nothing");
        format!("service {} on {} is critical: {said}", check.service_name, check.node)
    };
    checks.iter().map(line).collect()
}

async fn ask(observed: &[Observed], server: &Observed) -> Result<Vec<Check>, ApiError> {
    let mut checks = consul::critical(server.remote.as_ref()).await?;
    // What the hosts are, and clusterctl's own programs there, tell members and units.
    checks.retain(|check| !check.service_name.is_empty() && !RESERVED.contains(&check.service_name.as_str()));
    let checks = join_all(checks.into_iter().map(|check| now(check, observed))).await;
    Ok(checks.into_iter().filter(|check| check.status == "critical").collect())
}

/// Servers are told of a check's words late, minutes after its state where that stays: its own agent has both.
async fn now(check: Check, observed: &[Observed]) -> Check {
    let Some(host) = observed.iter().find(|host| host.host.name.as_str() == check.node && said(&check).is_none())
    else {
        return check;
    };
    let here = consul::checks_here(host.remote.as_ref()).await.unwrap_or_default();
    here.into_iter().find(|other| other.id == check.id).unwrap_or(check)
}

fn said(check: &Check) -> Option<&str> {
    check.output.lines().map(str::trim).find(|line| !line.is_empty())
}
