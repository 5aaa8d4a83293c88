//! The VPC, its subnets and the cluster's two security groups: one that all hosts have, one for the servers.
//! Their rules are `policies/ports.json`; a rule that is missing is added, one of ours that is too much is
//! taken away, one that somebody else made is left.

use std::collections::BTreeMap;

use aws_sdk_ec2::operation::create_security_group::builders::CreateSecurityGroupFluentBuilder as CreateGroup;
use aws_sdk_ec2::types as sdk;

use super::client::{code, refused};
use super::{Ec2, filter, instance};
use crate::core::ec2::ports;
use crate::model::ec2::{Ingress, Peer, tag};
use crate::world::cloud::CloudError;

/// A subnet that hosts may be launched into.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subnet {
    pub id: String,
    pub vpc: String,
    pub zone: String,
    pub free: i32,
}

/// One of the cluster's security groups as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    pub id: String,
    pub name: String,
    pub ours: bool,
    pub rules: Vec<Ingress>,
}

/// The groups by name; either may be missing.
pub type Groups = BTreeMap<String, Group>;

impl Ec2 {
    /// The subnets to spread hosts over, sorted by zone so that every laptop spreads alike.
    pub(super) async fn subnets(&self) -> Result<Vec<Subnet>, CloudError> {
        let clients = self.clients().await?;
        let mut ask = clients.ec2.describe_subnets();
        if !self.spec.subnets.is_empty() {
            ask = ask.set_subnet_ids(Some(self.spec.subnets.clone()));
        } else if let Some(vpc) = &self.spec.vpc {
            ask = ask.filters(filter("vpc-id", [vpc.as_str()]));
        } else {
            ask = ask.filters(filter("default-for-az", ["true"]));
        }
        let mut pages = ask.into_paginator().send();
        let mut subnets = Vec::new();
        while let Some(page) = pages.next().await {
            let page = page.map_err(|error| refused("ec2:DescribeSubnets", error))?;
            subnets.extend(page.subnets().iter().filter_map(subnet));
        }
        subnets.sort_by(|a, b| (&a.zone, &a.id).cmp(&(&b.zone, &b.id)));
        self.checked(subnets, &clients.region)
    }

    fn checked(&self, subnets: Vec<Subnet>, region: &str) -> Result<Vec<Subnet>, CloudError> {
        let Some(first) = subnets.first() else {
            return Err(CloudError::Unfit {
                missing: match &self.spec.vpc {
                    Some(vpc) => format!("{vpc} has no subnet"),
                    None => format!("{region} has no default VPC with subnets in this account"),
                },
                cure: "name `subnets` in [ec2], or make a default VPC with `aws ec2 create-default-vpc`".to_owned(),
            });
        };
        let wanted = self.spec.vpc.as_ref().unwrap_or(&first.vpc);
        match subnets.iter().find(|subnet| subnet.vpc != *wanted) {
            Some(stray) => Err(CloudError::Unfit {
                missing: format!("{} lies in {}, and not in {wanted}", stray.id, stray.vpc),
                cure: "all `subnets` in [ec2] must lie in one VPC, that of `vpc` where it is named".to_owned(),
            }),
            None => Ok(subnets),
        }
    }

    pub(super) fn group_names(&self) -> [String; 2] {
        ports::group_names(&self.cluster)
    }

    /// The cluster's groups in the VPC. A group of that name that is not ours is refused.
    pub(super) async fn groups(&self, vpc: &str) -> Result<Groups, CloudError> {
        let clients = self.clients().await?;
        let names = self.group_names();
        let mut pages = clients
            .ec2
            .describe_security_groups()
            .filters(filter("vpc-id", [vpc]))
            .filters(filter("group-name", names.iter().map(String::as_str)))
            .into_paginator()
            .send();
        let mut groups = Groups::new();
        while let Some(page) = pages.next().await {
            let page = page.map_err(|error| refused("ec2:DescribeSecurityGroups", error))?;
            groups.extend(page.security_groups().iter().filter_map(|found| self.group(found)));
        }
        if let Some(other) = groups.values().find(|group| !group.ours) {
            return Err(CloudError::Unfit {
                missing: format!(
                    "the security group {} ({}) exists and was not made for this cluster",
                    other.name, other.id
                ),
                cure: format!(
                    "delete or rename it, or tag it {}={} if it may be changed by clusterctl",
                    tag::CLUSTER,
                    self.cluster
                ),
            });
        }
        Ok(groups)
    }

    fn group(&self, found: &sdk::SecurityGroup) -> Option<(String, Group)> {
        let group = Group {
            id: found.group_id()?.to_owned(),
            name: found.group_name()?.to_owned(),
            ours: instance::tags(found.tags()).get(tag::CLUSTER).is_some_and(|c| c == self.cluster.as_str()),
            rules: found.ip_permissions().iter().flat_map(rules_of).collect(),
        };
        Some((group.name.clone(), group))
    }

    pub(super) fn group_request(&self, ec2: &aws_sdk_ec2::Client, name: &str, vpc: &str) -> CreateGroup {
        ec2.create_security_group()
            .group_name(name)
            .vpc_id(vpc)
            .description(format!("Hosts of the cluster {}, made by clusterctl", self.cluster))
            .tag_specifications(self.made_tags(sdk::ResourceType::SecurityGroup, [(tag::NAME, name)]))
    }

    pub(super) async fn create_group(&self, name: &str, vpc: &str) -> Result<(), CloudError> {
        let made = self.group_request(&self.clients().await?.ec2, name, vpc).send().await;
        match made {
            Ok(_) => Ok(()),
            // An earlier run, or another operator, was here first.
            Err(error) if code(&error) == Some("InvalidGroup.Duplicate") => Ok(()),
            Err(error) => Err(refused("ec2:CreateSecurityGroup", error)),
        }
    }

