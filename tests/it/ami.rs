//! Images whose instances join by themselves, end to end in the lab: the builder, what is launched from its image and
//! every instance of the fleet are real hosts with real cloud-init; Consul finds its leader by its own discovery.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value as Json, json};

use crate::lab::{Lab, fields, with_spec};
use crate::support::{Cluster, answer, to_answer, within};

const SERVER: &str = "shop-server-1";

/// Nodes give a dead server up after some ten seconds, take one of its name at another address half a minute later, and
/// tell it of their services within two minutes.
const LONG: Duration = Duration::from_secs(240);

fn spec(lab: &Lab, cluster: &str) -> PathBuf {
    let more = "[prometheus]\nscrape_interval = \"1s\"\n[fleet]\nmax = 20\n";
    lab.spec(cluster, "servers = 1\nnodes = 0", more)
}

fn on_server(lab: &Lab, spec: &Path, script: &str) -> String {
    let answer = lab.run(spec, &["exec", "--root", "--host", "*-server-1", "--output", "json", "--", script]).expect(0);
    answer.json()["hosts"][0]["stdout"].as_str().unwrap_or_else(|| panic!("{answer}")).to_owned()
}

/// Consul's members by name, with their state.
fn members(lab: &Lab, spec: &Path) -> BTreeMap<String, String> {
    let said = on_server(lab, spec, "consul members");
    let rows = said.lines().skip(1).map(|line| line.split_whitespace().collect::<Vec<_>>());
    rows.map(|row| (row[0].to_owned(), row[2].to_owned())).collect()
}

/// The hosts whose node_exporter is up, and how many targets are not.
fn scraped(lab: &Lab, spec: &Path) -> (Vec<String>, usize) {
    let said = lab.run(spec, &["targets", "--output", "json"]).json();
    let targets = said["targets"].as_array().unwrap();
    let up = targets.iter().filter(|target| target["job"] == "node" && target["health"] == "up");
    let mut names: Vec<String> = up.map(|target| target["instance"].as_str().unwrap().to_owned()).collect();
    names.sort();
    (names, targets.iter().filter(|target| target["health"] != "up").count())
}

/// The fleet's instances that run, by id.
fn fleet(lab: &Lab, cluster: &str) -> Vec<String> {
    let all = lab.ask("GET", "hosts", &Json::Null);
    let is_one = |host: &&Json| {
        host["tags"]["clusterctl:cluster"] == cluster
            && host["tags"]["clusterctl:origin"] == "fleet"
            && host["state"] == "running"
    };
    let mut ids: Vec<String> =
        all.as_array().unwrap().iter().filter(is_one).map(|h| h["instance"].as_str().unwrap().to_owned()).collect();
    ids.sort();
    ids
}

/// Consul lists these alive and nobody else but the server; Prometheus scrapes them, and nothing that is not up.
fn just(lab: &Lab, spec: &Path, ids: &[String]) -> Result<(), String> {
    let members = members(lab, spec);
    let (scraped, bad) = scraped(lab, spec);
    let mut wanted = ids.to_vec();
    wanted.push(SERVER.to_owned());
    wanted.sort();
    let alive: Vec<&String> = members.iter().filter(|(_, state)| *state == "alive").map(|(name, _)| name).collect();
    let failed = members.values().filter(|state| *state == "failed").count();
    if alive.iter().copied().eq(&wanted) && failed == 0 && scraped == wanted && bad == 0 {
        return Ok(());
    }
    Err(format!("wanted {wanted:?}; Consul: {members:?}; Prometheus: {scraped:?}, {bad} not up"))
}

fn images(lab: &Lab) -> Vec<String> {
    let owner = [("Owner.1", "self"), ("Filter.1.Name", "tag-key"), ("Filter.1.Value.1", "clusterctl:image-of")];
    fields(&lab.aws("ec2", "DescribeImages", &owner), "imageId")
}

/// Where the lab keeps what an image has over the one it was made from.
fn tree(lab: &Lab, image: &str) -> PathBuf {
    let console = lab.ask("GET", "hosts", &Json::Null)[0]["console"].as_str().unwrap().to_owned();
    let lab = Path::new(&console).ancestors().find(|dir| dir.join("images").is_dir()).expect("the lab's folder");
    lab.join("images").join(image)
}

