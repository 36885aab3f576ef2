"""x87 against the manual's text: the stack, exceptions masked and unmasked, readiness, pointers, images.

What every instruction computes is compared with the host's processor: tests/differential/x87.py.
"""
from __future__ import annotations

import math
import struct

import pytest

import pvfast
from pvfast.assembly import assemble

from .protected import CODE, GP, PAGE_FAULT, UD, World

NM, MF = 7, 16
CR0_MP, CR0_EM, CR0_TS, CR0_NE = 0x2, 0x4, 0x8, 0x20
IE, DE, ZE, OE, UE, PE, SF, ES, C0, C1, C2, C3, B = (
    0x1, 0x2, 0x4, 0x8, 0x10, 0x20, 0x40, 0x80, 0x100, 0x200, 0x400, 0x4000, 0x8000)
FLAGS = IE | DE | ZE | OE | UE | PE | SF
MASKED, UNMASKED = 0x37F, 0x340
INDEFINITE = bytes.fromhex("00000000000000c0ffff")
SNAN = bytes.fromhex("01000000000000a0ff7f")
QNAN = bytes.fromhex("01000000000000e0ff7f")
DENORMAL = bytes.fromhex("01000000000000000000")
LARGEST = bytes.fromhex("fffffffffffffffffe7f")
DATA = 0x40000


@pytest.fixture
def world() -> World:
    return World()


def run(world: World, source: str, *stack: float | bytes, control: int = MASKED):
    """Run in ring 0 with ST(0), ST(1) ... holding `stack`; ESI is at DATA."""
    fpu = world.cpu.fpu
    fpu.control, fpu.status, fpu.tags = control, (8 - len(stack)) % 8 << 11, 0xFFFF
    for i, value in enumerate(stack):
        fpu[i] = value
    world.cpu.esi = DATA
    return world.ring0(source + "; hlt")


def top(world: World) -> int:
    return world.cpu.fpu.status >> 11 & 7


class TestStack:
    """SDM 1:8.1.2, 1:8.5.1.1."""

    def test_a_new_machine_is_as_after_fninit(self, world):
        assert (world.cpu.fpu.control, world.cpu.fpu.status, world.cpu.fpu.tags) == (0x37F, 0, 0xFFFF)

    def test_push_and_pop(self, world):
        run(world, "fld1; fldpi; faddp")
        assert (top(world), world.cpu.fpu[0]) == (7, math.pi + 1)
        assert world.cpu.fpu.tags == 0x3FFF

    def test_overflow_pushes_the_indefinite(self, world):
        run(world, "fld1", *range(8))
        assert world.cpu.fpu.encoded(0) == INDEFINITE
        assert world.cpu.fpu.status & (IE | SF | C1 | ES) == IE | SF | C1
        assert (top(world), world.cpu.fpu[1]) == (7, 0.0)

    def test_underflow_gives_the_indefinite(self, world):
        run(world, "fadd %st(1), %st", 1.0)
        assert world.cpu.fpu.encoded(0) == INDEFINITE
        assert world.cpu.fpu.status & (IE | SF | C1 | ES) == IE | SF

    def test_unmasked_overflow_changes_nothing(self, world):
        run(world, "fld1", *range(8), control=UNMASKED)
        assert world.cpu.fpu.status & (IE | SF | C1 | ES | B) == IE | SF | C1 | ES | B
        assert (top(world), world.cpu.fpu[0]) == (0, 0.0)

    def test_fincstp_moves_no_tags(self, world):
        run(world, "fincstp; fincstp; fdecstp", 1.0)
        assert (top(world), world.cpu.fpu.tags) == (0, 0x3FFF)

    def test_ffree_and_ffreep(self, world):
        run(world, "ffree %st(1); .byte 0xdf, 0xc0", 1.0, 2.0, 3.0)
        assert (top(world), world.cpu.fpu.tags) == (6, 0x3FFF)

    def test_fxch_fills_what_is_empty(self, world):
        run(world, "fxch %st(1)", 1.5)
        assert (world.cpu.fpu.encoded(0), world.cpu.fpu[1]) == (INDEFINITE, 1.5)


