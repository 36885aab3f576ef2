"""The two emulators, behind one interface: load a case, run it, read what came of it.

Enters: a Case. Leaves: `Outcome`. Next: host/host.py, then fuzz.py.

pvfast runs every case in seven worlds. In ring 0: flat, paged (with the pages of the windows in another order),
segmented (all segments have a base, so the same program lies elsewhere), both, and checked (a data breakpoint that is
never met makes every access take the general way). In ring 3, with the host's segments, IF set and
faults that go to another stack: paged, and segmented too. Unicorn runs a case flat in ring 0, at fresh addresses,
because it does not notice code that the host rewrites.
"""
from __future__ import annotations

import struct

import numpy as np
import unicorn
from unicorn import x86_const as uc_x86

import pvfast
from pvfast.processor import Model

from .builder import SEGMENT_BASE, WINDOW
from .cases import Case
from .outcome import REGISTERS, SEGMENTS, Outcome
from .tables import LDT, SELECTORS

IDT, GDT, HANDLERS, LDT_ADDRESS, TSS, RING0_STACK = 0x1000, 0x1900, 0x2000, 0x2100, 0x2200, 0x3000
KERNEL_CODE, KERNEL_DATA, LDT_SELECTOR, TSS_SELECTOR = 0x08, 0x10, 0x18, 0x20
USER_VECTORS = (3, 4, 0x80)
"""Linux lets ring 3 use INT with these."""
CODE, SLOT, SLOTS = 0x400000, 0x200, 0x4000
"""Case n lies in slot n modulo SLOTS."""
SPACE = 0x1000000
TABLES = 0x3000000
UNUSED, WATCHED = 0x3F00000, 0xD0402
"""A linear address, and DR7 with a data breakpoint there: every access takes the checked way (SDM 3:17.2.4)."""
BASE = 0x1400000
"""Of all segments in the segmented worlds; RAM reaches behind it."""
WITH_ERROR_CODE = (8, 10, 11, 12, 13, 14, 17)
"""SDM 3:6.15."""
IF = 0x200
OSFXSR, OSXMMEXCPT = 0x200, 0x400
PRESENT_WRITABLE, USER = 3, 4
PAGING, ALIGNMENT_MASK = 0x80000011, 0x40000
"""CR0: PG, ET, PE; AM, which Linux sets."""
UC_REGISTERS = [getattr(uc_x86, f"UC_X86_REG_{name.upper()}") for name in (*REGISTERS, "eip", "eflags")]


def pool(seed: int) -> bytes:
    """Bytes that windows are filled from: random, with runs of what strings and signs care about."""
    rng = np.random.default_rng(seed)
    content = rng.integers(0, 256, 0x10000, dtype=np.uint8)
    for start in rng.integers(0, 0x10000 - 64, 400):
        content[start:start + rng.integers(1, 64)] = rng.choice((0, 0, 0xFF, 0x80, 0x7F))
    return content.tobytes()


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
        self.view[WINDOW.start:WINDOW.stop] = case.window(self.content)
        if case.lands:
            self.uc.ctl_remove_cache(WINDOW.start, WINDOW.stop)
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


