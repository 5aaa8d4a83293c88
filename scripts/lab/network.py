"""A lab's network: its address ranges, its namespace with the bridge, its hosts' namespaces, and who reaches whom.

    machine ── link (up0) ── the lab's namespace ── bridge br0 ── a host's namespace (host0)
                             API, metadata, NAT

Private addresses are routed from the machine to the hosts (the operator's VPN). A public address is none of the
host's own, as on EC2: the lab's namespace translates it. Which packets a host accepts is `groups`'.
"""

import ipaddress
import json
from pathlib import Path

from lab import place
from lab.command import Failure, run

BRIDGE = "br0"
UPLINK = "up0"
METADATA = "169.254.169.254"

# Private ranges as the account's default VPC. The sandbox begins its search in 10/8, so that one comes last.
PRIVATE = [ipaddress.ip_network(n) for n in ["172.16.0.0/12", "192.168.0.0/16", "10.0.0.0/8"]]
VPC_PREFIX = 20
# Set aside for benchmarks of networks: of no other use on any machine.
PUBLIC = [ipaddress.ip_network("198.18.0.0/15")]
PUBLIC_PREFIX = 24

# A veth's default is 1500 whatever the machine's uplink has; nothing of ours leaves the machine.
MTU = 1500


def taken():
    """Every IPv4 range that the machine uses or knows a way to."""
    found = []
    for route in listed("-4", "route", "show", "table", "all"):
        if route.get("dst", "default") != "default":
            found.append(ipaddress.ip_network(route["dst"], strict=False))
    for link in listed("-4", "address", "show"):
        for address in link.get("addr_info", []):
            found.append(ipaddress.ip_network(f"{address['local']}/{address['prefixlen']}", strict=False))
    try:
        words = [line.split() for line in Path("/etc/resolv.conf").read_text().splitlines()]
        found += [ipaddress.ip_network(w[1]) for w in words if w[:1] == ["nameserver"] and ":" not in w[1]]
    except (OSError, IndexError, ValueError):
        pass
    return found


def listed(*args):
    return [entry for entry in json.loads(run("ip", "-json", *args) or "[]") if entry]


def choose(ranges, prefix, seed, used):
    """A network of this size that overlaps nothing that is used. `seed` says where the search begins, so that a
    lab of the same name tends to get the same one again."""
    for whole in ranges:
        count = 1 << (prefix - whole.prefixlen)
        size = 1 << (32 - prefix)
        for step in range(count):
            first = int(whole.network_address) + (seed + step) % count * size
            candidate = ipaddress.ip_network((first, prefix))
            if not any(candidate.overlaps(u) for u in used):
                return candidate
    raise Failure(
        f"no free /{prefix} in {', '.join(map(str, ranges))}: `ip route` shows what uses them; end other labs"
    )


def plan(lab, others):
    """The ranges for a new lab. The caller holds the machine's lock; `others` are the records of other labs."""
    used = taken()
    for record in others:
        used += [ipaddress.ip_network(record["vpc"]), ipaddress.ip_network(record["public"])]
    vpc = choose(PRIVATE, VPC_PREFIX, lab.seed, used)
    public = choose(PUBLIC, PUBLIC_PREFIX, lab.seed, used)
    subnets = list(vpc.subnets(new_prefix=24))[:3]
    return {
        "name": lab.name,
        "key": lab.key,
        "vpc": str(vpc),
        "subnets": [str(s) for s in subnets],
        "public": str(public),
        "operator": str(public[1]),
        "api": str(public[2]),
        "endpoint": f"http://{public[2]}:{place.PORT}",
        "authority": str(lab.authority),
    }


def gateway(record):
    """The first address of the VPC, which EC2 keeps for its router too."""
    return ipaddress.ip_network(record["vpc"])[1]


