"""Virtual-8086 mode (SDM 3:20.2), with VME (3:20.3) and PVI (3:20.4)."""
from __future__ import annotations

import struct

import pytest

import pvfast

from .protected import (
    BP,
    CF,
    GP,
    IF,
    KERNEL_DATA,
    NT,
    RING0_STACK,
    SPARE,
    SS,
    TF,
    TSS,
    UD,
    USER_DATA,
    ZF,
    Taken,
    World,
    descriptor,
)

VM, VIF, VIP = 0x20000, 0x80000, 0x100000
IOPL3 = 0x3000
CR4_VME, CR4_PVI = 1, 2
SEGMENT, BASE = 0x2000, 0x20000
"""The 8086 program: CS, and its linear address."""
STACK_SEGMENT, SP = 0x2800, 0x1000
DATA_SEGMENT = 0x2900
OVERFLOW, DEBUG_TRAP = 4, 1
REDIRECTION, IO_MAP = 0x68, 0x88
"""Offsets in the TSS: the interrupt redirection bitmap lies right below the I/O permission bitmap."""


class V86(World):
    """The protected world with a monitor's TSS, and an 8086 program at SEGMENT:0."""

    def __init__(self) -> None:
        super().__init__()
        self.machine.write(TSS, bytes(0x68))
        self.machine.write(TSS + 4, struct.pack("<II", RING0_STACK, KERNEL_DATA))
        self.machine.write(TSS + 102, struct.pack("<H", IO_MAP))
        self.machine.write(TSS + REDIRECTION, b"\xff" * 32)
        self.machine.write(TSS + IO_MAP, bytes(0x40) + b"\xff")
        self.describe(0x28, descriptor(TSS, IO_MAP + 0x40, 0x89, 0))
        self.ring0("mov $0x28, %eax; ltr %ax; hlt")
        for vector in (BP, OVERFLOW, 0x21):
            self.vector(vector, 0x30000 + 16 * vector, 0xEE)

    def start(self, code: str, eflags: int) -> None:
        """Be at SEGMENT:0 in V86 mode, in front of the bytes and a HLT."""
        self.machine.write(BASE, bytes.fromhex(code) + b"\xf4")
        for name, selector in (("cs", SEGMENT), ("ss", STACK_SEGMENT), ("ds", DATA_SEGMENT), ("es", DATA_SEGMENT),
                               ("fs", 0x1111), ("gs", 0x2222)):
            getattr(self.cpu, name).set(selector, 0, 0, 0)
        self.cpu.eflags = eflags | VM | 2
        self.cpu.esp = 0xABCD0000 | SP

    def v86(self, code: str, eflags: int = 0) -> Taken:
        """Run bytes to the fault or trap that leaves V86 mode; the HLT behind them is a #GP(0)."""
        self.start(code, eflags)
        taken = self.go(0)
        assert isinstance(taken, Taken)
        return taken

    def completes(self, code: str, eflags: int = 0) -> Taken:
        """Run bytes to the HLT behind them."""
        taken = self.v86(code, eflags)
        assert (taken.vector, taken.error, taken.eip) == (GP, 0, len(bytes.fromhex(code))), taken
        return taken

    def refused(self, code: str, eflags: int = 0) -> bool:
        """#GP(0) at SEGMENT:0, the stack as before."""
        taken = self.v86(code, eflags)
        return (taken.vector, taken.error, taken.eip, taken.esp & 0xFFFF) == (GP, 0, 0, SP)

    def redirect(self, vector: int, selector: int, offset: int) -> None:
        """Send INT n to the 8086 program's own handler."""
        bits = bytearray(b"\xff" * 32)
        bits[vector >> 3] &= ~(1 << (vector & 7))
        self.machine.write(TSS + REDIRECTION, bytes(bits))
        self.machine.write(4 * vector, struct.pack("<HH", offset, selector))

    def pushed(self, count: int) -> tuple[int, ...]:
        """Words on the 8086 program's stack from SP downwards, the first one pushed first."""
        return struct.unpack(f"<{count}H", self.machine.read((STACK_SEGMENT << 4) + SP - 2 * count, 2 * count))[::-1]


@pytest.fixture
def world() -> V86:
    return V86()


