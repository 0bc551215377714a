"""``bootorch power status`` against a fleet on real UDP, beside ipmipower, ipmitool and pyghmi: whole processes.

    python benchmarks/power_fleet.py speed [--rounds 3] [--picture docs/performance.svg]
    python benchmarks/power_fleet.py loss
    python benchmarks/power_fleet.py soak [--minutes 30]

``speed``: a fleet without latency, cipher suite 17, 1,000 to 32,000 BMCs. Rounds alternate between the programs and
the median counts, so that ratios belong to one run. ``loss``: 20 ms latency with 2 % loss, 1 % duplicates and 2 %
dead at 32,000, and 20 % loss each way at 4,000. ``soak``: status of 2,000 BMCs with faults, over and over.

The fleet is ours (``bootorch lab bmcs``), in a process of its own. ipmipower, ipmitool and pyghmi take part where they
are installed.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from bootorch.core.secret import Secret
from bootorch.drivers.bmc_net import BmcTarget, Ended, ask_all
from bootorch.ipmi import scripts
from bootorch.ipmi.login import Credentials
from bootorch.lab import swarm_process
from bootorch.lab.swarm_process import SwarmProcess

PASSWORD = "benchmark"
SIZES = {
    1_000: "127.64.[0-3].[1-250]",
    2_000: "127.64.[0-7].[1-250]",
    4_000: "127.64.[0-15].[1-250]",
    8_000: "127.64.[0-31].[1-250]",
    16_000: "127.64.[0-63].[1-250]",
    32_000: "127.64.[0-127].[1-250]",
}
IPMIPOWER_MOST = 8_000  # two descriptors a host; it gives up beyond that
BOOTORCH = Path(sys.executable).with_name("bootorch")


class Run(NamedTuple):
    """One run of a program: seconds, CPU seconds, KiB at the peak, most descriptors at a time, its standard output."""

    wall_s: float
    cpu_s: float
    memory_kib: int
    descriptors: int
    output: bytes


def run(words: list[str]) -> Run:
    with tempfile.TemporaryFile() as output:
        began = time.perf_counter()
        child = subprocess.Popen(words, stdout=output, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL)
        most = [0]
        ended = threading.Event()

        def watch() -> None:
            while not ended.wait(0.05):
                try:
                    most[0] = max(most[0], len(os.listdir(f"/proc/{child.pid}/fd")))  # noqa: PTH208 - only counted
                except OSError:
                    return

        watcher = threading.Thread(target=watch)
        watcher.start()
        _, _, usage = os.wait4(child.pid, 0)
        wall = time.perf_counter() - began
        child.returncode = 0
        ended.set()
        watcher.join()
        output.seek(0)
        return Run(wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss, most[0], output.read())


class Files(NamedTuple):
    password: Path
    freeipmi: Path


@contextmanager
def secrets() -> Iterator[Files]:
    with tempfile.TemporaryDirectory() as name:
        password, freeipmi = Path(name) / "password", Path(name) / "freeipmi.conf"
        for path, text in ((password, PASSWORD), (freeipmi, f"username admin\npassword {PASSWORD}\n")):
            path.touch(0o600)
            path.write_text(text)
        yield Files(password, freeipmi)


def bootorch(bmcs: str, port: int, files: Files) -> Run:
    words = [BOOTORCH, "power", "status", "--bmc", bmcs, "--port", port, "--user", "admin"]
    return run([*map(str, words), "--password-file", str(files.password), "--suite", "17", "--json"])


def ipmipower(bmcs: str, port: int, files: Files) -> Run:
    words = ["ipmipower", "-D", "LAN_2_0", "-I", "17", "-h", f"{bmcs}:{port}", "--config-file", str(files.freeipmi)]
    return run([*words, "--stat"])


def answered(output: bytes, program: str) -> int:
    if program == "bootorch":
        return sum(target["state"] in ("on", "off") for target in json.loads(output)["targets"])
    return sum(line.endswith((b": on", b": off")) for line in output.splitlines())


ECHO = """
import socket, sys
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
    sock.bind(("127.0.0.1", 0))
    print(sock.getsockname()[1], flush=True)
    while (data := sock.recvfrom(2048))[0] != b"end":
        sock.sendto(*data)
