//! The rules of the cluster's two security groups, from `policies/ports.json` and the spec, and how they differ
//! from those that are there.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use ipnet::IpNet;
use serde::Deserialize;

use crate::model::ec2::{Ingress, Peer};
use crate::model::host::Role;
use crate::model::name::ClusterName;
use crate::model::spec::Service;

/// Begins the description of each rule of ours. One without it was made by somebody else, and is theirs.
const OURS: &str = "clusterctl: ";
/// The longest description that EC2 takes.
const LONGEST: usize = 255;

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    #[allow(dead_code, reason = "for people")]
    about: String,
    ports: Vec<Port>,
    metrics: Metrics,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Port {
    name: String,
    port: u16,
    protocols: Vec<String>,
    from: From,
    to: To,
    #[allow(dead_code, reason = "for people, and equal to docs/architecture.md")]
    why: String,
    #[allow(dead_code, reason = "for people")]
    source: String,
}

/// The ports of the spec's services with metrics.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Metrics {
    /// Before the service's name.
    name: String,
    protocols: Vec<String>,
    from: From,
    #[allow(dead_code, reason = "for people, and equal to docs/architecture.md")]
    why: String,
    #[allow(dead_code, reason = "for people")]
    source: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum From {
    Operator,
    All,
    Server,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum To {
    All,
    Server,
}

static TABLE: LazyLock<Table> = LazyLock::new(|| {
    serde_json::from_str(include_str!("../../../policies/ports.json")).expect("a test reads the embedded table")
});

/// The cluster's groups: that of all hosts, and that of the servers, which are in both.
pub fn group_names(cluster: &ClusterName) -> [String; 2] {
    [format!("clusterctl-{cluster}"), format!("clusterctl-{cluster}-server")]
}

/// What each of the two groups lets in. `groups` are their ids (or names, where they are not made yet), in the
/// order of [`group_names`]; the answer is in that order too.
pub fn rules(groups: &[String; 2], ssh_from: &[IpNet], services: &[Service]) -> [Vec<Ingress>; 2] {
    let [all, server] = groups;
    let peers = |from: From| -> Vec<Peer> {
        match from {
            From::All => vec![Peer::Group(all.clone())],
            From::Server => vec![Peer::Group(server.clone())],
            From::Operator => ssh_from.iter().map(|net| Peer::Net(net.trunc())).collect(),
        }
    };
    let mut rules = [Vec::new(), Vec::new()];
    for port in &TABLE.ports {
        let into = &mut rules[usize::from(port.to == To::Server)];
        add(into, &port.protocols, port.port, peers(port.from), &port.name);
    }
    for (service, port) in services.iter().filter_map(|service| Some((service, metrics_port(service)?))) {
        // Nodes have no group of their own: what they run is let in where all are.
        let only_servers = service.roles.iter().all(|role| *role == Role::Server);
        let into = &mut rules[usize::from(only_servers)];
        let name = format!("{} {}", TABLE.metrics.name, service.name);
        add(into, &TABLE.metrics.protocols, port, peers(TABLE.metrics.from), &name);
    }
    rules
}

fn metrics_port(service: &Service) -> Option<u16> {
    service.metrics.as_ref().and_then(|metrics| metrics.port.or(service.port))
}

/// Adds a rule for each protocol and peer. What EC2 would call the same rule stands once: it refuses doubles.
fn add(rules: &mut Vec<Ingress>, protocols: &[String], port: u16, peers: Vec<Peer>, name: &str) {
    for peer in peers {
        for protocol in protocols {
            let description = described(name);
            let rule =
                Ingress { protocol: protocol.clone(), from_port: port, to_port: port, peer: peer.clone(), description };
            if !rules.iter().any(|known| identity(known) == identity(&rule)) {
                rules.push(rule);
            }
        }
    }
}

/// A description as EC2 takes it, saying that the rule is ours.
fn described(name: &str) -> String {
    let fine = |c: &char| c.is_ascii_alphanumeric() || " ._-:/()#,@[]+=&;{}!$*".contains(*c);
    OURS.chars().chain(name.chars()).filter(fine).take(LONGEST).collect()
}

/// What makes it that rule for EC2. The description is not of it: the same rule with another one is a double.
fn identity(rule: &Ingress) -> (&str, u16, u16, Peer) {
    let peer = match &rule.peer {
        Peer::Net(net) => Peer::Net(net.trunc()),
        group => group.clone(),
    };
    (&rule.protocol, rule.from_port, rule.to_port, peer)
}

/// What is wanted and not there, and what is there, was made by us, and is not wanted. A rule that is wanted
/// and there is there whoever made it; one that somebody else made is never too much.
pub fn diff(wanted: &[Ingress], present: &[Ingress]) -> (Vec<Ingress>, Vec<Ingress>) {
    let known: BTreeSet<_> = present.iter().map(identity).collect();
    let asked: BTreeSet<_> = wanted.iter().map(identity).collect();
    let missing = wanted.iter().filter(|rule| !known.contains(&identity(rule)));
    let extra = present.iter().filter(|rule| is_ours(rule) && !asked.contains(&identity(rule)));
    (missing.cloned().collect(), extra.cloned().collect())
}

/// Rules that are there, not wanted, and somebody else's: for a report, since they are left.
pub fn others<'a>(wanted: &[Ingress], present: &'a [Ingress]) -> Vec<&'a Ingress> {
    let asked: BTreeSet<_> = wanted.iter().map(identity).collect();
    present.iter().filter(|rule| !is_ours(rule) && !asked.contains(&identity(rule))).collect()
}

fn is_ours(rule: &Ingress) -> bool {
    rule.description.starts_with(OURS)
}

/// A rule as people read it: `tcp 22 from 203.0.113.0/24 (SSH)`.
pub fn shown(rule: &Ingress) -> String {
    let protocol = if rule.protocol == "-1" { "all protocols" } else { &rule.protocol };
    let ports = match (rule.from_port, rule.to_port) {
        (0, u16::MAX) => String::new(),
        (from, to) if from == to => format!(" {from}"),
        (from, to) => format!(" {from}-{to}"),
    };
    let peer = match &rule.peer {
        Peer::Group(group) => group.clone(),
        Peer::Net(net) => net.to_string(),
    };
    let why = rule.description.strip_prefix(OURS).unwrap_or(&rule.description);
    let why = if why.is_empty() { String::new() } else { format!(" ({})", why.escape_debug()) };
    format!("{protocol}{ports} from {}{why}", peer.escape_debug())
}

#[cfg(test)]
mod tests;
