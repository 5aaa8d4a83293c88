mod installing;
mod links;
mod machine;
mod sleeping;
mod upstart;

use std::collections::BTreeSet;

use super::*;
use crate::model::artifact::Compression;
use crate::model::event::{Doing, UnitVerb};
use crate::model::facts::FactsQuery;
use crate::model::file::{FileSource, HostPath, ManagedFile, UnitName};
use crate::model::init::Init;

fn path(text: &str) -> HostPath {
    HostPath::new(text).unwrap()
}

fn answer(body: &str) -> Vec<u8> {
    format!("Welcome!\n\nclusterctl-facts 1\n{body}end\n").into_bytes()
}

const HOST: &str = "hostname ip-10-0-0-5\nsystem Linux\nmachine x86_64\nuid 0\nclock 1700000000\nos debian\n\
                    os-version 12\ninit systemd\ndisk 2048\ndisk 1024\n";

#[test]
fn facts_are_read_whatever_a_login_shell_says_before() {
    let body = format!(
        "{HOST}address 10.0.0.5\naddress 127.0.0.1\naddress 10.0.0.5\naddress fe80::1\naddress 10.9.0.1\nuser consul\n\
         dir 755 root root /etc/consul.d\nfile 640 root consul /etc/consul.d/consul.json\n\
         sum {} /etc/consul.d/consul.json\nmanifest /etc/consul.d/consul.json\npending consul restart\n\
         unit Id=consul.service\nunit ActiveState=active\nunit UnitFileState=enabled\nunit NeedDaemonReload=yes\n\
         unit MainPID=77\nunit ExecMainStartTimestampMonotonic=123\nunit \nunit Id=prometheus.service\n\
         unit ActiveState=inactive\nunit UnitFileState=\nunit MainPID=0\nunit ExecMainStartTimestampMonotonic=\n",
        "a".repeat(64)
    );
    let facts = parse_facts(&answer(&body)).unwrap();
    insta::assert_debug_snapshot!(facts);
    assert_eq!((facts.init, facts.disk_free), (Init::Systemd, 1024 * 1024));
}

#[test]
fn an_answer_that_breaks_off_is_no_facts() {
    let whole = answer(HOST);
    for length in 0..whole.len() - 1 {
        let facts = parse_facts(&whole[..length]);
        assert!(facts.is_err(), "{length}: {facts:?}");
    }
    assert!(parse_facts(&whole).is_ok());
}

#[test]
fn lies_are_refused() {
    for lie in [
        "dir 755 root root ../../etc\n",
        "dir 9 root root /etc\n",
        "file 644 root root /a b\n",
        "sum zz /etc/x\n",
        "manifest /etc/$(reboot)\n",
        "pending consul explode\n",
        "pending Consul restart\n",
        "unit Id=consul.timer\n",
        "unit Job=Consul\n",
        "unit MainPID=-1\n",
        "disk -5\n",
        "address nowhere\n",
        "surprise\n",
    ] {
        let error = parse_facts(&answer(&format!("{HOST}{lie}"))).unwrap_err();
        assert!(matches!(error, FactsError::BadLine { .. }), "{lie}: {error}");
    }
    let unread = format!("{HOST}file 644 root root /etc/x\n");
    insta::assert_snapshot!(parse_facts(&answer(&unread)).unwrap_err(), @"the host's answer lacks the SHA-256 sum of /etc/x");
}

#[test]
fn what_is_asked_for_is_quoted() {
    let query = FactsQuery {
        files: BTreeSet::from([path("/etc/a"), path("/etc/b")]),
        users: BTreeSet::from(["x'; reboot".to_owned(), "consul".to_owned()]),
        units: BTreeSet::from([UnitName::new("consul").unwrap()]),
        ..FactsQuery::default()
    };
    let (line, stdin) = facts_command(&query, true);
    assert_eq!(line, "sh -s");
    let script = String::from_utf8(stdin).unwrap();
    let head: Vec<&str> = script.lines().take(8).collect();
    assert_eq!(head[..5], ["files='/etc/a /etc/b'", "dirs=''", "units=consul", "users=consul", "rehash=1"]);
    assert_eq!(head[5..], ["may_sleep=0", "sleeping=''", "root=''"]);
}

