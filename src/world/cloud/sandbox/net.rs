//! A cluster's bridge and its hosts' network namespaces. A host's interface stands in its namespace with
//! its address before the host boots: nothing in it needs to configure it, and it answers from the first
//! moment. The way to the outside is `nat`'s.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use ipnet::Ipv4Net;
use serde::Deserialize;
use sha2::{Digest, Sha256};

use super::command::{run, run_with};
use super::state::{BridgeName, Network};
use super::subnet;
use crate::world::cloud::CloudError;

/// The name of the interface inside of a host.
const INSIDE: &str = "host0";
/// Below this IPv4 itself is not carried; above it an uplink's own MTU is of no use on a bridge.
const MTU: std::ops::RangeInclusive<u32> = 576..=1500;

#[derive(Debug, Deserialize)]
struct Link {
    ifname: String,
    ifalias: Option<String>,
    mtu: Option<u32>,
    #[serde(default)]
    addr_info: Vec<AddressInfo>,
}

#[derive(Debug, Deserialize)]
struct AddressInfo {
    family: String,
    local: Option<Ipv4AddrOrOther>,
    prefixlen: u8,
}

/// An address of either family; only IPv4 is looked at.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Ipv4AddrOrOther {
    V4(Ipv4Addr),
    Other(serde::de::IgnoredAny),
}

#[derive(Debug, Deserialize)]
struct Route {
    dst: String,
    dev: Option<String>,
}

/// What the machine's network looks like now.
#[derive(Debug)]
pub struct Machine {
    links: Vec<Link>,
    routes: Vec<Route>,
}

/// A list from `ip -json`. Entries of another form are skipped: iproute2 prints `{}` for what a filter hides.
fn list<T: serde::de::DeserializeOwned>(args: &[&str]) -> Result<Vec<T>, CloudError> {
    let text = run("ip", args)?;
    parse(&text).ok_or_else(|| CloudError::Command {
        command: format!("ip {}", args.join(" ")),
        detail: "its answer is no JSON list".to_owned(),
    })
}

fn parse<T: serde::de::DeserializeOwned>(text: &str) -> Option<Vec<T>> {
    // It prints nothing at all where it has nothing to list.
    let text = if text.trim().is_empty() { "[]" } else { text };
    let values: Vec<serde_json::Value> = serde_json::from_str(text).ok()?;
    Some(values.into_iter().filter_map(|v| serde_json::from_value(v).ok()).collect())
}

impl Machine {
    pub fn look() -> Result<Self, CloudError> {
        let routes = ["-json", "-4", "route", "show", "table", "all"];
        let mut links: Vec<Link> = list(&["-json", "address", "show"])?;
        // Not every iproute2 tells it with the addresses.
        for link in links.iter_mut().filter(|l| l.ifname.starts_with(BridgeName::PREFIX)) {
            let path = Path::new("/sys/class/net").join(&link.ifname).join("ifalias");
            link.ifalias = std::fs::read_to_string(path).ok().map(|alias| alias.trim().to_owned());
        }
        Ok(Self { links, routes: list(&routes)? })
    }

    /// Every IPv4 range that the machine uses or knows a way to.
    pub fn taken(&self) -> Vec<Ipv4Net> {
        let addresses = self.links.iter().flat_map(|l| &l.addr_info).filter(|a| a.family == "inet");
        let own = addresses.filter_map(|a| match a.local {
            Some(Ipv4AddrOrOther::V4(local)) => Ipv4Net::new(local, a.prefixlen).ok(),
            _ => None,
        });
        own.chain(self.routes.iter().filter_map(|r| destination(&r.dst))).collect()
    }

    /// Is there any cluster's bridge, of whatever root folder?
    pub fn has_clusters(&self) -> bool {
        self.links.iter().any(|l| BridgeName::try_from(l.ifname.clone()).is_ok())
    }

    /// The interfaces that lead to the outside.
    pub fn uplinks(&self) -> Vec<String> {
        let default = self.routes.iter().filter(|r| r.dst == "default");
        let mut names: Vec<String> = default.filter_map(|r| r.dev.clone()).collect();
        names.sort();
        names.dedup();
        names
    }

    /// The largest packet that passes all uplinks.
    fn mtu(&self) -> u32 {
        let uplinks = self.uplinks();
        let mtus = self.links.iter().filter(|l| uplinks.contains(&l.ifname)).filter_map(|l| l.mtu);
        mtus.min().unwrap_or(*MTU.end()).clamp(*MTU.start(), *MTU.end())
    }

    fn link(&self, name: &str) -> Option<&Link> {
        self.links.iter().find(|l| l.ifname == name)
    }

    fn ours<'a>(&'a self, owner: &'a str) -> impl Iterator<Item = &'a str> {
        self.links.iter().filter(move |l| l.ifalias.as_deref() == Some(owner)).map(|l| l.ifname.as_str())
    }
}

/// A route's destination; the default route is none.
fn destination(dst: &str) -> Option<Ipv4Net> {
    dst.parse().ok().or_else(|| dst.parse::<Ipv4Addr>().ok().map(Ipv4Net::from))
}

