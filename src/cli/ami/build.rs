use anyhow::{Context as _, Result};
use clap::Args;
use tokio_util::sync::CancellationToken;

use super::{before, images, me, role, temporary};
use crate::cli::connector::connector;
use crate::cli::context::Session;
use crate::cli::{Global, Usage, exit};
use crate::core::bake::{self, BakeError, Before, Builder};
use crate::core::{image, plan as planning, specfile};
use crate::engine::Limits;
use crate::engine::bake::{Order, Site, Stock, build};
use crate::engine::plan::whole;
use crate::model::host::Role;
use crate::model::plan::{Plan, Reason, ResourceStep};
use crate::model::spec::{ProviderSpec, Span, Spec};
use crate::world::cloud::Cloud;
use crate::world::commit;

/// Build an image of a role whose hosts join by themselves, and prove it before anybody may use it
///
/// A temporary cluster, <cluster>-build, has one host a role; everything is installed there and nothing started, what
/// belongs to one machine is cleared, and the disk becomes an image. A host that boots from it must be alive in Consul and
/// scraped by Prometheus: only then is the image trusted. The temporary cluster goes at the end, however that comes.
#[derive(Debug, Args)]
pub struct BuildArgs {
    /// Build the image of this role; may be given more than once [default: node on EC2, both in the sandbox]
    #[arg(long = "role", value_name = "ROLE", value_parser = role)]
    roles: Vec<Role>,
    /// The image's name in the sandbox [default: the cluster's]; AMIs are named after cluster, role and time
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Copy the trusted AMI to this region too, beside those of [image]; may be given more than once
    #[arg(long, value_name = "REGION", value_parser = region)]
    copy_to: Vec<String>,
    /// Leave an image that could not be proved, to be looked at; nothing uses it
    #[arg(long)]
    keep_unproven: bool,
    /// How long the hosts that boot from the images may take until they are alive and scraped
    #[arg(long, default_value = "10m", value_name = "DURATION", value_parser = Span::positive)]
    prove_timeout: Span,
    /// End a build of this cluster's images that another machine seems to be at
    #[arg(long)]
    take_over: bool,
}

fn region(text: &str) -> Result<String, String> {
    if specfile::is_region(text) {
        return Ok(text.to_owned());
    }
    Err("write a region's name, such as eu-west-1".to_owned())
}

pub async fn run(global: Global, args: BuildArgs) -> Result<u8> {
    let session = Session::open(global, "ami build")?;
    let roles = bake::roles(&args.roles, &session.spec.provider)?;
    let me = me(&session);
    let build_spec = temporary(&session, &roles, &me)?;
    let copy_to = copies(&session.spec, &args.copy_to)?;
    let provided = images(&session)?;
    let names = names(&session.spec, &roles, args.name.as_deref(), &me)?;
    // Nothing of the cluster itself is changed: it may be meanwhile.
    let temporary = session.another(&build_spec, &session.cancel)?;
    if args.take_over
        && let Some(leases) = temporary.leases()
        && let Some(lease) = leases.lease().await?
    {
        leases.end_lease(&lease.id).await?;
    }
    let lock = session.lock_of(&build_spec.cluster, &temporary, "ami build").await?;
    let baked = provided.baked().await?;
    for (role, name) in &names {
        if baked.iter().any(|image| image.label.name == *name && image.label.role == *role) {
            return Err(BakeError::Taken { name: name.clone(), role: *role }.into());
        }
    }
    let before = before(&session, temporary.as_ref(), &build_spec, &me, lock.is_alone()).await?;
    refuse(&session, &build_spec, &before, args.take_over)?;
    for service in image::left_out(&session.spec, &roles) {
        session.events.warn(None, format!("the service {service} is on hosts of certain names only: no image has it"));
    }
    if !agreed(&session, temporary.as_ref(), &build_spec, &names, &before).await? {
        session.events.note(None, "nothing was changed");
        return Ok(exit::FAILED);
    }
    let order = Order {
        image: bake::image_spec(&session.spec),
        build: build_spec,
        roles: names,
        origin: commit::of(session.spec_file()).await,
        now: me.since,
        copy_to,
        keep_unproven: args.keep_unproven,
        leftovers: before != Before::Nothing,
    };
    // A disk that was made of an image just now is slow at first, and its host boots before it can join.
    let limits = Limits { verify: args.prove_timeout.as_duration(), ..session.limits };
    bake_and_tell(&session, temporary.as_ref(), &order, &limits).await
}

/// Nobody's hosts are taken away but a build's, and none of a build that runs.
fn refuse(session: &Session, build: &Spec, before: &Before, take_over: bool) -> std::result::Result<(), BakeError> {
    match before {
        Before::Busy(other) if !take_over => {
            let who = format!("{} (process {})", other.machine, other.pid);
            Err(BakeError::Busy { cluster: session.spec.cluster.clone(), who, since: other.since })
        }
        Before::Foreign(host) => Err(BakeError::Foreign { cluster: build.cluster.clone(), host: host.clone() }),
        _ => Ok(()),
    }
}

