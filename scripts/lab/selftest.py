"""Tries the lab out from outside, as a client would, in labs of its own. Fails with the first thing that is not so.

`scripts/ec2-lab selftest`; about a minute.
"""

import os
import signal
import tempfile
import time
from pathlib import Path

from lab import base, cli, leftovers, network, place, selftest_images, selftest_tls
from lab.client import BLOCK, DEBIAN, Client, expect, permission, reaches, refused, until
from lab.command import Failure, run
from lab.selftest_faults import faults, hanging, hidden, log_of_calls


def launching(c):
    """RunInstances boots a host with the address that it said; its keys are on its console; tokens are honoured."""
    data = "#cloud-config\nruncmd: [[touch, /run/user-data-ran]]\n"
    wanted = {"ClientToken": "token-1", "UserData": data, "MetadataOptions": {"HttpTokens": "required"}}
    first = c.launch("one", **wanted)[0]
    expect("a new instance is pending", first["State"]["Name"] == "pending", first["State"])
    expect("it has no public address yet", not first.get("PublicIpAddress"), first.get("PublicIpAddress"))
    again = c.launch("one", **wanted)[0]
    expect("the same token gives the same instance", again["InstanceId"] == first["InstanceId"])
    refused("IdempotentParameterMismatch", c.launch, name="one", **{**wanted, "InstanceType": "t3.small"})
    disk = [{"DeviceName": "/dev/xvda", "Ebs": {"VolumeSize": 12, "Encrypted": True}}]
    two = c.launch("two", BlockDeviceMappings=disk)[0]["InstanceId"]
    found = c.ec2.describe_instances(Filters=[{"Name": "client-token", "Values": ["token-1"]}])["Reservations"]
    expect(
        "the filter client-token finds it",
        [i["InstanceId"] for r in found for i in r["Instances"]] == [first["InstanceId"]],
    )
    one = c.wait(first["InstanceId"], "running")
    expect("it shows its token", one["ClientToken"] == "token-1")
    keys = c.host_keys(one["InstanceId"])
    expect("keys of two kinds", {k.split()[0] for k in keys} >= {"ssh-ed25519", "ecdsa-sha2-nistp256"}, keys)
    until("its user data ran", 20, lambda: "ran" in c.ssh(one["PrivateIpAddress"], keys, "ls /run"))
    for address in [one["PrivateIpAddress"], one["PublicIpAddress"]]:
        expect("sudo works", c.ssh(address, keys, "sudo id -u").strip() == "0")
    expect(
        "it has its name",
        c.ssh(one["PrivateIpAddress"], keys, "hostname").strip() == "ip-" + one["PrivateIpAddress"].replace(".", "-"),
    )
    return one["InstanceId"], keys, two


def metadata(c, instance_id, keys):
    """The metadata service tells a host who it is and gives it its role's credentials."""
    iam = c.service("iam")
    iam.create_role(RoleName="selftest", AssumeRolePolicyDocument="{}")
    iam.create_instance_profile(InstanceProfileName="selftest")
    iam.add_role_to_instance_profile(InstanceProfileName="selftest", RoleName="selftest")
    c.ec2.associate_iam_instance_profile(InstanceId=instance_id, IamInstanceProfile={"Name": "selftest"})
    instance = c.instance(instance_id)
    script = """
        at=http://169.254.169.254/latest
        curl -s -o /dev/null -w '%{http_code}\\n' $at/meta-data/instance-id
        token=$(curl -s -X PUT -H 'X-aws-ec2-metadata-token-ttl-seconds: 60' $at/api/token)
        for path in meta-data/instance-id meta-data/local-ipv4 meta-data/public-ipv4 meta-data/placement/region \\
            meta-data/iam/security-credentials/ meta-data/ami-id; do
            curl -sf -H "X-aws-ec2-metadata-token: $token" $at/$path; echo
        done
        curl -sf -H "X-aws-ec2-metadata-token: $token" $at/meta-data/iam/security-credentials/selftest | grep -c ASIA
        curl -sf -H "X-aws-ec2-metadata-token: $token" $at/user-data | head -1"""
    said = c.ssh(instance["PrivateIpAddress"], keys, script).split("\n")
    wanted = [
        "401",
        instance_id,
        instance["PrivateIpAddress"],
        instance["PublicIpAddress"],
        place.REGION,
        "selftest",
        c.image,
        "1",
        "#cloud-config",
    ]
    expect("the metadata are right", said[:9] == wanted, said)


