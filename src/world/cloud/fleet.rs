//! Fleets: nodes that the provider launches, keeps at a number, and replaces by itself.

use async_trait::async_trait;

use super::CloudError;
use crate::model::event::Events;
use crate::model::fleet::FleetFacts;
use crate::model::host::HostId;
use crate::model::plan::ResourceStep;

/// The fleet of one cluster.
#[async_trait]
pub trait Fleet: Send + Sync {
    /// The fleet as it is; `None`: there is no group.
    async fn look(&self) -> Result<Option<FleetFacts>, CloudError>;

    /// What `ensure` would make or mend, with the reasons; changes nothing. None where the spec wants no fleet.
    async fn survey(&self, size: Option<u16>) -> Result<Vec<ResourceStep>, CloudError>;

    /// Makes what is missing and mends what differs. The size is changed only where one is given: else the group
    /// itself knows it. Repeatable. Members of an older make stay.
    async fn ensure(&self, size: Option<u16>, events: &Events) -> Result<(), CloudError>;

    /// Sets the size of a group that is there; the provider launches or ends what differs.
    async fn resize(&self, size: u16) -> Result<(), CloudError>;

    /// Ends members, in whose place the provider launches new ones; one that is gone counts as ended.
    async fn end(&self, members: &[HostId]) -> Result<(), CloudError>;

    /// Removes group, members and template, and waits until they are gone; the answer names them. Repeatable.
    async fn remove(&self) -> Result<Vec<String>, CloudError>;
}
