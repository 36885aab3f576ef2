"""A folder as asv 0.6.6 leaves it, cut down: the layout of files that asv has written, with figures to choose."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

COLUMNS = ["result", "params", "version", "started_at", "duration", "stats_ci_99_a", "stats_ci_99_b", "stats_q_25",
           "stats_q_75", "stats_number", "stats_repeat", "samples", "profile"]
TRACK, TIME = "dispatch.Counts.track_cycles", "dispatch.Dispatch.time_operation"
PARAMETERS = [["'native'", "'xen'"], ["'irq_disable'"]]
FIRST_DATE = 1_795_339_779_000


def write_results(folder: Path, figures: Sequence[tuple[float | None, ...]], machine: str = "vm") -> Path:
    """A commit for each pair of figures: native's, and Xen's."""
    here = folder / machine
    here.mkdir(parents=True)
    benchmarks: dict[str, Any] = {
        TRACK: {"code": "", "name": TRACK, "param_names": ["hypervisor", "operation"], "params": PARAMETERS,
                "type": "track", "unit": "modelled cycles/operation", "version": "1"},
        TIME: {"code": "", "name": TIME, "param_names": [], "params": [], "type": "time", "unit": "seconds",
               "version": "1"},
        "version": 2,
    }
    (folder / "benchmarks.json").write_text(json.dumps(benchmarks))
    (here / "machine.json").write_text(json.dumps({"machine": machine, "arch": "x86_64", "version": 1}))
    for number, pair in enumerate(figures):
        content = {
            "commit_hash": f"{number:x}".ljust(40, "0"), "env_name": "virtualenv", "date": FIRST_DATE + 1_000 * number,
            "params": {"machine": machine}, "python": "3.11", "requirements": {}, "env_vars": {},
            "result_columns": COLUMNS, "durations": {}, "version": 2,
            "results": {TRACK: [pair, PARAMETERS, "1", FIRST_DATE, 0.1], TIME: [[1e-6], [], "1", FIRST_DATE, 0.1]},
        }
        (here / f"{number}-virtualenv.json").write_text(json.dumps(content))
    return folder
