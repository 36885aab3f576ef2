"""Real-address mode (SDM 3:20.1): paragraphs, the vector table, unreal mode, and the way there and back."""
from __future__ import annotations

import struct

import pytest

import pvfast

from .protected import AC, CF, IF, descriptor
from .protected import DF as DIRECTION

CODE, STACK_TOP, HANDLERS = 0x1000, 0x8000, 0x700
"""Offsets in the first 64 KiB; handler n is a HLT at HANDLERS + n."""
DE, UD, SS, GP = 0, 6, 12, 13
PE = 1


class Real:
    """A machine in real mode with all segments at 0 and a vector table whose handlers halt."""

    def __init__(self, processor: str = "generic") -> None:
        self.machine = pvfast.Machine(ram="2M", mode="real", processor=processor)
        self.cpu = self.machine.cpu
        self.cpu.cs.set(0, 0, 0xFFFF, 0x93)
        self.machine.write(0, b"".join(struct.pack("<HH", HANDLERS + vector, 0) for vector in range(256)))
        self.machine.write(HANDLERS, b"\xf4" * 256)
        self.cpu.esp = STACK_TOP

    def run(self, code: str, eflags: int = 2) -> int | None:
        """Run bytes at CODE to HLT; the vector of the handler that halted, None for the program's own HLT."""
        self.machine.write(CODE, bytes.fromhex(code) + b"\xf4")
        self.cpu.eip, self.cpu.eflags = CODE, eflags
        return self.go()

    def go(self) -> int | None:
        stop = self.machine.run(max_instructions=1000)
        assert stop.reason is pvfast.StopReason.HALT, stop
        vector = self.cpu.cs.base + self.cpu.eip - 1 - HANDLERS
        return vector if 0 <= vector < 256 else None

    def frame(self) -> tuple[int, int, int]:
        """IP, CS and FLAGS of the interrupt."""
        return struct.unpack("<3H", self.machine.read(self.cpu.ss.base + (self.cpu.esp & 0xFFFF), 6))


@pytest.fixture
def real() -> Real:
    return Real()


class TestStart:
    """SDM 3:9.1.1, table 9-1."""

    def test_reset_state(self) -> None:
        machine = pvfast.Machine(ram="1M", mode="real")
        cpu = machine.cpu
        assert (cpu.cs.selector, cpu.cs.base, cpu.cs.limit, cpu.eip) == (0xF000, 0xFFFF0000, 0xFFFF, 0xFFF0)
        assert (cpu.cr0, cpu.eflags, cpu.cpl) == (0x60000010, 2, 0)
        for segment in (cpu.ds, cpu.es, cpu.ss, cpu.fs, cpu.gs):
            assert (segment.selector, segment.base, segment.limit, segment.attributes) == (0, 0, 0xFFFF, 0x93)
        assert cpu.gdtr == cpu.idtr == (0, 0xFFFF)

    def test_firmware_runs_from_the_top(self) -> None:
        machine = pvfast.Machine(ram="1M", mode="real")
        firmware = bytearray(b"\xff" * 0x10000)
        firmware[0xFFF0:0xFFF5] = bytes.fromhex("ea 00 e0 00 f0")       # jmp F000:E000
        machine.map_rom(0xFFFF0000, firmware)
        machine.map_rom(0xF0000, b"\x90" * 0xE000 + b"\xf4")            # its copy below 1 MiB
        assert machine.run(max_instructions=10).reason is pvfast.StopReason.HALT
        assert (machine.cpu.cs.base, machine.cpu.eip) == (0xF0000, 0xE001)

    def test_a_mode_that_is_none(self) -> None:
        with pytest.raises(pvfast.PvfastError, match="mode='long'"):
            pvfast.Machine(mode="long")


