"""Many runs at once: points go in, a tidy table of exact figures comes out, the same whoever computed them.

A point is one benchmark under one hypervisor, processor model, kernel build and form. Points that share a booted
machine are measured together, by any `concurrent.futures.Executor`. Next: ``pvfast/report``, for one matrix at a time.
"""

import csv
import hashlib
import io
import itertools
import json
import os
from collections.abc import Callable, Iterable
from concurrent.futures import Executor, Future, ThreadPoolExecutor, as_completed, wait
from contextlib import nullcontext, suppress
from dataclasses import asdict, dataclass, fields
from functools import cache
from pathlib import Path
from types import NoneType
from typing import Any

import pvfast
from pvfast.errors import ArgumentError, PvfastError
from pvfast.experiments.kernel_runs import run_kernel
from pvfast.experiments.runs import GuestRun
from pvfast.experiments.workloads import FORMS, Counts, settings
from pvfast.guest import build
from pvfast.images import load_kernel
from pvfast.processor import MODEL_FILE

Progress = Callable[[int, int, str], None]
#: What makes an error's row: beside pvfast's own, a file that cannot be read, and a name that no file can have.
_NOT_MEASURED = (PvfastError, OSError, ValueError)


@dataclass(frozen=True, order=True, slots=True)
class Point:
    """One thing to measure.

    Attributes
    ----------
    benchmark : str
        An operation or workload of the built-in guest kernel, or an operation of the image.
    hypervisor, processor, era : str
        Names, as `run_matrix`, `pvfast.processor.load_model` and `pvfast.guest.build` take them.
    form : str
        One of `FORMS`; of an image ``indirect`` (as compiled) or ``patched``.
    image : str
        Path of a 32-bit kernel image, which runs natively; empty: the built-in guest kernel.

    Raises
    ------
    ArgumentError
        One of them is no str: a point has to mean the same in a journal and to every worker.
    """

    benchmark: str
    hypervisor: str = "native"
    processor: str = "generic"
    era: str = "2.6.20"
    form: str = "patched"
    image: str = ""

    def __post_init__(self) -> None:
        for field in fields(self):
            if not isinstance(value := getattr(self, field.name), str):
                raise ArgumentError(f"the {field.name} of a point is a name, not {value!r}")

    @property
    def machine(self) -> tuple[str, str, str, str, str]:
        """What points have in common that one booted machine can measure."""
        return self.image, self.era, self.hypervisor, self.processor, self.form


@dataclass(frozen=True, order=True, slots=True)
class Row:
    """A point and what it cost.

    Attributes
    ----------
    point : Point
    instructions, cycles : int or None
        As `run_matrix` has them: of an operation less the loop around it, of a workload a whole iteration.
    error : str
        Why there are no figures; empty when there are.
    """

    point: Point
    instructions: int | None = None
    cycles: int | None = None
    error: str = ""

    def as_dict(self) -> dict[str, Any]:
        """The columns of the table."""
        return {**asdict(self.point), "instructions": self.instructions, "cycles": self.cycles, "error": self.error}


COLUMNS = (*(field.name for field in fields(Point)), "instructions", "cycles", "error")


@dataclass(frozen=True, slots=True)
class Table:
    """The rows of a sweep, sorted by their points.

    Examples
    --------
    >>> table = sweep(points(["irq_disable"], forms=["indirect", "patched"]))
    >>> [(row.point.form, row.instructions) for row in table.rows]
    [('indirect', 7), ('patched', 4)]
    >>> print(table.to_csv().splitlines()[1])
    irq_disable,native,generic,2.6.20,indirect,,7,17,
    """

    rows: tuple[Row, ...]

    @property
    def failed(self) -> tuple[Row, ...]:
        """The rows that hold an error."""
        return tuple(row for row in self.rows if row.error)

    def to_csv(self) -> str:
        """A line per row, with a header."""
        text = io.StringIO()
        writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(row.as_dict() for row in self.rows)
        return text.getvalue()

    def to_json(self) -> str:
        """An object with a list of rows."""
        return json.dumps({"kind": "sweep", "schema": 1, "rows": [row.as_dict() for row in self.rows]}, indent=2)

    def to_parquet(self, path: str | os.PathLike[str]) -> None:
        """A Parquet file.

        Raises
        ------
        PvfastError
            pyarrow is not installed.
        """
        try:
            import pyarrow
            import pyarrow.parquet
        except ImportError:
            raise PvfastError("Parquet needs pyarrow: pip install pyarrow, or take to_csv() or to_json()") from None
        schema = pyarrow.schema([(name, pyarrow.int64() if name in ("instructions", "cycles") else pyarrow.string())
                                 for name in COLUMNS])
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist([row.as_dict() for row in self.rows], schema), path)


