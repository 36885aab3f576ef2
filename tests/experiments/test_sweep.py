"""Sweeps: the same table by threads and by processes; errors, journals, builds."""
import json
from collections.abc import Callable
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest

from pvfast.errors import ArgumentError, PvfastError
from pvfast.experiments import sweep as module
from pvfast.experiments.sweep import COLUMNS, Point, Row, Table, measure, points, sweep
from pvfast.guest import NATIVE_ERAS
from pvfast.processor import MODEL_FILE_HEAD, load_model

POINTS = points(["irq_disable", "null", "iret"], ["native", "xen"], ["generic", "pentium4"])


@pytest.fixture(scope="module")
def table() -> Table:
    return sweep(POINTS)


def test_rows_are_sorted_and_complete(table: Table) -> None:
    assert [row.point for row in table.rows] == sorted(POINTS)
    assert not table.failed
    assert len({row.point for row in table.rows}) == 3 * 2 * 2 * 3


def test_the_table_is_the_same_by_other_executors(table: Table) -> None:
    with ThreadPoolExecutor(1) as one:
        assert sweep(reversed(POINTS), one) == table
    with ProcessPoolExecutor(2, get_context("spawn")) as processes:
        assert sweep(POINTS[:6], processes).rows == tuple(row for row in table.rows if row.point in POINTS[:6])


def test_the_formats_hold_the_same(table: Table, tmp_path: Path) -> None:
    lines = table.to_csv().splitlines()
    assert lines[0] == ",".join(COLUMNS)
    assert len(lines) == 1 + len(table.rows)
    assert json.loads(table.to_json())["rows"] == [row.as_dict() for row in table.rows]
    parquet = pytest.importorskip("pyarrow.parquet")
    table.to_parquet(tmp_path / "table.parquet")
    assert parquet.read_table(tmp_path / "table.parquet").to_pylist() == [row.as_dict() for row in table.rows]


@pytest.mark.parametrize(("point", "error"), [
    (Point("popf"), "no benchmark 'popf'"), (Point("null", "bochs"), "no hypervisor 'bochs'"),
    (Point("null", processor="i4004"), "no processor model 'i4004'"),
    (Point("null", era="2.4"), f"choose {' or '.join(NATIVE_ERAS)}"),
    (Point("null", form="inline"), "form 'inline'"), (Point("null_syscall_sysenter", "xen"), "no SEP"),
    (Point("lock.kick", image="/nowhere/vmlinux"), "/nowhere/vmlinux"),
    (Point("lock.kick", "xen", image="/nowhere/vmlinux"), "natively"), (Point("null", image="\0"), "null byte"),
    (Point("null", processor="/nowhere/host.json"), "/nowhere/host.json"), (Point("null", processor="\0.json"), "null"),
])
def test_a_failed_point_is_a_row_with_its_error(point: Point, error: str) -> None:
    good, = sweep([Point("iret")]).rows
    rows = {row.point: row for row in sweep([point, Point("iret")]).rows}
    assert error in rows[point].error
    assert rows[point].instructions is rows[point].cycles is None
    assert rows[Point("iret")] == good


class Idle(Executor):
    """Computes so many of the first groups when they are given to it, and no other."""

    def __init__(self, computed: int) -> None:
        self.computed = computed
        self.futures: list[Future[Any]] = []

    def submit(self, call: Callable[..., Any], /, *arguments: Any, **options: Any) -> Future[Any]:
        future: Future[Any] = Future()
        self.futures.append(future)
        if len(self.futures) <= self.computed and future.set_running_or_notify_cancel():
            try:
                future.set_result(call(*arguments, **options))
            except OSError as error:
                future.set_exception(error)
        return future


