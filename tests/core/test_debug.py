"""Debug exceptions against SDM 3, chapter 17: single steps, breakpoints, RF, general detect, INT1."""
from __future__ import annotations

import struct

import pytest

from .protected import (
    CODE,
    DB,
    GP,
    HANDLERS,
    IF,
    KERNEL_CODE,
    KERNEL_DATA,
    KERNEL_STACK,
    RF,
    SPARE,
    TF,
    UD,
    USER_CODE,
    USER_DATA,
    USER_STACK,
    World,
    at_once_and_stepped,
    descriptor,
)

LOG = 0x20000
"""The handler of #DB appends EIP, EFLAGS and DR6 here, clears DR6 and goes on."""
LOGGER = 0x28000
DATA = 0x40000
B0, B1, B2, B3, BD, BS = 1, 2, 4, 8, 0x2000, 0x4000
EXECUTION, WRITE, PORT, ACCESS = 0, 1, 2, 3
L0, G0, GD = 1, 2, 0x2000
DE_BIT = 8
"""CR4.DE."""


class Debugged(World):
    """A world that logs its debug exceptions."""

    def __init__(self) -> None:
        super().__init__()
        self.vector(DB, LOGGER)
        self.logger()

    def logger(self, set_in_image: int = 0) -> None:
        """`set_in_image`: EFLAGS bits to set in the frame, as a debugger sets RF."""
        self.load(f"""push %eax; push %ebx; mov {LOG}, %ebx; mov 8(%esp), %eax; mov %eax, (%ebx)
                      mov 16(%esp), %eax; mov %eax, 4(%ebx); mov %dr6, %eax; mov %eax, 8(%ebx)
                      xor %eax, %eax; mov %eax, %dr6; addl $12, {LOG}; pop %ebx; pop %eax
                      orl ${set_in_image}, 8(%esp); iret""", LOGGER)
        self.machine.write(LOG, struct.pack("<I", LOG + 16))

    @property
    def traps(self) -> list[tuple[int, int]]:
        """(EIP, DR6 bits) of every #DB so far."""
        return [(eip, dr6 & 0xF00F) for eip, _, dr6 in self.entries]

    @property
    def entries(self) -> list[tuple[int, int, int]]:
        end = struct.unpack("<I", self.machine.read(LOG, 4))[0]
        return list(struct.iter_unpack("<III", self.machine.read(LOG + 16, end - LOG - 16)))

    def breakpoint(self, number: int, address: int, kind: int = EXECUTION, length: int = 1, enable: int = L0) -> None:
        """Set DRn and DR7 by guest code, before anything is logged."""
        code = {1: 0, 2: 1, 4: 3, 8: 2}[length]
        self.dr7 = getattr(self, "dr7", 0) | enable << (2 * number) | (kind | code << 2) << (16 + 4 * number)
        esp = self.cpu.esp
        self.ring0(f"mov ${address}, %eax; mov %eax, %dr{number}; mov ${self.dr7}, %eax; mov %eax, %dr7; hlt")
        self.cpu.esp = esp

    def trace(self, source: str, eflags: int = 2) -> list[tuple[int, int]]:
        self.ring0(source, eflags)
        return self.traps


@pytest.fixture
def world() -> Debugged:
    return Debugged()


