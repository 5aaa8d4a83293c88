//! What EC2 is to have of a fleet, as plain data: the launch template, the Auto Scaling group, and the steps from what is
//! there to what is wanted. `world::cloud::ec2::fleet` reads and calls.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde::Serialize;
use sha2::{Digest as _, Sha256};

use crate::model::ec2::{Ec2Spec, Reach, RootVolume, tag};
use crate::model::name::ClusterName;
use crate::model::plan::{Reason, ResourceStep};
use crate::model::spec::FleetSpec;

/// It grows when templates get something that stands in none of the fields below: then all are made anew.
const FORM: u32 = 1;
/// Bytes of the hash that a mark shows.
const MARK: usize = 6;
/// So many versions of a template are kept: EC2 keeps all, and takes at most 10,000.
pub const KEPT: i64 = 10;

/// The name of the launch template, and of the group.
pub fn name(cluster: &ClusterName) -> String {
    format!("clusterctl-{cluster}")
}

/// What the fleet's instances are launched with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Default)]
pub struct Template {
    pub image: String,
    pub instance_type: String,
    pub groups: Vec<String>,
    pub key_pair: Option<String>,
    pub profile: Option<String>,
    pub root_device: String,
    pub root_volume: RootVolume,
    pub public_address: bool,
    /// In base64, as EC2 takes it.
    pub user_data: String,
    pub instance_tags: BTreeMap<String, String>,
    pub volume_tags: BTreeMap<String, String>,
}

/// What a template names that is not in the spec.
#[derive(Debug, Clone)]
pub struct Found {
    pub image: String,
    pub root_device: String,
    /// Of all hosts.
    pub group: String,
    pub key_pair: String,
    pub profile: Option<String>,
    pub subnets: BTreeSet<String>,
}

impl Template {
    pub fn wanted(cluster: &ClusterName, ec2: &Ec2Spec, fleet: &FleetSpec, found: &Found) -> Self {
        let name = format!("{cluster}-fleet");
        let own = [(tag::CLUSTER, cluster.as_str()), (tag::ORIGIN, tag::FLEET), (tag::NAME, name.as_str())];
        let own = own.map(|(key, value)| (key.to_owned(), value.to_owned()));
        let volume_tags: BTreeMap<String, String> = ec2.tags.clone().into_iter().chain(own).collect();
        let mut instance_tags = volume_tags.clone();
        instance_tags.insert(tag::ROLE.to_owned(), "node".to_owned());
        Self {
            image: found.image.clone(),
            instance_type: instance_types(ec2, fleet)[0].clone(),
            groups: std::iter::once(&found.group).chain(&ec2.security_groups).cloned().collect(),
            key_pair: Some(found.key_pair.clone()),
            profile: found.profile.clone(),
            root_device: found.root_device.clone(),
            root_volume: ec2.root_volume.clone(),
            public_address: ec2.reach == Reach::Public,
            user_data: user_data(cluster),
            instance_tags,
            volume_tags,
        }
    }

    /// Short, the same for the same template on any machine, and another for any other. It is a tag of the instances,
    /// which tells of each whether it is of today's make.
    pub fn mark(&self) -> String {
        let json = serde_json::to_string(&(FORM, self)).expect("plain data is JSON");
        Sha256::digest(json)[..MARK].iter().fold(String::new(), |mut mark, byte| {
            write!(mark, "{byte:02x}").expect("a string takes it");
            mark
        })
    }

    /// In what the two differ, in words.
    fn differences(&self, other: &Self) -> Vec<String> {
        let mut found = Vec::new();
        let mut told = |what: &str, from: &str, to: &str| {
            if from != to {
                found.push(format!("{what} ({from} → {to})"));
            }
        };
        told("image", &other.image, &self.image);
        told("instance type", &other.instance_type, &self.instance_type);
        let plain = [
            ("security groups", self.groups != other.groups),
            ("key pair", self.key_pair != other.key_pair),
            ("instance profile", self.profile != other.profile),
            ("root volume", (&self.root_device, &self.root_volume) != (&other.root_device, &other.root_volume)),
            ("public address", self.public_address != other.public_address),
            ("user data", self.user_data != other.user_data),
            ("tags", (&self.instance_tags, &self.volume_tags) != (&other.instance_tags, &other.volume_tags)),
        ];
        found.extend(plain.into_iter().filter(|(_, differs)| *differs).map(|(what, _)| what.to_owned()));
        if found.is_empty() {
            found.push("what clusterctl itself sets".to_owned());
        }
        found
    }
}

/// It says which cluster the host joins, and is nothing to cloud-init.
fn user_data(cluster: &ClusterName) -> String {
    BASE64_STANDARD.encode(format!("#cloud-config\n# clusterctl: cluster={cluster}\n{{}}\n"))
}

/// The types that the group takes; the first is the template's own.
pub fn instance_types(ec2: &Ec2Spec, fleet: &FleetSpec) -> Vec<String> {
    match fleet.instance_types.as_slice() {
        [] => vec![ec2.instance_type.clone()],
        types => types.to_vec(),
    }
}

/// Several types, or spot instances among those on demand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mix {
    pub types: Vec<String>,
    pub on_demand: u16,
    pub spot_percent: u8,
}

/// What the group is to be, but for its size.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    pub min: u16,
    pub max: u16,
    pub subnets: BTreeSet<String>,
    pub mix: Option<Mix>,
    /// Replaces spot instances before EC2 takes them back.
    pub rebalance: bool,
}

