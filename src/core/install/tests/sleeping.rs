//! Machines whose init system is there and does not run: a chroot, a container's image in the making.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use super::machine::{Machine, SHELLS, query};
use crate::core::install::InstallerLine;
use crate::model::facts::FactsQuery;
use crate::model::file::UnitName;
use crate::model::init::Init;
use crate::model::plan::Action;

fn unit() -> UnitName {
    UnitName::new("clusterctl-test-app").unwrap()
}

fn machine(shell: &'static str) -> Machine {
    let mut machine = Machine::new(shell);
    machine.asleep = true;
    machine
}

/// An executable of the machine.
fn program(machine: &Machine, path: &str) {
    let at = machine.at(path);
    fs::create_dir_all(at.parent().unwrap()).unwrap();
    fs::write(&at, "#!/bin/sh\n").unwrap();
    fs::set_permissions(&at, fs::Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn an_init_system_that_sleeps_is_found_where_that_is_allowed() {
    for shell in SHELLS {
        let machine = machine(shell);
        let may = FactsQuery { may_sleep: true, ..query(&[], &[]) };
        let facts = machine.facts(&may, false);
        assert_eq!((facts.init, facts.asleep), (Init::Other, false), "{shell}: nothing is installed");
        program(&machine, "/usr/lib/systemd/systemd");
        let facts = machine.facts(&may, false);
        assert_eq!((facts.init, facts.asleep), (Init::Systemd, true), "{shell}");
        let facts = machine.facts(&query(&[], &[]), false);
        assert_eq!((facts.init, facts.asleep), (Init::Other, false), "{shell}: a live host has to run it");

        let upstart = Init::Upstart(semver::Version::new(1, 4, 0));
        let said = FactsQuery { sleeping: Some(upstart.clone()), ..may.clone() };
        let facts = machine.facts(&said, false);
        assert_eq!((facts.init, facts.asleep), (upstart, true), "{shell}: somebody says so");

        fs::create_dir_all(machine.at("/run/systemd/system")).unwrap();
        let facts = machine.facts(&said, false);
        assert_eq!((facts.init, facts.asleep), (Init::Systemd, false), "{shell}: it runs");
    }
}

/// `systemctl` tells whether a unit is enabled without anything running.
#[test]
fn a_sleeping_unit_is_enabled_and_nothing_else_is_done() {
    for shell in SHELLS {
        let machine = machine(shell);
        program(&machine, "/usr/lib/systemd/systemd");
        let calls = machine.dir.path().join("calls");
        let fake = machine.dir.path().join("bin/systemctl");
        fs::write(&fake, format!("#!/bin/sh\necho \"$*\" >>{}\n", calls.display())).unwrap();
        fs::set_permissions(&fake, fs::Permissions::from_mode(0o755)).unwrap();
        let actions = vec![Action::Stop { unit: unit() }, Action::Enable { unit: unit() }];
        let (line, stream) = machine.bundle(&super::machine::plan(actions));
        // The installer looks where a host has its programs; the test has one of them elsewhere.
        let path = format!("PATH={}:/usr/local/sbin:", machine.dir.path().join("bin").display());
        let text = String::from_utf8_lossy(&stream).replace("PATH=/usr/local/sbin:", &path);
        let output = machine.run(&line, packed(&text));
        let lines: Vec<InstallerLine> =
            String::from_utf8_lossy(&output.stdout).lines().filter_map(super::super::parse_line).collect();
        assert_eq!(lines.last(), Some(&InstallerLine::Done { changes: 2 }), "{shell}: {output:?}");
        let called = fs::read_to_string(&calls).unwrap();
        assert_eq!(
            called.lines().collect::<Vec<_>>(),
            ["disable --quiet clusterctl-test-app.service", "enable --quiet --no-reload clusterctl-test-app.service"],
            "{shell}"
        );
    }
}

/// The stream's one entry, the script, packed again with its new size.
fn packed(text: &str) -> Vec<u8> {
    let script = text[512..].trim_end_matches('\0');
    let mut builder = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_ustar();
    header.set_size(script.len() as u64);
    header.set_mode(0o600);
    header.set_cksum();
    builder.append_data(&mut header, "install.sh", script.as_bytes()).unwrap();
    builder.into_inner().unwrap()
}
