//! Launching, so that a kill at any moment doubles nothing: tags and a token stand in the one call that makes
//! an instance, and a repeated token makes no second one.

use std::time::Duration;

use aws_sdk_ec2::types as sdk;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use futures::StreamExt as _;
use futures::stream;

use super::client::{code, refused};
use super::ground::Footing;
use super::image::ImageFacts;
use super::instance::Instance;
use super::{Ec2, filter};
use crate::core::ec2::{cure, images, token, user_data};
use crate::model::ec2::{Image, InstanceProfile, Reach, tag};
use crate::model::event::{Doing, Events};
use crate::model::host::{Host, HostId, HostState, Role};
use crate::model::name::HostName;
use crate::world::cloud::{CloudError, Launch};

/// RunInstances may be called 5 times at once and then twice a second; the SDK's rate does the rest.
const AT_ONCE: usize = 5;
/// How often a call is repeated whose profile or group AWS does not know yet everywhere.
const NOT_YET: usize = 20;
const NOT_YET_NAMED: usize = 3;
const NOT_YET_PAUSE: Duration = Duration::from_secs(1);
/// A terminated instance keeps its token, so a later generation's is tried: so many more than EC2 still lists.
const GENERATIONS: u32 = 20;

impl Ec2 {
    pub(super) async fn launch_all(
        &self,
        wanted: &[Launch],
        events: &Events,
    ) -> Result<Vec<Result<Host, CloudError>>, CloudError> {
        let instances = self.instances().await?;
        let named = |launch: &Launch| -> Vec<&Instance> {
            instances.iter().filter(|i| i.host_name().as_ref() == Some(&launch.name)).collect()
        };
        let is_new = |launch: &Launch| !named(launch).iter().any(|i| i.state.exists());
        let footing = if wanted.iter().any(is_new) {
            let ground = self.ground().await?;
            let baked = self.images_of(wanted.iter().filter(|launch| is_new(launch))).await?;
            Some(Footing { baked, ..self.footing(&ground).await? })
        } else {
            None
        };
        let footing = footing.as_ref();
        let one = |launch: &Launch| {
            let (launch, old) = (launch.clone(), named(launch).into_iter().cloned().collect::<Vec<_>>());
            async move {
                events.began(Some(&launch.name), Doing::Launch);
                let result = match (old.iter().find(|i| i.state.exists()), footing) {
                    (Some(there), _) => self.wake(&launch, there).await,
                    (None, Some(footing)) => self.run(&launch, &old, footing).await,
                    (None, None) => unreachable!("a footing was found for what is new"),
                };
                if result.is_ok() {
                    events.ended(Some(&launch.name), Doing::Launch, true);
                }
                result
            }
        };
        let jobs: Vec<_> = wanted.iter().map(one).collect();
        Ok(stream::iter(jobs).buffered(AT_ONCE).collect().await)
    }

    /// An instance that is there: started where it was stopped.
    async fn wake(&self, launch: &Launch, instance: &Instance) -> Result<Host, CloudError> {
        check_origin(launch, instance)?;
        let mut instance = instance.clone();
        while instance.state == HostState::Stopping {
            self.pause(Duration::from_secs(2)).await?;
            instance = self.instance(&instance.id).await?;
        }
        if instance.state == HostState::Stopped {
            let clients = self.clients().await?;
            let started = clients.ec2.start_instances().instance_ids(&instance.id).send().await;
            started.map_err(|error| refused("ec2:StartInstances", error))?;
            instance.state = HostState::Pending;
        }
        self.host_of(&instance)
    }

    pub(super) fn host_of(&self, instance: &Instance) -> Result<Host, CloudError> {
        self.host(instance).ok_or_else(|| CloudError::NoSuchHost { id: HostId(instance.id.clone()) })
    }

    pub(super) async fn instance(&self, id: &str) -> Result<Instance, CloudError> {
        let mut found = None;
        self.each_instance(vec![filter("instance-id", [id])], |instance| found = Some(instance)).await?;
        found.ok_or_else(|| CloudError::NoSuchHost { id: HostId(id.to_owned()) })
    }

