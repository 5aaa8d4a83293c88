# The installer's functions for hosts that run Upstart; install.sh has the others and says how they come together.
#
# Upstart answers much with "yes" that it has not done: a broken job file is read without a word, `restart` keeps
# the old one, and a job that was started may be gone already. So each step asks for the job's state afterwards.
# A job may also hang its `start` or `stop` for ever: nothing here waits without a limit.
#
# shellcheck disable=SC2015,SC2034,SC2086,SC2154

# limited SECONDS COMMAND...: exits 124 where the command takes longer. Not every host has a `timeout`, and busybox'
# old one takes other arguments.
limited() {
    if timeout 1 true >/dev/null 2>&1; then
        timeout "$@"
        return
    fi
    ticks=$(($1 * 10))
    shift
    "$@" &
    limited=$!
    while kill -0 "$limited" 2>/dev/null; do
        if [ "$ticks" -le 0 ]; then
            kill "$limited" 2>/dev/null
            wait "$limited" 2>/dev/null
            return 124
        fi
        nap
        ticks=$((ticks - tick))
    done
    wait "$limited"
}

# A tenth of a second, or a second where sleep knows no less; $tick says how many tenths it was.
nap() {
    tick=1
    sleep 0.1 2>/dev/null || {
        sleep 1
        tick=10
    }
}

