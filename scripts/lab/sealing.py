"""CreateImage: a host's own layer, copied while the host is off, is what the image has over the one it came from.
And CopyImage to another region, where no hosts are."""

import logging
import threading

from moto.ec2.exceptions import EC2ClientError
from moto.ec2.models import EC2Backend, ec2_backends
from moto.ec2.responses.amis import AmisResponse

from lab import groups, images
from lab.command import run
from lab.instances import STOP_GRACE

log = logging.getLogger("lab")


def install(self):
    """Changes moto's CreateImage, which only notes one."""
    moto_answer, moto_create = AmisResponse.create_image, EC2Backend.create_image

    def answer(response):
        # Calls are executed one at a time.
        self.reboots = not response._get_bool_param("NoReboot", False)
        return moto_answer(response)

    def create_image(backend, instance_id, name, description, tag_specifications):
        instance = backend.get_instance(instance_id)
        check(backend, instance, name)
        # moto takes no tags for the image's snapshot.
        apart = [s for s in tag_specifications if s["ResourceType"] == "snapshot"]
        others = [s for s in tag_specifications if s not in apart]
        image = moto_create(backend, instance_id, name, description, others)
        image.ebs_snapshot.add_tags({t["Key"]: t["Value"] for s in apart for t in s["Tags"]})
        source = backend.amis.get(instance.image_id)
        image.root_device_type, image.root_device_name = "ebs", instance.root_device_name
        image.boot_mode = source.boot_mode if source else image.boot_mode
        image.state = "pending"
        threading.Thread(
            target=sealed, args=(self, instance, image, self.reboots), daemon=True, name=f"seal {image.id}"
        ).start()
        return image

    AmisResponse.create_image = answer
    EC2Backend.create_image = create_image
    install_copies()


def install_copies():
    """Changes moto's CopyImage, which gives a copy neither tags nor the root device of what it is a copy of."""
    moto_copy = AmisResponse.copy_image

    def copy_image(response):
        made = moto_copy(response)
        image = response.ec2_backend.amis[made.result["ImageId"]]
        source = ec2_backends[image.owner_id][response._get_param("SourceRegion")].amis[
            response._get_param("SourceImageId")
        ]
        image.root_device_type, image.root_device_name = source.root_device_type, source.root_device_name
        things = {"image": image, "snapshot": image.ebs_snapshot}
        for given in response._get_param("TagSpecifications", []):
            things[given["ResourceType"]].add_tags({t["Key"]: t["Value"] for t in given["Tags"]})
        return made

    AmisResponse.copy_image = copy_image


def check(backend, instance, name):
    if instance.state not in ("running", "stopped"):
        raise EC2ClientError("IncorrectState", "Instance is not in state 'running' or 'stopped'.")
    twin = next((i.id for i in backend.amis.values() if i.name == name and i.owner_id == backend.account_id), None)
    if twin:
        raise EC2ClientError("InvalidAMIName.Duplicate", f"AMI name {name} is already in use by AMI {twin}")


def sealed(self, instance, image, reboots):
    """The image is available, or failed."""
    try:
        seal(self, instance, image, reboots)
        image.state = "available"
    except Exception:
        log.exception("seal %s", image.id)
        image.state = "failed"


def seal(self, instance, image, reboots):
    """As on EC2 the instance is switched off meanwhile, unless that is not wanted, and stays `running` by name."""
    host, tree = self.hosts[instance.id], self.lab.images / image.id
    tree.parent.mkdir(exist_ok=True)
    with host.lock:
        reboots = reboots and instance.state == "running"
        if reboots:
            host.stop(STOP_GRACE)
        try:
            # With the marks that an overlay sets for what was removed.
            run("cp", "--archive", "--reflink=auto", host.upper, tree)
        finally:
            # It may have been stopped or terminated since: those wait for this lock.
            if reboots and instance.state == "running":
                with self.lock:
                    rules = groups.ruleset(instance, self.members)
                host.boot(rules, anew=False)
                self.applied[instance.id] = rules
    with self.lock:
        images.SEALED[image.id] = [tree, *images.SEALED.get(instance.image_id, [])]
        images.ORIGIN[image.id] = images.origin(instance.image_id)
