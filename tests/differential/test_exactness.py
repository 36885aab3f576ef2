"""One run equals single steps: the same states, memory and counters, whatever the blocks, fusion and slices.

Programs are random bytes of valid instructions with REP, faults and stores into their own code; a program that leaves
its page meets HLT or a fault whose handler halts.
"""
from __future__ import annotations

import random
import struct
from dataclasses import replace

import pytest

import pvfast
from pvfast.processor import Model, load_model

pytest.importorskip("unicorn")      # the runners module holds both emulators

from .builder import WINDOW
from .cases import sequence
from .runners import CODE, IDT, IF, KERNEL_CODE, TABLES, PvfastRunner, pool

SEED = 5
TF = 0x100
HANDLER, COUNTER = CODE + 0x800, CODE + 0x7F0
"""Of #DB, where no program is."""
WORLDS = [(False, False), (True, False), (False, True)]
PREDICTING = replace(load_model("pentium4"), features=load_model("generic").features)
"""A model in which branches, TLB misses and changes of the ring are events with a price."""


def state(runner: PvfastRunner) -> tuple[object, ...]:
    machine = runner.machine
    return (machine.cpu.registers(), machine.counters.as_dict(), runner.read(WINDOW.start, len(WINDOW)),
            runner.read(CODE, 0x400))


def program(number: int) -> tuple[bytes, tuple[int, ...], int]:
    """Instructions from the differential cases, in a loop, with stores into what comes next."""
    rng = random.Random(f"exact/{number}")
    case = sequence(SEED, number, CODE + 0x40)
    code = bytearray(b"\x90" * 0x40 + case.code)
    registers = list(case.registers)
    kind = number % 4
    if kind == 0:       # store a byte into the code ahead, and behind the loop's start
        target = CODE + rng.randrange(0x40, len(code))
        code[0x10:0x17] = b"\xc6\x05" + target.to_bytes(4, "little") + bytes([rng.choice((0x90, 0x40, 0xF4, 0xCC))])
    elif kind == 1:     # REP STOSB over the instructions behind it
        code[0:5] = b"\xbf" + (CODE + rng.randrange(0x10, 0x38)).to_bytes(4, "little")
        code[5:10] = b"\xb9" + rng.randrange(1, 40).to_bytes(4, "little")
        code[10:12] = b"\xb0" + bytes([rng.choice((0x90, 0x40, 0x47))])
        code[12:14] = b"\xf3\xaa"
    elif kind == 2:     # REP MOVSD over itself
        code[0:5] = b"\xbe" + (CODE + 0x20).to_bytes(4, "little")
        code[5:10] = b"\xbf" + (CODE + rng.randrange(0, 0x30)).to_bytes(4, "little")
        code[10:15] = b"\xb9" + rng.randrange(1, 12).to_bytes(4, "little")
        code[15:17] = b"\xf3\xa5"
    elif number % 8 == 3:       # REP STOSW over the end of what is mapped: in the paged worlds it faults on its way
        code[0:5] = b"\xbf" + (TABLES - 9).to_bytes(4, "little")
        code[5:10] = b"\xb9" + (20).to_bytes(4, "little")
        code[10:13] = b"\x66\xf3\xab"
    code += b"\x83\x2d" + WINDOW.start.to_bytes(4, "little") + b"\x01"          # sub dword [window], 1
    code += b"\x0f\x89" + (-(len(code) + 6)).to_bytes(4, "little", signed=True)   # jns start
    code += b"\xf4" * 32
    return bytes(code), tuple(registers), case.eflags


def load(runner: PvfastRunner, number: int) -> None:
    code, registers, eflags = program(number)
    cpu = runner.machine.cpu
    runner.write(CODE, code)
    runner.write(WINDOW.start, (3).to_bytes(4, "little") + runner.content[4:len(WINDOW)])
    (cpu.eax, cpu.ecx, cpu.edx, cpu.ebx, cpu.esp, cpu.ebp, cpu.esi, cpu.edi) = registers
    cpu.eip, cpu.eflags = CODE, eflags


