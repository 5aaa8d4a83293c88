//! `[prometheus]` and `[alertmanager]`.

use std::collections::BTreeMap;

use super::address::is_url;
use super::section::Section;
use super::span;
use crate::model::spec::{AlertmanagerSpec, Discovery, PrometheusSpec, ProviderSpec, Span};
use crate::model::version::Preset;

pub(super) fn prometheus(file: &Section<'_>, provider: Option<&ProviderSpec>, preset: Preset) -> PrometheusSpec {
    let section = file.section("prometheus", "[prometheus]");
    let default = PrometheusSpec::of(provider.map_or("", ProviderSpec::as_str));
    let usual = Discovery::of(preset);
    let prometheus = PrometheusSpec {
        scrape_interval: span(&section, "scrape_interval", default.scrape_interval, Span::from_millis(100)),
        retention: span(&section, "retention", default.retention, Span::from_secs(3600)),
        external_labels: external_labels(&section),
        discovery: section.parsed::<Discovery>("discovery", usual.as_str()).map_or(usual, |given| given.value),
    };
    section.refuse_unknown();
    prometheus
}

/// A key of more than 1,024 characters is none in YAML; nobody wants a tenth of that.
const LONGEST_LABEL: usize = 100;

/// Prometheus' own rule for label names; those with two underscores in front are its own.
fn external_labels(section: &Section<'_>) -> BTreeMap<String, String> {
    let labels = section.section("external_labels", "[prometheus.external_labels]");
    let mut read = BTreeMap::new();
    for (name, value) in labels.entries("\"eu\"") {
        let long = name.value.len() > LONGEST_LABEL;
        let first = name.value.bytes().next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_');
        let named = name.value.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
        if !first || !named || name.value.starts_with("__") {
            let message = format!("\"{}\" is no label name that Prometheus lets you set", name.value.escape_debug());
            let cure = "use a-z, A-Z, 0-9 and _, no digit first, and no two underscores first";
            section.sink.add(&name.at, message, cure);
        } else if long {
            let cure = format!("take one of at most {LONGEST_LABEL} characters");
            section.sink.add(&name.at, "this label name is too long", cure);
        }
        read.insert(name.value, value.value);
    }
    read
}

/// Where the table stands in the file, there is an Alertmanager.
pub(super) fn alertmanager(file: &Section<'_>) -> Option<AlertmanagerSpec> {
    let section = file.section("alertmanager", "[alertmanager]");
    let example = "https://alerts.example/hook";
    let webhooks = section.texts("webhooks", example).unwrap_or_default();
    for url in &webhooks {
        if !is_url(&url.value) {
            let cure = format!("write for example: webhooks = [\"{example}\"], with %20 for a blank and the like");
            section.sink.add(&url.at, "this webhook is no URL (http:// or https://)", cure);
        }
    }
    section.refuse_unknown();
    let webhooks = webhooks.into_iter().map(|url| url.value).collect();
    section.is_there().then_some(AlertmanagerSpec { webhooks })
}
