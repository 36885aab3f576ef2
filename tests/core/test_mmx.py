"""MMX: registers, saturation, the x87 state that it takes over, and when it is allowed (SDM 1:9, 3:12)."""
from __future__ import annotations

import pytest

import pvfast

from .protected import CODE, UD, World

NM = 7
CR0_EM, CR0_TS = 0x4, 0x8
DATA = 0x20000


@pytest.fixture
def world() -> World:
    return World()


def run(world: World, source: str, first: int = 0, second: int = 0) -> int:
    """Run with these in MM0 and MM1; MM0 afterwards."""
    world.cpu.mm[0], world.cpu.mm[1] = first, second
    world.ring0(source + "; hlt")
    return world.cpu.mm[0]


@pytest.mark.parametrize(("instruction", "first", "second", "result"), [
    ("paddb", 0x7F80FF01_00000000, 0x01808001_00000005, 0x80007F02_00000005),
    ("paddsb", 0x7F80FF01, 0x01808001, 0x7F808002),
    ("paddusb", 0x7F80FF01, 0x01808001, 0x80FFFF02),
    ("psubusw", 0x0001_8000_FFFF_0005, 0x0002_7FFF_0001_0005, 0x0000_0001_FFFE_0000),
    ("psubsw", 0x8000_7FFF, 0x0001_FFFF, 0x8000_7FFF),
    ("pmaddwd", 0x8000_8000_0003_0002, 0x8000_8000_0005_FFFF, 0x8000_0000_0000_000D),
    ("pmulhw", 0x8000_7FFF, 0x8000_0002, 0x4000_0000),
    ("pmullw", 0x8001_7FFF, 0x0003_0003, 0x8003_7FFD),
    ("pcmpgtb", 0x7F80_0001, 0x80_7F_0000, 0xFF000000 | 0x0000_00FF),
    ("packsswb", 0x7FFF_8000_0001_FFFF, 0x0080_FF7F_0000_007F, 0x7F80007F_7F8001FF),
    ("packuswb", 0x7FFF_8000_0001_FFFF, 0x0100_00FF_0000_0001, 0xFFFF0001_FF000100),
    ("packssdw", 0x7FFFFFFF_FFFF8000, 0x80000000_00000001, 0x80000001_7FFF8000),
    ("punpcklbw", 0x0807060504030201, 0x8887868584838281, 0x8404830382028101),
    ("punpckhwd", 0x0807060504030201, 0x8887868584838281, 0x8887080786850605),
    ("psllw", 0x8001_0001_FFFF_1234, 4, 0x0010_0010_FFF0_2340),
    ("psraw", 0x8001_0001_FFFF_7FFF, 1 << 32, 0xFFFF_0000_FFFF_0000),       # the count is all 64 bits
    ("psrlq", 0x8000000000000000, 63, 1),
    ("psllq", 1, 64, 0),
    ("pandn", 0xFF00FF00FF00FF00, 0x1234567812345678, 0x0034007800340078),
    ("pavgb", 0xFF00_0102, 0xFE01_0203, 0xFF01_0203),
    ("psadbw", 0xFF00000000000010, 0x00FF000000000001, 0x20D),
    ("pmulhuw", 0xFFFF_8000, 0xFFFF_0002, 0xFFFE_0001),
    ("pminub", 0x80_01, 0x7F_02, 0x7F_01),
    ("pmaxsw", 0x8000_0001, 0x7FFF_0000, 0x7FFF_0001),
    ("pmuludq", 0xAAAAAAAA_FFFFFFFF, 0xBBBBBBBB_FFFFFFFF, 0xFFFFFFFE_00000001),
])
def test_arithmetic(world: World, instruction: str, first: int, second: int, result: int) -> None:
    """SDM 1:9.3.2, 1:9.4; SDM 2 for each."""
    assert run(world, f"{instruction} %mm1, %mm0", first, second) == result


