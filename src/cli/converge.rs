//! What `up`, `join-node` and `plan` share: observe, plan, show, apply, verify, report.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use super::context::Session;
use super::exit;
use crate::core::select::{self, ToLaunch};
use crate::core::{plan as planning, render};
use crate::engine::observe::{Observed, observe};
use crate::engine::plan::{Artifacts, Planned, Source, needed, peers, plan_hosts, whole};
use crate::engine::{apply, failure, verify};
use crate::model::ec2::tag;
use crate::model::event::Phase;
use crate::model::host::Host;
use crate::model::name::HostName;
use crate::model::plan::{HostPlan, Plan, ResourceStep};
use crate::model::report::{HostOutcome, HostResult, Millis, Proof, RunReport, Unconfirmed, Verified};
use crate::model::spec::ProviderSpec;
use crate::world::artifacts::ArtifactError;

/// Connects to `hosts` (waiting up to `console` for their keys) and reads their facts, with a warning for each clock that is off.
pub async fn look(
    session: &Session,
    hosts: Vec<Host>,
    rehash: bool,
    console: Duration,
) -> Result<(Vec<Observed>, Vec<HostOutcome>)> {
    session.events.phase(Phase::Observe);
    let spec = &session.spec;
    let mut queries = std::collections::BTreeMap::new();
    for host in &hosts {
        let wanted = render::layout(&session.renderer, spec, &host.name, host.role)?;
        queries.insert(host.name.clone(), planning::query(&wanted));
    }
    let query = |host: &Host| queries.get(&host.name).cloned().unwrap_or_default();
    let connector = session.connector.as_ref();
    let hosts = session.with_host_keys(hosts, console).await;
    let (observed, failed) = observe(hosts, connector, &query, rehash, &session.limits, &session.events).await;
    let now = jiff::Timestamp::now().as_second();
    for host in &observed {
        if let Some(problem) = planning::clock_problem(&host.facts, now) {
            session.events.warn(Some(&host.host.name), problem);
        }
    }
    Ok((observed, failed))
}

/// The artifacts for these hosts, from the cache or fetched into it.
pub async fn artifacts(session: &Session, observed: &[Observed]) -> Result<Artifacts> {
    let wanted = needed(&session.spec, observed);
    let fetched = session.cache.ensure(&wanted, &session.sources, &session.events, &session.cancel).await;
    let (mut artifacts, mut errors) = (Artifacts::new(), Vec::new());
    for (id, result) in fetched {
        match result {
            Ok(artifact) => drop(artifacts.entry(id.arch).or_default().insert(id.program, artifact)),
            Err(error) => errors.push(error),
        }
    }
    match ArtifactError::of_all(errors) {
        Some(error) => Err(error).context("the programs for the hosts are not at hand"),
        None => Ok(artifacts),
    }
}

/// Plans for those of the observed hosts that are `installing`. `all` are the cluster's hosts, whether they answered or
/// not.
pub async fn plan<'a>(
    session: &Session,
    all: &[Host],
    observed: &[Observed],
    installing: &'a [Observed],
    with_diffs: bool,
) -> Result<Vec<Planned<'a>>> {
    if installing.is_empty() {
        return Ok(Vec::new());
    }
    let artifacts = artifacts(session, installing).await?;
    session.events.phase(Phase::Plan);
    let peers = match peers(all, observed) {
        Ok(peers) => peers,
        Err(servers) if servers.is_empty() => {
            let why = "no server of the cluster runs, and its address stands in every host's configuration: nothing is \
                       changed here until one does";
            return Ok(installing.iter().map(|on| Planned::blocked(on, why)).collect());
        }
        Err(servers) => {
            let why = format!(
                "the address of {} is not known, and every host's configuration holds it: make it reachable, or give \
                 it `private_address` in the spec",
                servers.join(", ")
            );
            return Ok(installing.iter().map(|on| Planned::blocked(on, &why)).collect());
        }
    };
    let source = Source { spec: &session.spec, renderer: &session.renderer, peers: &peers, artifacts: &artifacts };
    let planned = plan_hosts(source, installing, with_diffs, &session.limits, &session.events);
    Ok(planned.await?)
}