/// Nothing of one machine, one operator or one cluster's secrets.
fn is_clean(tree: &Path) {
    let find = |arguments: &[&str]| -> Vec<String> {
        let mut find = Command::new("find");
        find.arg(tree).args(arguments);
        let found = answer(find).expect(0).stdout;
        found.lines().map(|line| line.trim_start_matches(tree.to_str().unwrap()).to_owned()).collect()
    };
    assert_eq!(std::fs::read_to_string(tree.join("etc/machine-id")).unwrap_or_default().trim(), "");
    for gone in [
        &["-type", "f", "-path", "*/etc/ssh/ssh_host_*"][..],
        &["-type", "f", "-name", "authorized_keys", "-size", "+0"],
        &["-path", "*/var/lib/consul/*"],
        &["-type", "f", "-path", "*/var/lib/cloud/instances/*"],
        &["-type", "f", "-path", "*/var/log/*", "-size", "+0"],
        &["-name", "boot.json"],
        &["-path", "*/etc/clusterctl/boot"],
        &["-name", "node-id"],
        &["-name", ".bash_history", "-size", "+0"],
        &["-path", "*/var/lib/clusterctl/stage*"],
    ] {
        assert_eq!(find(gone), Vec::<String>::new(), "{gone:?}");
    }
    // What it is for.
    for there in ["usr/local/bin/consul", "usr/local/bin/node_exporter", "etc/clusterctl/image.json"] {
        assert!(tree.join(there).is_file(), "{there}");
    }
    assert!(!tree.join("usr/local/bin/prometheus").exists(), "a node has none");
}

/// But for the seed of cloud-init, which stands in the lab for the service that tells an instance its metadata.
fn contains(tree: &Path, secret: &str) -> Vec<String> {
    let mut grep = Command::new("grep");
    grep.args(["-rlaF", "-D", "skip", "--exclude-dir=seed", "--", secret]).arg(tree);
    answer(grep).stdout.lines().map(ToOwned::to_owned).collect()
}

/// From a spec to an image to a fleet, and what becomes of it when the server is another one.
#[test]
fn an_image_and_its_fleet() {
    let lab = Lab::start("it-ami");
    let spec = spec(&lab, "shop");
    // Both at once: a build changes nothing of the cluster.
    let mut build = lab.command(&with_spec(&spec, &["ami", "build", "--output", "json"]));
    let build = build.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    lab.run(&spec, &["up", "--output", "json"]).expect(0);
    let build = to_answer(build.wait_with_output().unwrap()).expect(0).json();
    let [image] = &images(&lab)[..] else { panic!("one image: {build}") };
    assert_eq!(lab.holds("shop-build"), Vec::<String>::new());
    let list = lab.run(&spec, &["ami", "list", "--output", "json"]).expect(0).json();
    assert_eq!(list["images"][0]["id"], image.as_str(), "{list}");
    assert!(list["images"][0]["proved"].is_string(), "{list}");
    is_clean(&tree(&lab, image));
    let key = std::fs::read_to_string(lab.path("key.pub")).unwrap();
    assert_eq!(contains(&tree(&lab, image), key.split(' ').nth(1).unwrap()), Vec::<String>::new());

    // 0 → 5 → 2, and nobody logs in to any of them.
    let up = lab.run(&spec, &["up", "--fleet", "5", "--output", "json"]).expect(0);
    let five = fleet(&lab, "shop");
    assert_eq!(five.len(), 5, "{up}");
    just(&lab, &spec, &five).unwrap();
    lab.run(&spec, &["plan"]).expect(0);
    lab.run(&spec, &["fleet", "scale", "2"]).expect(0);
    let two = fleet(&lab, "shop");
    assert_eq!(two.len(), 2);
    just(&lab, &spec, &two).unwrap();
    let status = lab.run(&spec, &["fleet", "status", "--output", "json"]).expect(0).json();
    assert_eq!(status["well"], 2, "{status}");

    a_crash_is_reaped(&lab, &spec);
    a_new_server_finds_the_fleet(&lab, &spec);
    all_are_replaced(&lab, &spec);

    lab.run(&spec, &["down"]).expect(0);
    assert_eq!(lab.holds("shop"), Vec::<String>::new());
    assert_eq!(fleet(&lab, "shop"), Vec::<String>::new());
    assert_eq!(images(&lab), std::slice::from_ref(image), "images outlive their cluster");
    lab.run(&spec, &["ami", "prune", "--keep", "0"]).expect(0);
    assert_eq!(images(&lab), Vec::<String>::new());
    let snapshots = fields(&lab.aws("ec2", "DescribeSnapshots", &[("Owner.1", "self")]), "snapshotId");
    let ours = [("Filter.1.Name", "tag-key"), ("Filter.1.Value.1", "clusterctl:image-of")];
    assert_eq!(
        fields(&lab.aws("ec2", "DescribeSnapshots", &ours), "snapshotId"),
        Vec::<String>::new(),
        "{snapshots:?}"
    );
}

