"""The self-test's part on the API as hosts ask for it: by AWS' names, over TLS, with their role's credentials."""

import json
import shlex
import socket
import ssl
import threading
import time

from lab import place, tls
from lab.client import expect, until

# Python's own way to trust: OpenSSL's folder. curl's is the bundle.
PYTHON = "import sys, http.client as h; c = h.HTTPSConnection(sys.argv[1]); c.request('GET', '/')"
DESCRIBE = "aws ec2 describe-instances --region us-east-1 --output text --query 'Reservations[].Instances[].InstanceId'"


def trusted(c, one, keys):
    """A host resolves every name, and trusts who answers."""
    address = c.instance(one)["PrivateIpAddress"]
    code = "curl -sS -o /dev/null -w '%{http_code}\\n' --max-time 5"
    script = "\n".join(f"{code} https://{name}/" for name in tls.NAMES)
    said = c.ssh(address, keys, script).split()
    expect("each name answers and is trusted", len(said) == len(tls.NAMES) and "000" not in said, said)
    expect("who signs nothing is refused", said[0] == "403", said)
    name = tls.NAMES[1]
    c.ssh(address, keys, f"python3 -c {shlex.quote(PYTHON)} {name}")
    again = f"sudo update-ca-certificates --fresh >/dev/null 2>&1; {code} https://{name}/"
    expect("still after update-ca-certificates", c.ssh(address, keys, again).strip() == "403")
    outside = f"{code} http://192.0.2.1/ || echo closed"
    expect("there is no way out", "closed" in c.ssh(address, keys, outside))


def with_its_role(c, one, keys, two):
    """The AWS CLI on a host has its role's credentials, and none where it has no role."""
    c.lab("DELETE", "calls")
    a = c.ssh(c.instance(one)["PrivateIpAddress"], keys, DESCRIBE)
    expect("it sees both", {one, two} <= set(a.split()), a)
    calls = [s for s in c.lab("GET", "calls") if s["access_key"] != "lab"]
    expect("with the role's key", [s["access_key"][:4] for s in calls] == ["ASIA"], calls)
    poor = c.wait(two, "running")["PrivateIpAddress"]
    said = c.ssh(poor, c.host_keys(two), f"{DESCRIBE} 2>&1; echo $?")
    expect("a host without a role has none", "credentials" in said and said.split()[-1] != "0", said)


def faulty(c, one, keys):
    """The fault plan counts for both endpoints, a client that says nothing holds up nobody, one that went away while
    its call was held is not served."""
    address = c.instance(one)["PrivateIpAddress"]
    c.lab("PUT", "faults", [{"kind": "error", "action": "DescribeInstances", "code": "UnauthorizedOperation"}])
    said = c.ssh(address, keys, f"{DESCRIBE} 2>&1; true")
    expect("a planned error", "UnauthorizedOperation" in said, said)
    silent = socket.create_connection((c.record["api"], tls.PORT), 5)
    context = ssl.create_default_context(cafile=c.record["authority"])
    expect("others are served", status(c, context) == 200)
    silent.close()
    c.lab("DELETE", "calls")
    c.lab("PUT", "faults", [{"kind": "hang-before", "action": "DescribeRegions", "times": 2}])
    gone, waits = threading.Thread(target=status, args=(c, context, 0.5)), Answer(c, context)
    gone.start()
    gone.join()
    waits.start()
    until("two calls are held", 10, lambda: len(c.lab("GET", "hung")) == 2)
    c.lab("POST", "release")
    waits.join()
    expect("who waits is served", waits.status == 200, waits.status)
    seen = until(
        "both are noted", 5, lambda: [s for s in c.lab("GET", "calls") if s["action"] == "DescribeRegions"][:2]
    )
    expect("who went away is not", [s["status"] for s in seen] == [None, 200], json.dumps(seen))
    c.lab("DELETE", "faults")


class Answer(threading.Thread):
    def __init__(self, c, context):
        super().__init__()
        self.c, self.context, self.status = c, context, None

    def run(self):
        self.status = status(self.c, self.context)


def status(c, context, patience=20.0):
    """Asks as a host would; hangs up when it has waited long enough."""
    name = f"ec2.{place.REGION}.api.aws"
    deadline = time.monotonic() + patience
    with socket.create_connection((c.record["api"], tls.PORT), 5) as plain:
        with context.wrap_socket(plain, server_hostname=name) as connection:
            connection.sendall(
                f"GET /?Action=DescribeRegions&Version=2016-11-15 HTTP/1.1\r\nHost: {name}\r\n"
                f"Authorization: AWS4-HMAC-SHA256 Credential=lab/20260101/{place.REGION}/ec2/aws4_request, "
                "SignedHeaders=host, Signature=0\r\nConnection: close\r\n\r\n".encode()
            )
            connection.settimeout(max(0.1, deadline - time.monotonic()))
            try:
                return int(connection.recv(64).split()[1])
            except TimeoutError:
                return None
