"""INS and OUTS (SDM 2), with REP, faults on the way, and the I/O permission bitmap (SDM 1:19.5)."""
from __future__ import annotations

import struct

import pytest

import pvfast

from .protected import GP, IF, IOPL, PAGE_FAULT, SS, TSS, USER_DATA, Taken, World, descriptor

DATA = 0x20000
PORT = 0x1F0


class Device:
    """Answers reads with 1, 2, 3 ... in every byte, and keeps what is written."""

    def __init__(self) -> None:
        self.reads: list[tuple[int, int]] = []
        self.writes: list[tuple[int, int, int]] = []

    def read(self, port: int, size: int) -> int:
        self.reads.append((port, size))
        return len(self.reads) * 0x01010101 & (1 << 8 * size) - 1

    def write(self, port: int, size: int, value: int) -> None:
        self.writes.append((port, size, value))


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def device(world: World) -> Device:
    device = Device()
    world.machine.intercept_port(PORT, device)
    world.cpu.edx = 0xABCD0000 | PORT
    world.cpu.esi = world.cpu.edi = DATA
    return device


class TestOnce:
    @pytest.mark.parametrize(("source", "size"), [("insb", 1), ("insw", 2), ("insl", 4)])
    def test_ins(self, world: World, device: Device, source: str, size: int) -> None:
        world.ring0(f"{source}; hlt")
        assert world.machine.read(DATA, 5) == b"\x01" * size + bytes(5 - size)
        assert (device.reads, world.cpu.edi) == ([(PORT, size)], DATA + size)

    @pytest.mark.parametrize(("source", "size"), [("outsb", 1), ("outsw", 2), ("outsl", 4)])
    def test_outs(self, world: World, device: Device, source: str, size: int) -> None:
        world.machine.write(DATA, b"\x11\x22\x33\x44")
        world.ring0(f"{source}; hlt")
        assert device.writes == [(PORT, size, int.from_bytes(b"\x11\x22\x33\x44"[:size], "little"))]
        assert world.cpu.esi == DATA + size

    def test_downwards(self, world: World, device: Device) -> None:
        world.ring0("std; insw; hlt")
        assert world.cpu.edi == DATA - 2

    def test_outs_takes_a_segment_override(self, world: World, device: Device) -> None:
        world.cpu.fs.set(0x10, DATA, 0xFFF, 0x4093)
        world.machine.write(DATA + 8, b"\x77")
        world.cpu.esi = 8
        world.ring0(".byte 0x64; outsb; hlt")
        assert device.writes == [(PORT, 1, 0x77)]

    def test_sixteen_bit_addresses(self, world: World, device: Device) -> None:
        """DI alone counts, and wraps."""
        world.cpu.edi = 0xABCDFFFF
        world.ring0(".byte 0x67; insb; hlt")
        assert world.cpu.edi == 0xABCD0000
        assert world.machine.read(0xFFFF, 1) == b"\x01"


class TestRepeated:
    def test_rep_ins(self, world: World, device: Device) -> None:
        world.cpu.ecx = 5
        before = world.machine.counters.instructions
        world.ring0("rep insw; hlt")
        assert world.machine.read(DATA, 12) == bytes.fromhex("0101 0202 0303 0404 0505 0000")
        assert (world.cpu.ecx, world.cpu.edi) == (0, DATA + 10)
        assert world.machine.counters.instructions - before == 2

    def test_rep_outs(self, world: World, device: Device) -> None:
        world.cpu.ecx = 3
        world.machine.write(DATA, bytes(range(1, 13)))
        world.ring0("rep outsl; hlt")
        assert device.writes == [(PORT, 4, 0x04030201), (PORT, 4, 0x08070605), (PORT, 4, 0x0C0B0A09)]
        assert (world.cpu.ecx, world.cpu.esi) == (0, DATA + 12)

    def test_rep_of_nothing(self, world: World, device: Device) -> None:
        world.cpu.ecx = 0
        world.ring0("rep insb; rep outsb; hlt")
        assert (device.reads, device.writes) == ([], [])

    def test_a_fault_on_the_way_leaves_whole_iterations(self, world: World, device: Device) -> None:
        """The third store lies beyond ES's limit: two words were read, and the port is not touched for the third."""
        world.cpu.es.set(0x10, DATA, 5, 0x4093)
        world.cpu.edi, world.cpu.ecx = 2, 9
        taken = world.ring0("rep insw; hlt")
        assert isinstance(taken, Taken)
        assert (taken.vector, taken.error, taken.eip) == (GP, 0, 0x10000)
        assert (world.cpu.ecx, world.cpu.edi, len(device.reads)) == (7, 6, 2)

    def test_outs_out_of_the_stack_segment(self, world: World, device: Device) -> None:
        world.cpu.ss.set(0x10, 0, 0xFFFF, 0x4093)
        world.cpu.esi = 0x10000
        taken = world.ring0(".byte 0x36; outsb; hlt")
        assert isinstance(taken, Taken)
        assert (taken.vector, device.writes) == (SS, [])

    def test_budget_and_interrupts_between_iterations(self, world: World, device: Device) -> None:
        world.load("rep insb; hlt")
        world.cpu.ecx, world.cpu.eip = 10, 0x10000
        world.machine.run(max_instructions=4)
        assert (world.cpu.ecx, world.cpu.eip) == (6, 0x10000)
        world.cpu.eflags = IF
        world.machine.inject_interrupt(0x40)
        taken = world.go()
        assert isinstance(taken, Taken)
        assert (taken.vector, taken.eip, world.cpu.ecx) == (0x40, 0x10000, 6)

    def test_into_a_page_that_is_not_there(self, world: World, device: Device) -> None:
        directory, table = 0x40000, 0x41000
        world.machine.write(directory, struct.pack("<I", table | 3))
        world.machine.write(table, struct.pack("<256I", *(
            page << 12 | 3 if page << 12 != DATA + 0x1000 else 0 for page in range(256))))
        world.cpu.cr3, world.cpu.cr0 = directory, 0x80000011
        world.cpu.edi, world.cpu.ecx = DATA + 0x1000 - 3, 8
        taken = world.ring0("rep insb; hlt")
        assert isinstance(taken, Taken)
        assert (taken.vector, world.cpu.cr2) == (PAGE_FAULT, DATA + 0x1000)
        assert (world.cpu.ecx, len(device.reads)) == (5, 3)

    def test_from_memory_that_is_a_device(self, world: World, device: Device) -> None:
        """MMIO to port: two accesses of one iteration, each made once."""
        source = Device()
        world.machine.map_mmio(0x80000000, 0x1000, source)
        world.cpu.esi, world.cpu.ecx = 0x80000000, 2
        world.ring0("rep outsw; hlt")
        assert source.reads == [(0, 2), (2, 2)]
        assert device.writes == [(PORT, 2, 0x0101), (PORT, 2, 0x0202)]


