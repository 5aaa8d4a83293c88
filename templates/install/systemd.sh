# The installer's functions for hosts that run systemd; install.sh has the others and says how they come together.
#
# shellcheck disable=SC2015,SC2034,SC2086,SC2154

# "asleep" is 1 where systemd is there and does not run: in a chroot, or while a container's image is made.

daemon_reload() {
    [ "${asleep:-0}" = 0 ] || return 0
    must 'systemctl daemon-reload' systemctl daemon-reload
}

# enable UNIT...
enable() {
    services=''
    for unit in "$@"; do
        say began unit enable "$unit"
        services="$services $unit.service"
    done
    # systemd reads the units afterwards, once for all of this.
    must "enable $*" systemctl enable --quiet --no-reload $services
    for unit in "$@"; do
        say ended unit enable "$unit"
    done
}

# stop UNIT
stop() {
    say began unit stop "$1"
    # It may never have been started, or its file may be gone already.
    systemctl disable --quiet "$1.service" >/dev/null 2>&1 || :
    if [ "${asleep:-0}" = 0 ] && [ "$(systemctl show -p ActiveState "$1.service" 2>/dev/null)" != ActiveState=inactive ]; then
        must "stop $1" systemctl stop "$1.service"
    fi
    say ended unit stop "$1"
}

# act VERB UNIT: begins it and does not wait; see settle.
act() {
    say began unit "$1" "$2"
    # A unit that failed often in a row is refused a start until that is forgotten.
    [ "$1" = start ] && systemctl reset-failed "$2.service" >/dev/null 2>&1
    verb=$1
    # A start would wait until systemd tries the next time by itself, where the unit has failed just now.
    [ "$verb" = start ] && verb=restart
    must "$1 $2" systemctl --no-block "$verb" "$2.service"
}

failed_unit() {
    journalctl -u "$2.service" -n 20 --no-pager -o cat >"$out" 2>&1 || :
    show_log "$out"
    fail "$1 $2" "$3"
}

# settle VERB UNIT: waits until it runs and has gone on for a third of a second: whoever finds its port taken or
# its data unreadable ends before that. A program that reports readiness itself (an agent without a server to
# join) may take longer than anybody wants to wait here; after three seconds it has not failed, and Consul
# and Prometheus are asked later whether it works.
settle() {
    polls=0
    while :; do
        state='' sub='' pid=0 since=0 job='' result=''
        shown=$(systemctl show -p ActiveState,SubState,MainPID,ExecMainStartTimestampMonotonic,Job,Result "$2.service")
        while IFS='=' read -r key value; do
            case $key in
            ActiveState) state=$value ;;
            SubState) sub=$value ;;
            MainPID) pid=$value ;;
            ExecMainStartTimestampMonotonic) since=$value ;;
            Job) job=$value ;;
            Result) result=$value ;;
            esac
        done <<END
$shown
END
        age=0
        [ "$pid" != 0 ] && age=$(($(now_us) - since))
        # With a job it has still to begin.
        if [ "${job:-0}" = 0 ] && { [ "$sub" = auto-restart ] || [ "$state" = failed ]; }; then
            failed_unit "$1" "$2" "the unit $2 ended again at once ($result)"
        fi
        case $state in
        active)
            if [ "$1" = reload ]; then
                [ "${job:-0}" = 0 ] && break
            elif [ "$age" -ge 330000 ] && [ "${job:-0}" = 0 ]; then
                break
            fi
            ;;
        activating) [ "$age" -ge 3000000 ] && break ;;
        inactive)
            # No job and not running: systemd gave up, or the program ended by itself.
            [ "${job:-0}" = 0 ] && [ "$polls" -ge 10 ] && failed_unit "$1" "$2" "the unit $2 is not running"
            ;;
        esac
        polls=$((polls + 1))
        [ "$polls" -le 600 ] || failed_unit "$1" "$2" "the unit $2 is still $state after a minute"
        sleep 0.1 2>/dev/null || sleep 1
    done
    say ended unit "$1" "$2"
}
