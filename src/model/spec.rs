//! A cluster's spec: what the user wants. `core::specfile` makes it from `cluster.toml`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use semver::Version;
use serde::Serialize;

use super::ec2::Ec2Spec;
use super::host::Role;
use super::name::{ClusterName, Datacenter, HostName, ServiceName};
use super::version::{Preset, Program, Versions};

/// A duration in the form that Consul and Prometheus both read: a number and one of `ms s m h d w y`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(into = "String")]
pub struct Span(Duration);

impl Span {
    pub const fn from_millis(millis: u64) -> Self {
        Self(Duration::from_millis(millis))
    }

    pub const fn from_secs(secs: u64) -> Self {
        Self(Duration::from_secs(secs))
    }

    /// For what must be given some time at all.
    ///
    /// # Errors
    /// As reading a [`Span`], and when it is none.
    pub fn positive(s: &str) -> Result<Self, String> {
        match s.parse::<Self>()? {
            Self(Duration::ZERO) => Err("nothing can be done in no time: give it some, such as \"10s\"".to_owned()),
            span => Ok(span),
        }
    }

    pub const fn as_duration(self) -> Duration {
        self.0
    }
}

const UNITS: [(&str, u64); 7] = [
    ("y", 31_536_000_000),
    ("w", 604_800_000),
    ("d", 86_400_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1_000),
    ("ms", 1),
];

impl fmt::Display for Span {
    /// In the largest of `h m s ms` that divides it: Consul knows no `d`, and both read these.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = self.0.as_millis();
        for (unit, size) in [("h", 3_600_000), ("m", 60_000), ("s", 1_000)] {
            if millis != 0 && millis.is_multiple_of(size) {
                return write!(f, "{}{unit}", millis / size);
            }
        }
        write!(f, "{millis}ms")
    }
}

impl From<Span> for String {
    fn from(s: Span) -> String {
        s.to_string()
    }
}

impl std::str::FromStr for Span {
    type Err = String;

    /// # Errors
    /// When `s` is no whole number with a unit, or more than 100 years.
    fn from_str(s: &str) -> Result<Self, String> {
        let wrong = || {
            format!(
                "\"{}\" is no duration: write a whole number and a unit, such as \"500ms\", \"10s\", \"5m\", \"15d\"",
                s.escape_debug()
            )
        };
        let digits = s.bytes().take_while(u8::is_ascii_digit).count();
        let (number, unit) = s.split_at(digits);
        let number: u64 = number.parse().map_err(|_| wrong())?;
        let (_, size) = UNITS.iter().find(|(u, _)| *u == unit).ok_or_else(wrong)?;
        match number.checked_mul(*size) {
            Some(millis) if millis <= 3_153_600_000_000 => Ok(Self::from_millis(millis)),
            _ => Err(wrong()),
        }
    }
}

/// Where the hosts come from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "provider", rename_all = "lowercase")]
pub enum ProviderSpec {
    Sandbox { servers: u16, nodes: u16 },
    Inventory { hosts: Vec<InventoryHost> },
    Ec2(Box<Ec2Spec>),
}

impl ProviderSpec {
    /// How many servers the cluster is to have.
    pub fn servers(&self) -> usize {
        match self {
            Self::Sandbox { servers, .. } => usize::from(*servers),
            Self::Ec2(ec2) => usize::from(ec2.servers),
            Self::Inventory { hosts } => hosts.iter().filter(|host| host.role.is_server()).count(),
        }
    }

    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Sandbox { .. } => "sandbox",
            Self::Inventory { .. } => "inventory",
            Self::Ec2(_) => "ec2",
        }
    }
}

/// A host that exists already.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct InventoryHost {
    pub name: HostName,
    pub role: Role,
    /// An IP address, a DNS name, or a name from `~/.ssh/config`.
    pub address: String,
    /// What the other hosts call it, where that is not what its own default route says.
    pub private_address: Option<IpAddr>,
    pub port: Option<u16>,
    pub user: Option<String>,
    pub key: Option<PathBuf>,
    /// Its public host keys, if known: `ssh-ed25519 AAAA…`.
    pub host_keys: Vec<String>,
}

