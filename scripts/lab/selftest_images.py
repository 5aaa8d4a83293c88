"""The self-test's part on images made of hosts, and on groups that launch and end hosts by themselves."""

from lab import place, tls
from lab.client import expect, reaches, refused, until
from lab.command import Failure
from lab.seed import login

SINCE = "cut -d' ' -f22 /proc/1/stat"


def sealing(c):
    """CreateImage keeps what is on a host, of its own and of its image, and what was removed; its launches are new."""
    source = c.wait(c.launch("source")[0]["InstanceId"], "running")
    source_id, at = source["InstanceId"], source["PrivateIpAddress"]
    keys = c.host_keys(source_id)
    changes = "sudo sh -c 'echo mine > /opt/mine; rm /etc/issue.net; mkdir /srv/deep; touch /srv/deep/x'"
    booted = c.ssh(at, keys, f"{changes}; {SINCE}").strip()
    tags = [
        {"ResourceType": "image", "Tags": [{"Key": "by", "Value": "selftest"}]},
        {"ResourceType": "snapshot", "Tags": [{"Key": "by", "Value": "selftest"}]},
    ]
    image = c.ec2.create_image(InstanceId=source_id, Name="mine", TagSpecifications=tags)["ImageId"]
    shown = c.ec2.describe_images(ImageIds=[image], Owners=["self"])["Images"][0]
    expect("an image is pending", shown["State"] == "pending", shown)
    expect("it has the host's root device", shown["RootDeviceName"] == "/dev/xvda", shown)
    refused("InvalidAMIID.Unavailable", c.launch, name="early", ImageId=image)
    refused("InvalidAMIName.Duplicate", c.ec2.create_image, InstanceId=source_id, Name="mine")
    available(c, image)
    until("its source has rebooted", 20, lambda: since(c, at, keys) not in (None, booted))
    expect("and is running", c.state(source_id) == "running")
    expect("its console still has its keys", c.host_keys(source_id, 0) == keys)

    copy = c.wait(c.launch("copy", ImageId=image, UserData="#!/bin/sh\ntouch /run/new\n")[0]["InstanceId"], "running")
    new_keys = c.host_keys(copy["InstanceId"])
    expect("it has keys of its own", not set(keys) & set(new_keys), new_keys)
    at = copy["PrivateIpAddress"]
    look = "cat /opt/mine; ls /srv/deep; test -e /etc/issue.net || echo gone; hostname"
    said = c.ssh(at, new_keys, look, user=login("debian")).split()
    expect("it has what its source had", said == ["mine", "x", "gone", "ip-" + at.replace(".", "-")], said)
    until("its own user data ran", 20, lambda: "new" in c.ssh(at, new_keys, "ls /run"))
    trusts = f"curl -sS -o /dev/null -w '%{{http_code}}' https://{tls.NAMES[0]}/"
    expect("it trusts the API", c.ssh(at, new_keys, trusts) == "403")
    # Without a reboot, and of a host that has such an image already.
    booted = c.ssh(at, new_keys, f"sudo touch /opt/second; {SINCE}").strip()
    second = c.ec2.create_image(InstanceId=copy["InstanceId"], Name="second", NoReboot=True)["ImageId"]
    available(c, second)
    expect("it was not rebooted", c.ssh(at, new_keys, SINCE).strip() == booted)
    c.ec2.terminate_instances(InstanceIds=[source_id, copy["InstanceId"]])
    copying(c, image, tags)
    return second


def copying(c, image, tags):
    """A copy in another region has the tags of the call, from its first moment."""
    there = c.service("ec2", region="eu-west-1")
    args = {"SourceImageId": image, "SourceRegion": place.REGION, "Name": "mine"}
    made = there.copy_image(**args, TagSpecifications=tags)["ImageId"]
    [shown] = there.describe_images(ImageIds=[made], Owners=["self"])["Images"]
    expect("a copy has its tags", shown["Tags"] == tags[0]["Tags"], shown)
    expect("it has the root device", shown["RootDeviceName"] == "/dev/xvda", shown)
    snapshot = shown["BlockDeviceMappings"][0]["Ebs"]["SnapshotId"]
    [found] = there.describe_snapshots(Filters=[{"Name": "tag:by", "Values": ["selftest"]}])["Snapshots"]
    expect("so has its snapshot", found["SnapshotId"] == snapshot, found)
    there.deregister_image(ImageId=made)
    there.delete_snapshot(SnapshotId=snapshot)


def available(c, image):
    def state():
        return c.ec2.describe_images(ImageIds=[image])["Images"][0]["State"]

    until("the image is available", 30, lambda: state() == "available")


def since(c, at, keys):
    try:
        return c.ssh(at, keys, SINCE).strip()
    except Failure:
        return None