/// The power fails: nothing on the host says goodbye. Within a minute it is gone from Consul and Prometheus, and another
/// one stands in its place.
fn a_crash_is_reaped(lab: &Lab, spec: &Path) {
    let before = fleet(lab, "shop");
    let all = lab.ask("GET", "hosts", &Json::Null);
    let host = all.as_array().unwrap().iter().find(|host| host["instance"] == before[0].as_str()).unwrap().clone();
    let machine = host["machine"].as_str().unwrap();
    let mut find = Command::new("pgrep");
    find.args(["-f", "--", &format!("^systemd-nspawn .*--machine={machine}( |$)")]);
    let process = answer(find).expect(0).stdout.trim().to_owned();
    let begun = Instant::now();
    assert!(Command::new("kill").args(["-9", &process]).status().unwrap().success());
    within(LONG, "another one has come and the dead one is forgotten", || {
        let now = fleet(lab, "shop");
        if now.len() != 2 || now.contains(&before[0]) {
            return Err(format!("{now:?}"));
        }
        just(lab, spec, &now)
    });
    assert!(begun.elapsed() < Duration::from_secs(90), "{:?}", begun.elapsed());
}

/// The server is lost with all it knew, and a new one has another address: the fleet, which nobody logs in to, is found.
fn a_new_server_finds_the_fleet(lab: &Lab, spec: &Path) {
    let two = fleet(lab, "shop");
    let server = lab.instances("shop", "running").into_iter().find(|id| !two.contains(id)).unwrap();
    lab.aws("ec2", "TerminateInstances", &[("InstanceId.1", &server)]);
    lab.run(spec, &["up"]).expect(0);
    within(LONG, "the new server's Prometheus scrapes the fleet", || just(lab, spec, &two));
    assert_eq!(fleet(lab, "shop"), two, "nobody was replaced for it");
}

fn all_are_replaced(lab: &Lab, spec: &Path) {
    let before = fleet(lab, "shop");
    lab.run(spec, &["fleet", "roll", "--all"]).expect(0);
    let after = fleet(lab, "shop");
    assert_eq!(after.len(), 2);
    assert!(after.iter().all(|id| !before.contains(id)), "{before:?} {after:?}");
    just(lab, spec, &after).unwrap();
}

/// Ten instances that boot before there is a server wait for it, and all join it.
#[test]
fn ten_that_boot_before_their_server_join_it() {
    let lab = Lab::start("it-ten");
    let spec = spec(&lab, "shop");
    lab.run(&spec, &["ami", "build"]).expect(0);
    let up = lab.run(&spec, &["up", "--fleet", "10", "--output", "json"]).expect(0);
    let ten = fleet(&lab, "shop");
    assert_eq!(ten.len(), 10, "{up}");
    let server = lab.instances("shop", "running").into_iter().find(|id| !ten.contains(id)).unwrap();
    just(&lab, &spec, &ten).unwrap();

    // Without it: those that come now find nobody.
    lab.aws("ec2", "TerminateInstances", &[("InstanceId.1", &server)]);
    for id in &ten {
        lab.aws("ec2", "TerminateInstances", &[("InstanceId.1", id)]);
    }
    within(LONG, "ten others run", || {
        let now = fleet(&lab, "shop");
        if now.len() == 10 && now.iter().all(|id| !ten.contains(id)) { Ok(()) } else { Err(format!("{now:?}")) }
    });
    lab.run(&spec, &["up"]).expect(0);
    within(LONG, "all of them have found it", || just(&lab, &spec, &fleet(&lab, "shop")));
    lab.run(&spec, &["down"]).expect(0);
}