MASKED_RESPONSES = [
    ("fdivrp", (0.0, 1.0), math.inf, ZE),
    ("fdivrp", (0.0, 0.0), INDEFINITE, IE),
    ("fmulp", (0.0, math.inf), INDEFINITE, IE),
    ("fsubp", (math.inf, math.inf), INDEFINITE, IE),
    ("faddp", (SNAN, 1.0), QNAN, IE),
    ("faddp", (DENORMAL, 1.0), 1.0, DE | PE),
    ("faddp", (LARGEST, LARGEST), math.inf, OE | PE),
    ("fmulp", (DENORMAL, 0.25), 0.0, DE | UE | PE),
    ("fsqrt", (-1.0,), INDEFINITE, IE),
    ("fsqrt", (2.0,), math.sqrt(2), PE),
    ("frndint", (2.5,), 2.0, PE),
    ("fscale", (3.0, 4.0), 48.0, 0),
    ("fprem", (7.5, 2.0), 1.5, 0),
    ("fprem1", (7.5, 2.0), -0.5, 0),
    ("fyl2x", (8.0, 3.0), 9.0, PE),
    ("fyl2x", (-8.0, 3.0), INDEFINITE, IE),
    ("fyl2x", (0.0, 3.0), -math.inf, ZE),
    ("f2xm1", (1.0,), 1.0, PE),
    ("fpatan", (0.0, 1.0), math.pi / 2, PE),
    ("fchs", (-0.0,), 0.0, 0),
    ("fabs", (-2.0,), 2.0, 0),
]
"""Instruction, ST(0) and ST(1), ST(0) behind it, flags (SDM 1:8.5, tables 8-10 and 8-11). FDIVRP is AT&T's name for
FDIVP."""


class TestExceptions:
    """SDM 1:8.5, 1:8.6."""

    @pytest.mark.parametrize(("instruction", "stack", "result", "flags"), MASKED_RESPONSES)
    def test_masked(self, world, instruction, stack, result, flags):
        run(world, instruction, *stack)
        if isinstance(result, bytes):
            assert world.cpu.fpu.encoded(0) == result
        else:
            assert world.cpu.fpu[0] == result
            assert math.copysign(1, world.cpu.fpu[0]) == math.copysign(1, result)
        assert world.cpu.fpu.status & (FLAGS | ES) == flags

    @pytest.mark.parametrize(("instruction", "stack", "flags"), [
        (instruction, stack, flags) for instruction, stack, _, flags in MASKED_RESPONSES if flags & (IE | ZE)])
    def test_an_unmasked_operand_exception_leaves_the_operands(self, world, instruction, stack, flags):
        run(world, instruction, *stack, control=UNMASKED)
        assert world.cpu.fpu.status & (FLAGS | ES | B) == flags | ES | B
        for i, value in enumerate(stack):
            assert world.cpu.fpu[i] == value if isinstance(value, float) else world.cpu.fpu.encoded(i) == value

    def test_unmasked_overflow_wraps_the_exponent(self, world):
        """Divided by 2**24576 (SDM 1:8.5.4)."""
        run(world, "fmulp", LARGEST, 2.0, control=MASKED & ~OE)
        exponent = int.from_bytes(world.cpu.fpu.encoded(0)[8:], "little")
        assert exponent == 0x7FFE + 1 - 24576
        assert world.cpu.fpu.status & (FLAGS | ES) == OE | ES

    def test_unmasked_overflow_of_a_store_stores_nothing(self, world):
        world.machine.write(DATA, b"\x55" * 8)
        run(world, "fstpl (%esi)", LARGEST, control=MASKED & ~OE)
        assert world.machine.read(DATA, 8) == b"\x55" * 8
        assert (world.cpu.fpu.status & (FLAGS | ES), top(world)) == (OE | ES, 7)

    def test_the_exception_is_reported_by_the_next_waiting_instruction(self, world):
        taken = run(world, "fsqrt; fnop", -1.0, control=UNMASKED)
        assert (taken.vector, taken.error, taken.eip) == (MF, None, CODE + 2)

    def test_fwait_reports_it(self, world):
        taken = run(world, "fsqrt; nop; fwait", -1.0, control=UNMASKED)
        assert (taken.vector, taken.eip) == (MF, CODE + 3)

    @pytest.mark.parametrize("ne", [0, CR0_NE])
    def test_vector_16_whatever_ne_says(self, world, ne):
        world.cpu.cr0 |= ne
        assert run(world, "fsqrt; fwait", -1.0, control=UNMASKED).vector == MF

    @pytest.mark.parametrize("instruction", ["fnstsw %ax", "fnstcw (%esi)", "fnstenv (%esi)", "fnsave (%esi)",
                                             "fnclex", "fninit", "fnstsw (%esi)", "fxsave (%esi)"])
    def test_control_instructions_do_not_wait(self, world, instruction):
        stop = run(world, f"fsqrt; {instruction}", -1.0, control=UNMASKED)
        assert isinstance(stop, pvfast.core.engine.Stop)

    @pytest.mark.parametrize("instruction", ["fldcw (%esi)", "fldenv (%esi)", "frstor (%esi)", "fld1"])
    def test_others_do(self, world, instruction):
        assert run(world, f"fsqrt; {instruction}", -1.0, control=UNMASKED).vector == MF

    def test_fldcw_unmasks_a_flag_that_is_set(self, world):
        world.machine.write(DATA, struct.pack("<H", UNMASKED))
        assert run(world, "fsqrt; fldcw (%esi); fwait", -1.0).vector == MF

    def test_fnclex_takes_it_back(self, world):
        run(world, "fsqrt; fnclex; fwait", -1.0, control=UNMASKED)
        assert world.cpu.fpu.status & (FLAGS | ES | B) == 0

    def test_the_opcode_is_kept_for_unmasked_exceptions_only(self, world):
        """SDM 1:8.1.9.1; FSQRT is D9 FA."""
        run(world, "fsqrt", 2.0)
        assert struct.unpack_from("<H", world.cpu.fxsave, 6) == (0,)
        run(world, "fsqrt", -1.0, control=UNMASKED)
        assert struct.unpack_from("<H", world.cpu.fxsave, 6) == (0x1FA,)


