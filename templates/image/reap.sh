#!/bin/sh
# Takes hosts out of Consul whose instances are gone, and takes in those that have lost it. Written by clusterctl: a
# change by hand is undone by its next run.
#
#   reap            looks every 15 s, and gathers each minute, for ever
#   reap --once     looks once for those that are gone, and exits 1 if that failed
#   reap --gather   looks once for those that are lost, likewise
#
# A host that is shut down leaves Consul by itself. One that EC2 takes away at once cannot: it stands there as failed,
# for three days if nobody says that it will not come back. EC2 knows. POSIX sh; any user may run it.
#
# An instance that boots while its server is on its way out may join that one, and asks nobody again. So each minute those
# of the fleet that run and are no members are joined from here.
#
# A member counts only if its name is an instance's id, as those of fleets are, and if it is no server: of those, Consul
# itself takes care. EC2 is asked only where some have failed, and only by the server that leads.
set -uf
umask 077
# What is compared and said does not depend on the machine's language.
LC_ALL=C PYTHONIOENCODING=utf-8 AWS_PAGER='' AWS_CLI_AUTO_PROMPT=off
PATH=$PATH:/usr/local/bin
export PATH LC_ALL PYTHONIOENCODING AWS_PAGER AWS_CLI_AUTO_PROMPT

say() { printf 'reap: %s\n' "$1" >&2; }

{% include "image/metadata.sh" %}
# Whose instances are this fleet's.
cluster={{ cluster | sh }}

# A filter of EC2's takes 200 values; one of them is this instance's own.
batch=199
# So many are joined in one round: the others in the next.
most=20

# last_words STATUS: why a program failed.
last_words() {
    words=$(grep -v '^[[:space:]]*$' "$work/errors" | tail -n 1 | tr -cd '\040-\176')
    # What `timeout` exits with, and what a program that it ended does.
    case $1 in 124 | 143) words='no answer in time' ;; esac
    printf %s "${words:-exit status $1}"
}

# The ids of the failed members in what `consul members` printed. A name with blanks in it can make a row look like
# another's: that is why EC2 has the last word.
failed_instances() {
    awk '
        function instance(text) {
            return text ~ /^i-[0-9a-f]+$/ && length(text) >= 10 && length(text) <= 19
        }
        NR == 1 { if ($1 != "Node" || $3 != "Status" || $4 != "Type") exit 1; next }
        $3 == "failed" && $4 == "client" && instance($1) { print $1 }
    ' "$work/members"
}

# Sets `self` and `region`, once.
know_thyself() {
    [ -z "$region" ] || return 0
    open_metadata && tell instance-id "$instance_form" || return 1
    self=$said
    tell placement/region '[a-z]+(-[a-z]+)+-[0-9]+' || return 1
    region=$said
}

# instances ID …: lines of an id and a state, of those that EC2 still knows. A filter, since a call that names an unknown
# id as such fails as a whole.
instances() {
    ids=$(printf '%s,' "$self" "$@")
    within 60 aws ec2 describe-instances --region "$region" --output text \
        --filters "Name=instance-id,Values=${ids%,}" --query 'Reservations[].Instances[].[InstanceId, State.Name]' \
        >"$work/states" 2>"$work/errors" </dev/null
}

# gone ID …: those of them that will not come back, and how EC2 says it. An answer that has other lines, or does not know
# the instance that asks, is none: it comes from another region, or is cut off.
gone() {
    asked="$*" self=$self awk '
        NF != 2 || $1 !~ /^i-[0-9a-f]+$/ || $2 !~ /^(pending|running|shutting-down|terminated|stopping|stopped)$/ {
            strange = 1
            exit
        }
        { state[$1] = $2 }
        END {
            if (strange || state[ENVIRON["self"]] != "running") exit 1
            count = split(ENVIRON["asked"], ids, " ")
            for (n = 1; n <= count; n++) {
                now = (ids[n] in state) ? state[ids[n]] : "unknown to EC2"
                if (now == "shutting-down" || now == "terminated" || now == "unknown to EC2") print ids[n], now
            }
        }
    ' "$work/states"
}

# settle ID …: one batch.
settle() {
    instances "$@" || { reason="ec2:DescribeInstances in $region failed: $(last_words $?)"; return 1; }
    gone "$@" >"$work/gone" || {
        reason="what ec2:DescribeInstances in $region answered does not have this instance, $self, in it: not believed"
        return 1
    }
    outcome=0
    while read -r id state; do
        # Whoever is there after all joins again.
        if within 30 consul force-leave{% if can.force_leave_prune %} -prune{% endif %} "$id" >/dev/null 2>"$work/errors" </dev/null; then
            say "$id is $state: it has left Consul"
        else
            reason="consul force-leave $id failed: $(last_words $?)"
            outcome=1
        fi
    done <"$work/gone"
    return $outcome
}

