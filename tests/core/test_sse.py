"""SSE and SSE2: results, MXCSR, exceptions, memory operands, and when they are allowed (SDM 1:10, 1:11, 3:13)."""
from __future__ import annotations

import struct

import pytest

import pvfast

from .protected import CODE, GP, HANDLERS, PAGE_FAULT, UD, World

NM, XM = 7, 19
CR0_EM, CR0_TS = 0x4, 0x8
OSFXSR, OSXMMEXCPT = 0x200, 0x400
IE, DE, ZE, OE, UE, PE = 1, 2, 4, 8, 16, 32
DAZ, FTZ = 0x40, 0x8000
MASKED = 0x1F80
NEAREST, DOWN, UP, TOWARD_ZERO = 0, 0x2000, 0x4000, 0x6000
DATA = 0x20000
ONE, INFINITY, QNAN, SNAN, TINY = 0x3F800000, 0x7F800000, 0x7FC00001, 0x7FA00002, 1


@pytest.fixture
def world() -> World:
    world = World()
    world.cpu.cr4 |= OSFXSR | OSXMMEXCPT
    return world


def singles(*values: float) -> int:
    return int.from_bytes(struct.pack("<4f", *values), "little")


def doubles(*values: float) -> int:
    return int.from_bytes(struct.pack("<2d", *values), "little")


def words(*values: int) -> int:
    return sum(value << 32 * i for i, value in enumerate(values))


def run(world: World, source: str, first: int = 0, second: int = 0, mxcsr: int = MASKED) -> int:
    """Run with these in XMM0 and XMM1; XMM0 afterwards."""
    world.cpu.xmm[0], world.cpu.xmm[1], world.cpu.mxcsr = first, second, mxcsr
    world.ring0(source + "; hlt")
    return world.cpu.xmm[0]


# --- Arithmetic ------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize(("instruction", "first", "second", "result"), [
    ("addps", singles(1, 2, 3, 4), singles(.5, .25, -3, 1), singles(1.5, 2.25, 0, 5)),
    ("subss", singles(1, 2, 3, 4), singles(3, 9, 9, 9), singles(-2, 2, 3, 4)),
    ("mulpd", doubles(3, -4), doubles(.5, .5), doubles(1.5, -2)),
    ("divsd", doubles(1, 7), doubles(4, 9), doubles(.25, 7)),
    ("sqrtps", 0, singles(4, 9, 16, 2.25), singles(2, 3, 4, 1.5)),
    ("minps", singles(1, -1, 0, 5), singles(2, -2, -0.0, 5), singles(1, -2, -0.0, 5)),
    ("maxpd", doubles(1, -1), doubles(2, -2), doubles(2, -1)),
    ("cmpltps", singles(1, 2, 3, 4), singles(2, 2, 2, 5), words(0xFFFFFFFF, 0, 0, 0xFFFFFFFF)),
    ("cmpunordsd", doubles(1, 9), doubles(float("nan"), 1), (1 << 64) - 1 | doubles(0, 9)),
    ("andnps", words(0xFF00FF00, 0, 0, 0xFFFFFFFF), words(*[0x12345678] * 4),
     words(0x00340078, 0x12345678, 0x12345678, 0)),
    ("unpcklps", words(1, 2, 3, 4), words(5, 6, 7, 8), words(1, 5, 2, 6)),
    ("unpckhpd", words(1, 2, 3, 4), words(5, 6, 7, 8), words(3, 4, 7, 8)),
    ("movhlps", words(1, 2, 3, 4), words(5, 6, 7, 8), words(7, 8, 3, 4)),
    ("movlhps", words(1, 2, 3, 4), words(5, 6, 7, 8), words(1, 2, 5, 6)),
    ("movss", words(1, 2, 3, 4), words(5, 6, 7, 8), words(5, 2, 3, 4)),
    ("cvtps2dq", 0, singles(1.5, 2.5, -1.5, 3e9), words(2, 2, 0xFFFFFFFE, 0x80000000)),
    ("cvttps2dq", 0, singles(1.9, -1.9, float("nan"), -3e9), words(1, 0xFFFFFFFF, 0x80000000, 0x80000000)),
    ("cvtdq2pd", 0, words(3, 0xFFFFFFFF, 9, 9), doubles(3, -1)),
    ("cvtpd2ps", words(9, 9, 9, 9), doubles(1.5, -2), singles(1.5, -2, 0, 0)),
    ("cvtss2sd", doubles(9, 7), singles(1.5, 1, 1, 1), doubles(1.5, 7)),
    ("paddq", words(0xFFFFFFFF, 0, 1, 1), words(1, 0, 1, 1), words(0, 1, 2, 2)),
    ("psadbw", words(0xFF, 0, 1, 0), words(0, 0, 3, 0), words(0xFF, 0, 2, 0)),
    ("punpckhqdq", words(1, 2, 3, 4), words(5, 6, 7, 8), words(3, 4, 7, 8)),
    ("packssdw", words(1, 0x8000, 0xFFFF7FFF, 0), words(5, 6, 7, 8), words(0x7FFF0001, 0x8000, 0x60005, 0x80007)),
])
def test_results(world: World, instruction: str, first: int, second: int, result: int) -> None:
    assert run(world, f"{instruction} %xmm1, %xmm0", first, second) == result


