"""What the arguments of one task want from elsewhere: addresses, indexes, images. Pure; see ``playbookcheck``."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

from bootorch.core.model import Site

HERE = frozenset({"localhost", "127.0.0.1", "::1"})

Want = tuple[str, str]  # message and remedy

# Modules that fetch something from an address among their arguments, by their last name.
_FETCH = frozenset((
    "apt", "apt_key", "apt_repository", "deb822_repository", "dnf", "dnf5", "docker_compose_v2_pull", "get_url",
    "git", "hg", "package", "pip", "rpm_key", "subversion", "unarchive", "uri", "win_get_url", "yum",
    "yum_repository", "zypper", "zypper_repository", "helm", "helm_repository",
))  # fmt: skip
_IMAGES = frozenset((
    "docker_container", "docker_image", "docker_image_pull", "docker_swarm_service", "podman_container",
    "podman_image",
))  # fmt: skip
# Modules that go to a public index where they are told no other.
_INDEX = {
    "pip": ("pypi.org", re.compile(r"--no-index|--index-url|-i |--find-links|-f ")),
    "npm": ("registry.npmjs.org", re.compile(r"registry|offline|path")),
    "gem": ("rubygems.org", re.compile(r"repository|gem_source|include_dependencies.*/")),
    "snap": ("the snap store", re.compile(r"(?!)")),
    "flatpak": ("flathub.org", re.compile(r"(?!)")),
    "cargo": ("crates.io", re.compile(r"directory|offline")),
}
_COMMANDS = frozenset({"command", "raw", "script", "shell"})
_DOWNLOADS = re.compile(
    r"(?:^|[\s;&|(])(curl|wget|git\s+clone|git\s+pull|(?:docker|podman|crictl|nerdctl)\s+pull|pip3?\s+install|"
    r"helm\s+pull)\b[^;&|\n]*"
)
_URL = re.compile(r"\b(?:https?|ftp|git|ssh|rsync|oci|svn)://[^\s'\"<>,;)\]}]+")
_PRIVATE = (
    "internal",
    "local",
    "localdomain",
    "lan",
    "home.arpa",
    "corp",
    "intra",
    "private",
    "test",
    "example",
    "invalid",
)

_INSIDE = "serve it from a host of the site, or bring it with the playbook"


class Wants:
    """``hosts``: name → address of the hosts of the inventory."""

    def __init__(self, site: Site, hosts: Mapping[str, str]) -> None:
        self._site = site
        self._hosts = hosts

    def of(self, module: str, arguments: object, more: object) -> Iterator[Want]:
        """``module``: its last name; ``arguments`` as written; ``more``: those of the task's ``args``."""
        texts = [*_texts(arguments), *_texts(more)]
        if module in _FETCH:
            for text in texts:
                yield from self._urls(module, text)
        if module in _COMMANDS:
            for match in (match for text in texts for match in _DOWNLOADS.finditer(text)):
                yield from self._urls(match[1], match[0])
        if module in _IMAGES and isinstance(arguments, dict):
            yield from self._image(module, arguments)
        if module in _INDEX and arguments:
            index, told = _INDEX[module]
            said = " ".join([*texts, *(str(key) for key in arguments)] if isinstance(arguments, dict) else texts)
            if not told.search(said) and "{{" not in said and not _is_file(arguments):
                remedy = "name a source inside the site, or install from files that the playbook brings"
                yield f"{module} asks {index} unless the host is set up otherwise", remedy

    def outside(self, host: str) -> bool:
        """An address, or a host of the inventory with one, that the site does not allow."""
        address = _address(self._hosts.get(host, host))
        return address is not None and not self._site.allows_host(str(address))

    def _urls(self, what: str, text: str) -> Iterator[Want]:
        for url in _URL.findall(text):
            host = _host_of(url)
            if host and not self._inside(host):
                yield f"{what} wants {host}, which is not in the site", _INSIDE

    def _image(self, module: str, arguments: dict[str, Any]) -> Iterator[Want]:
        container = module.endswith("container")
        image = arguments.get("image") if container else arguments.get("image", arguments.get("name"))
        local = arguments.get("source") in ("load", "local", "build") or arguments.get("load_path")
        if local or arguments.get("pull") in ("never", False) or arguments.get("state") == "absent":
            return
        if not isinstance(image, str) or "{{" in image:
            return
        first, slash, _ = image.partition("/")
        named = slash and ("." in first or ":" in first or first == "localhost")
        registry = (first.rpartition(":")[0] or first) if named else ""
        if not registry or not self._inside(registry):
            remedy = "load it from a file (source: load), or name a registry of the site"
            yield f"image {image} comes from {registry or 'docker.io'}, which is not in the site", remedy

    def _inside(self, host: str) -> bool:
        """In the site, or of a kind that cannot be told to be outside."""
        if host in HERE or host in self._hosts or "{" in host:
            return True
        address = _address(host)
        if address is not None:
            return self._site.allows_host(str(address)) or address.is_loopback
        return "." not in host or host.lower().rstrip(".").endswith(tuple(f".{domain}" for domain in _PRIVATE))


def _texts(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _texts(inner)


def _is_file(arguments: object) -> bool:
    """All that is to be installed is a file or has a URL: ``name: /srv/wheels/x.whl``."""
    found = arguments.get("name") if isinstance(arguments, dict) else arguments
    names = found if isinstance(found, list) else [found]
    return all(isinstance(name, str) and (name[:1] in ("/", ".") or ":" in name) for name in names)


def _host_of(url: str) -> str:
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None
