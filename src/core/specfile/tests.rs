use proptest::prelude::*;

use super::*;
use std::collections::BTreeMap;

use crate::model::host::Role;
use crate::model::spec::{CheckKind, PrometheusSpec, ProviderSpec};
use crate::model::version::Preset;

mod dialects;

/// The mistakes of `text`, as the user sees them.
fn mistakes(text: &str) -> String {
    match parse(text, "cluster.toml") {
        Ok(spec) => panic!("no mistake was found in:\n{text}\n{spec:#?}"),
        Err(errors) => errors.to_string(),
    }
}

/// A whole spec with `more` behind it.
fn sandbox(more: &str) -> String {
    format!("[cluster]\nname = \"shop\"\nprovider = \"sandbox\"\n{more}")
}

fn inventory(hosts: &str) -> String {
    format!("[cluster]\nname = \"shop\"\nprovider = \"inventory\"\n{hosts}")
}

/// Hosts with these addresses.
fn addresses(of: &[&str]) -> String {
    let host = |(n, at): (usize, &&str)| format!("[[host]]\nname = \"h{n}\"\naddress = \"{at}\"\n");
    inventory(&(SERVER.to_owned() + &of.iter().enumerate().map(host).collect::<String>()))
}

const SERVER: &str = "[[host]]\nname = \"a\"\nrole = \"server\"\naddress = \"10.0.0.1\"\n";

/// Shown together, so that they read as one text when they are reviewed.
fn all(cases: &[(&str, String)]) -> String {
    cases.iter().map(|(title, text)| format!("## {title}\n{}\n", mistakes(text))).collect::<Vec<_>>().join("\n")
}

#[test]
fn mistakes_in_the_file_as_a_whole() {
    insta::assert_snapshot!(all(&[
        ("no TOML", "[cluster\nname = 1".to_owned()),
        ("an unclosed string", "[cluster]\nname = \"shop\n".to_owned()),
        ("the same key twice", sandbox("name = \"b\"")),
        ("the same table twice", sandbox("[ssh]\nport = 1\n[ssh]\nuser = \"a\"")),
        (
            "a table and a key of one name",
            sandbox("[versions]\n[prometheus]\nretention = \"1d\"\n[prometheus.retention]")
        ),
        ("nothing", String::new()),
        ("an unknown section", sandbox("[prometeus]\nx = 1")),
        ("a section that is a value", "ssh = 3\n".to_owned() + &sandbox("")),
        ("no name, no provider", "[cluster]\n".to_owned()),
        ("a provider of another version", "[cluster]\nname = \"shop\"\nprovider = \"gce\"\n".to_owned()),
        ("a provider by its maker", "[cluster]\nname = \"shop\"\nprovider = \"AWS\"\n".to_owned()),
        ("a provider mistyped", "[cluster]\nname = \"shop\"\nprovider = \"sandbx\"\n".to_owned()),
        ("a name that DNS refuses", "[cluster]\nname = \"My Shop\"\nprovider = \"sandbox\"\n".to_owned()),
        ("a datacenter that Consul refuses", sandbox("datacenter = \"eu.west\"")),
        ("control characters", sandbox("templates = \"a\\u0007b\\u001b[2J\"")),
    ]));
}

#[test]
fn mistakes_in_settings() {
    insta::assert_snapshot!(all(&[
        ("an unknown key", sandbox("[sandbox]\nnode = 3")),
        ("a number as a string", sandbox("[sandbox]\nnodes = \"3\"")),
        ("two servers", sandbox("[sandbox]\nservers = 2")),
        ("too many nodes", sandbox("[sandbox]\nnodes = 999")),
        ("a duration without a unit", sandbox("[prometheus]\nscrape_interval = 5\nretention = \"15\"")),
        ("a duration too short", sandbox("[prometheus]\nscrape_interval = \"1ms\"")),
        ("labels", sandbox("[prometheus]\nexternal_labels = { \"9x\" = \"a\", __own = \"b\", fine = 3 }")),
        (
            "versions",
            sandbox(
                "[versions]\nconsul = \"v1.22.7\"\nprometheus = \"3.13\"\nnode_exporter = \"0.9.0\"\nconsol = \"1.0.0\""
            )
        ),
        ("a mirror that is none", sandbox("[artifacts]\nmirror = \"mirror.example\"")),
        ("a port that is none", sandbox("[ssh]\nport = 70000\nuser = \"-oProxyCommand=x\"")),
        ("a bastion that is none", sandbox("[ssh]\nbastion = \"-oProxyCommand=x\"")),
        ("a bastion's port", sandbox("[ssh]\nbastion = \"me@gate:x\"")),
        ("a chain of bastions", sandbox("[ssh]\nbastion = \"a,me@b\"")),
        ("an empty folder", sandbox("[artifacts]\nfolder = \"\"")),
    ]));
}

