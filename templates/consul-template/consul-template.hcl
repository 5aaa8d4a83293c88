# Consul Template of the cluster {{ cluster }}. Written by clusterctl: a change by hand is undone by its next run.
{% if can.consul_stanza -%}
consul {
  address = "127.0.0.1:8500"

  # Consul may be away for long: ask again, soon and without end.
  retry {
    attempts    = 0
    max_backoff = "2s"
  }
}
{% else -%}
consul = "127.0.0.1:8500"
{% endif %}
# When several things change at once, Prometheus reloads once.
wait = "200ms:2s"

template {
  source      = "/etc/consul-template/prometheus.yml.ctmpl"
  # Beside the file that it becomes, so that promtool finds the same rules and a rename is enough.
  destination = "/etc/prometheus/prometheus.yml.candidate"
  command     = "/usr/local/lib/clusterctl/reload-prometheus"
}
