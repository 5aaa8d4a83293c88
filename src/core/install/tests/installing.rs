//! The scripts themselves, run by real shells in a folder that stands for a host's root.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use super::path;
use crate::core::install::{InstallerLine, NOT_UNPACKED};
use crate::model::artifact::{Compression, Sha256};
use crate::model::file::{HostPath, ManagedFile};
use crate::model::plan::{Action, FileChange};

use super::machine::*;

const HOSTILE: &str = "it's \"quoted\" $HOME `id` \\ {{ x }} %n\n\ttab \u{e4}\u{1f600}\n\n no newline at the end";

#[test]
fn what_is_installed_is_what_was_sent_and_facts_say_so() {
    for shell in SHELLS {
        let machine = Machine::new(shell);
        let (program, text) = (machine.program("/usr/local/bin/judge", JUDGE), file("/etc/app/a", HOSTILE));
        let asked = query(&["/usr/local/bin/judge", "/etc/app/a", "/etc/app/none"], &["/etc/app", "/etc/none"]);
        let before = machine.facts(&asked, false);
        assert!(before.files.is_empty() && before.dirs.is_empty() && before.manifest.is_empty(), "{shell}: {before:?}");
        assert!(before.disk_free > 0 && before.clock > 1_700_000_000 && before.missing_tools.is_empty(), "{before:?}");
        assert_eq!(before.compression, Compression::Zstd, "this machine has zstd (scripts/install-needs tests)");

        machine.install_well(vec![
            dir("/etc/app"),
            put(program.clone(), FileChange::Create),
            put(text.clone(), FileChange::Create),
        ]);
        assert_eq!(machine.read("/etc/app/a"), HOSTILE);
        assert_eq!(fs::metadata(machine.at("/usr/local/bin/judge")).unwrap().permissions().mode() & 0o7777, 0o755);
        for rehash in [false, true] {
            let facts = machine.facts(&asked, rehash);
            assert_eq!(facts.files[&path("/usr/local/bin/judge")].sha256, program.sha256(), "{shell}");
            let a = &facts.files[&path("/etc/app/a")];
            assert_eq!((a.mode, a.owner.as_str(), a.group.as_str()), (0o640, "root", "daemon"), "{shell}");
            assert_eq!(a.sha256, text.sha256());
            assert_eq!(facts.dirs[&path("/etc/app")].mode, 0o750);
            assert_eq!(facts.manifest, BTreeSet::from([program.path.clone(), text.path.clone()]));
            assert_eq!(facts.files.len(), 2, "{facts:?}");
        }
    }
}

/// The record vouches for a program's sum until anything about the file changes; `rehash` trusts nothing.
#[test]
fn a_recorded_sum_holds_until_the_file_changes() {
    let machine = Machine::new("dash");
    let at = "/usr/local/bin/judge";
    machine.install_well(vec![put(machine.program(at, JUDGE), FileChange::Create)]);
    let record = machine.at("/var/lib/clusterctl/programs");
    let text = fs::read_to_string(&record).unwrap();
    let sum = Sha256::of(JUDGE.as_bytes());
    assert!(text.starts_with(sum.as_str()) && text.lines().count() == 1, "{text}");
    // A record that lies shows that it is what was read.
    let lie = Sha256::of(b"a lie");
    fs::write(&record, text.replace(sum.as_str(), lie.as_str())).unwrap();
    let asked = query(&[at], &[]);
    assert_eq!(machine.facts(&asked, false).files[&path(at)].sha256, lie);
    assert_eq!(machine.facts(&asked, true).files[&path(at)].sha256, sum);
    fs::write(machine.at(at), JUDGE.replace("good", "evil")).unwrap();
    assert_eq!(
        machine.facts(&asked, false).files[&path(at)].sha256,
        Sha256::of(JUDGE.replace("good", "evil").as_bytes())
    );
    // Another program joins the record; the first one's line goes when it is written anew.
    let (a, b) = (machine.program(at, "#!/bin/sh\n"), machine.program("/usr/local/bin/other", "#!/bin/sh\n:\n"));
    machine.install_well(vec![put(a, FileChange::Content), put(b, FileChange::Create)]);
    assert_eq!(fs::read_to_string(&record).unwrap().lines().count(), 2);
}

