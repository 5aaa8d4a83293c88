//! The templates that the binary carries, and the folder of the user's own that may replace any of them.

use std::collections::BTreeMap;

/// Every template by the name it has below `templates/`.
pub const EMBEDDED: [(&str, &str); 7] = [
    ("consul/agent.json", include_str!("../../templates/consul/agent.json")),
    ("consul/service.json", include_str!("../../templates/consul/service.json")),
    ("prometheus/cluster.rules.yml", include_str!("../../templates/prometheus/cluster.rules.yml")),
    ("prometheus/prometheus.yml", include_str!("../../templates/prometheus/prometheus.yml")),
    ("systemd/consul.service", include_str!("../../templates/systemd/consul.service")),
    ("systemd/node_exporter.service", include_str!("../../templates/systemd/node_exporter.service")),
    ("systemd/prometheus.service", include_str!("../../templates/systemd/prometheus.service")),
];

/// The user's own templates: name → text, as found in the folder that the spec names.
pub type Overrides = BTreeMap<String, String>;
