//! Where things stand on a host, and whose they are.

use crate::model::artifact::Executable;
use crate::model::file::{FileSource, HostPath, ManagedDir, ManagedFile, Reaction, SystemUser, UnitName};

pub(super) fn path(text: &str) -> HostPath {
    HostPath::new(text).expect("our own paths are valid, and names in them are validated")
}

pub(super) fn unit(name: &str) -> UnitName {
    UnitName::new(name).expect("our own unit names are valid")
}

pub(super) fn unit_path(name: &str) -> HostPath {
    path(&format!("/etc/systemd/system/{name}.service"))
}

pub(super) fn job_path(name: &str) -> HostPath {
    path(&format!("/etc/init/{name}.conf"))
}

pub(super) fn program_path(name: &str) -> HostPath {
    path(&format!("/usr/local/bin/{name}"))
}

/// Our own scripts, which no one calls by hand.
pub(super) fn script_path(name: &str) -> HostPath {
    path(&format!("/usr/local/lib/clusterctl/{name}"))
}

pub(super) fn user(name: &str, home: &str) -> SystemUser {
    SystemUser { name: name.to_owned(), home: path(home) }
}

pub(super) fn dir(at: &str, mode: u32, owner: &str, group: &str) -> ManagedDir {
    ManagedDir { path: path(at), mode, owner: owner.to_owned(), group: group.to_owned() }
}

/// A text on which no unit depends.
pub(super) fn plain_file(at: HostPath, mode: u32, owner: &str, group: &str, text: String) -> ManagedFile {
    ManagedFile {
        path: at,
        mode,
        owner: owner.to_owned(),
        group: group.to_owned(),
        source: FileSource::Text(text),
        reactions: Vec::new(),
        secret: false,
        seed: false,
    }
}

/// A configuration file: root writes it, the program's own group reads it.
pub(super) fn config(at: &str, text: String, group: &str, unit: &UnitName, reaction: Reaction) -> ManagedFile {
    ManagedFile { reactions: vec![(unit.clone(), reaction)], ..plain_file(path(at), 0o640, "root", group, text) }
}

pub(super) fn executable(executable: &Executable, reactions: Vec<(UnitName, Reaction)>) -> ManagedFile {
    ManagedFile {
        source: FileSource::Executable(executable.clone()),
        reactions,
        ..plain_file(program_path(&executable.name), 0o755, "root", "root", String::new())
    }
}
