# Reads all facts that planning needs, in one command. It changes nothing.
#
# It follows a few assignments that clusterctl writes before it: files, dirs, units, users (words without
# blanks or quotes), rehash (0 or 1), may_sleep (0 or 1: may the init system be one that does not run?), sleeping (what
# it is then, or empty: what is installed) and root (a prefix of all paths, empty but in tests).
# One fact a line on standard output. POSIX sh; dash and busybox run it.
#
# Words are split on purpose: no path, unit or user of ours has a blank or a glob character in it, and
# `set -f` holds. Fields that are read only to get past them have names all the same.
# shellcheck disable=SC1091,SC2034,SC2086,SC2154

show_host() {
    printf 'hostname %s\n' "$(uname -n)"
    printf 'system %s\n' "$(uname -s)"
    printf 'machine %s\n' "$(uname -m)"
    printf 'uid %s\n' "$(id -u)"
    printf 'clock %s\n' "$(date +%s)"
    if [ -r "$root/etc/os-release" ]; then
        (
            ID='' VERSION_ID=''
            . "$root/etc/os-release"
            printf 'os %s\nos-version %s\n' "$ID" "$VERSION_ID"
        )
    fi
}

show_init() {
    [ "$may_sleep" = 1 ] || sleeping=''
    if [ -d "$root/run/systemd/system" ]; then
        init=systemd sleeping=''
    else
        # "init (upstart 1.13.2)"; a systemd host may have the program too, and then nobody answers it.
        case $(initctl version 2>/dev/null) in
        *'(upstart '*')')
            init=upstart
            version=$(initctl version 2>/dev/null)
            version=${version##*'(upstart '}
            # Ubuntu 16.04's dash removes no quoted parenthesis.
            printf 'init upstart %s\n' "${version%?}"
            return
            ;;
        esac
        init=other
        [ "$may_sleep" = 0 ] || find_sleeping
    fi
    printf 'init %s\n' "${sleeping:-$init}"
}

# In a chroot, or while a container's image is made, the init system is there and does not run.
find_sleeping() {
    if [ -z "$sleeping" ]; then
        for program in /lib/systemd/systemd /usr/lib/systemd/systemd; do
            [ -x "$root$program" ] && sleeping=systemd
        done
    fi
    [ -n "$sleeping" ] || return 0
    init=asleep
    printf 'asleep\n'
}

show_tools() {
    for tool in tar gzip sha256sum stat flock mkdir mv cp rm chmod chown df grep; do
        command -v "$tool" >/dev/null 2>&1 || printf 'missing %s\n' "$tool"
    done
    command -v useradd >/dev/null 2>&1 || command -v adduser >/dev/null 2>&1 || printf 'missing useradd\n'
    command -v zstd >/dev/null 2>&1 && printf 'unpacks zstd\n'
}