class TestEnter:
    def iretd(self, world: V86, eflags: int, eip: int = 0) -> Taken | pvfast.Stop:
        world.machine.write(BASE, b"\xf4")
        frame = (0x2222, 0x1111, DATA_SEGMENT, 0x2A00, STACK_SEGMENT, 0xABCD0000 | SP, eflags, SEGMENT, eip)
        return world.ring0("; ".join(f"push ${value:#x}" for value in frame) + "; iret")

    def test_iretd_with_vm_in_the_image(self, world: V86) -> None:
        """SDM 3:20.2.2: nine doublewords. The HLT in V86 mode leaves it again."""
        taken = self.iretd(world, VM | IF | ZF | VIP | 2)
        assert isinstance(taken, Taken)
        assert (taken.vector, taken.error, taken.eip, taken.cs) == (GP, 0, 0, SEGMENT)
        assert taken.eflags & ~0x10000 == VM | IF | ZF | VIP | 2
        assert (taken.esp, taken.ss) == (0xABCD0000 | SP, STACK_SEGMENT)
        assert world.stack(10)[6:] == (0x2A00, DATA_SEGMENT, 0x1111, 0x2222)

    def test_the_hidden_parts(self, world: V86) -> None:
        world.start("90", 0)
        assert world.cpu.cpl == 3
        for segment in (world.cpu.cs, world.cpu.ss, world.cpu.ds, world.cpu.gs):
            assert (segment.base, segment.limit, segment.attributes) == (segment.selector << 4, 0xFFFF, 0xF3)

    def test_eip_is_cut_to_sixteen_bits(self, world: V86) -> None:
        """SDM 2, IRET: EIP <- tempEIP AND FFFFH."""
        taken = self.iretd(world, VM | 2, 0x50000)
        assert isinstance(taken, Taken)
        assert taken.eip == 0

    def test_vm_is_ignored_outside_ring_0(self, world: V86) -> None:
        taken = world.ring3("pushf; orl $0x20000, (%esp); push $0x1b; push $1f; iret; 1: hlt")
        assert isinstance(taken, Taken)
        assert not taken.eflags & VM
        assert taken.cs == 0x1B

    def test_vm_is_ignored_by_popf_and_sixteen_bit_iret(self, world: V86) -> None:
        world.ring0("pushl $0x20002; popf; hlt")
        assert not world.cpu.eflags & VM


class TestLeave:
    """SDM 3:20.2.3, 3:20.3.1."""

    def test_data_segments_are_nulled(self, world: V86) -> None:
        world.v86("")
        for segment in (world.cpu.ds, world.cpu.es, world.cpu.fs, world.cpu.gs):
            assert (segment.selector, segment.attributes & 0x80) == (0, 0)
        assert (world.cpu.cpl, world.cpu.eflags & VM, world.cpu.ss.selector) == (0, 0, KERNEL_DATA)

    def test_the_frame_is_on_the_ring_0_stack(self, world: V86) -> None:
        world.v86("")
        assert world.cpu.esp == RING0_STACK - 4 * 10

    def test_external_interrupt_and_back(self, world: V86) -> None:
        """The handler returns by IRETD; the program goes on where it was."""
        world.machine.write(0x30000 + 16 * 0x40, b"\xcf")
        world.start("90 90", IF)
        world.machine.inject_interrupt(0x40)
        world.cpu.ecx = 0x12345678
        taken = world.go(0)
        assert isinstance(taken, Taken)
        assert (taken.vector, taken.eip, taken.cs, taken.ss) == (GP, 2, SEGMENT, STACK_SEGMENT)
        assert world.stack(10)[6:] == (DATA_SEGMENT, DATA_SEGMENT, 0x1111, 0x2222)
        assert world.machine.counters.interrupts == 1

    @pytest.mark.parametrize("access", [0x9F, 0xFB, 0xFF])
    def test_a_handler_in_conforming_or_outer_code_is_refused(self, world: V86, access: int) -> None:
        """#GP(selector) in place of the event: only nonconforming code of DPL 0 takes it (SDM 2, INT n)."""
        world.describe(SPARE, descriptor(0, 0xFFFFF, access))
        world.vector(0x21, 0x30210, 0xEE, SPARE)
        taken = world.v86("cd21", IOPL3)
        assert (taken.vector, taken.error, taken.eip) == (GP, SPARE, 0)

    def test_through_a_sixteen_bit_gate(self, world: V86) -> None:
        """Words in place of doublewords."""
        world.vector(0x21, 0x210, 0xE6)
        world.machine.write(0x210, b"\xf4")
        world.start("cd21", IOPL3 | CF)
        world.cpu.eip = 0
        world.machine.run(max_instructions=10)
        frame = struct.unpack("<9H", world.machine.read(world.cpu.esp, 18))
        assert frame == (2, SEGMENT, IOPL3 | CF | 2, SP, STACK_SEGMENT, DATA_SEGMENT, DATA_SEGMENT, 0x1111, 0x2222)


