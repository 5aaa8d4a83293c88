# The functions of the installer, without those of the init system, which stand in systemd.sh and upstart.sh:
# the one that the host runs is put behind this. clusterctl writes a `run` behind both that calls them in the
# order of the plan; docs/installer.md explains that order. POSIX sh; dash and busybox run it.
#
# Words are split on purpose where units and options are listed: they have no blanks in them.
# shellcheck disable=SC2015,SC2030,SC2031,SC2034,SC2086
#
# Every line that clusterctl reads begins with "clusterctl ", so that nothing a program prints is taken for one.

say() {
    printf 'clusterctl %s\n' "$*"
}

# fail STEP MESSAGE
fail() {
    printf 'clusterctl failed %s\t%s\n' "$1" "$2"
    exit 1
}

# The last lines of a file, as lines of the report.
show_log() {
    tail -n 20 "$1" 2>/dev/null | while IFS= read -r line; do
        printf 'clusterctl log %s\n' "$line"
    done
}

# must STEP COMMAND...: what it prints is the reason where it fails.
must() {
    step=$1
    shift
    if ! "$@" >"$out" 2>&1; then
        show_log "$out"
        fail "$step" "$1 failed"
    fi
}

take_lock() {
    exec 9>"$own/lock"
    tries=0
    until flock -n 9; do
        tries=$((tries + 1))
        [ "$tries" -le 10 ] || fail lock 'another clusterctl is installing on this host'
        sleep 1
    done
}

# What killed runs left: stages whose process is gone, and new files that were never renamed.
clear_leftovers() {
    for old in "$own"/stage.*; do
        [ -d "$old" ] && [ "$old" != "$stage" ] || continue
        kill -0 "${old##*.}" 2>/dev/null || rm -rf "$old"
    done
    if [ -f "$own/staged" ]; then
        while IFS= read -r path; do
            rm -f "$root$path.clusterctl-new"
        done <"$own/staged"
        rm -f "$own/staged"
    fi
}

cleanup() {
    status=$?
    # What still unpacks in the background would put its file back.
    wait
    if [ -f "$own/staged" ]; then
        while IFS= read -r path; do
            rm -f "$root$path.clusterctl-new"
        done <"$own/staged"
        rm -f "$own/staged"
    fi
    rm -rf "$stage"
    exit "$status"
}

# user NAME HOME
user() {
    say began user "$1"
    if ! id -u "$1" >/dev/null 2>&1; then
        nologin=/usr/sbin/nologin
        [ -x "$nologin" ] || nologin=/sbin/nologin
        [ -x "$nologin" ] || nologin=/bin/false
        if command -v useradd >/dev/null 2>&1; then
            group=--user-group
            grep -q "^$1:" /etc/group && group="--gid $1"
            must "create user $1" useradd --system --no-create-home --home-dir "$2" --shell "$nologin" $group "$1"
        else
            grep -q "^$1:" /etc/group || must "create user $1" addgroup -S "$1"
            must "create user $1" adduser -S -D -H -h "$2" -s "$nologin" -G "$1" "$1"
        fi
    fi
    say ended user "$1"
}

# dir MODE OWNER GROUP PATH: what is there already gets its mode and owner only when the checks have passed.
dir() {
    if [ -d "$root$4" ]; then
        late="$late $*"
    else
        put_dir "$@"
    fi
}

