//! Images of ours: found by the tag that names their cluster, noted as tried, copied, taken away. How one is made
//! stands in `seal`.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use aws_sdk_ec2::Client;
use aws_sdk_ec2::types as sdk;
use jiff::Timestamp;

use super::client::{code, refused};
use super::{Ec2, filter, instance, seal, tag_specification};
use crate::core::ec2::label;
use crate::model::baked::{Baked, BakedState, ImageId, Label};
use crate::model::ec2::tag;
use crate::model::event::{Doing, Events};
use crate::model::host::HostId;
use crate::world::cloud::{CloudError, Images};

/// The most that one page holds.
const PAGE: i32 = 1000;
/// A snapshot is in use for a moment longer than its image is there.
const RELEASE: usize = 10;
pub(super) const SOON: Duration = if cfg!(test) { Duration::from_millis(5) } else { Duration::from_secs(2) };

/// An image of the account as EC2 shows it.
#[derive(Debug, Clone)]
pub(super) struct Shown {
    pub id: String,
    pub name: String,
    pub state: sdk::ImageState,
    pub reason: Option<String>,
    pub tags: std::collections::BTreeMap<String, String>,
    pub snapshots: Vec<String>,
    pub encrypted: bool,
}

impl Shown {
    fn read(from: &sdk::Image) -> Option<Self> {
        let disks = || from.block_device_mappings().iter().filter_map(sdk::BlockDeviceMapping::ebs);
        Some(Self {
            id: from.image_id()?.to_owned(),
            name: from.name().unwrap_or_default().to_owned(),
            state: from.state()?.clone(),
            reason: from.state_reason().and_then(sdk::StateReason::message).map(str::to_owned),
            tags: instance::tags(from.tags()),
            snapshots: disks().filter_map(|disk| disk.snapshot_id()).map(str::to_owned).collect(),
            encrypted: disks().any(|disk| disk.encrypted() == Some(true)),
        })
        .filter(|shown| shown.state != sdk::ImageState::Deregistered)
    }

    fn baked(&self) -> Result<Baked, String> {
        let label = label::read(&self.name, &self.tags)?;
        let proved = self.tags.get(tag::PROVED).map(|text| text.parse::<Timestamp>());
        let proved = proved.transpose().map_err(|error| format!("the tag {} cannot be read: {error}", tag::PROVED))?;
        let state = match self.state {
            sdk::ImageState::Available => BakedState::Available,
            sdk::ImageState::Pending | sdk::ImageState::Transient => BakedState::Pending,
            _ => BakedState::Failed,
        };
        Ok(Baked { id: ImageId(self.id.clone()), label, state, proved })
    }

    /// Does it say the same of itself? Then it is the one that an earlier, lost call made.
    pub(super) fn is(&self, wanted: &Label) -> bool {
        label::read(&self.name, &self.tags).is_ok_and(|label| label == *wanted)
    }
}

/// The image; `None` where there is none, or none any more.
pub(super) async fn look(ec2: &Client, id: &str) -> Result<Option<Shown>, CloudError> {
    match ec2.describe_images().image_ids(id).send().await {
        Ok(answer) => Ok(answer.images().first().and_then(Shown::read)),
        Err(error) if is_gone(code(&error)) => Ok(None),
        Err(error) => Err(refused("ec2:DescribeImages", error)),
    }
}

/// The account's image of that name: a region has one.
pub(super) async fn named(ec2: &Client, name: &str) -> Result<Option<Shown>, CloudError> {
    let answer = ec2.describe_images().owners("self").filters(filter("name", [name])).send().await;
    let answer = answer.map_err(|error| refused("ec2:DescribeImages", error))?;
    Ok(answer.images().iter().find_map(Shown::read))
}

fn is_gone(code: Option<&str>) -> bool {
    matches!(code, Some("InvalidAMIID.NotFound" | "InvalidAMIID.Unavailable"))
}

