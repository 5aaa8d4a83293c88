#!/bin/sh
# Makes Prometheus read the configuration that Consul Template has just written, if it is a good one. Written by
# clusterctl: a change by hand is undone by its next run.
#
# Consul Template runs it as Prometheus' own user. A configuration that promtool refuses is thrown away and the old
# one stays; Prometheus is never stopped. POSIX sh; dash and busybox run it.
#
# --hand-over: Consul Template has stopped. If that was for good, Prometheus will be told to ask Consul itself, and
# would have no targets until Consul's first answer. So it begins to ask now, while it keeps those that it has: what
# it is told next only takes over the answers.
set -u
LC_ALL=C
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export LC_ALL PATH
umask 027

candidate={{ candidate | sh }}
config={{ config | sh }}
program={{ prometheus | sh }}
# A copy beside it: what was checked is what is put in place, and the rules are found from there.
checked=$config.checked
hand_over=no
[ "${1:-}" = --hand-over ] && hand_over=yes

# Consul Template ends when this fails and is started again; with the refused file gone it then writes, and this
# script checks, once more.
refuse() {
    printf 'reload-prometheus: %s: the old configuration stays\n' "$1" >&2
    rm -f "$candidate" "$checked"
    exit 1
}
trap 'refuse "it was told to stop"' HUP INT TERM

# The main processes of Prometheus that belong to this user. After an upgrade their file is "(deleted)".
processes() {
    for process in /proc/[0-9]*; do
        running=$(readlink "$process/exe" 2>/dev/null) || continue
        case $running in
        "$program" | "$program (deleted)") printf '%s\n' "${process#/proc/}" ;;
        esac
    done
}

# Seconds since a process began. Its name stands in brackets and may hold blanks: the rest is counted from behind it.
age() {
    read -r line 2>/dev/null <"/proc/$1/stat" || return 1
    # shellcheck disable=SC2086 # split into fields on purpose
    set -- ${line##*) }
    shift 19
    read -r up rest </proc/uptime
    printf '%s\n' "$((${up%.*} - $1 / ticks))"
}

# A job without targets. Whoever is equal to one of these questions in another configuration goes on with its answers.
questions() {
    cat <<'END'

  - job_name: clusterctl-hand-over
    consul_sd_configs:
{%- for service in ["node-exporter"] | concat(with=scraped_names) %}
      - server: 127.0.0.1:8500
        services: [{{ service | json }}]
{%- if can.consul_sd_refresh %}
        refresh_interval: 1s
{%- endif %}
{%- endfor %}
    relabel_configs:
      - source_labels: [job]
        regex: '(.*)'
        action: drop
END
}

if [ "$hand_over" = yes ]; then
    # It starts again, or starts at the next boot.
    [ ! -L {{ enabled | sh }} ] || exit 0
    grep -q clusterctl-hand-over "$config" && exit 0
    { cat "$config" && questions; } >"$candidate" || refuse 'it cannot be written'
fi
[ -s "$candidate" ] || refuse 'there is no new configuration'
rm -f "$checked"
cp "$candidate" "$checked" || refuse 'it cannot be copied'
chmod 0640 "$checked" || refuse 'its mode cannot be changed'
{% if promtool -%}
# Not every host has `timeout`, and some have one with other options.
limit=''
timeout -s KILL 20 true 2>/dev/null && limit='timeout -s KILL 20'
status=0
said=$($limit {{ promtool.0 | sh }}{% for word in promtool.1 %} {{ word | sh }}{% endfor %} "$checked" 2>&1) || status=$?
if [ "$status" != 0 ]; then
    printf '%s\n' "$said" >&2
    [ "$status" != 137 ] || refuse 'promtool took longer than 20 s and was ended'
    refuse 'promtool refuses the new configuration'
fi
{% endif -%}
trap '' HUP INT TERM
mv -f "$checked" "$config" || refuse 'it cannot be put in place'

# Even where nothing differs: an earlier run may have ended before its signal.
ticks=$(getconf CLK_TCK 2>/dev/null) || ticks=100
for pid in $(processes); do
    # A signal in its first moments, before it listens to signals, would end it.
    seconds=$(age "$pid") || continue
    [ "$seconds" -ge 2 ] || sleep 2
    kill -HUP "$pid" 2>/dev/null || :
done
# Long enough for the answers of an agent on this host.
[ "$hand_over" = no ] || sleep 1
exit 0
