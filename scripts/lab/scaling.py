"""Launch templates and Auto Scaling groups, changed to what they are on EC2: a template or configuration counts wholly,
a group's instances are spread over its subnets, and those that end or stop by themselves are replaced.
"""

import logging
import threading
import time

from moto.autoscaling.models import FakeAutoScalingGroup, InstanceState, autoscaling_backends
from moto.ec2.exceptions import EC2ClientError
from moto.ec2.models.launch_templates import LaunchTemplateVersion
from moto.ec2.responses.instances import InstanceResponse
from moto.ec2.utils import parse_user_data

from lab import credentials, place

log = logging.getLogger("lab")

# How often groups are looked at. EC2 takes minutes to notice.
EVERY = 1.0
NAME_TAG = "aws:autoscaling:groupName"
WELL = ("pending", "running")
# What moto takes from a template by itself.
MOTOS = ("UserData", "SecurityGroupIds", "SecurityGroups", "TagSpecifications")


def install(self):
    moto_answer = InstanceResponse.run_instances

    def answer(response):
        from_template(response)
        result = moto_answer(response)
        # moto gives the profile to the first one only.
        profile = response._get_param("IamInstanceProfile")
        for instance in result.result.instances[1:] if profile else []:
            if instance.id not in response.ec2_backend.iam_instance_profile_associations:
                associate(response.ec2_backend, instance, profile)
        return result

    InstanceResponse.run_instances = answer
    LaunchTemplateVersion.user_data = property(user_data)
    FakeAutoScalingGroup.replace_autoscaling_group_instances = launch
    FakeAutoScalingGroup.active_instances = active
    # Shown as pending while its host boots; moto counts by what was set.
    InstanceState.lifecycle_state = property(shown, set_state)
    threading.Thread(target=watch, args=(self,), daemon=True, name="scaling").start()


def from_template(response):
    """RunInstances takes from the launch template what the call does not say."""
    asked = response._get_param("LaunchTemplate")
    if not asked:
        return
    for key, value in response.ec2_backend._get_template_from_args(asked).data.items():
        if key not in MOTOS and not response.params.get(key):
            response.params[key] = value


def user_data(version):
    """moto reads it as base64 only where a template is made, and then refuses to launch from later versions."""
    value = version.data.get("UserData")
    return parse_user_data(value) if isinstance(value, (str, bytes)) else value


def associate(ec2, instance, profile):
    name, arn = profile.get("Name"), profile.get("Arn")
    ec2.associate_iam_instance_profile(instance.id, iam_instance_profile_name=name, iam_instance_profile_arn=arn)


def shown(state):
    booting = state.raw_state == "InService" and state.instance.state == "pending"
    return "Pending" if booting else state.raw_state


def set_state(state, value):
    state.raw_state = value


def active(group):
    return [s for s in group.instance_states if s.raw_state == "InService"]


def launch(group, count, tags):
    """Launches so many instances, each in the subnet that has the fewest."""
    ec2 = group.autoscaling_backend.ec2_backend
    wanted = by_template(group) if group.ec2_launch_template else by_configuration(group.launch_config)
    profile = wanted.pop("profile") or {}
    tags = {**group.instance_tags, **tags, NAME_TAG: group.name}
    for _ in range(count):
        arguments = {**wanted, **where(group), "tags": {"instance": tags, "volume": wanted["tags"]}}
        image, data, names = (arguments.pop(k) for k in ("image", "user_data", "groups"))
        [instance] = ec2.run_instances(image, 1, data, names, is_instance_type_default=False, **arguments).instances
        if profile:
            associate(ec2, instance, profile)
        instance.autoscaling_group = group
        protected = group.new_instances_protected_from_scale_in
        group.instance_states.append(InstanceState(instance, protected_from_scale_in=protected))


def by_template(group):
    version = group.ec2_launch_template.get_version(group.launch_template_version)
    data = version.data
    card = next(iter(data.get("NetworkInterfaces") or []), {})
    tags = {
        t["Key"]: t["Value"]
        for s in data.get("TagSpecifications") or []
        if s["ResourceType"] == "volume"
        for t in s["Tags"]
    }
    found = {
        "image": version.image_id,
        "user_data": version.user_data,
        "groups": [
            *(data.get("SecurityGroupIds") or []),
            *(data.get("SecurityGroups") or []),
            *(card.get("Groups") or []),
        ],
        "instance_type": version.instance_type,
        "key_name": data.get("KeyName"),
        "associate_public_ip": card.get("AssociatePublicIpAddress"),
        "metadata_options": data.get("MetadataOptions") or {},
        "profile": data.get("IamInstanceProfile"),
        "tags": tags,
    }
    if data.get("BlockDeviceMappings"):
        found["block_device_mappings"] = [sized(disk) for disk in data["BlockDeviceMappings"]]
    return found


def sized(disk):
    """A disk whose size is not said is as large as its image's."""
    return {**disk, "Ebs": {"VolumeSize": 8, **(disk.get("Ebs") or {})}}


def by_configuration(config):
    profile = config.iam_instance_profile
    found = {
        "image": config.image_id,
        "user_data": config.user_data,
        "groups": config.security_groups,
        "instance_type": config.instance_type,
        "key_name": config.key_name,
        # Not said is as the subnet says; moto cannot tell it from `false`.
        "associate_public_ip": config.associate_public_ip_address or None,
        "metadata_options": config.metadata_options or {},
        "profile": profile and {"Arn" if profile.startswith("arn:") else "Name": profile},
        "tags": {},
    }
    if config.block_device_mapping_dict:
        found["block_device_mappings"] = config.block_device_mapping_dict
    return found


def where(group):
    """The subnet, or the zone, that has the fewest of the group's instances."""
    subnets = [s.strip() for s in (group.vpc_zone_identifier or "").split(",") if s.strip()]
    held = [s.instance for s in group.instance_states]
    if subnets:
        return {"subnet_id": min(subnets, key=lambda subnet: sum(i.subnet_id == subnet for i in held))}
    zones = group.availability_zones
    return {"placement": min(zones, key=lambda zone: sum(i.placement.zone == zone for i in held))}


def watch(self):
    while True:
        time.sleep(EVERY)
        with self.lock:
            for group in list(autoscaling_backends[credentials.ACCOUNT][place.REGION].autoscaling_groups.values()):
                try:
                    mend(group)
                except EC2ClientError as e:
                    # As on EC2 the group goes on trying.
                    log.warning("group %s: %s", group.name, e)
                except Exception:
                    log.exception("group %s", group.name)


def mend(group):
    """What is not well leaves the group and ends; then there are as many as there shall be."""
    suspended = {p["ProcessName"] for p in group.suspended_processes}
    if not suspended & {"HealthCheck", "ReplaceUnhealthy", "Terminate"}:
        bad = [s for s in active(group) if s.health_status != "Healthy" or s.instance.state not in WELL]
        group.instance_states = [s for s in group.instance_states if s not in bad]
        for state in bad:
            log.info("group %s: %s is %s and is replaced", group.name, state.instance.id, state.instance.state)
            state.instance.terminate()
    if "Launch" not in suspended and len(active(group)) < (group.desired_capacity or 0):
        group.set_desired_capacity(group.desired_capacity)
