//! Taking in instances that exist already: they get the cluster's tags and its group. They stay their owner's,
//! so `down` lets go of them and never ends them.

use aws_sdk_ec2::types as sdk;

use super::client::refused;
use super::instance::Instance;
use super::{Ec2, filter};
use crate::core::ec2::{discover, images};
use crate::model::ec2::tag;
use crate::model::event::{Doing, Events};
use crate::model::host::{Host, HostId, Role};
use crate::world::cloud::{Adopt, CloudError, Machine};

impl Ec2 {
    pub(super) async fn adopt_all(&self, wanted: &[Adopt], events: &Events) -> Vec<Result<Host, CloudError>> {
        let mut adopted = Vec::new();
        for one in wanted {
            events.began(Some(&one.name), Doing::Launch);
            let result = self.adopt_one(one).await;
            if result.is_ok() {
                events.ended(Some(&one.name), Doing::Launch, true);
            }
            adopted.push(result);
        }
        adopted
    }

    async fn adopt_one(&self, one: &Adopt) -> Result<Host, CloudError> {
        let instance = self.machine(&one.machine).await?;
        let of_another = instance.tags.get(tag::CLUSTER).filter(|cluster| *cluster != self.cluster.as_str());
        if let Some(other) = of_another {
            return Err(CloudError::Unfit {
                missing: format!("{} belongs to the cluster \"{}\"", instance.id, other.escape_debug()),
                cure: format!("take it out there, or remove its tag {} if that cluster is gone", tag::CLUSTER),
            });
        }
        if !instance.state.is_running() {
            return Err(CloudError::Unfit {
                missing: format!("{} is {}", instance.id, instance.state),
                cure: format!("start it first: `aws ec2 start-instances --instance-ids {}`", instance.id),
            });
        }
        // One that is in the cluster already keeps its name: running this again is no second host.
        let name = match instance.tags.get(tag::CLUSTER) {
            Some(_) => instance.host_name().unwrap_or_else(|| one.name.clone()),
            None => one.name.clone(),
        };
        // First, since the operator's policy lets only instances of the cluster be changed.
        if !instance.tags.contains_key(tag::CLUSTER) {
            self.tag_joined(&instance, name.as_str()).await?;
        }
        let ground = self.ground().await?;
        let [all, _] = self.group_names();
        if let Some(group) = ground.groups.get(&all).filter(|_| instance.vpc.as_ref() == Some(&ground.subnets[0].vpc)) {
            self.add_groups(&instance, vec![group.id.clone()]).await?;
        }
        self.host_of(&self.instance(&instance.id).await?)
    }

    async fn machine(&self, machine: &Machine) -> Result<Instance, CloudError> {
        let filters = match machine {
            Machine::Instance(id) => vec![vec![filter("instance-id", [id.0.as_str()])]],
            Machine::Address(address) => vec![
                vec![filter("private-ip-address", [address.to_string()])],
                vec![filter("ip-address", [address.to_string()])],
            ],
        };
        for filters in filters {
            let mut found = Vec::new();
            self.each_instance(filters, |instance| found.push(instance)).await?;
            found.retain(|instance| instance.state.exists());
            match found.len() {
                0 => {}
                1 => return Ok(found.remove(0)),
                _ => {
                    let ids: Vec<&str> = found.iter().map(|instance| instance.id.as_str()).collect();
                    return Err(CloudError::Unfit {
                        missing: format!("several instances have that address: {}", ids.join(", ")),
                        cure: "name the right one with --instance".to_owned(),
                    });
                }
            }
        }
        Err(match machine {
            Machine::Instance(id) => CloudError::NoSuchHost { id: id.clone() },
            Machine::Address(address) => CloudError::NoSuchHost { id: HostId(address.to_string()) },
        })
    }

    /// Adds those of the groups, by id, that it has not.
    pub(super) async fn add_groups(&self, instance: &Instance, mut groups: Vec<String>) -> Result<(), CloudError> {
        groups.retain(|id| !instance.groups.contains(id));
        if groups.is_empty() {
            return Ok(());
        }
        let groups = instance.groups.iter().cloned().chain(groups).collect();
        let call = self.clients().await?.ec2.modify_instance_attribute().instance_id(&instance.id);
        let added = call.set_groups(Some(groups)).send().await;
        added.map(drop).map_err(|error| refused("ec2:ModifyInstanceAttribute", error))
    }

    pub(super) async fn tag_joined(&self, instance: &Instance, name: &str) -> Result<(), CloudError> {
        let mut tags = vec![
            (tag::CLUSTER, self.cluster.as_str()),
            (tag::ROLE, Role::Node.as_str()),
            (tag::HOST, name),
            (tag::ORIGIN, tag::JOINED),
        ];
        // Whom its owner made a leader leads this cluster from now on.
        if discover::leads(&instance.tags) {
            tags.push((tag::LEADS, self.cluster.as_str()));
        }
        self.tag(&instance.id, &tags).await
    }

    pub(super) async fn tag(&self, id: &str, tags: &[(&str, &str)]) -> Result<(), CloudError> {
        let tags = tags.iter().map(|(key, value)| sdk::Tag::builder().key(*key).value(*value).build()).collect();
        let call = self.clients().await?.ec2.create_tags().resources(id).set_tags(Some(tags));
        call.send().await.map(drop).map_err(|error| refused("ec2:CreateTags", error))
    }

    /// Whom to try to log in as: the tag's hint first.
    pub(super) fn users(&self, instance: &Instance) -> Vec<String> {
        let mut users = images::login_users(None, None);
        let plain = |user: &&String| {
            !user.is_empty()
                && user.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_')
        };
        if let Some(hint) = instance.tags.get(tag::USER).filter(plain).filter(|user| !user.starts_with('-')) {
            users.retain(|user| user != hint);
            users.insert(0, hint.clone());
        }
        users
    }
}
