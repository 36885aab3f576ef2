"""Every exact figure of the benchmarks as one baseline file: ``python -m benchmarks.counts FILE``.

`make checked` compares those of two builds. Next: pvfast/gate, which reads the file.
"""

import sys

from pvfast.experiments import FORMS, run_matrix
from pvfast.gate import write_baseline

from .dispatch import HYPERVISORS
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


if __name__ == "__main__":
    write_baseline(sys.argv[1], points())