class TestRounding:
    """SDM 1:4.8.4, 1:8.1.5.2."""

    @pytest.mark.parametrize(("rounding", "expected", "up"), [
        (0, 2, False), (1, 2, False), (2, 3, True), (3, 2, False)])
    def test_frndint_and_c1(self, world, rounding, expected, up):
        run(world, "frndint", 2.25, control=MASKED | rounding << 10)
        assert world.cpu.fpu[0] == expected
        assert bool(world.cpu.fpu.status & C1) is up

    @pytest.mark.parametrize(("precision", "bits"), [(0, 24), (2, 53), (3, 64)])
    def test_precision(self, world, precision, bits):
        run(world, "fdivrp", 3.0, 1.0, control=MASKED & ~0x300 | precision << 8 | 2 << 10)       # upwards
        significand = int.from_bytes(world.cpu.fpu.encoded(0)[:8], "little")
        assert significand == (0xAAAAAAAAAAAAAAAA >> 64 - bits) + 1 << 64 - bits

    @pytest.mark.parametrize(("rounding", "last"), [(0, 0x35), (1, 0x34), (2, 0x35), (3, 0x34)])
    def test_constants(self, world, rounding, last):
        run(world, "fldpi", control=MASKED | rounding << 10)
        assert world.cpu.fpu.encoded(0)[0] == last


class TestComparisons:
    """SDM 2, FCOM, table 3-21; FXAM, table 3-45."""

    @pytest.mark.parametrize(("first", "second", "codes"), [
        (2.0, 1.0, 0), (1.0, 2.0, C0), (1.0, 1.0, C3), (-0.0, 0.0, C3), (1.0, QNAN, C3 | C2 | C0)])
    def test_fucom(self, world, first, second, codes):
        run(world, "fucom %st(1)", first, second)
        assert world.cpu.fpu.status & (C0 | C1 | C2 | C3 | IE) == codes

    def test_fcom_refuses_quiet_nans(self, world):
        run(world, "fcompp", QNAN, 1.0)
        assert world.cpu.fpu.status & (C0 | C2 | C3 | IE) == C0 | C2 | C3 | IE
        assert top(world) == 0

    def test_fcomi_sets_eflags(self, world):
        run(world, "cmp %eax, %eax; fcomi %st(1), %st; pushf; pop %eax", 1.0, 2.0)
        assert world.cpu.eax & 0x8D5 == 0x1

    @pytest.mark.parametrize(("value", "codes"), [
        (1.0, C2), (-1.0, C2 | C1), (0.0, C3), (-math.inf, C2 | C0 | C1), (QNAN, C0), (DENORMAL, C3 | C2),
        (bytes.fromhex("01000000000000000040"), 0)])
    def test_fxam(self, world, value, codes):
        run(world, "fxam", value)
        assert world.cpu.fpu.status & (C0 | C1 | C2 | C3) == codes

    def test_fxam_of_an_empty_register(self, world):
        run(world, "fxam")
        assert world.cpu.fpu.status & (C0 | C2 | C3 | IE) == C3 | C0


