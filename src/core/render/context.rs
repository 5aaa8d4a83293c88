//! What the templates are given: plain values in the templates' own words.

use std::net::SocketAddr;

use serde::Serialize;
use tera::{Context, Value};

use super::{NODE_EXPORTER_PORT, Subject};
use crate::core::dialect::{self, Capability, Dialect};
use crate::core::install::quote;
use crate::model::spec::{CheckKind, Join, Service, ServiceCheck, Span, Spec};

/// What one template is given beside what all are given.
pub(super) type Values = Vec<(&'static str, Value)>;

/// What every template is given, made once a host.
pub(super) fn host_context(spec: &Spec, subject: &Subject, dialect: Dialect<'_>) -> Context {
    let script_checks = spec
        .services
        .iter()
        .any(|s| runs_on(s, subject) && s.check.as_ref().is_some_and(|c| matches!(c.kind, CheckKind::Args(_))));
    let mut context = Context::new();
    context.insert("cluster", &spec.cluster);
    context.insert("datacenter", &spec.datacenter);
    context.insert("name", &subject.name);
    context.insert("role", subject.role.as_str());
    context.insert("address", &subject.address);
    context.insert("servers", &subject.servers);
    context.insert("servers_expected", &servers_expected(spec, subject));
    context.insert("script_checks", &script_checks);
    context.insert("at_boot", &(spec.join == Join::Boot));
    context.insert("can", &dialect.can());
    context
}

/// How many servers elect the first leader.
pub(super) fn servers_expected(spec: &Spec, subject: &Subject) -> usize {
    match subject.servers.len() {
        0 => spec.provider.servers(),
        named => named,
    }
}

/// A service that only some hosts run is on none of an image's.
pub(super) fn runs_on(service: &Service, subject: &Subject) -> bool {
    let here = || subject.name.as_ref().is_some_and(|name| service.hosts.contains(name));
    service.roles.contains(&subject.role) && (service.hosts.is_empty() || here())
}

/// A service as `consul/service.json` takes it.
#[derive(Serialize)]
pub(super) struct ServiceContext {
    name: String,
    port: Option<u16>,
    tags: Vec<String>,
    check: Option<CheckContext>,
}

#[derive(Serialize)]
struct CheckContext {
    name: String,
    kind: &'static str,
    value: serde_json::Value,
    interval: Span,
    timeout: Span,
}

pub(super) fn service_context(service: &Service, dialect: Dialect<'_>) -> ServiceContext {
    let check = service.check.as_ref().map(|ServiceCheck { kind, interval, timeout }| {
        let (key, value) = match kind {
            CheckKind::Http(url) => ("http", url.clone().into()),
            CheckKind::Tcp(address) => ("tcp", address.clone().into()),
            CheckKind::Args(args) if dialect.has(Capability::ArgsChecks) => ("args", args.clone().into()),
            CheckKind::Args(args) => ("script", script(args).into()),
        };
        CheckContext {
            name: format!("{} answers", service.name),
            kind: key,
            value,
            interval: *interval,
            timeout: *timeout,
        }
    });
    let tags = service.tags.iter().cloned().collect();
    ServiceContext { name: service.name.to_string(), port: service.port, tags, check }
}

/// A line for a shell that runs just this program with just these arguments: what Consul knew before `args`.
fn script(args: &[String]) -> String {
    let words: Vec<String> = args.iter().map(|arg| quote(arg)).collect();
    format!("exec {}", words.join(" "))
}

pub(super) fn node_exporter_service(subject: &Subject) -> ServiceContext {
    // Where nobody knows the address yet, it listens on all of them.
    let address = subject.address.unwrap_or_else(|| [127, 0, 0, 1].into());
    let url = format!("http://{}/", SocketAddr::new(address, NODE_EXPORTER_PORT));
    ServiceContext {
        name: "node-exporter".to_owned(),
        port: Some(NODE_EXPORTER_PORT),
        // Prometheus makes the label `role` of it: tags are what every version knows.
        tags: vec![subject.role.as_str().to_owned()],
        check: Some(CheckContext {
            name: "node_exporter answers".to_owned(),
            kind: "http",
            value: url.into(),
            interval: Span::from_secs(10),
            timeout: Span::from_secs(5),
        }),
    }
}

#[derive(Serialize)]
pub(super) struct LabelContext {
    name: String,
    value: String,
}

pub(super) fn external_labels(spec: &Spec) -> Vec<LabelContext> {
    let expands = dialect::has(Capability::ExternalLabelsExpand, &spec.versions);
    let mut labels = spec.prometheus.external_labels.clone();
    labels.entry("cluster".to_owned()).or_insert_with(|| spec.cluster.to_string());
    labels
        .into_iter()
        .map(|(name, value)| LabelContext { name, value: if expands { value.replace('$', "$$") } else { value } })
        .collect()
}

#[derive(Serialize)]
pub(super) struct ScrapedService {
    name: String,
    path: String,
    port: Option<u16>,
    unhealthy: bool,
}

pub(super) fn scraped_services(spec: &Spec) -> Vec<ScrapedService> {
    let scraped = |service: &Service| {
        let metrics = service.metrics.as_ref()?;
        Some(ScrapedService {
            name: service.name.to_string(),
            path: metrics.path.clone(),
            port: metrics.port,
            unhealthy: metrics.unhealthy,
        })
    };
    let mut services: Vec<_> = spec.services.iter().filter_map(scraped).collect();
    services.sort_by(|a, b| a.name.cmp(&b.name));
    services
}