@pytest.mark.parametrize(("source", "result"), [
    ("pshufd $0x1b, %xmm1, %xmm0", words(8, 7, 6, 5)),
    ("shufps $0x4e, %xmm1, %xmm0", words(3, 4, 5, 6)),
    ("shufpd $1, %xmm1, %xmm0", words(3, 4, 5, 6)),
    ("pshuflw $0x1b, %xmm1, %xmm0", words(0x6 << 16, 0x5 << 16, 7, 8)),
    ("pshufhw $0xb1, %xmm1, %xmm0", words(5, 6, 7 << 16, 8 << 16)),
    ("pslldq $5, %xmm0", words(1, 2, 3, 4) << 40 & (1 << 128) - 1),
    ("psrldq $11, %xmm0", words(1, 2, 3, 4) >> 88),
    ("pslldq $16, %xmm0", 0),
    ("psrlq $33, %xmm0", words(1, 0, 2, 0)),
    ("pinsrw $7, %eax, %xmm0", words(1, 2, 3, 0xABCD0004)),
])
def test_immediates(world: World, source: str, result: int) -> None:
    world.cpu.eax = 0x1234ABCD
    assert run(world, source, words(1, 2, 3, 4), words(5, 6, 7, 8)) == result


def test_to_general_registers(world: World) -> None:
    run(world, "movmskps %xmm0, %eax; pmovmskb %xmm0, %ecx; pextrw $4, %xmm0, %edx; cvttss2si %xmm1, %ebx; "
               "cvtss2si %xmm1, %esi; movd %xmm1, %edi",
        words(0x80000000, 0x00800000, 0xFFFF1234, 0x80), singles(2.5, 0, 0, 0))
    cpu = world.cpu
    assert (cpu.eax, cpu.ecx, cpu.edx, cpu.ebx, cpu.esi, cpu.edi) == (5, 0x1C48, 0x1234, 2, 2, 0x40200000)


@pytest.mark.parametrize(("first", "second", "flags"), [
    (1.0, 2.0, 0x01), (2.0, 1.0, 0), (1.0, 1.0, 0x40), (float("nan"), 1.0, 0x45)])
def test_compare_sets_eflags(world: World, first: float, second: float, flags: int) -> None:
    """COMISD: ZF PF CF; OF SF AF are cleared. Only COMISD is invalid for a quiet NaN (SDM 2)."""
    for instruction, invalid in (("ucomisd", 0), ("comisd", IE)):
        world.cpu.xmm[0], world.cpu.xmm[1] = doubles(first, 0), doubles(second, 0)
        world.cpu.mxcsr = MASKED
        world.ring0(f"{instruction} %xmm1, %xmm0; hlt", eflags=0x8D7)
        assert world.cpu.eflags & 0x8D5 == flags
        assert world.cpu.mxcsr == MASKED | (invalid if flags == 0x45 else 0)


# --- NaNs, rounding, denormals (SDM 1:4.8.3, 1:10.2.3) ---------------------------------------------------------------

@pytest.mark.parametrize(("first", "second", "result", "flags"), [
    (QNAN, SNAN, QNAN, IE),                         # SDM 1, table 4-7: the first operand, made quiet
    (SNAN, QNAN, SNAN | 0x400000, IE),
    (ONE, SNAN, SNAN | 0x400000, IE),
    (QNAN, ONE, QNAN, 0),
    (INFINITY, INFINITY | 1 << 31, 0xFFC00000, IE),     # the indefinite
    (TINY, ONE, ONE, DE | PE),
])
def test_nan_rules(world: World, first: int, second: int, result: int, flags: int) -> None:
    assert run(world, "addss %xmm1, %xmm0", first, second) == result
    assert world.cpu.mxcsr == MASKED | flags


