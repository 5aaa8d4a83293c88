//! EC2 end to end: the binary against EC2's API in the lab, real hosts behind it. One scenario a test, each in a
//! lab of its own.

use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value as Json, json};

use crate::lab::{Lab, fields, with_spec};
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
    // Whomever somebody tagged leads, and up makes no second leader of it.
    let node = lab.run(spec, &["status", "--output", "json"]).expect(0).json()["hosts"][0].clone();
    let other = node["id"].as_str().unwrap();
    lab.aws("ec2", "CreateTags", &[("ResourceId.1", other), ("Tag.1.Key", "consul-leader"), ("Tag.1.Value", "yes")]);
    assert_eq!(lab.run(spec, &["discover"]).expect(0).stdout.trim_end(), node["address"].as_str().unwrap());
    // The tag that Consul finds the leader by follows.
    let named = [("Filter.1.Name", "tag:clusterctl:leader"), ("Filter.1.Value.1", "shop")];
    let named = || fields(&lab.aws("ec2", "DescribeInstances", &named), "instanceId");
    assert_eq!(named(), [id.as_str()]);
    let plan = lab.run(spec, &["plan", "--output", "json"]).expect(2).json();
    let mut steps: Vec<&str> =
        plan["resources"].as_array().unwrap().iter().map(|step| step["what"].as_str().unwrap()).collect();
    steps.sort_unstable();
    let moves = [format!("tag {other} clusterctl:leader=shop"), format!("take the tag clusterctl:leader from {id}")];
    assert_eq!(steps, moves);
    lab.run(spec, &["up"]).expect(0);
    assert_eq!(named(), [other]);
    lab.run(spec, &["plan"]).expect(0);
    lab.aws("ec2", "DeleteTags", &[("ResourceId.1", other), ("Tag.1.Key", "consul-leader")]);
    // up puts back the tag that all rests on.
    lab.run(spec, &["plan"]).expect(2);
    lab.run(spec, &["up"]).expect(0);
    assert_eq!(lab.run(spec, &["discover"]).expect(0).stdout, format!("{address}\n"));
    assert_eq!(named(), [id.as_str()]);
}

/// Nothing local is needed but the spec and the key: not even the spec to look.
fn from_another_laptop(lab: &Lab) {
    let mut status = lab.command(&["status", "--cluster", "shop", "--region", "us-east-1", "--output", "json"]);
    status.env("CLUSTERCTL_STATE_DIR", lab.path("laptop"));
    // The key lies where ssh looks for one.
    std::fs::create_dir_all(lab.path(".ssh")).unwrap();
    std::fs::copy(lab.path("key"), lab.path(".ssh/id_ed25519")).unwrap();
    let mut ssh = lab.command(&["ssh", "--cluster", "shop", "--region", "us-east-1", "shop-node-1", "--"]);
    // ssh looks for keys in the home that the system names, whatever HOME says.
    ssh.arg("-i").arg(lab.path("key")).arg("hostname").env("CLUSTERCTL_STATE_DIR", lab.path("another"));
    assert!(crate::support::answer(ssh).expect(0).stdout.starts_with("ip-"), "the host's own name");
    let status = crate::support::answer(status).expect(0).json();
    assert_eq!(status["hosts"].as_array().unwrap().len(), 3, "{status}");
}

/// Killed with the n-th call executed and its answer unheard, for every n: run again, the account holds what one
/// whole run would have made, once.
#[test]
fn killed_at_every_call() {
    let lab = Lab::start("it-killed");
    let mut n = 1;
    loop {
        let cluster = format!("kill-{n}");
        let spec = lab.spec(&cluster, "servers = 1\nnodes = 1", "");
        lab.ask("DELETE", "calls", &Json::Null);
        // No host boots: the calls are what this is about, and each round takes seconds.
        lab.faults(&json!([{"kind": "no-boot"}, {"kind": "hang-after", "n": n}]));
        let mut child = start(&lab, &spec, &["up"]);
        let hung = hangs_or_waits(&lab, &mut child);
        kill(child);
        // In this order, so that no call is held once nobody lets go any more.
        lab.faults(&json!([{"kind": "no-boot"}]));
        lab.ask("POST", "release", &json!({}));
        lab.ask("DELETE", "calls", &Json::Null);
        let mut child = start(&lab, &spec, &["up"]);
        waits(&lab, &mut child);
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
        let hung = hangs(&lab, &mut child);
        kill(child);
        lab.faults(&json!([]));
        lab.ask("POST", "release", &json!({}));
        lab.run(&spec, &["down"]).expect(0);
        assert_eq!(lab.holds(&cluster), Vec::<String>::new(), "killed at call {n}");
        if !hung {
            break;
        }
        n += 1;
    }
    assert!(n > 8, "a `down` makes more than {n} calls");
}

