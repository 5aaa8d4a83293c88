use std::collections::BTreeMap;

use super::*;
use crate::core::specfile;
use crate::model::file::FileSource;

fn cluster() -> ClusterName {
    ClusterName::new("shop").unwrap()
}

fn wishes() -> Wishes {
    Wishes::default()
}

fn refused(spec: Spec, wishes: &Wishes) -> String {
    spec_with(spec, wishes).unwrap_err().to_string()
}

fn text<'a>(image: &'a Image, path: &str) -> &'a str {
    let file = image.wanted.files.iter().find(|file| file.path.as_str() == path);
    match &file.unwrap_or_else(|| panic!("no {path}")).source {
        FileSource::Text(text) => text,
        FileSource::Executable(_) => panic!("{path} is an executable"),
    }
}

#[test]
fn init_systems_by_name() {
    assert_eq!(init("systemd"), Ok(Init::Systemd));
    assert_eq!(init("upstart"), Ok(Init::Upstart(Version::new(1, 13, 2))));
    assert_eq!(init("upstart-0.6.5"), Ok(Init::Upstart(OLDEST_UPSTART)));
    assert_eq!(init("upstart-1.4"), Ok(Init::Upstart(Version::new(1, 4, 0))));
    for wrong in ["upstart-0.6.4", "upstart-", "upstart-x", "openrc", ""] {
        assert!(init(wrong).unwrap_err().contains("there are systemd, upstart"), "{wrong}");
    }
}

#[test]
fn versions_to_use() {
    let used: Use = "consul=1.8.7".parse().unwrap();
    assert_eq!((used.program, used.version), (Program::Consul, Version::new(1, 8, 7)));
    assert_eq!("prometheus=v2.42.0".parse::<Use>().unwrap().version, Version::new(2, 42, 0));
    for (named, program) in [("consul_template", Program::ConsulTemplate), ("node-exporter", Program::NodeExporter)] {
        assert_eq!(format!("{named}=1.0.0").parse::<Use>().unwrap().program, program);
    }
    for (wrong, because) in [
        ("consul", "has no \"=\""),
        ("consul=1.8", "is no version number"),
        ("consul=0.5.1", "take 0.5.2 or newer"),
        ("consol=1.8.7", "no program is named"),
        ("pushgateway=1.5.1", "nothing is rendered"),
    ] {
        let said = wrong.parse::<Use>().unwrap_err();
        assert!(said.contains(because), "{wrong}: {said}");
    }
}

#[test]
fn without_addresses_servers_are_found_by_tag() {
    let wishes = Wishes { region: Some("eu-west-1".to_owned()), ..wishes() };
    for spec in [without_spec(cluster(), Preset::Current), Spec::sandbox(cluster())] {
        let (spec, servers) = spec_with(spec, &wishes).unwrap();
        let renderer = Renderer::new(&BTreeMap::new()).unwrap();
        let images = images(&renderer, &spec, &[Role::Server, Role::Node], &Init::Systemd, &servers).unwrap();
        let node = text(&images[1], "/etc/consul.d/consul.json");
        let node: serde_json::Value = serde_json::from_str(node).unwrap();
        let found = ["True", "true", "TRUE"].map(|value| {
            format!("provider=aws tag_key=consul-leader tag_value={value} region=eu-west-1 addr_type=private_v4")
        });
        assert_eq!(node["retry_join"], serde_json::json!(found));
        // Its only server has nobody to look for.
        assert!(!text(&images[0], "/etc/consul.d/consul.json").contains("retry_join"));
    }
}

/// Another cluster of the account has a leader too.
#[test]
fn with_a_spec_of_ec2_only_the_clusters_own_leader_is_found() {
    for join in ["", "join = \"tag\"\n"] {
        let written = format!(
            "[cluster]\nname = \"shop\"\nprovider = \"ec2\"\n{join}[ec2]\nssh_from = [\"10.0.0.1\"]\n\
             region = \"eu-west-1\"\n"
        );
        let (spec, servers) = spec_with(specfile::parse(&written, "cluster.toml").unwrap(), &wishes()).unwrap();
        let renderer = Renderer::new(&BTreeMap::new()).unwrap();
        let images = images(&renderer, &spec, &[Role::Node], &Init::Systemd, &servers).unwrap();
        let node: serde_json::Value = serde_json::from_str(text(&images[0], "/etc/consul.d/consul.json")).unwrap();
        let found = "provider=aws tag_key=clusterctl:leader tag_value=shop region=eu-west-1 addr_type=private_v4";
        assert_eq!(node["retry_join"], serde_json::json!([found]));
    }
}

