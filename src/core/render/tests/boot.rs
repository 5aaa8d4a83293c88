//! Images whose hosts are told when they boot, and the servers of a fleet.

use super::readers::unit;
use super::schema::Agent;
use super::*;
use crate::model::spec::{FleetSpec, Join, ProviderSpec, Secrets};

fn told(consul: &str) -> Spec {
    let mut spec = Spec { join: Join::Boot, ..spec() };
    spec.versions.consul = consul.parse().unwrap();
    spec
}

fn of_image(spec: &Spec, role: Role, init: Init) -> Wanted {
    let subject = Subject { role, init, name: None, address: None, servers: Vec::new() };
    RENDERER.wanted(spec, &subject, &absent(spec, role)).unwrap()
}

/// What another join would not have, or not so.
fn shown(wanted: &Wanted) -> String {
    let parts =
        ["/consul.json", "/clusterctl/", "clusterctl-", "/consul.service", "/consul.conf", "/prometheus.service"];
    let files = texts(wanted).into_iter().filter(|(at, _)| parts.iter().any(|part| at.contains(part)));
    let mut shown = String::new();
    for unit in &wanted.units {
        shown += &format!("unit {unit}\n");
    }
    for (at, text) in files {
        shown += &format!("=== {at}\n{text}\n");
    }
    shown
}

#[test]
fn every_text_of_an_image_that_is_told_at_boot() {
    let mut current = told("1.22.7");
    current.image.secrets = Secrets::Ssm;
    insta::assert_snapshot!("node at boot, systemd", shown(&of_image(&current, Role::Node, Init::Systemd)));
    current.provider = ProviderSpec::Sandbox { servers: 3, nodes: 1 };
    insta::assert_snapshot!("server at boot, systemd", shown(&of_image(&current, Role::Server, Init::Systemd)));
    let mut classic = told("0.5.2");
    classic.versions = Preset::Classic.versions();
    let wanted = of_image(&classic, Role::Node, Init::Upstart(upstart::OLDEST));
    insta::assert_snapshot!("node at boot, Upstart", shown(&wanted));
}

fn fleet() -> Spec {
    let mut spec = Spec { provider: ProviderSpec::Ec2(Box::default()), fleet: Some(FleetSpec::default()), ..spec() };
    spec.join = Join::Addresses;
    spec
}

#[test]
fn every_text_of_a_fleets_server() {
    let host = peer("shop-server-1", Role::Server, 1);
    let of =
        |init| RENDERER.wanted(&fleet(), &Subject::of(&host, std::slice::from_ref(&host), init), &artifacts()).unwrap();
    insta::assert_snapshot!("server of a fleet, systemd", shown(&of(Init::Systemd)));
    let job = |wanted: &Wanted| text(wanted, "/etc/init/clusterctl-reap.conf").to_owned();
    let jobs = [upstart::OLDEST, semver::Version::new(1, 13, 2)].map(|version| job(&of(Init::Upstart(version))));
    insta::assert_snapshot!("server of a fleet, Upstart", jobs.join("\n===\n"));
}

#[test]
fn a_fleet_is_the_servers_matter_and_ec2s() {
    let host = peer("shop-server-1", Role::Server, 1);
    let node = peer("shop-node-1", Role::Node, 2);
    let reaps =
        |spec: &Spec, host: &Peer| wanted(spec, host).units.iter().any(|unit| unit.as_str() == "clusterctl-reap");
    assert!(reaps(&fleet(), &host) && !reaps(&fleet(), &node));
    assert!(
        !reaps(&Spec { fleet: None, ..fleet() }, &host)
            && !reaps(&Spec { fleet: FleetSpec::default().into(), ..spec() }, &host)
    );
    let joins = |spec: &Spec, host: &Peer| {
        let json: Json = serde_json::from_str(text(&wanted(spec, host), "/etc/consul.d/consul.json")).unwrap();
        json["retry_join"].as_array().cloned().unwrap_or_default()
    };
    let gather = "provider=aws tag_key=clusterctl:cluster tag_value=shop addr_type=private_v4";
    assert_eq!(joins(&fleet(), &host), ["10.0.0.1", gather]);
    assert_eq!(joins(&fleet(), &node), ["10.0.0.1"]);
    assert_eq!(joins(&Spec { join: Join::Tag, ..fleet() }, &host), ["10.0.0.1", gather]);
    let mut old = fleet();
    old.versions.consul = semver::Version::new(1, 6, 10);
    assert_eq!(joins(&old, &host), ["10.0.0.1"], "it cannot ask with a token");
}

