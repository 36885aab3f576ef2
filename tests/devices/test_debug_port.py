"""The console at port E9: what the guest prints, in order, once, and back to a snapshot's."""

import pvfast
from pvfast.assembly import assemble
from pvfast.devices import DebugPort, Device, SavedDevice

CODE, TEXT = 0x1000, 0x2000


def printing(text: bytes, body: str) -> tuple[pvfast.Machine, DebugPort]:
    machine = pvfast.Machine(ram="1M")
    console = DebugPort()
    console.connect(machine)
    machine.write(CODE, assemble(body, CODE).code)
    machine.write(TEXT, text)
    machine.cpu.eip, machine.cpu.esi, machine.cpu.ecx, machine.cpu.edx = CODE, TEXT, len(text), DebugPort.PORT
    return machine, console


def test_is_a_device() -> None:
    assert isinstance(DebugPort(), Device)
    assert isinstance(DebugPort(), SavedDevice)


def test_collects_what_a_loop_prints() -> None:
    text = bytes(range(256))
    machine, console = printing(text, "again: lodsb; outb %al, $0xe9; loop again; hlt")
    assert machine.run(max_instructions=10_000).reason is pvfast.StopReason.HALT
    assert console.output == text
    assert machine.counters.exits == 256


def test_stepping_prints_nothing_twice() -> None:
    machine, console = printing(b"hello", "again: lodsb; outb %al, $0xe9; loop again; hlt")
    for _ in range(16):
        machine.step()
    assert machine.cpu.halted
    assert console.output == b"hello"


def test_the_guest_finds_it_by_reading() -> None:
    machine, _ = printing(b"", "inb $0xe9, %al; hlt")
    machine.run(max_instructions=10)
    assert machine.cpu.eax == 0xE9


def test_a_snapshot_takes_the_output_back() -> None:
    machine, console = printing(b"abcdef", "again: lodsb; outb %al, $0xe9; loop again; hlt")
    machine.run(max_instructions=9)
    assert console.output == b"abc"
    state = machine.snapshot()
    machine.run(max_instructions=1000)
    assert console.output == b"abcdef"
    machine.restore(state)
    assert console.output == b"abc"
    machine.run(max_instructions=1000)
    assert console.output == b"abcdef"
