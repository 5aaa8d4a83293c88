//! `cluster.toml`: text in, a [`Spec`] or every mistake in it out. docs/spec.md is its reference.
//!
//! The text is walked by hand rather than by serde's derive, since each mistake is to name its line and its
//! cure, and all of them are to come at once.

mod address;
mod ec2;
mod fleet;
mod hosts;
mod image;
mod mistakes;
mod monitoring;
mod section;
mod services;
mod versions;

use std::path::PathBuf;

use toml::de::DeTable;

pub use address::unreachable;
pub use ec2::is_region;
pub use hosts::SERVERS;
pub use mistakes::{Mistake, SpecErrors};
pub use services::RESERVED;

use mistakes::Sink;
use section::Section;

use crate::core::names::nearest;
use crate::model::jump::{Jump, is_user};
use crate::model::name::{ClusterName, Datacenter};
use crate::model::spec::{ArtifactsSpec, Join, Span, Spec, SshSpec};
use crate::model::version::Preset;

/// Reads a spec. `file` is its name in messages; paths in it are left as they are.
///
/// # Errors
/// All mistakes that were found, in the order in which they stand.
pub fn parse(text: &str, file: &str) -> Result<Spec, SpecErrors> {
    parse_for(text, file, None)
}

/// [`parse`] with another preset than the file's, if any.
fn parse_for(text: &str, file: &str, preset: Option<Preset>) -> Result<Spec, SpecErrors> {
    let sink = Sink::new(text);
    let spec = match DeTable::parse(text) {
        Ok(table) => {
            let start = 0..text.find('\n').unwrap_or(text.len());
            read(&Section::new(&sink, "the file", start, Some(table.get_ref())), preset)
        }
        Err(error) => {
            no_toml(&sink, text, &error);
            None
        }
    };
    match (sink.into_errors(file), spec) {
        (None, Some(spec)) => Ok(spec),
        (Some(errors), _) => Err(errors),
        (None, None) => unreachable!("what is missing was reported"),
    }
}

fn no_toml(sink: &Sink<'_>, text: &str, error: &toml::de::Error) {
    let at = error.span().unwrap_or(0..0);
    let named = text.get(at.clone()).map(str::trim).filter(|name| !name.is_empty() && !name.contains('\n'));
    match named {
        Some(name) if error.message() == "duplicate key" => {
            let cure = "keep one of them: TOML takes each key, and each [table], once";
            sink.add(&at, format!("{} stands there twice", name.escape_debug()), cure);
        }
        _ => sink.add(&at, error.message().replace('\n', "; "), "this is no TOML: see https://toml.io for its forms"),
    }
}

/// [`parse`] for a file's bytes, which may be no text. A `preset` that is given counts in place of the file's: it stands
/// for the versions that the file does not name one by one.
///
/// # Errors
/// As [`parse`]; the first byte that is no UTF-8 is a mistake with its place.
pub fn parse_bytes(bytes: &[u8], file: &str, preset: Option<Preset>) -> Result<Spec, SpecErrors> {
    let at = match std::str::from_utf8(bytes) {
        Ok(text) => return parse_for(text, file, preset),
        Err(error) => error.valid_up_to(),
    };
    let text = String::from_utf8_lossy(bytes);
    let sink = Sink::new(&text);
    sink.add(
        &(at..at + char::REPLACEMENT_CHARACTER.len_utf8()),
        "here the file is no UTF-8 text",
        "save it as UTF-8, or remove what stands here",
    );
    Err(sink.into_errors(file).expect("a mistake was added"))
}

/// A commented spec to begin with.
pub fn starter(name: &ClusterName) -> String {
    include_str!("../../../templates/cluster.toml").replace("CLUSTER", name.as_str())
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Provider {
    Ec2,
    Sandbox,
    Inventory,
}

impl Provider {
    const ALL: [Self; 3] = [Self::Ec2, Self::Sandbox, Self::Inventory];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Ec2 => "ec2",
            Self::Sandbox => "sandbox",
            Self::Inventory => "inventory",
        }
    }
}

fn read(file: &Section<'_>, preset: Option<Preset>) -> Option<Spec> {
    let cluster = file.section("cluster", "[cluster]");
    if !cluster.is_there() {
        let cure = "begin with a line [cluster], and name and provider below it; `clusterctl init` writes a whole spec";
        file.sink.add(&file.at, "there is no [cluster]", cure);
    }
    let name = cluster.parsed::<ClusterName>("name", "shop");
    let provider = provider(&cluster);
    let datacenter = cluster.parsed::<Datacenter>("datacenter", "dc1");
    let templates = folder(&cluster, "templates", "templates");
    let join = join(&cluster, provider);
    if cluster.is_there() && name.is_none() && !cluster.has("name") {
        cluster.missing("name", "\"shop\"");
    }
    cluster.refuse_unknown();

    let ssh = ssh(file);
    let hosts_spec = hosts::read(file, &ssh, provider);
    let versions = versions::read(file, preset);
    let prometheus = monitoring::prometheus(file, hosts_spec.as_ref(), versions.preset);
    let alertmanager = monitoring::alertmanager(file);
    let services = services::read(file, hosts_spec.as_ref(), name.as_ref().map(|name| &name.value));
    let artifacts = artifacts(file);
    let image = image::read(file, provider);
    let fleet = fleet::read(file, provider);
    file.refuse_unknown();
    let spec = Spec {
        cluster: name?.value,
        datacenter: datacenter.map_or_else(|| Datacenter::new("dc1").expect("valid"), |given| given.value),
        provider: hosts_spec?,
        preset: versions.preset,
        versions: versions.versions.clone(),
        join,
        ssh,
        prometheus,
        alertmanager,
        services,
        artifacts,
        image,
        fleet,
        templates,
    };
    versions::refuse_conflicts(file, &spec, &versions);
    Some(spec)
}

