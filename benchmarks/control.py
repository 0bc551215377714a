"""How long it takes to say a word to a run of 32,000 hosts: from the start of the command to its answer.

    python benchmarks/control.py [--hosts 32000] [--rounds 5]

The run is a real one over BMC addresses of loopback where nobody answers, so its process is as busy as it ever is:
all hosts are asked for their power state again and again. Each word is a process of its own, from the shell to the last
line, and by its answer it is in the journal and effective.
"""

from __future__ import annotations

import argparse
import json
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

BOOTORCH = (sys.executable, "-m", "bootorch.app")
GROUPS = 40


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hosts", type=int, default=32_000)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="control-") as place:
        plan = site(Path(place), given.hosts)
        subprocess.run([*BOOTORCH, "inventory", "snapshot", str(plan)], stdout=subprocess.DEVNULL, check=True)
        run = subprocess.Popen(
            [*BOOTORCH, "run", str(plan), "--new"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            wait_for(plan)
            took: dict[str, list[float]] = {}
            for turn in range(given.rounds):
                for words in orders(turn):
                    began = time.perf_counter()
                    done = subprocess.run([*BOOTORCH, *words, "--run", str(plan)], capture_output=True, check=False)
                    name = words[0] if words[1].startswith("h") else " ".join(words[:2])
                    took.setdefault(name, []).append(time.perf_counter() - began)
                    if done.returncode:
                        raise SystemExit(f"{' '.join(words)}: {done.stderr.decode()[-500:]}")
        finally:
            run.send_signal(signal.SIGTERM)
            run.wait(60)
    print(f"{given.hosts:,} hosts; seconds from the command's start to its answer: median, most")
    for name, seconds in took.items():
        print(f"{name:20} {statistics.median(seconds):6.2f} {max(seconds):6.2f}")
    return 0


def orders(turn: int) -> list[list[str]]:
    return [
        ["limit", "set", "slot", "boots", str(3000 + turn)],
        ["tier", "set", "g05", str(turn % 2 + 1)],
        ["quarantine", f"h{turn:05}", "--reason", "measured"],
        ["skip", f"h{turn + 100:05},h{turn + 200:05}"],
        ["lift", f"h{turn:05}"],
        ["feed", "lost" if turn % 2 == 0 else "returned", "hall/row-3"],
    ]


def site(directory: Path, count: int) -> Path:
    password = directory / "password"
    password.write_text("nobody asks\n")
    password.chmod(0o600)
    size = count // GROUPS
    lines = []
    for number in range(count):
        if number % size == 0:
            lines.append(f"[g{number // size:02}]")
        place = f"{number // 250}.{number % 250 + 1}"
        lines.append(
            f"h{number:05} ansible_host=127.30.{place} bmc_address=127.20.{place} bmc_user=admin"
            f" bmc_password_file={password} feed=hall/row-{number % 8} watts_boot_peak=400 watts_steady=200"
        )
    (directory / "hosts.ini").write_text("\n".join(lines) + "\n")
    groups = {
        f"g{n:02}": {"hosts": f"g{n:02}", "tier": 1, **({"requires": [f"g{n - 1:02}"]} if n else {})}
        for n in range(GROUPS)
    }
    rows = {f"hall/row-{n}": {"budget_watts": "2MW"} for n in range(8)}
    plan = {
        "name": "control",
        "environment": "lab",
        "inventory": "hosts.ini",
        "site": {"bmc_networks": ["127.0.0.0/8"], "host_networks": ["127.0.0.0/8"]},
        "defaults": {"deadlines": {"bmc": "1h"}},
        "limits": {"feeds": {"hall": {"budget_watts": "13MW"}, **rows}, "slots": {"boots": 4000}},
        "gates": {"go": {"ask": "go on?"}},
        "groups": groups,
    }
    path = directory / "plan.yml"
    path.write_text(json.dumps(plan, indent=1))  # YAML is a superset
    return path


def wait_for(plan: Path) -> None:
    give_up = time.monotonic() + 120
    while subprocess.run([*BOOTORCH, "status", str(plan)], capture_output=True, check=False).returncode:
        if time.monotonic() > give_up:
            raise SystemExit("the run did not begin")
        time.sleep(1)
    time.sleep(5)  # all hosts have been asked once


if __name__ == "__main__":
    sys.exit(main())
