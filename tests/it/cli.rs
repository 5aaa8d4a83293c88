//! Each verb as a user meets it first: exit status, stdout and stderr together.

use std::process::Command;

use crate::support::{answer, binary, redacted};

/// The binary in an empty folder, with nothing of this machine's state.
fn clusterctl(dir: &std::path::Path, args: &[&str]) -> String {
    let mut command: Command = binary();
    command.current_dir(dir).args(args);
    for (variable, folder) in
        [("CLUSTERCTL_STATE_DIR", "state"), ("CLUSTERCTL_CACHE_DIR", "cache"), ("CLUSTERCTL_SANDBOX_DIR", "sandbox")]
    {
        command.env(variable, dir.join(folder));
    }
    redacted(&answer(command)).replace(dir.to_str().unwrap(), "[DIR]")
}

fn in_empty(args: &[&str]) -> String {
    clusterctl(tempfile::tempdir().unwrap().path(), args)
}

#[test]
fn help() {
    insta::assert_snapshot!(in_empty(&["--help"]));
}

#[test]
fn no_cluster() {
    insta::assert_snapshot!(in_empty(&["status"]));
}

#[test]
fn an_unknown_verb() {
    insta::assert_snapshot!(in_empty(&["stauts"]));
}

#[test]
fn no_time_at_all() {
    insta::assert_snapshot!(in_empty(&["status", "--connect-timeout", "0s"]));
    assert!(in_empty(&["exec", "--host-timeout", "0ms", "--", "true"]).starts_with("exit 64"));
}

#[test]
fn a_name_that_no_host_may_have() {
    insta::assert_snapshot!(in_empty(&["up", "--sandbox", "--cluster", "My_Cluster"]));
}

#[test]
fn init_writes_what_up_reads() {
    let dir = tempfile::tempdir().unwrap();
    insta::assert_snapshot!(clusterctl(dir.path(), &["init", "--cluster", "shop"]));
    insta::assert_snapshot!("init_again", clusterctl(dir.path(), &["init"]));
    let json = clusterctl(dir.path(), &["init", "other.toml", "--output", "json"]);
    assert!(json.contains("\"document\": \"written\"") && json.contains("\"other.toml\""), "{json}");
    let text = std::fs::read_to_string(dir.path().join("cluster.toml")).unwrap();
    let spec = clusterctl::core::specfile::parse(&text, "cluster.toml").unwrap();
    assert_eq!(spec.cluster.as_str(), "shop");
}

#[test]
fn a_spec_with_mistakes() {
    let dir = tempfile::tempdir().unwrap();
    let text = "[cluster]\nname = \"shop\"\nprovider = \"sandbox\"\n\n[sandbox]\nnode = 3\n\n[prometheus]\nscrape_interval = 5\n";
    std::fs::write(dir.path().join("cluster.toml"), text).unwrap();
    insta::assert_snapshot!(clusterctl(dir.path(), &["plan"]));
}

#[test]
fn a_spec_that_is_not_there() {
    insta::assert_snapshot!(in_empty(&["up", "-f", "nowhere.toml"]));
}

#[test]
fn a_spec_that_cannot_be_read() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("cluster.toml"), b"[cluster]\nname = \"\xe4\"\n").unwrap();
    insta::assert_snapshot!("a_spec_that_is_no_text", clusterctl(dir.path(), &["plan"]));
    insta::assert_snapshot!("a_spec_that_is_a_folder", clusterctl(dir.path(), &["plan", "-f", "."]));
    let text = "[cluster]\nname = \"shop\"\nprovider = \"sandbox\"\ntemplates = \"nope\"\n";
    std::fs::write(dir.path().join("cluster.toml"), text).unwrap();
    insta::assert_snapshot!("templates_that_are_not_there", clusterctl(dir.path(), &["plan"]));
}

