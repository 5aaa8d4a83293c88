//! A host: one machine of the cluster, wherever it comes from.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::ec2::tag;
use super::name::HostName;

/// What a provider calls a machine: an EC2 instance id, a sandbox's host id, an inventory's host name.
/// Identity hangs on it; addresses change.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct HostId(pub String);

impl fmt::Display for HostId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Consul server, Prometheus and what watches the cluster.
    Server,
    /// Consul agent, node_exporter and the user's services.
    Node,
}

impl Role {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Server => "server",
            Self::Node => "node",
        }
    }

    pub const fn is_server(self) -> bool {
        matches!(self, Self::Server)
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// EC2's own words for a machine's life; the other providers use the same ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HostState {
    Pending,
    Running,
    ShuttingDown,
    Terminated,
    Stopping,
    Stopped,
}

impl HostState {
    pub const fn is_running(self) -> bool {
        matches!(self, Self::Running)
    }

    /// Does it still exist, so that it counts and can be started, stopped or removed?
    pub const fn exists(self) -> bool {
        !matches!(self, Self::ShuttingDown | Self::Terminated)
    }

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Running => "running",
            Self::ShuttingDown => "shutting-down",
            Self::Terminated => "terminated",
            Self::Stopping => "stopping",
            Self::Stopped => "stopped",
        }
    }
}

impl fmt::Display for HostState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// How to reach a host over SSH. What is `None` is taken from `~/.ssh/config`, then the defaults.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct SshTarget {
    /// A name that `~/.ssh/config` may know, or an address.
    pub host: String,
    pub port: Option<u16>,
    pub user: Option<String>,
    /// A private key file; without one the agent and the usual `~/.ssh/id_*` are tried.
    pub key: Option<PathBuf>,
    /// The way goes through it: `[user@]host[:port]`, or `none` for no bastion whatever `~/.ssh/config` says.
    pub bastion: Option<String>,
    /// Where neither `user` nor `~/.ssh/config` says who logs in: who may, tried in this order.
    pub users: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Host {
    pub id: HostId,
    pub name: HostName,
    pub role: Role,
    pub state: HostState,
    /// The address that the other hosts of the cluster use; `None` while it is not known yet
    /// (a pending instance; an inventory host whose own facts will tell it).
    pub private_address: Option<IpAddr>,
    pub ssh: SshTarget,
    /// Public host keys known beforehand, in `known_hosts` form without the host: `ssh-ed25519 AAAA…`.
    pub host_keys: Vec<String>,
    pub tags: BTreeMap<String, String>,
}

impl Host {
    /// Its image holds all that it needs, and it joins by itself: nobody logs in to it to install anything.
    pub fn is_baked(&self) -> bool {
        self.tags.get(tag::ORIGIN).is_some_and(|origin| origin == tag::FLEET || origin == tag::IMAGED)
    }
}
