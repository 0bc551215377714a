"""Many BMCs of the lab over real UDP, asked without asyncio."""

from __future__ import annotations

import os
import resource
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from bootorch.core.reasons import Reason
from bootorch.core.secret import Secret
from bootorch.drivers.bmc_net import BmcTarget, Ended, Ports, ask_all, socket_address
from bootorch.ipmi import messages as msg
from bootorch.ipmi import scripts
from bootorch.ipmi.client import Script
from bootorch.ipmi.login import Credentials
from bootorch.lab import swarm_process
from bootorch.lab.swarm_process import SwarmProcess

PASSWORD = Secret("swarm-pass")
CREDENTIALS = Credentials(b"admin", PASSWORD)


def targets(fleet: SwarmProcess) -> list[BmcTarget]:
    return [BmcTarget(address, address, fleet.port, CREDENTIALS) for address in fleet.addresses]


def status(target: BmcTarget) -> Script:
    return scripts.chassis_status()


def ask(
    asked: list[BmcTarget], timeout_s: float = 20.0, allows: Callable[[str], bool] = lambda address: True
) -> list[Ended]:
    ended: list[Ended] = []
    ask_all(asked, status, allows=allows, timeout_s=timeout_s, ended=ended.append)
    return ended


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def settled(fleet: SwarmProcess) -> int:
    """Sessions of the fleet, when those Close Sessions that are on their way have arrived."""
    for _ in range(50):
        if not (sessions := fleet.stats()["sessions"]):
            return 0
        time.sleep(0.05)
    return int(sessions)


def test_each_target_ends_once_and_nothing_is_left() -> None:
    with swarm_process.running(password=PASSWORD, count=300, on=100) as fleet:
        before = descriptors()
        ended = ask(targets(fleet))
        assert descriptors() == before
        assert sorted(end.target.address for end in ended) == sorted(fleet.addresses)
        assert {(end.reason, end.attempts) for end in ended} == {(Reason.OK, 1)}
        states = Counter(end.value.power_on for end in ended if isinstance(end.value, msg.ChassisStatus))
        assert states == {True: 100, False: 200}
        assert all(0 <= end.elapsed_s < 20 for end in ended)
        assert settled(fleet) == 0


def test_a_bad_network_and_bmcs_with_faults() -> None:
    faults = {
        "loss": 0.05, "duplicates": 0.05, "reorder": 0.05, "truncated": 0.02, "latency": "5ms", "jitter": "5ms",
        "dead": 10, "busy": 10, "no_slots": 10, "wrong_suite": 10,
    }  # fmt: skip
    with swarm_process.running(password=PASSWORD, count=200, **faults) as fleet:
        ended = ask(targets(fleet), 15.0)
        reasons = Counter(end.reason for end in ended)
        assert reasons == {Reason.OK: 190, Reason.BMC_UNREACHABLE: 10}
        dead = [end for end in ended if end.reason is Reason.BMC_UNREACHABLE]
        assert all(end.elapsed_s >= 15.0 for end in dead)  # its own deadline, and not before
        assert max(end.attempts for end in ended) > 1  # those without free slots at first


def test_nothing_leaves_for_an_address_that_is_not_allowed() -> None:
    with swarm_process.running(password=PASSWORD, count=4) as fleet:
        allowed = set(fleet.addresses[:2])
        ended = ask(targets(fleet), allows=allowed.__contains__)
        assert {end.target.address for end in ended if end.reason is Reason.OK} == allowed
        assert sum(end.reason is Reason.OUTSIDE_SITE for end in ended) == 2
        assert fleet.stats()["received"] == 2 * 5


@pytest.mark.parametrize("trouble", [KeyboardInterrupt, RuntimeError])
def test_an_interrupt_closes_the_sessions_that_are_open(trouble: type[BaseException]) -> None:
    with swarm_process.running(password=PASSWORD, count=400, latency="20ms") as fleet:
        before = descriptors()
        count = 0

        def ended(end: Ended) -> None:
            nonlocal count
            count += 1
            if count == 1:
                raise trouble

        with pytest.raises(trouble):
            ask_all(targets(fleet), status, allows=lambda address: True, timeout_s=20.0, ended=ended)
        assert descriptors() == before
        time.sleep(0.2)  # what was under way arrives; half-open handshakes end after 3 s
        stats = fleet.stats()
        assert stats["received"] < 2000  # 5 each: it stopped
        time.sleep(3.2)
        assert fleet.stats()["sessions"] == 0


