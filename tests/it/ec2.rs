//! EC2 end to end: the binary against EC2's API in the lab, real hosts behind it. One scenario a test, each in a
//! lab of its own.

use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value as Json, json};

use crate::lab::{Lab, with_spec};
use crate::support::{Answer, redacted};

fn names(hosts: &Json) -> Vec<&str> {
    hosts.as_array().unwrap().iter().map(|host| host["host"].as_str().unwrap()).collect()
}

/// Names of the hosts whose node_exporter is `up`, as Prometheus says it.
fn scraped(targets: &Answer) -> Vec<String> {
    let targets = targets.json();
    let up = targets["targets"].as_array().unwrap().iter().filter(|t| t["job"] == "node" && t["health"] == "up");
    let mut names: Vec<String> = up.map(|t| t["instance"].as_str().unwrap().to_owned()).collect();
    names.sort();
    names
}

/// From an empty account to scraped; found again from elsewhere; mended; joined; away without a trace.
#[test]
fn a_clusters_life_on_ec2() {
    let lab = Lab::start("it-life");
    let spec = lab.spec("shop", "servers = 1\nnodes = 2", "");

    let plan = lab.run(&spec, &["plan", "--output", "json"]).expect(2).json();
    assert_eq!(names(&plan["hosts"]), ["shop-server-1", "shop-node-1", "shop-node-2"]);
    assert!(plan["resources"].as_array().unwrap().len() >= 6, "{plan}");
    assert_eq!(lab.holds("shop"), Vec::<String>::new(), "a plan makes nothing");
    lab.run(&spec, &["discover"]).expect(1);

    let up = lab.run(&spec, &["up", "--output", "json"]).expect(0).json();
    assert_eq!(up["verified"]["alive"], 3, "{up}");
    assert_eq!(up["verified"]["targets_up"], up["verified"]["targets"], "{up}");
    let all = ["shop-node-1", "shop-node-2", "shop-server-1"];
    assert_eq!(scraped(&lab.run(&spec, &["targets", "--output", "json"]).expect(0)), all);
    lab.run(&spec, &["plan"]).expect(0);
    lab.run(&spec, &["doctor"]).expect(0);
    let again = lab.run(&spec, &["up", "--output", "json"]).expect(0).json();
    for host in again["hosts"].as_array().unwrap() {
        assert_eq!(host["result"], "unchanged", "{host}");
    }

    the_leader_is_found_in_any_letter_case(&lab, &spec);
    from_another_laptop(&lab);

    // A host that was stopped and one that was ended by hand: named by the plan, mended by up.
    let status = lab.run(&spec, &["status", "--output", "json"]).expect(0).json();
    let id = |name: &str| -> String {
        let hosts = status["hosts"].as_array().unwrap();
        hosts.iter().find(|host| host["host"] == name).unwrap()["id"].as_str().unwrap().to_owned()
    };
    lab.aws("ec2", "StopInstances", &[("InstanceId.1", &id("shop-node-1"))]);
    lab.aws("ec2", "TerminateInstances", &[("InstanceId.1", &id("shop-node-2"))]);
    let plan = lab.run(&spec, &["plan", "--output", "json"]).expect(2).json();
    for name in ["shop-node-1", "shop-node-2"] {
        let host = plan["hosts"].as_array().unwrap().iter().find(|host| host["host"] == name).unwrap();
        assert!(host["launch"].is_string(), "{host}");
    }
    lab.run(&spec, &["up"]).expect(0);
    assert_eq!(scraped(&lab.run(&spec, &["targets", "--output", "json"])), all);
    assert_eq!(lab.instances("shop", "running").len(), 3);

    // A node joins: Prometheus scrapes it and was not touched.
    let joined = lab.run(&spec, &["join-node", "--output", "json"]).expect(0).json();
    assert_eq!(names(&joined["hosts"]), ["shop-node-3"]);
    assert_eq!(lab.instances("shop", "running").len(), 4);

    let down = lab.run(&spec, &["down"]).expect(0);
    insta::assert_snapshot!("down_of_a_cluster_on_ec2", redacted(&down));
    assert_eq!(lab.holds("shop"), Vec::<String>::new());
    lab.run(&spec, &["down"]).expect(0);
}

/// `True`, `true`, `TRUE`: EC2's own filters would tell them apart.
fn the_leader_is_found_in_any_letter_case(lab: &Lab, spec: &std::path::Path) {
    let leader = lab.run(spec, &["discover", "--output", "json"]).expect(0).json();
    let id = leader["leader"]["id"].as_str().unwrap().to_owned();
    let address = leader["leader"]["private_address"].as_str().unwrap().to_owned();
    for value in ["true", "TRUE", "yes", "1", "True"] {
        let tags = [("ResourceId.1", id.as_str()), ("Tag.1.Key", "consul-leader"), ("Tag.1.Value", value)];
        lab.aws("ec2", "CreateTags", &tags);
        assert_eq!(lab.run(spec, &["discover"]).expect(0).stdout, format!("{address}\n"), "{value}");
    }
    // The key in another case too: then there are two keys, and the wrong one alone is still found.
    let removed = [("ResourceId.1", id.as_str()), ("Tag.1.Key", "consul-leader")];
    lab.aws("ec2", "DeleteTags", &removed);
    let tags = [("ResourceId.1", id.as_str()), ("Tag.1.Key", "Consul-Leader"), ("Tag.1.Value", "TRUE")];
    lab.aws("ec2", "CreateTags", &tags);
    assert_eq!(lab.run(spec, &["discover"]).expect(0).stdout, format!("{address}\n"));
    lab.aws("ec2", "DeleteTags", &[("ResourceId.1", id.as_str()), ("Tag.1.Key", "Consul-Leader")]);
    lab.run(spec, &["discover"]).expect(1);
    // up puts back the tag that all rests on.
    lab.run(spec, &["plan"]).expect(2);
    lab.run(spec, &["up"]).expect(0);
    assert_eq!(lab.run(spec, &["discover"]).expect(0).stdout, format!("{address}\n"));
}

