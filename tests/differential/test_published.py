"""Valgrind's own cases: PVFAST_VALGRIND_DEFS names the folder none/tests/x86 of its source."""
from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

pytest.importorskip("unicorn")      # the runners module holds both emulators

from .host import host
from .published import Published, assemble, parse, read
from .runners import CODE, PvfastRunner, pool

FILES = ("basic", "cmov", "fpu", "mmx", "mmxext", "sse", "sse2")
"""The others are of extensions that came after the Pentium 4's first."""
LINE = "adcb eflags[0x1,0x1] : imm8[12] al.ub[34] => 1.ub[47] eflags[0x1,0x0]"


def folder() -> Path:
    if not (path := os.environ.get("PVFAST_VALGRIND_DEFS")):
        pytest.skip("PVFAST_VALGRIND_DEFS does not name Valgrind's none/tests/x86")
    return Path(path)


def need_assembler() -> None:
    if not (shutil.which("as") and shutil.which("objcopy")):
        pytest.skip("there is no assembler")


def failures(cases: list[Published], run) -> list[str]:
    return [f"{case.name}: {wrong}" for case in cases if (wrong := case.wrong(run(case.case(CODE))))]


def test_parser(tmp_path: Path) -> None:
    need_assembler()
    case = parse("here", LINE)
    assert case.lines[-4:] == ["adcb $12, %al", "movb %al, 0x3200", "pushfl", "popl 0x3210"]
    assemble([case], tmp_path)
    assert failures([case], PvfastRunner(pool(1)).run) == []
    case.results[0].values = ["48"]
    assert failures([case], PvfastRunner(pool(1)).run) == ["here: al.ub: 30 expected, not 2f"]


@pytest.mark.parametrize("name", FILES)
def test_valgrind(name: str, tmp_path: Path) -> None:
    cases = list(read(folder() / f"insn_{name}.def"))
    need_assembler()
    assemble(cases, tmp_path)
    runner = PvfastRunner(pool(1))
    wrong = failures(cases, runner.run)
    if wrong and not host.unavailable():        # the translation from .def to programs is right if the host says so
        native = host.HostRunner(pool(1))
        assert failures(cases, lambda case: native.run_many([case])[0]) == []
        native.close()
    assert wrong == [], f"{len(wrong)} of {len(cases)}"
