"""Plan files: from text to a :class:`PlanSpec`, or to every fault at once with its line."""

from __future__ import annotations

import os.path
from collections.abc import Iterable, Mapping
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from bootorch.core.errors import InvalidInput, Problem
from bootorch.core.hostfacts import parse_ip
from bootorch.core.model import (
    AdoptedPolicy,
    Attempts,
    BootDevice,
    Breaker,
    Check,
    CommandCheck,
    Console,
    Deadlines,
    DnsCheck,
    Environment,
    FeedLimit,
    First,
    Gate,
    HttpCheck,
    Limits,
    Requirement,
    SecondBoot,
    Site,
    SshCheck,
    TcpCheck,
)
from bootorch.core.slots import BOOT, REDEPLOY
from bootorch.core.spec import BreakSpec, ControlSpec, GroupNeed, GroupSpec, Place, PlanSpec, SupplySpec, SwitchSpec
from bootorch.core.trust import parse_trust
from bootorch.runtime import planschema as schema
from bootorch.runtime.controlschema import ControlForm
from bootorch.runtime.limitschema import LimitsForm, SlotForm
from bootorch.runtime.planschema import plan_schema
from bootorch.runtime.schemafields import GroupNeed as GroupNeedForm
from bootorch.runtime.yamlfile import Document, parse, read_text

__all__ = ["missing_files", "parse_hosts", "parse_plan", "plan_schema", "read_plan", "with_names"]

_EXAMPLE = "see docs/plan-reference.md, and inventory/minimal/plan.yml for a small one"


def read_plan(path: Path) -> tuple[PlanSpec, str]:
    """A plan file and its text. Raises InvalidInput with every problem found."""
    text = read_text(path, "plan")
    return parse_plan(text, path.parent, str(path)), text


def parse_plan(text: str, directory: Path, name: str = "plan.yml") -> PlanSpec:
    """A plan from its text. Relative paths are taken from ``directory``; ``name`` is the file's name in messages."""
    document = parse(text, name)
    problems = list(document.problems)
    if document.data is None and not problems:
        raise InvalidInput(Problem("the plan is empty", name, _EXAMPLE))
    if not isinstance(document.data, dict):
        problems = problems or [Problem("the plan is not a mapping of keys to values", f"{name}:1", _EXAMPLE)]
        raise InvalidInput(problems)
    try:
        form = schema.PlanForm.model_validate(document.data)
    except ValidationError as error:
        problems += [_problem(detail, document) for detail in error.errors(include_url=False)]
        raise InvalidInput(sorted(problems, key=_line)) from None
    if problems:
        raise InvalidInput(problems)
    return _spec(form, directory.absolute(), document.places)


def missing_files(spec: PlanSpec) -> list[Problem]:
    """Playbooks, known_hosts and authorities of certificates that the plan names and that are not there."""
    problems = []
    for name, group in spec.groups.items():
        for index, playbook in enumerate(group.redeploy):
            if not Path(playbook).is_file():
                where = spec.where("groups", name, "redeploy", index)
                message = f"group {name}: there is no playbook {playbook}"
                problems.append(Problem(message, where, "paths are relative to the plan file"))
    if spec.known_hosts and not Path(spec.known_hosts).is_file():
        where = spec.where("known_hosts")
        remedy = "collect the host keys in peacetime (ssh-keyscan, then compare): verification is never off"
        problems.append(Problem(f"there is no known_hosts file {spec.known_hosts}", where, remedy))
    for path, limit in spec.limits.feeds.items():
        meter = limit.meter.redfish if limit.meter is not None else None
        ca = parse_trust(meter.tls).ca if meter is not None else ""
        if ca and not Path(_path(Path(spec.directory), ca)).is_file():
            where = spec.where("limits", "feeds", path, "meter", "tls")
            problems.append(Problem(f"there is no file {ca}", where, "paths are relative to the plan file"))
    return problems


def with_names(spec: PlanSpec) -> PlanSpec:
    """The plan with the addresses of its hosts file, if it names one. Raises InvalidInput with every bad line."""
    path = spec.control.hosts_file
    if not path or (spec.to_read and not Path(path).is_file()):
        return spec
    try:
        text = read_text(Path(path), "hosts file")
    except InvalidInput as error:
        where = spec.where("control", "hosts_file")
        raise InvalidInput(replace(problem, where=where) for problem in error.problems) from None
    return replace(spec, names=parse_hosts(text, path))


