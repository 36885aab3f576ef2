"""Real and V86 mode against Unicorn: one instruction a case, in 16-bit code, segment loads and far transfers too.

Enters: a seed and a row. Leaves: differences in words. Next: test_real_mode.py.

All machines keep their memory through all cases, and the whole of it is compared behind each. Every segment has a base
of its own. Unicorn delivers no interrupt and knows no limits, so a fault is compared by its vector, and addresses
stay inside their segments.
"""
from __future__ import annotations

import random
import struct
from collections import Counter
from dataclasses import dataclass

import numpy as np
import unicorn
from unicorn import x86_const as uc_x86

import pvfast
from pvfast.core.engine import decoded_handlers
from pvfast.isa.form import Form
from pvfast.isa.forms import FORMS
from pvfast.isa.maps import WORD_STACK, operand_sizes

from .builder import value
from .encoder import EAX, EBP, ECX, EDI, EDX, ESI, ESP, REPNZ, REPZ, SEGMENT_PREFIX, SIXTEEN_MOD_RM, Memory, encode
from .instructions import REFERENCE, parent, sizes_of
from .outcome import REGISTERS

SPACE = 0x200000
"""2 MiB: the highest paragraph reaches above 1 MiB."""
SEGMENTS = {"es": 0x2800, "cs": 0x1000, "ss": 0x3000, "ds": 0x2000, "fs": 0x3800, "gs": 0x4000}
HANDLERS = 0xF000
"""Selector of the vectors: vector n is at HANDLERS:n."""
INSIDE = range(0x200, 0xFC00)
"""Offsets from which no access leaves its segment."""
FLAGS = 0x257FD5 & ~0x10000     # without RF, which Unicorn shows otherwise
TF, IOPL, VM = 0x100, 0x3000, 0x20000
GP = 13
NOWHERE = 0xFFFFFFFF
SEGMENT_NUMBERS = (0, 2, 3, 4, 5)
"""Of the segment registers that MOV loads: not CS."""
STRINGS = ("movs", "stos", "lods", "cmps", "scas")
CONTROL = {"hlt", "sysenter", "sysexit", "sgdt", "sidt", "lgdt", "lgdt16", "lidt", "lidt16", "mov_from_cr", "mov_to_cr",
           "mov_from_dr", "mov_to_dr", "smsw", "smsw16", "lmsw", "wrmsr", "rdmsr", "rdpmc", "rdtsc", "cpuid", "int1"}
"""Raw handlers whose result is the processor's, not the instruction's; Unicorn has no INT1."""
UNICORN_ZERO_EXTENDS = tuple(f"push_{segment}32" for segment in SEGMENTS)
"""See differences.py."""
FEATURES = ("", "CMOV", "CX8", "CPUID", "TSC")
"""CPUID features of integer rows."""
_PREFIXES = {0x66, 0x67, 0xF0, REPNZ, REPZ, *SEGMENT_PREFIX.values()}


def is_compared(form: Form) -> bool:
    """Integer and system rows that need no device."""
    device = form.raw.startswith(("in8", "in16", "in32", "out", "ins"))
    floating = 0xD8 <= form.encoding.byte <= 0xDF and not form.encoding.escape
    zero_extends = form.raw in UNICORN_ZERO_EXTENDS
    return not (form.encoding.prefix or form.feature not in FEATURES or form.raw in CONTROL or device or floating
                or zero_extends)


COMPARED = tuple(form for form in FORMS if is_compared(form))


@dataclass
class Case:
    """Code at CS:eip, and the state it starts from; `patches` are linear addresses with their bytes."""

    form: Form
    code: bytes
    reference: bytes
    registers: list[int]
    eip: int
    eflags: int
    patches: list[tuple[int, bytes]]

    @property
    def iterates(self) -> bool:
        """REP runs to its end; other instructions are stepped, wherever they lead."""
        return self.form.raw.rstrip("0123456789") in STRINGS

    def __str__(self) -> str:
        return (f"{self.form.opcode} {self.form.syntax}: {self.code.hex()} at {self.eip:#x}, registers "
                f"{' '.join(f'{r:x}' for r in self.registers)}, eflags {self.eflags:#x}")


def toggled(code: bytes, size: bool, address: bool) -> bytes:
    """The same instruction for code of the other default sizes: 66 and 67 mean the opposite there."""
    at = next(i for i, byte in enumerate(code) if byte not in _PREFIXES)
    head, body = code[:at], code[at:]
    for prefix, wanted in ((0x66, size), (0x67, address)):
        if wanted:
            head = head.replace(bytes([prefix]), b"") if prefix in head else bytes([prefix]) + head
    return head + body


