use std::sync::Arc;

use anyhow::Result;
use clap::{Args, Subcommand};

use super::context::Session;
use super::{Global, exit};
use crate::core::bake::build_cluster;
use crate::model::spec::Spec;
use crate::ui::render::Listing;
use crate::ui::{Format, Question};

/// Show or release the lease of whoever changes the cluster just now (EC2)
///
/// A command that changes a cluster on EC2 holds a lease on it, so that those of other machines wait; it runs out five
/// minutes after its owner was last heard of.
#[derive(Debug, Args)]
pub struct LockArgs {
    #[command(subcommand)]
    verb: Option<LockVerb>,
    /// That of whoever builds the cluster's images (`ami build`, `ami prune`)
    #[arg(long, global = true)]
    build: bool,
}

#[derive(Debug, Subcommand)]
enum LockVerb {
    /// Who holds the lease, and since when [default]
    Show,
    /// Take it from its holder, who stops when that is noticed; for one that is known to be dead
    Release,
}

pub async fn run(global: Global, args: LockArgs) -> Result<u8> {
    let session = Session::open(global, "lock")?;
    let (cluster, cloud) = if args.build {
        let spec = Spec { cluster: build_cluster(&session.spec.cluster)?, ..session.spec.clone() };
        let cloud = session.another(&spec, &session.cancel)?;
        (spec.cluster, cloud)
    } else {
        (session.spec.cluster.clone(), Arc::clone(&session.cloud))
    };
    let Some(leases) = cloud.leases() else {
        anyhow::bail!("hosts of provider = \"{}\" have no lease: only EC2's do", session.spec.provider.as_str());
    };
    let lease = leases.lease().await?;
    let lines: Vec<String> = lease.iter().map(crate::model::lease::Lease::holder).collect();
    match (args.verb.unwrap_or(LockVerb::Show), &lease) {
        (LockVerb::Release, Some(lease)) => {
            if !session.global.yes {
                let what = format!("{cluster} is being changed by {}. Release its lease?", lease.holder());
                if !session.ui.confirm(Question::YesNo { what: &what })? {
                    session.events.note(None, "nothing was changed");
                    return Ok(exit::FAILED);
                }
            }
            leases.end_lease(&lease.id).await?;
            session.show(&Listing { document: "released", lines: &lines, kept: &[] }, true)?;
        }
        (LockVerb::Show | LockVerb::Release, _) => {
            if lines.is_empty() {
                session.events.note(None, format!("nobody holds the lease on {cluster}"));
            }
            if lines.is_empty() && matches!(session.global.output, Format::Text) {
                return Ok(exit::OK);
            }
            session.show(&Listing { document: "lease", lines: &lines, kept: &[] }, true)?;
        }
    }
    Ok(exit::OK)
}