"""
REQUESTS = (48, 49, 56, 64, 64)  # bytes: what a status exchange sends with suite 17 and the user admin


def floor(bmcs: int = 8_000, window: int = 64) -> float:
    """CPU milliseconds a BMC of a bare loop: as many datagrams of the same sizes to an echo, and nothing else."""
    server = subprocess.Popen([sys.executable, "-c", ECHO], stdout=subprocess.PIPE)
    assert server.stdout is not None
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(5)  # nothing is lost on the way to an echo with room for so few
        peer = "127.0.0.1", int(server.stdout.readline())
        packets = [bytes((step,)) * size for step, size in enumerate(REQUESTS)]
        following = [*packets[1:], b""]
        cpu = time.process_time()
        for _ in range(window):
            sock.sendto(packets[0], peer)
        begun, ended = window, 0
        while ended < bmcs:
            data, source = sock.recvfrom(2048)
            answer = following[data[0]]
            if not answer:
                ended += 1
                if begun >= bmcs:
                    continue
                begun += 1
                answer = packets[0]
            sock.sendto(answer, source)
        spent = time.process_time() - cpu
        sock.sendto(b"end", peer)
    server.wait()
    server.stdout.close()
    return spent / bmcs * 1e3


class Point(NamedTuple):
    program: str
    bmcs: int
    wall_s: float
    cpu_ms: float  # per BMC
    memory_kib: float  # per BMC
    descriptors: int
    answered: int


def speed(rounds: int) -> list[Point]:
    points: list[Point] = []
    with secrets() as files, swarm_process.running(password=Secret(PASSWORD), bmc=SIZES[32_000]) as fleet:
        bootorch(SIZES[32_000], fleet.port, files)  # every BMC of the fleet exists from here on
        for size, bmcs in SIZES.items():
            runs: dict[str, list[Run]] = {"bootorch": []}
            if shutil.which("ipmipower") and size <= IPMIPOWER_MOST:
                runs["ipmipower"] = []
            for _ in range(rounds):
                for program, done in runs.items():
                    done.append((bootorch if program == "bootorch" else ipmipower)(bmcs, fleet.port, files))
            for program, done in runs.items():
                point = Point(
                    program,
                    size,
                    statistics.median(r.wall_s for r in done),
                    statistics.median(r.cpu_s for r in done) / size * 1e3,
                    max(r.memory_kib for r in done) / size,
                    max(r.descriptors for r in done),
                    min(answered(r.output, program) for r in done),
                )
                points.append(point)
                print(
                    f"{program:10} {size:6,} BMCs: {point.wall_s:6.2f} s, {point.cpu_ms:.3f} ms CPU each, "
                    f"{point.memory_kib:6.1f} KiB each, {point.descriptors} descriptors, {point.answered:,} answered",
                    flush=True,
                )
            if "ipmipower" in runs:
                ours, theirs = points[-2], points[-1]
                print(f"           ratio of wall times: {ours.wall_s / theirs.wall_s:.2f}", flush=True)
        points += one_by_one(fleet, files)
        print(f"bare loop, {len(REQUESTS)} datagrams each way: {floor():.3f} ms CPU a BMC")
        idle = [run([str(BOOTORCH), "power", "--help"]).cpu_s for _ in range(5)]
        print(f"bootorch power --help: {statistics.median(idle):.3f} s CPU")
        stats = fleet.stats()
        print(f"fleet: sessions left {stats['sessions']}, datagrams dropped by its kernel {stats['kernel_drops']:,}")
    return points


PYGHMI = """
import sys, time
from pyghmi.ipmi import command
password = open(sys.argv[1]).read()
for address in sys.argv[3:]:
    session = command.Command(bmc=address, userid='admin', password=password, port=int(sys.argv[2]))
    print(session.get_power()['powerstate'])
    session.ipmi_session.logout()
