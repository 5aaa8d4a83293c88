//! The launch template and its versions.

use std::collections::BTreeMap;

use aws_sdk_ec2::types as sdk;

use super::super::client::{code, refused};
use super::{Ec2, not_ours};
use crate::core::ec2::fleet::{self, PresentTemplate, Template};
use crate::model::ec2::{RootVolume, tag};
use crate::world::cloud::CloudError;
use crate::world::cloud::ec2::{filter, instance};

/// What EC2 says of a template that is not there.
const ABSENT: [&str; 3] = [
    "InvalidLaunchTemplateName.NotFoundException",
    "InvalidLaunchTemplateId.NotFound",
    "InvalidLaunchTemplateId.NotFoundException",
];

impl Ec2 {
    /// The cluster's template with its latest version.
    pub(super) async fn fleet_template(&self) -> Result<Option<PresentTemplate>, CloudError> {
        let Some(found) = self.template_head().await? else { return Ok(None) };
        let id = found.launch_template_id().unwrap_or_default().to_owned();
        let clients = self.clients().await?;
        let asked = clients.ec2.describe_launch_template_versions().launch_template_id(&id).versions("$Latest");
        let answer = match asked.send().await {
            Ok(answer) => answer,
            // Made just now, or removed just now.
            Err(error) if code(&error).is_some_and(|code| ABSENT.contains(&code)) => return Ok(None),
            Err(error) => return Err(refused("ec2:DescribeLaunchTemplateVersions", error)),
        };
        let latest = answer.launch_template_versions().first();
        let Some((number, data)) = latest.and_then(|v| Some((v.version_number()?, v.launch_template_data()?))) else {
            return Ok(None);
        };
        let mut data = read(data);
        Ok(Some(PresentTemplate {
            id,
            latest: number,
            default: found.default_version_number().unwrap_or(number),
            mark: data.instance_tags.remove(tag::TEMPLATE),
            data,
        }))
    }

    /// The template of the fleet's name. One that is not the cluster's is refused.
    async fn template_head(&self) -> Result<Option<sdk::LaunchTemplate>, CloudError> {
        let name = self.fleet_name();
        let asked = self.clients().await?.ec2.describe_launch_templates();
        let answer = asked.filters(filter("launch-template-name", [name.as_str()])).send().await;
        let answer = answer.map_err(|error| refused("ec2:DescribeLaunchTemplates", error))?;
        let Some(found) = answer.launch_templates().first() else { return Ok(None) };
        match instance::tags(found.tags()).get(tag::CLUSTER) {
            Some(cluster) if cluster == self.cluster.as_str() => Ok(Some(found.clone())),
            _ => Err(not_ours("launch template", &name)),
        }
    }

    /// Makes it. Its name is there once, so that a repeat makes no second one.
    pub(super) async fn make_template(&self, wanted: &Template) -> Result<(), CloudError> {
        let tags = self.own_tags().into_iter().map(|(key, value)| sdk::Tag::builder().key(key).value(value).build());
        let tags = sdk::TagSpecification::builder()
            .resource_type(sdk::ResourceType::LaunchTemplate)
            .set_tags(Some(tags.collect()))
            .build();
        let call = self.clients().await?.ec2.create_launch_template().launch_template_name(self.fleet_name());
        match call.launch_template_data(request(wanted)).tag_specifications(tags).send().await {
            Ok(_) => Ok(()),
            Err(error) if code(&error) == Some("InvalidLaunchTemplateName.AlreadyExistsException") => Ok(()),
            Err(error) => Err(refused("ec2:CreateLaunchTemplate", error)),
        }
    }

    /// Makes a version and has the group launch it.
    pub(super) async fn make_version(&self, present: &PresentTemplate, wanted: &Template) -> Result<(), CloudError> {
        let call = self.clients().await?.ec2.create_launch_template_version().launch_template_id(&present.id);
        let token = fleet::version_token(&present.id, present.latest, &wanted.mark());
        let made = call.client_token(token).launch_template_data(request(wanted)).send().await;
        let made = made.map_err(|error| refused("ec2:CreateLaunchTemplateVersion", error))?;
        match made.launch_template_version().and_then(sdk::LaunchTemplateVersion::version_number) {
            Some(version) => self.use_version(&present.id, version).await,
            // The next look finds it.
            None => Ok(()),
        }
    }

    /// Makes it the one that is launched, and removes those that are long out of use.
    pub(super) async fn use_version(&self, template: &str, version: i64) -> Result<(), CloudError> {
        let call = self.clients().await?.ec2.modify_launch_template().launch_template_id(template);
        let used = call.default_version(version.to_string()).send().await;
        used.map_err(|error| refused("ec2:ModifyLaunchTemplate", error))?;
        if version <= fleet::KEPT {
            return Ok(());
        }
        let clients = self.clients().await?;
        let all = clients.ec2.describe_launch_template_versions().launch_template_id(template);
        let mut pages = all.max_version((version - fleet::KEPT).to_string()).into_paginator().send();
        let mut numbers = Vec::new();
        while let Some(page) = pages.next().await {
            let page = page.map_err(|error| refused("ec2:DescribeLaunchTemplateVersions", error))?;
            numbers
                .extend(page.launch_template_versions().iter().filter_map(sdk::LaunchTemplateVersion::version_number));
        }
        for batch in fleet::stale(numbers, version, version).chunks(200) {
            let gone = clients.ec2.delete_launch_template_versions().launch_template_id(template);
            let batch = batch.iter().map(ToString::to_string).collect();
            let gone = gone.set_versions(Some(batch)).send().await;
            gone.map_err(|error| refused("ec2:DeleteLaunchTemplateVersions", error))?;
        }
        Ok(())
    }