@contextmanager
def flooder(address: str) -> Iterator[tuple[int, Counter[str]]]:
    """Port and count of a BMC that answers with all it has: 60,000 datagrams of nonsense and of what looks right."""
    sent: Counter[str] = Counter()
    over = threading.Event()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind((address, 0))
        sock.settimeout(10)

        def flood() -> None:
            try:
                _, peer = sock.recvfrom(2048)
            except TimeoutError:
                return
            looks_right = bytes.fromhex("0600ff0706c0") + os.urandom(4) + bytes(4) + b"\x20\x00" + os.urandom(52)
            for n in range(60_000):
                if over.is_set():
                    return
                sock.sendto(looks_right if n % 2 else os.urandom(40), peer)
                sent["datagrams"] += 1

        thread = threading.Thread(target=flood)
        thread.start()
        try:
            yield sock.getsockname()[1], sent
        finally:
            over.set()
            thread.join()


def test_a_bmc_that_floods_does_not_keep_the_others_from_answering() -> None:
    with swarm_process.running(password=PASSWORD, count=100) as fleet:
        rogue = "127.66.0.1"
        with flooder(rogue) as (port, sent):
            ended = ask([BmcTarget("rogue", rogue, port, CREDENTIALS), *targets(fleet)], 10.0)
        reasons = {end.target.name: end.reason for end in ended}
        assert reasons.pop("rogue") is Reason.BMC_UNREACHABLE  # nothing of it made sense
        assert set(reasons.values()) == {Reason.OK}
        assert sent["datagrams"] > 1000


def test_the_kernels_refusal_is_remembered_and_told() -> None:
    unroutable = BmcTarget("n", "255.255.255.255", 20623, CREDENTIALS)  # broadcast, which no socket of ours may
    (end,) = ask([unroutable], 0.5)
    assert end.reason is Reason.BMC_UNREACHABLE
    assert "this machine says: Permission denied" in end.detail


def test_a_refusal_is_forgotten_when_the_kernel_takes_the_next_datagram() -> None:
    ports = Ports()
    address = ("127.0.0.2", 20000)
    ports.send(b"x" * 70_000, address)
    assert ports.trouble == {address: "Message too long"}
    ports.send(b"x", address)
    assert ports.trouble == {}
    ports.close()


def test_no_socket_is_a_reason_and_no_exception() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest = os.dup(0)
    os.close(lowest)
    ports = Ports()
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, hard))
    try:
        ports.send(b"x", ("127.0.0.2", 20000))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert ports.trouble == {("127.0.0.2", 20000): "Too many open files"}
    assert ports.sockets() == []
    ports.send(b"x", ("127.0.0.2", 20000))
    assert len(ports.sockets()) == 1
    ports.close()


def test_an_exception_that_comes_again_closes_every_session_all_the_same() -> None:
    """The reader of our output is gone: every line that we write fails."""
    with swarm_process.running(password=PASSWORD, count=100, latency="20ms") as fleet:
        before = descriptors()

        def ended(end: Ended) -> None:
            raise BrokenPipeError

        with pytest.raises(BrokenPipeError):
            ask_all(targets(fleet), status, allows=lambda address: True, timeout_s=20.0, ended=ended)
        assert descriptors() == before
        time.sleep(3.2)  # half-open handshakes end after 3 s
        assert settled(fleet) == 0


def test_a_bmc_has_always_the_same_socket() -> None:
    ports = Ports()
    for _ in range(2):
        for n in range(1, 40):
            ports.send(b"x", ("127.0.0.2", 20000 + n))
    assert len(ports.sockets()) <= 4
    ports.close()
    assert socket_address("2001:db8:0:0::1", 623) == ("2001:db8::1", 623)
    assert socket_address("10.0.0.1", 623) == ("10.0.0.1", 623)
