"""System instructions against the manual's text: flags and privilege, control registers, MSRs, tables, ports."""
from __future__ import annotations

import struct

import pytest

import pvfast

from .protected import (
    CF,
    CODE,
    DE,
    GDT,
    GP,
    ID,
    IDT,
    IF,
    IOPL,
    NT,
    OF,
    TF,
    TSS,
    UD,
    USER_STACK,
    WITH_ERROR_CODE,
    ZF,
    Taken,
    World,
)


@pytest.fixture
def world() -> World:
    return World()


class TestInterruptFlag:
    """SDM 3:6.8.1, SDM 2 CLI and STI."""

    def test_ring_0(self, world):
        world.ring0("sti; nop; pushf; cli; pushf; hlt")
        after_cli, after_sti = world.stack(2)
        assert after_sti & IF
        assert not after_cli & IF

    @pytest.mark.parametrize("instruction", ["cli", "sti"])
    def test_ring_3_without_iopl_is_refused(self, world, instruction):
        taken = world.ring3(f"{instruction}; hlt")
        assert (taken.vector, taken.error, taken.eip) == (GP, 0, CODE)

    def test_ring_3_with_iopl_3(self, world):
        taken = world.ring3("sti; nop; cli; pushf; pop %eax; int3", eflags=2 | IOPL)
        assert taken.vector == GP       # int3 through a DPL-0 gate
        assert not world.cpu.eax & IF

    def test_sti_holds_interrupts_for_one_instruction(self, world):
        labels = world.load("sti; inc %eax; after: inc %eax; hlt")
        world.cpu.eax = 0
        world.cpu.eflags = 2
        world.machine.inject_interrupt(0x20)
        taken = world.go()
        assert taken.vector == 0x20
        assert world.cpu.eax == 1
        assert taken.eip == labels["after"]

    def test_the_shadow_survives_a_stop(self, world):
        labels = world.load("sti; inc %eax; after: inc %eax; hlt")
        world.cpu.eax = 0
        world.cpu.eflags = 2
        world.cpu.eip = CODE
        world.machine.step()
        world.machine.inject_interrupt(0x20)
        taken = world.go(world.cpu.eip)
        assert (taken.vector, taken.eip, world.cpu.eax) == (0x20, labels["after"], 1)

    def test_the_shadow_survives_a_stop_by_until(self, world):
        labels = world.load("sti; next: inc %eax; after: inc %eax; hlt")
        world.cpu.eax = 0
        world.cpu.eflags = 2
        world.cpu.eip = CODE
        world.machine.run(until=labels["next"])
        world.machine.inject_interrupt(0x20)
        taken = world.go(world.cpu.eip)
        assert (taken.vector, taken.eip, world.cpu.eax) == (0x20, labels["after"], 1)

    def test_sti_casts_no_shadow_when_interrupts_were_on(self, world):
        labels = world.load("sti; nop; sti; after: inc %eax; hlt")
        world.cpu.eax = 0
        world.cpu.eflags = 2
        world.cpu.eip = CODE
        world.machine.run(until=labels["after"])
        world.machine.inject_interrupt(0x20)
        assert world.go(world.cpu.eip).eip == labels["after"]
        assert world.cpu.eax == 0

    def test_mov_ss_holds_interrupts_for_one_instruction(self, world):
        labels = world.load("mov %ss, %ecx; sti; nop; mov %ecx, %ss; here: mov $0x7000, %esp; after: hlt")
        world.cpu.eflags = 2
        world.cpu.eip = CODE
        world.machine.run(until=labels["here"])
        world.machine.inject_interrupt(0x20)
        taken = world.go(world.cpu.eip)
        assert taken.eip == labels["after"]
        assert world.cpu.esp == 0x7000 - 12

    def test_popf_casts_no_shadow(self, world):
        labels = world.load("push $0x202; popf; after: inc %eax; hlt")
        world.cpu.eax = 0
        world.cpu.eflags = 2
        world.machine.inject_interrupt(0x20)
        assert world.go().eip == labels["after"]
        assert world.cpu.eax == 0


