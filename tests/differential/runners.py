"""The two emulators, behind one interface: load a case, run it, read what came of it.

Enters: a Case. Leaves: `Outcome`, and the differences between two. Next: fuzz.py.

pvfast runs every case in four worlds: flat, paged (with the pages of the windows in another order), segmented (all
segments have a base, so the same program lies elsewhere) and both. Unicorn runs it flat, at fresh addresses,
because it does not notice code that the host rewrites.
"""
from __future__ import annotations

import struct
from dataclasses import dataclass

import numpy as np
import unicorn
from unicorn import x86_const as uc_x86

import pvfast

from .builder import SEGMENT_BASE, WINDOW
from .cases import Case

IDT, GDT, HANDLERS = 0x1000, 0x1900, 0x2000
CODE, SLOT, SLOTS = 0x400000, 0x200, 0x4000
"""Case n lies in slot n modulo SLOTS."""
SPACE = 0x1000000
TABLES = 0x3000000
BASE = 0x1400000
"""Of all segments in the segmented worlds; RAM reaches behind it."""
COMPARED_FLAGS = 0x247FD5
REGISTERS = ("eax", "ecx", "edx", "ebx", "esp", "ebp", "esi", "edi")
UC_REGISTERS = [getattr(uc_x86, f"UC_X86_REG_{name.upper()}") for name in (*REGISTERS, "eip", "eflags")]


def pool(seed: int) -> bytes:
    """Bytes that windows are filled from: random, with runs of what strings and signs care about."""
    rng = np.random.default_rng(seed)
    content = rng.integers(0, 256, 0x10000, dtype=np.uint8)
    for start in rng.integers(0, 0x10000 - 64, 400):
        content[start:start + rng.integers(1, 64)] = rng.choice((0, 0, 0xFF, 0x80, 0x7F))
    return content.tobytes()


@dataclass
class Outcome:
    """State after a case. `vector`: of the fault that ended it, "halt", or None at its end."""

    registers: list[int]
    eip: int
    eflags: int
    window: bytes
    vector: int | str | None


class UnicornRunner:
    """Unicorn over a numpy array."""

    def __init__(self, content: bytes) -> None:
        self.content = content
        self.memory = np.zeros(SPACE, dtype=np.uint8)
        self.view = memoryview(self.memory)
        self.start()

    def start(self) -> None:
        """A new Unicorn: after a fault, the next one would count as a double fault."""
        self.uc = unicorn.Uc(unicorn.UC_ARCH_X86, unicorn.UC_MODE_32)
        self.uc.mem_map_ptr(0, SPACE, unicorn.UC_PROT_ALL, self.memory.ctypes.data)
        self.uc.hook_add(unicorn.UC_HOOK_INTR, self.interrupt)
        self.uc.hook_add(unicorn.UC_HOOK_INSN_INVALID, self.invalid)
        for name, msr in (("fs", 0xC0000100), ("gs", 0xC0000101)):
            self.uc.reg_write(uc_x86.UC_X86_REG_MSR, (msr, SEGMENT_BASE[name]))
        self.vector: int | str | None = None

    def interrupt(self, uc: unicorn.Uc, vector: int, _user: object) -> None:
        self.vector = vector
        uc.emu_stop()

    def invalid(self, _uc: unicorn.Uc, _user: object) -> bool:
        self.vector = 6
        return False

    def run(self, case: Case) -> Outcome:
        self.view[case.address:case.end] = case.reference
        self.view[WINDOW.start:WINDOW.stop] = self.content[case.pool_offset:case.pool_offset + len(WINDOW)]
        for address, data in case.patches:
            self.view[address:address + len(data)] = data
        self.uc.reg_write_batch(list(zip(UC_REGISTERS, (*case.registers, case.address, case.eflags), strict=True)))
        self.vector = None
        try:
            self.uc.emu_start(case.address, case.end)
        except unicorn.UcError as error:
            self.vector = self.vector if self.vector is not None else str(error)
        values = self.uc.reg_read_batch(UC_REGISTERS)
        if self.vector is None and values[8] != case.end:
            self.vector = "halt"
        outcome = Outcome(list(values[:8]), values[8], values[9], bytes(self.view[WINDOW.start:WINDOW.stop]),
                          self.vector)
        if self.vector not in (None, "halt"):
            self.start()
        return outcome

    def forget(self) -> None:
        """Slots are about to be used again."""
        self.uc.ctl_flush_tb()


