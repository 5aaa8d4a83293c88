"""moto's EC2, changed to what EC2 is: calls that only noted something reach the hosts, and answers say what is so.

This, `sealing` and `scaling` are the places that change moto's classes. Each change says what EC2 does that moto 5.2
does not.
"""

import base64
import copy
import ipaddress
import logging
import time

from moto.core.responses import ActionResult
from moto.core.types import Base64EncodedString
from moto.core.utils import utcnow
from moto.ec2 import utils as moto_utils
from moto.ec2.exceptions import EC2ClientError
from moto.ec2.models import EC2Backend, elastic_ip_addresses, elastic_network_interfaces
from moto.ec2.models.instance_types import INSTANCE_TYPES
from moto.ec2.models.instances import Instance, InstanceState
from moto.ec2.models.security_groups import SecurityGroupRule
from moto.ec2.responses import instances as instance_responses
from moto.ec2.responses.general import General
from moto.ec2.responses.instances import InstanceResponse
from moto.iam.exceptions import NotFoundException

from lab import place, scaling, sealing
from lab.command import Failure
from lab.instances import PENDING, SHUTTING, STOPPING

log = logging.getLogger("lab")
moto_start = Instance.start


def is_in(subnet, vpc):
    return ipaddress.ip_network(subnet.cidr_block).subnet_of(ipaddress.ip_network(vpc))


def incorrect(instance, what):
    return EC2ClientError(
        "IncorrectInstanceState", f"The instance '{instance.id}' is not in a state from which it can be {what}."
    )


def install(lab_instances):
    """Changes moto's classes, for good: a process has one lab."""
    self = lab_instances

    # Public addresses of the lab's range, where moto makes them up.
    elastic_network_interfaces.random_public_ip = self.next_public
    elastic_ip_addresses.random_ip = self.next_public
    # moto knows fewer filters of DescribeInstances.
    moto_utils.filter_dict_attribute_mapping.update(
        {
            "client-token": "client_token",
            "instance-lifecycle": "lifecycle",
            "launch-index": "ami_launch_index",
        }
    )

    install_network(self)
    install_states(self)
    install_launch(self)
    install_tokens(self)
    install_views(self)
    sealing.install(self)
    scaling.install(self)


def install_network(self):
    """A default VPC of the lab's own range: three zones, a subnet in each, the way out that a default VPC has."""
    moto_vpc = EC2Backend.create_vpc

    def create_vpc(backend, cidr_block, *args, is_default=False, **kwargs):
        if is_default and backend.region_name == place.REGION:
            cidr_block = self.record["vpc"]
        return moto_vpc(backend, cidr_block, *args, is_default=is_default, **kwargs)

    moto_subnet = EC2Backend.create_default_subnet

    def create_default_subnet(backend, availability_zone):
        if backend.region_name != place.REGION:
            return moto_subnet(backend, availability_zone)
        number = "abcdefgh".index(availability_zone[-1])
        if number >= len(self.record["subnets"]):
            return None
        # The first one of a zone is its default subnet, for moto as well.
        return backend.create_subnet(
            backend.get_default_vpc().id, self.record["subnets"][number], availability_zone=availability_zone
        )

    EC2Backend.create_vpc = create_vpc
    EC2Backend.create_default_subnet = create_default_subnet


def settle(self, backend):
    """The back end of the region that has hosts."""
    self.backend = backend
    vpc = backend.get_default_vpc()
    gateway = backend.create_internet_gateway()
    backend.attach_internet_gateway(gateway.id, vpc.id)
    table = next(t for t in backend.route_tables.values() if t.vpc_id == vpc.id)
    backend.create_route(table.id, "0.0.0.0/0", gateway_id=gateway.id)
    # The default group lets its members reach each other.
    group = backend.get_default_security_group(vpc.id)
    member = {"GroupId": group.id, "UserId": backend.account_id}
    group.add_ingress_rule(SecurityGroupRule(backend, "-1", group.id, None, None, {}, member, is_egress=False))


def install_states(self):
    """moto is done at once; EC2 has states in between."""

    def stop(instance):
        before = copy.copy(instance._state)
        if instance.state in ("stopped", "stopping"):
            return before
        if instance.state != "running":
            raise incorrect(instance, "stopped")
        instance._state = InstanceState(*STOPPING)
        self.spawn(self.stop, instance)
        return before

    def start(instance):
        before = copy.copy(instance._state)
        if instance.state in ("running", "pending"):
            return before
        if instance.state != "stopped":
            raise incorrect(instance, "started")
        moto_start(instance)
        instance._state = InstanceState(*PENDING)
        # A fault of the launch was one of the launch.
        self.boot_faults[instance.id] = {
            k: r for k, r in self.boot_faults.get(instance.id, {}).items() if k == "no-console"
        }
        self.spawn(self.boot, instance)
        return before

    def terminate(instance):
        before = copy.copy(instance._state)
        if instance.state not in ("shutting-down", "terminated"):
            instance._state = InstanceState(*SHUTTING)
            self.spawn(self.terminate, instance)
        return before

    def reboot(instance):
        if instance.state != "running":
            raise incorrect(instance, "rebooted")
        try:
            self.hosts[instance.id].reboot()
        except Failure as e:
            # EC2 only notes the wish.
            log.warning("%s", e)

    Instance.stop = stop
    Instance.start = start
    Instance.terminate = terminate
    Instance.reboot = reboot