def test_an_interrupted_sweep_goes_on(table: Table, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = tmp_path / "journal"
    seen = []

    def interrupt(done: int, total: int, what: str) -> None:
        seen.append(done)
        if len(seen) == 2:
            raise KeyboardInterrupt
    with pytest.raises(KeyboardInterrupt):
        sweep(POINTS, Idle(2), journal=journal, progress=interrupt)
    assert len(journal.read_text().splitlines()) == seen[1]
    with journal.open("a") as file:
        file.write('{"build": "cut o')
    measured: list[Point] = []

    def counted(group: tuple[Point, ...], identity: str) -> tuple[Row, ...]:
        measured.extend(group)
        return measure(group, identity)
    monkeypatch.setattr(module, "measure", counted)
    assert sweep(POINTS, journal=journal) == table
    assert len(measured) == len(POINTS) - seen[1]
    assert sweep(POINTS, journal=journal) == table
    assert len(measured) == len(POINTS) - seen[1]


def test_what_is_measured_when_another_group_fails_is_in_the_journal(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(group: tuple[Point, ...], identity: str) -> tuple[Row, ...]:
        if group[0].machine == max(point.machine for point in POINTS):
            raise OSError("no more files")
        return measure(group, identity)
    monkeypatch.setattr(module, "measure", failing)
    machines = {point.machine for point in POINTS}
    with pytest.raises(OSError, match="no more files"):
        sweep(POINTS, Idle(len(machines)), journal=tmp_path / "journal")
    lines = (tmp_path / "journal").read_text().splitlines()
    assert len(lines) == len(set(lines)) == sum(point.machine != max(machines) for point in POINTS)


@pytest.mark.parametrize("stop", [KeyboardInterrupt, OSError])
def test_what_has_not_begun_is_cancelled_whoever_computes(stop: type[BaseException]) -> None:
    def interrupt(done: int, total: int, what: str) -> None:
        raise stop
    executor = Idle(1)
    with pytest.raises(stop):
        sweep(POINTS, executor, progress=interrupt)
    assert executor.futures[0].done() and len(executor.futures) > 2
    assert all(future.cancelled() for future in executor.futures[1:])


def test_a_name_is_a_str_and_names_are_several() -> None:
    with pytest.raises(ArgumentError, match="the processor of a point is a name, not None"):
        Point("null", processor=None)       # type: ignore[arg-type]
    with pytest.raises(ArgumentError, match="the processor of a point is a name, not Model"):
        points(["null"], processors=[load_model("k8")])     # type: ignore[list-item]
    with pytest.raises(ArgumentError, match=r"benchmarks has to be several names, not 'null': give \['null'\]"):
        points("null")
    with pytest.raises(ArgumentError, match="'null' is no Point"):
        sweep(["null"])     # type: ignore[list-item]


def test_a_point_whose_model_file_has_changed_is_measured_again(tmp_path: Path) -> None:
    model, journal = tmp_path / "host.json", tmp_path / "journal"
    cycles = {}
    for cli in (8, 30):
        model.write_text(json.dumps({**MODEL_FILE_HEAD, "base": "generic", "model": "mine", "cycles": {
            "cli": {"cycles": cli, "source": "made up", "low": cli, "high": cli}}}))
        cycles[cli] = sweep([Point("irq_disable", processor=str(model))], journal=journal).rows[0].cycles
    assert cycles == {8: 11, 30: 33}


ROW: dict[str, Any] = {"build": "", "inputs": "", **Row(Point("null"), 1, 2).as_dict()}


BROKEN: tuple[dict[str, Any], ...] = (
    {"benchmark": []}, {"processor": None}, {"cycles": "x\n"}, {"cycles": None}, {"cycles": 2.5}, {"cycles": True},
    {"error": None}, {"error": "no figures"}, {"more": 1})


@pytest.mark.parametrize("line", [
    b"hello", b"\xff", b"[" * 100_000, b"[]", b"{}", *(json.dumps(ROW | broken).encode() for broken in BROKEN)],
    ids=lambda line: line[-20:])
def test_what_is_no_journal_is_refused(tmp_path: Path, line: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "build_identity", str)
    (tmp_path / "notes").write_bytes(line + b"\n")
    with pytest.raises(PvfastError, match="no journal of a sweep"):
        sweep([Point("iret")], journal=tmp_path / "notes")


def test_another_build_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(PvfastError, match="install the same wheel"):
        measure((Point("iret"),), "0.0+0123456789abcdef")
    sweep([Point("iret")], journal=tmp_path / "journal")
    monkeypatch.setattr(module, "build_identity", lambda: "0.0+0123456789abcdef")
    with pytest.raises(PvfastError, match="finish it with that build"):
        sweep([Point("iret")], journal=tmp_path / "journal")
