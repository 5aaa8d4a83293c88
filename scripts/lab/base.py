"""The base tree: a Debian with systemd, sshd and cloud-init that all hosts share read-only. Built once, beside
its place, and renamed when it is whole. What differs from host to host stands in `seed`.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from lab import leftovers, place
from lab.command import ENVIRONMENT, Failure, run

# Changes with what is built here, so that a new recipe gets a new tree and running labs keep theirs.
RECIPE = "bookworm-2"
SUITE = "bookworm"
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
PACKAGES = """
systemd systemd-sysv dbus openssh-server iproute2 iputils-ping ca-certificates procps sudo zstd curl netcat-openbsd
cloud-init awscli python3-cffi-backend
""".split()
PARTIAL = ".partial-"

# Of no use to a host that is a namespace; each costs time at boot or wakes up later.
MASKED = """
apt-daily.timer apt-daily-upgrade.timer console-getty.service container-getty@.service dev-hugepages.mount
dpkg-db-backup.timer e2scrub_all.timer e2scrub_reap.service fstrim.timer getty.target getty@.service hwclock.service
sys-fs-fuse-connections.mount systemd-firstboot.service systemd-hwdb-update.service
systemd-journal-catalog-update.service systemd-machine-id-commit.service systemd-networkd.service
systemd-pstore.service systemd-remount-fs.service systemd-sysusers.service systemd-update-done.service
systemd-update-utmp.service systemd-update-utmp-runlevel.service cloud-init-hotplugd.socket
cloud-init-hotplugd.service systemd-networkd-wait-online.service networking.service
""".split()

# As on Debian's AMIs where a client can see it: keys only, and host keys that are made at the first boot.
SSHD = """\
PasswordAuthentication no
UseDNS no
PrintMotd no
MaxStartups 100
MaxSessions 100
"""

# The modules that a host in the lab has a use for. The others of Debian's list configure disks, packages and
# services that are not there, and each costs time.
CLOUD = """\
# Where the lab says who a host is.
datasource_list: [NoCloud, None]
network: {config: disabled}
ssh_genkeytypes: [ed25519, ecdsa]
disable_root: true
preserve_hostname: false
manage_etc_hosts: false
cloud_init_modules:
  [bootcmd, write-files, set_hostname, users-groups, ssh]
cloud_config_modules: [runcmd]
cloud_final_modules:
  [scripts-per-boot, scripts-per-instance, scripts-user, ssh-authkey-fingerprints, keys-to-console, final-message]
"""

JOURNAL = "[Journal]\nStorage=volatile\nRuntimeMaxUse=32M\nForwardToConsole=no\n"


def tree():
    return place.BASES / RECIPE


def ensure(say):
    """Builds the tree unless it is there. Of two at once the second waits and uses the first one's."""
    if tree().is_dir():
        return tree()
    with place.lock(place.BASES / ".lock", lambda: say("waiting for another ec2-lab that builds the base tree"), 1800):
        if not tree().is_dir():
            for left in place.BASES.glob(PARTIAL + "*"):
                leftovers.kill(lambda left=left: leftovers.mentioning(str(left)), str(left))
                leftovers.remove_tree(left)
            partial = place.BASES / f"{PARTIAL}{RECIPE}-{os.getpid()}"
            build(partial, say)
            # Whole on the disk before it has its name: a power cut must not leave a tree with holes.
            run("sync", "--file-system", partial)
            partial.rename(tree())
            say(f"the base tree is built: {tree()}")
    return tree()


def build(partial, say):
    say("building the base tree (about three minutes, once a machine)")
    # debootstrap does not follow alternatives and virtual packages: python3-cffi-backend is named for cloud-init.
    command = ["debootstrap", "--variant=minbase", f"--include={','.join(PACKAGES)}"]
    if Path(KEYRING).exists():
        command.append(f"--keyring={KEYRING}")
    command += [SUITE, str(partial), *filter(None, [mirror()])]
    log = place.BASES / "debootstrap.log"
    with open(log, "w") as out:
        done = subprocess.run(
            command, stdout=out, stderr=out, stdin=subprocess.DEVNULL, env={**os.environ, **ENVIRONMENT}
        )
    if done.returncode != 0:
        # What dpkg said is in a log of its own, which goes with the tree.
        inner = partial / "debootstrap/debootstrap.log"
        with open(log, "a") as out:
            out.write(inner.read_text(errors="replace")[-20000:] if inner.exists() else "")
        last = "\n".join(log.read_text(errors="replace").splitlines()[-6:])
        leftovers.remove_tree(partial)
        raise Failure(f"debootstrap failed with {done.returncode}; it said:\n{last}\nThe whole of it: {log}")
    set_up(partial)
    leftovers.unmount_below(partial)


def mirror():
    """The Debian mirror that this machine's own apt uses, or None where it has none."""
    release = Path("/etc/os-release").read_text() if Path("/etc/os-release").exists() else ""
    if not re.search(r'^ID="?debian"?$', release, re.M):
        return None
    listed = run(
        "apt-get",
        "indextargets",
        "--format",
        "$(REPO_URI) $(CODENAME) $(COMPONENT) $(LABEL)",
        "Created-By: Packages",
        check=False,
    )
    sources = [line.split() for line in listed.splitlines()]
    fits = [s[0] for s in sources if len(s) == 4 and s[2:] == ["main", "Debian"] and "-" not in s[1]]
    exact = [s[0] for s in sources if len(s) == 4 and s[1:] == [SUITE, "main", "Debian"]]
    return next(iter(exact or fits), None)


def set_up(tree):
    def put(path, text):
        target = tree / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)

    for unit in MASKED:
        link = tree / "etc/systemd/system" / unit
        link.unlink(missing_ok=True)
        link.symlink_to("/dev/null")
    (tree / "usr/lib/systemd/system/multi-user.target.wants/systemd-logind.service").unlink(missing_ok=True)
    put("etc/ssh/sshd_config.d/10-lab.conf", SSHD)
    put("etc/systemd/journald.conf.d/10-lab.conf", JOURNAL)
    put("etc/cloud/cloud.cfg.d/80-lab.cfg", CLOUD)
    # A name resolver that is not there must not be waited for.
    put("etc/resolv.conf", "")
    for own in ["etc/machine-id", "var/lib/dbus/machine-id", "etc/hostname"]:
        (tree / own).unlink(missing_ok=True)
    put("etc/machine-id", "")
    for pattern in [
        "etc/ssh/ssh_host_*",
        "etc/update-motd.d/*",
        "var/cache/apt/archives/*.deb",
        "var/cache/apt/*.bin",
        "var/lib/apt/lists/*_*",
    ]:
        for file in tree.glob(pattern):
            file.unlink()
    # Debian's package leaves the choice of a user to the image's maker: `seed` makes it, by the AMI.
    shutil.rmtree(tree / "var/lib/cloud", ignore_errors=True)
    # Compiled once here rather than by each host at each of cloud-init's four starts.
    run("chroot", tree, "python3", "-m", "compileall", "-q", "/usr/lib/python3/dist-packages", check=False)


if __name__ == "__main__":
    ensure(lambda text: print(text, file=sys.stderr))