def groups(c, one, keys, two):
    """A host accepts what its groups allow, and no more; a change counts at once."""
    a, b = c.instance(one), c.wait(two, "running")
    keys_b = c.host_keys(two)
    c.ssh(b["PrivateIpAddress"], keys_b, "(nohup nc -lk 8301 >/dev/null 2>&1 &) ; true")
    target = b["PrivateIpAddress"]
    probe = f"nc -z -w 1 {target} 8301 && echo open || echo closed"
    expect("8301 is closed at first", c.ssh(a["PrivateIpAddress"], keys, probe).strip() == "closed")
    c.ec2.authorize_security_group_ingress(GroupId=c.group, IpPermissions=[permission(8301, group=c.group)])
    expect("8301 is open between members", c.ssh(a["PrivateIpAddress"], keys, probe).strip() == "open")
    expect("8301 is closed for others", not reaches(target, 8301))
    c.ec2.revoke_security_group_ingress(GroupId=c.group, IpPermissions=[permission(8301, group=c.group)])
    expect("8301 is closed again", c.ssh(a["PrivateIpAddress"], keys, probe).strip() == "closed")
    refused("DependencyViolation", c.ec2.delete_security_group, GroupId=c.group)


def isolation(c, one, two):
    a, b = c.instance(one), c.instance(two)
    c.lab("POST", "isolate", {"private": True, "except": [two]})
    expect("private addresses are cut off", not reaches(a["PrivateIpAddress"], 22))
    expect("but for the excepted", reaches(b["PrivateIpAddress"], 22))
    expect("public ones are not", reaches(a["PublicIpAddress"], 22))
    c.lab("DELETE", "isolate")
    expect("all is reachable again", reaches(a["PrivateIpAddress"], 22))


def lives(c, one, keys, two):
    """Stop, start, reboot and terminate happen, with the states in between."""
    before = c.instance(one)
    # When its process 1 began: the machine's boot id is all hosts'.
    since = "cut -d' ' -f22 /proc/1/stat"
    booted = c.ssh(before["PrivateIpAddress"], keys, f"sudo touch /var/lib/kept; {since}").strip()
    c.ec2.reboot_instances(InstanceIds=[one])
    until("it rebooted", 30, lambda: said(c, before["PrivateIpAddress"], keys, since) not in (None, booted))
    c.ec2.stop_instances(InstanceIds=[one])
    expect("it is stopping first", c.state(one) == "stopping", c.state(one))
    refused("IncorrectInstanceState", c.ec2.start_instances, InstanceIds=[one])
    c.wait(one, "stopped")
    expect("it is off", not reaches(before["PrivateIpAddress"], 22))
    c.ec2.start_instances(InstanceIds=[one])
    after = c.wait(one, "running")
    expect("its private address is the same", after["PrivateIpAddress"] == before["PrivateIpAddress"])
    expect("its public address is another", after["PublicIpAddress"] != before["PublicIpAddress"])
    until("it answers", 20, lambda: reaches(after["PublicIpAddress"], 22))
    c.ssh(after["PublicIpAddress"], keys, "test -e /var/lib/kept")
    expect(
        "the console of this start has no keys",
        not BLOCK.search(c.ec2.get_console_output(InstanceId=one).get("Output", "")),
    )
    disks = {m["Ebs"]["VolumeId"] for i in [one, two] for m in c.instance(i)["BlockDeviceMappings"]}
    c.ec2.terminate_instances(InstanceIds=[one, two])
    expect("it is shutting down", c.state(one) == "shutting-down", c.state(one))
    for instance_id in [one, two]:
        gone = c.wait(instance_id, "terminated")
        expect("it has no address any more", "PrivateIpAddress" not in gone, gone.get("PrivateIpAddress"))
    left = {v["VolumeId"] for v in c.ec2.describe_volumes()["Volumes"]}
    expect("no volume is left", disks and not disks & left, disks & left)
    expect(
        "no interface is left",
        not c.ec2.describe_network_interfaces(Filters=[{"Name": "attachment.instance-id", "Values": [one, two]}])[
            "NetworkInterfaces"
        ],
    )
    refused(
        "IdempotentInstanceTerminated",
        c.launch,
        name="one",
        ClientToken="token-1",
        MetadataOptions={"HttpTokens": "required"},
        UserData="#cloud-config\nruncmd: [[touch, /run/user-data-ran]]\n",
    )


