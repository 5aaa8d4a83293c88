//! Which hosts a command is about: those to launch, those to join, those that a filter names.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::baked::ImageId;
use crate::model::ec2::tag;
use crate::model::host::{Host, HostState, Role};
use crate::model::name::{ClusterName, HostName};
use crate::model::spec::{ProviderSpec, Spec};

/// A host to launch, with the reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ToLaunch {
    pub name: HostName,
    pub role: Role,
    pub reason: String,
    /// What it boots from; else the provider's usual image, and it is installed over SSH.
    pub image: Option<ImageId>,
}

/// `<cluster>-server-1`; ordinals begin at 1.
pub fn host_name(cluster: &ClusterName, role: Role, ordinal: u32) -> HostName {
    HostName::new(format!("{cluster}-{role}-{ordinal}")).expect("a cluster's name leaves room for this")
}

/// What `up` must launch: hosts that the spec counts and that are not there, and hosts that are there but
/// do not run. Hosts beyond the spec's count (they joined later) are kept; those of a fleet are its group's to launch and
/// to end.
pub fn to_launch(spec: &Spec, existing: &[Host]) -> Vec<ToLaunch> {
    let (servers, nodes) = match &spec.provider {
        ProviderSpec::Sandbox { servers, nodes } => (*servers, *nodes),
        ProviderSpec::Ec2(ec2) => (ec2.servers, ec2.nodes),
        ProviderSpec::Inventory { .. } => return Vec::new(),
    };
    let counted = (1..=u32::from(servers))
        .map(|n| (Role::Server, n))
        .chain((1..=u32::from(nodes)).map(|n| (Role::Node, n)))
        .map(|(role, n)| (host_name(&spec.cluster, role, n), role));
    let mut wanted: Vec<(HostName, Role)> = counted.collect();
    let named: BTreeSet<HostName> = wanted.iter().map(|(name, _)| name.clone()).collect();
    let joined =
        existing.iter().filter(|host| host.state.exists() && !named.contains(&host.name) && !is_of_fleet(host));
    wanted.extend(joined.map(|host| (host.name.clone(), host.role)));

    wanted
        .into_iter()
        .filter_map(|(name, role)| {
            let reason = reason(existing, &name, role, servers)?;
            Some(ToLaunch { name, role, reason, image: None })
        })
        .collect()
}

/// An Auto Scaling group keeps it: what it is at is no business of ours.
fn is_of_fleet(host: &Host) -> bool {
    host.tags.get(tag::ORIGIN).is_some_and(|origin| origin == tag::FLEET)
}

/// The running hosts that somebody logs in to, to install on them; a host from an image joins by itself.
pub fn to_install(existing: &[Host]) -> Vec<Host> {
    existing.iter().filter(|host| host.state.is_running() && !host.is_baked()).cloned().collect()
}

/// The running hosts that `status` logs in to: those, and servers, since only they can be asked about the others.
pub fn to_look_at(existing: &[Host]) -> Vec<Host> {
    let asked = |host: &&Host| host.state.is_running() && (host.role.is_server() || !host.is_baked());
    existing.iter().filter(asked).cloned().collect()
}

/// Why a host must be launched, started or waited for; `None` where it runs.
fn reason(existing: &[Host], name: &HostName, role: Role, servers: u16) -> Option<String> {
    let named = || existing.iter().filter(|host| host.name == *name);
    if named().any(|host| host.state.is_running()) {
        return None;
    }
    if let Some(host) = named().find(|host| host.state.exists()) {
        return Some(match host.state {
            // A run that was killed launched it, or another one does so now.
            HostState::Pending => "it is pending: it is waited for".to_owned(),
            HostState::Stopping => "it is stopping: it is started again when it has stopped".to_owned(),
            state => format!("it is {state}: it is started again"),
        });
    }
    let ended = named().map(|host| format!("{} was terminated", host.id)).next();
    if role.is_server() && no_server_but_nodes(existing) {
        return Some(lost_servers(servers, ended.as_deref()));
    }
    Some(ended.unwrap_or_else(|| "it does not exist yet".to_owned()))
}

fn no_server_but_nodes(existing: &[Host]) -> bool {
    let mut there = existing.iter().filter(|host| host.state.exists()).peekable();
    there.peek().is_some() && there.all(|host| !host.role.is_server())
}

/// What it means that nodes have lost their servers. One that ended is known to be lost while its provider still
/// lists it; later that looks like one that was never made.
fn lost_servers(servers: u16, ended: Option<&str>) -> String {
    let what = match (servers, ended) {
        (1, Some(ended)) => format!("the only server is gone ({ended}); a new one starts"),
        (_, Some(ended)) => format!("all servers are gone ({ended}); new ones start"),
        (1, None) => "there are nodes and no server: it is gone, or was never made; a new one starts".to_owned(),
        (_, None) => "there are nodes and no server: they are gone, or were never made; new ones start".to_owned(),
    };
    format!(
        "{what} with an empty catalog, nodes register again by themselves; Consul's key-value data is lost unless you have \
         a snapshot"
    )
}

