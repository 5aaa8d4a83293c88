//! No row of the dialects' table is dead: with each capability something else is rendered than without it.

use super::*;
use crate::core::dialect::flip::{flipped, rows};
use crate::core::dialect::{Part, Row};
use crate::model::file::Check;
use crate::model::spec::{AlertmanagerSpec, Discovery, FleetSpec, Join, ProviderSpec, Secrets, ServiceMetrics};
use crate::model::version::Versions;

/// What a version decides elsewhere than in what is rendered: whether a spec is taken at all, or how a program that
/// runs is asked.
const ELSEWHERE: [&str; 7] = [
    "consul_address_label",
    "alerting_section",
    "tcp_checks",
    "millisecond_durations",
    "any_job_name",
    "consul_health_label",
    "alertmanager_v1",
];

/// Specs that between them ask for everything.
fn specs() -> Vec<Spec> {
    let mut all = spec();
    let mut script = service("script");
    script.roles = BTreeSet::from([Role::Server, Role::Node]);
    script.check = Some(ServiceCheck {
        kind: CheckKind::Args(vec!["/bin/true".to_owned()]),
        interval: Span::from_secs(10),
        timeout: Span::from_secs(5),
    });
    script.metrics = Some(ServiceMetrics { path: "/".to_owned(), port: None, unhealthy: true });
    all.services.push(script);
    all.prometheus.external_labels.insert("a".to_owned(), "$x".to_owned());
    all.alertmanager = Some(AlertmanagerSpec { webhooks: Vec::new() });
    let mut tagged = Spec { join: Join::Tag, provider: ProviderSpec::Ec2(Box::default()), ..all.clone() };
    tagged.prometheus.discovery = Discovery::ConsulTemplate;
    let found = Spec { join: Join::LeaderTag, ..tagged.clone() };
    let mut told = Spec { join: Join::Boot, fleet: Some(FleetSpec::default()), ..tagged.clone() };
    told.image.secrets = Secrets::Ssm;
    vec![all, tagged, found, told]
}

/// All that is rendered for these versions: texts, checks, executables.
fn everything(versions: &Versions, init: &Init) -> Vec<(String, Vec<Check>)> {
    let mut rendered = Vec::new();
    for spec in specs() {
        let spec = Spec { versions: versions.clone(), ..spec };
        for (role, address, servers) in [
            (Role::Server, Some("fd00::1".parse().unwrap()), vec!["fd00::1".parse().unwrap()]),
            (Role::Node, None, Vec::new()),
        ] {
            let subject = Subject { role, init: init.clone(), name: None, address, servers };
            let wanted = RENDERER.wanted(&spec, &subject, &absent(&spec, role)).unwrap();
            let paths: Vec<_> = wanted.files.iter().map(|file| file.path.to_string()).collect();
            rendered.push((format!("{paths:?}{:?}", texts(&wanted)), wanted.checks));
        }
    }
    rendered
}

/// The newest of everything, but the row's own program as it was when the capability came or went.
fn around(row: &Row) -> (Versions, Init) {
    let [major, minor, patch] = row.since.or(row.until).unwrap().map(u64::from);
    let at = semver::Version::new(major, minor, patch);
    let mut versions = Preset::Current.versions();
    match row.of {
        Part::Upstart => return (versions, Init::Upstart(at)),
        Part::Program(Program::Consul) => versions.consul = at,
        Part::Program(Program::ConsulTemplate) => versions.consul_template = at,
        Part::Program(Program::Prometheus) => versions.prometheus = at,
        Part::Program(Program::NodeExporter) => versions.node_exporter = at,
        Part::Program(Program::Alertmanager) => versions.alertmanager = at,
        Part::Program(Program::Pushgateway) => unreachable!("no file depends on its version"),
    }
    (versions, Init::Systemd)
}

#[test]
fn every_capability_changes_what_is_rendered() {
    for row in rows() {
        let (versions, init) = around(row);
        let with = everything(&versions, &init);
        let without = flipped(row.capability, || everything(&versions, &init));
        assert_eq!(with == without, ELSEWHERE.contains(&row.name().as_str()), "{}", row.name());
    }
}
