"""Fleets of BMCs over real UDP: every fault, as a client meets it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from bootorch.core.errors import ToolError
from bootorch.core.reasons import Reason
from bootorch.core.secret import Secret
from bootorch.drivers.bmc_net import BmcTarget, Ended, ask_all
from bootorch.ipmi import scripts
from bootorch.ipmi.client import Script
from bootorch.ipmi.login import Credentials
from bootorch.ipmi.messages import Action
from bootorch.lab import pktinfo, swarm_process, swarm_server
from bootorch.lab.swarm import BmcFault, Swarm, SwarmOptions, addresses, assign, boot_of, count
from bootorch.lab.swarm_process import SwarmProcess
from bootorch.lab.swarm_server import SwarmServer
from bootorch.lab.wire import WireFaults

PASSWORD = Secret("s3cretpw")
PING = b"\x06\x00\xff\x06\x00\x00\x11\xbe\x80\x01\x00\x00"


@contextmanager
def fleet(bmcs: int = 40, **options: object) -> Iterator[SwarmProcess]:
    with swarm_process.running(password=PASSWORD, count=bmcs, **{"lifetime": 120, **options}) as running:
        yield running


def ask(
    running: SwarmProcess, script: Script | None = None, timeout_s: float = 20.0, version: str = "2.0"
) -> dict[str, Ended]:
    """Status of every BMC, or what ``script`` asks of the first one."""
    credentials = Credentials(b"admin", PASSWORD)
    asked = running.addresses if script is None else running.addresses[:1]
    targets = [BmcTarget(address, address, running.port, credentials, version=version) for address in asked]
    ended: dict[str, Ended] = {}
    ask_all(
        targets,
        lambda target: script if script is not None else scripts.chassis_status(),
        allows=lambda address: address.startswith("127."),
        timeout_s=timeout_s,
        ended=lambda end: ended.update({end.target.name: end}),
    )
    return ended


def reasons(ended: dict[str, Ended]) -> dict[Reason, int]:
    return dict(Counter(end.reason for end in ended.values()))


def sessions_after(running: SwarmProcess, patience_s: float = 5.0) -> int:
    """Open sessions, once half-open handshakes have had their three seconds."""
    until = time.monotonic() + patience_s
    while (left := int(running.stats()["sessions"])) and time.monotonic() < until:
        time.sleep(0.2)
    return left


def test_every_bmc_answers_for_itself_and_no_session_is_left() -> None:
    with fleet(200, on=50) as running:
        assert running.addresses[0] == "127.64.0.1"
        ended = ask(running)
        assert reasons(ended) == {Reason.OK: 200}
        on = {name for name, end in ended.items() if getattr(end.value, "power_on", None)}
        assert len(on) == 50
        assert sessions_after(running) == 0
        counters = running.stats()
        assert counters["on"] == 50
        assert counters["bmcs"] == 200
        assert 1000 <= counters["received"] <= counters["sent"] + 20
        assert counters["kernel_drops"] == counters["strangers"] == counters["nobody"] == 0
    assert running.final["received"] == counters["received"], "the last line says it again"


def test_a_power_on_reaches_one_machine_and_a_silent_one_not() -> None:
    with fleet(3) as good, fleet(3, silent_power="1.0") as silent:
        for running in (good, silent):
            assert reasons(ask(running, scripts.chassis_control(Action.ON))) == {Reason.OK: 1}
        assert good.stats()["on"] == 1
        assert silent.stats()["on"] == 0
        assert good.stats()["power_ons"] == silent.stats()["power_ons"] == 1
        ask(silent, scripts.chassis_control(Action.ON))
        assert silent.stats()["on"] == 1, "only the first one is lost"


def test_a_bad_wire_loses_nobody() -> None:
    wire = {"loss": 0.1, "duplicates": 0.1, "reorder": 0.1, "latency": "10ms", "jitter": "10ms"}
    with fleet(100, **wire) as running:
        assert reasons(ask(running)) == {Reason.OK: 100}
        assert running.stats()["lost"] > 20


def test_latency_is_there_and_back() -> None:
    with fleet(1, latency="200ms") as running, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(5.0)
        client.connect((running.addresses[0], running.port))
        client.send(PING)
        began = time.monotonic()
        assert client.recv(64)
        assert time.monotonic() - began >= 0.19, "at least: nothing is promised about how late it may be"


def test_damaged_answers_are_asked_for_again() -> None:
    with fleet(60, truncated=0.05) as running:
        assert reasons(ask(running)) == {Reason.OK: 60}
    with fleet(20, corrupt=1.0) as running:
        assert Reason.OK not in reasons(ask(running, timeout_s=3.0))


def test_the_dead_are_silent_and_as_many_as_were_asked_for() -> None:
    with fleet(50, dead="10%") as running:
        ended = ask(running, timeout_s=3.0)
        assert reasons(ended) == {Reason.OK: 45, Reason.BMC_UNREACHABLE: 5}
        assert running.stats()["nobody"] > 0


def test_a_bmc_that_boots_is_silent_at_first() -> None:
    with fleet(10, slow_boot=4, slow_boot_time="4s") as running:
        early = ask(running, timeout_s=1.0)
        assert reasons(early)[Reason.OK] == 6
        assert reasons(ask(running, timeout_s=20.0)) == {Reason.OK: 10}


@pytest.mark.parametrize(
    ("fault", "always", "reason"),
    [
        ({"busy": "1.0", "busy_times": 2}, {"busy": "1.0", "busy_times": "inf"}, Reason.BMC_BUSY),
        ({"no_slots": "1.0", "no_slots_times": 1}, {"no_slots": "1.0", "no_slots_times": "inf"}, Reason.BMC_NO_SESSION),
    ],
)
def test_a_refusal_that_ends_is_waited_for(fault: dict[str, object], always: dict[str, object], reason: Reason) -> None:
    with fleet(5, **fault) as running:
        assert reasons(ask(running, timeout_s=60.0)) == {Reason.OK: 5}
    with fleet(5, **always) as running:
        assert reasons(ask(running, timeout_s=3.0)) == {reason: 5}


def test_a_downgrade_and_a_rogue_are_met() -> None:
    with fleet(10, wrong_suite=3) as running:
        assert reasons(ask(running))[Reason.OK] >= 7
    with fleet(10, rogue=3, suite=17) as running:
        found = reasons(ask(running))
        assert found.pop(Reason.OK) == 7
        assert sum(found.values()) == 3


def test_ipmi_15_only_where_it_was_asked_for() -> None:
    for options, reason in (({"ipmi_15": True}, Reason.OK), ({}, Reason.BMC_NO_SUITE)):
        with fleet(3, **options) as running:
            assert set(reasons(ask(running, version="1.5", timeout_s=3.0))) == {reason}


def test_folded_addresses_and_nobody_beside_them() -> None:
    with swarm_process.running(password=PASSWORD, bmc="127.0.[7-8].[1-3]", lifetime=60) as running:
        assert list(running.addresses) == addresses("127.0.[7-8].[1-3]", "", 0)
        assert reasons(ask(running)) == {Reason.OK: 6}
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.settimeout(0.3)
            client.connect(("127.0.7.4", running.port))
            client.send(PING)
            with pytest.raises(TimeoutError):
                client.recv(64)
        assert running.stats()["nobody"] == 1


def test_it_ends_by_itself_and_a_second_fleet_is_refused_its_port() -> None:
    with fleet(2) as running, pytest.raises(ToolError, match="exit code"), fleet(2, port=running.port):
        pass
    with fleet(2, lifetime=0.5) as short:
        assert short._line(10.0)["t"] >= 0.5, "its last words"
        with pytest.raises(ToolError, match="exit code"):
            short.stats()


# In this process


def server(**more: object) -> SwarmServer:
    return SwarmServer(SwarmOptions(addresses("", "127.64.0.0/16", 4), PASSWORD, **more))  # type: ignore[arg-type]


def test_packets_from_elsewhere_are_dropped_unread(monkeypatch: pytest.MonkeyPatch) -> None:
    with closing(server()) as running, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(5.0)
        client.connect(("127.64.0.2", running.port))
        monkeypatch.setattr(pktinfo, "is_loopback", lambda address: False)  # as if it had another source
        client.send(PING)
        running._drain(running._sockets[0])
        assert running.stats()["strangers"] == 1
        monkeypatch.undo()
        client.send(PING)
        running._drain(running._sockets[0])
        assert client.recv(64)[8] == 0x40
        assert running.stats()["strangers"] == 1


def test_many_sockets_share_a_port_where_the_kernel_grants_little(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(swarm_server, "RECEIVE_BUFFER", 1 << 62)  # more than any kernel grants
    monkeypatch.setattr(pktinfo, "receive_buffer", lambda sock: 1 << 60)
    monkeypatch.setattr(swarm_server.pktinfo, "open_socket", _small(pktinfo.open_socket))
    with closing(server()) as running:
        assert len(running._sockets) == 4
        assert {sock.getsockname()[1] for sock in running._sockets} == {running.port}
        answered = 0
        for _ in range(20):
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
                client.settimeout(5.0)
                client.connect(("127.64.0.3", running.port))
                client.send(PING)
                for sock in running._sockets:
                    running._drain(sock)
                answered += client.recv(64)[8] == 0x40
        assert answered == 20
        with pytest.raises(OSError, match="in use"):
            SwarmServer(running.swarm.options, running.port)


def _small(real: object) -> object:
    def open_socket(port: int, receive_buffer: int, *, shared: bool = False) -> socket.socket:
        return real(port, 1 << 16, shared=shared)  # type: ignore[operator,no-any-return]

    return open_socket


def test_faults_are_by_seed_one_a_bmc_and_as_many_as_said() -> None:
    options = SwarmOptions(
        addresses("", "127.64.0.0/16", 1000),
        PASSWORD,
        faults={BmcFault.DEAD: 0.02, BmcFault.BUSY: 7, BmcFault.ROGUE: 0.5},
    )
    faults = assign(options)
    assert Counter(faults.values()) == {BmcFault.DEAD: 20, BmcFault.BUSY: 7, BmcFault.ROGUE: 500}
    assert faults == assign(options)
    other = SwarmOptions(options.addresses, PASSWORD, seed=2, faults=options.faults)
    assert faults != assign(other)


def test_bmcs_are_made_when_they_are_asked() -> None:
    swarm = Swarm(SwarmOptions(addresses("", "127.64.0.0/16", 1000), PASSWORD, on=10), os.urandom, 623)
    assert set(swarm.bmcs.values()) == {None}
    assert swarm.on(0.0) == 10
    asked = IPv4Address("127.64.0.7").packed
    assert swarm.find(asked, 0.0) is swarm.find(asked, 1.0) is not None
    assert sum(bmc is not None for bmc in swarm.bmcs.values()) == 1
    assert swarm.on(0.0) == 10
    assert swarm.find(IPv4Address("127.65.0.1").packed, 0.0) is None


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"addresses": []}, "1 to 32512 BMCs"),
        ({"addresses": ["127.0.0.1", "127.0.0.1"]}, "twice"),
        ({"addresses": ["192.0.2.1"]}, "not in 127.0.0.0/8"),
        ({"suites": (17, 0)}, "cipher suite 0 is refused"),
        ({"password": Secret("x" * 21)}, "passwords of 1 to 20"),
        ({"password": Secret("")}, "passwords of 1 to 20"),
        ({"user": "x" * 17}, "names of at most 16"),
        ({"on": -1}, "-1 is no number of 1 BMCs"),
        ({"faults": {BmcFault.DEAD: 2}}, "2 is no number of 1 BMCs"),
        ({"faults": {BmcFault.DEAD: 1, BmcFault.BUSY: 1}}, "more faults than BMCs"),
    ],
)
def test_impossible_fleets_are_refused(change: dict[str, object], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        SwarmOptions(**{"addresses": ["127.0.0.9"], "password": PASSWORD, **change})  # type: ignore[arg-type]


def test_a_count_is_an_int_and_a_share_a_float() -> None:
    assert (count(1, 50), count(1.0, 50), count(0.02, 50)) == (1, 50, 1)
    with pytest.raises(ValueError, match="has 254 addresses for 255 BMCs"):
        addresses("", "127.64.0.0/24", 255)


# Command line


def command(tmp_path: Path, *words: str) -> subprocess.CompletedProcess[str]:
    (tmp_path / "password").write_text("s3cretpw\n")
    program = [sys.executable, "-c", "import sys; from bootorch.app import main; sys.exit(main())"]
    fixed = ["lab", "bmcs", "--password-file", str(tmp_path / "password"), "--port", "0", "--lifetime", "0.2"]
    return subprocess.run([*program, *fixed, *words], capture_output=True, text=True, timeout=60, check=False)


def test_the_command_says_two_lines_of_json(tmp_path: Path) -> None:
    done = command(tmp_path, "--count", "3", "--latency", "5ms")
    assert done.returncode == 0, done.stderr
    first, last = map(json.loads, done.stdout.splitlines())
    assert (first["ready"], first["bmcs"], first["last"]) == (True, 3, "127.64.0.3")
    assert last["received"] == 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--dead", "many"], "many is no number of BMCs"),
        (["--latency", "soon"], "soon is no time"),
        (["--bmc", "10.0.0.[1-3]"], "not in 127.0.0.0/8"),
        (["--bmc", "127.0.0.[3-1]"], "runs backwards"),
        (["--network", "127.64.0.0/30"], "has 3 addresses for 1000 BMCs"),
        (["--suite", "0"], "cipher suite 0 is refused"),
        (["--password-file", "/nonexistent/password"], "cannot be read"),
    ],
)
def test_a_slip_is_named_and_nothing_starts(tmp_path: Path, words: list[str], said: str) -> None:
    done = command(tmp_path, *words)
    assert done.returncode == 2
    assert said in done.stderr
    assert done.stdout == ""


# Programs that nobody here wrote


@pytest.mark.peer
@pytest.mark.parametrize("suite", ["3", "17"])
def test_ipmipower_asks_a_whole_fleet(tmp_path: Path, suite: str) -> None:
    if shutil.which("ipmipower") is None:
        pytest.skip("needs the Debian package freeipmi-tools")
    config = tmp_path / "freeipmi.conf"
    config.write_text(f"username admin\npassword {PASSWORD.reveal().decode()}\n")
    config.chmod(0o600)
    with fleet(200, on="1.0") as running:
        hosts = f"127.64.0.[1-200]:{running.port}"
        words = ["ipmipower", "-D", "LAN_2_0", "-I", suite, "-h", hosts, "--config-file", str(config), "--stat"]
        environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path)}
        done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False, env=environment)
        assert [line.rpartition(": ")[2] for line in done.stdout.splitlines()] == ["on"] * 200
        assert sessions_after(running) == 0


def test_counters_are_told_while_it_is_asked() -> None:
    with fleet(2) as running:
        for _ in range(3):
            os.kill(running.pid, signal.SIGUSR1)
            assert running._line(10.0)["bmcs"] == 2


def test_wire_faults_reach_the_fleet() -> None:
    lost = SwarmOptions(["127.0.0.9"], PASSWORD, wire=WireFaults(loss=1.0))
    with closing(SwarmServer(lost)) as running, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.connect(("127.0.0.9", running.port))
        client.send(PING)
        running._drain(running._sockets[0])
        assert running.stats()["lost"] == 1


def connects(address: str, port: int) -> bool:
    with socket.socket() as sock:
        return sock.connect_ex((address, port)) == 0


def test_a_server_takes_connections_once_it_has_booted_and_no_longer_when_it_is_off() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with fleet(3, boot_seconds="0.5", host_port=port) as running:
        first, second, _ = running.addresses
        assert not connects(first, port)
        asked = time.monotonic()
        assert ask(running, scripts.chassis_control(Action.ON))[first].reason is Reason.OK
        while not connects(first, port):
            assert time.monotonic() < asked + 10
            time.sleep(0.02)
        assert time.monotonic() >= asked + 0.5
        assert not connects(second, port)
        assert running.stats()["up"] == 1
        assert ask(running, scripts.chassis_control(Action.OFF))[first].reason is Reason.OK
        assert not connects(first, port)
        assert running.stats()["up"] == 0


def test_boots_are_drawn_from_a_range_by_seed() -> None:
    found = [boot_of(1, (5.0, 10.0), address) for address in addresses("", "127.64.0.0/16", 200)]
    assert 5.0 <= min(found) < 5.5
    assert 9.5 < max(found) <= 10.0
    assert found == [boot_of(1, (5.0, 10.0), address) for address in addresses("", "127.64.0.0/16", 200)]
    with pytest.raises(ValueError, match="make no sense"):
        SwarmOptions(["127.64.0.1"], PASSWORD, boot_s=(10.0, 5.0))