/// Takes an image and its snapshots away, whatever state they are in. One that is not there is asked for `tries`
/// times, since one that was made just now may not be known everywhere.
pub(super) async fn discard(ec2: &Client, id: &str, tries: usize) -> Result<(), CloudError> {
    let mut snapshots = look(ec2, id).await?.map(|shown| shown.snapshots).unwrap_or_default();
    // Those that a pending image does not show yet, and those of one that is gone already.
    snapshots.extend(snapshots_of(ec2, id).await?);
    snapshots.sort();
    snapshots.dedup();
    for left in (0..tries).rev() {
        match ec2.deregister_image().image_id(id).send().await {
            Ok(_) => break,
            Err(error) if is_gone(code(&error)) && left > 0 => tokio::time::sleep(SOON).await,
            Err(error) if is_gone(code(&error)) => {}
            Err(error) => return Err(refused("ec2:DeregisterImage", error)),
        }
    }
    for snapshot in &snapshots {
        delete_snapshot(ec2, snapshot).await?;
    }
    Ok(())
}

/// By what EC2 writes into their descriptions when it makes or copies an image. Ours only.
async fn snapshots_of(ec2: &Client, id: &str) -> Result<Vec<String>, CloudError> {
    let descriptions = [format!("Created by CreateImage(*) for {id}*"), format!("Copied for DestinationAmi {id} *")];
    let ask = ec2.describe_snapshots().owner_ids("self").filters(filter("description", descriptions));
    let mut pages = ask.filters(filter("tag-key", [tag::IMAGE_OF])).into_paginator().send();
    let mut found = Vec::new();
    while let Some(page) = pages.next().await {
        let page = page.map_err(|error| refused("ec2:DescribeSnapshots", error))?;
        found.extend(page.snapshots().iter().filter_map(|snapshot| snapshot.snapshot_id()).map(str::to_owned));
    }
    Ok(found)
}

async fn delete_snapshot(ec2: &Client, id: &str) -> Result<(), CloudError> {
    let mut left = RELEASE;
    loop {
        match ec2.delete_snapshot().snapshot_id(id).send().await {
            Ok(_) => return Ok(()),
            Err(error) if code(&error) == Some("InvalidSnapshot.NotFound") => return Ok(()),
            Err(error) if code(&error) == Some("InvalidSnapshot.InUse") && left > 0 => {
                left -= 1;
                tokio::time::sleep(SOON).await;
            }
            Err(error) => return Err(refused("ec2:DeleteSnapshot", error)),
        }
    }
}

fn no_such(id: &ImageId, region: &str) -> CloudError {
    CloudError::Unfit {
        missing: format!("{region} has no image {id} of this account"),
        cure: "images belong to one region: name it with --region; `clusterctl ami list` shows what is there"
            .to_owned(),
    }
}

#[async_trait]
impl Images for Ec2 {
    async fn seal(&self, host: &HostId, label: &Label, events: &Events) -> Result<ImageId, CloudError> {
        let instance = self.instance(&host.0).await?;
        let name = instance.host_name();
        events.began(name.as_ref(), Doing::Seal);
        let sealed = self.seal_instance(&instance, label).await;
        if sealed.is_ok() {
            events.ended(name.as_ref(), Doing::Seal, true);
        }
        sealed
    }

    async fn baked(&self) -> Result<Vec<Baked>, CloudError> {
        let clients = self.clients().await?;
        let ask = clients.ec2.describe_images().owners("self");
        let ours = filter(&format!("tag:{}", tag::IMAGE_OF), [self.cluster.as_str()]);
        let mut pages = ask.filters(ours).into_paginator().page_size(PAGE).send();
        let mut found = Vec::new();
        while let Some(page) = pages.next().await {
            let page = page.map_err(|error| refused("ec2:DescribeImages", error))?;
            for shown in page.images().iter().filter_map(Shown::read) {
                match shown.baked() {
                    Ok(baked) => found.push(baked),
                    // It costs something all the same, so that it is named.
                    Err(why) => self.events.warn(
                        None,
                        format!(
                            "{} ({}) is an image of {} and is not shown: {why}; mend its tags, or remove it by its id",
                            shown.id, shown.name, self.cluster
                        ),
                    ),
                }
            }
        }
        found.sort_by(|a, b| (b.label.created, &b.id).cmp(&(a.label.created, &a.id)));
        Ok(found)
    }