#[test]
fn mistakes_in_hosts() {
    insta::assert_snapshot!(all(&[
        ("no host", inventory("")),
        ("no server", inventory("[[host]]\nname = \"a\"\naddress = \"10.0.0.1\"")),
        ("hosts in a sandbox", sandbox(SERVER)),
        ("a sandbox among hosts", inventory(&format!("[sandbox]\nnodes = 1\n{SERVER}"))),
        ("one table instead of several", inventory("[host]\nname = \"a\"")),
        ("a name twice", inventory(&format!("{SERVER}[[host]]\nname = \"a\"\naddress = \"10.0.0.2\""))),
        ("an address twice", inventory(&format!("{SERVER}[[host]]\nname = \"b\"\naddress = \"10.0.0.1\"\nport = 22"))),
        (
            "addresses",
            inventory(&format!(
                "{SERVER}[[host]]\nname = \"b\"\naddress = \"10.0.0.300\"\n[[host]]\nname = \"c\"\naddress = \"root@10.0.0.3\"\n\
             [[host]]\nname = \"d\"\naddress = \"10.0.0.4:22\"\n[[host]]\nname = \"e\"\naddress = \"-oProxyCommand=x\"\n\
             [[host]]\nname = \"f\"\naddress = \"10.0.0.6\"\nprivate_address = \"inside\""
            ))
        ),
        (
            "addresses with more in them",
            addresses(&["http://web.example:80/x", "web:ssh", "[fd00::1]", "[fd00::1]:23"])
        ),
        ("addresses of no host", addresses(&["0.0.0.0", "224.0.0.1", "255.255.255.255", "::", "a..b", "fd00:::1"])),
        ("private addresses of no host", {
            let of = ["127.0.0.1", "::", "ff02::1", "169.254.1.1", "fe80::1", "255.255.255.255", "::ffff:127.0.0.1"];
            let host = |(n, at): (usize, &&str)| {
                format!("[[host]]\nname = \"h{n}\"\naddress = \"10.0.1.{n}\"\nprivate_address = \"{at}\"\n")
            };
            inventory(&(SERVER.to_owned() + &of.iter().enumerate().map(host).collect::<String>()))
        }),
        (
            "a private address twice",
            inventory(&format!(
                "{SERVER}private_address = \"10.1.0.1\"\n[[host]]\nname = \"b\"\naddress = \"10.0.0.2\"\n\
                 private_address = \"10.1.0.1\""
            ))
        ),
        ("a user with a command", inventory(&format!("{SERVER}user = \"root;id\""))),
        ("what is missing", inventory(&format!("{SERVER}[[host]]\nrole = \"sever\""))),
        ("a host key that is none", inventory(&format!("{SERVER}host_keys = [\"ssh-ed25519 AAAA\", 3]"))),
    ]));
}

#[test]
fn mistakes_in_services() {
    let service = |text: &str| sandbox(&format!("[[service]]\nname = \"web\"\n{text}"));
    insta::assert_snapshot!(all(&[
        ("a name that is taken", sandbox("[[service]]\nname = \"consul\"")),
        ("a name twice", service("[[service]]\nname = \"web\"")),
        ("no name", sandbox("[[service]]\nport = 1")),
        ("no check", service("check = { interval = \"1s\" }")),
        ("two checks", service("check = { http = \"http://x\", tcp = \"x:1\" }")),
        (
            "bad checks",
            service(
                "check = { http = \"localhost\" }\n[[service]]\nname = \"b\"\ncheck = { tcp = \"localhost\" }\n[[service]]\nname = \"c\"\ncheck = { args = [\"check.sh\"] }"
            )
        ),
        ("metrics without a port", service("metrics = { path = \"metrics\" }")),
        ("roles and tags", service("roles = [\"nodes\"]\ntags = \"v1\"")),
        ("a check that is a word", service("check = \"http\"\nmetrics = 9200")),
        ("an empty tag", service("tags = [\"v1\", \"\"]")),
        (
            "hosts that a sandbox never has",
            service("hosts = [\"nosuch\", \"shop-nod-1\", \"shop-node-07\", \"shop-node-9\"]")
        ),
        ("a host that is not there", inventory(&format!("{SERVER}[[service]]\nname = \"web\"\nhosts = [\"b\"]"))),
    ]));
}

