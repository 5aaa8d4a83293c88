//! The IAM documents of `policies/`, filled in, and the actions that clusterctl needs as data.
//!
//! What each statement may be narrowed by was read in the Service Authorization Reference
//! (<https://docs.aws.amazon.com/service-authorization/latest/reference/list_amazonec2.html>, `list_iam.html`).
//! Reading IAM is not narrowed: for a role that does not exist, IAM asks for permission on `role NAME`, which
//! no ARN with a path matches, and answers AccessDenied instead of NoSuchEntity.

use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};

use super::ports;
use crate::model::ec2::{Ingress, Peer};
use crate::model::name::ClusterName;
use crate::model::spec::Service;
use ipnet::IpNet;

/// The longest name that IAM takes for a role.
const LONGEST: usize = 64;

/// Every action that the EC2 provider needs: service, action, and what for. `policies/operator.json` has the
/// same ones, and no other.
pub const ACTIONS: &[(&str, &str, &str)] = &[
    ("autoscaling", "CreateAutoScalingGroup", "makes the fleet's group"),
    ("autoscaling", "DeleteAutoScalingGroup", "takes the group away again, with its instances"),
    ("autoscaling", "DescribeAutoScalingGroups", "finds the fleet"),
    ("autoscaling", "DescribeScalingActivities", "learns why the group launches nothing"),
    ("autoscaling", "SetDesiredCapacity", "`fleet scale`"),
    ("autoscaling", "TerminateInstanceInAutoScalingGroup", "`fleet roll`"),
    ("autoscaling", "UpdateAutoScalingGroup", "mends the group's bounds and types"),
    ("ec2", "AuthorizeSecurityGroupIngress", "opens the cluster's ports between its hosts"),
    ("ec2", "CopyImage", "copies an image to the other regions of [image]"),
    ("ec2", "CreateImage", "makes an image of a host"),
    ("ec2", "CreateLaunchTemplate", "makes what the fleet is launched from"),
    ("ec2", "CreateLaunchTemplateVersion", "another image or type for the fleet"),
    ("ec2", "CreateSecurityGroup", "makes the cluster's two groups"),
    ("ec2", "CreateTags", "tags what is made, instances that join, and images that were tried"),
    ("ec2", "DeleteKeyPair", "takes the imported key pair away again"),
    ("ec2", "DeleteLaunchTemplate", "takes the template away again"),
    ("ec2", "DeleteLaunchTemplateVersions", "keeps the last ten"),
    ("ec2", "DeleteSecurityGroup", "takes the groups away again"),
    ("ec2", "DeleteSnapshot", "takes an image's data away with it"),
    ("ec2", "DeleteTags", "lets go of an instance that joined, and of one that leads no more"),
    ("ec2", "DeregisterImage", "takes an image away, or one that was half-made"),
    ("ec2", "DescribeImages", "finds the AMI and its architecture, and images of ours"),
    ("ec2", "DescribeInstanceTypes", "learns an instance type's architecture"),
    ("ec2", "DescribeInstances", "finds the hosts and the leader"),
    ("ec2", "DescribeKeyPairs", "sees whether the key pair is there"),
    ("ec2", "DescribeLaunchTemplateVersions", "sees whether the template is the wanted one"),
    ("ec2", "DescribeLaunchTemplates", "finds the template again"),
    ("ec2", "DescribeSecurityGroups", "finds the groups again"),
    ("ec2", "DescribeSnapshots", "finds the data of an image that is gone"),
    ("ec2", "DescribeSubnets", "finds subnets to spread hosts over"),
    ("ec2", "GetConsoleOutput", "reads new hosts' SSH keys before the first login"),
    ("ec2", "ImportKeyPair", "gives EC2 the public half of your key"),
    ("ec2", "ModifyInstanceAttribute", "gives groups to an instance that joins; keeps volumes with --keep-data"),
    ("ec2", "ModifyLaunchTemplate", "has the group launch the new version"),
    ("ec2", "RevokeSecurityGroupIngress", "closes what is no longer wanted"),
    ("ec2", "RunInstances", "launches hosts"),
    ("ec2", "StartInstances", "starts stopped hosts"),
    ("ec2", "StopInstances", "switches a host off that becomes an image"),
    ("ec2", "TerminateInstances", "ends hosts"),
    ("iam", "AddRoleToInstanceProfile", "the instances' identity"),
    ("iam", "CreateInstanceProfile", "the instances' identity"),
    ("iam", "CreateRole", "the instances' identity"),
    ("iam", "CreateServiceLinkedRole", "EC2 makes its own roles for the account's first spot instance and first group"),
    ("iam", "DeleteInstanceProfile", "takes the identity away again"),
    ("iam", "DeleteRole", "takes the identity away again"),
    ("iam", "DeleteRolePolicy", "takes the identity away again"),
    ("iam", "GetInstanceProfile", "finds the identity again"),
    ("iam", "GetRole", "finds the identity again"),
    ("iam", "GetRolePolicy", "sees whether its policy is the wanted one"),
    ("iam", "PassRole", "hands the role to the instances"),
    ("iam", "PutRolePolicy", "lets instances find the leader"),
    ("iam", "RemoveRoleFromInstanceProfile", "takes the identity away again"),
    ("iam", "TagInstanceProfile", "marks the identity as the cluster's"),
    ("iam", "TagRole", "marks the identity as the cluster's"),
    ("servicequotas", "GetServiceQuota", "`doctor` compares the quota with the cluster"),
    ("ssm", "DeleteParameter", "gives the cluster's lease back"),
    ("ssm", "GetParameter", "finds a distribution's newest AMI; sees who holds the lease"),
    ("ssm", "PutParameter", "takes the cluster's lease, so that two operators do not change it at once"),
    ("sts", "GetCallerIdentity", "`doctor` says who you are"),
];

