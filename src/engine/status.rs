//! Gathers what `status` and `targets` show: what the provider, the hosts, Consul and Prometheus say.

use super::observe::Observed;
use super::verify::{Answers, ask};
use crate::model::host::Host;
use crate::model::name::{ClusterName, HostName};
use crate::model::report::{HostOutcome, HostStatus, StatusReport, UnitStatus};

/// What the first server that answers says of the cluster, or why none did.
pub async fn ask_servers(observed: &[Observed]) -> Result<(HostName, Answers), Vec<String>> {
    let mut problems = Vec::new();
    for server in observed.iter().filter(|host| host.host.role.is_server()) {
        let name = &server.host.name;
        let Some(address) = server.address() else {
            problems.push(format!("{name}: its address is not known"));
            continue;
        };
        match ask(server.remote.as_ref(), address).await {
            Ok(answers) if answers.consul_problem.is_none() || answers.prometheus_problem.is_none() => {
                return Ok((name.clone(), answers));
            }
            Ok(answers) => {
                problems.extend(answers.consul_problem.map(|problem| format!("{name}: Consul: {problem}")));
                problems.extend(answers.prometheus_problem.map(|problem| format!("{name}: Prometheus: {problem}")));
            }
            Err(error) => problems.push(super::failure::chain(&error)),
        }
    }
    if problems.is_empty() {
        problems.push("no server of the cluster can be reached".to_owned());
    }
    Err(problems)
}

/// One document of what is there.
pub fn report(
    cluster: &ClusterName,
    provider: &str,
    hosts: &[Host],
    observed: &[Observed],
    unreached: &[HostOutcome],
    answers: Result<(HostName, Answers), Vec<String>>,
    critical: Vec<String>,
) -> StatusReport {
    let mut proofs = Vec::new();
    let (answers, mut problems) = match answers {
        Ok((server, answers)) => {
            let mut problems = Vec::new();
            let names: Vec<HostName> = hosts.iter().map(|host| host.name.clone()).collect();
            proofs = answers.proofs(&server, &names);
            if answers.consul_problem.is_none() && answers.leader.is_none() {
                problems.push(format!("Consul has no leader (asked {server})"));
            }
            problems.extend(answers.consul_problem.iter().map(|problem| format!("{server}: Consul: {problem}")));
            problems
                .extend(answers.prometheus_problem.iter().map(|problem| format!("{server}: Prometheus: {problem}")));
            (answers, problems)
        }
        Err(problems) => (Answers::default(), problems),
    };
    problems.extend(critical);
    let hosts: Vec<HostStatus> = hosts.iter().map(|host| host_status(host, observed, unreached, &answers)).collect();
    if hosts.is_empty() {
        problems = vec!["the cluster has no hosts: `clusterctl up` makes them".to_owned()];
    }
    let (cluster, provider) = (cluster.clone(), provider.to_owned());
    StatusReport { cluster, provider, leader: answers.leader, hosts, problems, proofs }
}

fn host_status(host: &Host, observed: &[Observed], unreached: &[HostOutcome], answers: &Answers) -> HostStatus {
    let seen = observed.iter().find(|seen| seen.host.id == host.id);
    let units: Vec<UnitStatus> = seen
        .map(|seen| {
            let unit = |(name, fact): (&crate::model::file::UnitName, &crate::model::facts::UnitFact)| UnitStatus {
                unit: name.to_string(),
                active: if fact.active.is_empty() { "absent".to_owned() } else { fact.active.clone() },
                main_pid: fact.main_pid,
                started_monotonic_us: fact.started_monotonic_us,
            };
            seen.facts.units.iter().map(unit).collect()
        })
        .unwrap_or_default();
    let consul = answers.member(&host.name).map(|member| member.status.clone());
    let target = answers.target(&host.name);
    let problem = if !host.state.is_running() {
        Some(format!("it is {}", host.state))
    } else if let Some(outcome) = unreached.iter().find(|outcome| outcome.host == host.name) {
        Some(super::failure::sentence(&outcome.result))
    } else if let Some(unit) = units.iter().find(|unit| unit.active != "active") {
        Some(format!("{} is {}", unit.unit, unit.active))
    } else if let Some(status) = consul.as_deref().filter(|status| *status != "alive") {
        Some(format!("Consul says {status}"))
    } else if consul.is_none() && answers.leader.is_some() {
        Some("Consul does not know it".to_owned())
    } else if target.is_none() && consul.is_some() && answers.prometheus_problem.is_none() {
        Some("Prometheus does not scrape it".to_owned())
    } else {
        target.filter(|target| target.health == "down").map(|target| format!("scrape: {}", target.last_error))
    };
    HostStatus {
        host: host.name.clone(),
        id: host.id.clone(),
        role: host.role,
        state: host.state,
        address: seen.map_or(host.private_address, Observed::address),
        consul,
        scraped: target.map(|target| target.health.clone()),
        units,
        problem,
    }
}