@pytest.mark.parametrize(("rounding", "result"), [(NEAREST, 0x3EAAAAAB), (DOWN, 0x3EAAAAAA), (UP, 0x3EAAAAAB),
                                                  (TOWARD_ZERO, 0x3EAAAAAA)])
def test_rounding(world: World, rounding: int, result: int) -> None:
    """SDM 1:4.8.4; flags are sticky."""
    assert run(world, "divss %xmm1, %xmm0", ONE, 0x40400000, MASKED | rounding | ZE) == result
    assert world.cpu.mxcsr == MASKED | rounding | ZE | PE


def test_denormals_are_zeros_and_flush_to_zero(world: World) -> None:
    """SDM 1:10.2.3.3-4."""
    assert run(world, "mulss %xmm1, %xmm0", TINY, ONE) == TINY
    assert world.cpu.mxcsr == MASKED | DE
    assert run(world, "mulss %xmm1, %xmm0", TINY, ONE, MASKED | DAZ) == 0
    assert world.cpu.mxcsr == MASKED | DAZ
    assert run(world, "mulss %xmm1, %xmm0", 0x80800000, 0x3F000000, MASKED | FTZ) == 0x80000000
    assert world.cpu.mxcsr == MASKED | FTZ | UE | PE


def test_the_host_keeps_its_own_rounding(world: World) -> None:
    """MXCSR is the guest's while it runs, and only then."""
    before = 1.0 / 3.0
    run(world, "divss %xmm1, %xmm0", ONE, 0x40400000, MASKED | UP | FTZ | DAZ)
    assert 1.0 / 3.0 == before == float("0.333333333333333314829616256247")
    assert struct.unpack("<d", struct.pack("<Q", 1))[0] * 1.0 > 0


# --- Exceptions (SDM 1:11.5) -----------------------------------------------------------------------------------------

@pytest.mark.parametrize(("instruction", "first", "second", "unmasked", "flags"), [
    ("divps", singles(1, 1, 1, 1), singles(1, 0, 3, 1), ZE, ZE),            # not PE: nothing was computed
    ("divps", singles(1, 1, 1, 1), singles(1, 0, 3, 1), PE, ZE | PE),
    ("sqrtsd", 0, doubles(-1, 0), IE, IE),
    ("mulss", words(0x7F7FFFFF), words(0x7F7FFFFF), OE, OE | PE),
    ("mulss", words(0x7F000000), words(0x7F000000), OE, OE),                # exact, were there an exponent for it
    ("mulss", words(0x00800000), words(0x3F000000), UE, UE),                # exact, but tiny
    ("addss", words(TINY), words(TINY), DE, DE),
    ("cvtsd2ss", 0, doubles(1e300, 0), OE, OE | PE),
    ("cvtps2dq", 0, singles(3e9, .5, 0, 0), IE, IE),
    ("comiss", words(QNAN), words(ONE), IE, IE),
    ("cvtsi2ss_eax", 0, 0, PE, PE),
])
def test_unmasked_exceptions(world: World, instruction: str, first: int, second: int, unmasked: int,
                             flags: int) -> None:
    """#XM before the destination is written, with the flags in MXCSR; #UD without CR4.OSXMMEXCPT."""
    control = MASKED & ~(unmasked << 7)
    source = "cvtsi2ss %eax, %xmm0" if instruction == "cvtsi2ss_eax" else f"{instruction} %xmm1, %xmm0"
    for allowed, vector in ((OSXMMEXCPT, XM), (0, UD)):
        world.cpu.cr4 = OSFXSR | allowed
        world.cpu.eax = 0x7FFFFFFF
        world.cpu.xmm[0], world.cpu.xmm[1], world.cpu.mxcsr = first, second, control
        taken = world.ring0(source + "; hlt", eflags=0x8D7)
        assert (taken.vector, taken.eip, taken.eflags & 0x8D5) == (vector, CODE, 0x8D5)
        assert (world.cpu.xmm[0], world.cpu.mxcsr) == (first, control | flags)