    async fn prove(&self, id: &ImageId) -> Result<(), CloudError> {
        let now = Timestamp::try_from(SystemTime::now()).unwrap_or_default();
        let now = Timestamp::from_second(now.as_second()).unwrap_or(now);
        self.tag(&id.0, &[(tag::PROVED, &now.to_string())]).await
    }

    async fn copy(&self, id: &ImageId, region: &str, events: &Events) -> Result<ImageId, CloudError> {
        let clients = self.clients().await?;
        let source = look(&clients.ec2, &id.0).await?.ok_or_else(|| no_such(id, &clients.region))?;
        if region == clients.region {
            return Ok(id.clone());
        }
        let doing = Doing::CopyImage { region: region.to_owned() };
        events.began(None, doing.clone());
        let copied = self.copy_to(&source, region).await;
        if copied.is_ok() {
            events.ended(None, doing, true);
        }
        copied
    }

    async fn remove(&self, id: &ImageId) -> Result<(), CloudError> {
        let clients = self.clients().await?;
        match look(&clients.ec2, &id.0).await? {
            Some(shown) if !shown.tags.contains_key(tag::IMAGE_OF) => Err(CloudError::Unfit {
                missing: format!("{id} ({}) was not made by clusterctl", shown.name),
                cure: format!("if it is to go all the same: `aws ec2 deregister-image --image-id {id}`"),
            }),
            _ => discard(&clients.ec2, &id.0, 1).await,
        }
    }
}

impl Ec2 {
    async fn copy_to(&self, source: &Shown, region: &str) -> Result<ImageId, CloudError> {
        let clients = self.clients().await?;
        let there = clients.ec2_in(region, &self.cancel);
        let label = label::read(&source.name, &source.tags).map_err(|why| CloudError::Unfit {
            missing: format!("{} is no image of clusterctl's: {why}", source.id),
            cure: "make one with `clusterctl ami build`".to_owned(),
        })?;
        if let Some(found) = named(&there, &source.name).await? {
            if !found.is(&label) {
                return Err(seal::taken(&found, region));
            }
            let copied = self.finished(&there, region, &found.id).await?;
            // It was copied before it was tried.
            if let (Some(proved), None) = (source.tags.get(tag::PROVED), found.tags.get(tag::PROVED)) {
                let proved = sdk::Tag::builder().key(tag::PROVED).value(proved).build();
                let tagged = there.create_tags().resources(&found.id).tags(proved).send().await;
                tagged.map_err(|error| refused("ec2:CreateTags", error))?;
            }
            return Ok(copied);
        }
        // Only a tried one is copied, and that it was tried the account may not show yet.
        let now = Timestamp::from_second(Timestamp::now().as_second()).unwrap_or_default();
        let proved = source.tags.get(tag::PROVED).cloned().unwrap_or_else(|| now.to_string());
        let own = source.tags.clone().into_iter().chain([(tag::PROVED.to_owned(), proved)]);
        let own: BTreeMap<String, String> = own.collect();
        let tags = || own.clone().into_iter().filter(|(key, _)| !key.starts_with("aws:")).collect();
        let copied = there
            .copy_image()
            .source_region(&clients.region)
            .source_image_id(&source.id)
            .name(&source.name)
            // The token of this very call: one that is repeated because its answer was lost copies nothing twice.
            .client_token(format!("{}-{}", source.id, nanoseconds()))
            .set_encrypted(source.encrypted.then_some(true))
            .tag_specifications(tag_specification(sdk::ResourceType::Image, tags()))
            .tag_specifications(tag_specification(sdk::ResourceType::Snapshot, tags()))
            .send()
            .await;
        let begun = match copied {
            Ok(answer) => answer.image_id().unwrap_or_default().to_owned(),
            Err(error) => {
                let unanswered = code(&error).is_none();
                let error = refused("ec2:CopyImage", error);
                return Err(if unanswered { self.without_trace(region, &label, error).await } else { error });
            }
        };
        self.finished(&there, region, &begun).await
    }
}

fn nanoseconds() -> u128 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_nanos())
}
