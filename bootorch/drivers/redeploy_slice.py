"""What one slice looks like to ansible-playbook, and what its statistics say. Pure: values in, values out."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypedDict

from bootorch.core.model import Host, Site
from bootorch.core.reasons import Reason
from bootorch.drivers.protocols import Slice, SliceReply, Verdict

JSON = Any  # what json.loads gives: the standard library has no better name for it
Variables = Mapping[str, JSON]

# Carried by the worker and everything below it, see drivers.processes.
MARK = "BOOTORCH_SLICE"

_SSH_ARGUMENTS = ("ansible_ssh_args", "ansible_ssh_common_args", "ansible_ssh_extra_args")
_NOT_RENDERED = frozenset(
    {
        "ansible_ssh_host",  # older name of ansible_host, which is rendered from the plan
        "ansible_host_key_checking",  # verification is never off
        "ansible_ssh_host_key_checking",
        "ansible_paramiko_host_key_checking",
    }
)
# ssh(1) flags and ssh_config(5) options with which a connection goes elsewhere than to ansible_host.
_ELSEWHERE_FLAGS = re.compile(r"-[A-Za-z0-9]*[JFWS]")
_ELSEWHERE_OPTIONS = frozenset({"proxyjump", "proxycommand", "proxyusefdpass", "hostname", "include"})
_OWN_KNOWN_HOSTS = re.compile(r"\bUserKnownHostsFile\b", re.IGNORECASE)


class SliceReport(TypedDict):
    """What the worker hands back. ``stats`` are those of ``playbook_on_stats``: counters by host name, or None."""

    end: str  # "finished", "deadline", "not_installed", "error"
    stats: dict[str, dict[str, int]] | None
    trouble: dict[str, str]  # host: its last failed or unreachable task and the message, no_log respected
    output: dict[str, str]  # host: what that task wrote, a few lines
    task: str  # the task that was started last
    error: str  # the last error that belongs to no host


def refusals(site: Site, hosts: Sequence[Host], variables: Mapping[str, Variables]) -> dict[str, str]:
    """Hosts that ansible must not be started for, and why: the fence, seen to again right before the start."""
    found: dict[str, str] = {}
    for host in hosts:
        own = variables.get(host.name, {})
        addresses = [host.address, *(own[name] for name in ("ansible_host", "ansible_ssh_host") if name in own)]
        outside = [address for address in addresses if not isinstance(address, str) or not site.allows_host(address)]
        # A templated ansible_host was resolved into host.address by whoever made the plan, and is not rendered.
        outside = [address for address in outside if not (isinstance(address, str) and "{{" in address)]
        arguments = [own[name] for name in _SSH_ARGUMENTS if name in own]
        if outside:
            found[host.name] = f"ansible_host {outside[0]!s} is outside the site's host networks; nothing was started"
        elif not all(isinstance(argument, str) for argument in arguments):
            found[host.name] = "its ssh arguments are not plain text: where they lead cannot be checked"
        elif any(_leads_elsewhere(argument) for argument in arguments):
            found[host.name] = (
                "its ssh arguments may lead to another address (a jump host, a proxy), past the site's fence"
            )
    return found


def _leads_elsewhere(arguments: str) -> bool:
    try:
        words = shlex.split(arguments)
    except ValueError:
        return True
    options = [
        word[2:] or following for word, following in zip(words, [*words, ""][1:], strict=True) if word[:2] == "-o"
    ]
    names = {re.split(r"[\s=]", option.strip(), maxsplit=1)[0].lower() for option in options}
    # A word that begins with a template can become anything; a template inside an option's value cannot.
    return bool(names & _ELSEWHERE_OPTIONS) or any(
        word.startswith("{{") or _ELSEWHERE_FLAGS.match(word) for word in words if not word.startswith("-o")
    )


def inventory(
    hosts: Sequence[Host],
    variables: Mapping[str, Variables],
    groups: Mapping[str, Sequence[str]],
    known_hosts: Path | None,
) -> dict[str, JSON]:
    """The slice's own inventory, for Ansible's ``yaml`` inventory plugin (of which JSON is a part).

    Host variables go in as they came (``{"__ansible_vault": …}`` is decrypted by ansible itself, in memory), with
    three exceptions: ``ansible_host`` is the address that the fence has seen, host key checking cannot be switched
    off, and ``ansible_ssh_args`` keeps our verification in front (OpenSSH takes the first value of an option).
    Groups without a host of the slice are left out, so that a template that needs their members fails and says so,
    instead of rendering an empty list.
    """
    names = {host.name for host in hosts}
    members = {
        group: sorted(names.intersection(listed))
        for group, listed in groups.items()
        if group not in ("all", "ungrouped")
    }
    return {
        "all": {
            "hosts": {host.name: _host_variables(host, variables.get(host.name, {}), known_hosts) for host in hosts}
        },
        **{group: {"hosts": {name: {} for name in inside}} for group, inside in sorted(members.items()) if inside},
    }


def _host_variables(host: Host, own: Variables, known_hosts: Path | None) -> dict[str, JSON]:
    rendered = {name: value for name, value in own.items() if name not in _NOT_RENDERED}
    rendered["ansible_host"] = host.address
    said = [rendered[name] for name in _SSH_ARGUMENTS if name in rendered]
    names_known_hosts = any(_OWN_KNOWN_HOSTS.search(argument) for argument in said)
    if names_known_hosts or "ansible_ssh_args" in rendered:
        base = ssh_arguments(None if names_known_hosts else known_hosts)
        rendered["ansible_ssh_args"] = f"{base} {rendered.get('ansible_ssh_args', '')}".strip()
    return rendered


def ssh_arguments(known_hosts: Path | None) -> str:
    """Arguments of every ssh, before any of the inventory's own."""
    options = [
        "-F none",  # the user's ssh_config could lead around the fence
        "-o ControlMaster=auto",
        "-o ControlPersist=60s",
        "-o StrictHostKeyChecking=yes",
        "-o UpdateHostKeys=no",
    ]
    if known_hosts:
        path = str(known_hosts).replace("%", "%%")  # ssh_config(5), TOKENS
        options.append("-o " + shlex.quote(f'UserKnownHostsFile="{path}"'))
    return " ".join(options)


