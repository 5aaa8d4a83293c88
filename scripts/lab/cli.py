"""The commands of `scripts/ec2-lab`."""

import argparse
import json
import os
import shlex
import shutil
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

from lab import base, leftovers, network, place
from lab.command import ENVIRONMENT, Failure, need_root

# As long as the server may take to answer.
READY = 30


def say(text):
    print(f"ec2-lab: {text}", file=sys.stderr, flush=True)


def environment(record):
    return {
        "AWS_ENDPOINT_URL": record["endpoint"],
        "AWS_ACCESS_KEY_ID": "lab",
        "AWS_SECRET_ACCESS_KEY": "lab",
        "AWS_REGION": place.REGION,
        # boto3 and version 1 of the aws command read this one only.
        "AWS_DEFAULT_REGION": place.REGION,
        # Nobody here is an instance: what lacks credentials is not to look for them outside.
        "AWS_EC2_METADATA_DISABLED": "true",
    }


def exports(record):
    return "\n".join(f"export {k}={shlex.quote(v)}" for k, v in environment(record).items())


def get(record, path, timeout=5):
    """Asks the lab's own addresses, past any proxy."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(record["endpoint"] + path, timeout=timeout) as answer:
        return json.load(answer)


def answers(record):
    try:
        return get(record, "/lab", 2).get("key") == record["key"]
    except (OSError, ValueError):
        return False


def up(args):
    lab = place.Lab(args.name)
    base.ensure(say)
    with lab.lock(lambda: say(f"waiting for another ec2-lab that works on lab {lab.name}")):
        record = lab.read()
        if record and answers(record):
            say(f"lab {lab.name} runs already")
        else:
            if sweep(lab):
                say(f"what was left of an earlier lab {lab.name} is removed")
            record = start(lab)
            say(f"lab {lab.name} is up: EC2's API at {record['endpoint']}, its log is {lab.log}")
            crowded()
    show_env(record, args.output)
    if args.output != "json":
        name = "" if lab.name == "lab" else f" --name {lab.name}"
        print(f"""\

# What to try, in a shell that took these lines over: eval "$(scripts/ec2-lab env{name})"
#   clusterctl up -f cluster.toml
#   aws ec2 describe-images --owners 136693071363
#   curl {record["endpoint"]}/lab/hosts        # the hosts that there are
#   scripts/ec2-lab down{name}
# Allow {record["operator"]}/32 in security groups: as this address the hosts see you.""")


def crowded():
    """A host's systemd takes nine inotify instances, and without one its boot may stand still."""
    limit = int(Path("/proc/sys/fs/inotify/max_user_instances").read_text())
    if limit < 256:
        say(f"this machine allows {limit} inotify instances, enough for {limit // 9} hosts at once")
        say("for more: sysctl -w fs.inotify.max_user_instances=1024")


def start(lab):
    with place.machine_lock():
        others = [r for r in (place.Lab(n).read() for n in place.names() if n != lab.name) if r]
        record = network.plan(lab, others)
        lab.dir.mkdir(parents=True)
        lab.record.write_text(json.dumps(record, indent=2) + "\n")
        network.make(lab, record)
    groups = leftovers.groups(lab.key, "server")
    for group in groups:
        group.mkdir(parents=True, exist_ok=True)
    enter = 'for group in $1; do echo $$ > "$group/cgroup.procs"; done; shift; exec "$@"'
    kept = {k: os.environ[k] for k in ("CLUSTERCTL_LAB_DIR", "PYTHONPATH", "PYTHONPYCACHEPREFIX") if k in os.environ}
    with open(lab.log, "ab") as out:
        server = subprocess.Popen(
            [
                "sh",
                "-c",
                enter,
                "sh",
                " ".join(map(str, groups)),
                "nsenter",
                f"--net=/run/netns/{lab.key}",
                sys.executable,
                "-m",
                "lab.server",
                lab.name,
            ],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            cwd="/",
            start_new_session=True,
            env={**ENVIRONMENT, **kept},
        )
    deadline = time.monotonic() + READY
    while not answers(record):
        if server.poll() is not None or time.monotonic() > deadline:
            last = "\n".join(lab.log.read_text(errors="replace").splitlines()[-8:])
            sweep(lab, keep_log=True)
            raise Failure(f"the lab's server did not come up; its log {lab.log} says:\n{last}")
        time.sleep(0.05)
    return record


def sweep(lab, keep_log=False):
    """Removes all of a lab, whatever is left of it. The answer says whether there was anything."""
    folder, was = str(lab.dir), lab.dir.exists()
    leftovers.kill(
        lambda: leftovers.in_groups(lab.key) | leftovers.mentioning(f"--directory={folder}/"), f"lab {lab.name}"
    )
    leftovers.unmount_below(lab.dir)
    network.remove(lab)
    leftovers.remove_groups(lab.key)
    leftovers.remove_all_traces(lab.key)
    if keep_log:
        shutil.rmtree(lab.hosts, ignore_errors=True)
    else:
        leftovers.remove_tree(lab.dir)
    return was


def down(args):
    labs = place.names() if args.all else [args.name]
    for name in labs:
        lab = place.Lab(name)
        with lab.lock(lambda name=name: say(f"waiting for another ec2-lab that works on lab {name}")):
            say(f"lab {name} is gone" if sweep(lab) else f"there is no lab {name}")


def record_of(name):
    record = place.Lab(name).read()
    if not record:
        raise Failure(f"there is no lab {name}: scripts/ec2-lab up --name {name}")
    if not answers(record):
        raise Failure(
            f"lab {name} does not answer: scripts/ec2-lab up --name {name} starts it anew; "
            f"its log is {place.Lab(name).log}"
        )
    return record


def show_env(record, output):
    print(
        json.dumps({**environment(record), "operator": record["operator"]}, indent=2)
        if output == "json"
        else exports(record)
    )


def env(args):
    show_env(record_of(args.name), args.output)


def status(args):
    record = record_of(args.name)
    hosts = get(record, "/lab/hosts")
    if args.output == "json":
        print(json.dumps({**record, "hosts": hosts}, indent=2))
        return
    print(
        f"lab {record['name']}: {record['endpoint']}, VPC {record['vpc']}, public {record['public']}, "
        f"you are {record['operator']}"
    )
    for host in hosts:
        name = host["tags"].get("Name", "")
        addresses = f"{host['private'] or '-':15}  {host['public'] or '-':15}"
        print(f"{host['instance']}  {host['state']:13}  {addresses}  {name}".rstrip())


def selftest(args):
    from lab import selftest as test

    test.main(args.name)


def main():
    parser = argparse.ArgumentParser(
        prog="scripts/ec2-lab", description="EC2's API on this machine, with real hosts behind it."
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(name, function, text, named=True, output=False):
        one = commands.add_parser(name, help=text, description=text)
        one.set_defaults(function=function)
        if named:
            one.add_argument("--name", default="lab", help="which lab (default: lab)")
        if output:
            one.add_argument("--output", choices=["text", "json"], default="text")
        return one

    command("up", up, "start a lab, and print the environment to use", output=True)
    command("env", env, 'print the environment: eval "$(scripts/ec2-lab env)"', output=True)
    command("status", status, "say what runs", output=True)
    command("down", down, "remove a lab, whatever is left of it").add_argument(
        "--all", action="store_true", help="all labs"
    )
    command("base", lambda _: base.ensure(say), "build the hosts' base tree only", named=False)
    command("selftest", selftest, "try all of it out, in a lab of its own").set_defaults(name="selftest")
    args = parser.parse_args()
    try:
        need_root()
        args.function(args)
    except Failure as e:
        say(str(e))
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
