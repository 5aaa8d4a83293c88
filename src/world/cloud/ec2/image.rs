//! From what the spec says of the AMI to its id: an SSM parameter, the newest of a name, or the id itself;
//! and whether it suits the instance type.

use std::collections::BTreeMap;

use aws_sdk_ec2::types as sdk;

use super::client::refused;
use super::{Ec2, filter, instance};
use crate::core::ec2::images;
use crate::model::baked::ImageId;
use crate::model::ec2::{Image, tag};
use crate::model::host::Role;
use crate::world::cloud::{CloudError, Launch};

/// An AMI that hosts can be launched from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageFacts {
    pub id: String,
    pub name: Option<String>,
    /// `x86_64` or `arm64`.
    pub architecture: String,
    pub root_device: String,
    /// Who logs in to its hosts, where the image is one of ours.
    pub user: Option<String>,
}

impl Ec2 {
    /// The image for an instance type.
    pub(super) async fn image(&self, instance_type: &str) -> Result<ImageFacts, CloudError> {
        let architectures = self.architectures(instance_type).await?;
        let image = match &self.spec.image {
            Image::Id(id) => self.image_by_id(id).await?,
            Image::Parameter(name) => self.image_by_id(&self.parameter(name).await?).await?,
            Image::Distribution(name) => self.image_of_distribution(name, &architectures).await?,
            Image::Newest { name, owner } => self.newest_image(name, owner, &architectures).await?,
        };
        suits(&image, instance_type, &architectures)?;
        Ok(image)
    }

    /// The images that launches name.
    pub(super) async fn images_of(
        &self,
        launches: impl Iterator<Item = &Launch>,
    ) -> Result<BTreeMap<ImageId, ImageFacts>, CloudError> {
        let mut found = BTreeMap::new();
        for launch in launches {
            if let Some(id) = launch.image.as_ref().filter(|id| !found.contains_key(*id)) {
                let image = self.image_by_id(&id.0).await?;
                self.check_image(&image, self.instance_type(launch.role)).await?;
                found.insert(id.clone(), image);
            }
        }
        Ok(found)
    }

    /// Can instances of this type boot it?
    pub(super) async fn check_image(&self, image: &ImageFacts, instance_type: &str) -> Result<(), CloudError> {
        suits(image, instance_type, &self.architectures(instance_type).await?)
    }

    /// What the instance type's processors are: the first is what it is launched with.
    async fn architectures(&self, instance_type: &str) -> Result<Vec<String>, CloudError> {
        let found = self.type_info(instance_type).await?;
        let processor = found.as_ref().and_then(|found| found.processor_info());
        let known = processor.map(|info| info.supported_architectures()).unwrap_or_default();
        let named: Vec<String> = known.iter().map(|a| a.as_str().to_owned()).filter(|a| a != "i386").collect();
        if named.is_empty() {
            return Err(CloudError::Unfit {
                missing: format!("{} has no instance type {instance_type}", self.clients().await?.region),
                cure: "name another instance_type in [ec2]".to_owned(),
            });
        }
        Ok(named)
    }

    async fn type_info(&self, instance_type: &str) -> Result<Option<sdk::InstanceTypeInfo>, CloudError> {
        let ask = self.clients().await?.ec2.describe_instance_types();
        let types = ask.instance_types(sdk::InstanceType::from(instance_type)).send().await;
        let types = types.map_err(|error| refused("ec2:DescribeInstanceTypes", error))?;
        Ok(types.instance_types().first().cloned())
    }

    /// How many vCPUs all hosts of the spec have together, which is what quotas count.
    pub(super) async fn vcpus(&self) -> Result<i32, CloudError> {
        let mut all = 0;
        for (role, count) in [(Role::Server, self.spec.servers), (Role::Node, self.spec.nodes)] {
            let found = self.type_info(self.instance_type(role)).await?;
            let each = found.and_then(|found| found.v_cpu_info()?.default_v_cpus()).unwrap_or(1);
            all += each * i32::from(count);
        }
        Ok(all)
    }

