"""Model-specific registers (SDM 4:2), RDPMC, and the features that decide which of them there are."""
from __future__ import annotations

import pytest

from .protected import CODE, GP, UD, World

PAT, MTRR_CAP, MTRR_DEFAULT, DEBUGCTL, EFER = 0x277, 0xFE, 0x2FF, 0x1D9, 0xC0000080


@pytest.fixture
def world():
    return World()


def read(world: World, msr: int) -> int | None:
    """The value that RDMSR gives, or None for #GP(0)."""
    taken = world.ring0(f"mov ${msr:#x}, %ecx; rdmsr; hlt")
    if taken.vector is not None:
        assert (taken.vector, taken.error, taken.eip) == (GP, 0, CODE + 5)
        return None
    return world.cpu.edx << 32 | world.cpu.eax


def write(world: World, msr: int, value: int) -> bool:
    """Did WRMSR take the value? False: #GP(0), and nothing changed."""
    before = read(world, msr)
    taken = world.ring0(f"mov ${msr:#x}, %ecx; mov ${value & 0xFFFFFFFF:#x}, %eax; mov ${value >> 32:#x}, %edx; "
                        "wrmsr; hlt")
    if taken.vector is not None:
        assert (taken.vector, taken.error, taken.eip) == (GP, 0, CODE + 15)
        assert read(world, msr) == before
    return taken.vector is None


class TestMemoryTypes:
    """SDM 3:11.11, 11.12: they are storage, with the checks of the real ones."""

    def test_the_pat_at_reset(self, world):
        assert read(world, PAT) == 0x0007040600070406

    @pytest.mark.parametrize("kind, good", [(0, True), (1, True), (2, False), (3, False), (4, True), (5, True),
                                            (6, True), (7, True), (8, False), (0x10, False)])
    def test_pat_types(self, world, kind, good):
        value = 0x0606060606060606 & ~(0xFF << 24) | kind << 24
        assert write(world, PAT, value) == good
        assert (read(world, PAT) == value) == good

    def test_mtrr_cap_announces_what_is_there(self, world):
        assert read(world, MTRR_CAP) == 0x508
        assert not write(world, MTRR_CAP, 0)
        for pair in range(8):
            assert write(world, 0x200 + 2 * pair, 0x0000000F_80000006)
            assert write(world, 0x201 + 2 * pair, 0x0000000F_C0000800)
        assert read(world, 0x210) is None

    @pytest.mark.parametrize("msr, value", [(0x200, 2), (0x200, 7), (0x200, 0x106), (0x200, 1 << 36), (0x201, 1 << 10),
                                            (0x201, 1 << 36), (MTRR_DEFAULT, 2), (MTRR_DEFAULT, 0x1000),
                                            (MTRR_DEFAULT, 0x106), (0x250, 0x07), (0x26F, 0x02 << 56)])
    def test_reserved_values(self, world, msr, value):
        assert not write(world, msr, value)

    @pytest.mark.parametrize("msr", [0x250, 0x258, 0x259, *range(0x268, 0x270)])
    def test_fixed_ranges(self, world, msr):
        assert write(world, msr, 0x0605040100060504)
        assert read(world, msr) == 0x0605040100060504

    def test_the_default_type(self, world):
        assert write(world, MTRR_DEFAULT, 0xC06)
        assert read(world, MTRR_DEFAULT) == 0xC06


class TestOthers:
    def test_efer_has_nxe_alone(self, world):
        assert read(world, EFER) == 0
        assert write(world, EFER, 0x800)
        assert read(world, EFER) == 0x800
        for bit in (0, 8, 10, 12, 32):
            assert not write(world, EFER, 1 << bit)

    def test_no_machine_check_banks(self, world):
        assert (read(world, 0), read(world, 1)) == (0, 0)
        assert read(world, 0x179) == 0
        assert write(world, 0x17A, 7)
        assert not write(world, 0x17A, 8)
        assert read(world, 0x17B) is None
        assert read(world, 0x400) is None

    def test_no_microcode_update(self, world):
        assert write(world, 0x8B, 0)
        assert read(world, 0x8B) == 0
        assert read(world, 0x17) == 0
        assert read(world, 0x79) is None

    def test_debugctl_is_kept(self, world):
        assert write(world, DEBUGCTL, 0x43)
        assert read(world, DEBUGCTL) == 0x43
        assert not write(world, DEBUGCTL, 0x80)

    @pytest.mark.parametrize("msr", [0x2, 0x176 + 1, 0xC3, 0x188, 0x24F, 0x25A, 0x270, 0xC0000081, 0xFFFFFFFF])
    def test_unknown_ones(self, world, msr):
        assert read(world, msr) is None
        assert not write(world, msr, 0)

    @pytest.mark.parametrize("processor, there", [
        ("pentium", {0x0, 0x10}), ("pentium-pro", {0x0, 0x10, 0x8B, 0xC1, 0xFE, 0x179, 0x1D9, 0x200, 0x2FF}),
        ("pentium3", {0x0, 0x10, 0x8B, 0xC1, 0xFE, 0x174, 0x179, 0x1D9, 0x200, 0x277, 0x2FF})])
    def test_each_comes_with_its_feature(self, processor, there):
        world = World(processor=processor)
        asked = (0x0, 0x10, 0x8B, 0xC1, 0xFE, 0x174, 0x179, 0x1D9, 0x200, 0x277, 0x2FF, EFER)
        assert {msr for msr in asked if read(world, msr) is not None} == there


class TestCounters:
    """RDPMC (SDM 2): the counters are storage, 40 bits wide; a write sign-extends 32."""

    def test_reads_what_was_written(self, world):
        assert write(world, 0xC2, 0x1_80000005)
        world.ring0("mov $1, %ecx; rdpmc; hlt")
        assert (world.cpu.edx, world.cpu.eax) == (0xFF, 0x80000005)

    def test_there_are_two(self, world):
        taken = world.ring0("mov $2, %ecx; rdpmc; hlt")
        assert (taken.vector, taken.error, taken.eip) == (GP, 0, CODE + 5)

    def test_pce_opens_them_to_ring_3(self, world):
        taken = world.ring3("xor %ecx, %ecx; rdpmc; int3")
        assert (taken.vector, taken.eip) == (GP, CODE + 2)
        world.cpu.cr4 = 0x100
        assert world.ring3("xor %ecx, %ecx; rdpmc; hlt").eip == CODE + 4

    def test_the_pentium_has_none(self):
        assert World(processor="pentium").ring0("rdpmc; hlt").vector == UD
        assert World(processor="pentium").ring0("mov $0x100, %eax; mov %eax, %cr4; hlt").vector == GP
        assert World(processor="pentium-mmx").ring0("xor %ecx, %ecx; rdpmc; hlt").vector is None
