"""Segment registers, descriptors, limits and far transfers against SDM 3, chapters 3 and 5."""
from __future__ import annotations

import struct

import pytest

from .protected import (
    CODE,
    GDT,
    GP,
    KERNEL_CODE,
    KERNEL_DATA,
    LDT,
    LDT_SELECTOR,
    NP,
    RING0_STACK,
    SPARE,
    SS,
    TS,
    TSS,
    TSS_SELECTOR,
    UD,
    USER_CODE,
    USER_DATA,
    USER_STACK,
    ZF,
    World,
    descriptor,
    gate,
)


@pytest.fixture
def world() -> World:
    return World()


def far(selector: int, offset: int) -> str:
    return f".long {offset}; .word {selector}"


class TestLoading:
    """SDM 2 MOV, "Loading a segment register"."""

    def test_the_hidden_part_comes_from_the_table(self, world):
        world.describe(SPARE, descriptor(0x12345, 0xFF, 0x92, 0x4))
        world.machine.write(0x12345 + 8, struct.pack("<I", 0xABCD))
        world.ring0(f"mov ${SPARE}, %eax; mov %eax, %gs; mov %gs:8, %ecx; mov %gs, %edx; hlt")
        assert (world.cpu.gs.base, world.cpu.gs.limit) == (0x12345, 0xFF)
        assert (world.cpu.ecx, world.cpu.edx) == (0xABCD, SPARE)

    def test_it_stays_when_the_table_changes(self, world):
        world.describe(SPARE, descriptor(0x5000, 0xFF, 0x92, 0x4))
        world.ring0(f"mov ${SPARE}, %eax; mov %eax, %gs; movw $0x6000, {GDT + SPARE + 2}; hlt")
        assert world.cpu.gs.base == 0x5000

    def test_the_accessed_bit_is_written_back(self, world):
        world.describe(SPARE, descriptor(0, 0xFF, 0x92, 0x4))
        world.ring0(f"mov ${SPARE}, %eax; mov %eax, %fs; hlt")
        assert world.machine.read(GDT + SPARE + 5, 1) == b"\x93"

    @pytest.mark.parametrize(("register", "selector", "access", "vector", "error"), [
        ("ds", SPARE, 0x12, NP, SPARE),                 # not present
        ("ds", SPARE, 0x98, GP, SPARE),                 # execute-only code
        ("ds", SPARE, 0x82, GP, SPARE),                 # a system descriptor
        ("ds", SPARE | 3, 0x92, GP, SPARE),             # RPL 3 for DPL 0
        ("ds", 0xFFF8, 0x92, GP, 0xFFF8),               # outside the table
        ("ds", 0x0C, 0x92, GP, 0x0C),                   # in an LDT that is not there
        ("ss", SPARE, 0x12, SS, SPARE),                 # a stack that is not present
        ("ss", SPARE, 0x90, GP, SPARE),                 # a stack that is not writable
        ("ss", SPARE, 0xF2, GP, SPARE),                 # DPL 3 in ring 0
        ("ss", SPARE | 1, 0x92, GP, SPARE),             # RPL 1 in ring 0
        ("ss", 0, 0x92, GP, 0),                         # null
    ])
    def test_refusals(self, world, register, selector, access, vector, error):
        world.describe(SPARE, descriptor(0, 0xFFFFF, access))
        before = getattr(world.cpu, register).selector
        taken = world.ring0(f"mov ${selector}, %eax; mov %eax, %{register}")
        assert (taken.vector, taken.error, taken.eip) == (vector, error, CODE + 5)
        assert getattr(world.cpu, register).selector == before

    def test_ring_3_cannot_load_ring_0_data(self, world):
        taken = world.ring3(f"mov ${KERNEL_DATA}, %eax; mov %eax, %ds")
        assert (taken.vector, taken.error) == (GP, KERNEL_DATA)

    def test_conforming_code_may_be_read_from_ring_3(self, world):
        world.describe(SPARE, descriptor(0, 0xFFFFF, 0x9E))
        taken = world.ring3(f"mov ${SPARE}, %eax; mov %eax, %ds; mov {CODE}, %ecx; ud2")
        assert taken.vector == UD
        assert world.cpu.ecx & 0xFF == 0xB8

    def test_cs_cannot_be_loaded_by_mov(self, world):
        assert world.ring0(".byte 0x8e, 0xc8").vector == UD

    def test_a_null_selector_loads_and_faults_when_used(self, world):
        taken = world.ring0("xor %eax, %eax; mov %eax, %gs; inc %eax; mov %gs:0, %ecx")
        assert (taken.vector, taken.error, world.cpu.eax) == (GP, 0, 1)

    def test_push_and_pop(self, world):
        world.ring0("push %ds; pop %fs; mov %fs, %eax; push %cs; pop %ecx; hlt")
        assert (world.cpu.eax, world.cpu.ecx, world.cpu.esp) == (KERNEL_DATA, KERNEL_CODE, 0x8000)

    def test_a_pop_that_is_refused_keeps_esp(self, world):
        taken = world.ring0("push $0xFFF8; pop %fs")
        assert (taken.vector, taken.error, world.cpu.esp) == (GP, 0xFFF8, 0x8000 - 4 - 16)

    @pytest.mark.parametrize("register", ["es", "ds", "ss", "fs", "gs"])
    def test_far_pointers(self, world, register):
        world.ring0(f"l{register} pointer, %ebx; hlt; pointer: {far(KERNEL_DATA, 0x7654)}")
        assert world.cpu.ebx == 0x7654
        assert getattr(world.cpu, register).selector == KERNEL_DATA

    def test_a_store_of_a_segment_register_has_16_bits(self, world):
        world.machine.write(0x7000, b"\xff" * 4)
        world.ring0("mov %ds, 0x7000; mov $-1, %eax; mov %ds, %eax; hlt")
        assert world.machine.read(0x7000, 4) == b"\x10\0\xff\xff"
        assert world.cpu.eax == KERNEL_DATA