    /// Makes the instance, in the subnet that its ordinal falls to, or in the next that has room.
    pub(super) async fn run(&self, launch: &Launch, old: &[Instance], footing: &Footing) -> Result<Host, CloudError> {
        let ordinal = ordinal(&launch.name);
        let mut generation = token::next_generation(old.iter().map(|instance| &instance.tags));
        let last = generation.saturating_add(GENERATIONS);
        let subnets = footing.subnets.len();
        let first = (ordinal.max(1) as usize - 1) % subnets;
        let mut tried = Vec::new();
        let mut turn = 0;
        let mut not_yet = 0;
        // What was made just now may take its time; a profile of the user's own is there or is not.
        let patience = if self.spec.profile_of_instances == InstanceProfile::Made { NOT_YET } else { NOT_YET_NAMED };
        while turn < subnets {
            let subnet = &footing.subnets[(first + turn) % subnets];
            let request = self.request(launch, ordinal, generation, footing, &subnet.id).await?;
            let error = match request.send().await {
                Ok(made) => {
                    let instance = made.instances().first().and_then(Instance::read);
                    let instance = instance.ok_or_else(|| nothing_made(&launch.name))?;
                    return self.host_of(&instance);
                }
                Err(error) => error,
            };
            let said = code(&error).unwrap_or_default().to_owned();
            match said.as_str() {
                // The token was used for a request of another shape: an earlier run with another spec, or in
                // another subnet. What it made counts.
                "IdempotentParameterMismatch" => match self.by_token(launch, ordinal, generation).await? {
                    Some(made) if made.state.exists() => {
                        check_origin(launch, &made)?;
                        return self.host_of(&made);
                    }
                    _ => generation += 1,
                },
                "IdempotentInstanceTerminated" => generation += 1,
                _ if cure::is_elsewhere(&said) => {
                    tried.push(format!("{} ({})", subnet.zone, said));
                    turn += 1;
                    if turn == subnets {
                        return Err(everywhere(refused("ec2:RunInstances", error), &tried));
                    }
                }
                _ if cure::is_not_yet(&said, error.as_service_error().and_then(message)) && not_yet < patience => {
                    not_yet += 1;
                    self.pause(NOT_YET_PAUSE).await?;
                }
                // An image that was sealed just now.
                _ if launch.image.is_some() && said.starts_with("InvalidAMIID.") && not_yet < NOT_YET_NAMED => {
                    not_yet += 1;
                    self.pause(NOT_YET_PAUSE).await?;
                }
                _ => return Err(refused("ec2:RunInstances", error)),
            }
            if generation > last {
                return Err(nothing_made(&launch.name));
            }
        }
        Err(nothing_made(&launch.name))
    }

    async fn by_token(&self, launch: &Launch, ordinal: u32, generation: u32) -> Result<Option<Instance>, CloudError> {
        let token = token::client_token(&self.cluster, launch.role, ordinal, generation);
        let mut found = None;
        self.each_instance(vec![filter("client-token", [token.as_str()])], |instance| found = Some(instance)).await?;
        Ok(found)
    }

    pub(super) async fn request(
        &self,
        launch: &Launch,
        ordinal: u32,
        generation: u32,
        footing: &Footing,
        subnet: &str,
    ) -> Result<aws_sdk_ec2::operation::run_instances::builders::RunInstancesFluentBuilder, CloudError> {
        let clients = self.clients().await?;
        let image = match &launch.image {
            Some(id) => footing.baked.get(id).ok_or_else(|| nothing_made(&launch.name))?,
            None if launch.role.is_server() => &footing.server_image,
            None => &footing.image,
        };
        let [all, server] = &footing.groups;
        let own = if launch.role.is_server() { vec![all, server] } else { vec![all] };
        let groups: Vec<String> = own.into_iter().cloned().chain(self.spec.security_groups.iter().cloned()).collect();
        let interface = sdk::InstanceNetworkInterfaceSpecification::builder()
            .device_index(0)
            .subnet_id(subnet)
            .set_groups(Some(groups))
            .associate_public_ip_address(self.spec.reach == Reach::Public)
            .build();
        let request = clients
            .ec2
            .run_instances()
            .client_token(token::client_token(&self.cluster, launch.role, ordinal, generation))
            .min_count(1)
            .max_count(1)
            .image_id(&image.id)
            .instance_type(sdk::InstanceType::from(self.instance_type(launch.role)))
            .key_name(&footing.key_pair)
            .network_interfaces(interface)
            .metadata_options(
                sdk::InstanceMetadataOptionsRequest::builder()
                    .http_tokens(sdk::HttpTokensState::Required)
                    .http_endpoint(sdk::InstanceMetadataEndpointState::Enabled)
                    .build(),
            )
            .block_device_mappings(self.root_volume(&image.root_device))
            .tag_specifications(self.instance_tags(launch, ordinal, generation, image, footing.led))
            .tag_specifications(self.made_tags(sdk::ResourceType::Volume, [(tag::NAME, launch.name.as_str())]));
        let profile = footing.profile.as_ref();
        let request = request.set_iam_instance_profile(
            profile.map(|name| sdk::IamInstanceProfileSpecification::builder().name(name).build()),
        );
        let told = launch.image.is_some().then_some(&launch.name);
        let user_data = user_data::of(&self.cluster, told, launch.lifetime);
        let ends = launch.lifetime.is_some().then_some(sdk::ShutdownBehavior::Terminate);
        let request = request
            .set_user_data(user_data.map(|text| BASE64_STANDARD.encode(text)))
            .set_instance_initiated_shutdown_behavior(ends);
        // One that only a build needs is stopped to become an image, which a spot instance cannot be.
        let spot = self.spec.spot && !launch.role.is_server() && launch.lifetime.is_none();
        Ok(request.set_instance_market_options(
            spot.then(|| sdk::InstanceMarketOptionsRequest::builder().market_type(sdk::MarketType::Spot).build()),
        ))
    }