class TestSingleStep:
    """SDM 3:17.3.1.4: a trap behind every instruction that begins with TF set."""

    def test_every_instruction(self, world):
        assert world.trace("nop; mov $1, %eax; inc %eax; ud2", eflags=2 | TF) == [
            (CODE + 1, BS), (CODE + 6, BS), (CODE + 7, BS)]
        assert world.cpu.eax == 2

    def test_the_image_has_tf_and_the_handler_does_not(self, world):
        world.trace("nop; nop; ud2", eflags=2 | TF)
        assert [eflags & (TF | RF) for _, eflags, _ in world.entries] == [TF, TF]

    def test_popf_that_sets_tf_traps_behind_the_next_instruction(self, world):
        assert world.trace(f"push ${2 | TF}; popf; nop; nop; ud2") == [(CODE + 7, BS), (CODE + 8, BS)]

    def test_popf_that_clears_tf_still_traps(self, world):
        assert world.trace("push $2; popf; nop; hlt", eflags=2 | TF) == [(CODE + 2, BS), (CODE + 3, BS)]

    def test_iret_that_sets_tf(self, world):
        labels = world.load(f"push ${2 | TF}; push %cs; push $there; iret; there: nop; nop; ud2")
        world.go()
        assert world.traps[0] == (labels["there"] + 1, BS)

    def test_mov_ss_holds_the_trap_off(self, world):
        assert world.trace("mov %ss, %eax; mov %eax, %ss; nop; ud2", eflags=2 | TF) == [
            (CODE + 2, BS), (CODE + 5, BS)]

    def test_pop_ss_holds_the_trap_off(self, world):
        assert world.trace("push %ss; pop %ss; nop; ud2", eflags=2 | TF) == [
            (CODE + 1, BS), (CODE + 3, BS)]

    def test_sti_does_not(self, world):
        assert world.trace("sti; nop; ud2", eflags=2 | TF) == [(CODE + 1, BS), (CODE + 2, BS)]

    def test_int_n_does_not_trap(self, world):
        world.vector(0x40, 0x19000)
        world.load("nop; iret", 0x19000)
        assert world.trace("int $0x40; nop; int3", eflags=2 | TF) == [(CODE + 3, BS)]

    def test_a_fault_does_not_trap(self, world):
        world.load("addl $2, (%esp); iret", 0x19000)
        world.vector(UD, 0x19000)
        assert world.trace("ud2; nop; int3", eflags=2 | TF) == [(CODE + 3, BS)]

    def test_every_iteration_of_a_rep(self, world):
        """The image of all but the last has RF, so that a breakpoint on the REP is not met again (17.3.1.1)."""
        world.ring0(f"mov $3, %ecx; mov ${DATA}, %edi; rep stosb; ud2", eflags=2 | TF)
        assert [(eip, bool(eflags & RF)) for eip, eflags, _ in world.entries] == [
            (CODE + 5, False), (CODE + 10, False), (CODE + 10, True), (CODE + 10, True), (CODE + 12, False)]

    def test_hlt_is_left(self, world):
        assert world.trace("hlt; ud2", eflags=2 | TF) == [(CODE + 1, BS)]

    def test_an_interrupt_waits_for_the_trap(self, world):
        """Traps come before external interrupts (SDM 3:6.9, table 6-2)."""
        world.machine.inject_interrupt(0x20)
        world.load("mov $1, %ebx; hlt", 0x19000)
        world.vector(0x20, 0x19000)
        world.load("nop; nop; hlt")
        world.cpu.eflags = 2 | IF | TF
        world.go()
        assert world.cpu.ebx == 1
        assert world.traps == []                # taken before the first instruction
        world.cpu.ebx = 0
        world.cpu.eflags, world.cpu.eip = 2 | IF | TF, CODE
        world.machine.step()
        assert world.cpu.eip == LOGGER


