"""What a hostile reading of the core once found, as small as it goes: crashes, hangs, stale code, lost exactness."""
from __future__ import annotations

import pytest

from pvfast.machine import Machine

from .protected import HANDLERS, USER_CODE, World

CODE32 = 0xC09B     # attributes of a 32-bit code segment with 4 KiB granularity


def machine(code: bytes, address: int = 0x1000, ram: str = "1M") -> Machine:
    made = Machine(ram=ram)
    made.write(address, code)
    made.cpu.eip, made.cpu.esp = address, 0x8000
    return made


def descriptor(base: int) -> bytes:
    return (0xFFFF | base << 16 | 0x9B << 40 | 0xCF << 48).to_bytes(8, "little")


def test_a_store_into_the_fifth_line_of_a_long_block():
    store = bytes.fromhex("c7842400010000")                             # movl $..., 0x100(%esp)
    made = machine((store + bytes(4)) * 17 + store + b"\1\0\0\0" + b"\xeb\x00\xf4", 0x103F)
    made.run()
    made.write(0x103F + 17 * 11 + 7, b"\x77\0\0\0")
    made.cpu.eip = 0x103F
    made.run()
    assert made.read(0x8100, 4) == b"\x77\0\0\0"


def test_a_call_that_pushes_over_its_own_block():
    returns_to = 0x00C08390                                             # pushed: nop; add $0, %eax
    start = returns_to - 9
    made = machine(b"\xb0\x01\xb0\x02\xe8" + (start - returns_to & 0xFFFFFFFF).to_bytes(4, "little"), start, "16M")
    made.cpu.esp = start + 4
    assert made.run(max_instructions=100).reason.name == "BUDGET"
    assert made.counters.instructions == 100


def test_one_eip_under_two_code_bases():
    made = Machine(ram="1M")
    made.write(0x100, bytes(8) + descriptor(0x10000) + descriptor(0x20000))
    made.cpu.gdtr = (0x100, 23)
    for base in (0x10000, 0x20000):
        made.write(base + 0x1000, bytes.fromhex("b800300000ffe0"))      # mov $0x3000, %eax; jmp *%eax
    made.write(0x13000, bytes.fromhex("bb01000000ea001000001000"))      # mov $1, %ebx; ljmp $0x10, $0x1000
    made.write(0x23000, bytes.fromhex("bb02000000f4"))                  # mov $2, %ebx; hlt
    made.cpu.cs.set(8, 0x10000, 0xFFFFFFFF, CODE32)
    made.cpu.eip = 0x1000
    assert made.run(max_instructions=1000).reason.name == "HALT"
    assert made.cpu.ebx == 2


def test_the_return_address_follows_the_code_base():
    made = machine(bytes.fromhex("e80000000058f4"), 0x4000)             # call .+5; pop %eax; hlt
    for base in (0x1000, 0x2000):
        made.cpu.cs.set(8, base, 0xFFFFFFFF, CODE32)
        made.cpu.eip, made.cpu.esp = 0x4000 - base, 0x8000
        made.run(max_instructions=10)
        assert made.cpu.eax == 0x4005 - base


@pytest.mark.parametrize("code", ["6aff58ffd0", "ff2500200000", "6affc3"])
def test_an_indirect_branch_to_the_last_byte(code):
    made = machine(bytes.fromhex(code + "b901000000f4"))
    made.write(0x2000, b"\xff" * 4)
    stop = made.run(max_instructions=100)
    assert (stop.reason.name, stop.eip, made.cpu.ecx) == ("SHUTDOWN", 0xFFFFFFFF, 0)


@pytest.mark.parametrize("slice_", [1, 10])
def test_a_timer_before_an_undefined_instruction(slice_):
    class Timer:
        when = 3

        def next_event(self):
            return self.when

        def fire(self, made):
            self.when = None
            made.inject_interrupt(0x40)

    made = machine(b"\x40\x40\x40\xff\xff")                             # three cycles, then #UD
    made.install_flat_gdt(0x100)
    made.cpu.idtr = (0x800, 0x7FF)
    made.write(0x800 + 6 * 8, bytes.fromhex("00300800008f0000"))
    made.write(0x800 + 0x40 * 8, bytes.fromhex("00400800008e0000"))
    made.write(0x4000, b"\xf4")
    made.cpu.eflags = 0x202
    made.attach(Timer())
    while made.run(max_instructions=slice_).reason.name == "BUDGET":
        pass
    assert made.cpu.eip == 0x4001
    assert (made.counters.instructions, made.counters.faults, made.counters.interrupts) == (4, 0, 1)


