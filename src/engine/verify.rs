//! Asks Consul and Prometheus themselves, until each host is alive and scraped or the deadline comes.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use super::Limits;
use super::observe::Observed;
use crate::model::event::{Doing, Events, Phase};
use crate::model::name::HostName;
use crate::model::report::{Failure, HostOutcome, HostResult, Member, Proof, Target, Unconfirmed, Verified, Witness};
use crate::world::remote::{Remote, RemoteError};
use crate::world::{consul, prometheus};

/// How often they are asked.
const INTERVAL: Duration = Duration::from_millis(100);

/// The scrape jobs of clusterctl's own programs; see templates/prometheus/prometheus.yml.
const OUR_JOBS: [&str; 4] = ["node", "consul", "prometheus", "alertmanager"];

/// What still was not as it should be when the deadline came.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Unverified {
    /// One line for each thing that is missing.
    pub missing: Vec<String>,
    /// What was said last, where somebody answered.
    pub proofs: Vec<Proof>,
    pub interrupted: bool,
}

/// What Consul and Prometheus said at one moment; an `Err` says why one of them said nothing.
#[derive(Debug, Clone, Default)]
pub struct Answers {
    pub leader: Option<String>,
    pub members: Vec<Member>,
    pub consul_problem: Option<String>,
    pub targets: Vec<Target>,
    pub prometheus_problem: Option<String>,
}

/// Asks once, on one server, over its open connection.
pub async fn ask(remote: &dyn Remote, address: IpAddr) -> Result<Answers, RemoteError> {
    let mut answers = Answers::default();
    match consul::leader(remote).await {
        Ok(leader) => answers.leader = leader,
        Err(error) => answers.consul_problem = Some(lost(error)?),
    }
    if answers.consul_problem.is_none() {
        match consul::members(remote).await {
            Ok(members) => answers.members = members,
            Err(error) => answers.consul_problem = Some(lost(error)?),
        }
    }
    match prometheus::targets(remote, address).await {
        Ok(targets) => answers.targets = targets,
        Err(error) => answers.prometheus_problem = Some(lost(error)?),
    }
    Ok(answers)
}

/// An API that does not answer yet is a problem to show; a connection that broke ends the asking.
fn lost(error: crate::world::http::ApiError) -> Result<String, RemoteError> {
    match error {
        crate::world::http::ApiError::Remote(error) if !matches!(error, RemoteError::TimedOut { .. }) => Err(error),
        other => Ok(super::failure::chain(&other)),
    }
}

impl Answers {
    /// The state of a host in Consul, as Consul words it.
    pub fn member(&self, host: &HostName) -> Option<&Member> {
        self.members.iter().find(|member| member.name == host.as_str())
    }

    /// The host's own target: its node_exporter.
    pub fn target(&self, host: &HostName) -> Option<&Target> {
        self.targets.iter().find(|target| target.job == "node" && target.instance == host.as_str())
    }

    fn is_alive(&self, host: &HostName) -> bool {
        self.member(host).is_some_and(|member| member.status == "alive")
    }

    /// Its node_exporter is up, and so is what else of ours runs there. The user's own services are theirs:
    /// one that is not deployed yet must not fail the run.
    fn is_scraped(&self, host: &HostName) -> bool {
        self.target(host).is_some() && self.first_not_up(host).is_none()
    }

    fn first_not_up<'a>(&'a self, host: &'a HostName) -> Option<&'a Target> {
        self.ours(host).find(|target| target.health != "up")
    }

    /// The targets of clusterctl's own programs on the host.
    fn ours<'a>(&'a self, host: &'a HostName) -> impl Iterator<Item = &'a Target> {
        let ours = |target: &&Target| OUR_JOBS.contains(&target.job.as_str()) && target.instance == host.as_str();
        self.targets.iter().filter(ours)
    }

    /// All that `server` said of the hosts, good and bad.
    pub fn proofs(&self, server: &HostName, hosts: &[HostName]) -> Vec<Proof> {
        let mut proofs = Vec::new();
        for host in hosts {
            let mut prove = |by, problem| proofs.push(Proof { host: host.clone(), by, problem });
            prove(Witness::Consul, self.against(server, host));
            let by = |job: &str| Witness::Prometheus { job: job.to_owned() };
            if let Some(problem) = &self.prometheus_problem {
                prove(by("node"), Some(format!("Prometheus on {server}: {problem}")));
                continue;
            }
            if self.target(host).is_none() {
                prove(by("node"), Some(format!("Prometheus on {server} says: no target yet")));
            }
            for target in self.ours(host) {
                let says = || format!("Prometheus on {server} says: {}", not_up(target));
                prove(by(&target.job), (target.health != "up").then(says));
            }
        }
        proofs
    }

    /// What Consul says against the host.
    fn against(&self, server: &HostName, host: &HostName) -> Option<String> {
        if let Some(problem) = &self.consul_problem {
            return Some(format!("Consul on {server}: {problem}"));
        }
        if self.leader.is_none() && host == server {
            return Some("Consul has no leader".to_owned());
        }
        let state = self.member(host).map_or("not a member", |member| member.status.as_str());
        (!self.is_alive(host)).then(|| format!("Consul on {server} says: {state}"))
    }

