//! The command lines of the programs: what each version is told by flags. Units quote each argument for their
//! own language.

use super::Making;
use crate::core::dialect::Capability;
use crate::model::spec::Span;

/// `--name=value`, or `-name=value` as Go's own flags are written.
fn flag(dashes: &str, name: &str, value: &str) -> String {
    format!("{dashes}{name}={value}")
}

impl Making<'_> {
    pub(super) fn prometheus_arguments(&self, listen: &str) -> Vec<String> {
        let has = |capability| self.dialect.has(capability);
        let tsdb = has(Capability::DoubleDashes);
        let dashes = if tsdb { "--" } else { "-" };
        let retention: Span = self.spec.prometheus.retention;
        let mut args = vec![flag(dashes, "config.file", super::prometheus::CONFIG)];
        let path = if tsdb { "storage.tsdb.path" } else { "storage.local.path" };
        args.push(flag(dashes, path, super::prometheus::DATA));
        let retention_flag = match (tsdb, has(Capability::RetentionTimeFlag)) {
            (false, _) => "storage.local.retention",
            (true, false) => "storage.tsdb.retention",
            (true, true) => "storage.tsdb.retention.time",
        };
        if !has(Capability::RetentionInConfig) {
            args.push(flag(dashes, retention_flag, &retention.to_string()));
        }
        if has(Capability::DiscoveryReloadFlag) {
            args.push(flag(dashes, "scrape.discovery-reload-interval", "1s"));
        }
        args.push(flag(dashes, "web.listen-address", listen));
        args
    }

    pub(super) fn node_exporter_arguments(&self, listen: &str) -> Vec<String> {
        let dashes = if self.dialect.has(Capability::NodeExporterDoubleDashes) { "--" } else { "-" };
        let mut args = Vec::new();
        if self.dialect.has(Capability::LogToStderrFlag) {
            // Else it logs into files below /tmp.
            args.push("-logtostderr".to_owned());
        }
        args.push(flag(dashes, "web.listen-address", listen));
        args
    }
}
