//! Which programs a cluster runs, and in which versions.

use std::fmt;

use semver::Version;
use serde::{Deserialize, Serialize};

/// A released program that `clusterctl` can fetch, keep and install.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Program {
    Consul,
    ConsulTemplate,
    Prometheus,
    #[serde(rename = "node_exporter")]
    NodeExporter,
    Alertmanager,
    Pushgateway,
}

impl Program {
    pub const ALL: [Self; 6] = [
        Self::Consul,
        Self::ConsulTemplate,
        Self::Prometheus,
        Self::NodeExporter,
        Self::Alertmanager,
        Self::Pushgateway,
    ];

    /// The name its makers use, in URLs and file names too.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Consul => "consul",
            Self::ConsulTemplate => "consul-template",
            Self::Prometheus => "prometheus",
            Self::NodeExporter => "node_exporter",
            Self::Alertmanager => "alertmanager",
            Self::Pushgateway => "pushgateway",
        }
    }

    /// The executables that its release holds and that we install.
    pub const fn executables(self) -> &'static [&'static str] {
        match self {
            Self::Consul => &["consul"],
            Self::ConsulTemplate => &["consul-template"],
            Self::Prometheus => &["prometheus", "promtool"],
            Self::NodeExporter => &["node_exporter"],
            Self::Alertmanager => &["alertmanager", "amtool"],
            Self::Pushgateway => &["pushgateway"],
        }
    }
}

impl fmt::Display for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl std::str::FromStr for Program {
    type Err = String;
    fn from_str(s: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|p| p.as_str() == s).ok_or_else(|| {
            let known: Vec<_> = Self::ALL.iter().map(|p| p.as_str()).collect();
            format!("no program is named \"{}\"; known: {}", s.escape_debug(), known.join(", "))
        })
    }
}

/// The version of each program that a cluster runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Versions {
    pub consul: Version,
    pub prometheus: Version,
    pub node_exporter: Version,
}

impl Versions {
    /// Today's stack: the newest Consul 1.x and the Prometheus line with long-term support.
    pub fn current() -> Self {
        Self {
            consul: Version::new(1, 22, 7),
            prometheus: Version::new(3, 13, 3),
            node_exporter: Version::new(1, 12, 1),
        }
    }

    /// Every program with its version, in the order in which they are installed.
    pub fn all(&self) -> [(Program, &Version); 3] {
        [
            (Program::Consul, &self.consul),
            (Program::Prometheus, &self.prometheus),
            (Program::NodeExporter, &self.node_exporter),
        ]
    }
}

impl Default for Versions {
    fn default() -> Self {
        Self::current()
    }
}