class TestFlags:
    """SDM 2 PUSHF and POPF."""

    ALL = 0x003F7FD7

    def test_ring_0_sets_iopl_and_if(self, world):
        world.ring0(f"push ${IOPL | IF | NT | ID | 0xCD7}; popf; pushf; pop %eax; push $2; popf; hlt")
        assert world.cpu.eax == IOPL | IF | NT | ID | 0xCD7

    def test_ring_3_keeps_iopl_and_if(self, world):
        taken = world.ring3(f"push ${IOPL | IF | CF}; popf; cli")
        assert taken.vector == GP
        assert taken.eflags & (IOPL | IF | CF) == CF

    def test_ring_3_with_iopl_3_changes_if_but_not_iopl(self, world):
        world.ring3(f"push ${IF | ZF}; popf; pushf; pop %eax; int3", eflags=2 | IOPL)
        assert world.cpu.eax & (IF | IOPL | ZF) == IF | IOPL | ZF

    def test_16_bits(self, world):
        world.ring0(f"push ${ID | 2}; popf; pushw $0x0841; popfw; pushfw; pop %ax; pushf; pop %ecx; hlt")
        assert world.cpu.eax & 0xFFFF == 0x0843
        assert world.cpu.ecx & ID
        assert world.cpu.esp == 0x8000

    def test_tf_traps_after_the_next_instruction(self, world):
        labels = world.load(f"push ${TF | 2}; popf; inc %eax; after: inc %eax; hlt")
        world.cpu.eax = 0
        taken = world.go()
        assert (taken.vector, taken.eip, world.cpu.eax) == (1, labels["after"], 1)
        assert not world.cpu.eflags & TF

    def test_a_popf_that_faults_changes_nothing(self, world):
        world.cpu.ss.set(0x10, 0, 0xFFF, 0x4093)
        world.cpu.esp = 0xFFE
        world.load("popf")
        world.cpu.eip = CODE
        world.vector(12, 0x30000 + 16 * 12)
        stop = world.machine.run(max_instructions=10)
        # The #SS cannot be delivered on this stack: 0xFFE - 16 has room, so its frame is below.
        assert stop.reason is pvfast.StopReason.HALT
        assert world.cpu.eip == 0x30000 + 16 * 12 + 1
        assert world.cpu.esp == 0xFFE - 16


PRIVILEGED = ["hlt", "mov %cr0, %eax", "mov %eax, %cr3", "mov %dr7, %eax", "clts", "lgdt 0x1000", "lidt 0x1000",
              "lldt %ax", "ltr %ax", "lmsw %ax", "invlpg 0x1000", "wbinvd", "invd", "rdmsr", "wrmsr", "sysexit"]


@pytest.mark.parametrize("instruction", PRIVILEGED)
def test_privileged_instructions_are_refused_in_ring_3(world, instruction):
    """SDM 3:5.9."""
    taken = world.ring3(f"nop; {instruction}")
    assert (taken.vector, taken.error, taken.eip) == (GP, 0, CODE + 1)


@pytest.mark.parametrize("instruction", ["ud2", ".byte 0x0f, 0xff", ".byte 0x0f, 0x22, 0xc8 /* mov %eax, %cr1 */"])
def test_undefined(world, instruction):
    taken = world.ring0(f"inc %eax; {instruction}")
    assert (taken.vector, taken.error, taken.eip) == (UD, None, CODE + 1)


