//! Builds images: hosts of a temporary cluster get everything but their names, become images, and hosts that boot from
//! these prove that they are alive and scraped. The temporary cluster goes in every case, and with it what was not proved.

mod install;
mod prove;
mod supply;

use std::time::{Duration, Instant};

use futures::future::join_all;
use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use super::observe::{Observed, last_lines};
use super::{Limits, failure};
use crate::core::bake;
use crate::core::render::Renderer;
use crate::core::seal;
use crate::model::baked::{ImageId, Label};
use crate::model::baking::{BakeReport, Fate, Made, Stage, Took};
use crate::model::event::{Doing, Events, Phase};
use crate::model::host::Role;
use crate::model::report::{Failure, HostOutcome, HostResult, Millis, Proof, Verified};
use crate::model::spec::Spec;
use crate::world::cloud::{Cloud, CloudError, Images};
use crate::world::remote::{Command, Connector, Part, Unwatched};

pub use install::{Clearing, clear};
pub use supply::{Stock, Supply};

/// How often what must go is tried to be removed.
const TRIES: u32 = 3;
const PAUSE: Duration = if cfg!(test) { Duration::from_millis(10) } else { Duration::from_secs(2) };
/// So many of a console's last lines stand in a report.
const CONSOLE_LINES: usize = 20;

/// What a build works with.
pub struct Site<'a> {
    /// The temporary cluster.
    pub build: &'a dyn Cloud,
    /// The same once more, which no first Ctrl-C reaches: it cleans up.
    pub cleaner: &'a dyn Cloud,
    pub connector: &'a dyn Connector,
    pub supply: &'a dyn Supply,
    pub renderer: &'a Renderer,
    pub limits: &'a Limits,
    pub events: &'a Events,
    pub cancel: &'a CancellationToken,
}

/// What is built.
pub struct Order {
    /// As the images have it.
    pub image: Spec,
    /// The temporary cluster.
    pub build: Spec,
    /// Each role with its image's name.
    pub roles: Vec<(Role, String)>,
    /// Which spec it is: a commit, or a sum.
    pub origin: String,
    pub now: Timestamp,
    /// Regions that the images are copied to when they are trusted.
    pub copy_to: Vec<String>,
    pub keep_unproven: bool,
    /// Something of an earlier build is there, and goes first.
    pub leftovers: bool,
}

impl Order {
    fn baked_roles(&self) -> Vec<Role> {
        self.roles.iter().map(|(role, _)| *role).collect()
    }
}

/// What ended a build early.
#[derive(Debug)]
enum Broken {
    Failed(Box<Failure>),
    Interrupted(String),
}

impl Broken {
    fn failed(failure: Failure) -> Self {
        Self::Failed(Box::new(failure))
    }

    fn plain(step: &str, message: impl Into<String>) -> Self {
        Self::failed(failure::plain(step, message.into()))
    }

    fn cloud(step: &str, error: &CloudError) -> Self {
        if matches!(error, CloudError::Cancelled) {
            return Self::Interrupted(step.to_owned());
        }
        let hint = error.cure().map(str::to_owned);
        Self::failed(Failure { hint, ..failure::plain(step, failure::chain(error)) })
    }

    /// The first of the outcomes that is not good; it says which host it was.
    fn host(outcomes: &[HostOutcome]) -> Option<Self> {
        let bad = outcomes.iter().find(|outcome| !outcome.result.is_good())?;
        Some(match &bad.result {
            HostResult::Failed(failure) => {
                let message = format!("{}: {}", bad.host, failure.message);
                Self::failed(Failure { message, ..failure.clone() })
            }
            HostResult::Interrupted { step } => Self::Interrupted(step.clone()),
            HostResult::Changed { .. } | HostResult::Booted { .. } | HostResult::Unchanged => return None,
        })
    }
}

/// A build as far as it came.
#[derive(Default)]
struct Build {
    images: Vec<Made>,
    took: Vec<Took>,
    verified: Option<Verified>,
    proofs: Vec<Proof>,
}

