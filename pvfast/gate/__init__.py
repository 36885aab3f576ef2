"""Whether a commit changed what was measured: exact figures, compared exactly.

Enters: deterministic integers by name, from any measurement. Leaves: a baseline file, and what differs from it.
Host time has no place here. Next: baseline.py (the file), then check.py (the comparison).
"""

from pvfast.gate.baseline import BaselineError, read_baseline, write_baseline
from pvfast.gate.check import Change, Comparison, compare

__all__ = ["BaselineError", "Change", "Comparison", "compare", "read_baseline", "write_baseline"]
