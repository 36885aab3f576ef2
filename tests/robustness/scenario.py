"""A hostile machine, from a seed: memory, tables, registers, devices, and how long it runs.

Enters: a random generator, or JSON. Leaves: `Scenario`, plain data. Next: execution.py.

Tables are plausible in most of their bits, so that what they lead to is reached, and random in the others.
"""
from __future__ import annotations

import dataclasses
import json
import random
import struct
from dataclasses import dataclass, field

from . import bytecode

PAGE = 0x1000
SELECTORS = 32                      # descriptors of a GDT
USUAL = {0x08: 0x9B, 0x10: 0x93, 0x1B: 0xFB, 0x23: 0xF3}
"""Flat code and data of rings 0 and 3, there in most GDTs: selector to access byte."""
GENERAL = ("eax", "ecx", "edx", "ebx", "esp", "ebp", "esi", "edi")
SEGMENTS = ("es", "cs", "ss", "ds", "fs", "gs")
DEFINED_FLAGS = 0x3F7FD5
VM = 0x20000
PE, AM, WP, NE, PG = 1, 0x40000, 0x10000, 0x20, 0x80000000
PSE, PAE = 0x10, 0x20
NX_ENABLE = bytes.fromhex("b9800000c0b80008000031d20f30")      # mov $EFER, %ecx; mov $NXE, %eax; xor %edx, %edx; wrmsr
MSRS = (0x10, 0x174, 0x175, 0x176, 0x1B, 0x1D9, 0x200, 0x2FF, 0x277, 0xC0000080)


@dataclass
class Scenario:
    """Everything that decides a run. Addresses are physical."""

    ram: int
    memory: list[tuple[int, bytes]] = field(default_factory=list)
    registers: dict[str, int] = field(default_factory=dict)
    segments: dict[str, tuple[int, int, int, int]] = field(default_factory=dict)
    """Selector, base, limit, attributes; ldtr and tr are loaded from a descriptor made of them."""
    tables: dict[str, tuple[int, int]] = field(default_factory=dict)
    """Base and limit of gdtr and idtr."""
    prologue: list[bytes] = field(default_factory=list)
    """Ring-0 instructions that run one by one before all that is set; one that faults is skipped."""
    rom: list[tuple[int, int]] = field(default_factory=list)
    mmio: list[tuple[int, int]] = field(default_factory=list)
    ports: list[int] = field(default_factory=list)
    devices: int = 0
    """The seed of what they do."""
    wild: bool = False
    """Devices raise errors, stop the machine and change its registers too."""
    timer: tuple[int, int] | None = None
    """Cycles, vector."""
    interrupt: int | None = None
    hypervisor: bool = False
    budget: int = 100

    def to_json(self) -> str:
        return json.dumps(dataclasses.asdict(self), default=bytes.hex)

    @classmethod
    def from_json(cls, text: str) -> Scenario:
        made = cls(**json.loads(text))
        made.memory = [(address, bytes.fromhex(content)) for address, content in made.memory]
        made.prologue = [bytes.fromhex(code) for code in made.prologue]
        return made


def descriptor(base: int, limit: int, access: int, flags: int) -> bytes:
    """SDM 3:3.4.5."""
    return struct.pack("<HHBBBB", limit & 0xFFFF, base & 0xFFFF, base >> 16 & 0xFF, access,
                       flags << 4 | limit >> 16 & 0xF, base >> 24 & 0xFF)


def gate(selector: int, offset: int, access: int, parameters: int) -> bytes:
    """SDM 3:5.8.3, 3:6.11."""
    return struct.pack("<HHBBH", offset & 0xFFFF, selector, parameters, access, offset >> 16 & 0xFFFF)


