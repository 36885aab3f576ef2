"""How often ``pvfast gate time`` is wrong: ``python -m benchmarks.gate_study [IDENTICAL SLOWED]``.

Enters: this build, twice, in two new processes for each comparison. Leaves: on standard output, how many comparisons of
identical builds raised an alarm, and how many did with a slow-down injected: so much more of the same work on one side.
"""

import os
import platform
import sys
from functools import partial
from pathlib import Path

from pvfast.gate import Verdict
from pvfast.gate.host_time import PAIRS, TIMED, Build, judge_times

ROOT = Path(__file__).resolve().parents[1]
SLOW_DOWN = 1.05


class Slowed(Build):
    """This build, with more to do."""

    def __init__(self, factor: float) -> None:
        super().__init__(str(ROOT))
        self.factor = factor

    def time(self, hypervisor: str, benchmark: str, form: str, iterations: int) -> int:
        return super().time(hypervisor, benchmark, form, round(iterations * self.factor))


def alarms(number: int, factor: float) -> int:
    """Of so many comparisons."""
    found = 0
    for done in range(number):
        found += judge_times(partial(Slowed, 1.0), partial(Slowed, factor)).verdict is Verdict.REGRESSION
        print(f"{factor}: {found} alarms in {done + 1}", file=sys.stderr, flush=True)
    return found


def study(identical: int, slowed: int) -> None:
    print(f"{platform.machine()}, {os.cpu_count()} CPUs; {PAIRS} pairs of {len(TIMED)} loops each\n")
    print("| slow-down | comparisons | alarms |\n| ---: | ---: | ---: |")
    for factor, number in ((1.0, identical), (SLOW_DOWN, slowed)):
        print(f"| {100 * (factor - 1):.0f} % | {number} | {alarms(number, factor)} |", flush=True)


if __name__ == "__main__":
    study(*((int(argument) for argument in sys.argv[1:3]) if len(sys.argv) > 2 else (300, 100)))
