"""A small protected-mode world for the tests of segments, interrupts and system instructions.

A GDT, an IDT whose handlers halt, a TSS, and stacks at fixed addresses; guest code runs in ring 0 or ring 3, and
`Taken` tells which handler it ended in, with the frame that the processor pushed.
"""
from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass

import pvfast
from pvfast.assembly import assemble
from pvfast.processor import Model

GDT, IDT, TSS, LDT = 0x1000, 0x2000, 0x3000, 0x3800
KERNEL_STACK, RING0_STACK, USER_STACK = 0x8000, 0x9000, 0xA000
CODE, HANDLERS = 0x10000, 0x30000

KERNEL_CODE, KERNEL_DATA, USER_CODE, USER_DATA, TSS_SELECTOR, LDT_SELECTOR = 0x08, 0x10, 0x1B, 0x23, 0x28, 0x30
SPARE = 0x38
"""The first selector whose descriptor a test may define (with `describe`)."""

CF, PF, ZF, TF, IF, DF, OF, IOPL, NT, RF, AC, ID = (
    0x1, 0x4, 0x40, 0x100, 0x200, 0x400, 0x800, 0x3000, 0x4000, 0x10000, 0x40000, 0x200000)

DE, DB, BP, UD, DF_VECTOR, TS, NP, SS, GP, PAGE_FAULT = 0, 1, 3, 6, 8, 10, 11, 12, 13, 14
WITH_ERROR_CODE = {8, 10, 11, 12, 13, 14, 17}
"""SDM 3:6.15."""


def descriptor(base: int, limit: int, access: int, flags: int = 0xC) -> bytes:
    """Eight bytes (SDM 3:3.4.5): `access` is bits 40-47, `flags` the nibble G D/B L AVL."""
    return struct.pack("<HHBBBB", limit & 0xFFFF, base & 0xFFFF, (base >> 16) & 0xFF, access,
                       flags << 4 | (limit >> 16) & 0xF, base >> 24)


def gate(selector: int, offset: int, access: int, parameters: int = 0) -> bytes:
    """A call, interrupt or trap gate (SDM 3:5.8.3, 3:6.11)."""
    return struct.pack("<HHBBH", offset & 0xFFFF, selector, parameters, access, offset >> 16)


@dataclass(frozen=True)
class Taken:
    """A handler was entered: its vector, its error code if it has one, and the frame above that."""

    vector: int
    error: int | None
    eip: int
    cs: int
    eflags: int
    esp: int
    ss: int


class World:
    """A machine with the tables above. Ring 0 runs with IOPL 0 and IF clear unless a test says otherwise."""

    def __init__(self, ram: str = "1M", processor: str | Model = "generic") -> None:
        self.machine = pvfast.Machine(ram=ram, processor=processor)
        self.cpu = self.machine.cpu
        for number, content in enumerate((
                bytes(8), descriptor(0, 0xFFFFF, 0x9B), descriptor(0, 0xFFFFF, 0x93), descriptor(0, 0xFFFFF, 0xFB),
                descriptor(0, 0xFFFFF, 0xF3), descriptor(TSS, 0x67, 0x89, 0), descriptor(LDT, 0x1F, 0x82, 0))):
            self.machine.write(GDT + 8 * number, content)
        self.cpu.gdtr = (GDT, 0xFF)
        self.cpu.idtr = (IDT, 0x7FF)
        for vector in range(256):
            self.vector(vector, HANDLERS + 16 * vector)
            self.machine.write(HANDLERS + 16 * vector, b"\xf4")
        self.machine.write(TSS + 4, struct.pack("<II", RING0_STACK, KERNEL_DATA))
        self.machine.write(TSS + 102, struct.pack("<H", 0x68))      # no I/O permission bitmap
        self.cpu.esp = KERNEL_STACK
        self.ring0("mov $0x28, %eax; ltr %ax; hlt")

    def vector(self, vector: int, offset: int, access: int = 0x8E, selector: int = KERNEL_CODE) -> None:
        """Set an IDT gate; 0x8E is an interrupt gate with DPL 0, 0xEE with DPL 3, 0x8F a trap gate."""
        self.machine.write(IDT + 8 * vector, gate(selector, offset, access))

    def describe(self, selector: int, content: bytes) -> None:
        """Write a GDT descriptor."""
        self.machine.write(GDT + (selector & ~7), content)

    def load(self, source: str, address: int = CODE) -> dict[str, int]:
        """Assemble and store; returns the labels."""
        assembly = assemble(source, address)
        self.machine.write(address, assembly.code)
        return dict(assembly.labels)

    def go(self, eip: int = CODE, limit: int = 10_000):
        """Run to HLT. Returns `Taken` when that is the HLT of a handler, else the Stop."""
        self.cpu.eip = eip
        stop = self.machine.run(max_instructions=limit)
        assert stop.reason in (pvfast.StopReason.HALT, pvfast.StopReason.SHUTDOWN), stop
        number, inside = divmod(self.cpu.eip - 1 - HANDLERS, 16)
        if not 0 <= number < 256 or inside:
            return stop
        return self.frame(number)

    def frame(self, vector: int) -> Taken:
        """What a handler just entered finds on its stack."""
        words = list(self.stack(7))
        error = words.pop(0) if vector in WITH_ERROR_CODE else None
        return Taken(vector, error, *words[:5])

    def stack(self, count: int) -> tuple[int, ...]:
        """Doublewords from the top of the flat stack."""
        return struct.unpack(f"<{count}I", self.machine.read(self.cpu.esp, 4 * count))

    def ring0(self, source: str, eflags: int = 2):
        """Run code in ring 0."""
        self.load(source)
        self.cpu.eflags = eflags
        return self.go()

    def ring3(self, source: str, eflags: int = 2):
        """Run code in ring 3, data segments included."""
        self.load(source)
        self.enter_ring3(eflags)
        return self.go()

    def enter_ring3(self, eflags: int = 2) -> None:
        """Ring 3 with its own stack, as after an IRET there."""
        self.cpu.cs.set(USER_CODE, 0, 0xFFFFFFFF, 0xC0FB)
        for segment in (self.cpu.ss, self.cpu.ds, self.cpu.es):
            segment.set(USER_DATA, 0, 0xFFFFFFFF, 0xC0F3)
        self.cpu.esp = USER_STACK
        self.cpu.eflags = eflags


def at_once_and_stepped(build: Callable[[], World], units: int) -> World:
    """Run a world to HLT at once, and another one in single steps: registers, counters and RAM are equal in the end."""
    once, stepped = build(), build()
    stop = once.machine.run(max_instructions=units)
    for _ in range(units):
        reason = stepped.machine.step().reason
        if reason is not pvfast.StopReason.BUDGET:
            break
    assert stop.reason is reason is pvfast.StopReason.HALT
    assert once.cpu.registers() == stepped.cpu.registers()
    assert once.machine.counters.as_dict() == stepped.machine.counters.as_dict()
    assert bytes(once.machine.ram) == bytes(stepped.machine.ram)
    return once