class TestLimits:
    """SDM 3:5.3, 5.5."""

    def access(self, world, content: bytes, instruction: str):
        world.describe(SPARE, content)
        return world.ring0(f"mov ${SPARE}, %eax; mov %eax, %fs; {instruction}; hlt")

    @pytest.mark.parametrize(("instruction", "good"), [
        ("movb %fs:0xff, %cl", True), ("movb %fs:0x100, %cl", False),
        ("movl %fs:0xfc, %ecx", True), ("movl %fs:0xfd, %ecx", False),
        ("movl %ecx, %fs:0xfc", True), ("movl %ecx, %fs:0xfd", False), ("movl %fs:-1, %ecx", False)])
    def test_byte_granularity(self, world, instruction, good):
        taken = self.access(world, descriptor(0x5000, 0xFF, 0x92, 0x4), instruction)
        assert hasattr(taken, "eflags") == (not good)
        if not good:
            assert (taken.vector, taken.error) == (GP, 0)

    def test_page_granularity(self, world):
        assert not hasattr(self.access(world, descriptor(0, 1, 0x92), "movb %fs:0x1fff, %cl"), "eflags")
        assert self.access(world, descriptor(0, 1, 0x92), "movb %fs:0x2000, %cl").vector == GP

    @pytest.mark.parametrize(("instruction", "good"), [
        ("movb %fs:0xfff, %cl", False), ("movb %fs:0x1000, %cl", True), ("movl %fs:0xfffc, %ecx", True),
        ("movl %fs:0xfffd, %ecx", False)])
    def test_expand_down(self, world, instruction, good):
        taken = self.access(world, descriptor(0x20000, 0xFFF, 0x96, 0), instruction)
        assert hasattr(taken, "eflags") == (not good)

    def test_read_only_data(self, world):
        assert self.access(world, descriptor(0, 0xFFFFF, 0x90), "movl %ecx, %fs:0x7000").vector == GP

    def test_code_is_not_writable(self, world):
        assert world.ring0("movl %ecx, %cs:0x7000; hlt").vector == GP

    def test_the_stack_segment_raises_its_own_fault(self, world):
        world.cpu.ss.set(KERNEL_DATA, 0, 0x8FFF, 0x4093)
        taken = world.ring0("mov $0x9000, %ebp; mov (%ebp), %eax; hlt")
        assert (taken.vector, taken.error) == (SS, 0)

    def test_code_beyond_its_limit(self, world):
        world.describe(SPARE, descriptor(0, CODE + 0xF, 0x9A, 0x4))
        taken = world.ring0(f".byte 0xea; .long next; .word {SPARE}; next: jmp {CODE + 0x40}")
        assert (taken.vector, taken.error) == (GP, 0)


