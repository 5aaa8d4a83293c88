//! An instance of the lab finds the leader by tag, alone: no SSH, no list of addresses, its role's credentials.

use std::path::Path;

use serde_json::{Value as Json, json};

use crate::find_leader::{Asked, rendered};
use crate::lab::{Lab, fields};
use crate::support::eventually;

const PROVIDER: &str = "provider=aws tag_key=consul-leader tag_value=True region=us-east-1 addr_type=private_v4";

fn on(lab: &Lab, spec: &Path, host: &str, script: &str) -> String {
    let answer = lab.run(spec, &["exec", "--root", "--host", host, "--output", "json", "--", script]).expect(0).json();
    answer["hosts"][0]["stdout"].as_str().unwrap_or_else(|| panic!("{answer}")).to_owned()
}

/// Consul's own way: an agent that has forgotten all it knew asks EC2 and joins; without a role it is refused.
#[test]
fn consul_joins_by_tag() {
    let lab = Lab::start("it-tag");
    let spec = lab.spec("shop", "servers = 1\nnodes = 1", "");
    lab.run(&spec, &["up"]).expect(0);
    let leader = lab.run(&spec, &["discover"]).expect(0).stdout.trim_end().to_owned();
    let status = lab.run(&spec, &["status", "--output", "json"]).expect(0).json();
    let node = status["hosts"].as_array().unwrap().iter().find(|host| host["host"] == "shop-node-1").unwrap();
    let node = node["id"].as_str().unwrap().to_owned();

    // The older way, on a real host: the AWS CLI with the role's credentials, the region from the metadata.
    let asked = Asked { region: "", ..Asked::default() };
    let found = on(&lab, &spec, "shop-node-1", &format!("sh -s -- --once <<'EOF'\n{}EOF\n", rendered(&asked)));
    assert_eq!(found, format!("-retry-join {leader}\n"));

    // A member that has left is one that servers do not look for: from here on it must come by itself.
    let forget = format!(
        "consul leave >/dev/null && systemctl stop consul && find /var/lib/consul -mindepth 1 -delete && \
         sed -i 's/\"retry_join\": \\[[^]]*\\]/\"retry_join\": [\"{PROVIDER}\"]/' /etc/consul.d/consul.json && \
         grep -c provider=aws /etc/consul.d/consul.json"
    );
    assert_eq!(on(&lab, &spec, "shop-node-1", &forget), "1\n");
    let filter = [("Filter.1.Name", "instance-id"), ("Filter.1.Value.1", node.as_str())];
    let profile = lab.aws("ec2", "DescribeIamInstanceProfileAssociations", &filter);
    let association = fields(&profile, "associationId").remove(0);
    lab.aws("ec2", "DisassociateIamInstanceProfile", &[("AssociationId", &association)]);
    on(&lab, &spec, "shop-node-1", "systemctl start consul");
    eventually("without a role it is refused", || {
        let said = on(&lab, &spec, "shop-node-1", "journalctl -u consul -b --no-pager -n 60");
        if said.contains("no EC2 IMDS role found") { Ok(()) } else { Err(said) }
    });
    assert_eq!(members(&lab, &spec), json!({"shop-server-1": "alive", "shop-node-1": "left"}));

    lab.ask("DELETE", "calls", &Json::Null);
    let arn = fields(&profile, "arn").remove(0);
    let with = [("InstanceId", node.as_str()), ("IamInstanceProfile.Arn", arn.as_str())];
    lab.aws("ec2", "AssociateIamInstanceProfile", &with);
    let both = json!({"shop-server-1": "alive", "shop-node-1": "alive"});
    eventually("it joins", || match members(&lab, &spec) {
        seen if seen == both => Ok(()),
        seen => Err(seen),
    });
    let calls = lab.calls();
    let own = calls.iter().filter(|call| call["access_key"].as_str().is_some_and(|key| key.starts_with("ASIA")));
    let actions: Vec<&str> = own.map(|call| call["action"].as_str().unwrap()).collect();
    assert!(!actions.is_empty() && actions.iter().all(|action| *action == "DescribeInstances"), "{actions:?}");
    lab.run(&spec, &["down"]).expect(0);
}

/// What the server says of all that it knows.
fn members(lab: &Lab, spec: &Path) -> Json {
    let said = on(lab, spec, "shop-server-1", "consul members");
    let rows = said.lines().skip(1).map(|line| line.split_whitespace().collect::<Vec<_>>());
    rows.map(|row| (row[0].to_owned(), Json::from(row[2]))).collect::<serde_json::Map<_, _>>().into()
}
