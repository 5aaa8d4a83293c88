//! Where the hosts come from: `[sandbox]`, `[[host]]` or `[ec2]`.

use std::collections::BTreeMap;
use std::net::IpAddr;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

use super::mistakes::Span;
use super::section::{At, Section};
use super::{Provider, address, ec2, folder, user};
use crate::core::names::nearest;
use crate::model::host::Role;
use crate::model::name::HostName;
use crate::model::spec::{InventoryHost, ProviderSpec, SshSpec};

/// Raft needs a majority: an even number of servers bears no more failures than one less.
pub const SERVERS: [usize; 3] = [1, 3, 5];

pub(super) fn read(file: &Section<'_>, ssh: &SshSpec, provider: Option<Provider>) -> Option<ProviderSpec> {
    let sandbox = file.section("sandbox", "[sandbox]");
    let ec2 = file.section("ec2", "[ec2]");
    let sections = file.sections("host", "[[host]]");
    let places = [
        (Provider::Sandbox, "[sandbox]", sandbox.is_there().then_some(&sandbox.at)),
        (Provider::Ec2, "[ec2]", ec2.is_there().then_some(&ec2.at)),
        (Provider::Inventory, "the [[host]] tables", sections.first().map(|section| &section.at)),
    ];
    if let Some(provider) = provider {
        for (of, what, at) in places.into_iter().filter(|(of, ..)| *of != provider) {
            meaningless(file, of, provider, what, at);
        }
    }
    let made = ProviderSpec::Sandbox {
        servers: servers(&sandbox),
        nodes: sandbox.integer("nodes", 0..=200, "2").map_or(2, |nodes| nodes.value),
    };
    sandbox.refuse_unknown();
    let launched = ec2::read(&ec2, provider == Some(Provider::Ec2));
    let hosts = hosts(&sections, ssh);
    match provider? {
        Provider::Sandbox => Some(made),
        Provider::Ec2 => Some(ProviderSpec::Ec2(Box::new(launched))),
        Provider::Inventory => {
            let at = sections.first().map_or(file.at.clone(), |section| section.at.clone());
            count_servers(file, &at, &hosts, sections.len());
            Some(ProviderSpec::Inventory { hosts })
        }
    }
}

/// What is of another provider than the cluster's.
fn meaningless(file: &Section<'_>, of: Provider, provider: Provider, what: &str, at: Option<&Span>) {
    let Some(at) = at else { return };
    let (shown, them) = match of {
        Provider::Inventory => ("[[host]]", what),
        _ => (what, "it"),
    };
    let message = format!("{shown} has no meaning with provider = \"{}\"", provider.as_str());
    file.sink.add(at, message, format!("take {them} out, or say provider = \"{}\"", of.as_str()));
}

/// How many servers are made.
pub(super) fn servers(section: &Section<'_>) -> u16 {
    let Some(servers) = section.integer("servers", 1..=5, "1") else { return 1 };
    if !SERVERS.contains(&usize::from(servers.value)) {
        let cure = "take 1, 3 or 5: two servers stand still when one is lost, as do four when two are";
        section.sink.add(&servers.at, format!("servers in {} must be odd", section.name), cure);
    }
    servers.value
}

fn count_servers(file: &Section<'_>, at: &Span, hosts: &[InventoryHost], tables: usize) {
    if tables == 0 {
        // `[host]` was reported by whoever read the tables.
        if !file.has("host") {
            let cure = "add a line [[host]] for each, and name, role and address below it";
            file.sink.add(at, "an inventory without hosts", cure);
        }
        return;
    }
    let servers = hosts.iter().filter(|host| host.role.is_server()).count();
    // A host that was refused for something else may have been the missing server.
    if hosts.len() == tables && !SERVERS.contains(&servers) {
        let cure = "give role = \"server\" to 1, 3 or 5 of the [[host]] tables";
        file.sink.add(at, format!("{servers} of the hosts are servers"), cure);
    }
}