class PvfastRunner:
    """One world of pvfast, whose programs see the same addresses as Unicorn's."""

    def __init__(self, content: bytes, *, paged: bool = False, segmented: bool = False, user: bool = False,
                 checked: bool = False, processor: str | Model = "generic") -> None:
        self.content = content
        self.processor = processor
        self.paged, self.segmented, self.user, self.checked = paged, segmented, user, checked
        names = (("user", user), ("segmented", segmented), ("paged", paged), ("checked", checked))
        self.name = "+".join(name for name, chosen in names if chosen) or "flat"
        self.base = BASE if segmented else 0
        self.start()

    def start(self) -> None:
        self.machine = pvfast.Machine(ram="64M", processor=self.processor)
        base = self.base
        system = (struct.pack("<HHBBBB", limit, base + address & 0xFFFF, base + address >> 16 & 0xFF, access, 0,
                              base + address >> 24)
                  for address, limit, access in ((LDT_ADDRESS, 8 * len(LDT) - 1, 0x82), (TSS, 103, 0x89)))
        flat = (struct.pack("<HHBBBB", 0xFFFF, base & 0xFFFF, base >> 16 & 0xFF, access, 0xCF, base >> 24)
                for access in (0x9B, 0x93))
        self.machine.write(base + GDT, b"".join((bytes(8), *flat, *system)))
        self.machine.write(base + IDT, b"".join(
            struct.pack("<HHHH", HANDLERS + vector, KERNEL_CODE, 0xEE00 if vector in USER_VECTORS else 0x8E00, 0)
            for vector in range(256)))
        self.machine.write(base + HANDLERS, b"\xf4" * 256)
        self.machine.write(base + LDT_ADDRESS, b"".join(segment.descriptor(base) for segment in LDT))
        self.machine.write(base + TSS, struct.pack("<III", 0, RING0_STACK, KERNEL_DATA).ljust(102, b"\0") + b"\x68\0")
        cpu = self.machine.cpu
        cpu.gdtr = (base + GDT, 0x27)
        cpu.idtr = (base + IDT, 0x7FF)
        cpu.cr4 = OSFXSR | OSXMMEXCPT
        for name in SEGMENTS:
            number, attributes = (KERNEL_CODE, 0xC09B) if name == "cs" else (KERNEL_DATA, 0xC093)
            getattr(cpu, name).set(number, base + SEGMENT_BASE.get(name, 0) & 0xFFFFFFFF, 0xFFFFFFFF, attributes)
        if self.user:
            self.execute(b"\x0f\x00\xd0\x0f\x00\xd9", LDT_SELECTOR, TSS_SELECTOR)       # LLDT AX; LTR CX
        if self.checked:
            self.execute(b"\x0f\x23\xc0\x0f\x23\xf9", UNUSED, WATCHED)                # MOV DR0, EAX; MOV DR7, ECX
        if self.paged:
            self.make_tables()

    def execute(self, code: bytes, eax: int, ecx: int) -> None:
        """Two instructions in ring 0."""
        cpu = self.machine.cpu
        self.machine.write(self.base + CODE, code)
        cpu.eax, cpu.ecx, cpu.eip = eax, ecx, CODE
        self.machine.run(max_instructions=2)

    def make_tables(self) -> None:
        """Linear to physical one to one, but the window's pages reversed; ring 3 sees only them and what is above."""
        frames = np.arange(TABLES // 0x1000, dtype="<u4")
        first, last = (WINDOW.start + self.base) // 0x1000, (WINDOW.stop + self.base) // 0x1000
        frames[first:last] = frames[first:last][::-1].copy()
        entries = frames * 0x1000 | PRESENT_WRITABLE
        if self.user:
            entries[first:] |= USER
        self.machine.write(TABLES + 0x1000, entries.tobytes())
        directory = [TABLES + 0x1000 + 0x1000 * n | PRESENT_WRITABLE | USER for n in range(TABLES >> 22)]
        self.machine.write(TABLES, struct.pack(f"<{len(directory)}I", *directory))
        self.machine.cpu.cr3 = TABLES
        self.machine.cpu.cr0 = PAGING | (ALIGNMENT_MASK if self.user else 0)

    def write(self, address: int, data: bytes) -> None:
        if self.paged:
            self.machine.write_linear(address + self.base, data)
        else:
            self.machine.write(address + self.base, data)

    def read(self, address: int, size: int) -> bytes:
        read = self.machine.read_linear if self.paged else self.machine.read
        return read(address + self.base, size)

    def enter_ring3(self) -> None:
        """The segments that the host starts with."""
        cpu = self.machine.cpu
        for name, number in zip(SEGMENTS, SELECTORS, strict=True):
            segment = LDT[number >> 3]
            getattr(cpu, name).set(number, segment.base + self.base & 0xFFFFFFFF, 0xFFFFFFFF, segment.attributes)

    def run(self, case: Case) -> Outcome:
        cpu = self.machine.cpu
        self.write(case.address, case.code)
        self.write(WINDOW.start, case.window(self.content))
        if self.user:
            self.enter_ring3()
        (cpu.eax, cpu.ecx, cpu.edx, cpu.ebx, cpu.esp, cpu.ebp, cpu.esi, cpu.edi) = case.registers
        cpu.eip, cpu.eflags, cpu.fxsave = case.address, case.eflags | (IF if self.user else 0), case.fxsave
        stop = self.machine.run(until=(case.end + self.base) & 0xFFFFFFFF, max_instructions=10_000)
        registers = [cpu.eax, cpu.ecx, cpu.edx, cpu.ebx, cpu.esp, cpu.ebp, cpu.esi, cpu.edi]
        outcome = Outcome(registers, stop.eip, cpu.eflags, self.read(WINDOW.start, len(WINDOW)), None, cpu.fxsave)
        if self.user:
            outcome.selectors = tuple(getattr(cpu, name).selector for name in SEGMENTS)
        if stop.reason is pvfast.StopReason.HALT:
            outcome.vector = "halt"
            if stop.eip - 1 in range(HANDLERS, HANDLERS + 256):
                try:
                    self.unwind(outcome, stop.eip - 1 - HANDLERS)
                except pvfast.PvfastError as error:     # ESP led nowhere
                    outcome.vector = str(error)
        elif stop.reason is not pvfast.StopReason.UNTIL:
            outcome.vector = stop.reason.name
            self.start()
        return outcome

    def unwind(self, outcome: Outcome, vector: int) -> None:
        """Back to the state before delivery, from the frame on the stack."""
        outcome.vector = vector
        esp = frame = outcome.registers[4]
        if vector in WITH_ERROR_CODE:
            (outcome.error,) = struct.unpack("<I", self.read(esp, 4))
            frame += 4
        if vector == 14:
            outcome.cr2 = self.machine.cpu.cr2 - self.base & 0xFFFFFFFF
        outcome.eip, cs, outcome.eflags = struct.unpack("<3I", self.read(frame, 12))
        if self.user:
            outcome.registers[4], ss = struct.unpack("<2I", self.read(frame + 12, 8))
            es, _, _, *rest = outcome.selectors
            outcome.selectors = (es, cs, ss, *rest)
        else:
            outcome.registers[4] = frame + 12
            outcome.delivery = range(esp - WINDOW.start, frame + 12 - WINDOW.start)