def test_memory_operands(world: World) -> None:
    """MOVQ and MOVD to and from memory at any address; PUNPCKLBW reads 32 bits (SDM 2)."""
    world.machine.write(DATA + 0xFFD, bytes(range(1, 9)))
    run(world, f"movq {DATA + 0xFFD}, %mm0; movq %mm0, {DATA}; movd {DATA + 0xFFD}, %mm2; movd %mm2, %eax; "
               f"pxor %mm3, %mm3; punpcklbw {DATA}, %mm3; movd %eax, %mm4; movd %mm4, {DATA + 16}")
    assert world.machine.read(DATA, 8) == bytes(range(1, 9))
    assert world.cpu.eax == 0x04030201 == int.from_bytes(world.machine.read(DATA + 16, 4), "little")
    assert world.cpu.mm[3] == 0x0400030002000100


def test_shuffles_and_general_registers(world: World) -> None:
    """PSHUFW, PINSRW, PEXTRW, PMOVMSKB (SDM 2)."""
    assert run(world, "pshufw $0x1b, %mm0, %mm0; pinsrw $2, %eax, %mm0; pextrw $3, %mm0, %ecx; pmovmskb %mm0, %edx",
               0x8003_0002_0001_0000) == 0x0000_0000_0002_8003 | (world.cpu.eax & 0xFFFF) << 32
    assert (world.cpu.ecx, world.cpu.edx) == (0, 0x02)


def test_masked_store_writes_chosen_bytes_only(world: World) -> None:
    """MASKMOVQ stores at DS:EDI (SDM 2)."""
    world.machine.write(DATA, b"\x11" * 8)
    run(world, f"mov ${DATA}, %edi; maskmovq %mm1, %mm0", 0x8877665544332211, 0x80_7F_FF_00_80_00_00_80)
    assert world.machine.read(DATA, 8).hex() == "1111114411661188"


@pytest.mark.parametrize(("source", "vector"), [
    ("paddb %mm1, %mm0", NM), ("movd %eax, %mm0", NM), ("emms", NM), (f"movq {DATA}, %mm0", NM),
    (f"movq %mm0, {DATA}", NM), ("maskmovq %mm1, %mm0", NM),
])
def test_task_switched(world: World, source: str, vector: int) -> None:
    """CR0.TS: #NM, before anything is changed; CR0.EM: #UD (SDM 3:12.1, table 12-1)."""
    world.cpu.mm[0] = 5
    world.cpu.cr0 |= CR0_TS
    taken = world.ring0(source)
    assert (taken.vector, taken.eip, world.cpu.mm[0]) == (vector, CODE, 5)
    world.cpu.cr0 |= CR0_EM
    assert world.ring0(source).vector == UD


def test_operating_system_bit_is_for_xmm_only(world: World) -> None:
    """CR4.OSFXSR does not matter to MMX, nor to what SSE added to it (SDM 3:13.1.4)."""
    assert not world.cpu.cr4 & 0x200
    assert run(world, "pavgb %mm1, %mm0; paddq %mm1, %mm0", 1, 3) == 5


def test_needs_the_feature() -> None:
    """Without MMX in CPUID: #UD; a Pentium MMX has no PAVGB."""
    world = World()
    for processor, source, faults in (("pentium", "paddb %mm0, %mm0", True),
                                      ("pentium-mmx", "paddb %mm0, %mm0", False),
                                      ("pentium-mmx", "pavgb %mm0, %mm0", True),
                                      ("pentium3", "pavgb %mm0, %mm0", False),
                                      ("pentium3", "paddq %mm0, %mm0", True)):
        machine = pvfast.Machine(ram="1M", processor=processor)
        world.load(source + "; hlt")
        machine.write(CODE, world.machine.read(CODE, 16))
        machine.cpu.eip = CODE
        stop = machine.run(max_instructions=2)
        assert (stop.reason is pvfast.StopReason.SHUTDOWN) == faults, (processor, source)
        if faults:
            assert stop.vector == UD


def test_registers_from_python(world: World) -> None:
    world.cpu.mm[7] = (1 << 64) - 1
    assert world.cpu.mm[7] == (1 << 64) - 1
    assert list(world.cpu.mm) == [0] * 7 + [(1 << 64) - 1]
    with pytest.raises(IndexError):
        world.cpu.mm[8]
    for wrong in (-1, 1 << 64):
        with pytest.raises(pvfast.errors.ArgumentError):
            world.cpu.mm[0] = wrong
