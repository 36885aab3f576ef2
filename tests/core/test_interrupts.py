"""Delivery of interrupts and exceptions, IRET, SYSENTER and SYSEXIT against SDM 3, chapter 6, and SDM 2."""
from __future__ import annotations

import struct

import pytest

import pvfast

from .protected import (
    BP,
    CODE,
    DF_VECTOR,
    GP,
    HANDLERS,
    IDT,
    IF,
    IOPL,
    KERNEL_CODE,
    KERNEL_DATA,
    KERNEL_STACK,
    NP,
    NT,
    PAGE_FAULT,
    RF,
    RING0_STACK,
    SPARE,
    SS,
    TF,
    TS,
    TSS,
    TSS_SELECTOR,
    UD,
    USER_CODE,
    USER_DATA,
    USER_STACK,
    World,
    at_once_and_stepped,
    descriptor,
)


@pytest.fixture
def world() -> World:
    return World()


class TestGates:
    """SDM 3:6.12."""

    def test_same_ring(self, world):
        taken = world.ring0("int $0x40", eflags=2 | IF | 1)
        assert (taken.vector, taken.eip, taken.cs, taken.eflags) == (0x40, CODE + 2, KERNEL_CODE, 2 | IF | 1)
        assert world.cpu.esp == KERNEL_STACK - 12
        assert world.cpu.eflags == 2 | 1            # an interrupt gate clears IF

    def test_a_trap_gate_keeps_if(self, world):
        world.vector(0x40, HANDLERS + 0x400, 0x8F)
        world.load("int $0x40")
        world.cpu.eflags = 2 | IF
        world.cpu.eip = CODE
        world.machine.run(until=HANDLERS + 0x400)
        assert world.cpu.eflags & IF

    def test_tf_and_nt_are_cleared(self, world):
        taken = world.ring0("int $0x40", eflags=2 | NT)
        assert taken.eflags & NT
        assert not world.cpu.eflags & (NT | TF)

    def test_from_ring_3_the_stack_comes_from_the_tss(self, world):
        world.vector(0x80, HANDLERS + 0x800, 0xEE)
        taken = world.ring3("int $0x80", eflags=2 | IF)
        assert (taken.vector, taken.eip, taken.cs) == (0x80, CODE + 2, USER_CODE)
        assert (taken.esp, taken.ss) == (USER_STACK, USER_DATA)
        assert world.cpu.esp == RING0_STACK - 20
        assert (world.cpu.cpl, world.cpu.cs.selector, world.cpu.ss.selector) == (0, KERNEL_CODE, KERNEL_DATA)
        assert world.cpu.ds.selector == USER_DATA

    def test_a_software_interrupt_needs_the_gates_dpl(self, world):
        taken = world.ring3("nop; int $0x80")
        assert (taken.vector, taken.error, taken.eip) == (GP, 0x80 * 8 + 2, CODE + 1)

    def test_an_exception_does_not(self, world):
        assert world.ring3("ud2").vector == UD

    def test_16_bit_gates(self, world):
        world.vector(0x41, 0x5000, 0x86)
        world.machine.write(0x5000, b"\xf4")
        world.load("int $0x41")
        world.cpu.eflags = 3
        world.go()
        assert world.cpu.eip == 0x5001
        assert struct.unpack("<3H", world.machine.read(world.cpu.esp, 6)) == ((CODE + 2) & 0xFFFF, KERNEL_CODE, 3)
        assert world.cpu.esp == KERNEL_STACK - 6

    @pytest.mark.parametrize(("access", "selector", "vector", "error"), [
        (0x0E, KERNEL_CODE, NP, 0x60 * 8 + 2),      # not present
        (0x8C, KERNEL_CODE, GP, 0x60 * 8 + 2),      # a call gate
        (0x8E, 0, GP, 0),                           # null code segment
        (0x8E, KERNEL_DATA, GP, KERNEL_DATA),       # no code
        (0x8E, 0xFFF8, GP, 0xFFF8),                 # outside the GDT
    ])
    def test_refusals(self, world, access, selector, vector, error):
        world.vector(0x60, HANDLERS, access, selector)
        taken = world.ring0("nop; int $0x60")
        assert (taken.vector, taken.error, taken.eip) == (vector, error, CODE + 1)

    def test_beyond_the_idt(self, world):
        world.cpu.idtr = (IDT, 0x1FF)
        taken = world.ring0("int $0x40")
        assert (taken.vector, taken.error) == (GP, 0x40 * 8 + 2)

    def test_a_less_privileged_handler_is_refused(self, world):
        world.vector(0x60, HANDLERS, 0x8E, USER_CODE & ~3)
        taken = world.ring0("int $0x60")
        assert (taken.vector, taken.error) == (GP, USER_CODE & ~3)

    @pytest.mark.parametrize(("stack", "vector", "error"), [
        (0, TS, 0), (0xFFF8 | 1, TS, 0xFFF8), (KERNEL_DATA, TS, KERNEL_DATA), (SPARE | 1, SS, SPARE)])
    def test_inner_stack_refusals(self, world, stack, vector, error):
        """A handler in ring 1, whose stack is bad: the fault itself goes to ring 0."""
        world.describe(0x40, descriptor(0, 0xFFFFF, 0xBA))          # ring 1 code
        world.describe(SPARE, descriptor(0, 0xFFFFF, 0x32))         # ring 1 data, not present
        world.machine.write(TSS + 12, struct.pack("<II", 0x9800, stack))
        world.vector(0x80, HANDLERS, 0xEE, 0x40)
        taken = world.ring3("int $0x80")
        assert (taken.vector, taken.error, taken.eip) == (vector, error, CODE)

    def test_a_short_tss(self, world):
        world.describe(0x40, descriptor(0, 0xFFFFF, 0xBA))
        world.describe(TSS_SELECTOR, descriptor(TSS, 0x0F, 0x89, 0))     # room for ring 0's stack only
        world.ring0(f"mov ${TSS_SELECTOR}, %eax; ltr %ax; hlt")
        world.vector(0x80, HANDLERS, 0xEE, 0x40)
        taken = world.ring3("int $0x80")
        assert (taken.vector, taken.error) == (TS, TSS_SELECTOR)


