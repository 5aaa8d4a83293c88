//! `clusterctl render`: what it writes, where, and what the real programs say of it.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use clusterctl::core::specfile;
use serde_json::Value as Json;

use crate::support::{Answer, answer, binary};

mod checks;

/// In a folder of the test's own, with the machine's own cache of programs.
fn render(dir: &Path, args: &[&str]) -> Answer {
    let mut command = binary();
    command.current_dir(dir).arg("render").args(args);
    answer(command)
}

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

/// A line for each thing to place: its role, mode, owner and path.
fn placed(document: &Json) -> String {
    let mut lines = Vec::new();
    for kind in ["dirs", "programs", "files"] {
        for one in document[kind].as_array().unwrap() {
            let text = |key: &str| one[key].as_str().unwrap().to_owned();
            let whose = format!("{}:{}", text("owner"), text("group"));
            lines.push(format!("{:<6} {} {whose:<27} {}", text("role"), text("mode"), text("path")));
        }
    }
    lines.join("\n")
}

#[test]
fn everything_is_placed_for_both_presets_and_inits() {
    for preset in ["classic", "current"] {
        for init in ["systemd", "upstart", "upstart-0.6.5"] {
            let args = ["--preset", preset, "--init", init, "--output", "json"];
            let document = render(folder().path(), &args).expect(0).json();
            insta::assert_snapshot!(format!("placed_{preset}_{init}"), placed(&document));
        }
    }
}

#[test]
fn the_presets_choose_their_times_init() {
    let init = |preset| {
        let document = render(folder().path(), &["--preset", preset, "--output", "json"]).expect(0).json();
        document["init"].as_str().unwrap().to_owned()
    };
    assert_eq!((init("classic").as_str(), init("current").as_str()), ("Upstart 0.6.5", "systemd"));
}

#[test]
fn the_document_is_enough_to_place_everything() {
    let document = render(folder().path(), &["--role", "server", "--output", "json"]).expect(0).json();
    let units: Vec<&str> =
        document["units"].as_array().unwrap().iter().map(|it| it["unit"].as_str().unwrap()).collect();
    assert_eq!(units, ["consul", "node_exporter", "prometheus"]);
    let owners: Vec<&str> = ["files", "dirs", "programs"]
        .iter()
        .flat_map(|kind| document[kind].as_array().unwrap())
        .flat_map(|it| [it["owner"].as_str().unwrap(), it["group"].as_str().unwrap()])
        .filter(|owner| *owner != "root")
        .collect();
    let users = document["users"].as_array().unwrap();
    assert!(!owners.is_empty());
    for owner in owners {
        assert!(users.iter().any(|user| user["name"] == owner), "nobody makes the user {owner}");
    }
    let consul = &document["programs"][0];
    let archive = "https://releases.hashicorp.com/consul/1.22.7/consul_1.22.7_linux_amd64.zip";
    assert_eq!((consul["program"].as_str(), consul["archives"]["amd64"].as_str()), (Some("consul"), Some(archive)));
    assert!(document["files"].as_array().unwrap().iter().all(|file| file["role"] == "server"));
}

#[test]
fn two_runs_give_the_same_bytes() {
    let dir = folder();
    let labels: String = (0..40).map(|n| format!("l{n} = \"v\", ")).collect();
    let services: String = (0..10)
        .map(|n| format!("[[service]]\nname = \"s{n}\"\nport = 80\ntags = [\"z\", \"a\", \"m{n}\"]\nmetrics = {{}}\n"))
        .collect();
    let text = format!(
        "[cluster]\nname = \"shop\"\nprovider = \"sandbox\"\n[prometheus]\nexternal_labels = {{ {} }}\n{services}",
        labels.trim_end_matches(", ")
    );
    fs::write(dir.path().join("cluster.toml"), text).unwrap();
    for args in [&[][..], &["--output", "json"], &["--preset", "classic", "--init", "upstart"]] {
        let first = render(dir.path(), args).expect(0).stdout;
        assert!(first.contains("service-s9.json"));
        for _ in 0..4 {
            assert!(render(dir.path(), args).expect(0).stdout == first, "{args:?}: two runs differ");
        }
    }
}