pub fn start(lab: &Lab, spec: &std::path::Path, args: &[&str]) -> Child {
    let mut command = lab.command(&with_spec(spec, args));
    command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

/// By its id, and not a moment for it to clean up.
pub fn kill(mut child: Child) {
    let _ = child.kill();
    child.wait().unwrap();
}

/// Until a call is held (true) or the command has ended (false).
pub fn hangs(lab: &Lab, child: &mut Child) -> bool {
    until(lab, child, &|_| false)
}

/// The same, and it has launched all that it launches when all that it still does is to look for what has become of it.
fn hangs_or_waits(lab: &Lab, child: &mut Child) -> bool {
    until(lab, child, &only_looks)
}

/// Until it has launched all. A call of a run that was killed may come to be held only now: nobody waits for it.
fn waits(lab: &Lab, child: &mut Child) {
    while until(lab, child, &only_looks) {
        lab.ask("POST", "release", &json!({}));
    }
}

fn only_looks(calls: &[Json]) -> bool {
    calls.len() > 3 && calls[calls.len() - 3..].iter().all(|call| call["action"] == "DescribeInstances")
}

fn until(lab: &Lab, child: &mut Child, is_enough: &dyn Fn(&[Json]) -> bool) -> bool {
    let deadline = Instant::now() + Duration::from_secs(90);
    loop {
        if !lab.ask("GET", "hung?wait=0.1", &Json::Null).as_array().unwrap().is_empty() {
            return true;
        }
        if child.try_wait().unwrap().is_some() {
            return false;
        }
        let calls = lab.calls();
        if is_enough(&calls) {
            return false;
        }
        assert!(Instant::now() < deadline, "it neither hangs nor comes to an end: {calls:?}");
    }
}

/// What is wrong is named with its cure, and nothing is left behind by finding out.
#[test]
fn bad_input_and_refusals_are_told() {
    let lab = Lab::start("it-refused");
    let said = |answer: &Answer, words: &[&str]| {
        for word in words {
            assert!(answer.stderr.contains(word) || answer.stdout.contains(word), "no \"{word}\": {answer}");
        }
    };
    let up = |ec2: &str, status: i32, words: &[&str]| {
        let spec = lab.spec("bad", ec2, "");
        let answer = lab.run(&spec, &["up"]).expect(status);
        said(&answer, words);
        assert_eq!(lab.instances("bad", "pending").len() + lab.instances("bad", "running").len(), 0, "{ec2}");
    };
    up("ami = \"/aws/service/debian/release/12/latest/arm64\"", 1, &["arm64", "t3.small", "x86_64", "instance_type"]);
    up("ami = \"ami-00000000000000000\"", 1, &["ami-00000000000000000", "region"]);
    up("instance_type = \"t9.huge\"", 1, &["t9.huge", "instance_type"]);
    up("key_pair = \"nobodys\"", 1, &["nobodys", "key_pair"]);
    up("subnets = [\"subnet-00000000000000000\"]", 1, &["subnet-00000000000000000", "subnets"]);
    up("instance_profile = \"nobodys\"\nnodes = 0", 1, &["nobodys", "instance_profile"]);
    up("security_groups = [\"sg-00000000000000000\"]", 1, &["sg-00000000000000000"]);
    assert_eq!(lab.holds("bad"), Vec::<String>::new(), "what cannot work is told before anything is made");

    let spec = lab.spec("poor", "nodes = 0", "");
    for (key, words) in [
        ("denied", ["UnauthorizedOperation", "ec2:CreateSecurityGroup", "policy operator"]),
        ("expired", ["RequestExpired", "ec2:Describe", "clock"]),
        ("invalid", ["AuthFailure", "ec2:Describe", "credentials"]),
    ] {
        let mut command = lab.command(&with_spec(&spec, &["up"]));
        command.env("AWS_ACCESS_KEY_ID", key);
        said(&crate::support::answer(command).expect(1), &words);
    }
    assert_eq!(lab.holds("poor"), Vec::<String>::new());
    let mut doctor = lab.command(&with_spec(&spec, &["doctor"]));
    doctor.env("AWS_ACCESS_KEY_ID", "denied");
    said(
        &crate::support::answer(doctor).expect(3),
        &["ec2:CreateSecurityGroup", "ec2:RunInstances", "policy operator"],
    );

    // A clock that is off is named before AWS refuses what it signs.
    lab.faults(&json!([{"kind": "skew", "skew": 100}]));
    said(&lab.run(&spec, &["doctor"]), &["clock is", "s behind AWS'", "timesyncd"]);
    lab.faults(&json!([]));

    // Another account's region has nothing of ours; no key at all is said before anything is made.
    let mut elsewhere = lab.command(&["discover", "--cluster", "bad", "--region", "eu-west-1"]);
    elsewhere.env("AWS_REGION", "eu-west-1");
    said(&crate::support::answer(elsewhere).expect(1), &["bad", "consul-leader"]);
    std::fs::remove_file(lab.path("key")).unwrap();
    std::fs::rename(lab.path("key.pub"), lab.path("kept.pub")).unwrap();
    said(&lab.run(&spec, &["up"]).expect(1), &["ssh-keygen", "key"]);
    assert_eq!(lab.holds("poor"), Vec::<String>::new());
    let spec = lab.spec("bad", "", "");
    lab.run(&spec, &["down"]).expect(0);
    assert_eq!(lab.holds("bad"), Vec::<String>::new());
}

/// The API throttles for half a minute, fails, drops connections, and hides what is new: it takes longer, and people
/// are told why.
#[test]
fn faults_of_the_api() {
    let lab = Lab::start("it-faults");
    let spec = lab.spec("storm", "servers = 1\nnodes = 1", "");
    lab.faults(&json!([
        {"kind": "error", "code": "RequestLimitExceeded", "action": "Describe*", "seconds": 30},
        {"kind": "error", "code": "InternalError", "action": "RunInstances", "times": 2},
        {"kind": "drop", "action": "CreateSecurityGroup", "times": 1},
        {"kind": "hide", "younger": 3, "action": "DescribeInstances"},
    ]));
    let up = lab.run(&spec, &["up"]).expect(0);
    assert!(up.stderr.contains("is throttled"), "people are told why they wait: {up}");
    assert_eq!(lab.instances("storm", "running").len(), 2);
    lab.faults(&json!([]));
    lab.run(&spec, &["down"]).expect(0);
}

/// Instances never boot, boot without sshd or without a word on the console: the others come up, each failure is told,
/// and running it again mends. The lost server is one of them.
#[test]
fn faults_of_hosts() {
    let lab = Lab::start("it-hosts");
    let spec = lab.spec("storm", "servers = 1\nnodes = 1", "");
    lab.run(&spec, &["up"]).expect(0);
    let spec = lab.spec("storm", "servers = 1\nnodes = 5", "");
    lab.faults(&json!([
        {"kind": "no-sshd", "name": "storm-node-2"},
        {"kind": "no-boot", "name": "storm-node-5"},
        {"kind": "no-console", "name": "storm-node-3"},
        {"kind": "error", "code": "InsufficientInstanceCapacity", "action": "RunInstances", "params": {"ClientToken": "storm-node-4-*"}},
    ]));
    let waits =
        ["up", "--output", "json", "--connect-timeout", "5s", "--console-timeout", "5s", "--boot-timeout", "8s"];
    let up = lab.run(&spec, &waits).expect(3).json();
    let result = |name: &str| {
        let hosts = up["hosts"].as_array().unwrap();
        hosts.iter().find(|host| host["host"] == name).unwrap_or_else(|| panic!("no {name}: {up}")).clone()
    };
    assert_eq!(result("storm-server-1")["result"], "unchanged", "{up}");
    assert_eq!(result("storm-node-1")["result"], "unchanged", "{up}");
    assert_eq!(result("storm-node-2")["result"], "failed", "{up}");
    assert_eq!(result("storm-node-4")["result"], "failed", "{up}");
    assert!(result("storm-node-5")["message"].as_str().unwrap().contains("deadline"), "{up}");
    assert!(result("storm-node-3")["message"].as_str().unwrap().contains("SSH host key is not known"), "{up}");
    lab.faults(&json!([]));
    // A host whose console never told its keys is the user's to decide about.
    for name in ["storm-node-2", "storm-node-5"] {
        lab.aws("ec2", "TerminateInstances", &[("InstanceId.1", &id_of(&lab, &spec, name))]);
    }
    lab.run(&spec, &["up", "--accept-new-host-keys"]).expect(0);
    assert_eq!(lab.instances("storm", "running").len(), 6);
    a_changed_key_is_an_alarm(&lab, &spec);

    // The only server is lost: it is said, and a new one takes over what runs.
    lab.aws("ec2", "TerminateInstances", &[("InstanceId.1", &id_of(&lab, &spec, "storm-server-1"))]);
    let discover = lab.run(&spec, &["discover"]).expect(1);
    assert!(discover.stderr.contains("clusterctl up"), "{discover}");
    let plan = lab.run(&spec, &["plan"]).expect(2);
    assert!(plan.stdout.contains("the only server is gone") && !plan.stdout.contains("retry_join"), "{plan}");
    lab.run(&spec, &["up"]).expect(0);
    let targets = lab.run(&spec, &["targets", "--output", "json"]).expect(0);
    assert_eq!(scraped(&targets).len(), 6, "{targets}");
    lab.run(&spec, &["down"]).expect(0);
    assert_eq!(lab.holds("storm"), Vec::<String>::new());
}

/// The same instance with another key: refused, with nothing sent, until somebody says that it is right.
fn a_changed_key_is_an_alarm(lab: &Lab, spec: &std::path::Path) {
    let renew = "rm /etc/ssh/ssh_host_*; ssh-keygen -q -t ed25519 -N '' -f /etc/ssh/ssh_host_ed25519_key; \
                 systemctl restart ssh";
    lab.run(spec, &["exec", "--root", "--host", "storm-node-1", "--", renew]).expect(0);
    let exec = lab.run(spec, &["exec", "--host", "storm-node-1", "--", "true"]).expect(3);
    for word in ["host key has changed", "clusterctl:host-key", "someone may stand between"] {
        assert!(exec.stderr.contains(word), "no \"{word}\": {exec}");
    }
    lab.aws("ec2", "TerminateInstances", &[("InstanceId.1", &id_of(lab, spec, "storm-node-1"))]);
    lab.run(spec, &["up"]).expect(0);
}

/// The first id in the answer is the group's own; others stand in its rules.
fn group_id(lab: &Lab, name: &str) -> String {
    let groups =
        lab.aws("ec2", "DescribeSecurityGroups", &[("Filter.1.Name", "group-name"), ("Filter.1.Value.1", name)]);
    regex::Regex::new("<groupId>([^<]*)</groupId>").unwrap().captures(&groups).unwrap()[1].to_owned()
}

fn id_of(lab: &Lab, spec: &std::path::Path, name: &str) -> String {
    let status = lab.run(spec, &["status", "--output", "json", "--connect-timeout", "2s"]).json();
    let hosts = status["hosts"].as_array().unwrap();
    hosts.iter().find(|host| host["host"] == name).unwrap()["id"].as_str().unwrap().to_owned()
}

/// What exists already joins and stays its owner's; a bastion leads to private addresses; rules that somebody took
/// away come back.
#[test]
fn joining_what_exists_and_reaching_it_through_a_bastion() {
    let lab = Lab::start("it-join");
    let private = "servers = 1\nnodes = 0\nreach = \"private\"";
    let spec = lab.spec("club", private, "");
    lab.run(&spec, &["up"]).expect(0);
    let group = group_id(&lab, "clusterctl-club");

    // An instance of somebody's own, with a group of its own that lets the operator in.
    let made = lab.aws("ec2", "CreateSecurityGroup", &[("GroupName", "theirs"), ("GroupDescription", "theirs")]);
    let theirs = fields(&made, "groupId").remove(0);
    let rule = [
        ("GroupId", theirs.as_str()),
        ("IpProtocol", "tcp"),
        ("FromPort", "22"),
        ("ToPort", "22"),
        ("CidrIp", "0.0.0.0/0"),
    ];
    lab.aws("ec2", "AuthorizeSecurityGroupIngress", &rule);
    let run = [
        ("ImageId", "ami-0deb12a0d64000001"),
        ("InstanceType", "t3.small"),
        ("MinCount", "1"),
        ("MaxCount", "1"),
        ("KeyName", "clusterctl-club"),
        ("SecurityGroupId.1", theirs.as_str()),
    ];
    let id = fields(&lab.aws("ec2", "RunInstances", &run), "instanceId").remove(0);
    crate::support::eventually("their instance runs", || {
        let state = lab.aws("ec2", "DescribeInstances", &[("InstanceId.1", &id)]);
        if fields(&state, "name").contains(&"running".to_owned()) { Ok(()) } else { Err(state) }
    });
    let joined = lab.run(&spec, &["join-node", "--instance", &id, "--output", "json"]).expect(0).json();
    assert_eq!(names(&joined["hosts"]), ["club-node-1"]);
    let again = lab.run(&spec, &["join-node", "--instance", &id, "--output", "json"]).expect(0).json();
    assert_eq!(names(&again["hosts"]), ["club-node-1"], "joining twice is no second host");

    // A group that somebody took from a host is given back.
    lab.aws("ec2", "ModifyInstanceAttribute", &[("InstanceId", id.as_str()), ("GroupId.1", theirs.as_str())]);
    let plan = lab.run(&spec, &["plan"]).expect(2);
    assert!(plan.stdout.contains("give club-node-1 the security group clusterctl-club"), "{plan}");
    lab.run(&spec, &["up"]).expect(0);
    lab.run(&spec, &["plan"]).expect(0);

    // A rule that is gone is named, and put back.
    let revoke = [
        ("GroupId", group.as_str()),
        ("IpPermissions.1.IpProtocol", "udp"),
        ("IpPermissions.1.FromPort", "8301"),
        ("IpPermissions.1.ToPort", "8301"),
        ("IpPermissions.1.Groups.1.GroupId", group.as_str()),
        ("IpPermissions.1.Groups.1.Description", "clusterctl: Consul gossip"),
    ];
    lab.aws("ec2", "RevokeSecurityGroupIngress", &revoke);
    let plan = lab.run(&spec, &["plan"]).expect(2);
    assert!(plan.stdout.contains("udp 8301"), "{plan}");
    lab.run(&spec, &["up"]).expect(0);
    lab.run(&spec, &["plan"]).expect(0);

    // Only the bastion can be reached from here; a new laptop knows nothing yet.
    let hosts = lab.run(&spec, &["status", "--output", "json"]).expect(0).json();
    let address = |name: &str| {
        let hosts = hosts["hosts"].as_array().unwrap();
        hosts.iter().find(|host| host["host"] == name).unwrap()["address"].as_str().unwrap().to_owned()
    };
    let (bastion, server) = (address("club-node-1"), address("club-server-1"));
    let let_in = [
        ("GroupId", group.as_str()),
        ("IpProtocol", "tcp"),
        ("FromPort", "22"),
        ("ToPort", "22"),
        ("CidrIp", &format!("{bastion}/32")),
    ];
    lab.aws("ec2", "AuthorizeSecurityGroupIngress", &let_in);
    lab.ask("POST", "isolate", &json!({"private": true, "except": [id]}));
    // The bastion's key is remembered where this configuration says, and not in the home that the system names.
    std::fs::create_dir_all(lab.path(".ssh")).unwrap();
    std::fs::write(lab.path(".ssh/config"), format!("UserKnownHostsFile {}\n", lab.path("known").display())).unwrap();
    let through = lab.spec("club", private, "");
    let text = std::fs::read_to_string(&through).unwrap();
    std::fs::write(&through, text.replace("[ssh]\n", &format!("[ssh]\nbastion = \"admin@{bastion}\"\n"))).unwrap();
    let mut exec = lab
        .command(&with_spec(&through, &["exec", "--accept-new-host-keys", "--role", "server", "--", "hostname", "-I"]));
    exec.env("CLUSTERCTL_STATE_DIR", lab.path("laptop"));
    let exec = crate::support::answer(exec).expect(0);
    assert!(exec.stdout.contains(&server), "{exec}");
    lab.ask("DELETE", "isolate", &Json::Null);

    let down = lab.run(&spec, &["down", "--keep-data"]).expect(0);
    assert!(down.stderr.contains("volume vol-") && down.stderr.contains("club-node-1"), "{down}");
    assert_eq!(lab.holds("club"), Vec::<String>::new());
    let volumes =
        lab.aws("ec2", "DescribeVolumes", &[("Filter.1.Name", "tag:clusterctl:cluster"), ("Filter.1.Value.1", "club")]);
    assert_eq!(fields(&volumes, "volumeId").len(), 1, "the server's: {volumes}");
    let theirs = lab.aws("ec2", "DescribeInstances", &[("InstanceId.1", &id)]);
    assert!(fields(&theirs, "name").contains(&"running".to_owned()), "{theirs}");
}

/// Not even the libraries' own logs hold a key, a token or a signature.
#[test]
fn nothing_secret_is_told_at_any_verbosity() {
    let lab = Lab::start("it-secret");
    let spec = lab.spec("hush", "servers = 1\nnodes = 0", "");
    let log = lab.path("log");
    let args = ["up", "-vvv", "--log-file", log.to_str().unwrap()];
    let mut command = lab.command(&with_spec(&spec, &args));
    command
        .env("AWS_SECRET_ACCESS_KEY", "VERYSECRETKEY")
        .env("AWS_SESSION_TOKEN", "VERYSECRETTOKEN")
        .env("RUST_LOG", "trace");
    let up = crate::support::answer(command).expect(0);
    let logged = std::fs::read_to_string(&log).unwrap();
    let key = std::fs::read_to_string(lab.path("key")).unwrap();
    let inside = key.lines().nth(1).unwrap();
    for text in [&up.stdout, &up.stderr, &logged] {
        for secret in ["VERYSECRETKEY", "VERYSECRETTOKEN", "Signature=", inside] {
            assert!(!text.contains(secret), "{secret} is told");
        }
    }
    // Without the spec nobody knows how the cluster should be: its rules stay as they are.
    let rules = lab.aws(
        "ec2",
        "DescribeSecurityGroups",
        &[("Filter.1.Name", "group-name"), ("Filter.1.Value.1", "clusterctl-hush")],
    );
    for verb in ["up", "plan", "join-node"] {
        let command = lab.command(&[verb, "--cluster", "hush", "--region", "us-east-1", "--yes"]);
        crate::support::answer(command).expect(64);
    }
    let after = lab.aws(
        "ec2",
        "DescribeSecurityGroups",
        &[("Filter.1.Name", "group-name"), ("Filter.1.Value.1", "clusterctl-hush")],
    );
    assert_eq!(fields(&rules, "cidrIp"), fields(&after, "cidrIp"));
    // Credentials and region of a profile are as good as those of the environment.
    std::fs::create_dir_all(lab.path(".aws")).unwrap();
    std::fs::write(lab.path(".aws/config"), "[profile shop]\nregion = us-east-1\n").unwrap();
    let credentials = "[shop]\naws_access_key_id = lab\naws_secret_access_key = lab\n";
    std::fs::write(lab.path(".aws/credentials"), credentials).unwrap();
    let mut command = lab.command(&["discover", "--profile", "shop", "-f", spec.to_str().unwrap()]);
    for name in ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION", "AWS_DEFAULT_REGION"] {
        command.env_remove(name);
    }
    crate::support::answer(command).expect(0);
    // A profile that is named goes before keys that lie about in the environment.
    lab.ask("DELETE", "calls", &Json::Null);
    std::fs::write(lab.path(".aws/credentials"), credentials.replace("= lab\n", "= shopkey\n")).unwrap();
    let command = lab.command(&["discover", "--profile", "shop", "-f", spec.to_str().unwrap()]);
    crate::support::answer(command).expect(0);
    assert!(lab.calls().iter().all(|call| call["access_key"] == "shopkey"), "{:?}", lab.calls());
    lab.run(&spec, &["down"]).expect(0);
}
