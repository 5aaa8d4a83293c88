//! What a build of images decides: names, the specs that it works with, which steps are for a host that never starts
//! anything, whose leftovers it meets, and which images may go. Nothing is asked or done here; `engine::bake` does it.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use thiserror::Error;

use super::select::host_name;
use crate::model::artifact::Artifact;
use crate::model::baked::{Baked, BakedState, ImageId, Label};
use crate::model::ec2::tag;
use crate::model::file::{FileSource, HostPath, ManagedFile, Word};
use crate::model::host::{Host, Role};
use crate::model::name::{ClusterName, HostName};
use crate::model::plan::{Action, HostPlan};
use crate::model::spec::{Join, ProviderSpec, Spec};
use crate::model::version::Program;

/// So long a build's hosts live, whatever became of whoever launched them, beside the time that the proof may take.
pub const LIFETIME: Duration = Duration::from_secs(60 * 60);

/// Who builds, on each of the build's hosts: `<machine>:<process>`.
pub const BUILDER: &str = "clusterctl:builder";
/// When that build began.
pub const SINCE: &str = "clusterctl:builder-since";

/// What is put behind a cluster's name for its builds.
const SUFFIX: &str = "-build";
/// A cluster's name has at most so many letters.
const LONGEST: usize = 40;
/// The longest name that an AMI may have.
const LONGEST_IMAGE: usize = 128;

#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum BakeError {
    #[error(
        "{cluster} is too long a name for building images: its builds are named {cluster}{SUFFIX}, and a cluster's name has \
         {LONGEST} letters at most; take a name of {} letters at most", LONGEST - SUFFIX.len()
    )]
    TooLong { cluster: ClusterName },
    #[error(
        "hosts of your own have no images: provider = \"ec2\" and the sandbox have; for others there is `ami provision --local`"
    )]
    NoImages,
    #[error("the image's name \"{}\" {problem}", .given.escape_debug())]
    BadName { given: String, problem: &'static str },
    #[error("--name is for the sandbox; an AMI is named after its cluster, its role and the time")]
    NamedAmi,
    #[error(
        "an image {name} of the role {role} is there already: take another --name, or remove it by `clusterctl ami prune`"
    )]
    Taken { name: String, role: Role },
    #[error(
        "{cluster} is there (host {host}), and images are built in a cluster of that name, which goes afterwards: if it is a \
         build of another user or state folder, wait for its end; else take it down first, or rename one of the two"
    )]
    Foreign { cluster: ClusterName, host: HostName },
    #[error(
        "{who} builds images of {cluster} since {since}: wait for its end, or let --take-over end it (its hosts end by \
         themselves an hour after their launch)"
    )]
    Busy { cluster: ClusterName, who: String, since: Timestamp },
}

/// The temporary cluster in which images of `cluster` are made.
///
/// # Errors
/// [`BakeError::TooLong`]
pub fn build_cluster(cluster: &ClusterName) -> Result<ClusterName, BakeError> {
    ClusterName::new(format!("{cluster}{SUFFIX}")).map_err(|_| BakeError::TooLong { cluster: cluster.clone() })
}

/// Whose build it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Builder {
    /// Tells machines, users and state folders apart: whoever shares all three shares the lock too.
    pub machine: String,
    pub pid: u32,
    pub since: Timestamp,
}

impl Builder {
    /// `machine` may be anything: what no tag may hold is replaced.
    pub fn new(machine: &str, pid: u32, since: Timestamp) -> Self {
        let fine = |c: char| if c.is_ascii_alphanumeric() || "._-@".contains(c) { c } else { '-' };
        let machine = machine.chars().take(100).map(fine).collect();
        Self { machine, pid, since: Timestamp::from_second(since.as_second()).unwrap_or(since) }
    }

    fn tags(&self) -> [(String, String); 2] {
        [(BUILDER.to_owned(), format!("{}:{}", self.machine, self.pid)), (SINCE.to_owned(), self.since.to_string())]
    }

    /// As a host's tags say it.
    pub fn of_host(host: &Host) -> Option<Self> {
        let (machine, pid) = host.tags.get(BUILDER)?.rsplit_once(':')?;
        let since = host.tags.get(SINCE)?.parse().ok()?;
        Some(Self { machine: machine.to_owned(), pid: pid.parse().ok()?, since })
    }
}

/// What stands in the temporary cluster before a build begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Before {
    Nothing,
    /// Nobody works on it any more: it is removed.
    Leftovers,
    /// Another machine does, as far as anybody can tell.
    Busy(Builder),
    /// No build made this host: somebody's cluster happens to have that name.
    Foreign(HostName),
}