def make(lab, record):
    """The lab's namespace and its link to the machine."""
    remove(lab)
    run("ip", "netns", "add", lab.key)
    run(
        "ip",
        "-batch",
        "-",
        text=f"""\
link add name {lab.key} type veth peer name {UPLINK} netns {lab.key}
address add {record["operator"]}/30 dev {lab.key}
link set dev {lab.key} alias clusterctl-lab:{lab.name} up
""",
    )
    prefix = ipaddress.ip_network(record["vpc"]).prefixlen
    run(
        "ip",
        "-netns",
        lab.key,
        "-batch",
        "-",
        text=f"""\
link set dev lo up
address add {record["api"]}/30 dev {UPLINK}
link set dev {UPLINK} up
link add name {BRIDGE} address {mac(gateway(record))} type bridge
address add {gateway(record)}/{prefix} dev {BRIDGE}
address add {METADATA}/32 dev {BRIDGE}
link set dev {BRIDGE} up
route add blackhole {record["public"]}
""",
    )
    # Only the lab's own namespace forwards; the machine's settings stay as they are.
    run(
        "nsenter",
        f"--net=/run/netns/{lab.key}",
        "sh",
        "-c",
        "echo 1 > /proc/sys/net/ipv4/ip_forward; echo 0 > /proc/sys/net/ipv4/conf/all/send_redirects; "
        f"echo 0 > /proc/sys/net/ipv4/conf/{BRIDGE}/send_redirects",
    )
    run(
        "ip",
        "-batch",
        "-",
        text=f"""\
route add {record["vpc"]} via {record["api"]} dev {lab.key}
route add {record["public"]} via {record["api"]} dev {lab.key}
""",
    )
    nft(
        lab.key,
        f"""\
table ip lab {{
  map private {{ type ipv4_addr : ipv4_addr; }}
  map public {{ type ipv4_addr : ipv4_addr; }}
  chain arriving {{
    type nat hook prerouting priority -100;
    dnat to ip daddr map @private
  }}
  chain leaving {{
    type nat hook postrouting priority 100;
    ct status dnat ip saddr {record["vpc"]} snat to ip saddr map @public
  }}
  chain passing {{
    type filter hook forward priority 0;
    iifname "{UPLINK}" jump reach
  }}
  chain reach {{ }}
}}
""",
    )


def remove(lab):
    """All namespaces and links of a lab, whichever there are. Their processes have ended before."""
    for folder in [Path("/run/netns")]:
        for entry in sorted(folder.glob(f"{lab.key}*")) if folder.is_dir() else []:
            if entry.name == lab.key or entry.name.startswith(lab.key + "-"):
                run("ip", "netns", "delete", entry.name)
    # It goes with its namespace, but not at once.
    run("ip", "link", "delete", "dev", lab.key, check=False)


def nft(namespace, rules):
    """In one transaction."""
    run("nsenter", f"--net=/run/netns/{namespace}", "nft", "-f", "-", text=rules)


def mac(address):
    """Stable: who has an address has the same hardware address after a restart, so that no cache goes stale."""
    return "02:cc:" + ":".join(f"{b:02x}" for b in ipaddress.ip_address(address).packed)


def port(instance_id):
    """A host's end in the lab's namespace."""
    return "h" + instance_id[-10:]


def make_port(lab, record, instance_id, address):
    """A host's namespace, with its interface and address before it boots."""
    machine, end = lab.machine(instance_id), port(instance_id)
    remove_port(lab, instance_id)
    prefix = ipaddress.ip_network(record["vpc"]).prefixlen
    run("ip", "netns", "add", machine)
    run(
        "ip",
        "-netns",
        lab.key,
        "-batch",
        "-",
        text=f"""\
link add name {end} mtu {MTU} type veth peer name host0 mtu {MTU} address {mac(address)} netns {machine}
link set dev {end} master {BRIDGE} up
""",
    )
    run(
        "ip",
        "-netns",
        machine,
        "-batch",
        "-",
        text=f"""\
link set dev lo up
address add {address}/{prefix} dev host0
link set dev host0 up
route add default via {gateway(record)}
""",
    )


def remove_port(lab, instance_id):
    machine = lab.machine(instance_id)
    if Path("/run/netns", machine).exists():
        run("ip", "netns", "delete", machine)
    # It goes with its peer, but not at once.
    run("ip", "-netns", lab.key, "link", "delete", "dev", port(instance_id), check=False)


def translate(lab, pairs):
    """Which public address is whose, all at once: (public, private)."""
    rules = "flush map ip lab private\nflush map ip lab public\n"
    if pairs:
        rules += f"add element ip lab private {{ {', '.join(f'{a} : {b}' for a, b in pairs)} }}\n"
        rules += f"add element ip lab public {{ {', '.join(f'{b} : {a}' for a, b in pairs)} }}\n"
    nft(lab.key, rules)


def isolate(lab, private, public, excepted):
    """Cuts the machine off from private or public addresses, except for those hosts' (private addresses). Packets
    get lost as behind a security group or without a VPN: nothing says so."""
    rules = "flush chain ip lab reach\n"
    for address in excepted:
        rules += f"add rule ip lab reach ip daddr {address} accept\n"
    if private:
        rules += "add rule ip lab reach ct status ! dnat drop\n"
    if public:
        rules += "add rule ip lab reach ct status dnat drop\n"
    nft(lab.key, rules)
