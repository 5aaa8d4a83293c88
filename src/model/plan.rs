//! A plan: the difference between what is wanted and what was observed, with its reasons.

use serde::Serialize;

use super::file::{Check, HostPath, ManagedDir, ManagedFile, Reaction, SystemUser, UnitName};
use super::host::Role;
use super::name::HostName;

/// One thing to do on one host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "action", rename_all = "kebab-case")]
pub enum Action {
    CreateUser {
        user: SystemUser,
    },
    /// Make the folder, or give it its mode and owner.
    PutDir {
        dir: ManagedDir,
    },
    PutFile {
        #[serde(skip)]
        file: Box<ManagedFile>,
        path: HostPath,
        change: FileChange,
        /// A unified diff, where the old content was fetched and is text.
        #[serde(skip_serializing_if = "Option::is_none")]
        diff: Option<String>,
    },
    RemoveFile {
        path: HostPath,
    },
    Check {
        check: Check,
    },
    Enable {
        unit: UnitName,
    },
    Start {
        unit: UnitName,
    },
    React {
        unit: UnitName,
        reaction: Reaction,
    },
    /// Stop and disable a unit that is no longer wanted.
    Stop {
        unit: UnitName,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum FileChange {
    Create,
    Content,
    /// Only mode or owner differ.
    Attributes,
}

/// Why a step is in the plan, for people; it stands behind "because".
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Reason(pub String);

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Step {
    #[serde(flatten)]
    pub action: Action,
    pub reason: Reason,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct HostPlan {
    pub host: HostName,
    pub role: Role,
    /// The host does not exist yet: launching it comes first, and all its files follow.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub launch: Option<Reason>,
    pub steps: Vec<Step>,
    /// Why nothing can be planned for this host (unreachable, unfit), with the cure.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub blocked: Option<String>,
    /// What was looked at and left alone, with the reason.
    pub skipped: Vec<String>,
}

impl HostPlan {
    pub fn is_empty(&self) -> bool {
        self.launch.is_none() && self.steps.is_empty() && self.blocked.is_none()
    }
}

/// One thing to make or mend that belongs to the cluster rather than to a host: a security group, a role.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ResourceStep {
    /// Such as "make the security group clusterctl-shop".
    pub what: String,
    pub reason: Reason,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Plan {
    /// What the provider makes or mends first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub resources: Vec<ResourceStep>,
    pub hosts: Vec<HostPlan>,
    /// What concerns the cluster rather than one host.
    pub notes: Vec<String>,
}

impl Plan {
    pub fn is_empty(&self) -> bool {
        self.resources.is_empty() && self.hosts.iter().all(HostPlan::is_empty)
    }
}
