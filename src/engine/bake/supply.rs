//! Where a build has its programs from.

use async_trait::async_trait;
use tokio_util::sync::CancellationToken;

use crate::engine::plan::Artifacts;
use crate::model::artifact::ArtifactId;
use crate::model::event::Events;
use crate::world::artifacts::{ArtifactError, Cache, Sources};

#[async_trait]
pub trait Supply: Send + Sync {
    /// The programs for hosts of whatever processor, fetched where they are not at hand.
    async fn artifacts(&self, wanted: &[ArtifactId], events: &Events) -> Result<Artifacts, ArtifactError>;
}

/// The cache on this machine, filled from where the spec says.
pub struct Stock<'a> {
    pub cache: &'a Cache,
    pub sources: &'a Sources,
    pub cancel: &'a CancellationToken,
}

#[async_trait]
impl Supply for Stock<'_> {
    async fn artifacts(&self, wanted: &[ArtifactId], events: &Events) -> Result<Artifacts, ArtifactError> {
        let fetched = self.cache.ensure(wanted, self.sources, events, self.cancel).await;
        let (mut artifacts, mut errors) = (Artifacts::new(), Vec::new());
        for (id, result) in fetched {
            match result {
                Ok(artifact) => drop(artifacts.entry(id.arch).or_default().insert(id.program, artifact)),
                Err(error) => errors.push(error),
            }
        }
        ArtifactError::of_all(errors).map_or(Ok(artifacts), Err)
    }
}
