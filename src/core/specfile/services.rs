//! The user's own services: `[[service]]`.

use std::collections::{BTreeMap, BTreeSet};

use super::address::is_url;
use super::hosts::parse_role;
use super::section::{At, Section};
use super::span;
use crate::core::names::nearest;
use crate::core::select::host_name;
use crate::model::host::Role;
use crate::model::name::{ClusterName, HostName, ServiceName};
use crate::model::spec::{CheckKind, ProviderSpec, Service, ServiceCheck, ServiceMetrics, Span};

/// Names that clusterctl itself, or Prometheus' jobs of ours, have taken.
pub const RESERVED: [&str; 7] =
    ["alertmanager", "clusterctl-hand-over", "consul", "consul-template", "node", "node-exporter", "prometheus"];

pub(super) fn read(file: &Section<'_>, provider: Option<&ProviderSpec>, cluster: Option<&ClusterName>) -> Vec<Service> {
    let known = provider.and_then(|provider| Known::of(provider, cluster?));
    let mut names: BTreeMap<ServiceName, usize> = BTreeMap::new();
    let mut services = Vec::new();
    for section in file.sections("service", "[[service]]") {
        let name = name(&section, &mut names);
        let service = service(&section, name, known.as_ref());
        section.refuse_unknown();
        services.extend(service);
    }
    services
}

fn name(section: &Section<'_>, names: &mut BTreeMap<ServiceName, usize>) -> Option<ServiceName> {
    if !section.has("name") {
        section.missing("name", "\"web\"");
    }
    let At { value, at } = section.parsed::<ServiceName>("name", "web")?;
    if RESERVED.contains(&value.as_str()) {
        let cure = "clusterctl defines a service of that name itself: take another";
        section.sink.add(&at, format!("the service name {value} is taken"), cure);
    }
    let line = section.sink.line(&at);
    if let Some(first) = names.insert(value.clone(), line) {
        let message = format!("two services are named {value}: on line {first} and on line {line}");
        section.sink.add(&at, message, "give each a name of its own; `hosts` and `roles` say where one runs");
    }
    Some(value)
}

fn service(section: &Section<'_>, name: Option<ServiceName>, known: Option<&Known>) -> Option<Service> {
    let port = section.port("port", "8080");
    let tags = section.texts("tags", "v1").unwrap_or_default();
    for tag in tags.iter().filter(|tag| tag.value.trim().is_empty()) {
        section.sink.add(&tag.at, "a tag is empty", "take it out");
    }
    let roles: BTreeSet<Role> = match section.texts("roles", "node") {
        Some(given) => given.iter().filter_map(|role| parse_role(section, role)).collect(),
        None => BTreeSet::from([Role::Node]),
    };
    if roles.is_empty() {
        section.sink.add(&section.at, "a service without roles runs nowhere", "write for example: roles = [\"node\"]");
    }
    let hosts = hosts(section, known);
    let check = check(section);
    let metrics = metrics(section, port);
    Some(Service {
        name: name?,
        port,
        tags: tags.into_iter().map(|tag| tag.value).collect(),
        roles,
        hosts,
        check,
        metrics,
    })
}

/// The hosts that a cluster may have.
struct Known {
    names: Vec<HostName>,
    /// The names are `<cluster>-<role>-<number>`, and there may come to be more of them.
    made_of: Option<ClusterName>,
}

impl Known {
    fn of(provider: &ProviderSpec, cluster: &ClusterName) -> Option<Self> {
        let (servers, nodes) = match provider {
            ProviderSpec::Inventory { hosts } => {
                return Some(Self { names: hosts.iter().map(|host| host.name.clone()).collect(), made_of: None });
            }
            ProviderSpec::Sandbox { servers, nodes } => (*servers, *nodes),
            ProviderSpec::Ec2(ec2) => (ec2.servers, ec2.nodes),
        };
        let numbered = |role, count: u16| (1..=u32::from(count)).map(move |n| host_name(cluster, role, n));
        let names = numbered(Role::Server, servers).chain(numbered(Role::Node, nodes)).collect();
        Some(Self { names, made_of: Some(cluster.clone()) })
    }

    fn has(&self, host: &HostName) -> bool {
        let may_come = |cluster: &ClusterName| {
            [Role::Server, Role::Node].iter().any(|role| {
                let number = host.as_str().strip_prefix(&format!("{cluster}-{role}-"));
                number.is_some_and(|number| !number.starts_with('0') && number.parse::<u16>().is_ok())
            })
        };
        self.names.contains(host) || self.made_of.as_ref().is_some_and(may_come)
    }

    fn mistake(&self, host: &HostName) -> (String, String) {
        let message = match &self.made_of {
            None => format!("no [[host]] is named {host}"),
            Some(cluster) => format!("no host of {cluster} is ever named {host}"),
        };
        let names = || self.names.iter().map(HostName::as_str);
        let cure = match (nearest(host.as_str(), names()), &self.made_of) {
            (Some(near), _) => format!("did you mean \"{near}\"?"),
            (None, None) => format!("there are: {}", names().collect::<Vec<_>>().join(", ")),
            (None, Some(cluster)) => format!("they are named {cluster}-server-1, {cluster}-node-1 and so on"),
        };
        (message, cure)
    }
}