/// The mark on a bridge that says whose it is: it outlives every file.
pub fn owner(cluster_dir: &Path) -> String {
    let digest = Sha256::digest(cluster_dir.as_os_str().as_encoded_bytes());
    let hex: String = digest[..16].iter().map(|b| format!("{b:02x}")).collect();
    format!("clusterctl:{hex}")
}

fn hash(cluster_dir: &Path, salt: u8) -> u32 {
    let digest = Sha256::new().chain_update(cluster_dir.as_os_str().as_encoded_bytes()).chain_update([salt]).finalize();
    u32::from_be_bytes([digest[0], digest[1], digest[2], digest[3]])
}

/// A name and a subnet for a new cluster. The caller holds the machine's lock, so that no two choose the same;
/// `others` are the networks of the machine's other clusters, up or not.
pub fn choose(machine: &Machine, cluster_dir: &Path, others: &[Network], resolvers: &[Ipv4Addr]) -> Option<Network> {
    let own = owner(cluster_dir);
    let free = |name: &BridgeName| {
        let link = machine.link(name.as_str());
        link.is_none_or(|l| l.ifalias.as_deref() == Some(&own)) && !others.iter().any(|o| o.bridge == *name)
    };
    let bridge = (0..=u8::MAX).map(|salt| BridgeName::from_hash(hash(cluster_dir, salt))).find(free)?;
    let taken: Vec<_> = machine
        .taken()
        .into_iter()
        .chain(others.iter().map(|o| o.subnet))
        .chain(resolvers.iter().copied().map(Ipv4Net::from))
        .collect();
    Some(Network { bridge, subnet: subnet::choose(hash(cluster_dir, 0), &taken)? })
}

/// Makes the bridge unless it is there already.
pub fn make_bridge(machine: &Machine, network: &Network, cluster_dir: &Path) -> Result<(), CloudError> {
    let (bridge, own) = (network.bridge.as_str(), owner(cluster_dir));
    let mut batch = String::new();
    match machine.link(bridge) {
        Some(link) if link.ifalias.as_deref() == Some(&own) => {}
        Some(_) => {
            let detail = "an interface of this name exists and is not this cluster's".to_owned();
            return Err(CloudError::Command { command: format!("ip link add {bridge}"), detail });
        }
        // With an address of its own, since a bridge otherwise takes the lowest of its ports' and changes it.
        None => {
            batch += &format!("link add name {bridge} address {} type bridge\n", mac(network.gateway()));
            batch += &format!("link set dev {bridge} alias {own}\n");
        }
    }
    batch += &format!("link set dev {bridge} mtu {} up\n", machine.mtu());
    batch += &format!("address replace {}/{} dev {bridge}\n", network.gateway(), network.subnet.prefix_len());
    run_with("ip", ["-batch", "-"], &batch).map(drop)
}

/// Stable: who has the address has the same hardware address after a restart, so no cache goes stale.
fn mac(address: Ipv4Addr) -> String {
    let [a, b, c, d] = address.octets();
    format!("02:cc:{a:02x}:{b:02x}:{c:02x}:{d:02x}")
}

/// The name of a host's port on the bridge, of its network namespace and of its machine: unique on this
/// machine and within the 15 characters of an interface's name.
pub fn port(bridge: &BridgeName, address: Ipv4Addr) -> String {
    format!("{}h{}", bridge.as_str(), address.octets()[3])
}

/// Is it the name of some host's port on this bridge?
pub fn is_port(bridge: &BridgeName, name: &str) -> bool {
    let number = name.strip_prefix(bridge.as_str()).and_then(|n| n.strip_prefix('h'));
    number.is_some_and(|n| n.parse::<u8>().is_ok())
}

/// Where a namespace of this name is to be entered.
pub fn namespace_path(name: &str) -> PathBuf {
    Path::new("/run/netns").join(name)
}

/// Makes a host's namespace with its interface, address and route; what an earlier start left is replaced.
pub fn make_port(machine: &Machine, network: &Network, address: Ipv4Addr) -> Result<(), CloudError> {
    let (bridge, port) = (network.bridge.as_str(), port(&network.bridge, address));
    remove_port(&port)?;
    run("ip", ["netns", "add", &port])?;
    let mtu = machine.mtu();
    let outside = format!(
        "link add name {port} mtu {mtu} type veth peer name {INSIDE} mtu {mtu} address {} netns {port}\n\
         link set dev {port} master {bridge} up\n",
        mac(address)
    );
    run_with("ip", ["-batch", "-"], &outside)?;
    let inside = format!(
        "link set dev lo up\naddress add {address}/{} dev {INSIDE}\nlink set dev {INSIDE} up\n\
         route add default via {}\n",
        network.subnet.prefix_len(),
        network.gateway()
    );
    run_with("ip", ["-netns", &port, "-batch", "-"], &inside).map(drop)
}

/// Removes a host's port and namespace, whichever of them is there.
pub fn remove_port(port: &str) -> Result<(), CloudError> {
    if Path::new("/sys/class/net").join(port).exists() {
        run("ip", ["link", "delete", "dev", port])?;
    }
    if namespace_path(port).exists() {
        run("ip", ["netns", "delete", port])?;
    }
    Ok(())
}

