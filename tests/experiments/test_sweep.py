"""Sweeps: the same table by threads and by processes; errors, journals, builds."""
import json
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import pytest

from pvfast.errors import PvfastError
from pvfast.experiments import sweep as module
from pvfast.experiments.sweep import COLUMNS, Point, Row, Table, measure, points, sweep

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
    (Point("null", processor="i4004"), "no processor model 'i4004'"), (Point("null", era="2.4"), "Linux 2.4"),
    (Point("null", form="inline"), "form 'inline'"), (Point("null_syscall_sysenter", "xen"), "no SEP"),
    (Point("lock.kick", image="/nowhere/vmlinux"), "/nowhere/vmlinux"),
    (Point("lock.kick", "xen", image="/nowhere/vmlinux"), "natively"),
])
def test_a_failed_point_is_a_row_with_its_error(point: Point, error: str) -> None:
    good, = sweep([Point("iret")]).rows
    rows = {row.point: row for row in sweep([point, Point("iret")]).rows}
    assert error in rows[point].error
    assert rows[point].instructions is rows[point].cycles is None
    assert rows[Point("iret")] == good


def test_an_interrupted_sweep_goes_on(table: Table, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = tmp_path / "journal"
    seen = []

    def interrupt(done: int, total: int, what: str) -> None:
        seen.append(done)
        if len(seen) == 2:
            raise KeyboardInterrupt
    with pytest.raises(KeyboardInterrupt), ThreadPoolExecutor(1) as one:
        sweep(POINTS, one, journal=journal, progress=interrupt)
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


def test_a_point_whose_model_file_has_changed_is_measured_again(tmp_path: Path) -> None:
    model, journal = tmp_path / "host.json", tmp_path / "journal"
    cycles = {}
    for cli in (8, 30):
        model.write_text(json.dumps({"base": "generic", "model": "mine", "cycles": {
            "cli": {"cycles": cli, "source": "made up", "low": cli, "high": cli}}}))
        cycles[cli] = sweep([Point("irq_disable", processor=str(model))], journal=journal).rows[0].cycles
    assert cycles == {8: 11, 30: 33}


def test_what_is_no_journal_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes").write_text("hello\n")
    with pytest.raises(PvfastError, match="no journal of a sweep"):
        sweep(POINTS, journal=tmp_path / "notes")


def test_another_build_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(PvfastError, match="install the same wheel"):
        measure((Point("iret"),), "0.0+0123456789abcdef")
    sweep([Point("iret")], journal=tmp_path / "journal")
    monkeypatch.setattr(module, "build_identity", lambda: "0.0+0123456789abcdef")
    with pytest.raises(PvfastError, match="finish it with that build"):
        sweep([Point("iret")], journal=tmp_path / "journal")