class TestSegments:
    def test_a_selector_is_a_paragraph(self, real: Real) -> None:
        """mov ax, 1234; mov ds, ax; mov al, [5]"""
        real.machine.write(0x12345, b"\x77")
        assert real.run("b83412 8ed8 a00500") is None
        assert (real.cpu.ds.selector, real.cpu.ds.base, real.cpu.ds.limit) == (0x1234, 0x12340, 0xFFFF)
        assert real.cpu.eax & 0xFF == 0x77

    def test_addresses_reach_above_one_mebibyte(self, real: Real) -> None:
        """mov ax, ffff; mov ds, ax; mov al, [10]"""
        real.machine.write(0x100000, b"\x55")
        assert real.run("b8ffff 8ed8 a01000") is None
        assert real.cpu.eax & 0xFF == 0x55

    @pytest.mark.parametrize(("code", "vector"), [
        ("a1ffff", GP),                 # mov ax, [ffff]
        ("66a1fdff", GP),               # mov eax, [fffd]
        ("36a1ffff", SS),               # mov ax, ss:[ffff]
        ("67a100000100", GP),           # mov ax, [10000]
    ])
    def test_limits_hold(self, real: Real, code: str, vector: int) -> None:
        """SDM 3:20.1.4, table 20-1: no error code is pushed."""
        assert real.run(code) == vector
        assert real.frame()[:2] == (CODE, 0)
        assert real.cpu.esp == STACK_TOP - 6

    def test_code_can_be_written(self, real: Real) -> None:
        """mov byte cs:[2000], 5"""
        assert real.run("2ec606002005") is None
        assert real.machine.read(0x2000, 1) == b"\x05"

    def test_any_selector_is_good(self, real: Real) -> None:
        """SS takes 0, and a value with whatever low bits."""
        assert real.run("b80300 8ed0 31c0 8ed0 8ee0 8ee8") is None
        assert real.cpu.ss.selector == 0


class TestTransfers:
    def test_far_jump(self, real: Real) -> None:
        real.machine.write(0x20010, b"\xf4")
        assert real.run("ea 10 00 00 20") is None
        assert (real.cpu.cs.selector, real.cpu.cs.base, real.cpu.eip) == (0x2000, 0x20000, 0x11)

    def test_far_call_and_return(self, real: Real) -> None:
        """call 2000:0010; at 20010: retf 2"""
        real.machine.write(0x20010, bytes.fromhex("ca0200"))
        real.cpu.esp = STACK_TOP - 2
        assert real.run("9a10000020") is None
        assert (real.cpu.cs.selector, real.cpu.eip, real.cpu.esp) == (0, CODE + 6, STACK_TOP)
        assert real.machine.read(STACK_TOP - 6, 4) == struct.pack("<HH", CODE + 5, 0)

    def test_a_target_beyond_the_limit_faults_in_place(self, real: Real) -> None:
        """jmp dword 2000:00010000"""
        assert real.run("66 ea 00000100 0020") == GP
        assert real.frame()[:2] == (CODE, 0)

    def test_the_fetch_does_not_wrap(self, real: Real) -> None:
        """A NOP in the last byte of the segment: the next one lies beyond the limit (SDM 3:20.1.1)."""
        real.machine.write(0xFFFF, b"\x90")
        real.cpu.eip = 0xFFFF
        assert real.go() == GP
        assert real.frame()[:2] == (0, 0)       # 10000, of which 16 bits are pushed

    def test_an_instruction_across_the_limit_faults(self, real: Real) -> None:
        real.machine.write(0xFFFF, b"\xb0\x12")     # mov al, 12
        real.cpu.eip = 0xFFFF
        assert real.go() == GP
        assert real.frame()[:2] == (0xFFFF, 0)


