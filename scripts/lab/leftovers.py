"""Finding and ending what belongs to a lab by looking at the machine: processes, mounts, cgroups, folders.
It trusts no record, so it also clears up after anything was killed.
"""

import contextlib
import os
import shutil
import signal
import time
from pathlib import Path

from lab import place
from lab.command import Failure, run


def mounts():
    """(mount point, type, options) of this process, in the order in which they were made."""
    found = []
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        left, _, right = line.partition(" - ")
        point = left.split(" ")[4].encode().decode("unicode_escape")
        kind, _, options = right.split(" ", 2)
        found.append((point, kind, options))
    return found


def unmount_below(folder):
    """Unmounts all at or below the folder, the last one first."""
    for point, _, _ in reversed(mounts()):
        if point == str(folder) or point.startswith(f"{folder}/"):
            # Lazily when busy: whoever still looks at it loses nothing, and the name is free.
            if run("umount", point, check=False) == "" and not os.path.ismount(point):
                continue
            run("umount", "--lazy", point, check=False)


def remove_tree(folder):
    """Removes a tree, but only when nothing is mounted in it."""
    unmount_below(folder)
    if any(point.startswith(f"{folder}/") or point == str(folder) for point, _, _ in mounts()):
        raise Failure(f"something is still mounted in {folder}: unmount it, then try again")
    shutil.rmtree(folder, ignore_errors=False) if Path(folder).is_dir() else None


def cgroup_roots():
    """The hierarchies in which a systemd manages services: cgroup2, and version 1's `name=systemd`."""
    roots = []
    for point, kind, options in mounts():
        if point.startswith("/sys/fs/cgroup") and (
            kind == "cgroup2" or (kind == "cgroup" and "name=systemd" in options.split(","))
        ):
            roots.append(Path(point))
    if not roots:
        raise Failure("no cgroup hierarchy for systemd is mounted: mount -t cgroup2 none /sys/fs/cgroup")
    return list(dict.fromkeys(roots))


def groups(*below):
    """The group of this name in each hierarchy."""
    return [root.joinpath(place.CGROUP, *below) for root in cgroup_roots()]


def in_groups(*below):
    """All processes in a group and those below it."""
    pids = set()
    for group in groups(*below):
        for folder, _, _ in os.walk(group):
            with contextlib.suppress(OSError):
                pids.update(int(p) for p in Path(folder, "cgroup.procs").read_text().split())
    # 0 is a process that this namespace does not see; and never ourselves.
    return pids - {0, os.getpid()}


def mentioning(text):
    """Processes whose command line or root says this text: for what has no group of its own."""
    found = set()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                words = (entry / "cmdline").read_bytes().split(b"\0")
                root = os.readlink(entry / "root")
            except OSError:
                continue
            if root.startswith(text) or any(w.startswith(text.encode()) for w in words):
                found.add(int(entry.name))
    return found


def kill(find, what, seconds=20):
    """Kills what `find` finds until it finds nothing."""
    deadline = time.monotonic() + seconds
    while pids := {p for p in find() if not is_zombie(p)}:
        if time.monotonic() > deadline:
            raise Failure(f"these processes of {what} do not end: {sorted(pids)}")
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.02)


def is_zombie(pid):
    """An ended process whose parent has not asked yet; it holds nothing any more."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except OSError:
        return True


def remove_groups(*below):
    for group in groups(*below):
        for folder, _, _ in os.walk(group, topdown=False):
            for _ in range(50):
                try:
                    os.rmdir(folder)
                except FileNotFoundError:
                    break
                except OSError:
                    # The kernel needs a moment after the last process of it.
                    time.sleep(0.02)
                else:
                    break
    for folder in groups():
        with contextlib.suppress(OSError):
            folder.rmdir()


def remove_traces(machine):
    """What systemd-nspawn leaves in /run when it is killed; later versions refuse to start over it."""
    for kind in ["propagate", "unix-export"]:
        folder = Path("/run/systemd/nspawn") / kind / machine
        unmount_below(folder)
        with contextlib.suppress(OSError):
            folder.rmdir()


def remove_all_traces(key):
    for kind in ["propagate", "unix-export"]:
        folder = Path("/run/systemd/nspawn") / kind
        for entry in folder.glob(f"{key}-*") if folder.is_dir() else []:
            remove_traces(entry.name)