def linear(segment: str, offset: int) -> int:
    return SEGMENTS[segment] * 16 + (offset & 0xFFFF)


class Maker:
    """One case of a row."""

    def __init__(self, seed: int, number: int, form: Form) -> None:
        self.rng = rng = random.Random(f"sixteen/{seed}/{number}")
        self.form = form
        self.registers = [value(rng) for _ in range(8)]
        self.registers[ESP] = rng.getrandbits(16) << 16 | rng.choice(INSIDE)
        self.eflags = rng.getrandbits(22) & FLAGS & ~TF | IOPL | 2
        self.eip = rng.choice(INSIDE)
        self.patches: list[tuple[int, bytes]] = []
        self.wide = 0 in operand_sizes(form) if len(operand_sizes(form)) == 1 else rng.random() < 0.3
        self.wide_address = rng.random() < 0.3

    def make(self) -> Case:
        rng, form = self.rng, self.form
        kind = form.raw.rstrip("0123456789")
        rm: int | Memory | None = None
        prefixes = b""
        reg = rng.choice(SEGMENT_NUMBERS) if "Sreg" in form.operands and rng.random() < 0.95 else rng.randrange(8)
        immediate = rng.getrandbits(48)
        if kind in ("div", "idiv") and rng.random() < 0.95:     # a quotient that fits, unless the divisor is 0
            self.registers[EDX] &= 0xFFFFFFFF ^ (1 << sizes_of(form)[0]) - 1
            self.registers[EAX] &= 0xFFFFFFFF ^ 0xFFFF if sizes_of(form)[0] == 8 else 0x7FFF7FFF
            self.registers[EAX] |= rng.randrange(0x80)
        if form.takes_memory or any(o.startswith("moffs") for o in form.operands):
            rm = rng.randrange(8) if form.takes_memory and not form.takes_only_memory and rng.random() < 0.3 \
                else self.memory(kind, reg)
        if kind in ("div", "idiv") and isinstance(rm, int):
            rm = rng.choice((1, 3, 5, 7))           # CL, BL, CH, BH when it is a byte
            self.registers[parent(rm, sizes_of(form)[0])] |= 0x101
        if form.raw == "xlat":
            self.registers[3] = rng.choice(INSIDE) | (0 if self.wide_address else rng.getrandbits(16) << 16)
        if kind in STRINGS:
            prefixes = self.string(kind)
        if form.mnemonic in ("LEAVE", "ENTER"):
            upper = 0 if form.raw == "enter" else rng.getrandbits(16) << 16     # see differences.py
            self.registers[EBP] = upper | rng.choice(INSIDE)
            self.registers[ESP] &= upper | 0xFFFF
            immediate = rng.randrange(0x100) | rng.randrange(6) << 16
        if any(o.startswith("rel") for o in form.operands):
            immediate = self.relative()
        if "ptr16:32" in form.operands:
            immediate = rng.getrandbits(16) << 32 | rng.getrandbits(16)
        if form.mnemonic in ("SHLD", "SHRD") and "r/m16" in form.operands:
            immediate = rng.randrange(17)           # more is undefined
            self.registers[ECX] = self.registers[ECX] & ~0x1F | rng.randrange(17)
        self.stack()
        if isinstance(rm, int) and form.raw in ("call_rm", "jmp_rm"):
            self.registers[rm] &= 0xFFFF
        code, reference = (
            toggled(encode(row, reg=reg, rm=rm, immediate=immediate, prefixes=prefixes),
                    self.toggles_size(), isinstance(rm, Memory) or self.wide_address)
            for row in (form, REFERENCE.get((form.opcode, form.syntax), form)))
        return Case(form, code, reference, self.registers, self.eip, self.eflags, self.patches)

    def toggles_size(self) -> bool:
        """A row of one size needs its prefix or must not have it; one of both sizes takes either."""
        return self.wide or len(operand_sizes(self.form)) == 1

    def memory(self, kind: str, reg: int) -> Memory:
        """An operand at an offset inside its segment; 32-bit displacements make up for what the registers hold."""
        rng = self.rng
        target = rng.choice(INSIDE)
        segment = rng.choice((None, None, *SEGMENT_PREFIX))
        if kind.startswith("bt"):
            target = rng.randrange(0x4000, 0x8000)
            self.registers[reg] = rng.randrange(-0x4000, 0x4000) & 0xFFFFFFFF
        sixteen = not self.wide_address
        if any(o.startswith("moffs") for o in self.form.operands) or rng.random() < 0.1:
            memory = Memory(disp=target, segment=segment, address16=sixteen)
        elif sixteen:
            base, index = rng.choice(tuple(SIXTEEN_MOD_RM))
            total = self.registers[base] + (self.registers[index] if index is not None else 0)
            memory = Memory(base, index, disp=target - total, segment=segment, address16=True)
        else:
            base = rng.choice([r for r in range(8) if r != ESP or not kind.startswith("pop")])
            index = rng.choice([None, *(r for r in range(8) if r != ESP)])
            scale = rng.randrange(4)
            total = self.registers[base] + (self.registers[index] << scale if index is not None else 0)
            memory = Memory(base, index, scale if index is not None else 0, target - total, segment, short=False)
        if self.form.raw in ("jmp_rm", "call_rm", "jmp_far32", "call_far32"):
            name = segment or ("ss" if memory.base in (EBP, ESP) else "ds")     # an offset of 32 bits within 64 KiB
            self.patches.append((linear(name, target + 2), b"\0\0"))
        return memory

    def string(self, kind: str) -> bytes:
        rng = self.rng
        upper = 0 if self.wide_address else rng.getrandbits(16) << 16
        for register in (ESI, EDI):
            self.registers[register] = upper | rng.choice(range(0x1000, 0xF000))
        prefixes = rng.choice((b"", b"", bytes([REPZ]), bytes([REPNZ])))
        self.registers[ECX] = upper | rng.choice((0, 1, 2, 7, 40, 200))
        if kind in ("movs", "lods", "cmps") and rng.random() < 0.3:
            prefixes += bytes([SEGMENT_PREFIX[rng.choice(tuple(SEGMENT_PREFIX))]])
        return prefixes

    def relative(self) -> int:
        """A displacement; with 32-bit operand size the target stays inside the segment, else it wraps."""
        rng = self.rng
        if "rel8" in self.form.operands and self.wide:
            return rng.getrandbits(8)
        if "rel32" in self.form.operands:
            return rng.choice(INSIDE) - self.eip
        if rng.random() < 0.5:
            self.eip = rng.choice((rng.randrange(0xFF00, 0xFFE0), rng.randrange(0x80)))
        return rng.getrandbits(16)

    def stack(self) -> None:
        """What returns find on the stack: offsets of 32 bits within 64 KiB, flags without TF."""
        sp = self.registers[ESP]
        offset = self.rng.getrandbits(16)
        if self.form.raw in ("ret", "ret_i"):
            self.patches.append((linear("ss", sp), struct.pack("<I", offset)))
        elif self.form.raw in ("ret_far", "ret_far_i"):
            self.patches.append((linear("ss", sp), struct.pack("<II", offset, self.rng.getrandbits(32))))
        elif self.form.mnemonic in ("IRET", "IRETD", "POPF", "POPFD"):
            flags = self.rng.getrandbits(32) & ~TF
            size = 4 if self.wide else 2
            words = [flags] if self.form.mnemonic.startswith("POPF") else [offset, self.rng.getrandbits(16), flags]
            self.patches.append((linear("ss", sp), b"".join(
                (word & (1 << 8 * size) - 1).to_bytes(size, "little") for word in words)))


