//! What a host of an image does when it boots: the script as it is rendered, in dash and in busybox, on a machine whose
//! /etc and programs are the test's own, with a metadata service on loopback and an `aws` that knows a few parameters.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::process::Command;

use clusterctl::core::render::{Renderer, Subject, absent};
use clusterctl::core::templates::Overrides;
use clusterctl::model::file::FileSource;
use clusterctl::model::host::Role;
use clusterctl::model::init::Init;
use clusterctl::model::name::ClusterName;
use clusterctl::model::spec::{Join, ProviderSpec, Secrets, Spec};
use serde_json::json;

use crate::moto::{Metadata, Service};
use crate::support::answer;

mod machine;

pub use machine::{Machine, SHELLS, which};

use machine::NOTES;

/// A spec for images whose hosts are told when they boot.
pub fn spec(consul: &str, servers: u16, secrets: Secrets) -> Spec {
    let mut spec = Spec::sandbox(ClusterName::new("shop").unwrap());
    spec.join = Join::Boot;
    spec.provider = ProviderSpec::Sandbox { servers, nodes: 2 };
    spec.versions.consul = consul.parse().unwrap();
    spec.image.secrets = secrets;
    spec
}

/// One of the texts that an image of this role holds.
pub fn rendered(spec: &Spec, role: Role, at: &str) -> String {
    let subject = Subject { role, init: Init::Systemd, name: None, address: None, servers: Vec::new() };
    let wanted = Renderer::new(&Overrides::new()).unwrap().wanted(spec, &subject, &absent(spec, role)).unwrap();
    let file = wanted.files.iter().find(|file| file.path.as_str() == at).unwrap_or_else(|| panic!("no {at}"));
    match &file.source {
        FileSource::Text(text) => text.clone(),
        FileSource::Executable(_) => panic!("{at} is a program"),
    }
}

const BOOT: &str = "/usr/local/lib/clusterctl/boot";

const NOWHERE: &str = "http://127.0.0.1:1";
const KEY: &str = "q83vEjRWeJq83vEjRWeJqw==";
const TOKEN: &str = "01234567-89ab-CDEF-0123-456789abcdef";
type Knows = &'static [(&'static str, &'static str)];
const PLAIN: Knows =
    &[("instance-id", "i-0123456789abcdef0"), ("local-ipv4", "10.1.2.3"), ("placement/region", "eu-west-1")];
const TOLD: Knows = &[
    ("instance-id", "i-0123456789abcdef0"),
    ("local-ipv4", "10.1.2.3"),
    ("placement/region", "eu-west-1"),
    (
        "/latest/user-data",
        "#cloud-config\n# clusterctl: cluster=shop-build\nruncmd: [\"# clusterctl: cluster=evil\"]\n# clusterctl: name=shop-node-7\r\n",
    ),
];

#[test]
fn the_scripts_are_clean() {
    let dir = tempfile::tempdir().unwrap();
    let mut count = 0;
    for consul in ["0.5.2", "0.7.5", "1.0.0", "1.8.7", "1.22.7"] {
        for (role, servers) in [(Role::Node, 1), (Role::Server, 1), (Role::Server, 3)] {
            for secrets in [Secrets::Without, Secrets::Ssm] {
                count += 1;
                fs::write(dir.path().join(format!("{count}")), rendered(&spec(consul, servers, secrets), role, BOOT))
                    .unwrap();
            }
        }
    }
    let mut shellcheck = Command::new(which("shellcheck"));
    shellcheck.args(["--shell=sh", "--norc"]).args((1..=count).map(|n| dir.path().join(n.to_string())));
    answer(shellcheck).expect(0);
}

fn aws(tag: &str, cluster: &str) -> String {
    format!("provider=aws tag_key=clusterctl:{tag} tag_value={cluster} region=eu-west-1 addr_type=private_v4")
}

