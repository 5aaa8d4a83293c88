"""Tries the lab out from outside, as a client would, in labs of its own. Fails with the first thing that is not so.

`scripts/ec2-lab selftest`; under a minute.
"""

import base64
import json
import os
import re
import signal
import socket
import subprocess
import tempfile
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError, HTTPClientError

from lab import base, cli, leftovers, network, place
from lab.command import Failure, run

DEBIAN = "/aws/service/debian/release/12/latest/amd64"
BLOCK = re.compile(r"-----BEGIN SSH HOST KEY KEYS-----\s+(.*?)-----END SSH HOST KEY KEYS-----", re.S)


def expect(what, holds, seen=None):
    if not holds:
        raise Failure(f"selftest: not so: {what}" + (f"; seen: {seen!r}" if seen is not None else ""))


def until(what, seconds, look):
    """The first answer of `look` that is true."""
    deadline = time.monotonic() + seconds
    while True:
        found = look()
        if found:
            return found
        if time.monotonic() > deadline:
            raise Failure(f"selftest: not within {seconds} s: {what}")
        time.sleep(0.1)


def refused(code, function, **kwargs):
    """The call must fail with this code."""
    try:
        function(**kwargs)
    except ClientError as e:
        expect(f"the error is {code}", e.response["Error"]["Code"] == code, e.response["Error"])
        return e.response
    raise Failure(f"selftest: {function.__name__} was to fail with {code}, and did not")


class Client:
    """A client of one lab."""

    def __init__(self, record, folder):
        self.record, self.folder = record, folder
        self.key = folder / "key"
        if not self.key.exists():
            run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", self.key)
        self.ec2 = self.service("ec2")

    def service(self, name, key="lab", retries=1, timeout=20):
        # An owned session: none is shared between labs and keys.
        return boto3.session.Session().client(
            name, endpoint_url=self.record["endpoint"], aws_access_key_id=key, aws_secret_access_key="lab",
            region_name=place.REGION,
            config=Config(retries={"total_max_attempts": retries}, proxies={}, read_timeout=timeout, connect_timeout=5),
        )

    def lab(self, method, path, body=None):
        request = urllib.request.Request(
            f"{self.record['endpoint']}/lab/{path}", method=method, data=None if body is None else json.dumps(body).encode())
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=20) as answer:
            return json.load(answer)

    def prepare(self):
        self.image = self.service("ssm").get_parameter(Name=DEBIAN)["Parameter"]["Value"]
        self.ec2.import_key_pair(KeyName="selftest", PublicKeyMaterial=self.key.with_suffix(".pub").read_bytes())
        self.group = self.ec2.create_security_group(GroupName="selftest", Description="selftest")["GroupId"]
        self.allow(22, self.record["operator"] + "/32")

    def allow(self, port, cidr):
        self.ec2.authorize_security_group_ingress(GroupId=self.group, IpPermissions=[permission(port, cidr)])

    def launch(self, name, **kwargs):
        kwargs = {"ImageId": self.image, "MinCount": 1, "MaxCount": 1, "InstanceType": "t3.micro", "KeyName": "selftest",
                  "SecurityGroupIds": [self.group], **kwargs}
        tags = [{"ResourceType": "instance", "Tags": [{"Key": "Name", "Value": name}]}]
        return self.ec2.run_instances(TagSpecifications=tags, **kwargs)["Instances"]

    def instance(self, instance_id):
        found = self.ec2.describe_instances(InstanceIds=[instance_id])["Reservations"]
        return found[0]["Instances"][0]

    def state(self, instance_id):
        return self.instance(instance_id)["State"]["Name"]

    def wait(self, instance_id, state, seconds=25):
        until(f"{instance_id} is {state}", seconds, lambda: self.state(instance_id) == state)
        return self.instance(instance_id)

    def host_keys(self, instance_id, seconds=30):
        def look():
            said = self.ec2.get_console_output(InstanceId=instance_id).get("Output", "")
            return BLOCK.search(said)

        lines = until(f"host keys on the console of {instance_id}", seconds, look)[1].splitlines()
        return [" ".join(line.split()[:2]) for line in lines if line.strip()]

    def ssh(self, address, keys, command, user="admin"):
        known = self.folder / "known_hosts"
        known.write_text("".join(f"{address} {key}\n" for key in keys))
        done = subprocess.run(
            ["ssh", "-F", "none", "-o", f"UserKnownHostsFile={known}", "-o", "StrictHostKeyChecking=yes", "-o", "BatchMode=yes",
             "-o", "ConnectTimeout=5", "-o", "IdentitiesOnly=yes", "-i", self.key, f"{user}@{address}", command],
            capture_output=True, text=True, stdin=subprocess.DEVNULL)
        expect(f"ssh {user}@{address} {command}", done.returncode == 0, done.stderr + done.stdout)
        return done.stdout