# Is this the one that asks EC2, and can it? All servers see the same: one is enough, and one is what spares EC2; where
# none leads, nobody can leave. `leads` is 1 where it should ask and cannot, for the reason in `reason`.
ask_as_leader() {
    leads=1
    within 30 consul info >"$work/info" 2>"$work/errors" </dev/null || {
        reason="consul info failed: $(last_words $?)"
        return 1
    }
    grep -q '^[[:space:]]*leader = true$' "$work/info" || { leads=0; return 1; }
    has aws || { reason='there is no aws command to ask EC2 about instances: install the AWS CLI'; return 1; }
    know_thyself
}

# The ids and addresses in $work/running that are none of the members in $work/alive.
strangers() {
    awk '
        function octet(text) { return text ~ /^(0|[1-9][0-9]?[0-9]?)$/ && text + 0 <= 255 }
        function address(text,  part) {
            return text ~ /^[0-9.]+$/ && split(text, part, ".") == 4 && octet(part[1]) && octet(part[2]) &&
                octet(part[3]) && octet(part[4]) && part[1] > 0 && part[1] < 224
        }
        FILENAME == ARGV[1] { member[$1] = 1; next }
        NF == 2 && $1 ~ /^i-[0-9a-f]+$/ && address($2) && !($1 in member) { print $1, $2 }
    ' "$work/alive" "$work/running"
}

# Joins what runs and is no member; or says in `reason` what is in the way.
gather() {
    ask_as_leader || return $((leads))
    within 30 consul members -status=alive >"$work/alive" 2>"$work/errors" </dev/null || {
        reason="consul members failed: $(last_words $?)"
        return 1
    }
    within 60 aws ec2 describe-instances --region "$region" --output text \
        --filters "Name=tag:clusterctl:cluster,Values=$cluster" 'Name=tag:clusterctl:origin,Values=fleet' \
        'Name=instance-state-name,Values=running' --query 'Reservations[].Instances[].[InstanceId, PrivateIpAddress]' \
        >"$work/running" 2>"$work/errors" </dev/null || {
        reason="ec2:DescribeInstances in $region failed: $(last_words $?)"
        return 1
    }
    strangers | head -n "$most" >"$work/strangers"
    # One that only boots refuses, and joins by itself.
    while read -r id address; do
        within 15 consul join "$address" >/dev/null 2>&1 </dev/null && say "$id runs at $address and was no member: it is one now"
    done <"$work/strangers"
    return 0
}

# Looks once, or says in `reason` what is in the way.
look() {
    within 30 consul members -status=failed >"$work/members" 2>"$work/errors" </dev/null
    ended=$?
    # It exits so, and says nothing, where it has nobody to show.
    if [ $ended = 2 ] && [ ! -s "$work/errors" ]; then
        return 0
    elif [ $ended != 0 ]; then
        reason="consul members failed: $(last_words $ended)"
        return 1
    fi
    failed_instances >"$work/failed" || { reason='consul members printed no table that is known'; return 1; }
    [ -s "$work/failed" ] || return 0
    ask_as_leader || return $((leads))
    # All of them, however many: a batch that is full of hosts that only have failed must not hide the others.
    result=0
    set --
    while read -r id; do
        set -- "$@" "$id"
        [ $# -lt $batch ] && continue
        settle "$@" || result=1
        set --
    done <"$work/failed"
    [ $# -eq 0 ] || settle "$@" || result=1
    return $result
}

once=''
case ${1-} in
    '') ;;
    --once) once=look ;;
    --gather) once=gather ;;
    *) say 'unknown argument (known: --once, --gather)'; exit 64 ;;
esac
work=$(mktemp -d) || { say "no folder for temporary files can be made in ${TMPDIR:-/tmp}"; exit 1; }
trap 'rm -rf "$work"' EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM
self='' region='' last='' round=0
if [ -n "$once" ]; then
    reason=''
    $once || { say "$reason"; exit 1; }
    exit 0
fi
both() {
    # What one of them cannot do is no reason to leave out the other.
    gathered=0
    [ $((round % 4)) != 0 ] || gather || gathered=1
    look && return $gathered
}
while :; do
    reason=''
    if both; then
        last=''
    else
        # The same again and again would fill a log.
        [ "$reason" = "$last" ] || say "$reason"
        last=$reason
    fi
    round=$((round + 1))
    sleep 15
done
