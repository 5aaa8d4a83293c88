//! Waiting until instances run. All who wait share one look at the account a second, so that a hundred hosts
//! cost no more calls than one.

use std::time::{Duration, Instant};

use super::Ec2;
use super::instance::Instance;
use crate::model::ec2::Reach;
use crate::model::host::{Host, HostId, HostState};
use crate::world::cloud::CloudError;

const INTERVAL: Duration = Duration::from_secs(1);

/// What the last look saw.
pub struct Latest {
    at: Instant,
    instances: Vec<Instance>,
}

impl Ec2 {
    pub(super) async fn wait_for(&self, id: &HostId, deadline: Instant) -> Result<Host, CloudError> {
        let mut since = Instant::now();
        loop {
            let instance = self.look(&id.0, since).await?;
            let seen = match &instance {
                // Right after a launch, not listed means not yet.
                None => "EC2 does not list it yet".to_owned(),
                Some(instance) if self.is_up(instance) => return self.host_of(instance),
                Some(instance) if !instance.state.exists() => return Err(self.died(instance)),
                Some(instance) if instance.state.is_running() => "it runs and has no address yet".to_owned(),
                Some(instance) => format!("it is {}", instance.state),
            };
            since = Instant::now() + INTERVAL;
            if since >= deadline {
                let host = instance.as_ref().and_then(Instance::host_name);
                return Err(match host {
                    Some(host) => CloudError::Deadline { host, seen, log: None },
                    None => CloudError::NoSuchHost { id: id.clone() },
                });
            }
            self.pause(INTERVAL).await?;
        }
    }

    fn is_up(&self, instance: &Instance) -> bool {
        let reachable = match self.spec.reach {
            Reach::Public => instance.public_address.is_some() || !instance.is_ours() || instance.is_of_fleet(),
            Reach::Private => true,
        };
        instance.state == HostState::Running && instance.private_address.is_some() && reachable
    }

    fn died(&self, instance: &Instance) -> CloudError {
        let reason = instance.reason.as_deref().unwrap_or("EC2 gives no reason");
        let what = format!("{} ended before it ran ({}): {reason}", instance.id, instance.state);
        match instance.host_name() {
            Some(host) => CloudError::Host { host, what, log: None },
            None => CloudError::NoSuchHost { id: HostId(instance.id.clone()) },
        }
    }

    /// The instance as it was at `since` or later.
    async fn look(&self, id: &str, since: Instant) -> Result<Option<Instance>, CloudError> {
        let mut latest = self.latest.lock().await;
        let fresh = match latest.take() {
            Some(seen) if seen.at >= since => seen,
            _ => {
                let at = Instant::now();
                Latest { at, instances: self.instances().await? }
            }
        };
        let found = fresh.instances.iter().find(|instance| instance.id == id).cloned();
        *latest = Some(fresh);
        Ok(found)
    }
}
