"""16-bit code and stack segments in protected mode, 16-bit operand size, and branches at the limit of CS."""
from __future__ import annotations

import struct

import pytest

import pvfast

from .protected import GP, SPARE, SS, Taken, World, descriptor

CODE16, STACK16 = SPARE, SPARE + 8
BASE, STACK_BASE = 0x50000, 0x60000


class Sixteen(World):
    """The protected world with a 16-bit code segment at BASE and a 16-bit stack segment at STACK_BASE."""

    def __init__(self) -> None:
        super().__init__()
        self.describe(CODE16, descriptor(BASE, 0xFFFF, 0x9B, 0))
        self.describe(STACK16, descriptor(STACK_BASE, 0xFFFF, 0x93, 0))
        self.describe(STACK16 + 8, descriptor(STACK_BASE, 0xFFFFF, 0x93, 8))

    def sixteen(self, code: str, at: int = 0, limit: int = 0xFFFF) -> Taken | pvfast.Stop:
        """Run bytes in the 16-bit segments up to the HLT behind them; `Taken` for a fault."""
        self.machine.write(BASE + at, bytes.fromhex(code) + b"\xf4")
        self.cpu.cs.set(CODE16, BASE, limit, 0x009B)
        self.cpu.ss.set(STACK16, STACK_BASE, 0xFFFF, 0x0093)
        self.cpu.esp = 0x12340100
        return self.go(at)

    def frame(self, vector: int) -> Taken:
        """The handler's stack is the 16-bit one."""
        words = list(struct.unpack("<4I", self.machine.read(STACK_BASE + (self.cpu.esp & 0xFFFF), 16)))
        error = words.pop(0) if vector in (8, 10, 11, 12, 13, 14, 17) else None
        return Taken(vector, error, *words[:3], 0, 0)

    def words(self, count: int) -> tuple[int, ...]:
        """From the top of the 16-bit stack."""
        return struct.unpack(f"<{count}H", self.machine.read(STACK_BASE + (self.cpu.esp & 0xFFFF), 2 * count))


@pytest.fixture
def world() -> Sixteen:
    return Sixteen()


class TestCodeSegment:
    """CS.D clear: 16 bits are the default, 66 and 67 ask for 32 (SDM 1:3.6.1, table 3-4)."""

    @pytest.mark.parametrize(("code", "eax"), [
        ("b83412", 0xFFFF1234),             # mov ax, 1234
        ("66b878563412", 0x12345678),       # mov eax, 12345678
        ("8d4705", 0xFFFF0105),             # lea ax, [bx+5]
        ("668d4705", 0x00000105),           # lea eax, [bx+5]: of 16-bit arithmetic
        ("67668d4305", 0x00030105),         # lea eax, [ebx+5]
        ("678d4305", 0xFFFF0105),           # lea ax, [ebx+5]
    ])
    def test_prefixes(self, world: Sixteen, code: str, eax: int) -> None:
        world.cpu.eax, world.cpu.ebx = 0xFFFFFFFF, 0x30100
        world.sixteen(code)
        assert world.cpu.eax == eax

    def test_prefix_twice_is_once(self, world: Sixteen) -> None:
        world.cpu.eax = 0
        world.sixteen("6666b878563412")
        assert world.cpu.eax == 0x12345678

    def test_string_registers_wrap(self, world: Sixteen) -> None:
        """cld; rep movsb with si across ffff"""
        world.cpu.ds.set(0x10, 0x70000, 0xFFFF, 0x4093)
        world.cpu.es.set(0x10, 0x70000, 0xFFFF, 0x4093)
        world.machine.write(0x7FFFE, b"ab")
        world.machine.write(0x70000, b"cd")
        world.cpu.esi, world.cpu.edi, world.cpu.ecx = 0x5555FFFE, 0x66660100, 0x77770004
        world.sixteen("fcf3a4")
        assert world.machine.read(0x70100, 4) == b"abcd"
        assert (world.cpu.esi, world.cpu.edi, world.cpu.ecx) == (0x55550002, 0x66660104, 0x77770000)

    @pytest.mark.parametrize(("code", "size"), [("f3aa", 1), ("f3ab", 2), ("66f3ab", 4)])
    def test_a_fill_wraps_in_a_segment_of_4_gib(self, world: Sixteen, code: str, size: int) -> None:
        """rep stos up to the end of 64 KiB and on from its beginning."""
        world.cpu.es.set(0x10, 0x70000, 0xFFFFFFFF, 0xC093)
        world.cpu.edi, world.cpu.ecx, world.cpu.eax = 0x1000FFE0, 64 // size, 0x77777777
        world.sixteen(code)
        assert world.machine.read(0x7FFE0, 0x28) == b"\x77" * 32 + bytes(8)
        assert world.machine.read(0x70000, 0x28) == b"\x77" * 32 + bytes(8)
        assert world.cpu.edi == 0x10000020

    def test_xlat_wraps(self, world: Sixteen) -> None:
        world.machine.write(0x10, b"\x99")
        world.cpu.ebx, world.cpu.eax = 0xABCDFF90, 0x80
        world.sixteen("d7")
        assert world.cpu.eax == 0x99