    fn missing(&self, server: &HostName, hosts: &[HostName]) -> Vec<String> {
        let mut missing = Vec::new();
        if let Some(problem) = &self.consul_problem {
            missing.push(format!("{server}: Consul: {problem}"));
        } else if self.leader.is_none() {
            missing.push(format!("{server}: Consul has no leader"));
        }
        if let Some(problem) = &self.prometheus_problem {
            missing.push(format!("{server}: Prometheus: {problem}"));
        }
        for host in hosts {
            if self.consul_problem.is_none() && !self.is_alive(host) {
                let state = self.member(host).map_or("not a member", |member| member.status.as_str());
                missing.push(format!("{host}: Consul on {server} says: {state}"));
            }
            if self.prometheus_problem.is_none() && !self.is_scraped(host) {
                let state = self.first_not_up(host).map_or_else(|| "no target yet".to_owned(), not_up);
                missing.push(format!("{host}: Prometheus on {server} says: {state}"));
            }
        }
        missing
    }
}

fn not_up(Target { job, health, last_error, .. }: &Target) -> String {
    let colon = if last_error.is_empty() { "" } else { ": " };
    format!("job {job} is {health}{colon}{last_error}")
}

/// Asks every server until each of `hosts` is alive in Consul and `up` in Prometheus.
pub async fn verify(
    servers: &[&Observed],
    hosts: &[HostName],
    limits: &Limits,
    events: &Events,
) -> Result<Verified, Unverified> {
    events.phase(Phase::Verify);
    let deadline = Instant::now() + limits.verify;
    for host in hosts {
        events.began(Some(host), Doing::JoinConsul);
    }
    let mut progress = Progress::default();
    let mut verified = None;
    // One after the other: the first is all there is in most clusters, and the waiting is shared.
    for server in servers {
        let answers = until_good(server, hosts, deadline, &mut progress, events).await?;
        let up = answers.targets.iter().filter(|target| target.health == "up").count();
        verified.get_or_insert_with(|| Verified {
            leader: answers.leader.clone().unwrap_or_default(),
            alive: hosts.iter().filter(|host| answers.is_alive(host)).count(),
            targets_up: up,
            targets: answers.targets.len(),
            proofs: answers.proofs(&server.host.name, hosts),
        });
    }
    verified.ok_or_else(|| Unverified {
        missing: vec!["no server was reached, so nobody could be asked".to_owned()],
        ..Unverified::default()
    })
}

#[derive(Default)]
struct Progress {
    alive: BTreeSet<HostName>,
    scraped: BTreeSet<HostName>,
}

impl Progress {
    fn show(&mut self, answers: &Answers, hosts: &[HostName], events: &Events) {
        for host in hosts {
            if answers.is_alive(host) && self.alive.insert(host.clone()) {
                events.ended(Some(host), Doing::JoinConsul, false);
                events.began(Some(host), Doing::Scrape);
            }
            if answers.is_scraped(host) && self.alive.contains(host) && self.scraped.insert(host.clone()) {
                events.ended(Some(host), Doing::Scrape, false);
            }
        }
    }
}

async fn until_good(
    server: &Observed,
    hosts: &[HostName],
    deadline: Instant,
    progress: &mut Progress,
    events: &Events,
) -> Result<Answers, Unverified> {
    let name = &server.host.name;
    let Some(address) = server.address() else {
        return Err(Unverified { missing: vec![format!("{name}: its address is not known")], ..Unverified::default() });
    };
    let mut proofs = Vec::new();
    loop {
        let answers = match ask(server.remote.as_ref(), address).await {
            Ok(answers) => answers,
            Err(error) => {
                let interrupted = matches!(error, RemoteError::Cancelled { .. });
                return Err(Unverified { missing: vec![super::failure::chain(&error)], proofs, interrupted });
            }
        };
        progress.show(&answers, hosts, events);
        let missing = answers.missing(name, hosts);
        if missing.is_empty() {
            return Ok(answers);
        }
        proofs = answers.proofs(name, hosts);
        if Instant::now() >= deadline {
            return Err(Unverified { missing, proofs, interrupted: false });
        }
        tokio::time::sleep(INTERVAL).await;
    }
}

/// Hosts that are installed, but that Consul or Prometheus did not confirm, have failed; where nobody waited for an
/// answer, they are interrupted.
pub fn not_confirmed(outcomes: &mut [HostOutcome], unverified: &Unverified, how: Unconfirmed) {
    let missing = by_host(&unverified.missing);
    for outcome in outcomes.iter_mut().filter(|outcome| outcome.result.is_good()) {
        let step = "verify".to_owned();
        if how == Unconfirmed::Interrupted {
            outcome.result = HostResult::Interrupted { step };
            continue;
        }
        let Some(what) = missing.get(outcome.host.as_str()) else { continue };
        outcome.result = HostResult::Failed(Failure {
            step,
            message: what.join("; "),
            lines: Vec::new(),
            log: Some("journalctl -u consul -u prometheus -u node_exporter (on the host)".to_owned()),
            hint: Some("`clusterctl status` asks again; running this command again converges".to_owned()),
        });
    }
}

/// Groups what is missing by host.
fn by_host(missing: &[String]) -> BTreeMap<&str, Vec<&str>> {
    let mut grouped: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for line in missing {
        if let Some((host, what)) = line.split_once(": ") {
            grouped.entry(host).or_default().push(what);
        }
    }
    grouped
}