    async fn image_of_distribution(&self, name: &str, architectures: &[String]) -> Result<ImageFacts, CloudError> {
        for architecture in architectures {
            if let Some(parameter) = images::parameter(name, architecture) {
                return self.image_by_id(&self.parameter(&parameter).await?).await;
            }
        }
        Err(CloudError::Unfit {
            missing: format!("{name} is not known for {}", architectures.join(" or ")),
            cure: "name an AMI's id or an SSM parameter as `ami` in [ec2]".to_owned(),
        })
    }

    async fn parameter(&self, name: &str) -> Result<String, CloudError> {
        let clients = self.clients().await?;
        let got =
            clients.ssm.get_parameter().name(name).send().await.map_err(|error| refused("ssm:GetParameter", error))?;
        let value = got.parameter().and_then(|parameter| parameter.value()).unwrap_or_default();
        if value.starts_with("ami-") && value.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') {
            return Ok(value.to_owned());
        }
        Err(CloudError::Unfit {
            missing: format!("the SSM parameter {name} holds no AMI's id but \"{}\"", short(value)),
            cure: "name another parameter, or the AMI's id, as `ami` in [ec2]".to_owned(),
        })
    }

    pub(super) async fn image_by_id(&self, id: &str) -> Result<ImageFacts, CloudError> {
        let clients = self.clients().await?;
        let found = clients
            .ec2
            .describe_images()
            .image_ids(id)
            .send()
            .await
            .map_err(|error| refused("ec2:DescribeImages", error))?;
        found.images().first().and_then(read).ok_or_else(|| CloudError::Unfit {
            missing: format!("{} has no image {id} that this account may use", clients.region),
            cure: "AMIs belong to one region: name one of this region as `ami` in [ec2], or a distribution such as \
                   \"debian-12\""
                .to_owned(),
        })
    }

    async fn newest_image(&self, name: &str, owner: &str, archs: &[String]) -> Result<ImageFacts, CloudError> {
        let clients = self.clients().await?;
        let mut pages = clients
            .ec2
            .describe_images()
            .owners(owner)
            .filters(filter("name", [name]))
            .filters(filter("state", ["available"]))
            .filters(filter("architecture", archs.iter().map(String::as_str)))
            .into_paginator()
            .send();
        let mut newest: Option<(String, ImageFacts)> = None;
        while let Some(page) = pages.next().await {
            let page = page.map_err(|error| refused("ec2:DescribeImages", error))?;
            for image in page.images() {
                let Some(facts) = read(image) else { continue };
                let key = image.creation_date().unwrap_or_default().to_owned();
                if newest.as_ref().is_none_or(|(date, old)| (&key, &facts.id) > (date, &old.id)) {
                    newest = Some((key, facts));
                }
            }
        }
        newest.map(|(_, facts)| facts).ok_or_else(|| CloudError::Unfit {
            missing: format!(
                "no available image of {owner} is named \"{}\" and is for {}",
                name.escape_debug(),
                archs.join(" or ")
            ),
            cure: "change ami_name or ami_owner in [ec2] (an account's number, \"self\", \"amazon\")".to_owned(),
        })
    }
}

fn suits(image: &ImageFacts, instance_type: &str, architectures: &[String]) -> Result<(), CloudError> {
    if architectures.contains(&image.architecture) {
        return Ok(());
    }
    Err(CloudError::Unfit {
        missing: format!(
            "{} is for {} processors, and {instance_type} has {}",
            image.id,
            image.architecture,
            architectures.join(" or ")
        ),
        cure:
            "name an image or an instance_type of the other kind in [ec2] (t4g, m7g, c7g are arm64; t3, m7i, c7i are \
               x86_64)"
                .to_owned(),
    })
}

fn read(image: &sdk::Image) -> Option<ImageFacts> {
    Some(ImageFacts {
        id: image.image_id()?.to_owned(),
        name: image.name().map(str::to_owned),
        architecture: image.architecture().map_or("x86_64", sdk::ArchitectureValues::as_str).to_owned(),
        root_device: image.root_device_name().unwrap_or("/dev/xvda").to_owned(),
        user: instance::tags(image.tags()).remove(tag::USER),
    })
}

/// A value of somebody else's, fit for a message.
fn short(value: &str) -> String {
    value.chars().take(60).collect::<String>().escape_debug().to_string()
}
