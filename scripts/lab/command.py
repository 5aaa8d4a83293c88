"""Running programs: one way to do it, whose failure names the command and what it said."""

import os
import subprocess

# Programs of the system are found whatever PATH the caller has; their output is not translated.
ENVIRONMENT = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C"}


class Failure(Exception):
    """Something that a person must be told, in words that say what failed and what cures it."""


def run(*args, text=None, check=True):
    """Runs a program to its end; the answer is its standard output."""
    args = [str(a) for a in args]
    try:
        done = subprocess.run(
            args,
            input=text,
            stdin=None if text is not None else subprocess.DEVNULL,
            capture_output=True,
            text=True,
            env=ENVIRONMENT,
            check=False,
        )
    except FileNotFoundError:
        raise Failure(f"{args[0]} is not installed: scripts/install-needs lab") from None
    if check and done.returncode != 0:
        said = (done.stderr.strip() or done.stdout.strip() or "it said nothing")[-2000:]
        given = f", given: {text.strip()}" if text and len(text) < 2000 else ""
        raise Failure(f"`{' '.join(args)}` failed with {done.returncode}: {said}{given}")
    return done.stdout


def need_root():
    if os.geteuid() != 0:
        raise Failure("the lab boots real hosts and needs root: run it with sudo")