class TestPermission:
    """At CPL 3 with IOPL 0, every bit of the port must be clear in the TSS's bitmap."""

    def bitmap(self, world: World, *forbidden: int) -> None:
        bits = bytearray(0x2001)
        bits[-1] = 0xFF
        for port in forbidden:
            bits[port >> 3] |= 1 << (port & 7)
        world.describe(0x28, descriptor(TSS, 0x68 + len(bits) - 1, 0x89, 0))
        world.machine.write(TSS + 0x66, struct.pack("<H", 0x68))
        world.machine.write(TSS + 0x68, bytes(bits))
        world.ring0("mov $0x28, %eax; ltr %ax; hlt")

    def user(self, world: World, source: str, eflags: int = 2) -> Taken | pvfast.Stop:
        world.cpu.edx = PORT
        world.cpu.es.set(USER_DATA, 0, 0xFFFFFFFF, 0xC0F3)
        return world.ring3(source, eflags)

    @pytest.mark.parametrize("source", ["insb", "outsb", "in (%dx), %al"])
    def test_forbidden(self, world: World, device: Device, source: str) -> None:
        self.bitmap(world, PORT)
        taken = self.user(world, f"{source}; hlt")
        assert isinstance(taken, Taken)
        assert (taken.vector, taken.error, taken.eip) == (GP, 0, 0x10000)
        assert (device.reads, device.writes) == ([], [])

    def test_a_wide_access_needs_every_bit(self, world: World, device: Device) -> None:
        self.bitmap(world, PORT + 3)
        taken = self.user(world, "insw; insl")
        assert isinstance(taken, Taken)
        assert taken.eip == 0x10002
        assert device.reads == [(PORT, 2)]

    def test_allowed(self, world: World, device: Device) -> None:
        self.bitmap(world)
        world.cpu.ecx = 3
        taken = self.user(world, "rep insb; hlt")
        assert isinstance(taken, Taken)
        assert (taken.vector, taken.eip) == (GP, 0x10002)       # the HLT
        assert len(device.reads) == 3

    def test_iopl_makes_the_bitmap_irrelevant(self, world: World, device: Device) -> None:
        self.bitmap(world, PORT)
        taken = self.user(world, "insb; hlt", IOPL | 2)
        assert isinstance(taken, Taken)
        assert taken.eip == 0x10001

    def test_a_bitmap_that_ends(self, world: World, device: Device) -> None:
        """Ports beyond the TSS's limit are forbidden."""
        self.bitmap(world)
        taken = self.user(world, "mov $0xffff, %edx; insb; dec %edx; insb; hlt")
        assert isinstance(taken, Taken)
        assert taken.eip == 0x10008
        world.describe(0x28, descriptor(TSS, 0x68 + 0x1FFE, 0x89, 0))
        world.ring0("mov $0x28, %eax; ltr %ax; hlt")
        taken = self.user(world, "mov $0xffff, %edx; insb; hlt")
        assert isinstance(taken, Taken)
        assert (taken.vector, taken.eip) == (GP, 0x10005)


def test_one_instruction_retires() -> None:
    """A REP INS counts one instruction and its iterations; the exits are the device's."""
    machine = pvfast.Machine(ram="1M")
    machine.write(0x1000, bytes.fromhex("f36c f4"))
    machine.cpu.eip, machine.cpu.ecx, machine.cpu.edi = 0x1000, 4, 0x3000
    machine.run(max_instructions=20)
    assert (machine.counters.instructions, machine.counters.iterations, machine.counters.exits) == (2, 4, 4)
    assert machine.read(0x3000, 5) == b"\xff" * 4 + b"\0"       # nobody answers: the bus floats