class TestControlRegisters:
    """SDM 3:2.5."""

    def test_cr3_and_cr2_keep_what_is_written(self, world):
        world.ring0("mov $0x5000, %eax; mov %eax, %cr3; mov $0x1234, %ecx; mov %ecx, %cr2; mov %cr3, %ebx; "
                    "mov %cr2, %edx; hlt")
        assert (world.cpu.ebx, world.cpu.edx) == (0x5000, 0x1234)

    def test_paging_without_protection_is_refused(self, world):
        taken = world.ring0("mov $0x80000010, %eax; at: mov %eax, %cr0; hlt")
        assert (taken.vector, taken.error) == (GP, 0)

    def test_unknown_cr4_bits_are_refused(self, world):
        taken = world.ring0("mov $0x80000000, %eax; mov %eax, %cr4; hlt")
        assert (taken.vector, taken.error) == (GP, 0)

    def test_clts_and_lmsw(self, world):
        world.ring0("mov $0xA, %eax; lmsw %ax; smsw %ecx; clts; mov %cr0, %edx; hlt")
        assert world.cpu.ecx & 0xF == 0xB       # LMSW cannot clear PE
        assert world.cpu.edx & 0xF == 0x3

    def test_turning_paging_on(self, world):
        table = 0x40000
        world.machine.write(table, struct.pack("<I", 0x41003))
        world.machine.write(0x41000, b"".join(struct.pack("<I", page << 12 | 3) for page in range(256)))
        world.machine.write(0x41000 + 4 * 0x50, struct.pack("<I", 0x51003))     # 0x50000 -> 0x51000
        world.machine.write(0x51000, struct.pack("<I", 0xCAFE))
        world.ring0(f"mov ${table}, %eax; mov %eax, %cr3; mov %cr0, %eax; or $0x80000000, %eax; mov %eax, %cr0; "
                    "mov 0x50000, %ecx; hlt")
        assert world.cpu.ecx == 0xCAFE

    def test_invlpg_forgets_one_page(self, world):
        self.test_turning_paging_on(world)
        world.ring0("mov 0x50000, %ecx; movl $0x52003, 0x41140; movl $0xBEEF, 0x52000; invlpg 0x50000; "
                    "mov 0x50000, %edx; hlt")
        assert (world.cpu.ecx, world.cpu.edx) == (0xCAFE, 0xBEEF)

    def test_debug_registers(self, world):
        world.ring0("mov $0x1234, %eax; mov %eax, %dr0; mov %dr0, %ebx; mov %dr6, %ecx; mov %dr7, %edx; hlt")
        assert (world.cpu.ebx, world.cpu.ecx, world.cpu.edx) == (0x1234, 0xFFFF0FF0, 0x400)


class TestModelSpecific:
    def test_sysenter_registers(self, world):
        world.ring0("mov $0x175, %ecx; mov $0x1234, %eax; wrmsr; xor %eax, %eax; mov $1, %edx; rdmsr; hlt")
        assert (world.cpu.eax, world.cpu.edx) == (0x1234, 0)

    @pytest.mark.parametrize("instruction", ["rdmsr", "wrmsr"])
    def test_an_unknown_register_is_refused(self, world, instruction):
        taken = world.ring0(f"mov $0x12345678, %ecx; {instruction}; hlt")
        assert (taken.vector, taken.error) == (GP, 0)

    def test_rdtsc_counts_modelled_cycles(self, world):
        world.ring0("rdtsc; mov %eax, %ebx; rdtsc; sub %ebx, %eax; hlt")
        costs = world.machine.processor.costs
        from pvfast.processor.costs import COST_CLASSES
        cost = dict(zip(COST_CLASSES, costs, strict=True))
        assert world.cpu.eax == cost["rdtsc"] + cost["mov"]

    def test_tsd_keeps_rdtsc_to_ring_0(self, world):
        world.cpu.cr4 = 4
        assert world.ring0("rdtsc; hlt").reason is pvfast.StopReason.HALT
        taken = world.ring3("rdtsc")
        assert (taken.vector, taken.error, taken.eip) == (GP, 0, CODE)

    def test_writing_the_tsc(self, world):
        world.ring0("mov $0x10, %ecx; mov $0, %eax; mov $5, %edx; wrmsr; rdtsc; hlt")
        assert world.cpu.edx == 5
        assert world.cpu.eax < 10_000

    def test_cpuid(self, world):
        world.ring0("xor %eax, %eax; cpuid; hlt")
        assert world.cpu.eax >= 1
        assert len(struct.pack("<III", world.cpu.ebx, world.cpu.edx, world.cpu.ecx).rstrip(b"\0")) == 12


class TestTables:
    """SDM 2 LGDT, SGDT."""

    def test_stores_what_was_loaded(self, world):
        world.ring0("movw $0x77, 0x7000; movl $0x1000, 0x7002; lgdt 0x7000; sgdt 0x7010; sidt 0x7020; hlt")
        assert struct.unpack("<HI", world.machine.read(0x7010, 6)) == (0x77, GDT)
        assert struct.unpack("<HI", world.machine.read(0x7020, 6)) == (0x7FF, IDT)

    def test_a_16_bit_lgdt_takes_24_bits_of_base(self, world):
        world.ring0("movw $0x77, 0x7000; movl $0x12001000, 0x7002; .byte 0x66; lgdt 0x7000; hlt")
        assert world.cpu.gdtr == (GDT, 0x77)

    def test_sgdt_works_in_ring_3(self, world):
        world.ring3("sgdt 0x7010; int3")
        assert struct.unpack("<HI", world.machine.read(0x7010, 6)) == (0xFF, GDT)


