//! The builders, and the server that watches: launched, and given all that the spec says.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::{Broken, Command, Events, Limits, Observed, Order, Part, Site, Unwatched, bake, failure, last_lines, seal};
use crate::core::plan as planning;
use crate::core::render::{RenderError, layout};
use crate::engine::launch::launch_for_build;
use crate::engine::observe::observe;
use crate::engine::plan::{Artifacts, Planned, Source, image_query, needed, peers, plan_hosts, plan_image};
use crate::engine::{apply, host_keys};
use crate::model::artifact::ArtifactId;
use crate::model::baked::Label;
use crate::model::event::{Doing, Phase};
use crate::model::facts::FactsQuery;
use crate::model::host::{Host, Role};
use crate::model::name::HostName;
use crate::model::report::{Failure, HostResult};
use crate::world::cloud::Launch;

/// The hosts that became ready for their images, and who watches.
pub struct Installed {
    pub builders: Vec<(Observed, Label)>,
    pub watcher: Option<Observed>,
}

/// What an earlier build left goes; then the ground and the hosts.
pub async fn launch(site: &Site<'_>, order: &Order) -> Result<Vec<Host>, Broken> {
    if order.leftovers {
        let cluster = &order.build.cluster;
        site.events.note(None, format!("removing what an earlier build left of {cluster}"));
        site.build.destroy(false, site.events).await.map_err(|error| Broken::cloud("remove leftovers", &error))?;
    }
    site.events.phase(Phase::Prepare);
    site.build.prepare(site.events).await.map_err(|error| Broken::cloud("prepare", &error))?;
    let roles = order.baked_roles();
    let build = &order.build.cluster;
    let builders = roles.iter().map(|role| (bake::builder_host(build, *role), *role));
    let watcher = bake::watching_server(&order.build, &roles).map(|name| (name, Role::Server));
    let launch =
        |(name, role)| Launch { lifetime: Some(bake::LIFETIME + site.limits.verify), ..Launch::plain(name, role) };
    let launches: Vec<Launch> = builders.chain(watcher).map(launch).collect();
    let (hosts, failed) = launch_for_build(site.build, &launches, site.limits, site.events).await;
    Broken::host(&failed).map_or(Ok(hosts), Err)
}

/// Looks at hosts that were launched just now, whose keys their consoles tell.
pub async fn look(
    site: &Site<'_>,
    hosts: Vec<Host>,
    query: &(dyn Fn(&Host) -> FactsQuery + Send + Sync),
) -> Result<Vec<Observed>, Broken> {
    site.events.phase(Phase::Observe);
    let hosts =
        host_keys::learn(hosts, site.build, site.connector, site.limits.host_keys, site.cancel, site.events).await;
    let (observed, failed) = observe(hosts, site.connector, query, false, site.limits, site.events).await;
    Broken::host(&failed).map_or(Ok(observed), Err)
}

pub async fn install(site: &Site<'_>, order: &Order, hosts: Vec<Host>) -> Result<Installed, Broken> {
    let watcher = bake::watching_server(&order.build, &order.baked_roles());
    let queries = queries(site, order, &hosts, watcher.as_ref()).map_err(|error| of_render(&error))?;
    let query = |host: &Host| queries.get(&host.name).cloned().unwrap_or_default();
    let observed = look(site, hosts, &query).await?;
    if site.cancel.is_cancelled() {
        return Err(Broken::Interrupted("observe".to_owned()));
    }
    let artifacts = artifacts(site, order, &observed, watcher.as_ref()).await?;
    site.events.phase(Phase::Plan);
    let (watching, builders): (Vec<Observed>, Vec<Observed>) =
        observed.into_iter().partition(|on| Some(&on.host.name) == watcher.as_ref());
    let labels: Vec<Label> = builders.iter().filter_map(|on| label(order, on, &artifacts)).collect();
    if labels.len() != builders.len() {
        return Err(Broken::plain("plan", "a builder has a processor that no program is released for"));
    }
    let mut planned = plan_builders(site, order, &builders, &labels, &artifacts)?;
    planned.extend(plan_watcher(site, order, &watching, &artifacts).await?);
    site.events.phase(Phase::Apply);
    let jobs: Vec<_> = planned.iter().map(Planned::job).collect();
    let run_id = format!("build-{}", order.now.as_millisecond());
    let outcomes = apply::apply(&jobs, &run_id, site.limits, site.events).await;
    if let Some(broken) = Broken::host(&outcomes) {
        return Err(broken);
    }
    drop(jobs);
    drop(planned);
    Ok(Installed { builders: builders.into_iter().zip(labels).collect(), watcher: watching.into_iter().next() })
}