    pub(super) async fn remove_template(&self) -> Result<Option<String>, CloudError> {
        let found = match self.template_head().await {
            Ok(Some(found)) => found,
            // Somebody else's stays.
            Ok(None) | Err(CloudError::Unfit { .. }) => return Ok(None),
            Err(error) if self.fleet.is_none() && error.is_denied() => return Ok(None),
            Err(error) => return Err(error),
        };
        let id = found.launch_template_id().unwrap_or_default();
        match self.clients().await?.ec2.delete_launch_template().launch_template_id(id).send().await {
            Ok(_) => Ok(Some(format!("launch template {}", self.fleet_name()))),
            Err(error) if code(&error).is_some_and(|code| ABSENT.contains(&code)) => Ok(None),
            Err(error) => Err(refused("ec2:DeleteLaunchTemplate", error)),
        }
    }
}

/// The template as EC2 takes it, with its mark.
fn request(wanted: &Template) -> sdk::RequestLaunchTemplateData {
    let interface = sdk::LaunchTemplateInstanceNetworkInterfaceSpecificationRequest::builder()
        .device_index(0)
        .associate_public_ip_address(wanted.public_address)
        .delete_on_termination(true)
        .set_groups(Some(wanted.groups.clone()))
        .build();
    let metadata = sdk::LaunchTemplateInstanceMetadataOptionsRequest::builder()
        .http_tokens(sdk::LaunchTemplateHttpTokensState::Required)
        .http_endpoint(sdk::LaunchTemplateInstanceMetadataEndpointState::Enabled)
        .http_put_response_hop_limit(1)
        .build();
    let volume = &wanted.root_volume;
    let ebs = sdk::LaunchTemplateEbsBlockDeviceRequest::builder()
        .volume_type(sdk::VolumeType::from(volume.kind.as_str()))
        .encrypted(volume.encrypted)
        .delete_on_termination(true)
        .set_volume_size(volume.size.map(i32::from));
    let root =
        sdk::LaunchTemplateBlockDeviceMappingRequest::builder().device_name(&wanted.root_device).ebs(ebs.build());
    let profile = wanted.profile.as_ref();
    let profile =
        profile.map(|name| sdk::LaunchTemplateIamInstanceProfileSpecificationRequest::builder().name(name).build());
    let mut instance_tags = wanted.instance_tags.clone();
    instance_tags.insert(tag::TEMPLATE.to_owned(), wanted.mark());
    sdk::RequestLaunchTemplateData::builder()
        .image_id(&wanted.image)
        .instance_type(sdk::InstanceType::from(wanted.instance_type.as_str()))
        .set_key_name(wanted.key_pair.clone())
        .network_interfaces(interface)
        .metadata_options(metadata)
        .block_device_mappings(root.build())
        .set_iam_instance_profile(profile)
        .user_data(&wanted.user_data)
        .tag_specifications(tags(sdk::ResourceType::Instance, &instance_tags))
        .tag_specifications(tags(sdk::ResourceType::Volume, &wanted.volume_tags))
        .build()
}

fn tags(kind: sdk::ResourceType, tags: &BTreeMap<String, String>) -> sdk::LaunchTemplateTagSpecificationRequest {
    let tags = tags.iter().map(|(key, value)| sdk::Tag::builder().key(key).value(value).build());
    sdk::LaunchTemplateTagSpecificationRequest::builder().resource_type(kind).set_tags(Some(tags.collect())).build()
}

/// A version's data in the same form; its mark is still among the tags.
fn read(data: &sdk::ResponseLaunchTemplateData) -> Template {
    let interface = data.network_interfaces().first();
    let root = data.block_device_mappings().first();
    let ebs = root.and_then(sdk::LaunchTemplateBlockDeviceMapping::ebs);
    let tags = |kind: &sdk::ResourceType| {
        let all = data.tag_specifications().iter().filter(|tags| tags.resource_type() == Some(kind));
        all.flat_map(|tags| instance::tags(tags.tags())).collect()
    };
    Template {
        image: data.image_id().unwrap_or_default().to_owned(),
        instance_type: data.instance_type().map(|kind| kind.as_str().to_owned()).unwrap_or_default(),
        groups: interface.map(|interface| interface.groups().to_vec()).unwrap_or_default(),
        key_pair: data.key_name().map(str::to_owned),
        profile: data.iam_instance_profile().and_then(|profile| profile.name()).map(str::to_owned),
        root_device: root.and_then(|root| root.device_name()).unwrap_or_default().to_owned(),
        root_volume: RootVolume {
            size: ebs.and_then(|ebs| ebs.volume_size()).and_then(|size| u16::try_from(size).ok()),
            kind: ebs.and_then(|ebs| ebs.volume_type()).map(|kind| kind.as_str().to_owned()).unwrap_or_default(),
            encrypted: ebs.and_then(|ebs| ebs.encrypted()).unwrap_or(false),
        },
        public_address: interface.and_then(|card| card.associate_public_ip_address()).unwrap_or(false),
        user_data: data.user_data().unwrap_or_default().to_owned(),
        instance_tags: tags(&sdk::ResourceType::Instance),
        volume_tags: tags(&sdk::ResourceType::Volume),
    }
}
