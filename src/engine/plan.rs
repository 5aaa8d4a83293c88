//! Brings together what planning needs (renderings, facts, old texts) and plans for every host.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures::future::join_all;

use super::observe::Observed;
use super::{Limits, apply::Job, failure};
use crate::core::bake;
use crate::core::install;
use crate::core::plan;
use crate::core::render::{Peer, RenderError, Renderer, Subject, image_layout};
use crate::model::artifact::{Arch, Artifact, ArtifactId};
use crate::model::event::Events;
use crate::model::facts::FactsQuery;
use crate::model::file::{HostPath, ManagedFile, Wanted};
use crate::model::host::{Host, Role};
use crate::model::plan::{HostPlan, Plan, ResourceStep};
use crate::model::spec::Spec;
use crate::model::version::Program;
use crate::world::remote::{Command, Part, Unwatched};

/// Each program's artifact, for each processor that a host of the cluster has.
pub type Artifacts = BTreeMap<Arch, BTreeMap<Program, Artifact>>;

/// The artifacts that the observed hosts need.
pub fn needed(spec: &Spec, observed: &[Observed]) -> Vec<ArtifactId> {
    let mut ids = BTreeSet::new();
    for host in observed {
        let Some(arch) = host.facts.arch else { continue };
        for (program, version) in spec.releases(host.host.role) {
            ids.insert(ArtifactId { program, version: version.clone(), arch });
        }
    }
    ids.into_iter().collect()
}

/// All hosts of the cluster with their addresses, those that did not answer included: a server that is
/// down for a moment must not vanish from its nodes' configuration.
///
/// # Errors
/// Names the servers whose address nobody knows; none where there is no server at all.
pub fn peers(hosts: &[Host], observed: &[Observed]) -> Result<Vec<Peer>, Vec<String>> {
    let mut peers = Vec::new();
    let mut unknown = Vec::new();
    for host in hosts {
        let seen = observed.iter().find(|seen| seen.host.id == host.id).and_then(Observed::address);
        match seen.or(host.private_address) {
            Some(address) => peers.push(Peer { name: host.name.clone(), role: host.role, address }),
            None if host.role.is_server() => unknown.push(host.name.to_string()),
            None => {}
        }
    }
    let has_server = peers.iter().any(|peer| peer.role.is_server());
    if unknown.is_empty() && has_server { Ok(peers) } else { Err(unknown) }
}

/// One host's plan, and what apply needs beside it.
pub struct Planned<'a> {
    pub on: &'a Observed,
    pub plan: HostPlan,
    pub manifest: BTreeSet<HostPath>,
}

impl<'a> Planned<'a> {
    /// Nothing can be planned for this host, and why.
    pub fn blocked(on: &'a Observed, why: &str) -> Self {
        let plan = plan::blocked(&on.host.name, on.host.role, why.to_owned());
        Self { on, plan, manifest: BTreeSet::new() }
    }

    pub fn job(&self) -> Job<'_> {
        Job { on: self.on, plan: &self.plan, manifest: self.manifest.clone() }
    }
}

/// What the hosts' files are made of.
#[derive(Clone, Copy)]
pub struct Source<'a> {
    pub spec: &'a Spec,
    pub renderer: &'a Renderer,
    pub peers: &'a [Peer],
    pub artifacts: &'a Artifacts,
}

/// Plans for every observed host. Where `with_diffs`, the old texts of changed files are fetched first.
///
/// # Errors
/// [`RenderError`] from a template of the user's.
pub async fn plan_hosts<'a>(
    source: Source<'_>,
    observed: &'a [Observed],
    with_diffs: bool,
    limits: &Limits,
    events: &Events,
) -> Result<Vec<Planned<'a>>, RenderError> {
    let Source { spec, renderer, peers, artifacts } = source;
    let none = BTreeMap::new();
    let mut work = Vec::new();
    for on in observed {
        let host = &on.host;
        let wanted = match peers.iter().find(|peer| peer.name == host.name) {
            Some(peer) if plan::unfit(&on.facts).is_none() => {
                let programs = on.facts.arch.and_then(|arch| artifacts.get(&arch)).unwrap_or(&none);
                let subject = Subject::of(peer, peers, on.facts.init.clone());
                Some(renderer.wanted(spec, &subject, programs)?)
            }
            _ => None,
        };
        work.push((on, wanted));
    }
    let plans = work.into_iter().map(|(on, wanted)| plan_host(on, wanted, with_diffs, limits, events));
    Ok(join_all(plans).await)
}