fn provider(cluster: &Section<'_>) -> Option<Provider> {
    let Some(given) = cluster.text("provider", "sandbox") else {
        if cluster.is_there() && !cluster.has("provider") {
            cluster.missing(
                "provider",
                "\"sandbox\", \"ec2\" for instances in AWS, or \"inventory\" for hosts of your own",
            );
        }
        return None;
    };
    let text = given.value.as_str();
    if let Some(provider) = Provider::ALL.into_iter().find(|provider| provider.as_str() == text) {
        return Some(provider);
    }
    let near = match text.to_lowercase().as_str() {
        "aws" | "amazon" => Some("ec2"),
        other => nearest(other, Provider::ALL.map(Provider::as_str)),
    };
    let cure = format!(
        "{}this version knows \"ec2\" (instances in AWS), \"sandbox\" (hosts on this machine) and \"inventory\" (hosts of \
         your own)",
        near.map(|near| format!("did you mean \"{near}\"? ")).unwrap_or_default()
    );
    cluster.sink.add(&given.at, format!("no provider is named \"{}\"", text.escape_debug()), cure);
    None
}

/// How agents find the servers.
fn join(cluster: &Section<'_>, provider: Option<Provider>) -> Join {
    let Some(given) = cluster.text("join", "addresses") else { return Join::Addresses };
    match given.value.as_str() {
        "addresses" => Join::Addresses,
        "tag" => {
            if provider.is_some_and(|provider| provider != Provider::Ec2) {
                let cure = "take it out: these hosts are told the servers' addresses";
                cluster.sink.add(&given.at, "only hosts of provider = \"ec2\" have tags to be found by", cure);
            }
            Join::Tag
        }
        other => {
            let cure = "there are \"addresses\" and \"tag\"";
            cluster.sink.add(&given.at, format!("no way to join is named \"{}\"", other.escape_debug()), cure);
            Join::Addresses
        }
    }
}

/// A path; where it leads is known to whoever has files.
fn folder(section: &Section<'_>, key: &'static str, example: &str) -> Option<PathBuf> {
    let given = section.text(key, example)?;
    if given.value.is_empty() {
        section.sink.add(&given.at, format!("{key} in {} is empty", section.name), "name a path, or leave it out");
        return None;
    }
    Some(PathBuf::from(given.value))
}

/// A login user as ssh takes it.
fn user(section: &Section<'_>) -> Option<String> {
    let given = section.text("user", "admin")?;
    if !is_user(&given.value) {
        let message = format!("user in {}: \"{}\" is no login name", section.name, given.value.escape_debug());
        let cure = "write for example: user = \"admin\" (letters, digits and . _ - + @ \\, no - first)";
        section.sink.add(&given.at, message, cure);
        return None;
    }
    Some(given.value)
}

fn ssh(file: &Section<'_>) -> SshSpec {
    let section = file.section("ssh", "[ssh]");
    let ssh = SshSpec {
        user: user(&section),
        port: section.port("port", "22"),
        key: folder(&section, "key", "~/.ssh/id_ed25519"),
        bastion: bastion(&section),
    };
    section.refuse_unknown();
    ssh
}

/// A hop as `ssh -J` takes it, or `none`.
fn bastion(section: &Section<'_>) -> Option<String> {
    let given = section.text("bastion", "admin@gate.example")?;
    if given.value.eq_ignore_ascii_case(Jump::NONE) {
        return Some(Jump::NONE.to_owned());
    }
    match given.value.parse::<Jump>() {
        Ok(jump) => Some(jump.to_string()),
        Err(problem) => {
            let cure = if given.value.contains(',') {
                "name the last one here, and the way to it in your ~/.ssh/config: ProxyJump at its Host"
            } else {
                "write for example: bastion = \"admin@gate.example:22\", or a Host of your ~/.ssh/config"
            };
            section.sink.add(&given.at, format!("bastion in {}: {problem}", section.name), cure);
            None
        }
    }
}

fn span(section: &Section<'_>, key: &'static str, default: Span, least: Span) -> Span {
    match section.parsed::<Span>(key, &default.to_string()) {
        Some(given) if given.value < least => {
            let message = format!("{key} in {} must be at least {least}", section.name);
            section.sink.add(&given.at, message, format!("write for example: {key} = \"{default}\""));
            default
        }
        Some(given) => given.value,
        None => default,
    }
}

fn artifacts(file: &Section<'_>) -> ArtifactsSpec {
    let section = file.section("artifacts", "[artifacts]");
    let mirror = section.text("mirror", "https://mirror.example/releases").and_then(|given| {
        let rest = given.value.strip_prefix("https://").or_else(|| given.value.strip_prefix("http://"));
        let fine = rest.is_some_and(|rest| !rest.is_empty() && !rest.starts_with('/'))
            && !given.value.contains(|c: char| c.is_whitespace() || c == '?' || c == '#');
        if fine {
            return Some(given.value);
        }
        let cure = "write for example: mirror = \"https://mirror.example/releases\"";
        section.sink.add(&given.at, "mirror in [artifacts] is no base URL (http:// or https://, no ? and no #)", cure);
        None
    });
    let artifacts = ArtifactsSpec { mirror, folder: folder(&section, "folder", "releases") };
    section.refuse_unknown();
    artifacts
}

#[cfg(test)]
mod tests;
