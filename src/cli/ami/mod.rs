//! Images: `ami build`, `list`, `prune` and `provision`.

mod build;
mod list;
mod provision;
mod prune;

use std::collections::BTreeMap;

use anyhow::Result;
use clap::Subcommand;

use super::Global;
use super::context::Session;
use crate::core::bake::{self, Before, Builder};
use crate::model::baked::ImageId;
use crate::model::host::Role;
use crate::model::spec::{ProviderSpec, Spec};
use crate::world::cloud::{Cloud, CloudError, Images, Removed};

/// Images whose hosts join by themselves: build and prove them, list them, remove old ones
#[derive(Debug, Subcommand)]
pub enum AmiVerb {
    Build(build::BuildArgs),
    List(list::ListArgs),
    Prune(prune::PruneArgs),
    Provision(provision::ProvisionArgs),
}

impl AmiVerb {
    /// As it is typed.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Build(_) => "ami build",
            Self::List(_) => "ami list",
            Self::Prune(_) => "ami prune",
            Self::Provision(_) => "ami provision",
        }
    }
}

pub async fn run(global: Global, verb: AmiVerb) -> Result<u8> {
    match verb {
        AmiVerb::Build(args) => build::run(global, args).await,
        AmiVerb::List(args) => list::run(global, args).await,
        AmiVerb::Prune(args) => prune::run(global, args).await,
        AmiVerb::Provision(args) => provision::run(global, args).await,
    }
}

/// A role on the command line.
fn role(text: &str) -> Result<Role, String> {
    match text {
        "server" => Ok(Role::Server),
        "node" => Ok(Role::Node),
        other => Err(format!("no role is named \"{}\": there are server and node", other.escape_debug())),
    }
}

/// The provider's images.
fn images(session: &Session) -> Result<&dyn Images> {
    if matches!(session.spec.provider, ProviderSpec::Inventory { .. }) {
        return Err(bake::BakeError::NoImages.into());
    }
    session.cloud.images().ok_or_else(|| {
        CloudError::Unsupported {
            provider: session.cloud.provider(),
            what: "keep images of hosts",
            cure: "use provider = \"ec2\" or the sandbox".to_owned(),
        }
        .into()
    })
}

/// Who uses which image: hosts that are there, and what new ones of the fleet are launched from.
async fn used(session: &Session) -> Result<BTreeMap<ImageId, Vec<String>>> {
    let template = async {
        let Some(fleet) = session.cloud.fleet() else { return Ok(None) };
        match fleet.look().await {
            // Whoever may not look has made none.
            Err(error) if error.is_denied() => Ok(None),
            looked => looked,
        }
    };
    let (hosts, fleet) = tokio::try_join!(session.cloud.list(), template)?;
    let mut used = bake::uses(&hosts, &session.spec);
    if let Some((make, name)) = fleet.and_then(|fleet| Some((fleet.make?, fleet.name))) {
        used.entry(ImageId(make.image)).or_default().push(format!("the launch template {name}"));
    }
    Ok(used)
}

/// Who builds here.
fn me(session: &Session) -> Builder {
    Builder::new(&session.paths.machine(), std::process::id(), jiff::Timestamp::now())
}

/// The temporary cluster of the session's own.
fn temporary(session: &Session, roles: &[Role], builder: &Builder) -> Result<Spec> {
    let build = bake::build_cluster(&session.spec.cluster)?;
    Ok(bake::build_spec(&session.spec, &build, builder, roles))
}

/// What is in the temporary cluster now. Who is alone with its lock and lease knows that nobody works on it.
async fn before(session: &Session, build: &dyn Cloud, spec: &Spec, me: &Builder, alone: bool) -> Result<Before> {
    // Instances say themselves that they are a build's.
    let sandbox = matches!(spec.provider, ProviderSpec::Sandbox { .. });
    let marked = sandbox && session.paths.builder(&spec.cluster).exists();
    Ok(match bake::before(&build.list().await?, me, marked) {
        Before::Busy(_) if alone => Before::Leftovers,
        before => before,
    })
}

/// What a build of the cluster's images left goes with the cluster; one that is under way stays its own.
///
/// # Errors
/// Those of the provider.
pub async fn remove_build(session: &Session, removed: &mut Removed) -> Result<()> {
    let me = me(session);
    // A name that is too long for a build had none.
    let Ok(spec) = temporary(session, &[], &me) else { return Ok(()) };
    match &spec.provider {
        ProviderSpec::Inventory { .. } => return Ok(()),
        // Asking for it would make its folder.
        ProviderSpec::Sandbox { .. } if !session.paths.sandbox_cluster(&spec.cluster).exists() => return Ok(()),
        _ => {}
    }
    let build = session.another(&spec, &session.cancel)?;
    let lock = match session.lock_of(&spec.cluster, &build, "down").await {
        Ok(lock) => lock,
        Err(error) => {
            removed.kept.push(format!("{}, in which its images are built: {error}", spec.cluster));
            return Ok(());
        }
    };
    remove_leftovers(session, build.as_ref(), &spec, &me, lock.is_alone(), removed).await?;
    lock.remove();
    Ok(())
}

/// The same for whoever holds the build's lock.
async fn remove_leftovers(
    session: &Session,
    build: &dyn Cloud,
    spec: &Spec,
    me: &Builder,
    alone: bool,
    removed: &mut Removed,
) -> Result<()> {
    match before(session, build, spec, me, alone).await? {
        Before::Busy(other) => {
            removed.kept.push(format!("{}: {} builds images there since {}", spec.cluster, other.machine, other.since));
            return Ok(());
        }
        Before::Foreign(_) => return Ok(()),
        Before::Nothing | Before::Leftovers => {}
    }
    match build.destroy(false, &session.events).await {
        Ok(more) => {
            removed.hosts.extend(more.hosts);
            removed.others.extend(more.others);
            removed.kept.extend(more.kept);
        }
        // The cluster itself is gone by now, and whoever may not touch its builds has made none.
        Err(error) => removed.kept.push(format!("{}, in which its images are built: {error}", spec.cluster)),
    }
    session.forget_hosts_of(&spec.cluster)
}
