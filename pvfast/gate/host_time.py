"""Whether a build takes more of the host's time: two builds in, ratios with confidence intervals out.

The builds run the same guest loops in turn, each in a process of its own, so that what disturbs the host disturbs
both. The ratio of each pair counts, and of the pairs the median with its bootstrap interval; a build fails only when
the lower end of it says so, twice, in other processes: where a process happens to lie in memory is no property of its
build. Nothing here mixes with the exact figures. Next: ``formats.py``.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, NoReturn, Self

import numpy as np

from pvfast.errors import GuestError
from pvfast.experiments.sweep import package_hash
from pvfast.gate.check import Verdict

#: What is timed: hypervisor, benchmark of the built-in guest, form of its sites. The dispatch path on bare hardware and
#: under a hypervisor, and the workload that runs most of the core.
TIMED = (("native", "irq_save_restore", "indirect"), ("xen", "irq_save_restore", "patched"),
         ("native", "fork-exec", "indirect"))
PAIRS = 40
MIN_PAIRS = 40
#: A build is slower when the interval's lower end is above this.
THRESHOLD = 0.03
CONFIDENCE = 0.99
_RESAMPLES = 4000
_SAMPLE_NS = 2_000_000
_RUNS = 3                       # of a sample: the fastest counts
_SEED = 20061122

#: Run by each build's own Python: says where its pvfast is, then answers each line of JSON with nanoseconds.
_SERVER = """
import json, sys, time
import pvfast
from pvfast.experiments import GuestRun, settings
from pvfast.guest import build
print(pvfast.__file__, flush=True)
runs = {}
for line in sys.stdin:
    hypervisor, benchmark, form, iterations, times = json.loads(line)
    key = hypervisor, form
    if key not in runs:
        runs[key] = GuestRun(settings(build(), hypervisor)[0], form)
    best = None
    for _ in range(times):
        start = time.perf_counter_ns()
        runs[key].loop(benchmark, iterations)
        taken = time.perf_counter_ns() - start
        best = taken if best is None else min(best, taken)
    print(best, flush=True)
"""


@dataclass(frozen=True, slots=True)
class Origin:
    """What was timed.

    Attributes
    ----------
    place : str
        As it was asked for.
    package : str
        The folder of the package that answered.
    hash : str
        Of that package, as `package_hash` has it.
    """

    place: str
    package: str
    hash: str


class Build:
    """A process that runs guests on one build.

    Parameters
    ----------
    place : str
        A Python interpreter in whose environment pvfast is installed, or a folder that holds the package with its core
        built in it, as a source tree does.

    Attributes
    ----------
    origin : Origin

    Raises
    ------
    GuestError
        There is no pvfast that can run.
    """

    def __init__(self, place: str) -> None:
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        is_folder = os.path.isdir(place)
        if is_folder:
            environment["PYTHONPATH"] = os.path.abspath(place)
        try:        # -P: or a pvfast in the current folder would be taken for the interpreter's
            self._process = subprocess.Popen([sys.executable if is_folder else place, "-P", "-c", _SERVER], text=True,
                                             stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                             env=environment)
        except OSError as error:
            raise GuestError(f"{place} is neither a Python nor a folder with pvfast in it: {error.strerror}") from None
        package = Path((self._answer() or self._fail(f"{place} has no pvfast that can run")).strip()).parent
        if is_folder and not package.parent.samefile(place):
            self._fail(f"{place} has no pvfast in it: {sys.executable} took {package}")
        self.origin = Origin(place, str(package), package_hash(package))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self._process.kill()
        self._process.communicate()

    def time(self, hypervisor: str, benchmark: str, form: str, iterations: int) -> int:
        """Host nanoseconds of a run of so many iterations: the least of a few."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps((hypervisor, benchmark, form, iterations, _RUNS)) + "\n")
            self._process.stdin.flush()
            return int(self._answer())
        except (OSError, ValueError):
            self._fail(f"{self.origin.place} cannot run {benchmark} under {hypervisor}")

    def _answer(self) -> str:
        """A line; empty when the process has ended."""
        assert self._process.stdout is not None
        return self._process.stdout.readline()

    def _fail(self, what: str) -> NoReturn:
        self._process.kill()
        lines = self._process.communicate()[1].strip().splitlines()
        raise GuestError(f"{what}: {lines[-1]}" if lines else what) from None


@dataclass(frozen=True, slots=True)
class TimedRow:
    """One loop on two builds.

    Attributes
    ----------
    name : str
        Hypervisor, benchmark and form.
    ratio, low, high : float
        Median of head's time over base's, and its confidence interval.
    pairs : int
    """

    name: str
    ratio: float
    low: float
    high: float
    pairs: int

    @property
    def slower(self) -> bool:
        """Whether the interval lies above the threshold."""
        return self.low > 1 + THRESHOLD


