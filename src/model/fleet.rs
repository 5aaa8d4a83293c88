//! A fleet: nodes that the provider launches and replaces by itself, from an image in which they join.

use std::collections::BTreeMap;
use std::fmt;

use jiff::Timestamp;
use serde::Serialize;

use super::host::{HostId, HostState};
use super::name::ClusterName;

/// Where a member stands in its group's eyes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Lifecycle {
    Pending,
    InService,
    /// It is being ended, or taken out of the group.
    Ending,
    /// Somebody set it aside by hand.
    Aside,
}

impl fmt::Display for Lifecycle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Pending => "pending",
            Self::InService => "in service",
            Self::Ending => "ending",
            Self::Aside => "set aside",
        })
    }
}

/// One instance of the group, as the provider knows it. Its id is its name in Consul and in Prometheus.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Member {
    pub id: HostId,
    pub instance_type: String,
    pub zone: String,
    pub lifecycle: Lifecycle,
    /// The provider's own health check.
    pub healthy: bool,
    /// `None`: the provider lists no such instance (yet, or any more).
    pub state: Option<HostState>,
    /// Of which make it is: the same as [`Make::mark`] where it is of today's.
    pub mark: Option<String>,
    pub launched: Option<Timestamp>,
    pub spot: bool,
}

/// What new members are made like.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Make {
    pub version: i64,
    pub mark: Option<String>,
    pub image: String,
}

/// The fleet as the provider knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FleetFacts {
    /// Of the group.
    pub name: String,
    pub wanted: u16,
    pub min: u16,
    pub max: u16,
    pub make: Option<Make>,
    pub members: Vec<Member>,
    /// Why the provider launches no more of them, in its own words.
    pub trouble: Vec<String>,
}

impl FleetFacts {
    /// Is it of another make than new ones are?
    pub fn is_outdated(&self, member: &Member) -> bool {
        self.make.as_ref().is_some_and(|make| make.mark != member.mark)
    }

    /// Those that count: all but the ones that are on their way out.
    pub fn present(&self) -> impl Iterator<Item = &Member> {
        self.members.iter().filter(|member| member.lifecycle != Lifecycle::Ending)
    }
}

/// What Prometheus says of a node's own target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scraped {
    pub health: String,
    pub error: String,
}

/// What Consul and Prometheus said at one moment, by the hosts' names.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Words {
    /// Why one of them, or both, could not be asked: then its silence says nothing.
    pub problems: Vec<String>,
    /// Consul's word for each of its members.
    pub consul: BTreeMap<String, String>,
    pub prometheus: BTreeMap<String, Scraped>,
}

/// One member with all that is said of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct MemberStatus {
    #[serde(flatten)]
    pub member: Member,
    pub outdated: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub consul: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scraped: Option<String>,
    /// `None`: it is well, by all three.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

/// `fleet status`, and the end of `fleet scale` and `fleet roll`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FleetReport {
    pub cluster: ClusterName,
    pub name: String,
    pub wanted: u16,
    pub min: u16,
    pub max: u16,
    pub in_service: usize,
    /// Listed alive by Consul, scraped by Prometheus, healthy to the provider.
    pub well: usize,
    pub pending: usize,
    pub ending: usize,
    pub outdated: usize,
    pub spot: usize,
    pub types: BTreeMap<String, usize>,
    pub zones: BTreeMap<String, usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub make: Option<Make>,
    /// What concerns the fleet rather than one member.
    pub problems: Vec<String>,
    pub members: Vec<MemberStatus>,
}

impl FleetReport {
    pub fn is_well(&self) -> bool {
        self.problems.is_empty() && self.well == usize::from(self.wanted) && self.ending == 0
    }
}