def test_waiting_for_a_device_that_never_interrupts_uses_up_the_budget():
    class Tick:
        when = 100

        def next_event(self):
            return self.when

        def fire(self, made):
            self.when += 100

    made = machine(b"\xfb\xf4")                                         # sti; hlt
    made.attach(Tick())
    assert made.run(max_instructions=10).reason.name == "BUDGET"
    assert made.counters.instructions == 2


def test_an_instruction_across_two_regions():
    made = machine(b"\xb8\x11", 0xFFFE, "64K")
    made.map_ram(0x10000, "64K")
    made.write(0x10000, b"\x22\x33\x44\xf4")
    made.run()
    assert made.cpu.eax == 0x44332211


@pytest.mark.parametrize("slice_", [1, 30])
def test_the_code_limit_inside_a_block(slice_):
    made = machine(b"\x40" * 16 + b"\xf4")
    made.cpu.cs.set(8, 0, 0x1003, 0x409B)
    while (stop := made.run(max_instructions=slice_)).reason.name == "BUDGET":
        pass
    assert (stop.vector, made.cpu.eax, stop.eip) == (13, 4, 0x1004)


def test_until_after_a_restore():
    made = machine(b"\x40\x40\x40\x40\xf4")
    made.run(until=0x1002)
    made.cpu.eip = 0x1000
    state = made.snapshot()
    made.write(0x1000, b"\x40\x40\x40\x40\xf4")
    made.run()
    made.restore(state)
    assert made.run(until=0x1002).reason.name == "UNTIL"


def test_an_interrupt_on_a_device_stack_is_delivered_once():
    class Device:
        def __init__(self):
            self.written = 0

        def write(self, offset, size, value):
            self.written += 1

    device = Device()
    made = machine(b"\x90" * 8 + b"\xf4")
    made.map_mmio(0xA0000000, 0x1000, device)
    made.install_flat_gdt(0x100)
    made.cpu.idtr = (0x800, 0x7FF)
    made.write(0x800 + 0x40 * 8, bytes.fromhex("00400800008e0000"))
    made.write(0x4000, b"\xf4")
    made.cpu.esp, made.cpu.eflags = 0xA0000800, 0x202
    made.inject_interrupt(0x40)
    assert made.run(max_instructions=100).eip == 0x4001
    assert (made.counters.interrupts, made.counters.instructions, device.written) == (1, 1, 3)


def test_a_device_that_interrupts_faster_than_the_handler_begins():
    class Timer:
        when = 1

        def next_event(self):
            return self.when

        def fire(self, made):
            self.when = made.counters.cycles + 1
            made.inject_interrupt(0x20)

    made = machine(b"\x90\xeb\xfd")                                     # nop; jmp
    made.install_flat_gdt(0x100)
    made.cpu.idtr = (0x800, 0x7FF)
    made.write(0x800 + 0x20 * 8, bytes.fromhex("00400800008f0000"))     # a trap gate: IF stays set
    made.cpu.eflags = 0x202
    made.attach(Timer())
    assert made.run(max_instructions=10).reason.name == "BUDGET"
    assert made.counters.instructions + made.counters.interrupts == 10


@pytest.mark.parametrize("size", [3, 0xEFB8])
def test_a_snapshot_with_code_beside_a_device(size):
    made = Machine(ram="64K")
    made.write(0x1040, b"\xb8\1\0\0\0\xf4")                            # mov $1, %eax; hlt
    made.map_mmio(0x1048, size, None)                                   # RAM ends, and begins again, inside a line
    made.cpu.eip = 0x1040
    state = made.snapshot()
    values = []
    for value in (1, 2):
        made.write(0x1041, bytes([value]))
        made.run()
        values.append(made.cpu.eax)
        made.restore(state)
    made.run()
    assert [*values, made.cpu.eax] == [1, 2, 1]


def test_alignment_faults_while_delivering_alignment_faults():
    world = World()
    world.cpu.cr0 |= 0x40000                                            # AM
    world.vector(17, HANDLERS, access=0xEE, selector=USER_CODE)         # the handler stays at CPL 3, on this stack
    world.load("push %eax")
    world.enter_ring3(eflags=0x40002)
    world.cpu.esp = 0x9001
    stop = world.go()
    assert (stop.reason.name, stop.vector) == ("SHUTDOWN", 17)
