use anyhow::Result;
use clap::Args;

use super::images;
use crate::cli::context::Session;
use crate::cli::{Global, exit};
use crate::core::bake::{self, Sweep};
use crate::model::baked::Baked;
use crate::ui::Question;
use crate::ui::render::Listing;

/// Remove old images: all but the newest trusted ones of each role, and those that were never proved
///
/// What a host runs from stays, whatever its age.
#[derive(Debug, Args)]
pub struct PruneArgs {
    /// How many trusted images of each role stay
    #[arg(long, value_name = "N", default_value_t = 3)]
    keep: usize,
    /// Only say what would go
    #[arg(long)]
    dry_run: bool,
}

pub async fn run(global: Global, args: PruneArgs) -> Result<u8> {
    let session = Session::open(global, "ami prune")?;
    let provided = images(&session)?;
    let _lock = session.lock("ami prune").await?;
    let (baked, hosts) = tokio::try_join!(provided.baked(), session.cloud.list())?;
    let used = bake::uses(&hosts, &session.spec);
    let (mut going, mut kept) = (Vec::new(), Vec::new());
    for (image, sweep) in bake::sweep(&baked, args.keep, &used, jiff::Timestamp::now()) {
        match sweep {
            Sweep::Remove(why) => going.push((line(&image, &why), image)),
            Sweep::Keep(why) => kept.push(line(&image, &why)),
        }
    }
    let lines: Vec<String> = going.iter().map(|(line, _)| line.clone()).collect();
    if args.dry_run {
        session.show(&Listing { document: "to be removed", lines: &lines, kept: &kept }, true)?;
        return Ok(exit::OK);
    }
    if !going.is_empty() && session.asks_before_changes() {
        session.show_to_people(&Listing { document: "to be removed", lines: &lines, kept: &kept });
        if !session.ui.confirm(Question::YesNo { what: "Remove these images?" })? {
            session.events.note(None, "nothing was removed");
            return Ok(exit::FAILED);
        }
    }
    let (mut removed, mut failed) = (Vec::new(), false);
    for (line, image) in going {
        if session.cancel.is_cancelled() {
            break;
        }
        match provided.remove(&image.id).await {
            Ok(()) => removed.push(line),
            // One's trouble is not the others'.
            Err(error) => {
                session.ui.error(&error, error.cure());
                failed = true;
                kept.push(format!("{}: it could not be removed: {error}", image.id));
            }
        }
    }
    session.show(&Listing { document: "removed", lines: &removed, kept: &kept }, true)?;
    Ok(match () {
        () if session.cancel.is_cancelled() => exit::INTERRUPTED,
        () if failed => exit::FAILED,
        () => exit::OK,
    })
}

fn line(image: &Baked, why: &str) -> String {
    format!("{} {} ({}): {why}", image.label.role, image.id, image.label.name)
}
