"""``python -m tests.robustness.digest FILE [OTHER]``: what becomes of seeded machines, one number for each.

Two builds of the core, with tail calls and returning from every block, have to write the same file: `make checked`.
Without OTHER the file is written only; with it, the exit status says whether the two agree.
"""
from __future__ import annotations

import hashlib
import sys

from pvfast.gate import Measurement, compare, read_baseline, write_baseline

from .execution import Run
from .scenario import make

SEED, CASES = 7, 3000


def digest(number: int) -> int:
    """All that can be seen of a machine at its end, and its counters, as 60 bits."""
    scenario = make(SEED, number)
    state = Run(scenario).go([scenario.budget]).state()
    text = "\n".join(f"{name} {value!r}" for name, value in sorted(state.items()))
    return int(hashlib.sha256(text.encode()).hexdigest()[:15], 16)


def main(path: str, other: str = "") -> int:
    found = Measurement({"image": "random machines"}, {f"machines/{SEED}/{n}": digest(n) for n in range(CASES)})
    write_baseline(path, found)
    if not other:
        return 0
    different = compare(read_baseline(other).points, found.points)
    for change in different.changed:
        print(f"{change.name}: another end in the other build")
    print(f"{different.compared} random machines of two builds compared, {len(different.changed)} differ")
    return 0 if different.same else 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
