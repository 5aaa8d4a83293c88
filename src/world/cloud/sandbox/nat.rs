//! The hosts' way to the outside: address translation, forwarding on the fewest interfaces, and rules that
//! let nobody else use what was opened. Best effort: a machine without tools for it still runs clusters.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::command::{find, run, run_with};
use super::net::Machine;
use super::state::{self, BridgeName, Network};
use super::{file_error, process};
use crate::world::cloud::CloudError;

/// The interfaces whose forwarding we turned on, to be turned off with the last cluster.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Opened {
    /// Settings of an earlier boot are gone by themselves.
    boot: String,
    uplinks: Vec<String>,
}

/// Opens the way; the answer is what stands in its way, in words for a warning. `record` is where the
/// changed settings are written down; the caller holds the machine's lock.
pub fn open(machine: &Machine, network: &Network, record: &Path) -> Result<Option<String>, CloudError> {
    let uplinks = machine.uplinks();
    if uplinks.is_empty() {
        return Ok(Some("this machine has no default route: the hosts reach only each other".to_owned()));
    }
    let opened = match forward(network, &uplinks, record) {
        Ok(opened) => opened,
        Err(e) => return Ok(Some(format!("the hosts cannot reach the outside: {e}"))),
    };
    let rules = if find("nft").is_some() {
        run_with("nft", ["-f", "-"], &ruleset(network, &opened)).map(drop)
    } else if find("iptables").is_some() {
        by_iptables(network, &opened)
    } else {
        return Ok(Some("neither nft nor iptables is installed: the hosts reach only this machine".to_owned()));
    };
    let rules = rules.and_then(|()| pass_iptables(network));
    Ok(rules.err().map(|e| format!("the hosts cannot reach the outside: {e}")))
}

/// The forwarding switch of one interface: packets that come in there may go out elsewhere.
fn switch(interface: &str) -> std::path::PathBuf {
    Path::new("/proc/sys/net/ipv4/conf").join(interface).join("forwarding")
}

/// Turns forwarding on for the bridge (gone with it) and the uplinks; the answer is the uplinks that we opened.
fn forward(network: &Network, uplinks: &[String], record: &Path) -> Result<Vec<String>, CloudError> {
    let mut opened = state::read::<Opened>(record)?.record().unwrap_or_default();
    let boot = process::boot_id();
    if opened.boot != boot {
        opened = Opened { boot, uplinks: Vec::new() };
    }
    for uplink in uplinks {
        let is_on = std::fs::read_to_string(switch(uplink)).is_ok_and(|s| s.trim() == "1");
        if !is_on && !opened.uplinks.contains(uplink) {
            opened.uplinks.push(uplink.clone());
            // Written before it is done: a kill in between must not leave it open for good.
            state::write(record, &opened)?;
        }
    }
    for interface in uplinks.iter().map(String::as_str).chain([network.bridge.as_str()]) {
        let path = switch(interface);
        if std::fs::read_to_string(&path).is_ok_and(|s| s.trim() == "1") {
            continue;
        }
        std::fs::write(&path, "1").map_err(|e| file_error("writing", &path, e))?;
    }
    Ok(opened.uplinks)
}

/// Turns off again what `forward` turned on; for when the last cluster is gone.
pub fn close_forwarding(record: &Path) -> Result<Vec<String>, CloudError> {
    let opened = state::read::<Opened>(record)?.record().unwrap_or_default();
    let mut closed = Vec::new();
    if opened.boot == process::boot_id() {
        for uplink in &opened.uplinks {
            let path = switch(uplink);
            if path.exists() {
                std::fs::write(&path, "0").map_err(|e| file_error("writing", &path, e))?;
                closed.push(format!("forwarding on {uplink}"));
            }
        }
    }
    let _ = std::fs::remove_file(record);
    Ok(closed)
}