#[test]
fn the_installers_lines_are_events_and_other_lines_are_not() {
    let unit = UnitName::new("consul").unwrap();
    let began = InstallerLine::Began(Doing::Unit { unit, verb: UnitVerb::Restart });
    assert_eq!(parse_line("clusterctl began unit restart consul"), Some(began));
    let check = Doing::Check { title: "consul validate".to_owned() };
    assert_eq!(
        parse_line("clusterctl ended check consul validate"),
        Some(InstallerLine::Ended { doing: check, changed: false })
    );
    assert_eq!(
        parse_line("clusterctl failed start consul\tit ended"),
        Some(InstallerLine::Failed { step: "start consul".to_owned(), message: "it ended".to_owned() })
    );
    assert_eq!(parse_line("clusterctl done 12"), Some(InstallerLine::Done { changes: 12 }));
    for other in
        ["began write /x", "clusterctl began write x y", "clusterctl done all", "clusterctl", "clusterctl failed x"]
    {
        assert_eq!(parse_line(other), None, "{other}");
    }
    let Some(InstallerLine::Log(text)) = parse_line(&format!("clusterctl log {}", "x".repeat(10_000))) else {
        panic!()
    };
    assert!(text.len() < 2000);
}

#[test]
fn texts_come_back_whole_or_not_at_all() {
    let asked = [path("/etc/a"), path("/etc/b"), path("/etc/c")];
    let answer =
        b"motd\n\nclusterctl-texts 1\n4 /etc/a\nx\ny\n\n2 /etc/evil\nzz\n3 /etc/b\n\xff\xff\xff\n99 /etc/c\nshort\n";
    let texts = parse_texts(answer, &asked);
    assert_eq!(texts.into_iter().collect::<Vec<_>>(), [(path("/etc/a"), "x\ny\n".to_owned())]);
}

proptest::proptest! {
    #[test]
    fn no_answer_is_too_strange(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..2000)) {
        let text = String::from_utf8_lossy(&bytes);
        let _ = parse_facts(&answer(&text));
        let _ = parse_line(&format!("clusterctl {text}"));
        let mut texts = b"\nclusterctl-texts 1\n".to_vec();
        texts.extend(&bytes);
        let _ = parse_texts(&texts, &[path("/etc/a")]);
    }

    /// A real shell reads back what was quoted.
    #[test]
    fn a_shell_reads_a_quoted_word_as_it_was(word in "\\PC{0,40}|[\u{1}-\u{7f}]{0,40}") {
        let line = format!("printf '%s.' {}", quote(&word));
        let output = std::process::Command::new("dash").args(["-c", &line]).output().unwrap();
        proptest::prop_assert_eq!(String::from_utf8_lossy(&output.stdout), format!("{word}."));
    }
}

/// Whoever goes must not write once more what is put in place, nor read it.
#[test]
fn who_is_not_wanted_any_more_is_stopped_before_anything_is_replaced() {
    use crate::model::host::Role;
    use crate::model::name::HostName;
    use crate::model::plan::{Action, FileChange, HostPlan, Reason, Step};
    use crate::model::stream::Part;

    let file = |at: &str| ManagedFile {
        path: path(at),
        mode: 0o640,
        owner: "root".to_owned(),
        group: "root".to_owned(),
        source: FileSource::Text("text".to_owned()),
        reactions: Vec::new(),
        secret: false,
        seed: false,
    };
    let actions = [
        Action::PutFile {
            path: path("/etc/a"),
            file: Box::new(file("/etc/a")),
            change: FileChange::Content,
            diff: None,
        },
        Action::Stop { unit: UnitName::new("old").unwrap() },
        Action::RemoveFile { path: path("/etc/b") },
    ];
    let plan = HostPlan {
        host: HostName::new("a").unwrap(),
        role: Role::Node,
        launch: None,
        steps: actions.into_iter().map(|action| Step { action, reason: Reason("a test".to_owned()) }).collect(),
        blocked: None,
        skipped: Vec::new(),
    };
    let bundle = bundle(&plan, &Init::Systemd, Compression::Gzip, &BTreeSet::new(), "test");
    let Part::Bytes(stream) = bundle.parts.last().unwrap() else { panic!("the installer comes last") };
    let stream = String::from_utf8_lossy(stream);
    let run = stream.split("run() {").nth(1).unwrap();
    let calls: Vec<&str> = run.lines().filter_map(|line| line.split_whitespace().next()).collect();
    let at = |call: &str| calls.iter().position(|called| *called == call).unwrap_or_else(|| panic!("no {call}: {run}"));
    assert!(at("stage_text") < at("stop") && at("stop") < at("activate") && at("activate") < at("remove"), "{run}");
}