#[test]
fn hosts_of_ones_own_are_not_changed_unasked() {
    let dir = tempfile::tempdir().unwrap();
    let text = "[cluster]\nname = \"shop\"\nprovider = \"inventory\"\n[[host]]\nname = \"a\"\nrole = \"server\"\naddress = \"127.0.0.1\"\n";
    std::fs::write(dir.path().join("cluster.toml"), text).unwrap();
    insta::assert_snapshot!("inventory_join", clusterctl(dir.path(), &["join-node"]));
    insta::assert_snapshot!("inventory_down", clusterctl(dir.path(), &["down"]));
    assert!(!dir.path().join("state/shop").exists(), "a refused `down` left a folder");
}

#[test]
fn hosts_of_ones_own_have_no_images() {
    let dir = tempfile::tempdir().unwrap();
    let text = "[cluster]\nname = \"shop\"\nprovider = \"inventory\"\n[[host]]\nname = \"a\"\nrole = \"server\"\naddress = \"127.0.0.1\"\n";
    std::fs::write(dir.path().join("cluster.toml"), text).unwrap();
    let refused = clusterctl(dir.path(), &["ami", "build"]);
    assert!(refused.starts_with("exit 1") && refused.contains("ami provision --local"), "{refused}");
    for verb in ["list", "prune"] {
        assert!(clusterctl(dir.path(), &["ami", verb]).contains("hosts of your own have no images"), "{verb}");
    }
    let unsaid = clusterctl(dir.path(), &["ami", "provision", "--role", "node"]);
    assert!(unsaid.starts_with("exit 64") && unsaid.contains("--local"), "{unsaid}");
    assert!(!dir.path().join("state/shop").exists(), "a refused build left a folder");
}

#[test]
fn images_need_names_that_leave_room() {
    let dir = tempfile::tempdir().unwrap();
    let name = "a".repeat(35);
    let text = format!(
        "[cluster]\nname = \"{name}\"\nprovider = \"ec2\"\n[ec2]\nregion = \"eu-west-1\"\nssh_from = [\"192.0.2.1\"]\n"
    );
    std::fs::write(dir.path().join("cluster.toml"), text).unwrap();
    let refused = clusterctl(dir.path(), &["ami", "build"]);
    assert!(refused.contains("34 letters at most"), "{refused}");
}

#[test]
fn a_log_file_ends_with_the_error() {
    let dir = tempfile::tempdir().unwrap();
    clusterctl(dir.path(), &["plan", "-f", "nowhere.toml", "--log-file", "log"]);
    let log = std::fs::read_to_string(dir.path().join("log")).unwrap();
    assert!(log.contains(" - error: there is no spec nowhere.toml"), "{log}");
}

#[test]
fn a_log_file_has_the_answer_too() {
    let dir = tempfile::tempdir().unwrap();
    clusterctl(dir.path(), &["plan", "--sandbox", "--cluster", "shop", "--log-file", "log"]);
    let log = std::fs::read_to_string(dir.path().join("log")).unwrap();
    assert!(log.contains(" - shop-node-1 (node)") && log.contains("to launch"), "{log}");
}

#[test]
fn an_empty_cache() {
    insta::assert_snapshot!(in_empty(&["artifacts", "list"]));
    insta::assert_snapshot!("an_empty_cache_json", in_empty(&["artifacts", "list", "--output", "json"]));
}

#[test]
fn pruning_an_empty_cache() {
    insta::assert_snapshot!(in_empty(&["artifacts", "prune"]));
    insta::assert_snapshot!("pruning_an_empty_cache_json", in_empty(&["artifacts", "prune", "--output", "json"]));
}

#[test]
fn an_archive_of_no_known_name() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("consul.zip"), "x").unwrap();
    insta::assert_snapshot!(clusterctl(dir.path(), &["artifacts", "import", "consul.zip"]));
}

#[test]
fn completions_are_scripts() {
    for shell in ["bash", "zsh", "fish"] {
        let answer = in_empty(&["completions", shell]);
        assert!(answer.starts_with("exit 0") && answer.contains("join-node"), "{shell}: {answer}");
    }
}
