//! A fleet end to end: an Auto Scaling group of real hosts in the lab. Their image has no Consul in it, so that nobody
//! joins: what the provider does is tested here, and how it is told that they do not join.

use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value as Json, json};

use crate::ec2::{hangs, kill, start};
use crate::lab::{Lab, fields};

const GROUP: &str = "clusterctl-herd";

/// The lab's plain Debian.
fn debian(lab: &Lab) -> String {
    let filters = [("Filter.1.Name", "name"), ("Filter.1.Value.1", "debian-12-amd64-*")];
    fields(&lab.aws("ec2", "DescribeImages", &filters), "imageId").remove(0)
}

fn what(plan: &Json) -> Vec<&str> {
    plan["resources"].as_array().into_iter().flatten().map(|step| step["what"].as_str().unwrap()).collect()
}

/// Waits until so many of the cluster's instances run.
fn running(lab: &Lab, count: usize) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while lab.instances("herd", "running").len() != count {
        assert!(Instant::now() < deadline, "running: {:?}, not {count}", lab.instances("herd", "running"));
        std::thread::sleep(Duration::from_millis(300));
    }
}

fn versions(lab: &Lab) -> Vec<String> {
    let all = lab.aws("ec2", "DescribeLaunchTemplateVersions", &[("LaunchTemplateName", GROUP)]);
    fields(&all, "versionNumber")
}

#[test]
fn a_fleets_life_on_ec2() {
    let lab = Lab::start("it-fleet");
    let image = debian(&lab);
    let spec = |more: &str| {
        let fleet = format!("[fleet]\nimage = \"{image}\"\nsize = 2\nmax = 5\nmin_healthy = 50\n{more}");
        lab.spec("herd", "servers = 1\nnodes = 0", &fleet)
    };
    let first = spec("");
    let plan = lab.run(&first, &["plan", "--output", "json"]).expect(2).json();
    for step in ["make the launch template clusterctl-herd", "make the Auto Scaling group clusterctl-herd of 2"] {
        assert!(what(&plan).contains(&step), "{plan}");
    }
    assert_eq!(lab.holds("herd"), Vec::<String>::new(), "a plan makes nothing");

    lab.run(&first, &["up", "--fleet-wait", "0s"]).expect(0);
    running(&lab, 3);
    assert_eq!(what(&lab.run(&first, &["plan", "--output", "json"]).expect(0).json()), Vec::<&str>::new());
    lab.run(&first, &["up"]).expect(0);
    let hosts = lab.ask("GET", "hosts", &Json::Null).to_string();
    assert!(hosts.contains("clusterctl:template") && hosts.contains("\"fleet\""), "{hosts}");

    another_type_is_a_new_version(&lab, &spec("instance_types = [\"t3.large\"]"));
    sizes(&lab, &first);

    let down = lab.run(&first, &["down"]).expect(0);
    assert!(down.stdout.contains("Auto Scaling group clusterctl-herd"), "{down}");
    assert!(down.stdout.contains("launch template clusterctl-herd"), "{down}");
    assert_eq!(lab.holds("herd"), Vec::<String>::new());
    lab.run(&first, &["down"]).expect(0);
}

/// Named by the plan, made by `up` once, however often that is killed; what runs stays and is outdated.
fn another_type_is_a_new_version(lab: &Lab, spec: &Path) {
    let plan = lab.run(spec, &["plan", "--output", "json"]).expect(2).json();
    assert_eq!(what(&plan), ["make a new version of the launch template clusterctl-herd"], "{plan}");
    let reason = plan["resources"][0]["reason"].as_str().unwrap();
    assert!(reason.contains("instance type (t3.small → t3.large)"), "{reason}");

    lab.faults(&json!([{"kind": "hang-after", "action": "CreateLaunchTemplateVersion", "times": 1}]));
    let mut child = start(lab, spec, &["up"]);
    assert!(hangs(lab, &mut child), "the version is made, and its answer is not heard");
    kill(child);
    lab.faults(&json!([]));
    lab.ask("POST", "release", &json!({}));
    let plan = lab.run(spec, &["plan", "--output", "json"]).expect(2).json();
    assert_eq!(what(&plan), ["launch the fleet from version 2 of the launch template clusterctl-herd"], "{plan}");
    lab.run(spec, &["up"]).expect(0);
    assert_eq!(versions(lab), ["1", "2"]);
    lab.run(spec, &["plan"]).expect(0);

    let status = lab.run(spec, &["fleet", "status", "--output", "json"]).expect(3).json();
    assert_eq!((&status["wanted"], &status["in_service"], &status["outdated"]), (&json!(2), &json!(2), &json!(2)));
    assert_eq!(status["well"], 0, "nobody joined: {status}");
    assert_eq!(status["make"]["version"], 2);
    assert_eq!(status["members"][0]["problem"], "Consul does not know it", "{status}");

    // One more is of the new make.
    lab.run(spec, &["fleet", "scale", "3", "--wait", "0s"]).expect(0);
    running(lab, 4);
    let status = lab.run(spec, &["fleet", "status", "--output", "json"]).expect(3).json();
    assert_eq!((&status["outdated"], &status["types"]), (&json!(2), &json!({"t3.large": 1, "t3.small": 2})));

    // A roll that nobody comes back from ends one batch, and names it.
    let rolled = lab.run(spec, &["fleet", "roll", "--wait", "4s"]).expect(3);
    assert!(rolled.stderr.contains("was not well again after 4 s"), "{rolled}");
    assert!(rolled.stderr.contains("Consul does not know it"), "{rolled}");
    running(lab, 4);
    let status = lab.run(spec, &["fleet", "status", "--output", "json"]).expect(3).json();
    assert_eq!(status["outdated"], 1, "{status}");
}

fn sizes(lab: &Lab, spec: &Path) {
    let refused = lab.run(spec, &["fleet", "scale", "9"]).expect(64);
    assert!(refused.stderr.contains("from 0 to 5 instances, and not 9"), "{refused}");
    let late = lab.run(spec, &["fleet", "scale", "1", "--wait", "4s"]).expect(3);
    assert!(late.stderr.contains("Consul does not know it"), "{late}");
    running(lab, 2);
    lab.run(spec, &["up", "--fleet", "0"]).expect(0);
    running(lab, 1);
    lab.run(spec, &["fleet", "status"]).expect(0);
    lab.run(spec, &["fleet", "scale", "2", "--wait", "0s"]).expect(0);
    running(lab, 3);
}