/// `boot.json` comes first, and of two values Consul takes the last; of lists, both.
#[test]
fn nothing_of_the_boots_stands_in_a_later_file() {
    for consul in ["0.5.2", "0.7.5", "1.22.7"] {
        for role in [Role::Server, Role::Node] {
            let wanted = of_image(&told(consul), role, Init::Systemd);
            let json: Json = serde_json::from_str(text(&wanted, "/etc/consul.d/consul.json")).unwrap();
            for key in ["node_name", "bind_addr", "retry_join", "retry_interval", "node_meta", "encrypt", "acl"] {
                assert_eq!(json.get(key), None, "{consul} {role}");
            }
            assert_eq!(json["leave_on_terminate"], Json::Bool(!role.is_server()));
            if consul == "0.5.2" {
                let agent: Agent = serde_json::from_value(json).unwrap();
                assert!(agent.retry_join.is_empty() && agent.retry_interval.is_none());
            }
        }
    }
    let json: Json =
        serde_json::from_str(text(&wanted(&spec(), &peer("a", Role::Node, 2)), "/etc/consul.d/consul.json")).unwrap();
    assert_eq!(json["leave_on_terminate"], Json::Bool(false));
}

/// The machine's own boot waits for nothing of this: no target is ordered behind what may take for ever.
#[test]
fn a_boot_is_not_held_up() {
    let mut spec = told("1.22.7");
    spec.prometheus.discovery = crate::model::spec::Discovery::ConsulTemplate;
    let wanted = of_image(&spec, Role::Server, Init::Systemd);
    let units: BTreeMap<String, _> = texts(&wanted)
        .iter()
        .filter_map(|(at, text)| Some((at.strip_suffix(".service")?.rsplit('/').next()?.to_owned(), unit(text))))
        .collect();
    let values = |name: &str, of: &str| {
        let values = units[name].iter().filter(|(_, key, _)| key == of).flat_map(|(_, _, value)| value.split(' '));
        values.map(|value| value.trim_end_matches(".service").to_owned()).collect::<Vec<_>>()
    };
    let mut late = BTreeSet::from(["clusterctl-boot".to_owned()]);
    // Whoever comes after such a unit waits as long.
    for _ in 0..units.len() {
        let behind = units.keys().filter(|name| values(name, "After").iter().any(|after| late.contains(after)));
        late.extend(behind.cloned().collect::<Vec<_>>());
    }
    for name in units.keys() {
        if late.contains(name) {
            assert_eq!(values(name, "DefaultDependencies"), ["no"], "{name}");
            assert_eq!(
                (values(name, "Before"), values(name, "Conflicts")),
                (vec!["shutdown.target".to_owned()], vec!["shutdown.target".to_owned()])
            );
        } else {
            assert!(values(name, "DefaultDependencies").is_empty(), "{name}");
        }
    }
    let late: Vec<&str> = late.iter().map(String::as_str).collect();
    assert_eq!(late, ["clusterctl-boot", "consul", "consul-template", "prometheus"]);
}

/// Who installs and starts these units finds each running afterwards: what has done its work and ended is none of them.
#[test]
fn what_ends_is_started_by_consuls_unit() {
    for init in [Init::Systemd, Init::Upstart(upstart::OLDEST)] {
        let wanted = of_image(&told("1.22.7"), Role::Node, init.clone());
        assert_eq!(wanted.units.iter().map(UnitName::as_str).collect::<Vec<_>>(), ["consul", "node_exporter"]);
        let consul =
            texts(&wanted).into_iter().find(|(at, _)| at.contains("/consul.service") || at.contains("/consul.conf"));
        let boots = if init == Init::Systemd {
            "Requires=clusterctl-boot.service"
        } else {
            "    /usr/local/lib/clusterctl/boot\n"
        };
        assert!(consul.unwrap().1.contains(boots));
        let checked = |path: &str| wanted.checks.iter().any(|check| check.covers.iter().any(|at| at.as_str() == path));
        assert_eq!(checked("/etc/systemd/system/clusterctl-boot.service"), init == Init::Systemd);
    }
}
