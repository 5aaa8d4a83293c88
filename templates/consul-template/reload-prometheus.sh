#!/bin/sh
# Makes Prometheus read the configuration that Consul Template has just written, if it is a good one. Written by
# clusterctl: a change by hand is undone by its next run.
#
# Consul Template runs it as Prometheus' own user. A configuration that promtool refuses is thrown away and the old
# one stays; Prometheus is never stopped. POSIX sh; dash and busybox run it.
set -u
LC_ALL=C
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export LC_ALL PATH

new=/etc/prometheus/prometheus.yml.candidate
config=/etc/prometheus/prometheus.yml
program={{ prometheus | sh }}

# Consul Template ends when this fails and is started again; with the refused file gone it then writes, and this
# script checks, once more.
refuse() {
    printf 'reload-prometheus: %s: the old configuration stays\n' "$1" >&2
    rm -f "$new"
    exit 1
}

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
    read -r line <"/proc/$1/stat" || return 1
    # shellcheck disable=SC2086 # split into fields on purpose
    set -- ${line##*) }
    shift 19
    read -r up rest </proc/uptime
    printf '%s\n' "$((${up%.*} - $1 / ticks))"
}

[ -s "$new" ] || refuse 'there is no new configuration'
{% if promtool -%}
said=$({{ promtool.0 | sh }}{% for word in promtool.1 %} {{ word | sh }}{% endfor %} "$new" 2>&1) || {
    printf '%s\n' "$said" >&2
    refuse 'promtool refuses the new configuration'
}
{% endif -%}
chmod 0640 "$new" || refuse 'its mode cannot be changed'
mv -f "$new" "$config" || refuse 'it cannot be put in place'

ticks=$(getconf CLK_TCK 2>/dev/null) || ticks=100
for pid in $(processes); do
    # A signal in its first moments, before it listens to signals, would end it.
    seconds=$(age "$pid") || continue
    [ "$seconds" -ge 2 ] || sleep 2
    kill -HUP "$pid" 2>/dev/null || :
done
exit 0