#[test]
fn an_instance_is_told_by_its_metadata() {
    for (shell, asks) in [("dash", "curl"), ("dash", "wget"), ("busybox", "curl")] {
        let service = Service::start(Metadata::Second, PLAIN);
        let machine = Machine::new(shell, &format!("{}/", service.endpoint), &[asks]);
        let plain = spec("1.22.7", 3, Secrets::Without);
        let (found, said) = machine.boots(&plain, Role::Node);
        let meta = |cluster: &str, role: &str| json!({ "clusterctl-cluster": cluster, "clusterctl-role": role });
        let expected = json!({
            "node_name": "i-0123456789abcdef0", "bind_addr": "10.1.2.3", "retry_join": [aws("leader", "shop")],
            "retry_interval": "10s", "node_meta": meta("shop", "node"),
        });
        assert_eq!(found, expected, "{shell} {asks}");
        assert!(said.stderr.contains("cluster shop, name i-0123456789abcdef0") && said.stderr.lines().count() == 1);
        assert!(!machine.seen().contains("dG9rZW4tb2YtdGhlLXRlc3Q"), "the token is in a command line");
        let asked = service.asked();
        assert_eq!(asked[0], "PUT /latest/api/token");
        assert!(asked[1..].iter().all(|path| path.starts_with("GET ") && path.ends_with(" with a token")), "{asked:?}");
        // Whoever launched it may say more.
        let service = Service::start(Metadata::Second, TOLD);
        let machine = Machine::new(shell, &service.endpoint, &[asks]);
        let (found, _) = machine.boots(&plain, Role::Server);
        let expected = json!({
            "node_name": "shop-node-7", "bind_addr": "10.1.2.3",
            "retry_join": [aws("leader", "shop-build"), aws("cluster", "shop-build")], "retry_interval": "10s",
            "node_meta": meta("shop-build", "server"),
        });
        assert_eq!(found, expected);
        let (found, _) = machine.boots(&spec("1.0.0", 1, Secrets::Without), Role::Server);
        assert_eq!((&found["retry_join"], &found["retry_interval"]), (&json!(["10.1.2.3"]), &json!("1s")));
    }
}

#[test]
fn a_file_says_all_and_nobody_else_is_asked() {
    for shell in SHELLS {
        let machine = Machine::new(shell, NOWHERE, &["curl"]);
        machine.told("# for the test\n\ncluster=shop-build\nname=shop-node-1\nservers=10.0.0.1 10.0.0.2 10.0.0.3\naddress=10.0.0.9");
        let (found, _) = machine.boots(&spec("1.22.7", 3, Secrets::Without), Role::Node);
        let expected = json!({
            "node_name": "shop-node-1", "bind_addr": "10.0.0.9", "retry_join": ["10.0.0.1", "10.0.0.2", "10.0.0.3"],
            "retry_interval": "1s", "node_meta": { "clusterctl-cluster": "shop-build", "clusterctl-role": "node" },
        });
        assert_eq!(found, expected);
        // Every key is optional. What nobody tells, Consul finds out; the oldest knows no template for that.
        machine.told("servers=10.0.0.1");
        let (found, _) = machine.boots(&spec("0.7.5", 3, Secrets::Without), Role::Server);
        assert_eq!(found["bind_addr"], json!("{{ GetPrivateIP }}"));
        let (found, _) = machine.boots(&spec("0.5.2", 3, Secrets::Without), Role::Server);
        assert_eq!(found, json!({ "retry_join": ["10.0.0.1"], "retry_interval": "1s" }));
        // The only server looks for nobody.
        machine.told("");
        let (found, _) = machine.boots(&spec("0.5.2", 1, Secrets::Without), Role::Server);
        assert_eq!(found, json!({ "retry_interval": "1s" }));
        // A node must find somebody: EC2 knows, and what the file tells still holds.
        machine.waits(
            &spec("1.22.7", 1, Secrets::Without),
            Role::Node,
            &["metadata at http://127.0.0.1:1", "no token"],
        );
        let service = Service::start(Metadata::Both, TOLD);
        let machine = Machine::new(shell, &service.endpoint, &["curl"]);
        machine.told("cluster=other\n");
        let (found, _) = machine.boots(&spec("1.22.7", 1, Secrets::Without), Role::Node);
        assert_eq!(
            (&found["node_name"], &found["retry_join"]),
            (&json!("shop-node-7"), &json!([aws("leader", "other")]))
        );
    }
}