/// Whoever asks holds the cluster's lock on its machine: hosts of its own are nobody's. Those of another machine are
/// somebody's until they are too old to be. `marked`: a note on this machine says that a build made them, for providers
/// without tags of the user's own.
pub fn before(hosts: &[Host], me: &Builder, marked: bool) -> Before {
    let there: Vec<&Host> = hosts.iter().filter(|host| host.state.exists()).collect();
    if let Some(host) = there.iter().find(|host| !marked && !host.tags.contains_key(BUILDER)) {
        return Before::Foreign(host.name.clone());
    }
    let lifetime = SignedDuration::try_from(LIFETIME).unwrap_or(SignedDuration::MAX);
    let busy =
        |builder: &Builder| builder.machine != me.machine && me.since.duration_since(builder.since).abs() < lifetime;
    match there.iter().filter_map(|host| Builder::of_host(host)).find(busy) {
        Some(builder) => Before::Busy(builder),
        None if there.is_empty() => Before::Nothing,
        None => Before::Leftovers,
    }
}

/// The roles that are baked.
///
/// # Errors
/// [`BakeError::NoImages`]
pub fn roles(asked: &[Role], provider: &ProviderSpec) -> Result<Vec<Role>, BakeError> {
    let mut roles = match provider {
        ProviderSpec::Inventory { .. } => return Err(BakeError::NoImages),
        _ if !asked.is_empty() => asked.to_vec(),
        // A cluster has few servers, which live long, and many nodes, which come and go.
        ProviderSpec::Ec2(_) => vec![Role::Node],
        ProviderSpec::Sandbox { .. } => vec![Role::Server, Role::Node],
    };
    roles.sort_unstable();
    roles.dedup();
    Ok(roles)
}

/// What is in the images: all of the spec, for hosts that are told who they are when they boot. It bears the real
/// cluster's name, which holds where they are told nothing.
pub fn image_spec(spec: &Spec) -> Spec {
    Spec { join: Join::Boot, ..spec.clone() }
}

/// The temporary cluster: as the spec says, but for its name, its size, and who builds there.
pub fn build_spec(spec: &Spec, build: &ClusterName, builder: &Builder, roles: &[Role]) -> Spec {
    // A server that is not baked only has to tell what it sees: one is enough. Those that are elect their leader as
    // many as the spec has.
    let servers = if roles.contains(&Role::Server) { servers(spec) } else { 1 };
    let provider = match &spec.provider {
        ProviderSpec::Sandbox { .. } => ProviderSpec::Sandbox { servers, nodes: 0 },
        ProviderSpec::Ec2(ec2) => {
            let mut ec2 = ec2.clone();
            (ec2.servers, ec2.nodes) = (servers, 0);
            // What is taken away in the middle of a build costs more than it saves.
            ec2.spot = false;
            ec2.tags.extend(builder.tags());
            ProviderSpec::Ec2(ec2)
        }
        ProviderSpec::Inventory { hosts } => ProviderSpec::Inventory { hosts: hosts.clone() },
    };
    Spec { cluster: build.clone(), provider, fleet: None, ..spec.clone() }
}

/// How many servers elect the first leader.
fn servers(spec: &Spec) -> u16 {
    u16::try_from(spec.provider.servers()).unwrap_or(u16::MAX).max(1)
}

/// The host that becomes the image of a role.
pub fn builder_host(build: &ClusterName, role: Role) -> HostName {
    HostName::new(format!("{build}-{role}-builder")).expect("a cluster's name leaves room for this")
}

/// The hosts that prove the images, none of which is provisioned: all servers where their image is among them, and a
/// node.
pub fn proving_hosts(build: &Spec, roles: &[Role]) -> Vec<(HostName, Role)> {
    let count = |role: &Role| if role.is_server() { u32::from(servers(build)) } else { 1 };
    let hosts = |role: &Role| {
        let role = *role;
        (1..=count(&role)).map(move |n| (host_name(&build.cluster, role, n), role))
    };
    roles.iter().flat_map(hosts).collect()
}

/// The server that is provisioned over SSH to tell what it sees, where no image is a server's.
pub fn watching_server(build: &Spec, roles: &[Role]) -> Option<HostName> {
    (!roles.contains(&Role::Server)).then(|| host_name(&build.cluster, Role::Server, 1))
}

/// What an image is called: as the user says, or after its cluster, its role and the time.
///
/// # Errors
/// [`BakeError::BadName`], [`BakeError::NamedAmi`]
pub fn image_name(spec: &Spec, role: Role, name: Option<&str>, now: Timestamp) -> Result<String, BakeError> {
    if let ProviderSpec::Sandbox { .. } = spec.provider {
        let name = name.unwrap_or(spec.cluster.as_str());
        return match ClusterName::new(name) {
            Ok(name) => Ok(name.to_string()),
            Err(error) => Err(BakeError::BadName { given: name.to_owned(), problem: error.problem }),
        };
    }
    if name.is_some() {
        return Err(BakeError::NamedAmi);
    }
    let name = format!("clusterctl-{}-{role}-{}", spec.cluster, now.strftime("%Y%m%d-%H%M%S"));
    debug_assert!(name.len() <= LONGEST_IMAGE);
    Ok(name)
}

