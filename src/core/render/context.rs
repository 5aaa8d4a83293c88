//! What the templates are given: plain values in the templates' own words.

use std::net::{IpAddr, SocketAddr};

use serde::Serialize;
use tera::Context;

use super::{NODE_EXPORTER_PORT, Peer};
use crate::core::dialect::Capability;
use crate::model::spec::{CheckKind, Service, ServiceCheck, Span, Spec};

pub(super) fn host_context(spec: &Spec, host: &Peer, peers: &[Peer]) -> Context {
    let mut servers: Vec<&Peer> = peers.iter().filter(|peer| peer.role.is_server()).collect();
    servers.sort_by(|a, b| a.name.cmp(&b.name));
    let servers: Vec<IpAddr> = servers.iter().map(|peer| peer.address).collect();
    let script_checks = spec
        .services
        .iter()
        .any(|s| runs_on(s, host) && s.check.as_ref().is_some_and(|c| matches!(c.kind, CheckKind::Args(_))));
    let mut context = Context::new();
    context.insert("cluster", &spec.cluster);
    context.insert("datacenter", &spec.datacenter);
    context.insert("name", &host.name);
    context.insert("role", host.role.as_str());
    context.insert("address", &host.address);
    context.insert("servers", &servers);
    context.insert("script_checks", &script_checks);
    context
}

pub(super) fn runs_on(service: &Service, host: &Peer) -> bool {
    service.roles.contains(&host.role) && (service.hosts.is_empty() || service.hosts.contains(&host.name))
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

pub(super) fn service_context(service: &Service) -> ServiceContext {
    let check = service.check.as_ref().map(|ServiceCheck { kind, interval, timeout }| {
        let (key, value) = match kind {
            CheckKind::Http(url) => ("http", url.clone().into()),
            CheckKind::Tcp(address) => ("tcp", address.clone().into()),
            CheckKind::Args(args) => ("args", args.clone().into()),
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

pub(super) fn node_exporter_service(host: &Peer) -> ServiceContext {
    let url = format!("http://{}/", SocketAddr::new(host.address, NODE_EXPORTER_PORT));
    ServiceContext {
        name: "node-exporter".to_owned(),
        port: Some(NODE_EXPORTER_PORT),
        tags: Vec::new(),
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
    let expands = Capability::ExternalLabelsExpand.is_in(&spec.versions);
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
}

pub(super) fn scraped_services(spec: &Spec) -> Vec<ScrapedService> {
    let scraped = |service: &Service| {
        let metrics = service.metrics.as_ref()?;
        Some(ScrapedService { name: service.name.to_string(), path: metrics.path.clone(), port: metrics.port })
    };
    let mut services: Vec<_> = spec.services.iter().filter_map(scraped).collect();
    services.sort_by(|a, b| a.name.cmp(&b.name));
    services
}