#[test]
fn a_folder_is_laid_out_as_the_hosts_are() {
    let dir = folder();
    let first = render(dir.path(), &["--out", "image"]).expect(0);
    let listed: Vec<&str> = first.stdout.lines().collect();
    assert!(listed.is_sorted() && listed.contains(&"server/etc/prometheus/prometheus.yml"), "{first}");
    let image = dir.path().join("image");
    let mode = |path: &str| fs::metadata(image.join(path)).unwrap().permissions().mode() & 0o7777;
    assert_eq!(mode("server/etc/consul.d/consul.json"), 0o640);
    assert_eq!(mode("node/etc/systemd/system/consul.service"), 0o644);
    assert_eq!(mode("node/var/lib/consul"), 0o750);
    let changed = |path: &str| fs::metadata(image.join(path)).unwrap().modified().unwrap();

    // A second run finds all of it as it should be.
    let before = changed("server/etc/prometheus/prometheus.yml");
    fs::write(image.join("server/etc/mine"), "mine").unwrap();
    let again = render(dir.path(), &["--out", "image"]).expect(0);
    assert_eq!(again.stdout, first.stdout);
    assert!(again.stderr.contains("0 new or changed, 0 removed"), "{again}");
    assert_eq!(changed("server/etc/prometheus/prometheus.yml"), before);

    // What is no longer written goes; what others put there stays.
    let node = render(dir.path(), &["--out", "image", "--role", "node"]).expect(0);
    assert!(node.stdout.lines().all(|path| path.starts_with("node/")), "{node}");
    assert!(!image.join("server/etc/consul.d").exists());
    assert_eq!(fs::read_to_string(image.join("server/etc/mine")).unwrap(), "mine");
}

#[test]
fn a_folder_of_others_is_refused() {
    let dir = folder();
    fs::create_dir(dir.path().join("theirs")).unwrap();
    fs::write(dir.path().join("theirs/file"), "theirs").unwrap();
    let refused = render(dir.path(), &["--out", "theirs"]).expect(1);
    assert!(refused.stderr.contains("did not write what is in it"), "{refused}");
    assert_eq!(fs::read_dir(dir.path().join("theirs")).unwrap().count(), 1);
}

#[test]
fn what_does_not_go_together_is_a_usage_error() {
    let dir = folder();
    let text = "[cluster]\nname = \"shop\"\nprovider = \"sandbox\"\n[alertmanager]\n";
    fs::write(dir.path().join("cluster.toml"), text).unwrap();
    let refused = render(dir.path(), &["--use", "prometheus=1.0.0"]).expect(64);
    assert!(refused.stdout.is_empty(), "{refused}");
    for part in ["cannot be told of an Alertmanager", "take Prometheus 2.11.0 or newer"] {
        assert!(refused.stderr.contains(part), "{refused}");
    }
    for wrong in [["--use", "consul=0.5.1"], ["--use", "consul"], ["--init", "openrc"], ["--join", "shop.example"]] {
        render(dir.path(), &wrong).expect(64);
    }
}

#[test]
fn the_spec_counts_and_the_command_line_has_the_last_word() {
    let dir = folder();
    let text = "[cluster]\nname = \"shop\"\nprovider = \"sandbox\"\n[versions]\nconsul = \"1.8.7\"\n\
                [[service]]\nname = \"web\"\nport = 80\n";
    fs::write(dir.path().join("cluster.toml"), text).unwrap();
    let args = ["--preset", "classic", "--use", "node_exporter=1.5.0", "--join", "10.0.0.1", "--output", "json"];
    let document = render(dir.path(), &args).expect(0).json();
    let versions = &document["versions"];
    assert_eq!(
        [&versions["consul"], &versions["prometheus"], &versions["node_exporter"]],
        ["1.8.7", "0.14.0", "1.5.0"],
        "{versions}"
    );
    let text = |role: &str, path: &str| {
        let files = document["files"].as_array().unwrap();
        let found = files.iter().find(|file| file["role"] == role && file["path"] == path);
        found.unwrap_or_else(|| panic!("no {path}"))["text"].as_str().unwrap().to_owned()
    };
    assert!(text("node", "/etc/consul.d/consul.json").contains("\"retry_join\": [\"10.0.0.1\"]"));
    assert!(text("node", "/etc/consul.d/service-web.json").contains("\"web\""));
    // Who names a cluster does not mean the one of the spec that lies here.
    let other = render(dir.path(), &["--cluster", "other", "--output", "json"]).expect(0).json();
    assert_eq!((other["cluster"].as_str(), other["versions"]["consul"].as_str()), (Some("other"), Some("1.22.7")));
}

#[test]
fn a_spec_of_ones_own_hosts_knows_the_servers() {
    let dir = folder();
    let text = "[cluster]\nname = \"shop\"\nprovider = \"inventory\"\n[[host]]\nname = \"a\"\nrole = \"server\"\n\
                address = \"10.0.0.1\"\n";
    specfile::parse(text, "cluster.toml").unwrap();
    fs::write(dir.path().join("cluster.toml"), text).unwrap();
    let answer = render(dir.path(), &["--role", "node"]).expect(0);
    assert!(answer.stdout.contains("\"retry_join\": [\"10.0.0.1\"]"), "{answer}");
    fs::write(dir.path().join("cluster.toml"), text.replace("10.0.0.1", "shop.example")).unwrap();
    let answer = render(dir.path(), &["--role", "node"]).expect(64);
    assert!(answer.stderr.contains("`--join ADDRESS`"), "{answer}");
}