#[test]
fn a_small_spec_has_the_defaults() {
    let spec = parse(&sandbox(""), "cluster.toml").unwrap();
    assert_eq!(spec, Spec::sandbox(ClusterName::new("shop").unwrap()));
}

#[test]
fn a_whole_spec_is_read() {
    let key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGHgoxN4fa6UXXrV1n8mCpgGQ6Qw0e3C2fJ2VXvFtkHk";
    let text = inventory(&format!(
        "datacenter = \"eu_1\"\ntemplates = \"t\"\n{SERVER}private_address = \"fd00::1\"\nport = 2222\nuser = \"admin\"\n\
         key = \"~/k\"\nhost_keys = [\"{key} root@a\"]\n[[host]]\nname = \"b\"\naddress = \"web.example\"\n\
         [ssh]\nuser = \"root\"\nport = 23\nkey = \"k\"\nbastion = \"me@[fd00::9]:23\"\n[versions]\nconsul = \"1.20.0\"\n\
         [prometheus]\nscrape_interval = \"500ms\"\nretention = \"2w\"\nexternal_labels = {{ region = \"eu \\\"x\\\"\" }}\n\
         [[service]]\nname = \"web\"\nport = 80\ntags = [\"b\", \"a\"]\nroles = [\"server\", \"node\"]\nhosts = [\"b\"]\n\
         check = {{ args = [\"/bin/true\", \"$x\"], interval = \"30s\", timeout = \"1s\" }}\nmetrics = {{ port = 81 }}\n\
         [artifacts]\nmirror = \"http://m/x\"\nfolder = \"f\"\n"
    ));
    insta::assert_debug_snapshot!(parse(&text, "cluster.toml").unwrap());
}

#[test]
fn the_starter_is_a_spec_and_so_are_its_examples() {
    let name = ClusterName::new("web-shop").unwrap();
    let text = starter(&name);
    assert_eq!(parse(&text, "cluster.toml").unwrap(), Spec::sandbox(name));
    // Comments that are TOML lines, without the prose around them.
    let tables = ["[[", "[ec2", "[fleet]", "[alertmanager]"];
    let is_toml =
        |line: &str| tables.iter().any(|table| line.starts_with(table)) || line.split(' ').nth(1) == Some("=");
    let uncomment = |line: &str| match line.strip_prefix("# ") {
        Some(rest) if is_toml(rest) => rest.to_owned(),
        _ => line.to_owned(),
    };
    let lines: Vec<String> = text.lines().map(uncomment).collect();
    let at = |start: &str| lines.iter().position(|line| line.starts_with(start)).unwrap();
    let [sandbox, ec2, hosts, ssh] = ["[sandbox]", "[ec2]", "[[host]]", "[ssh]"].map(at);
    // The whole text with what is of one provider.
    let of = |provider: &str, part: &[String]| {
        let text = [&lines[..sandbox], part, &lines[ssh..]].concat().join("\n");
        let text = text.replace("provider = \"sandbox\"", &format!("provider = \"{provider}\""));
        parse(&text, "cluster.toml").unwrap()
    };
    let spec = of("sandbox", &lines[sandbox..ec2]);
    assert_eq!(spec.services.len(), 1);
    let labels = BTreeMap::from([("region".to_owned(), "eu".to_owned())]);
    let prometheus = PrometheusSpec { external_labels: labels, ..PrometheusSpec::of("inventory") };
    assert_eq!(spec.prometheus, prometheus);
    assert_eq!(spec.alertmanager.unwrap().webhooks, ["https://alerts.example/hook"]);
    assert_eq!(spec.versions, Preset::Current.versions());
    let ProviderSpec::Inventory { hosts } = of("inventory", &lines[hosts..ssh]).provider else { panic!() };
    assert!(hosts.len() == 2 && hosts[0].role == Role::Server);
    let spec = of("ec2", &lines[ec2..at("[[host]]")]);
    assert_eq!(spec.fleet.map(|fleet| (fleet.size, fleet.instance_types.len(), fleet.spot_percent)), Some((10, 2, 80)));
    let ProviderSpec::Ec2(ec2) = spec.provider else { panic!() };
    assert_eq!((ec2.tags.len(), ec2.root_volume.size, ec2.subnets.len()), (1, Some(20), 1));
}

