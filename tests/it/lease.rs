//! Two machines that change one cluster on EC2: real processes, with state folders of their own, against the lab.

use std::process::Stdio;

use serde_json::{Value as Json, json};

use crate::lab::{Lab, with_spec};
use crate::support::answer;

const NAME: &str = "/clusterctl/lease/lease";

fn parameters(lab: &Lab) -> Vec<String> {
    let mut aws = std::process::Command::new(crate::lab::programs().join("aws"));
    aws.envs(lab.environment().iter().map(|(key, value)| (key, value))).args([
        "ssm",
        "describe-parameters",
        "--output",
        "json",
    ]);
    let all = answer(aws).expect(0).json();
    let all = all["Parameters"].as_array().unwrap();
    all.iter().map(|parameter| parameter["Name"].as_str().unwrap().to_owned()).filter(|name| name == NAME).collect()
}

#[test]
fn one_of_two_machines_changes_a_cluster() {
    let lab = Lab::start("it-lease");
    let spec = lab.spec("lease", "servers = 1\nnodes = 0", "");
    // No host boots: who may change the cluster is what this is about.
    lab.faults(&json!([{"kind": "no-boot"}, {"kind": "hang-before", "action": "RunInstances", "times": 1}]));
    let up = ["up", "--boot-timeout", "1s"];
    let mut first = lab.command(&with_spec(&spec, &up)).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    assert!(!lab.ask("GET", "hung?wait=60", &Json::Null).as_array().unwrap().is_empty());
    assert_eq!(parameters(&lab), [NAME]);

    let there = |args: &[&str]| {
        let mut command = lab.command(&with_spec(&spec, args));
        command.env("CLUSTERCTL_STATE_DIR", lab.path("elsewhere"));
        answer(command)
    };
    let refused = there(&up).expect(1);
    for said in ["lease is being changed by `clusterctl up` of ", "since", "--lock-timeout", "lock release"] {
        assert!(refused.stderr.contains(said), "no {said}: {refused}");
    }
    let late = there(&["up", "--lock-timeout", "1s"]).expect(1);
    assert!(late.stderr.contains("--lock-timeout 1s is over"), "{late}");
    assert!(there(&["lock"]).expect(0).stdout.contains("`clusterctl up` of "));
    // Reading is nobody's business.
    there(&["plan"]).expect(2);

    // Killed without a word: who is elsewhere cannot know, who is here does.
    first.kill().unwrap();
    first.wait().unwrap();
    lab.ask("POST", "release", &json!({}));
    there(&up).expect(1);
    there(&["lock", "release"]).expect(0);
    assert_eq!(parameters(&lab), Vec::<String>::new());
    assert!(there(&["lock"]).expect(0).stderr.contains("nobody holds the lease"));

    // Whoever ends, however that is, gives it back.
    there(&up).expect(3);
    assert_eq!(parameters(&lab), Vec::<String>::new());
    lab.run(&spec, &["down"]).expect(0);
    assert_eq!(parameters(&lab), Vec::<String>::new());
}
