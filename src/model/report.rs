//! What a command found or did, as one document: `ui` makes a table or JSON of it.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::Serialize;

use super::host::{HostId, HostState, Role};
use super::name::{ClusterName, HostName};

/// The version of the JSON documents on stdout; it grows when a field changes its meaning or goes.
pub const DOCUMENT_VERSION: u32 = 1;

/// How it ended for one host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "result", rename_all = "kebab-case")]
pub enum HostResult {
    Unchanged,
    Changed {
        changes: usize,
    },
    /// It was launched from an image that holds all that it needs; nobody logged in to it.
    Booted {
        image: String,
    },
    /// Ctrl-C, or a deadline of the whole run, came before the host was done.
    Interrupted {
        step: String,
    },
    Failed(Failure),
}

impl HostResult {
    pub const fn is_good(&self) -> bool {
        matches!(self, Self::Unchanged | Self::Changed { .. } | Self::Booted { .. })
    }
}

/// What went wrong on one host, with all that an operator needs at once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Failure {
    pub step: String,
    pub message: String,
    /// The failing program's own last lines.
    pub lines: Vec<String>,
    /// Where more of it stands: a path, or a command to run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log: Option<String>,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct HostOutcome {
    pub host: HostName,
    pub role: Role,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<IpAddr>,
    #[serde(flatten)]
    pub result: HostResult,
}

/// The end of `up` and `join-node`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RunReport {
    pub cluster: ClusterName,
    pub hosts: Vec<HostOutcome>,
    /// What Consul and Prometheus said in the end; `None` when it did not come so far.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub verified: Option<Verified>,
    /// Why they did not confirm all, though they were asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unconfirmed: Option<Unconfirmed>,
    /// Their last answers host by host, which only a summary for test reports has room for.
    #[serde(skip)]
    pub proofs: Vec<Proof>,
    /// Where to look, one line each.
    pub look: Vec<String>,
    pub seconds: Millis,
}

/// A duration in milliseconds; JSON shows seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Millis(pub u64);

impl Serialize for Millis {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        #[allow(clippy::cast_precision_loss)]
        s.serialize_f64(self.0 as f64 / 1000.0)
    }
}

/// How asking Consul and Prometheus ended without their word for every host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Unconfirmed {
    /// The deadline came, or one of them could not be asked any more.
    InVain,
    Interrupted,
}

/// What was asked of Consul and Prometheus themselves, and their answers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Verified {
    /// `address:port` of Raft's leader.
    pub leader: String,
    pub alive: usize,
    pub targets_up: usize,
    pub targets: usize,
    #[serde(skip)]
    pub proofs: Vec<Proof>,
}

/// One thing that one of them said of one host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proof {
    pub host: HostName,
    pub by: Witness,
    /// Why it is not as it should be; `None`: it is.
    pub problem: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Witness {
    /// Is the host alive?
    Consul,
    /// Is the target of this job up?
    Prometheus { job: String },
}

/// One target as Prometheus' `/api/v1/targets` has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Target {
    pub job: String,
    pub instance: String,
    /// `up`, `down` or `unknown` (not scraped yet).
    pub health: String,
    pub labels: BTreeMap<String, String>,
    pub scrape_url: String,
    pub last_scrape: String,
    pub last_error: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TargetsReport {
    pub cluster: ClusterName,
    pub targets: Vec<Target>,
}

/// One member as Consul's `/v1/agent/members` has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Member {
    pub name: String,
    pub address: String,
    /// `alive`, `leaving`, `left`, `failed` or `none`.
    pub status: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct UnitStatus {
    pub unit: String,
    pub active: String,
    pub main_pid: u32,
    pub started_monotonic_us: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct HostStatus {
    pub host: HostName,
    pub id: HostId,
    pub role: Role,
    pub state: HostState,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<IpAddr>,
    /// As Consul says; `None`: it does not know the host, or was not reached.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub consul: Option<String>,
    /// As Prometheus says of the host's node_exporter.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scraped: Option<String>,
    pub units: Vec<UnitStatus>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StatusReport {
    pub cluster: ClusterName,
    pub provider: String,
    /// Raft's leader; `None`: no leader, or no server reached.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub leader: Option<String>,
    pub hosts: Vec<HostStatus>,
    /// What is wrong with the cluster as a whole; empty when it is healthy.
    pub problems: Vec<String>,
    /// What Consul and Prometheus said host by host; none where no server answered.
    #[serde(skip)]
    pub proofs: Vec<Proof>,
}

/// How one thing that `doctor` looked at is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Health {
    Good,
    /// It works, and may not for long, or not as meant.
    Doubtful,
    /// `up` would fail.
    Bad,
}

/// One thing that `doctor` looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Such as `credentials`, `quota`.
    pub topic: String,
    pub health: Health,
    pub what: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cure: Option<String>,
}

impl Finding {
    pub fn good(topic: &str, what: impl Into<String>) -> Self {
        Self { topic: topic.to_owned(), health: Health::Good, what: what.into(), cure: None }
    }

    pub fn doubtful(topic: &str, what: impl Into<String>, cure: impl Into<String>) -> Self {
        Self { topic: topic.to_owned(), health: Health::Doubtful, what: what.into(), cure: Some(cure.into()) }
    }

    pub fn bad(topic: &str, what: impl Into<String>, cure: impl Into<String>) -> Self {
        Self { topic: topic.to_owned(), health: Health::Bad, what: what.into(), cure: Some(cure.into()) }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DoctorReport {
    pub cluster: ClusterName,
    pub provider: String,
    pub findings: Vec<Finding>,
}

/// The answer of `discover`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LeaderReport {
    pub cluster: ClusterName,
    pub leader: super::ec2::Candidate,
}

/// One host's answer to `exec`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ExecOutcome {
    pub host: HostName,
    /// The command's exit status; `None` where it did not run to its end.
    pub status: Option<i32>,
    pub stdout: String,
    pub stderr: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}