class TestLocalTable:
    """SDM 3:3.5.1, SDM 2 LLDT."""

    def test_ldt_descriptors(self, world):
        world.machine.write(LDT + 8, descriptor(0x6000, 0xFF, 0x92, 0x4))
        world.ring0(f"mov ${LDT_SELECTOR}, %eax; lldt %ax; mov $0x0C, %eax; mov %eax, %gs; sldt %ecx; hlt")
        assert (world.cpu.gs.base, world.cpu.ecx) == (0x6000, LDT_SELECTOR)

    def test_beyond_its_limit(self, world):
        taken = world.ring0(f"mov ${LDT_SELECTOR}, %eax; lldt %ax; mov $0x24, %eax; mov %eax, %gs")
        assert (taken.vector, taken.error) == (GP, 0x24)

    @pytest.mark.parametrize(("selector", "vector", "error"), [
        (KERNEL_DATA, GP, KERNEL_DATA), (TSS_SELECTOR, GP, TSS_SELECTOR), (0x34, GP, 0x34)])
    def test_refusals(self, world, selector, vector, error):
        taken = world.ring0(f"mov ${selector}, %eax; lldt %ax")
        assert (taken.vector, taken.error) == (vector, error)

    def test_not_present(self, world):
        world.describe(SPARE, descriptor(LDT, 0x1F, 0x02, 0))
        taken = world.ring0(f"mov ${SPARE}, %eax; lldt %ax")
        assert (taken.vector, taken.error) == (NP, SPARE)

    def test_null_takes_it_away(self, world):
        world.machine.write(LDT + 8, descriptor(0x6000, 0xFF, 0x92, 0x4))
        taken = world.ring0(f"mov ${LDT_SELECTOR}, %eax; lldt %ax; xor %eax, %eax; lldt %ax; "
                            "mov $0x0C, %eax; mov %eax, %gs")
        assert (taken.vector, taken.error) == (GP, 0x0C)


class TestTaskRegister:
    """SDM 2 LTR."""

    def test_the_tss_becomes_busy(self, world):
        assert world.machine.read(GDT + TSS_SELECTOR + 5, 1) == b"\x8b"
        world.ring0("str %eax; hlt")
        assert world.cpu.eax == TSS_SELECTOR

    def test_a_busy_tss_is_refused(self, world):
        taken = world.ring0(f"mov ${TSS_SELECTOR}, %eax; ltr %ax")
        assert (taken.vector, taken.error) == (GP, TSS_SELECTOR)


LAR_AX_ECX, LSL_AX_ECX, LSL_AX_EDX = ".byte 0x0f, 2, 0xc8", ".byte 0x0f, 3, 0xc8", ".byte 0x0f, 3, 0xd0"
"""The assembler knows neither instruction."""