class Maker:
    """Makes one scenario: first where things lie, then the values that lead there, then everything else."""

    sizes: tuple[int, ...] = (1, 3, 16, 16, 16, 64, 64, 256)
    """Of RAM, in pages."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        pages = rng.choice(self.sizes)
        self.made = Scenario(ram=pages * PAGE, devices=rng.getrandbits(32))
        self.pages = rng.sample(range(pages), pages)
        self.gdt, self.idt, self.tss, self.task, self.ldt, self.directory = (self.place() for _ in range(6))
        self.codes = [self.place() + rng.choice((0, 0, 1, 0x7F0, 0xFF8, rng.randrange(PAGE))) for _ in range(5)]
        self.start = self.codes.pop()
        self.stack = self.place() + rng.choice((0x800, 0x804, 0xFFE, 8))
        self.paging = rng.random() < 0.5
        self.pae = rng.random() < 0.3
        self.real = rng.random() < 0.15
        self.v86 = not self.real and rng.random() < 0.12
        self.selectors = [*USUAL, *USUAL] + [
            rng.randrange(SELECTORS) << 3 | rng.choice((0, 0, 3, 3, rng.randrange(8))) for _ in range(6)]
        self.regions()
        self.values = [0, 1, 8, 0xFFFFFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFF, 0x10000, self.made.ram, self.made.ram - 1,
                       self.made.ram - 8, self.gdt, self.idt, self.tss, self.ldt, self.directory, self.stack,
                       *self.codes, *self.selectors, *(start for start, _ in self.made.rom + self.made.mmio)]

    def chance(self, share: float) -> bool:
        return self.rng.random() < share

    def place(self) -> int:
        """A page of RAM, another one each time while there are enough."""
        self.pages.append(self.pages.pop(0))
        return self.pages[-1] * PAGE

    def value(self) -> int:
        rng = self.rng
        kind = rng.random()
        if kind < 0.6:
            return rng.choice(self.values) + rng.choice((0, 0, 0, -1, 4, -4, rng.randrange(64))) & 0xFFFFFFFF
        return rng.randrange(self.made.ram) if kind < 0.8 else rng.getrandbits(rng.choice((4, 8, 16, 32)))

    def write(self, address: int, content: bytes) -> None:
        """What reaches behind RAM is cut off."""
        if content[:self.made.ram - address]:
            self.made.memory.append((address, content[:self.made.ram - address]))

    def make(self) -> Scenario:
        rng, made = self.rng, self.made
        self.fill()
        for address in (*self.codes, self.start):
            self.write(address, bytecode.code(rng, rng.choice((4, 32, 200)), self.values))
        self.write(self.stack - 64 if self.stack >= 64 else 0, self.words(64))
        if self.chance(0.9):
            self.write(self.gdt, b"".join(self.descriptor(number) for number in range(SELECTORS)))
            self.write(self.ldt, b"".join(self.descriptor(number) for number in range(4)))
            self.write(self.idt, b"".join(self.idt_gate(vector) for vector in range(rng.choice((16, 32, 256)))))
            self.write(self.tss, self.task_state())
            self.write(self.task, self.task_state())
        if self.paging:
            self.page_tables()
        self.state()
        made.wild = self.chance(0.05)
        made.hypervisor = self.chance(0.08)
        if self.chance(0.2):
            made.timer = rng.choice((1, 3, 17, 100)), rng.choice((0, 8, 13, 0x20, 0xFF))
        if self.chance(0.2):
            made.interrupt = rng.randrange(256)
        made.budget = rng.choice((1, 10, 60, 60, 200, 200, 1000, 4000))
        return made

    def regions(self) -> None:
        """ROM and devices in whole pages of RAM, devices also behind it and of odd sizes."""
        rng, made = self.rng, self.made
        if self.chance(0.15):
            made.rom.append((self.place(), PAGE))
        if self.chance(0.25):
            place = rng.choice((self.place(), made.ram, 0xFEE00000, 0xFFFFF000)) if len(self.pages) > 1 else made.ram
            start = place + rng.choice((0, 0, 0x10, 0xFF0))
            made.mmio.append((start, rng.choice((1, 4, 0x10)) if start & 0xFFF else PAGE))
        made.ports = rng.sample(range(256), rng.choice((0, 0, 20))) + rng.choice(([], [0x3F8, 0xCFC]))

    def fill(self) -> None:
        rng, ram = self.rng, self.made.ram
        kind = rng.randrange(5)
        if kind == 0:
            self.write(0, rng.randbytes(ram))
        elif kind == 1:
            self.write(0, b"\x90" * ram)
        elif kind == 2:
            self.write(0, bytecode.valid(rng, 0x400) * (ram // 0x400))
        elif kind == 3:
            self.write(0, self.words(min(ram // 4, 0x1000)))

    def words(self, count: int) -> bytes:
        """Doublewords that look like addresses, selectors and flags."""
        return struct.pack(f"<{count}I", *self.rng.choices([self.value() for _ in range(64)], k=count))

    # --- Tables ---------------------------------------------------------------------------------------------------

    def descriptor(self, number: int) -> bytes:
        """Code, data, gates and system segments (SDM 3:3.4.5, 3.5)."""
        rng = self.rng
        kind = rng.random()
        level = rng.choice((0, 0, 0x60, 0x60, 0x20, 0x40))
        if number == 0:
            return bytes(8)
        if number <= len(USUAL) and self.chance(0.95):
            return descriptor(0, 0xFFFFF, list(USUAL.values())[number - 1], 0xC)
        if kind < 0.1:
            return rng.randbytes(8)
        if kind < 0.3:      # call, task, interrupt and trap gates
            return gate(rng.choice(self.selectors), rng.choice(self.codes),
                        rng.choice((0x84, 0x85, 0x8C, 0x8C, 0x86, 0x8F)) | level, rng.choice((0, 1, 3, 31)))
        if kind < 0.4:      # LDT, 16- and 32-bit TSS, available and busy
            access = rng.choice((0x82, 0x81, 0x83, 0x89, 0x89, 0x8B)) | level
            return descriptor(rng.choice((self.tss, self.task, self.task, self.ldt)),
                              rng.choice((0x2B, 0x67, 0x67, 0x1FFF)), access, 0)
        access = rng.choice((0x9A, 0x9A, 0x92, 0x92, 0x96, 0x9E, 0x98, 0x90)) | level | rng.randrange(2)
        if self.chance(0.04):
            access &= ~0x80
        if self.chance(0.7):
            return descriptor(0, 0xFFFFF, access, 0xC)
        return descriptor(rng.choice((0, 0x10, self.value())), rng.choice((0xFFFF, 0xFFF, 7, self.value())), access,
                          rng.choice((0, 4, 8, 0xC)))

    def idt_gate(self, vector: int) -> bytes:
        rng = self.rng
        if self.real:
            return struct.pack("<HH", rng.choice(self.codes) & 0xFFFF, rng.choice((0, 0, 0x10, 0xF000))) * 2
        if self.chance(0.05):
            return rng.randbytes(8)
        return gate(0x08 if self.chance(0.8) else rng.choice(self.selectors), rng.choice(self.codes),
                    rng.choice((0x8E, 0x8E, 0x8E, 0xEE, 0xEE, 0x8F, 0x8F, 0x86, 0x87, 0x85, 0x0E)), 0)

    def task_state(self) -> bytes:
        """A 32-bit TSS with stacks, a context and an I/O permission bitmap (SDM 3:7.2.1)."""
        rng = self.rng
        content = bytearray(self.words(26))
        for offset in (8, 16, 24, 72, 76, 80, 84, 88, 92, 96):
            content[offset:offset + 4] = rng.choice(self.selectors).to_bytes(4, "little")
        for offset in (8, 16, 24):      # SS0, SS1, SS2
            if self.chance(0.8):
                content[offset:offset + 4] = bytes([0x10, 0, 0, 0])
        content[4:8] = (self.stack + 0x400 & ~3).to_bytes(4, "little")
        content[28:32] = self.directory.to_bytes(4, "little")
        content[32:36] = rng.choice(self.codes).to_bytes(4, "little")
        content[36:40] = self.flags().to_bytes(4, "little")
        content[100:104] = struct.pack("<HH", rng.randrange(2), rng.choice((0x68, 0x88, 0x67, 0xFFFF)))
        return bytes(content) + rng.choice((b"\0" * 64, b"\xff" * 64, rng.randbytes(64)))

    def page_tables(self) -> None:
        """One to one in the main, the rest not present, aliased, large, of other rights, reserved or random."""
        rng, size = self.rng, 8 if self.pae else 4
        entries = PAGE // size
        table, pointers = self.place(), self.place()
        usual = self.entry(0)
        frames = [page * PAGE % self.made.ram | usual for page in range(entries)]
        for number in rng.sample(range(entries), entries // 32):
            frames[number] = self.entry(rng.choice((number * PAGE, number * PAGE, self.value())))
        directory = [self.entry(table)] * entries
        for number in rng.sample(range(1, entries), 8):
            directory[number] = rng.choice((0, self.entry(0) | 0x80, self.entry(self.value()),
                                            rng.getrandbits(8 * size)))
        form = "Q" if self.pae else "I"
        self.write(table, struct.pack(f"<{entries}{form}", *frames))
        self.write(self.directory, struct.pack(f"<{entries}{form}", *directory))
        if self.pae:
            self.write(pointers, struct.pack("<4Q", *(self.directory | rng.choice((1, 1, 1, 0, 0x1E7))
                                                      for _ in range(4))))
        self.made.registers["cr3"] = (pointers if self.pae else self.directory) | rng.choice((0, 0, 0x18, 0xFFF))

    def entry(self, frame: int) -> int:
        """A page-table entry (SDM 3:4.3, 4.4)."""
        rng = self.rng
        if self.chance(0.02):
            return rng.getrandbits(64 if self.pae else 32)
        bits = rng.choice((7, 7, 7, 7, 0x67, 0x27, 3, 5, 1, 0x107, 6))
        if self.pae and self.chance(0.1):
            bits |= rng.choice((1 << 63, 1 << 40, 1 << 36))
        return frame & 0xFFFFF000 | bits

    # --- Registers ------------------------------------------------------------------------------------------------

    def flags(self) -> int:
        rng = self.rng
        value = rng.getrandbits(32) & DEFINED_FLAGS & ~(VM | 0x4100) | 2
        if self.chance(0.1):
            value |= rng.choice((0x100, 0x4000, 0x10000))
        return value | VM if self.v86 else value

    def state(self) -> None:
        rng, made = self.rng, self.made
        registers = made.registers
        registers["cr4"] = rng.getrandbits(11) & ~(PSE | PAE) | rng.choice((0, PSE)) | (PAE if self.pae else 0)
        registers.setdefault("cr3", self.value())
        registers["cr0"] = (rng.getrandbits(32) & (AM | WP | NE | 0x0E) | (0 if self.real else PE)
                            | (PG if self.paging and not self.real else 0))
        if self.chance(0.7):
            registers["cr0"] &= ~0x0E
        registers["cr2"] = rng.getrandbits(32)
        made.tables["gdtr"] = (self.gdt, 0xFFFF if self.chance(0.5) else 8 * SELECTORS - 1 if self.chance(0.8) else
                                rng.randrange(256))
        made.tables["idtr"] = (0 if self.real and self.chance(0.5) else self.idt,
                               0x7FF if self.chance(0.8) else rng.choice((0x3FF, 0xFFFF, 0x70, 0)))
        level = rng.choice((0, 0, 0, 3, 3, 1, 2))
        for name in SEGMENTS:
            made.segments[name] = self.segment(name, level)
        made.segments["tr"] = (rng.randrange(1, SELECTORS) * 8, self.tss, rng.choice((0x67, 0x67, 0x2B, 0x2000)),
                               rng.choice((0x89, 0x89, 0x89, 0x81)))
        if self.chance(0.5):
            made.segments["ldtr"] = rng.randrange(1, SELECTORS) * 8, self.ldt, rng.choice((0x1F, 7, 0xFFF)), 0x82
        for name in GENERAL:
            registers[name] = self.value()
        if self.chance(0.8):
            registers["esp"] = self.stack - made.segments["ss"][1] & 0xFFFFFFFF
        if self.chance(0.2):
            registers["ecx"] = rng.randrange(8)
        registers["eflags"] = self.flags()
        registers["eip"] = self.start - made.segments["cs"][1] & 0xFFFFFFFF
        if self.chance(0.3):
            for number in rng.sample((0, 1, 2, 3, 6, 7), 3):
                load = rng.choice((self.value(), rng.choice(self.codes), rng.getrandbits(32)))
                made.prologue.append(b"\xb8" + load.to_bytes(4, "little") + bytes([0x0F, 0x23, 0xC0 | number << 3]))
        if self.pae and self.chance(0.7):
            made.prologue.append(NX_ENABLE)
        if self.chance(0.3):
            for msr in rng.sample(MSRS, 4):
                load = rng.choice((self.value(), rng.choice(self.codes), rng.choice(self.selectors)))
                made.prologue.append(b"\xb9" + msr.to_bytes(4, "little") + b"\xb8" + load.to_bytes(4, "little")
                                     + b"\x31\xd2\x0f\x30")

    def segment(self, name: str, level: int) -> tuple[int, int, int, int]:
        """Selector, base, limit and attributes: flat in half of the cases, else anything at all."""
        rng = self.rng
        kind = rng.random()
        selector = (0x08 if name == "cs" else 0x10) + (0x10 if level == 3 else 0) | level
        if self.chance(0.2):
            selector = rng.choice(self.selectors) & ~3 | level
        if self.real or self.v86:
            selector = rng.choice((0, 0, 0x10, 0x100, 0xFFFF, rng.getrandbits(16)))
            if name == "cs":
                selector = self.start >> 4 & 0xFF00 if self.chance(0.9) else selector
            return selector, selector << 4, 0xFFFF, 0x9B if name == "cs" and self.real else 0xF3 if self.v86 else 0x93
        default = (0x9B if name == "cs" else 0x93) | level << 5
        if kind < (0.85 if name in ("cs", "ss") else 0.75):
            return selector, 0, 0xFFFFFFFF, 0xC000 | default
        if name == "cs" and kind < 0.98:    # one that holds the code
            return selector, self.start & ~0xFFF, rng.choice((0xFFFF, 0xFFFF, 0xFFF, self.value())), \
                rng.choice((0, 0x4000)) | default
        if kind < 0.85:         # 16-bit
            return selector, rng.choice((0, 0, 0x10, self.value())), 0xFFFF, default
        if kind < 0.9:
            return selector, rng.choice((0, self.value())), rng.choice((self.made.ram - 1, 0xFFF, 0, self.value())), \
                rng.choice((0x4000, 0, 0xC000)) | default
        if kind < 0.95 or name == "cs":     # expand-down data, conforming or unreadable code
            return selector, 0, rng.choice((0xFFF, 0xFFFF, 0xFFFFFFFF)), \
                rng.choice((0x4000, 0)) | (0x98 | rng.choice((0, 2, 4, 6)) if name == "cs" else 0x97) | level << 5
        return rng.randrange(4), 0, 0, 0x10000


def make(seed: int, number: int) -> Scenario:
    """Case `number` of a seed."""
    return Maker(random.Random(f"robustness/{seed}/{number}")).make()
