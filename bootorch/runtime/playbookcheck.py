"""What a playbook wants that will not be there in the dark: the internet, roles and collections that are not on this
machine, hosts outside the site. A static look, for ``bootorch plan``: nothing is run and nothing is asked.

Only what is certain or likely is told. A name that is filled in by a template, or that belongs to a host of the
inventory or to a domain of no public register (``.internal``, RFC 6761, RFC 8375), is left alone.
"""

from __future__ import annotations

import configparser
import os
import re
import sysconfig
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bootorch.core.errors import InvalidInput, Problem
from bootorch.core.model import Site
from bootorch.core.spec import Place
from bootorch.runtime.playbookwants import HERE, Wants
from bootorch.runtime.yamlfile import Document, parse, read_text

MOST_FILES = 2000
MOST_WARNINGS = 100

_KEYWORDS = frozenset((
    "action", "any_errors_fatal", "args", "async", "async_val", "become", "become_exe", "become_flags",
    "become_method", "become_user", "changed_when", "check_mode", "collections", "connection", "debugger", "delay",
    "delegate_facts", "delegate_to", "diff", "environment", "failed_when", "ignore_errors", "ignore_unreachable",
    "listen", "local_action", "loop", "loop_control", "module_defaults", "name", "no_log", "notify", "poll", "port",
    "register", "remote_user", "retries", "run_once", "tags", "throttle", "timeout", "until", "vars", "when",
    "with_items", "with_dict", "with_fileglob", "with_first_found", "with_together", "with_subelements",
    "with_sequence", "with_nested", "with_indexed_items", "with_lines", "with_flattened", "block", "rescue",
    "always",
))  # fmt: skip
_INCLUDES = frozenset({"import_tasks", "include_tasks"})
_ROLES = frozenset({"import_role", "include_role"})
_FQCN = re.compile(r"[a-z_][a-z0-9_]*\.[a-z_][a-z0-9_]*\.[a-z_][a-z0-9_.]*")


def check_playbooks(playbooks: Iterable[str], site: Site, hosts: Mapping[str, str]) -> tuple[Problem, ...]:
    """Warnings, each with file and line. ``playbooks``: absolute paths; ``hosts``: name → address."""
    look = _Look(Wants(site, hosts))
    for playbook in dict.fromkeys(playbooks):
        look.playbook(Path(playbook))
    found = tuple(dict.fromkeys(look.found))
    if len(found) > MOST_WARNINGS:
        more = Problem(f"and {len(found) - MOST_WARNINGS} more warnings of playbooks", "", "mend the first ones first")
        found = (*found[:MOST_WARNINGS], more)
    return found