/// Those of them that AWS checks without a call of that name: when something is made with its tags, when an
/// instance gets a profile, when an account's first spot instance is launched.
pub const UNCALLED: &[(&str, &str)] =
    &[("iam", "PassRole"), ("iam", "TagRole"), ("iam", "TagInstanceProfile"), ("iam", "CreateServiceLinkedRole")];

/// The name of the instances' role, and of its profile. IAM knows no regions, so that the region is in it.
pub fn identity_name(cluster: &ClusterName, region: &str) -> String {
    let name = format!("clusterctl-{cluster}-{region}");
    if name.len() <= LONGEST {
        return name;
    }
    let digest = Sha256::digest(region);
    format!("clusterctl-{cluster}-{:02x}{:02x}{:02x}{:02x}", digest[0], digest[1], digest[2], digest[3])
}

/// The statement of `policies/instance.json` that not all hosts need.
const SECRETS: &str = "ReadTheClustersSecrets";

/// What instances may do: find the leader in their region, and read the secrets of that cluster, where there are any.
/// DescribeInstances knows no resources, so that the region is all it can be narrowed by.
pub fn instance_policy(region: &str, secrets_of: Option<&ClusterName>) -> String {
    let cluster = secrets_of.map_or("", ClusterName::as_str);
    let values = Values { region: Some(region), cluster, ..Values::default() };
    let mut document = read(include_str!("../../../policies/instance.json"));
    if let (None, Some(statements)) = (secrets_of, document["Statement"].as_array_mut()) {
        statements.retain(|statement| statement["Sid"] != SECRETS);
    }
    pretty(&fill(document, &values))
}

/// Who may be the instances' role: EC2.
pub fn trust_policy() -> String {
    filled(include_str!("../../../policies/trust.json"), &Values::default())
}

/// The least that an operator of the cluster needs; in any region and account where they are not named.
pub fn operator_policy(cluster: &ClusterName, region: Option<&str>, account: Option<&str>) -> String {
    filled(
        include_str!("../../../policies/operator.json"),
        &Values { cluster: cluster.as_str(), region, account, identity: identity_name(cluster, region.unwrap_or("*")) },
    )
}

/// The cluster's two security groups and their rules, to review or to make by other means.
pub fn ports_document(cluster: &ClusterName, ssh_from: &[IpNet], services: &[Service]) -> String {
    let names = ports::group_names(cluster);
    let rules = ports::rules(&names, ssh_from, services);
    let about = ["all hosts of the cluster have it", "its servers have it, besides the other"];
    let groups: Vec<Value> = names
        .iter()
        .zip(&rules)
        .zip(about)
        .map(|((name, rules), about)| {
            let rules: Vec<Value> = rules.iter().map(rule).collect();
            json!({ "name": name, "description": about, "ingress": rules })
        })
        .collect();
    pretty(&json!({ "security_groups": groups }))
}

