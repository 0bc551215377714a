"""Ansible module: links, bonds, routes and names, as this host's kernel and resolver see them. Reads only."""

from __future__ import annotations

import re
import socket
from pathlib import Path

DOCUMENTATION = """
module: host_network
short_description: Links without carrier, degraded bonds, missing routes, stale names
description: Returns C(problems), a list of sentences; empty when all is well. Sends nothing but questions about names.
author: bootorch
options:
  default_route: {description: There must be one and its link must be up., type: bool, default: true}
  bonds: {description: No bond may have lost a link., type: bool, default: true}
  links: {description: Interfaces that must have a carrier., type: list, elements: str, default: []}
  least_mbit: {description: A link slower than this is a problem; 0 means any., type: int, default: 0}
  routes: {description: Addresses that a route must lead to., type: list, elements: str, default: []}
  names: {description: What names must resolve to; name to address., type: dict, default: {}}
"""

_UP = 0x1  # RTF_UP, linux/route.h
_NO_ROUTE = "0" * 8


def default_interfaces(routes: str, routes6: str) -> list[str]:
    """Interfaces with a default route, from /proc/net/route and /proc/net/ipv6_route."""
    found = []
    for line in routes.splitlines()[1:]:
        words = line.split()
        if words[1] == _NO_ROUTE and words[7] == _NO_ROUTE and int(words[3], 16) & _UP:
            found.append(words[0])
    for line in routes6.splitlines():
        words = line.split()
        if words[0] == "0" * 32 and words[1] == "00" and words[9] != "lo" and int(words[8], 16) & _UP:
            found.append(words[9])
    return sorted(set(found))


def link_problems(name: str, least_mbit: int, classes: Path) -> list[str]:
    """``classes`` is /sys/class/net."""
    device = classes / name
    if not device.is_dir():
        return [f"there is no interface {name}: is its card seen (lspci, dmesg)?"]
    try:
        carrier = (device / "carrier").read_text().strip() == "1"
    except OSError:  # the kernel refuses to tell about an interface that is administratively down
        return [f"{name} is switched off: ip link set {name} up"]
    if not carrier:
        return [f"{name} has no carrier: look at its cable, optic and switch port"]
    try:
        mbit = int((device / "speed").read_text())
    except (OSError, ValueError):  # virtual interfaces have no speed
        return []
    if 0 < mbit < least_mbit:
        return [f"{name} runs at {mbit} Mbit/s, not {least_mbit}: look at its cable and switch port"]
    return []


def bond_problems(name: str, status: str) -> list[str]:
    """``status`` is the text of /proc/net/bonding/NAME."""
    down = re.findall(r"^Slave Interface: (\S+)\nMII Status: (?!up$)", status, re.MULTILINE)
    if not down:
        return []
    return [f"{name} has lost {', '.join(down)}: it works, and has no spare; look at cable and switch port"]


def route_problems(address: str) -> list[str]:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((address, 9))  # chooses a route; no packet leaves
        except OSError as error:
            return [f"no route leads to {address} ({error.strerror}): ip route get {address}"]
    return []


def name_problems(name: str, expected: str) -> list[str]:
    try:
        found = sorted({str(answer[4][0]) for answer in socket.getaddrinfo(name, None)})
    except OSError as error:
        return [f"{name} cannot be resolved ({error.strerror}): look at /etc/resolv.conf and the name servers"]
    if expected in found:
        return []
    return [f"{name} resolves to {', '.join(found)}, not to {expected}: a stale zone, cache or hosts file"]


def main() -> None:
    from ansible.module_utils.basic import AnsibleModule

    module = AnsibleModule(
        argument_spec={
            "default_route": {"type": "bool", "default": True},
            "bonds": {"type": "bool", "default": True},
            "links": {"type": "list", "elements": "str", "default": []},
            "least_mbit": {"type": "int", "default": 0},
            "routes": {"type": "list", "elements": "str", "default": []},
            "names": {"type": "dict", "default": {}},
        },
        supports_check_mode=True,
    )
    problems, links = [], list(module.params["links"])
    if module.params["default_route"]:
        interfaces = default_interfaces(_text("/proc/net/route"), _text("/proc/net/ipv6_route"))
        links += interfaces
        if not interfaces:
            problems.append("there is no default route: ip route; is the network configured, did DHCP answer?")
    for link in sorted(set(links)):
        problems += link_problems(link, module.params["least_mbit"], Path("/sys/class/net"))
    bonds = Path("/proc/net/bonding")
    for bond in sorted(bonds.iterdir()) if module.params["bonds"] and bonds.is_dir() else []:
        problems += bond_problems(bond.name, bond.read_text())
    for address in module.params["routes"]:
        problems += route_problems(address)
    for name, expected in sorted(module.params["names"].items()):
        problems += name_problems(name, str(expected))
    module.exit_json(changed=False, problems=problems)


def _text(path: str) -> str:
    file = Path(path)
    return file.read_text() if file.is_file() else ""


if __name__ == "__main__":
    main()
