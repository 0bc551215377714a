"""The site fence at planning time: nothing outside it is ever in a plan. (Drivers check again when they connect.)"""

from __future__ import annotations

import re
from collections.abc import Mapping
from ipaddress import ip_network
from urllib.parse import urlsplit

from bootorch.core.hostfacts import Findings, is_ipv4, is_missing, is_name, parse_ip
from bootorch.core.model import Check, Environment, Host, HttpCheck, Network, Site
from bootorch.core.spec import PlanSpec

LOOPBACK: tuple[Network, ...] = (ip_network("127.0.0.0/8"), ip_network("::1/128"))
_METER_PATH = re.compile(r"/redfish/v1/[A-Za-z0-9._~!$&'()*+,;=:@%/-]{1,400}")
_OWN_ADDRESS = "{address}"  # in a URL: the address of the host that is checked


def check_fence(spec: PlanSpec, hosts: Mapping[str, Host], findings: Findings) -> None:
    """Networks that fence something, a lab that stays on this machine, and every host inside."""
    for kind, networks in (("bmc_networks", spec.site.bmc_networks), ("host_networks", spec.site.host_networks)):
        for index, network in enumerate(networks):
            where = spec.where("site", kind, index)
            if network.prefixlen == 0:
                findings.add(
                    f"{network} in {kind} fences nothing: it is every address there is", where, "name your own"
                )
            elif spec.environment is Environment.LAB and not any(_within(network, loop) for loop in LOOPBACK):
                remedy = "a lab lives in 127.0.0.0/8; real networks need environment: drill or production"
                findings.add(f"environment lab, but {network} in {kind} is outside 127.0.0.0/8", where, remedy)
    bmcs, addresses = _Fence(spec.site.bmc_networks), _Fence(spec.site.host_networks)
    for host in hosts.values():
        if not bmcs.allows(host.bmc.address):
            place = spec.where("groups", host.group, "hosts")
            remedy = "correct bmc_address, or add its network to site.bmc_networks if it is really yours"
            findings.host(host.name, "bmc_address outside the site", place, remedy, host.bmc.address)
        if not addresses.allows(host.address):
            place = spec.where("groups", host.group, "hosts")
            remedy = "correct ansible_host, or add its network to site.host_networks if it is really yours"
            findings.host(host.name, "ansible_host outside the site", place, remedy, host.address)


def check_urls(spec: PlanSpec, findings: Findings) -> None:
    """Addresses in URLs are literals inside the site: no DNS is needed, and nobody else is asked."""
    for path, limit in spec.limits.feeds.items():
        if limit.meter is not None and limit.meter.redfish is not None:
            _check_meter(limit.meter.redfish.url, spec.site, spec.where("limits", "feeds", path, "meter"), findings)
    for name, group in spec.groups.items():
        for kind, checks in (("ready", group.ready), ("verify", group.verify)):
            for index, check in enumerate(checks):
                _check_url(check, spec.site, spec.where("groups", name, kind, index), findings, own=True)
    for name, gate in spec.gates.items():
        if gate.check is not None:
            _check_url(gate.check, spec.site, spec.where("gates", name, "check"), findings, own=False)
        for index, group_name in enumerate(gate.groups):
            if group_name not in spec.groups:
                where = spec.where("gates", name, "groups", index)
                remedy = f"groups of the plan: {', '.join(spec.groups)}"
                findings.add(f"gate {name} guards {group_name!r}, which is no group of the plan", where, remedy)


def _check_meter(text: str, site: Site, where: str, findings: Findings) -> None:
    remedy = "write https://ADDRESS/redfish/v1/…, the resource that measures"
    try:
        parts = urlsplit(text)
        host, port = parts.hostname or "", parts.port
    except ValueError as error:
        findings.add(f"{text!r} is no URL: {error}", where, remedy)
        return
    if parts.username is not None or parts.password is not None:
        findings.add("the URL of a meter must hold no credentials", where, "write user and password_file beside it")
    elif parts.scheme != "https" or port == 0:
        findings.add(f"{text!r} is no https URL: a password is sent over TLS only", where, remedy)
    elif not _METER_PATH.fullmatch(parts.path) or parts.query or parts.fragment:
        findings.add(f"{text!r} names no resource of Redfish", where, remedy)
    elif parse_ip(host) is None:
        findings.add(f"{host!r} in the URL of a meter is a name: there may be no DNS in the dark", where, remedy)
    elif not (site.allows_bmc(host) or site.allows_host(host)):
        findings.add(f"{host} in the URL of a meter is outside the site", where, "write an IP address of yours")


def _check_url(check: Check, site: Site, where: str, findings: Findings, *, own: bool) -> None:
    if not isinstance(check, HttpCheck):
        return
    text = check.url.replace(f"[{_OWN_ADDRESS}]", _OWN_ADDRESS)  # brackets: how a URL holds an IPv6 address
    remedy = (
        "write http://{address}:8080/path, or an IP address inside the site" if own else "write an IP address of yours"
    )
    try:
        parts = urlsplit(text)
        host, port = parts.hostname or "", parts.port
    except ValueError as error:
        findings.add(f"{check.url!r} is no URL: {error}", where, remedy)
        return
    if parts.scheme not in ("http", "https") or port == 0:
        findings.add(f"{check.url!r} is no http or https URL", where, remedy)
    elif parts.username is not None or parts.password is not None:
        findings.add("the URL of a check must hold no credentials", where, remedy)
    elif host == _OWN_ADDRESS and own:
        return
    elif parse_ip(host) is None:
        findings.add(f"{host!r} in the URL of a check is a name: there may be no DNS in the dark", where, remedy)
    elif not (site.allows_bmc(host) or site.allows_host(host)):
        findings.add(f"{host} in the URL of a check is outside the site", where, remedy)


class _Fence:
    """As ``Site.allows_…``, where neighbours of an IPv4 address are decided with it: one look for each /24."""

    def __init__(self, networks: tuple[Network, ...]) -> None:
        self._networks = networks
        self._wide = all(network.version == 6 or network.prefixlen <= 24 for network in networks)
        self._known: dict[str, bool] = {}

    def allows(self, address: str) -> bool:
        """Also what is reported already, and a name: that is put before the fence when it is resolved."""
        if ":" not in address and self._wide and is_ipv4(address):
            prefix = address[: address.rindex(".")]
            if (known := self._known.get(prefix)) is None:
                known = self._known[prefix] = _inside(address, self._networks)
            return known
        return _later(address) or _inside(address, self._networks)


def _later(address: str) -> bool:
    """Reported already, or a name: what it means is put before the fence when it is resolved."""
    return is_missing(address) or is_name(address)


def _inside(address: str, networks: tuple[Network, ...]) -> bool:
    """As ``Site.allows_…``, without parsing an address again."""
    ip = parse_ip(address)
    return ip is not None and any(ip.version == network.version and ip in network for network in networks)


def _within(network: Network, outer: Network) -> bool:
    first, last = network.network_address, network.broadcast_address
    return network.version == outer.version and first in outer and last in outer