/// Nothing local is needed but the spec and the key: not even the spec to look.
fn from_another_laptop(lab: &Lab) {
    let mut status = lab.command(&["status", "--cluster", "shop", "--region", "us-east-1", "--output", "json"]);
    status.env("CLUSTERCTL_STATE_DIR", lab.path("laptop"));
    // The key lies where ssh looks for one.
    std::fs::create_dir_all(lab.path(".ssh")).unwrap();
    std::fs::copy(lab.path("key"), lab.path(".ssh/id_ed25519")).unwrap();
    let status = crate::support::answer(status).expect(0).json();
    assert_eq!(status["hosts"].as_array().unwrap().len(), 3, "{status}");
}

/// Killed with the n-th call executed and its answer unheard, for every n: run again, the account holds what one
/// whole run would have made, once.
#[test]
fn killed_at_every_call() {
    let lab = Lab::start("it-killed");
    let whole = ["kill", "key", "role"];
    let mut n = 1;
    loop {
        let cluster = format!("{}-{n}", whole[0]);
        let spec = lab.spec(&cluster, "servers = 1\nnodes = 1", "");
        lab.ask("DELETE", "calls", &Json::Null);
        // No host boots: the calls are what this is about, and each round takes seconds.
        lab.faults(&json!([{"kind": "no-boot"}, {"kind": "hang-after", "n": n}]));
        let mut child = start(&lab, &spec, &["up"]);
        let hung = hangs_or_waits(&lab, &mut child);
        kill(child);
        lab.ask("POST", "release", &json!({}));
        lab.faults(&json!([{"kind": "no-boot"}]));
        lab.ask("DELETE", "calls", &Json::Null);
        let mut child = start(&lab, &spec, &["up"]);
        assert!(!hangs_or_waits(&lab, &mut child), "nothing is held any more");
        kill(child);
        let held = lab.holds(&cluster);
        let instances = held.iter().filter(|name| name.starts_with("i-")).count();
        assert_eq!(instances, 2, "killed at call {n}: {held:?}");
        let others: Vec<&String> = held.iter().filter(|name| !name.starts_with("i-")).collect();
        let name = format!("clusterctl-{cluster}");
        let expected = [
            name.clone(),
            name.clone(),
            format!("{name}-server"),
            format!("{name}-us-east-1"),
            format!("{name}-us-east-1"),
        ];
        assert_eq!(others, expected.iter().collect::<Vec<_>>(), "killed at call {n}");
        lab.faults(&json!([]));
        lab.run(&spec, &["down"]).expect(0);
        assert_eq!(lab.holds(&cluster), Vec::<String>::new(), "killed at call {n}");
        if !hung {
            break;
        }
        n += 1;
    }
    assert!(n > 12, "an `up` makes more than {n} calls");
}

/// The same for `down`: killed at every call and run again, nothing is left.
#[test]
fn down_killed_at_every_call() {
    let lab = Lab::start("it-downkill");
    let mut n = 1;
    loop {
        let cluster = format!("gone-{n}");
        let spec = lab.spec(&cluster, "servers = 1\nnodes = 1", "");
        lab.ask("DELETE", "calls", &Json::Null);
        lab.faults(&json!([{"kind": "no-boot"}]));
        let mut child = start(&lab, &spec, &["up"]);
        hangs_or_waits(&lab, &mut child);
        kill(child);
        lab.ask("DELETE", "calls", &Json::Null);
        lab.faults(&json!([{"kind": "hang-after", "n": n}]));
        let mut child = start(&lab, &spec, &["down"]);
        let hung = hangs_or_waits(&lab, &mut child);
        kill(child);
        lab.ask("POST", "release", &json!({}));
        lab.faults(&json!([]));
        lab.run(&spec, &["down"]).expect(0);
        assert_eq!(lab.holds(&cluster), Vec::<String>::new(), "killed at call {n}");
        if !hung {
            break;
        }
        n += 1;
    }
    assert!(n > 8, "a `down` makes more than {n} calls");
}

fn start(lab: &Lab, spec: &std::path::Path, args: &[&str]) -> Child {
    let mut command = lab.command(&with_spec(spec, args));
    command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

/// By its id, and not a moment for it to clean up.
fn kill(mut child: Child) {
    let _ = child.kill();
    child.wait().unwrap();
}

/// Until a call is held (true), or the command has launched all and waits, or has ended (false).
fn hangs_or_waits(lab: &Lab, child: &mut Child) -> bool {
    let deadline = Instant::now() + Duration::from_secs(90);
    loop {
        if !lab.ask("GET", "hung?wait=0.2", &Json::Null).as_array().unwrap().is_empty() {
            return true;
        }
        if child.try_wait().unwrap().is_some() {
            return false;
        }
        let calls = lab.calls();
        let action = |call: &Json, action: &str| call["action"] == action;
        let launched = calls.iter().rposition(|call| action(call, "RunInstances"));
        let polls = launched.map_or(0, |at| calls[at..].iter().filter(|c| action(c, "DescribeInstances")).count());
        // A look after the last launch that was answered: it waits for hosts that never come.
        let settled = calls.iter().filter(|call| action(call, "DescribeInstances")).count() > 6;
        if polls >= 2 || (launched.is_none() && settled && calls.len() > 15) {
            return false;
        }
        assert!(Instant::now() < deadline, "it neither hangs nor waits: {calls:?}");
    }
}