@dataclass(frozen=True, slots=True)
class TimeReport:
    """Two builds compared.

    Attributes
    ----------
    base, head : Origin
    rows : tuple of TimedRow
        Of the first run.
    confirmed : tuple of TimedRow
        Of the second run of those that seemed slower, that were slower again.
    """

    base: Origin
    head: Origin
    rows: tuple[TimedRow, ...]
    confirmed: tuple[TimedRow, ...]

    @property
    def verdict(self) -> Verdict:
        """`Verdict.REGRESSION` when a loop was slower twice."""
        return Verdict.REGRESSION if self.confirmed else Verdict.PASS

    @property
    def same_build(self) -> bool:
        """Whether a build was compared with itself: then the ratios are what the method itself is wrong by."""
        return self.base.hash == self.head.hash

    def as_dict(self) -> dict[str, Any]:
        """Plain types, for JSON."""
        return {"kind": "host time", "schema": 1, "verdict": self.verdict.name.lower(), "exit_code": int(self.verdict),
                "base": asdict(self.base), "head": asdict(self.head), "same_build": self.same_build,
                "threshold": THRESHOLD, "confidence": CONFIDENCE, "rows": [asdict(row) for row in self.rows],
                "confirmed": [asdict(row) for row in self.confirmed]}


def median_interval(log_ratios: Sequence[float]) -> tuple[float, float, float]:
    """Median of ratios, and its bootstrap interval at `CONFIDENCE`; the resamples are seeded.

    Parameters
    ----------
    log_ratios : sequence of float
        Natural logarithms.

    Examples
    --------
    >>> median, low, high = median_interval([0.01, 0.02, 0.03] * 20)
    >>> round(median, 3), low <= median <= high
    (1.02, True)
    """
    values = np.asarray(log_ratios, dtype=float)
    picked = np.random.default_rng(_SEED).integers(0, len(values), (_RESAMPLES, len(values)))
    medians = np.median(values[picked], axis=1)
    low, high = np.quantile(medians, ((1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2))
    return float(np.exp(np.median(values))), float(np.exp(low)), float(np.exp(high))


#: Times one sample of (hypervisor, benchmark, form) with so many iterations.
Timer = Callable[[str, str, str, int], int]


def compare_times(base: Timer, head: Timer, timed: Sequence[tuple[str, str, str]] = TIMED, pairs: int = PAIRS,
                  progress: Callable[[int, int, str], None] | None = None) -> tuple[TimedRow, ...]:
    """Time two builds in turn; who goes first changes from pair to pair.

    Parameters
    ----------
    base, head : callable
        `Build.time` of each.
    timed : sequence of (str, str, str), optional
    pairs : int, optional
        At least `MIN_PAIRS`.
    progress : callable, optional
        Called with (done, total, what).
    """
    if pairs < MIN_PAIRS:
        raise ValueError(f"{pairs} pairs: at least {MIN_PAIRS} are needed")
    iterations = {}
    for what in timed:
        base(*what, 1)
        head(*what, 1)
        iterations[what] = max(1, _SAMPLE_NS * 100 // max(base(*what, 100), head(*what, 100), 1))
    ratios: dict[tuple[str, str, str], list[float]] = {what: [] for what in timed}
    for number in range(pairs):
        for what in timed:
            if progress:
                progress(number, pairs, " ".join(what))
            first, second = (base, head) if number % 2 else (head, base)
            taken = first(*what, iterations[what]), second(*what, iterations[what])
            own, other = taken if number % 2 == 0 else taken[::-1]
            ratios[what].append(float(np.log(own / other)))
    return tuple(TimedRow(" ".join(what), *median_interval(ratios[what]), pairs) for what in timed)


def judge_times(base: Callable[[], Build], head: Callable[[], Build], pairs: int = PAIRS,
                progress: Callable[[int, int, str], None] | None = None) -> TimeReport:
    """Compare two builds, and once more what seems slower, in new processes.

    Parameters
    ----------
    base, head : callable
        Starts a process of each.
    pairs, progress
        As for `compare_times`.

    Raises
    ------
    GuestError
        As `Build`.
    """
    def compare(timed: Sequence[tuple[str, str, str]]) -> tuple[Origin, Origin, tuple[TimedRow, ...]]:
        with base() as first, head() as second:
            return first.origin, second.origin, compare_times(first.time, second.time, timed, pairs, progress)
    base_origin, head_origin, rows = compare(TIMED)
    doubtful = [what for what, row in zip(TIMED, rows, strict=True) if row.slower]
    again = compare(doubtful)[-1] if doubtful else ()
    return TimeReport(base_origin, head_origin, rows, tuple(row for row in again if row.slower))
