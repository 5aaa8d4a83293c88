#!/bin/sh
# Prints `-retry-join ADDRESS …`, on one line, for the running instances that are tagged as the cluster's leader.
# Written by clusterctl: a change by hand is undone by its next run.
#
#   find-leader          asks until there is one, however long that takes; what is in the way goes to standard error
#   find-leader --once   asks once, and exits 1 if there is none
#
# `--cluster NAME` and `--region REGION` hold in place of those below: a host that is told its cluster when it boots.
#
# For versions of Consul that cannot ask EC2 themselves. It needs the AWS CLI and, on the instance, a profile that
# may call ec2:DescribeInstances. POSIX sh.
#
# What the tags say is somebody else's text: it is compared inside awk and goes no further. Only what is an IPv4
# address is printed.
set -uf

tag_key={{ tag_key | sh }}
# In any letter case; empty for any value. Where it is true, 1 and yes mean the same.
tag_value={{ tag_value | sh }}
# Empty to ask the instance's metadata.
region={{ region | sh }}
# An instance that is tagged as another cluster's does not count; one that says nothing of a cluster does.
cluster={{ cluster | sh }}

metadata=${AWS_EC2_METADATA_SERVICE_ENDPOINT:-http://169.254.169.254}
metadata=${metadata%/}/latest
# One look-up of the CLI, with all its pages.
limit=60
PATH=$PATH:/usr/local/bin
# What is compared, sorted and said does not depend on the machine's language.
LC_ALL=C PYTHONIOENCODING=utf-8 AWS_PAGER='' AWS_CLI_AUTO_PROMPT=off
export PATH LC_ALL PYTHONIOENCODING AWS_PAGER AWS_CLI_AUTO_PROMPT

has() { command -v "$1" >/dev/null 2>&1; }

say() { printf 'find-leader: %s\n' "$1" >&2; }

# within SECONDS PROGRAM …: runs it, and ends it after so long where there is a `timeout` that takes its time as
# everybody's does.
within() {
    seconds=$1
    shift
    if timeout 5 true 2>/dev/null; then
        timeout "$seconds" "$@"
    else
        "$@"
    fi
}

# ask METHOD PATH [HEADER]: what the metadata service answers, past any proxy.
ask() (
    unset http_proxy HTTP_PROXY all_proxy ALL_PROXY
    # The time limit is not wget's own: Busybox' crashes where it was built without.
    if has curl; then
        within 3 curl -sf -X "$1" ${3:+-H "$3"} "$metadata/$2" 2>/dev/null
    elif [ "$1" = GET ]; then
        within 3 wget -q -O - ${3:+--header "$3"} "$metadata/$2" 2>/dev/null
    else
        # Busybox' wget has no such option, and so only knows the older way to ask.
        within 3 wget -q -O - --method "$1" ${3:+--header "$3"} "$metadata/$2" 2>/dev/null
    fi
)

# The region, from the instance's metadata: with a token where that is to be had, else without.
own_region() {
    token=$(ask PUT api/token 'X-aws-ec2-metadata-token-ttl-seconds: 60')
    case $token in *[!A-Za-z0-9_=+/-]*) token='' ;; esac
    header=${token:+X-aws-ec2-metadata-token: $token}
    found=$(ask GET meta-data/placement/region "$header") ||
        found=$(ask GET meta-data/placement/availability-zone "$header") || return 1
    # A zone is its region and a letter or more: us-east-1a, us-west-2-lax-1a.
    form='[a-z][a-z]*\(-[a-z][a-z]*\)\{1,\}-[0-9][0-9]*'
    found=$(printf '%s\n' "$found" | sed -n "1s/^\($form\)\([a-z-].*\)\{0,1\}\$/\1/p")
    [ -n "$found" ] && printf '%s\n' "$found"
}

# A JSON string of a text, for a filter or, with its backquotes quoted too, for a query.
json() { printf '"%s"' "$(printf %s "$1" | sed 's/[\\"]/\\&/g')"; }