#[test]
fn what_has_not_its_form_is_refused() {
    let plain = spec("1.22.7", 3, Secrets::Without);
    let long = format!("cluster={}", "a".repeat(41));
    let lines = [
        ("cluster=Shop", "cluster"),
        ("cluster=", "cluster"),
        ("cluster=a\",\"x", "cluster"),
        ("cluster=$(touch x)", "cluster"),
        ("cluster=-a", "cluster"),
        (&long, "cluster"),
        ("cluster=a\ncluster=b", "twice"),
        ("name=a b", "name"),
        ("name=a\u{1b}[31m", "name"),
        ("name=é", "name"),
        ("address=10.0.0.256", "address"),
        ("address=010.0.0.1", "address"),
        ("address=10.0.0.1 10.0.0.2", "address"),
        ("address=*", "address"),
        ("address=0.0.0.0", "address"),
        ("servers=10.0.0.1,10.0.0.2", "servers"),
        ("servers=10.0.0.1 provider=aws", "servers"),
        ("servers=fd00::1", "servers"),
        ("servers=10.0.0", "servers"),
        ("encrypt=x", "encrypt"),
        ("cluster name=x", "none of key=value"),
        ("=x", "none of key=value"),
        ("*=x", "none of key=value"),
        ("name", "none of key=value"),
        (" name=x", "none of key=value"),
    ];
    let machine = Machine::new("dash", NOWHERE, &["curl"]);
    let other = Machine::new("busybox", NOWHERE, &["curl"]);
    for (n, (line, why)) in lines.into_iter().enumerate() {
        let machine = if n % 3 == 0 { &other } else { &machine };
        machine.told(&format!("{line}\n"));
        machine.waits(&plain, Role::Node, &["/etc/clusterctl/boot", why]);
        assert!(!machine.path("tmp/x").exists());
    }
    let hostile: [(Knows, &str); 7] = [
        (&[("instance-id", "i-0123\nx"), ("local-ipv4", "10.1.2.3"), ("placement/region", "eu-west-1")], "instance-id"),
        (&[("instance-id", "shop-node-1")], "instance-id"),
        (&[("instance-id", "i-01234567"), ("local-ipv4", "10.1.2.3.4")], "local-ipv4"),
        (&[("instance-id", "i-01234567"), ("local-ipv4", "10.1.2.3")], "placement/region"),
        (
            &[("instance-id", "i-01234567"), ("local-ipv4", "10.1.2.3"), ("placement/region", "eu-west-1 x=y")],
            "placement/region",
        ),
        (
            &[
                ("instance-id", "i-01234567"),
                ("local-ipv4", "10.1.2.3"),
                ("placement/region", "eu-west-1"),
                ("/latest/user-data", "# clusterctl: cluster=a b\n"),
            ],
            "user-data tells \"a b\" as cluster",
        ),
        (
            &[
                ("instance-id", "i-01234567"),
                ("local-ipv4", "10.1.2.3"),
                ("placement/region", "eu-west-1"),
                ("/latest/user-data", "# clusterctl: servers=10.0.0.1\n"),
            ],
            "user-data",
        ),
    ];
    for (knows, why) in hostile {
        for shell in SHELLS {
            let service = Service::start(Metadata::Second, knows);
            Machine::new(shell, &service.endpoint, &["curl"]).waits(&plain, Role::Node, &[why]);
        }
    }
    // Metadata that anybody may read are none of our instances'.
    let service = Service::start(Metadata::First, PLAIN);
    Machine::new("dash", &service.endpoint, &["curl"]).waits(&plain, Role::Node, &["no token"]);
    Machine::new("dash", &service.endpoint, &[]).waits(&plain, Role::Node, &["neither curl nor wget"]);
}

