//! Changes of a fleet, watched through an open connection to a server: a member counts when Consul lists it alive and
//! Prometheus has scraped it. Who is well and who goes next is decided in `core::fleet`.
//!
//! EC2's own instance refresh does much of this, but goes by EC2's health checks alone: it would replace a whole fleet
//! by instances that boot and never join.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use thiserror::Error;
use tokio_util::sync::CancellationToken;

use super::observe::Observed;
use super::status::ask_servers;
use crate::core::fleet::{self, Next, Whom};
use crate::model::event::{Doing, Events};
use crate::model::fleet::{FleetFacts, FleetReport, Lifecycle, MemberStatus, Scraped, Words};
use crate::model::host::HostId;
use crate::model::lasting::Lasting;
use crate::model::name::{ClusterName, HostName};
use crate::world::cloud::{CloudError, Fleet};

#[derive(Debug, Error)]
pub enum FleetError {
    #[error(transparent)]
    Cloud(CloudError),
    #[error("the cluster {cluster} has no fleet")]
    Absent { cluster: ClusterName },
    /// What was asked for is under way or done, and is not confirmed.
    #[error("the fleet is not as it should be after {}: {}", Lasting(*.waited), fleet::named(.missing))]
    Late { waited: Duration, missing: Vec<String> },
    #[error("the batch {} was not well again after {}, and the others are left: {}", names(.batch), Lasting(*.waited), fleet::named(.missing))]
    Batch { batch: Vec<HostId>, waited: Duration, missing: Vec<String> },
    #[error("only {well} members are well, and {floor} must stay so while others are replaced: {}", fleet::named(.missing))]
    TooFew { well: usize, floor: usize, missing: Vec<String> },
}

fn names(ids: &[HostId]) -> String {
    fleet::named(&ids.iter().map(ToString::to_string).collect::<Vec<_>>()).replace(';', ",")
}

impl From<CloudError> for FleetError {
    fn from(error: CloudError) -> Self {
        Self::Cloud(error)
    }
}

impl FleetError {
    pub fn cure(&self) -> Option<&str> {
        match self {
            Self::Cloud(error) => error.cure(),
            Self::Absent { .. } => Some("add [fleet] to the spec and run `clusterctl up --fleet N`"),
            Self::Late { .. } => {
                Some("`clusterctl fleet status` shows how it goes on; running the command again waits again")
            }
            Self::Batch { .. } => Some(
                "`clusterctl ssh` leads to a server; an instance's console (`aws ec2 get-console-output`) tells why it does \
                 not join. Running the command again goes on from here",
            ),
            Self::TooFew { .. } => {
                Some("replace those first: `clusterctl fleet roll --unhealthy`; or lower min_healthy in [fleet]")
            }
        }
    }
}

/// Who is asked, and how patiently.
pub struct Watch<'a> {
    pub cluster: &'a ClusterName,
    pub fleet: &'a dyn Fleet,
    pub servers: &'a [Observed],
    /// For a size, or for one batch, to arrive.
    pub wait: Duration,
    /// Between two looks; else by the fleet's size.
    pub every: Option<Duration>,
    pub cancel: &'a CancellationToken,
    pub events: &'a Events,
}