def said(c, address, keys, command):
    try:
        return c.ssh(address, keys, command).strip()
    except Failure:
        return None


def keys_with_a_meaning(c):
    refused("RequestExpired", c.service("ec2", "expired").describe_instances)
    refused("ExpiredToken", c.service("sts", "expired").get_caller_identity)
    refused("AuthFailure", c.service("ec2", "invalid").describe_instances)
    refused("InvalidClientTokenId", c.service("iam", "invalid").list_roles)
    denied = c.service("ec2", "denied")
    denied.describe_instances()
    answer = refused(
        "UnauthorizedOperation", denied.run_instances, ImageId=c.image, MinCount=1, MaxCount=1, DryRun=True
    )
    expect("it names the action", "ec2:RunInstances" in answer["Error"]["Message"], answer["Error"])
    refused("AccessDenied", c.service("iam", "denied").create_role, RoleName="x", AssumeRolePolicyDocument="{}")


def refusals(c):
    """What EC2 refuses."""
    refused("DryRunOperation", c.launch, name="x", DryRun=True)
    arm = c.service("ssm").get_parameter(Name=DEBIAN.replace("amd64", "arm64"))["Parameter"]["Value"]
    refused("InvalidParameterValue", c.launch, name="x", ImageId=arm)
    refused("InvalidAMIID.NotFound", c.launch, name="x", ImageId="ami-00000000000000000")
    refused("InvalidParameterValue", c.launch, name="x", IamInstanceProfile={"Name": "none"})
    refused("InvalidKeyPair.NotFound", c.launch, name="x", KeyName="none")
    vpc = c.ec2.describe_vpcs()["Vpcs"][0]
    outer = network.ipaddress.ip_network(vpc["CidrBlock"])
    small = list(outer.subnets(new_prefix=28))[-1]
    subnet = c.ec2.create_subnet(VpcId=vpc["VpcId"], CidrBlock=str(small))["Subnet"]["SubnetId"]
    refused("InsufficientFreeAddressesInSubnet", c.launch, name="x", SubnetId=subnet, MinCount=12, MaxCount=12)


def scaling(c):
    """Auto Scaling's instances have hosts too."""
    scaling = c.service("autoscaling")
    scaling.create_launch_configuration(
        LaunchConfigurationName="x",
        ImageId=c.image,
        InstanceType="t3.micro",
        SecurityGroups=[c.group],
        KeyName="selftest",
    )
    subnet = c.ec2.describe_subnets()["Subnets"][0]["SubnetId"]
    scaling.create_auto_scaling_group(
        AutoScalingGroupName="x", LaunchConfigurationName="x", MinSize=1, MaxSize=1, VPCZoneIdentifier=subnet
    )
    return scaling.describe_auto_scaling_groups()["AutoScalingGroups"][0]["Instances"][0]["InstanceId"]


def boot_faults(c):
    c.lab("PUT", "faults", [{"kind": "no-sshd", "name": "deaf"}, {"kind": "no-console", "name": "mute"}])
    deaf, mute = c.launch("deaf")[0]["InstanceId"], c.launch("mute")[0]["InstanceId"]
    c.lab("DELETE", "faults")
    return deaf, mute