# job_state UNIT: sets $state (start/running, stop/waiting, …; empty: Upstart does not know the job) and $pid, the
# main process of a running job.
job_state() {
    state='' pid=0
    shown=$(limited 10 initctl status "$1" 2>/dev/null) || shown=''
    # A job that is between two states shows its other processes on lines of their own.
    shown=${shown%%'
'*}
    case $shown in
    "$1 "*/*)
        state=${shown#"$1 "}
        state=${state%%,*}
        case $shown in
        "$1 start/running, process "*) pid=${shown##* } ;;
        esac
        ;;
    esac
}

# started_us PID: microseconds from the host's boot to the process's start; nothing where it is gone.
started_us() {
    [ -r "/proc/$1/stat" ] && read -r stat <"/proc/$1/stat" 2>/dev/null || return 0
    # The program's name stands in parentheses and may have blanks in it. The time counts in hundredths of a second.
    set -- ${stat##*') '}
    printf '%s0000' "${20}"
}

# "asleep" is 1 where Upstart is there and does not run.
daemon_reload() {
    [ "${asleep:-0}" = 0 ] || return 0
    must 'initctl reload-configuration' limited 20 initctl reload-configuration
}

# enable UNIT...: Upstart starts every job that it knows at boot, unless somebody wrote `manual` beside it.
enable() {
    for unit in "$@"; do
        say began unit enable "$unit"
        override=$root/etc/init/$unit.override
        if grep -q '^[[:blank:]]*manual' "$override" 2>/dev/null; then
            grep -v '^[[:blank:]]*manual' "$override" >"$override.clusterctl-new" || :
            must "enable $unit" mv -f "$override.clusterctl-new" "$override"
            [ -s "$override" ] || rm -f "$override"
        fi
    done
    daemon_reload
    for unit in "$@"; do
        if [ "${asleep:-0}" = 1 ]; then
            say ended unit enable "$unit"
            continue
        fi
        # It reads the folder by itself too; either may take a moment.
        polls=0
        job_state "$unit"
        while [ -z "$state" ] && [ "$polls" -lt 20 ]; do
            nap
            polls=$((polls + tick))
            job_state "$unit"
        done
        [ -n "$state" ] || fail "enable $unit" "Upstart does not accept /etc/init/$unit.conf"
        say ended unit enable "$unit"
    done
}

# halt UNIT [NAME=VALUE]: it is stopped afterwards, or this says why not. 90 s: more than any job's own `kill timeout`.
# The value is for the job's post-stop.
halt() {
    [ "${asleep:-0}" = 0 ] || return 0
    job_state "$1"
    case $state in
    '' | stop/waiting) return 0 ;;
    esac
    limited 90 initctl stop "$@"
    job_state "$1"
    case $state in
    '' | stop/waiting) return 0 ;;
    esac
    printf 'the job is still %s\n' "$state"
    return 1
}

# stop UNIT: it is no longer wanted; nothing else tells the job so, whose file still stands.
stop() {
    say began unit stop "$1"
    must "stop $1" halt "$1" CLUSTERCTL_STOP=for-good
    say ended unit stop "$1"
}

# begin UNIT
begin() {
    limited 60 initctl start "$1" || {
        status=$?
        [ "$status" != 124 ] || printf 'initctl start %s did not end within a minute\n' "$1"
        # Its last instance may have been started by an event meanwhile.
        job_state "$1"
        [ "$state" = start/running ]
    }
}

# do_act VERB UNIT
do_act() {
    case $1 in
    reload)
        job_state "$2"
        if [ "$pid" = 0 ]; then
            printf 'the job is not running\n'
            return 1
        fi
        printf '%s\n' "$pid" >"$stage/act.$2.pid"
        kill -HUP "$pid"
        ;;
    start)
        job_state "$2"
        # One that keeps ending and coming back has the old file in its head.
        [ "$state" = start/running ] || { halt "$2" && begin "$2"; }
        ;;
    # Only a stop and a start take a changed file.
    *) halt "$2" && begin "$2" ;;
    esac
}

# act VERB UNIT: begins it and does not wait; see settle.
act() {
    say began unit "$1" "$2"
    (
        status=0
        do_act "$1" "$2" >"$stage/act.$2" 2>&1 || status=$?
        printf '%s\n' "$status" >"$stage/act.$2.status"
    ) &
}

# failed_unit VERB UNIT MESSAGE: with the job's own last words, where `console log` or our own redirection put them.
failed_unit() {
    for log in "$root/var/log/upstart/$2.log" "$root/var/log/clusterctl/$2.log"; do
        [ -s "$log" ] || continue
        # Upstart keeps what a terminal was sent.
        tr -d '\r' <"$log" >"$out"
        show_log "$out"
    done
    fail "$1 $2" "$3"
}

# settle VERB UNIT: waits until it runs and has gone on for a third of a second: whoever finds its port taken or
# its data unreadable ends before that.
settle() {
    wait
    if [ "$(cat "$stage/act.$2.status" 2>/dev/null)" != 0 ]; then
        show_log "$stage/act.$2"
        failed_unit "$1" "$2" "the job $2 did not $1"
    fi
    first=$(cat "$stage/act.$2.pid" 2>/dev/null) || first=''
    polls=0
    while :; do
        job_state "$2"
        case $state in
        start/running)
            [ "$pid" = 0 ] && break
            [ "${first:-$pid}" = "$pid" ] || failed_unit "$1" "$2" "the job $2 ended at once and was started again"
            first=$pid
            since=$(started_us "$pid")
            [ -n "$since" ] && [ "$(($(now_us) - since))" -ge 330000 ] && break
            ;;
        start/*) failed_unit "$1" "$2" "the job $2 ended again at once" ;;
        '') failed_unit "$1" "$2" "Upstart does not accept /etc/init/$2.conf" ;;
        *) failed_unit "$1" "$2" "the job $2 is not running" ;;
        esac
        polls=$((polls + 1))
        [ "$polls" -le 600 ] || failed_unit "$1" "$2" "the job $2 is still $state after a minute"
        nap
    done
    # Who does not bear a SIGHUP is gone now, and not noticed yet at the first look.
    if [ "$1" = reload ] && [ "$polls" = 0 ]; then
        nap
        job_state "$2"
        [ "$pid" = "$first" ] || failed_unit "$1" "$2" "the job $2 ended when it was told to reload"
    fi
    say ended unit "$1" "$2"
}