"""


def one_by_one(fleet: SwarmProcess, files: Files, calls: int = 30, pyghmis: int = 500) -> list[Point]:
    """Programs that take BMCs one after the other: what a BMC costs them."""
    points = []
    if shutil.which("ipmitool"):
        login = ["-p", str(fleet.port), "-U", "admin", "-f", str(files.password)]
        runs = [
            run(["ipmitool", "-I", "lanplus", "-C", "17", "-H", address, *login, "chassis", "power", "status"])
            for address in fleet.addresses[:calls]
        ]
        wall, cpu = (sum(getattr(r, name) for r in runs) for name in ("wall_s", "cpu_s"))
        good = sum(b"is off" in r.output for r in runs)
        points.append(
            Point(
                "ipmitool", calls, wall, cpu / calls * 1e3, max(r.memory_kib for r in runs), runs[0].descriptors, good
            )
        )
    done = run([sys.executable, "-c", PYGHMI, str(files.password), str(fleet.port), *fleet.addresses[:pyghmis]])
    if good := done.output.count(b"off"):
        cpu = done.cpu_s / pyghmis * 1e3
        points.append(Point("pyghmi", pyghmis, done.wall_s, cpu, done.memory_kib / pyghmis, done.descriptors, good))
    for point in points:
        print(
            f"{point.program:10} {point.bmcs:6,} BMCs one by one: {point.wall_s / point.bmcs:.3f} s and "
            f"{point.cpu_ms:.1f} ms CPU each, {point.answered} answered"
        )
    return points


def picture(points: list[Point], path: Path) -> None:
    """CPU a BMC, wall time and memory over the size of the fleet."""
    import matplotlib as mpl

    mpl.use("svg")
    import matplotlib.pyplot as plt

    mpl.rcParams["svg.hashsalt"] = "bootorch"  # the same figures give the same file
    figure, axes = plt.subplots(1, 3, figsize=(13, 4))
    curves = {"bootorch": ("#1f6feb", "o"), "ipmipower": ("#d29922", "s")}
    for program, (colour, marker) in curves.items():
        mine = [point for point in points if point.program == program]
        complete = [point for point in mine if point.answered == point.bmcs]
        for axis, value in zip(axes, ("wall_s", "cpu_ms", "memory_kib"), strict=True):
            axis.plot([p.bmcs for p in mine], [getattr(p, value) for p in mine], color=colour, lw=1.6)
            axis.plot([p.bmcs for p in complete], [getattr(p, value) for p in complete], marker, color=colour,
                      label=program)  # fmt: skip
            broken = [p for p in mine if p not in complete]
            axis.plot([p.bmcs for p in broken], [getattr(p, value) for p in broken], "x", color="#cf222e", ms=9,
                      label=f"{program}: answers missing" if broken else None)  # fmt: skip
    for program, colour in (("ipmitool", "#8250df"), ("pyghmi", "#1a7f37")):
        for point in (p for p in points if p.program == program):
            axes[1].axhline(point.cpu_ms, color=colour, ls="--", lw=1.2, label=f"{program}, one by one")
            sizes = sorted(SIZES)
            axes[0].plot(sizes, [n * point.wall_s / point.bmcs for n in sizes], color=colour, ls="--", lw=1.2,
                         label=f"{program}, one by one")  # fmt: skip
    for axis, title, unit in zip(
        axes,
        ("wall time of the whole command", "CPU per BMC", "peak memory per BMC"),
        ("s", "ms", "KiB"),
        strict=True,
    ):
        axis.set(xscale="log", yscale="log", title=title, xlabel="BMCs", ylabel=unit)
        axis.set_xticks(sorted(SIZES), [f"{n // 1000}k" for n in sorted(SIZES)])
        axis.minorticks_off()
        axis.grid(alpha=0.3)
        axis.legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})
    print(f"written: {path}")


# Loss


def ask(fleet: SwarmProcess, timeout_s: float = 30.0) -> tuple[list[tuple[float, Ended]], float]:
    """Status of every BMC of a fleet: answers with their time since the start, and CPU seconds."""
    credentials = Credentials(b"admin", Secret(PASSWORD))
    targets = [BmcTarget(address, address, fleet.port, credentials, (17,)) for address in fleet.addresses]
    ended: list[tuple[float, Ended]] = []
    began, cpu = time.perf_counter(), time.process_time()
    ask_all(
        targets,
        lambda target: scripts.chassis_status(),
        allows=lambda address: True,
        timeout_s=timeout_s,
        ended=lambda end: ended.append((time.perf_counter() - began, end)),
    )
    return ended, time.process_time() - cpu


def loss() -> None:
    for title, bmcs, faults in (
        (
            "20 ms latency, 2 % loss each way, 1 % duplicates, 2 % dead",
            SIZES[32_000],
            {"latency": "20ms", "loss": 0.02, "duplicates": 0.01, "dead": "2%"},
        ),
        ("20 % loss each way, 5 ms latency", SIZES[4_000], {"latency": "5ms", "loss": 0.2}),
    ):
        options: dict[str, Any] = faults
        with swarm_process.running(password=Secret(PASSWORD), bmc=bmcs, **options) as fleet:
            ended, cpu = ask(fleet)
        good = [at for at, end in ended if end.reason == "ok"]
        bad = Counter(end.reason.value for _, end in ended if end.reason != "ok")
        late = [end.elapsed_s for _, end in ended if end.reason != "ok"]
        print(f"{title}: {len(ended):,} BMCs")
        print(f"  {len(good):,} answered, the last after {max(good):.1f} s; {cpu / len(ended) * 1e3:.3f} ms CPU each")
        if bad:
            print(f"  not answered: {dict(bad)}, after {min(late):.1f}-{max(late):.1f} s of their own time")


# Soak


def soak(minutes: float) -> None:
    faults: dict[str, Any] = {
        "latency": "5ms", "loss": 0.02, "duplicates": 0.01, "reorder": 0.02, "truncated": 0.005, "corrupt": 0.005,
        "dead": "1%", "busy": "2%", "no_slots": "2%", "wrong_suite": "2%",
    }  # fmt: skip
    until = time.monotonic() + minutes * 60
    with swarm_process.running(
        password=Secret(PASSWORD), bmc=SIZES[2_000], lifetime=minutes * 60 + 300, **faults
    ) as fleet:
        number, asked, lost = 0, 0, Counter[str]()
        baseline = 0
        while time.monotonic() < until:
            ended, _ = ask(fleet, 10.0)
            number += 1
            asked += len(ended)
            lost.update(end.reason.value for _, end in ended)
            kib = int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() // 1024
            if number == 3:
                baseline = kib
            if number in (1, 3) or number % 20 == 0:
                descriptors = len(list(Path("/proc/self/fd").iterdir()))
                memory = Path(f"/proc/{fleet.pid}/statm").read_text().split()[1]
                print(
                    f"round {number}: {asked:,} asked, {dict(lost)}; our memory {kib} KiB, {descriptors} descriptors; "
                    f"fleet {int(memory) * resource.getpagesize() // 1024} KiB",
                    flush=True,
                )
        print(f"{number} rounds, {asked:,} exchanges; memory grew by {kib - baseline} KiB after the third round")
        time.sleep(65)  # idle sessions, whose Close Session was lost, end after 60 s
        print(f"sessions in the fleet a minute later: {fleet.stats()['sessions']}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("speed", "loss", "soak"))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--picture", type=Path)
    options = parser.parse_args()
    if options.what == "loss":
        loss()
    elif options.what == "soak":
        soak(options.minutes)
    else:
        points = speed(options.rounds)
        if options.picture:
            picture(points, options.picture)


if __name__ == "__main__":
    main()