    pub(super) async fn authorize(&self, group: &str, rules: &[Ingress]) -> Result<(), CloudError> {
        let clients = self.clients().await?;
        let asked = clients
            .ec2
            .authorize_security_group_ingress()
            .group_id(group)
            .set_ip_permissions(Some(rules.iter().map(permission).collect()))
            .send()
            .await;
        match asked {
            Ok(_) => Ok(()),
            Err(error) if code(&error) == Some("InvalidPermission.Duplicate") => Ok(()),
            Err(error) => Err(refused("ec2:AuthorizeSecurityGroupIngress", error)),
        }
    }

    pub(super) async fn revoke(&self, group: &str, rules: &[Ingress]) -> Result<(), CloudError> {
        if rules.is_empty() {
            return Ok(());
        }
        let clients = self.clients().await?;
        let asked = clients
            .ec2
            .revoke_security_group_ingress()
            .group_id(group)
            .set_ip_permissions(Some(rules.iter().map(permission).collect()))
            .send()
            .await;
        match asked {
            Ok(_) => Ok(()),
            Err(error) if code(&error) == Some("InvalidPermission.NotFound") => Ok(()),
            Err(error) => Err(refused("ec2:RevokeSecurityGroupIngress", error)),
        }
    }

    /// Are the user's own groups there?
    pub(super) async fn check_groups(&self) -> Result<(), CloudError> {
        if self.spec.security_groups.is_empty() {
            return Ok(());
        }
        let ask = self.clients().await?.ec2.describe_security_groups();
        let found = ask.set_group_ids(Some(self.spec.security_groups.clone())).send().await;
        found.map(drop).map_err(|error| refused("ec2:DescribeSecurityGroups", error))
    }

    /// All groups of the cluster, in whatever VPC an earlier spec had.
    pub(super) async fn all_groups(&self) -> Result<Vec<Group>, CloudError> {
        let clients = self.clients().await?;
        let mut pages = clients.ec2.describe_security_groups().filters(self.cluster_filter()).into_paginator().send();
        let mut groups = Vec::new();
        while let Some(page) = pages.next().await {
            let page = page.map_err(|error| refused("ec2:DescribeSecurityGroups", error))?;
            groups.extend(page.security_groups().iter().filter_map(|found| self.group(found)).map(|(_, group)| group));
        }
        Ok(groups)
    }

    /// `false`: something still uses it.
    pub(super) async fn delete_group(&self, id: &str) -> Result<bool, CloudError> {
        let clients = self.clients().await?;
        match clients.ec2.delete_security_group().group_id(id).send().await {
            Ok(_) => Ok(true),
            Err(error) => match code(&error) {
                Some("InvalidGroup.NotFound" | "InvalidGroupId.NotFound") => Ok(true),
                Some("DependencyViolation" | "InvalidGroup.InUse") => Ok(false),
                _ => Err(refused("ec2:DeleteSecurityGroup", error)),
            },
        }
    }
}

fn subnet(found: &sdk::Subnet) -> Option<Subnet> {
    Some(Subnet {
        id: found.subnet_id()?.to_owned(),
        vpc: found.vpc_id()?.to_owned(),
        zone: found.availability_zone().unwrap_or_default().to_owned(),
        free: found.available_ip_address_count().unwrap_or(0),
    })
}

/// EC2 packs all peers of one port range in one permission.
fn rules_of(permission: &sdk::IpPermission) -> Vec<Ingress> {
    let port = |port: Option<i32>, all: u16| port.map_or(all, |port| u16::try_from(port).unwrap_or(all));
    let rule = |peer: Peer, description: Option<&str>| Ingress {
        protocol: permission.ip_protocol().unwrap_or("-1").to_owned(),
        from_port: port(permission.from_port(), 0),
        to_port: port(permission.to_port(), u16::MAX),
        peer,
        description: description.unwrap_or_default().to_owned(),
    };
    let net = |cidr: Option<&str>| cidr.and_then(|cidr| cidr.parse().ok()).map(Peer::Net);
    let mut rules = Vec::new();
    for range in permission.ip_ranges() {
        rules.extend(net(range.cidr_ip()).map(|peer| rule(peer, range.description())));
    }
    for range in permission.ipv6_ranges() {
        rules.extend(net(range.cidr_ipv6()).map(|peer| rule(peer, range.description())));
    }
    for pair in permission.user_id_group_pairs() {
        rules.extend(pair.group_id().map(|id| rule(Peer::Group(id.to_owned()), pair.description())));
    }
    rules
}

fn permission(rule: &Ingress) -> sdk::IpPermission {
    let permission = sdk::IpPermission::builder()
        .ip_protocol(&rule.protocol)
        .from_port(rule.from_port.into())
        .to_port(rule.to_port.into());
    let described = (!rule.description.is_empty()).then(|| rule.description.clone());
    match &rule.peer {
        Peer::Group(id) => permission
            .user_id_group_pairs(sdk::UserIdGroupPair::builder().group_id(id).set_description(described).build()),
        Peer::Net(net) if net.addr().is_ipv4() => {
            permission.ip_ranges(sdk::IpRange::builder().cidr_ip(net.to_string()).set_description(described).build())
        }
        Peer::Net(net) => permission
            .ipv6_ranges(sdk::Ipv6Range::builder().cidr_ipv6(net.to_string()).set_description(described).build()),
    }
    .build()
}