#[test]
fn addresses_that_are_named_are_joined() {
    let join: Vec<IpAddr> = ["10.0.0.1", "10.0.0.2", "10.0.0.3"].iter().map(|a| a.parse().unwrap()).collect();
    // One that is named twice is one.
    let wishes = Wishes { join: [&join[..], &join[..1]].concat(), ..wishes() };
    let (spec, servers) = spec_with(without_spec(cluster(), Preset::Classic), &wishes).unwrap();
    assert_eq!((spec.join, &servers), (Join::Addresses, &join));
    assert_eq!(spec.versions.consul, Version::new(0, 5, 2));
    let renderer = Renderer::new(&BTreeMap::new()).unwrap();
    let init = usual_init(Preset::Classic);
    let images = images(&renderer, &spec, &[Role::Server], &init, &servers).unwrap();
    let json: serde_json::Value = serde_json::from_str(text(&images[0], "/etc/consul.d/consul.json")).unwrap();
    assert_eq!(json["retry_join"], serde_json::json!(["10.0.0.1", "10.0.0.2", "10.0.0.3"]));
    assert_eq!(json["bootstrap_expect"], 3);
}

fn inventory(address: &str) -> Spec {
    let text = format!(
        "[cluster]\nname = \"shop\"\nprovider = \"inventory\"\n[[host]]\nname = \"a\"\nrole = \"server\"\n\
         address = \"{address}\"\n[[host]]\nname = \"b\"\naddress = \"10.0.0.2\"\n[[service]]\nname = \"web\"\n\
         port = 80\nhosts = [\"b\"]\n"
    );
    specfile::parse(&text, "cluster.toml").unwrap()
}

#[test]
fn hosts_of_ones_own_are_found_by_address_or_not_at_all() {
    let (spec, servers) = spec_with(inventory("10.0.0.1"), &wishes()).unwrap();
    assert_eq!((spec.join, servers), (Join::Addresses, vec!["10.0.0.1".parse().unwrap()]));
    assert!(refused(inventory("shop.example"), &wishes()).contains("`--join ADDRESS`"));
    assert_eq!(left_out(&spec, &[Role::Node]), ["web"]);
    assert!(left_out(&spec, &[Role::Server]).is_empty());
}

#[test]
fn fewer_addresses_than_servers_are_refused() {
    let mut spec = without_spec(cluster(), Preset::Current);
    if let ProviderSpec::Ec2(ec2) = &mut spec.provider {
        ec2.servers = 3;
    }
    let wishes = Wishes { join: vec!["10.0.0.1".parse().unwrap()], ..wishes() };
    assert_eq!(refused(spec, &wishes), "the spec has 3 servers, and --join names 1: name each server's address");
}

#[test]
fn servers_that_cannot_be_are_refused() {
    let said = |join: &[&str]| {
        let join = join.iter().map(|address| address.parse().unwrap()).collect();
        refused(without_spec(cluster(), Preset::Current), &Wishes { join, ..wishes() })
    };
    assert!(said(&["10.0.0.1", "10.0.0.2"]).contains("a cluster has 1, 3 or 5"));
    assert!(said(&["127.0.0.1"]).contains("a loopback address"));
    assert!(said(&["0.0.0.0"]).contains("no host's address"));
    assert!(said(&["fd00::1"]).contains("images speak IPv4"));
    let wishes = Wishes { region: Some("x;y tag_key=evil".to_owned()), ..wishes() };
    assert!(refused(without_spec(cluster(), Preset::Current), &wishes).contains("is no region"));
}

#[test]
fn conflicts_are_refused_with_reason_and_cure() {
    let mut spec = without_spec(cluster(), Preset::Current);
    spec.alertmanager = Some(crate::model::spec::AlertmanagerSpec { webhooks: Vec::new() });
    let wishes = Wishes { uses: vec!["prometheus=1.0.0".parse().unwrap()], ..wishes() };
    let said = refused(spec, &wishes);
    assert!(said.contains("cannot be told of an Alertmanager") && said.contains("take Prometheus 2.11.0"), "{said}");
}

/// Prometheus' own file has no comment of ours only where JSON knows none.
#[test]
fn each_file_says_who_wrote_it() {
    let renderer = Renderer::new(&BTreeMap::new()).unwrap();
    for preset in Preset::ALL {
        for init in [Init::Systemd, Init::Upstart(OLDEST_UPSTART), Init::Upstart(Version::new(1, 13, 2))] {
            let (spec, servers) = spec_with(without_spec(cluster(), preset), &wishes()).unwrap();
            for image in images(&renderer, &spec, &[Role::Server, Role::Node], &init, &servers).unwrap() {
                for (path, text) in super::super::judge::texts(&image.wanted) {
                    let head: String = text.lines().take(6).collect::<Vec<_>>().join(" ");
                    let said = head.contains("ritten by") && head.contains("clusterctl");
                    assert!(said || path.as_str().ends_with(".json"), "{preset} {init}: {path} begins:\n{head}");
                }
            }
        }
    }
}
