//! What to say beside an error that ends a command: its cure, and the exit code it stands for.

use anyhow::Error;

use super::signals::{Interrupted, TimedOut};
use super::{Usage, exit};
use crate::core::ec2::discover::DiscoverError;
use crate::core::imaged::Unusable;
use crate::core::specfile::SpecErrors;
use crate::engine::fleet::FleetError;
use crate::world::artifacts::ArtifactError;
use crate::world::cloud::CloudError;

/// The cure that the error's own kind knows.
pub fn hint(error: &Error) -> Option<String> {
    if let Some(late) = error.downcast_ref::<TimedOut>() {
        return Some(late.cure().to_owned());
    }
    if let Some(error) = error.downcast_ref::<DiscoverError>() {
        return Some(error.cure());
    }
    if let Some(cure) = error.downcast_ref().and_then(FleetError::cure) {
        return Some(cure.to_owned());
    }
    if let Some(error) = error.downcast_ref::<Unusable>() {
        return Some(error.cure().to_owned());
    }
    if let Some(cure) = error.downcast_ref().and_then(CloudError::cure) {
        return Some(cure.to_owned());
    }
    error.chain().find_map(|cause| cause.downcast_ref::<ArtifactError>()).and_then(ArtifactError::hint)
}

/// The exit code for a command that did not get to its end.
pub fn code(error: &Error) -> u8 {
    if error.is::<TimedOut>() {
        return exit::TIMED_OUT;
    }
    if error.is::<Interrupted>() {
        return exit::INTERRUPTED;
    }
    let artifact = error.chain().find_map(|cause| cause.downcast_ref::<ArtifactError>());
    if matches!(artifact, Some(ArtifactError::Cancelled { .. })) {
        return exit::INTERRUPTED;
    }
    if matches!(error.downcast_ref(), Some(CloudError::Cancelled)) {
        return exit::INTERRUPTED;
    }
    if let Some(FleetError::Late { .. } | FleetError::Batch { .. } | FleetError::TooFew { .. }) = error.downcast_ref() {
        return exit::HOSTS_FAILED;
    }
    if error.is::<Usage>() || error.is::<SpecErrors>() { exit::USAGE } else { exit::FAILED }
}