impl Watch<'_> {
    /// # Errors
    /// [`FleetError::Absent`], and the provider's.
    pub async fn look(&self) -> Result<(FleetFacts, Words), FleetError> {
        let (facts, words) = tokio::join!(self.fleet.look(), words(self.servers));
        let facts = facts?.ok_or_else(|| FleetError::Absent { cluster: self.cluster.clone() })?;
        Ok((facts, words))
    }

    /// # Errors
    /// As [`Self::look`].
    pub async fn report(&self) -> Result<FleetReport, FleetError> {
        let (facts, words) = self.look().await?;
        Ok(fleet::report(self.cluster, &facts, &words))
    }

    /// Sets the size and waits for it.
    ///
    /// # Errors
    /// [`FleetError::Late`] when it does not arrive in time.
    pub async fn scale(&self, size: u16) -> Result<(), FleetError> {
        let (before, _) = self.look().await?;
        if before.wanted != size {
            self.fleet.resize(size).await?;
        }
        self.settle(size, &before).await
    }

    /// Waits until exactly `size` members are well and nothing is left of the others; `before` is how it was.
    ///
    /// # Errors
    /// [`FleetError::Late`].
    pub async fn settle(&self, size: u16, before: &FleetFacts) -> Result<(), FleetError> {
        if self.wait.is_zero() {
            return Ok(());
        }
        let begun = Instant::now();
        let mut progress = Progress::default();
        let mut seen: BTreeSet<HostId> = before.members.iter().map(|member| member.id.clone()).collect();
        loop {
            let (facts, words) = self.look().await?;
            seen.extend(facts.members.iter().map(|member| member.id.clone()));
            let gone = gone(&seen, &facts);
            progress.show(&fleet::judge(&facts, &words), &gone, &words, self.events);
            let missing = fleet::unsettled(&facts, &words, size, &gone);
            if missing.is_empty() {
                return Ok(());
            }
            if begun.elapsed() >= self.wait {
                return Err(FleetError::Late { waited: self.wait, missing });
            }
            self.pause(facts.members.len()).await?;
        }
    }

    /// Replaces members batch by batch, and waits for the last one; the answer is who was ended.
    ///
    /// # Errors
    /// [`FleetError::Batch`] when the members in a batch's place do not become well in time: then nobody else is ended.
    /// [`FleetError::TooFew`] when too few are well to begin with.
    pub async fn roll(&self, whom: &Whom, min_healthy: u8, now: Timestamp) -> Result<Vec<HostId>, FleetError> {
        let mut progress = Progress::default();
        let (mut facts, mut words) = self.look().await?;
        let mut waited = Instant::now();
        // Who cannot be asked about must not be taken for sick.
        while !words.problems.is_empty() {
            if waited.elapsed() >= self.wait {
                return Err(FleetError::Late { waited: self.wait, missing: words.problems });
            }
            self.pause(facts.members.len()).await?;
            (facts, words) = self.look().await?;
        }
        let mut left = fleet::candidates(&fleet::judge(&facts, &words), whom, now);
        let mut ended = Vec::new();
        loop {
            let judged = fleet::judge(&facts, &words);
            if *whom == Whom::Unhealthy {
                left.retain(|id| judged.iter().any(|m| m.member.id == *id && m.problem.is_some()));
            }
            let next = if words.problems.is_empty() {
                fleet::next(&judged, &left, facts.wanted, min_healthy)
            } else {
                Next::Wait { well: 0, floor: 0 }
            };
            match next {
                Next::Done => break,
                Next::End { ids, goal } => {
                    self.replace(&ids, goal, &mut progress).await?;
                    left.retain(|id| !ids.contains(id));
                    ended.extend(ids);
                    self.events.note(None, format!("{} replaced, {} to go", ended.len(), left.len()));
                    waited = Instant::now();
                }
                Next::Wait { well, floor } => {
                    if waited.elapsed() >= self.wait {
                        let others = judged.iter().filter_map(line).collect::<Vec<_>>();
                        let missing = if words.problems.is_empty() { others } else { words.problems };
                        return Err(FleetError::TooFew { well, floor, missing });
                    }
                    self.pause(judged.len()).await?;
                }
            }
            (facts, words) = self.look().await?;
        }
        // Also for the last batch of a run that was interrupted.
        self.settle(facts.wanted, &facts).await?;
        Ok(ended)
    }

    /// Ends one batch and waits until as many are well again.
    async fn replace(&self, ids: &[HostId], goal: usize, progress: &mut Progress) -> Result<(), FleetError> {
        for id in ids {
            progress.step(id, Stage::Ending, self.events);
        }
        self.fleet.end(ids).await?;
        let ended: BTreeSet<HostId> = ids.iter().cloned().collect();
        let begun = Instant::now();
        loop {
            let (facts, words) = self.look().await?;
            progress.show(&fleet::judge(&facts, &words), &gone(&ended, &facts), &words, self.events);
            let missing = fleet::unreplaced(&facts, &words, goal, &ended);
            if missing.is_empty() {
                return Ok(());
            }
            if begun.elapsed() >= self.wait {
                return Err(FleetError::Batch { batch: ids.to_vec(), waited: self.wait, missing });
            }
            self.pause(facts.members.len()).await?;
        }
    }

    async fn pause(&self, size: usize) -> Result<(), FleetError> {
        tokio::select! {
            () = self.cancel.cancelled() => Err(FleetError::Cloud(CloudError::Cancelled)),
            () = tokio::time::sleep(self.every.unwrap_or_else(|| fleet::interval(size))) => Ok(()),
        }
    }
}

