//! What `render` answers with: the files of any host of a role, and what their programs said of them.

use serde::Serialize;

use super::file::Wanted;
use super::host::Role;
use super::init::Init;
use super::name::ClusterName;
use super::version::Versions;

/// All that is wanted on any host of a role, whatever it will be called and wherever it will be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    pub role: Role,
    pub wanted: Wanted,
}

/// How a check of rendered files ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "result", rename_all = "kebab-case")]
pub enum Verdict {
    Passed {
        /// What the program complained of, though it accepts the files.
        #[serde(skip_serializing_if = "Vec::is_empty")]
        complaints: Vec<String>,
        /// What is to be known about who judged: that it was another version.
        #[serde(skip_serializing_if = "Option::is_none")]
        by: Option<String>,
    },
    Failed {
        /// The program's own words.
        lines: Vec<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        by: Option<String>,
    },
    /// Nothing was judged.
    NotRun { reason: String },
}

impl Verdict {
    pub const fn passed() -> Self {
        Self::Passed { complaints: Vec::new(), by: None }
    }

    pub const fn is_failure(&self) -> bool {
        matches!(self, Self::Failed { .. })
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Checked {
    pub role: Role,
    /// Such as `consul validate`.
    pub title: String,
    #[serde(flatten)]
    pub verdict: Verdict,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RenderReport {
    pub cluster: ClusterName,
    pub init: Init,
    pub versions: Versions,
    pub images: Vec<Image>,
    /// In the order in which they ran; empty where none was asked for.
    pub checks: Vec<Checked>,
    /// Where the files were written; paths in it, sorted.
    pub written: Option<Vec<String>>,
}

/// What `render --format terraform` answers with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TerraformReport {
    pub cluster: ClusterName,
    /// The module's one file.
    pub text: String,
    /// Where it was written; paths in the folder, sorted.
    pub written: Option<Vec<String>>,
}
