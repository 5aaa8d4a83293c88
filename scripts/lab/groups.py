"""Security groups: what a host accepts, as rules of nft in its own namespace. What it sends is not limited."""

import ipaddress

OPEN = "0.0.0.0/0"


def ruleset(instance, members):
    """The rules for an instance. `members` says the private addresses of those in a group, by its id."""
    lines = []
    for group in sorted(groups_of(instance), key=lambda g: g.id):
        for rule in group.ingress_rules:
            lines += [f"    {line}" for line in rule_lines(rule, members)]
    accepted = "\n".join(dict.fromkeys(lines))
    return f"""\
table inet lab
delete table inet lab
table inet lab {{
  chain arriving {{
    type filter hook input priority 0; policy drop;
    iifname "lo" accept
    ct state established,related accept
    # Neighbours and routers of IPv6, which no group has to allow.
    meta l4proto icmpv6 accept
{accepted}
  }}
}}
"""


def groups_of(instance):
    """An instance's groups are its own and its interfaces'."""
    found = {g.id: g for g in instance.security_groups or []}
    for nic in instance.nics.values():
        found.update({g.id: g for g in nic.group_set})
    return list(found.values())


def rule_lines(rule, members):
    sources = []
    if cidr := rule.cidr_ipv4:
        network = ipaddress.ip_network(cidr, strict=False)
        sources.append("" if str(network) == OPEN else f"ip saddr {network} ")
    if group := (rule.source_group or {}).get("GroupId"):
        addresses = sorted(members(group))
        if addresses:
            sources.append(f"ip saddr {{ {', '.join(addresses)} }} ")
    return [f"{source}{what} accept".strip() for source in sources for what in [services(rule)]]


def services(rule):
    protocol = rule.ip_protocol
    if protocol in ("-1", None):
        return ""
    if protocol in ("tcp", "udp"):
        first, last = rule.from_port, rule.to_port
        if first in (-1, None) or (first, last) == (0, 65535):
            return f"meta l4proto {protocol}"
        return f"{protocol} dport {first}" if first == last else f"{protocol} dport {first}-{last}"
    if protocol == "icmp":
        # The port fields hold a type and a code; -1 is any.
        kind = "" if rule.from_port in (-1, None) else f" icmp type {rule.from_port}"
        return f"ip protocol icmp{kind}"
    return f"meta l4proto {protocol}"
