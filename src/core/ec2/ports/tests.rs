use proptest::prelude::*;

use super::*;
use crate::model::name::ServiceName;
use crate::model::spec::ServiceMetrics;

fn groups() -> [String; 2] {
    group_names(&ClusterName::new("shop").unwrap())
}

fn service(name: &str, port: Option<u16>, roles: &[Role], metrics: Option<Option<u16>>) -> Service {
    Service {
        name: ServiceName::new(name).unwrap(),
        port,
        tags: BTreeSet::new(),
        roles: roles.iter().copied().collect(),
        hosts: BTreeSet::new(),
        check: None,
        metrics: metrics.map(|port| ServiceMetrics { path: "/metrics".to_owned(), port, unhealthy: true }),
    }
}

fn text(rules: &[Vec<Ingress>; 2]) -> String {
    let list = |rules: &[Ingress]| rules.iter().map(|rule| format!("  {}\n", shown(rule))).collect::<String>();
    format!("all:\n{}servers:\n{}", list(&rules[0]), list(&rules[1]))
}

#[test]
fn the_rules_of_a_cluster() {
    let ssh_from: Vec<IpNet> = ["203.0.113.7/32", "2001:db8::/56"].map(|net| net.parse().unwrap()).to_vec();
    let services = [
        service("web", Some(80), &[Role::Node], None),
        service("api", Some(8080), &[Role::Node], Some(None)),
        service("api-admin", None, &[Role::Node, Role::Server], Some(Some(8080))),
        service("dash", Some(3000), &[Role::Server], Some(Some(3001))),
    ];
    insta::assert_snapshot!(text(&rules(&groups(), &ssh_from, &services)));
}

#[test]
fn nothing_is_open_to_the_world_by_default() {
    for rule in rules(&groups(), &[], &[]).concat() {
        assert!(matches!(rule.peer, Peer::Group(_)), "{}", shown(&rule));
    }
}

#[test]
fn descriptions_are_as_ec2_takes_them() {
    let name = "a".repeat(63);
    let services = [service(&name, Some(1), &[Role::Node], Some(None))];
    for rule in rules(&groups(), &["10.0.0.0/8".parse().unwrap()], &services).concat() {
        assert!(is_ours(&rule) && rule.description.len() <= LONGEST, "{}", rule.description);
        let fine = |c: char| c.is_ascii_alphanumeric() || " ._-:/()#,@[]+=&;{}!$*".contains(c);
        assert!(rule.description.chars().all(fine), "{}", rule.description);
    }
    assert_eq!(described("Consul's\n\u{e9}"), "clusterctl: Consuls");
    assert_eq!(described(&"x".repeat(999)).len(), LONGEST);
}

/// docs/architecture.md has the same table, so that reading it is reading what is open.
#[test]
fn the_documents_table_is_this_one() {
    let document = include_str!("../../../../docs/architecture.md");
    let (_, section) = document.split_once("## Ports between the hosts").unwrap();
    let documented: Vec<&str> = section
        .lines()
        .filter(|line| line.starts_with('|'))
        .skip(2)
        .map(|line| line.trim_matches(['|', ' ']))
        .collect();
    let from = |from: From| match from {
        From::Operator => "you",
        From::All => "all",
        From::Server => "servers",
    };
    let row = |port: &Port| {
        let to = if port.to == To::Server { "servers" } else { "all" };
        format!("{} {} | {} | {to} | {}", port.port, port.protocols.join(" + "), from(port.from), port.why)
    };
    let mut rows: Vec<String> = TABLE.ports.iter().map(row).collect();
    let metrics = &TABLE.metrics;
    rows.push(format!("a service's port | {} | where it runs | {}", from(metrics.from), metrics.why));
    assert_eq!(documented, rows);
    assert!(TABLE.ports.iter().all(|port| !port.source.is_empty()));
}

#[test]
fn a_hand_made_rule_is_left_and_an_old_one_of_ours_goes() {
    let [wanted, _] = rules(&groups(), &["203.0.113.7/32".parse().unwrap()], &[]);
    let rule = |description: &str, net: &str, port: u16| Ingress {
        protocol: "tcp".to_owned(),
        from_port: port,
        to_port: port,
        peer: Peer::Net(net.parse().unwrap()),
        description: description.to_owned(),
    };
    let old = rule("clusterctl: SSH", "198.51.100.0/24", 22);
    let theirs = rule("backup", "10.9.0.0/16", 873);
    // The same rule as one of ours, made by hand: it is there, and stays theirs.
    let same = rule("", "203.0.113.7/32", 22);
    let present = [old.clone(), theirs.clone(), same.clone()];
    let (missing, extra) = diff(&wanted, &present);
    assert_eq!(missing.len(), wanted.len() - 1);
    assert_eq!(extra, [old]);
    assert_eq!(others(&wanted, &present), [&theirs]);
    assert_eq!(diff(&wanted, &wanted), (Vec::new(), Vec::new()));
    assert_eq!(diff(&[], &[theirs, same]), (Vec::new(), Vec::new()));
}

fn any_rule() -> impl Strategy<Value = Ingress> {
    let peer = prop_oneof![
        "sg-[a-c]".prop_map(Peer::Group),
        (0u8..3, 8u8..10).prop_map(|(a, bits)| Peer::Net(IpNet::new([10, a, 0, 1].into(), bits).unwrap())),
    ];
    (prop::sample::select(vec!["tcp", "udp"]), 0u16..3, 0u16..3, peer, prop::bool::ANY).prop_map(
        |(protocol, from_port, to_port, peer, ours)| Ingress {
            protocol: protocol.to_owned(),
            from_port,
            to_port,
            peer,
            description: if ours { "clusterctl: x" } else { "x" }.to_owned(),
        },
    )
}

proptest! {
    /// Adding what is missing and taking away what is too much leaves nothing to do, and loses nothing of others.
    #[test]
    fn a_difference_that_is_applied_is_none(
        wanted in prop::collection::vec(any_rule(), 0..12),
        present in prop::collection::vec(any_rule(), 0..12),
    ) {
        let (missing, extra) = diff(&wanted, &present);
        prop_assert!(extra.iter().all(is_ours));
        let mut after: Vec<Ingress> = present.iter().filter(|rule| !extra.contains(rule)).cloned().collect();
        prop_assert!(present.iter().filter(|rule| !is_ours(rule)).all(|rule| after.contains(rule)));
        after.extend(missing);
        prop_assert_eq!(diff(&wanted, &after), (Vec::new(), Vec::new()));
        after.reverse();
        prop_assert_eq!(diff(&wanted, &after), (Vec::new(), Vec::new()));
    }
}