def step(runner: PvfastRunner, units: int) -> pvfast.StopReason:
    """Use up to so many units one by one; why the last step stopped."""
    for _ in range(units):
        reason = runner.machine.run(max_instructions=1).reason
        if reason is not pvfast.StopReason.BUDGET:
            break
    return reason


@pytest.mark.parametrize("processor", ["generic", PREDICTING], ids=["generic", "predicting"])
@pytest.mark.parametrize(("paged", "segmented"), WORLDS)
@pytest.mark.parametrize("first", range(0, 120, 20))
def test_one_run_equals_single_steps(paged: bool, segmented: bool, first: int, processor: str | Model) -> None:
    content = pool(SEED)
    for number in range(first, first + 20):
        whole, stepped = (PvfastRunner(content, paged=paged, segmented=segmented, processor=processor)
                          for _ in range(2))
        load(whole, number)
        load(stepped, number)
        stop = whole.machine.run(max_instructions=3000)
        reason = step(stepped, 3000)
        assert state(whole) == state(stepped), f"program {number}"
        assert stop.reason is reason, f"program {number}"


@pytest.mark.parametrize("number", range(40))
def test_budget_stops_exactly(number: int) -> None:
    """Stopping anywhere and going on changes nothing, and the units used are those asked for."""
    content = pool(SEED)
    whole, pieces = PvfastRunner(content), PvfastRunner(content)
    rng = random.Random(number)
    load(whole, number)
    load(pieces, number)
    left = 2000
    whole.machine.run(max_instructions=left)
    while left:
        part = min(left, rng.choice((0, 1, 2, 3, 5, 17, 100)))
        before = units(pieces)
        reason = pieces.machine.run(max_instructions=part).reason
        if reason is not pvfast.StopReason.BUDGET:
            break
        assert units(pieces) - before <= part
        left -= part
    assert state(whole) == state(pieces)


def debug(runner: PvfastRunner, number: int) -> None:
    """Load a program and have it stop at breakpoints, at every second step by step; the handler counts and goes on."""
    rng = random.Random(f"debug/{number}")
    kinds = [0, rng.choice((1, 3)), rng.choice((1, 3)), 0]
    code, _, _ = program(number)
    addresses = [CODE + rng.randrange(0x10, len(code)), WINDOW.start + rng.randrange(8),
                 WINDOW.start + rng.randrange(len(WINDOW)), CODE + rng.randrange(0x10, len(code))]
    dr7 = 0x4FF
    setting = b""
    for n, (kind, address) in enumerate(zip(kinds, addresses, strict=True)):
        dr7 |= (kind | (0xC if kind else 0)) << (16 + 4 * n)
        linear = (address + runner.base) & 0xFFFFFFFF
        setting += b"\xb8" + linear.to_bytes(4, "little") + bytes([0x0F, 0x23, 0xC0 | n << 3])
    runner.write(CODE, setting + b"\xb8" + dr7.to_bytes(4, "little") + b"\x0f\x23\xf8\xf4")
    runner.machine.cpu.eip = CODE
    runner.machine.run(max_instructions=11)
    runner.write(HANDLER, b"\xff\x05" + COUNTER.to_bytes(4, "little") + b"\x80\x4c\x24\x0a\x01\xcf")
    runner.write(COUNTER, bytes(4))
    runner.machine.write(runner.base + IDT + 8, struct.pack("<HHHH", HANDLER & 0xFFFF, KERNEL_CODE, 0x8E00,
                                                            HANDLER >> 16))
    load(runner, number)
    if number % 2:
        runner.machine.cpu.eflags |= TF


@pytest.mark.parametrize(("paged", "segmented"), WORLDS)
def test_debugged_runs_equal_single_steps(paged: bool, segmented: bool) -> None:
    """With TF and with breakpoints on code and data (SDM 3:17.3)."""
    content = pool(SEED)
    traps = 0
    for number in range(24):
        whole, stepped = (PvfastRunner(content, paged=paged, segmented=segmented) for _ in range(2))
        debug(whole, number)
        debug(stepped, number)
        whole.machine.run(max_instructions=2000)
        step(stepped, 2000)
        assert state(whole) == state(stepped), f"program {number}"
        assert whole.read(COUNTER, 4) == stepped.read(COUNTER, 4)
        traps += int.from_bytes(whole.read(COUNTER, 4), "little")
    assert traps > 500


