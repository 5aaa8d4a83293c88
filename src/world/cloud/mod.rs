//! Providers: where hosts come from. Everything above this trait is the same for all of them.

pub mod ec2;
mod fake;
mod fake_fleet;
mod fleet;
mod inventory;
pub mod sandbox;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use thiserror::Error;

use crate::core::ec2::cure;
use crate::model::baked::{Baked, ImageId, Label};
use crate::model::ec2::Candidate;
use crate::model::event::Events;
use crate::model::host::{Host, HostId, Role};
use crate::model::lease::Lease;
use crate::model::name::HostName;
use crate::model::plan::ResourceStep;
use crate::model::report::Finding;

pub use ec2::Ec2;
pub use fake::FakeCloud;
pub use fake_fleet::FakeFleet;
pub use fleet::Fleet;
pub use inventory::Inventory;
pub use sandbox::Sandbox;

#[derive(Debug, Error)]
pub enum CloudError {
    /// Something that the provider needs is not there; `cure` says what to install or how to run it.
    #[error("{missing}")]
    Unfit { missing: String, cure: String },
    #[error("{provider} cannot {what}")]
    Unsupported { provider: &'static str, what: &'static str, cure: String },
    #[error("there is no host {id}")]
    NoSuchHost { id: HostId },
    #[error("{host}: {what}")]
    Host { host: HostName, what: String, log: Option<PathBuf> },
    #[error("{host} was not up by the deadline: {seen}")]
    Deadline { host: HostName, seen: String, log: Option<PathBuf> },
    #[error("{doing} {}", .path.display())]
    File {
        doing: &'static str,
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("{command} failed: {detail}")]
    Command { command: String, detail: String },
    /// The cloud's API refused a call, or did not answer. `code` is its own word for why.
    #[error("{action}: {message}")]
    Api { action: &'static str, code: Option<String>, message: String, cure: Option<String> },
    #[error("given up because the run was interrupted")]
    Cancelled,
}

impl CloudError {
    /// What to do about it, where that is known.
    pub fn cure(&self) -> Option<&str> {
        match self {
            Self::Unfit { cure, .. } | Self::Unsupported { cure, .. } => Some(cure),
            Self::Api { cure, .. } => cure.as_deref(),
            _ => None,
        }
    }

    /// Does the account not allow it?
    pub fn is_denied(&self) -> bool {
        matches!(self, Self::Api { code: Some(code), .. } if cure::is_refusal(code))
    }

    /// Has the API too much to do, or trouble of its own, which passes?
    pub fn is_passing(&self) -> bool {
        const WORDS: [&str; 5] = ["Throttl", "TooMany", "RequestLimit", "Unavailable", "Internal"];
        matches!(self, Self::Api { code: Some(code), .. } if WORDS.iter().any(|word| code.contains(word)))
    }

    /// The same error once more: what stops all hosts is told for each of them.
    fn again(&self) -> Self {
        match self {
            Self::Unfit { missing, cure } => Self::Unfit { missing: missing.clone(), cure: cure.clone() },
            Self::Unsupported { provider, what, cure } => Self::Unsupported { provider, what, cure: cure.clone() },
            Self::NoSuchHost { id } => Self::NoSuchHost { id: id.clone() },
            Self::Host { host, what, log } => Self::Host { host: host.clone(), what: what.clone(), log: log.clone() },
            Self::Deadline { host, seen, log } => {
                Self::Deadline { host: host.clone(), seen: seen.clone(), log: log.clone() }
            }
            Self::File { doing, path, source } => {
                let source = std::io::Error::new(source.kind(), source.to_string());
                Self::File { doing, path: path.clone(), source }
            }
            Self::Command { command, detail } => Self::Command { command: command.clone(), detail: detail.clone() },
            Self::Api { action, code, message, cure } => {
                Self::Api { action, code: code.clone(), message: message.clone(), cure: cure.clone() }
            }
            Self::Cancelled => Self::Cancelled,
        }
    }
}

/// A host to launch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Launch {
    pub name: HostName,
    pub role: Role,
    /// Else the provider's usual one, which knows nothing of clusterctl.
    pub image: Option<ImageId>,
    /// It ends by itself after so long, whatever became of whoever launched it; for hosts that only a build needs.
    pub lifetime: Option<Duration>,
}

impl Launch {
    /// A host that is provisioned over SSH.
    pub const fn plain(name: HostName, role: Role) -> Self {
        Self { name, role, image: None, lifetime: None }
    }
}

/// An existing machine that is to become a host of the cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Adopt {
    pub machine: Machine,
    pub name: HostName,
}

/// How a user names an existing machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Machine {
    Instance(HostId),
    Address(std::net::IpAddr),
}

/// What `destroy` took away, for the report.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Removed {
    pub hosts: Vec<HostName>,
    /// Everything else: bridges, folders, security groups, …
    pub others: Vec<String>,
    /// What was left on purpose, and why.
    pub kept: Vec<String>,
}

/// One cluster at one provider.
#[async_trait]
pub trait Cloud: Send + Sync {
    /// `sandbox`, `inventory`, `ec2`.
    fn provider(&self) -> &'static str;

