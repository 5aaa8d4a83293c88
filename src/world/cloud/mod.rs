//! Providers: where hosts come from. Everything above this trait is the same for all of them.

mod fake;
mod inventory;
pub mod sandbox;

use std::path::PathBuf;
use std::time::Instant;

use async_trait::async_trait;
use thiserror::Error;

use crate::model::event::Events;
use crate::model::host::{Host, HostId, Role};
use crate::model::name::HostName;

pub use fake::FakeCloud;
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
}

/// A host to launch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Launch {
    pub name: HostName,
    pub role: Role,
}

/// What `destroy` took away, for the report.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Removed {
    pub hosts: Vec<HostName>,
    /// Everything else: bridges, folders, security groups, …
    pub others: Vec<String>,
}

/// One cluster at one provider.
#[async_trait]
pub trait Cloud: Send + Sync {
    /// `sandbox`, `inventory`, `ec2`.
    fn provider(&self) -> &'static str;

    /// Makes ready what a launch needs (the sandbox's base tree), so that what is missing is one error and
    /// not one a host.
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

    /// Removes all that the provider made for this cluster, half-made things included. Repeatable.
    async fn destroy(&self, events: &Events) -> Result<Removed, CloudError>;
}
