//! The files of any host of a role, as an image holds them: what the command line asks for, put on top of a spec.
//! How each file looks is `render`'s matter; what programs say of them, `judge`'s.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use semver::Version;
use thiserror::Error;

use super::dialect::{self, OLDEST_UPSTART};
use super::render::{self, RenderError, Renderer, Subject};
use super::specfile;
use crate::model::ec2::Ec2Spec;
use crate::model::host::Role;
use crate::model::image::Image;
use crate::model::init::Init;
use crate::model::name::ClusterName;
use crate::model::spec::{Discovery, InventoryHost, Join, ProviderSpec, Spec};
use crate::model::version::{Preset, Program};

/// The newest Upstart that there is.
const NEWEST_UPSTART: Version = Version::new(1, 13, 2);

/// One program's version, as `--use` names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Use {
    pub program: Program,
    pub version: Version,
}

impl FromStr for Use {
    type Err = String;

    /// # Errors
    /// When it is no `program=version`, the program is none that a cluster runs, or its version too old.
    fn from_str(s: &str) -> Result<Self, String> {
        let example = "write for example consul=1.8.7";
        let (program, version) =
            s.split_once('=').ok_or_else(|| format!("\"{}\" has no \"=\": {example}", s.escape_debug()))?;
        // A spec has the keys consul_template and node_exporter; the programs are named with either sign.
        let named =
            Program::ALL.into_iter().find(|known| known.as_str().replace('-', "_") == program.replace('-', "_"));
        let program = named.map_or_else(|| program.parse(), Ok)?;
        if program == Program::Pushgateway {
            return Err("nothing is rendered for pushgateway".to_owned());
        }
        let bare = version.strip_prefix('v').unwrap_or(version);
        let version: Version = bare
            .parse()
            .map_err(|error| format!("\"{}\" is no version number ({error}): {example}", version.escape_debug()))?;
        let oldest = dialect::oldest(program);
        if version < oldest {
            return Err(format!("{program} {version} is older than anything that is known: take {oldest} or newer"));
        }
        Ok(Self { program, version })
    }
}

/// An init system as `--init` names it: `systemd`, `upstart`, `upstart-1.4`.
///
/// # Errors
/// When it is neither, or an Upstart older than any that is known.
pub fn init(s: &str) -> Result<Init, String> {
    let known = "there are systemd, upstart (1.13.2) and upstart-VERSION, such as upstart-0.6.5";
    let version = match s {
        "systemd" => return Ok(Init::Systemd),
        "upstart" => return Ok(Init::Upstart(NEWEST_UPSTART)),
        other => other.strip_prefix("upstart-"),
    };
    let unknown = || format!("no init system is named \"{}\": {known}", s.escape_debug());
    let version = version.ok_or_else(unknown)?;
    // Upstart's own numbers may have two parts.
    let whole = version.parse().or_else(|_| format!("{version}.0").parse::<Version>()).map_err(|_| unknown())?;
    if whole < OLDEST_UPSTART {
        return Err(format!("Upstart {version} is older than any that jobs are written for: {known}"));
    }
    Ok(Init::Upstart(whole))
}

/// What the hosts of a preset's time boot with.
pub const fn usual_init(preset: Preset) -> Init {
    match preset {
        Preset::Classic => Init::Upstart(OLDEST_UPSTART),
        Preset::Current => Init::Systemd,
    }
}

/// What the command line says beside the spec.
#[derive(Debug, Clone, Default)]
pub struct Wishes {
    pub uses: Vec<Use>,
    pub discovery: Option<Discovery>,
    /// The servers' addresses.
    pub join: Vec<IpAddr>,
    pub region: Option<String>,
}

/// What cannot be rendered as it was asked for; never empty.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub struct Refused(pub Vec<(String, String)>);

impl Refused {
    fn one(reason: String, cure: &str) -> Self {
        Self(vec![(reason, cure.to_owned())])
    }
}

impl fmt::Display for Refused {
    /// A line for each reason with its cure.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines: Vec<String> = self.0.iter().map(|(reason, cure)| format!("{reason}: {cure}")).collect();
        f.write_str(&lines.join("\n"))
    }
}

/// What holds where there is no spec: hosts that find their servers by tag.
pub fn without_spec(cluster: ClusterName, preset: Preset) -> Spec {
    let mut spec = Spec::ec2(cluster);
    spec.preset = preset;
    spec.join = Join::LeaderTag;
    spec.versions = preset.versions();
    spec.prometheus.discovery = Discovery::of(preset);
    spec
}

