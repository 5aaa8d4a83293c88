//! Links that somebody put where files of ours belong, in folders where others may write, too.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use crate::model::file::ManagedFile;
use crate::model::plan::FileChange;

use super::machine::*;

/// A link that somebody left where a new file is about to be written leads nowhere.
#[test]
fn a_new_file_follows_no_link() {
    for shell in SHELLS {
        let machine = Machine::new(shell);
        fs::create_dir_all(machine.at("/etc/app")).unwrap();
        fs::write(machine.at("/etc/shadow"), "theirs\n").unwrap();
        std::os::unix::fs::symlink(machine.at("/etc/shadow"), machine.at("/etc/app/a.clusterctl-new")).unwrap();
        machine.install_well(vec![put(file("/etc/app/a", "ours\n"), FileChange::Create)]);
        assert_eq!(machine.read("/etc/shadow"), "theirs\n", "{shell}");
        assert_eq!(machine.read("/etc/app/a"), "ours\n", "{shell}");
    }
}

/// Where others may write, too, a link could have taken a file's place: its target is neither read as ours nor given away.
#[test]
fn a_link_in_the_place_of_a_file_is_none_of_ours() {
    for shell in SHELLS {
        let machine = Machine::new(shell);
        fs::create_dir_all(machine.at("/etc/app")).unwrap();
        fs::write(machine.at("/etc/shadow"), "theirs\n").unwrap();
        fs::set_permissions(machine.at("/etc/shadow"), fs::Permissions::from_mode(0o600)).unwrap();
        std::os::unix::fs::symlink(machine.at("/etc/shadow"), machine.at("/etc/app/a")).unwrap();
        let facts = machine.facts(&query(&["/etc/app/a"], &[]), false);
        assert!(facts.files.is_empty(), "{shell}: {facts:?}");

        let other = ManagedFile { mode: 0o644, ..file("/etc/app/a", "ours\n") };
        let (output, lines) = machine.install(vec![put(other.clone(), FileChange::Attributes)]);
        assert_eq!(output.status.code(), Some(1), "{shell}: {lines:?}");
        let mode = || fs::metadata(machine.at("/etc/shadow")).unwrap().mode() & 0o7777;
        assert_eq!((machine.read("/etc/shadow").as_str(), mode()), ("theirs\n", 0o600), "{shell}");

        machine.install_well(vec![put(other, FileChange::Create)]);
        assert_eq!((machine.read("/etc/shadow").as_str(), mode()), ("theirs\n", 0o600), "{shell}");
        assert_eq!(machine.read("/etc/app/a"), "ours\n", "{shell}");
    }
}
