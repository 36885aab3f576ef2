"""The built-in kernel in Unicorn, on bare hardware: which pages it reads, writes and executes, and when TLBs forget.

Enters: an image. Leaves: `Event`s, which test_tlb_misses.py puts through TLBs.

Unicorn does not deliver interrupts: `_deliver` does it, from the manual, with the reads and pushes that belong to it.
Those of segment loads and IRET are Unicorn's own. Page walks are no accesses, here and in pvfast.
"""
from __future__ import annotations

from typing import NamedTuple

import numpy as np
import unicorn
from capstone import CS_AC_WRITE, CS_ARCH_X86, CS_MODE_32, Cs
from capstone.x86 import X86_OP_MEM
from unicorn import x86_const as uc_x86

from pvfast.guest import GuestImage
from pvfast.guest.prelude import PAGE_OFFSET

RAM = 16 << 20
LOADER_GDT = 0x500
DESCRIPTORS = (0, 0x00CF9B000000FFFF, 0x00CF93000000FFFF)
PROTECTED_MODE = 0x11
PAGE_FAULT = 14
WITH_ERROR_CODE = (8, 10, 11, 12, 13, PAGE_FAULT, 17)
"""SDM 3:6.15."""
P, W, U, D, G = 1, 2, 4, 0x40, 0x100
PGE = 0x80
TRAP_GATE, IF = 0x100, 0x200
GENERAL = ("eax", "ecx", "edx", "ebx", "ebp", "esi", "edi")
REGISTERS = {name: getattr(uc_x86, f"UC_X86_REG_{name.upper()}") for name in (
    *GENERAL, "esp", "eip", "eflags", "cs", "ss", "ds", "es", "fs", "gs", "cr0", "cr2", "cr3", "cr4", "gdtr", "idtr")}
TSS_ESP0, TSS_SS0 = 4, 8


class Event(NamedTuple):
    """What a TLB is told: "read", "write" or "fetch" of a page; "fault", of data, or "fetch fault", or "drop" (INVLPG)
    of one; "flush" (a load of CR3), which global pages survive; "flush all" (CR4.PGE has changed).
    `dirty`: the page was writable and dirty when it was read. `kept`: it is global."""

    kind: str
    page: int = 0
    user: bool = False
    dirty: bool = False
    kept: bool = False


class Operand(NamedTuple):
    """Of an instruction, in memory; registers by Unicorn's numbers, 0 for none."""

    base: int
    index: int
    scale: int
    displacement: int
    written: bool


STACK = (Operand(REGISTERS["esp"], 0, 1, -4, True), Operand(REGISTERS["esp"], 0, 1, 0, False))
"""What PUSH and CALL, POP and RET use."""


