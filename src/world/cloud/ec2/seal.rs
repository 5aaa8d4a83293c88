//! Making an image: the host is switched off first, for good, so that what is on its disk is whole; tags stand in the
//! one call that makes image and snapshots; what is begun is finished or taken away.

use std::time::{Duration, Instant};

use aws_sdk_ec2::Client;
use aws_sdk_ec2::types as sdk;
use tokio_util::sync::CancellationToken;

use super::client::{code, refused};
use super::images::{SOON, Shown, discard, look, named};
use super::instance::Instance;
use super::{Ec2, tag_specification};
use crate::core::ec2::label;
use crate::model::baked::{ImageId, Label};
use crate::model::ec2::tag;
use crate::model::host::HostState;
use crate::world::cloud::CloudError;

/// A host may take its time to stop its services; EC2 itself cuts it off after some minutes.
const STOP: Duration = Duration::from_secs(600);
/// A large disk, or a copy over an ocean.
const AVAILABLE: Duration = Duration::from_secs(1800);
/// So long an image that was made just now may not be listed.
const UNSEEN: Duration = Duration::from_secs(120);
/// After so many looks, fewer are enough.
const EARLY: usize = 15;
const LATER: Duration = Duration::from_secs(5);
/// Taking away what is half-made, while somebody who has interrupted waits for it.
const WITHDRAWAL: Duration = Duration::from_secs(60);
const TRIES: usize = 5;

impl Ec2 {
    pub(super) async fn seal_instance(&self, instance: &Instance, label: &Label) -> Result<ImageId, CloudError> {
        let clients = self.clients().await?;
        let (ec2, region) = (&clients.ec2, &clients.region);
        // Before the host is switched off: a run that was killed has made it, or somebody else has the name.
        if let Some(found) = named(ec2, &label.name).await? {
            return self.adopt_image(&found, label).await;
        }
        self.switch_off(instance).await?;
        let mut tags = self.spec.tags.clone();
        tags.extend(instance.tags.get(tag::USER).map(|user| (tag::USER.to_owned(), user.clone())));
        tags.extend(label::tags(label));
        let made = ec2
            .create_image()
            .instance_id(&instance.id)
            .name(&label.name)
            .description(format!("A {} of the cluster {}, made by clusterctl", label.role, label.cluster))
            .tag_specifications(tag_specification(sdk::ResourceType::Image, tags.clone()))
            .tag_specifications(tag_specification(sdk::ResourceType::Snapshot, tags))
            .send()
            .await;
        match made {
            Ok(answer) => self.finished(ec2, region, answer.image_id().unwrap_or_default()).await,
            // The call was repeated since its answer was lost, or somebody was faster.
            Err(error) if code(&error) == Some("InvalidAMIName.Duplicate") => match named(ec2, &label.name).await? {
                Some(found) => self.adopt_image(&found, label).await,
                None => Err(refused("ec2:CreateImage", error)),
            },
            Err(error) => {
                let unanswered = code(&error).is_none();
                let error = refused("ec2:CreateImage", error);
                Err(if unanswered { self.without_trace(region, label, error).await } else { error })
            }
        }
    }

    /// An image that has the name already: ours, when it says the same of itself.
    async fn adopt_image(&self, found: &Shown, label: &Label) -> Result<ImageId, CloudError> {
        let clients = self.clients().await?;
        if found.is(label) {
            return self.finished(&clients.ec2, &clients.region, &found.id).await;
        }
        Err(taken(found, &clients.region))
    }

    async fn switch_off(&self, instance: &Instance) -> Result<(), CloudError> {
        let ec2 = &self.clients().await?.ec2;
        let deadline = Instant::now() + STOP;
        let mut asked = false;
        let mut instance = instance.clone();
        loop {
            let ill = |what: String| CloudError::Unfit {
                missing: format!("{} cannot become an image: {what}", instance.called()),
                cure: "run the command again: it makes a new host".to_owned(),
            };
            match instance.state {
                HostState::Stopped => return Ok(()),
                HostState::ShuttingDown | HostState::Terminated => {
                    let reason = instance.reason.as_deref().unwrap_or("EC2 gives no reason");
                    return Err(ill(format!("it has ended ({reason})")));
                }
                HostState::Running if !asked => {
                    let stopped = ec2.stop_instances().instance_ids(&instance.id).send().await;
                    stopped.map_err(|error| refused("ec2:StopInstances", error))?;
                    asked = true;
                }
                _ if Instant::now() > deadline => {
                    return Err(ill(format!("it is {} after {} minutes", instance.state, STOP.as_secs() / 60)));
                }
                _ => {}
            }
            self.pause(SOON).await?;
            instance = self.instance(&instance.id).await?;
        }
    }