/// A builder that is killed at any of its calls leaves nothing that the next command does not take away.
#[test]
fn a_killed_build_leaves_nothing() {
    let lab = Lab::start("it-bakekill");
    let calls = [
        json!({"action": "RunInstances", "after": 0}),
        json!({"action": "RunInstances", "after": 1}),
        json!({"action": "StopInstances"}),
        json!({"action": "CreateImage"}),
        json!({"action": "RunInstances", "after": 2}),
        json!({"action": "TerminateInstances"}),
    ];
    for (n, call) in calls.into_iter().enumerate() {
        let cluster = format!("bk{n}");
        let spec = spec(&lab, &cluster);
        let mut rule = json!({"kind": "hang-after", "times": 1});
        rule.as_object_mut().unwrap().extend(call.as_object().unwrap().clone());
        lab.faults(&json!([rule]));
        let mut build = lab.command(&with_spec(&spec, &["ami", "build"]));
        let mut build = build.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let hung = lab.ask("GET", "hung?wait=55", &Json::Null);
        assert!(!hung.as_array().unwrap().is_empty(), "{call}: nothing was held");
        build.kill().unwrap();
        build.wait().unwrap();
        lab.faults(&json!([]));
        lab.ask("POST", "release", &json!({}));
        lab.run(&spec, &["ami", "prune", "--keep", "0"]).expect(0);
        assert_eq!(lab.holds(&format!("{cluster}-build")), Vec::<String>::new(), "killed at {call}");
        assert_eq!(images(&lab), Vec::<String>::new(), "killed at {call}");
        let roles = fields(&lab.aws("iam", "ListRoles", &[]), "RoleName");
        assert!(!roles.iter().any(|role| role.contains(&cluster)), "killed at {call}: {roles:?}");
    }
}

/// A cluster whose gossip is encrypted: its fleet has the key from SSM when it boots, and it stands nowhere else.
#[test]
fn a_fleet_reads_its_secrets_and_tells_nobody() {
    let lab = Lab::start("it-secret");
    let spec = lab.spec(
        "vault",
        "servers = 1\nnodes = 0",
        "[prometheus]\nscrape_interval = \"1s\"\n[image]\nsecrets = \"ssm\"\n[fleet]\nmax = 5\n",
    );
    let key = "c2l4dGVlbiBieXRlcyBvciAzMiBvZiB0aGVtISEhISE=";
    let mut put = Command::new(crate::lab::programs().join("aws"));
    put.envs(lab.environment().iter().map(|(name, value)| (name, value)));
    put.args([
        "ssm",
        "put-parameter",
        "--type",
        "SecureString",
        "--name",
        "/clusterctl/vault/gossip-key",
        "--value",
        key,
    ]);
    answer(put).expect(0);
    let log = lab.path("run.log");
    let run = |args: &[&str]| {
        let mut all = args.to_vec();
        all.extend(["-vv", "--log-file", log.to_str().unwrap()]);
        lab.run(&spec, &all).expect(0)
    };
    let mut said = String::new();
    said += &run(&["ami", "build", "--output", "json"]).to_string();
    said += &run(&["up"]).to_string();
    let encrypt = format!(
        "umask 027; echo '{{\"encrypt\": \"{key}\"}}' >/etc/consul.d/encrypt.json && \
         chgrp consul /etc/consul.d/encrypt.json && systemctl restart consul"
    );
    on_server(&lab, &spec, &encrypt);
    said += &run(&["up", "--fleet", "2", "--output", "json"]).to_string();
    let both = fleet(&lab, "vault");
    let (scraped, _) = scraped(&lab, &spec);
    assert!(both.len() == 2 && both.iter().all(|id| scraped.contains(id)), "{both:?} {scraped:?}");
    assert!(on_server(&lab, &spec, "consul info").contains("encrypted = true"));

    said += &std::fs::read_to_string(&log).unwrap();
    let [image] = &images(&lab)[..] else { panic!("one image") };
    for host in lab.ask("GET", "hosts", &Json::Null).as_array().unwrap() {
        let id = host["instance"].as_str().unwrap();
        let attribute = [("InstanceId", id), ("Attribute", "userData")];
        said += &lab.aws("ec2", "DescribeInstanceAttribute", &attribute);
        said += &lab.aws("ec2", "GetConsoleOutput", &[("InstanceId", id)]);
        said += &String::from_utf8_lossy(&std::fs::read(host["console"].as_str().unwrap()).unwrap_or_default());
        // On a node: in the files that Consul reads or writes, and nowhere else; none of them for everybody.
        if host["tags"]["clusterctl:origin"] == "fleet" {
            let tree = PathBuf::from(host["folder"].as_str().unwrap()).join("upper");
            let holds: Vec<String> = contains(&tree, key)
                .into_iter()
                .map(|file| file.trim_start_matches(tree.to_str().unwrap()).to_owned())
                .collect();
            assert_eq!(holds, ["/etc/consul.d/boot.json", "/var/lib/consul/serf/local.keyring"], "in any order");
            let mode = std::os::unix::fs::PermissionsExt::mode(
                &std::fs::metadata(tree.join("etc/consul.d/boot.json")).unwrap().permissions(),
            );
            assert_eq!(mode & 0o777, 0o640);
        }
    }
    said += &lab.aws("ec2", "DescribeLaunchTemplateVersions", &[("LaunchTemplateName", "clusterctl-vault")]);
    for form in [key.to_owned(), base64::Engine::encode(&base64::prelude::BASE64_STANDARD, key)] {
        assert!(!said.contains(&form), "somebody told it");
    }
    assert_eq!(contains(&tree(&lab, image), key), Vec::<String>::new());
    lab.run(&spec, &["down"]).expect(0);
}

