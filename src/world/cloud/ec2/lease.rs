//! The lease on a cluster: an SSM parameter, since SSM makes one only where none of that name is. A cluster that nobody
//! changes has none.

use std::time::Duration;

use async_trait::async_trait;
use aws_sdk_ssm::types::ParameterType;
use jiff::Timestamp;

use super::Ec2;
use super::client::{code, refused};
use crate::model::lease::{Lease, Standing};
use crate::world::cloud::{CloudError, Leases, Turn};

/// Two that take over the same dead lease write one after the other within this; the last one has it.
const CONTEST: Duration = Duration::from_secs(1);
/// A parameter that vanishes between two looks is looked for again so often.
const TRIES: usize = 5;

impl Ec2 {
    pub(super) fn lease_name(&self) -> String {
        format!("/clusterctl/{}/lease", self.cluster)
    }

    /// `Ok(false)`: there is one already.
    async fn put_lease(&self, lease: &Lease, over: bool) -> Result<bool, CloudError> {
        let clients = self.clients().await?;
        let text = serde_json::to_string(lease).expect("a lease is plain data");
        let call = clients.leases.put_parameter().name(self.lease_name()).value(text).r#type(ParameterType::String);
        match call.overwrite(over).send().await {
            Ok(_) => Ok(true),
            // Somebody writes it in this very moment: it is there, or will be.
            Err(error) if matches!(code(&error), Some("ParameterAlreadyExists" | "TooManyUpdates")) => Ok(false),
            Err(error) => Err(refused("ssm:PutParameter", error)),
        }
    }

    /// What is there and is no lease is somebody's by hand.
    fn read_lease(&self, text: &str) -> Result<Lease, CloudError> {
        serde_json::from_str(text).map_err(|error| CloudError::Unfit {
            missing: format!("the SSM parameter {} holds no lease of clusterctl's: {error}", self.lease_name()),
            cure: format!("if nobody changes the cluster: aws ssm delete-parameter --name {}", self.lease_name()),
        })
    }
}

#[async_trait]
impl Leases for Ec2 {
    async fn lease(&self) -> Result<Option<Lease>, CloudError> {
        let clients = self.clients().await?;
        match clients.leases.get_parameter().name(self.lease_name()).send().await {
            Ok(answer) => {
                let text = answer.parameter().and_then(|parameter| parameter.value()).unwrap_or_default();
                self.read_lease(text).map(Some)
            }
            Err(error) if code(&error) == Some("ParameterNotFound") => Ok(None),
            Err(error) => Err(refused("ssm:GetParameter", error)),
        }
    }

    async fn take_lease(&self, wanted: &Lease) -> Result<Turn, CloudError> {
        for _ in 0..TRIES {
            if self.put_lease(wanted, false).await? {
                return Ok(Turn::Ours);
            }
            let Some(there) = self.lease().await? else {
                self.pause(CONTEST).await?;
                continue;
            };
            if there.id == wanted.id {
                return Ok(Turn::Ours);
            }
            let standing = there.standing(&wanted.machine, Timestamp::now());
            if standing == Standing::Held {
                return Ok(Turn::Theirs(there));
            }
            if !self.put_lease(wanted, true).await? {
                self.pause(CONTEST).await?;
                continue;
            }
            if standing == Standing::Expired {
                self.pause(CONTEST).await?;
            }
            match self.lease().await? {
                Some(last) if last.id == wanted.id => return Ok(Turn::Ours),
                Some(last) => return Ok(Turn::Theirs(last)),
                None => {}
            }
        }
        Err(CloudError::Unfit {
            missing: format!("the lease {} comes and goes", self.lease_name()),
            cure: "does somebody else change the cluster at the same time? Running the command again is safe"
                .to_owned(),
        })
    }

    async fn renew_lease(&self, lease: &Lease) -> Result<Turn, CloudError> {
        match self.lease().await? {
            Some(there) if there.id == lease.id => self.put_lease(lease, true).await.map(|_| Turn::Ours),
            Some(other) => Ok(Turn::Theirs(other)),
            None => Ok(Turn::Nobodys),
        }
    }

    async fn end_lease(&self, id: &str) -> Result<(), CloudError> {
        if self.lease().await?.is_none_or(|there| there.id != id) {
            return Ok(());
        }
        let clients = self.clients().await?;
        match clients.leases.delete_parameter().name(self.lease_name()).send().await {
            Ok(_) => Ok(()),
            Err(error) if code(&error) == Some("ParameterNotFound") => Ok(()),
            Err(error) => Err(refused("ssm:DeleteParameter", error)),
        }
    }
}