class Interrupter:
    """A device that interrupts at cycles of its own choice, now and then twice at once."""

    VECTOR = 0x31

    def __init__(self, number: int) -> None:
        self.rng = random.Random(f"interrupts/{number}")
        self.due = self.rng.randrange(1, 40)

    def next_event(self) -> int:
        return self.due

    def fire(self, machine: pvfast.Machine) -> None:
        machine.inject_interrupt(self.VECTOR + self.rng.randrange(2))
        self.due += self.rng.choice((0, 1, 2, 3, 7, 20, 90))


def interrupt(runner: PvfastRunner, number: int) -> None:
    """Load a program that is interrupted, and goes to ring 0 and back by INT3 itself; handlers count and return."""
    runner.write(HANDLER, b"\xff\x05" + COUNTER.to_bytes(4, "little") + b"\xcf")
    runner.write(COUNTER, bytes(4))
    for vector, access in ((3, 0xEE00), (Interrupter.VECTOR, 0x8E00), (Interrupter.VECTOR + 1, 0x8F00)):
        runner.machine.write(runner.base + IDT + 8 * vector,
                             struct.pack("<HHHH", HANDLER & 0xFFFF, KERNEL_CODE, access, HANDLER >> 16))
    if runner.user:
        runner.enter_ring3()
    load(runner, number)
    runner.write(CODE + 0x3E, b"\xcc\x90")      # behind what the program begins with, before its instructions
    runner.machine.cpu.eflags |= IF
    runner.machine.attach(Interrupter(number))


@pytest.mark.parametrize("processor", ["generic", PREDICTING], ids=["generic", "predicting"])
@pytest.mark.parametrize(("paged", "segmented", "user"), [
    (False, False, False), (True, True, False), (True, False, True), (True, True, True)])
def test_interrupted_runs_equal_single_steps(paged: bool, segmented: bool, user: bool, processor: str | Model) -> None:
    """External interrupts at any instruction boundary, in ring 0 and from ring 3 to ring 0 and back."""
    content = pool(SEED)
    delivered = 0
    for number in range(40):
        whole, stepped = (PvfastRunner(content, paged=paged, segmented=segmented, user=user, processor=processor)
                          for _ in range(2))
        interrupt(whole, number)
        interrupt(stepped, number)
        whole.machine.run(max_instructions=1500)
        step(stepped, 1500)
        assert state(whole) == state(stepped), f"program {number}"
        assert whole.read(COUNTER, 4) == stepped.read(COUNTER, 4)
        delivered += int.from_bytes(whole.read(COUNTER, 4), "little")
    assert delivered > 500


def units(runner: PvfastRunner) -> int:
    return runner.machine.counters.instructions


@pytest.mark.parametrize("number", range(3, 120, 4))
def test_until_stops_exactly(number: int) -> None:
    """`until` set to any address that a run passes stops there the first time, as stepping does."""
    content = pool(SEED)
    stepped = PvfastRunner(content)
    load(stepped, number)
    passed = [CODE]
    while len(passed) < 200 and stepped.machine.run(max_instructions=1).reason is pvfast.StopReason.BUDGET:
        passed.append(stepped.machine.cpu.eip)
    for until in random.Random(number).sample(passed, min(len(passed), 8)):
        whole, stepped = PvfastRunner(content), PvfastRunner(content)
        for runner in (whole, stepped):     # blocks are decoded without the limit first
            load(runner, number)
            runner.machine.run(max_instructions=500)
            load(runner, number)
        assert whole.machine.run(until=until).reason is pvfast.StopReason.UNTIL
        while stepped.machine.cpu.eip != until:
            stepped.machine.run(max_instructions=1)
        assert state(whole) == state(stepped), f"until {until:#x}"