/// What came before converging.
pub struct Run {
    pub begun: Instant,
    pub rehash: bool,
    /// Hosts that somebody agreed to when they were launched: nobody is asked about them again.
    pub agreed: Vec<HostName>,
    /// Hosts that were launched from an image just now.
    pub booted: Vec<HostName>,
    /// Hosts that never came so far.
    pub failed: Vec<HostOutcome>,
}

/// Those of the launches that are from an image.
pub fn booted(launches: &[ToLaunch]) -> Vec<HostName> {
    launches.iter().filter(|launch| launch.image.is_some()).map(|launch| launch.name.clone()).collect()
}

/// Two machines that claim to be one host: nobody can say which is meant.
pub fn refuse_conflicts(existing: &[Host]) -> Result<()> {
    let conflicts = select::conflicts(existing);
    anyhow::ensure!(conflicts.is_empty(), "{}", conflicts.join("; "));
    Ok(())
}

/// What is to be launched, and what the provider makes or mends for it: asked about once, before any of it is made.
pub async fn ready(session: &Session, missing: &[ToLaunch], resources: Vec<ResourceStep>) -> Result<bool> {
    let launches: Vec<HostPlan> =
        missing.iter().map(|launch| planning::launched(&launch.name, launch.role, &launch.reason)).collect();
    let making = !resources.is_empty();
    let plan = whole(resources, launches, Vec::new(), Vec::new());
    if !confirm(session, &plan)? {
        session.events.note(None, "nothing was changed");
        return Ok(false);
    }
    if making || !missing.is_empty() {
        session.events.phase(Phase::Prepare);
        session.cloud.prepare(&session.events).await?;
    }
    Ok(true)
}

/// Everything after launching: observes, plans, asks if need be, applies, verifies, reports.
///
/// `all` are the cluster's hosts: servers among them are asked for verification, and changed only where they are in
/// `hosts` too, which are those to converge. Of these, hosts from an image are only asked about.
pub async fn converge(session: &Session, all: &[Host], hosts: Vec<Host>, run: Run) -> Result<u8> {
    let Run { begun, rehash, agreed, booted, mut failed } = run;
    let (baked, hosts): (Vec<Host>, Vec<Host>) = hosts.into_iter().partition(Host::is_baked);
    let lost: Vec<String> =
        failed.iter().filter(|outcome| outcome.role.is_server()).map(|outcome| outcome.host.to_string()).collect();
    let converging: Vec<HostName> = hosts.iter().map(|host| host.name.clone()).collect();
    let servers = all.iter().filter(|host| host.role.is_server() && host.state.is_running());
    let asked: Vec<Host> = servers.filter(|server| !converging.contains(&server.name)).cloned().collect();
    // Those to converge come first.
    let (observed, unreached) =
        look(session, hosts.into_iter().chain(asked).collect(), rehash, session.limits.host_keys).await?;
    failed.extend(unreached);
    let installing = &observed[..observed.partition_point(|on| converging.contains(&on.host.name))];

    let asking = session.asks_before_changes();
    let planned = if lost.is_empty() {
        plan(session, all, &observed, installing, asking || session.global.verbose > 0).await?
    } else {
        // Without it in their configuration the others would restart, all at once, as a cluster of fewer servers.
        let why = without(&lost);
        installing.iter().map(|on| Planned::blocked(on, &why)).collect()
    };
    let plans = planned.iter().map(|planned| &planned.plan).filter(|plan| !agreed.contains(&plan.host));
    let shown = whole(Vec::new(), Vec::new(), plans.cloned().collect(), Vec::new());
    if !confirm(session, &shown)? {
        session.events.note(None, "nothing was changed");
        return Ok(exit::FAILED);
    }

    let jobs: Vec<_> = planned.iter().map(Planned::job).collect();
    if !jobs.is_empty() {
        session.events.phase(Phase::Apply);
    }
    let run_id = format!("{}-{}", jiff::Timestamp::now().as_millisecond(), std::process::id());
    let mut outcomes = apply::apply(&jobs, &run_id, &session.limits, &session.events).await;
    outcomes.extend(members(session, &baked, &booted, &failed));

    let good: Vec<HostName> =
        outcomes.iter().filter(|outcome| outcome.result.is_good()).map(|outcome| outcome.host.clone()).collect();
    let servers: Vec<&Observed> = observed
        .iter()
        .filter(|host| host.host.role.is_server())
        .filter(|host| good.contains(&host.host.name) || !converging.contains(&host.host.name))
        .collect();
    let asked = ask(session, &servers, &good, &mut outcomes).await;
    outcomes.extend(failed);
    outcomes.sort_by(|a, b| (a.role, &a.host).cmp(&(b.role, &b.host)));
    let report = RunReport {
        cluster: session.spec.cluster.clone(),
        look: if asked.verified.is_some() { session.where_to_look(&servers) } else { Vec::new() },
        verified: asked.verified,
        unconfirmed: asked.unconfirmed,
        proofs: asked.proofs,
        seconds: Millis(u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX)),
        hosts: outcomes,
    };
    session.show(&report, true)?;
    Ok(code(&report, asked.interrupted || session.cancel.is_cancelled()))
}