class TestStackSegment:
    """SS.B clear: SP alone moves, and wraps (SDM 1:6.2.3)."""

    def test_push_and_pop_keep_the_upper_half(self, world: Sixteen) -> None:
        world.cpu.eax = 0xAABBCCDD
        world.sixteen("50 6650 5b 6659")
        assert (world.cpu.esp, world.cpu.ecx) == (0x12340100, 0xCCDDAABB)

    def test_push_wraps(self, world: Sixteen) -> None:
        """mov sp, 0; push ax"""
        world.cpu.eax = 0x1357
        world.sixteen("bc0000 50")
        assert world.cpu.esp == 0x1234FFFE
        assert world.words(1) == (0x1357,)

    def test_a_doubleword_across_the_end_faults(self, world: Sixteen) -> None:
        """mov sp, 2; push eax: at fffe there is room for a word. Nor is there any for the frame of #SS."""
        stop = world.sixteen("bc0200 6650")
        assert (stop.reason, stop.vector, stop.error, stop.eip) == (pvfast.StopReason.SHUTDOWN, SS, 0, 3)

    def test_pusha_and_popa(self, world: Sixteen) -> None:
        (world.cpu.eax, world.cpu.ecx, world.cpu.edx, world.cpu.ebx, world.cpu.ebp, world.cpu.esi,
         world.cpu.edi) = values = [0xF00D0000 + n for n in (1, 2, 3, 4, 6, 7, 8)]
        world.sixteen("60")
        assert world.words(8) == (8, 7, 6, 0x100, 4, 3, 2, 1)
        assert world.cpu.esp == 0x123400F0
        world.sixteen("60 31c0 31db 31f6 61")
        cpu = world.cpu
        assert [cpu.eax, cpu.ecx, cpu.edx, cpu.ebx, cpu.ebp, cpu.esi, cpu.edi] == values
        assert cpu.esp == 0x12340100

    def test_pusha_of_32_bits(self, world: Sixteen) -> None:
        world.cpu.eax = 0xAABBCCDD
        world.sixteen("6660 31c0 6661")
        assert (world.cpu.eax, world.cpu.esp) == (0xAABBCCDD, 0x12340100)

    def test_enter_and_leave(self, world: Sixteen) -> None:
        """mov bp, 5678; enter 20, 0; leave"""
        world.cpu.ebp = 0xAAAA0000
        world.sixteen("bd7856 c8200000")
        assert (world.cpu.ebp, world.cpu.esp) == (0xAAAA00FE, 0x123400DE)
        assert world.machine.read(STACK_BASE + 0xFE, 2) == b"\x78\x56"
        world.sixteen("bd7856 c8200000 c9")
        assert (world.cpu.ebp, world.cpu.esp) == (0xAAAA5678, 0x12340100)

    def test_enter_copies_frames(self, world: Sixteen) -> None:
        """enter 4, 3: two outer frame pointers, then its own"""
        world.machine.write(STACK_BASE + 0x2FC, struct.pack("<HH", 0x2222, 0x1111))
        world.cpu.ebp = 0x300
        world.sixteen("c8040003")
        assert world.words(6)[2:] == (0xFE, 0x2222, 0x1111, 0x300)
        assert (world.cpu.ebp, world.cpu.esp) == (0xFE, 0x123400F4)

    def test_enter_of_32_bits_takes_all_of_esp(self, world: Sixteen) -> None:
        """o32 enter 4, 1: EBP gets ESP, whose upper half the 16-bit stack does not use."""
        world.sixteen("66c8040001")
        assert (world.cpu.ebp, world.cpu.esp) == (0x123400FC, 0x123400F4)
        assert world.machine.read(STACK_BASE + 0xF8, 4) == struct.pack("<I", 0x123400FC)

    def test_leave_of_32_bits(self, world: Sixteen) -> None:
        world.machine.write(STACK_BASE + 0x80, struct.pack("<I", 0xAABBCCDD))
        world.cpu.ebp = 0xFFFF0080
        world.sixteen("66c9")
        assert (world.cpu.ebp, world.cpu.esp) == (0xAABBCCDD, 0x12340084)

    def test_segment_registers_are_words(self, world: Sixteen) -> None:
        """push es; push gs; pop fs; pop ds"""
        world.sixteen("06 0fa8 0fa1 1f")
        assert (world.cpu.fs.selector, world.cpu.ds.selector, world.cpu.esp) == (0x10, 0x10, 0x12340100)

    def test_push_of_a_signed_byte(self, world: Sixteen) -> None:
        world.sixteen("6a80 666a80")
        assert world.words(3) == (0xFF80, 0xFFFF, 0xFF80)