class TestExceptions:
    """SDM 3:6.15."""

    def test_faults_save_the_instruction_and_rf(self, world):
        taken = world.ring0("nop; ud2")
        assert (taken.eip, bool(taken.eflags & RF)) == (CODE + 1, True)
        assert not world.cpu.eflags & RF

    def test_int3_is_a_trap(self, world):
        taken = world.ring0("int3")
        assert (taken.vector, taken.eip, taken.eflags & RF) == (BP, CODE + 1, 0)

    def test_page_fault(self, world):
        world.machine.write(0x40000, struct.pack("<I", 0x41007))
        world.machine.write(0x41000, b"".join(struct.pack("<I", page << 12 | 7) for page in range(256)))
        world.machine.write(0x41000 + 4 * 0x50, struct.pack("<I", 0))
        world.cpu.cr3 = 0x40000
        world.cpu.cr0 |= 0x80000000
        taken = world.ring3("movl $1, 0x50010")
        assert (taken.vector, taken.error, taken.eip, world.cpu.cr2) == (PAGE_FAULT, 6, CODE, 0x50010)

    def test_an_iret_from_a_fault_restarts_it(self, world):
        labels = world.load("movl $5, %fs:0; hlt")
        world.load(f"mov ${KERNEL_DATA}, %eax; mov %eax, %fs; add $4, %esp; iret", 0x18000)
        world.vector(GP, 0x18000)
        world.cpu.fs.set(0, 0, 0, 0x10000)
        world.go()
        assert labels is not None
        assert world.machine.read(0, 4) == b"\5\0\0\0"

    def test_double_fault(self, world):
        """A contributory fault while another is delivered (SDM 3:6.15, table 6-5)."""
        world.vector(GP, HANDLERS, 0x0E)            # #GP's gate is not present
        taken = world.ring0("mov $0xFFF8, %eax; mov %eax, %ds")
        assert (taken.vector, taken.error, taken.eip) == (DF_VECTOR, 0, CODE + 5)

    def test_a_benign_fault_first_is_no_double_fault(self, world):
        world.vector(UD, HANDLERS, 0x0E)
        taken = world.ring0("ud2")
        assert (taken.vector, taken.error) == (NP, UD * 8 + 2 + 1)      # EXT: while delivering an exception

    def test_triple_fault(self, world):
        world.vector(GP, HANDLERS, 0x0E)
        world.vector(DF_VECTOR, HANDLERS, 0x0E)
        stop = world.ring0("mov $0xFFF8, %eax; mov %eax, %ds")
        assert stop.reason is pvfast.StopReason.SHUTDOWN
        assert (stop.vector, stop.error, stop.eip) == (GP, 0xFFF8, CODE + 5)

    def test_no_idt_at_all(self):
        machine = pvfast.Machine(ram="1M")
        machine.write(0x1000, b"\x0f\x0b")
        machine.cpu.eip = 0x1000
        machine.cpu.idtr = (0, 0)
        stop = machine.run(max_instructions=10)
        assert stop.reason is pvfast.StopReason.SHUTDOWN
        assert stop.vector == UD

    def test_a_software_interrupt_that_fails_is_no_double_fault(self, world):
        world.vector(0x60, HANDLERS, 0x0E)
        assert world.ring0("int $0x60").error == 0x60 * 8 + 2       # EXT clear: the program asked for it

    def test_counters(self, world):
        before = world.machine.counters.as_dict()
        world.ring0("nop; int $0x40")
        after = world.machine.counters.as_dict()
        assert after["interrupts"] - before["interrupts"] == 1
        assert after["faults"] == before["faults"]
        assert after["instructions"] - before["instructions"] == 3      # nop, int, hlt
        world.ring0("ud2")
        assert world.machine.counters.faults - after["faults"] == 1
        assert world.machine.counters.instructions - after["instructions"] == 1     # the handler's hlt