class TestAddresses:
    def test_a_selector_is_a_paragraph(self, world: V86) -> None:
        """mov ax, 3333; mov ds, ax; mov bl, [5]"""
        world.machine.write(0x33335, b"\x5a")
        world.completes("b83333 8ed8 8a1e0500")
        assert world.cpu.ebx & 0xFF == 0x5A

    @pytest.mark.parametrize(("code", "vector"), [
        ("a1ffff", GP),             # mov ax, [ffff]
        ("66a1fdff", GP),           # mov eax, [fffd]
        ("36a1ffff", SS),           # mov ax, ss:[ffff]
        ("67a000000100", GP),       # mov al, [10000]
    ])
    def test_limits(self, world: V86, code: str, vector: int) -> None:
        taken = world.v86(code)
        assert (taken.vector, taken.error, taken.eip) == (vector, 0, 0)

    def test_the_stack_wraps(self, world: V86) -> None:
        """mov sp, 2; push cs; push cs; pop ax: SP goes 2, 0, fffe, 0; the upper half of ESP stays."""
        taken = world.completes("bc0200 0e 0e 58")
        assert taken.esp == 0xABCD0000
        assert world.machine.read((STACK_SEGMENT << 4) + 0xFFFE, 2) == struct.pack("<H", SEGMENT)

    def test_a_push_across_the_end_of_the_stack(self, world: V86) -> None:
        """mov sp, 1; push ax: at ffff there is room for one byte."""
        taken = world.v86("bc0100 50")
        assert (taken.vector, taken.error, taken.eip, taken.esp & 0xFFFF) == (SS, 0, 3, 1)

    def test_far_transfers(self, world: V86) -> None:
        """call 2100:0; there: retf"""
        world.machine.write(0x21000, b"\xcb")
        taken = world.completes("9a00000021")
        assert taken.esp & 0xFFFF == SP
        assert world.pushed(2) == (SEGMENT, 5)

    def test_pages_of_the_supervisor_are_not_the_programs(self, world: V86) -> None:
        """V86 code runs at CPL 3 (SDM 3:20.2)."""
        directory, table = 0x40000, 0x41000
        world.machine.write(directory, struct.pack("<I", table | 7))
        world.machine.write(table, struct.pack("<256I", *(
            page << 12 | (7 if 0x20 <= page < 0x29 else 3) for page in range(256))))
        world.cpu.cr3, world.cpu.cr0 = directory, 0x80000011
        taken = world.v86("90 a00000")
        assert (taken.vector, taken.error, taken.eip, world.cpu.cr2) == (14, 5, 1, DATA_SEGMENT << 4)


