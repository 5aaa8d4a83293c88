"""The lab's one process: moto's API with our hosts behind it, the metadata service and the lab's own addresses.

It runs in the lab's network namespace. Its state is in memory: when it ends, the lab is over, and `down` clears up.
"""

import os

# Read by moto when it is imported: refuse what EC2 refuses.
for switch in [
    "MOTO_ENABLE_KEYPAIR_VALIDATION",
    "MOTO_ENABLE_AMI_VALIDATION",
    "MOTO_EC2_ENABLE_INSTANCE_TYPE_VALIDATION",
]:
    os.environ[switch] = "true"
# No prompt to look for real credentials or a real network.
os.environ.update(
    AWS_ACCESS_KEY_ID="lab",
    AWS_SECRET_ACCESS_KEY="lab",
    AWS_DEFAULT_REGION="us-east-1",
    AWS_EC2_METADATA_DISABLED="true",
)

import contextlib
import logging
import socket
import sys
import threading
import time
from email.utils import formatdate

from werkzeug.serving import ThreadedWSGIServer, WSGIRequestHandler

from lab import calls, credentials, ec2, errors, faults, images, instances, network, place, tls
from lab.control import Control
from lab.imds import Metadata

log = logging.getLogger("lab")


class Api:
    """Every call on its way to moto: noted, judged by its credentials and the fault plan, executed one by one."""

    def __init__(self, app, lab_instances, call_log, plan, held):
        self.app, self.instances, self.log, self.plan, self.held = app, lab_instances, call_log, plan, held

    def __call__(self, environ, start_response):
        call = calls.Call(environ)
        self.log.add(call)
        rules = self.plan.for_call(call)
        answer = self.answer(call, rules)
        if answer is None:
            hang_up(environ)
            # Nobody reads it any more; the server wants some answer.
            start_response("500 Dropped", [("Content-Length", "0"), ("Connection", "close")])
            return [b""]
        status, headers, body = answer
        call.status = status
        call.error = errors.code_of(body) if status >= 400 else None
        headers = [(k, v) for k, v in headers if k.lower() not in ("content-length", "date")]
        skew = sum(rule["skew"] for rule in rules if rule.kind == "skew")
        headers += [("Content-Length", str(len(body))), ("Date", formatdate(time.time() + skew, usegmt=True))]
        start_response(f"{status} {'OK' if status < 400 else 'Error'}", headers)
        return [body]

    def answer(self, call, rules):
        """(status, headers, body), or None where the connection is to be closed instead."""
        time.sleep(sum(rule["delay"] for rule in rules if rule.kind == "delay"))
        rule = next((r for r in rules if r.kind not in ("delay", "skew")), None)
        kind = rule.kind if rule else None
        if kind == "error":
            code = rule["code"]
            status = int(rule["status"] or faults.STATUS.get(code, 400))
            return errors.error(call.service, code, rule["message"] or f"{code}, by the lab's fault plan", status)
        if kind == "drop":
            return None
        if kind == "hang-before" and not self.held.hold(call, "before"):
            return None
        refused = credentials.refusal(call)
        answer = refused or self.execute(call, rule if kind == "hide" else None)
        if kind == "hang-after":
            self.held.hold(call, "after")
        return answer

    def execute(self, call, hide):
        captured = []

        def start_response(status, headers, _=None):
            captured[:] = [int(status.split()[0]), headers]

        # moto's back ends are not made for calls at the same time.
        with self.instances.lock:
            self.instances.hidden.age = (hide["younger"] or 30) if hide else None
            try:
                body = b"".join(self.app(call.environ, start_response))
            finally:
                self.instances.hidden.age = None
        if call.service == "ec2" and not call.reads and captured[0] < 400:
            # Before the answer: who has it may rely on it.
            self.instances.refresh()
        return captured[0], captured[1], body


def hang_up(environ):
    connection = environ.get("werkzeug.socket")
    if connection:
        with contextlib.suppress(OSError):
            connection.shutdown(socket.SHUT_RDWR)


class Quiet(WSGIRequestHandler):
    """The calls are in a log of their own."""

    protocol_version = "HTTP/1.1"

    def log_request(self, code="-", size="-"):
        pass

    def send_response(self, code, message=None):
        """Without a Date and a Server of its own: an answer has one of each, and ours may be skewed."""
        self.send_response_only(code, message)


def serve(address, port, app, handler, context=None):
    server = ThreadedWSGIServer(address, port, app, handler=handler)
    server.daemon_threads = True
    if context:
        tls.secure(server, context)
    threading.Thread(target=server.serve_forever, daemon=True, name=f"serve {address}:{port}").start()


def main(name):
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(threadName)s: %(message)s")
    logging.getLogger("werkzeug").setLevel(logging.WARNING)
    lab = place.Lab(name)
    record = lab.read()

    from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app

    plan, held, call_log = faults.Plan(), faults.Held(), calls.Log()
    authority = tls.Authority(lab, record)
    lab_instances = instances.Instances(lab, record, plan, authority)
    ec2.install(lab_instances)

    from moto.ec2.models import ec2_backends
    from moto.ssm.models import ssm_backends

    backend = ec2_backends[credentials.ACCOUNT][place.REGION]
    ec2.settle(lab_instances, backend)
    images.register(backend, ssm_backends[credentials.ACCOUNT][place.REGION])

    class Handler(MotoRequestHandler, Quiet):
        protocol_version = "HTTP/1.1"

    control = Control(record, lab_instances, call_log, plan, held)
    api = Api(DomainDispatcherApplication(create_backend_app), lab_instances, call_log, plan, held)

    def front(environ, start_response):
        path = environ["PATH_INFO"]
        mine = path == "/lab" or path.startswith("/lab/")
        return (control if mine else api)(environ, start_response)

    serve(network.METADATA, 80, Metadata(lab_instances), Quiet)
    serve(record["api"], tls.PORT, front, Handler, authority.context)
    serve(record["api"], place.PORT, front, Handler)
    log.info("ready at %s", record["endpoint"])
    threading.Event().wait()


if __name__ == "__main__":
    main(sys.argv[1])
