//! `[versions]`, and whether what it names works together.

use std::collections::BTreeMap;

use semver::Version;

use super::mistakes::Span;
use super::section::Section;
use crate::core::dialect::{self, About};
use crate::model::spec::Spec;
use crate::model::version::{Preset, Program, Versions};

/// The versions, and where each is named.
pub(super) struct Named {
    pub preset: Preset,
    pub versions: Versions,
    at: BTreeMap<Program, Span>,
}

pub(super) fn read(file: &Section<'_>, preset: Option<Preset>) -> Named {
    let section = file.section("versions", "[versions]");
    let written = section.parsed::<Preset>("preset", "current").map(|given| given.value);
    let preset = preset.or(written).unwrap_or_default();
    let usual = preset.versions();
    let mut at = BTreeMap::new();
    let mut version = |key, program, default: Version| version(&section, key, program, default, &mut at);
    let versions = Versions {
        consul: version("consul", Program::Consul, usual.consul),
        consul_template: version("consul_template", Program::ConsulTemplate, usual.consul_template),
        prometheus: version("prometheus", Program::Prometheus, usual.prometheus),
        node_exporter: version("node_exporter", Program::NodeExporter, usual.node_exporter),
        alertmanager: version("alertmanager", Program::Alertmanager, usual.alertmanager),
    };
    section.refuse_unknown();
    Named { preset, versions, at }
}

fn version(
    section: &Section<'_>,
    key: &'static str,
    program: Program,
    default: Version,
    at: &mut BTreeMap<Program, Span>,
) -> Version {
    let Some(given) = section.text(key, &default.to_string()) else { return default };
    at.insert(program, given.at.clone());
    let example = format!("write for example: {key} = \"{default}\"");
    let text = given.value.as_str();
    let oldest = dialect::oldest(program);
    match text.parse::<Version>() {
        Ok(version) if version >= oldest => version,
        Ok(_) => {
            let message = format!("{key} {text} is older than anything that clusterctl can set up");
            section.sink.add(&given.at, message, format!("take {oldest} or newer; {example}"));
            default
        }
        Err(_) if text.strip_prefix('v').is_some_and(|bare| bare.parse::<Version>().is_ok()) => {
            let cure = format!("leave out the \"v\": {key} = \"{}\"", &text[1..]);
            section.sink.add(&given.at, format!("\"{text}\" is no version number"), cure);
            default
        }
        Err(error) => {
            section.sink.add(&given.at, format!("\"{}\" is no version number: {error}", text.escape_debug()), example);
            default
        }
    }
}

/// What two versions, or a version and a wish, cannot do together.
pub(super) fn refuse_conflicts(file: &Section<'_>, spec: &Spec, named: &Named) {
    for conflict in dialect::conflicts(spec) {
        let table = |key: &'static str| file.place(key).unwrap_or_else(|| file.at.clone());
        let at = match conflict.about {
            About::Program(program) => named.at.get(&program).cloned().unwrap_or_else(|| table("versions")),
            About::ScrapeInterval => {
                file.place_within("prometheus", "scrape_interval").unwrap_or_else(|| table("prometheus"))
            }
            About::Alertmanager => table("alertmanager"),
            About::Service(index) => file.place_in("service", index).unwrap_or_else(|| file.at.clone()),
        };
        file.sink.add(&at, conflict.message, conflict.cure);
    }
}
