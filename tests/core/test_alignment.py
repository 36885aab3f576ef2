"""Alignment checks against SDM 3:6.15, interrupt 17: CR0.AM, EFLAGS.AC and CPL 3 together."""
from __future__ import annotations

import struct

import pytest

from .protected import (
    AC,
    CODE,
    GP,
    HANDLERS,
    PAGE_FAULT,
    RING0_STACK,
    TSS,
    UD,
    USER_CODE,
    USER_DATA,
    USER_STACK,
    World,
    at_once_and_stepped,
)

ALIGNMENT = 17
AM = 0x40000
DATA = 0x40000


@pytest.fixture
def world() -> World:
    world = World()
    world.cpu.cr0 |= AM
    return world


UNALIGNED = [
    ("mov 0x40001, %ax", True), ("mov 0x40002, %ax", False), ("mov 0x40002, %eax", True),
    ("mov 0x40004, %eax", False), ("mov 0x40001, %al", False), ("movl $1, 0x40001", True),
    ("add %eax, 0x40003", True), ("push 0x40002", True), ("pop 0x40002", True), ("xchg %eax, 0x40001", True),
    ("lea 0x40001, %eax", False), ("movsl", True), ("movsb", False), ("lodsw", True), ("btl %ecx, 0x40002", True),
    ("les 0x40002, %eax", True), ("lds 0x40004, %eax", False), ("sgdt 0x40004", True), ("sidt 0x40002", False)]


class TestAccesses:
    """Table 6-7: words on even addresses, doublewords on multiples of 4."""

    @pytest.mark.parametrize("paged", [False, True])
    @pytest.mark.parametrize(("source", "faults"), UNALIGNED)
    def test_table(self, world, source, faults, paged):
        if paged:
            turn_paging_on(world)
        world.machine.write(DATA + 4, struct.pack("<IH", 0, USER_DATA))
        world.cpu.esi, world.cpu.edi, world.cpu.ecx = DATA + 1, DATA + 0x20, 0
        taken = world.ring3(f"nop; {source}; ud2", eflags=2 | AC)
        assert (taken.vector, taken.error) == ((ALIGNMENT, 0) if faults else (UD, None))
        assert not faults or taken.eip == CODE + 1

    @pytest.mark.parametrize("osfxsr", [0, 0x200])
    @pytest.mark.parametrize("source", ["fxsave 0x40010", "fxrstor 0x40010"])
    def test_the_image_of_fxsave_lies_on_16_bytes(self, world, source, osfxsr):
        world.cpu.cr4 = osfxsr
        assert world.ring3(f"{source}; ud2", eflags=2 | AC).vector == UD

    @pytest.mark.parametrize("source", ["push %eax", "pop %eax", "call . + 5", "ret", "pusha", "popa", "pushf", "leave",
                                        "enter $0, $0"])
    def test_the_stack(self, world, source):
        world.load(source)
        world.enter_ring3(2 | AC)
        world.cpu.esp = world.cpu.ebp = USER_STACK - 0x42
        assert (taken := world.go()).vector == ALIGNMENT
        assert (taken.eip, taken.esp) == (CODE, USER_STACK - 0x42)


class TestConditions:
    @pytest.mark.parametrize(("cr0", "eflags"), [(0, 2 | AC), (AM, 2)])
    def test_am_and_ac(self, world, cr0, eflags):
        world.cpu.cr0 = world.cpu.cr0 & ~AM | cr0
        assert world.ring3("mov 0x40001, %eax; ud2", eflags).vector == UD

    def test_ring_0_is_exempt(self, world):
        assert world.ring0("mov 0x40001, %eax; ud2", 2 | AC).vector == UD

    def test_popf_turns_it_on_and_off(self, world):
        """In the middle of a block."""
        taken = world.ring3(f"mov 0x40001, %eax; push ${2 | AC}; popf; mov 0x40004, %eax; push $2; popf; "
                            f"mov 0x40001, %eax; push ${2 | AC}; popf; here: mov 0x40001, %eax; ud2")
        assert taken.vector == ALIGNMENT
        assert taken.eflags & AC
        assert taken.eip == world.load(f"mov 0x40001, %eax; push ${2 | AC}; popf; mov 0x40004, %eax; push $2; popf; "
                                       f"mov 0x40001, %eax; push ${2 | AC}; popf; here: ")["here"]

    def test_iret_turns_it_on(self, world):
        labels = world.load(f"push ${USER_DATA}; push ${USER_STACK - 2}; push ${2 | AC}; push ${USER_CODE}; "
                            "push $user; iret; user: push %eax")
        taken = world.go()
        assert (taken.vector, taken.eip) == (ALIGNMENT, labels["user"])

    def test_a_handler_in_ring_0_is_not_checked(self, world):
        """Nor is its stack, whose frame is written before CPL changes."""
        world.machine.write(TSS + 4, struct.pack("<I", RING0_STACK - 1))
        taken = world.ring3("ud2", 2 | AC)
        assert (taken.vector, taken.eip, world.cpu.esp) == (UD, CODE, RING0_STACK - 1 - 20)

    def test_tables_are_not_checked(self, world):
        """A GDT at an odd address."""
        world.machine.write(0x1801, world.machine.read(0x1000, 0x100))
        world.cpu.gdtr = (0x1801, 0xFF)
        taken = world.ring3(f"mov ${USER_DATA}, %eax; mov %eax, %fs; ud2", 2 | AC)
        assert (taken.vector, world.cpu.fs.selector) == (UD, USER_DATA)

    def test_the_segments_limit_comes_first(self, world):
        world.load("fs mov 0x1001, %eax")
        world.enter_ring3(2 | AC)
        world.cpu.fs.set(USER_DATA, 0, 0xFFF, 0x40F3)
        assert world.go().vector == GP

    def test_before_the_page_fault(self, world):
        """The manual leaves the order to the processor."""
        turn_paging_on(world)
        world.machine.write(0x61000 + 4 * 0x50, struct.pack("<I", 0))
        assert world.ring3("mov 0x50001, %eax", 2 | AC).vector == ALIGNMENT
        assert world.ring3("mov 0x50000, %eax", 2 | AC).vector == PAGE_FAULT


def turn_paging_on(world: World) -> None:
    world.machine.write(0x60000, struct.pack("<I", 0x61007))
    world.machine.write(0x61000, b"".join(struct.pack("<I", page << 12 | 7) for page in range(256)))
    world.cpu.cr3, world.cpu.cr0 = 0x60000, world.cpu.cr0 | 0x80000000


def test_a_run_in_single_steps_is_the_same():
    def build() -> World:
        world = World()
        world.cpu.cr0 |= AM
        world.load("addl $7, 4(%esp); add $4, %esp; iret", 0x19000)          # skip the instruction
        world.vector(ALIGNMENT, 0x19000)
        world.load(f"mov $9, %ecx; again: addl $3, 0x40002; push ${2 | AC}; popf; addl $3, 0x40002; push $2; popf; "
                   "sub $1, %ecx; jne again; ud2")
        world.enter_ring3()
        world.cpu.eip = CODE
        return world

    once = at_once_and_stepped(build, 10_000)
    assert once.cpu.eip == HANDLERS + 16 * UD + 1
    assert once.machine.counters.faults == 10