class TestExternal:
    """SDM 3:6.3.1, 6.8.1."""

    def test_taken_when_if_allows(self, world):
        labels = world.load("nop; sti; nop; here: nop; hlt")
        world.machine.inject_interrupt(0x20)
        world.cpu.eflags = 2
        taken = world.go()
        assert (taken.vector, taken.eip, taken.eflags & IF) == (0x20, labels["here"], IF)
        assert not taken.eflags & RF

    def test_wakes_from_hlt(self, world):
        labels = world.load("sti; hlt; after: nop")
        world.cpu.eflags = 2
        world.cpu.eip = CODE
        assert world.machine.run(max_instructions=10).reason is pvfast.StopReason.HALT
        world.machine.inject_interrupt(0x21)
        world.machine.run(max_instructions=10)
        assert world.cpu.eip == HANDLERS + 0x210 + 1
        assert world.frame(0x21).eip == labels["after"]

    def test_the_gates_dpl_does_not_matter(self, world):
        world.machine.inject_interrupt(0x20)
        taken = world.ring3("nop; nop", eflags=2 | IF)
        assert (taken.vector, taken.cs, taken.eip) == (0x20, USER_CODE, CODE)

    def test_a_failing_delivery_sets_ext(self, world):
        world.vector(0x20, HANDLERS, 0x0E)
        world.machine.inject_interrupt(0x20)
        taken = world.ring0("nop; hlt", eflags=2 | IF)
        assert (taken.vector, taken.error) == (NP, 0x20 * 8 + 2 + 1)


