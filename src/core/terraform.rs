//! A Terraform module of a cluster's nodes as a fleet: a pure function of the spec. The text is a template's; here is
//! what it is given, and the form that `terraform fmt` would give it.

use std::fmt::Write as _;

use ipnet::IpNet;
use serde::Serialize;
use serde_json::Value;
use tera::Context;

use super::ec2::{policy, ports};
use super::render::{RenderError, Renderer, hcl_string};
use crate::model::ec2::{Ec2Spec, Ingress, InstanceProfile, Peer, Reach};
use crate::model::spec::{FleetSpec, Secrets, Spec};

/// The one file of the module.
pub const FILE: &str = "main.tf";
const TEMPLATE: &str = "terraform/main.tf";
/// What the two security groups are in the module, in the order of [`ports::group_names`].
const GROUPS: [&str; 2] = ["all", "server"];
/// Stands for the region in a policy until Terraform knows it.
const REGION: &str = "{region}";

/// The module's text.
///
/// # Errors
/// A template of the user's that does not render.
pub fn module(renderer: &Renderer, spec: &Spec, ec2: &Ec2Spec) -> Result<String, RenderError> {
    let text = renderer.document(TEMPLATE, &context(spec, ec2))?;
    Ok(formatted(&text))
}

fn context(spec: &Spec, ec2: &Ec2Spec) -> Context {
    let fleet = spec.fleet.clone().unwrap_or_default();
    let cluster = &spec.cluster;
    let mut context = Context::new();
    context.insert("cluster", cluster);
    context.insert("fleet_name", &format!("clusterctl-{cluster}"));
    context.insert("instance_name", &format!("{cluster}-fleet"));
    context.insert("image", &fleet.image);
    context.insert("vpc", &ec2.vpc);
    context.insert("subnets", &ec2.subnets);
    context.insert("instance_type", fleet.instance_types.first().unwrap_or(&ec2.instance_type));
    context.insert("key_pair", &ec2.key_pair);
    context.insert("tags", &ec2.tags);
    context.insert("security_groups", &ec2.security_groups);
    context.insert("public", &(ec2.reach == Reach::Public));
    context.insert("root_volume", &ec2.root_volume);
    context.insert("fleet", &FleetContext::of(&fleet));
    context.insert("region", &ec2.region);
    if let Some(region) = &ec2.region {
        context.insert("wrong_region", &format!("The spec says {region}: give the provider aws that region."));
    }
    // cloud-init reads it, and finds nothing to do.
    context.insert("user_data", &format!("#cloud-config\n# clusterctl: cluster={cluster}\n{{}}\n"));
    identity(&mut context, spec, ec2);
    security_groups(&mut context, spec, ec2);
    context
}

fn identity(context: &mut Context, spec: &Spec, ec2: &Ec2Spec) {
    let region = ec2.region.as_deref();
    let made = ec2.profile_of_instances == InstanceProfile::Made;
    context.insert("make_identity", &made);
    context.insert("identity", &region.map(|region| policy::identity_name(&spec.cluster, region)));
    let secrets = (spec.image.secrets == Secrets::Ssm).then_some(&spec.cluster);
    context.insert("policy", &expression(&policy::instance_policy(region.unwrap_or(REGION), secrets)));
    context.insert("trust", &expression(&policy::trust_policy()));
    let profile = match &ec2.profile_of_instances {
        InstanceProfile::Made => Some("aws_iam_instance_profile.node.name".to_owned()),
        InstanceProfile::Named(name) => Some(hcl_string(name)),
        InstanceProfile::Without => None,
    };
    context.insert("profile", &profile);
}

fn security_groups(context: &mut Context, spec: &Spec, ec2: &Ec2Spec) {
    let names = ports::group_names(&spec.cluster);
    let groups: Vec<Value> =
        GROUPS.iter().zip(&names).map(|(key, name)| serde_json::json!({ "key": key, "name": name })).collect();
    context.insert("groups", &groups);
    // As the groups that `up` makes have it: Terraform would make a group with another description anew.
    context.insert("group_description", &format!("Hosts of the cluster {}, made by clusterctl", spec.cluster));
    let rules = ports::rules(&GROUPS.map(str::to_owned), &ec2.ssh_from, &spec.services);
    let rules =
        GROUPS.iter().zip(&rules).flat_map(|(group, rules)| rules.iter().map(|rule| RuleContext::of(group, rule)));
    context.insert("rules", &rules.collect::<Vec<_>>());
}

#[derive(Serialize)]
struct FleetContext<'a> {
    #[serde(flatten)]
    spec: &'a FleetSpec,
    mixed: bool,
}