/// One table named after the bridge, replaced as a whole.
fn ruleset(network: &Network, opened: &[String]) -> String {
    let (bridge, subnet) = (network.bridge.as_str(), network.subnet);
    // An uplink that forwards because of us must not forward for others.
    let guards: String = opened
        .iter()
        .map(|uplink| format!("    iifname \"{uplink}\" oifname != \"{}*\" drop\n", BridgeName::PREFIX))
        .collect();
    format!(
        "table ip {bridge}\ndelete table ip {bridge}\ntable ip {bridge} {{\n\
         \x20 chain outgoing {{\n    type nat hook postrouting priority 100; policy accept;\n\
         \x20   ip saddr {subnet} oifname != \"{bridge}\" masquerade\n  }}\n\
         \x20 chain passing {{\n    type filter hook forward priority 0; policy accept;\n\
         \x20   iifname \"{bridge}\" oifname \"{bridge}\" accept\n\
         \x20   oifname \"{bridge}\" ct state != {{ established, related }} drop\n{guards}  }}\n}}\n"
    )
}

/// The rules of a machine that filters by iptables: forwarded packets of ours pass. Bridged ones meet
/// the same chain where br_netfilter is on.
fn passes(bridge: &str) -> [Vec<&str>; 3] {
    [
        vec!["FORWARD", "-i", bridge, "-o", bridge, "-j", "ACCEPT"],
        // To the outside, not to another cluster.
        vec!["FORWARD", "-i", bridge, "!", "-o", ANY_BRIDGE, "-j", "ACCEPT"],
        vec!["FORWARD", "-o", bridge, "-m", "conntrack", "--ctstate", "RELATED,ESTABLISHED", "-j", "ACCEPT"],
    ]
}

fn pass_iptables(network: &Network) -> Result<(), CloudError> {
    if !filters_by_iptables() {
        return Ok(());
    }
    for rule in passes(network.bridge.as_str()) {
        if run("iptables", ["-w", "-C"].iter().chain(&rule)).is_err() {
            run("iptables", ["-w", "-I"].iter().chain(&rule))?;
        }
    }
    Ok(())
}

/// Does iptables' FORWARD chain exist and hold something?
fn filters_by_iptables() -> bool {
    let rules = || run("iptables", ["-w", "-S", "FORWARD"]);
    has_iptables("filter") && rules().is_ok_and(|rules| rules.trim() != "-P FORWARD ACCEPT")
}

/// Has the machine this table of iptables? Asked in ways that do not bring it into being, where there is one.
fn has_iptables(table: &str) -> bool {
    let legacy = || std::fs::read_to_string("/proc/net/ip_tables_names").is_ok_and(|t| t.lines().any(|l| l == table));
    let by_nft = || find("nft").is_none() || run("nft", ["list", "table", "ip", table]).is_ok();
    find("iptables").is_some() && (legacy() || by_nft())
}

/// What `ruleset` says, for a machine without nft: the table, and the rule for it.
fn iptables_rules<'a>(bridge: &'a str, subnet: &'a str, opened: &'a [String]) -> Vec<(&'static str, Vec<&'a str>)> {
    let masquerade = vec!["POSTROUTING", "-s", subnet, "!", "-o", bridge, "-j", "MASQUERADE"];
    let mut rules = vec![("nat", masquerade)];
    // The comment is by which they are found again.
    let ours = ["-m", "comment", "--comment", bridge, "-j", "DROP"];
    for uplink in opened {
        rules.push(("filter", [&["FORWARD", "-i", uplink, "!", "-o", ANY_BRIDGE][..], &ours].concat()));
    }
    let fresh =
        ["FORWARD", "!", "-i", bridge, "-o", bridge, "-m", "conntrack", "!", "--ctstate", "RELATED,ESTABLISHED"];
    rules.push(("filter", [&fresh[..], &ours].concat()));
    rules
}

/// iptables' way to say "an interface whose name begins so".
const ANY_BRIDGE: &str = "ccs+";

