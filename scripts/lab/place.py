"""Where everything of a lab is: folders, and the names that its namespaces, interfaces and cgroups have.

All names derive from the lab's folder and name, so that whatever is left can be found without any record.
"""

import contextlib
import fcntl
import hashlib
import json
import os
import re
import time
from pathlib import Path

from lab.command import Failure

ROOT = Path(os.environ.get("CLUSTERCTL_LAB_DIR") or "/var/lib/clusterctl-lab").absolute()
BASES = ROOT / "base"
LABS = ROOT / "labs"

# What is the machine's rather than one root folder's.
MACHINE = Path("/run/clusterctl-lab")

# Before every name of ours on the machine. The sandbox's begin with `ccs`.
PREFIX = "ccl"

# The folder of our groups in each cgroup hierarchy.
CGROUP = "clusterctl-lab"

REGION = "us-east-1"
PORT = 5000

# Commas and colons would be read as separators in an overlay's options.
if re.search(r"[,:\\\s]", str(ROOT)):
    raise Failure(f"CLUSTERCTL_LAB_DIR {ROOT}: a path with blanks, commas, colons or backslashes cannot hold overlays")


class Lab:
    """One lab by its name."""

    def __init__(self, name):
        if not re.fullmatch(r"[a-z0-9][a-z0-9-]{0,14}", name):
            raise Failure(f"lab name {name!r}: use 1 to 15 of a-z, 0-9 and -, beginning with a letter or digit")
        self.name = name
        self.dir = LABS / name
        digest = hashlib.sha256(f"{ROOT}\n{name}".encode()).hexdigest()
        # Its namespace, its link in the machine's own namespace, and its cgroup.
        self.key = PREFIX + digest[:8]
        self.seed = int(digest[8:16], 16)

    @property
    def record(self):
        return self.dir / "lab.json"

    @property
    def log(self):
        return self.dir / "server.log"

    @property
    def hosts(self):
        return self.dir / "hosts"

    @property
    def images(self):
        """The trees of images that were made of hosts."""
        return self.dir / "images"

    @property
    def authority(self):
        """The certificate that the lab's hosts trust."""
        return self.dir / "authority.pem"

    def machine(self, instance_id):
        """A host's machine and network namespace."""
        return f"{self.key}-{instance_id[-10:]}"

    def read(self):
        """What `up` wrote down, or None."""
        try:
            return json.loads(self.record.read_text())
        except (FileNotFoundError, NotADirectoryError, json.JSONDecodeError):
            return None

    def lock(self, waits=None):
        """Guards this lab's coming and going. It lies beside the folder, to outlive it."""
        return lock(LABS / f".{self.name}.lock", waits)


def names():
    """All labs that have a folder, half-made ones too."""
    with contextlib.suppress(FileNotFoundError):
        return sorted(p.name for p in LABS.iterdir() if p.is_dir())
    return []


@contextlib.contextmanager
def lock(path, waits=None, seconds=600):
    """Holds a file's lock. `waits` is called once if somebody else has it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    deadline = time.monotonic() + seconds
    with open(path, "w") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if waits:
                    waits()
                    waits = None
                if time.monotonic() > deadline:
                    raise Failure(f"{path} is locked for {seconds} s: another ec2-lab hangs, end it") from None
                time.sleep(0.05)
        yield


def machine_lock():
    """Guards what all labs share: the choice of address ranges."""
    return lock(MACHINE / "lock")