late_dirs() {
    set -- $late
    while [ $# -ge 4 ]; do
        put_dir "$1" "$2" "$3" "$4"
        shift 4
    done
}

put_dir() {
    say began write "$4"
    must "write $4" make_folder "$root$4"
    must "write $4" chown "$2:$3" "$root$4"
    must "write $4" chmod "$1" "$root$4"
    say ended write "$4"
}

# Parents that nobody manages are made for all to pass.
make_folder() {
    [ -d "$1" ] || (umask 022 && mkdir -p "$1")
}

# stage_paths PATH...: they are about to get a new file beside them.
stage_paths() {
    printf '%s\n' "$@" >"$own/staged.tmp" && mv -f "$own/staged.tmp" "$own/staged"
}

# stage_text NUMBER MODE OWNER GROUP SUM PATH: the new file stands beside the old one, whole and checked.
stage_text() {
    say began write "$6"
    beside "$6"
    create "$stage/f/$1" || fail "write $6" 'something stands where the new file is written first'
    sum=$(sha256sum "$new") || fail "write $6" 'hashing failed'
    [ "${sum%% *}" = "$5" ] || fail "write $6" 'the bytes that came are not those that were sent'
    hand_to "$6" "$2" "$3:$4" "$new"
}

# create SOURCE: $new, which must not be there: not even as a link, where others may write in its folder.
create() {
    (set -C && cat "$1" >"$new") 2>"$out"
}

# hand_to PATH MODE OWNER FILE: the owner comes last, who may do with the file as he likes from then on.
hand_to() {
    must "write $1" chmod "$2" "$4"
    must "write $1" chown -h "$3" "$4"
}

# stage_program UNPACKER NUMBER MODE OWNER GROUP PATH: the same for a compressed program, beside the others:
# unpacking is most of an installation's work. SSH vouches for the bytes on the way, the sum in the compressed
# file for the unpacking; hashing 100 MB once more would take as long again.
stage_program() {
    say began write "$6"
    beside "$6"
    (
        out=$stage/out.$2
        if ! "$1" -dc <"$stage/f/$2" >"$new" 2>"$out"; then
            show_log "$out"
            fail "write $6" 'unpacking failed'
        fi
        rm -f "$stage/f/$2"
        hand_to "$6" "$3" "$4:$5" "$new"
    ) &
    unpacking="$unpacking $!"
}

# Sets $new, the place of a new file beside the old one.
beside() {
    new=$root$1.clusterctl-new
    [ -d "$root$1" ] && fail "write $1" 'a folder stands where the file belongs: move it away'
    must "write $1" make_folder "$root${1%/*}"
    # Where others may write, too, a link could stand there.
    must "write $1" rm -f "$new"
}

# All programs are unpacked from here on; the first that failed has said so.
unpacked() {
    for pid in $unpacking; do
        wait "$pid" || exit 1
    done
    unpacking=''
}

# attributes MODE OWNER GROUP PATH
attributes() {
    say began write "$4"
    [ ! -L "$root$4" ] || fail "write $4" 'it is a link: remove it'
    hand_to "$4" "$1" "$2:$3" "$root$4"
    say ended write "$4"
}

# activate PATH...: from here on the new files are the files.
activate() {
    for path in "$@"; do
        must "write $path" mv -f "$root$path.clusterctl-new" "$root$path"
        say ended write "$path"
    done
}

# claim PATH...: should this run end here, the next one knows that these are ours.
claim() {
    {
        [ -f "$own/manifest" ] && cat "$own/manifest"
        printf '%s\n' "$@"
    } | replace manifest
}

# remove PATH
remove() {
    say began remove "$1"
    must "remove $1" rm -f "$root$1"
    say ended remove "$1"
}

# shadow_have PATH: the shadow tree gets what stands there now.
shadow_have() {
    [ -e "$root$1" ] || return 0
    must 'prepare checks' mkdir -p "$shadow${1%/*}"
    must 'prepare checks' cp -RpL "$root$1" "$shadow${1%/*}/"
}

# shadow_put NUMBER PATH, shadow_drop PATH: what will stand there, and what will not.
shadow_put() {
    must 'prepare checks' mkdir -p "$shadow${2%/*}"
    must 'prepare checks' cp "$stage/f/$1" "$shadow$2"
}

shadow_drop() {
    rm -f "$shadow$1"
}

# The new program where this run brings one, else the one that is there.
program() {
    if [ -f "$root$1.clusterctl-new" ]; then
        printf '%s' "$root$1.clusterctl-new"
    else
        printf '%s' "$root$1"
    fi
}

# check NUMBER TITLE COMMAND...: runs in the background, as all checks do; see check_done.
check() {
    say began check "$2"
    number=$1
    shift 2
    (
        status=0
        "$@" >"$stage/check.$number" 2>&1 || status=$?
        printf '%s\n' "$status" >"$stage/check.$number.status"
    ) &
}

# check_done NUMBER TITLE [COMPLAINT...]: a line of its output with one of these is worth a warning.
check_done() {
    number=$1
    title=$2
    shift 2
    status=$(cat "$stage/check.$number.status" 2>/dev/null) || status=1
    if [ "$status" != 0 ]; then
        show_log "$stage/check.$number"
        fail "$title" "it refuses the new files (exit status $status); nothing was changed"
    fi
    for complaint in "$@"; do
        grep -F -e "$complaint" "$stage/check.$number" | while IFS= read -r line; do
            printf 'clusterctl warn %s: %s\n' "$title" "$line"
        done
    done
    say ended check "$title"
}

# replace NAME: standard input becomes $own/NAME, whole or not at all.
replace() {
    cat >"$own/$1.tmp" && mv -f "$own/$1.tmp" "$own/$1" || fail "note $1" "writing $own/$1 failed"
}

# record PATH SUM...: what vouches for the sums of programs from now on; see facts.sh.
record() {
    {
        if [ -f "$own/programs" ]; then
            while read -r sum path rest; do
                case " $* " in
                *" $path "*) ;;
                *) [ -f "$root$path" ] && printf '%s %s %s\n' "$sum" "$path" "$rest" ;;
                esac
            done <"$own/programs"
        fi
        while [ $# -ge 2 ]; do
            printf '%s %s %s\n' "$2" "$1" "$(stat -L -c '%s %i %y %z' "$root$1")"
            shift 2
        done
    } | replace programs
}

# Microseconds since the host booted.
now_us() {
    read -r up rest </proc/uptime
    fraction=${up#*.}
    case ${#fraction} in
    1) fraction=${fraction}0 ;;
    esac
    printf '%s%s0000' "${up%.*}" "$fraction"
}

main() {
    set -uf
    LC_ALL=C
    TZ=UTC
    PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
    export LC_ALL TZ PATH
    umask 077
    stage=$1
    root=$2
    own=$root/var/lib/clusterctl
    shadow=$stage/shadow
    out=$stage/out
    unpacking='' late=''
    take_lock
    set +f
    clear_leftovers
    set -f
    trap cleanup EXIT
    trap 'exit 143' HUP INT TERM PIPE
    run
}