#[test]
fn a_check_judges_what_will_stand_there_and_a_refusal_changes_nothing() {
    for shell in SHELLS {
        let machine = Machine::new(shell);
        machine.install_well(vec![
            dir("/etc/app"),
            put(machine.program("/usr/local/bin/judge", JUDGE), FileChange::Create),
            put(file("/etc/app/a", "good\n"), FileChange::Create),
            put(file("/etc/app/gone", "old\n"), FileChange::Create),
            check(),
        ]);
        fs::write(machine.at("/etc/app/theirs"), "of the user\n").unwrap();

        let remove = || Action::RemoveFile { path: path("/etc/app/gone") };
        let (output, lines) = machine.install(vec![
            put(file("/etc/app/a", "bad\n"), FileChange::Content),
            put(machine.program("/usr/local/bin/new", "#!/bin/sh\n"), FileChange::Create),
            remove(),
            check(),
        ]);
        assert_eq!(output.status.code(), Some(1), "{shell}: {output:?}");
        let failed = lines.iter().find_map(|line| match line {
            InstallerLine::Failed { step, message } => Some((step.as_str(), message.contains("refuses"))),
            _ => None,
        });
        assert_eq!(failed, Some(("judge it", true)), "{shell}: {lines:?}");
        let said = |text: &str| lines.contains(&InstallerLine::Log(text.to_owned()));
        // It saw the new text and the user's own file, and no longer the one that goes.
        assert!(said("bad") && said("of the user") && said("theirs") && !said("gone"), "{shell}: {lines:?}");
        assert_eq!(
            (machine.read("/etc/app/a"), machine.read("/etc/app/gone")),
            ("good\n".to_owned(), "old\n".to_owned())
        );
        machine.assert_tidy();

        let (output, lines) =
            machine.install(vec![put(file("/etc/app/a", "good too\n"), FileChange::Content), remove(), check()]);
        assert!(output.status.success(), "{shell}: {output:?}");
        assert!(lines.contains(&InstallerLine::Warning("judge it: odd: take care".to_owned())), "{lines:?}");
        assert_eq!(machine.read("/etc/app/a"), "good too\n");
        assert!(!machine.at("/etc/app/gone").exists());
        assert_eq!(machine.read("/etc/app/theirs"), "of the user\n");
    }
}

/// What runs on a host goes on running as it did where a check refuses the rest.
#[test]
fn a_folder_that_is_there_changes_only_when_the_checks_have_passed() {
    for shell in SHELLS {
        let machine = Machine::new(shell);
        fs::create_dir_all(machine.at("/etc/app")).unwrap();
        let mode = || fs::metadata(machine.at("/etc/app")).unwrap().mode() & 0o7777;
        fs::set_permissions(machine.at("/etc/app"), fs::Permissions::from_mode(0o1770)).unwrap();
        let steps = |text| {
            vec![
                dir("/etc/app"),
                dir("/etc/app/new"),
                put(machine.program("/usr/local/bin/judge", JUDGE), FileChange::Create),
                put(file("/etc/app/a", text), FileChange::Create),
                check(),
            ]
        };
        let (output, _) = machine.install(steps("bad\n"));
        assert_eq!((output.status.code(), mode()), (Some(1), 0o1770), "{shell}: {output:?}");
        machine.install_well(steps("good\n"));
        assert_eq!(mode(), 0o750, "{shell}");
    }
}

/// A new build of a program judges the files that it will read.
#[test]
fn a_check_runs_the_new_program() {
    let machine = Machine::new("dash");
    let strict = "#!/bin/sh\necho 'the new one'; exit 4\n";
    machine.install_well(vec![put(machine.program("/usr/local/bin/judge", JUDGE), FileChange::Create)]);
    let (output, lines) =
        machine.install(vec![put(machine.program("/usr/local/bin/judge", strict), FileChange::Content), check()]);
    assert_eq!(output.status.code(), Some(1));
    assert!(lines.contains(&InstallerLine::Log("the new one".to_owned())), "{lines:?}");
    assert_eq!(machine.read("/usr/local/bin/judge"), JUDGE);
    machine.assert_tidy();
}

#[test]
fn a_stream_that_breaks_off_installs_nothing() {
    for shell in SHELLS {
        let machine = Machine::new(shell);
        machine.install_well(vec![dir("/etc/app"), put(file("/etc/app/a", "old\n"), FileChange::Create)]);
        let steps = vec![
            put(file("/etc/app/a", "new\n"), FileChange::Content),
            put(machine.program("/usr/local/bin/x", JUDGE), FileChange::Create),
        ];
        let (line, stream) = machine.bundle(&plan(steps));
        // Everywhere in the small part before the script, and here and there in the script itself.
        let cuts = (0..stream.len() - 1024).step_by(512).chain((0..stream.len() - 1100).step_by(701));
        for cut in cuts {
            let output = machine.run(&line, stream[..cut].to_vec());
            let done = String::from_utf8_lossy(&output.stdout).contains("clusterctl done");
            assert!(!output.status.success() && !done, "{shell}, cut at {cut}: {output:?}");
            assert_eq!(machine.read("/etc/app/a"), "old\n");
            assert!(!machine.at("/usr/local/bin/x").exists());
        }
        // What the cut runs left goes with the next whole one.
        assert!(machine.run(&line, stream).status.success());
        assert_eq!(machine.read("/etc/app/a"), "new\n");
        machine.assert_tidy();
    }
}

