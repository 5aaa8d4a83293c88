"""The API as EC2's own programs ask for it: by AWS' names, over TLS, with a certificate that the lab's hosts trust.

A lab has an authority of its own; it lies in the lab's folder and goes with it.
"""

import ssl

from lab import base, place
from lab.command import run

PORT = 443

# What a host may have to ask. Each has a name for IPv4 only, and one that answers both ways: newer SDKs take that one.
SERVICES = ["ec2", "ssm", "autoscaling", "secretsmanager", "sts"]
SUFFIXES = [f"{place.REGION}.amazonaws.com", f"{place.REGION}.api.aws"]
# Those without a region.
GLOBAL = ["ec2.amazonaws.com", "iam.amazonaws.com", "sts.amazonaws.com"]
NAMES = [f"{service}.{suffix}" for service in SERVICES for suffix in SUFFIXES] + GLOBAL

# Where Debian keeps what it trusts: the bundle that Go, curl and the AWS CLI read, the folder that OpenSSL and Python
# look into by hash, and the one from which `update-ca-certificates` makes both.
BUNDLE = "etc/ssl/certs/ca-certificates.crt"
FOLDER = "etc/ssl/certs"
LOCAL = "usr/local/share/ca-certificates/ec2-lab.crt"

EXTENSIONS = """\
[req]
distinguished_name = name
prompt = no
[name]
CN = {name}
[authority]
basicConstraints = critical, CA:true, pathlen:0
keyUsage = critical, keyCertSign, cRLSign
subjectKeyIdentifier = hash
[server]
basicConstraints = critical, CA:false
keyUsage = critical, digitalSignature
extendedKeyUsage = serverAuth
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
subjectAltName = {names}
"""


class Authority:
    """Made once a lab, when its server starts."""

    def __init__(self, lab, record):
        folder = lab.dir / "tls"
        folder.mkdir(mode=0o700, exist_ok=True)
        self.key, self.certificate = folder / "authority.key", lab.authority
        names = ",".join([*(f"DNS:{name}" for name in NAMES), f"IP:{record['api']}"])
        self.issue(folder, f"EC2 lab {lab.name}", "authority", names, self.key, self.certificate)
        key, certificate = folder / "server.key", folder / "server.pem"
        issuer = ["-CA", self.certificate, "-CAkey", self.key]
        self.issue(folder, NAMES[0], "server", names, key, certificate, *issuer)
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(certificate, key)
        # OpenSSL finds a certificate in a folder under this name.
        self.hash = run("openssl", "x509", "-noout", "-subject_hash", "-in", self.certificate).strip()

    def issue(self, folder, name, kind, names, key, certificate, *issuer):
        config = folder / f"{kind}.cnf"
        config.write_text(EXTENSIONS.format(name=name, names=names))
        run(
            "openssl",
            "req",
            "-x509",
            "-new",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-noenc",
            "-days",
            "3650",
            "-config",
            config,
            "-extensions",
            kind,
            "-keyout",
            key,
            "-out",
            certificate,
            *issuer,
        )

    def trust(self, put, link):
        """Puts it into a host's own layer, as `update-ca-certificates` would."""
        text = self.certificate.read_text()
        put(LOCAL, text)
        put(BUNDLE, (base.tree() / BUNDLE).read_text() + text)
        link(f"{FOLDER}/ec2-lab.pem", f"/{LOCAL}")
        link(f"{FOLDER}/{self.hash}.0", "ec2-lab.pem")


def hosts_lines(address):
    """How a host resolves the names."""
    return "".join(f"{address} {name}\n" for name in NAMES)


def secure(server, context):
    """Makes a werkzeug server speak TLS. The handshake is each connection's own thread's: a client that begins none
    holds up nobody else."""
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    server.ssl_context = context