def points(
    benchmarks: Iterable[str],
    hypervisors: Iterable[str] = ("native",),
    processors: Iterable[str] = ("generic",),
    eras: Iterable[str] = ("2.6.20",),
    forms: Iterable[str] = FORMS,
    images: Iterable[str] = ("",),
) -> tuple[Point, ...]:
    """Every combination, sorted.

    Raises
    ------
    ArgumentError
        A single name stands where there have to be several, or something else than a name.

    Examples
    --------
    >>> len(points(["null", "open"], ["native", "xen"], ["pentium4", "k8"]))
    24
    """
    axes = {"benchmarks": benchmarks, "hypervisors": hypervisors, "processors": processors, "eras": eras,
            "forms": forms, "images": images}
    for name, values in axes.items():
        if isinstance(values, str):
            raise ArgumentError(f"{name} has to be several names, not {values!r}: give [{values!r}]")
    return tuple(sorted(Point(*each) for each in itertools.product(*axes.values())))


def sweep(
    points: Iterable[Point],
    executor: Executor | None = None,
    *,
    journal: str | os.PathLike[str] | None = None,
    progress: Progress | None = None,
) -> Table:
    """Measure points, several at a time.

    Parameters
    ----------
    points : iterable of Point
    executor : concurrent.futures.Executor, optional
        Who computes; threads of this process, one a core, unless given: the core gives the GIL away while it runs. A
        ``dask.distributed`` client offers one as ``client.get_executor()``.
    journal : path, optional
        Rows are written here as they come, and taken from here when a sweep that was interrupted is repeated.
    progress : callable, optional
        Called with (done, total, what was measured).

    Returns
    -------
    Table
        The same rows in the same order whatever the executor. A point that cannot be measured is a row with its error.

    Raises
    ------
    ArgumentError
        There is something else than points among them.
    PvfastError
        A worker has another build of pvfast than this process, or the journal is another build's or none. Whatever is
        raised, what has been measured by then is in the journal, and what has not been begun is cancelled.

    Examples
    --------
    >>> [row.cycles for row in sweep([Point("iret"), Point("irq_disable", "xen")]).rows]
    [200, 2]
    """
    points = list(points)
    for point in points:
        if not isinstance(point, Point):
            raise ArgumentError(f"{point!r} is no Point: points() makes them of names")
    wanted = sorted(set(points))
    known = {} if journal is None else _read_journal(Path(journal))
    rows = {point: known[point] for point in wanted if point in known}
    missing = [point for point in wanted if point not in rows]
    groups = [tuple(group) for _, group in itertools.groupby(sorted(missing, key=lambda point: point.machine),
                                                             key=lambda point: point.machine)]

    def keep(found: tuple[Row, ...]) -> None:
        if journal is not None:
            _append(Path(journal), found)
        rows.update((row.point, row) for row in found)

    futures: list[Future[tuple[Row, ...]]] = []
    with ThreadPoolExecutor(os.cpu_count()) if executor is None else nullcontext(executor) as chosen:
        try:
            for group in groups:
                futures.append(chosen.submit(measure, group, build_identity()))
            for future in as_completed(futures):
                keep(future.result())
                if progress:
                    progress(len(rows), len(wanted), " ".join(filter(None, future.result()[0].point.machine)))
        except BaseException:
            begun = [future for future in futures if not future.cancel()]
            if executor is None:
                wait(begun)             # as the end of the threads does anyway
            for future in begun:
                if future.done() and future.exception() is None and future.result()[0].point not in rows:
                    keep(future.result())
            raise
    return Table(tuple(rows[point] for point in wanted))