/// Hosts that exist and have the same name: Consul would take turns between them, so that somebody must choose.
pub fn conflicts(existing: &[Host]) -> Vec<String> {
    let mut named: BTreeMap<&HostName, Vec<&Host>> = BTreeMap::new();
    for host in existing.iter().filter(|host| host.state.exists()) {
        named.entry(&host.name).or_default().push(host);
    }
    let doubled = named.into_iter().filter(|(_, hosts)| hosts.len() > 1);
    doubled
        .map(|(name, hosts)| {
            let hosts: Vec<String> = hosts.iter().map(|host| format!("{} ({})", host.id, host.state)).collect();
            format!("{} hosts are named {name}: {}; terminate all but one of them", hosts.len(), hosts.join(", "))
        })
        .collect()
}

/// The next `count` nodes: free ordinals after the highest one in use, so that no name is used twice.
pub fn to_join(cluster: &ClusterName, existing: &[Host], count: u32) -> Vec<ToLaunch> {
    let prefix = format!("{cluster}-node-");
    let highest = existing
        .iter()
        .filter_map(|host| host.name.as_str().strip_prefix(&prefix)?.parse::<u32>().ok())
        .max()
        .unwrap_or(0);
    (highest + 1..=highest + count)
        .map(|n| ToLaunch {
            name: host_name(cluster, Role::Node, n),
            role: Role::Node,
            reason: "it joins the cluster".to_owned(),
            image: None,
        })
        .collect()
}

/// Which hosts a command such as `exec` runs on. All conditions hold together.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HostFilter {
    pub role: Option<Role>,
    /// Names, with `*` for any letters; a host needs to match one of them. Empty: all.
    pub names: Vec<String>,
}

impl HostFilter {
    pub fn picks(&self, host: &Host) -> bool {
        self.role.is_none_or(|role| host.role == role)
            && (self.names.is_empty() || self.names.iter().any(|pattern| matches(pattern, host.name.as_str())))
    }
}

