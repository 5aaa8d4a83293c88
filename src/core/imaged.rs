//! Which images a cluster's new hosts boot from, where its hosts come from images at all.

use std::collections::{BTreeMap, BTreeSet};

use thiserror::Error;

use super::names::listed;
use super::select::ToLaunch;
use crate::model::baked::{Baked, ImageId};
use crate::model::ec2::tag;
use crate::model::host::{Host, Role};

/// Why an image cannot be launched from.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{what}")]
pub struct Unusable {
    what: String,
    cure: String,
}

impl Unusable {
    pub fn cure(&self) -> &str {
        &self.cure
    }
}

fn unusable<T>(what: String, cure: impl Into<String>) -> Result<T, Unusable> {
    Err(Unusable { what, cure: cure.into() })
}

/// The name of the image that a host was launched from, where its provider says so.
fn name_of(host: &Host) -> Option<&str> {
    let id = host.tags.get(tag::IMAGE).filter(|_| host.is_baked())?;
    Some(id.rsplit_once('/').map_or(id.as_str(), |(name, _)| name))
}

/// The name of the one image that all hosts come from; `None` where they do not, or there are none.
pub fn common(existing: &[Host]) -> Option<&str> {
    let mut names = existing.iter().filter(|host| host.state.exists()).map(name_of);
    let first = names.next()??;
    names.all(|name| name == Some(first)).then_some(first)
}

/// What a cluster wants of an image.
#[derive(Debug, Clone, Copy)]
pub struct Wish<'a> {
    pub name: &'a str,
    /// The roles that are launched from it.
    pub roles: &'a [Role],
    /// How many servers the cluster has.
    pub servers: u16,
}

/// One image a role.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Images {
    name: String,
    by_role: BTreeMap<Role, ImageId>,
}

/// The trusted images of that name, one for each role.
///
/// # Errors
/// [`Unusable`] where one is not there, was never tried, or is for another cluster than this one.
pub fn choose(wish: Wish<'_>, existing: &[Host], known: &[Baked]) -> Result<Images, Unusable> {
    let Wish { name, roles, servers } = wish;
    let named: Vec<&Baked> = known.iter().filter(|baked| baked.label.name == name).collect();
    let mut by_role = BTreeMap::new();
    for role in roles {
        let Some(baked) = named.iter().find(|baked| baked.label.role == *role) else {
            return missing(name, *role, known);
        };
        if !baked.is_trusted() {
            let what =
                format!("the image {name} for a {role} was never seen to work: no host that booted from it joined");
            return unusable(what, "make it again with `clusterctl ami build --sandbox`, which tries it");
        }
        if role.is_server() && baked.label.servers != servers {
            let label = baked.label.servers;
            let what = format!("the image {name} is for a cluster of {}, and the spec has {servers}", count(label));
            return unusable(what, format!("set `servers = {label}`, or make an image of this spec"));
        }
        by_role.insert(*role, baked.id.clone());
    }
    if let Some(other) = existing.iter().find(|host| host.state.exists() && name_of(host) != Some(name)) {
        let from = name_of(other).map_or("it was installed over SSH".to_owned(), |from| format!("its image is {from}"));
        let what = format!("{} does not come from the image {name}: {from}", other.name);
        return unusable(what, "leave out --image, or take the cluster away first with `clusterctl down`");
    }
    Ok(Images { name: name.to_owned(), by_role })
}

fn count(servers: u16) -> String {
    if servers == 1 { "1 server".to_owned() } else { format!("{servers} servers") }
}

fn missing(name: &str, role: Role, known: &[Baked]) -> Result<Images, Unusable> {
    let there: BTreeSet<String> =
        known.iter().filter(|baked| baked.label.role == role).map(|baked| baked.label.name.clone()).collect();
    let there: Vec<String> = there.into_iter().collect();
    let others = if there.is_empty() { "there is none".to_owned() } else { format!("there are {}", listed(&there)) };
    unusable(
        format!("there is no image \"{}\" for a {role}: {others}", name.escape_debug()),
        "`clusterctl ami build --sandbox` makes one",
    )
}

