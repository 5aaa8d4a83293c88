"""The lab's own addresses, /lab/…: for tests and for a person who wants to see or to disturb. JSON both ways."""

import json
from urllib.parse import parse_qs

from lab import network
from lab.command import Failure
from lab.faults import Wrong


class Control:
    def __init__(self, record, instances, log, faults, held):
        self.record, self.instances, self.log, self.faults, self.held = record, instances, log, faults, held
        self.isolation = {"private": False, "public": False, "except": []}
        self.routes = {
            ("GET", ""): self.info,
            ("GET", "hosts"): self.hosts,
            ("GET", "calls"): lambda _: log.shown(),
            ("DELETE", "calls"): lambda _: log.clear(),
            ("GET", "faults"): lambda _: faults.shown(),
            ("PUT", "faults"): lambda ask: faults.replace(ask.body),
            ("POST", "faults"): lambda ask: faults.replace(ask.body, keep=True),
            ("DELETE", "faults"): lambda _: faults.replace([]),
            ("GET", "hung"): lambda ask: held.shown(ask.number("wait", 0)),
            ("POST", "release"): self.release,
            ("GET", "isolate"): lambda _: self.isolation,
            ("POST", "isolate"): self.isolate,
            ("DELETE", "isolate"): lambda _: self.cut(False, False, []),
        }

    def __call__(self, environ, start_response):
        status, answer = self.answer(environ)
        body = (json.dumps(answer, indent=2) + "\n").encode()
        start_response(status, [("Content-Type", "application/json"), ("Content-Length", str(len(body)))])
        return [body]

    def answer(self, environ):
        path = environ["PATH_INFO"].removeprefix("/lab").strip("/")
        route = self.routes.get((environ["REQUEST_METHOD"], path))
        if route is None:
            known = sorted({f"{m} /lab/{p}".rstrip("/") for m, p in self.routes})
            return "404 Not Found", {"error": f"no {environ['REQUEST_METHOD']} /lab/{path}", "known": known}
        try:
            result = route(Ask(environ))
            # What was just put is answered too: a test sees that it arrived.
            return "200 OK", self.faults.shown() if path == "faults" else result
        except (Wrong, ValueError, Failure) as e:
            return "400 Bad Request", {"error": str(e)}

    def info(self, _):
        return self.record

    def hosts(self, _):
        instances = self.instances
        with instances.lock:
            return [
                {
                    "instance": i.id,
                    "state": i.state,
                    "private": str(i.nics[0].private_ip_address),
                    "public": i.nics[0].public_ip,
                    "machine": host.machine,
                    "folder": str(host.dir),
                    "console": str(host.console),
                    "tags": {t["key"]: t["value"] for t in i.get_tags()},
                    "client_token": i.client_token,
                }
                for i in instances.backend.all_instances()
                for host in [instances.hosts.get(i.id)]
                if host
            ]

    def release(self, ask):
        body = ask.body or {}
        return {"released": self.held.release(body.get("n"), bool(body.get("execute")))}

    def isolate(self, ask):
        body = ask.body if ask.body is not None else {"private": True}
        if not isinstance(body, dict) or set(body) - {"private", "public", "except"}:
            raise ValueError('give {"private": bool, "public": bool, "except": [instance ids]}')
        return self.cut(bool(body.get("private")), bool(body.get("public")), body.get("except") or [])

    def cut(self, private, public, excepted):
        with self.instances.lock:
            addresses = [str(self.instances.backend.get_instance(i).nics[0].private_ip_address) for i in excepted]
        network.isolate(self.instances.lab, private, public, addresses)
        self.isolation = {"private": private, "public": public, "except": excepted}
        return self.isolation


class Ask:
    """A question to the lab."""

    def __init__(self, environ):
        self.query = parse_qs(environ.get("QUERY_STRING", ""))
        text = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        self.body = json.loads(text) if text.strip() else None

    def number(self, name, default):
        return float(self.query.get(name, [default])[0])
