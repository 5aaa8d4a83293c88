//! The Auto Scaling group.

use std::time::{Duration, Instant};

use aws_sdk_autoscaling::types as sdk;

use super::super::client::{code, refused};
use super::members::Listed;
use super::{Ec2, PAUSE, SETTLE, no_group};
use crate::core::ec2::fleet::{Group, Mix, PresentGroup};
use crate::model::ec2::tag;
use crate::model::fleet::Lifecycle;
use crate::world::cloud::CloudError;

/// From the call that removes a group to its end: its instances end first.
const REMOVAL: Duration = Duration::from_secs(900);
/// An instance that boots is not called unhealthy before.
const GRACE: i32 = 120;
/// The oldest make goes first.
const TERMINATION: [&str; 2] = ["OldestLaunchTemplate", "Default"];
/// What the group launches: the template's default version, which `UseVersion` sets.
const VERSION: &str = "$Default";

/// The group that is there.
#[derive(Debug, Clone)]
pub struct FoundGroup {
    pub name: String,
    pub ours: bool,
    /// It is being removed.
    pub going: bool,
    pub data: Group,
    pub size: u16,
    pub listed: Vec<Listed>,
}

impl FoundGroup {
    pub fn present(&self) -> PresentGroup {
        PresentGroup { data: self.data.clone(), size: self.size }
    }
}

impl Ec2 {
    pub(super) async fn fleet_group(&self) -> Result<Option<FoundGroup>, CloudError> {
        let asked = self.clients().await?.autoscaling.describe_auto_scaling_groups();
        let answer = asked.auto_scaling_group_names(self.fleet_name()).send().await;
        let answer = answer.map_err(|error| refused("autoscaling:DescribeAutoScalingGroups", error))?;
        Ok(answer.auto_scaling_groups().first().map(|found| self.found(found)))
    }

    fn found(&self, group: &sdk::AutoScalingGroup) -> FoundGroup {
        let own = |t: &sdk::TagDescription| t.key() == Some(tag::CLUSTER) && t.value() == Some(self.cluster.as_str());
        FoundGroup {
            name: self.fleet_name(),
            ours: group.tags().iter().any(own),
            going: group.status().is_some(),
            data: Group {
                min: number(group.min_size()),
                max: number(group.max_size()),
                subnets: FoundGroup::subnets(group.vpc_zone_identifier().unwrap_or_default()),
                mix: group.mixed_instances_policy().map(read_mix),
                rebalance: group.capacity_rebalance().unwrap_or(false),
            },
            size: number(group.desired_capacity()),
            listed: group.instances().iter().filter_map(listed).collect(),
        }
    }

    /// Makes it. Its name is there once, so that a repeat makes no second one.
    pub(super) async fn make_scaling_group(&self, wanted: &Group, size: u16) -> Result<(), CloudError> {
        let name = self.fleet_name();
        let tags = self.own_tags().into_iter().map(|(key, value)| {
            let tag = sdk::Tag::builder().key(key).value(value).propagate_at_launch(false);
            tag.resource_type("auto-scaling-group").resource_id(&name).build()
        });
        let (template, mix) = self.launched(wanted);
        let call = self
            .clients()
            .await?
            .autoscaling
            .create_auto_scaling_group()
            .auto_scaling_group_name(&name)
            .set_launch_template(template)
            .set_mixed_instances_policy(mix)
            .min_size(wanted.min.into())
            .max_size(wanted.max.into())
            .desired_capacity(size.into())
            .vpc_zone_identifier(subnets(wanted))
            .health_check_type("EC2")
            .health_check_grace_period(GRACE)
            .capacity_rebalance(wanted.rebalance)
            .set_termination_policies(Some(TERMINATION.map(str::to_owned).to_vec()))
            .new_instances_protected_from_scale_in(false)
            .set_tags(Some(tags.collect()));
        let deadline = Instant::now() + SETTLE;
        loop {
            let error = match call.clone().send().await {
                Ok(_) => return Ok(()),
                Err(error) if code(&error) == Some("AlreadyExists") => return Ok(()),
                Err(error) => error,
            };
            let said = error.as_service_error().and_then(|e| e.meta().message()).unwrap_or_default().to_owned();
            if Instant::now() > deadline || code(&error) != Some("ValidationError") || !is_not_yet(&said) {
                return Err(refused("autoscaling:CreateAutoScalingGroup", error));
            }
            self.pause(PAUSE).await?;
        }
    }

    /// The template of the fleet, in the version that is in use: by itself, or within a mixed policy.
    fn launched(
        &self,
        wanted: &Group,
    ) -> (Option<sdk::LaunchTemplateSpecification>, Option<sdk::MixedInstancesPolicy>) {
        let name = self.fleet_name();
        let template = sdk::LaunchTemplateSpecification::builder().launch_template_name(name).version(VERSION).build();
        match &wanted.mix {
            Some(mix) => (None, Some(mixed(mix, template))),
            None => (Some(template), None),
        }
    }

