//! Decisions about a fleet: who is well, who is to be replaced next, when a change has arrived. Asking and acting is
//! `engine::fleet`'s.

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::Timestamp;

use crate::model::fleet::{FleetFacts, FleetReport, Lifecycle, Member, MemberStatus, Words};
use crate::model::host::HostId;
use crate::model::name::ClusterName;

/// A member that is younger may not have joined yet, and is not called sick for that.
const GRACE: Duration = Duration::from_secs(300);
/// So many names stand in one message.
const NAMED: usize = 10;

/// Members that a roll replaces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Whom {
    /// Those of an older make.
    Outdated,
    /// Those that are not well.
    Unhealthy,
    /// All that were there when it began.
    All,
}

/// Why a member is not well, as the first of provider, Consul and Prometheus says it; `None`: it is.
fn problem(member: &Member, words: &Words) -> Option<String> {
    match (member.lifecycle, member.state) {
        (Lifecycle::InService, _) => {}
        (lifecycle, _) => return Some(format!("it is {lifecycle}")),
    }
    match member.state {
        None => return Some("EC2 lists no such instance".to_owned()),
        Some(state) if !state.is_running() => return Some(format!("it is {state}")),
        Some(_) if !member.healthy => return Some("EC2 calls it unhealthy".to_owned()),
        Some(_) => {}
    }
    let consul = words.consul.get(&member.id.0).map(String::as_str);
    let scraped = words.prometheus.get(&member.id.0);
    // Nobody is called sick by one who could not be asked; but nobody is well without both.
    if !words.problems.is_empty() && consul.is_none() && scraped.is_none() {
        return Some("nobody could be asked of it".to_owned());
    }
    match (consul, scraped) {
        (None, _) => Some("Consul does not know it".to_owned()),
        (Some("alive"), None) => Some("Prometheus has no target of it".to_owned()),
        (Some("alive"), Some(scraped)) if scraped.health == "up" => None,
        (Some("alive"), Some(scraped)) => {
            let colon = if scraped.error.is_empty() { "" } else { ": " };
            Some(format!("Prometheus says {}{colon}{}", scraped.health, scraped.error))
        }
        (Some(state), _) => Some(format!("Consul says {state}")),
    }
}

/// Each member with all that is said of it, by id.
pub fn judge(facts: &FleetFacts, words: &Words) -> Vec<MemberStatus> {
    let status = |member: &Member| MemberStatus {
        outdated: facts.is_outdated(member),
        consul: words.consul.get(&member.id.0).cloned(),
        scraped: words.prometheus.get(&member.id.0).map(|scraped| scraped.health.clone()),
        problem: problem(member, words),
        member: member.clone(),
    };
    let mut judged: Vec<MemberStatus> = facts.members.iter().map(status).collect();
    judged.sort_by(|a, b| a.member.id.cmp(&b.member.id));
    judged
}

/// All of it as one document.
pub fn report(cluster: &ClusterName, facts: &FleetFacts, words: &Words) -> FleetReport {
    let members = judge(facts, words);
    let count = |is: &dyn Fn(&MemberStatus) -> bool| members.iter().filter(|m| is(m)).count();
    let by = |name: &dyn Fn(&Member) -> String| {
        let mut counts = std::collections::BTreeMap::new();
        for member in facts.present() {
            *counts.entry(name(member)).or_insert(0) += 1;
        }
        counts
    };
    FleetReport {
        cluster: cluster.clone(),
        name: facts.name.clone(),
        wanted: facts.wanted,
        min: facts.min,
        max: facts.max,
        in_service: count(&|m| m.member.lifecycle == Lifecycle::InService),
        well: count(&|m| m.problem.is_none()),
        pending: count(&|m| m.member.lifecycle == Lifecycle::Pending),
        ending: count(&|m| m.member.lifecycle == Lifecycle::Ending),
        outdated: count(&|m| m.outdated && m.member.lifecycle != Lifecycle::Ending),
        spot: facts.present().filter(|member| member.spot).count(),
        types: by(&|member| member.instance_type.clone()),
        zones: by(&|member| member.zone.clone()),
        make: facts.make.clone(),
        problems: words.problems.iter().chain(&facts.trouble).cloned().collect(),
        members,
    }
}

/// What is still missing until exactly `size` members are well and nothing is left of those in `gone`; one line each,
/// none when all has arrived.
pub fn unsettled(facts: &FleetFacts, words: &Words, size: u16, gone: &BTreeSet<HostId>) -> Vec<String> {
    let mut missing = words.problems.clone();
    let judged = judge(facts, words);
    let present: Vec<&MemberStatus> = judged.iter().filter(|m| m.member.lifecycle != Lifecycle::Ending).collect();
    if present.len() != usize::from(size) {
        missing.push(format!("the group has {} of {size}", present.len()));
        missing.extend(facts.trouble.iter().cloned());
    }
    missing.extend(sick(&present));
    let left = gone.iter().filter(|id| present.iter().all(|m| m.member.id != **id));
    missing.extend(left.filter_map(|id| trace(id, words)));
    missing
}

