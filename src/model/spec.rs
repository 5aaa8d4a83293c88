//! A cluster's spec: what the user wants. `core::specfile` makes it from `cluster.toml`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;

use super::ec2::Ec2Spec;
use super::host::Role;
use super::name::{ClusterName, Datacenter, HostName, ServiceName};
use super::version::Versions;

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

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PrometheusSpec {
    pub scrape_interval: Span,
    pub retention: Span,
    pub external_labels: BTreeMap<String, String>,
}

impl PrometheusSpec {
    /// What holds for hosts of a provider where the spec says nothing. Prometheus spreads first scrapes over an
    /// interval, so in the sandbox, where somebody waits for each new host, it is short.
    pub fn of(provider: &str) -> Self {
        Self {
            scrape_interval: Span::from_secs(if provider == "sandbox" { 2 } else { 5 }),
            retention: Span::from_secs(15 * 86_400),
            external_labels: BTreeMap::new(),
        }
    }
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
    pub versions: Versions,
    pub ssh: SshSpec,
    pub prometheus: PrometheusSpec,
    pub services: Vec<Service>,
    pub artifacts: ArtifactsSpec,
    /// A folder whose templates replace the embedded ones of the same name.
    pub templates: Option<PathBuf>,
}

impl Spec {
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
            versions: Versions::current(),
            ssh: SshSpec::default(),
            prometheus: PrometheusSpec::of("sandbox"),
            services: Vec::new(),
            artifacts: ArtifactsSpec::default(),
            templates: None,
        }
    }
}
