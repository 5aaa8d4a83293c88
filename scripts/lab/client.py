"""A client of a lab, for the self-test: the AWS SDK, ssh and the lab's own addresses, and ways to expect things."""

import json
import re
import socket
import subprocess
import time
import urllib.request

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

from lab import place
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

    def service(self, name, key="lab", retries=1, timeout=20, region=place.REGION):
        # An owned session: none is shared between labs and keys.
        return boto3.session.Session().client(
            name,
            endpoint_url=self.record["endpoint"],
            aws_access_key_id=key,
            aws_secret_access_key="lab",
            region_name=region,
            config=Config(retries={"total_max_attempts": retries}, proxies={}, read_timeout=timeout, connect_timeout=5),
        )

    def lab(self, method, path, body=None):
        request = urllib.request.Request(
            f"{self.record['endpoint']}/lab/{path}",
            method=method,
            data=None if body is None else json.dumps(body).encode(),
        )
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
        kwargs = {
            "ImageId": self.image,
            "MinCount": 1,
            "MaxCount": 1,
            "InstanceType": "t3.micro",
            "KeyName": "selftest",
            "SecurityGroupIds": [self.group],
            **kwargs,
        }
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
            [
                "ssh",
                "-F",
                "none",
                "-o",
                f"UserKnownHostsFile={known}",
                "-o",
                "StrictHostKeyChecking=yes",
                "-o",
                "BatchMode=yes",
                "-o",
                "ConnectTimeout=5",
                "-o",
                "IdentitiesOnly=yes",
                "-i",
                self.key,
                f"{user}@{address}",
                command,
            ],
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
        )
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