/// So that the next build knows what this one leaves, should it be killed.
fn mark(session: &Session, order: &Order) -> Result<()> {
    let mark = session.paths.builder(&order.build.cluster);
    let folder = session.paths.cluster(&order.build.cluster);
    std::fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
    std::fs::write(&mark, format!("{}\n", std::process::id())).with_context(|| format!("writing {}", mark.display()))
}

/// From here on something may be there that has to go.
async fn bake_and_tell(session: &Session, temporary: &dyn Cloud, order: &Order, limits: &Limits) -> Result<u8> {
    mark(session, order)?;
    session.global.stop.cleans_up();
    // The first Ctrl-C ends the build, not the cleaning up; the second one ends all.
    let cleaner = session.another(&order.build, &CancellationToken::new())?;
    let global = Global { ask_sudo_password: false, ..session.global.clone() };
    let connector = connector(&global, &session.paths, &order.build, &session.ui, &session.cancel)?;
    let site = Site {
        build: temporary,
        cleaner: cleaner.as_ref(),
        connector: &connector,
        supply: &Stock { cache: &session.cache, sources: &session.sources, cancel: &session.cancel },
        renderer: &session.renderer,
        limits,
        events: &session.events,
        cancel: &session.cancel,
    };
    let report = build(&site, order).await;
    drop(connector);
    if report.left.is_empty() {
        session.forget_hosts_of(&order.build.cluster)?;
        // Nothing else was in it.
        let _ = std::fs::remove_dir(session.paths.cluster(&order.build.cluster));
    }
    session.show(&report, true)?;
    Ok(match () {
        () if report.is_good() => exit::OK,
        () if report.interrupted.is_some() => exit::INTERRUPTED,
        () => exit::HOSTS_FAILED,
    })
}

/// Those of the spec and of the command line, but for the region where the image is made.
fn copies(spec: &Spec, asked: &[String]) -> Result<Vec<String>> {
    let ProviderSpec::Ec2(ec2) = &spec.provider else {
        if asked.is_empty() {
            return Ok(Vec::new());
        }
        return Err(Usage("--copy-to is for AMIs: an image of the sandbox is on this machine alone".to_owned()).into());
    };
    let mut regions: Vec<String> = spec.image.regions.iter().chain(asked).cloned().collect();
    regions.retain(|region| Some(region) != ec2.region.as_ref());
    regions.sort();
    regions.dedup();
    Ok(regions)
}

fn names(spec: &Spec, roles: &[Role], name: Option<&str>, me: &Builder) -> Result<Vec<(Role, String)>> {
    let named = |role: &Role| Ok((*role, bake::image_name(spec, *role, name, me.since)?));
    let names: std::result::Result<Vec<_>, BakeError> = roles.iter().map(named).collect();
    names.map_err(|error| Usage(error.to_string()).into())
}

/// What will be made, and what of it stays: asked about once, before any of it is made.
async fn agreed(
    session: &Session,
    temporary: &dyn Cloud,
    build: &Spec,
    names: &[(Role, String)],
    before: &Before,
) -> Result<bool> {
    if !session.asks_before_changes() && session.global.verbose == 0 {
        return Ok(true);
    }
    let plan = plan(build, names, before, temporary.survey().await?);
    if session.asks_before_changes() {
        return session.confirm(&plan, &format!("Build images of {}?", session.spec.cluster));
    }
    session.show_to_people(&plan);
    Ok(true)
}

fn plan(build: &Spec, names: &[(Role, String)], before: &Before, mut resources: Vec<ResourceStep>) -> Plan {
    let cluster = &build.cluster;
    let step = |what: String, reason: &str| ResourceStep { what, reason: Reason(reason.to_owned()) };
    match before {
        Before::Nothing | Before::Foreign(_) => {}
        Before::Leftovers => resources.insert(0, step(format!("remove all of {cluster}"), "an earlier build left it")),
        Before::Busy(other) => {
            let why = format!("--take-over: {} builds there since {}", other.machine, other.since);
            resources.insert(0, step(format!("remove all of {cluster}"), &why));
        }
    }
    let image =
        |(role, name): &(Role, String)| step(format!("make the image {name}"), &format!("any {role} can boot from it"));
    resources.extend(names.iter().map(image));
    let roles: Vec<Role> = names.iter().map(|(role, _)| *role).collect();
    let launched = |name, role, why: &str| planning::launched(&name, role, why);
    let builders = roles.iter().map(|role| launched(bake::builder_host(cluster, *role), *role, "it becomes the image"));
    let watcher = bake::watching_server(build, &roles);
    let watcher = watcher.map(|name| launched(name, Role::Server, "it tells whether the image's host has joined"));
    let proving = bake::proving_hosts(build, &roles);
    let proving =
        proving.into_iter().map(|(name, role)| launched(name, role, "it boots from the image, which it proves"));
    let hosts = builders.chain(watcher).chain(proving).collect();
    whole(resources, hosts, Vec::new(), vec![format!("all of {cluster} goes at the end; the images stay")])
}
