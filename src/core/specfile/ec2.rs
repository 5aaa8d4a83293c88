//! `[ec2]`: hosts that are instances in an AWS account. Shapes are checked here; whether such a subnet or
//! image exists, only the account knows.

mod image;
mod tags;

use ipnet::IpNet;
use std::net::IpAddr;

use super::hosts::servers;
use super::section::{At, Section};
use crate::core::ec2::images::is_id;
use crate::core::names::nearest;
use crate::model::ec2::{Ec2Spec, InstanceProfile, Reach, RootVolume};

const INSTANCE_TYPE: &str = "t3.small";

/// Reads the section; `is_provider` says whether hosts come from it, so that what they need must be there.
pub(super) fn read(section: &Section<'_>, is_provider: bool) -> Ec2Spec {
    let reach = reach(section);
    let security_groups = ids(section, "security_groups", "sg-", "describe-security-groups");
    let (ssh_from, all_read) = ssh_from(section);
    if is_provider && ssh_from.is_empty() && all_read && reach == Some(Reach::Public) && security_groups.is_empty() {
        no_way_in(section);
    }
    let spec = Ec2Spec {
        region: region(section),
        profile: named(section, "profile", "shop", |_| true),
        servers: servers(section),
        nodes: section.integer("nodes", 0..=1000, "2").map_or(2, |nodes| nodes.value),
        instance_type: instance_type(section, "instance_type").unwrap_or_else(|| INSTANCE_TYPE.to_owned()),
        server_instance_type: instance_type(section, "server_instance_type"),
        image: image::read(section),
        vpc: section.text("vpc", "vpc-0123456789abcdef0").and_then(|id| self::id(section, id, "vpc-", "describe-vpcs")),
        subnets: ids(section, "subnets", "subnet-", "describe-subnets"),
        security_groups,
        ssh_from,
        reach: reach.unwrap_or(Reach::Public),
        key_pair: named(section, "key_pair", "shop", |c| c.is_ascii()),
        profile_of_instances: profile_of_instances(section),
        root_volume: root_volume(section),
        spot: section.boolean("spot").unwrap_or(false),
        tags: tags::read(section),
    };
    section.refuse_unknown();
    spec
}

/// Hosts that nobody can log in to are of no use, and an open port 22 is for nobody to find out by accident.
fn no_way_in(section: &Section<'_>) {
    let cure = "say from where you log in: ssh_from = [\"203.0.113.7\"], your own address (`curl \
                https://checkip.amazonaws.com` tells it) or a network; or reach the hosts by reach = \"private\"; or name \
                security_groups that let you in";
    let (message, before) = if !section.is_there() {
        ("there is no [ec2], which says from where SSH is let in", "add a line [ec2], and below it ")
    } else if section.has("ssh_from") {
        ("ssh_from in [ec2] is empty, so that nobody could log in to the hosts", "")
    } else {
        ("[ec2] lacks ssh_from, so that nobody could log in to the hosts", "")
    };
    let cure = format!("{before}{cure}");
    section.sink.add(&section.at, message, cure);
}

fn reach(section: &Section<'_>) -> Option<Reach> {
    let Some(given) = section.text("reach", "public") else {
        return (!section.has("reach")).then_some(Reach::Public);
    };
    match given.value.as_str() {
        "public" => Some(Reach::Public),
        "private" => Some(Reach::Private),
        other => {
            let cure = match nearest(other, ["public", "private"]) {
                Some(near) => format!("did you mean \"{near}\"?"),
                None => "there are \"public\" (the internet) and \"private\" (a VPN, a peering, a bastion)".to_owned(),
            };
            section.sink.add(&given.at, format!("reach in [ec2] cannot be \"{}\"", other.escape_debug()), cure);
            None
        }
    }
}

/// Networks that SSH is let in from, and whether all that stands there could be read.
fn ssh_from(section: &Section<'_>) -> (Vec<IpNet>, bool) {
    let given = section.texts("ssh_from", "203.0.113.7").unwrap_or_default();
    let mut nets = Vec::new();
    for text in &given {
        match net(&text.value) {
            Ok(net) if nets.contains(&net) => {
                let message = format!("{net} stands twice in ssh_from");
                section.sink.add(&text.at, message, "take one of them out");
            }
            Ok(net) => nets.push(net),
            Err((message, cure)) => section.sink.add(&text.at, message, cure),
        }
    }
    let all_read = nets.len() == given.len() && (!given.is_empty() || !section.is_wrong("ssh_from"));
    (nets, all_read)
}

/// A network, or an address as the network of itself.
fn net(text: &str) -> Result<IpNet, (String, String)> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return Ok(address.into());
    }
    let Ok(net) = text.parse::<IpNet>() else {
        let message = format!("\"{}\" is neither an address nor a network", text.escape_debug());
        return Err((message, "write for example: ssh_from = [\"203.0.113.7\", \"198.51.100.0/24\"]".to_owned()));
    };
    if net == net.trunc() {
        return Ok(net);
    }
    let message = format!("\"{net}\" is an address within a network, and not the network");
    Err((message, format!("write \"{}\" for the network, or \"{}\" for the address alone", net.trunc(), net.addr())))
}

/// `eu-west-1`, `us-gov-west-1`.
/// Such as `eu-west-1`.
pub fn is_region(text: &str) -> bool {
    let parts: Vec<&str> = text.split('-').collect();
    let (last, words) = parts.split_last().expect("split gives one part at least");
    let word = |word: &&str| !word.is_empty() && word.bytes().all(|b| b.is_ascii_lowercase());
    words.len() >= 2 && words.iter().all(word) && !last.is_empty() && last.bytes().all(|b| b.is_ascii_digit())
}