    fn root_volume(&self, device: &str) -> sdk::BlockDeviceMapping {
        let volume = &self.spec.root_volume;
        let ebs = sdk::EbsBlockDevice::builder()
            .volume_type(sdk::VolumeType::from(volume.kind.as_str()))
            .encrypted(volume.encrypted)
            .delete_on_termination(true)
            .set_volume_size(volume.size.map(i32::from));
        sdk::BlockDeviceMapping::builder().device_name(device).ebs(ebs.build()).build()
    }

    fn instance_tags(
        &self,
        launch: &Launch,
        ordinal: u32,
        generation: u32,
        image: &ImageFacts,
        led: bool,
    ) -> sdk::TagSpecification {
        let generation = generation.to_string();
        let user = self.login_user(launch, image);
        let mut tags = vec![
            (tag::NAME, launch.name.as_str()),
            (tag::HOST, launch.name.as_str()),
            (tag::ROLE, launch.role.as_str()),
            (tag::GENERATION, generation.as_str()),
            (tag::USER, user.as_str()),
            (tag::ORIGIN, if launch.image.is_some() { tag::IMAGED } else { tag::LAUNCHED }),
        ];
        // One leader, however many servers: two would be none that anybody could name.
        if launch.role.is_server() && ordinal == 1 && !led {
            tags.extend(self.leaders_tags());
        }
        self.made_tags(sdk::ResourceType::Instance, tags)
    }

    /// Who can log in to hosts of the image, as far as its tag, its name or the spec tells; a hint, and probed anyway.
    fn login_user(&self, launch: &Launch, image: &ImageFacts) -> String {
        if let Some(user) = &image.user {
            return user.clone();
        }
        let distribution = match &self.spec.image {
            Image::Distribution(name) if launch.image.is_none() => Some(name.as_str()),
            _ => None,
        };
        images::login_users(distribution.or(image.name.as_deref()), None).into_iter().next().unwrap_or_default()
    }

    pub(super) fn instance_type(&self, role: Role) -> &str {
        match (&self.spec.server_instance_type, role) {
            (Some(kind), Role::Server) => kind,
            _ => &self.spec.instance_type,
        }
    }
}

fn message(error: &impl aws_sdk_ec2::error::ProvideErrorMetadata) -> Option<&str> {
    error.message()
}

/// The number at the end of a host's name.
pub(super) fn ordinal(name: &HostName) -> u32 {
    name.as_str().rsplit('-').next().and_then(|digits| digits.parse().ok()).unwrap_or(0)
}

/// A host of that name that runs from another image is not the one that was asked for.
fn check_origin(launch: &Launch, instance: &Instance) -> Result<(), CloudError> {
    match &launch.image {
        Some(image) if image.0 != instance.image => Err(CloudError::Host {
            host: launch.name.clone(),
            what: format!(
                "{} has that name and was launched from {}, not from {image}: end it first",
                instance.id, instance.image
            ),
            log: None,
        }),
        _ => Ok(()),
    }
}

fn nothing_made(host: &HostName) -> CloudError {
    CloudError::Host { host: host.clone(), what: "EC2 answered, and made no instance".to_owned(), log: None }
}

/// The last subnet's error, with what the others said.
fn everywhere(error: CloudError, tried: &[String]) -> CloudError {
    match error {
        CloudError::Api { action, code, message, cure } if tried.len() > 1 => {
            let message = format!("{message} (tried {})", tried.join(", "));
            CloudError::Api { action, code, message, cure }
        }
        other => other,
    }
}