    /// Waits until an image that is begun can be launched; else it is taken away.
    pub(super) async fn finished(&self, ec2: &Client, region: &str, id: &str) -> Result<ImageId, CloudError> {
        match self.until_available(ec2, id).await {
            Ok(()) => Ok(ImageId(id.to_owned())),
            Err(error) => Err(self.withdrawn(region, id, error).await),
        }
    }

    async fn until_available(&self, ec2: &Client, id: &str) -> Result<(), CloudError> {
        let began = Instant::now();
        let failed = |what: String| CloudError::Unfit {
            missing: format!("{id} is no image yet that can be launched: {what}"),
            cure: "run the command again".to_owned(),
        };
        for looks in 0.. {
            match look(ec2, id).await? {
                Some(shown) => match shown.state {
                    sdk::ImageState::Available => break,
                    sdk::ImageState::Failed | sdk::ImageState::Error | sdk::ImageState::Invalid => {
                        let reason = shown.reason.as_deref().unwrap_or("EC2 gives no reason");
                        return Err(failed(format!("it is {}: {reason}", shown.state)));
                    }
                    _ if began.elapsed() > AVAILABLE => {
                        return Err(failed(format!(
                            "it is {} after {} minutes",
                            shown.state,
                            AVAILABLE.as_secs() / 60
                        )));
                    }
                    _ => {}
                },
                None if began.elapsed() > UNSEEN => return Err(failed("somebody has removed it".to_owned())),
                None => {}
            }
            self.pause(if looks < EARLY { SOON } else { LATER }).await?;
        }
        Ok(())
    }

    /// Takes away what was begun, also after an interrupt; the error says where that did not succeed.
    async fn withdrawn(&self, region: &str, id: &str, error: CloudError) -> CloudError {
        let clients = match self.clients().await {
            Ok(clients) => clients,
            Err(error) => return error,
        };
        let ec2 = clients.ec2_in(region, &CancellationToken::new());
        let why = match tokio::time::timeout(WITHDRAWAL, discard(&ec2, id, TRIES)).await {
            Ok(Ok(())) => return error,
            Ok(Err(why)) => why.to_string(),
            Err(_) => format!("EC2 did not do it within {} s", WITHDRAWAL.as_secs()),
        };
        CloudError::Unfit {
            missing: format!("{error}; the image {id} in {region} that was begun is still there: {why}"),
            cure: format!(
                "remove it: `aws ec2 deregister-image --region {region} --image-id {id} --delete-associated-snapshots`"
            ),
        }
    }

    /// After a call that got no answer: the image may have been begun all the same.
    pub(super) async fn without_trace(&self, region: &str, label: &Label, error: CloudError) -> CloudError {
        let Ok(clients) = self.clients().await else { return error };
        let ec2 = clients.ec2_in(region, &CancellationToken::new());
        match tokio::time::timeout(WITHDRAWAL, named(&ec2, &label.name)).await {
            Ok(Ok(Some(found))) if found.is(label) => self.withdrawn(region, &found.id, error).await,
            Ok(Ok(_)) => error,
            Ok(Err(_)) | Err(_) => CloudError::Unfit {
                missing: format!("{error}; whether the image \"{}\" was begun in {region} is not known", label.name),
                cure: "run the command again when EC2 answers; `clusterctl ami list` shows what is there".to_owned(),
            },
        }
    }
}

/// Another image has the name.
pub(super) fn taken(found: &Shown, region: &str) -> CloudError {
    CloudError::Unfit {
        missing: format!("{region} has an image named \"{}\" already, {}, and it is another one", found.name, found.id),
        cure: "give the new one another name, or remove the old one".to_owned(),
    }
}
