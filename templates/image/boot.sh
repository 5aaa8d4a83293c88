#!/bin/sh
# Tells Consul what only this host knows: its name, its address, where the servers are, and the secrets of its cluster.
# Written by clusterctl: a change by hand is undone by its next run.
#
# Runs as root whenever the machine boots, before Consul, and ends when /etc/consul.d/boot.json is as it should be,
# however long that takes: what is in the way goes to standard error, and is asked for again. POSIX sh.
#
# All that it is told is other people's text: each value has to have its own form, and goes into the file only then.
# Secrets go from file to file: none stands in a variable, a command line, the environment or a log.
set -uf
umask 077

# What holds where nobody tells another.
baked={{ cluster | sh }}
told=/etc/clusterctl/boot
output=/etc/consul.d/boot.json
PATH=$PATH:/usr/local/bin
# What is compared and said does not depend on the machine's language.
LC_ALL=C PYTHONIOENCODING=utf-8 AWS_PAGER='' AWS_CLI_AUTO_PROMPT=off
export PATH LC_ALL PYTHONIOENCODING AWS_PAGER AWS_CLI_AUTO_PROMPT

say() { printf 'boot: %s\n' "$1" >&2; }

{% include "image/metadata.sh" %}
# a-z, 0-9 and inner hyphens; 40 signs at most for a cluster, 63 for a host.
cluster_form='[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?'
name_form='[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?'

# An IPv4 address of one host.
ipv4() (
    case $1 in '' | *[!0-9.]* | .* | *. | *..*) exit 1 ;; esac
    IFS=.
    # shellcheck disable=SC2086
    set -- $1
    [ $# -eq 4 ] || exit 1
    for octet in "$@"; do
        case $octet in 0) ;; 0* | ????*) exit 1 ;; esac
        [ "$octet" -le 255 ] || exit 1
    done
    [ "$1" -ge 1 ] && [ "$1" -le 223 ]
)

addresses() {
    case $1 in *[!0-9.\ ]*) return 1 ;; esac
    for one in $1; do
        ipv4 "$one" || return 1
    done
}

# take WHO KEYS: reads lines `key=value` from $work/lines. What is known already stays. A line that is none refuses all.
take() {
    seen=' '
    while IFS= read -r line || [ -n "$line" ]; do
        case $line in '' | '#'*) continue ;; esac
        key=${line%%=*} value=${line#*=}
        case $line in *=*) ;; *) key='' ;; esac
        reason="$1 has the line $(shown "$line"), which is none of key=value with a key of: $2"
        case $key in '' | *[!a-z]*) return 1 ;; esac
        case " $2 " in *" $key "*) ;; *) return 1 ;; esac
        reason="$1 tells $key twice"
        case $seen in *" $key "*) return 1 ;; esac
        seen="$seen$key "
        reason="$1 tells $(shown "$value") as $key, which is none"
        case $key in
            cluster) like "$value" "$cluster_form" || return 1; cluster=${cluster:-$value} ;;
            name) like "$value" "$name_form" || return 1; name=${name:-$value} ;;
            address) ipv4 "$value" || return 1; address=${address:-$value} ;;
            servers) addresses "$value" || return 1; servers=${servers:-$value} ;;
        esac
    done <"$work/lines"
    return 0
}

# What the instance is told by EC2 and by whoever launched it.
ask_ec2() {
    open_metadata || return 1
    tell instance-id "$instance_form" || return 1
    instance=$said
    tell local-ipv4 '[0-9.]+' || return 1
    ipv4 "$said" || { reason="the instance's metadata tell $(shown "$said") as local-ipv4, which is none"; return 1; }
    address=${address:-$said}
{%- if secrets or role != "server" or servers_expected != 1 %}
    tell placement/region '[a-z]+(-[a-z]+)+-[0-9]+' || return 1
    region=$said
{%- endif %}
    fetch GET user-data
    case $status in
        200) tr -d '\000\r' <"$work/body" | sed -n 's/^# clusterctl: //p' >"$work/lines" ;;
        # There is none, which must not be mixed up with an answer that did not come.
        404) : >"$work/lines" ;;
        *) reason="the instance's metadata at $metadata did not tell user-data (status $status)"; return 1 ;;
    esac
    take 'the user-data' 'cluster name' || return 1
    name=${name:-$instance}
}

# Sets cluster, name, address and servers; what nobody tells is empty.
learn() {
    cluster='' name='' address='' servers='' known=no
    if [ -e "$told" ]; then
        cat "$told" >"$work/lines" 2>/dev/null || { reason="$told cannot be read"; return 1; }
        take "$told" 'cluster name servers address' || return 1
{%- if secrets %}
        # The region of the secrets is the instance's own.
{%- elif role == "server" and servers_expected == 1 %}
        # The only server has nobody to look for.
        known=yes
{%- else %}
        # Whoever is told the servers needs nobody.
        [ -z "$servers" ] || known=yes
{%- endif %}
    fi
    [ $known = yes ] || ask_ec2 || return 1
    cluster=${cluster:-$baked}
}

{% if not by_script and (role != "server" or servers_expected != 1) -%}
# by_tag KEY: one more entry, which Consul looks up itself.
by_tag() {
    entry="provider=aws tag_key=$1 tag_value=$cluster region=$region addr_type=private_v4"
    join="$join${join:+, }\"$entry\""
}

