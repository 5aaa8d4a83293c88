"""The metadata service at 169.254.169.254: who asks is known by the address that the question comes from."""

import datetime
import json
import secrets
import time

from lab import instances as lab_instances
from lab import place
from lab.credentials import ACCOUNT

VERSIONS = ("latest", "1.0", "2009-04-04", "2021-03-23", "2021-07-15", "2022-09-24", "2024-04-11")
LONGEST = 21600


class Metadata:
    def __init__(self, instances):
        self.instances = instances
        # token → (instance id, until when)
        self.tokens = {}

    def __call__(self, environ, start_response):
        status, body, headers = self.answer(environ)
        if isinstance(body, str):
            body = body.encode()
        start_response(
            status, [("Content-Type", "text/plain"), ("Content-Length", str(len(body))), ("Server", "EC2ws"), *headers]
        )
        return [body]

    def answer(self, environ):
        with self.instances.lock:
            instance = next(
                (i for i in self.instances.alive() if i.nics[0].private_ip_address == environ["REMOTE_ADDR"]), None
            )
            if instance is None or instance.metadata_options.http_endpoint == "disabled":
                return "403 Forbidden", "", []
            path, method = environ["PATH_INFO"].rstrip("/"), environ["REQUEST_METHOD"]
            if path == "/latest/api/token":
                return self.token(environ, instance, method)
            if method not in ("GET", "HEAD"):
                return "405 Not Allowed", "", []
            if refused := self.refusal(environ, instance):
                return refused, "", []
            version, _, rest = path.lstrip("/").partition("/")
            if not version:
                return "200 OK", "\n".join(VERSIONS), []
            found = look_up(self.tree(instance), rest) if version in VERSIONS else None
        return ("404 Not Found", "", []) if found is None else ("200 OK", found, [])

    def token(self, environ, instance, method):
        if method != "PUT":
            return "405 Not Allowed", "", []
        # What came by a proxy is refused, as a protection against open ones.
        if environ.get("HTTP_X_FORWARDED_FOR"):
            return "403 Forbidden", "", []
        try:
            seconds = int(environ.get("HTTP_X_AWS_EC2_METADATA_TOKEN_TTL_SECONDS", ""))
        except ValueError:
            return "400 Bad Request", "", []
        if not 1 <= seconds <= LONGEST:
            return "400 Bad Request", "", []
        token = secrets.token_urlsafe(40) + "=="
        self.tokens[token] = (instance.id, time.monotonic() + seconds)
        return "200 OK", token, [("X-Aws-Ec2-Metadata-Token-Ttl-Seconds", str(seconds))]

    def refusal(self, environ, instance):
        token = environ.get("HTTP_X_AWS_EC2_METADATA_TOKEN")
        if token is None:
            return "401 Unauthorized" if instance.metadata_options.http_tokens == "required" else None
        owner, until = self.tokens.get(token, (None, 0))
        return None if owner == instance.id and time.monotonic() < until else "401 Unauthorized"

    def tree(self, instance):
        """All that there is to know, as folders and leaves; a leaf may be made when asked for."""
        nic = instance.nics[0]
        zone = instance.placement.zone
        name = lab_instances.hostname(instance) + ".ec2.internal"
        groups = instance.security_groups or []
        data = {
            "ami-id": instance.image_id,
            "ami-launch-index": str(instance.ami_launch_index),
            "hostname": name,
            "instance-id": instance.id,
            "instance-life-cycle": instance.lifecycle or "on-demand",
            "instance-type": instance.instance_type,
            "local-hostname": name,
            "local-ipv4": nic.private_ip_address,
            "mac": nic.mac_address,
            "placement": {"availability-zone": zone, "region": place.REGION},
            "reservation-id": next(
                (r.id for r in self.instances.backend.reservations.values() if instance in r.instances), ""
            ),
            "security-groups": "\n".join(g.name for g in groups),
            "services": {"domain": "amazonaws.com", "partition": "aws"},
        }
        if nic.public_ip:
            data["public-ipv4"] = nic.public_ip
            data["public-hostname"] = instance.public_dns_name
        if pair := self.instances.backend.key_pairs.get(instance.key_name):
            data["public-keys"] = Keys({"0": {"openssh-key": lab_instances.openssh(pair) + "\n"}}, pair.key_name)
        if instance.metadata_options.instance_metadata_tags == "enabled":
            data["tags"] = {"instance": {t["key"]: t["value"] for t in instance.get_tags()}}
        if profile := self.profile(instance):
            data["iam"] = iam(profile)
        document = json.dumps(
            {
                "accountId": ACCOUNT,
                "architecture": instance.architecture,
                "availabilityZone": zone,
                "imageId": instance.image_id,
                "instanceId": instance.id,
                "instanceType": instance.instance_type,
                "pendingTime": instance.launch_time.strftime("%Y-%m-%dT%H:%M:%SZ"),
                "privateIp": nic.private_ip_address,
                "region": place.REGION,
                "version": "2017-09-30",
            },
            indent=2,
        )
        tree = {"meta-data": data, "dynamic": {"instance-identity": {"document": document}}}
        if text := lab_instances.user_data(instance):
            tree["user-data"] = text
        return tree

    def profile(self, instance):
        association = self.instances.backend.iam_instance_profile_associations.get(instance.id)
        return association.iam_instance_profile if association else None


class Keys(dict):
    """The folder of public keys is listed as `0=name`."""

    def __init__(self, entries, name):
        super().__init__(entries)
        self.name = name


def iam(profile):
    now = datetime.datetime.now(datetime.UTC)

    def stamp(time):
        return time.strftime("%Y-%m-%dT%H:%M:%SZ")

    info = {
        "Code": "Success",
        "LastUpdated": stamp(now),
        "InstanceProfileArn": profile.arn,
        "InstanceProfileId": profile.id,
    }
    tree = {"info": json.dumps(info, indent=2)}
    roles = profile.roles if isinstance(profile.roles, list) else [profile.roles]
    if roles and roles[0]:
        # moto takes any key; this one says whose it is in the log of calls.
        tree["security-credentials"] = {
            roles[0].name: json.dumps(
                {
                    "Code": "Success",
                    "LastUpdated": stamp(now),
                    "Type": "AWS-HMAC",
                    "AccessKeyId": "ASIA" + roles[0].id[-16:].upper().rjust(16, "0"),
                    "SecretAccessKey": "lab",
                    "Token": "lab-token",
                    "Expiration": stamp(now + datetime.timedelta(hours=6)),
                },
                indent=2,
            )
        }
    return tree


def look_up(tree, path):
    node = tree
    for part in filter(None, path.split("/")):
        if not isinstance(node, dict) or part not in node:
            return None
        node = node[part]
    if isinstance(node, Keys):
        return f"0={node.name}"
    if isinstance(node, dict):
        return "\n".join(f"{name}/" if isinstance(child, dict) else name for name, child in sorted(node.items()))
    return node
