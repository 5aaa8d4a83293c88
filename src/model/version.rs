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

    /// The executables that a release of it holds and that we install.
    pub fn executables(self, version: &Version) -> &'static [&'static str] {
        match self {
            Self::Consul => &["consul"],
            Self::ConsulTemplate => &["consul-template"],
            // promtool came with 0.15 (Prometheus CHANGELOG).
            Self::Prometheus if (version.major, version.minor) < (0, 15) => &["prometheus"],
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

/// The version of each program that a cluster may run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Versions {
    pub consul: Version,
    pub consul_template: Version,
    pub prometheus: Version,
    pub node_exporter: Version,
    pub alertmanager: Version,
}

impl Versions {
    pub fn get(&self, program: Program) -> Option<&Version> {
        Some(match program {
            Program::Consul => &self.consul,
            Program::ConsulTemplate => &self.consul_template,
            Program::Prometheus => &self.prometheus,
            Program::NodeExporter => &self.node_exporter,
            Program::Alertmanager => &self.alertmanager,
            Program::Pushgateway => return None,
        })
    }

    /// Another version of a program that a cluster runs; of others nothing is kept.
    pub fn set(&mut self, program: Program, version: Version) {
        let at = match program {
            Program::Consul => &mut self.consul,
            Program::ConsulTemplate => &mut self.consul_template,
            Program::Prometheus => &mut self.prometheus,
            Program::NodeExporter => &mut self.node_exporter,
            Program::Alertmanager => &mut self.alertmanager,
            Program::Pushgateway => return,
        };
        *at = version;
    }
}

/// A set of versions that belong together; a spec may begin with one and name others beside it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Preset {
    /// The stack of 2015: Consul 0.5.2, Consul Template 0.10.0, Prometheus 0.14.0, node_exporter 0.9.0.
    Classic,
    /// Today's: the newest Consul 1.x and the Prometheus line with long-term support.
    #[default]
    Current,
}

impl Preset {
    pub const ALL: [Self; 2] = [Self::Classic, Self::Current];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Classic => "classic",
            Self::Current => "current",
        }
    }

    pub const fn versions(self) -> Versions {
        match self {
            Self::Classic => Versions {
                consul: Version::new(0, 5, 2),
                consul_template: Version::new(0, 10, 0),
                prometheus: Version::new(0, 14, 0),
                node_exporter: Version::new(0, 9, 0),
                // Nothing older is supported, and no Prometheus of that time knows how to speak with it.
                alertmanager: Version::new(0, 16, 0),
            },
            Self::Current => Versions {
                consul: Version::new(1, 22, 7),
                consul_template: Version::new(0, 42, 1),
                prometheus: Version::new(3, 13, 3),
                node_exporter: Version::new(1, 12, 1),
                alertmanager: Version::new(0, 34, 0),
            },
        }
    }
}

impl fmt::Display for Preset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl std::str::FromStr for Preset {
    type Err = String;
    fn from_str(s: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|preset| preset.as_str() == s);
        found.ok_or_else(|| {
            format!("no preset is named \"{}\"; there are \"classic\" and \"current\"", s.escape_debug())
        })
    }
}
