"""AMIs: those that the lab adds to moto's own, the SSM parameters that name them, and the tree behind each."""

from lab import base

DEBIAN, CANONICAL = "136693071363", "099720109477"

# id, name, owner, architecture, root device, SSM parameters
ADDED = [
    (
        "ami-0deb12a0d64000001",
        "debian-12-amd64-20250316-2053",
        DEBIAN,
        "x86_64",
        "/dev/xvda",
        ["/aws/service/debian/release/12/latest/amd64", "/aws/service/debian/release/bookworm/latest/amd64"],
    ),
    (
        "ami-0deb12a7640000001",
        "debian-12-arm64-20250316-2053",
        DEBIAN,
        "arm64",
        "/dev/xvda",
        ["/aws/service/debian/release/12/latest/arm64", "/aws/service/debian/release/bookworm/latest/arm64"],
    ),
    (
        "ami-0ab2404a0d6400001",
        "ubuntu/images/hvm-ssd-gp3/ubuntu-noble-24.04-amd64-server-20250305",
        CANONICAL,
        "x86_64",
        "/dev/sda1",
        ["/aws/service/canonical/ubuntu/server/24.04/stable/current/amd64/hvm/ebs-gp3/ami-id"],
    ),
    (
        "ami-0ab2404a764000001",
        "ubuntu/images/hvm-ssd-gp3/ubuntu-noble-24.04-arm64-server-20250305",
        CANONICAL,
        "arm64",
        "/dev/sda1",
        ["/aws/service/canonical/ubuntu/server/24.04/stable/current/arm64/hvm/ebs-gp3/ami-id"],
    ),
]

# Image id → layers of its tree, the uppermost first. An image that is not here has the base tree; one sealed from
# a host would put the host's layer before it.
SEALED = {}
# Image id → the one of ours or moto's that it goes back to, by one or more hosts.
ORIGIN = {}


def layers(image_id):
    return SEALED.get(image_id, []) + [base.tree()]


def origin(image_id):
    return ORIGIN.get(image_id, image_id)


def register(ec2, ssm):
    """Adds the lab's AMIs and parameters to moto's back ends of one region."""
    from moto.core.utils import utcnow
    from moto.ec2.models.amis import Ami
    from moto.ssm.models import Parameter

    for image_id, name, owner, architecture, device, parameters in ADDED:
        ec2.amis[image_id] = Ami(
            ec2,
            image_id,
            name=name,
            description=name,
            owner_id=owner,
            public=True,
            virtualization_type="hvm",
            architecture=architecture,
            hypervisor="xen",
            root_device_type="ebs",
            root_device_name=device,
            image_location=f"amazon/{name}",
            region_name=ec2.region_name + "a",
        )
        for parameter in parameters:
            ssm._parameters[parameter].append(
                Parameter(
                    account_id=ec2.account_id,
                    name=parameter,
                    value=image_id,
                    parameter_type="String",
                    description=None,
                    allowed_pattern=None,
                    keyid=None,
                    last_modified_date=utcnow(),
                    version=1,
                    data_type="aws:ec2:image",
                )
            )
