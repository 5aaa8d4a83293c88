//! The fleet on EC2: a launch template and an Auto Scaling group of the same name. What is wanted and which steps lead
//! there is `core::ec2::fleet`'s; here it is looked at and done.

mod group;
mod members;
mod template;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use async_trait::async_trait;

use self::group::FoundGroup;
use super::Ec2;
use super::image::ImageFacts;
use super::network::{Groups, Subnet};
use crate::core::ec2::fleet::{self, Found, Group, PresentTemplate, Step, Template, Wanted};
use crate::model::event::{Doing, Events};
use crate::model::fleet::{FleetFacts, Make};
use crate::model::host::{HostId, Role};
use crate::model::plan::ResourceStep;
use crate::model::spec::FleetSpec;
use crate::world::cloud::{Cloud, CloudError, Fleet};

/// What was made just now may take a moment until every part of AWS knows it.
const SETTLE: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_secs(1);

/// What there is of the fleet.
struct Present {
    template: Option<PresentTemplate>,
    group: Option<FoundGroup>,
}

impl Ec2 {
    fn fleet_name(&self) -> String {
        fleet::name(&self.cluster)
    }

    async fn present(&self) -> Result<Present, CloudError> {
        let (template, group) = tokio::join!(self.fleet_template(), self.fleet_group());
        let present = Present { template: template?, group: group? };
        if let Some(group) = present.group.as_ref().filter(|group| !group.ours) {
            return Err(not_ours("Auto Scaling group", &group.name));
        }
        Ok(present)
    }

    /// What the spec wants of the fleet; `None`: nothing, or nothing before there is an image of it.
    async fn wanted_fleet(
        &self,
        spec: &FleetSpec,
        size: Option<u16>,
        present: &Present,
        ground: (&[Subnet], &Groups),
    ) -> Result<Option<Wanted>, CloudError> {
        if let Some(size) = size.filter(|size| *size < spec.min || *size > spec.max) {
            return Err(out_of_bounds(size, spec.min, spec.max));
        }
        let image = match self.fleet_image(spec).await {
            Ok(Some(image)) => image,
            // A server that is lost must not wait for an image of nodes.
            Ok(None) if present.group.is_some() && size.is_none() => {
                let why = "there is no trusted image for new nodes (`clusterctl ami build` makes one)";
                self.events.warn(None, format!("{why}: the fleet is left as it is"));
                return Ok(None);
            }
            Err(error @ CloudError::Unfit { .. }) if present.group.is_some() && size.is_none() => {
                self.events.warn(None, format!("{error}: the fleet is left as it is"));
                return Ok(None);
            }
            Err(error) => return Err(error),
            // A spec may speak of a fleet before the first image is made for it.
            Ok(None) if present.group.is_none() && size.unwrap_or(spec.size) == 0 => return Ok(None),
            Ok(None) => {
                return Err(CloudError::Unfit {
                    missing: format!("there is no trusted image of the cluster {}", self.cluster),
                    cure: "`clusterctl ami build` makes one; or name an AMI as `image` in [fleet]".to_owned(),
                });
            }
        };
        let (subnets, groups) = ground;
        let [all, _] = self.group_names();
        let found = Found {
            image: image.id,
            root_device: image.root_device,
            group: groups.get(&all).map_or(all, |group| group.id.clone()),
            key_pair: self.key_pair_name(),
            profile: self.profile_name().await?,
            subnets: subnets.iter().map(|subnet| subnet.id.clone()).collect(),
        };
        Ok(Some(Wanted {
            template: Template::wanted(&self.cluster, &self.spec, spec, &found),
            group: Group::wanted(&self.spec, spec, &found.subnets),
            size,
            begin: spec.size,
        }))
    }

    /// The image that the spec names, or the newest that is trusted; it must suit all types that the group may take.
    async fn fleet_image(&self, spec: &FleetSpec) -> Result<Option<ImageFacts>, CloudError> {
        let id = match &spec.image {
            Some(id) => Some(id.clone()),
            None => match Cloud::images(self) {
                Some(images) => {
                    let trusted = images.baked().await?.into_iter();
                    trusted.filter(|baked| baked.label.role == Role::Node && baked.is_trusted()).map(|b| b.id.0).next()
                }
                None => None,
            },
        };
        let Some(id) = id else { return Ok(None) };
        let image = self.image_by_id(&id).await?;
        for kind in fleet::instance_types(&self.spec, spec) {
            self.check_image(&image, &kind).await?;
        }
        Ok(Some(image))
    }

    async fn take_fleet_step(&self, step: &Step, wanted: &Wanted, present: &Present) -> Result<(), CloudError> {
        match (step, &present.template) {
            (Step::MakeTemplate, _) => self.make_template(&wanted.template).await,
            (Step::MakeVersion { .. }, Some(template)) => self.make_version(template, &wanted.template).await,
            (Step::UseVersion { version }, Some(template)) => self.use_version(&template.id, *version).await,
            (Step::MakeGroup { size }, Some(_)) => self.make_scaling_group(&wanted.group, *size).await,
            (Step::ChangeGroup { to, .. }, Some(_)) => self.change_scaling_group(&wanted.group, *to).await,
            (Step::Resize { to, .. }, _) => self.set_size(*to).await,
            // It is made first, and the next look shows it.
            (_, None) => Ok(()),
        }
    }
}

