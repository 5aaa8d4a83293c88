use std::path::Path;

use semver::Version;

use super::table::TABLE;
use super::*;
use crate::model::version::Preset;

fn at(bound: [u16; 3]) -> Version {
    Version::new(bound[0].into(), bound[1].into(), bound[2].into())
}

/// The version just before, as far as anybody releases: what a bound keeps out.
fn before(bound: [u16; 3]) -> Version {
    match bound {
        [major, minor, 0] if minor > 0 => Version::new(major.into(), u64::from(minor) - 1, 99),
        [major, _, 0] => Version::new(u64::from(major) - 1, 99, 0),
        [major, minor, patch] => Version::new(major.into(), minor.into(), u64::from(patch) - 1),
    }
}

fn having(row: &Row, version: Version) -> bool {
    let mut versions = Preset::Current.versions();
    let init = match row.of {
        Part::Upstart => Init::Upstart(version),
        Part::Program(program) => {
            match program {
                Program::Consul => versions.consul = version,
                Program::ConsulTemplate => versions.consul_template = version,
                Program::Prometheus => versions.prometheus = version,
                Program::NodeExporter => versions.node_exporter = version,
                _ => versions.alertmanager = version,
            }
            Init::Systemd
        }
    };
    Dialect { versions: &versions, init: &init }.has(row.capability)
}

#[test]
fn a_capability_begins_and_ends_with_its_versions() {
    for row in &TABLE {
        if let Some(since) = row.since {
            assert!(having(row, at(since)), "{:?}", row.capability);
            assert!(!having(row, before(since)), "{:?}", row.capability);
        }
        if let Some(until) = row.until {
            assert!(!having(row, at(until)), "{:?}", row.capability);
            assert!(having(row, before(until)), "{:?}", row.capability);
        }
        assert!(row.since.is_some() || row.until.is_some(), "{:?} tells nothing apart", row.capability);
        assert!(!row.source.is_empty() && !row.what.is_empty());
    }
}

#[test]
fn every_capability_has_one_row_in_which_versions_rise() {
    let mut seen = std::collections::BTreeSet::new();
    for pair in TABLE.windows(2) {
        if pair[0].of == pair[1].of {
            let first = |row: &Row| row.since.or(row.until);
            assert!(first(&pair[0]) <= first(&pair[1]), "{:?} stands too early", pair[1].capability);
        }
    }
    for row in &TABLE {
        assert!(seen.insert(row.capability), "{:?} stands twice", row.capability);
    }
}

#[test]
fn a_release_candidate_speaks_its_releases_dialect() {
    let mut versions = Preset::Current.versions();
    versions.prometheus = "2.0.0-rc.1".parse().unwrap();
    assert!(has(Capability::DoubleDashes, &versions));
}

#[test]
fn upstarts_capabilities_are_none_of_systemds() {
    let versions = Preset::Classic.versions();
    let upstart = Init::Upstart(Version::new(1, 13, 2));
    assert!(Dialect { versions: &versions, init: &upstart }.has(Capability::UpstartSetuid));
    assert!(!Dialect { versions: &versions, init: &Init::Systemd }.has(Capability::UpstartSetuid));
}

#[test]
fn the_document_is_what_the_data_say() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/versions.md");
    if std::env::var_os("CLUSTERCTL_BLESS").is_some() {
        std::fs::write(&path, document()).unwrap();
    }
    let written = std::fs::read_to_string(&path).unwrap();
    assert!(written == document(), "docs/versions.md is not what the data say: CLUSTERCTL_BLESS=1 writes it anew");
}