# Where the playbooks bring no ansible.cfg of their own. The interval has no environment variable. A strategy looks at
# every host of its slice each time: with 40 hosts that wait for their tasks, 20 ms take a ninth of a core and 50 ms a
# thirtieth, and four slices run at a time. A result waits 25 ms longer for it, of some hundreds.
ANSIBLE_CFG = "[defaults]\ninternal_poll_interval = 0.05\n"

# Of the operator's environment, what finding programs, keys, roles and a language takes. ANSIBLE_* is not among it:
# ANSIBLE_HOST_KEY_CHECKING=False in a forgotten profile must not reach a recovery.
_KEPT = (
    "HOME",
    "USER",
    "LOGNAME",
    "TMPDIR",
    "TZ",
    "SSH_AUTH_SOCK",
    "KRB5CCNAME",
    "PYTHONPATH",
    "VIRTUAL_ENV",
    "ANSIBLE_ROLES_PATH",
    "ANSIBLE_COLLECTIONS_PATH",
)


def environment(
    base: Mapping[str, str],
    *,
    programs: Path,
    directory: Path,
    control_directory: Path,
    playbook: Path,
    known_hosts: Path | None,
    vault_password_file: Path | None,
    mitogen: Path | None = None,
) -> dict[str, str]:
    """The environment of worker and ansible-playbook: settings (docs.ansible.com, Ansible Configuration Settings) and
    paths, never a variable of a host.

    ``programs`` is searched for ansible-playbook first. An ``ansible.cfg`` beside the playbook or one level above is
    read, else the one of ``directory``: never the user's or the system's. Where it disagrees with the settings here,
    these win. ``mitogen``: where its strategy plugins are, to run with one of them.
    """
    config = next((path for path in _config_places(playbook) if path.is_file()), directory / "ansible.cfg")
    settings = {
        "CONFIG": str(config),
        "HOST_KEY_CHECKING": "True",
        "PIPELINING": "True",  # 5 x the wall time without
        "SSH_ARGS": ssh_arguments(known_hosts),
        "SSH_CONTROL_PATH_DIR": str(control_directory),
        "PERSISTENT_CONTROL_PATH_DIR": str(control_directory),
        "LOCAL_TEMP": str(directory / "tmp"),
        "TIMEOUT": "10",
        "STRATEGY": "host_pinned",
        "INJECT_FACT_VARS": "False",
        "CACHE_PLUGIN": "memory",  # facts from before the blackout are stale
        "RETRY_FILES_ENABLED": "False",
        "INVENTORY_ENABLED": "yaml",
        "INVENTORY_ANY_UNPARSED_IS_FAILED": "True",
        "NOCOLOR": "1",
        "VERBOSITY": "0",  # more of it shows arguments and results of every task
        "DEBUG": "False",
        "LOG_PATH": "/dev/null",  # what ansible says is read here, and kept nowhere else
        "DEPRECATION_WARNINGS": "False",
    }
    if mitogen:
        settings |= {"STRATEGY": "mitogen_host_pinned", "STRATEGY_PLUGINS": str(mitogen)}
    if vault_password_file:
        settings["VAULT_PASSWORD_FILE"] = str(vault_password_file)
    return {
        **{name: base[name] for name in _KEPT if name in base},
        "PATH": f"{programs}:{base.get('PATH', '/usr/local/bin:/usr/bin:/bin')}",
        "LC_ALL": "C.UTF-8",  # ansible refuses to start without UTF-8
        MARK: str(directory),
        **{f"ANSIBLE_{name}": value for name, value in settings.items()},
    }