class Port:
    """A port that answers with a constant and remembers what was written."""

    def __init__(self, answer: int) -> None:
        self.answer = answer
        self.written: list[tuple[int, int, int]] = []
        self.reads = 0

    def read(self, port: int, size: int) -> int:
        self.reads += 1
        return self.answer + self.reads - 1

    def write(self, port: int, size: int, value: int) -> None:
        self.written.append((port, size, value))


class TestPorts:
    """SDM 1:19.5."""

    def test_sizes(self, world):
        port = Port(0x11223344)
        world.machine.intercept_port(0x60, port)
        world.cpu.eax = 0
        world.ring0("mov $0x60, %edx; mov $-1, %eax; in %dx, %al; mov %eax, %ebx; in %dx, %ax; mov %eax, %ecx; "
                    "in $0x60, %eax; out %al, %dx; out %ax, $0x60; out %eax, %dx; hlt")
        assert (world.cpu.ebx, world.cpu.ecx, world.cpu.eax) == (0xFFFFFF44, 0xFFFF3345, 0x11223346)
        assert port.written == [(0x60, 1, 0x46), (0x60, 2, 0x3346), (0x60, 4, 0x11223346)]

    def test_a_polling_loop_reads_again_each_time(self, world):
        port = Port(0)
        world.machine.intercept_port(0x64, port)
        world.ring0("again: in $0x64, %al; cmp $5, %al; jne again; hlt")
        assert port.reads == 6

    def test_ring_3_without_a_bitmap_is_refused(self, world):
        taken = world.ring3("in $0x60, %al")
        assert (taken.vector, taken.error, taken.eip) == (GP, 0, CODE)

    def test_ring_3_with_iopl_3(self, world):
        world.machine.intercept_port(0x60, Port(7))
        world.ring3("xor %eax, %eax; in $0x60, %al; int3", eflags=2 | IOPL)
        assert world.cpu.eax == 7

    @pytest.mark.parametrize(("instruction", "allowed"), [
        ("in $0x60, %al", True), ("in $0x61, %al", False), ("in $0x60, %ax", False), ("in $0x70, %al", False)])
    def test_the_permission_bitmap_decides(self, world, instruction, allowed):
        # Bit 0x60 is clear; 0x61-0x67 are set; the bitmap ends behind port 0x6F.
        world.machine.write(TSS + 102, struct.pack("<H", 0x68))
        world.machine.write(TSS + 0x68, b"\xff" * 12 + b"\xfe\xff")
        world.describe(0x28, struct.pack("<HHBBBB", 0x68 + 13, TSS, 0, 0x89, 0, 0))
        world.ring0("mov $0x28, %eax; ltr %ax; hlt")
        world.machine.intercept_port(0x60, Port(9))
        taken = world.ring3(f"{instruction}; ud2")
        assert taken.vector == (UD if allowed else GP)


class TestSoftwareInterrupts:
    def test_into(self, world):
        world.vector(4, 0x30000 + 64, 0xEE)
        taken = world.ring3("xor %eax, %eax; into; mov $0x7fffffff, %eax; inc %eax; into; after: hlt")
        assert taken.vector == 4
        assert taken.eflags & OF
        assert taken.eip == CODE + 10       # behind the second INTO

    def test_an_intercept_goes_to_the_host_instead(self, world):
        seen = []
        world.machine.intercept_interrupt(0x80, lambda machine: seen.append(machine.cpu.eip))
        world.ring0("int $0x80; hlt")
        assert seen == [CODE + 2]
        assert world.machine.counters.exits == 1


def test_divide_error_has_no_error_code(world):
    taken = world.ring0("xor %ecx, %ecx; at: div %ecx")
    assert isinstance(taken, Taken)
    assert (taken.vector, taken.eip) == (DE, CODE + 2)
    assert DE not in WITH_ERROR_CODE


def test_the_user_stack_is_untouched_by_a_refused_instruction(world):
    before = world.machine.read(USER_STACK - 64, 64)
    world.ring3("cli")
    assert world.machine.read(USER_STACK - 64, 64) == before
