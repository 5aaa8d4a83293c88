//! What the user wants of EC2, and the words both sides of the provider share: tags, candidates for the
//! leader, rules of a security group.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;
use serde::Serialize;

use super::host::{Host, HostState};

/// `[ec2]` in the spec. What is `None` comes from the account or the environment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Ec2Spec {
    /// Else the profile's or the environment's.
    pub region: Option<String>,
    /// A profile of `~/.aws/config`.
    pub profile: Option<String>,
    pub servers: u16,
    pub nodes: u16,
    pub instance_type: String,
    /// For servers, where they need another one.
    pub server_instance_type: Option<String>,
    pub image: Image,
    /// Else the account's default VPC (or that of the subnets).
    pub vpc: Option<String>,
    /// Else all of the VPC's that fit. Hosts are spread over them.
    pub subnets: Vec<String>,
    /// Existing groups that the hosts get besides the cluster's own.
    pub security_groups: Vec<String>,
    /// From where port 22 is open; nowhere where it is empty.
    pub ssh_from: Vec<IpNet>,
    /// Which address the operator reaches the hosts by.
    pub reach: Reach,
    /// An existing key pair; without one the public half of `[ssh] key` is imported.
    pub key_pair: Option<String>,
    pub profile_of_instances: InstanceProfile,
    pub root_volume: RootVolume,
    pub spot: bool,
    /// The user's own tags, on all that is made.
    pub tags: BTreeMap<String, String>,
}

impl Default for Ec2Spec {
    fn default() -> Self {
        Self {
            region: None,
            profile: None,
            servers: 1,
            nodes: 2,
            instance_type: "t3.small".to_owned(),
            server_instance_type: None,
            image: Image::Distribution("debian-12".to_owned()),
            vpc: None,
            subnets: Vec::new(),
            security_groups: Vec::new(),
            ssh_from: Vec::new(),
            reach: Reach::Public,
            key_pair: None,
            profile_of_instances: InstanceProfile::Made,
            root_volume: RootVolume::default(),
            spot: false,
            tags: BTreeMap::new(),
        }
    }
}

/// An AMI, by one of the ways to name one. Which processor it must be for, the instance type decides.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Image {
    /// `ami-0123…`
    Id(String),
    /// A distribution by its usual name, such as `debian-12`: `core::ec2::images` knows its SSM parameter.
    Distribution(String),
    /// An SSM parameter that holds an AMI's id.
    Parameter(String),
    /// The newest of those whose name matches (`*` and `?`), of one owner (`self`, an account, or an alias).
    Newest { name: String, owner: String },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Reach {
    /// Hosts get public addresses, and SSH uses those.
    Public,
    /// A VPN, a peering or a bastion leads to the private ones.
    Private,
}

/// What instances may do in the account.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum InstanceProfile {
    /// A role and a profile of the cluster's own, with the policy that `clusterctl policy iam` shows.
    Made,
    /// An existing profile, for users who may not touch IAM.
    Named(String),
    /// None at all.
    Without,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RootVolume {
    /// In GiB; the image's own size where `None`.
    pub size: Option<u16>,
    /// `gp3`, `gp2` or `standard`.
    pub kind: String,
    pub encrypted: bool,
}

impl Default for RootVolume {
    fn default() -> Self {
        Self { size: None, kind: "gp3".to_owned(), encrypted: true }
    }
}

/// Tag keys. Those with a prefix are clusterctl's own; EC2 compares them letter by letter.
pub mod tag {
    /// The cluster's name.
    pub const CLUSTER: &str = "clusterctl:cluster";
    /// `server` or `node`.
    pub const ROLE: &str = "clusterctl:role";
    /// The host's name, which is its Consul node name. `Name` is for people, and theirs to change.
    pub const HOST: &str = "clusterctl:host";
    /// `launched` by clusterctl, `joined` to the cluster and never to be terminated with it, one of the `fleet` that
    /// an Auto Scaling group keeps, or launched from an `image` of ours.
    pub const ORIGIN: &str = "clusterctl:origin";
    /// The image that a baked host was launched from. No tag in an account: an instance tells that by itself.
    pub const IMAGE: &str = "clusterctl:image";
    /// Which launch of this host it is, from 1.
    pub const GENERATION: &str = "clusterctl:generation";
    /// The article's: the instance that the others join. Read in any letter case, key and value.
    pub const LEADER: &str = "consul-leader";
    /// On the same instance, with the cluster's name as its value: Consul compares one key with one value, so that
    /// a tag that says only "leader" would lead the agents of every cluster in the account.
    pub const LEADS: &str = "clusterctl:leader";
    /// Which make of the launch template a fleet's instance is of.
    pub const TEMPLATE: &str = "clusterctl:template";
    pub const NAME: &str = "Name";
    /// Who can log in, as far as the image's name tells.
    pub const USER: &str = "clusterctl:user";

    /// A public SSH host key, as the console told it at the first boot: later consoles are silent, other laptops
    /// ask too.
    pub const HOST_KEY: &str = "clusterctl:host-key";

    /// On an image and its snapshots: the cluster whose hosts it makes. Never [`CLUSTER`], by which the cluster's hosts
    /// and what they stand on are found and taken away.
    pub const IMAGE_OF: &str = "clusterctl:image-of";
    /// How many servers elect the first leader.
    pub const SERVERS: &str = "clusterctl:servers";
    /// `consul=1.22.7 node_exporter=1.12.1`
    pub const PROGRAMS: &str = "clusterctl:programs";
    /// With the program's name behind it: the sum of its release archive.
    pub const SHA256: &str = "clusterctl:sha256:";
    /// What the image was made from.
    pub const SPEC: &str = "clusterctl:spec";
    /// When the image was made, as in RFC 3339.
    pub const CREATED: &str = "clusterctl:created";
    /// When a host that was booted from the image had joined and was scraped, as in RFC 3339.
    pub const PROVED: &str = "clusterctl:proved";

    pub const LAUNCHED: &str = "launched";
    pub const JOINED: &str = "joined";
    pub const FLEET: &str = "fleet";
    pub const IMAGED: &str = "image";
}

/// An instance that may be the leader: what discovery decides by.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Candidate {
    pub id: String,
    pub state: HostState,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub private_address: Option<IpAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub public_address: Option<IpAddr>,
    pub tags: BTreeMap<String, String>,
}

impl Candidate {
    /// A host as a candidate, for providers whose hosts are all there is to decide by.
    pub fn of_host(host: &Host) -> Self {
        Self {
            id: host.id.0.clone(),
            state: host.state,
            private_address: host.private_address,
            public_address: host.ssh.host.parse().ok(),
            tags: host.tags.clone(),
        }
    }
}

/// Who may reach a port.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Peer {
    /// The members of this group.
    Group(String),
    /// Addresses.
    Net(IpNet),
}

/// One rule that lets something in.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Ingress {
    /// `tcp` or `udp`.
    pub protocol: String,
    pub from_port: u16,
    pub to_port: u16,
    pub peer: Peer,
    pub description: String,
}
