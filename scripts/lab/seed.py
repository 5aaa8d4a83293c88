"""What lies in a host's own layer before its first boot: cloud-init's seed and configuration, and its names."""

import json
import secrets

from lab import tls


# Nobody needs them in a container. On a busy machine systemd 252 takes many mounts at once for too many, and then may
# leave the jobs of these waiting for ever, and with them the whole boot.
MASKED = ["dev-mqueue.mount", "sys-kernel-config.mount", "sys-kernel-debug.mount", "sys-kernel-tracing.mount"]


def login(image_name):
    """The user that an AMI of this name lets in."""
    name = (image_name or "").lower()
    if name.startswith("debian"):
        return "admin"
    if "ubuntu" in name:
        return "ubuntu"
    return "ec2-user"


def write(upper, *, instance_id, hostname, address, user, user_data, keys, api, authority, sshd=True):
    """Made once; a stopped host keeps it. `upper` is the host's layer over the base tree."""

    def put(path, data, mode=0o644):
        target = upper / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data if isinstance(data, bytes) else data.encode())
        target.chmod(mode)

    def link(path, to):
        target = upper / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.symlink_to(to)

    put("etc/hostname", f"{hostname}\n")
    own = f"127.0.0.1 localhost\n::1 localhost\n{address} {hostname}.ec2.internal {hostname}\n"
    put("etc/hosts", own + tls.hosts_lines(api))
    if authority:
        authority.trust(put, link)
    put("etc/machine-id", f"{secrets.token_hex(16)}\n", 0o444)
    # JSON is YAML.
    meta = {"instance-id": instance_id, "local-hostname": f"{hostname}.ec2.internal", "public-keys": keys}
    put("var/lib/cloud/seed/nocloud/meta-data", json.dumps(meta), 0o600)
    put("var/lib/cloud/seed/nocloud/user-data", user_data or b"#cloud-config\n{}\n", 0o600)
    default_user = {
        "name": user,
        "gecos": user,
        "lock_passwd": True,
        "shell": "/bin/bash",
        "groups": ["adm"],
        "sudo": ["ALL=(ALL) NOPASSWD:ALL"],
    }
    put("etc/cloud/cloud.cfg.d/90-host.cfg", json.dumps({"system_info": {"default_user": default_user}}))
    units = upper / "etc/systemd/system"
    units.mkdir(parents=True, exist_ok=True)
    for unit in MASKED + ([] if sshd else ["ssh.service", "ssh.socket", "sshd.service"]):
        (units / unit).symlink_to("/dev/null")
