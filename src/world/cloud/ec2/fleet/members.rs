//! The fleet's instances: what the group says of each, joined with what EC2 says.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::Ec2;
use super::group::FoundGroup;
use crate::model::ec2::tag;
use crate::model::fleet::{Lifecycle, Member};
use crate::model::host::HostId;
use crate::world::cloud::CloudError;
use crate::world::cloud::ec2::filter;
use crate::world::cloud::ec2::instance::Instance;

/// A member in the group's own words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    pub id: String,
    pub instance_type: String,
    pub zone: String,
    pub lifecycle: Lifecycle,
    pub healthy: bool,
}

/// By id.
pub type Instances = BTreeMap<String, Instance>;

impl Ec2 {
    /// The cluster's instances that a group launched.
    pub(super) async fn fleet_instances(&self) -> Result<Instances, CloudError> {
        let mut found = Instances::new();
        let of_fleets = filter(&format!("tag:{}", tag::ORIGIN), [tag::FLEET]);
        self.each_instance(vec![self.cluster_filter(), of_fleets], |instance| {
            found.insert(instance.id.clone(), instance);
        })
        .await?;
        Ok(found)
    }
}

impl FoundGroup {
    pub fn members(&self, instances: &Instances) -> Vec<Member> {
        let member = |listed: &Listed| {
            let instance = instances.get(&listed.id);
            Member {
                id: HostId(listed.id.clone()),
                instance_type: listed.instance_type.clone(),
                zone: listed.zone.clone(),
                lifecycle: listed.lifecycle,
                healthy: listed.healthy,
                state: instance.map(|instance| instance.state),
                mark: instance.and_then(|instance| instance.tags.get(tag::TEMPLATE).cloned()),
                launched: instance.and_then(|i| Timestamp::from_second(i.launched?).ok()),
                spot: instance.is_some_and(|instance| instance.spot),
            }
        };
        self.listed.iter().map(member).collect()
    }
}