#[async_trait]
impl Fleet for Ec2 {
    async fn look(&self) -> Result<Option<FleetFacts>, CloudError> {
        let (present, instances) = tokio::join!(self.present(), self.fleet_instances());
        let Present { template, group: Some(group) } = present? else { return Ok(None) };
        let make = template.map(|found| Make { version: found.latest, mark: found.mark, image: found.data.image });
        let members = group.members(&instances?);
        let trouble = if members.len() < usize::from(group.size) { self.trouble().await? } else { Vec::new() };
        Ok(Some(FleetFacts {
            name: group.name,
            wanted: group.size,
            min: group.data.min,
            max: group.data.max,
            make,
            members,
            trouble,
        }))
    }

    async fn survey(&self, size: Option<u16>) -> Result<Vec<ResourceStep>, CloudError> {
        let Some(spec) = &self.fleet else { return Ok(Vec::new()) };
        let network = async {
            let subnets = self.subnets().await?;
            let groups = self.groups(&subnets[0].vpc).await?;
            Ok::<_, CloudError>((subnets, groups))
        };
        let (present, network) = tokio::join!(self.present(), network);
        let (present, (subnets, groups)) = (present?, network?);
        let Some(wanted) = self.wanted_fleet(spec, size, &present, (&subnets, &groups)).await? else {
            return Ok(Vec::new());
        };
        let group = present.group.as_ref().map(FoundGroup::present);
        let steps = fleet::steps(&wanted, present.template.as_ref(), group.as_ref());
        Ok(steps.iter().map(|step| step.shown(&self.fleet_name())).collect())
    }

    async fn ensure(&self, size: Option<u16>, events: &Events) -> Result<(), CloudError> {
        let Some(spec) = &self.fleet else { return Err(without_spec()) };
        let ground = self.prepare_ground(events).await?;
        let name = self.fleet_name();
        let mut deadline = Instant::now() + SETTLE;
        let mut last = None;
        loop {
            let present = self.present().await?;
            // Of one that is on its way out nothing can be made.
            if present.group.as_ref().is_some_and(|group| group.going) {
                self.await_group_gone().await?;
                continue;
            }
            let Some(wanted) = self.wanted_fleet(spec, size, &present, (&ground.subnets, &ground.groups)).await? else {
                return Ok(());
            };
            let group = present.group.as_ref().map(FoundGroup::present);
            let steps = fleet::steps(&wanted, present.template.as_ref(), group.as_ref());
            let Some(step) = steps.first() else { return Ok(()) };
            // Each step has its own time.
            if last.as_ref() != Some(step) {
                deadline = Instant::now() + SETTLE;
            } else if Instant::now() > deadline {
                let left: Vec<String> = steps.iter().map(|step| step.shown(&name).what).collect();
                return Err(CloudError::Unfit {
                    missing: format!("AWS did not keep what was made: still to do: {}", left.join("; ")),
                    cure: "does somebody else change it at the same time? Running the command again is safe".to_owned(),
                });
            }
            // It was taken, and AWS does not show it yet: taking it again changes nothing.
            if last.as_ref() == Some(step) {
                self.pause(PAUSE).await?;
            }
            let doing = Doing::Prepare { what: step.shown(&name).what };
            events.began(None, doing.clone());
            self.take_fleet_step(step, &wanted, &present).await?;
            events.ended(None, doing, true);
            last = Some(step.clone());
        }
    }

    async fn resize(&self, size: u16) -> Result<(), CloudError> {
        let Some(group) = self.fleet_group().await? else { return Err(no_group(&self.fleet_name())) };
        if !group.ours {
            return Err(not_ours("Auto Scaling group", &group.name));
        }
        if size < group.data.min || size > group.data.max {
            return Err(out_of_bounds(size, group.data.min, group.data.max));
        }
        self.set_size(size).await
    }

    async fn end(&self, members: &[HostId]) -> Result<(), CloudError> {
        for member in members {
            self.end_member(&member.0).await?;
        }
        Ok(())
    }

    async fn remove(&self) -> Result<Vec<String>, CloudError> {
        let mut removed = Vec::new();
        removed.extend(self.remove_scaling_group().await?);
        removed.extend(self.remove_template().await?);
        Ok(removed)
    }
}

impl FoundGroup {
    fn subnets(text: &str) -> BTreeSet<String> {
        text.split(',').map(str::trim).filter(|id| !id.is_empty()).map(str::to_owned).collect()
    }
}

fn not_ours(kind: &str, name: &str) -> CloudError {
    CloudError::Unfit {
        missing: format!("the {kind} {name} exists and was not made for this cluster"),
        cure: "delete it, or give the cluster another name".to_owned(),
    }
}

fn no_group(name: &str) -> CloudError {
    CloudError::Unfit {
        missing: format!("there is no Auto Scaling group {name}"),
        cure: "`clusterctl up --fleet N` makes it".to_owned(),
    }
}

fn out_of_bounds(size: u16, min: u16, max: u16) -> CloudError {
    CloudError::Unfit {
        missing: format!("the fleet has from {min} to {max} instances, and not {size}"),
        cure: "ask for another number, or change `min` and `max` in [fleet] and run `clusterctl up`".to_owned(),
    }
}

fn without_spec() -> CloudError {
    CloudError::Unfit {
        missing: "the spec has no fleet".to_owned(),
        cure: "add a line [fleet] to it (docs/fleet.md)".to_owned(),
    }
}

#[cfg(test)]
mod tests;