/// Does `name` match `pattern`, in which each `*` stands for any letters, none included?
fn matches(pattern: &str, name: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = name.strip_prefix(first) else { return false };
    let mut parts: Vec<&str> = parts.collect();
    let Some(last) = parts.pop() else { return rest.is_empty() };
    for part in parts {
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    rest.len() >= last.len() && rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::host::{HostId, SshTarget};

    fn host(name: &str, role: Role, state: HostState) -> Host {
        Host {
            id: HostId(name.to_owned()),
            name: HostName::new(name).unwrap(),
            role,
            state,
            private_address: None,
            ssh: SshTarget::default(),
            host_keys: Vec::new(),
            tags: BTreeMap::new(),
        }
    }

    fn names(hosts: &[ToLaunch]) -> Vec<&str> {
        hosts.iter().map(|host| host.name.as_str()).collect()
    }

    #[test]
    fn launches_what_is_missing_and_what_does_not_run() {
        let spec = Spec::sandbox(ClusterName::new("c").unwrap());
        let existing = [
            host("c-server-1", Role::Server, HostState::Running),
            host("c-node-1", Role::Node, HostState::Stopped),
            host("c-node-2", Role::Node, HostState::Terminated),
            host("c-node-7", Role::Node, HostState::Stopped),
            host("c-node-8", Role::Node, HostState::Running),
            host("c-node-9", Role::Node, HostState::Pending),
        ];
        let launch = to_launch(&spec, &existing);
        assert_eq!(names(&launch), ["c-node-1", "c-node-2", "c-node-7", "c-node-9"]);
        assert_eq!(launch[3].reason, "it is pending: it is waited for");
        assert_eq!(launch[0].reason, "it is stopped: it is started again");
        assert_eq!(launch[1].reason, "c-node-2 was terminated");
        assert_eq!(to_launch(&spec, &[])[0].reason, "it does not exist yet");
    }

    fn of_origin(origin: &str, host: Host) -> Host {
        Host { tags: BTreeMap::from([(tag::ORIGIN.to_owned(), origin.to_owned())]), ..host }
    }

    #[test]
    fn a_fleets_instances_are_its_groups_business() {
        let spec = Spec::ec2(ClusterName::new("c").unwrap());
        let states = [HostState::Running, HostState::Stopped, HostState::Pending, HostState::Stopping];
        let fleet = |(n, state): (usize, HostState)| {
            of_origin(tag::FLEET, host(&format!("i-0123456789abcdef{n}"), Role::Node, state))
        };
        let mut existing: Vec<Host> = states.into_iter().enumerate().map(fleet).collect();
        let wanted: Vec<String> = to_launch(&spec, &[]).iter().map(|launch| launch.name.to_string()).collect();
        assert_eq!(names(&to_launch(&spec, &existing)), wanted);
        // One that somebody launched from an image is the cluster's, and is started again.
        existing.push(of_origin(tag::IMAGED, host("c-node-77", Role::Node, HostState::Stopped)));
        assert!(names(&to_launch(&spec, &existing)).contains(&"c-node-77"));
        assert_eq!(names(&to_join(&spec.cluster, &existing[..4], 1)), ["c-node-1"]);
    }

    #[test]
    fn nobody_logs_in_to_a_host_from_an_image() {
        let running = |name, role| host(name, role, HostState::Running);
        let existing = [
            running("c-server-1", Role::Server),
            of_origin(tag::IMAGED, running("c-server-2", Role::Server)),
            running("c-node-1", Role::Node),
            of_origin(tag::IMAGED, running("c-node-2", Role::Node)),
            of_origin(tag::FLEET, running("i-1", Role::Node)),
            of_origin(tag::JOINED, running("c-node-3", Role::Node)),
            host("c-node-4", Role::Node, HostState::Stopped),
        ];
        let names = |hosts: Vec<Host>| hosts.into_iter().map(|h| h.name.to_string()).collect::<Vec<_>>();
        assert_eq!(names(to_install(&existing)), ["c-server-1", "c-node-1", "c-node-3"]);
        assert_eq!(names(to_look_at(&existing)), ["c-server-1", "c-server-2", "c-node-1", "c-node-3"]);
    }

    #[test]
    fn a_lost_server_is_said_plainly() {
        let spec = Spec::sandbox(ClusterName::new("c").unwrap());
        let node = host("c-node-1", Role::Node, HostState::Running);
        let reason = |existing: &[Host]| to_launch(&spec, existing)[0].reason.clone();
        let gone = reason(&[host("c-server-1", Role::Server, HostState::Terminated), node.clone()]);
        assert_eq!(
            gone,
            "the only server is gone (c-server-1 was terminated); a new one starts with an empty catalog, nodes register \
             again by themselves; Consul's key-value data is lost unless you have a snapshot"
        );
        let unlisted = reason(std::slice::from_ref(&node));
        assert!(unlisted.starts_with("there are nodes and no server: it is gone, or was never made"), "{unlisted}");
        // Without nodes nothing was lost, and with another server neither.
        let ended = host("c-server-1", Role::Server, HostState::ShuttingDown);
        assert_eq!(reason(std::slice::from_ref(&ended)), "c-server-1 was terminated");
        let other = host("c-server-2", Role::Server, HostState::Running);
        assert_eq!(reason(&[ended, other, node.clone()]), "c-server-1 was terminated");
        let stopping = host("c-server-1", Role::Server, HostState::Stopping);
        assert_eq!(reason(&[stopping, node]), "it is stopping: it is started again when it has stopped");
    }

    #[test]
    fn two_of_one_name_are_a_conflict() {
        let of = |id: &str, name: &str, state| Host { id: HostId(id.to_owned()), ..host(name, Role::Node, state) };
        let existing = [
            of("i-1", "c-node-1", HostState::Stopped),
            of("i-2", "c-node-1", HostState::Running),
            of("i-3", "c-node-2", HostState::Running),
            of("i-4", "c-node-2", HostState::Terminated),
        ];
        assert_eq!(
            conflicts(&existing),
            ["2 hosts are named c-node-1: i-1 (stopped), i-2 (running); terminate all but one of them"]
        );
        assert_eq!(conflicts(&existing[1..]), [""; 0]);
        // The one that runs is the host.
        let spec = Spec::sandbox(ClusterName::new("c").unwrap());
        assert_eq!(names(&to_launch(&spec, &existing)), ["c-server-1"]);
    }

    #[test]
    fn joins_after_the_highest_ordinal() {
        let cluster = ClusterName::new("c").unwrap();
        let existing =
            [host("c-node-2", Role::Node, HostState::Running), host("c-node-10", Role::Node, HostState::Stopped)];
        assert_eq!(names(&to_join(&cluster, &existing, 2)), ["c-node-11", "c-node-12"]);
        assert_eq!(names(&to_join(&cluster, &[], 1)), ["c-node-1"]);
    }

    #[test]
    fn patterns() {
        for (pattern, name, expected) in [
            ("c-node-1", "c-node-1", true),
            ("c-node-1", "c-node-11", false),
            ("*", "anything", true),
            ("c-*", "c-", true),
            ("*-1", "c-node-1", true),
            ("*-1", "c-node-12", false),
            ("c-*-1", "c-node-1", true),
            ("c-*n*-1", "c-server-1", false),
            ("ab*ba", "aba", false),
        ] {
            assert_eq!(matches(pattern, name), expected, "{pattern} {name}");
        }
    }
}
