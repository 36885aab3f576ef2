"""`python -m tests.robustness.fuzz --seconds N --seed S`: hostile machines, one after another, under a watchdog.

Enters: a seed. Leaves: a report and an exit status. The cases run in a worker process, which notes the number of each
before it begins; when it dies or does not come back, the parent knows the case and goes on behind it.
`--case S/N` runs one case in this process.
"""
from __future__ import annotations

import argparse
import faulthandler
import mmap
import random
import signal
import struct
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from .execution import Violation, check
from .scenario import make

CASE_SECONDS = 60
"""No case takes so long, even under the sanitizers on a busy machine."""
FAILURES = 50
"""So many are enough."""
RECYCLE = 20_000
"""Cases of one worker."""
PROGRESS = struct.Struct("<QQ")
"""What a worker notes: the number of the current case, and how many before it failed."""


def run_case(seed: int, number: int) -> str:
    return check(make(seed, number), random.Random(f"check/{seed}/{number}"))


# --- The worker ------------------------------------------------------------------------------------------------------

def work(seed: int, first: int, cases: int, seconds: float, progress: Path) -> int:
    """Run cases. Violations are printed here, crashes by the parent."""
    failures, end = 0, time.time() + seconds
    endings: Counter[str] = Counter()
    faulthandler.enable()
    with progress.open("r+b") as file, mmap.mmap(file.fileno(), PROGRESS.size) as memory:
        for number in range(first, first + cases):
            PROGRESS.pack_into(memory, 0, number, failures)
            if time.time() > end or failures == FAILURES:
                break
            try:
                endings[run_case(seed, number).split(":")[0]] += 1
            except Violation as error:
                failures += 1
                print(f"case {seed}/{number}: {error}", flush=True)
        else:
            PROGRESS.pack_into(memory, 0, first + cases, failures)
    print("ended with", ", ".join(f"{name} {count}" for name, count in endings.most_common()), file=sys.stderr)
    return 0


# --- The parent ------------------------------------------------------------------------------------------------------

class Watch:
    """Workers in turn, until the time or the cases are over."""

    worker = (sys.executable, "-m", "tests.robustness.fuzz")

    def __init__(self, seed: int, first: int, cases: int, seconds: float, folder: Path) -> None:
        self.seed, self.first, self.last, self.next = seed, first, first + cases, first
        self.end = time.time() + seconds
        self.failures = 0
        self.progress, self.errors = folder / "case", folder / "stderr"

    def current(self) -> tuple[int, int]:
        return PROGRESS.unpack(self.progress.read_bytes())

    def run(self) -> int:
        """How many cases failed."""
        start = time.time()
        while self.next < self.last and time.time() < self.end and self.failures < FAILURES:
            self.run_worker()
            count, seconds = self.next - self.first, time.time() - start
            print(f"{count} cases (seed {self.seed}) in {seconds:.0f} s, {self.failures} failures", flush=True)
        return self.failures

    def run_worker(self) -> None:
        self.progress.write_bytes(PROGRESS.pack(self.next, 0))
        count = min(self.last - self.next, RECYCLE)
        command = [*self.worker, "--worker", str(self.progress), "--seed", str(self.seed), "--first", str(self.next),
                   "--cases", str(count), "--seconds", str(self.end - time.time())]
        with self.errors.open("wb") as errors:
            process = subprocess.Popen(command, stderr=errors)
            reason = self.wait(process)
        self.next, failures = self.current()
        self.failures += failures
        if reason or process.returncode:
            self.failures += 1
            print(f"case {self.seed}/{self.next}: {reason or f'the worker died, status {process.returncode}'}; see "
                  f"`python -m tests.robustness.fuzz --case {self.seed}/{self.next}`")
            self.next += 1
        print(self.errors.read_text(errors="replace")[-6000:], end="", flush=True)

    def wait(self, process: subprocess.Popen[bytes]) -> str:
        """Until the worker ends; kills it when a case takes too long."""
        case, since = self.current(), time.time()
        while process.poll() is None:
            time.sleep(0.1)
            if (now := self.current()) != case:
                case, since = now, time.time()
            elif time.time() - since > CASE_SECONDS:
                process.send_signal(signal.SIGABRT)     # faulthandler prints where it is
                process.wait()
                return f"no end after {CASE_SECONDS} s"
        return ""


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.robustness.fuzz", description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=3600)
    parser.add_argument("--cases", type=int, default=1 << 40)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--first", type=int, default=0, help="number of the first case")
    parser.add_argument("--case", help="SEED/NUMBER: this one only, here")
    parser.add_argument("--worker", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.case:
        seed, number = map(int, options.case.split("/"))
        print(make(seed, number).to_json())
        print(run_case(seed, number))
        return 0
    if options.worker:
        return work(options.seed, options.first, options.cases, options.seconds, options.worker)
    with tempfile.TemporaryDirectory(prefix="pvfast-") as folder:
        watch = Watch(options.seed, options.first, options.cases, options.seconds, Path(folder))
        return min(watch.run(), FAILURES)


if __name__ == "__main__":
    sys.exit(main())
