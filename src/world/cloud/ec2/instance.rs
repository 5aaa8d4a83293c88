//! An instance as the code above wants it: read from DescribeInstances, page by page, and made a host.

use std::collections::BTreeMap;
use std::net::IpAddr;

use aws_sdk_ec2::types as sdk;

use super::client::refused;
use super::{Ec2, filter};
use crate::core::ec2::discover;
use crate::model::ec2::{Candidate, Reach, tag};
use crate::model::host::{Host, HostId, HostState, Role, SshTarget};
use crate::model::name::HostName;
use crate::world::cloud::CloudError;

/// The most that one page holds; EC2 allows from 5 to 1,000.
const PAGE: i32 = 1000;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Instance {
    pub id: String,
    pub state: HostState,
    /// Why it is in that state, where EC2 says it (`Server.InsufficientInstanceCapacity: …`).
    pub reason: Option<String>,
    pub private_address: Option<IpAddr>,
    pub public_address: Option<IpAddr>,
    pub tags: BTreeMap<String, String>,
    pub image: String,
    pub vpc: Option<String>,
    /// Ids of its security groups.
    pub groups: Vec<String>,
    pub volumes: Vec<Volume>,
    /// In seconds since 1970.
    pub launched: Option<i64>,
    pub spot: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Volume {
    pub id: String,
    pub device: String,
    /// Goes with the instance.
    pub goes: bool,
}

impl Instance {
    pub fn read(from: &sdk::Instance) -> Option<Self> {
        let address = |text: Option<&str>| text.and_then(|text| text.parse().ok());
        Some(Self {
            id: from.instance_id()?.to_owned(),
            state: state(from.state().and_then(sdk::InstanceState::name)),
            reason: from.state_reason().map(reason),
            private_address: address(from.private_ip_address()),
            public_address: address(from.public_ip_address()),
            tags: tags(from.tags()),
            image: from.image_id().unwrap_or_default().to_owned(),
            vpc: from.vpc_id().map(str::to_owned),
            groups: from.security_groups().iter().filter_map(|group| group.group_id()).map(str::to_owned).collect(),
            volumes: from.block_device_mappings().iter().filter_map(volume).collect(),
            launched: from.launch_time().map(aws_smithy_types::DateTime::secs),
            spot: from.instance_lifecycle() == Some(&sdk::InstanceLifecycleType::Spot),
        })
    }

    /// The host's name: our tag; an instance that somebody tagged by hand goes by its id.
    pub fn host_name(&self) -> Option<HostName> {
        let tagged = self.tags.get(tag::HOST).and_then(|name| HostName::new(name.as_str()).ok());
        tagged.or_else(|| HostName::new(self.id.as_str()).ok())
    }

    /// As people know it.
    pub fn called(&self) -> String {
        self.host_name().map_or_else(|| self.id.clone(), |name| name.to_string())
    }

    pub fn role(&self) -> Role {
        match self.tags.get(tag::ROLE).map(String::as_str) {
            Some("server") => Role::Server,
            Some(_) => Role::Node,
            None if discover::leads(&self.tags) => Role::Server,
            None => Role::Node,
        }
    }

    fn origin(&self) -> &str {
        self.tags.get(tag::ORIGIN).map(String::as_str).unwrap_or_default()
    }

    /// Made by clusterctl or by its Auto Scaling group, so that clusterctl may end it.
    pub fn is_ours(&self) -> bool {
        matches!(self.origin(), tag::LAUNCHED | tag::IMAGED | tag::FLEET)
    }

    /// None of the hosts that a spec counts: its image holds all that it needs, and it joins by itself.
    pub fn is_baked(&self) -> bool {
        matches!(self.origin(), tag::IMAGED | tag::FLEET)
    }

    /// Its network is its group's matter: nobody needs to reach it from outside.
    pub fn is_of_fleet(&self) -> bool {
        self.origin() == tag::FLEET
    }

    pub fn candidate(self) -> Candidate {
        let Self { id, state, private_address, public_address, tags, .. } = self;
        Candidate { id, state, private_address, public_address, tags }
    }
}

/// EC2's code and words; most messages begin with the code already.
fn reason(reason: &sdk::StateReason) -> String {
    let (code, message) = (reason.code().unwrap_or_default(), reason.message().unwrap_or_default());
    if message.starts_with(code) { message.to_owned() } else { format!("{code}: {message}") }
}

fn volume(mapping: &sdk::InstanceBlockDeviceMapping) -> Option<Volume> {
    let ebs = mapping.ebs()?;
    Some(Volume {
        id: ebs.volume_id()?.to_owned(),
        device: mapping.device_name()?.to_owned(),
        goes: ebs.delete_on_termination().unwrap_or(false),
    })
}

fn state(name: Option<&sdk::InstanceStateName>) -> HostState {
    match name {
        Some(sdk::InstanceStateName::Running) => HostState::Running,
        Some(sdk::InstanceStateName::ShuttingDown) => HostState::ShuttingDown,
        Some(sdk::InstanceStateName::Terminated) => HostState::Terminated,
        Some(sdk::InstanceStateName::Stopping) => HostState::Stopping,
        Some(sdk::InstanceStateName::Stopped) => HostState::Stopped,
        // What is not known yet is on its way.
        _ => HostState::Pending,
    }
}

pub fn tags(from: &[sdk::Tag]) -> BTreeMap<String, String> {
    from.iter().filter_map(|tag| Some((tag.key()?.to_owned(), tag.value().unwrap_or_default().to_owned()))).collect()
}

impl Ec2 {
    /// Instances that pass all filters, each handed on as its page comes: a large account is never held whole.
    pub(super) async fn each_instance(
        &self,
        filters: Vec<sdk::Filter>,
        mut each: impl FnMut(Instance),
    ) -> Result<(), CloudError> {
        let clients = self.clients().await?;
        let mut pages = clients
            .ec2
            .describe_instances()
            .set_filters((!filters.is_empty()).then_some(filters))
            .into_paginator()
            .page_size(PAGE)
            .send();
        while let Some(page) = pages.next().await {
            let page = page.map_err(|error| refused("ec2:DescribeInstances", error))?;
            for reservation in page.reservations() {
                reservation.instances().iter().filter_map(Instance::read).for_each(&mut each);
            }
        }
        Ok(())
    }

    /// All instances of the cluster, in whatever state, by id.
    pub(super) async fn instances(&self) -> Result<Vec<Instance>, CloudError> {
        let mut found = Vec::new();
        self.each_instance(vec![self.cluster_filter()], |instance| found.push(instance)).await?;
        found.sort_by(|a, b| a.id.cmp(&b.id));
        Ok(found)
    }

    pub(super) fn cluster_filter(&self) -> sdk::Filter {
        filter(&format!("tag:{}", tag::CLUSTER), [self.cluster.as_str()])
    }

    /// Instances that carry the leader's tag: those of this cluster, or else those of any, so that a tag that
    /// is missing or wrong can be told.
    pub(super) async fn candidates(&self) -> Result<Vec<Candidate>, CloudError> {
        // Filters compare letter by letter, but `?` stands for any one: so the key is asked for in any case.
        let any_case = filter("tag-key", ["?".repeat("consul".len()) + "-" + &"?".repeat("leader".len())]);
        let mut found = discover::Finder::new(self.cluster.clone());
        self.each_instance(vec![self.cluster_filter(), any_case.clone()], |i| found.push(i.candidate())).await?;
        if found.is_empty() {
            self.each_instance(vec![any_case], |i| found.push(i.candidate())).await?;
        }
        Ok(found.into_candidates())
    }

    /// The instance as a host. `None` for one whose id cannot be a name, which EC2 does not make.
    pub(super) fn host(&self, instance: &Instance) -> Option<Host> {
        let name = instance.host_name()?;
        let address = match self.spec.reach {
            Reach::Public => instance.public_address,
            Reach::Private => instance.private_address,
        };
        let user = self.ssh.user.clone();
        let mut tags = instance.tags.clone();
        if instance.is_baked() {
            tags.insert(tag::IMAGE.to_owned(), instance.image.clone());
        }
        Some(Host {
            id: HostId(instance.id.clone()),
            name,
            role: instance.role(),
            state: instance.state,
            private_address: instance.private_address,
            ssh: SshTarget {
                host: address.map(|address| address.to_string()).unwrap_or_default(),
                port: self.ssh.port,
                key: self.ssh.key.clone(),
                users: if user.is_some() { Vec::new() } else { self.users(instance) },
                user,
                bastion: self.ssh.bastion.clone(),
            },
            // Whoever connects reads it strictly: what is no key is none.
            host_keys: instance.tags.get(tag::HOST_KEY).into_iter().cloned().collect(),
            tags,
        })
    }
}