/// Why nothing is installed while servers are lost.
fn without(lost: &[String]) -> String {
    format!(
        "{} did not come up, and every host's configuration names all servers: nothing is changed here until it does",
        lost.join(", ")
    )
}

/// Hosts from an image, which are to be members like the others. Those of EC2 come and go as Auto Scaling has it, and
/// nobody waits for them.
fn members(session: &Session, baked: &[Host], booted: &[HostName], failed: &[HostOutcome]) -> Vec<HostOutcome> {
    let sandbox = matches!(session.spec.provider, ProviderSpec::Sandbox { .. });
    let known = |host: &&Host| sandbox && !failed.iter().any(|outcome| outcome.host == host.name);
    let outcome = |host: &Host| {
        let image = host.tags.get(tag::IMAGE).filter(|_| booted.contains(&host.name));
        let result = image.map_or(HostResult::Unchanged, |image| HostResult::Booted { image: image.clone() });
        failure::outcome(host, result)
    };
    baked.iter().filter(known).map(outcome).collect()
}

/// How asking Consul and Prometheus ended.
#[derive(Default)]
struct Asked {
    verified: Option<Verified>,
    unconfirmed: Option<Unconfirmed>,
    proofs: Vec<Proof>,
    interrupted: bool,
}

/// Asks the servers about the hosts that are installed; the outcomes of those that they do not confirm follow.
async fn ask(session: &Session, servers: &[&Observed], good: &[HostName], outcomes: &mut [HostOutcome]) -> Asked {
    if good.is_empty() || session.cancel.is_cancelled() {
        return Asked { interrupted: session.cancel.is_cancelled(), ..Asked::default() };
    }
    match verify::verify(servers, good, &session.limits, &session.events).await {
        Ok(mut verified) => {
            let proofs = std::mem::take(&mut verified.proofs);
            Asked { verified: Some(verified), proofs, ..Asked::default() }
        }
        Err(unverified) => {
            let interrupted = unverified.interrupted || session.cancel.is_cancelled();
            let how = if interrupted { Unconfirmed::Interrupted } else { Unconfirmed::InVain };
            verify::not_confirmed(outcomes, &unverified, how);
            let unconfirmed = (!servers.is_empty()).then_some(how);
            Asked { verified: None, unconfirmed, proofs: unverified.proofs, interrupted }
        }
    }
}

fn code(report: &RunReport, interrupted: bool) -> u8 {
    if interrupted {
        exit::INTERRUPTED
    } else if report.verified.is_none() || report.hosts.iter().any(|host| !host.result.is_good()) {
        exit::HOSTS_FAILED
    } else {
        exit::OK
    }
}

/// Shows the plan where it matters, and asks where someone must agree.
fn confirm(session: &Session, plan: &Plan) -> Result<bool> {
    if session.asks_before_changes() && !plan.is_empty() {
        return session.confirm(plan, &format!("Change {}?", session.spec.cluster));
    }
    if session.global.verbose > 0 {
        session.show_to_people(plan);
    }
    Ok(true)
}