class TestInstructions:
    @pytest.mark.parametrize("code", [
        "0f00c0", "0f00c8", "0f00d0", "0f00d8", "0f00e0", "0f00e8", "0f02c0", "0f03c0", "63c0"])
    def test_undefined(self, world: V86, code: str) -> None:
        """SLDT, STR, LLDT, LTR, VERR, VERW, LAR, LSL, ARPL."""
        assert world.v86(code).vector == UD

    @pytest.mark.parametrize("code", [
        "f4", "0f20c0", "0f22c0", "0f21c0", "0f23c0", "0f06", "0f01f0", "0f01160000", "0f011e0000", "0f013e0000",
        "0f08", "0f09", "0f30", "0f32", "0f35"])
    def test_privileged(self, world: V86, code: str) -> None:
        """HLT, MOV CR, MOV DR, CLTS, LMSW, LGDT, LIDT, INVLPG, INVD, WBINVD, WRMSR, RDMSR, SYSEXIT: CPL is 3."""
        assert world.refused(code, IOPL3)

    def test_smsw_and_sgdt_are_not(self, world: V86) -> None:
        world.completes("0f01e0 0f01060000")

    @pytest.mark.parametrize("code", ["fa", "fb", "9c", "9d", "cd21", "cf", "669c", "669d", "66cf"])
    def test_sensitive_to_iopl(self, world: V86, code: str) -> None:
        """SDM 3:20.2.7: CLI, STI, PUSHF, POPF, INT n, IRET."""
        assert world.refused(code)
        assert world.v86(code, IOPL3).eip != 0

    def test_int3_and_into_are_not(self, world: V86) -> None:
        taken = world.v86("cc")
        assert (taken.vector, taken.eip) == (BP, 1)
        taken = world.v86("ce", 0x800)
        assert (taken.vector, taken.eip) == (OVERFLOW, 1)

    def test_int_n_needs_a_gate_for_ring_3(self, world: V86) -> None:
        assert world.v86("cd21", IOPL3).vector == 0x21
        taken = world.v86("cd22", IOPL3)
        assert (taken.vector, taken.error, taken.eip) == (GP, 0x22 * 8 + 2, 0)

    def test_cli_and_sti_at_iopl_3(self, world: V86) -> None:
        assert not world.completes("fa", IF | IOPL3).eflags & IF
        assert world.completes("fb", IOPL3).eflags & IF

    def test_popf_keeps_iopl_and_vm(self, world: V86) -> None:
        """pushd 247fd5 with IOPL 0; popfd"""
        taken = world.completes("6668d54e2400 669d", IOPL3)
        assert taken.eflags & ~0x10000 == 0x247ED7 & ~TF | VM

    def test_pushfd_shows_no_vm(self, world: V86) -> None:
        world.completes("669c", IOPL3 | ZF)
        assert world.pushed(2) == (0, IOPL3 | ZF | 2)

    def test_iret_within_v86_mode(self, world: V86) -> None:
        """push 0ed5; push 2100; push 0; iret"""
        world.machine.write(0x21000, b"\xf4")
        taken = world.v86("68d50e 680021 6a00 cf", IOPL3 | NT)
        assert (taken.eip, taken.cs) == (0, 0x2100)
        assert taken.eflags & ~0x10000 == VM | IOPL3 | 0xED7

    def test_the_bitmap_rules_ports_whatever_iopl(self, world: V86) -> None:
        """in al, 40; in al, ff"""
        world.machine.write(TSS + IO_MAP + 8, b"\x02")
        assert world.completes("e440", IOPL3).esp & 0xFFFF == SP
        assert world.refused("e441", IOPL3)
        assert world.refused("e540", IOPL3)         # a word needs both
        world.cpu.edx = 0x41
        assert world.refused("6e", IOPL3)           # OUTSB