/// kill -9 in the middle: the next run removes what the killed one left, and converges.
#[test]
fn killed_in_the_middle_then_again() {
    for shell in SHELLS {
        let machine = Machine::new(shell);
        let waits = "#!/bin/sh\n: >\"${0%/*}/waiting\"\nwhile [ ! -e \"${0%/*}/go\" ]; do sleep 0.01; done\n";
        let steps = || {
            vec![
                dir("/etc/app"),
                put(machine.program("/usr/local/bin/judge", waits), FileChange::Create),
                put(file("/etc/app/a", "good\n"), FileChange::Create),
                check(),
            ]
        };
        let (line, stream) = machine.bundle(&plan(steps()));
        let mut child = machine.spawn(&line, stream);
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
        while !machine.at("/usr/local/bin/waiting").exists() {
            assert!(std::time::Instant::now() < deadline, "{shell}: the check never began");
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(!machine.at("/etc/app/a").exists() && machine.at("/etc/app/a.clusterctl-new").exists(), "{shell}");
        // The check that the killed run began holds its lock until it ends.
        fs::write(machine.at("/usr/local/bin/go"), "").unwrap();
        machine.install_well(steps());
        assert_eq!(machine.read("/etc/app/a"), "good\n");
    }
}

#[test]
fn two_at_once_take_turns() {
    let machine = Machine::new("dash");
    let slow = "#!/bin/sh\nsleep 0.3\n";
    let steps = |text: &str| {
        vec![
            dir("/etc/app"),
            put(machine.program("/usr/local/bin/judge", slow), FileChange::Create),
            put(file("/etc/app/a", text), FileChange::Create),
            check(),
        ]
    };
    let (first_line, first) = machine.bundle(&plan(steps("first\n")));
    let (second_line, second) = machine.bundle(&plan(steps("second\n")));
    let children = [machine.spawn(&first_line, first), machine.spawn(&second_line, second)];
    for child in children {
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{output:?}");
    }
    assert!(["first\n", "second\n"].contains(&machine.read("/etc/app/a").as_str()));
    machine.assert_tidy();
}

#[test]
fn a_folder_in_the_way_is_named_and_left() {
    let machine = Machine::new("dash");
    fs::create_dir_all(machine.at("/etc/app/a/mine")).unwrap();
    let (output, lines) = machine.install(vec![put(file("/etc/app/a", "x"), FileChange::Create)]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        matches!(&lines[..], [.., InstallerLine::Failed { step, message }] if step == "write /etc/app/a" && message.contains("a folder")),
        "{lines:?}"
    );
    assert!(machine.at("/etc/app/a/mine").is_dir());
}

#[test]
fn attributes_alone_change_no_bytes() {
    let machine = Machine::new("dash");
    machine.install_well(vec![dir("/etc/app"), put(file("/etc/app/a", "x"), FileChange::Create)]);
    let inode = fs::metadata(machine.at("/etc/app/a")).unwrap().ino();
    let other = ManagedFile { mode: 0o600, group: "root".to_owned(), ..file("/etc/app/a", "x") };
    machine.install_well(vec![put(other, FileChange::Attributes)]);
    let now = fs::metadata(machine.at("/etc/app/a")).unwrap();
    assert_eq!((now.permissions().mode() & 0o777, now.gid(), now.ino()), (0o600, 0, inode));
}

/// What the bytes on the way must never become.
#[test]
fn bytes_that_were_changed_on_the_way_are_refused() {
    let machine = Machine::new("dash");
    let (line, stream) = machine.bundle(&plan(vec![put(file("/etc/app/a", "precious"), FileChange::Create)]));
    let at = stream.windows(8).position(|window| window == b"precious").unwrap();
    let mut changed = stream;
    changed[at] = b'P';
    let output = machine.run(&line, changed);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stdout).contains("not those that were sent"), "{output:?}");
    assert!(!machine.at("/etc/app/a").exists());
    machine.assert_tidy();

    for (shell, magic) in [("dash", [0x28, 0xb5]), ("busybox", [0x1f, 0x8b])] {
        let machine = Machine::new(shell);
        let (one, two) =
            (machine.program("/usr/local/bin/one", JUDGE), machine.program("/usr/local/bin/two", "#!/bin/sh\n"));
        let steps = vec![put(one, FileChange::Create), put(two, FileChange::Create)];
        let (line, mut stream) = machine.bundle(&plan(steps));
        let at = stream.windows(2).position(|window| window == magic).unwrap() + 20;
        stream[at] ^= 0x40;
        let output = machine.run(&line, stream);
        assert_eq!(output.status.code(), Some(1), "{shell}");
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(said.contains(&format!("failed write /usr/local/bin/one\t{NOT_UNPACKED}")), "{shell}: {said}");
        assert!(!machine.at("/usr/local/bin/one").exists() && !machine.at("/usr/local/bin/two").exists(), "{shell}");
        machine.assert_tidy();
    }
}

#[test]
fn old_texts_are_fetched() {
    let machine = Machine::new("busybox");
    let at = machine.at("/etc");
    fs::create_dir_all(&at).unwrap();
    fs::write(at.join("a"), HOSTILE).unwrap();
    fs::write(at.join("large"), "x".repeat(300 << 10)).unwrap();
    let asked: Vec<HostPath> =
        ["a", "large", "none"].iter().map(|name| path(at.join(name).to_str().unwrap())).collect();
    let (line, stdin) = super::texts_command(&asked);
    let output = machine.run(&line, stdin);
    let texts = super::parse_texts(&output.stdout, &asked);
    assert_eq!(texts, BTreeMap::from([(asked[0].clone(), HOSTILE.to_owned())]));
}
