use anyhow::Result;
use clap::Args;

use super::context::Session;
use super::{Global, exit};
use crate::model::event::Phase;
use crate::ui::render::Listing;

/// Take the whole cluster away: hosts, network, files; repeatable
///
/// Removes only what clusterctl made. A sandbox goes without a question.
#[derive(Debug, Args)]
pub struct DownArgs {}

pub async fn run(global: Global, _: DownArgs) -> Result<u8> {
    let session = Session::open(global, "down")?;
    let _lock = session.lock("down")?;
    session.events.phase(Phase::Remove);
    let removed = session.cloud.destroy(&session.events).await?;
    session.forget_host_keys()?;
    let mut lines: Vec<String> = removed.hosts.iter().map(|host| format!("host {host}")).collect();
    lines.extend(removed.others);
    session.show(&Listing { document: "removed", lines: &lines }, true)?;
    Ok(exit::OK)
}
