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
umask 027

candidate={{ candidate | sh }}
config={{ config | sh }}
program={{ prometheus | sh }}
# A copy beside it: what was checked is what is put in place, and the rules are found from there.
checked=$config.checked

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
mv -f "$checked" "$config" || refuse 'it cannot be put in place'

# Even where nothing differs: an earlier run may have ended before its signal.
ticks=$(getconf CLK_TCK 2>/dev/null) || ticks=100
for pid in $(processes); do
    # A signal in its first moments, before it listens to signals, would end it.
    seconds=$(age "$pid") || continue
    [ "$seconds" -ge 2 ] || sleep 2
    kill -HUP "$pid" 2>/dev/null || :
done
exit 0
