//! What each version of a program understands, as data: the version that brought or took it, and where that is
//! said. Templates ask for a capability (`can.…`), never for a version.

mod conflicts;
mod document;
mod table;

use std::collections::BTreeMap;

use semver::Version;

pub use conflicts::{About, Conflict, conflicts};
pub use document::document;
pub use table::Capability;

pub use super::upstart::OLDEST as OLDEST_UPSTART;

use crate::model::init::Init;
use crate::model::version::{Program, Versions};

/// Whose versions a capability depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    Program(Program),
    Upstart,
}

/// A capability and the versions that have it.
#[derive(Debug, Clone, Copy)]
pub struct Row {
    pub capability: Capability,
    pub of: Part,
    /// The first version that has it; `None`: all from the beginning.
    pub since: Option<[u16; 3]>,
    /// The first version that has it no more.
    pub until: Option<[u16; 3]>,
    /// What is written where it is there, for people.
    pub what: &'static str,
    /// Where it is said.
    pub source: &'static str,
}

impl Row {
    /// The capability's name in templates.
    #[cfg(test)]
    pub(crate) fn name(&self) -> String {
        name(self.capability)
    }

    fn has(&self, version: &Version) -> bool {
        let at = |bound: [u16; 3]| Version::new(bound[0].into(), bound[1].into(), bound[2].into());
        // A release candidate speaks the dialect of its release.
        let version = Version::new(version.major, version.minor, version.patch);
        self.since.is_none_or(|since| version >= at(since)) && self.until.is_none_or(|until| version < at(until))
    }
}

/// The oldest version of each program that files are written for.
pub const fn oldest(program: Program) -> Version {
    match program {
        Program::Consul => Version::new(0, 5, 2),
        Program::ConsulTemplate => Version::new(0, 10, 0),
        Program::Prometheus => Version::new(0, 14, 0),
        Program::NodeExporter => Version::new(0, 9, 0),
        Program::Alertmanager => Version::new(0, 16, 0),
        Program::Pushgateway => Version::new(1, 0, 0),
    }
}

/// All that decides how something is said on one host.
#[derive(Debug, Clone, Copy)]
pub struct Dialect<'a> {
    pub versions: &'a Versions,
    pub init: &'a Init,
}

impl Dialect<'_> {
    pub fn has(&self, capability: Capability) -> bool {
        self.holds(table::TABLE.iter().find(|row| row.capability == capability).expect("every capability has its row"))
    }

    fn holds(&self, row: &Row) -> bool {
        let has = match (row.of, self.init) {
            (Part::Program(program), _) => self.versions.get(program).is_some_and(|version| row.has(version)),
            (Part::Upstart, Init::Upstart(version)) => row.has(version),
            (Part::Upstart, _) => false,
        };
        #[cfg(test)]
        let has = has != (flip::FLIPPED.get() == Some(row.capability));
        has
    }

    /// Every capability by its name, for templates.
    pub fn can(&self) -> BTreeMap<Capability, bool> {
        table::TABLE.iter().map(|row| (row.capability, self.holds(row))).collect()
    }
}

/// Does this version have the capability, whatever else there is?
pub fn has(capability: Capability, versions: &Versions) -> bool {
    Dialect { versions, init: &Init::Systemd }.has(capability)
}

/// Do both versions of a program understand the same?
pub fn same(program: Program, one: &Version, other: &Version) -> bool {
    let of_it = table::TABLE.iter().filter(|row| row.of == Part::Program(program));
    of_it.into_iter().all(|row| row.has(one) == row.has(other))
}

/// For tests that want to see what one capability alone changes: several may come with one version.
#[cfg(test)]
pub(crate) mod flip {
    use std::cell::Cell;

    use super::{Capability, Row, table};

    thread_local! {
        pub(super) static FLIPPED: Cell<Option<Capability>> = const { Cell::new(None) };
    }

    /// The whole table.
    pub(crate) const fn rows() -> &'static [Row] {
        &table::TABLE
    }

    /// What `run` returns where this thread takes the capability for there when it is not, and the other way round.
    pub(crate) fn flipped<T>(capability: Capability, run: impl FnOnce() -> T) -> T {
        FLIPPED.set(Some(capability));
        let result = run();
        FLIPPED.set(None);
        result
    }
}

/// A capability's name in templates.
fn name(capability: Capability) -> String {
    serde_json::to_value(capability).ok().and_then(|name| name.as_str().map(str::to_owned)).unwrap_or_default()
}

#[cfg(test)]
mod tests;