/// The network may come late, and somebody may mend what is wrong.
#[test]
fn it_waits_until_all_is_there() {
    for shell in SHELLS {
        let machine = Machine::new(shell, NOWHERE, &["curl"]);
        machine.told("servers=none\n");
        let (mut child, mut lines) = machine.start(&spec("1.22.7", 3, Secrets::Without), Role::Node);
        assert!(lines.next().unwrap().ends_with("trying again in 1 s"));
        assert!(lines.next().unwrap().ends_with("trying again in 2 s"));
        assert!(child.try_wait().unwrap().is_none() && !machine.output().exists());
        machine.told("servers=10.0.0.1\n");
        assert!(lines.last().unwrap().contains("is new"));
        assert!(child.wait().unwrap().success() && machine.output().exists());
    }
}

#[test]
fn what_has_not_changed_is_not_written() {
    for shell in SHELLS {
        let machine = Machine::new(shell, NOWHERE, &["curl"]);
        let plain = spec("1.22.7", 3, Secrets::Without);
        machine.told("servers=10.0.0.1\n");
        machine.boots(&plain, Role::Node);
        let about =
            || fs::metadata(machine.output()).map(|about| (about.ino(), about.mtime(), about.mtime_nsec())).unwrap();
        let before = about();
        // Others' hands on it are undone all the same.
        fs::set_permissions(machine.output(), fs::Permissions::from_mode(0o666)).unwrap();
        assert_eq!(machine.boots(&plain, Role::Node).1.stderr, "");
        assert_eq!(about(), before, "{shell}");
        machine.told("servers=10.0.0.2\n");
        let (found, said) = machine.boots(&plain, Role::Node);
        assert!(found["retry_join"] == json!(["10.0.0.2"]) && said.stderr.contains("is new"));
        // A link is no file of ours, wherever it leads.
        fs::rename(machine.output(), machine.path("elsewhere")).unwrap();
        std::os::unix::fs::symlink(machine.path("elsewhere"), machine.output()).unwrap();
        machine.boots(&plain, Role::Node);
        assert!(fs::symlink_metadata(machine.output()).unwrap().is_file());
    }
}

#[test]
fn secrets_come_from_parameters_and_are_seen_nowhere() {
    let service = Service::start(Metadata::Second, TOLD);
    let (key, token) = ("/clusterctl/shop-build/gossip-key", "/clusterctl/shop-build/agent-token");
    for shell in SHELLS {
        let machine = Machine::new(shell, &service.endpoint, &["curl"]);
        let with = |consul| spec(consul, 1, Secrets::Ssm);
        machine.waits(&with("1.22.7"), Role::Node, &["no aws command", "install"]);
        machine.parameters(&[(key, KEY), (token, TOKEN), ("/clusterctl/shop/gossip-key", "another cluster's")]);
        let (found, said) = machine.boots(&with("1.22.7"), Role::Node);
        assert_eq!(found["encrypt"], json!(KEY));
        assert_eq!(found["acl"], json!({ "enabled": true, "tokens": { "agent": TOKEN, "default": TOKEN } }));
        let seen = format!("{}{}{}", machine.seen(), said.stdout, said.stderr);
        assert!(seen.contains(&format!("--name {key} --with-decryption")), "the wrapper has noted nothing: {seen}");
        assert!(!seen.contains(KEY) && !seen.contains(TOKEN), "{shell}");
        // This Consul has no such tokens.
        let (found, _) = machine.boots(&with("1.0.0"), Role::Server);
        assert!(found["encrypt"] == json!(KEY) && found.get("acl").is_none());
        // Each is optional; what was removed goes.
        machine.parameters(&[(token, TOKEN)]);
        let (found, _) = machine.boots(&with("1.22.7"), Role::Server);
        assert!(found.get("encrypt").is_none() && found["acl"]["enabled"] == json!(true));
        machine.parameters(&[]);
        let (found, _) = machine.boots(&with("1.22.7"), Role::Node);
        assert!(found.get("encrypt").is_none() && found.get("acl").is_none());
        // Without secrets nobody asks.
        let _ = fs::remove_file(machine.path("seen"));
        machine.boots(&spec("1.22.7", 1, Secrets::Without), Role::Node);
        assert!(!machine.seen().contains("ssm"));
        // An error is no absence.
        fs::write(machine.path("denied"), "").unwrap();
        machine.waits(&with("1.22.7"), Role::Node, &["ssm:GetParameter", key, "AccessDeniedException"]);
        fs::remove_file(machine.path("denied")).unwrap();
        for bad in ["short", "q83vEjRWeJq83vEjRWeJqw=", &format!("{KEY}\nmore"), &format!("{KEY}\", \"x\": \""), ""] {
            machine.parameters(&[(key, bad)]);
            let complaint = machine.waits(&with("1.22.7"), Role::Node, &[key, "16, 24 or 32 bytes"]);
            assert!(bad.is_empty() || !complaint.contains(bad), "{complaint}");
        }
        for bad in ["none", "01234567-89ab-CDEF-0123-456789abcdeg", "0123456789abCDEF0123456789abcdef"] {
            machine.parameters(&[(key, KEY), (token, bad)]);
            let complaint = machine.waits(&with("1.22.7"), Role::Node, &[token, "UUID"]);
            assert!(!complaint.contains(bad), "{complaint}");
        }
    }
}