/// The plan for a machine that becomes an image, or part of one: the files of any host of `role` and `more`, in their
/// places and enabled, and nothing started.
///
/// # Errors
/// [`RenderError`] from a template of the user's.
pub fn plan_image<'a>(
    spec: &Spec,
    renderer: &Renderer,
    programs: &BTreeMap<Program, Artifact>,
    role: Role,
    on: &'a Observed,
    more: ManagedFile,
) -> Result<Planned<'a>, RenderError> {
    let host = &on.host.name;
    if let Some(why) = plan::unfit(&on.facts) {
        return Ok(Planned::blocked(on, &why));
    }
    let init = on.facts.init.clone();
    let subject = Subject { role, init, name: None, address: None, servers: Vec::new() };
    let mut wanted = renderer.wanted(spec, &subject, programs)?;
    wanted.files.push(more);
    let manifest = wanted.files.iter().map(|file| file.path.clone()).collect();
    let mut plan = plan::host_plan(host, role, &wanted, &on.facts, &BTreeMap::new());
    bake::offline(&mut plan, on.facts.asleep);
    Ok(Planned { on, plan, manifest })
}

/// What a machine is asked that is to become an image.
///
/// # Errors
/// As [`plan_image`].
pub fn image_query(spec: &Spec, renderer: &Renderer, role: Role) -> Result<FactsQuery, RenderError> {
    let mut query = plan::query(&image_layout(renderer, spec, role)?);
    query.files.insert(bake::label_path());
    Ok(query)
}

async fn plan_host<'a>(
    on: &'a Observed,
    wanted: Option<Wanted>,
    with_diffs: bool,
    limits: &Limits,
    events: &Events,
) -> Planned<'a> {
    let (name, role) = (&on.host.name, on.host.role);
    let Some(wanted) = wanted else {
        let why = plan::unfit(&on.facts)
            .unwrap_or_else(|| "its address is not known: give it `private_address` in the spec".to_owned());
        return Planned { on, plan: plan::blocked(name, role, why), manifest: BTreeSet::new() };
    };
    let manifest = wanted.files.iter().map(|file| file.path.clone()).collect();
    let mut host_plan = plan::host_plan(name, role, &wanted, &on.facts, &BTreeMap::new());
    let paths = plan::texts_to_fetch(&host_plan);
    if with_diffs && !paths.is_empty() {
        match fetch_texts(on, &paths, limits).await {
            Ok(texts) => host_plan = plan::host_plan(name, role, &wanted, &on.facts, &texts),
            Err(why) => events.warn(Some(name), format!("no diffs: the old files could not be read: {why}")),
        }
    }
    Planned { on, plan: host_plan, manifest }
}

async fn fetch_texts(on: &Observed, paths: &[HostPath], limits: &Limits) -> Result<BTreeMap<HostPath, String>, String> {
    let (line, stdin) = install::texts_command(paths);
    let command = Command { line, stdin: vec![Part::Bytes(stdin)], timeout: limits.facts, root: true };
    let output =
        on.remote.run(command, Arc::new(Unwatched)).await.map_err(|error| failure::at_host(&on.host.name, &error))?;
    Ok(install::parse_texts(&output.stdout, paths))
}

/// The plan of the whole cluster: what is around the hosts, then the hosts by role and name.
pub fn whole(
    resources: Vec<ResourceStep>,
    launches: Vec<HostPlan>,
    planned: Vec<HostPlan>,
    notes: Vec<String>,
) -> Plan {
    let mut hosts = launches;
    hosts.extend(planned);
    hosts.sort_by(|a, b| (a.role, &a.host).cmp(&(b.role, &b.host)));
    Plan { resources, hosts, notes }
}