def install_launch(self):
    moto_run = EC2Backend.run_instances

    def run_instances(backend, image_id, count, user_data, security_group_names, **kwargs):
        subnet = check_launch(self, backend, image_id, count, kwargs)
        try:
            reservation = moto_run(backend, image_id, count, user_data, security_group_names, **kwargs)
        except StopIteration:
            raise full(subnet) from None
        kept = {
            int(n.get("DeviceIndex") or 0) for n in kwargs.get("nics") or [] if n.get("DeleteOnTermination") is False
        }
        for instance in reservation.instances:
            for number, nic in instance.nics.items():
                # The default for an interface that was made by the launch; moto leaves them behind.
                nic.delete_on_termination = number not in kept
            # Those that were given with an interface, or the default group, are the instance's as well.
            instance.security_groups = instance.security_groups or list(instance.nics[0]._group_set)
            self.launched(instance)
        return reservation

    moto_profiles = instance_responses.filter_iam_instance_profiles

    def profiles(account_id, partition, iam_instance_profile_arn=None, iam_instance_profile_name=None):
        try:
            return moto_profiles(account_id, partition, iam_instance_profile_arn, iam_instance_profile_name)
        except NotFoundException:
            name, arn = iam_instance_profile_name, iam_instance_profile_arn
            raise EC2ClientError(
                "InvalidParameterValue",
                f"Value ({name or arn}) for parameter iamInstanceProfile.{'name' if name else 'arn'} is invalid. "
                f"Invalid IAM Instance Profile {'name' if name else 'ARN'}",
            ) from None

    EC2Backend.run_instances = run_instances
    instance_responses.filter_iam_instance_profiles = profiles


def install_tokens(self):
    """RunInstances as a client calls it: the same token gives the same instances."""
    moto_answer = InstanceResponse.run_instances

    def answer(response):
        params = {k: v[0] for k, v in response.querystring.items()}
        token = params.pop("ClientToken", None)
        # EC2 launches as many as it can between the two; moto launches the least.
        if params.get("MaxCount"):
            response.params["MinCount"] = int(params["MaxCount"])
        root_volume(response)
        if params.get("DryRun") == "true" or not token:
            result = moto_answer(response)
            for instance in result.result.instances:
                instance.client_token = ""
            return result
        if len(token) > 64:
            raise EC2ClientError("InvalidParameterValue", "Client token exceeds the 64 character limit")
        known = self.tokens.get((response.region, token))
        if known is None:
            result = moto_answer(response)
            self.tokens[response.region, token] = (params, result.result)
            return result
        if known[0] != params:
            raise EC2ClientError(
                "IdempotentParameterMismatch",
                "Arguments on this idempotent request are inconsistent with arguments used in previous request(s).",
            )
        if all(i.state == "terminated" for i in known[1].instances):
            raise EC2ClientError(
                "IdempotentInstanceTerminated",
                f"The instances launched with the client token '{token}' have been terminated.",
            )
        return ActionResult(known[1])

    InstanceResponse.run_instances = answer


def root_volume(response):
    """The root device comes from the AMI, goes with the instance, and a mapping of it needs no size; moto makes none
    where other devices are mapped, and keeps a mapped one."""
    image = response.ec2_backend.amis.get(response._get_param("ImageId"))
    mappings = response.params.get("BlockDeviceMappings") or []
    if not image:
        return
    root = next((m for m in mappings if m.get("DeviceName") == image.root_device_name), None)
    if root is None:
        root = {"DeviceName": image.root_device_name}
        mappings.insert(0, root)
    disk = root.setdefault("Ebs", {})
    disk.setdefault("DeleteOnTermination", True)
    disk.setdefault("VolumeType", "gp3")
    if not disk.get("SnapshotId"):
        disk.setdefault("VolumeSize", 8)
    response.params["BlockDeviceMappings"] = mappings


def full(subnet):
    return EC2ClientError(
        "InsufficientFreeAddressesInSubnet",
        f"There are not enough free addresses in subnet '{subnet.id}' to satisfy the requested number of instances.",
    )