#[test]
fn keys_of_every_length_are_keys() {
    let service = Service::start(Metadata::Second, PLAIN);
    let machine = Machine::new("dash", &service.endpoint, &["curl"]);
    for key in [KEY, "q83vEjRWeJq83vEjRWeJq83vEjRWeJq8", "q83vEjRWeJq83vEjRWeJq83vEjRWeJq83vEjRWeJq80="] {
        machine.parameters(&[("/clusterctl/shop/gossip-key", key)]);
        let (found, _) = machine.boots(&spec("0.5.2", 1, Secrets::Ssm), Role::Server);
        assert_eq!(found["encrypt"], json!(key));
    }
}

/// A Consul that cannot ask EC2 has it asked before it starts.
#[test]
fn an_old_consul_is_told_addresses() {
    let service = Service::start(Metadata::Second, TOLD);
    for shell in SHELLS {
        let machine = Machine::new(shell, &service.endpoint, &["curl"]);
        let old = spec("0.5.2", 1, Secrets::Without);
        let script = rendered(&old, Role::Node, "/usr/local/lib/clusterctl/find-leader");
        let at = machine.path("local/lib/clusterctl/find-leader");
        fs::write(&at, script).unwrap();
        fs::set_permissions(&at, fs::Permissions::from_mode(0o755)).unwrap();
        let row = |address: &str, cluster: &str| {
            format!("    [\n        \"{address}\",\n        \"True\",\n        \"{cluster}\"\n    ]")
        };
        let answer = format!("[\n{},\n{}\n]\n", row("10.7.7.7", "shop-build"), row("10.6.6.6", "shop"));
        machine.program("aws", &format!("{NOTES}exec /bin/cat <<'EOF'\n{answer}EOF\n"));
        let (found, _) = machine.boots(&old, Role::Node);
        assert_eq!(
            found,
            json!({ "node_name": "shop-node-7", "bind_addr": "10.1.2.3", "retry_join": ["10.7.7.7"], "retry_interval": "1s" }),
            "the cluster that it is told, not the one that is baked in"
        );
        assert!(machine.seen().contains("describe-instances --region eu-west-1 "));
        machine.program("aws", "echo '[]'\n");
        let (mut child, mut lines) = machine.start(&old, Role::Node);
        assert!(lines.next().unwrap().starts_with("find-leader: no running instance in eu-west-1"));
        assert!(lines.next().unwrap().contains("no server of the cluster is to be found; trying again in 1 s"));
        child.kill().unwrap();
        child.wait().unwrap();
    }
}