def permission(port, cidr=None, group=None):
    entry = {"IpProtocol": "tcp", "FromPort": port, "ToPort": port}
    if cidr:
        entry["IpRanges"] = [{"CidrIp": cidr}]
    if group:
        entry["UserIdGroupPairs"] = [{"GroupId": group}]
    return entry


def reaches(address, port, seconds=1.0):
    try:
        socket.create_connection((address, port), seconds).close()
    except OSError:
        return False
    return True


def launching(c):
    """RunInstances boots a host with the address that it said; its keys are on its console; tokens are honoured."""
    data = "#cloud-config\nruncmd: [[touch, /run/user-data-ran]]\n"
    wanted = {"ClientToken": "token-1", "UserData": data, "MetadataOptions": {"HttpTokens": "required"}}
    first = c.launch("one", **wanted)[0]
    expect("a new instance is pending", first["State"]["Name"] == "pending", first["State"])
    again = c.launch("one", **wanted)[0]
    expect("the same token gives the same instance", again["InstanceId"] == first["InstanceId"])
    refused("IdempotentParameterMismatch", c.launch, name="one", **{**wanted, "InstanceType": "t3.small"})
    disk = [{"DeviceName": "/dev/xvda", "Ebs": {"VolumeSize": 12, "Encrypted": True}}]
    two = c.launch("two", BlockDeviceMappings=disk)[0]["InstanceId"]
    found = c.ec2.describe_instances(Filters=[{"Name": "client-token", "Values": ["token-1"]}])["Reservations"]
    expect("the filter client-token finds it", [i["InstanceId"] for r in found for i in r["Instances"]] == [first["InstanceId"]])
    one = c.wait(first["InstanceId"], "running")
    expect("it shows its token", one["ClientToken"] == "token-1")
    keys = c.host_keys(one["InstanceId"])
    expect("keys of two kinds", {k.split()[0] for k in keys} >= {"ssh-ed25519", "ecdsa-sha2-nistp256"}, keys)
    until("its user data ran", 20, lambda: "ran" in c.ssh(one["PrivateIpAddress"], keys, "ls /run"))
    for address in [one["PrivateIpAddress"], one["PublicIpAddress"]]:
        expect("sudo works", c.ssh(address, keys, "sudo id -u").strip() == "0")
    expect("it has its name", c.ssh(one["PrivateIpAddress"], keys, "hostname").strip() == "ip-" + one["PrivateIpAddress"].replace(".", "-"))
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
    wanted = ["401", instance_id, instance["PrivateIpAddress"], instance["PublicIpAddress"], place.REGION, "selftest", c.image, "1", "#cloud-config"]
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
    expect("the console of this start has no keys", not BLOCK.search(c.ec2.get_console_output(InstanceId=one).get("Output", "")))
    disks = {m["Ebs"]["VolumeId"] for i in [one, two] for m in c.instance(i)["BlockDeviceMappings"]}
    c.ec2.terminate_instances(InstanceIds=[one, two])
    expect("it is shutting down", c.state(one) == "shutting-down", c.state(one))
    for instance_id in [one, two]:
        gone = c.wait(instance_id, "terminated")
        expect("it has no address any more", "PrivateIpAddress" not in gone, gone.get("PrivateIpAddress"))
    left = {v["VolumeId"] for v in c.ec2.describe_volumes()["Volumes"]}
    expect("no volume is left", disks and not disks & left, disks & left)
    expect("no interface is left", not c.ec2.describe_network_interfaces(Filters=[{"Name": "attachment.instance-id", "Values": [one, two]}])["NetworkInterfaces"])
    refused("IdempotentInstanceTerminated", c.launch, name="one", ClientToken="token-1", MetadataOptions={"HttpTokens": "required"},
            UserData="#cloud-config\nruncmd: [[touch, /run/user-data-ran]]\n")