fn rule(rule: &Ingress) -> Value {
    let (kind, peer) = match &rule.peer {
        Peer::Group(group) => ("source_group", group.clone()),
        Peer::Net(net) => ("cidr", net.to_string()),
    };
    json!({
        "protocol": rule.protocol,
        "from_port": rule.from_port,
        "to_port": rule.to_port,
        kind: peer,
        "description": rule.description,
    })
}

/// Do two documents say the same? IAM hands documents out percent-encoded (RFC 3986).
pub fn same(one: &str, other: &str) -> bool {
    let parsed = |text: &str| -> Option<Value> {
        serde_json::from_str(text).ok().or_else(|| serde_json::from_str(&decoded(text)?).ok())
    };
    parsed(one).is_some_and(|document| parsed(other) == Some(document))
}

fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let digits = rest.get(..2).filter(|digits| digits.iter().all(u8::is_ascii_hexdigit))?;
        bytes.push(u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?);
        rest = &rest[2..];
    }
    String::from_utf8(bytes).ok()
}

/// The words in braces of a document.
#[derive(Debug, Default)]
struct Values<'a> {
    cluster: &'a str,
    region: Option<&'a str>,
    account: Option<&'a str>,
    identity: String,
}

impl Values<'_> {
    fn of(&self, word: &str) -> Option<&str> {
        match word {
            "cluster" => Some(self.cluster),
            "region" => Some(self.region.unwrap_or("*")),
            "account" => Some(self.account.unwrap_or("*")),
            "identity" => Some(&self.identity),
            "partition" => Some(partition(self.region.unwrap_or_default())),
            _ => None,
        }
    }
}

/// The part of AWS that a region belongs to, as botocore's `partitions.json` has them.
fn partition(region: &str) -> &'static str {
    const OTHERS: [(&str, &str); 7] = [
        ("cn-", "aws-cn"),
        ("us-gov-", "aws-us-gov"),
        ("eusc-", "aws-eusc"),
        ("us-iso-", "aws-iso"),
        ("us-isob-", "aws-iso-b"),
        ("eu-isoe-", "aws-iso-e"),
        ("us-isof-", "aws-iso-f"),
    ];
    OTHERS.iter().find(|(prefix, _)| region.starts_with(prefix)).map_or("aws", |(_, partition)| partition)
}

/// The document with its words filled in, in the strings of the parsed document: no value can become JSON.
fn filled(document: &str, values: &Values<'_>) -> String {
    pretty(&fill(read(document), values))
}

fn read(document: &str) -> Value {
    serde_json::from_str(document).expect("a test reads the embedded documents")
}

fn fill(value: Value, values: &Values<'_>) -> Value {
    match value {
        Value::String(text) => Value::String(fill_text(&text, values)),
        Value::Array(items) => items.into_iter().map(|item| fill(item, values)).collect(),
        Value::Object(entries) => {
            let filled = entries.into_iter().map(|(key, value)| (key, fill(value, values)));
            let mut entries: Map<String, Value> = filled.collect();
            // A condition of one region, where all are meant, is none.
            if values.region.is_none() {
                entries.retain(|key, value| {
                    !(key == "Condition" && *value == json!({ "StringEquals": { "ec2:Region": "*" } }))
                });
            }
            Value::Object(entries)
        }
        other => other,
    }
}

fn fill_text(text: &str, values: &Values<'_>) -> String {
    let mut filled = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('{') {
        filled.push_str(before);
        match after.split_once('}').and_then(|(word, after)| Some((values.of(word)?, after))) {
            Some((value, after)) => {
                filled.push_str(value);
                rest = after;
            }
            None => {
                filled.push('{');
                rest = after;
            }
        }
    }
    filled.push_str(rest);
    filled
}

fn pretty(value: &Value) -> String {
    serde_json::to_string_pretty(value).expect("a value is JSON")
}

#[cfg(test)]
mod tests;
