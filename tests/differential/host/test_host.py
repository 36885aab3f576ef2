"""The host runner: what it says about an instruction is what the manual says."""
from __future__ import annotations

import dataclasses
import struct

import pytest

from ..cases import Case
from ..outcome import Outcome
from ..runners import pool
from ..tables import SELECTORS
from . import host

REGISTERS = (1, 2, 3, 4, 0x8000, 6, 0x3100, 0x3200)
ADDRESS = 0x400000
CONTENT = pool(1)


@pytest.fixture(scope="module")
def runner():
    if reason := host.unavailable():
        pytest.skip(reason)
    runner = host.HostRunner(CONTENT)
    yield runner
    runner.close()


def case(code: str, **fields: object) -> Case:
    content = bytes.fromhex(code)
    plain = Case(0, ADDRESS, content, REGISTERS, 2, (), 0, 0, 0, (), content)
    return dataclasses.replace(plain, **fields)


def run(runner: host.HostRunner, code: str, **fields: object) -> Outcome:
    (outcome,) = runner.run_many([case(code, **fields)])
    return outcome


def test_registers_memory_and_flags(runner: host.HostRunner) -> None:
    outcome = run(runner, "01c8 f9 a300400000")     # ADD EAX, ECX; STC; MOV [4000h], EAX
    assert outcome.vector is None
    assert outcome.registers == [3, *REGISTERS[1:]]
    assert outcome.eip == ADDRESS + 8
    assert outcome.eflags & 1
    assert outcome.window == CONTENT[:0x1000] + struct.pack("<I", 3) + CONTENT[0x1004:0x6000]
    assert outcome.selectors == SELECTORS


@pytest.mark.parametrize(("code", "vector", "error", "at"), [
    ("31db f7f3", 0, 0, 2),                     # DIV by 0: SDM 3:6.15 interrupt 0, a fault
    ("cc 90", 3, 0, 1),                         # INT3 is a trap
    ("b07f 0401 ce 90", 4, 0, 5),               # INTO is a trap
    ("6206 90", 5, 0, 0),                       # BOUND EAX, [ESI], from 5 to 9
    ("0f0b 90", 6, 0, 0),
    ("f4 90", 13, 0, 0),                        # HLT is privileged
    ("cd30 90", 13, 0x30 << 3 | 2, 0),          # INT through a gate with DPL 0: SDM 3:6.12.1.1
    ("b80cff0000 8ed8 90", 13, 0xFF0C, 5),      # a selector behind the LDT's limit: SDM 3:5.2
    ("a100000080", 14, 4, 0),
])
def test_faults(runner: host.HostRunner, code: str, vector: int, error: int, at: int) -> None:
    outcome = run(runner, code, patches=((0x3100, struct.pack("<ii", 5, 9)),))
    assert (outcome.vector, outcome.error, outcome.eip - ADDRESS) == (vector, error, at)


def test_page_fault_says_where(runner: host.HostRunner) -> None:
    assert run(runner, "a100000080").cr2 == 0x80000000


def test_segments_have_bases(runner: host.HostRunner) -> None:
    outcome = run(runner, "64a100300000 65 8b1d00500000")       # MOV EAX, FS:[3000h]; MOV EBX, GS:[5000h]
    (first,) = struct.unpack_from("<I", CONTENT, 0x1230)
    (second,) = struct.unpack_from("<I", CONTENT, 0)
    assert (outcome.registers[0], outcome.registers[3]) == (first, second)


def test_fxsave_image_goes_in_and_out(runner: host.HostRunner) -> None:
    image = bytearray(case("90").fxsave)
    image[160:176] = struct.pack("<4I", 1, 2, 3, 4)             # XMM0
    outcome = run(runner, "0f58c0 dbe3 d9e8", fxsave=bytes(image))      # ADDPS XMM0, XMM0; FNINIT; FLD1
    assert struct.unpack_from("<4I", outcome.fxsave, 160) == (2, 4, 6, 8)
    assert outcome.fxsave[2:5] == b"\x00\x38\x80"               # TOP 7, and that register is valid
    assert outcome.fxsave[32:42] == bytes(7) + b"\x80\xff\x3f"


def test_flags_do_not_leak_into_the_next_case(runner: host.HostRunner) -> None:
    first, second = runner.run_many([case("68 00422400 9d"), case("90")])       # POPFD with ID, AC, NT
    assert first.eflags & 0x244000 == 0x244000
    assert second.eflags & 0x244000 == 0


def test_a_hang_ends(runner: host.HostRunner) -> None:
    first, second = runner.run_many([case("ebfe"), case("40")])
    assert (first.vector, first.eip) == ("hang", ADDRESS)
    assert (second.vector, second.registers[0]) == (None, 2)
