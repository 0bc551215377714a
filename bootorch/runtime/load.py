"""From the path of a plan to a plan that may run: file, snapshot (or Ansible), compilation; all problems at once."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from bootorch.core.compile import compile_plan
from bootorch.core.errors import InvalidInput, Problem, SafetyRefusal
from bootorch.core.inventory import Inventory
from bootorch.core.model import Environment
from bootorch.core.patterns import select
from bootorch.core.plan import Plan
from bootorch.core.spec import PlanSpec
from bootorch.runtime import snapshot as snapshots
from bootorch.runtime.parameterfile import parse_parameters
from bootorch.runtime.planfile import missing_files, parse_plan, read_plan, with_names
from bootorch.runtime.snapshot import Snapshot
from bootorch.runtime.sources import Change
from bootorch.runtime.yamlfile import read_text
from bootorch.sim.estimates import known_hosts, with_estimates


@dataclass(frozen=True, slots=True)
class LoadedPlan:
    """A checked plan and everything that it was made of.

    ``plan_text``, ``snapshot.content`` and ``parameters_text`` (of the plan's ``parameters``, if it names a file) are
    what a journal keeps to load the same plan again. ``from_file``: the inventory came from the snapshot beside the
    plan rather than from Ansible just now; ``changes``: the sources that have changed since.
    """

    plan: Plan
    spec: PlanSpec
    inventory: Inventory
    snapshot: Snapshot
    plan_text: str
    from_file: bool
    changes: tuple[Change, ...] = ()
    warnings: tuple[Problem, ...] = ()
    parameters_text: str = ""


def load_plan(
    path: Path,
    *,
    vault_password_file: Path | None = None,
    require_snapshot: bool = False,
    allow_stale: bool = False,
    pass_env: Sequence[str] = (),
) -> LoadedPlan:
    """Load and check a plan.

    With ``require_snapshot`` only files are read: no process, no socket. Without it a missing or outdated snapshot is
    rendered in memory through Ansible. Raises InvalidInput with every problem, SafetyRefusal for a production plan
    whose required snapshot is out of date (unless ``allow_stale``), ToolError when Ansible is needed and not there.
    """
    with no_collection():
        return _load(path, vault_password_file, require_snapshot, allow_stale, pass_env)


def _load(
    path: Path, vault_password_file: Path | None, require_snapshot: bool, allow_stale: bool, pass_env: Sequence[str]
) -> LoadedPlan:
    spec, text = read_plan(path)
    parameters = _parameters_text(spec)
    place = snapshots.snapshot_path(path)
    found: Snapshot | None = None
    changes: tuple[Change, ...] = ()
    if require_snapshot or place.exists():
        found = _load_snapshot(place, path)
        changes = tuple(snapshots.stale(found, spec))
    if found is None or (changes and not require_snapshot):
        fresh = snapshots.render(spec, find_vault_password_file(vault_password_file), pass_env=pass_env)
        return _checked(spec, text, fresh, parameters, from_file=False)
    if changes and spec.environment is Environment.PRODUCTION and not allow_stale:
        raise SafetyRefusal(_stale_problem(changes, found, place, path))
    return _checked(spec, text, found, parameters, from_file=True, changes=changes, place=place, path=path)


def load_from_parts(
    plan_text: str,
    plan_dir: Path,
    content: bytes,
    name: str = "plan.yml",
    *,
    parameters_text: str = "",
    to_read: bool = False,
) -> LoadedPlan:
    """The same plan again from what a journal kept. Playbooks and known_hosts must still be there, unless the plan is
    loaded only ``to_read`` what happened."""
    with no_collection():
        spec = parse_plan(plan_text, plan_dir, name)
        snapshot = snapshots.parse(content, "the journal's snapshot")
        return _checked(spec, plan_text, snapshot, parameters_text, from_file=True, files=not to_read)


def select_limit(loaded: LoadedPlan, pattern: str | None) -> tuple[str, ...]:
    """The plan's hosts that ``--limit`` means; empty only when no limit was given. An empty limit never means all."""
    if pattern is None:
        return ()
    if not pattern.strip():
        remedy = "give a host pattern, or leave --limit out for the whole plan"
        raise InvalidInput(Problem("the limit is empty; an empty limit never means all", "--limit", remedy))
    chosen = tuple(name for name in select(loaded.inventory, pattern) if name in loaded.plan.hosts)
    if not chosen:
        remedy = "bootorch plan shows the plan's groups"
        raise InvalidInput(Problem(f"{pattern!r} means no host of the plan", "--limit", remedy))
    return chosen


@contextmanager
def no_collection() -> Iterator[None]:
    """Nothing that is loaded becomes garbage: looking for it costs a third of the time (as Mercurial's util.nogc)."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def find_vault_password_file(option: Path | None = None) -> Path | None:
    """The vault password file that was asked for, else Ansible's own ``$ANSIBLE_VAULT_PASSWORD_FILE``."""
    if option is not None:
        return option
    named = os.environ.get("ANSIBLE_VAULT_PASSWORD_FILE", "")
    return Path(named).expanduser() if named else None


def _load_snapshot(place: Path, plan: Path) -> Snapshot:
    if not place.exists():
        remedy = f"bootorch inventory snapshot {plan}"
        raise InvalidInput(Problem("the plan has no snapshot of its inventory", str(place), remedy))
    return snapshots.load(place)


def _stale_problem(changes: Sequence[Change], found: Snapshot, place: Path, plan: Path) -> Problem:
    shown = ", ".join(str(change) for change in changes[:5])
    more = f" and {len(changes) - 5} more" if len(changes) > 5 else ""
    return Problem(
        f"the snapshot of {found.created} is out of date: {shown}{more}",
        str(place),
        f"bootorch inventory snapshot {plan}; or say that the old one is meant (--allow-stale)",
    )


def _checked(
    spec: PlanSpec,
    text: str,
    snapshot: Snapshot,
    parameters_text: str,
    *,
    from_file: bool,
    changes: tuple[Change, ...] = (),
    place: Path | None = None,
    path: Path | None = None,
    files: bool = True,
) -> LoadedPlan:
    problems = missing_files(spec) if files else []
    try:
        spec = with_names(spec if files else replace(spec, to_read=True))
        compiled = compile_plan(spec, snapshot.inventory)
    except InvalidInput as error:
        raise InvalidInput([*problems, *error.problems]) from None
    except SafetyRefusal as error:
        if problems:
            raise InvalidInput([*problems, *error.problems]) from None
        raise
    if problems:
        raise InvalidInput(problems)
    warnings = [Problem(f"Ansible: {said}", ", ".join(snapshot.paths)) for said in snapshot.warnings]
    if changes and place is not None and path is not None:
        warnings.append(_stale_problem(changes, snapshot, place, path))
    plan = compiled.plan
    if spec.parameters and parameters_text:
        parameters = parse_parameters(parameters_text, spec.parameters)
        plan = with_estimates(plan, parameters)
        if files and not known_hosts(plan, parameters):
            message = f"{spec.parameters} knows the boots of none of the plan's hosts"
            remedy = "fit it from runs of this plan: bootorch forecast --fit RUN... -o FILE"
            warnings.append(Problem(message, spec.where("parameters"), remedy))
    return LoadedPlan(
        plan=plan,
        spec=spec,
        inventory=snapshot.inventory,
        snapshot=snapshot,
        plan_text=text,
        from_file=from_file,
        changes=changes,
        warnings=(*warnings, *compiled.warnings),
        parameters_text=parameters_text,
    )


def _parameters_text(spec: PlanSpec) -> str:
    """Of the file that the plan names. InvalidInput with the plan's line where it cannot be read."""
    if not spec.parameters:
        return ""
    try:
        return read_text(Path(spec.parameters), "parameter file")
    except InvalidInput as error:
        remedy = "write it: bootorch forecast --fit RUN... -o FILE; or take the key out of the plan"
        raise InvalidInput(
            replace(problem, where=spec.where("parameters"), remedy=remedy) for problem in error.problems
        ) from None