class TestVirtualInterrupts:
    """CR4.VME: at IOPL 0 the program's IF is VIF (SDM 3:20.3)."""

    @pytest.fixture
    def vme(self, world: V86) -> V86:
        world.cpu.cr4 = CR4_VME
        return world

    def test_mov_to_cr4_knows_the_bits(self, world: V86) -> None:
        world.ring0("mov $3, %eax; mov %eax, %cr4; hlt")
        assert world.cpu.cr4 == CR4_VME | CR4_PVI

    def test_cli_and_sti(self, vme: V86) -> None:
        assert not vme.completes("fa", VIF | IF).eflags & VIF
        taken = vme.completes("fb")
        assert taken.eflags & (VIF | IF) == VIF

    def test_sti_with_an_interrupt_pending(self, vme: V86) -> None:
        assert vme.refused("fb", VIP)

    def test_at_iopl_3_if_is_the_programs(self, vme: V86) -> None:
        assert vme.completes("fb", IOPL3 | VIP).eflags & (VIF | IF) == IF

    @pytest.mark.parametrize(("eflags", "image"), [(VIF, IF), (IF, 0), (VIF | IF, IF)])
    def test_pushf_shows_vif_and_iopl_3(self, vme: V86, eflags: int, image: int) -> None:
        vme.completes("9c", eflags)
        assert vme.pushed(1) == (image | IOPL3 | 2,)

    def test_popf_sets_vif_alone(self, vme: V86) -> None:
        """push 0ed7 (IF, IOPL 0); popf"""
        taken = vme.completes("68d70e 9d")
        assert taken.eflags & ~0x10000 == VM | VIF | 0xCD7
        taken = vme.completes("680200 9d", VIF | IF)
        assert taken.eflags & ~0x10000 == VM | IF | 2

    @pytest.mark.parametrize(("image", "eflags"), [(IF, VIP), (TF, 0), (TF, VIP)])
    def test_popf_and_iret_that_are_the_monitors(self, vme: V86, image: int, eflags: int) -> None:
        """IF with VIP, and TF: #GP(0), and SP as before the instruction."""
        taken = vme.v86(f"68{image & 0xFF:02x}{image >> 8:02x} 9d", eflags)
        assert (taken.vector, taken.error, taken.eip, taken.esp & 0xFFFF) == (GP, 0, 3, SP - 2)
        taken = vme.v86(f"68{image & 0xFF:02x}{image >> 8:02x} 0e 6a00 cf", eflags)
        assert (taken.vector, taken.error, taken.eip, taken.esp & 0xFFFF) == (GP, 0, 6, SP - 6)

    def test_iret_sets_vif_alone(self, vme: V86) -> None:
        vme.machine.write(0x21000, b"\xf4")
        taken = vme.v86("68d70e 680021 6a00 cf")
        assert (taken.cs, taken.eflags & ~0x10000) == (0x2100, VM | VIF | 0xCD7)

    def test_no_instruction_begins_with_vif_and_vip(self, vme: V86) -> None:
        """#GP(0) at whatever finds both set (SDM 3:20.3.2), unless IF is the program's."""
        assert vme.refused("90", VIF | VIP)
        assert vme.completes("90", IOPL3 | VIF | VIP).eflags & (VIF | VIP) == VIF | VIP
        vme.cpu.cr4 = 0
        assert vme.completes("90", VIF | VIP).eflags & (VIF | VIP) == VIF | VIP

    @pytest.mark.parametrize(("flags", "eip"), [(VIF | VIP, 0), (VIF, 1), (VIP, 1), (IOPL3 | VIF | VIP, 1)])
    def test_iretd_to_vif_and_vip(self, vme: V86, flags: int, eip: int) -> None:
        """nop; hlt: the fault is that of the first instruction of the program."""
        vme.machine.write(BASE, b"\x90\xf4")
        frame = (0, 0, DATA_SEGMENT, DATA_SEGMENT, STACK_SEGMENT, SP, VM | flags | 2, SEGMENT, 0)
        taken = vme.ring0("; ".join(f"push ${value:#x}" for value in frame) + "; iret")
        assert isinstance(taken, Taken)
        assert (taken.vector, taken.error, taken.cs, taken.eip) == (GP, 0, SEGMENT, eip)
        assert taken.eflags & (VIF | VIP) == flags & (VIF | VIP)

    @pytest.mark.parametrize("code", ["669c", "669d", "66cf"])
    def test_doubleword_forms_need_iopl_3(self, vme: V86, code: str) -> None:
        assert vme.refused(code)


class TestRedirection:
    """SDM 3:20.3.3, table 20-2: six ways of INT n."""

    @pytest.fixture
    def vme(self, world: V86) -> V86:
        world.cpu.cr4 = CR4_VME
        world.machine.write(0x21000, b"\xf4")
        return world

    def test_method_3_bit_set_iopl_below_3(self, vme: V86) -> None:
        assert vme.refused("cd21")

    def test_method_4_bit_set_iopl_3(self, vme: V86) -> None:
        taken = vme.v86("cd21", IOPL3)
        assert (taken.vector, taken.eip) == (0x21, 2)

    def test_method_5_bit_clear_iopl_3(self, vme: V86) -> None:
        """The program's handler at 2100:0, with IF as it is, and IF cleared."""
        vme.redirect(0x21, 0x2100, 0)
        taken = vme.v86("cd21", IOPL3 | IF | CF)
        assert (taken.vector, taken.cs, taken.eip) == (GP, 0x2100, 0)       # its HLT
        assert vme.pushed(3) == (IOPL3 | IF | CF | 2, SEGMENT, 2)
        assert taken.eflags & ~0x10000 == VM | IOPL3 | CF | 2

    @pytest.mark.parametrize(("eflags", "image"), [(VIF, IF), (IF, 0)])
    def test_method_6_bit_clear_iopl_below_3(self, vme: V86, eflags: int, image: int) -> None:
        """VIF is pushed as IF, with IOPL 3, and cleared."""
        vme.redirect(0x21, 0x2100, 0)
        taken = vme.v86("cd21", eflags | CF)
        assert (taken.cs, taken.eip) == (0x2100, 0)
        assert vme.pushed(3) == (image | IOPL3 | CF | 2, SEGMENT, 2)
        assert taken.eflags & ~0x10000 == VM | CF | 2 | (eflags & IF)

    def test_the_monitors_pages_hold_the_vectors(self, vme: V86) -> None:
        """Without VME the bit does not count (methods 1 and 2)."""
        vme.redirect(0x21, 0x2100, 0)
        vme.cpu.cr4 = 0
        assert vme.refused("cd21")
        assert vme.v86("cd21", IOPL3).vector == 0x21

    def test_a_stack_without_room(self, vme: V86) -> None:
        """mov sp, 3; int 21: the third word would lie at fffd, the second at ffff."""
        vme.redirect(0x21, 0x2100, 0)
        taken = vme.v86("bc0300 cd21")
        assert (taken.vector, taken.error, taken.eip, taken.esp & 0xFFFF) == (SS, 0, 3, 3)

    def test_a_tss_too_short_for_the_bitmap(self, vme: V86) -> None:
        vme.machine.write(TSS + 102, struct.pack("<H", 0xFFFF))
        assert vme.refused("cd21", IOPL3)

    def test_int3_is_not_redirected(self, vme: V86) -> None:
        vme.redirect(BP, 0x2100, 0)
        assert vme.v86("cc").vector == BP