/// The spec with the wishes in it, and the servers' addresses that go into the image.
///
/// # Errors
/// [`Refused`]: what does not go together.
pub fn spec_with(mut spec: Spec, wishes: &Wishes) -> Result<(Spec, Vec<IpAddr>), Refused> {
    for Use { program, version } in &wishes.uses {
        spec.versions.set(*program, version.clone());
    }
    if let Some(discovery) = wishes.discovery {
        spec.prometheus.discovery = discovery;
    }
    let servers = servers(&spec, &wishes.join)?;
    spec.join = match (&spec.provider, spec.join) {
        _ if !servers.is_empty() => Join::Addresses,
        (ProviderSpec::Ec2(_), Join::Addresses | Join::Tag) => Join::Tag,
        _ => Join::LeaderTag,
    };
    if let ProviderSpec::Sandbox { servers, nodes } = spec.provider {
        // An image that finds its servers by their tag is one of EC2's.
        spec.provider = ProviderSpec::Ec2(Box::new(Ec2Spec { servers, nodes, ..Ec2Spec::default() }));
    }
    if let Some(region) = wishes.region.as_ref().filter(|region| !specfile::is_region(region)) {
        let reason = format!("--region: \"{}\" is no region", region.escape_debug());
        return Err(Refused::one(reason, "write for example --region eu-west-1"));
    }
    if let (ProviderSpec::Ec2(ec2), Some(region)) = (&mut spec.provider, &wishes.region) {
        ec2.region = Some(region.clone());
    }
    let conflicts = dialect::conflicts(&spec);
    if conflicts.is_empty() {
        Ok((spec, servers))
    } else {
        Err(Refused(conflicts.into_iter().map(|conflict| (conflict.message, conflict.cure)).collect()))
    }
}

/// Where the servers are, as far as anybody says so. None: instances find them by their tag.
fn servers(spec: &Spec, join: &[IpAddr]) -> Result<Vec<IpAddr>, Refused> {
    let in_spec = spec.provider.servers();
    let mut join = join.to_vec();
    join.sort_unstable();
    join.dedup();
    let refused = |reason: String, cure: &str| Err(Refused::one(reason, cure));
    for address in &join {
        if let Some(kind) = specfile::unreachable(*address) {
            return refused(format!("--join {address} is {kind}"), "name the server's own address in its network");
        }
        // An image's agent listens on its private address, and the template for that finds IPv4 ones.
        if address.is_ipv6() {
            return refused(format!("--join {address}: images speak IPv4"), "name the server's IPv4 address");
        }
    }
    if !join.is_empty() && !specfile::SERVERS.contains(&join.len()) {
        return refused(format!("--join names {} servers", join.len()), "a cluster has 1, 3 or 5: name each once");
    }
    // Each server waits for as many as are named: with fewer, two could elect a leader each.
    if !join.is_empty() && join.len() < in_spec {
        let reason = format!("the spec has {in_spec} servers, and --join names {}", join.len());
        return refused(reason, "name each server's address");
    }
    let ProviderSpec::Inventory { hosts } = &spec.provider else { return Ok(join) };
    if !join.is_empty() {
        return Ok(join);
    }
    let servers = hosts.iter().filter(|host| host.role.is_server());
    let address = |host: &InventoryHost| host.private_address.or_else(|| host.address.parse().ok());
    let known: Option<Vec<IpAddr>> = servers.map(address).collect();
    known.ok_or_else(|| {
        let reason = "the spec names servers by names, and hosts of your own have no tags to find them by".to_owned();
        Refused::one(reason, "say their addresses: `--join ADDRESS` for each server")
    })
}

/// The services that no image has, since only hosts of certain names run them.
pub fn left_out<'a>(spec: &'a Spec, roles: &[Role]) -> Vec<&'a str> {
    let here = |role: &Role| roles.contains(role);
    let left = spec.services.iter().filter(|service| !service.hosts.is_empty() && service.roles.iter().any(here));
    left.map(|service| service.name.as_str()).collect()
}

/// Everything that is wanted on any host of these roles.
///
/// # Errors
/// As [`Renderer::wanted`].
pub fn images(
    renderer: &Renderer,
    spec: &Spec,
    roles: &[Role],
    init: &Init,
    servers: &[IpAddr],
) -> Result<Vec<Image>, RenderError> {
    let image = |role: &Role| {
        let subject = Subject { role: *role, init: init.clone(), name: None, address: None, servers: servers.to_vec() };
        let wanted = renderer.wanted(spec, &subject, &render::absent(spec, *role))?;
        Ok(Image { role: *role, wanted })
    };
    roles.iter().map(image).collect()
}

#[cfg(test)]
mod tests;
