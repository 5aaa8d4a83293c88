use anyhow::Result;
use clap::Args;

use super::{images, used};
use crate::cli::context::Session;
use crate::cli::{Global, exit};
use crate::model::baking::{ImagesReport, Listed};

/// List the cluster's images: what is in them, whether they are proved, and who uses them
#[derive(Debug, Args)]
pub struct ListArgs {}

pub async fn run(global: Global, ListArgs {}: ListArgs) -> Result<u8> {
    let session = Session::open(global, "ami list")?;
    let provided = images(&session)?;
    let (baked, mut used) = tokio::try_join!(async { Ok(provided.baked().await?) }, used(&session))?;
    let listed = baked.into_iter().map(|baked| Listed { used_by: used.remove(&baked.id).unwrap_or_default(), baked });
    let report = ImagesReport {
        cluster: session.spec.cluster.clone(),
        provider: session.cloud.provider().to_owned(),
        images: listed.collect(),
    };
    session.show(&report, true)?;
    Ok(exit::OK)
}