{% endif -%}
# Sets `join`, what stands in retry_join, and `interval`.
seek() {
    join='' interval=1s
    for one in $servers; do
        join="$join${join:+, }\"$one\""
    done
    [ -z "$join" ] || return 0
{%- if role == "server" and servers_expected == 1 %}
    # The only server joins itself, as far as it knows where it is.
    [ -z "$address" ] || join="\"$address\""
{%- elif by_script %}
    # This Consul cannot ask EC2, or not as our instances want to be asked.
    found=$({{ find_leader | sh }} --once --cluster "$cluster" --region "$region") || {
        reason='no server of the cluster is to be found'
        return 1
    }
    for one in $found; do
        case $one in -retry-join) continue ;; esac
        ipv4 "$one" || { reason="find-leader printed $(shown "$one"), which is no address"; return 1; }
        join="$join${join:+, }\"$one\""
    done
    [ -n "$join" ] || { reason='find-leader printed no address'; return 1; }
{%- else %}
    by_tag {{ leader_tag | sh }}
{%- if role == "server" %}
    by_tag {{ cluster_tag | sh }}
{%- endif %}
    # Every host of a fleet asks, and an account has one allowance of questions.
    interval=10s
{%- endif %}
}
{%- if secrets %}

# fetch_secret NAME PATTERN: into $work/NAME, or no such file where the parameter does not exist.
fetch_secret() {
    parameter=/clusterctl/$cluster/$1
    rm -f "$work/$1" "$work/raw"
    if ! within 60 aws ssm get-parameter --region "$region" --name "$parameter" --with-decryption \
        --query Parameter.Value --output text >"$work/raw" 2>"$work/errors" </dev/null; then
        grep -q '(ParameterNotFound)' "$work/errors" && return
        # Only the CLI's own words; the value would have gone to the other file.
        complaint=$(grep -v '^[[:space:]]*$' "$work/errors" | tail -n 1 | tr -cd '\040-\176')
        reason="ssm:GetParameter of $parameter in $region failed: ${complaint:-no answer within 60 s}"
        return 1
    fi
    # awk reads a last line without its end, too.
    if ! awk 'END { exit NR != 1 }' "$work/raw" || ! grep -Eqx -e "$2" "$work/raw"; then
        reason="$parameter holds $3: put one there"
        return 1
    fi
    mv -f "$work/raw" "$work/$1"
}

secrets() {
    has aws || { reason='there is no aws command to ask for the secrets: install the AWS CLI'; return 1; }
    # 16, 24 or 32 bytes.
    fetch_secret gossip-key '[A-Za-z0-9+/]{22}==|[A-Za-z0-9+/]{32}|[A-Za-z0-9+/]{43}=' \
        'no key of 16, 24 or 32 bytes in base64' || return 1
{%- if can.acl_tokens %}
    hex='[0-9A-Fa-f]'
    fetch_secret agent-token "$hex{8}-$hex{4}-$hex{4}-$hex{4}-$hex{12}" 'no token, which is a UUID' || return 1
{%- else %}
    # This Consul has no `acl.tokens`: it takes no agent's token from here.
{%- endif %}
}
{%- endif %}

# All values have passed their forms, in which no sign means anything to JSON.
compose() {
    echo '{'
    [ -z "$name" ] || printf '  "node_name": "%s",\n' "$name"
    if [ -n "$address" ]; then
        printf '  "bind_addr": "%s",\n' "$address"
{%- if can.sockaddr_templates %}
    else
        printf '  "bind_addr": "{{ '{{' }} GetPrivateIP {{ '}}' }}",\n'
{%- endif %}
    fi
    [ -z "$join" ] || printf '  "retry_join": [%s],\n' "$join"
{%- if can.node_meta %}
    printf '  "node_meta": { "clusterctl-cluster": "%s", "clusterctl-role": "{{ role }}" },\n' "$cluster"
{%- endif %}
{%- if secrets %}
    [ ! -e "$work/gossip-key" ] || awk '{ printf "  \"encrypt\": \"%s\",\n", $0 }' "$work/gossip-key" || return 1
{%- if can.acl_tokens %}
    # `agent` is for the node itself; `default` for its services, which have no tokens of their own.
    [ ! -e "$work/agent-token" ] ||
        awk '{ printf "  \"acl\": { \"enabled\": true, \"tokens\": { \"agent\": \"%s\", \"default\": \"%s\" } },\n", $0, $0 }' \
            "$work/agent-token" || return 1
{%- endif %}
{%- endif %}
    printf '  "retry_interval": "%s"\n}\n' "$interval"
}

# Beside, whole, and only where it differs.
write() {
    reason="$output cannot be written"
    new=$output.clusterctl-new
    rm -f "$new"
    compose >"$new" && chown root:consul "$new" && chmod 0640 "$new" || return 1
    if [ -f "$output" ] && [ ! -L "$output" ] && cmp -s "$new" "$output"; then
        rm -f "$new"
        # Its mode and owner are not compared: setting them again harms nobody.
        chown root:consul "$output" && chmod 0640 "$output"
        return
    fi
    mv -f "$new" "$output" || return 1
    say "$output is new: cluster $cluster, name ${name:-the hostname}, address ${address:-its private one}"
}

{% if secrets -%}
attempt() { learn && seek && secrets && write; }
{%- else -%}
attempt() { learn && seek && write; }
{%- endif %}

pause=1
again() {
    say "$reason; trying again in $pause s"
    sleep "$pause"
    pause=$((pause + (pause + 1) / 2))
    [ $pause -le 30 ] || pause=30
}

[ $# -eq 0 ] || { say "unknown argument $(shown "$1") (none is known)"; exit 64; }
until work=$(mktemp -d 2>/dev/null); do
    reason="no folder for temporary files can be made in ${TMPDIR:-/tmp}"
    again
done
trap 'rm -rf "$work"' EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM
until attempt; do
    again
done
