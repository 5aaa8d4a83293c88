//! The leader's two tags: `consul-leader`, which says who leads, and `clusterctl:leader`, which follows it and names the
//! cluster, for Consul to find the leader by. Here is what is done where they are not as they should be.

use aws_sdk_ec2::types as sdk;

use super::Ec2;
use super::client::refused;
use super::instance::Instance;
use super::launch::ordinal;
use crate::core::ec2::discover;
use crate::model::ec2::tag;
use crate::model::name::ClusterName;
use crate::world::cloud::CloudError;

/// One tag to put or to take away.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LeaderTag {
    /// Nobody leads: this one gets both.
    Both(Instance),
    /// It leads, and does not say whom.
    Follows(Instance),
    /// It leads no more.
    Stays(Instance),
}

/// What there is to mend among the cluster's instances that exist.
pub fn mends(instances: &[Instance], cluster: &ClusterName) -> Vec<LeaderTag> {
    let leader = untagged(instances);
    let mend = |instance: &Instance| {
        let says = instance.tags.get(tag::LEADS);
        match discover::leads(&instance.tags) {
            _ if leader.is_some_and(|leader| leader.id == instance.id) => Some(LeaderTag::Both(instance.clone())),
            true if says.is_none_or(|name| name != cluster.as_str()) => Some(LeaderTag::Follows(instance.clone())),
            false if says.is_some() => Some(LeaderTag::Stays(instance.clone())),
            _ => None,
        }
    };
    instances.iter().filter_map(mend).collect()
}

/// The server that `launch` gives the leader's tags to, if it has lost them and nobody else leads: whom somebody tagged
/// by hand, a node too, leads, and a second one would be one too many.
fn untagged(instances: &[Instance]) -> Option<&Instance> {
    if exists(instances) {
        return None;
    }
    let mut servers = instances.iter().filter(|instance| instance.role().is_server());
    servers.rfind(|server| server.host_name().is_some_and(|name| ordinal(&name) == 1))
}

/// Does one of them, which exist, lead?
pub fn exists(instances: &[Instance]) -> bool {
    instances.iter().any(|instance| discover::leads(&instance.tags))
}

impl Ec2 {
    /// What the leader carries.
    pub(super) fn leaders_tags(&self) -> [(&'static str, &str); 2] {
        [(tag::LEADER, "True"), (tag::LEADS, self.cluster.as_str())]
    }

    /// What is done, and why.
    pub(super) fn leader_tag_shown(&self, mend: &LeaderTag) -> (String, String) {
        let (what, why) = match mend {
            LeaderTag::Both(server) => {
                let tags = self.leaders_tags().map(|(key, value)| format!("{key}={value}")).join(" and ");
                (format!("tag {} {tags}", server.id), "nobody of the cluster is tagged as its leader")
            }
            LeaderTag::Follows(leader) => {
                (format!("tag {} {}={}", leader.id, tag::LEADS, self.cluster), "it leads, and agents look for that tag")
            }
            LeaderTag::Stays(instance) => (
                format!("take the tag {} from {}", tag::LEADS, instance.id),
                "it has no tag consul-leader that is true",
            ),
        };
        (what, why.to_owned())
    }

    pub(super) async fn mend_leader_tag(&self, mend: &LeaderTag) -> Result<(), CloudError> {
        match mend {
            LeaderTag::Both(server) => self.tag(&server.id, &self.leaders_tags()).await,
            LeaderTag::Follows(leader) => self.tag(&leader.id, &[(tag::LEADS, self.cluster.as_str())]).await,
            LeaderTag::Stays(instance) => {
                let key = sdk::Tag::builder().key(tag::LEADS).build();
                let call = self.clients().await?.ec2.delete_tags().resources(&instance.id).tags(key);
                call.send().await.map(drop).map_err(|error| refused("ec2:DeleteTags", error))
            }
        }
    }
}

#[cfg(test)]
mod tests;
