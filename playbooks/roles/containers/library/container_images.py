"""Ansible module: container images from archives in a local directory. Never asks a registry.

An image's id is the digest of its configuration, which names the digest of every layer: whoever has the id has the
content. It is the same in podman, Docker and containerd, and is written in the archive, so that nothing is loaded
that is not what was asked for.
"""

from __future__ import annotations

import json
import re
import subprocess
import tarfile
from pathlib import Path
from typing import Any

DOCUMENTATION = """
module: container_images
short_description: Load the images that are missing from archives in a directory
description: Compares by image id. Loads nothing when one of the archives is missing, damaged or another image's.
author: bootorch
options:
  engine: {description: Whose images they are., choices: [podman, docker, containerd], type: str, default: podman}
  arguments: {description: Arguments of the engine's program that come first., type: list, elements: str, default: []}
  directory: {description: Where the archives are., type: path, required: true}
  images:
    description: Each with C(name), C(id) (sha256:...) and C(archive), a file below the directory.
    type: list
    elements: dict
    required: true
  timeout_s: {description: Longest time for one image., type: int, default: 600}
"""

# What prints an image's id, and what loads an archive.
_ENGINES: dict[str, tuple[list[str], list[str]]] = {
    "podman": (["podman", "image", "inspect", "--format", "{{.Id}}"], ["podman", "load", "--quiet", "--input"]),
    "docker": (["docker", "image", "inspect", "--format", "{{.Id}}"], ["docker", "load", "--quiet", "--input"]),
    # As the kubelet sees them.
    "containerd": (["crictl", "inspecti", "--output", "json"], ["ctr", "--namespace", "k8s.io", "images", "import"]),
}
_ABSENT = re.compile(r"no such image|not known|not found", re.IGNORECASE)


class Trouble(Exception):
    """One image cannot be had; the text says why and what to do."""


def hexadecimal(image_id: str) -> str:
    """An id without its ``sha256:``, as podman prints it."""
    return image_id.strip().removeprefix("sha256:")


def id_in_archive(archive: Path) -> str:
    """The id of the image in an archive: docker-archive (docker save, podman save) or oci-archive.

    Trouble when it is not an archive of exactly one image.
    """
    try:
        with tarfile.open(archive) as tar:
            names = tar.getnames()
            if "manifest.json" in names:
                (image,) = _json(tar, "manifest.json")
                return re.sub(r"^blobs/sha256/|\.json$", "", image["Config"])
            (entry,) = _json(tar, "index.json")["manifests"]
            manifest = _json(tar, "blobs/sha256/" + hexadecimal(entry["digest"]))
            return hexadecimal(manifest["config"]["digest"])
    except (tarfile.TarError, OSError, EOFError, KeyError, ValueError, TypeError) as error:
        raise Trouble(f"{archive} is not an archive of one image ({error}): copy it again") from error


def _json(tar: tarfile.TarFile, name: str) -> Any:
    member = tar.extractfile(name)
    if member is None:
        raise KeyError(name)
    return json.load(member)


class Engine:
    def __init__(self, name: str, arguments: list[str], timeout_s: int) -> None:
        inspect, load = _ENGINES[name]
        self._inspect = [inspect[0], *arguments, *inspect[1:]]
        self._load = [load[0], *arguments, *load[1:]]
        self._is_containerd = name == "containerd"
        self._timeout_s = timeout_s

    def image_id(self, name: str) -> str | None:
        """None when there is no such image; Trouble when the engine cannot say."""
        done = self._run([*self._inspect, name])
        if done.returncode == 0:
            said = json.loads(done.stdout)["status"]["id"] if self._is_containerd else done.stdout
            return hexadecimal(said)
        if _ABSENT.search(done.stderr):
            return None
        raise Trouble(f"{self._inspect[0]} cannot tell about {name}: {_last(done.stderr)}; is the engine running?")

    def load(self, archive: Path) -> None:
        done = self._run([*self._load, str(archive)])
        if done.returncode != 0:
            raise Trouble(f"{archive} cannot be loaded: {_last(done.stderr)}; copy it again, look for room on the disk")

    def _run(self, arguments: list[str]) -> subprocess.CompletedProcess[str]:
        try:
            return subprocess.run(  # noqa: S603 - an engine of the table above
                arguments,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=self._timeout_s,
                check=False,
            )
        except FileNotFoundError:
            raise Trouble(f"{arguments[0]} is not installed on this host") from None
        except subprocess.TimeoutExpired:
            raise Trouble(f"{' '.join(arguments[:3])} took more than {self._timeout_s} s") from None


def _last(text: str) -> str:
    return (text.strip().splitlines() or ["it said nothing"])[-1]


def check_archive(directory: Path, image: dict[str, str], have: str | None) -> None:
    archive = directory / image["archive"]
    has = "an image of that name with another id" if have else "no such image"
    if not archive.is_file():
        raise Trouble(f"{image['name']}: the host has {has}, and there is no {archive}: copy the archive there")
    inside = id_in_archive(archive)
    if inside != hexadecimal(image["id"]):
        raise Trouble(
            f"{image['name']}: {archive} holds sha256:{inside}, not {image['id']}: copy the right archive, "
            "or correct the id in containers_images"
        )


def main() -> None:
    from ansible.module_utils.basic import AnsibleModule

    text = {"type": "str", "required": True}
    module = AnsibleModule(
        argument_spec={
            "engine": {"type": "str", "default": "podman", "choices": list(_ENGINES)},
            "arguments": {"type": "list", "elements": "str", "default": []},
            "directory": {"type": "path", "required": True},
            "images": {
                "type": "list",
                "elements": "dict",
                "required": True,
                "options": {"name": text, "id": text, "archive": text},
            },
            "timeout_s": {"type": "int", "default": 600},
        },
        supports_check_mode=True,
    )
    directory = Path(module.params["directory"])
    engine = Engine(module.params["engine"], module.params["arguments"], module.params["timeout_s"])
    missing, troubles = [], []
    for image in module.params["images"]:
        try:
            have = engine.image_id(image["name"])
            if have != hexadecimal(image["id"]):
                check_archive(directory, image, have)
                missing.append(image)
        except Trouble as trouble:
            troubles.append(str(trouble))
    if troubles:
        module.fail_json(msg="; ".join(troubles))
    for image in [] if module.check_mode else missing:
        try:
            engine.load(directory / image["archive"])
            if (have := engine.image_id(image["name"])) != hexadecimal(image["id"]):
                raise Trouble(
                    f"{image['archive']} was loaded and {image['name']} is {have or 'still missing'}: "
                    "the archive has it under another name"
                )
        except Trouble as trouble:
            module.fail_json(msg=str(trouble))
    module.exit_json(changed=bool(missing), loaded=[image["name"] for image in missing])


if __name__ == "__main__":
    main()
