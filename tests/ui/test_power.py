"""``bootorch power`` up to the engine: what the options mean, what needs a word, and what is never sent."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from bootorch.core.reasons import Reason
from bootorch.runtime import targets
from bootorch.runtime.targets import Selection, Target
from bootorch.ui import cli, power
from bootorch.ui.powerservices import Limits, Request, Row, Verb


class Recorder:
    """Power services that resolve for real, and answer without a network."""

    def __init__(self, *, stop_after: int = 1 << 30, failing: frozenset[str] = frozenset()) -> None:
        self.asked: list[tuple[Request, list[str], Limits]] = []
        self.selection = Selection()
        self._stop_after = stop_after
        self._failing = failing

    def targets(self, selection: Selection, ask: Callable[[str], str] | None) -> Sequence[Target]:
        self.selection = selection
        return targets.resolve(selection, ask)

    def perform(
        self, request: Request, targets: Sequence[Target], limits: Limits, ended: Callable[[Row], None]
    ) -> None:
        self.asked.append((request, [target.name for target in targets], limits))
        for number, target in enumerate(reversed(targets)):
            if number == self._stop_after:
                raise KeyboardInterrupt
            if target.name in self._failing:
                ended(Row(target.name, "", Reason.BMC_AUTH_FAILED, "refused", 1, 0.5))
            else:
                ended(Row(target.name, "on", Reason.OK, "", 1, 0.1))

    def console(self, request: Request, target: Target, limits: Limits) -> Row:
        self.asked.append((request, [target.name], limits))
        return Row(target.name, "console closed", Reason.OK, "", 1, 2.0)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def login(tmp_path: Path) -> list[str]:
    path = tmp_path / "pw"
    path.write_text("s3cretpw\n")
    path.chmod(0o600)
    return ["--user", "admin", "--password-file", str(path)]


def run(services: Recorder, *words: str) -> int:
    verb = words[0] if words else ""
    return cli.power(lambda app: power.add_to(app, services, verb), ["power", *words])


def test_status_as_json_in_the_order_given(login: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    services = Recorder(failing=frozenset(["127.0.0.2"]))
    code = run(services, "status", "--bmc", "127.0.0.[3-1]", *login, "--json")
    assert code == 2
    assert not services.asked
    assert "runs backwards" in json.loads(capsys.readouterr().out)["problems"][0]["message"]
    code = run(services, "status", "--bmc", "127.0.0.3", "--bmc", "127.0.0.[1-2]", *login, "--json", "--port", "10623")
    assert code == 3
    document = json.loads(capsys.readouterr().out)
    assert [entry["target"] for entry in document["targets"]] == ["127.0.0.3", "127.0.0.1", "127.0.0.2"]
    assert [entry["error"] for entry in document["targets"]] == [None, None, "bmc_auth_failed"]
    assert services.selection.port == 10623


def test_people_get_data_on_stdout_and_talk_on_stderr(login: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(Recorder(), "status", "--bmc", "127.0.[0-1].[1-9]", *login) == 0
    said = capsys.readouterr()
    assert said.out == "127.0.[0-1].[1-9] (18): on\n"
    assert said.err.startswith("18 on; 18 in ")


def test_what_the_options_mean(login: list[str]) -> None:
    services = Recorder()
    words = ["--timeout", "3", "--window", "7", "--privilege", "operator", "--suite", "3", "--suite", "17"]
    assert run(services, "status", "--bmc", "127.0.0.1", *login, *words) == 0
    assert services.asked[-1][2] == Limits(3.0, 7, "operator")
    assert services.selection.suites == (3, 17)


@pytest.mark.parametrize(
    ("words", "request_"),
    [
        (["on", "--wait"], Request(Verb.ON, wait=True)),
        (["identify"], Request(Verb.IDENTIFY, seconds=15)),
        (["identify", "--seconds", "9"], Request(Verb.IDENTIFY, seconds=9)),
        (["identify", "--off"], Request(Verb.IDENTIFY, seconds=0)),
        (["identify", "--forever"], Request(Verb.IDENTIFY, seconds=None)),
        (["bootdev", "pxe"], Request(Verb.BOOTDEV, device="pxe")),
        (
            ["bootdev", "bios", "--persistent", "--legacy"],
            Request(Verb.BOOTDEV, device="bios", persistent=True, efi=False),
        ),
        (["bootdev", "disk", "--efi"], Request(Verb.BOOTDEV, device="disk", efi=True)),
        (["policy"], Request(Verb.POLICY)),
        (["policy", "--set", "always-on"], Request(Verb.POLICY, policy="always-on")),
        (["sel"], Request(Verb.SEL)),
        (["sel", "--since", "2h", "--last", "5"], Request(Verb.SEL, since_s=7200.0, last=5)),
        (["info"], Request(Verb.INFO)),
        (["sensors"], Request(Verb.SENSORS)),
        (["off"], Request(Verb.OFF)),
    ],
)
def test_verbs(words: list[str], request_: Request, login: list[str]) -> None:
    services = Recorder()
    assert run(services, *words, "--bmc", "127.0.0.1", *login) == 0
    assert services.asked[0][0] == request_


@pytest.mark.parametrize(
    "words",
    [
        ["identify", "--off", "--forever"],
        ["identify", "--seconds", "256"],
        ["bootdev", "floppy"],
        ["policy", "--set", "off"],
        ["sel", "--since", "yesterday"],
        ["status", "--suite", "0"],
        ["status", "--ipmi", "3.0"],
        ["status", "--timeout", "0"],
        ["status", "--timeout", "nan"],
        ["status", "--timeout", "inf"],
        ["console", "--for", "nan"],
        ["status", "--window", "0"],
        ["status", "--port", "65536"],
        ["status", "--password", "s3cretpw"],
        ["nosuchverb"],
    ],
)
def test_what_cannot_be_meant_is_refused(
    words: list[str], login: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    services = Recorder()
    assert run(services, *words, "--bmc", "127.0.0.1", *login) == 2
    assert not services.asked
    capsys.readouterr()
    assert run(services, *words, "--bmc", "127.0.0.1", *login, "--json") == 2
    told = json.loads(capsys.readouterr().out)
    assert (told["schema"], told["exit_code"]) == ("bootorch.error/1", 2)
    assert told["problems"][0]["message"]


def test_ctrl_c_before_anything_was_sent(capsys: pytest.CaptureFixture[str]) -> None:
    class Asked(Recorder):
        def targets(self, selection: Selection, ask: Callable[[str], str] | None) -> Sequence[Target]:
            raise KeyboardInterrupt

    assert run(Asked(), "status", "--json") == 5
    assert "nothing was sent" in json.loads(capsys.readouterr().out)["problems"][0]["message"]


# Safety


@pytest.mark.parametrize("verb", ["off", "soft", "cycle", "reset"])
def test_more_than_one_host_needs_the_count(verb: str, login: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    services = Recorder()
    words = [verb, "--bmc", "127.0.0.[1-48]", *login]
    assert run(services, *words) == 6
    said = capsys.readouterr()
    assert said.out == ""
    assert "48 hosts; nothing was sent" in said.err
    assert "--confirm 48" in said.err
    assert run(services, *words, "--confirm", "47") == 6
    assert not services.asked
    assert run(services, *words, "--confirm", "48") == 0
    assert len(services.asked[0][1]) == 48


def test_the_refusal_as_json(login: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(Recorder(), "reset", "--bmc", "127.0.0.[1-2]", *login, "--json") == 6
    document = json.loads(capsys.readouterr().out)
    assert (document["schema"], document["exit_code"]) == ("bootorch.error/1", 6)


@pytest.mark.parametrize("verb", ["status", "on", "identify", "info"])
def test_what_takes_nothing_down_needs_none(verb: str, login: list[str]) -> None:
    assert run(Recorder(), verb, "--bmc", "127.0.0.[1-9]", *login) == 0


def test_a_wrong_count_is_refused_for_one_host_too(login: list[str]) -> None:
    services = Recorder()
    assert run(services, "off", "--bmc", "127.0.0.1", *login, "--confirm", "2") == 6
    assert not services.asked
    assert run(services, "off", "--bmc", "127.0.0.1", *login) == 0


@pytest.mark.parametrize(("typed", "code"), [("3\n", 0), ("2\n", 6), ("yes\n", 6), ("", 6)])
def test_the_count_is_asked_for_at_a_terminal(
    typed: str, code: int, login: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setattr(sys, "stdin", Terminal(typed))
    screen = Terminal()
    monkeypatch.setattr(sys, "stderr", screen)
    services = Recorder()
    assert run(services, "off", "--bmc", "127.0.0.[1-3]", *login) == code
    assert bool(services.asked) is (code == 0)
    assert "127.0.0.[1-3] (3)\ntype 3 to power off 3 hosts: " in screen.getvalue()


# Being interrupted, and consoles


def test_what_had_ended_is_told_when_interrupted(login: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(Recorder(stop_after=2), "on", "--bmc", "127.0.0.[1-5]", *login, "--json") == 5
    entries = json.loads(capsys.readouterr().out)["targets"]
    assert [entry["error"] for entry in entries] == ["interrupted"] * 3 + [None] * 2


def test_a_console_is_of_one_host(login: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    services = Recorder()
    assert run(services, "console", "--bmc", "127.0.0.[1-2]", *login) == 2
    assert run(services, "console", "--bmc", "127.0.0.1", *login, "--json") == 2
    assert not services.asked
    log = tmp_path / "log"
    assert run(services, "console", "--bmc", "127.0.0.1", *login, "--log", str(log), "--for", "2", "--steal") == 0
    assert services.asked[0][0] == Request(Verb.CONSOLE, log=log, for_s=2.0, steal=True)
    said = capsys.readouterr()
    assert "127.0.0.1: console closed" in said.err


def test_every_verb_has_a_help(capsys: pytest.CaptureFixture[str]) -> None:
    for verb in Verb:
        assert run(Recorder(), verb.value, "--help") == 0
        assert "--bmc" in capsys.readouterr().out


# What is loaded


@pytest.mark.parametrize("words", [["--help"], ["status", "--bmc", "127.0.0.[1-2]", "--user", "u"]])
def test_a_power_command_loads_nothing_that_it_does_not_need(words: list[str]) -> None:
    """The second ends at the missing password, after everything that reading options needs."""
    heavy = ["asyncio", "asyncssh", "aiohttp", "rich", "pydantic", "ClusterShell", "yaml", "structlog", "tenacity"]
    ours = ["bootorch.core.model", "bootorch.core.engine", "bootorch.runs", "bootorch.lab"]
    program = (
        "import sys; from bootorch.app import main; code = main(['power', *sys.argv[1:]]); "
        f"print(sorted(set(sys.modules) & set({[*heavy, *ours] if words == ['--help'] else heavy})))"
    )
    environment = {"PATH": "/usr/bin"}
    done = subprocess.run(
        [sys.executable, "-c", program, *words],
        capture_output=True,
        text=True,
        check=True,
        env=environment,
        stdin=subprocess.DEVNULL,
        cwd=Path(__file__).parents[2],
    )
    assert done.stdout.splitlines()[-1] == "[]"