def test_unmasked_exceptions_that_do_not_happen(world: World) -> None:
    assert run(world, "addps %xmm1, %xmm0", singles(1, 2, 3, 4), singles(1, 1, 1, 1), 0) == singles(2, 3, 4, 5)
    assert world.cpu.mxcsr == 0


def test_exceptions_from_memory_operands(world: World) -> None:
    """A page fault goes first, then #XM; both restart."""
    world.machine.write(DATA, struct.pack("<4f", 0, 1, 1, 1))
    world.cpu.xmm[0], world.cpu.mxcsr = singles(1, 1, 1, 1), MASKED & ~(ZE << 7)
    taken = world.ring0(f"divps {DATA}, %xmm0; hlt")
    assert (taken.vector, taken.eip, world.cpu.xmm[0]) == (XM, CODE, singles(1, 1, 1, 1))


def test_mxcsr_instructions(world: World) -> None:
    """LDMXCSR refuses reserved bits; STMXCSR stores the flags of instructions before it (SDM 2)."""
    world.machine.write(DATA, struct.pack("<II", MASKED | UP, 0x10000))
    run(world, f"ldmxcsr {DATA}; divss %xmm1, %xmm0; stmxcsr {DATA + 8}", ONE, 0x40400000)
    assert struct.unpack("<I", world.machine.read(DATA + 8, 4)) == (MASKED | UP | PE,)
    taken = world.ring0(f"ldmxcsr {DATA + 4}; hlt")
    assert (taken.vector, taken.error, world.cpu.mxcsr) == (GP, 0, MASKED | UP | PE)


# --- Memory ----------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("source", ["movaps {}, %xmm0", "addps {}, %xmm0", "movdqa %xmm0, {}", "movntps %xmm0, {}",
                                    "pand {}, %xmm0", "cvtdq2ps {}, %xmm0", "movntdq %xmm0, {}"])
def test_alignment(world: World, source: str) -> None:
    """128-bit operands lie on 16 bytes, or #GP(0); it goes before a page fault (SDM 2, table 2-19)."""
    world.machine.write(DATA, bytes(range(64)))
    world.cpu.xmm[0] = 5
    taken = world.ring0(source.format(DATA + 8) + "; hlt")
    assert (taken.vector, taken.error, taken.eip, world.cpu.xmm[0]) == (GP, 0, CODE, 5)
    assert world.machine.read(DATA, 64) == bytes(range(64))
    assert world.ring0(source.format(DATA + 16) + "; hlt").reason is pvfast.StopReason.HALT
    assert world.cpu.eip < HANDLERS


@pytest.mark.parametrize("source", ["movups {}, %xmm0", "movdqu {}, %xmm0", "movss {}, %xmm0", "movsd {}, %xmm0",
                                    "movq {}, %xmm0", "movd {}, %xmm0"])
def test_unaligned_loads(world: World, source: str) -> None:
    """What is not loaded is cleared."""
    content = bytes(range(1, 17))
    world.machine.write(DATA + 0xFF9, content)
    size = {"movss": 4, "movd": 4, "movsd": 8, "movq": 8}.get(source.split()[0], 16)
    assert run(world, source.format(DATA + 0xFF9), (1 << 128) - 1) == int.from_bytes(content[:size], "little")


@pytest.mark.parametrize(("source", "stored"), [
    ("movups %xmm0, {}", slice(0, 16)), ("movss %xmm0, {}", slice(0, 4)), ("movsd %xmm0, {}", slice(0, 8)),
    ("movlps %xmm0, {}", slice(0, 8)), ("movhps %xmm0, {}", slice(8, 16)), ("movq %xmm0, {}", slice(0, 8)),
    ("movd %xmm0, {}", slice(0, 4))])
def test_stores(world: World, source: str, stored: slice) -> None:
    content = bytes(range(1, 17))
    world.machine.write(DATA, bytes(32))
    run(world, source.format(DATA + 3), int.from_bytes(content, "little"))
    assert world.machine.read(DATA, 32) == bytes(3) + content[stored].ljust(29, b"\0")


