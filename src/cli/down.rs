use anyhow::Result;
use clap::Args;

use super::context::Session;
use super::{Global, ami, exit};
use crate::core::names::listed;
use crate::model::event::Phase;
use crate::model::host::Host;
use crate::model::spec::ProviderSpec;
use crate::ui::Question;
use crate::ui::render::Listing;
use crate::ui::words::count;

/// Take the whole cluster away: hosts, network, files; repeatable
///
/// Removes only what clusterctl made. A sandbox goes without a question; elsewhere the cluster's name must be typed,
/// or --yes given.
#[derive(Debug, Args)]
pub struct DownArgs {
    /// Keep the hosts' volumes (EC2); they cost money until you delete them
    #[arg(long)]
    keep_data: bool,
}

pub async fn run(global: Global, args: DownArgs) -> Result<u8> {
    let session = Session::open(global, "down")?;
    let lock = session.lock("down").await?;
    let done = remove(&session, &args).await;
    // Also where nothing was removed: a cluster that never was gets no folder here by asking for its end.
    lock.remove();
    done
}

async fn remove(session: &Session, args: &DownArgs) -> Result<u8> {
    if !agreed(session, args.keep_data).await? {
        session.events.note(None, "nothing was removed");
        return Ok(exit::FAILED);
    }
    session.events.phase(Phase::Remove);
    let mut removed = session.cloud.destroy(args.keep_data, &session.events).await?;
    session.forget_hosts()?;
    ami::remove_build(session, &mut removed).await?;
    for kept in &removed.kept {
        session.events.note(None, format!("left: {kept}"));
    }
    let mut lines: Vec<String> = removed.hosts.iter().map(|host| format!("host {host}")).collect();
    lines.extend(removed.others);
    session.show(&Listing { document: "removed", lines: &lines, kept: &removed.kept }, true)?;
    Ok(exit::OK)
}

/// What goes is named first: somebody may have meant another cluster.
async fn agreed(session: &Session, keep_data: bool) -> Result<bool> {
    // The sandbox holds nothing of value, and an inventory refuses by itself.
    if !session.asks_before_changes() || !matches!(session.spec.provider, ProviderSpec::Ec2(_)) {
        return Ok(true);
    }
    let hosts: Vec<Host> = session.cloud.list().await?.into_iter().filter(|host| host.state.exists()).collect();
    let (baked, hosts): (Vec<Host>, Vec<Host>) = hosts.into_iter().partition(Host::is_baked);
    let mut names: Vec<String> = hosts.iter().map(|host| format!("{} ({})", host.name, host.id)).collect();
    if !baked.is_empty() {
        names.push(format!("{} that came from an image", count(baked.len(), "instance")));
    }
    let what = format!(
        "All of {} goes, {}: {}",
        session.spec.cluster,
        if keep_data { "but for its volumes" } else { "its data included" },
        if names.is_empty() { "no instance, and what was made around them".to_owned() } else { listed(&names) }
    );
    Ok(session.ui.confirm(Question::Name { what: &what, cluster: &session.spec.cluster })?)
}