class TestReadiness:
    """CR0.EM, MP and TS (SDM 3:2.5, table 3:2-2)."""

    @pytest.mark.parametrize(("bits", "fld", "fwait"), [
        (0, False, False), (CR0_TS, True, False), (CR0_MP, False, False), (CR0_MP | CR0_TS, True, True),
        (CR0_EM, True, False), (CR0_EM | CR0_MP | CR0_TS, True, True)])
    def test_device_not_available(self, world, bits, fld, fwait):
        for instruction, refused in (("fld1", fld), ("fwait", fwait), ("fninit", fld), ("fxsave (%esi)", fld)):
            world.cpu.cr0 = 0x11 | bits
            taken = run(world, instruction)
            assert (getattr(taken, "vector", None) == NM and hasattr(taken, "esp")) is refused, instruction

    def test_not_available_goes_before_a_pending_exception_and_a_page_fault(self, world):
        world.cpu.fpu.control = UNMASKED
        world.cpu.fpu.status = IE
        world.cpu.cr0 |= CR0_TS
        assert world.ring0("fldl (%esi); hlt").vector == NM

    def test_a_486_without_cmov_has_no_fcmov(self):
        machine = pvfast.Machine(ram="64K", processor="i486")
        machine.write(0x1000, assemble("fcmove %st(1), %st", 0x1000).code)
        machine.cpu.eip, machine.cpu.esp = 0x1000, 0x8000
        assert machine.run(max_instructions=10).vector is not None      # #UD without an IDT: a shutdown

    @pytest.mark.parametrize("code", ["f0d9e8", "f0d800", "dd08", "df08", "db08"])
    def test_lock_and_fisttp_are_undefined(self, world, code):
        world.cpu.esi = DATA
        assert world.ring0(f".byte {', '.join(f'0x{byte:02x}' for byte in bytes.fromhex(code))}; hlt").vector == UD


class TestMemory:
    """A faulting operand changes nothing."""

    @pytest.mark.parametrize("instruction", ["fldl", "fstpl", "faddl", "fcompl", "fistpll", "fbstp", "fldcw",
                                             "fnstenv", "fnsave", "frstor", "fldt"])
    def test_limit(self, world, instruction):
        before = []
        world.machine.intercept_interrupt(0x80, lambda _machine: before.append(world.cpu.fxsave))
        world.cpu.gs.set(0x10, 0, 0xFFF, 0x4093)
        taken = run(world, f"mov $0x1000, %esi; int $0x80; {instruction} %gs:(%esi)", 1.25, 2.5)
        assert (taken.vector, taken.error) == (GP, 0)
        assert [world.cpu.fxsave] == before

    def test_integers(self, world):
        world.machine.write(DATA, struct.pack("<hiq", -3, 1 << 30, -(1 << 62) - 1))
        run(world, "fildll 6(%esi); fildl 2(%esi); filds (%esi)")
        assert [world.cpu.fpu[i] for i in range(2)] == [-3, 1 << 30]
        assert world.cpu.fpu.encoded(2) == struct.pack("<QH", (1 << 63) + 2, 0xC03D)

    def test_an_integer_that_does_not_fit_is_the_indefinite(self, world):
        run(world, "fistps (%esi)", 32768.0)
        assert world.machine.read(DATA, 2) == b"\0\x80"
        assert world.cpu.fpu.status & FLAGS == IE

    def test_decimal(self, world):
        run(world, "fbstp (%esi); fbld (%esi)", -123456.0)
        assert world.machine.read(DATA, 10) == bytes.fromhex("56341200000000000080")
        assert world.cpu.fpu[0] == -123456.0

    def test_a_device_sees_one_store(self, world):
        class Device:
            def __init__(self):
                self.written = []

            def write(self, address, size, value):
                self.written.append((address, size, value))
        device = Device()
        world.machine.map_mmio(0x200000, 0x1000, device)
        run(world, "mov $0x200000, %esi; fstpl (%esi)", 1.0)
        assert device.written == [(0, 4, 0), (4, 4, 0x3FF00000)]
        assert top(world) == 0