class TestIret:
    """SDM 2 IRET."""

    def test_same_ring(self, world):
        world.ring0(f"push ${2 | IOPL | 0x41}; push %cs; push $next; iret; ud2; next: pushf; pop %eax; hlt")
        assert world.cpu.eax == 2 | IOPL | 0x41
        assert world.cpu.esp == KERNEL_STACK

    def test_to_ring_3(self, world):
        labels = world.load(f"push ${USER_DATA}; push ${USER_STACK - 0x20}; push ${2 | IF}; push ${USER_CODE}; "
                            "push $user; iret; user: mov %ds, %ecx; mov %fs, %edx; ud2")
        world.cpu.fs.set(USER_DATA, 0, 0xFFFFFFFF, 0xC0F3)
        taken = world.go()
        assert (taken.cs, taken.ss, taken.esp, taken.eip) == (USER_CODE, USER_DATA, USER_STACK - 0x20,
                                                              labels["user"] + 4)
        assert taken.eflags & IF
        assert (world.cpu.ecx, world.cpu.edx) == (0, USER_DATA)     # DS was ring 0's, FS ring 3's

    def test_ring_3_cannot_change_if_or_iopl(self, world):
        taken = world.ring3(f"push ${2 | IF | IOPL | 1}; push %cs; push $next; iret; next: ud2")
        assert taken.vector == UD
        assert taken.eflags & ~RF == 2 | 1

    def test_ring_3_cannot_go_inwards(self, world):
        taken = world.ring3(f"push $2; push ${KERNEL_CODE}; push ${CODE}; iret")
        assert (taken.vector, taken.error, taken.cs) == (GP, KERNEL_CODE, USER_CODE)

    @pytest.mark.parametrize(("stack", "vector", "error"), [
        (0, GP, 0), (KERNEL_DATA, GP, KERNEL_DATA), (KERNEL_DATA | 3, GP, KERNEL_DATA), (SPARE | 3, SS, SPARE)])
    def test_outer_stack_refusals(self, world, stack, vector, error):
        world.describe(SPARE, descriptor(0, 0xFFFFF, 0x72))         # ring 3 data, not present
        labels = world.load(f"push ${stack}; push ${USER_STACK}; push $2; push ${USER_CODE}; push ${CODE}; "
                            "at: iret")
        taken = world.go()
        assert (taken.vector, taken.error, taken.eip) == (vector, error, labels["at"])
        assert world.cpu.esp == KERNEL_STACK - 20 - 16

    def test_nested_task_is_refused(self, world):
        taken = world.ring0("push $2; push %cs; push $next; iret; next: hlt", eflags=2 | NT)
        assert taken.vector == TS

    def test_eip_beyond_the_limit(self, world):
        world.describe(SPARE, descriptor(0, 0xFF, 0x9A))            # limit 0xFFFFF
        taken = world.ring0(f"push $2; push ${SPARE}; push $0x100000; iret")
        assert (taken.vector, taken.error) == (GP, 0)


class TestSysenter:
    """SDM 2 SYSENTER and SYSEXIT; SDM 3:5.8.7."""

    def prepare(self, world, selector: int = KERNEL_CODE) -> None:
        world.load("mov %cs, %ebx; mov %ss, %ebp; mov $back, %edx; sysexit; back:", 0x18000)
        world.load("hlt", 0x1A000)
        world.ring0(f"mov $0x174, %ecx; mov ${selector}, %eax; xor %edx, %edx; wrmsr; mov $0x175, %ecx; "
                    "mov $0x9800, %eax; wrmsr; mov $0x176, %ecx; mov $0x1A000, %eax; wrmsr; hlt")

    def test_enter(self, world):
        self.prepare(world)
        world.ring3("sysenter", eflags=2 | IF | 1)
        assert world.cpu.eip == 0x1A001
        assert (world.cpu.cs.selector, world.cpu.ss.selector, world.cpu.cpl) == (KERNEL_CODE, KERNEL_DATA, 0)
        assert world.cpu.esp == 0x9800
        assert world.cpu.eflags == 2 | 1

    def test_exit(self, world):
        self.prepare(world)
        taken = world.ring0(f"mov ${USER_STACK}, %ecx; mov $user, %edx; sti; sysexit; user: ud2")
        assert (taken.vector, taken.cs, taken.ss, taken.esp) == (UD, USER_CODE, USER_DATA, USER_STACK)
        assert taken.eflags & IF

    def test_without_a_code_segment(self, world):
        taken = world.ring3("sysenter")
        assert (taken.vector, taken.error, taken.eip) == (GP, 0, CODE)
        taken = world.ring0("sysexit")
        assert (taken.vector, taken.error) == (GP, 0)


def test_a_run_in_single_steps_is_the_same():
    """Ring changes, faults and an injected interrupt, instruction by instruction and at once."""
    def build() -> World:
        world = World()
        world.vector(0x80, 0x18000, 0xEE)
        world.load("inc %eax; iret", 0x18000)
        world.load("mov $20, %ecx; again: int $0x80; sub $1, %ecx; jne again; ud2")
        world.enter_ring3(2 | IF)
        world.cpu.eip = CODE
        world.cpu.eax = 0
        return world

    assert at_once_and_stepped(build, 1000).cpu.eax == 20