class TestLooking:
    """SDM 2 LAR, LSL, VERR, VERW, ARPL."""

    def zf(self, world) -> bool:
        return bool(world.cpu.eflags & ZF)

    def test_lar(self, world):
        world.ring0(f"mov ${USER_CODE}, %eax; {LAR_AX_ECX}; hlt")
        assert self.zf(world)
        assert world.cpu.ecx == 0x00CFFB00

    def test_lsl(self, world):
        world.ring0(f"mov ${USER_CODE}, %eax; {LSL_AX_ECX}; mov ${TSS_SELECTOR}, %eax; {LSL_AX_EDX}; hlt")
        assert self.zf(world)
        assert (world.cpu.ecx, world.cpu.edx) == (0xFFFFFFFF, 0x67)

    @pytest.mark.parametrize("instruction", [LAR_AX_ECX, LSL_AX_ECX, "verr %ax", "verw %ax"])
    @pytest.mark.parametrize("selector", [0, 0xFFF8, 0x0C])
    def test_nothing_there(self, world, instruction, selector):
        world.cpu.ecx = 0x1234
        world.ring0(f"mov ${selector}, %eax; {instruction}; hlt", eflags=2 | ZF)
        assert not self.zf(world)
        assert world.cpu.ecx == 0x1234

    def test_ring_3_does_not_see_ring_0(self, world):
        taken = world.ring3(f"mov ${KERNEL_DATA}, %eax; verr %ax; ud2", eflags=2 | ZF)
        assert taken.vector == UD
        assert not taken.eflags & ZF

    @pytest.mark.parametrize(("access", "readable", "writable"), [
        (0x90, True, False), (0x92, True, True), (0x98, False, False), (0x9A, True, False), (0x89, False, False)])
    def test_verify(self, world, access, readable, writable):
        world.describe(SPARE, descriptor(0, 0xFFFFF, access))
        world.ring0(f"mov ${SPARE}, %eax; verr %ax; setz %cl; verw %ax; setz %dl; hlt")
        assert (world.cpu.ecx & 0xFF, world.cpu.edx & 0xFF) == (readable, writable)

    def test_arpl(self, world):
        world.ring0("mov $0x21, %eax; mov $0x13, %ecx; arpl %cx, %ax; setz %dl; arpl %cx, %ax; setz %dh; hlt")
        assert (world.cpu.eax, world.cpu.edx & 0xFFFF) == (0x23, 1)

    @pytest.mark.parametrize(("rpl", "faults"), [(1, False), (3, True)])
    def test_arpl_writes_only_what_it_raises(self, world, rpl, faults):
        """As processors do: a selector that is high enough already may lie in read-only memory."""
        world.describe(SPARE, descriptor(0, 0xFFFFF, 0x90))
        world.machine.write(0x5000, (0x21).to_bytes(2, "little"))
        taken = world.ring0(f"mov ${SPARE}, %eax; mov %eax, %ds; mov ${rpl}, %ecx; .byte 0x63, 0x0d; .long 0x5000; hlt")
        assert (getattr(taken, "vector", None) == GP) == faults


class TestFarTransfers:
    """SDM 2 JMP, CALL and RET; SDM 3:5.8."""

    def test_jump_and_call_in_the_same_ring(self, world):
        world.describe(SPARE, descriptor(0x1000, 0xFFFFF, 0x9A))
        labels = world.load(f".byte 0x9a; .long there - 0x1000; .word {SPARE}; back: mov %cs, %ecx; hlt; "
                            "there: mov %cs, %edx; lret")
        world.go()
        assert (world.cpu.ecx, world.cpu.edx, world.cpu.esp) == (KERNEL_CODE, SPARE, 0x8000)
        assert world.cpu.eip == labels["there"] - 0x0 - (labels["there"] - labels["back"]) + 3

    def test_through_memory(self, world):
        world.machine.write(CODE + 0x40, b"\xf4")
        assert world.ring0(f"ljmp *pointer; ud2; pointer: {far(KERNEL_CODE, CODE + 0x40)}").eip == CODE + 0x41

    @pytest.mark.parametrize(("selector", "access", "vector", "error"), [
        (0, 0x9A, GP, 0), (SPARE, 0x92, GP, SPARE), (SPARE, 0x1A, NP, SPARE), (SPARE, 0xFA, GP, SPARE),
        (SPARE | 3, 0x9A, GP, SPARE), (0xFFF8, 0x9A, GP, 0xFFF8), (SPARE, 0x82, GP, SPARE)])
    @pytest.mark.parametrize("opcode", [0x9A, 0xEA])
    def test_refusals(self, world, opcode, selector, access, vector, error):
        world.describe(SPARE, descriptor(0, 0xFFFFF, access))
        taken = world.ring0(f".byte {opcode}; {far(selector, CODE + 0x40)}")
        assert (taken.vector, taken.error, taken.eip, taken.cs) == (vector, error, CODE, KERNEL_CODE)

    def test_conforming_code_keeps_the_ring(self, world):
        world.describe(SPARE, descriptor(0, 0xFFFFF, 0x9E))
        taken = world.ring3(f".byte 0xea; .long next; .word {SPARE}; next: ud2")
        assert (taken.vector, taken.cs) == (UD, SPARE | 3)

    def test_return_to_ring_3(self, world):
        labels = world.load(f"push ${USER_DATA}; push ${USER_STACK}; push ${USER_CODE}; push $user; lret; "
                            "user: mov %ds, %ecx; ud2")
        world.cpu.ds.set(KERNEL_DATA, 0, 0xFFFFFFFF, 0xC093)
        taken = world.go()
        assert (taken.vector, taken.cs, taken.ss, taken.esp) == (UD, USER_CODE, USER_DATA, USER_STACK)
        assert taken.eip == labels["user"] + 2
        assert world.cpu.ecx == 0           # a ring-0 data segment does not survive

    def test_return_to_an_inner_ring_is_refused(self, world):
        taken = world.ring3(f"push ${KERNEL_CODE}; push ${CODE}; lret")
        assert (taken.vector, taken.error, taken.esp) == (GP, KERNEL_CODE, USER_STACK - 8)