/// What was removed: the bridges, and all of it in words.
#[derive(Debug, Default)]
pub struct Removal {
    pub bridges: Vec<BridgeName>,
    pub what: Vec<String>,
}

/// Removes every bridge of the cluster with all that hangs on it, known by `recorded` or by its mark.
pub fn remove(cluster_dir: &Path, recorded: &[BridgeName]) -> Result<Removal, CloudError> {
    let machine = Machine::look()?;
    let own = owner(cluster_dir);
    let mut bridges: Vec<BridgeName> =
        machine.ours(&own).filter_map(|name| BridgeName::try_from(name.to_owned()).ok()).collect();
    // A bridge that is gone (a reboot, a kill in between) may have left rules and namespaces of its name; with
    // all records lost too, its name is the first that `choose` tries.
    let first = BridgeName::from_hash(hash(cluster_dir, 0));
    bridges.extend(recorded.iter().chain([&first]).filter(|b| machine.link(b.as_str()).is_none()).cloned());
    bridges.sort();
    bridges.dedup();
    let mut what = Vec::new();
    for bridge in &bridges {
        for port in ports(bridge, &machine) {
            remove_port(&port)?;
            what.push(format!("network namespace {port}"));
        }
        if machine.link(bridge.as_str()).is_some() {
            run("ip", ["link", "delete", "dev", bridge.as_str()])?;
            what.push(format!("bridge {}", bridge.as_str()));
        }
        what.extend(super::nat::close(bridge)?);
    }
    Ok(Removal { bridges, what })
}

/// The bridge's ports and namespaces: by their names, since either half may be missing.
fn ports(bridge: &BridgeName, machine: &Machine) -> Vec<String> {
    let namespaces = std::fs::read_dir("/run/netns").into_iter().flatten().flatten();
    let mut names: Vec<String> = namespaces.filter_map(|e| e.file_name().into_string().ok()).collect();
    names.extend(machine.links.iter().map(|l| l.ifname.clone()));
    names.retain(|name| is_port(bridge, name));
    names.sort();
    names.dedup();
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine() -> Machine {
        let links = r#"[
            {"ifname":"lo","mtu":65536,"addr_info":[{"family":"inet","local":"127.0.0.1","prefixlen":8},
              {"family":"inet6","local":"::1","prefixlen":128}]},
            {"ifname":"eth0","mtu":1400,"addr_info":[{"family":"inet","local":"10.2.0.9","prefixlen":16}]},
            {},
            {"ifname":"ccs00000001","ifalias":"clusterctl:other","addr_info":[]}]"#;
        let routes = r#"[{"dst":"default","dev":"eth0"},{"dst":"10.3.0.0/16","dev":"eth0"},{"dst":"10.4.0.1"},
            {"dst":"default","dev":"eth0"},{"dst":"hostile/99"}]"#;
        Machine { links: parse(links).unwrap(), routes: parse(routes).unwrap() }
    }

    #[test]
    fn an_answer_that_is_no_list_is_told() {
        assert!(parse::<Link>("").unwrap().is_empty());
        assert!(parse::<Link>("{}").is_none() && parse::<Link>("[{").is_none());
    }

    #[test]
    fn what_the_machine_uses_is_taken() {
        let taken: Vec<String> = machine().taken().iter().map(ToString::to_string).collect();
        assert_eq!(taken, ["127.0.0.1/8", "10.2.0.9/16", "10.3.0.0/16", "10.4.0.1/32"]);
        assert_eq!(machine().uplinks(), ["eth0"]);
        assert_eq!(machine().mtu(), 1400);
    }

    #[test]
    fn a_taken_name_or_subnet_is_not_chosen() {
        let dir = Path::new("/x/clusters/a");
        let first = choose(&machine(), dir, &[], &[]).unwrap();
        assert_eq!(choose(&machine(), dir, &[], &[]).unwrap(), first, "the same again");
        let second = choose(&machine(), dir, std::slice::from_ref(&first), &[]).unwrap();
        assert!(second.bridge != first.bridge && second.subnet != first.subnet);
        let resolver = first.gateway();
        assert!(!choose(&machine(), dir, &[], &[resolver]).unwrap().subnet.contains(&resolver));

        let mut machine = machine();
        machine.links[2].ifname = first.bridge.as_str().to_owned();
        assert_ne!(choose(&machine, dir, &[], &[]).unwrap().bridge, first.bridge, "another's interface has the name");
        machine.links[2].ifalias = Some(owner(dir));
        assert_eq!(choose(&machine, dir, &[], &[]).unwrap().bridge, first.bridge, "it is our own");
    }

    #[test]
    fn ports_are_told_from_other_names() {
        let mut machine = machine();
        let bridge = BridgeName::from_hash(1);
        machine.links[1].ifname = "ccs00000001h7".to_owned();
        machine.links[0].ifname = "ccs00000001h700".to_owned();
        assert_eq!(ports(&bridge, &machine), ["ccs00000001h7"]);
    }
}