impl Build {
    /// Runs one part of it, and notes how long that took.
    async fn stage<T>(
        &mut self,
        stage: Stage,
        site: &Site<'_>,
        part: impl Future<Output = Result<T, Broken>>,
    ) -> Result<T, Broken> {
        if site.cancel.is_cancelled() {
            return Err(Broken::Interrupted(stage.as_str().to_owned()));
        }
        let begun = Instant::now();
        let ended = part.await;
        self.note(stage, begun);
        ended
    }

    fn note(&mut self, stage: Stage, begun: Instant) {
        self.took.push(Took { stage, seconds: millis(begun) });
    }
}

fn millis(begun: Instant) -> Millis {
    Millis(u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX))
}

/// Builds, proves and cleans up; whatever happens is in the report.
pub async fn build(site: &Site<'_>, order: &Order) -> BakeReport {
    let begun = Instant::now();
    let mut build = Build::default();
    let ended = make(site, order, &mut build).await;
    let removing = Instant::now();
    let left = clean_up(site, order, &mut build.images).await;
    build.note(Stage::Remove, removing);
    let (failure, interrupted) = match ended {
        Ok(()) => (None, None),
        Err(Broken::Failed(failure)) => (Some(*failure), None),
        Err(Broken::Interrupted(step)) => (None, Some(step)),
    };
    // What an interruption broke is no failure of its own.
    let (failure, interrupted) = match (failure, site.cancel.is_cancelled()) {
        (Some(failure), true) => (None, Some(failure.step)),
        (failure, _) => (failure, interrupted),
    };
    BakeReport {
        cluster: order.image.cluster.clone(),
        provider: site.build.provider().to_owned(),
        images: build.images,
        stages: build.took,
        verified: build.verified,
        proofs: build.proofs,
        failure,
        interrupted,
        left,
        seconds: millis(begun),
    }
}

async fn make(site: &Site<'_>, order: &Order, build: &mut Build) -> Result<(), Broken> {
    let images = site.build.images().ok_or_else(|| no_images(site.build))?;
    let hosts = build.stage(Stage::Launch, site, install::launch(site, order)).await?;
    let installed = build.stage(Stage::Install, site, install::install(site, order, hosts)).await?;
    let mut made = Vec::new();
    let sealed = build.stage(Stage::Seal, site, seal_all(site, images, &installed, &mut made)).await;
    build.images = made;
    sealed?;
    let booted = build.stage(Stage::Boot, site, prove::boot(site, order, &build.images.clone())).await?;
    let mut said = prove::Said::default();
    let proved = build.stage(Stage::Prove, site, prove::prove(site, &installed, &booted, &mut said)).await;
    (build.verified, build.proofs) = (said.verified, said.proofs);
    proved?;
    let mut made = std::mem::take(&mut build.images);
    let trusted = trust(site, images, &mut made).await;
    build.images = made;
    trusted?;
    if !order.copy_to.is_empty() {
        let mut made = std::mem::take(&mut build.images);
        let copied = build.stage(Stage::Copy, site, copy(site, order, images, &mut made)).await;
        build.images = made;
        copied?;
    }
    Ok(())
}

fn no_images(cloud: &dyn Cloud) -> Broken {
    Broken::plain("prepare", format!("{} has no images", cloud.provider()))
}

/// The builders become images, all at once; each image that was made is noted, also where another one failed.
async fn seal_all(
    site: &Site<'_>,
    images: &dyn Images,
    installed: &install::Installed,
    made: &mut Vec<Made>,
) -> Result<(), Broken> {
    let seals =
        installed.builders.iter().map(|(on, label)| async move { (label, seal_one(site, images, on, label).await) });
    let mut broken = None;
    for (label, sealed) in join_all(seals).await {
        match sealed {
            Ok(id) => made.push(Made {
                id,
                name: label.name.clone(),
                role: label.role,
                fate: Fate::Unproven,
                copies: std::collections::BTreeMap::new(),
            }),
            Err(error) => broken = broken.or(Some(error)),
        }
    }
    broken.map_or(Ok(()), Err)?;
    // They are switched off and serve nobody any more.
    let ids: Vec<_> = installed.builders.iter().map(|(on, _)| on.host.id.clone()).collect();
    site.build.terminate(&ids, site.events).await.map_err(|error| Broken::cloud("terminate", &error))
}