class TestNearBranches:
    """With 16-bit operand size EIP is cut to 16 bits (SDM 2, JMP, CALL, RET, Jcc, LOOP)."""

    @pytest.mark.parametrize("code", ["eb70", "e97000", "7470", "0f847000", "e370", "e270"])
    def test_a_target_above_the_segment_wraps(self, world: Sixteen, code: str) -> None:
        """JMP, JZ, JCXZ and LOOP by 70 from below ffff."""
        target = 0xFFE0 + len(bytes.fromhex(code)) + 0x70 & 0xFFFF
        world.machine.write(BASE + target, b"\xf4")
        world.cpu.eflags = 0x42
        world.cpu.ecx = 0 if code == "e370" else 2
        stop = world.sixteen(code, 0xFFE0)
        assert not isinstance(stop, Taken)
        assert world.cpu.eip == target + 1

    def test_calls_push_words(self, world: Sixteen) -> None:
        """call +1; hlt; ret: the return address is a word."""
        world.sixteen("e80100 f4 c3")
        assert world.cpu.eip == 4
        assert world.machine.read(STACK_BASE + 0xFE, 2) == b"\x03\x00"

    def test_indirect_forms_take_words(self, world: Sixteen) -> None:
        """mov bx, 20; call bx; at 20: jmp [3000]; at 40: ret 2"""
        world.machine.write(BASE + 0x20, bytes.fromhex("ff260030"))
        world.machine.write(0x3000, b"\x40\x00\xff\xff")
        world.machine.write(BASE + 0x40, bytes.fromhex("c20200"))
        world.cpu.ebx = 0xFFFF0000
        world.sixteen("bb2000 ffd3")
        assert (world.cpu.eip, world.cpu.esp) == (6, 0x12340102)

    def test_66_cuts_eip_in_32_bit_code(self, world: World) -> None:
        """jmp with 66 in flat code at 10000 goes below 64 KiB."""
        world.machine.write(0x5, b"\xf4")
        world.machine.write(0x10000, bytes.fromhex("66eb02"))
        stop = world.go()
        assert not isinstance(stop, Taken)
        assert world.cpu.eip == 6

    def test_66_on_call_and_ret_in_32_bit_code(self, world: World) -> None:
        """push a word, ret with 66."""
        world.machine.write(0x100, b"\xf4")
        world.machine.write(0x10000, bytes.fromhex("66680001 66c3"))
        world.go()
        assert (world.cpu.eip, world.cpu.esp) == (0x101, 0x8000)