def parse_hosts(text: str, name: str = "hosts") -> dict[str, str]:
    """Names and their addresses from a text in the format of /etc/hosts (hosts(5)): an address, its names, a comment.

    Names are in lower case. Raises InvalidInput with every line that is none, and names with two addresses of a kind.
    """
    names: dict[str, str] = {}
    problems: list[Problem] = []
    for number, line in enumerate(text.splitlines(), 1):
        words = line.partition("#")[0].split()
        if not words:
            continue
        where, address = f"{name}:{number}", parse_ip(words[0])
        if address is None:
            problems.append(Problem(f"{words[0]!r} is no IP address", where, "write: ADDRESS NAME [NAME...]"))
        elif len(words) == 1:
            problems.append(Problem(f"{words[0]} has no name", where, "write: ADDRESS NAME [NAME...]"))
        else:
            for word in words[1:]:
                other = names.setdefault(word.lower(), str(address))
                if other != str(address):
                    message = f"{word} has two addresses: {other} and {address}"
                    problems.append(Problem(message, where, "leave the one that is used in the dark"))
    if problems:
        raise InvalidInput(problems)
    return names


def _problem(detail: ErrorDetails, document: Document) -> Problem:
    place = _place(detail["loc"], document.data)
    shown = _dotted(place)
    match detail["type"]:
        case "extra_forbidden":
            close = get_close_matches(str(place[-1]), _KEYS, n=1)
            remedy = f"did you mean {close[0]}?" if close else "remove it"
            if place[-1] in _KEYS:
                remedy = "it is a key of another place; bootorch schema has the keys of each"
            message = f"unknown key {place[-1]}" + (f" in {_dotted(place[:-1])}" if place[:-1] else "")
        case "missing":
            message, remedy = f"{detail['loc'][-1]} is missing" + (f" in {shown}" if place else ""), _EXAMPLE
        case "model_type" | "dict_type" | "model_attributes_type":
            message, remedy = f"{shown} must be a mapping of keys to values", _EXAMPLE
        case "string_pattern_mismatch":
            message, remedy = f"the name {detail['input']!r} may hold letters, digits, dots, - and _ only", "rename it"
        case "string_type":
            message, remedy = f"{shown} must be text", "put it in quotes"
        case "too_short":
            message, remedy = f"{shown} is empty", "name at least one"
        case "list_type":
            message, remedy = f"{shown} must be a list", "put it in brackets: [one, two]"
        case _:
            said = detail["msg"].removeprefix("Value error, ").replace("Input should be", "must be")
            message, remedy = f"{shown}: {said}", ""
    return Problem(message, _where(document.places, place), remedy)


def _line(problem: Problem) -> int:
    return int(problem.where.rpartition(":")[2] or 0)


def _place(location: Iterable[int | str], data: object) -> Place:
    """The part of pydantic's location that is in the file; names of alternatives (unions) and of keys are left out."""
    place: list[int | str] = []
    node = data
    for step in location:
        if isinstance(node, dict) and step in node:
            node = node[step]
        elif isinstance(node, list) and isinstance(step, int) and step < len(node):
            node = node[step]
        else:
            continue
        place.append(step)
    return tuple(place)


def _where(places: Mapping[Place, str], place: Place) -> str:
    return next((places[place[:end]] for end in range(len(place), -1, -1) if place[:end] in places), "")


def _dotted(place: Place) -> str:
    """``groups.web.requires[0]``."""
    text = ""
    for step in place:
        text += f"[{step}]" if isinstance(step, int) else f".{step}"
    return text.removeprefix(".") or "the plan"


def _spec(form: schema.PlanForm, directory: Path, places: Mapping[Place, str]) -> PlanSpec:
    inventory = [form.inventory] if isinstance(form.inventory, str) else form.inventory
    return PlanSpec(
        name=form.name,
        environment=Environment(form.environment),
        site=Site(tuple(form.site.bmc_networks), tuple(form.site.host_networks)),
        inventory=tuple(_path(directory, path) for path in inventory),
        groups={name: _group(group, form.defaults, directory) for name, group in form.groups.items()},
        limits=Limits(
            feeds={**{path: feed.limit() for path, feed in form.limits.feeds.items()}, **_supply_limits(form.limits)},
            slots={name: slot if isinstance(slot, int) else slot.limit for name, slot in form.limits.slots.items()},
            adaptive=_adaptive(form.limits),
            breaker=Breaker(**dict(form.limits.breaker)),
            measure=form.limits.measure,
            during=_during(form.limits),
        ),
        gates={name: _gate(name, gate) for name, gate in form.gates.items()},
        known_hosts=_path(directory, form.known_hosts) if form.known_hosts else "",
        parameters=_path(directory, form.parameters) if form.parameters else "",
        directory=str(directory),
        places=places,
        supplies={name: SupplySpec(supply.fact, supply.draw) for name, supply in form.limits.supplies.items()},
        control=_control(form.control, directory),
        mitogen=form.ansible.mitogen,
    )


def _supply_limits(limits: LimitsForm) -> dict[str, FeedLimit]:
    """Supplies are feeds by another name: ``cooling:crac-1``."""
    return {
        f"{name}:{path.strip('/')}": FeedLimit(budget.budget, budget.ramp_per_min)
        for name, supply in limits.supplies.items()
        for path, budget in supply.budgets.items()
    }


