//! Instances of the lab find their own cluster's leader by tag, alone: no SSH, no list of addresses, their role's
//! credentials, and other clusters within reach.

use std::path::{Path, PathBuf};
use std::thread;

use serde_json::{Map, Value as Json, json};

use crate::lab::{Lab, fields};
use crate::support::eventually;

fn on(lab: &Lab, spec: &Path, host: &str, script: &str) -> String {
    let answer = lab.run(spec, &["exec", "--root", "--host", host, "--output", "json", "--", script]).expect(0).json();
    answer["hosts"][0]["stdout"].as_str().unwrap_or_else(|| panic!("{answer}")).to_owned()
}

/// A group that lets its members reach each other, whichever cluster they are of: the clusters' own would hide from
/// the test an agent that joins the wrong one.
fn open_group(lab: &Lab) -> String {
    let made = lab.aws("ec2", "CreateSecurityGroup", &[("GroupName", "open"), ("GroupDescription", "open")]);
    let group = fields(&made, "groupId").remove(0);
    let rule = [
        ("GroupId", group.as_str()),
        ("IpPermissions.1.IpProtocol", "-1"),
        ("IpPermissions.1.Groups.1.GroupId", group.as_str()),
    ];
    lab.aws("ec2", "AuthorizeSecurityGroupIngress", &rule);
    group
}

/// A server and a node that is to find it by tag; `ec2` is what else stands in its [ec2], `more` what comes after.
fn spec(lab: &Lab, cluster: &str, group: &str, ec2: &str, more: &str) -> PathBuf {
    let ec2 = format!("servers = 1\nnodes = 1\nsecurity_groups = [\"{group}\"]\n{ec2}");
    let path = lab.spec(cluster, &ec2, more);
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, text.replacen("[ssh]", "join = \"tag\"\n[ssh]", 1)).unwrap();
    path
}

/// What the server says of all that it knows.
fn members(lab: &Lab, spec: &Path) -> Json {
    let cluster = spec.file_stem().unwrap().to_str().unwrap();
    let said = on(lab, spec, &format!("{cluster}-server-1"), "consul members");
    let rows = said.lines().skip(1).map(|line| line.split_whitespace().collect::<Vec<_>>());
    rows.map(|row| (row[0].to_owned(), Json::from(row[2]))).collect::<Map<_, _>>().into()
}

fn whole(cluster: &str) -> Json {
    json!({format!("{cluster}-server-1"): "alive", format!("{cluster}-node-1"): "alive"})
}

/// The node forgets all it knew. A member that has left is one that servers do not look for: from here on it must come
/// by itself.
fn forget(lab: &Lab, spec: &Path, node: &str) {
    let forget =
        "consul leave >/dev/null && systemctl stop consul && find /var/lib/consul -mindepth 1 -delete && echo done";
    assert_eq!(on(lab, spec, node, forget), "done\n");
}

/// Three clusters in one account and region, within each other's reach: two of today's and one whose Consul cannot ask
/// EC2 itself.
#[test]
fn agents_join_their_own_cluster_by_tag() {
    let lab = Lab::start("it-tag");
    let group = open_group(&lab);
    let older = "[versions]\nconsul = \"0.7.5\"";
    // Where the spec does not say the region, the metadata does.
    let clusters = [("shop", "region = \"us-east-1\"", ""), ("bank", "", ""), ("attic", "", older)];
    let specs = clusters.map(|(cluster, ec2, more)| spec(&lab, cluster, &group, ec2, more));
    thread::scope(|scope| {
        for spec in &specs {
            let lab = &lab;
            scope.spawn(move || {
                let up = lab.run(spec, &["up", "--output", "json"]).expect(0).json();
                assert_eq!(up["verified"]["alive"], 2, "{up}");
                assert_eq!(up["verified"]["targets_up"], up["verified"]["targets"], "{up}");
                lab.run(spec, &["plan"]).expect(0);
            });
        }
    });
    let [shop, bank, attic] = &specs;
    for (cluster, spec, region) in [("shop", shop, " region=us-east-1"), ("bank", bank, "")] {
        let agent: Json =
            serde_json::from_str(&on(&lab, spec, &format!("{cluster}-node-1"), "cat /etc/consul.d/consul.json"))
                .unwrap();
        let provider =
            format!("provider=aws tag_key=clusterctl:leader tag_value={cluster}{region} addr_type=private_v4");
        assert_eq!(agent["retry_join"], json!([provider]), "no address");
    }
    by_consul(&lab, shop);
    by_script(&lab, attic);
    // All that came, came to its own.
    for ((cluster, ..), spec) in clusters.iter().zip(&specs) {
        assert_eq!(members(&lab, spec), whole(cluster));
    }
    thread::scope(|scope| {
        for spec in &specs {
            scope.spawn(|| lab.run(spec, &["down"]).expect(0));
        }
    });
}

