//! What each version of a program understands, as data: the version that brought or took it, and where
//! that is said. Templates ask for a capability, never for a version.

use semver::Version;

use crate::model::version::{Program, Versions};

/// Something that only some versions of a program understand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Capability {
    /// `storage.tsdb.retention` in the configuration file instead of a flag.
    RetentionInConfig,
    /// `--scrape.discovery-reload-interval`: how soon a target that discovery found is scraped (else 5 s).
    DiscoveryReloadFlag,
    /// `$` in the values of `external_labels` is expanded and must be doubled.
    ExternalLabelsExpand,
}

struct Row {
    capability: Capability,
    program: Program,
    since: Version,
    /// Where it is said.
    #[allow(dead_code)] // read by the tests, and by people
    source: &'static str,
}

const TABLE: [Row; 3] = [
    Row {
        capability: Capability::RetentionInConfig,
        program: Program::Prometheus,
        since: Version::new(3, 11, 0),
        source: "Prometheus CHANGELOG: in the file from 3.8, safe from 3.11.0",
    },
    Row {
        capability: Capability::DiscoveryReloadFlag,
        program: Program::Prometheus,
        since: Version::new(3, 0, 0),
        source: "Prometheus cmd/prometheus/main.go: a hidden flag",
    },
    Row {
        capability: Capability::ExternalLabelsExpand,
        program: Program::Prometheus,
        since: Version::new(3, 0, 0),
        source: "Prometheus 3.0 migration guide: expand-external-labels is always on",
    },
];

impl Capability {
    pub fn is_in(self, versions: &Versions) -> bool {
        TABLE.iter().any(|row| {
            let version = match row.program {
                Program::Consul => &versions.consul,
                Program::Prometheus => &versions.prometheus,
                Program::NodeExporter => &versions.node_exporter,
                _ => return false,
            };
            row.capability == self && *version >= row.since
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_capability_begins_with_its_version() {
        let mut versions = Versions::current();
        for row in &TABLE {
            versions.prometheus = row.since.clone();
            assert!(row.capability.is_in(&versions), "{:?}", row.capability);
            versions.prometheus = Version::new(row.since.major - 1, 99, 0);
            assert!(!row.capability.is_in(&versions), "{:?}", row.capability);
            assert!(!row.source.is_empty());
        }
    }
}
