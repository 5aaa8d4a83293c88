"""Hosts: an nspawn machine over an overlay, in a network namespace and a cgroup of its own. It boots, stops,
reboots and goes. What the API says of it is `instances`'.
"""

import os
import signal
import subprocess
import threading
import time
from pathlib import Path

from lab import leftovers, network
from lab.command import ENVIRONMENT, Failure, run

# systemd-nspawn ends with this when the host reboots itself and is to be started again.
REBOOT = 133

# How much of a console EC2 keeps.
CONSOLE = 64 << 10

# Enters the cgroups (first argument), then becomes the rest. With --keep-unit a host's systemd manages whatever
# group nspawn was started in, and two of them in one group would end each other's services.
ENTER = 'for group in $1; do echo $$ > "$group/cgroup.procs"; done; shift; exec "$@"'


class Host:
    """One host's life on the machine. `ended` is called, from a thread of its own, when it ended by itself."""

    def __init__(self, lab, record, instance_id, address, lower, ended):
        self.lab, self.record = lab, record
        self.id, self.address, self.lower, self.ended = instance_id, address, lower, ended
        self.machine = lab.machine(instance_id)
        self.dir = lab.hosts / instance_id
        self.nspawn = None
        # Whether its end is what somebody asked for.
        self.stopping = False
        # Boots, stops and removals of one host come one after the other.
        self.lock = threading.RLock()

    @property
    def upper(self):
        return self.dir / "upper"

    @property
    def merged(self):
        return self.dir / "merged"

    @property
    def console(self):
        return self.dir / "console.log"

    def make(self, seed):
        """Its folders, and its own layer by `seed`."""
        for folder in [self.upper, self.dir / "work", self.merged]:
            folder.mkdir(parents=True, exist_ok=True)
            folder.chmod(0o755)
        seed(self.upper)

    def boot(self, rules, anew=True):
        """Starts it; its security groups' `rules` stand before it can listen. `anew`: after a stop."""
        with self.lock:
            self.clear()
            # Each start has a console of its own, as on EC2.
            if anew and self.console.exists():
                self.console.replace(self.console.with_suffix(".old"))
            network.make_port(self.lab, self.record, self.id, self.address)
            network.nft(self.machine, rules)
            lower = ":".join(str(p) for p in self.lower)
            options = f"lowerdir={lower},upperdir={self.upper},workdir={self.dir / 'work'}"
            run("mount", "-t", "overlay", "overlay", "-o", options, self.merged)
            self.stopping = False
            self.spawn()
            threading.Thread(target=self.watch, args=[self.nspawn], daemon=True, name=f"watch {self.id}").start()

    def spawn(self):
        groups = leftovers.groups(self.lab.key, self.id)
        for group in groups:
            group.mkdir(parents=True, exist_ok=True)
        command = [
            "sh",
            "-c",
            ENTER,
            "sh",
            " ".join(map(str, groups)),
            "nsenter",
            f"--net=/run/netns/{self.machine}",
            "systemd-nspawn",
            "--quiet",
            "--boot",
            "--register=no",
            "--keep-unit",
            "--settings=no",
            "--resolv-conf=off",
            "--timezone=off",
            "--link-journal=no",
            # The host gets a /dev/console, where cloud-init says its keys; what is said there comes to our file.
            "--console=read-only",
            # The namespace is the host's own, so it may manage it.
            "--capability=CAP_NET_ADMIN",
            f"--machine={self.machine}",
            f"--directory={self.merged}",
        ]
        with open(self.console, "ab") as out:
            self.nspawn = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                cwd="/",
                start_new_session=True,
                env={**ENVIRONMENT, "SYSTEMD_NSPAWN_API_VFS_WRITABLE": "network"},
            )

    def watch(self, nspawn):
        """Starts it again when it reboots itself, and tells when it ended."""
        while True:
            code = nspawn.wait()
            with self.lock:
                # Somebody ended it, or did so and started it anew.
                if self.stopping or self.nspawn is not nspawn:
                    return
                if code == REBOOT:
                    self.spawn()
                    nspawn = self.nspawn
                    continue
            self.ended(self, code)
            return

    def leader(self):
        """The host's process 1, as the machine numbers it."""
        for pid in sorted(leftovers.in_groups(self.lab.key, self.id)):
            try:
                status = Path(f"/proc/{pid}/status").read_text()
            except OSError:
                continue
            numbers = next((line.split()[1:] for line in status.splitlines() if line.startswith("NSpid:")), [])
            if len(numbers) > 1 and numbers[-1] == "1":
                return pid
        return None

    def ask(self, sig):
        leader = self.leader()
        if leader is None:
            return False
        try:
            os.kill(leader, sig)
        except ProcessLookupError:
            return False
        return True

    def reboot(self):
        """systemd takes SIGINT for Ctrl-Alt-Del."""
        with self.lock:
            if not self.ask(signal.SIGINT):
                raise Failure(f"{self.id} has no process 1 to reboot")

    def stop(self, grace):
        """Asks it to power off, waits up to `grace` seconds, then kills what is left. Its layer stays."""
        with self.lock:
            self.stopping = True
            if grace and self.ask(signal.SIGRTMIN + 4):
                deadline = time.monotonic() + grace
                while self.nspawn and self.nspawn.poll() is None and time.monotonic() < deadline:
                    time.sleep(0.02)
            self.clear()

    def clear(self):
        """Ends and removes all of it but its folder."""
        leftovers.kill(lambda: leftovers.in_groups(self.lab.key, self.id), self.id)
        if self.nspawn:
            self.nspawn.wait()
            self.nspawn = None
        leftovers.unmount_below(self.merged)
        network.remove_port(self.lab, self.id)
        leftovers.remove_groups(self.lab.key, self.id)
        leftovers.remove_traces(self.machine)

    def remove(self, grace):
        with self.lock:
            self.stop(grace)
            leftovers.remove_tree(self.dir)

    def said(self):
        """The end of its console, as bytes."""
        try:
            with open(self.console, "rb") as file:
                size = file.seek(0, os.SEEK_END)
                file.seek(max(0, size - CONSOLE))
                return file.read()
        except FileNotFoundError:
            return b""
