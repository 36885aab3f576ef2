"""The matrix: exact figures, the same on every run; what a row says about its sites."""

import json

import pytest

from pvfast.errors import PvfastError
from pvfast.experiments import FORMS, Matrix, operation_names, run_matrix, workload_names

#: Instructions indirect, direct and patched on bare hardware, NOPs included: from the forms of the sites
#: (push, push, call, body, ret, pop, pop; 10 bytes filled by nop, lea, nop) and the native replacements.
NATIVE = {
    "asm_irq_disable": (7, 8, 4),
    "asm_irq_enable": (7, 8, 4),
    "iret": (2, 2, 1),
    "irq_disable": (7, 8, 4),
    "irq_enable": (7, 8, 4),
    "irq_save": (13, 15, 6),
    "irq_save_restore": (21, 24, 10),
    "null_syscall_int80": (50, 51, 46),
    "null_syscall_sysenter": (58, 60, 51),
    "restore_fl": (8, 9, 4),
    "save_fl": (8, 9, 4),
}


@pytest.fixture(scope="module")
def native() -> Matrix:
    return run_matrix(["native"])


def test_two_runs_are_equal(native: Matrix) -> None:
    assert run_matrix(["native"]) == native


def test_every_operation_has_a_row_sorted_by_key(native: Matrix) -> None:
    assert {row.benchmark for row in native.rows} == {*operation_names(), *workload_names()}
    assert list(native.rows) == sorted(native.rows, key=lambda row: row.key)
    assert native.measured == native.rows


@pytest.mark.parametrize("name", NATIVE)
def test_instructions_of_the_worked_example(native: Matrix, name: str) -> None:
    counts = native.row("native", name).counts()
    assert tuple(found and found.instructions for found in counts.values()) == NATIVE[name]


def test_patching_saves_cycles_everywhere(native: Matrix) -> None:
    for row in native.rows:
        assert row.indirect is not None
        assert row.patched is not None
        assert row.indirect.cycles > row.patched.cycles, row.benchmark
        overhead = row.overhead_percent()
        assert overhead is not None
        assert overhead > 0


def test_sites_before_and_after(native: Matrix) -> None:
    site, = native.row("native", "irq_disable").sites
    assert site.before_text.startswith("pushl %ecx; pushl %edx; calll *")
    assert site.after.hex(" ") == "fa 90 8d b4 26 00 00 00 00 90"
    assert not site.kept
    assert len(native.row("native", "null_syscall_sysenter").sites) == 3


def test_a_null_system_call_uses_two_operations(native: Matrix) -> None:
    row = native.row("native", "null_syscall_int80")
    assert row.operations == (("irq_disable", "irq", 1), ("iret", "exit", 1))
    assert (row.executed, row.interrupt_percent) == (2, 100.0)
    assert row.title == "getppid by int $0x80"


def test_filters_and_unknown_names() -> None:
    matrix = run_matrix(["native"], ["iret", "save_fl"])
    assert [row.benchmark for row in matrix.rows] == ["iret", "save_fl"]
    with pytest.raises(PvfastError, match="no operation or workload 'popf': choose from"):
        run_matrix(["native"], ["popf"])
    with pytest.raises(KeyError):
        matrix.row("native", "irq_enable")


def test_host_times_stand_apart() -> None:
    matrix = run_matrix(["native"], ["irq_disable"], host_time=True)
    assert [time.form for time in matrix.host_times] == list(FORMS)
    row, = matrix.rows
    assert isinstance(matrix.host_ns(row, "direct"), float)
    assert run_matrix(["native"], ["irq_disable"]).host_ns(row, "direct") is None


def test_progress_is_reported() -> None:
    seen: list[tuple[int, int, str]] = []
    run_matrix(["native"], ["iret", "save_fl"], progress=lambda *step: seen.append(step))
    assert seen == [(0, 2, "native save_fl"), (1, 2, "native iret"), (2, 2, "")]


def test_json_schema(native: Matrix) -> None:
    value = json.loads(json.dumps(native.as_dict()))
    assert set(value) == {"kind", "schema", "era", "processor", "rows", "host_times"}
    assert (value["kind"], value["schema"], value["era"], value["host_times"]) == ("matrix", 2, "2.6.20", [])
    for row in value["rows"]:
        assert set(row) == {"hypervisor", "benchmark", "variant", "kind", "title", "baseline", "units", "operations",
                            "interrupt_percent", "sites", "indirect", "direct", "patched", "overhead_percent", "note"}
        for form in FORMS:
            assert set(row[form]) == {"instructions", "cycles"}
            assert all(type(figure) is int for figure in row[form].values())
        for site in row["sites"]:
            assert set(site) == {"label", "address", "length", "before", "after", "before_text", "after_text"}
            assert len(bytes.fromhex(site["before"])) == len(bytes.fromhex(site["after"])) == site["length"]