class PvfastRunner:
    """One world of pvfast, whose programs see the same addresses as Unicorn's."""

    def __init__(self, content: bytes, *, paged: bool = False, segmented: bool = False) -> None:
        self.content = content
        self.paged, self.segmented = paged, segmented
        self.name = {(0, 0): "flat", (1, 0): "paged", (0, 1): "segmented", (1, 1): "segmented+paged"}[paged, segmented]
        self.base = BASE if segmented else 0
        self.start()

    def start(self) -> None:
        self.machine = pvfast.Machine(ram="64M")
        cpu = self.machine.cpu
        if self.paged:
            self.make_tables()
        base = self.base
        descriptors = [struct.pack("<HHBBBB", 0xFFFF, base & 0xFFFF, base >> 16 & 0xFF, access, 0xCF, base >> 24)
                       for access in (0x9B, 0x93)]
        self.write(GDT, bytes(8) + b"".join(descriptors))
        self.write(IDT, b"".join(struct.pack("<HHHH", HANDLERS + vector, 0x08, 0x8E00, 0) for vector in range(256)))
        self.write(HANDLERS, b"\xf4" * 256)
        cpu.gdtr = (base + GDT, 23)
        cpu.idtr = (base + IDT, 0x7FF)
        for name in ("es", "cs", "ss", "ds", "fs", "gs"):
            selector, attributes = (0x08, 0xC09B) if name == "cs" else (0x10, 0xC093)
            getattr(cpu, name).set(selector, (base + SEGMENT_BASE.get(name, 0)) & 0xFFFFFFFF, 0xFFFFFFFF, attributes)

    def make_tables(self) -> None:
        """Linear to physical one to one, but with the window's pages reversed."""
        frames = np.arange(TABLES // 0x1000, dtype="<u4")
        first, last = (WINDOW.start + self.base) // 0x1000, (WINDOW.stop + self.base) // 0x1000
        frames[first:last] = frames[first:last][::-1].copy()
        self.machine.write(TABLES + 0x1000, (frames * 0x1000 | 3).tobytes())
        directory = [TABLES + 0x1000 + 0x1000 * n | 3 for n in range(TABLES >> 22)]
        self.machine.write(TABLES, struct.pack(f"<{len(directory)}I", *directory))
        self.machine.cpu.cr3 = TABLES
        self.machine.cpu.cr0 = 0x80000011

    def write(self, address: int, data: bytes) -> None:
        if self.paged:
            self.machine.write_linear(address + self.base, data)
        else:
            self.machine.write(address + self.base, data)

    def read(self, address: int, size: int) -> bytes:
        read = self.machine.read_linear if self.paged else self.machine.read
        return read(address + self.base, size)

    def run(self, case: Case) -> Outcome:
        cpu = self.machine.cpu
        self.write(case.address, case.code)
        window = bytearray(self.content[case.pool_offset:case.pool_offset + len(WINDOW)])
        for address, data in case.patches:
            window[address - WINDOW.start:address - WINDOW.start + len(data)] = data
        self.write(WINDOW.start, window)
        (cpu.eax, cpu.ecx, cpu.edx, cpu.ebx, cpu.esp, cpu.ebp, cpu.esi, cpu.edi) = case.registers
        cpu.eip, cpu.eflags = case.address, case.eflags
        stop = self.machine.run(until=(case.end + self.base) & 0xFFFFFFFF, max_instructions=10_000)
        registers = [cpu.eax, cpu.ecx, cpu.edx, cpu.ebx, cpu.esp, cpu.ebp, cpu.esi, cpu.edi]
        outcome = Outcome(registers, stop.eip, cpu.eflags, self.read(WINDOW.start, len(WINDOW)), None)
        if stop.reason is pvfast.StopReason.HALT:
            outcome.vector = "halt"
            if stop.eip - 1 in range(HANDLERS, HANDLERS + 256):
                self.unwind(outcome, stop.eip - 1 - HANDLERS)
        elif stop.reason is not pvfast.StopReason.UNTIL:
            outcome.vector = stop.reason.name
            self.start()
        return outcome

    def unwind(self, outcome: Outcome, vector: int) -> None:
        """Back to the state before delivery, from the frame on the stack."""
        frame = 16 if vector in (8, 10, 11, 12, 13, 14, 17) else 12
        esp = outcome.registers[4]
        outcome.vector = vector
        outcome.eip, _, outcome.eflags = struct.unpack("<3I", self.read(esp + frame - 12, 12))
        outcome.registers[4] = esp + frame
        start = esp - WINDOW.start
        window = bytearray(outcome.window)
        window[start:start + frame] = bytes(frame)
        outcome.window = bytes(window)


def compare(case: Case, expected: Outcome, actual: Outcome) -> list[str]:
    """What differs, in words; undefined flags do not count."""
    found = []
    if expected.vector != actual.vector:
        return [f"vector {expected.vector} expected, not {actual.vector} (eip {expected.eip:#x}, {actual.eip:#x})"]
    faulted = expected.vector not in (None, "halt")
    for name, a, b in zip(REGISTERS, expected.registers, actual.registers, strict=True):
        if a != b:
            found.append(f"{name} {a:#x} expected, not {b:#x}")
    if expected.eip != actual.eip:
        found.append(f"eip {expected.eip:#x} expected, not {actual.eip:#x}")
    mask = COMPARED_FLAGS & ~(case.ever_undefined if faulted else case.undefined)
    if (expected.eflags ^ actual.eflags) & mask:
        found.append(f"eflags {expected.eflags & mask:#x} expected, not {actual.eflags & mask:#x}")
    window = expected.window
    if faulted:         # pvfast pushed a frame below ESP
        esp = actual.registers[4] - WINDOW.start
        window = window[:esp - 16] + actual.window[esp - 16:esp] + window[esp:]
    if window != actual.window:
        at = next(i for i, (a, b) in enumerate(zip(window, actual.window, strict=True)) if a != b)
        found.append(f"memory at {WINDOW.start + at:#x}: {window[at:at + 8].hex()} expected, "
                     f"not {actual.window[at:at + 8].hex()}")
    return found