def said(c, address, keys, command):
    try:
        return c.ssh(address, keys, command).strip()
    except Failure:
        return None


def log_of_calls(c):
    c.lab("DELETE", "calls")
    c.ec2.describe_instances(Filters=[{"Name": "tag:Name", "Values": ["x"]}])
    refused("InvalidInstanceID.NotFound", c.ec2.describe_instances, InstanceIds=["i-00000000000000000"])
    seen = c.lab("GET", "calls")
    expect("two calls are noted", [(s["n"], s["service"], s["action"], s["status"]) for s in seen]
           == [(1, "ec2", "DescribeInstances", 200), (2, "ec2", "DescribeInstances", 400)], seen)
    expect("with parameters and error", seen[0]["params"]["Filter.1.Value.1"] == "x" and seen[1]["error"] == "InvalidInstanceID.NotFound", seen)


def faults(c):
    """Each kind of rule."""
    def put(*rules):
        c.lab("DELETE", "calls")
        c.lab("PUT", "faults", list(rules))

    put({"kind": "error", "action": "DescribeInstances", "code": "RequestLimitExceeded", "after": 1, "times": 2})
    c.ec2.describe_instances()
    for _ in range(2):
        answer = refused("RequestLimitExceeded", c.ec2.describe_instances)
        expect("its status", answer["ResponseMetadata"]["HTTPStatusCode"] == 503)
    c.ec2.describe_instances()
    put({"kind": "error", "action": "*", "code": "InternalError", "status": 500, "message": "as <planned>"})
    for service, function in [("ec2", "describe_vpcs"), ("iam", "list_roles"), ("autoscaling", "describe_auto_scaling_groups"), ("sts", "get_caller_identity")]:
        answer = refused("InternalError", getattr(c.service(service), function))
        expect("its message", answer["Error"]["Message"] == "as <planned>", answer["Error"])
    refused("InternalError", c.service("ssm").get_parameter, Name=DEBIAN)
    put({"kind": "error", "code": "RequestLimitExceeded", "n": 2})
    c.ec2.describe_vpcs()
    refused("RequestLimitExceeded", c.ec2.describe_vpcs)
    c.ec2.describe_vpcs()
    put({"kind": "delay", "action": "DescribeVpcs", "delay": 0.4, "times": 1}, {"kind": "skew", "skew": -900})
    began = time.monotonic()
    date = c.ec2.describe_vpcs()["ResponseMetadata"]["HTTPHeaders"]["date"]
    expect("it waited", time.monotonic() - began >= 0.4)
    late = time.time() - time.mktime(time.strptime(date, "%a, %d %b %Y %H:%M:%S GMT")) + time.timezone
    expect("its clock is another", 890 < late < 910, late)
    put({"kind": "drop", "action": "DescribeVpcs", "times": 1})
    try:
        c.ec2.describe_vpcs()
    except HTTPClientError:
        pass
    else:
        raise Failure("selftest: a dropped call was answered")
    c.ec2.describe_vpcs()
    try:
        c.lab("PUT", "faults", [{"kind": "no-such"}])
    except urllib.error.HTTPError as e:
        expect("a wrong rule is refused in words", "no-such" in e.read().decode())
    else:
        raise Failure("selftest: a wrong rule was taken")
    c.lab("DELETE", "faults")


