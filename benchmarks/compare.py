"""Two builds of pvfast on the same programs: ``python -m benchmarks.compare BEFORE AFTER [PROGRAM ...]``.

Enters: two source trees with the core built in them. Leaves: a Markdown table of nanoseconds for one of each program,
the least of TURNS in which the two run alternately, each in a process of its own. Next: report.py, against others.
"""

import json
import subprocess
import sys
from pathlib import Path

from .programs import ALL, MODES, PROGRAMS

TURNS, SECONDS = 15, 0.01
HERE = Path(__file__).resolve().parents[1]
#: Run in each tree: its pvfast, the programs of this one.
SERVER = """
import json, sys
sys.path.insert(0, sys.argv[1])
import pvfast.assembly, pvfast.machine
sys.path.insert(0, sys.argv[2])
from benchmarks.engines import pvfast_engine
for line in sys.stdin:
    try:
        print(pvfast_engine(*json.loads(line))[0], flush=True)
    except Exception:
        print("nan", flush=True)
"""


class Build:
    """A process that runs programs on one build."""

    def __init__(self, tree: str) -> None:
        self.process = subprocess.Popen([sys.executable, "-P", "-c", SERVER, tree, str(HERE)], text=True,
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def __call__(self, name: str, count: int, mode: str) -> float:
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write(json.dumps((name, count, mode)) + "\n")
        self.process.stdin.flush()
        return float(self.process.stdout.readline())


def compare(before: Build, after: Build, name: str, mode: str) -> tuple[float, float]:
    """Nanoseconds for one of a program's count, before and after; NaN where it does not run."""
    count = 4
    while count < 1 << 28 and after(name, count, mode) < SECONDS:
        count *= 2
    turns = [(before(name, count, mode), after(name, count, mode)) for _ in range(TURNS)]
    first, second = (min(column) / count * 1e9 for column in zip(*turns, strict=True))
    return first, second


def main(before: str, after: str, names: list[str]) -> None:
    builds = Build(before), Build(after)
    print("| program | mode | before, ns | after, ns | speed, after / before |\n| --- | --- | ---: | ---: | ---: |")
    for name in names or ALL:
        for mode in MODES if name in PROGRAMS else MODES[:2]:
            first, second = compare(*builds, name, mode)
            print(f"| `{name}` | {mode} | {first:.2f} | {second:.2f} | {first / second:.2f} |", flush=True)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3:])