/// A template that fails is the user's own.
fn of_render(error: &RenderError) -> Broken {
    Broken::plain("render", failure::chain(error))
}

fn queries(
    site: &Site<'_>,
    order: &Order,
    hosts: &[Host],
    watcher: Option<&HostName>,
) -> Result<BTreeMap<HostName, FactsQuery>, RenderError> {
    let query = |host: &Host| {
        let query = if Some(&host.name) == watcher {
            planning::query(&layout(site.renderer, &order.build, &host.name, host.role)?)
        } else {
            image_query(&order.image, site.renderer, host.role)?
        };
        Ok((host.name.clone(), query))
    };
    hosts.iter().map(query).collect()
}

async fn artifacts(
    site: &Site<'_>,
    order: &Order,
    observed: &[Observed],
    watcher: Option<&HostName>,
) -> Result<Artifacts, Broken> {
    let of = |on: &Observed| {
        let spec = if Some(&on.host.name) == watcher { &order.build } else { &order.image };
        needed(spec, std::slice::from_ref(on))
    };
    let wanted: BTreeSet<ArtifactId> = observed.iter().flat_map(of).collect();
    let wanted: Vec<ArtifactId> = wanted.into_iter().collect();
    site.supply.artifacts(&wanted, site.events).await.map_err(|error| {
        if site.cancel.is_cancelled() {
            return Broken::Interrupted("fetch programs".to_owned());
        }
        let message = format!("the programs for the hosts are not at hand: {}", failure::chain(&error));
        Broken::failed(Failure { hint: error.hint(), ..failure::plain("fetch programs", message) })
    })
}

fn label(order: &Order, on: &Observed, artifacts: &Artifacts) -> Option<Label> {
    let role = on.host.role;
    let (_, name) = order.roles.iter().find(|(baked, _)| *baked == role)?;
    let programs = artifacts.get(&on.facts.arch?)?;
    Some(bake::label(&order.image, role, name.clone(), programs, &order.origin, order.now))
}

fn plan_builders<'a>(
    site: &Site<'_>,
    order: &Order,
    builders: &'a [Observed],
    labels: &[Label],
    artifacts: &Artifacts,
) -> Result<Vec<Planned<'a>>, Broken> {
    let none = BTreeMap::new();
    let plan = |(on, label): (&'a Observed, &Label)| {
        let programs = on.facts.arch.and_then(|arch| artifacts.get(&arch)).unwrap_or(&none);
        plan_image(&order.image, site.renderer, programs, on.host.role, on, bake::label_file(label))
    };
    builders.iter().zip(labels).map(plan).collect::<Result<_, _>>().map_err(|error| of_render(&error))
}

/// The server that tells what it sees is one as `up` makes it.
async fn plan_watcher<'a>(
    site: &Site<'_>,
    order: &Order,
    watching: &'a [Observed],
    artifacts: &Artifacts,
) -> Result<Vec<Planned<'a>>, Broken> {
    if watching.is_empty() {
        return Ok(Vec::new());
    }
    let hosts: Vec<Host> = watching.iter().map(|on| on.host.clone()).collect();
    let peers = peers(&hosts, watching)
        .map_err(|unknown| Broken::plain("plan", format!("the address of {} is not known", unknown.join(", "))))?;
    let source = Source { spec: &order.build, renderer: site.renderer, peers: &peers, artifacts };
    plan_hosts(source, watching, false, site.limits, site.events).await.map_err(|error| of_render(&error))
}

/// What is done last on a machine that becomes an image.
pub type Clearing = Result<(), HostResult>;

/// Clears what belongs to one machine: the last command on it.
pub async fn clear(on: &Observed, limits: &Limits, events: &Events) -> Clearing {
    let name = &on.host.name;
    events.began(Some(name), Doing::Clear);
    let (line, stdin) = seal::command();
    let command = Command { line, stdin: vec![Part::Bytes(stdin)], timeout: limits.install, root: true };
    let output = on.remote.run(command, Arc::new(Unwatched)).await;
    let output = output.map_err(|error| failure::of_remote(name, "clear", &error))?;
    if output.status != 0 {
        let mut failed = failure::plain("clear", format!("the clearing exited {}", output.status));
        failed.lines = last_lines(&output.stderr, 20);
        return Err(HostResult::Failed(failed));
    }
    events.ended(Some(name), Doing::Clear, true);
    Ok(())
}
