"""The command line: what goes where, and with which exit code."""

from __future__ import annotations

import io
import json
import os
import pty
import subprocess
import sys
import threading
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from bootorch import __version__
from bootorch.core.codec import decode
from bootorch.core.errors import Problem
from bootorch.core.model import Environment
from bootorch.core.words import Order
from bootorch.ui import cli
from bootorch.ui.services import ResumeRequest, RunRequest
from tests.ui.example import demo_world
from tests.ui.services import WorldServices
from tests.ui.world import World


@dataclass
class Said:
    code: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, object]:
        document = json.loads(self.out)
        assert isinstance(document, dict)
        return document


class Shell:
    """One command after another against the same services."""

    def __init__(self, services: WorldServices, capsys: pytest.CaptureFixture[str]) -> None:
        self.services = services
        self._capsys = capsys

    def __call__(self, *words: str) -> Said:
        hook = sys.excepthook
        try:
            code = cli.main(self.services, words)
        finally:
            sys.excepthook = hook
        said = self._capsys.readouterr()
        return Said(code, said.out, said.err)


@pytest.fixture
def plan_file(tmp_path: Path) -> str:
    (tmp_path / "plan.yml").write_text("name: x\n")
    return str(tmp_path / "plan.yml")


@pytest.fixture
def shell(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Shell:
    return Shell(WorldServices(demo_world(), tmp_path), capsys)


def small_world() -> World:
    """Everything goes well."""
    world = demo_world()
    return World(world.plan, approvals={"stable-power": (1.0, "kim")})


def test_version(shell: Shell) -> None:
    assert shell("--version").out == shell("version").out == f"{__version__}\n"


@pytest.mark.parametrize("words", [(), ("bogus",), ("run",), ("run", "p.yml", "--bogus"), ("plan",), ("gate",)])
def test_usage_errors_are_2(shell: Shell, words: tuple[str, ...]) -> None:
    said = shell(*words)
    assert said.code == 2
    assert "Usage: bootorch" in said.err + said.out


def test_plan_on_stdout(shell: Shell, plan_file: str) -> None:
    said = shell("plan", plan_file)
    assert said.code == 0
    assert said.out.splitlines()[-1] == f"next: bootorch run --dry-run {plan_file}"
    assert said.err == ""
    assert shell("plan", plan_file, "--json").json["schema"] == "bootorch.plan/1"


def test_every_problem_is_said_at_once(shell: Shell) -> None:
    said = shell("plan", "absent.yml")
    assert said.code == 2
    assert said.out == ""
    assert "error: absent.yml: no such file\n  remedy: name a plan file" in said.err
    assert "error: hosts.yml:7: no BMC address\n  hosts:  web[01-03] (3)\n  remedy: set bmc_address" in said.err
    document = shell("plan", "absent.yml", "--json").json
    assert document["schema"] == "bootorch.error/1"
    assert document["exit_code"] == 2
    assert [p["where"] for p in document["problems"]] == ["absent.yml", "hosts.yml:7"]  # type: ignore[attr-defined]


def test_detailed_exitcode(tmp_path: Path, plan_file: str, capsys: pytest.CaptureFixture[str]) -> None:
    shell = Shell(WorldServices(small_world(), tmp_path), capsys)
    assert shell("plan", plan_file, "--detailed-exitcode").code == 2  # no run yet
    assert shell("run", plan_file).code == 0
    assert shell("plan", plan_file, "--detailed-exitcode").code == 0  # all ready: nothing to do
    changed = replace(shell.services.world.plan, digest="f" * 64)
    shell.services.world.plan = changed
    assert shell("plan", plan_file, "--detailed-exitcode").code == 2  # another plan since


def test_detailed_exitcode_after_failures(shell: Shell, plan_file: str) -> None:
    assert shell("run", plan_file).code == 3
    assert shell("plan", plan_file, "--detailed-exitcode").code == 2
    assert shell("plan", plan_file).code == 0


def test_run_shows_progress_on_stderr_and_the_summary_on_stdout(shell: Shell, plan_file: str, tmp_path: Path) -> None:
    said = shell("run", plan_file, "--seed", "7", "--approve", "stable-power=kim", "--no-wait-gates", "--by", "lee")
    assert said.code == 3
    assert "quarantined  web07" in said.out
    assert said.out.splitlines()[-1] == f"next: bootorch report {tmp_path}"
    assert "switch: all 4 ready" in said.err
    assert "\x1b" not in said.out + said.err
    (request,) = shell.services.asked
    assert isinstance(request, RunRequest)
    assert (request.seed, request.wait_gates, request.by, request.limit) == (7, False, "lee", None)
    assert request.approve == {"stable-power": "kim"}
    assert (tmp_path / "report.html").read_text().startswith("<!DOCTYPE html>")
    assert json.loads((tmp_path / "report.json").read_text())["schema"] == "bootorch.report/1"


def test_an_empty_limit_reaches_the_services_as_empty(shell: Shell, plan_file: str) -> None:
    shell("run", "--dry-run", plan_file, "--limit", "")
    shell("run", "--dry-run", plan_file)
    first, second = shell.services.asked
    assert isinstance(first, RunRequest)
    assert isinstance(second, RunRequest)
    assert first.limit == ""
    assert second.limit is None


def test_dry_run_prints_the_timetable(shell: Shell, plan_file: str, tmp_path: Path) -> None:
    said = shell("run", "--dry-run", plan_file)
    assert said.code == 3
    assert "wave 0  4 hosts" in said.out
    assert "of virtual time" in said.out
    assert said.err == ""
    assert list(tmp_path.iterdir()) == [Path(plan_file)]  # nothing is written
    document = shell("run", "--dry-run", plan_file, "--json").json
    assert document["simulated"] is True


def test_json_of_a_run_is_one_document(shell: Shell, plan_file: str) -> None:
    said = shell("run", plan_file, "--json")
    assert said.json["totals"] == {
        "ready": 57, "adopted": 1, "quarantined": 2, "blocked": 0, "skipped": 0, "unknown": 0,
    }  # fmt: skip


def test_events_on_stdout_are_nothing_but_events(shell: Shell, plan_file: str, tmp_path: Path) -> None:
    said = shell("run", plan_file, "--events", "-")
    assert {type(decode(line)).type for line in said.out.splitlines()} >= {"run.started", "intent", "settled"}
    assert "58 of 60 hosts ready" in said.err
    target = tmp_path / "run.ndjson"
    again = shell("run", plan_file, "--events", str(target))
    assert target.read_text() == said.out
    assert "58 of 60 hosts ready" in again.out
    both = shell("run", plan_file, "--events", "-", "--json")
    assert both.code == 2
    lost = shell("run", plan_file, "--events", str(tmp_path / "no" / "dir"))
    assert lost.code == 1
    assert "choose another file" in lost.err


def test_a_bad_approval_is_a_usage_error(shell: Shell, plan_file: str) -> None:
    for words in ("stable-power", "=kim", "stable-power="):
        said = shell("run", plan_file, "--approve", words)
        assert said.code == 2
        assert "--approve" in said.err
    assert shell.services.asked == []


def test_production_is_refused_without_the_name(shell: Shell, plan_file: str) -> None:
    production(shell.services)
    said = shell("run", plan_file)
    assert said.code == 6
    assert "--confirm" in said.err
    assert shell("run", plan_file, "--confirm", "lab-cold-boot").code == 3


def production(services: WorldServices) -> None:
    services.world.plan = replace(services.world.plan, environment=Environment.PRODUCTION)


@pytest.mark.parametrize(("typed", "code"), [("lab-cold-boot\n", 3), ("yes\n", 6), ("\n", 6)])
def test_production_asks_for_the_name_at_a_terminal(
    shell: Shell, plan_file: str, monkeypatch: pytest.MonkeyPatch, typed: str, code: int
) -> None:
    production(shell.services)
    monkeypatch.setenv("TERM", "dumb")

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr(sys, "stdin", Terminal(typed))
    screen = Terminal()
    monkeypatch.setattr(sys, "stderr", screen)
    said = shell("run", plan_file)
    assert said.code == code
    assert "production: this switches on up to 60 hosts of plan lab-cold-boot" in screen.getvalue()
    runs = [request for request in shell.services.asked if isinstance(request, RunRequest)]
    assert len(runs) == (1 if code == 3 else 0)


def test_resume_status_and_report(shell: Shell, plan_file: str, tmp_path: Path) -> None:
    nothing = shell("status", plan_file)
    assert nothing.code == 2
    assert "no run is there" in nothing.err
    assert shell("resume", plan_file, "--reset-breakers").code == 3
    request = shell.services.asked[-1]
    assert isinstance(request, ResumeRequest)
    assert request.reset_breakers
    status = shell("status", plan_file)
    assert status.code == 0
    assert "ended: incomplete" in status.out
    assert shell("status", plan_file, "--json").json["running"] is False
    assert "critical path" in shell("report", plan_file).out
    html = tmp_path / "out.html"
    written = shell("report", plan_file, "--html", str(html))
    assert written.out == ""
    assert html.read_text().startswith("<!DOCTYPE html>")
    assert shell("report", plan_file, "--html", str(tmp_path / "no" / "x.html")).code == 1
    assert shell("report", plan_file, "--json").json["schema"] == "bootorch.report/1"


def test_a_run_that_stops_at_a_gate_says_how_to_open_it(
    tmp_path: Path, plan_file: str, capsys: pytest.CaptureFixture[str]
) -> None:
    shell = Shell(WorldServices(World(demo_world().plan), tmp_path), capsys)
    said = shell("run", plan_file, "--no-wait-gates")
    assert said.code == 4
    assert said.out.splitlines()[-1] == f"next: bootorch resume {tmp_path} --approve stable-power=PERSON"


def test_gate_and_pause(shell: Shell, plan_file: str) -> None:
    assert shell("gate", "approve", plan_file, "stable-power", "--by", "kim", "--why", "seen").code == 0
    assert shell("gate", "approve", plan_file, "stable-power").code == 2  # a gate is opened in somebody's name
    assert shell("pause", plan_file, "--by", "lee").err == "effective: paused\n"
    assert shell.services.asked == [
        (Path(plan_file), Order(("gate", "stable-power"), by="kim", why="seen")),
        (Path(plan_file), Order(("pause",), by="lee")),
    ]
    again = shell("gate", "approve", plan_file, "stable-power", "--by", "lee", "--json").json
    assert (again["status"], again["said"]) == ("already", "gate stable-power is open already, by kim")


def test_schema_and_snapshot(shell: Shell, plan_file: str, tmp_path: Path) -> None:
    assert shell("schema").json["type"] == "object"
    said = shell("inventory", "snapshot", plan_file)
    assert said.out == f"{tmp_path / 'plan.snapshot'}\n"
    assert said.err == "60 hosts of 1 source\n"


def test_warnings_have_place_and_remedy(shell: Shell, plan_file: str) -> None:
    shell.services.warnings = (Problem("no rack", "hosts.yml:4", "set rack", ("web02",)),)
    assert "warning: hosts.yml:4: no rack" in shell("plan", plan_file).out


# -- whole processes ---------------------------------------------------------------------

BROKEN = """
import sys
from bootorch.ui import cli
class Broken:
    def schema(self): raise RuntimeError("the schema fell over")
sys.exit(cli.main(Broken(), sys.argv[1:]))
"""


def python(code: str, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, timeout=60, check=False)


def test_a_fault_of_ours_is_short_and_1() -> None:
    said = python(BROKEN, "schema")
    assert said.returncode == 1
    assert said.stderr.splitlines()[0] == "error: unexpected RuntimeError: the schema fell over"
    assert "--debug" in said.stderr
    assert "Traceback" not in said.stderr
    told = python(BROKEN, "--debug", "schema")
    assert told.returncode == 1
    assert "Traceback" in told.stderr


def test_help_loads_nothing_heavy() -> None:
    code = """
import sys
from bootorch.ui import cli
from bootorch.lab.commands import add_to
code = cli.main(None, ["run", "--help"], [add_to])
# pydantic is not among them: typer itself loads it, since it checks parameters with it.
heavy = {"rich", "structlog", "asyncssh", "aiohttp", "ansible", "yaml", "ClusterShell", "asyncio"}
print("LOADED", sorted(heavy & set(sys.modules)))
sys.exit(code)
"""
    said = python(code)
    assert said.returncode == 0
    assert said.stdout.splitlines()[-1] == "LOADED []"


def test_logs_go_to_stderr_as_json() -> None:
    code = """
import structlog
from bootorch.ui.logs import LogFormat, LogLevel, configure
configure(LogFormat.JSON, LogLevel.INFO)
structlog.get_logger().info("sent", host="web01")
structlog.get_logger().debug("not this")
"""
    said = python(code)
    assert said.stdout == ""
    (line,) = said.stderr.splitlines()
    record = json.loads(line)
    assert (record["event"], record["host"], record["level"]) == ("sent", "web01", "info")


def test_a_reader_that_left_is_no_crash() -> None:
    code = """
import sys
from bootorch.ui import cli
class Big:
    def schema(self): return {"x": ["y" * 100] * 10000}
sys.exit(cli.main(Big(), ["schema"]))
"""
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.readline()
    process.stdout.close()
    err = process.stderr.read()
    process.stderr.close()
    assert process.wait(timeout=30) == 1
    assert "Traceback" not in err


def test_the_screen_of_a_real_terminal(tmp_path: Path, plan_file: str) -> None:
    """A pseudo terminal: the display comes up, and what is left behind is the summary, in colour."""
    code = """
import sys
from pathlib import Path
from bootorch.ui import cli
from tests.ui.example import demo_world
from tests.ui.services import WorldServices
sys.exit(cli.main(WorldServices(demo_world(), Path(sys.argv[1])), ["run", sys.argv[2]]))
"""
    main, side = pty.openpty()
    environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "120", "LINES": "40"}
    environment.pop("NO_COLOR", None)
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path), plan_file], stdin=side, stdout=side, stderr=side, env=environment
    )
    os.close(side)
    chunks: list[bytes] = []

    def drain() -> None:
        while True:
            try:
                data = os.read(main, 65536)
            except OSError:  # EIO: the other side has closed
                return
            chunks.append(data)

    reader = threading.Thread(target=drain)
    reader.start()
    assert process.wait(timeout=60) == 3
    reader.join(timeout=10)
    os.close(main)
    text = b"".join(chunks).decode()
    assert "\x1b[?25h" in text
    assert "58 of 60 hosts ready" in text
    assert "\x1b[32m" in text
