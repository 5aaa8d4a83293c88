//! A cloud in memory, for the tests of what stands above.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Mutex, MutexGuard};
use std::time::Instant;

use async_trait::async_trait;

use super::{Cloud, CloudError, Launch, Removed};
use crate::model::event::Events;
use crate::model::host::{Host, HostId, HostState, SshTarget};
use crate::model::name::HostName;
use crate::model::report::Finding;

/// Hosts that exist only here. A launched host is pending until it is waited for.
#[derive(Debug, Default)]
pub struct FakeCloud(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    hosts: BTreeMap<HostName, Host>,
    launched: u8,
    cannot_launch: BTreeSet<HostName>,
    cannot_boot: BTreeSet<HostName>,
}

impl FakeCloud {
    pub fn new() -> Self {
        Self::default()
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().expect("no test panics while it holds this")
    }

    /// From now on launching this host fails.
    pub fn refuse_launch(&self, name: &HostName) {
        self.inner().cannot_launch.insert(name.clone());
    }

    /// From now on this host launches and never comes up.
    pub fn refuse_boot(&self, name: &HostName) {
        self.inner().cannot_boot.insert(name.clone());
    }

    /// Lets all hosts launch and boot again.
    pub fn heal(&self) {
        let mut inner = self.inner();
        inner.cannot_launch.clear();
        inner.cannot_boot.clear();
    }

    /// Puts a host in a state, as if something had happened to it.
    pub fn set_state(&self, name: &HostName, state: HostState) {
        if let Some(host) = self.inner().hosts.get_mut(name) {
            host.state = state;
        }
    }

    /// Gives a host another address: what a stopped and started instance gets.
    pub fn set_address(&self, name: &HostName, address: IpAddr) {
        if let Some(host) = self.inner().hosts.get_mut(name) {
            host.private_address = Some(address);
            host.ssh.host = address.to_string();
        }
    }
}

impl Inner {
    fn launch(&mut self, wanted: &Launch) -> Result<Host, CloudError> {
        let failed = |what: &str| CloudError::Host { host: wanted.name.clone(), what: what.to_owned(), log: None };
        if self.cannot_launch.contains(&wanted.name) {
            return Err(failed("the provider has no room for it"));
        }
        if let Some(host) = self.hosts.get_mut(&wanted.name) {
            if host.state == HostState::Stopped {
                host.state = HostState::Pending;
            }
            return Ok(host.clone());
        }
        self.launched = self.launched.checked_add(1).ok_or_else(|| failed("the fake has only 255 addresses"))?;
        let address = Ipv4Addr::new(192, 0, 2, self.launched);
        let mut host = Host {
            id: HostId(format!("fake-{}", self.launched)),
            name: wanted.name.clone(),
            role: wanted.role,
            state: HostState::Pending,
            private_address: Some(IpAddr::V4(address)),
            ssh: SshTarget { host: address.to_string(), user: Some("root".to_owned()), ..SshTarget::default() },
            host_keys: vec![format!("ssh-ed25519 FAKE{}", self.launched)],
            tags: BTreeMap::from([("clusterctl:role".to_owned(), wanted.role.to_string())]),
        };
        if let Some(image) = &wanted.image {
            host.tags.insert(crate::model::ec2::tag::ORIGIN.to_owned(), crate::model::ec2::tag::IMAGED.to_owned());
            host.tags.insert(crate::model::ec2::tag::IMAGE.to_owned(), image.to_string());
        }
        self.hosts.insert(wanted.name.clone(), host.clone());
        Ok(host)
    }
}

#[async_trait]
impl Cloud for FakeCloud {
    fn provider(&self) -> &'static str {
        "fake"
    }

    async fn list(&self) -> Result<Vec<Host>, CloudError> {
        Ok(self.inner().hosts.values().cloned().collect())
    }

    async fn launch(&self, wanted: &[Launch], _: &Events) -> Vec<Result<Host, CloudError>> {
        let mut inner = self.inner();
        wanted.iter().map(|launch| inner.launch(launch)).collect()
    }

    async fn wait(&self, id: &HostId, _: Instant) -> Result<Host, CloudError> {
        let mut inner = self.inner();
        let Inner { hosts, cannot_boot, .. } = &mut *inner;
        let host = hosts.values_mut().find(|h| h.id == *id).ok_or_else(|| CloudError::NoSuchHost { id: id.clone() })?;
        if cannot_boot.contains(&host.name) {
            let seen = "it stays pending".to_owned();
            return Err(CloudError::Deadline { host: host.name.clone(), seen, log: None });
        }
        host.state = HostState::Running;
        Ok(host.clone())
    }

    async fn terminate(&self, ids: &[HostId], _: &Events) -> Result<(), CloudError> {
        self.inner().hosts.retain(|_, host| !ids.contains(&host.id));
        Ok(())
    }

    async fn console(&self, id: &HostId) -> Result<String, CloudError> {
        let inner = self.inner();
        let host = inner.hosts.values().find(|h| h.id == *id);
        host.map(|h| format!("{} booted\n", h.name)).ok_or_else(|| CloudError::NoSuchHost { id: id.clone() })
    }

    async fn examine(&self) -> Vec<Finding> {
        Vec::new()
    }

    async fn destroy(&self, _: bool, _: &Events) -> Result<Removed, CloudError> {
        let hosts = std::mem::take(&mut self.inner().hosts);
        Ok(Removed { hosts: hosts.into_keys().collect(), ..Removed::default() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::host::Role;

    #[tokio::test]
    async fn a_host_lives_as_at_a_provider() {
        let (cloud, events) = (FakeCloud::new(), Events::silent());
        let launch = |name: &str| Launch::plain(HostName::new(name).unwrap(), Role::Node);
        let (a, b) = (launch("a"), launch("b"));
        cloud.refuse_boot(&b.name);
        cloud.refuse_launch(&HostName::new("c").unwrap());
        let answers = cloud.launch(&[a.clone(), b.clone(), launch("c")], &events).await;
        let (first, second) = (answers[0].as_ref().unwrap(), answers[1].as_ref().unwrap());
        assert!(answers[2].is_err());
        assert_eq!(first.state, HostState::Pending);
        assert!(cloud.wait(&first.id, Instant::now()).await.unwrap().state.is_running());
        assert!(matches!(cloud.wait(&second.id, Instant::now()).await, Err(CloudError::Deadline { .. })));

        cloud.set_state(&a.name, HostState::Stopped);
        cloud.heal();
        let again = cloud.launch(&[a, b], &events).await;
        assert_eq!(again[0].as_ref().unwrap().id, first.id, "the same host, started again");
        assert_eq!(again[0].as_ref().unwrap().state, HostState::Pending);
        assert!(cloud.wait(&second.id, Instant::now()).await.unwrap().state.is_running());

        cloud.terminate(std::slice::from_ref(&first.id), &events).await.unwrap();
        assert!(matches!(cloud.console(&first.id).await, Err(CloudError::NoSuchHost { .. })));
        assert_eq!(cloud.destroy(false, &events).await.unwrap().hosts, std::slice::from_ref(&second.name));
        assert!(cloud.list().await.unwrap().is_empty());
    }
}