def scaling(c, image):
    """A group's hosts come and go with its desired capacity, as its template says; lost ones are replaced."""
    template = templated(c, image)
    groups = c.service("autoscaling")
    subnets = [s["SubnetId"] for s in c.ec2.describe_subnets()["Subnets"] if s["DefaultForAz"]]
    groups.create_auto_scaling_group(
        AutoScalingGroupName="fleet",
        LaunchTemplate=template,
        MinSize=0,
        MaxSize=3,
        DesiredCapacity=2,
        VPCZoneIdentifier=",".join(subnets),
        Tags=[{"Key": "fleet", "Value": "yes", "PropagateAtLaunch": True}],
    )

    def members(state="InService"):
        held = groups.describe_auto_scaling_groups(AutoScalingGroupNames=["fleet"])["AutoScalingGroups"][0]["Instances"]
        return sorted(i["InstanceId"] for i in held if i["LifecycleState"] == state)

    expect("its hosts boot first", len(members("Pending")) == 2, members("Pending"))
    one, two = until("two are in service", 20, lambda: members() if len(members()) == 2 else None)
    as_the_template_says(c, one, two)
    come_and_go(c, groups, members, {one, two})
    direct = c.ec2.run_instances(LaunchTemplate=template, MinCount=2, MaxCount=2)["Instances"]
    for instance in direct:
        instance = c.instance(instance["InstanceId"])
        expect("a launch by template", (instance["ImageId"], instance["KeyName"]) == (image, "selftest"), instance)
        expect("has its profile", instance["IamInstanceProfile"]["Arn"].endswith("/selftest"), instance)
        expect("and its metadata options", instance["MetadataOptions"]["HttpTokens"] == "required", instance)
    c.ec2.terminate_instances(InstanceIds=[instance["InstanceId"] for instance in direct])


def templated(c, image):
    """A launch template whose second version is the one that counts."""
    data = {
        "ImageId": image,
        "InstanceType": "t3.micro",
        "KeyName": "selftest",
        "SecurityGroupIds": [c.group],
        "IamInstanceProfile": {"Name": "selftest"},
        "MetadataOptions": {"HttpTokens": "required", "InstanceMetadataTags": "enabled"},
        "TagSpecifications": [{"ResourceType": "instance", "Tags": [{"Key": "Name", "Value": "by-template"}]}],
    }
    c.ec2.create_launch_template(LaunchTemplateName="selftest", LaunchTemplateData={**data, "KeyName": "none"})
    version = c.ec2.create_launch_template_version(LaunchTemplateName="selftest", LaunchTemplateData=data)
    return {
        "LaunchTemplateName": "selftest",
        "Version": str(version["LaunchTemplateVersion"]["VersionNumber"]),
    }


def as_the_template_says(c, one, two):
    first = c.instance(one)
    expect("they are in two subnets", first["SubnetId"] != c.instance(two)["SubnetId"])
    seen = {t["Key"]: t["Value"] for t in first["Tags"]}
    wanted = {"Name": "by-template", "fleet": "yes", "aws:autoscaling:groupName": "fleet"}
    expect("it has both tags", wanted.items() <= seen.items(), seen)
    look = """
        at=http://169.254.169.254/latest
        token=$(curl -s -X PUT -H 'X-aws-ec2-metadata-token-ttl-seconds: 60' $at/api/token)
        for path in iam/security-credentials/ tags/instance/fleet instance-id; do
            curl -sf -H "X-aws-ec2-metadata-token: $token" $at/meta-data/$path; echo
        done
        ls /opt"""
    said = c.ssh(first["PublicIpAddress"], c.host_keys(one), look).split()
    expect("it has role, tags and files", said == ["selftest", "yes", one, "mine", "second"], said)


def come_and_go(c, groups, members, first):
    """Up to three, two of them lost and replaced, down to one, and away."""
    name = {"AutoScalingGroupName": "fleet"}
    groups.set_desired_capacity(**name, DesiredCapacity=3)
    more = until("a third is in service", 20, lambda: members() if len(members()) == 3 else None)
    expect("the others stay", first <= set(more), more)
    lost, broken = more[0], more[1]
    c.ec2.terminate_instances(InstanceIds=[lost])
    c.ssh(c.instance(broken)["PublicIpAddress"], c.host_keys(broken), "sudo systemctl poweroff --no-block")

    def replaced():
        now = members()
        return now if len(now) == 3 and not {lost, broken} & set(now) else None

    again = until("both are replaced", 30, replaced)
    expect("one is left as it was", len(set(again) & set(more)) == 1, again)
    groups.set_desired_capacity(**name, DesiredCapacity=1)
    [last] = until("one is left", 20, lambda: members() if len(members()) == 1 else None)
    for instance in {*again} - {last}:
        c.wait(instance, "terminated")
    at = c.instance(last)["PublicIpAddress"]
    until("it answers", 20, lambda: reaches(at, 22))
    groups.delete_auto_scaling_group(**name, ForceDelete=True)
    c.wait(last, "terminated")
    expect("it is off", not reaches(at, 22))
