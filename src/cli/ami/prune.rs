use anyhow::Result;
use clap::Args;

use super::{images, me, remove_leftovers, temporary, used};
use crate::cli::context::{Held, Session};
use crate::cli::{Global, exit};
use crate::core::bake::{self, Sweep};
use crate::core::names::listed;
use crate::model::baked::Baked;
use crate::ui::Question;
use crate::ui::render::Listing;
use crate::world::cloud::Removed;

/// Remove old images: all but the newest trusted ones of each role, those that were never proved, and what a build left
///
/// What a host or the fleet's launch template is launched from stays, whatever its age.
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
    let me = me(&session);
    let build_spec = temporary(&session, &[], &me)?;
    let build = session.another(&build_spec, &session.cancel)?;
    // So that nobody makes an image meanwhile. Whoever only looks takes what is under way for under way.
    let lock = match args.dry_run {
        true => None,
        false => Some(session.lock_of(&build_spec.cluster, &build, "ami prune").await?),
    };
    let alone = lock.as_ref().is_some_and(Held::is_alone);
    let (baked, used) = tokio::try_join!(async { Ok(provided.baked().await?) }, used(&session))?;
    let (mut going, mut kept) = (Vec::new(), Vec::new());
    let now = (!alone).then(jiff::Timestamp::now);
    for (image, sweep) in bake::sweep(&baked, args.keep, &used, now) {
        match sweep {
            Sweep::Remove(why) => going.push((line(&image, &why), image)),
            Sweep::Keep(why) => kept.push(line(&image, &why)),
        }
    }
    let mut lines: Vec<String> = going.iter().map(|(line, _)| line.clone()).collect();
    let hosts = build.list().await?.into_iter().filter(|host| host.state.exists());
    let hosts: Vec<String> = hosts.map(|host| host.name.to_string()).collect();
    if !hosts.is_empty() {
        let said = if args.dry_run { ", unless it is under way" } else { "" };
        lines.push(format!("all of {}, which a build left{said}: {}", build_spec.cluster, listed(&hosts)));
    }
    if args.dry_run {
        session.show(&Listing { document: "to be removed", lines: &lines, kept: &kept }, true)?;
        return Ok(exit::OK);
    }
    if !lines.is_empty() && session.asks_before_changes() {
        session.show_to_people(&Listing { document: "to be removed", lines: &lines, kept: &kept });
        if !session.ui.confirm(Question::YesNo { what: "Remove all that?" })? {
            session.events.note(None, "nothing was removed");
            return Ok(exit::FAILED);
        }
    }
    let mut left = Removed::default();
    remove_leftovers(&session, build.as_ref(), &build_spec, &me, alone, &mut left).await?;
    kept.extend(left.kept);
    let mut removed: Vec<String> = left.hosts.iter().map(|host| format!("host {host} of a build")).collect();
    removed.extend(left.others);
    let mut failed = false;
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
    if let Some(lock) = lock {
        lock.remove();
    }
    Ok(match () {
        () if session.cancel.is_cancelled() => exit::INTERRUPTED,
        () if failed => exit::FAILED,
        () => exit::OK,
    })
}

fn line(image: &Baked, why: &str) -> String {
    format!("{} {} ({}): {why}", image.label.role, image.id, image.label.name)
}