    /// What `prepare` would make or mend, with the reasons; changes nothing.
    async fn survey(&self) -> Result<Vec<ResourceStep>, CloudError> {
        Ok(Vec::new())
    }

    /// Makes ready what a launch needs (the sandbox's base tree, EC2's security groups), and mends it, so that
    /// what is missing is one error and not one a host. Repeatable.
    async fn prepare(&self, _events: &Events) -> Result<(), CloudError> {
        Ok(())
    }

    /// All hosts of the cluster in whatever state, by name.
    async fn list(&self) -> Result<Vec<Host>, CloudError>;

    /// Begins to launch hosts; each name once, repeatable: a name that exists already is left as it is
    /// (and started if it was stopped). The answer is in the order of `wanted`; a host may still be pending.
    async fn launch(&self, wanted: &[Launch], events: &Events) -> Vec<Result<Host, CloudError>>;

    /// Waits until the host runs and has its address.
    async fn wait(&self, id: &HostId, deadline: Instant) -> Result<Host, CloudError>;

    /// Removes hosts; one that is gone already counts as removed.
    async fn terminate(&self, ids: &[HostId], events: &Events) -> Result<(), CloudError>;

    /// What the host wrote to its console so far.
    async fn console(&self, id: &HostId) -> Result<String, CloudError>;

    /// Does the console tell the host's SSH keys, so that waiting for them makes sense?
    fn console_has_host_keys(&self) -> bool {
        false
    }

    /// Keeps what the console told once where every operator finds it: in `Host::host_keys` from now on.
    async fn remember_host_keys(&self, _id: &HostId, _keys: &[String]) -> Result<(), CloudError> {
        Ok(())
    }

    /// The instances that may be the leader, for `core::ec2::discover` to decide.
    async fn leaders(&self) -> Result<Vec<Candidate>, CloudError> {
        Ok(self.list().await?.iter().map(Candidate::of_host).collect())
    }

    /// Makes existing machines hosts of the cluster, in the order of `wanted`. They stay their owner's: `destroy` leaves them.
    async fn adopt(&self, wanted: &[Adopt], _events: &Events) -> Vec<Result<Host, CloudError>> {
        let unsupported = || CloudError::Unsupported {
            provider: self.provider(),
            what: "take in a machine that exists already",
            cure: "list the machine as [[host]] with provider = \"inventory\", or leave out --instance and --address"
                .to_owned(),
        };
        wanted.iter().map(|_| Err(unsupported())).collect()
    }

    /// What `doctor` asks of the provider: each thing looked at, good or bad, with the cure. Changes nothing.
    async fn examine(&self) -> Vec<Finding>;

    /// Removes all that the provider made for this cluster, half-made things included. Repeatable. Disks stay
    /// where `keep_data`, as far as the provider has disks that can.
    async fn destroy(&self, keep_data: bool, events: &Events) -> Result<Removed, CloudError>;

    /// Where the cluster's lease is, at providers whose hosts are changed from several machines.
    fn leases(&self) -> Option<&dyn Leases> {
        None
    }

    /// Images of hosts, at providers that have them.
    fn images(&self) -> Option<&dyn Images> {
        None
    }

    /// Fleets, at providers that have them.
    fn fleet(&self) -> Option<&dyn Fleet> {
        None
    }
}

/// Whose a lease is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Turn {
    Ours,
    Theirs(Lease),
    Nobodys,
}

/// The one lease on a cluster. Giving it back does not end with an interrupt.
#[async_trait]
pub trait Leases: Send + Sync {
    /// The lease that is there.
    async fn lease(&self) -> Result<Option<Lease>, CloudError>;

    /// Takes it, from the dead too. Only for who holds the local lock.
    async fn take_lease(&self, wanted: &Lease) -> Result<Turn, CloudError>;

    /// Writes the lease again, with its new term, while it is still there.
    async fn renew_lease(&self, lease: &Lease) -> Result<Turn, CloudError>;

    /// Gives it back. Another one's is left alone.
    async fn end_lease(&self, id: &str) -> Result<(), CloudError>;
}

/// Images of hosts.
#[async_trait]
pub trait Images: Send + Sync {
    /// Switches the host off, for good, and makes an image of what is on its disk; waits until that can be launched, and
    /// tells of all that as [`crate::model::event::Doing::Seal`].
    /// What is half-made when this fails is removed.
    async fn seal(&self, host: &HostId, label: &Label, events: &Events) -> Result<ImageId, CloudError>;

    /// All images whose label names this cluster, the newest first.
    async fn baked(&self) -> Result<Vec<Baked>, CloudError>;

    /// Notes that the image was tried.
    async fn prove(&self, id: &ImageId) -> Result<(), CloudError>;

    /// Copies the image with its label; the answer names each region's copy, once it can be launched.
    async fn copy(&self, id: &ImageId, region: &str, events: &Events) -> Result<ImageId, CloudError>;

    /// Removes an image and its data; one that is gone counts as removed. Hosts that run from it go on.
    async fn remove(&self, id: &ImageId) -> Result<(), CloudError>;
}
