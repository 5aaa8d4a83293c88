"""The API's instances and the hosts behind them: a launch boots one, and so on; states say what is so.

How the API's calls come here is `ec2`'s.
"""

import base64
import collections
import functools
import ipaddress
import logging
import threading
import time

from moto.ec2.exceptions import EC2ClientError
from moto.ec2.models import instances

from lab import groups, images, network, seed
from lab.command import Failure
from lab.hosts import Host

log = logging.getLogger("lab")

# What moto itself does, before `ec2` changes it.
moto_stop = instances.Instance.stop
moto_terminate = instances.Instance.terminate

PENDING, RUNNING, SHUTTING, TERMINATED, STOPPING, STOPPED = (
    ("pending", 0),
    ("running", 16),
    ("shutting-down", 32),
    ("terminated", 48),
    ("stopping", 64),
    ("stopped", 80),
)

# EC2 shows an instance as pending for some seconds; a client must have seen that, but need not wait as long.
PENDING_SECONDS = 0.5
# How long a host may take to power off before it is cut off.
STOP_GRACE, TERMINATE_GRACE = 15, 5


class Instances:
    """All instances of a lab and their hosts. `lock` is the one under which moto is called."""

    def __init__(self, lab, record, faults, authority):
        self.lab, self.record, self.faults, self.authority = lab, record, faults, authority
        self.lock = threading.RLock()
        self.backend = None
        self.hosts = {}
        self.boot_faults = {}
        # (region, token) → (parameters, reservation)
        self.tokens = {}
        # Set for a call from which young instances are hidden: the age in seconds.
        self.hidden = threading.local()
        # The first few of the range are the lab's own.
        self.public = collections.deque(list(ipaddress.ip_network(record["public"]).hosts())[8:])
        self.applied = {}
        self.translated = None
        # Rules are made and applied by one at a time, so that an older set never replaces a newer one.
        self.refreshing = threading.Lock()

    # ---- addresses

    def next_public(self):
        """Another one each time: an address that was given back is not had again at once."""
        used = self.used_public()
        for _ in range(len(self.public)):
            self.public.rotate(-1)
            if str(self.public[0]) not in used:
                return str(self.public[0])
        raise EC2ClientError("InsufficientAddressCapacity", "The lab has no public address left")

    def used_public(self):
        if not self.backend:
            return set()
        return {n.public_ip for n in self.backend.enis.values()} | {a.public_ip for a in self.backend.addresses}

    # ---- what follows from the API's state: address translation and security groups

    def alive(self):
        return [i for i in self.backend.all_instances() if i.state in ("pending", "running", "stopping")]

    def members(self, group_id):
        return {
            str(i.nics[0].private_ip_address)
            for i in self.alive()
            if any(g.id == group_id for g in groups.groups_of(i))
        }

    def refresh(self):
        """Makes translation and groups what the API says they are. Called after each call that may change that."""
        with self.refreshing:
            with self.lock:
                alive = self.alive()
                pairs = [(i.nics[0].public_ip, str(i.nics[0].private_ip_address)) for i in alive if i.nics[0].public_ip]
                wanted = {i.id: groups.ruleset(i, self.members) for i in alive}
            if pairs != self.translated:
                network.translate(self.lab, pairs)
                self.translated = pairs
            for instance_id, rules in wanted.items():
                host = self.hosts.get(instance_id)
                # Only where it stands already: a host that boots gets its rules before it can listen.
                if host and host.nspawn and self.applied.get(instance_id) != rules:
                    try:
                        network.nft(host.machine, rules)
                        self.applied[instance_id] = rules
                    except Failure:
                        # It may just be going; if it is not, the next call says it again.
                        log.exception("groups of %s", instance_id)

    # ---- a host's life

    def launched(self, instance):
        """A new instance of the API gets its host."""
        instance._state = instances.InstanceState(*PENDING)
        instance.launched_at = time.monotonic()
        name = next((t["value"] for t in instance.get_tags() if t["key"] == "Name"), "")
        self.boot_faults[instance.id] = self.faults.for_boot(name)
        address = instance.nics[0].private_ip_address
        self.hosts[instance.id] = Host(
            self.lab,
            self.record,
            instance.id,
            address,
            images.layers(instance.image_id),
            functools.partial(self.ended_itself, instance),
        )
        self.spawn(self.boot, instance)

    def spawn(self, job, instance):
        threading.Thread(
            target=self.guarded, args=(job, instance), daemon=True, name=f"{job.__name__} {instance.id}"
        ).start()

    def guarded(self, job, instance):
        try:
            job(instance)
        except Exception:
            log.exception("%s of %s", job.__name__, instance.id)
            instance.state_reason = instances.StateReason(
                f"Server.InternalError: {job.__name__} failed, see {self.lab.log}", "Server.InternalError"
            )
            if job is not self.terminate:
                self.terminate(instance)

    def boot(self, instance):
        faults, host = self.boot_faults.get(instance.id, {}), self.hosts[instance.id]
        if "no-boot" in faults:
            return
        if dies := faults.get("dies"):
            self.die(instance, dies)
            return
        began = time.monotonic()
        if slow := faults.get("slow-boot"):
            time.sleep(slow["delay"])
        with host.lock:
            if instance.state != "pending":
                return
            if not host.dir.exists():
                host.make(functools.partial(self.seed, instance))
            with self.lock:
                rules = groups.ruleset(instance, self.members)
            host.boot(rules)
            self.applied[instance.id] = rules
        self.refresh()
        time.sleep(max(0, began + PENDING_SECONDS - time.monotonic()))
        with self.lock:
            if instance.state == "pending":
                instance._state = instances.InstanceState(*RUNNING)

    def die(self, instance, rule):
        """As EC2 ends a launch that it accepted and cannot carry out."""
        time.sleep(PENDING_SECONDS)
        code = rule["code"] or "Server.InternalError"
        instance.state_reason = instances.StateReason(f"{code}: {rule['message'] or 'Internal error on launch'}", code)
        self.terminate(instance)

    def seed(self, instance, upper):
        pair = self.backend.key_pairs.get(instance.key_name)
        keys = [openssh(pair)] if pair else []
        # An image of somebody's own may have any name: its user is the one of what it was made of.
        image = self.backend.amis.get(images.origin(instance.image_id))
        seed.write(
            upper,
            instance_id=instance.id,
            hostname=hostname(instance),
            address=instance.nics[0].private_ip_address,
            user=seed.login(image.name if image else ""),
            user_data=user_data(instance),
            keys=keys,
            api=self.record["api"],
            # An image that was made of a host trusts it already, and whom else its maker trusts.
            authority=None if instance.image_id in images.SEALED else self.authority,
            sshd="no-sshd" not in self.boot_faults.get(instance.id, {}),
        )

    def stop(self, instance):
        self.hosts[instance.id].stop(STOP_GRACE)
        self.stopped(instance)

    def stopped(self, instance):
        with self.lock:
            if instance.state in ("shutting-down", "terminated"):
                return
            moto_stop(instance)
        self.refresh()

    def terminate(self, instance):
        host = self.hosts.get(instance.id)
        if host:
            host.remove(TERMINATE_GRACE)
        with self.lock:
            if instance.state == "terminated":
                return
            reason = instance.state_reason
            moto_terminate(instance)
            if reason.code:
                instance.state_reason = reason
            for address in list(instance._private_ips):
                self.backend.get_subnet(instance.subnet_id).del_subnet_ip(address)
            # Those of a terminated instance are not shown, and do not hold a group back.
            instance.security_groups = []
        self.refresh()

    def ended_itself(self, instance, host, code):
        """The host was powered off from within, or died."""
        log.info("%s ended with %s", instance.id, code)
        if instance.state not in ("running", "pending"):
            return
        if instance.instance_initiated_shutdown_behavior == "terminate":
            instance._state = instances.InstanceState(*SHUTTING)
            self.spawn(self.terminate, instance)
        else:
            instance._state = instances.InstanceState(*STOPPING)
            self.spawn(self.stop, instance)


def hostname(instance):
    return "ip-" + str(instance.nics[0].private_ip_address).replace(".", "-")


def openssh(pair):
    material = pair.material_public
    return (material.decode() if isinstance(material, bytes) else material).strip()


def user_data(instance):
    if not instance.user_data:
        return b""
    return base64.b64decode(str(instance.user_data))
