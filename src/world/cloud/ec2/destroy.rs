//! Taking all of it away, in the order in which AWS lets go: instances, then the groups that they used, then
//! key pair, profile and role. Found by tag, so that half-made clusters go too; what is gone already is fine;
//! what clusterctl did not make is left.

use std::time::{Duration, Instant};

use aws_sdk_ec2::types as sdk;

use super::Ec2;
use super::client::{code, refused};
use super::instance::Instance;
use super::network::Group;
use crate::model::ec2::{InstanceProfile, Peer, tag};
use crate::model::event::{Doing, Events};
use crate::model::name::HostName;
use crate::world::cloud::{CloudError, Fleet, Removed};

/// From the call to the last `terminated`; a database on a large machine may take its time.
const TERMINATION: Duration = Duration::from_secs(600);
/// Interfaces of terminated instances hold their groups a little longer.
const RELEASE: Duration = Duration::from_secs(120);
const PAUSE: Duration = Duration::from_secs(1);
/// The most ids that one call takes.
const BATCH: usize = 500;

impl Ec2 {
    pub(super) async fn destroy_all(&self, keep_data: bool, events: &Events) -> Result<Removed, CloudError> {
        if self.fleet_elsewhere && Fleet::look(self).await?.is_some() {
            return Err(CloudError::Unfit {
                missing: format!("the fleet of {} is there, and [fleet] says that Terraform makes it", self.cluster),
                cure: "`terraform destroy` first: its group would launch others in the place of what is ended here"
                    .to_owned(),
            });
        }
        let mut removed = Removed::default();
        let existing: Vec<Instance> = self.instances().await?.into_iter().filter(|i| i.state.exists()).collect();
        let (ours, joined): (Vec<Instance>, Vec<Instance>) = existing.into_iter().partition(Instance::is_ours);
        if keep_data {
            removed.kept.extend(self.keep_volumes(&ours).await?);
        }
        // Before its instances: the group would launch others in their place.
        removed.others.extend(Fleet::remove(self).await?);
        self.end_and_wait(&ours, &mut removed, events).await?;
        let mut groups = self.all_groups().await?;
        for instance in &joined {
            if self.release(instance, &groups).await? {
                let held: Vec<Group>;
                (held, groups) = groups.into_iter().partition(|group| instance.groups.contains(&group.id));
                let kept = |group: &Group| {
                    format!("security group {} ({}), the only one that {} has", group.name, group.id, instance.called())
                };
                for group in &held {
                    self.unlink(group).await?;
                }
                removed.kept.extend(held.iter().map(kept));
            }
            removed.kept.push(format!(
                "{} (it joined and is not clusterctl's: only its tags were taken away)",
                instance.called()
            ));
        }
        self.remove_groups(&groups, &mut removed).await?;
        removed.others.extend(self.delete_key_pair().await?.map(|pair| format!("key pair {pair}")));
        if self.spec.profile_of_instances == InstanceProfile::Made {
            removed.others.extend(self.delete_identity().await?);
        }
        Ok(removed)
    }

    async fn end_and_wait(&self, ours: &[Instance], removed: &mut Removed, events: &Events) -> Result<(), CloudError> {
        let ids: Vec<String> = ours.iter().map(|instance| instance.id.clone()).collect();
        let mut names: Vec<HostName> = ours.iter().filter_map(Instance::host_name).collect();
        names.sort();
        for host in &names {
            events.began(Some(host), Doing::Terminate);
        }
        self.end_instances(&ids).await?;
        // Also those that an earlier run began to end: they hold the groups.
        let deadline = Instant::now() + TERMINATION;
        loop {
            let left = self.instances().await?;
            let left = left.iter().filter(|i| i.is_ours() && i.state != crate::model::host::HostState::Terminated);
            let left: Vec<String> = left.map(|i| format!("{} is {}", i.called(), i.state)).collect();
            if left.is_empty() {
                break;
            }
            if Instant::now() > deadline {
                return Err(CloudError::Unfit {
                    missing: format!("EC2 has not ended all instances: {}", left.join(", ")),
                    cure: "run `clusterctl down` again in a while".to_owned(),
                });
            }
            self.pause(PAUSE).await?;
        }
        for host in &names {
            events.ended(Some(host), Doing::Terminate, true);
        }
        removed.hosts = names;
        Ok(())
    }