class TestInstructionBreakpoints:
    """SDM 3:17.3.1.1: a fault before the instruction."""

    def test_a_fault_without_rf_in_its_image(self, world):
        labels = world.load("nop; here: mov $1, %ebx; hlt")
        world.breakpoint(0, labels["here"])
        world.vector(DB, HANDLERS + 16 * DB)
        taken = world.ring0("nop; here: mov $1, %ebx; hlt")
        assert (taken.vector, taken.eip, taken.eflags & RF) == (DB, labels["here"], 0)
        assert world.cpu.ebx != 1

    def test_rf_lets_the_instruction_pass_once(self, world):
        world.logger(set_in_image=RF)
        world.breakpoint(1, CODE + 5)
        traps = world.trace("mov $3, %ecx; dec %ecx; jne . - 1; hlt")
        assert traps == [(CODE + 5, B1)] * 3
        assert world.cpu.ecx == 0

    def test_every_instruction_in_a_block(self, world):
        world.logger(set_in_image=RF)
        world.breakpoint(0, CODE + 1)
        world.breakpoint(3, CODE + 2, enable=G0)
        assert world.trace("nop; nop; nop; hlt") == [(CODE + 1, B0), (CODE + 2, B3)]

    def test_the_address_is_linear(self, world):
        world.logger(set_in_image=RF)
        world.breakpoint(0, CODE + 0x40)
        world.describe(SPARE, descriptor(0x1000, 0xFFFFF, 0x9A))
        world.machine.write(CODE + 0x40, b"\xf4")
        world.ring0(f".byte 0xEA; .long {CODE + 0x40 - 0x1000}; .word {SPARE}")
        assert world.traps == [(CODE + 0x40 - 0x1000, B0)]

    def test_mov_ss_holds_it_off(self, world):
        """As if RF were set for the instruction behind it."""
        world.breakpoint(0, CODE + 4)
        assert world.trace("mov %ss, %eax; mov %eax, %ss; nop; hlt") == []

    def test_only_the_first_byte_counts(self, world):
        world.breakpoint(0, CODE + 1)
        assert world.trace("mov $1, %eax; hlt") == []

    def test_not_enabled(self, world):
        world.breakpoint(0, CODE, enable=0)
        assert world.trace("nop; hlt") == []

    def test_once_per_rep(self, world):
        world.logger(set_in_image=RF)
        world.breakpoint(0, CODE + 10)
        assert world.trace(f"mov $3, %ecx; mov ${DATA}, %edi; rep stosb; hlt") == [(CODE + 10, B0)]
        assert world.cpu.ecx == 0

    def test_before_the_fault_of_fetching(self, world):
        """Table 6-2: code breakpoints come before faults from fetching."""
        world.breakpoint(0, CODE)
        world.vector(DB, HANDLERS + 16 * DB)
        assert world.ring0("ud2").vector == DB

    def test_disabled_by_a_task_switch(self, world):
        """L0-L3 and LE are cleared, G0-G3 and GE are not (SDM 3:17.2.4)."""
        from .test_tasks import JMP, TASK, TASK_CODE, TASK_TSS, far, tss32
        world.logger(set_in_image=RF)
        world.machine.write(TASK_TSS, tss32())
        world.describe(TASK, descriptor(TASK_TSS, 0x67, 0x89, 0))
        world.load("nop; nop; mov %dr7, %eax; hlt", TASK_CODE)
        world.breakpoint(0, TASK_CODE)
        world.breakpoint(1, TASK_CODE + 1, enable=3)
        world.ring0(far(JMP, TASK))
        assert world.traps == [(TASK_CODE + 1, B1)]
        assert world.cpu.eax == 0x408


