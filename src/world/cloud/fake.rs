//! A cloud in memory, for the tests of what stands above.

mod lease;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Instant;

use async_trait::async_trait;

use super::{Cloud, CloudError, Images, Launch, Leases, Removed};
use crate::model::baked::{Baked, BakedState, ImageId, Label};
use crate::model::ec2::tag;
use crate::model::event::Events;
use crate::model::host::{Host, HostId, HostState, SshTarget};
use crate::model::lease::Lease;
use crate::model::name::HostName;
use crate::model::report::Finding;

/// Hosts and images that exist only here. A launched host is pending until it is waited for.
#[derive(Debug, Default)]
pub struct FakeCloud {
    inner: Mutex<Inner>,
    /// The account's, which its clusters share.
    images: Arc<Mutex<BTreeMap<ImageId, Baked>>>,
}

#[derive(Debug, Default)]
struct Inner {
    hosts: BTreeMap<HostName, Host>,
    launched: u8,
    cannot_launch: BTreeSet<HostName>,
    cannot_boot: BTreeSet<HostName>,
    lease: Option<Lease>,
    no_leases: bool,
    /// Every call that changes something, as it came.
    calls: Vec<&'static str>,
    /// The numbers of the calls that fail, from 0.
    fails: BTreeSet<usize>,
}

impl FakeCloud {
    pub fn new() -> Self {
        Self::default()
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().expect("no test panics while it holds this")
    }

    /// Another cluster in the same account.
    pub fn beside(&self) -> Self {
        Self { inner: Mutex::default(), images: Arc::clone(&self.images) }
    }

    /// The calls that change something, so far.
    pub fn calls(&self) -> Vec<&'static str> {
        self.inner().calls.clone()
    }

    /// The call with this number, from 0, fails.
    pub fn fail_call(&self, number: usize) {
        self.inner().fails.insert(number);
    }

    fn stored(&self) -> MutexGuard<'_, BTreeMap<ImageId, Baked>> {
        self.images.lock().expect("no test panics while it holds this")
    }

    /// Notes the call; an error where it is to fail.
    fn call(&self, what: &'static str) -> Result<(), CloudError> {
        let mut inner = self.inner();
        let number = inner.calls.len();
        inner.calls.push(what);
        if inner.fails.contains(&number) {
            return Err(CloudError::Command { command: what.to_owned(), detail: "it was told to fail".to_owned() });
        }
        Ok(())
    }

    /// From now on launching this host fails.
    pub fn refuse_launch(&self, name: &HostName) {
        self.inner().cannot_launch.insert(name.clone());
    }

    /// From now on this host launches and never comes up.
    pub fn refuse_boot(&self, name: &HostName) {
        self.inner().cannot_boot.insert(name.clone());
    }

    /// From now on nobody may take a lease.
    pub fn refuse_leases(&self) {
        self.inner().no_leases = true;
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
            tags: BTreeMap::from([(tag::ROLE.to_owned(), wanted.role.to_string())]),
        };
        if let Some(image) = &wanted.image {
            host.tags.insert(tag::IMAGE.to_owned(), image.to_string());
            host.tags.insert(tag::ORIGIN.to_owned(), tag::IMAGED.to_owned());
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

    async fn prepare(&self, _: &Events) -> Result<(), CloudError> {
        self.call("prepare")
    }

    async fn list(&self) -> Result<Vec<Host>, CloudError> {
        Ok(self.inner().hosts.values().cloned().collect())
    }

    async fn launch(&self, wanted: &[Launch], _: &Events) -> Vec<Result<Host, CloudError>> {
        if let Err(error) = self.call("launch") {
            return wanted.iter().map(|_| Err(error.again())).collect();
        }
        let mut inner = self.inner();
        wanted.iter().map(|launch| inner.launch(launch)).collect()
    }

    async fn wait(&self, id: &HostId, _: Instant) -> Result<Host, CloudError> {
        self.call("wait")?;
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
        self.call("terminate")?;
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
        self.call("destroy")?;
        let hosts = std::mem::take(&mut self.inner().hosts);
        Ok(Removed { hosts: hosts.into_keys().collect(), ..Removed::default() })
    }

    fn leases(&self) -> Option<&dyn Leases> {
        Some(self)
    }

    fn images(&self) -> Option<&dyn Images> {
        Some(self)
    }
}

#[async_trait]
impl Images for FakeCloud {
    async fn seal(&self, host: &HostId, label: &Label, _: &Events) -> Result<ImageId, CloudError> {
        self.call("seal")?;
        let id = ImageId(format!("{}/{}", label.name, label.role));
        let mut inner = self.inner();
        let sealed = inner.hosts.values_mut().find(|found| found.id == *host);
        let sealed = sealed.ok_or_else(|| CloudError::NoSuchHost { id: host.clone() })?;
        sealed.state = HostState::Stopped;
        let baked = Baked { id: id.clone(), label: label.clone(), state: BakedState::Available, proved: None };
        self.stored().insert(id.clone(), baked);
        Ok(id)
    }

    async fn baked(&self) -> Result<Vec<Baked>, CloudError> {
        let mut baked: Vec<Baked> = self.stored().values().cloned().collect();
        baked.sort_by_key(|image| std::cmp::Reverse(image.label.created));
        Ok(baked)
    }

    async fn prove(&self, id: &ImageId) -> Result<(), CloudError> {
        self.call("prove")?;
        let mut stored = self.stored();
        let missing = || CloudError::Command { command: "prove".to_owned(), detail: format!("there is no {id}") };
        let image = stored.get_mut(id).ok_or_else(missing)?;
        image.proved = Some(image.label.created);
        Ok(())
    }

    async fn copy(&self, id: &ImageId, region: &str, _: &Events) -> Result<ImageId, CloudError> {
        self.call("copy")?;
        Ok(ImageId(format!("{id}@{region}")))
    }

    async fn remove(&self, id: &ImageId) -> Result<(), CloudError> {
        self.call("remove")?;
        self.stored().remove(id);
        Ok(())
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