fn hosts(sections: &[Section<'_>], ssh: &SshSpec) -> Vec<InventoryHost> {
    let mut names: BTreeMap<HostName, usize> = BTreeMap::new();
    let mut addresses: BTreeMap<(String, u16), usize> = BTreeMap::new();
    let mut private_addresses: BTreeMap<IpAddr, usize> = BTreeMap::new();
    let mut hosts = Vec::new();
    for section in sections {
        let name = section.parsed::<HostName>("name", "web-1");
        let address = address::public(section);
        let private_address = address::private(section);
        let private = private_address.as_ref().map(|given| given.value);
        let host = host(section, name.as_ref(), address.as_ref(), private);
        let sink = section.sink;
        if let Some(At { value, at }) = name {
            let line = sink.line(&at);
            if let Some(first) = names.insert(value.clone(), line) {
                let message = format!("two hosts are named {value}: on line {first} and on line {line}");
                sink.add(&at, message, "give each a name of its own");
            }
        }
        if let Some(At { value, at }) = address {
            let line = sink.line(&at);
            let port = host.as_ref().and_then(|host| host.port).or(ssh.port).unwrap_or(22);
            if let Some(first) = addresses.insert((value.clone(), port), line) {
                let message =
                    format!("two hosts have the address {value} and port {port}: on lines {first} and {line}");
                sink.add(&at, message, "one machine can be only one host: take one of them out");
            }
        }
        if let Some(At { value, at }) = private_address {
            let line = sink.line(&at);
            if let Some(first) = private_addresses.insert(value, line) {
                let message = format!("two hosts have the private_address {value}: on lines {first} and {line}");
                sink.add(&at, message, "the others tell hosts apart by it: give each its own");
            }
        }
        hosts.extend(host);
    }
    hosts
}

fn host(
    section: &Section<'_>,
    name: Option<&At<HostName>>,
    address: Option<&At<String>>,
    private_address: Option<IpAddr>,
) -> Option<InventoryHost> {
    let role = role(section);
    let port = section.port("port", "22");
    let user = user(section);
    let key = folder(section, "key", "~/.ssh/id_ed25519");
    let host_keys = section.texts("host_keys", "ssh-ed25519 AAAA…").unwrap_or_default();
    let host_keys = host_keys.iter().filter_map(|key| host_key(section, key)).collect();
    for key in ["name", "address"].into_iter().filter(|key| !section.has(key)) {
        section.missing(key, if key == "name" { "\"web-1\"" } else { "\"10.0.0.11\"" });
    }
    section.refuse_unknown();
    Some(InventoryHost {
        name: name?.value.clone(),
        role: role?,
        address: address?.value.clone(),
        private_address,
        port,
        user,
        key,
        host_keys,
    })
}

fn role(section: &Section<'_>) -> Option<Role> {
    let Some(given) = section.text("role", "node") else {
        return (!section.has("role")).then_some(Role::Node);
    };
    parse_role(section, &given)
}

/// One of the two roles.
pub(super) fn parse_role(section: &Section<'_>, given: &At<String>) -> Option<Role> {
    match given.value.as_str() {
        "server" => Some(Role::Server),
        "node" => Some(Role::Node),
        other => {
            let cure = match nearest(other, ["server", "node"]) {
                Some(near) => format!("did you mean \"{near}\"?"),
                None => "there are \"server\" and \"node\"".to_owned(),
            };
            section.sink.add(&given.at, format!("no role is named \"{}\"", other.escape_debug()), cure);
            None
        }
    }
}

/// `type base64 [comment]`, the base64 beginning with the same type.
fn host_key(section: &Section<'_>, given: &At<String>) -> Option<String> {
    let mut fields = given.value.split_whitespace();
    let (kind, blob) = (fields.next().unwrap_or(""), fields.next().unwrap_or(""));
    let known = ["ssh-ed25519", "ssh-rsa", "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521"];
    let named = |bytes: Vec<u8>| bytes.get(4..4 + kind.len()) == Some(kind.as_bytes());
    if known.contains(&kind) && BASE64_STANDARD.decode(blob).is_ok_and(named) {
        return Some(format!("{kind} {blob}"));
    }
    let cure =
        "take the first two words of the host's /etc/ssh/ssh_host_ed25519_key.pub, such as \"ssh-ed25519 AAAA…\"";
    section.sink.add(&given.at, "this is no public host key", cure);
    None
}
