//! Images that hosts boot from with all programs and files in them: such a host joins its cluster by itself, and nobody
//! logs in to it.

use std::collections::BTreeMap;
use std::fmt;

use jiff::Timestamp;
use semver::Version;
use serde::{Deserialize, Serialize};

use super::artifact::Sha256;
use super::host::Role;
use super::name::ClusterName;
use super::version::Program;

/// What a provider calls an image: an AMI's id, or the name and role of one of the sandbox's (`web/node`).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ImageId(pub String);

impl fmt::Display for ImageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// What an image is: written down with it in the call that makes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Label {
    /// For people, and unique where the image is.
    pub name: String,
    /// The cluster that its hosts join where nothing else is said when they boot.
    pub cluster: ClusterName,
    pub role: Role,
    /// How many servers elect the first leader; a server's image holds it.
    pub servers: u16,
    pub programs: BTreeMap<Program, Version>,
    /// Each program's release archive.
    pub sums: BTreeMap<Program, Sha256>,
    /// Which spec it was made from: a commit, or `sha256:…` of the file.
    pub spec: String,
    pub created: Timestamp,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BakedState {
    Pending,
    Available,
    Failed,
}

/// An image that is there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Baked {
    pub id: ImageId,
    #[serde(flatten)]
    pub label: Label,
    pub state: BakedState,
    /// When a host that was booted from it had joined and Prometheus had scraped it. Without that it is not used.
    pub proved: Option<Timestamp>,
}

impl Baked {
    pub const fn is_trusted(&self) -> bool {
        self.proved.is_some() && matches!(self.state, BakedState::Available)
    }
}