impl Group {
    pub fn wanted(ec2: &Ec2Spec, fleet: &FleetSpec, subnets: &BTreeSet<String>) -> Self {
        let types = instance_types(ec2, fleet);
        let mixed = types.len() > 1 || fleet.spot_percent > 0;
        let mix = || Mix { types, on_demand: fleet.on_demand, spot_percent: fleet.spot_percent };
        Self {
            min: fleet.min,
            max: fleet.max,
            subnets: subnets.clone(),
            rebalance: fleet.spot_percent > 0,
            mix: mixed.then(mix),
        }
    }

    fn differences(&self, other: &Self) -> Vec<String> {
        let mut found = Vec::new();
        for (what, from, to) in [("min", other.min, self.min), ("max", other.max, self.max)] {
            if from != to {
                found.push(format!("{what} ({from} → {to})"));
            }
        }
        let plain = [
            ("subnets", self.subnets != other.subnets),
            ("instance types and spot share", self.mix != other.mix),
            ("spot rebalancing", self.rebalance != other.rebalance),
        ];
        found.extend(plain.into_iter().filter(|(_, differs)| *differs).map(|(what, _)| what.to_owned()));
        found
    }
}

/// What is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    pub template: Template,
    pub group: Group,
    /// What somebody asked for now.
    pub size: Option<u16>,
    /// What a new group begins with, where nobody asks.
    pub begin: u16,
}

/// The template that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PresentTemplate {
    pub id: String,
    pub latest: i64,
    /// The version that the group launches.
    pub default: i64,
    /// Of the latest one.
    pub mark: Option<String>,
    pub data: Template,
}

/// The group that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PresentGroup {
    pub data: Group,
    pub size: u16,
}

/// One thing to make or mend.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    MakeTemplate,
    MakeVersion {
        changed: Vec<String>,
    },
    /// A run ended between making it and using it.
    UseVersion {
        version: i64,
    },
    MakeGroup {
        size: u16,
    },
    ChangeGroup {
        changed: Vec<String>,
        from: u16,
        to: u16,
    },
    Resize {
        from: u16,
        to: u16,
    },
}

/// From what is there to what is wanted, in order.
pub fn steps(wanted: &Wanted, template: Option<&PresentTemplate>, group: Option<&PresentGroup>) -> Vec<Step> {
    let mut steps = Vec::new();
    match template {
        None => steps.push(Step::MakeTemplate),
        Some(present) if present.mark.as_deref() != Some(&wanted.template.mark()) => {
            steps.push(Step::MakeVersion { changed: wanted.template.differences(&present.data) });
        }
        Some(present) if present.default != present.latest => {
            steps.push(Step::UseVersion { version: present.latest });
        }
        Some(_) => {}
    }
    let Some(present) = group else {
        steps.push(Step::MakeGroup { size: wanted.size.unwrap_or(wanted.begin) });
        return steps;
    };
    let mut size = present.size;
    let changed = wanted.group.differences(&present.data);
    if !changed.is_empty() {
        // EC2 itself moves the size into its new bounds.
        let to = size.clamp(wanted.group.min, wanted.group.max);
        steps.push(Step::ChangeGroup { changed, from: size, to });
        size = to;
    }
    if let Some(to) = wanted.size.filter(|to| *to != size) {
        steps.push(Step::Resize { from: size, to });
    }
    steps
}

/// What a change of the size means, in words.
pub fn resized(from: u16, to: u16) -> String {
    match (to.abs_diff(from), to < from) {
        (1, true) => "1 of its instances ends".to_owned(),
        (n, true) => format!("{n} of its instances end"),
        (1, false) => "1 instance more is launched".to_owned(),
        (n, false) => format!("{n} instances more are launched"),
    }
}

impl Step {
    /// For people.
    pub fn shown(&self, name: &str) -> ResourceStep {
        let absent = || "it does not exist yet".to_owned();
        let (what, reason) = match self {
            Self::MakeTemplate => (format!("make the launch template {name}"), absent()),
            Self::MakeVersion { changed } => (
                format!("make a new version of the launch template {name}"),
                format!(
                    "it differs in {}; instances that run are replaced by `clusterctl fleet roll`",
                    changed.join(", ")
                ),
            ),
            Self::UseVersion { version } => (
                format!("launch the fleet from version {version} of the launch template {name}"),
                "it is the newest, and not in use yet".to_owned(),
            ),
            Self::MakeGroup { size } => (format!("make the Auto Scaling group {name} of {size}"), absent()),
            Self::ChangeGroup { changed, from, to } => {
                let ends = if from == to { String::new() } else { format!("; {}", resized(*from, *to)) };
                (format!("change the Auto Scaling group {name}"), format!("it differs in {}{ends}", changed.join(", ")))
            }
            Self::Resize { from, to } => {
                (format!("set the size of the fleet {name} to {to}"), format!("it is {from}: {}", resized(*from, *to)))
            }
        };
        ResourceStep { what, reason: Reason(reason) }
    }
}

/// The token of a new version: the same for the same step from the same version, so that a repeat makes no second one.
pub fn version_token(template: &str, latest: i64, mark: &str) -> String {
    format!("{template}-{latest}-{mark}")
}

/// Versions that nobody needs any more.
pub fn stale(versions: impl IntoIterator<Item = i64>, latest: i64, default: i64) -> Vec<i64> {
    versions.into_iter().filter(|version| *version <= latest - KEPT && *version != default).collect()
}

#[cfg(test)]
mod tests;