def hidden(c):
    c.lab("PUT", "faults", [{"kind": "hide", "action": "DescribeInstances", "younger": 30, "times": 2}, {"kind": "no-boot", "name": "never", "times": 1}])
    young = c.launch("never")[0]["InstanceId"]
    refused("InvalidInstanceID.NotFound", c.ec2.describe_instances, InstanceIds=[young])
    expect("it is not listed", young not in json.dumps(c.ec2.describe_instances(), default=str))
    expect("and then it is", c.state(young) == "pending")
    time.sleep(1)
    expect("it never boots", c.state(young) == "pending")
    c.ec2.terminate_instances(InstanceIds=[young])
    c.lab("DELETE", "faults")
    return young


def hanging(c):
    """Held before and after it was executed; a held call whose client has gone is not executed."""
    c.lab("DELETE", "calls")
    for when, executed in [("before", False), ("after", True)]:
        c.lab("PUT", "faults", [{"kind": f"hang-{when}", "action": "CreateSecurityGroup", "times": 1}])
        impatient = c.service("ec2", timeout=0.5)
        try:
            impatient.create_security_group(GroupName=f"hung-{when}", Description="x")
        except HTTPClientError:
            pass
        else:
            raise Failure("selftest: a held call was answered")
        hung = c.lab("GET", "hung?wait=5")
        expect("it is held", [(h["action"], h["when"]) for h in hung] == [("CreateSecurityGroup", when)], hung)
        c.lab("POST", "release")
        time.sleep(0.1)
        found = c.ec2.describe_security_groups(Filters=[{"Name": "group-name", "Values": [f"hung-{when}"]}])["SecurityGroups"]
        expect(f"held {when}: executed is {executed}", bool(found) == executed, found)
    c.lab("PUT", "faults", [{"kind": "hang-before", "action": "DescribeVpcs", "times": 1}])
    answers = []
    caller = threading.Thread(target=lambda: answers.append(c.ec2.describe_vpcs()))
    caller.start()
    c.lab("GET", "hung?wait=5")
    c.lab("POST", "release")
    caller.join(5)
    expect("a released call is answered to who waits", bool(answers))
    c.lab("DELETE", "faults")


def keys_with_a_meaning(c):
    refused("RequestExpired", c.service("ec2", "expired").describe_instances)
    refused("ExpiredToken", c.service("sts", "expired").get_caller_identity)
    refused("AuthFailure", c.service("ec2", "invalid").describe_instances)
    refused("InvalidClientTokenId", c.service("iam", "invalid").list_roles)
    denied = c.service("ec2", "denied")
    denied.describe_instances()
    answer = refused("UnauthorizedOperation", denied.run_instances, ImageId=c.image, MinCount=1, MaxCount=1, DryRun=True)
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
    scaling.create_launch_configuration(LaunchConfigurationName="x", ImageId=c.image, InstanceType="t3.micro", SecurityGroups=[c.group], KeyName="selftest")
    subnet = c.ec2.describe_subnets()["Subnets"][0]["SubnetId"]
    scaling.create_auto_scaling_group(AutoScalingGroupName="x", LaunchConfigurationName="x", MinSize=1, MaxSize=1, VPCZoneIdentifier=subnet)
    instance_id = scaling.describe_auto_scaling_groups()["AutoScalingGroups"][0]["Instances"][0]["InstanceId"]
    return instance_id


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
    expect("the other lab's host runs", bool(d.host_keys(other)))
    server = [p for p in leftovers.in_groups(one.key, "server")]
    for pid in server:
        os.kill(pid, signal.SIGKILL)
    end(one)
    expect("nothing is left of a lab whose server was killed", not on_the_machine(one), on_the_machine(one))
    expect("the other one lives on", d.state(other) == "running")
    step("kill -9 of one lab's server, then down: nothing is left, the other lives on")