@dataclass
class _Look:
    wants: Wants
    found: list[Problem] = field(default_factory=list)
    _seen: set[Path] = field(default_factory=set)
    _paths: tuple[Path, ...] = ()  # where roles may be
    _collections: tuple[Path, ...] = ()
    _left: int = MOST_FILES

    # -- files -------------------------------------------------------------------------

    def playbook(self, path: Path) -> None:
        if (document := self._read(path, "playbook")) is None:
            return
        before = self._paths, self._collections
        directory = path.parent
        config = _config(directory)
        self._paths = (
            directory / "roles",
            *_listed(config.get("roles_path", ""), directory),
            *_listed(os.environ.get("ANSIBLE_ROLES_PATH", ""), directory),
            Path.home() / ".ansible/roles",
            Path("/usr/share/ansible/roles"),
            Path("/etc/ansible/roles"),
            directory,
        )
        self._collections = (
            directory / "collections",
            *_listed(config.get("collections_path", config.get("collections_paths", "")), directory),
            *_listed(os.environ.get("ANSIBLE_COLLECTIONS_PATH", ""), directory),
            Path.home() / ".ansible/collections",
            Path("/usr/share/ansible/collections"),
            Path(sysconfig.get_path("purelib")),
        )
        for index, play in enumerate(document.data if isinstance(document.data, list) else []):
            if isinstance(play, dict):
                self._play(play, (index,), document, path)
        for name in ("requirements.yml", "roles/requirements.yml", "collections/requirements.yml"):
            self._requirements(directory / name)
        self._paths, self._collections = before

    def _read(self, path: Path, what: str) -> Document | None:
        """The file, once."""
        path = path.resolve()
        if path in self._seen or self._left <= 0 or not path.is_file():
            return None
        self._seen.add(path)
        self._left -= 1
        try:
            return parse(read_text(path, what), _short(path))
        except InvalidInput as error:
            self.found += error.problems
            return None

    def _say(self, message: str, where: str, remedy: str) -> None:
        self.found.append(Problem(message, where, remedy))

    # -- plays, roles, tasks ---------------------------------------------------------------

    def _play(self, play: dict[str, Any], place: Place, document: Document, path: Path) -> None:
        imported = play.get("import_playbook", play.get("ansible.builtin.import_playbook"))
        if isinstance(imported, str) and "{{" not in imported:
            self.playbook(path.parent / imported)
            return
        for section in ("pre_tasks", "tasks", "post_tasks", "handlers"):
            self._tasks(play.get(section), (*place, section), document, path)
        for index, role in enumerate(play.get("roles") or []):
            self._role(_role_name(role), _where(document, (*place, "roles", index)))
        for index, name in enumerate(_list(play.get("collections"))):
            self._collection(str(name), _where(document, (*place, "collections", index)))

    def _role(self, name: object, where: str, tasks_from: str = "main") -> None:
        if not isinstance(name, str) or "{{" in name:
            return
        if name.count(".") == 2 and _FQCN.fullmatch(name):
            namespace, collection, short = name.split(".")
            if self._collection(f"{namespace}.{collection}", where):
                for place in self._collections:
                    self._role_files(
                        place / "ansible_collections" / namespace / collection / "roles" / short, tasks_from
                    )
            return
        for place in self._paths:
            if (place / name).is_dir():
                self._role_files(place / name, tasks_from)
                return
        self._say(
            f"role {name} is not on this machine",
            where,
            "put it into roles/ beside the playbook; a run installs nothing",
        )

    def _role_files(self, directory: Path, tasks_from: str) -> None:
        for name in (f"tasks/{tasks_from}", "handlers/main"):
            for path in (directory / f"{name}.yml", directory / f"{name}.yaml", directory / name):
                self._task_file(path)
        if (document := self._read(directory / "meta/main.yml", "role's meta file")) is not None:
            meta = document.data if isinstance(document.data, dict) else {}
            for index, role in enumerate(_list(meta.get("dependencies"))):
                self._role(_role_name(role), _where(document, ("dependencies", index)))

    def _task_file(self, path: Path) -> None:
        if (document := self._read(path, "file of tasks")) is not None:
            self._tasks(document.data, (), document, path)

    def _tasks(self, tasks: object, place: Place, document: Document, path: Path) -> None:
        for index, task in enumerate(tasks if isinstance(tasks, list) else []):
            if not isinstance(task, dict):
                continue
            here = (*place, index)
            for part in ("block", "rescue", "always"):
                self._tasks(task.get(part), (*here, part), document, path)
            self._delegated(task, here, document)
            if (
                module := next((key for key in task if key not in _KEYWORDS and not key.startswith("with_")), None)
            ) is None:
                continue
            where = _where(document, (*here, module))
            if _FQCN.fullmatch(module) and not module.startswith(("ansible.builtin.", "ansible.legacy.")):
                self._collection(".".join(module.split(".")[:2]), where)
            self._module(module.rpartition(".")[2], task[module], task.get("args"), where, path)

    def _module(self, name: str, arguments: object, more: object, where: str, path: Path) -> None:
        if name in _INCLUDES or name in _ROLES:
            self._include(name, arguments, where, path)
            return
        for message, remedy in self.wants.of(name, arguments, more):
            self._say(message, where, remedy)

    def _include(self, name: str, arguments: object, where: str, path: Path) -> None:
        fields = arguments if isinstance(arguments, dict) else {}
        if name in _ROLES:
            self._role(fields.get("name"), where, str(fields.get("tasks_from", "main")).removesuffix(".yml"))
            return
        file = fields.get("file", arguments)
        if isinstance(file, str) and "{{" not in file:
            for place in (path.parent, path.parent.parent / "tasks", path.parent.parent):
                if (place / file).is_file():
                    self._task_file(place / file)
                    return

    # -- what is wanted ------------------------------------------------------------------

    def _collection(self, name: str, where: str) -> bool:
        if name in ("ansible.builtin", "ansible.legacy") or name.count(".") != 1:
            return True
        if any((place / "ansible_collections" / name.replace(".", "/")).is_dir() for place in self._collections):
            return True
        remedy = f"in peacetime: ansible-galaxy collection install {name} -p collections, beside the playbook"
        self._say(f"collection {name} is not on this machine", where, remedy)
        return False

    def _delegated(self, task: dict[str, Any], place: Place, document: Document) -> None:
        to = task.get("delegate_to")
        if not isinstance(to, str) or "{{" in to or to in HERE:
            return
        where = _where(document, (*place, "delegate_to"))
        if self.wants.outside(to):
            remedy = "a run must not reach it: delegate elsewhere"
            self._say(f"delegate_to {to} is outside the site's host networks", where, remedy)
        else:
            remedy = "make it a playbook of that host's own group, which this group requires"
            self._say(f"delegate_to {to}: a slice knows the variables of its own hosts only", where, remedy)

    def _requirements(self, path: Path) -> None:
        if (document := self._read(path, "requirements file")) is None:
            return
        data = document.data
        sections = data if isinstance(data, dict) else {"roles": data}
        for section in ("roles", "collections"):
            for index, wanted in enumerate(_list(sections.get(section))):
                place = (section, index) if isinstance(data, dict) else (index,)
                fields = wanted if isinstance(wanted, dict) else {"name": wanted}
                name = str(fields.get("name") or fields.get("src") or "")
                where = _where(document, place)
                if section == "collections":
                    self._collection(name, where)
                elif name and not any(
                    (found / name.rpartition("/")[2].removesuffix(".git")).is_dir() for found in self._paths
                ):
                    self._say(
                        f"role {name} is required and not on this machine",
                        where,
                        "ansible-galaxy role install it in peacetime, into roles/ beside the playbook",
                    )


def _config(directory: Path) -> Mapping[str, str]:
    """``[defaults]`` of the ansible.cfg that a slice would use."""
    for place in (directory, directory.parent):
        if (place / "ansible.cfg").is_file():
            parser = configparser.ConfigParser(interpolation=None, strict=False)
            try:
                parser.read(place / "ansible.cfg")
            except (configparser.Error, UnicodeDecodeError):
                return {}
            return dict(parser["defaults"]) if parser.has_section("defaults") else {}
    return {}


def _listed(paths: str, directory: Path) -> Iterator[Path]:
    return (directory / Path(path).expanduser() for path in paths.split(":") if path)


def _where(document: Document, place: Place) -> str:
    for end in range(len(place), -1, -1):
        if found := document.places.get(place[:end]):
            return found
    return ""


def _short(path: Path) -> str:
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else [] if value is None else [value]


def _role_name(role: object) -> object:
    return role.get("role", role.get("name")) if isinstance(role, dict) else role