/// What holds for every host's SSH unless the host says otherwise.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Default)]
pub struct SshSpec {
    pub user: Option<String>,
    pub port: Option<u16>,
    pub key: Option<PathBuf>,
    /// The way to every host goes through it: `[user@]host[:port]`, or `none`.
    pub bastion: Option<String>,
}

/// How Prometheus learns of what is to be scraped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Discovery {
    /// Prometheus asks Consul itself: `consul_sd_configs`.
    ConsulSd,
    /// Consul Template writes Prometheus' configuration anew whenever Consul's catalog changes.
    ConsulTemplate,
}

impl Discovery {
    pub const ALL: [Self; 2] = [Self::ConsulSd, Self::ConsulTemplate];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ConsulSd => "consul-sd",
            Self::ConsulTemplate => "consul-template",
        }
    }

    /// What holds where nobody says otherwise: each time's usual way.
    pub const fn of(preset: Preset) -> Self {
        match preset {
            Preset::Classic => Self::ConsulTemplate,
            Preset::Current => Self::ConsulSd,
        }
    }
}

impl fmt::Display for Discovery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl std::str::FromStr for Discovery {
    type Err = String;
    fn from_str(s: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|discovery| discovery.as_str() == s);
        found.ok_or_else(|| {
            format!("no discovery is named \"{}\"; there are \"consul-sd\" and \"consul-template\"", s.escape_debug())
        })
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PrometheusSpec {
    pub scrape_interval: Span,
    pub retention: Span,
    pub external_labels: BTreeMap<String, String>,
    pub discovery: Discovery,
}

impl PrometheusSpec {
    /// What holds for hosts of a provider where the spec says nothing. Prometheus spreads first scrapes over an
    /// interval, so in the sandbox, where somebody waits for each new host, it is short.
    pub fn of(provider: &str) -> Self {
        Self {
            scrape_interval: Span::from_secs(if provider == "sandbox" { 2 } else { 5 }),
            retention: Span::from_secs(15 * 86_400),
            external_labels: BTreeMap::new(),
            discovery: Discovery::of(Preset::Current),
        }
    }
}

/// How an agent finds the cluster's servers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Join {
    /// Their addresses stand in its configuration.
    Addresses,
    /// It looks for the cluster's leader by its tags whenever it starts: Consul itself where it can, else a script.
    Tag,
    /// The same with the tag `consul-leader` alone, which says nothing of a cluster: for an image that is made without
    /// a spec, whose cluster need not be clusterctl's.
    LeaderTag,
    /// It is told when its machine boots, by user data or by a file: an image is for hosts that nobody knows yet.
    Boot,
}

/// What `ami build` puts into an image besides the programs and files of the spec.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Default)]
pub struct ImageSpec {
    /// From where its hosts have the gossip key and the agents' token when they boot.
    pub secrets: Secrets,
    /// Regions that a finished AMI is copied to.
    pub regions: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Default)]
#[serde(rename_all = "lowercase")]
pub enum Secrets {
    /// There are none.
    #[default]
    Without,
    /// The SSM parameters `/clusterctl/<cluster>/gossip-key` and `…/agent-token`, each where it exists.
    Ssm,
}

/// Nodes that an Auto Scaling group launches from an image: `[fleet]` in the spec.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FleetSpec {
    /// How many a new group begins with; later the group itself knows.
    pub size: u16,
    pub min: u16,
    pub max: u16,
    /// An AMI's id; else the newest trusted one of `ami build`.
    pub image: Option<String>,
    /// The group takes what there is of them; empty: the `instance_type` of [ec2].
    pub instance_types: Vec<String>,
    /// How many are on demand before any is spot.
    pub on_demand: u16,
    /// The share of spot instances among the others, in percent.
    pub spot_percent: u8,
    /// How many percent stay in service while `fleet roll` replaces the others.
    pub min_healthy: u8,
    /// Somebody else, such as Terraform, makes and removes the group and its template; here they are only looked at.
    pub made_elsewhere: bool,
}

impl Default for FleetSpec {
    fn default() -> Self {
        Self {
            size: 0,
            min: 0,
            max: 1000,
            image: None,
            instance_types: Vec::new(),
            on_demand: 0,
            spot_percent: 0,
            min_healthy: 90,
            made_elsewhere: false,
        }
    }
}