def measure(group: tuple[Point, ...], identity: str) -> tuple[Row, ...]:
    """What a worker does: measure points that share a machine. `identity` is the caller's `build_identity`.

    Raises
    ------
    PvfastError
        This process has another build.
    """
    if identity != build_identity():
        raise PvfastError(f"a worker has pvfast build {build_identity()}, the sweep was started by {identity}: install "
                          "the same wheel everywhere")
    image, era, hypervisor, processor, form = group[0].machine
    rows = []
    try:
        run = None if image else GuestRun(_setting(era, hypervisor), form, processor)
    except _NOT_MEASURED as error:
        return tuple(Row(point, error=str(error)) for point in group)
    for point in group:
        try:
            counts = _image_counts(point) if run is None else _guest_counts(run, point.benchmark)
            rows.append(Row(point, counts.instructions, counts.cycles))
        except _NOT_MEASURED as error:
            rows.append(Row(point, error=str(error)))
    return tuple(rows)


@cache
def build_identity() -> str:
    """A name for what computes: the release, and the hash of its package."""
    return f"{pvfast.__version__}+{package_hash(Path(pvfast.__file__).parent)}"


def package_hash(root: Path) -> str:
    """A hash of every file of an installed package that takes part in a measurement, in 16 hexadecimal digits."""
    digest = hashlib.sha256()
    for path in sorted(each for each in root.rglob("*") if each.suffix in (".py", ".S", ".so", ".pyd")):
        digest.update(path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:16]


@cache
def _setting(era: str, hypervisor: str) -> Any:
    return settings(build(era, hypervisor), hypervisor)[0]


def _guest_counts(run: GuestRun, name: str) -> Counts:
    benchmark = run.image.benchmarks.get(name)
    if benchmark is None:
        raise ArgumentError(f"the guest kernel has no benchmark {name!r}: choose from "
                            f"{', '.join(run.image.benchmarks)}")
    if missing := run.missing(benchmark):
        raise PvfastError(missing)
    return run.measure(name)


def _image_counts(point: Point) -> Counts:
    if point.hypervisor != "native" or point.form == "direct":
        raise PvfastError("the sites of a kernel image run natively, indirect or patched")
    rows = run_kernel(load_kernel(point.image), [point.benchmark], processor=point.processor).rows
    counts = (rows[0].unpatched if point.form == FORMS[0] else rows[0].patched) if rows else None
    if counts is None:
        raise PvfastError(rows[0].reason if rows else f"the image has no operation {point.benchmark!r}")
    return counts


def _read_journal(path: Path) -> dict[Point, Row]:
    """Whole lines only: the last one may have been cut off by what interrupted the sweep."""
    if not path.exists():
        return {}
    foreign = PvfastError(f"{path} is no journal of a sweep: name another file, or remove it")
    try:
        lines = path.read_text(encoding="utf-8").split("\n")[:-1]
    except UnicodeDecodeError:
        raise foreign from None
    rows = {}
    for line in lines:
        try:
            value = json.loads(line)
            identity, inputs = value.pop("build"), value.pop("inputs")
            figures = {name: value.pop(name) for name in ("instructions", "cycles", "error")}
            row = Row(Point(**value), **figures)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            raise foreign from None
        kinds = tuple(map(type, figures.values()))
        if kinds != ((NoneType, NoneType, str) if row.error else (int, int, str)):
            raise foreign
        if identity != build_identity():
            raise PvfastError(f"{path} was begun by pvfast build {identity}, this is {build_identity()}: finish it "
                              "with that build, or begin another journal")
        if inputs == _inputs(row.point):        # else a file of it has changed since
            rows[row.point] = row
    return rows


def _inputs(point: Point) -> str:
    """A hash of the files that a point is measured with; empty when there are none."""
    digest = hashlib.sha256()
    names = [name for name in (point.image, point.processor) if name == point.image or name.endswith(MODEL_FILE)]
    for name in filter(None, names):
        with suppress(OSError, ValueError):     # measuring says what is wrong with it
            digest.update(Path(name).read_bytes())
    return digest.hexdigest()[:16] if any(names) else ""


def _append(path: Path, rows: tuple[Row, ...]) -> None:
    """One write, so that an interruption leaves whole lines and at most one that is cut off."""
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    if text and not text.endswith("\n"):
        path.write_text(text[:text.rfind("\n") + 1], encoding="utf-8")
    with path.open("a", encoding="utf-8") as file:
        file.write("".join(json.dumps({"build": build_identity(), "inputs": _inputs(row.point), **row.as_dict()}) + "\n"
                           for row in rows))