    /// Ends instances; those that are gone count as ended.
    pub(super) async fn end_instances(&self, ids: &[String]) -> Result<(), CloudError> {
        let clients = self.clients().await?;
        for batch in ids.chunks(BATCH) {
            match clients.ec2.terminate_instances().set_instance_ids(Some(batch.to_vec())).send().await {
                Ok(_) => {}
                // One that is not found fails the whole call: then each by itself.
                Err(error) if code(&error) == Some("InvalidInstanceID.NotFound") && batch.len() > 1 => {
                    for id in batch {
                        Box::pin(self.end_instances(std::slice::from_ref(id))).await?;
                    }
                }
                Err(error) if code(&error) == Some("InvalidInstanceID.NotFound") => {}
                Err(error) => return Err(refused("ec2:TerminateInstances", error)),
            }
        }
        Ok(())
    }

    /// Lets the volumes outlive their instances; the answer names them.
    async fn keep_volumes(&self, instances: &[Instance]) -> Result<Vec<String>, CloudError> {
        let clients = self.clients().await?;
        let mut kept = Vec::new();
        for instance in instances {
            let going: Vec<_> = instance.volumes.iter().filter(|volume| volume.goes).collect();
            let keep = |device: &str| {
                let ebs = sdk::EbsInstanceBlockDeviceSpecification::builder().delete_on_termination(false).build();
                sdk::InstanceBlockDeviceMappingSpecification::builder().device_name(device).ebs(ebs).build()
            };
            if !going.is_empty() {
                let mappings = going.iter().map(|volume| keep(&volume.device)).collect();
                let call = clients.ec2.modify_instance_attribute().instance_id(&instance.id);
                let kept = call.set_block_device_mappings(Some(mappings)).send().await;
                kept.map_err(|error| refused("ec2:ModifyInstanceAttribute", error))?;
            }
            kept.extend(
                instance.volumes.iter().map(|v| format!("volume {} of {} ({})", v.id, instance.called(), v.device)),
            );
        }
        Ok(kept)
    }

    /// A machine that joined leaves the cluster: without the cluster's groups and tags.
    /// `true`: it has no other groups, and keeps them.
    async fn release(&self, instance: &Instance, groups: &[Group]) -> Result<bool, CloudError> {
        let clients = self.clients().await?;
        let others: Vec<String> =
            instance.groups.iter().filter(|id| !groups.iter().any(|group| group.id == **id)).cloned().collect();
        // An instance has at least one group: where only ours is left, it stays, and the group with it.
        let held = others.is_empty() && !instance.groups.is_empty();
        if others.len() < instance.groups.len() && !held {
            let call = clients.ec2.modify_instance_attribute().instance_id(&instance.id).set_groups(Some(others));
            call.send().await.map_err(|error| refused("ec2:ModifyInstanceAttribute", error))?;
        }
        let ours = [tag::CLUSTER, tag::ROLE, tag::HOST, tag::ORIGIN, tag::HOST_KEY, tag::LEADS];
        let tags = ours.iter().map(|key| sdk::Tag::builder().key(*key).build()).collect();
        let call = clients.ec2.delete_tags().resources(&instance.id).set_tags(Some(tags));
        call.send().await.map_err(|error| refused("ec2:DeleteTags", error))?;
        Ok(held)
    }

    /// Takes away the rules that speak of groups. Others go with their group.
    async fn unlink(&self, group: &Group) -> Result<(), CloudError> {
        let of_groups: Vec<_> = group.rules.iter().filter(|r| matches!(r.peer, Peer::Group(_))).cloned().collect();
        self.revoke(&group.id, &of_groups).await
    }

    pub(super) async fn remove_groups(&self, groups: &[Group], removed: &mut Removed) -> Result<(), CloudError> {
        // They speak of one another in their rules, and a group that is spoken of cannot go.
        for group in groups {
            self.unlink(group).await?;
        }
        let deadline = Instant::now() + RELEASE;
        for group in groups {
            while !self.delete_group(&group.id).await? {
                if Instant::now() > deadline {
                    return Err(CloudError::Unfit {
                        missing: format!("the security group {} ({}) is still in use", group.name, group.id),
                        cure:
                            "take it from whatever uses it besides this cluster (`aws ec2 describe-network-interfaces \
                               --filters Name=group-id,Values=…` tells), and run `clusterctl down` again"
                                .to_owned(),
                    });
                }
                self.pause(PAUSE).await?;
            }
            removed.others.push(format!("security group {}", group.name));
        }
        Ok(())
    }
}