impl<'a> FleetContext<'a> {
    fn of(spec: &'a FleetSpec) -> Self {
        Self { spec, mixed: !spec.instance_types.is_empty() || spec.spot_percent > 0 }
    }
}

#[derive(Serialize)]
struct RuleContext<'a> {
    key: String,
    group: &'a str,
    protocol: &'a str,
    from_port: u16,
    to_port: u16,
    description: &'a str,
    peer: Option<&'a str>,
    cidr_ipv4: Option<String>,
    cidr_ipv6: Option<String>,
}

impl<'a> RuleContext<'a> {
    fn of(group: &'a str, rule: &'a Ingress) -> Self {
        let Ingress { protocol, from_port, to_port, peer, description } = rule;
        let (name, peer, cidr_ipv4, cidr_ipv6) = match peer {
            Peer::Group(name) => (name.clone(), Some(name.as_str()), None, None),
            Peer::Net(net @ IpNet::V4(_)) => (net.to_string(), None, Some(net.to_string()), None),
            Peer::Net(net @ IpNet::V6(_)) => (net.to_string(), None, None, Some(net.to_string())),
        };
        let key = format!("{group}_{protocol}_{from_port}_from_{}", name.replace(['.', ':', '/'], "_"));
        Self { key, group, protocol, from_port: *from_port, to_port: *to_port, description, peer, cidr_ipv4, cidr_ipv6 }
    }
}

/// A JSON document as an expression, two columns in, as it stands in a resource.
fn expression(document: &str) -> String {
    let document: Value = serde_json::from_str(document).expect("a policy is JSON");
    let mut out = String::new();
    write_value(&mut out, &document, 1);
    out
}

fn write_value(out: &mut String, value: &Value, depth: usize) {
    let line = |out: &mut String, depth: usize| {
        let _ = write!(out, "\n{:1$}", "", 2 * depth);
    };
    match value {
        Value::Object(entries) if !entries.is_empty() => {
            out.push('{');
            for (key, value) in entries {
                line(out, depth + 1);
                out.push_str(&hcl_string(key));
                out.push_str(" = ");
                write_value(out, value, depth + 1);
            }
            line(out, depth);
            out.push('}');
        }
        Value::Array(items) if items.iter().any(Value::is_object) => {
            out.push('[');
            for item in items {
                line(out, depth + 1);
                write_value(out, item, depth + 1);
                out.push(',');
            }
            line(out, depth);
            out.push(']');
        }
        Value::String(text) => {
            let parts: Vec<String> = text.split(REGION).map(hcl_string).collect();
            // Each part has its quotes; the region stands between them.
            match parts.join("\0").replace("\"\0\"", "${local.region}") {
                alone if alone == "\"${local.region}\"" => out.push_str("local.region"),
                quoted => out.push_str(&quoted),
            }
        }
        other => out.push_str(&super::render::hcl_value(other)),
    }
}

/// The text as `terraform fmt` has it: the signs of equality of neighbouring lines stand below each other, and no two
/// empty lines follow one another.
fn formatted(text: &str) -> String {
    let lines: Vec<&str> = text.lines().map(str::trim_end).collect();
    let mut out = String::with_capacity(text.len() + text.len() / 4);
    let mut at = 0;
    while at < lines.len() {
        let run: Vec<(&str, &str)> = lines[at..].iter().map_while(|line| assignment(line)).collect();
        let width = run.iter().map(|(name, _)| name.chars().count()).max().unwrap_or_default();
        for (name, value) in &run {
            let padding = width - name.chars().count();
            let _ = writeln!(out, "{name}{:padding$} = {value}", "");
        }
        at += run.len();
        if let Some(line) = lines.get(at).filter(|_| run.is_empty()) {
            let doubled = line.is_empty() && (out.is_empty() || out.ends_with("\n\n"));
            if !doubled {
                // One that opens a block or a list keeps a single space.
                out.push_str(line);
                out.push('\n');
            }
            at += 1;
        }
    }
    out
}

/// A line `name = value` that is whole by itself: its name with what stands before it, and its value.
fn assignment(line: &str) -> Option<(&str, &str)> {
    let indent = line.len() - line.trim_start().len();
    let rest = &line[indent..];
    let name = match rest.strip_prefix('"') {
        Some(quoted) => {
            let mut escaped = false;
            let end = quoted.find(|c| {
                let ends = c == '"' && !escaped;
                escaped = c == '\\' && !escaped;
                ends
            })?;
            end + 2
        }
        None => rest.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == '-')).filter(|end| *end > 0)?,
    };
    let value = rest[name..].trim_start().strip_prefix("= ")?;
    let opens = |c: &char| "([{".contains(*c);
    (!value.chars().next_back().as_ref().is_some_and(opens)).then_some((&line[..indent + name], value))
}

#[cfg(test)]
mod tests;