async fn seal_one(site: &Site<'_>, images: &dyn Images, on: &Observed, label: &Label) -> Result<ImageId, Broken> {
    install::clear(on, site.limits, site.events).await.map_err(|result| {
        let outcome = failure::outcome(&on.host, result);
        Broken::host(&[outcome]).unwrap_or_else(|| Broken::plain("clear", "it did not come to its end"))
    })?;
    if site.cancel.is_cancelled() {
        return Err(Broken::Interrupted("seal".to_owned()));
    }
    images.seal(&on.host.id, label, site.events).await.map_err(|error| Broken::cloud("seal", &error))
}

/// Every image was tried: from here on hosts may be launched from them.
async fn trust(site: &Site<'_>, images: &dyn Images, made: &mut [Made]) -> Result<(), Broken> {
    if site.cancel.is_cancelled() {
        return Err(Broken::Interrupted("prove".to_owned()));
    }
    for image in made {
        images.prove(&image.id).await.map_err(|error| Broken::cloud("prove", &error))?;
        image.fate = Fate::Trusted;
    }
    Ok(())
}

/// One region's failure is not the others'.
async fn copy(site: &Site<'_>, order: &Order, images: &dyn Images, made: &mut [Made]) -> Result<(), Broken> {
    let mut broken = None;
    for image in made {
        let id = &image.id;
        let copies = order.copy_to.iter().map(|region| async move {
            site.events.began(None, Doing::CopyImage { region: region.clone() });
            let copied = images.copy(id, region, site.events).await;
            site.events.ended(None, Doing::CopyImage { region: region.clone() }, copied.is_ok());
            (region, copied)
        });
        for (region, copied) in join_all(copies).await {
            match copied {
                Ok(copy) => drop(image.copies.insert(region.clone(), copy)),
                Err(error) => broken = broken.or(Some(Broken::cloud(&format!("copy to {region}"), &error))),
            }
        }
    }
    broken.map_or(Ok(()), Err)
}

/// Takes away what was not proved and the temporary cluster; the answer says what would not go.
async fn clean_up(site: &Site<'_>, order: &Order, made: &mut [Made]) -> Vec<String> {
    site.events.phase(Phase::Remove);
    let mut left = Vec::new();
    for image in made.iter_mut().filter(|image| image.fate == Fate::Unproven && !order.keep_unproven) {
        let Some(images) = site.cleaner.images() else { continue };
        match insist(|| images.remove(&image.id)).await {
            Ok(()) => image.fate = Fate::Removed,
            Err(error) => {
                image.fate = Fate::Left;
                left.push(format!("the image {}: {}", image.id, failure::chain(&error)));
            }
        }
    }
    if let Err(error) = insist(|| site.cleaner.destroy(false, site.events)).await {
        left.push(format!(
            "the cluster {}: {}; `clusterctl down` of {} removes it, and so does the next build",
            order.build.cluster,
            failure::chain(&error),
            order.image.cluster
        ));
    }
    left
}

/// A cloud that throttles, or that is not done with something else yet, does later what it refuses now.
async fn insist<T, F: Future<Output = Result<T, CloudError>>>(mut attempt: impl FnMut() -> F) -> Result<T, CloudError> {
    let mut tries = 1;
    loop {
        match attempt().await {
            Err(error) if tries >= TRIES => return Err(error),
            Err(_) => tries += 1,
            Ok(done) => return Ok(done),
        }
        tokio::time::sleep(PAUSE).await;
    }
}

#[cfg(test)]
mod tests;
