"""The fault plan: rules that say which calls fail, wait, vanish or answer what is not so, and which hosts do not boot.

A rule is a JSON object; `KINDS` and `CHOOSING` say what it may hold. Rules are tried in order: waits add up, the first
other rule that fits decides.
"""

import fnmatch
import ssl
import threading
import time

# kind → (keys it needs, keys it may have)
KINDS = {
    "error": ({"code"}, {"message", "status"}),
    "delay": ({"delay"}, set()),
    "drop": (set(), set()),
    "hide": (set(), {"younger"}),
    "hang-before": (set(), set()),
    "hang-after": (set(), set()),
    "skew": ({"skew"}, set()),
    "no-boot": (set(), {"name"}),
    "no-sshd": (set(), {"name"}),
    "no-console": (set(), {"name"}),
    "slow-boot": ({"delay"}, {"name"}),
    "dies": (set(), {"name", "code", "message"}),
}
BOOT = {"no-boot", "no-sshd", "no-console", "slow-boot", "dies"}
# The keys that choose calls; any kind may have them.
CHOOSING = {"kind", "action", "service", "params", "n", "after", "times", "seconds"}
NUMBERS = {"n", "after", "times", "seconds", "status", "delay", "younger", "skew"}

# What AWS answers with these codes; 400 for all others.
STATUS = {
    "RequestLimitExceeded": 503,
    "Throttling": 400,
    "ThrottlingException": 400,
    "InternalError": 500,
    "InternalFailure": 500,
    "ServiceUnavailable": 503,
    "Unavailable": 503,
    "UnauthorizedOperation": 403,
    "AccessDenied": 403,
    "AuthFailure": 401,
    "InsufficientInstanceCapacity": 500,
    "InsufficientAddressCapacity": 500,
}


class Wrong(Exception):
    """A rule that cannot be."""


class Rule:
    def __init__(self, given):
        if not isinstance(given, dict):
            raise Wrong(f"a rule is a JSON object, not {given!r}")
        kind = given.get("kind")
        if kind not in KINDS:
            raise Wrong(f"kind {kind!r}: use one of {', '.join(KINDS)}")
        needed, extra = KINDS[kind]
        if wrong := set(given) - needed - extra - CHOOSING:
            raise Wrong(f"a rule of kind {kind} has no {', '.join(sorted(wrong))}")
        if missing := {k for k in needed if given.get(k) is None}:
            raise Wrong(f"a rule of kind {kind} needs {', '.join(sorted(missing))}")
        for key in NUMBERS & set(given):
            if given[key] is not None and not isinstance(given[key], (int, float)):
                raise Wrong(f"{key} is a number, not {given[key]!r}")
        if not isinstance(given.get("params") or {}, dict):
            raise Wrong(f"params is an object of names and patterns, not {given['params']!r}")
        self.given, self.kind = given, kind
        self.put = time.monotonic()
        self.seen = self.applied = 0

    def __getitem__(self, key):
        return self.given.get(key)

    def applies(self, call):
        """Does it apply to this call? Each call is to be asked once, for it counts them."""
        wanted = self["action"] or "*"
        if not fnmatch.fnmatchcase(call.action, wanted) or (self["service"] or call.service) != call.service:
            return False
        for name, pattern in (self["params"] or {}).items():
            if not fnmatch.fnmatchcase(str(call.params.get(name, "")), str(pattern)):
                return False
        if self["n"] is not None and self["n"] != call.n:
            return False
        return self.counts()

    def counts(self):
        self.seen += 1
        if self["seconds"] is not None and time.monotonic() - self.put > self["seconds"]:
            return False
        if self.seen <= (self["after"] or 0):
            return False
        if self["times"] is not None and self.applied >= self["times"]:
            return False
        self.applied += 1
        return True

    def shown(self):
        return {**self.given, "seen": self.seen, "applied": self.applied}


class Plan:
    def __init__(self):
        self.lock = threading.Lock()
        self.rules = []

    def replace(self, given, keep=False):
        """All rules at once, or more of them; a wrong one changes nothing."""
        given = [given] if isinstance(given, dict) else given
        if not isinstance(given, list):
            raise Wrong("give a JSON list of rules")
        rules = [Rule(g) for g in given]
        with self.lock:
            self.rules = self.rules + rules if keep else rules

    def shown(self):
        with self.lock:
            return [rule.shown() for rule in self.rules]

    def for_call(self, call):
        """The rules that apply to a call: all waits and skews, and the first of the others."""
        chosen, decided = [], False
        with self.lock:
            for rule in self.rules:
                if rule.kind in BOOT:
                    continue
                adds = rule.kind in ("delay", "skew")
                if (adds or not decided) and rule.applies(call):
                    chosen.append(rule)
                    decided = decided or not adds
        return chosen

    def for_boot(self, name):
        """The faults of a launch: kind → rule."""
        found = {}
        with self.lock:
            for rule in self.rules:
                fits = rule.kind in BOOT and rule.kind not in found and fnmatch.fnmatchcase(name, rule["name"] or "*")
                if fits and rule.counts():
                    found[rule.kind] = rule
        return found


class Held:
    """Calls that wait for somebody to let them go on."""

    def __init__(self):
        self.changed = threading.Condition()
        self.waiting = []

    def hold(self, call, when):
        """Waits. The answer is False where the call shall not be executed any more: its client has gone."""
        entry = {"call": call, "when": when, "go": None}
        with self.changed:
            self.waiting.append(entry)
            self.changed.notify_all()
            while entry["go"] is None:
                self.changed.wait()
        return entry["go"] == "execute" or not is_gone(call)

    def shown(self, wait=0):
        """Those held now; waits up to `wait` seconds until there is one."""
        with self.changed:
            self.changed.wait_for(lambda: self.waiting, timeout=wait)
            return [{**entry["call"].shown(), "when": entry["when"]} for entry in self.waiting]

    def release(self, n=None, execute=False):
        """Lets all go on, or the n-th call; `execute` also those whose client has gone."""
        with self.changed:
            chosen = [e for e in self.waiting if n is None or e["call"].n == n]
            self.waiting = [e for e in self.waiting if e not in chosen]
            for entry in chosen:
                entry["go"] = "execute" if execute else "go"
            self.changed.notify_all()
        return [entry["call"].n for entry in chosen]


def is_gone(call):
    """Has the client closed its connection? Only asked of one whose request is read: it sends nothing more but its
    farewell."""
    connection = call.environ.get("werkzeug.socket")
    if connection is None:
        return False
    waits = connection.gettimeout()
    try:
        connection.settimeout(0)
        return connection.recv(1) == b""
    except (BlockingIOError, ssl.SSLWantReadError):
        return False
    except OSError:
        return True
    finally:
        connection.settimeout(waits)
