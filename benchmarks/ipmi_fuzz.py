"""A million mutated packets at each role of IPMI: no exception, no hang, no growth.

    python benchmarks/ipmi_fuzz.py [--packets 1000000] [--seed 1]

The fuzzer is ``tests/ipmi/fuzz.py``; the test suite runs 20,000 packets of it. An exception or an exchange that does
not end stops the program with a traceback. Memory is the peak of the process before and after the last nine tenths.
"""

from __future__ import annotations

import argparse
import resource
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.ipmi.fuzz import fuzz_bmc, fuzz_console
from tests.ipmi.network import make_bmc


def peak_kib() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--packets", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    tenth = max(options.packets // 10, 1)

    bmc = make_bmc()
    began = time.perf_counter()
    said = fuzz_bmc(tenth, options.seed, bmc)
    before = peak_kib()
    for n in range(1, 10):
        said += fuzz_bmc(tenth, options.seed + n, bmc)
    spent = time.perf_counter() - began
    print(f"BMC role: {10 * tenth:,} packets in {spent:.0f} s, {said['answers']:,} answers, {dict(said)}")
    print(f"  sessions held at the end {bmc.session_count}, memory +{peak_kib() - before} KiB after the first tenth")

    began = time.perf_counter()
    reasons = fuzz_console(tenth, options.seed)
    before = peak_kib()
    for n in range(1, 10):
        reasons += fuzz_console(tenth, options.seed + 1_000_000 * n)
    spent = time.perf_counter() - began
    ended = ", ".join(f"{reason} {count:,}" for reason, count in reasons.most_common())
    print(f"console role: {10 * tenth:,} packets in {spent:.0f} s; exchanges ended: {ended}")
    print(f"  memory +{peak_kib() - before} KiB after the first tenth")


if __name__ == "__main__":
    main()