class UnicornKernel:
    """Booted, and `events` and `instructions` of what it does from there on."""

    def __init__(self, image: GuestImage) -> None:
        self.image = image
        self.memory = np.zeros(RAM, dtype=np.uint8)
        self.memory[image.physical:image.physical + len(image.code)] = np.frombuffer(image.code, dtype=np.uint8)
        self.memory[LOADER_GDT:LOADER_GDT + 8 * len(DESCRIPTORS)] = np.array(DESCRIPTORS, dtype="<u8").view(np.uint8)
        self.words = memoryview(self.memory).cast("B").cast("I")
        self.uc = unicorn.Uc(unicorn.UC_ARCH_X86, unicorn.UC_MODE_32)
        self.uc.mem_map_ptr(0, RAM, unicorn.UC_PROT_ALL, self.memory.ctypes.data)
        self.vector: int | None = None
        self.uc.hook_add(unicorn.UC_HOOK_INTR, self._interrupted)
        for label in ("boot_done", "bench_done"):
            self.uc.hook_add(unicorn.UC_HOOK_CODE, self._arrived, None, image.labels[label], image.labels[label])
        self._set("gdtr", (0, LOADER_GDT, 8 * len(DESCRIPTORS) - 1, 0))
        self._set("cr0", PROTECTED_MODE)
        for name, selector in (("cs", 8), ("ss", 16), ("ds", 16), ("es", 16)):
            self._set(name, selector)
        table = memoryview(image.sections["__ex_table"].code).cast("I")
        self.reaches_user = frozenset(table[::2])
        self.disassembler = Cs(CS_ARCH_X86, CS_MODE_32)
        self.disassembler.detail = True
        self.decoded: dict[int, tuple[str, tuple[Operand, ...]]] = {}
        self.events: list[Event] = []
        self.instructions = 0
        self.tracing = self.user = self.loaded = False
        self.address = self.cr3 = self.cr4 = 0
        self.fetched = -1
        self.operands: list[int] = []
        self._run(image.entry)
        self.ring0 = self.uc.context_save()
        self.uc.hook_add(unicorn.UC_HOOK_CODE, self._executed)
        self.uc.hook_add(unicorn.UC_HOOK_MEM_READ | unicorn.UC_HOOK_MEM_WRITE, self._accessed)
        self.uc.ctl_flush_tb()
        self.tracing = True

    def loop(self, name: str, iterations: int) -> None:
        """Run a benchmark from its label to ``bench_done``; what was counted before is forgotten."""
        self.events, self.instructions, self.address, self.fetched = [], 0, 0, -1
        self._look()
        self._set("ecx", iterations)
        self._run(self.image.benchmarks[name].address)

    # --- Running --------------------------------------------------------------------------------------------------

    def _run(self, eip: int) -> None:
        """Until a label at which Unicorn stops; address 0, its other end, is never reached."""
        while True:
            self.vector = None
            self.uc.emu_start(eip, 0)
            if self.vector is None:
                return
            eip = self._deliver(self.vector)

    def _interrupted(self, uc: unicorn.Uc, vector: int, _user: object) -> None:
        self.vector = vector
        uc.emu_stop()

    def _arrived(self, uc: unicorn.Uc, *_: object) -> None:
        uc.emu_stop()

    def _get(self, name: str) -> int:
        return self.uc.reg_read(REGISTERS[name])

    def _set(self, name: str, value: object) -> None:
        self.uc.reg_write(REGISTERS[name], value)

    def _deliver(self, vector: int) -> int:
        """Through the IDT to ring 0 (SDM 3:6.12); where the handler begins."""
        state = {name: self.uc.reg_read(number) for name, number in REGISTERS.items()}
        self.cr3 = state["cr3"]
        from_user = state["cs"] & 3 == 3
        error = self._page_fault(state["cr2"], state["eip"], from_user) if vector == PAGE_FAULT else 0
        if from_user:       # Unicorn lets nobody load the SS of an inner ring, but brings one back
            tracing, self.tracing = self.tracing, False
            self.uc.context_restore(self.ring0)
            for name in ("cr3", "cr2", "cr0", "ds", "es", "fs", "gs"):
                self._set(name, state[name])
            self.tracing = tracing
        self.user = False
        gate, gdt = state["idtr"][1] + 8 * vector, state["gdtr"][1]
        low, high = self._read(gate), self._read(gate + 4)
        self._read(gdt + (low >> 16))
        frame = [state["eflags"], state["cs"], state["eip"]]
        esp = state["esp"]
        if from_user:
            tss = self.image.labels["init_tss"]
            esp = self._read(tss + TSS_ESP0)
            self._read(gdt + self._read(tss + TSS_SS0))
            frame = [state["ss"], state["esp"], *frame]
        for word in (*frame, error) if vector in WITH_ERROR_CODE else frame:
            esp -= 4
            self._note("write", esp, False)
            self.words[esp - PAGE_OFFSET >> 2] = word
        for name in GENERAL:
            self._set(name, state[name])
        self._set("esp", esp)
        self._set("eflags", state["eflags"] if high & TRAP_GATE else state["eflags"] & ~IF)
        return low & 0xFFFF | high & 0xFFFF0000

    def _read(self, linear: int) -> int:
        """A word of the kernel's, read by the processor."""
        self._note("read", linear, False)
        return self.words[linear - PAGE_OFFSET >> 2]

    def _page_fault(self, linear: int, eip: int, user: bool) -> int:
        """Note it; its error code (SDM 3:4.7)."""
        error = (U if user else 0) | self._entry(linear) & P
        if linear == eip:
            self.events.append(Event("fetch fault", linear >> 12, user))
            return error
        self.instructions -= 1      # it is going to be executed again
        self.events.append(Event("fault", linear >> 12, user))
        _, operands = self._decode(eip)
        written = any(each.written and self._address_of(each) == linear for each in (*operands, *STACK))
        return error | (W if written else 0)

    # --- What it does ---------------------------------------------------------------------------------------------

    def _entry(self, linear: int) -> int:
        """Of the page table, 32-bit; 0: none."""
        pde = self.words[(self.cr3 + (linear >> 22) * 4) >> 2]
        return self.words[((pde & ~0xFFF) + (linear >> 12 & 0x3FF) * 4) >> 2] if pde & P else 0

    def _look(self) -> None:
        """Whose page tables are they now?"""
        self.cr3, self.cr4 = self._get("cr3"), self._get("cr4")

    def _is_global(self, entry: int) -> bool:
        return bool(entry & G and self.cr4 & PGE)

    def _executed(self, _uc: unicorn.Uc, address: int, _size: int, _user: object) -> None:
        if address != self.address:         # not the next iteration of a REP
            self.instructions += 1
        self.address, self.user = address, address < PAGE_OFFSET
        if self.loaded:
            before = self.cr4
            self._look()
            if (before ^ self.cr4) & PGE:
                self.events.append(Event("flush all"))
        kind, operands = self._decode(address)
        self.operands = [self._address_of(each) for each in operands]
        if address >> 12 != self.fetched:
            self.events.append(Event("fetch", address >> 12, self.user, kept=self._is_global(self._entry(address))))
        self.fetched = -1 if kind else address >> 12
        self.loaded = kind in ("flush", "cr4")
        if kind == "flush":
            self.events.append(Event(kind))
        elif kind == "drop":
            self.events.append(Event(kind, self.operands[0] >> 12))

    def _decode(self, address: int) -> tuple[str, tuple[Operand, ...]]:
        """What it is to a TLB, and its operands that may be in user memory, or are INVLPG's; it is always the same.

        The kernel touches user memory only by the instructions of __ex_table, whose faults it expects.
        """
        own = address >= PAGE_OFFSET
        physical = address - PAGE_OFFSET if own else (self._entry(address) & ~0xFFF) + (address & 0xFFF)
        if physical not in self.decoded:
            insn = next(self.disassembler.disasm(self.memory[physical:physical + 15].tobytes(), address))
            loaded = insn.op_str.partition(",")[0]
            kind = "drop" if insn.mnemonic == "invlpg" else {"cr3": "flush", "cr4": "cr4"}.get(loaded, "")
            operands = [] if own else list(STACK)
            for each in insn.operands if not own or kind or address in self.reaches_user else ():
                if each.type == X86_OP_MEM:
                    base, index = (REGISTERS[insn.reg_name(number)] if number else 0
                                   for number in (each.mem.base, each.mem.index))
                    written = bool(each.access & CS_AC_WRITE)
                    operands.append(Operand(base, index, each.mem.scale, each.mem.disp, written))
            self.decoded[physical] = kind, tuple(operands)
        return self.decoded[physical]

    def _address_of(self, operand: Operand) -> int:
        base = self.uc.reg_read(operand.base) if operand.base else 0
        index = self.uc.reg_read(operand.index) if operand.index else 0
        return base + index * operand.scale + operand.displacement & 0xFFFFFFFF

    def _accessed(self, _uc: unicorn.Uc, access: int, physical: int, size: int, _value: int, _user: object) -> None:
        """Unicorn tells the address after translation. The linear one is an operand in user memory, or where the kernel
        has all memory: there are its own data, and what the processor uses."""
        assert (physical & 0xFFF) + size <= 0x1000
        if self.tracing:
            kind = "write" if access == unicorn.UC_MEM_WRITE else "read"
            linear = next((each for each in self.operands
                           if each < PAGE_OFFSET and self._entry(each) >> 12 == physical >> 12), physical + PAGE_OFFSET)
            self._note(kind, linear, self.user and linear < PAGE_OFFSET)

    def _note(self, kind: str, linear: int, user: bool) -> None:
        if self.tracing:
            entry = self._entry(linear)
            event = Event(kind, linear >> 12, user, entry & (W | D) == W | D, self._is_global(entry))
            if not self.events or event != self.events[-1]:
                self.events.append(event)