impl Images {
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The same launches, those of new hosts from their role's image. Hosts that are only started have theirs.
    pub fn assign(&self, launches: Vec<ToLaunch>, existing: &[Host]) -> Vec<ToLaunch> {
        let is_there = |launch: &ToLaunch| existing.iter().any(|h| h.state.exists() && h.name == launch.name);
        let assign = |launch: ToLaunch| match self.by_role.get(&launch.role) {
            Some(image) if !is_there(&launch) => {
                let reason = format!("{}; it boots from the image {}", launch.reason, self.name);
                ToLaunch { image: Some(image.clone()), reason, ..launch }
            }
            _ => launch,
        };
        launches.into_iter().map(assign).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::select::to_launch;
    use crate::model::baked::{BakedState, Label};
    use crate::model::host::{HostId, HostState, SshTarget};
    use crate::model::name::{ClusterName, HostName};
    use crate::model::spec::Spec;

    const BOTH: [Role; 2] = [Role::Server, Role::Node];

    fn host(name: &str, role: Role, image: Option<&str>) -> Host {
        let mut tags = BTreeMap::new();
        if let Some(image) = image {
            tags.insert(tag::ORIGIN.to_owned(), tag::IMAGED.to_owned());
            tags.insert(tag::IMAGE.to_owned(), format!("{image}/{role}"));
        }
        Host {
            id: HostId(name.to_owned()),
            name: HostName::new(name).unwrap(),
            role,
            state: HostState::Running,
            private_address: None,
            ssh: SshTarget::default(),
            host_keys: Vec::new(),
            tags,
        }
    }

    fn baked(name: &str, role: Role, proved: bool) -> Baked {
        let created = "2026-01-01T00:00:00Z".parse().unwrap();
        let label = Label {
            name: name.to_owned(),
            cluster: ClusterName::new("shop").unwrap(),
            role,
            servers: 1,
            programs: BTreeMap::new(),
            sums: BTreeMap::new(),
            spec: String::new(),
            created,
        };
        let id = ImageId(format!("{name}/{role}"));
        Baked { id, label, state: BakedState::Available, proved: proved.then_some(created) }
    }

    fn wish(name: &str) -> Wish<'_> {
        Wish { name, roles: &BOTH, servers: 1 }
    }

    #[test]
    fn new_hosts_boot_from_their_roles_image_and_old_ones_are_only_started() {
        let known = BOTH.map(|role| baked("web", role, true));
        let spec = Spec::sandbox(ClusterName::new("c").unwrap());
        let stopped = Host { state: HostState::Stopped, ..host("c-node-1", Role::Node, Some("web")) };
        let existing = [stopped];
        let images = choose(wish("web"), &existing, &known).unwrap();
        let launches = images.assign(to_launch(&spec, &existing), &existing);
        let image = |at: usize| launches[at].image.as_ref().map(|id| id.0.as_str());
        assert_eq!([image(0), image(1), image(2)], [Some("web/server"), None, Some("web/node")]);
        assert_eq!(launches[2].reason, "it does not exist yet; it boots from the image web");
        assert_eq!(launches[1].reason, "it is stopped: it is started again");
    }

    #[test]
    fn what_cannot_be_used_is_said_with_its_cure() {
        let server = baked("web", Role::Server, true);
        let said = |wish: Wish<'_>, existing: &[Host], known: &[Baked]| {
            let error = choose(wish, existing, known).unwrap_err();
            assert!(!error.cure().is_empty());
            error.to_string()
        };
        assert_eq!(said(wish("web"), &[], &[]), "there is no image \"web\" for a server: there is none");
        let others = [server.clone(), baked("api", Role::Node, true)];
        assert_eq!(said(wish("web"), &[], &others), "there is no image \"web\" for a node: there are api");
        let untried = [server.clone(), baked("web", Role::Node, false)];
        assert!(said(wish("web"), &[], &untried).contains("never seen to work"));
        let known = [server, baked("web", Role::Node, true)];
        let three = Wish { servers: 3, ..wish("web") };
        assert!(said(three, &[], &known).contains("a cluster of 1 server, and the spec has 3"));
        let plain = [host("c-node-1", Role::Node, None)];
        assert!(said(wish("web"), &plain, &known).contains("c-node-1 does not come from"));
        let other = [host("c-node-1", Role::Node, Some("api"))];
        assert!(said(wish("web"), &other, &known).contains("its image is api"));
        // Only what is launched is asked for.
        choose(Wish { roles: &[Role::Node], ..three }, &[], &known).unwrap();
    }

    #[test]
    fn an_image_is_common_where_all_hosts_come_from_it() {
        let (web, api) = (host("a", Role::Node, Some("web")), host("b", Role::Node, Some("api")));
        let gone = Host { state: HostState::Terminated, ..host("c", Role::Node, None) };
        assert_eq!(common(&[]), None);
        assert_eq!(common(&[web.clone(), host("s", Role::Server, Some("web")), gone]), Some("web"));
        assert_eq!(common(&[web.clone(), api]), None);
        assert_eq!(common(&[web, host("d", Role::Node, None)]), None);
    }
}