class TestInterrupts:
    """SDM 3:20.1.4."""

    def test_int_n(self, real: Real) -> None:
        assert real.run("cd21", IF | DIRECTION | AC | CF) == 0x21
        assert real.frame() == (CODE + 2, 0, IF | DIRECTION | CF | 2)
        assert real.cpu.eflags == DIRECTION | CF | 2    # IF, TF and AC are cleared
        assert real.cpu.esp == STACK_TOP - 6

    def test_iret_restores_all_sixteen_flags(self, real: Real) -> None:
        """push 7000 | flags; push cs; push 1010; iret"""
        real.machine.write(0x1010, b"\xf4")
        assert real.run("68d774 0e 681010 cf") is None
        assert real.cpu.eflags == 0x74D7
        assert real.cpu.eip == 0x1011

    def test_iretd_keeps_vm_and_vif(self, real: Real) -> None:
        """pushd 3e0cd7; pushd 0; pushd 1020; iretd: VM, VIF and VIP stay (SDM 2, IRET)"""
        real.machine.write(0x1020, b"\xf4")
        assert real.run("6668d70c3e00 666a00 666820100000 66cf") is None
        assert real.cpu.eflags == 0x240CD7

    def test_into_and_int3(self, real: Real) -> None:
        assert real.run("ce", 0x802) == 4
        assert real.run("cc") == 3

    def test_idtr_moves_and_limits_the_table(self, real: Real) -> None:
        real.cpu.idtr = (0x400, 4 * 0x21 + 3)
        real.machine.write(0x400 + 4 * 0x21, struct.pack("<HH", 0x10, 0x30))
        real.machine.write(0x310, b"\xf4")
        real.run("cd21")
        assert (real.cpu.cs.selector, real.cpu.eip) == (0x30, 0x11)

    def test_a_vector_beyond_the_table_is_a_general_protection_fault(self, real: Real) -> None:
        real.cpu.idtr = (0, 4 * 0x20 - 1)
        assert real.run("cd20") == GP
        assert real.frame()[0] == CODE

    def test_no_vectors_shut_down(self, real: Real) -> None:
        """#GP, #DF, and neither has a vector (SDM 3:6.15, interrupt 8)."""
        real.cpu.idtr = (0, 4 * 8 - 1)
        real.machine.write(CODE, b"\xcd\x20")
        real.cpu.eip = CODE
        assert real.machine.run(max_instructions=10).reason is pvfast.StopReason.SHUTDOWN

    def test_a_double_fault_has_a_handler(self, real: Real) -> None:
        """The stack has no room: #SS, whose frame has none either, then #DF, then shutdown."""
        real.cpu.esp = 1
        real.machine.write(CODE, b"\x50")       # push ax at SP 1 wraps to ffff
        real.cpu.eip = CODE
        assert real.machine.run(max_instructions=10).reason is pvfast.StopReason.SHUTDOWN

    def test_external(self, real: Real) -> None:
        real.machine.inject_interrupt(0x40)
        assert real.run("fb 90 90", 2) == 0x40
        assert real.frame()[0] == CODE + 2

    def test_divide_error_restarts(self, real: Real) -> None:
        assert real.run("31c9 f7f1") == DE
        assert real.frame()[0] == CODE + 2


class TestInstructions:
    @pytest.mark.parametrize("code", [
        "0f00c0",       # sldt ax
        "0f00c8",       # str ax
        "0f00d0",       # lldt ax
        "0f00d8",       # ltr ax
        "0f00e0",       # verr ax
        "0f00e8",       # verw ax
        "0f02c0",       # lar ax, ax
        "0f03c0",       # lsl ax, ax
        "63c0",         # arpl ax, ax
    ])
    def test_undefined(self, real: Real, code: str) -> None:
        """SDM 3:20.1.3 leaves them out; each page of SDM 2 says #UD."""
        assert real.run(code) == UD

    @pytest.mark.parametrize("code", ["0f34", "0f35"])
    def test_sysenter_is_refused(self, real: Real, code: str) -> None:
        assert real.run(code) == GP

    def test_what_needs_privilege_elsewhere(self, real: Real) -> None:
        """cli; sti; clts; mov eax, cr0; smsw bx; wbinvd; rdmsr of the TSC"""
        assert real.run("fa fb 0f06 0f20c0 0f01e3 0f09 66b910000000 0f32") is None

    def test_lgdt_takes_24_bits(self, real: Real) -> None:
        """lgdt [2000]; o32 lidt [2000]"""
        real.machine.write(0x2000, bytes.fromhex("2700 44332211"))
        assert real.run("0f01160020 660f011e0020") is None
        assert real.cpu.gdtr == (0x223344, 0x27)
        assert real.cpu.idtr == (0x11223344, 0x27)