def test_masked_store_and_integers(world: World) -> None:
    world.machine.write(DATA, bytes(20))
    run(world, f"mov ${DATA + 1}, %edi; maskmovdqu %xmm1, %xmm0; movnti %edi, {DATA + 32}; lfence; mfence; sfence; "
               f"clflush {DATA}; pause", int.from_bytes(bytes(range(1, 17)), "little"), 0x80 << 120 | 0x80 << 16 | 0x7F)
    assert world.machine.read(DATA, 20) == bytes(3) + b"\x03" + bytes(12) + b"\x10" + bytes(3)
    assert struct.unpack("<I", world.machine.read(DATA + 32, 4)) == (DATA + 1,)


def test_a_store_over_two_pages_is_all_or_nothing(world: World) -> None:
    """MOVUPS whose second page is not there: #PF, and the first page is as before."""
    tables = 0x40000
    entries = [page * 0x1000 | 3 for page in range(256)]
    entries[(DATA >> 12) + 1] = 0
    world.machine.write(tables, struct.pack("<I", tables + 0x1000 | 3))
    world.machine.write(tables + 0x1000, struct.pack("<256I", *entries))
    world.cpu.cr3 = tables
    world.cpu.cr0 |= 0x80000000
    world.cpu.xmm[0] = (1 << 128) - 1
    taken = world.ring0(f"movups %xmm0, {DATA + 0xFF8}; hlt")
    assert (taken.vector, taken.error, world.cpu.cr2) == (PAGE_FAULT, 2, DATA + 0x1000)
    assert world.machine.read(DATA + 0xFF0, 16) == bytes(16)


# --- When it is allowed ----------------------------------------------------------------------------------------------

SOURCES = ("addps %xmm1, %xmm0", f"movups {DATA}, %xmm0", f"movups %xmm0, {DATA}", "paddb %xmm1, %xmm0",
           "movd %eax, %xmm0", "comiss %xmm1, %xmm0", f"stmxcsr {DATA}", f"ldmxcsr {DATA}", "maskmovdqu %xmm1, %xmm0")


@pytest.mark.parametrize("source", SOURCES)
def test_conditions(world: World, source: str) -> None:
    """#UD without CR4.OSFXSR or with CR0.EM, #NM with CR0.TS (SDM 3:13.1, table 13-1)."""
    world.machine.write(DATA, struct.pack("<I", MASKED))
    for cr0, cr4, vector in ((0, 0, UD), (CR0_TS, 0, UD), (CR0_EM, OSFXSR, UD), (CR0_EM | CR0_TS, OSFXSR, UD),
                             (CR0_TS, OSFXSR, NM)):
        world.cpu.cr0 = world.cpu.cr0 & ~(CR0_EM | CR0_TS) | cr0
        world.cpu.cr4 = cr4
        assert world.ring0(source + "; hlt").vector == vector
    world.cpu.cr0 &= ~(CR0_EM | CR0_TS)
    assert world.ring0(source + "; hlt").reason is pvfast.StopReason.HALT


def test_cache_control_is_always_allowed(world: World) -> None:
    """MOVNTI, fences, CLFLUSH and PREFETCHh use no XMM register (SDM 2)."""
    world.cpu.cr4 = 0
    world.cpu.cr0 |= CR0_EM | CR0_TS
    stop = world.ring0(f"movnti %eax, {DATA}; sfence; lfence; mfence; clflush {DATA}; prefetchnta {DATA}; hlt")
    assert stop.reason is pvfast.StopReason.HALT


def test_blocks_see_changes_of_control_registers(world: World) -> None:
    """A decoded loop that sets CR0.TS in between faults at the next use."""
    taken = world.ring0("mov $2, %ecx; 1: addps %xmm1, %xmm0; mov %cr0, %eax; or $8, %eax; mov %eax, %cr0; loop 1b")
    assert (taken.vector, world.cpu.ecx) == (NM, 1)


def test_snapshots_hold_the_registers(world: World) -> None:
    world.cpu.xmm[3], world.cpu.mm[2], world.cpu.mxcsr = 3, 2, 0x1FA0
    state = world.machine.snapshot()
    world.cpu.xmm[3], world.cpu.mm[2], world.cpu.mxcsr = 0, 0, MASKED
    world.machine.restore(state)
    assert (world.cpu.xmm[3], world.cpu.mm[2], world.cpu.mxcsr) == (3, 2, 0x1FA0)


def test_mxcsr_from_python(world: World) -> None:
    with pytest.raises(pvfast.errors.ArgumentError):
        world.cpu.mxcsr = 0x10000
    assert world.cpu.mxcsr == MASKED