    /// Mends all but the size, which follows only where the new bounds leave it no room.
    pub(super) async fn change_scaling_group(&self, wanted: &Group, size: u16) -> Result<(), CloudError> {
        let (template, mix) = self.launched(wanted);
        let call = self
            .clients()
            .await?
            .autoscaling
            .update_auto_scaling_group()
            .auto_scaling_group_name(self.fleet_name())
            .set_launch_template(template)
            .set_mixed_instances_policy(mix)
            .min_size(wanted.min.into())
            .max_size(wanted.max.into())
            .desired_capacity(size.into())
            .vpc_zone_identifier(subnets(wanted))
            .capacity_rebalance(wanted.rebalance);
        let deadline = Instant::now() + SETTLE;
        loop {
            match call.clone().send().await {
                Ok(_) => return Ok(()),
                Err(error) if is_busy(code(&error)) && Instant::now() < deadline => self.pause(PAUSE).await?,
                Err(error) => return Err(refused("autoscaling:UpdateAutoScalingGroup", error)),
            }
        }
    }

    pub(super) async fn set_size(&self, size: u16) -> Result<(), CloudError> {
        let call = self.clients().await?.autoscaling.set_desired_capacity().auto_scaling_group_name(self.fleet_name());
        let call = call.desired_capacity(size.into()).honor_cooldown(false);
        let deadline = Instant::now() + SETTLE;
        loop {
            match call.clone().send().await {
                Ok(_) => return Ok(()),
                Err(error) if is_busy(code(&error)) && Instant::now() < deadline => self.pause(PAUSE).await?,
                Err(error) if is_absent(&error) => return Err(no_group(&self.fleet_name())),
                Err(error) => return Err(refused("autoscaling:SetDesiredCapacity", error)),
            }
        }
    }

    /// Ends one member, in whose place the group launches another.
    pub(super) async fn end_member(&self, id: &str) -> Result<(), CloudError> {
        let call = self.clients().await?.autoscaling.terminate_instance_in_auto_scaling_group().instance_id(id);
        let call = call.should_decrement_desired_capacity(false);
        let deadline = Instant::now() + SETTLE;
        loop {
            match call.clone().send().await {
                Ok(_) => return Ok(()),
                Err(error) if is_busy(code(&error)) && Instant::now() < deadline => self.pause(PAUSE).await?,
                Err(error) if is_absent(&error) => return Ok(()),
                Err(error) => return Err(refused("autoscaling:TerminateInstanceInAutoScalingGroup", error)),
            }
        }
    }

    /// Why the group launches nothing more: what failed since something last went well.
    pub(super) async fn trouble(&self) -> Result<Vec<String>, CloudError> {
        let asked = self.clients().await?.autoscaling.describe_scaling_activities();
        let answer = asked.auto_scaling_group_name(self.fleet_name()).max_records(20).send().await;
        let answer = answer.map_err(|error| refused("autoscaling:DescribeScalingActivities", error))?;
        let mut said: Vec<String> = Vec::new();
        for activity in answer.activities() {
            match activity.status_code() {
                Some(sdk::ScalingActivityStatusCode::Successful) => break,
                Some(sdk::ScalingActivityStatusCode::Failed | sdk::ScalingActivityStatusCode::Cancelled) => {
                    let words = activity.status_message().or(activity.description()).unwrap_or_default();
                    let line = format!("EC2 launches no more: {words}");
                    if !words.is_empty() && !said.contains(&line) {
                        said.push(line);
                    }
                }
                _ => {}
            }
        }
        Ok(said)
    }

    /// Removes it with its instances, and waits for their end.
    pub(super) async fn remove_scaling_group(&self) -> Result<Option<String>, CloudError> {
        let found = match self.fleet_group().await {
            Ok(found) => found.filter(|group| group.ours),
            Err(error) if self.fleet.is_none() && error.is_denied() => return Ok(None),
            Err(error) => return Err(error),
        };
        let Some(group) = found else { return Ok(None) };
        if !group.going {
            self.delete_scaling_group(&group.name).await?;
        }
        self.await_group_gone().await?;
        Ok(Some(format!("Auto Scaling group {}", group.name)))
    }

    async fn delete_scaling_group(&self, name: &str) -> Result<(), CloudError> {
        let call = self.clients().await?.autoscaling.delete_auto_scaling_group();
        let call = call.auto_scaling_group_name(name).force_delete(true);
        let deadline = Instant::now() + SETTLE;
        loop {
            match call.clone().send().await {
                Ok(_) => return Ok(()),
                Err(error) if is_absent(&error) => return Ok(()),
                Err(error) if is_busy(code(&error)) && Instant::now() < deadline => self.pause(PAUSE).await?,
                Err(error) => return Err(refused("autoscaling:DeleteAutoScalingGroup", error)),
            }
        }
    }

