"""Every exact figure of the benchmarks as one baseline file: ``python -m benchmarks.counts FILE [OTHER]``.

With OTHER, a file of another build, the exit status says whether the figures are the same: `make checked`.
"""

import sys

from pvfast.experiments import FORMS, run_matrix
from pvfast.gate import Measurement, compare, read_baseline, write_baseline

from .guest import HYPERVISORS
from .programs import MODES, PROGRAMS, counts


def points() -> dict[str, int]:
    """Figures by name: operations by hypervisor and form, workloads by mode."""
    found = {}
    for name in PROGRAMS:
        for mode in MODES:
            found |= {f"workloads/{name}/{mode}/{figure}": value for figure, value in counts(name, mode).items()}
    for row in run_matrix(HYPERVISORS).rows:
        key = "/".join(part for part in row.key if part)
        for form in FORMS:
            figures = getattr(row, form)
            if figures is not None:
                found[f"operations/{key}/{form}/instructions"] = figures.instructions
                found[f"operations/{key}/{form}/cycles"] = figures.cycles
    return found


def record(found: Measurement, path: str, other: str = "") -> int:
    """Write figures; compare them with another build's. Returns the exit status."""
    write_baseline(path, found)
    if not other:
        return 0
    comparison = compare(read_baseline(other).points, found.points)
    print("\n".join([*comparison.lines(), f"{comparison.compared} figures of two builds compared"]))
    return 0 if comparison.same else 1


if __name__ == "__main__":
    sys.exit(record(Measurement({"image": "benchmarks"}, points()), *sys.argv[1:]))