fn by_iptables(network: &Network, opened: &[String]) -> Result<(), CloudError> {
    let subnet = network.subnet.to_string();
    for (table, rule) in iptables_rules(network.bridge.as_str(), &subnet, opened) {
        if run("iptables", ["-w", "-t", table, "-C"].iter().chain(&rule)).is_err() {
            run("iptables", ["-w", "-t", table, "-A"].iter().chain(&rule))?;
        }
    }
    Ok(())
}

/// Removes what `open` made for this bridge, by whichever tool; the answer names it.
pub fn close(bridge: &BridgeName) -> Result<Vec<String>, CloudError> {
    let mut removed = Vec::new();
    let bridge = bridge.as_str();
    if find("nft").is_some() && run("nft", ["list", "table", "ip", bridge]).is_ok() {
        run("nft", ["delete", "table", "ip", bridge])?;
        removed.push(format!("nftables table {bridge}"));
    }
    for table in ["nat", "filter"] {
        removed.extend(close_iptables(table, bridge)?);
    }
    Ok(removed)
}

/// Deletes the rules that name the bridge.
fn close_iptables(table: &str, bridge: &str) -> Result<Option<String>, CloudError> {
    if !has_iptables(table) {
        return Ok(None);
    }
    let rules = run("iptables", ["-w", "-t", table, "-S"])?;
    let ours: Vec<_> = rules.lines().filter_map(|line| deletion(line, bridge)).collect();
    for rule in &ours {
        run("iptables", ["-w", "-t", table].iter().chain(rule))?;
    }
    Ok((!ours.is_empty()).then(|| format!("iptables rules of {bridge} in {table}")))
}

/// `-A CHAIN …` as the arguments that delete the rule, if it names the bridge.
fn deletion<'a>(line: &'a str, bridge: &str) -> Option<Vec<&'a str>> {
    let words: Vec<&str> = line.split_ascii_whitespace().collect();
    (words.first() == Some(&"-A") && words.contains(&bridge)).then(|| {
        let mut words = words;
        words[0] = "-D";
        words
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network() -> Network {
        Network { bridge: BridgeName::from_hash(1), subnet: "10.1.2.0/24".parse().expect("a subnet") }
    }

    #[test]
    fn the_ruleset_lets_only_our_own_pass() {
        insta::assert_snapshot!(ruleset(&network(), &["eth0".to_owned()]), @r#"
        table ip ccs00000001
        delete table ip ccs00000001
        table ip ccs00000001 {
          chain outgoing {
            type nat hook postrouting priority 100; policy accept;
            ip saddr 10.1.2.0/24 oifname != "ccs00000001" masquerade
          }
          chain passing {
            type filter hook forward priority 0; policy accept;
            iifname "ccs00000001" oifname "ccs00000001" accept
            oifname "ccs00000001" ct state != { established, related } drop
            iifname "eth0" oifname != "ccs*" drop
          }
        }
        "#);
    }

    #[test]
    fn iptables_rules_are_found_again_by_the_bridges_name() {
        let opened = ["eth0".to_owned()];
        let rules = iptables_rules("ccs00000001", "10.1.2.0/24", &opened);
        assert_eq!(rules.len(), 3);
        for (_, rule) in rules {
            assert!(deletion(&format!("-A {}", rule.join(" ")), "ccs00000001").is_some(), "{rule:?}");
        }
        assert!(ANY_BRIDGE.strip_suffix('+') == Some(BridgeName::PREFIX));
    }

    #[test]
    fn only_rules_that_name_the_bridge_are_deleted() {
        let delete = |line| deletion(line, "ccs00000001").map(|words| words.join(" "));
        assert_eq!(delete("-A FORWARD -i ccs00000001 -j ACCEPT").unwrap(), "-D FORWARD -i ccs00000001 -j ACCEPT");
        assert_eq!(delete("-A FORWARD -i ccs000000012 -j ACCEPT"), None);
        assert_eq!(delete("-P FORWARD ACCEPT"), None);
        assert_eq!(delete(""), None);
    }
}