    pub(super) async fn await_group_gone(&self) -> Result<(), CloudError> {
        let deadline = Instant::now() + REMOVAL;
        while let Some(group) = self.fleet_group().await? {
            if Instant::now() > deadline {
                return Err(CloudError::Unfit {
                    missing: format!(
                        "the Auto Scaling group {} is not gone yet: {} of its instances are left",
                        group.name,
                        group.listed.len()
                    ),
                    cure: "run the command again in a while".to_owned(),
                });
            }
            self.pause(PAUSE).await?;
        }
        Ok(())
    }
}

/// As the API takes them: one text.
fn subnets(wanted: &Group) -> String {
    wanted.subnets.iter().cloned().collect::<Vec<_>>().join(",")
}

fn mixed(mix: &Mix, template: sdk::LaunchTemplateSpecification) -> sdk::MixedInstancesPolicy {
    let overrides = mix.types.iter().map(|kind| sdk::LaunchTemplateOverrides::builder().instance_type(kind).build());
    let template = sdk::LaunchTemplate::builder()
        .launch_template_specification(template)
        .set_overrides(Some(overrides.collect()))
        .build();
    let distribution = sdk::InstancesDistribution::builder()
        .on_demand_base_capacity(mix.on_demand.into())
        .on_demand_percentage_above_base_capacity(i32::from(100 - mix.spot_percent.min(100)))
        .spot_allocation_strategy("price-capacity-optimized")
        .build();
    sdk::MixedInstancesPolicy::builder().launch_template(template).instances_distribution(distribution).build()
}

fn read_mix(policy: &sdk::MixedInstancesPolicy) -> Mix {
    let overrides = policy.launch_template().map(sdk::LaunchTemplate::overrides).unwrap_or_default();
    let distribution = policy.instances_distribution();
    let on_demand = distribution.and_then(|d| d.on_demand_percentage_above_base_capacity()).unwrap_or(100);
    Mix {
        types: overrides.iter().filter_map(|found| found.instance_type()).map(str::to_owned).collect(),
        on_demand: number(distribution.and_then(|d| d.on_demand_base_capacity())),
        spot_percent: u8::try_from(100 - on_demand.clamp(0, 100)).unwrap_or(0),
    }
}

fn listed(instance: &sdk::Instance) -> Option<Listed> {
    use sdk::LifecycleState as State;
    let lifecycle = match instance.lifecycle_state()? {
        State::InService => Lifecycle::InService,
        State::Terminating
        | State::TerminatingWait
        | State::TerminatingProceed
        | State::Terminated
        | State::Detaching
        | State::Detached => Lifecycle::Ending,
        State::Standby | State::EnteringStandby => Lifecycle::Aside,
        _ => Lifecycle::Pending,
    };
    Some(Listed {
        id: instance.instance_id()?.to_owned(),
        instance_type: instance.instance_type().unwrap_or_default().to_owned(),
        zone: instance.availability_zone().unwrap_or_default().to_owned(),
        lifecycle,
        healthy: instance.health_status().is_none_or(|health| health.eq_ignore_ascii_case("healthy")),
    })
}

fn number(of: Option<i32>) -> u16 {
    of.and_then(|n| u16::try_from(n).ok()).unwrap_or(0)
}

/// Another change of the group is under way.
fn is_busy(code: Option<&str>) -> bool {
    matches!(code, Some("ScalingActivityInProgress" | "ResourceContention" | "ResourceInUse"))
}

/// A group or a member that is not there is a ValidationError like any other: only the message tells.
fn is_absent<E, R>(error: &aws_sdk_ec2::error::SdkError<E, R>) -> bool
where
    E: aws_sdk_ec2::error::ProvideErrorMetadata,
{
    let said = error.as_service_error().and_then(|e| e.meta().message()).unwrap_or_default().to_lowercase();
    code(error) == Some("ValidationError") && (said.contains("not found") || said.contains("not part of"))
}

/// Does it only say that the template, the profile or a group is not known everywhere yet?
fn is_not_yet(message: &str) -> bool {
    let said = message.to_lowercase();
    said.contains("instance profile")
        || said.contains("iaminstanceprofile")
        || ["launch template", "security group", "key pair"].iter().any(|what| said.contains(what))
            && ["not exist", "not found", "cannot be found"].iter().any(|how| said.contains(how))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_only_not_known_yet_is_told_from_what_is_wrong() {
        assert!(is_not_yet("Invalid IAM Instance Profile name"));
        assert!(is_not_yet("The specified launch template, with template name x, does not exist."));
        assert!(is_not_yet("The security group 'sg-1' does not exist"));
        assert!(!is_not_yet("The subnet ID 'subnet-1' does not exist"));
        assert!(!is_not_yet("You must use a valid fully-formed launch template. Invalid image"));
    }
}