/// Who is told of alerts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AlertmanagerSpec {
    /// URLs that get each alert as JSON; none: alerts are only shown.
    pub webhooks: Vec<String>,
}

/// How Consul checks a service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum CheckKind {
    /// A URL that answers 2xx.
    Http(String),
    /// `address:port` that accepts a connection.
    Tcp(String),
    /// A program and its arguments that exits 0; no shell in between.
    Args(Vec<String>),
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ServiceCheck {
    pub kind: CheckKind,
    pub interval: Span,
    pub timeout: Span,
}

/// Where a service shows metrics of its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ServiceMetrics {
    pub path: String,
    /// The service's own port where `None`.
    pub port: Option<u16>,
    /// Is it scraped while its check does not pass, too?
    pub unhealthy: bool,
}

/// One of the user's services, `[[service]]` in the spec: the article's `web.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Service {
    pub name: ServiceName,
    pub port: Option<u16>,
    pub tags: BTreeSet<String>,
    pub roles: BTreeSet<Role>,
    /// Only these hosts of those roles; all of them where empty.
    pub hosts: BTreeSet<HostName>,
    pub check: Option<ServiceCheck>,
    pub metrics: Option<ServiceMetrics>,
}

/// Where programs come from, besides the cache.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Default)]
pub struct ArtifactsSpec {
    /// The base URL of a mirror in the official layout.
    pub mirror: Option<String>,
    /// A folder with release archives and their sums, for sites without internet.
    pub folder: Option<PathBuf>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Spec {
    pub cluster: ClusterName,
    pub datacenter: Datacenter,
    pub provider: ProviderSpec,
    /// Whose versions hold where none is named; those that are named are in `versions` too.
    pub preset: Preset,
    pub versions: Versions,
    pub join: Join,
    pub ssh: SshSpec,
    pub prometheus: PrometheusSpec,
    pub alertmanager: Option<AlertmanagerSpec>,
    pub services: Vec<Service>,
    pub artifacts: ArtifactsSpec,
    pub image: ImageSpec,
    pub fleet: Option<FleetSpec>,
    /// A folder whose templates replace the embedded ones of the same name.
    pub templates: Option<PathBuf>,
}

impl Spec {
    /// The programs that a host of this role runs, in the order in which they are installed.
    pub fn programs(&self, role: Role) -> Vec<Program> {
        let mut programs = vec![Program::Consul, Program::NodeExporter];
        if role.is_server() {
            programs.push(Program::Prometheus);
            if self.prometheus.discovery == Discovery::ConsulTemplate {
                programs.push(Program::ConsulTemplate);
            }
            if self.alertmanager.is_some() {
                programs.push(Program::Alertmanager);
            }
        }
        programs
    }

    /// The same with their versions.
    pub fn releases(&self, role: Role) -> Vec<(Program, &Version)> {
        let versioned = |program| Some((program, self.versions.get(program)?));
        self.programs(role).into_iter().filter_map(versioned).collect()
    }

    /// A cluster on EC2 that is known by its tags alone, without a file.
    pub fn ec2(cluster: ClusterName) -> Self {
        Self {
            provider: ProviderSpec::Ec2(Box::default()),
            prometheus: PrometheusSpec::of("ec2"),
            ..Self::sandbox(cluster)
        }
    }

    /// `up --sandbox` without a file: one server and two nodes, all else by default.
    pub fn sandbox(cluster: ClusterName) -> Self {
        Self {
            cluster,
            datacenter: Datacenter::new("dc1").expect("a valid datacenter"),
            provider: ProviderSpec::Sandbox { servers: 1, nodes: 2 },
            preset: Preset::Current,
            versions: Preset::Current.versions(),
            join: Join::Addresses,
            ssh: SshSpec::default(),
            prometheus: PrometheusSpec::of("sandbox"),
            alertmanager: None,
            services: Vec::new(),
            artifacts: ArtifactsSpec::default(),
            image: ImageSpec::default(),
            fleet: None,
            templates: None,
        }
    }
}