Result = tuple[int | str | None, list[int], int]
"""The vector of a fault, or None, registers and flags."""


class RealWorld:
    """pvfast in real mode. Vector n is at HANDLERS:n, and what the processor pushes for it lies in the memory."""

    name = "real mode"
    compared_flags = FLAGS

    def __init__(self, content: bytes) -> None:
        self.machine = pvfast.Machine(ram=SPACE, mode="real")
        self.machine.write(0, content)
        self.ram = self.machine.ram[:SPACE]
        self.word_handlers: set[int] = set()

    def load(self, case: Case) -> None:
        self.load_segments(0x93)
        self.load_registers(case, case.eflags)

    def load_segments(self, attributes: int) -> None:
        for name, selector in SEGMENTS.items():
            self.machine.cpu[name].set(selector, selector * 16, 0xFFFF, attributes)

    def load_registers(self, case: Case, eflags: int) -> None:
        cpu = self.machine.cpu
        (cpu.eax, cpu.ecx, cpu.edx, cpu.ebx, cpu.esp, cpu.ebp, cpu.esi, cpu.edi) = case.registers
        cpu.eip, cpu.eflags = case.eip, eflags

    def run(self, case: Case, memory: np.ndarray) -> Result:
        """`memory` is the other emulator's."""
        cpu = self.machine.cpu
        self.load(case)
        if case.iterates:
            self.machine.run(until=linear("cs", case.eip + len(case.code)), max_instructions=1000)
        else:
            self.machine.run(max_instructions=1)
        if case.form.raw in WORD_STACK:
            for _, _, numbers in decoded_handlers(self.machine):
                self.word_handlers.update(numbers)
        vector = self.vector(memory)
        if vector is not None:
            return vector, [], 0
        return None, [cpu[n] for n in REGISTERS] + [cpu[n].selector for n in SEGMENTS] + [cpu.eip], cpu.eflags

    def expected(self, case: Case, outcome: Result) -> Result:
        """What a case that Unicorn ran in real mode gives here."""
        return outcome

    def vector(self, memory: np.ndarray) -> int | None:
        cpu = self.machine.cpu
        if cpu.cs.selector != HANDLERS or cpu.eip >= 0x100:
            return None
        frame = cpu.ss.base + (cpu.esp & 0xFFFF)        # Unicorn pushed none
        self.machine.write(frame, memory[frame:frame + 6].tobytes())
        return cpu.eip