class TestDataBreakpoints:
    """SDM 3:17.3.1.2: a trap behind the instruction; 17.2.5: which accesses match."""

    @pytest.mark.parametrize("paged", [False, True])
    @pytest.mark.parametrize(("source", "length", "kind"), [
        ("movb $1, 0x40001", 6 + 1, WRITE), ("movl $1, 0x40000", 10, WRITE), ("movw $1, 0x40000", 9, WRITE),
        ("mov 0x40001, %al", 5, ACCESS), ("mov 0x3FFFE, %ecx", 6, ACCESS), ("add %ecx, 0x3FFFE", 6, WRITE),
        ("cmpl $0, 0x40000", 7, ACCESS), ("push 0x40000", 6, ACCESS), ("pop 0x40001", 6, WRITE),
        ("xchg %eax, 0x40000", 6, WRITE), ("call *0x40000", 6, ACCESS), ("jmp *0x40000", 6, ACCESS),
        ("lock cmpxchg %ebx, 0x40000", 8, WRITE), ("cmpxchg8b 0x40000", 7, WRITE), ("sgdt 0x40000", 7, WRITE),
        ("btl %esi, 0x3F000", 7, ACCESS), ("fs cmpb $0, 0x40001", 8, ACCESS), ("mov %ds, 0x40000", 6, WRITE)])
    def test_every_way_of_access(self, world, paged, source, length, kind):
        if paged:
            self.turn_paging_on(world)
        labels = world.load("there: hlt", 0x19000)
        world.machine.write(DATA, struct.pack("<I", labels["there"]))
        world.cpu.esi = 0x1000 * 8 + 8
        world.breakpoint(2, DATA + 1, kind, 1)
        world.trace(f"{source}; hlt")
        target = labels["there"] if source.startswith(("call", "jmp")) else CODE + length
        assert world.traps == [(target, B2)]
        world.machine.write(LOG, struct.pack("<I", LOG + 16))
        world.breakpoint(2, DATA + 0x100, kind, 1)
        assert world.trace(f"{source}; hlt") == []

    @pytest.mark.parametrize("source", ["push %eax", "pusha", "pushf", "call . + 5", "enter $0, $0", "push $1",
                                        "push %ds", "lcall *0x19000", "int $0x40"])
    def test_stack_stores(self, world, source):
        world.machine.write(0x19000, struct.pack("<IH", CODE + 0x80, KERNEL_CODE))
        world.machine.write(CODE + 0x80, b"\xf4")
        world.breakpoint(0, KERNEL_STACK - 4, WRITE, 4)
        world.cpu.esp = KERNEL_STACK
        traps = world.trace(f"{source}; hlt")
        assert [dr6 for _, dr6 in traps] == [B0]
        world.machine.write(LOG, struct.pack("<I", LOG + 16))
        world.cpu.esp = KERNEL_STACK - 0x100
        assert world.trace(f"{source}; hlt") == []

    @pytest.mark.parametrize("source", ["pop %eax", "popa", "popf", "ret", "leave", "lret", "pop %fs"])
    def test_stack_loads(self, world, source):
        """In ring 3: the frames of traps go elsewhere."""
        first = USER_DATA if source == "pop %fs" else CODE + 0x80
        world.machine.write(USER_STACK, struct.pack("<II", first, USER_CODE))
        world.machine.write(CODE + 0x80, b"\x0f\x0b")
        world.breakpoint(0, USER_STACK, ACCESS, 4)
        world.load(f"{source}; ud2")
        world.enter_ring3()
        world.cpu.ebp = USER_STACK
        assert world.go().vector == UD
        assert [dr6 for _, dr6 in world.traps] == [B0]

    @pytest.mark.parametrize("source", ["rep stosb", "rep movsb", "rep lodsb", "rep cmpsb", "rep scasb"])
    def test_strings_trap_behind_the_iteration(self, world, source):
        """Bulk copies stop being made in bulk."""
        world.breakpoint(0, DATA + 2, ACCESS, 1)
        world.cpu.esi, world.cpu.edi = (DATA, 0x50000) if source == "rep lodsb" else (0x50000, DATA)
        world.cpu.eax = 0
        world.cpu.ecx = 8
        world.ring0(f"{source}; hlt")
        assert world.traps == [(CODE, B0)]
        assert world.entries[0][1] & RF
        assert world.cpu.ecx == 0

    @pytest.mark.parametrize(("address", "length", "hits"), [
        (DATA + 3, 1, {DATA + 3}), (DATA + 3, 2, {DATA + 2, DATA + 3}), (DATA + 2, 4, set(range(DATA, DATA + 4))),
        (DATA + 5, 8, set(range(DATA, DATA + 8)))])
    def test_lengths_ignore_the_low_bits(self, world, address, length, hits):
        world.breakpoint(0, address, WRITE, length)
        for byte in range(DATA - 2, DATA + 10):
            world.machine.write(LOG, struct.pack("<I", LOG + 16))
            assert bool(world.trace(f"movb $1, {byte}; hlt")) == (byte in hits)

    def test_reads_do_not_match_a_write_breakpoint(self, world):
        world.breakpoint(0, DATA, WRITE, 4)
        assert world.trace(f"mov {DATA}, %eax; hlt") == []

    def test_fetches_do_not_match_an_access_breakpoint(self, world):
        world.breakpoint(0, CODE, ACCESS, 4)
        assert world.trace("nop; hlt") == []

    def test_a_faulting_instruction_does_not_trap(self, world):
        """It is not complete: PUSHA that runs out of its segment after the watched place."""
        world.breakpoint(0, DATA, ACCESS, 4)
        world.cpu.fs.set(KERNEL_DATA, 0, 0xFFF, 0x4093)
        taken = world.ring0(f"mov ${DATA}, %esi; mov $0x2000, %ebx; push (%esi); fs movb $0, (%ebx)")
        assert (taken.vector, world.traps) == (GP, [(CODE + 12, B0)])
        world.machine.write(LOG, struct.pack("<I", LOG + 16))
        world.cpu.es.set(KERNEL_DATA, 0, 0xFFF, 0x4093)
        taken = world.ring0(f"mov ${DATA}, %esi; mov $0x2000, %edi; movsb; hlt")
        assert (taken.vector, world.traps) == (GP, [])

    def test_mov_ss_from_watched_memory(self, world):
        """The trap comes behind the next instruction (SDM 3:6.8.3)."""
        world.machine.write(DATA, struct.pack("<H", KERNEL_DATA))
        world.breakpoint(0, DATA, ACCESS, 2)
        assert world.trace(f"mov {DATA}, %ss; nop; nop; hlt") == [(CODE + 7, B0)]

    def test_together_with_a_single_step(self, world):
        world.breakpoint(0, DATA, WRITE, 4)
        assert world.trace(f"movb $1, {DATA}; ud2", eflags=2 | TF) == [(CODE + 7, B0 | BS)]

    def test_a_probe_is_no_access(self, world):
        """ENTER looks whether its last word could be written, but does not."""
        world.breakpoint(0, KERNEL_STACK - 0x24, ACCESS, 4)
        world.cpu.esp = KERNEL_STACK
        assert world.trace("enter $0x20, $0; hlt") == []

    def turn_paging_on(self, world):
        world.machine.write(0x60000, struct.pack("<I", 0x61007))
        world.machine.write(0x61000, b"".join(struct.pack("<I", page << 12 | 7) for page in range(256)))
        world.cpu.cr3, world.cpu.cr0 = 0x60000, world.cpu.cr0 | 0x80000000


