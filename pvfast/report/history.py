"""asv's history: a folder of results goes in; a series of exact figures per benchmark and parameters comes out.

asv need not be installed: it keeps ``benchmarks.json`` and, per machine, a JSON file for each commit and environment
(its "results file format", version 2). Only ``track_*`` benchmarks are read: times differ on every run. Next:
``plots.py``, which draws them.
"""

import itertools
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from pvfast.errors import PvfastError

#: Where asv puts its results, unless its configuration says otherwise.
ASV_RESULTS = Path(".asv", "results")
#: asv's own; it upgrades older files by ``asv update``.
RESULTS_VERSION = 2
#: Whole numbers are counted, and any change is a step. Others may be ratios of times: a step moves by more than this.
THRESHOLD = 0.10
_HASH_DIGITS = 8
_EPOCH = datetime(1970, 1, 1)


class HistoryError(PvfastError, ValueError):
    """A folder does not hold asv's results."""


@dataclass(frozen=True, order=True, slots=True)
class Commit:
    """A commit that asv has run: when it was made, in UTC, and the first digits of its hash."""

    made: datetime
    name: str


@dataclass(frozen=True, slots=True)
class Step:
    """A figure that a commit changed. More is worse, as asv has it.

    Attributes
    ----------
    parameters : str
        Which series of the benchmark.
    commit : int
        Index of the first commit with the new figure.
    before, after : float
    """

    parameters: str
    commit: int
    before: float
    after: float

    @property
    def worse(self) -> bool:
        """Whether it is a regression."""
        return self.after > self.before

    @property
    def percent(self) -> float | None:
        """Relative to before; None from zero."""
        return 100 * (self.after - self.before) / abs(self.before) if self.before else None


@dataclass(frozen=True, slots=True)
class BenchmarkHistory:
    """One benchmark on one machine.

    Attributes
    ----------
    name, unit, machine : str
    series : mapping-like tuple of (str, tuple of (float or None))
        Parameters, and a figure for each commit; None where there is none.
    """

    name: str
    unit: str
    machine: str
    series: tuple[tuple[str, tuple[float | None, ...]], ...]

    @property
    def steps(self) -> tuple[Step, ...]:
        """Every change of a whole number, and of others beyond `THRESHOLD`; the oldest first.

        Examples
        --------
        >>> BenchmarkHistory("track_cycles", "cycles", "ci", (("native", (17.0, None, 17.0, 18.0)),)).steps
        (Step(parameters='native', commit=3, before=17.0, after=18.0),)
        """
        found = []
        for parameters, values in self.series:
            measured = [(commit, value) for commit, value in enumerate(values) if value is not None]
            for (_, before), (commit, after) in itertools.pairwise(measured):
                exact = before.is_integer() and after.is_integer()
                if abs(after - before) > (0 if exact else THRESHOLD * abs(before)):
                    found.append(Step(parameters, commit, before, after))
        return tuple(sorted(found, key=lambda step: (step.commit, step.parameters)))


@dataclass(frozen=True, slots=True)
class History:
    """What asv has measured: its commits, the oldest first, and the benchmarks by name and machine."""

    commits: tuple[Commit, ...]
    benchmarks: tuple[BenchmarkHistory, ...]


def usual_history() -> tuple[History | None, str]:
    """The history in `ASV_RESULTS`, if that is there, and what is wrong with it: nobody has named it, so nobody has to
    mend it.

    Returns
    -------
    tuple of (History or None, str)
        An empty text when there is nothing to tell.
    """
    try:
        return (read_history(ASV_RESULTS) if ASV_RESULTS.is_dir() else None), ""
    except HistoryError as error:
        return None, str(error)


def read_history(folder: str | Path) -> History:
    """Read asv's results.

    Parameters
    ----------
    folder : str or Path
        What asv.conf.json calls ``results_dir``.

    Returns
    -------
    History
        A commit that was run in several environments has the figures of the last one by name; those of another version
        of a benchmark are left out.

    Raises
    ------
    HistoryError
        It has no ``benchmarks.json``, or a file is not asv's.
    """
    folder = Path(folder)
    benchmarks = {name: row for name, row in _read(folder / "benchmarks.json").items()
                  if isinstance(row, dict) and row.get("type") == "track"}
    results = []
    for path in sorted(folder.glob("*/*.json")):
        if path.name != "machine.json":
            content = _read(path)
            if content.get("version") != RESULTS_VERSION:
                raise HistoryError(f"{path}: results of version {content.get('version')!r}, and pvfast reads "
                                   f"{RESULTS_VERSION}: `asv update` writes them anew")
            results.append((path, content))
    found: dict[tuple[str, str], dict[str, dict[Commit, float]]] = {}
    try:
        for path, content in results:
            commit = Commit(_EPOCH + timedelta(milliseconds=content["date"]), content["commit_hash"][:_HASH_DIGITS])
            for name, row in benchmarks.items():
                for parameters, value in _figures(row, dict(zip(
                        content["result_columns"], content["results"].get(name, ()), strict=False))):
                    found.setdefault((name, path.parent.name), {}).setdefault(parameters, {})[commit] = value
        commits = sorted({commit for series in found.values() for figures in series.values() for commit in figures})
        return History(tuple(commits), tuple(
            BenchmarkHistory(name, str(benchmarks[name].get("unit", "")), machine, tuple(
                (parameters, tuple(figures.get(commit) for commit in commits))
                for parameters, figures in sorted(series.items())))
            for (name, machine), series in sorted(found.items())))
    except (AttributeError, KeyError, TypeError, ValueError, OverflowError, OSError) as error:
        raise HistoryError(f"{folder}: not asv's results: a part is missing or has another shape "
                           f"({error!r})") from error


def _figures(benchmark: dict[str, Any], row: dict[str, Any]) -> Iterator[tuple[str, float]]:
    """A benchmark's results of one commit: parameters and figure; those that failed are left out."""
    if row.get("version") != benchmark.get("version") or not row.get("result"):
        return
    every = itertools.product(*row["params"])
    for parameters, value in zip(every, row["result"], strict=True):
        if value is not None and math.isfinite(value):
            yield ", ".join(word.strip("'") for word in parameters), float(value)


def _read(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise HistoryError(f"{path}: {error.strerror}; `asv run` writes results") from error
    except (ValueError, RecursionError) as error:
        raise HistoryError(f"{path}: not asv's: {error}") from error
    if not isinstance(content, dict):
        raise HistoryError(f"{path}: not asv's: no JSON object")
    return content