def _config_places(playbook: Path) -> tuple[Path, Path]:
    return playbook.parent / "ansible.cfg", playbook.parent.parent / "ansible.cfg"


NOT_INSTALLED = "ansible is not installed: pip install 'bootorch[ansible]'"


def slice_reply(work: Slice, report: SliceReport, timeout_s: float) -> SliceReply:
    """Verdicts from the statistics and never from the exit code, which is 4 for failed plus unreachable too."""
    stats = report["stats"]
    if stats is not None and report["end"] == "finished":
        verdicts = {host.name: _verdict(host.name, stats, report) for host in work.hosts}
        return SliceReply(Reason.OK, _summary(verdicts), verdicts)
    if report["end"] == "not_installed":
        return same_for_all(work, Reason.SLICE_LOST, NOT_INSTALLED, Reason.NEVER_RAN)
    during = f" in task {report['task']!r}" if report["task"] else ""
    if report["end"] == "deadline":
        detail = f"stopped after {timeout_s:.3g} s{during}"
        return same_for_all(work, Reason.REDEPLOY_DEADLINE, detail, Reason.SLICE_LOST)
    detail = f"ansible-playbook ended without statistics{during}"
    if report["error"]:
        detail += f": {report['error']}"
    return same_for_all(work, Reason.SLICE_LOST, detail, Reason.SLICE_LOST)


def same_for_all(work: Slice, reason: Reason, detail: str, verdict: Reason) -> SliceReply:
    return SliceReply(reason, detail, {host.name: Verdict(verdict, detail) for host in work.hosts})


def _verdict(host: str, stats: Mapping[str, Mapping[str, int]], report: SliceReport) -> Verdict:
    changed = stats["changed"].get(host, 0)
    said, output = report["trouble"].get(host), report["output"].get(host, "")
    if stats["dark"].get(host):
        return Verdict(Reason.DARK, said or "the playbook lost the host", changed, output)
    if stats["failures"].get(host):
        return Verdict(Reason.TASK_FAILED, said or "a task failed; its message was lost", changed, output)
    if not stats["processed"].get(host):
        return Verdict(Reason.NEVER_RAN, "the playbook ended without touching this host", changed)
    return Verdict(Reason.OK, f"{changed} changed", changed)


def _summary(verdicts: Mapping[str, Verdict]) -> str:
    counts: dict[str, int] = {}
    for verdict in verdicts.values():
        counts[verdict.reason] = counts.get(verdict.reason, 0) + 1
    return ", ".join(f"{count} {reason}" for reason, count in sorted(counts.items()))
