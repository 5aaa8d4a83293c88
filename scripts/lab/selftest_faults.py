"""The self-test's part on what a test does with a lab: the log of calls, the fault plan, held calls."""

import json
import threading
import time
import urllib.error

from botocore.exceptions import HTTPClientError

from lab.client import DEBIAN, expect, refused
from lab.command import Failure


def log_of_calls(c):
    c.lab("DELETE", "calls")
    c.ec2.describe_instances(Filters=[{"Name": "tag:Name", "Values": ["x"]}])
    refused("InvalidInstanceID.NotFound", c.ec2.describe_instances, InstanceIds=["i-00000000000000000"])
    seen = c.lab("GET", "calls")
    expect(
        "two calls are noted",
        [(s["n"], s["service"], s["action"], s["status"]) for s in seen]
        == [(1, "ec2", "DescribeInstances", 200), (2, "ec2", "DescribeInstances", 400)],
        seen,
    )
    expect(
        "with parameters and error",
        seen[0]["params"]["Filter.1.Value.1"] == "x" and seen[1]["error"] == "InvalidInstanceID.NotFound",
        seen,
    )


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
    for service, function in [
        ("ec2", "describe_vpcs"),
        ("iam", "list_roles"),
        ("autoscaling", "describe_auto_scaling_groups"),
        ("sts", "get_caller_identity"),
    ]:
        answer = refused("InternalError", getattr(c.service(service), function))
        expect("its message", answer["Error"]["Message"] == "as <planned>", answer["Error"])
    refused("InternalError", c.service("ssm").get_parameter, Name=DEBIAN)
    put({"kind": "error", "code": "RequestLimitExceeded", "n": 2})
    c.ec2.describe_vpcs()
    refused("RequestLimitExceeded", c.ec2.describe_vpcs)
    c.ec2.describe_vpcs()
    put(
        {
            "kind": "error",
            "action": "RunInstances",
            "code": "InsufficientInstanceCapacity",
            "params": {"InstanceType": "t3.*"},
        }
    )
    refused("InsufficientInstanceCapacity", c.launch, name="x")
    refused("DryRunOperation", c.launch, name="x", InstanceType="m5.large", DryRun=True)
    put({"kind": "dies", "name": "dies", "code": "Client.InternalError"})
    dead = c.wait(c.launch("dies")[0]["InstanceId"], "terminated")
    expect("it says of what", dead["StateReason"]["Code"] == "Client.InternalError", dead["StateReason"])
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
    c.lab(
        "PUT",
        "faults",
        [
            {"kind": "hide", "action": "DescribeInstances", "younger": 30, "times": 2},
            {"kind": "no-boot", "name": "never", "times": 1},
        ],
    )
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
        found = c.ec2.describe_security_groups(Filters=[{"Name": "group-name", "Values": [f"hung-{when}"]}])[
            "SecurityGroups"
        ]
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