class TestImages:
    """SDM 1:8.1.10; SDM 2 FXSAVE."""

    def test_fnstenv_protected(self, world):
        run(world, "fldl (%esi); fnstenv 0x100(%esi)", control=0x340)
        control, status, tags, eip, selectors, data, segment = struct.unpack(
            "<7I", world.machine.read(DATA + 0x100, 28))
        assert (control & 0xFFFF, status & 0xFFFF, tags & 0xFFFF) == (0x340, 0x3800, 0x7FFF)
        assert (eip, selectors & 0xFFFF, data, segment & 0xFFFF) == (CODE, world.cpu.cs.selector, DATA, 0x10)
        assert world.cpu.fpu.control == 0x37F       # all masked behind it

    def test_fnstenv_16_bits(self, world):
        run(world, "fldl (%esi); .byte 0x66; fnstenv 0x100(%esi)")
        assert struct.unpack("<7H", world.machine.read(DATA + 0x100, 14)) == (
            0x37F, 0x3800, 0x7FFF, CODE & 0xFFFF, world.cpu.cs.selector, DATA & 0xFFFF, 0x10)

    def test_fnsave_and_frstor(self, world):
        run(world, "fnsave (%esi)", 1.5, QNAN, 0.0)
        assert (world.cpu.fpu.control, world.cpu.fpu.status, world.cpu.fpu.tags) == (0x37F, 0, 0xFFFF)
        image = world.machine.read(DATA, 108)
        assert struct.unpack_from("<H", image, 8) == (0b01_10_00_11_11_11_11_11,)
        assert image[28:38] == struct.pack("<QH", 3 << 62, 0x3FFF)
        run(world, "frstor (%esi)")
        assert (world.cpu.fpu[0], world.cpu.fpu.encoded(1), world.cpu.fpu[2], top(world)) == (1.5, QNAN, 0.0, 5)

    def test_fxsave_and_fxrstor(self, world):
        world.cpu.cr4 = 0x200
        run(world, "fxsave (%esi); fninit; fxrstor (%esi)", 1.5, 2.5)
        image = world.machine.read(DATA, 512)
        assert image[4] == 0b1100_0000                              # by physical number
        assert (world.cpu.fpu[0], world.cpu.fpu[1]) == (1.5, 2.5)
        assert image[:288] == world.cpu.fxsave[:288]

    def test_fxsave_wants_16_bytes(self, world):
        assert run(world, "fxsave 8(%esi)").vector == GP

    def test_reserved_bits_of_mxcsr(self, world):
        world.cpu.cr4 = 0x200
        image = bytearray(world.cpu.fxsave)
        image[26] = 1
        world.machine.write(DATA, image)
        assert run(world, "fxrstor (%esi)").vector == GP
        world.cpu.cr4 = 0                           # then MXCSR is not loaded
        assert isinstance(run(world, "fxrstor (%esi)"), pvfast.core.engine.Stop)

    def test_snapshots_hold_it(self, world):
        world.cpu.fpu[0] = 1.25
        before = world.cpu.fxsave
        snapshot = world.machine.snapshot()
        world.cpu.fpu[0] = 2.0
        world.machine.restore(snapshot)
        assert world.cpu.fxsave == before

    def test_the_image_is_checked(self, world):
        with pytest.raises(pvfast.errors.ArgumentError):
            world.cpu.fxsave = bytes(100)
        with pytest.raises(pvfast.errors.ArgumentError):
            world.cpu.fxsave = b"\xff" * 512


def test_a_probe_finds_it(world):
    """As kernels do: FNINIT, then FNSTSW and FNSTCW have to change what was there."""
    world.machine.write(DATA, b"\x5a\x5a\x5a\x5a")
    run(world, "fninit; fnstsw (%esi); fnstcw 2(%esi)")
    assert struct.unpack("<HH", world.machine.read(DATA, 4)) == (0, 0x37F)


def test_a_page_fault_restarts(world):
    """The second page is missing: nothing is stored, nothing popped."""
    directory, table = 0x50000, 0x51000
    world.machine.write(directory, struct.pack("<I", table | 3))
    world.machine.write(table, struct.pack("<256I", *(n << 12 | 3 if n != 0x41 else 0 for n in range(256))))
    world.machine.write(0x40FF8, b"\x77" * 8)
    world.cpu.cr3 = directory
    world.cpu.cr0 |= 0x80000000
    taken = run(world, "fstpl 0xffc(%esi)", 1.0)
    assert (taken.vector, world.cpu.cr2, top(world)) == (PAGE_FAULT, 0x41000, 7)
    assert world.machine.read(0x40FF8, 8) == b"\x77" * 8