/// What is written down with the image. `origin`: the spec's commit or its sum.
pub fn label(
    spec: &Spec,
    role: Role,
    name: String,
    artifacts: &BTreeMap<Program, Artifact>,
    origin: &str,
    created: Timestamp,
) -> Label {
    let releases = spec.releases(role);
    let sum = |(program, _): &(Program, &semver::Version)| {
        artifacts.get(program).map(|artifact| (*program, artifact.sha256.clone()))
    };
    Label {
        name,
        cluster: spec.cluster.clone(),
        role,
        servers: servers(spec),
        sums: releases.iter().filter_map(sum).collect(),
        programs: releases.into_iter().map(|(program, version)| (program, version.clone())).collect(),
        spec: origin.to_owned(),
        created: Timestamp::from_second(created.as_second()).unwrap_or(created),
    }
}

pub fn label_path() -> HostPath {
    HostPath::new("/etc/clusterctl/image.json").expect("valid")
}

/// The label within the image, for whoever logs in to one of its hosts.
pub fn label_file(label: &Label) -> ManagedFile {
    let mut text = serde_json::to_string_pretty(label).expect("a label is plain data");
    text.push('\n');
    ManagedFile {
        path: label_path(),
        mode: 0o644,
        owner: "root".to_owned(),
        group: "root".to_owned(),
        source: FileSource::Text(text),
        reactions: Vec::new(),
        secret: false,
        seed: false,
    }
}

/// Leaves the steps that a host takes that is to become an image: everything is put in its place and enabled, and
/// nothing starts. `asleep`: its init system does not run, so that it cannot be asked about its units.
pub fn offline(plan: &mut HostPlan, asleep: bool) {
    let needs_init = |argv: &[Word]| matches!(argv.first(), Some(Word::Plain(program)) if program == "systemd-analyze");
    plan.steps.retain(|step| match &step.action {
        Action::Start { .. } | Action::React { .. } => false,
        Action::Check { check } => !(asleep && needs_init(&check.argv)),
        _ => true,
    });
}

/// Who uses which image, as far as the provider's hosts and the spec tell.
pub fn uses(hosts: &[Host], spec: &Spec) -> BTreeMap<ImageId, Vec<String>> {
    let mut uses: BTreeMap<ImageId, Vec<String>> = BTreeMap::new();
    let there = hosts.iter().filter(|host| host.state.exists());
    for (host, image) in there.filter_map(|host| Some((host, host.tags.get(tag::IMAGE)?))) {
        uses.entry(ImageId(image.clone())).or_default().push(host.name.to_string());
    }
    if let Some(image) = spec.fleet.as_ref().and_then(|fleet| fleet.image.clone()) {
        uses.entry(ImageId(image)).or_default().push("[fleet] of the spec".to_owned());
    }
    uses
}

/// What a pruning does with an image, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sweep {
    Remove(String),
    Keep(String),
}

/// An image that is not trusted may still become so for that long.
const YOUNG: SignedDuration = SignedDuration::from_hours(1);

/// Which images go: of each role all but the `keep` newest trusted ones, and what was never proved. None that is in use.
/// `now`: somebody may be building images; none is given where nobody can be.
pub fn sweep(
    images: &[Baked],
    keep: usize,
    used: &BTreeMap<ImageId, Vec<String>>,
    now: Option<Timestamp>,
) -> Vec<(Baked, Sweep)> {
    let mut images: Vec<Baked> = images.to_vec();
    images.sort_by(|a, b| (a.label.role, b.label.created, &b.id).cmp(&(b.label.role, a.label.created, &a.id)));
    let mut kept: BTreeMap<Role, usize> = BTreeMap::new();
    let mut newest: BTreeMap<Role, Timestamp> = BTreeMap::new();
    for image in images.iter().filter(|image| image.is_trusted()) {
        newest.entry(image.label.role).or_insert(image.label.created);
    }
    let mut swept = Vec::new();
    for image in images {
        let role = image.label.role;
        let trusted = image.is_trusted();
        let before = if trusted {
            let count = kept.entry(role).or_default();
            *count += 1;
            *count - 1
        } else {
            0
        };
        let users = used.get(&image.id).filter(|users| !users.is_empty());
        let sweep = if let Some(users) = users {
            Sweep::Keep(format!("in use by {}", users.join(", ")))
        } else if trusted && before < keep {
            Sweep::Keep(format!("one of the {keep} newest of its role"))
        } else if trusted {
            Sweep::Remove(format!("{keep} trusted ones of its role stay, and it is not among them"))
        } else {
            unproved(&image, newest.get(&role), now)
        };
        swept.push((image, sweep));
    }
    swept
}

fn unproved(image: &Baked, newest: Option<&Timestamp>, now: Option<Timestamp>) -> Sweep {
    if image.state == BakedState::Failed {
        return Sweep::Remove("the provider could not make it".to_owned());
    }
    let Some(now) = now else { return Sweep::Remove("it was never proved".to_owned()) };
    if now.duration_since(image.label.created) < YOUNG {
        return Sweep::Keep("it is young: somebody may be proving it".to_owned());
    }
    match newest {
        Some(newest) if *newest > image.label.created => {
            Sweep::Remove("it was never proved, and a newer one is trusted".to_owned())
        }
        _ => Sweep::Keep("it was never proved, and no newer one is trusted".to_owned()),
    }
}

#[cfg(test)]
mod tests;