# The free bytes of the file system that holds $1, or the nearest folder above it that exists.
show_disk() {
    at=$1
    while [ -n "$at" ] && [ ! -d "$root$at" ]; do
        at=${at%/*}
    done
    df -Pk "$root${at:-/}" 2>/dev/null | {
        read -r header || :
        read -r device blocks used free rest || free=0
        printf 'disk %s\n' "${free:-0}"
    }
}

# The source address of the default route comes first: it is what the other hosts reach.
show_addresses() {
    if command -v ip >/dev/null 2>&1; then
        for probe in '-4 route get 192.0.2.1' '-6 route get 2001:db8::1'; do
            ip -o $probe 2>/dev/null | while read -r line; do
                case $line in
                *' src '*)
                    source=${line#* src }
                    printf 'address %s\n' "${source%% *}"
                    ;;
                esac
            done
        done
        ip -o addr show scope global 2>/dev/null | while read -r index device family address rest; do
            case $family in
            inet | inet6) printf 'address %s\n' "${address%%/*}" ;;
            esac
        done
    else
        for address in $(hostname -I 2>/dev/null); do
            printf 'address %s\n' "$address"
        done
    fi
}

show_users() {
    for user in $users; do
        id -u "$user" >/dev/null 2>&1 && printf 'user %s\n' "$user"
    done
}

show_dirs() {
    [ -n "$dirs" ] || return 0
    prefixed=''
    for dir in $dirs; do
        prefixed="$prefixed $root$dir"
    done
    # Folders that do not exist are no error: they are absent from the answer.
    stat -L -c '%a %U %G %n %F' $prefixed 2>/dev/null | while read -r mode owner group path kind; do
        [ "$kind" = directory ] && printf 'dir %s %s %s %s\n' "$mode" "$owner" "$group" "${path#"$root"}"
    done
}

# Hashing programs of 100 MB takes longer than all else here. What the installer recorded about a file it
# wrote (size, inode, both times to the nanosecond) vouches for its sum, unless the user wants proof.
recorded_sum() {
    [ "$rehash" = 0 ] && [ -r "$record" ] || return 1
    while read -r sum stamp; do
        if [ "$stamp" = "$1" ]; then
            printf 'sum %s %s\n' "$sum" "$2"
            return 0
        fi
    done <"$record"
    return 1
}

show_files() {
    record=$root/var/lib/clusterctl/programs
    prefixed=''
    for file in $files $manifest; do
        prefixed="$prefixed $root$file"
    done
    [ -n "$prefixed" ] || return 0
    to_hash=''
    # A link is none of our files: whoever may write in its folder could have it point anywhere.
    stats=$(stat -c '%a %U %G %s %i %n %F|%y %z' $prefixed 2>/dev/null)
    while read -r mode owner group size inode path rest; do
        case $rest in
        regular*) ;;
        *) continue ;;
        esac
        path=${path#"$root"}
        printf 'file %s %s %s %s\n' "$mode" "$owner" "$group" "$path"
        recorded_sum "$path $size $inode ${rest#*|}" "$path" || to_hash="$to_hash $root$path"
    done <<END
$stats
END
    [ -n "$to_hash" ] || return 0
    sha256sum $to_hash 2>/dev/null | while read -r sum path; do
        printf 'sum %s %s\n' "$sum" "${path#"$root"}"
    done
}

show_own() {
    for file in $manifest; do
        printf 'manifest %s\n' "$file"
    done
    if [ -r "$root/var/lib/clusterctl/pending" ]; then
        while read -r unit reaction; do
            printf 'pending %s %s\n' "$unit" "$reaction"
        done <"$root/var/lib/clusterctl/pending"
    fi
}

show_units() {
    case $init in
    systemd) [ -z "$units" ] || show_services ;;
    upstart)
        for unit in $units; do
            show_job "$unit"
        done
        ;;
    asleep)
        [ "$sleeping" != systemd ] || for unit in $units; do
            show_sleeper "$unit"
        done
        ;;
    esac
}

# show_job NAME: what Upstart says of it, in systemd's words; nothing where it does not know the job. It reads a
# changed file by itself, but goes on with what it has until a stop and a start.
show_job() {
    shown=$(initctl status "$1" 2>/dev/null) || return 0
    # A job between two states shows its other processes on lines of their own.
    shown=${shown%%'
'*}
    pid=0 since=0
    case $shown in
    "$1 start/running, process "*)
        active=active
        pid=${shown##* }
        # The program's name stands in parentheses and may have blanks in it. The time counts in hundredths of a second.
        if [ -r "/proc/$pid/stat" ] && read -r stat <"/proc/$pid/stat" 2>/dev/null; then
            set -- "$1" ${stat##*') '}
            since=${21}0000
        fi
        ;;
    "$1 start/running"*) active=active ;;
    "$1 start/"*) active=activating ;;
    "$1 stop/waiting"*) active=inactive ;;
    "$1 stop/"*) active=deactivating ;;
    *) return 0 ;;
    esac
    enabled=enabled
    grep -q '^[[:blank:]]*manual' "$root/etc/init/$1.override" 2>/dev/null && enabled=disabled
    printf 'unit %s\n' "Job=$1" "ActiveState=$active" "UnitFileState=$enabled" "MainPID=$pid" \
        "ExecMainStartTimestampMonotonic=$since" ''
}

# show_sleeper NAME: whether it is enabled is all there is to know of it.
show_sleeper() {
    enabled=$(systemctl --root="${root:-/}" is-enabled "$1.service" 2>/dev/null) || return 0
    printf 'unit %s\n' "Id=$1.service" ActiveState=inactive "UnitFileState=$enabled" ''
}

show_services() {
    services=''
    for unit in $units; do
        services="$services $unit.service"
    done
    properties=Id,ActiveState,UnitFileState,NeedDaemonReload,MainPID,ExecMainStartTimestampMonotonic
    systemctl show --no-pager -p "$properties" $services 2>/dev/null | while read -r line; do
        printf 'unit %s\n' "$line"
    done
}

main() {
    set -uf
    LC_ALL=C
    TZ=UTC
    PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
    export LC_ALL TZ PATH
    manifest=''
    if [ -r "$root/var/lib/clusterctl/manifest" ]; then
        manifest=$(cat "$root/var/lib/clusterctl/manifest")
    fi
    printf '\nclusterctl-facts 1\n'
    show_host
    show_init
    show_tools
    show_disk /usr/local/bin
    show_disk /var/lib
    show_addresses
    show_users
    show_dirs
    show_files
    show_own
    show_units
    printf 'end\n'
}

main </dev/null