class TestPorts:
    """I/O breakpoints (SDM 3:17.3.1.3)."""

    @pytest.mark.parametrize(("source", "hit"), [
        ("in $0x61, %al", True), ("out %al, $0x61", True), ("in $0x60, %ax", True), ("in $0x5E, %eax", True),
        ("in $0x60, %al", False), ("out %al, $0x62", False)])
    def test_need_de(self, world, source, hit):
        world.breakpoint(1, 0x61, PORT, 1)
        assert world.trace(f"{source}; hlt") == []
        world.cpu.cr4 = DE_BIT
        assert world.trace(f"{source}; hlt") == ([(CODE + 2 + ("ax" in source and "eax" not in source), B1)] if hit
                                                 else [])


class TestGeneralDetect:
    """DR7.GD (SDM 3:17.2.4, 17.3.1.3)."""

    @pytest.mark.parametrize("source", ["mov %eax, %dr0", "mov %dr0, %eax", "mov %dr7, %eax"])
    def test_a_fault_before_the_access(self, world, source):
        world.ring0(f"mov ${GD}, %eax; mov %eax, %dr7; mov $5, %eax; {source}; hlt")
        (eip, eflags, dr6), = world.entries
        assert (eip, dr6 & 0xF00F, eflags & RF) == (CODE + 13, BD, RF)
        assert world.cpu.eip == CODE + 17           # GD is clear in the handler, and after it

    def test_undefined_registers_come_first(self, world):
        world.cpu.cr4 = DE_BIT
        taken = world.ring0(f"mov ${GD}, %eax; mov %eax, %dr7; .byte 0x0f, 0x21, 0xe0")
        assert taken.vector == UD

    def test_ring_3_has_no_access_at_all(self, world):
        assert world.ring3("mov %dr0, %eax").vector == GP