class TestProtectedVirtualInterrupts:
    """CR4.PVI: CLI and STI at CPL 3, IOPL below it (SDM 3:20.4)."""

    @pytest.fixture
    def pvi(self, world: V86) -> V86:
        world.cpu.cr4 = CR4_PVI
        return world

    def test_cli_and_sti(self, pvi: V86) -> None:
        taken = pvi.ring3("sti; hlt", 2)
        assert (taken.eip, taken.eflags & (VIF | IF)) == (0x10001, VIF)
        taken = pvi.ring3("cli; hlt", VIF | IF | 2)
        assert (taken.eip, taken.eflags & (VIF | IF)) == (0x10001, IF)

    def test_sti_with_an_interrupt_pending(self, pvi: V86) -> None:
        taken = pvi.ring3("sti; hlt", VIP | 2)
        assert (taken.vector, taken.eip) == (GP, 0x10000)

    def test_no_instruction_begins_with_vif_and_vip(self, pvi: V86) -> None:
        taken = pvi.ring3("nop; hlt", VIF | VIP | 2)
        assert (taken.vector, taken.error, taken.eip) == (GP, 0, 0x10000)
        assert pvi.ring3("nop; hlt", IOPL3 | VIF | VIP | 2).eip == 0x10001
        assert pvi.ring0("nop; hlt", VIF | VIP | 2).eip == 0x10002

    def test_pushf_and_popf_do_not_know_vif(self, pvi: V86) -> None:
        taken = pvi.ring3("pushf; pop %eax; push $0x202; popf; hlt", VIF | 2)
        assert pvi.cpu.eax & (VIF | IF | IOPL3) == VIF
        assert taken.eflags & (VIF | IF) == VIF

    def test_it_is_not_for_v86_mode(self, pvi: V86) -> None:
        assert pvi.refused("fa")

    def test_nor_vme_for_protected_mode(self, world: V86) -> None:
        world.cpu.cr4 = CR4_VME
        assert world.ring3("cli", 2).eip == 0x10000

    def test_nor_for_ring_1(self, pvi: V86) -> None:
        """CPL must be 3."""
        pvi.load("sti; hlt")
        pvi.describe(SPARE, descriptor(0, 0xFFFFF, 0xBB))
        pvi.cpu.cs.set(SPARE | 1, 0, 0xFFFFFFFF, 0xC0BB)
        pvi.cpu.ss.set(USER_DATA, 0, 0xFFFFFFFF, 0xC0B3)
        taken = pvi.go()
        assert isinstance(taken, Taken)
        assert (taken.vector, taken.eip) == (GP, 0x10000)


def test_single_step_in_v86_mode(world: V86) -> None:
    """TF traps behind the instruction, out of V86 mode."""
    taken = world.v86("90 90", TF)
    assert (taken.vector, taken.eip, taken.cs) == (DEBUG_TRAP, 1, SEGMENT)


def test_sysenter_leaves_v86_mode(world: V86) -> None:
    """SDM 2, SYSENTER: VM is cleared."""
    world.ring0("mov $0x174, %ecx; xor %edx, %edx; mov $8, %eax; wrmsr; inc %ecx; mov $0x9000, %eax; wrmsr;"
                "inc %ecx; mov $0x30ff0, %eax; wrmsr; hlt")
    world.start("0f34", IOPL3 | IF)
    world.cpu.eip = 0
    world.machine.run(max_instructions=2)
    assert (world.cpu.eip, world.cpu.cpl, world.cpu.eflags & (VM | IF)) == (0x30FF1, 0, 0)
