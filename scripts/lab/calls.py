"""An API call as it came in: which service and action, by whom, with what parameters; and the log of all of them."""

import io
import json
import threading
import time
from urllib.parse import parse_qsl

READING = ("Describe", "Get", "List", "Lookup", "Simulate")


class Call:
    def __init__(self, environ):
        body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        environ["wsgi.input"] = io.BytesIO(body)
        self.environ = environ
        self.n = None
        self.at = time.time()
        self.status = None
        self.error = None
        self.access_key, self.region, self.service = credential(environ.get("HTTP_AUTHORIZATION", ""))
        self.params = parameters(environ, body)
        target = environ.get("HTTP_X_AMZ_TARGET", "")
        self.action = (
            target.rpartition(".")[2]
            or self.params.get("Action")
            or f"{environ['REQUEST_METHOD']} {environ['PATH_INFO']}"
        )

    @property
    def reads(self):
        return self.action.startswith(READING)

    def shown(self):
        params = {k: v for k, v in self.params.items() if k not in ("Action", "Version")}
        return {
            "n": self.n,
            "service": self.service,
            "action": self.action,
            "params": params,
            "status": self.status,
            "error": self.error,
            "region": self.region,
            "access_key": self.access_key,
            "at": self.at,
        }


def credential(header):
    """`AWS4-HMAC-SHA256 Credential=KEY/date/region/service/aws4_request, …`"""
    _, _, rest = header.partition("Credential=")
    parts = rest.split(",")[0].split("/")
    # A key's own text may hold slashes; the scope is the last four.
    if len(parts) < 5:
        return None, None, None
    return "/".join(parts[:-4]), parts[-3], parts[-2]


def parameters(environ, body):
    if "json" in environ.get("CONTENT_TYPE", ""):
        try:
            found = json.loads(body or b"{}")
        except ValueError:
            return {}
        return found if isinstance(found, dict) else {}
    text = body.decode(errors="replace") if body else environ.get("QUERY_STRING", "")
    return dict(parse_qsl(text, keep_blank_values=True))


class Log:
    """All calls in order, numbered from 1 since the log was cleared."""

    def __init__(self):
        self.lock = threading.Lock()
        self.calls = []

    def add(self, call):
        with self.lock:
            self.calls.append(call)
            call.n = len(self.calls)

    def clear(self):
        with self.lock:
            self.calls = []

    def shown(self):
        with self.lock:
            return [call.shown() for call in self.calls]