def _adaptive(limits: LimitsForm) -> dict[str, int]:
    """The least that each adaptive slot shrinks to. A sixteenth is four halvings: what still overloads then has
    another cause."""
    return {
        name: slot.least or max(1, slot.limit // 16)
        for name, slot in limits.slots.items()
        if isinstance(slot, SlotForm) and slot.adaptive
    }


def _during(limits: LimitsForm) -> dict[str, tuple[str, ...]]:
    """The slots that are not held from power-on to proof of boot alone. Artefacts are fetched by playbooks."""
    found: dict[str, tuple[str, ...]] = {
        name: (REDEPLOY,) if name == "artefact_server" else (BOOT,) for name in limits.slots
    }
    found |= {
        name: tuple(sorted(set(slot.during)))
        for name, slot in limits.slots.items()
        if isinstance(slot, SlotForm) and slot.during
    }
    return {name: stages for name, stages in found.items() if stages != (BOOT,)}


def _control(form: ControlForm, directory: Path) -> ControlSpec:
    switch = form.switch
    return ControlSpec(
        switch=SwitchSpec(switch.group or "", switch.per_host or "", switch.quorum, switch.fact or "")
        if switch
        else None,
        dhcp=_group_need(form.dhcp) if form.dhcp else None,
        dns=_group_need(form.dns) if form.dns else None,
        credentials={name: _group_need(need) for name, need in form.credentials.items()},
        feeds={path.strip("/"): _group_need(need) for path, need in form.feeds.items()},
        hosts_file=_path(directory, form.hosts_file) if form.hosts_file else "",
        breaks=tuple(BreakSpec(item.need, item.hosts, item.by, item.ask.strip()) for item in form.breaks),
    )


def _group_need(form: str | GroupNeedForm) -> GroupNeed:
    return GroupNeed(form) if isinstance(form, str) else GroupNeed(form.group, form.quorum)


def _first(form: str | list[str] | schema.FirstForm | None) -> First | None:
    match form:
        case None:
            return None
        case str():
            return First((form,))
        case list():
            return First(tuple(form))
        case _:
            return First(tuple(form.candidates), form.ask)


def _group(group: schema.GroupForm, defaults: schema.DefaultsForm, directory: Path) -> GroupSpec:
    device = group.boot_device or defaults.boot_device
    return GroupSpec(
        pattern=group.hosts,
        tier=group.tier,
        requires=tuple(_requirement(item) for item in group.requires),
        after=tuple(group.after),
        first=_first(group.first),
        ready=(SshCheck(),) if group.ready is None else tuple(_check(check) for check in group.ready),
        verify=tuple(_check(check) for check in group.verify),
        redeploy=tuple(_path(directory, path) for path in group.redeploy),
        together=group.together,
        power=group.power or defaults.power or "ipmi",
        boot_device=BootDevice(device) if device else BootDevice.NONE,
        second_boot=SecondBoot(group.second_boot),
        console=Console(group.console or defaults.console or Console.BOOT),
        adopted=AdoptedPolicy(group.adopted),
        deadlines=replace(Deadlines(), **{**_given(defaults.deadlines), **_given(group.deadlines)}),
        attempts=replace(Attempts(), **{**_given(defaults.attempts), **_given(group.attempts)}),
    )


def _given(form: BaseModel) -> dict[str, Any]:
    return {name: value for name, value in form if value is not None}


def _requirement(item: str | schema.RequirementForm) -> Requirement:
    if isinstance(item, str):
        return Requirement(item)
    return Requirement(item.group, item.quorum, item.across_racks or 0, item.per_host)


def _check(form: str | BaseModel) -> Check:
    match form:
        case schema.TcpForm(tcp=port):
            return TcpCheck(port)
        case schema.HttpForm(http=str(url)):
            return HttpCheck(url)
        case schema.HttpForm(http=schema.HttpArgs(url=url, status=status)):
            return HttpCheck(url, status)
        case schema.DnsForm(dns=dns):
            return DnsCheck(dns.name, dns.expect, dns.port)
        case schema.CommandForm(command=str(command)):
            return CommandCheck(command)
        case schema.CommandForm(command=schema.CommandArgs(run=command, expect=expect)):
            return CommandCheck(command, expect)
        case _:
            return SshCheck()


def _gate(name: str, form: schema.GateForm) -> Gate:
    check = _check(form.check) if form.check else None
    return Gate(name, form.ask, check, tuple(form.groups), form.wait, form.at or "")


def _path(directory: Path, path: str) -> str:
    """Absolute and without ``..``, so that what is compared and recorded is one spelling."""
    return os.path.normpath(directory / Path(path).expanduser())


_KEYS = sorted({key for form in schema.FORMS for key in form.model_fields})
