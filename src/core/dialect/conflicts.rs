//! What cannot work together: two versions, or a version and what the spec asks for.

use super::{Capability, has};
use crate::model::spec::{CheckKind, Discovery, Spec};
use crate::model::version::Program;

/// What of the spec a conflict is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum About {
    Program(Program),
    ScrapeInterval,
    Alertmanager,
    /// By its place among the services.
    Service(usize),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conflict {
    pub about: About,
    pub message: String,
    pub cure: String,
}

impl Conflict {
    fn new(about: About, message: impl Into<String>, cure: impl Into<String>) -> Self {
        Self { about, message: message.into(), cure: cure.into() }
    }
}

/// All conflicts in a spec.
pub fn conflicts(spec: &Spec) -> Vec<Conflict> {
    let mut found = services(spec);
    found.extend(alertmanager(spec));
    let interval = spec.prometheus.scrape_interval.as_duration();
    let prometheus = &spec.versions.prometheus;
    if interval.subsec_millis() != 0 && !has(Capability::MillisecondDurations, &spec.versions) {
        let message =
            format!("scrape_interval has a fraction of a second, which Prometheus {prometheus} does not read");
        found.push(Conflict::new(About::ScrapeInterval, message, "write whole seconds, such as \"1s\""));
    }
    found
}

fn services(spec: &Spec) -> Vec<Conflict> {
    let versions = &spec.versions;
    let mut found = Vec::new();
    for (index, service) in spec.services.iter().enumerate() {
        let tcp = service.check.as_ref().is_some_and(|check| matches!(check.kind, CheckKind::Tcp(_)));
        if tcp && !has(Capability::TcpChecks, versions) {
            let message =
                format!("Consul {} has no tcp checks, and the service {} has one", versions.consul, service.name);
            let cure = "take Consul 0.6.0 or newer, or a check with http or args";
            found.push(Conflict::new(About::Service(index), message, cure));
        }
        let digit_first = service.metrics.is_some() && service.name.as_str().starts_with(|c: char| c.is_ascii_digit());
        if digit_first && !has(Capability::AnyJobName, versions) {
            let message = format!(
                "Prometheus {} takes no job whose name begins with a digit: {}",
                versions.prometheus, service.name
            );
            found.push(Conflict::new(About::Service(index), message, "begin its name with a letter"));
        }
        let other_port = service.metrics.as_ref().is_some_and(|metrics| metrics.port.is_some());
        let asks_consul = spec.prometheus.discovery == Discovery::ConsulSd;
        if other_port && asks_consul && !has(Capability::ConsulAddressLabel, versions) {
            let message = format!(
                "Prometheus {} scrapes a service at its own port only, and {} has another for its metrics",
                versions.prometheus, service.name
            );
            let cure = "write discovery = \"consul-template\" in [prometheus], or take the port of metrics out";
            found.push(Conflict::new(About::Service(index), message, cure));
        }
        let skips = service.metrics.as_ref().is_some_and(|metrics| !metrics.unhealthy);
        if skips && asks_consul && !has(Capability::ConsulHealthLabel, versions) {
            let message = format!(
                "Prometheus {} does not learn the health of a service from Consul, and {} is to be scraped only while \
                 its check passes",
                versions.prometheus, service.name
            );
            let cure = "write discovery = \"consul-template\" in [prometheus], or take unhealthy = \"skip\" out";
            found.push(Conflict::new(About::Service(index), message, cure));
        }
    }
    found
}

fn alertmanager(spec: &Spec) -> Option<Conflict> {
    spec.alertmanager.as_ref()?;
    let versions = &spec.versions;
    let (prometheus, alertmanager) = (&versions.prometheus, &versions.alertmanager);
    if !has(Capability::AlertingSection, versions) {
        let message = format!("Prometheus {prometheus} cannot be told of an Alertmanager");
        return Some(Conflict::new(
            About::Alertmanager,
            message,
            "take Prometheus 2.11.0 or newer, or [alertmanager] out",
        ));
    }
    if !has(Capability::AlertmanagerApiVersion, versions) && !has(Capability::AlertmanagerV1, versions) {
        let message = format!(
            "Prometheus {prometheus} speaks the first version of Alertmanager's API, which {alertmanager} has no more"
        );
        let cure = "take Prometheus 2.11.0 or newer, or Alertmanager 0.26.0 or older";
        return Some(Conflict::new(About::Program(Program::Alertmanager), message, cure));
    }
    None
}