/// On this machine: from a host's tree to a cluster that boots from it, servers too, and nobody logs in to install.
#[test]
fn an_image_in_the_sandbox_and_a_cluster_that_boots_from_it() {
    let cluster = Cluster::new("e2e-img");
    // What a run that was killed left.
    cluster.run(&["ami", "prune", "--keep", "0"]).expect(0);
    let built = cluster.run(&["ami", "build", "--name", "e2e-img", "--output", "json"]).expect(0).json();
    assert_eq!(built["images"].as_array().unwrap().len(), 2, "{built}");
    let again = cluster.run(&["ami", "build", "--name", "e2e-img"]).expect(1);
    assert!(again.stderr.contains("is there already"), "{again}");

    let up = cluster.run(&["up", "--image", "e2e-img", "--output", "json"]).expect(0).json();
    let results: Vec<&Json> = up["hosts"].as_array().unwrap().iter().map(|host| &host["result"]).collect();
    assert_eq!(results, ["booted", "booted", "booted"], "{up}");
    assert_eq!(cluster.scraped(), ["e2e-img-node-1", "e2e-img-node-2", "e2e-img-server-1"]);
    let logins = "journalctl -u ssh --no-pager | grep -c 'Accepted publickey' || :";
    let said = cluster.run(&["exec", "--role", "node", "--", logins]).expect(0);
    for line in said.stdout.lines() {
        assert!(line.ends_with("| 1"), "the only login to a node is this question: {said}");
    }
    let again = cluster.run(&["up", "--image", "e2e-img", "--output", "json"]).expect(0).json();
    assert!(again["hosts"].as_array().unwrap().iter().all(|host| host["result"] == "unchanged"), "{again}");
    let joined = cluster.run(&["join-node", "--output", "json"]).expect(0).json();
    assert_eq!(joined["hosts"][0]["result"], "booted", "{joined}");

    let kept = cluster.run(&["ami", "prune", "--keep", "0"]).expect(0);
    assert!(kept.stdout.is_empty() || kept.stdout.contains("in use"), "{kept}");
    assert_eq!(cluster.run(&["up"]).expect(0).status, 0);
    cluster.run(&["down"]).expect(0);
    cluster.run(&["ami", "prune", "--keep", "0"]).expect(0);
    let list = cluster.run(&["ami", "list", "--output", "json"]).expect(0).json();
    assert_eq!(list["images"], json!([]), "{list}");
}