class TestInt1:
    """F1 (SDM 2, INT n): a trap, whatever the gate's DPL."""

    def test_trap(self, world):
        assert world.trace(".byte 0xF1; hlt") == [(CODE + 1, 0)]

    def test_from_ring_3(self, world):
        world.vector(DB, HANDLERS + 16 * DB)
        taken = world.ring3(".byte 0xF1")
        assert (taken.vector, taken.eip, taken.cs) == (DB, CODE + 1, USER_CODE)

    def test_a_failing_one_sets_ext(self, world):
        world.vector(DB, HANDLERS, 0x0E)
        taken = world.ring0(".byte 0xF1")
        assert (taken.vector, taken.error, taken.eip) == (11, DB * 8 + 2 + 1, CODE)


class TestRf:
    """SDM 3:17.3.1.1."""

    def test_iret_loads_it_for_one_instruction(self, world):
        labels = world.load(f"push ${2 | RF}; push %cs; push $there; iret; there: nop; nop; hlt")
        world.cpu.eip = CODE
        world.machine.run(until=labels["there"])
        assert world.cpu.eflags & RF
        world.machine.step()
        assert not world.cpu.eflags & RF

    def test_an_interrupt_saves_it(self, world):
        world.load(f"push ${2 | RF | IF}; push %cs; push $there; iret; there: nop; nop; hlt")
        world.machine.inject_interrupt(0x20)
        world.cpu.eflags = 2
        taken = world.go()
        assert taken.eflags & (RF | IF) == RF | IF
        assert not world.cpu.eflags & RF

    def test_16_bit_iret_does_not(self, world):
        world.load(".byte 0x66, 0x68; .word 2; .byte 0x66; push $8; .byte 0x66, 0x68; .word there; iretw; there: hlt",
                   0x8100)
        world.cpu.eflags, world.cpu.eip = 2 | RF, 0x8100
        world.machine.run(max_instructions=4)
        assert not world.cpu.eflags & RF

    def test_popf_and_pushf_leave_it_out(self, world):
        world.ring0(f"push ${2 | RF}; popf; pushf; pop %eax; hlt")
        assert not world.cpu.eax & RF

    def test_from_ring_3(self, world):
        world.breakpoint(0, CODE + 0x40)
        world.vector(DB, HANDLERS + 16 * DB)
        world.machine.write(CODE + 0x40, b"\x90\x0f\x0b")
        world.load(f"push ${2 | RF}; push ${USER_CODE}; push ${CODE + 0x40}; iret")
        world.enter_ring3()
        taken = world.go()
        assert (taken.vector, taken.eip, taken.ss, taken.esp) == (UD, CODE + 0x41, USER_DATA, USER_STACK)


@pytest.mark.parametrize("eflags", [2, 2 | TF])
@pytest.mark.parametrize("kind", [EXECUTION, WRITE, ACCESS])
def test_a_run_in_single_steps_is_the_same(eflags, kind):
    """With traps in loops, REPs, calls and stack loads, and an interrupt that waits."""
    def build() -> Debugged:
        world = Debugged()
        world.logger(set_in_image=RF if kind == EXECUTION else 0)
        labels = world.load("""mov $5, %ecx; again: push %ecx; mov $6, %ecx; mov $0x40000, %edi; there: rep stosb
                               pop %ecx; mov %ss, %ebx; mov %ebx, %ss; incl 0x40003; call sub; sub $1, %ecx; jne again
                               sti; nop; hlt; sub: int $0x41; addl $1, 0x40010; ret""", 0x18000)
        world.breakpoint(0, labels["there"] if kind == EXECUTION else DATA + 2, kind, 1 if kind == EXECUTION else 4)
        world.vector(0x41, 0x19000)
        world.load("iret", 0x19000)
        world.cpu.eflags, world.cpu.eip = eflags, 0x18000
        world.machine.inject_interrupt(0x20)
        return world

    once = at_once_and_stepped(build, 10_000)
    assert len(once.traps) >= 5