instances() {
    key=$(json "$tag_key")
    quoted=$(printf %s "$key" | sed "s/\`/\\\\\`/g")
    filters="[{\"Name\":\"tag-key\",\"Values\":[$key]},{\"Name\":\"instance-state-name\",\"Values\":[\"running\"]}]"
    query="Reservations[].Instances[].[PrivateIpAddress, Tags[?Key==\`$quoted\`] | [0].Value,"
    query="$query Tags[?Key==\`\"clusterctl:cluster\"\`] | [0].Value]"
    within "$limit" aws ec2 describe-instances --region "$region" --output json --filters "$filters" --query "$query" \
        2>"$errors" </dev/null
}

# The addresses in what `instances` printed: rows of address, tag and cluster, each value a line of its own, in which
# JSON leaves no line break or quote that is the value's.
addresses() {
    wanted=$(json "$tag_value") ours=$(json "$cluster") awk '
        function octet(text) { return text ~ /^(0|[1-9][0-9]?[0-9]?)$/ && text + 0 <= 255 }
        function address(text,  part) {
            return text ~ /^[0-9.]+$/ && split(text, part, ".") == 4 && octet(part[1]) && octet(part[2]) &&
                octet(part[3]) && octet(part[4]) && part[1] > 0 && part[1] < 224
        }
        function fits(text) {
            return value == "\"\"" || text == value || (value == "\"true\"" && text ~ /^" *(true|1|yes) *"$/)
        }
        BEGIN { value = tolower(ENVIRON["wanted"]); cluster = ENVIRON["ours"] }
        { sub(/^ +/, ""); sub(/, *$/, "") }
        $0 == "[" { fields = 0; next }
        $0 == "]" {
            # EC2 takes * and ? in a filter for any text: a tag that is not quite ours is none here.
            if (fields == 3 && address(field[1]) && field[2] != "null" &&
                fits(tolower(field[2])) && (field[3] == "null" || field[3] == cluster)) print field[1]
            fields = 0
            next
        }
        { field[++fields] = $0; if (fields == 1) gsub(/^"|"$/, "", field[1]) }
    ' | sort -u
}

# Sets `found`, or says in `reason` why there is nothing.
look() {
    found=''
    has aws || { reason='there is no aws command: install the AWS CLI'; return 1; }
    if [ -z "$region" ]; then
        region=$(own_region) || {
            region=''
            reason="no region: the instance's metadata at $metadata did not tell it"
            has curl || has wget || reason="$reason, and neither curl nor wget is there to ask"
            return 1
        }
    fi
    answer=$(instances) || {
        status=$?
        said=$(grep -v '^[[:space:]]*$' "$errors" 2>/dev/null | tail -n 1 | tr -cd '\040-\176')
        # What `timeout` exits with, and what the CLI that it ended does.
        case $status in 124 | 143) said="no answer within $limit s" ;; esac
        reason="ec2:DescribeInstances in $region failed: ${said:-exit status $status}"
        return 1
    }
    found=$(printf '%s\n' "$answer" | addresses)
    [ -n "$found" ] && return
    reason="no running instance in $region has the tag $tag_key${tag_value:+ with the value $tag_value} yet"
    return 1
}

once=no
while [ $# -gt 0 ]; do
    case $1 in
        --once) once=yes; shift ;;
        --cluster | --region)
            [ -n "${2-}" ] || { say "$1 needs a value"; exit 64; }
            case $1 in --cluster) cluster=$2 ;; *) region=$2 ;; esac
            shift 2
            ;;
        *) say 'unknown argument (known: --once, --cluster NAME, --region REGION)'; exit 64 ;;
    esac
done
errors=$(mktemp 2>/dev/null) || errors=/dev/null
trap '[ "$errors" = /dev/null ] || rm -f "$errors"' EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM

pause=2
until look; do
    if [ $once = yes ]; then
        say "$reason"
        exit 1
    fi
    say "$reason; asking again in $pause s"
    sleep "$pause"
    pause=$((pause + (pause + 1) / 2))
    [ $pause -le 30 ] || pause=30
done
flags=''
# One address a line, and nothing else in it.
for one in $found; do
    flags="$flags${flags:+ }-retry-join $one"
done
printf '%s\n' "$flags"