/// Consul's own way: an agent that has forgotten all it knew asks EC2 and joins; without a role it is refused.
fn by_consul(lab: &Lab, spec: &Path) {
    let status = lab.run(spec, &["status", "--output", "json"]).expect(0).json();
    let node = status["hosts"].as_array().unwrap().iter().find(|host| host["host"] == "shop-node-1").unwrap();
    let node = node["id"].as_str().unwrap().to_owned();
    forget(lab, spec, "shop-node-1");
    let filter = [("Filter.1.Name", "instance-id"), ("Filter.1.Value.1", node.as_str())];
    let profile = lab.aws("ec2", "DescribeIamInstanceProfileAssociations", &filter);
    let association = fields(&profile, "associationId").remove(0);
    lab.aws("ec2", "DisassociateIamInstanceProfile", &[("AssociationId", &association)]);
    on(lab, spec, "shop-node-1", "systemctl start consul");
    eventually("without a role it is refused", || {
        let said = on(lab, spec, "shop-node-1", "journalctl -u consul -b --no-pager -n 60");
        if said.contains("no EC2 IMDS role found") { Ok(()) } else { Err(said) }
    });
    assert_eq!(members(lab, spec), json!({"shop-server-1": "alive", "shop-node-1": "left"}));

    lab.ask("DELETE", "calls", &Json::Null);
    let arn = fields(&profile, "arn").remove(0);
    let with = [("InstanceId", node.as_str()), ("IamInstanceProfile.Arn", arn.as_str())];
    lab.aws("ec2", "AssociateIamInstanceProfile", &with);
    comes_back(lab, spec, "shop");
    let calls = lab.calls();
    let own = calls.iter().filter(|call| call["access_key"].as_str().is_some_and(|key| key.starts_with("ASIA")));
    let actions: Vec<&str> = own.map(|call| call["action"].as_str().unwrap()).collect();
    assert!(!actions.is_empty() && actions.iter().all(|action| *action == "DescribeInstances"), "{actions:?}");
}

/// The older way: the unit starts Consul behind the script, which asks with the AWS CLI, the role's credentials and the
/// region from the metadata.
fn by_script(lab: &Lab, spec: &Path) {
    let leader = lab.run(spec, &["discover"]).expect(0).stdout.trim_end().to_owned();
    let node = "attic-node-1";
    let asked =
        on(lab, spec, node, "systemctl show consul -p ExecStart | grep -c /usr/local/lib/clusterctl/find-leader");
    assert_eq!(asked, "1\n");
    assert_eq!(on(lab, spec, node, "grep -c retry_join /etc/consul.d/consul.json || true"), "0\n");
    let found = on(lab, spec, node, "/usr/local/lib/clusterctl/find-leader --once");
    assert_eq!(found, format!("-retry-join {leader}\n"));
    forget(lab, spec, node);
    on(lab, spec, node, "systemctl start consul");
    comes_back(lab, spec, "attic");
    let running = on(lab, spec, node, "tr '\\0' ' ' </proc/$(systemctl show consul -p MainPID --value)/cmdline");
    assert!(running.contains(&format!("-retry-join {leader}")), "{running}");
}

fn comes_back(lab: &Lab, spec: &Path, cluster: &str) {
    let both = whole(cluster);
    eventually("it joins", || match members(lab, spec) {
        seen if seen == both => Ok(()),
        seen => Err(seen),
    });
}
