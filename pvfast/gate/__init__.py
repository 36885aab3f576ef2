"""Whether a commit changed what was measured: exact figures, compared exactly.

Enters: deterministic integers by name, and the code behind them. Leaves: a baseline file, a verdict, and what
explains it. Next: measurement.py and kernel_measurement.py (what is compared), baseline.py (the file), check.py (the
comparison), explain.py (why), judge.py (all of it), formats.py (for people and for CI). Host time stands apart, in
host_time.py.
"""

from pvfast.gate.baseline import BaselineError, read_baseline, write_baseline
from pvfast.gate.check import Change, Comparison, Verdict, compare
from pvfast.gate.explain import Explanation, explain
from pvfast.gate.judge import Report, judge
from pvfast.gate.kernel_measurement import measure_kernel
from pvfast.gate.measurement import Measurement, Site, measure_guest

__all__ = [
    "BaselineError",
    "Change",
    "Comparison",
    "Explanation",
    "Measurement",
    "Report",
    "Site",
    "Verdict",
    "compare",
    "explain",
    "judge",
    "measure_guest",
    "measure_kernel",
    "read_baseline",
    "write_baseline",
]