/// A line for each that is not well.
fn sick(members: &[&MemberStatus]) -> Vec<String> {
    members.iter().filter_map(|m| Some(format!("{}: {}", m.member.id, m.problem.as_ref()?))).collect()
}

/// What is left of a member that was ended.
fn trace(id: &HostId, words: &Words) -> Option<String> {
    if words.consul.get(&id.0).is_some_and(|state| state == "alive") {
        return Some(format!("{id}: it was ended, and Consul lists it alive"));
    }
    words.prometheus.contains_key(&id.0).then(|| format!("{id}: it was ended, and Prometheus still has its target"))
}

/// The same for one message, however many they are.
pub fn named(missing: &[String]) -> String {
    let more = missing.len().saturating_sub(NAMED);
    let shown = missing.iter().take(NAMED).cloned().collect::<Vec<_>>().join("; ");
    if more == 0 { shown } else { format!("{shown}; and {more} more") }
}

/// How many may be missing at once while `min_healthy` percent stay.
pub fn batch_size(size: u16, min_healthy: u8) -> usize {
    let missing = usize::from(size) * usize::from(100 - min_healthy.min(100)) / 100;
    missing.max(1)
}

/// Who is to be replaced, of those that are there as a roll begins. Who joined just now may still become well.
pub fn candidates(judged: &[MemberStatus], whom: &Whom, now: Timestamp) -> BTreeSet<HostId> {
    let young =
        |member: &Member| member.launched.is_some_and(|launched| now.duration_since(launched).unsigned_abs() < GRACE);
    let is = |m: &&MemberStatus| match whom {
        _ if m.member.lifecycle == Lifecycle::Ending => false,
        Whom::All => true,
        Whom::Outdated => m.outdated,
        Whom::Unhealthy => m.problem.is_some() && !young(&m.member),
    };
    judged.iter().filter(is).map(|m| m.member.id.clone()).collect()
}

/// A roll's next step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// All of them are replaced.
    Done,
    /// These end now; then so many are to be well.
    End { ids: Vec<HostId>, goal: usize },
    /// Too few are well to end another one.
    Wait { well: usize, floor: usize },
}

/// Who goes next: those that are not well first, since they serve nobody, then the oldest; never so many that fewer
/// than the floor are well.
pub fn next(judged: &[MemberStatus], left: &BTreeSet<HostId>, wanted: u16, min_healthy: u8) -> Next {
    let batch = batch_size(wanted, min_healthy);
    let floor = usize::from(wanted).saturating_sub(batch);
    let well = judged.iter().filter(|m| m.problem.is_none()).count();
    let mut going: Vec<&MemberStatus> =
        judged.iter().filter(|m| left.contains(&m.member.id) && m.member.lifecycle != Lifecycle::Ending).collect();
    if going.is_empty() {
        return Next::Done;
    }
    going.sort_by_key(|m| (m.problem.is_none(), m.member.launched, m.member.id.clone()));
    let sick = going.iter().filter(|m| m.problem.is_some()).count();
    let ending = (sick + well.saturating_sub(floor)).min(batch);
    if ending == 0 {
        return Next::Wait { well, floor };
    }
    going.truncate(ending);
    let staying = well - going.iter().filter(|m| m.problem.is_none()).count();
    let goal = (staying + going.len()).min(usize::from(wanted));
    Next::End { ids: going.iter().map(|m| m.member.id.clone()).collect(), goal }
}

/// What keeps a batch from being whole again: fewer than `goal` are well, or one that was ended is still listed.
pub fn unreplaced(facts: &FleetFacts, words: &Words, goal: usize, ended: &BTreeSet<HostId>) -> Vec<String> {
    let judged = judge(facts, words);
    let well = judged.iter().filter(|m| m.problem.is_none() && !ended.contains(&m.member.id)).count();
    let mut missing = words.problems.clone();
    if well < goal {
        missing.push(format!("{well} of {goal} are well"));
        let others: Vec<&MemberStatus> = judged
            .iter()
            .filter(|m| !ended.contains(&m.member.id) && m.member.lifecycle != Lifecycle::Ending)
            .collect();
        missing.extend(sick(&others));
        missing.extend(facts.trouble.iter().cloned());
    }
    missing.extend(ended.iter().filter_map(|id| trace(id, words)));
    missing
}

/// How long to wait between two looks: what is asked for grows with the fleet.
pub fn interval(size: usize) -> Duration {
    Duration::from_millis(1000 + 10 * u64::try_from(size).unwrap_or(u64::MAX).min(1000))
}

#[cfg(test)]
mod tests;