class TestBranchesAtTheLimit:
    """A target beyond CS.limit is #GP(0) at the branch, which has changed nothing (SDM 2, JMP, CALL, RET, LOOP)."""

    @pytest.mark.parametrize("code", [
        "eb70", "e97000", "e87000", "7470", "0f847000", "e370", "e270", "e170", "ffe3", "ffd3", "ff260030", "ff160030",
        "66e970000000", "66e870000000", "66ffe3", "66ffd3", "66ff260030", "66ff160030", "660f8470000000",
    ])
    def test_faults_in_place(self, world: Sixteen, code: str) -> None:
        world.cpu.ebx = 0x72
        world.machine.write(0x3000, struct.pack("<I", 0x72))
        world.cpu.eflags = 0x42
        world.cpu.ecx = 0 if code.startswith("e3") else 0x12345678
        ecx = world.cpu.ecx
        taken = world.sixteen(code, limit=0x60)
        assert isinstance(taken, Taken)
        assert (taken.vector, taken.error, taken.eip) == (GP, 0, 0)
        assert world.cpu.ecx == ecx
        assert world.cpu.esp == 0x12340100 - 16

    @pytest.mark.parametrize("code", ["c3", "c20400", "66c3", "66c20400"])
    def test_returns(self, world: Sixteen, code: str) -> None:
        """pushd 72; then RET"""
        taken = world.sixteen("6668720000 00" + code, limit=0x60)
        assert isinstance(taken, Taken)
        assert (taken.vector, taken.error, taken.eip) == (GP, 0, 6)
        assert world.cpu.esp == 0x123400FC - 16

    @pytest.mark.parametrize("code", ["7570", "0f857000", "e370", "e270"])
    def test_not_taken_does_not_fault(self, world: Sixteen, code: str) -> None:
        world.cpu.eflags = 0x42
        world.cpu.ecx = 1
        stop = world.sixteen(code, limit=0x60)
        assert not isinstance(stop, Taken)

    def test_a_compare_before_it_has_happened(self, world: Sixteen) -> None:
        """sub ax, 1; jz: the pair is not fused, and SUB is done once."""
        world.cpu.eax = 1
        taken = world.sixteen("6683e801 7470", limit=0x60)
        assert isinstance(taken, Taken)
        assert (taken.vector, taken.eip, world.cpu.eax) == (GP, 4, 0)
        assert taken.eflags & 0x40

    @pytest.mark.parametrize("budget", range(1, 6))
    def test_in_pieces(self, world: Sixteen, budget: int) -> None:
        """The same wherever a run stops."""
        world.machine.write(BASE, bytes.fromhex("40 40 e270"))
        world.cpu.cs.set(CODE16, BASE, 0x60, 0x009B)
        world.cpu.ss.set(STACK16, STACK_BASE, 0xFFFF, 0x0093)
        world.cpu.esp, world.cpu.eip, world.cpu.eax, world.cpu.ecx = 0x100, 0, 0, 5
        for _ in range(12):
            world.machine.run(max_instructions=budget)
        assert (world.cpu.eax, world.cpu.ecx) == (2, 5)
        assert world.frame(GP).eip == 2


class TestFarPointers:
    """ptr16:16 and m16:16."""

    def test_jmp(self, world: Sixteen) -> None:
        world.machine.write(BASE + 0x100, b"\xf4")
        world.sixteen(f"ea0001{CODE16:02x}00")
        assert world.cpu.eip == 0x101

    def test_call_and_retf_through_memory(self, world: Sixteen) -> None:
        """call far [3000]; at 100: retf"""
        world.machine.write(0x3000, struct.pack("<HH", 0x100, CODE16))
        world.machine.write(BASE + 0x100, b"\xcb")
        world.sixteen("ff1e0030")
        assert (world.cpu.eip, world.cpu.esp) == (5, 0x12340100)
        assert world.machine.read(STACK_BASE + 0xFC, 4) == struct.pack("<HH", 4, CODE16)

    def test_call_of_32_bits_out_of_16_bit_code(self, world: Sixteen) -> None:
        """o32 call 8:20000, where o32 retf returns"""
        world.machine.write(0x20000, b"\xcb")
        world.sixteen("669a000002000800")
        assert (world.cpu.eip, world.cpu.cs.selector, world.cpu.esp) == (9, CODE16, 0x12340100)

    @pytest.mark.parametrize(("code", "name"), [
        ("c4060030", "es"), ("c5060030", "ds"), ("0fb2060030", "ss"), ("0fb4060030", "fs"), ("0fb5060030", "gs")])
    def test_lds_and_the_others(self, world: Sixteen, code: str, name: str) -> None:
        world.machine.write(0x3000, struct.pack("<HH", 0x1234, 0x10))
        world.cpu.eax = 0xFFFF0000
        world.sixteen(code)
        assert (world.cpu.eax, world.cpu[name].selector, world.cpu[name].limit) == (0xFFFF1234, 0x10, 0xFFFFFFFF)

    def test_66_in_32_bit_code(self, world: World) -> None:
        """les ax, [3000]; jmp far 8:100"""
        world.machine.write(0x3000, struct.pack("<HH", 0x1234, 0x10))
        world.machine.write(0x100, b"\xf4")
        world.machine.write(0x10000, bytes.fromhex("66c40500300000 66ea00010800"))
        world.cpu.eax = 0xFFFF0000
        world.go()
        assert (world.cpu.eax, world.cpu.eip) == (0xFFFF1234, 0x101)


def test_an_expand_down_stack_of_64_kib(world: Sixteen) -> None:
    """B clear: offsets above the limit, up to ffff (SDM 3:3.4.5.1)."""
    world.machine.write(BASE, bytes.fromhex("50 f4"))
    world.cpu.cs.set(CODE16, BASE, 0xFFFF, 0x009B)
    world.cpu.ss.set(STACK16, STACK_BASE, 0xFFF, 0x0097)
    world.cpu.eip, world.cpu.esp = 0, 0x1002
    stop = world.go(0)
    assert not isinstance(stop, Taken)
    assert world.cpu.esp == 0x1000