fn line(member: &MemberStatus) -> Option<String> {
    Some(format!("{}: {}", member.member.id, member.problem.as_ref()?))
}

/// A member's id is its name.
fn name(id: &HostId) -> Option<HostName> {
    HostName::new(id.0.as_str()).ok()
}

/// Those of `seen` that are no members any more.
fn gone(seen: &BTreeSet<HostId>, facts: &FleetFacts) -> BTreeSet<HostId> {
    let present: BTreeSet<&HostId> = facts.present().map(|member| &member.id).collect();
    seen.iter().filter(|id| !present.contains(id)).cloned().collect()
}

/// What the first server that answers says of all hosts.
pub async fn words(servers: &[Observed]) -> Words {
    let (server, answers) = match ask_servers(servers).await {
        Ok(answered) => answered,
        Err(problems) => return Words { problems, ..Words::default() },
    };
    let mut problems = Vec::new();
    match &answers.consul_problem {
        Some(problem) => problems.push(format!("{server}: Consul: {problem}")),
        None if answers.leader.is_none() => problems.push(format!("{server}: Consul has no leader")),
        None => {}
    }
    problems.extend(answers.prometheus_problem.iter().map(|problem| format!("{server}: Prometheus: {problem}")));
    let nodes = answers.targets.into_iter().filter(|target| target.job == "node");
    Words {
        problems,
        consul: answers.members.into_iter().map(|member| (member.name, member.status)).collect(),
        prometheus: nodes
            .map(|target| (target.instance, Scraped { health: target.health, error: target.last_error }))
            .collect(),
    }
}

/// How far each member is that has not been well yet; tells what it is at.
#[derive(Default)]
struct Progress(BTreeMap<HostId, Stage>);

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    Launch,
    Join,
    Scrape,
    Well,
    Ending,
    Gone,
}

impl Stage {
    fn of(status: &MemberStatus) -> Self {
        match (status.member.lifecycle, status.consul.as_deref()) {
            (Lifecycle::Ending, _) => Self::Ending,
            (Lifecycle::Pending, _) => Self::Launch,
            _ if status.problem.is_none() => Self::Well,
            (_, Some("alive")) => Self::Scrape,
            _ => Self::Join,
        }
    }

    const fn doing(self) -> Option<Doing> {
        match self {
            Self::Launch => Some(Doing::Launch),
            Self::Join => Some(Doing::JoinConsul),
            Self::Scrape => Some(Doing::Scrape),
            Self::Ending => Some(Doing::Terminate),
            Self::Well | Self::Gone => None,
        }
    }
}

impl Progress {
    fn show(&mut self, judged: &[MemberStatus], gone: &BTreeSet<HostId>, words: &Words, events: &Events) {
        for status in judged {
            self.step(&status.member.id, Stage::of(status), events);
        }
        for id in gone {
            let listed = words.consul.get(&id.0).is_some_and(|state| state == "alive");
            let stage = if listed || words.prometheus.contains_key(&id.0) { Stage::Ending } else { Stage::Gone };
            self.step(id, stage, events);
        }
    }

    fn step(&mut self, id: &HostId, stage: Stage, events: &Events) {
        let Some(host) = name(id) else { return };
        let last = self.0.insert(id.clone(), stage);
        if last == Some(stage) {
            return;
        }
        if let Some(doing) = last.and_then(Stage::doing).filter(|_| last < Some(stage)) {
            events.ended(Some(&host), doing, true);
        }
        if let Some(doing) = stage.doing() {
            events.began(Some(&host), doing);
        }
    }
}
