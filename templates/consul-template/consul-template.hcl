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
wait = "200ms:1s"

template {
  source      = "/etc/consul-template/prometheus.yml.ctmpl"
  # It stays there, so that whatever changes nothing in it (what a check says, say) reloads nothing.
  destination = {{ candidate | json }}
  command     = {{ reload | json }}
}