fn region(section: &Section<'_>) -> Option<String> {
    let given = section.text("region", "eu-west-1")?;
    if is_region(&given.value) {
        return Some(given.value);
    }
    let zone = given.value.strip_suffix(|c: char| c.is_ascii_lowercase()).filter(|text| is_region(text));
    let cure = match zone {
        Some(region) => format!("that is a zone: write region = \"{region}\", and choose zones by `subnets`"),
        None => "write for example: region = \"eu-west-1\" (`aws ec2 describe-regions` lists them)".to_owned(),
    };
    section.sink.add(&given.at, format!("\"{}\" is no region", given.value.escape_debug()), cure);
    None
}

/// A name of at most 255 characters of which each is fine.
fn named(section: &Section<'_>, key: &'static str, example: &str, fine: fn(char) -> bool) -> Option<String> {
    let given = section.text(key, example)?;
    if !given.value.trim().is_empty() && given.value.len() <= 255 && given.value.chars().all(fine) {
        return Some(given.value);
    }
    let cure = format!("write for example: {key} = \"{example}\", or leave it out");
    section.sink.add(&given.at, format!("{key} in {} is no name", section.name), cure);
    None
}

/// `t3.small`, `u-6tb1.112xlarge`.
pub(super) fn is_instance_type(text: &str) -> bool {
    let part = |part: &str| {
        part.starts_with(|c: char| c.is_ascii_alphanumeric())
            && part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
    };
    text.split_once('.').is_some_and(|(family, size)| part(family) && part(size))
}

fn instance_type(section: &Section<'_>, key: &'static str) -> Option<String> {
    let given = section.text(key, INSTANCE_TYPE)?;
    if is_instance_type(&given.value) {
        return Some(given.value);
    }
    let message = format!("{key} in {}: \"{}\" is no instance type", section.name, given.value.escape_debug());
    let cure = format!("write a family and a size in small letters: {key} = \"{INSTANCE_TYPE}\"");
    section.sink.add(&given.at, message, cure);
    None
}

/// An id of EC2's: a prefix and 8 or 17 hexadecimal digits.
fn id(section: &Section<'_>, given: At<String>, prefix: &str, lists: &str) -> Option<String> {
    if given.value.strip_prefix(prefix).is_some_and(is_id) {
        return Some(given.value);
    }
    let cure = format!("ids look like \"{prefix}0123456789abcdef0\": `aws ec2 {lists}` lists them");
    section.sink.add(&given.at, format!("\"{}\" is no id of that kind", given.value.escape_debug()), cure);
    None
}

fn ids(section: &Section<'_>, key: &'static str, prefix: &str, lists: &str) -> Vec<String> {
    let mut ids: Vec<String> = Vec::new();
    for given in section.texts(key, &format!("{prefix}0123456789abcdef0")).unwrap_or_default() {
        let at = given.at.clone();
        let Some(id) = id(section, given, prefix, lists) else { continue };
        if ids.contains(&id) {
            section.sink.add(&at, format!("{id} stands twice in {key}"), "take one of them out");
        } else {
            ids.push(id);
        }
    }
    ids
}

/// IAM's own rule for names of profiles.
fn profile_of_instances(section: &Section<'_>) -> InstanceProfile {
    let Some(given) = section.text("instance_profile", "shop") else { return InstanceProfile::Made };
    let fine = |b: u8| b.is_ascii_alphanumeric() || b"_+=,.@-".contains(&b);
    let is_name = |name: &str| (1..=128).contains(&name.len()) && name.bytes().all(fine);
    match given.value.as_str() {
        name if name.eq_ignore_ascii_case("none") => return InstanceProfile::Without,
        name if is_name(name) => return InstanceProfile::Named(given.value),
        _ => {}
    }
    let last = given.value.rsplit('/').next().filter(|name| given.value.contains('/') && is_name(name));
    let cure = match last {
        Some(name) => format!("write the name alone: instance_profile = \"{name}\""),
        None => "name an existing profile, say \"none\", or leave it out: then one is made".to_owned(),
    };
    section.sink.add(&given.at, "instance_profile in [ec2] is no profile's name", cure);
    InstanceProfile::Made
}

/// Kinds that need nothing else to be said. io1 and io2 want a number of operations with them.
const KINDS: [&str; 3] = ["gp3", "gp2", "standard"];

fn root_volume(section: &Section<'_>) -> RootVolume {
    let volume = section.section("root_volume", "[ec2.root_volume]");
    let default = RootVolume::default();
    let kind = volume.text("kind", &default.kind).and_then(|given| {
        if KINDS.contains(&given.value.as_str()) {
            return Some(given.value);
        }
        let cure = match nearest(&given.value, KINDS).filter(|_| !given.value.starts_with("io")) {
            Some(near) => format!("did you mean \"{near}\"?"),
            None => format!("there are {}", KINDS.join(", ")),
        };
        let message = format!("\"{}\" is no kind of root volume", given.value.escape_debug());
        volume.sink.add(&given.at, message, cure);
        None
    });
    let read = RootVolume {
        size: volume.integer("size", 1..=16_384, "20").map(|size| size.value),
        kind: kind.unwrap_or(default.kind),
        encrypted: volume.boolean("encrypted").unwrap_or(default.encrypted),
    };
    volume.refuse_unknown();
    read
}

#[cfg(test)]
mod tests;
