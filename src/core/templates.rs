//! The templates that the binary carries, and the folder of the user's own that may replace any of them.

use std::collections::BTreeMap;

/// Every template by the name it has below `templates/`.
pub const EMBEDDED: [(&str, &str); 31] = [
    ("alertmanager/alertmanager.yml", include_str!("../../templates/alertmanager/alertmanager.yml")),
    ("consul-template/consul-template.hcl", include_str!("../../templates/consul-template/consul-template.hcl")),
    ("consul-template/reload-prometheus.sh", include_str!("../../templates/consul-template/reload-prometheus.sh")),
    ("consul/readme.txt", include_str!("../../templates/consul/readme.txt")),
    ("consul/agent.json", include_str!("../../templates/consul/agent.json")),
    ("consul/service.json", include_str!("../../templates/consul/service.json")),
    // Before those that include it.
    ("image/metadata.sh", include_str!("../../templates/image/metadata.sh")),
    ("image/address.json", include_str!("../../templates/image/address.json")),
    ("image/boot.sh", include_str!("../../templates/image/boot.sh")),
    ("image/reap.sh", include_str!("../../templates/image/reap.sh")),
    ("join/find-leader.sh", include_str!("../../templates/join/find-leader.sh")),
    ("prometheus/cluster.rules", include_str!("../../templates/prometheus/cluster.rules")),
    ("prometheus/cluster.rules.yml", include_str!("../../templates/prometheus/cluster.rules.yml")),
    ("prometheus/prometheus.yml", include_str!("../../templates/prometheus/prometheus.yml")),
    // Before those that include it.
    ("systemd/late.tera", include_str!("../../templates/systemd/late.tera")),
    ("systemd/alertmanager.service", include_str!("../../templates/systemd/alertmanager.service")),
    ("systemd/clusterctl-boot.service", include_str!("../../templates/systemd/clusterctl-boot.service")),
    ("systemd/clusterctl-reap.service", include_str!("../../templates/systemd/clusterctl-reap.service")),
    ("systemd/consul-template.service", include_str!("../../templates/systemd/consul-template.service")),
    ("systemd/consul.service", include_str!("../../templates/systemd/consul.service")),
    ("systemd/node_exporter.service", include_str!("../../templates/systemd/node_exporter.service")),
    ("systemd/prometheus.service", include_str!("../../templates/systemd/prometheus.service")),
    ("terraform/main.tf", include_str!("../../templates/terraform/main.tf")),
    // Before those that import it.
    ("upstart/job.tera", include_str!("../../templates/upstart/job.tera")),
    ("upstart/alertmanager.conf", include_str!("../../templates/upstart/alertmanager.conf")),
    ("upstart/clusterctl-reap.conf", include_str!("../../templates/upstart/clusterctl-reap.conf")),
    ("upstart/consul-template.conf", include_str!("../../templates/upstart/consul-template.conf")),
    ("upstart/consul.conf", include_str!("../../templates/upstart/consul.conf")),
    ("upstart/logrotate", include_str!("../../templates/upstart/logrotate")),
    ("upstart/node_exporter.conf", include_str!("../../templates/upstart/node_exporter.conf")),
    ("upstart/prometheus.conf", include_str!("../../templates/upstart/prometheus.conf")),
];

/// The user's own templates: name → text, as found in the folder that the spec names.
pub type Overrides = BTreeMap<String, String>;
