//! Hosts that exist already, as the spec lists them. Nothing is made and nothing removed: whether a host
//! answers is SSH's to find out.

use std::collections::BTreeMap;
use std::time::Instant;

use async_trait::async_trait;

use super::{Cloud, CloudError, Launch, Removed};
use crate::model::ec2::tag;
use crate::model::event::Events;
use crate::model::host::{Host, HostId, HostState, SshTarget};
use crate::model::name::ClusterName;
use crate::model::report::Finding;
use crate::model::spec::{InventoryHost, SshSpec};

const PROVIDER: &str = "inventory";

#[derive(Debug, Clone)]
pub struct Inventory {
    hosts: Vec<Host>,
}

impl Inventory {
    /// What a host does not say itself is taken from `ssh`.
    pub fn new(cluster: &ClusterName, hosts: &[InventoryHost], ssh: &SshSpec) -> Self {
        let mut hosts: Vec<Host> = hosts.iter().map(|h| host(cluster, h, ssh)).collect();
        hosts.sort_by(|a, b| a.name.cmp(&b.name));
        // One leader, however many servers.
        if let Some(server) = hosts.iter_mut().find(|host| host.role.is_server()) {
            server.tags.insert(tag::LEADER.to_owned(), "True".to_owned());
        }
        Self { hosts }
    }

    fn by_id(&self, id: &HostId) -> Result<&Host, CloudError> {
        self.hosts.iter().find(|h| h.id == *id).ok_or_else(|| CloudError::NoSuchHost { id: id.clone() })
    }
}

fn host(cluster: &ClusterName, listed: &InventoryHost, ssh: &SshSpec) -> Host {
    let tags = BTreeMap::from([
        (tag::CLUSTER.to_owned(), cluster.to_string()),
        (tag::ROLE.to_owned(), listed.role.to_string()),
    ]);
    Host {
        id: HostId(format!("{PROVIDER}:{}", listed.name)),
        name: listed.name.clone(),
        role: listed.role,
        state: HostState::Running,
        private_address: listed.private_address,
        ssh: SshTarget {
            host: listed.address.clone(),
            port: listed.port.or(ssh.port),
            user: listed.user.clone().or_else(|| ssh.user.clone()),
            key: listed.key.clone().or_else(|| ssh.key.clone()),
            bastion: ssh.bastion.clone(),
            users: Vec::new(),
        },
        host_keys: listed.host_keys.clone(),
        tags,
    }
}

fn unsupported(what: &'static str, cure: &str) -> CloudError {
    CloudError::Unsupported { provider: PROVIDER, what, cure: cure.to_owned() }
}

#[async_trait]
impl Cloud for Inventory {
    fn provider(&self) -> &'static str {
        PROVIDER
    }

    async fn list(&self) -> Result<Vec<Host>, CloudError> {
        Ok(self.hosts.clone())
    }

    /// Listed hosts are there; others cannot be made.
    async fn launch(&self, wanted: &[Launch], _: &Events) -> Vec<Result<Host, CloudError>> {
        let find = |launch: &Launch| self.hosts.iter().find(|h| h.name == launch.name).cloned();
        let cure = "add the host to [[host]] in the spec, with its address";
        wanted.iter().map(|launch| find(launch).ok_or_else(|| unsupported("launch hosts", cure))).collect()
    }

    async fn wait(&self, id: &HostId, _: Instant) -> Result<Host, CloudError> {
        self.by_id(id).cloned()
    }

    async fn terminate(&self, _: &[HostId], _: &Events) -> Result<(), CloudError> {
        Err(unsupported("remove hosts", "take the host out of the spec; the machine itself is yours"))
    }

    async fn console(&self, id: &HostId) -> Result<String, CloudError> {
        self.by_id(id)?;
        Err(unsupported("show a host's console", "log in to the host and run journalctl"))
    }

    /// Whether they answer is SSH's to find out, and `doctor` asks that of every provider's hosts.
    async fn examine(&self) -> Vec<Finding> {
        vec![Finding::good("inventory", format!("{} hosts in the spec", self.hosts.len()))]
    }

    async fn destroy(&self, _: bool, _: &Events) -> Result<Removed, CloudError> {
        Err(unsupported("remove hosts", "the machines are yours: clusterctl made none of them"))
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::model::host::Role;
    use crate::model::name::HostName;

    fn inventory() -> Inventory {
        let listed = |name: &str, role, user: Option<&str>| InventoryHost {
            name: HostName::new(name).unwrap(),
            role,
            address: format!("{name}.example"),
            private_address: None,
            port: None,
            user: user.map(ToOwned::to_owned),
            key: None,
            host_keys: vec!["ssh-ed25519 AAAA".to_owned()],
        };
        let ssh = SshSpec {
            user: Some("admin".to_owned()),
            port: Some(2222),
            key: Some(PathBuf::from("/k")),
            bastion: Some("gate".to_owned()),
        };
        Inventory::new(
            &ClusterName::new("shop").unwrap(),
            &[listed("web", Role::Node, Some("me")), listed("main", Role::Server, None)],
            &ssh,
        )
    }

    #[tokio::test]
    async fn hosts_are_listed_by_name_with_what_they_inherit() {
        let hosts = inventory().list().await.unwrap();
        assert_eq!(hosts.iter().map(|h| h.id.0.as_str()).collect::<Vec<_>>(), ["inventory:main", "inventory:web"]);
        assert_eq!(hosts[0].ssh.user.as_deref(), Some("admin"));
        assert_eq!(hosts[1].ssh.user.as_deref(), Some("me"));
        assert_eq!(hosts[1].ssh.port, Some(2222));
        assert!(hosts.iter().all(|h| h.ssh.bastion.as_deref() == Some("gate")));
        assert!(hosts.iter().all(|h| h.state.is_running() && h.private_address.is_none() && h.host_keys.len() == 1));
        assert_eq!(hosts[0].tags.get("consul-leader").map(String::as_str), Some("True"));
    }

    #[tokio::test]
    async fn what_exists_counts_as_launched_and_nothing_else_can_be() {
        let (cloud, events) = (inventory(), Events::silent());
        let launch = |name: &str| Launch::plain(HostName::new(name).unwrap(), Role::Node);
        let answers = cloud.launch(&[launch("new"), launch("web")], &events).await;
        assert!(matches!(&answers[0], Err(CloudError::Unsupported { cure, .. }) if cure.contains("[[host]]")));
        let web = answers[1].as_ref().unwrap();
        assert_eq!(cloud.wait(&web.id, Instant::now()).await.unwrap(), *web);
        assert!(matches!(
            cloud.terminate(std::slice::from_ref(&web.id), &events).await,
            Err(CloudError::Unsupported { .. })
        ));
        assert!(matches!(cloud.destroy(false, &events).await, Err(CloudError::Unsupported { .. })));
        let stranger = HostId("inventory:x".to_owned());
        assert!(matches!(cloud.wait(&stranger, Instant::now()).await, Err(CloudError::NoSuchHost { .. })));
    }
}
