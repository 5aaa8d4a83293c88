//! Who leads: the running instance of the cluster that is tagged `consul-leader`, in any letter case.
//!
//! Instances come one by one and most are forgotten at once, so that a large account takes no more memory than
//! a small one. What is kept is what the decision needs, and a few of each kind for the message.

mod error;

use std::borrow::Borrow;
use std::collections::BTreeMap;

pub use error::{DiscoverError, Found};

use crate::model::ec2::{Candidate, tag};
use crate::model::host::HostState;
use crate::model::name::ClusterName;

/// `true`, `1` or `yes`, in any letter case.
pub fn is_true(value: &str) -> bool {
    ["true", "1", "yes"].iter().any(|word| value.trim().eq_ignore_ascii_case(word))
}

/// The values of the leader's tag: EC2 tells keys apart by case, so that there may be several.
fn leader_values(tags: &BTreeMap<String, String>) -> impl Iterator<Item = &str> {
    tags.iter().filter(|(key, _)| key.eq_ignore_ascii_case(tag::LEADER)).map(|(_, value)| value.as_str())
}

/// Does it carry the leader's tag, with a value that means yes?
pub fn leads(tags: &BTreeMap<String, String>) -> bool {
    leader_values(tags).any(is_true)
}

/// Does it carry this cluster's tag?
pub fn of_cluster(tags: &BTreeMap<String, String>, cluster: &ClusterName) -> bool {
    tags.get(tag::CLUSTER).is_some_and(|name| name == cluster.as_str())
}

/// The leader among all candidates.
///
/// # Errors
/// Where none or several lead, with what was found instead.
pub fn leader<'a>(cluster: &ClusterName, candidates: &'a [Candidate]) -> Result<&'a Candidate, DiscoverError> {
    let mut finder = Finder::new(cluster.clone());
    candidates.iter().for_each(|candidate| finder.push(candidate));
    finder.decide()
}

/// What a candidate is to the decision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Running,
    NoAddress,
    Pending,
    Stopped,
    Gone,
    /// Of this cluster, and its tag has a value that does not mean yes.
    NotTrue,
    /// Tagged as a leader, of another cluster.
    Other,
    /// Tagged as a leader, of no cluster.
    Clusterless,
}

const KINDS: usize = 8;

fn kind(cluster: &ClusterName, candidate: &Candidate) -> Option<Kind> {
    let tags = &candidate.tags;
    let leads = leads(tags);
    if !of_cluster(tags, cluster) {
        let kind = if tags.contains_key(tag::CLUSTER) { Kind::Other } else { Kind::Clusterless };
        // Those that are gone explain nothing.
        return (leads && candidate.state.exists()).then_some(kind);
    }
    if !leads {
        return (leader_values(tags).next().is_some() && candidate.state.exists()).then_some(Kind::NotTrue);
    }
    Some(match candidate.state {
        HostState::Running if candidate.private_address.is_none() => Kind::NoAddress,
        HostState::Running => Kind::Running,
        HostState::Pending => Kind::Pending,
        HostState::Stopping | HostState::Stopped => Kind::Stopped,
        HostState::ShuttingDown | HostState::Terminated => Kind::Gone,
    })
}

/// Looks for the leader while instances come in.
#[derive(Debug, Clone)]
pub struct Finder<C = Candidate> {
    cluster: ClusterName,
    /// By [`Kind`]: how many there were, and the first few.
    kinds: [(usize, Vec<C>); KINDS],
}

impl<C: Borrow<Candidate>> Finder<C> {
    /// So many of each kind are kept, as many as a message lists.
    const KEPT: usize = error::LISTED;

    pub fn new(cluster: ClusterName) -> Self {
        Self { cluster, kinds: std::array::from_fn(|_| (0, Vec::new())) }
    }

    pub fn push(&mut self, candidate: C) {
        let Some(kind) = kind(&self.cluster, candidate.borrow()) else { return };
        let (count, kept) = &mut self.kinds[kind as usize];
        *count += 1;
        if kept.len() < Self::KEPT {
            kept.push(candidate);
        }
    }

    /// Has nothing come that leads, could lead, or explains why nothing does?
    pub fn is_empty(&self) -> bool {
        self.kinds.iter().all(|(count, _)| *count == 0)
    }

    /// What was kept.
    pub fn into_candidates(self) -> Vec<C> {
        self.kinds.into_iter().flat_map(|(_, kept)| kept).collect()
    }

    fn found(&self, kinds: &[Kind]) -> Found {
        let mut found = Found::default();
        for kind in kinds {
            let (count, kept) = &self.kinds[*kind as usize];
            found.count += count;
            found.shown.extend(kept.iter().map(|candidate| candidate.borrow().clone()));
        }
        found.shown.truncate(Self::KEPT);
        found
    }

    fn any(&self, kind: Kind) -> bool {
        self.kinds[kind as usize].0 > 0
    }

    fn error(&self) -> DiscoverError {
        let cluster = self.cluster.clone();
        let running = self.found(&[Kind::Running, Kind::NoAddress]);
        if running.count > 1 {
            return DiscoverError::Several { cluster, found: running };
        }
        if self.any(Kind::NoAddress) {
            return DiscoverError::NoAddress { cluster, found: running };
        }
        if self.any(Kind::Pending) {
            return DiscoverError::Pending { cluster, found: self.found(&[Kind::Pending]) };
        }
        if self.any(Kind::Stopped) {
            return DiscoverError::Stopped { cluster, found: self.found(&[Kind::Stopped]) };
        }
        if self.any(Kind::Gone) {
            return DiscoverError::Gone { cluster, found: self.found(&[Kind::Gone]) };
        }
        DiscoverError::None {
            cluster,
            not_true: self.found(&[Kind::NotTrue]),
            clusterless: self.found(&[Kind::Clusterless]),
            others: self.found(&[Kind::Other]),
        }
    }
}

impl Finder<Candidate> {
    /// The leader among what came.
    ///
    /// # Errors
    /// Where none or several lead, with what was found instead.
    pub fn leader(&self) -> Result<&Candidate, DiscoverError> {
        self.sole().ok_or_else(|| self.error())
    }
}

impl<C: Borrow<Candidate>> Finder<C> {
    /// The one that runs, if it is the only one.
    fn sole(&self) -> Option<&C> {
        let (running, kept) = &self.kinds[Kind::Running as usize];
        (*running == 1 && !self.any(Kind::NoAddress)).then(|| &kept[0])
    }
}

impl<'a> Finder<&'a Candidate> {
    fn decide(self) -> Result<&'a Candidate, DiscoverError> {
        self.sole().copied().ok_or_else(|| self.error())
    }
}

#[cfg(test)]
mod tests;