#[test]
fn every_key_is_in_the_reference() {
    let reference = include_str!("../../../docs/spec.md");
    let keys = "name datacenter provider templates servers nodes role address private_address port user key \
                host_keys consul prometheus node_exporter scrape_interval retention external_labels tags roles \
                hosts check metrics mirror folder region profile instance_type server_instance_type ami \
                ami_name ami_owner vpc subnets security_groups ssh_from reach key_pair instance_profile spot \
                size kind encrypted bastion join discovery webhooks preset consul_template alertmanager unhealthy \
                min max image instance_types on_demand spot_percent min_healthy";
    for key in keys.split(' ') {
        assert!(reference.contains(&format!("`{key}`")), "{key}");
    }
}

#[test]
fn what_is_no_text_is_a_mistake_with_its_place() {
    let mut bytes = sandbox("").into_bytes();
    let at = bytes.iter().position(|b| *b == b'h').unwrap();
    bytes[at] = 0xe4;
    insta::assert_snapshot!(parse_bytes(&bytes, "cluster.toml", None).unwrap_err().to_string(), @r#"
    cluster.toml:2:10: here the file is no UTF-8 text
      |
    2 | name = "s�op"
      |          ^
      = save it as UTF-8, or remove what stands here
    "#);
    assert!(parse_bytes(sandbox("").as_bytes(), "cluster.toml", None).is_ok());
}

fn toml_string(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

proptest! {
    #[test]
    fn no_text_is_too_strange(text in "\\PC{0,200}|[\\[\\]a-z=\"'{}#\n\u{0}-\u{1f}.0-9]{0,200}") {
        let _ = parse(&text, "x").map_err(|errors| errors.to_string());
        let _ = parse(&sandbox(&text), "x").map_err(|errors| errors.to_string());
    }

    #[test]
    fn no_slip_in_a_good_spec_is_too_strange(at in 0usize..3000, with in "\\PC|[\n\"\\[\\]=]", cut in 0usize..20) {
        let mut text: Vec<char> = starter(&ClusterName::new("shop").unwrap()).replace("# ", "").chars().collect();
        let at = at.min(text.len());
        let end = (at + cut).min(text.len());
        text.splice(at..end, with.chars());
        let _ = parse(&text.iter().collect::<String>(), "x").map_err(|errors| errors.to_string());
    }

    /// What a user may write freely arrives as it was written, or is refused.
    #[test]
    fn free_texts_arrive_as_they_were(text in "\\PC{0,60}|[\"'\\\\${}%#`\n\u{0}-\u{7f}]{0,60}", long in 0usize..2) {
        let text = if long == 1 { text.repeat(300) } else { text };
        let spec = sandbox(&format!(
            "[prometheus]\nexternal_labels = {{ a = {0} }}\n[[service]]\nname = \"web\"\ntags = [{0}]\n\
             check = {{ args = [\"/x\", {0}] }}\n", toml_string(&text)
        ));
        match parse(&spec, "x") {
            Ok(spec) => {
                prop_assert_eq!(&spec.prometheus.external_labels["a"], &text);
                prop_assert!(spec.services[0].tags.contains(&text));
                let kind = &spec.services[0].check.as_ref().unwrap().kind;
                prop_assert_eq!(kind, &CheckKind::Args(vec!["/x".to_owned(), text]));
            }
            Err(errors) => {
                prop_assert!(text.chars().any(char::is_control) || text.trim().is_empty(), "{}", errors);
                let shown = errors.to_string();
                prop_assert!(!shown.chars().any(|c| c.is_control() && c != '\n'), "{:?}", shown);
            }
        }
    }
}

#[test]
fn another_preset_counts_for_what_the_file_does_not_name() {
    let text = sandbox("[versions]\npreset = \"current\"\nconsul = \"1.8.7\"\n");
    let spec = parse_bytes(text.as_bytes(), "cluster.toml", Some(Preset::Classic)).unwrap();
    let versions = (spec.versions.consul.to_string(), spec.versions.prometheus.to_string());
    assert_eq!(versions, ("1.8.7".to_owned(), "0.14.0".to_owned()));
    assert_eq!(spec.prometheus.discovery, crate::model::spec::Discovery::ConsulTemplate);
}
