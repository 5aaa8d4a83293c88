//! What `ami build`, `list` and `prune` answer with.

use std::collections::BTreeMap;

use serde::Serialize;

use super::baked::{Baked, ImageId};
use super::host::Role;
use super::name::ClusterName;
use super::report::{Failure, HostOutcome, Millis, Proof, Verified};

/// The parts of a build, in their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stage {
    /// What hosts need around them, and the builders themselves.
    Launch,
    /// Programs and files.
    Install,
    /// Clearing, and the image of the disk.
    Seal,
    /// Hosts that boot from the images.
    Boot,
    /// Consul's and Prometheus' word.
    Prove,
    Copy,
    /// Everything but the images goes.
    Remove,
}

impl Stage {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Launch => "launch",
            Self::Install => "install",
            Self::Seal => "seal",
            Self::Boot => "boot",
            Self::Prove => "prove",
            Self::Copy => "copy",
            Self::Remove => "remove",
        }
    }
}

/// What became of an image that a build made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fate {
    /// It was tried, and hosts may be launched from it.
    Trusted,
    /// It was not proved, and is gone.
    Removed,
    /// It was not proved, and is there because somebody asked for that.
    Unproven,
    /// It was not proved, and could not be removed.
    Left,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Made {
    pub id: ImageId,
    pub name: String,
    pub role: Role,
    pub fate: Fate,
    /// The copies by region.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub copies: BTreeMap<String, ImageId>,
}

/// How long one part of the build took.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Took {
    pub stage: Stage,
    pub seconds: Millis,
}

/// The end of `ami build`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BakeReport {
    pub cluster: ClusterName,
    pub provider: String,
    pub images: Vec<Made>,
    pub stages: Vec<Took>,
    /// What Consul and Prometheus said of the hosts that booted from the images.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub verified: Option<Verified>,
    #[serde(skip)]
    pub proofs: Vec<Proof>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
    /// The step that an interruption ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interrupted: Option<String>,
    /// What is still there and should not be, and how it goes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub left: Vec<String>,
    pub seconds: Millis,
}

impl BakeReport {
    pub fn is_good(&self) -> bool {
        self.failure.is_none() && self.interrupted.is_none() && self.left.is_empty()
    }
}

/// One image, and who uses it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Listed {
    #[serde(flatten)]
    pub baked: Baked,
    pub used_by: Vec<String>,
}

/// The answer of `ami list`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ImagesReport {
    pub cluster: ClusterName,
    pub provider: String,
    pub images: Vec<Listed>,
}

/// The answer of `ami provision`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ProvisionReport {
    pub cluster: ClusterName,
    #[serde(flatten)]
    pub outcome: HostOutcome,
    /// What belongs to one machine was cleared.
    pub sealed: bool,
}
