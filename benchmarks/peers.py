"""How many times faster than Unicorn: the median of interleaved pairs in one process, on the same bytes.

Next: engines.py and latencies.py, who is measured; report.py makes the table of the documentation.
"""

import statistics

from .engines import pvfast_engine, seconds_per_count, settled_count, unicorn, unicorn_engine
from .latencies import LATENCIES, Machine

WORKLOADS = (
    "indirect_store", "inline_store", "indirect_cli", "inline_cli", "crc", "sieve", "fib", "copy",
    "rep_movsd", "rep_stosd", "rep_movsb", "x87", "sse_float", "sse_integer", "patch_itself",
)
PAIRS = 5
REPEATS = {"pvfast": 20_000, "unicorn": 2_000}


def require_both() -> None:
    """NotImplementedError when Unicorn or pvfast's core is not here."""
    if unicorn is None or Machine is None:
        raise NotImplementedError("needs Unicorn and pvfast's core")


class Speed:
    """Unicorn's time over pvfast's for the general workloads."""

    version = "1"
    params = WORKLOADS
    param_names = ("workload",)
    timeout = 300

    def setup(self, workload):
        require_both()
        if pvfast_engine(workload, 37)[1] != unicorn_engine(workload, 37)[1]:
            raise RuntimeError(f"{workload}: the engines compute different things")

    def track_ratio(self, workload):
        ours, theirs = (settled_count(engine, workload) for engine in (pvfast_engine, unicorn_engine))
        return statistics.median(
            seconds_per_count(unicorn_engine, workload, theirs) / seconds_per_count(pvfast_engine, workload, ours)
            for _ in range(PAIRS))

    track_ratio.pretty_name = "Speed, times Unicorn's"
    track_ratio.unit = "Unicorn/pvfast"


class Latency:
    """Unicorn's time over pvfast's for what embedders do often."""

    version = "1"
    params = ("start_and_stop", "callback", "rewrite_and_run")
    param_names = ("what",)

    def setup(self, what):
        require_both()

    def track_ratio(self, what):
        ours, theirs, _ = LATENCIES[what]
        return statistics.median(theirs(REPEATS["unicorn"]) / ours(REPEATS["pvfast"]) for _ in range(PAIRS))

    track_ratio.pretty_name = "Latency from Python, times better than Unicorn's"
    track_ratio.unit = "Unicorn/pvfast"
