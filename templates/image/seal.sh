# Clears what belongs to one machine alone, so that an image may be made of its disk: the last command that runs on it.
# POSIX sh; dash and busybox run it. It may run again, ends nobody's session, and goes on where something fails: it says
# what, and exits 1 then.
#
# $root stands before all paths; tests clear a tree of their own. Links are never followed.
#
# shellcheck disable=SC2154,SC2317
set -u
umask 022
LC_ALL=C
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export LC_ALL PATH
failed=0

# step WHAT COMMAND …
step() {
    what=$1
    shift
    if ! said=$("$@" 2>&1 </dev/null); then
        failed=1
        printf 'seal: %s not cleared: %s\n' "$what" "$(printf '%s' "${said:-$1 failed}" | tail -n 1 | tr -cd '\040-\176')" >&2
    fi
}

# Is it a folder of the machine's own, rather than a link to one?
folder() { [ -d "$1" ] && [ ! -L "$1" ]; }

# drop PATH …: they are not there afterwards. A pattern that found nothing is no path.
drop() {
    for path in "$@"; do
        if [ -e "$path" ] || [ -L "$path" ]; then
            rm -rf "$path" || return 1
        fi
    done
}

# empty FOLDER …: what is in them is not there afterwards; they are.
empty() {
    for inside in "$@"; do
        folder "$inside" || continue
        drop "$inside"/* "$inside"/.[!.]* "$inside"/..?* || return 1
    done
}

# Its owner and mode stay.
truncated() {
    if [ -f "$1" ] && [ ! -L "$1" ]; then
        true >"$1"
    fi
}

machine_id() {
    truncated "$root/etc/machine-id" || return 1
    bus=$root/var/lib/dbus/machine-id
    if [ -f "$bus" ] && [ ! -L "$bus" ]; then
        rm -f "$bus" || return 1
        # Where there is no such file, D-Bus makes its own.
        [ ! -e "$root/etc/machine-id" ] || ln -s /etc/machine-id "$bus"
    fi
}

# The homes of all users, and whatever else stands where homes do; one a line.
homes() {
    printf '%s\n' "$root/root"
    [ ! -r "$root/etc/passwd" ] || while IFS=: read -r _ _ _ _ _ home _; do
        case $home in
        # Where it is no folder of one user's, nothing is there that is one user's.
        '' | / | *[!A-Za-z0-9._/-]* | *..*) ;;
        /*) printf '%s\n' "$root$home" ;;
        esac
    done <"$root/etc/passwd"
    for home in "$root"/home/*; do
        printf '%s\n' "$home"
    done
}

# A session that is open needs no key any more.
logins() {
    worst=0
    while IFS= read -r home; do
        folder "$home" || continue
        ! folder "$home/.ssh" || drop "$home"/.ssh/authorized_keys* "$home"/.ssh/id_* || worst=1
        drop "$home"/.*_history "$home/.lesshst" "$home/.viminfo" "$home/.wget-hsts" "$home/.aws" "$home/.netrc" \
            "$home/.git-credentials" "$home/.docker/config.json" "$home/.kube/config" "$home/.config/gcloud" || worst=1
    done <<END
$(homes)
END
    return "$worst"
}

# Rotated and packed ones are removed, those in use emptied, and all of the journal's: nobody reads them on another
# machine. Whoever has one open goes on writing.
logs() {
    worst=0
    for journal in "$root"/var/log/journal/*; do
        # Its own folder is named after the machine.
        drop "$journal" || worst=1
    done
    folder "$root/var/log" || return "$worst"
    find "$root/var/log" -xdev -type f \( -name '*.gz' -o -name '*.xz' -o -name '*.bz2' -o -name '*.zst' -o \
        -name '*.old' -o -name '*.[0-9]' -o -name '*-20[0-9][0-9][0-9][0-9][0-9][0-9]' \) -exec rm -f {} \; || worst=1
    find "$root/var/log" -xdev -type f -exec \
        sh -c 'worst=0; for log in "$@"; do true >"$log" || worst=1; done; exit $worst' sh {} + || worst=1
    return "$worst"
}

# What `cloud-init clean` clears; whoever put a seed there wants it read by every host.
cloud_init() {
    if [ -z "$root" ] && command -v cloud-init >/dev/null 2>&1; then
        cloud-init clean --logs || return 1
    fi
    for state in "$root"/var/lib/cloud/*; do
        case $state in */seed) ;; *) drop "$state" || return 1 ;; esac
    done
}

# What is staged, noted or locked by runs that were. The manifest stays: these files are ours on every host.
own_state() {
    own=$root/var/lib/clusterctl
    drop "$own"/stage.* "$own"/*.tmp "$own/staged" "$own/lock" "$own/pending"
}

step 'the machine id' machine_id
step 'SSH host keys' drop "$root"/etc/ssh/ssh_host_*
step 'keys, histories and credentials in homes' logins
step "Consul's data" empty "$root/var/lib/consul"
step 'what this host was told' drop "$root/etc/consul.d/boot.json" "$root/etc/consul.d/boot.json.clusterctl-new" \
    "$root/etc/clusterctl/boot"
step "Prometheus' and Alertmanager's data" empty "$root/var/lib/prometheus" "$root/var/lib/alertmanager"
step 'the state of cloud-init' cloud_init
# systemd saves a seed again when it halts; it counts none as random that came with a disk.
step 'random seeds' drop "$root/var/lib/systemd/random-seed" "$root/var/lib/systemd/credential.secret" \
    "$root/var/lib/urandom/random-seed" "$root/var/lib/random-seed"
step 'DHCP leases' empty "$root/var/lib/dhcp" "$root/var/lib/dhclient" "$root/var/lib/dhcpcd"
step 'leases of NetworkManager' drop "$root"/var/lib/NetworkManager/*lease* "$root/var/lib/NetworkManager/secret_key"
# They name a network card by its address.
step 'names of network cards' drop "$root/etc/udev/rules.d/70-persistent-net.rules"
step "clusterctl's own state" own_state
step 'folders for temporary files' empty "$root/tmp" "$root/var/tmp"
# The last: what was done above may have been logged.
step 'logs' logs
[ -n "$root" ] || sync
exit $failed