class TestModeSwitch:
    """SDM 3:9.9."""

    GDT = 0x3000

    def tables(self, real: Real) -> None:
        real.machine.write(self.GDT, bytes(8) + descriptor(0, 0xFFFFF, 0x9B) + descriptor(0, 0xFFFFF, 0x93)
                           + descriptor(0, 0xFFFF, 0x9B, 0) + descriptor(0x20000, 0xFFFF, 0x93, 0))
        real.cpu.gdtr = (self.GDT, 0x27)

    def test_into_protected_mode(self, real: Real) -> None:
        """mov eax, cr0; or al, 1; mov cr0, eax; jmp dword 8:2000"""
        self.tables(real)
        real.machine.write(0x2000, bytes.fromhex("66b81000 8ed8 a100001000 f4"))    # mov ax, 10; mov ds, ax; ...
        real.machine.write(0x100000, b"\x78\x56\x34\x12")
        real.run("0f20c0 0c01 0f22c0 66ea002000000800")
        assert (real.cpu.cs.selector, real.cpu.eip, real.cpu.eax) == (8, 0x200C, 0x12345678)
        assert real.cpu.cr0 & PE

    def test_lmsw_sets_pe_and_does_not_clear_it(self, real: Real) -> None:
        """smsw ax; or al, 1; lmsw ax; and al, fe; lmsw ax"""
        self.tables(real)
        assert real.run("0f01e0 0c01 0f01f0 24fe 0f01f0") is None
        assert real.cpu.cr0 & PE

    def unreal(self, real: Real) -> None:
        """Real mode with a DS of 4 GiB: mov eax, cr0; inc ax; mov cr0, eax; mov bx, 10; mov ds, bx; dec ax; ..."""
        self.tables(real)
        assert real.run("0f20c0 40 0f22c0 bb1000 8edb 48 0f22c0") is None
        assert not real.cpu.cr0 & PE

    def test_unreal_mode(self, real: Real) -> None:
        self.unreal(real)
        real.machine.write(0x100000, b"\x99")
        assert real.run("67a000001000") is None          # mov al, [100000]
        assert real.cpu.eax & 0xFF == 0x99

    def test_a_selector_load_keeps_the_limit(self, real: Real) -> None:
        """mov bx, 100; mov ds, bx; mov al, [ff000]"""
        self.unreal(real)
        real.machine.write(0x100000, b"\x98")
        assert real.run("bb0001 8edb 67a000f00f00") is None
        assert (real.cpu.ds.base, real.cpu.ds.limit) == (0x1000, 0xFFFFFFFF)
        assert real.cpu.eax & 0xFF == 0x98

    def test_back_to_real_mode(self, real: Real) -> None:
        """Through a 16-bit code segment: jmp 18:here; mov cr0 with PE clear; jmp 0:there; int 21"""
        self.tables(real)
        real.machine.write(0x1100, bytes.fromhex("0f20c0 24fe 0f22c0 ea0d110000 cd21"))
        assert real.run("0f20c0 0c01 0f22c0 ea00111800") == 0x21
        assert real.frame()[:2] == (0x110F, 0)
        assert real.cpu.cpl == 0

    def test_paging_needs_protected_mode(self, real: Real) -> None:
        """mov eax, 80000010; mov cr0, eax"""
        assert real.run("66b810000080 0f22c0") == GP

    def test_from_python(self) -> None:
        machine = pvfast.Machine(ram="1M")
        machine.cpu.cr0 = 0
        assert machine.cpu.cpl == 0
        with pytest.raises(pvfast.PvfastError, match="PE"):
            machine.cpu.cr0 = 0x80000000
        with pytest.raises(pvfast.PvfastError, match="PE"):
            machine.cpu.eflags = 0x20002