class V86World(RealWorld):
    """pvfast in V86 mode at IOPL 3 with paging; its monitor lies behind the memory that is compared."""

    name = "V86 mode"
    compared_flags = FLAGS & ~0x3000        # IOPL, which POPF and IRET leave alone there
    GDT, IDT, TSS, STACK, TABLES, CODE = (SPACE + page * 0x1000 for page in (0, 1, 2, 4, 5, 8))

    def __init__(self, content: bytes) -> None:
        self.machine = machine = pvfast.Machine(ram=2 * SPACE)
        self.word_handlers = set()
        machine.write(0, content)
        self.ram = machine.ram[:SPACE]
        machine.write(self.GDT, struct.pack("<8xQQHHBBBB", 0x00CF9B000000FFFF, 0x00CF93000000FFFF, 0x67,
                                            self.TSS & 0xFFFF, self.TSS >> 16, 0x89, 0, 0))
        machine.write(self.IDT, b"".join(struct.pack("<HHHH", self.CODE + n & 0xFFFF, 8, 0xEE00, self.CODE >> 16)
                                         for n in range(256)))
        machine.write(self.TSS, struct.pack("<4xII", self.STACK, 0x10))
        machine.write(self.TABLES, struct.pack("<I", self.TABLES + 0x1000 | 7))
        machine.write(self.TABLES + 0x1000, struct.pack("<1024I", *(page << 12 | 7 for page in range(1024))))
        machine.write(self.CODE, bytes.fromhex("0f00d8 f4"))        # ltr %ax; hlt
        cpu = machine.cpu
        cpu.gdtr, cpu.idtr, cpu.cr3, cpu.cr0 = (self.GDT, 0x1F), (self.IDT, 0x7FF), self.TABLES, 0x80000011
        cpu.eax, cpu.eip = 0x18, self.CODE
        machine.run(max_instructions=2)

    def load(self, case: Case) -> None:
        self.load_registers(case, case.eflags | VM)
        self.load_segments(0xF3)

    def expected(self, case: Case, outcome: Result) -> Result:
        """CPL is 3."""
        return (GP, [], 0) if case.form.privileged and not case.form.protected else outcome

    def vector(self, memory: np.ndarray) -> int | None:
        cpu = self.machine.cpu
        return None if cpu.eflags & VM else cpu.eip - self.CODE


_UC_GENERAL, _UC_SEGMENTS = ([getattr(uc_x86, f"UC_X86_REG_{name.upper()}") for name in names]
                             for names in (REGISTERS, SEGMENTS))


