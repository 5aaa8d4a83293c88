//! The fake cloud's lease.

use async_trait::async_trait;

use super::FakeCloud;
use crate::model::lease::{Lease, Standing};
use crate::world::cloud::{CloudError, Leases, Turn};

#[async_trait]
impl Leases for FakeCloud {
    async fn lease(&self) -> Result<Option<Lease>, CloudError> {
        Ok(self.inner().lease.clone())
    }

    async fn take_lease(&self, wanted: &Lease) -> Result<Turn, CloudError> {
        let mut inner = self.inner();
        if inner.no_leases {
            let (code, message) = (Some("AccessDeniedException".to_owned()), "not allowed".to_owned());
            return Err(CloudError::Api { action: "fake:TakeLease", code, message, cure: None });
        }
        match &inner.lease {
            Some(there) if there.standing(&wanted.machine, wanted.since) == Standing::Held => {
                Ok(Turn::Theirs(there.clone()))
            }
            _ => {
                inner.lease = Some(wanted.clone());
                Ok(Turn::Ours)
            }
        }
    }

    async fn renew_lease(&self, lease: &Lease) -> Result<Turn, CloudError> {
        let mut inner = self.inner();
        if inner.lease.as_ref().is_some_and(|there| there.id == lease.id) {
            inner.lease = Some(lease.clone());
            return Ok(Turn::Ours);
        }
        Ok(inner.lease.clone().map_or(Turn::Nobodys, Turn::Theirs))
    }

    async fn end_lease(&self, id: &str) -> Result<(), CloudError> {
        let mut inner = self.inner();
        if inner.lease.as_ref().is_some_and(|there| there.id == id) {
            inner.lease = None;
        }
        Ok(())
    }
}