def check_launch(self, backend, image_id, count, kwargs):
    """What EC2 refuses and moto does not. The answer is the subnet of the launch."""
    if backend is not self.backend:
        raise EC2ClientError(
            "UnsupportedOperation", f"This lab has hosts in {place.REGION} only, not in {backend.region_name}"
        )
    image = backend.amis.get(image_id)
    if image and image.state != "available":
        raise EC2ClientError("InvalidAMIID.Unavailable", f"The image ID '{image_id}' is {image.state}")
    wanted = (
        INSTANCE_TYPES.get(kwargs.get("instance_type"), {}).get("ProcessorInfo", {}).get("SupportedArchitectures", [])
    )
    if image and wanted and image.architecture not in wanted:
        raise EC2ClientError(
            "InvalidParameterValue",
            f"The architecture '{','.join(wanted)}' of the specified instance type does not match the architecture "
            f"'{image.architecture}' of the specified AMI. Specify an instance type and an AMI that have matching "
            "architectures, and try again.",
        )
    nic = next((n for n in kwargs.get("nics") or [] if n.get("SubnetId")), {})
    chosen = kwargs.get("subnet_id") or nic.get("SubnetId")
    if not chosen:
        zone = kwargs.get("placement") or backend.region_name + "a"
        by_zone = backend.get_default_subnets()
        if zone not in by_zone:
            raise EC2ClientError("InvalidInput", f"No default subnet for availability zone: '{zone}'.")
        # moto gives an instance without a subnet any private address: name the subnet that EC2 would take.
        chosen = kwargs["subnet_id"] = by_zone[zone].id
        if kwargs.get("associate_public_ip") is None:
            kwargs["associate_public_ip"] = by_zone[zone].map_public_ip_on_launch
        if kwargs.get("nics"):
            kwargs["subnet_id"] = None
            kwargs["nics"][0]["SubnetId"] = chosen
    subnet = backend.get_subnet(chosen)
    if not is_in(subnet, self.record["vpc"]):
        raise EC2ClientError(
            "UnsupportedOperation",
            f"The lab has hosts in its default VPC only ({self.record['vpc']}), and {subnet.id} is {subnet.cidr_block}",
        )
    if subnet.cidr.num_addresses - 5 - len(subnet._subnet_ips) < count:
        raise full(subnet)
    return subnet


def hide(name, instead, *states):
    """An instance in these states shows this instead of a property."""
    shown = getattr(Instance, name).fget
    setattr(Instance, name, property(lambda instance: instead if instance.state in states else shown(instance)))


def install_views(self):
    """What DescribeInstances, GetConsoleOutput and DeleteSecurityGroup say."""

    def console(response):
        instance = response.ec2_backend.get_instance(response._get_param("InstanceId"))
        host = self.hosts.get(instance.id)
        said = b"" if not host or "no-console" in self.boot_faults.get(instance.id, {}) else host.said()
        result = {"InstanceId": instance.id, "Timestamp": utcnow()}
        if said:
            result["Output"] = Base64EncodedString.from_encoded_bytes(base64.b64encode(said))
        return ActionResult(result)

    General.get_console_output = console

    moto_reservations = EC2Backend.all_reservations

    def all_reservations(backend, filters=None):
        found = moto_reservations(backend, filters)
        age = getattr(self.hidden, "age", None)
        if age is not None:
            for reservation in found:
                reservation.instances = [
                    i for i in reservation.instances if time.monotonic() - getattr(i, "launched_at", 0) > age
                ]
            found = [r for r in found if r.instances]
        return found

    EC2Backend.all_reservations = all_reservations

    # A terminated instance has no addresses any more, a new one has no public address yet.
    hide("network_interfaces", [], "terminated")
    hide("private_ip_address", None, "terminated")
    hide("private_ip", None, "terminated")
    hide("private_dns_name", "", "terminated")
    hide("public_ip_address", None, "terminated", "pending")
    hide("public_dns_name", "", "terminated", "pending")

    moto_delete = EC2Backend.delete_security_group

    def delete_security_group(backend, name=None, group_id=None):
        group = backend.get_security_group_by_name_or_id(group_id or name)
        if group:
            used = [e.id for e in backend.enis.values() if any(g.id == group.id for g in e.group_set)]
            others = [g for by_id in backend.groups.values() for g in by_id.values() if g.id != group.id]
            used += [g.id for g in others for r in g.ingress_rules if (r.source_group or {}).get("GroupId") == group.id]
            if used:
                raise EC2ClientError("DependencyViolation", f"resource {group.id} has a dependent object")
            if group.is_default:
                raise EC2ClientError(
                    "CannotDelete", f'the specified group: "{group.id}" name: "default" cannot be deleted by a user'
                )
        return moto_delete(backend, name, group_id)

    EC2Backend.delete_security_group = delete_security_group

    # An instance's groups and those of its first interface are the same; moto changes one of them.
    moto_groups = EC2Backend.modify_instance_security_groups

    def modify_instance_security_groups(backend, instance_id, new_group_id_list):
        instance = moto_groups(backend, instance_id, new_group_id_list)
        instance.nics[0]._group_set = list(instance.security_groups)
        return instance

    moto_interface = EC2Backend.modify_network_interface_attribute

    def modify_network_interface_attribute(backend, eni_id, group_ids, *args, **kwargs):
        moto_interface(backend, eni_id, group_ids, *args, **kwargs)
        eni = backend.get_network_interface(eni_id)
        if group_ids and eni.instance and eni.device_index == 0:
            eni.instance.security_groups = list(eni._group_set)

    EC2Backend.modify_instance_security_groups = modify_instance_security_groups
    EC2Backend.modify_network_interface_attribute = modify_network_interface_attribute
