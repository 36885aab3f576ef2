"""``python -m tests.robustness.digest FILE [OTHER]``: what becomes of seeded machines, one number for each.

Two builds of the core, with tail calls and returning from every block, have to write the same file: `make checked`.
Without OTHER the file is written only; with it, the exit status says whether the two agree.
"""
from __future__ import annotations

import hashlib
import sys

from benchmarks.counts import record
from pvfast.gate import Measurement

from .execution import Run
from .scenario import make

SEED, CASES = 7, 3000


def digest(number: int) -> int:
    """All that can be seen of a machine at its end, and its counters, as 60 bits."""
    scenario = make(SEED, number)
    state = Run(scenario).go([scenario.budget]).state()
    text = "\n".join(f"{name} {value!r}" for name, value in sorted(state.items()))
    return int(hashlib.sha256(text.encode()).hexdigest()[:15], 16)


def digests() -> Measurement:
    return Measurement({"image": "random machines"}, {f"machines/{SEED}/{n}": digest(n) for n in range(CASES)})


if __name__ == "__main__":
    sys.exit(record(digests(), *sys.argv[1:]))