class Pair:
    """Unicorn in real mode and two worlds of pvfast, with equal memories."""

    def __init__(self, seed: int) -> None:
        content = np.random.default_rng(seed).integers(0, 256, SPACE, dtype=np.uint8)
        content[:0x400] = np.frombuffer(b"".join(struct.pack("<HH", n, HANDLERS) for n in range(256)), dtype=np.uint8)
        self.memory = content
        self.worlds = RealWorld(content.tobytes()), V86World(content.tobytes())
        self.tried: Counter[Form] = Counter()
        self.completed: Counter[Form] = Counter()
        self.start()

    def start(self) -> None:
        """A new Unicorn: after a fault, the next one would count as a double fault."""
        self.uc = unicorn.Uc(unicorn.UC_ARCH_X86, unicorn.UC_MODE_16)
        self.uc.mem_map_ptr(0, SPACE, unicorn.UC_PROT_ALL, self.memory.ctypes.data)
        self.uc.hook_add(unicorn.UC_HOOK_INTR, self.interrupt)
        self.uc.hook_add(unicorn.UC_HOOK_INSN_INVALID, self.invalid)

    def interrupt(self, uc: unicorn.Uc, vector: int, _user: object) -> None:
        self.vector = vector
        uc.emu_stop()

    def invalid(self, _uc: unicorn.Uc, _user: object) -> bool:
        self.vector = 6
        return False

    def store(self, address: int, data: bytes) -> None:
        self.memory[address:address + len(data)] = np.frombuffer(data, dtype=np.uint8)
        for world in self.worlds:
            world.machine.write(address, data)

    def run(self, case: Case) -> list[str]:
        """Run a case everywhere; what differs."""
        for address, data in case.patches:
            self.store(address, data)
        at = linear("cs", case.eip)
        kept = self.memory[at:at + 16].tobytes()
        self.store(at, case.code)
        if case.reference != case.code:
            self.memory[at:at + len(case.reference)] = np.frombuffer(case.reference, dtype=np.uint8)
        expected = self.run_unicorn(case, at)
        actual = [world.run(case, self.memory) for world in self.worlds]
        self.store(at, kept)
        self.tried[case.form] += 1
        self.completed[case.form] += expected[0] is None
        return [f"{world.name}: {difference}" for world, outcome in zip(self.worlds, actual, strict=True)
                for difference in self.compare(case, world, world.expected(case, expected), outcome)]

    def compare(self, case: Case, world: RealWorld, expected: Result, actual: Result) -> list[str]:
        found = []
        if expected[0] != actual[0]:
            found.append(f"vector {expected[0]} expected, not {actual[0]}")
        elif expected[0] is None:
            mask = world.compared_flags & ~case.form.undefined
            for name, a, b in zip((*REGISTERS, *SEGMENTS, "eip"), expected[1], actual[1], strict=True):
                if a != b:
                    found.append(f"{name} {a:#x} expected, not {b:#x}")
            if (expected[2] ^ actual[2]) & mask:
                found.append(f"eflags {expected[2] & mask:#x} expected, not {actual[2] & mask:#x}")
        if not np.array_equal(self.memory.view(np.uint64), world.ram.view(np.uint64)):
            where = np.flatnonzero(self.memory != world.ram)
            found.append(f"memory at {int(where[0]):#x} ({where.size} bytes)")
            world.machine.write(0, self.memory.tobytes())
        return found

    def run_unicorn(self, case: Case, at: int) -> Result:
        self.uc.ctl_remove_cache(at, at + 16)
        self.uc.reg_write_batch([*zip(_UC_SEGMENTS, SEGMENTS.values(), strict=True),
                                 *zip(_UC_GENERAL, case.registers, strict=True),
                                 (uc_x86.UC_X86_REG_EFLAGS, case.eflags)])
        self.vector: int | str | None = None
        try:
            if case.iterates:
                self.uc.emu_start(at, at + len(case.code))
            else:
                self.uc.emu_start(at, NOWHERE, count=1)
        except unicorn.UcError as error:
            self.vector = self.vector if self.vector is not None else str(error)
        values = list(self.uc.reg_read_batch([*_UC_GENERAL, *_UC_SEGMENTS, uc_x86.UC_X86_REG_EIP,
                                              uc_x86.UC_X86_REG_EFLAGS]))
        if self.vector is not None:
            self.start()
        return self.vector, values[:-1], values[-1]


def run(seed: int, cases_per_row: int, forms: tuple[Form, ...] = COMPARED) -> tuple[Pair, list[str]]:
    """So many cases of every row; the pair that ran them, and the differences."""
    pair = Pair(seed)
    found = []
    for form in forms:
        for number in range(cases_per_row):
            case = Maker(seed, number, form).make()
            if differences := pair.run(case):
                found.append(f"{case}: {'; '.join(differences)}")
    return pair, found