fn hosts(section: &Section<'_>, known: Option<&Known>) -> BTreeSet<HostName> {
    let given = section.all_parsed::<HostName>("hosts", "web-1").unwrap_or_default();
    for host in given.iter() {
        if let Some(known) = known.filter(|known| !known.has(&host.value)) {
            let (message, cure) = known.mistake(&host.value);
            section.sink.add(&host.at, message, cure);
        }
    }
    given.into_iter().map(|host| host.value).collect()
}

fn check(section: &Section<'_>) -> Option<ServiceCheck> {
    let check = section.inline("check", "{ http = \"http://127.0.0.1:8080/health\" }");
    if !check.is_there() {
        return None;
    }
    let http = check.text("http", "http://127.0.0.1:8080/health").map(|url| {
        if !is_url(&url.value) {
            let cure = "write for example: http = \"http://127.0.0.1:8080/health\", with %20 for a blank and the like";
            check.sink.add(&url.at, "http in check is no URL", cure);
        }
        CheckKind::Http(url.value)
    });
    let tcp = check.text("tcp", "127.0.0.1:8080").map(|address| {
        let port =
            address.value.rsplit_once(':').and_then(|(host, port)| port.parse::<u16>().ok().filter(|_| is_host(host)));
        if port.is_none_or(|port| port == 0) {
            let cure = "write for example: tcp = \"127.0.0.1:8080\", or \"[::1]:8080\"";
            check.sink.add(&address.at, "tcp in check is no address with a port", cure);
        }
        CheckKind::Tcp(address.value)
    });
    let args = check.texts("args", "/usr/local/bin/check-web").map(|args| {
        if args.first().is_none_or(|program| !program.value.starts_with('/')) {
            let cure = "the program's whole path comes first: args = [\"/usr/local/bin/check-web\", \"--fast\"]; no shell reads it";
            check.sink.add(&check.at, "args in check begins with no whole path of a program", cure);
        }
        CheckKind::Args(args.into_iter().map(|arg| arg.value).collect())
    });
    let least = Span::from_secs(1);
    let interval = span(&check, "interval", Span::from_secs(10), least);
    let timeout = span(&check, "timeout", Span::from_secs(5), Span::from_millis(1));
    check.refuse_unknown();
    let named = ["http", "tcp", "args"].iter().filter(|key| check.has(key)).count();
    if named != 1 {
        let what = if named == 0 {
            "a check needs one of http, tcp and args"
        } else {
            "a check has one of http, tcp and args"
        };
        check.sink.add(&check.at, what, "write for example: check = { http = \"http://127.0.0.1:8080/health\" }");
    }
    Some(ServiceCheck { kind: http.or(tcp).or(args)?, interval, timeout })
}

/// A name or an address; an IPv6 address only in brackets.
fn is_host(text: &str) -> bool {
    match text.strip_prefix('[').and_then(|text| text.strip_suffix(']')) {
        Some(inner) => inner.parse::<std::net::Ipv6Addr>().is_ok(),
        None => !text.is_empty() && !text.contains([':', '[', ']', '/']) && !text.contains(char::is_whitespace),
    }
}

fn metrics(section: &Section<'_>, service_port: Option<u16>) -> Option<ServiceMetrics> {
    let metrics = section.inline("metrics", "{ path = \"/metrics\", port = 9200 }");
    if !metrics.is_there() {
        return None;
    }
    let path = metrics.text("path", "/metrics");
    if let Some(path) = path.as_ref().filter(|path| !path.value.starts_with('/')) {
        metrics.sink.add(&path.at, "path in metrics must begin with /", "write for example: path = \"/metrics\"");
    }
    if let Some(path) = path.as_ref().filter(|path| path.value.contains(['?', '#'])) {
        let cure = "leave out what begins with ? or #: Prometheus asks for a path, and takes those for a part of it";
        metrics.sink.add(&path.at, "path in metrics is more than a path", cure);
    }
    let port = metrics.port("port", "9200");
    let unhealthy = metrics.text("unhealthy", "skip").is_none_or(|given| match given.value.as_str() {
        "scrape" => true,
        "skip" => false,
        other => {
            let message = format!("unhealthy in metrics: \"{}\" is neither of the two", other.escape_debug());
            let cure = "\"scrape\": whatever its check says; \"skip\": only while its check passes";
            metrics.sink.add(&given.at, message, cure);
            true
        }
    });
    metrics.refuse_unknown();
    if port.is_none() && service_port.is_none() {
        let cure = "give the service a port, or metrics = { port = 9200 }";
        metrics.sink.add(&metrics.at, "metrics need a port", cure);
    }
    Some(ServiceMetrics { path: path.map_or_else(|| "/metrics".to_owned(), |path| path.value), port, unhealthy })
}