class TestCallGates:
    """SDM 3:5.8.2-5.8.6."""

    def gate(self, world, access: int = 0xEC, parameters: int = 0, target: int = KERNEL_CODE) -> int:
        labels = world.load("inside: mov %esp, %ebx; mov %cs, %ecx; lret $8", 0x18000)
        world.describe(SPARE, gate(target, labels["inside"], access, parameters))
        return labels["inside"]

    def test_to_ring_0_and_back_with_parameters(self, world):
        self.gate(world, parameters=2)
        taken = world.ring3(f"push $0x11; push $0x22; .byte 0x9a; {far(SPARE, 0)}; back: ud2")
        assert (taken.vector, taken.cs, taken.esp) == (UD, USER_CODE, USER_STACK)
        assert world.cpu.ecx == KERNEL_CODE
        assert world.cpu.ebx == RING0_STACK - 6 * 4
        # A later fault used the same stack; its five items lie where the call's first five did.
        assert struct.unpack("<I", world.machine.read(RING0_STACK - 24, 4))[0] == CODE + 11

    def test_the_frame(self, world):
        inside = self.gate(world, parameters=2)
        world.machine.write(inside, b"\xf4")
        world.ring3(f"push $0x11; push $0x22; .byte 0x9a; {far(SPARE, 0)}")
        assert world.stack(6) == (CODE + 11, USER_CODE, 0x22, 0x11, USER_STACK - 8, USER_DATA)
        assert (world.cpu.cpl, world.cpu.ss.selector) == (0, KERNEL_DATA)

    def test_in_the_same_ring(self, world):
        inside = self.gate(world)
        world.machine.write(inside, b"\xf4")
        world.ring0(f".byte 0x9a; {far(SPARE, 0)}")
        assert world.stack(2) == (CODE + 7, KERNEL_CODE)

    @pytest.mark.parametrize(("access", "target", "vector", "error"), [
        (0x8C, KERNEL_CODE, GP, SPARE),             # gate DPL 0 from ring 3
        (0x6C, KERNEL_CODE, NP, SPARE),             # gate not present
        (0xEC, 0, GP, 0),                           # null target
        (0xEC, KERNEL_DATA, GP, KERNEL_DATA),       # target is no code
    ])
    def test_refusals(self, world, access, target, vector, error):
        self.gate(world, access, target=target)
        taken = world.ring3(f".byte 0x9a; {far(SPARE, 0)}")
        assert (taken.vector, taken.error, taken.eip, taken.esp) == (vector, error, CODE, USER_STACK)

    def test_a_jump_cannot_go_inwards(self, world):
        self.gate(world)
        taken = world.ring3(f".byte 0xea; {far(SPARE, 0)}")
        assert (taken.vector, taken.error) == (GP, KERNEL_CODE)

    def test_a_bad_inner_stack(self, world):
        """#TS names the stack; it is delivered on ring 0's stack, which the TSS no longer has: so ring 1 here."""
        world.describe(0x40, descriptor(0, 0xFFFFF, 0xBA))                  # ring 1 code
        world.machine.write(TSS + 12, struct.pack("<II", 0x9800, KERNEL_DATA | 1))  # its stack has DPL 0
        self.gate(world, target=0x40)
        taken = world.ring3(f".byte 0x9a; {far(SPARE, 0)}")
        assert (taken.vector, taken.error, taken.eip) == (TS, KERNEL_DATA, CODE)