def booted_faults(c, deaf, mute, scaled):
    at = c.wait(mute, "running")["PrivateIpAddress"]
    until("sshd of a host without console", 20, lambda: reaches(at, 22))
    expect("its console says nothing", not c.ec2.get_console_output(InstanceId=mute).get("Output"))
    c.host_keys(deaf)
    expect("a host without sshd", not reaches(c.instance(deaf)["PrivateIpAddress"], 22))
    expect("an Auto Scaling group's host boots", bool(c.host_keys(scaled)))


def on_the_machine(*labs):
    """What of these labs the machine still has."""
    found = []
    for lab in labs:
        found += [m[0] for m in leftovers.mounts() if m[0].startswith(f"{lab.dir}/")]
        found += [p.name for p in Path("/run/netns").glob(f"{lab.key}*")]
        found += [line for line in run("ip", "-oneline", "link").splitlines() if lab.key in line]
        found += [line for line in run("ip", "route").splitlines() if lab.key in line]
        found += [str(g) for g in leftovers.groups(lab.key) if g.exists()]
        found += [str(p) for p in leftovers.in_groups(lab.key)]
        found += [str(p) for p in leftovers.mentioning(f"--directory={lab.dir}/")]
        found += [str(p) for p in Path("/run/systemd/nspawn").glob(f"*/{lab.key}*")]
        found += [str(lab.dir)] if lab.dir.exists() else []
    return found


def begin(lab):
    with lab.lock():
        cli.sweep(lab)
        return cli.start(lab)


def end(lab):
    with lab.lock():
        cli.sweep(lab)


def main(name):
    base.ensure(cli.say)
    one, two = place.Lab(name), place.Lab(f"{name[:13]}-2")
    began = time.monotonic()

    def step(text):
        print(f"{time.monotonic() - began:6.1f} s  {text}", flush=True)

    # One at a time: its labs always have the same names.
    with place.lock(place.LABS / ".selftest.running", lambda: cli.say("waiting for another self-test")):
        try:
            with tempfile.TemporaryDirectory() as folder:
                steps(one, two, Path(folder), step)
        finally:
            for lab in [one, two]:
                end(lab)
    expect("nothing is left", not on_the_machine(one, two), on_the_machine(one, two))
    step("nothing is left; all is as it should be")


def steps(one, two, folder, step):
    c = Client(begin(one), folder)
    d = Client(begin(two), folder)
    step("two labs are up")
    expect("their ranges differ", c.record["vpc"] != d.record["vpc"] and c.record["public"] != d.record["public"])
    c.prepare()
    d.prepare()
    other = d.launch("other")[0]["InstanceId"]
    first, keys, second = launching(c)
    step("launched: cloud-init, host keys, login, tokens")
    metadata(c, first, keys)
    step("metadata")
    selftest_tls.trusted(c, first, keys)
    selftest_tls.with_its_role(c, first, keys, second)
    selftest_tls.faulty(c, first, keys)
    step("the API by AWS' names, over TLS, with a role's credentials")
    groups(c, first, keys, second)
    step("security groups")
    isolation(c, first, second)
    step("isolation")
    deaf, mute = boot_faults(c)
    scaled = scaling(c)
    lives(c, first, keys, second)
    step("reboot, stop, start, terminate")
    log_of_calls(c)
    faults(c)
    step("call log and fault plan")
    hidden(c)
    hanging(c)
    step("hidden, held")
    keys_with_a_meaning(c)
    refusals(c)
    step("credentials and refusals")
    booted_faults(c, deaf, mute, scaled)
    step("hosts without sshd and console, Auto Scaling")
    image = selftest_images.sealing(c)
    step("an image of a host")
    selftest_images.scaling(c, image)
    step("an Auto Scaling group of that image")
    expect("the other lab's host runs", bool(d.host_keys(other)))
    server = list(leftovers.in_groups(one.key, "server"))
    for pid in server:
        os.kill(pid, signal.SIGKILL)
    end(one)
    expect("nothing is left of a lab whose server was killed", not on_the_machine(one), on_the_machine(one))
    expect("the other one lives on", d.state(other) == "running")
    step("kill -9 of one lab's server, then down: nothing is left, the other lives on")
