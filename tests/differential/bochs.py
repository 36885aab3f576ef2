"""Ring-0 behaviour against Bochs: one system instruction in a machine of plausible tables, and all that comes of it.

Enters: a seed. Leaves: `Case`s, what Bochs and pvfast make of them, and the differences. Next: test_bochs.py.
"""
from __future__ import annotations

import contextlib
import os
import pickle
import random
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.robustness.execution import Run
from tests.robustness.scenario import AM, GENERAL, NE, NX_ENABLE, PG, SEGMENTS, VM, Maker, Scenario

SERVER = Path(__file__).with_name("bochs_server.py")
SHIM = """
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
unsigned long long __isoc23_strtoull(const char *s, char **end, int base) { return strtoull(s, end, base); }
int __isoc23_sscanf(const char *s, const char *format, ...) {
    va_list list;
    va_start(list, format);
    int found = vsscanf(s, format, list);
    va_end(list);
    return found;
}
"""
"""The package wants two functions of glibc 2.38; older ones have them under other names."""
DIFFERENCES = (
    ("page tables", "Bochs has translated the address of the next instruction too when it stops"),
    ("descriptors", "here the accessed bit stays set, its page dirty, when a later check of the instruction faults"),
    ("SGDT, SIDT", "Bochs stores the limit before the base faults; here they are stored together or not at all"),
    ("CALL", "Bochs pushes before it checks the target's limit; SDM 2 has the check first"),
    ("POP of segment registers", "reads four bytes here, two in Bochs, with 32-bit operand size"),
    ("LAR", "the bits of the limit are undefined (SDM 2); zero here, the limit's in Bochs"),
    ("null selectors", "1-3 become 0 on a return to an outer level in Bochs"),
    ("ends of segments", "what wraps around faults here; implementation-specific (SDM 3:5.3): not tried"),
    ("real-mode frames", "Bochs and the SDM read the vector after pushing, here before: frames over it are not tried"),
    ("V86 and 16-bit TSS", "Bochs finds an interrupt redirection bitmap in it, here there is none: not tried"),
    ("order of reads", "of far pointers Bochs reads the selector first, which CR2 shows"),
    ("IRET in V86 mode", "to EIP beyond the limit: Bochs faults at the target, here IRET does: not tried"),
    ("VIP and VIF", "Bochs faults with IOPL 3 and, by PVI, in V86 mode too; SDM 3:2.3 does not: not tried"),
)
"""What differs, reviewed: what, and how."""
COMPARED = (*GENERAL, "eip", "eflags", "cr0", "cr2", "cr3", "cr4")
ATTRIBUTES = 0xF0FF
NULL = 0x10000
LOST = ("no memory", "halt", "status 11", "status 14")
"""Bochs found no memory, waits, crashed (it has no devices: any access to a port does that), or did not come back."""
DIED = "status 6"           # a triple fault, or a page table that leads to where no memory is
TF, RF, VIP = 0x100, 0x10000, 0x100000
IOPL, VME = 0x3000, 0x1
ARITHMETIC = 0x8D5          # flags that Bochs keeps elsewhere
PAGE_ACCESSED, PAGE_DIRTY = 0x20, 0x40
LIMIT = 0xF0000             # in the second half of a descriptor
TSS32 = 0x89
VECTORS_END = 0x440         # in real mode, and some room for a frame
NESTED = 4
FAR_FRAME = 8               # bytes
CR4_BITS = 0xBF             # VME PVI TSD DE PSE PAE PGE


def inside(offset: int, wide: bool) -> int:
    """An offset that is neither near the ends of its segment, where accesses may wrap around, nor in Bochs's APIC."""
    offset &= 0xFFFFFFFF if wide else 0xFFFF
    return 0x40 if offset < 0x40 or offset > (0xFFFFFFB0 if wide else 0xFFB0) or offset >> 20 == 0xFEE else offset


@dataclass
class Case:
    """One instruction, of INSTRUCTIONS, in a machine."""

    scenario: Scenario
    code: bytes
    instruction: str


class CaseMaker(Maker):
    """A hostile machine without devices, and one instruction at EIP whose operands lead into its tables."""

    sizes = (16, 64)

    def case(self) -> Case:
        rng = self.rng
        scenario = self.make()
        scenario.rom, scenario.mmio, scenario.ports = [], [], []
        scenario.wild = scenario.hypervisor = False
        scenario.timer = scenario.interrupt = None
        scenario.prologue = []
        scenario.registers["cr4"] &= CR4_BITS
        scenario.registers["eflags"] &= ~(TF | RF)
        if (self.v86 and not scenario.registers["cr4"] & VME) or scenario.registers["eflags"] & IOPL == IOPL:
            scenario.registers["eflags"] &= ~VIP
        if self.v86:
            scenario.segments["tr"] = (*scenario.segments["tr"][:3], TSS32)
        if self.real:
            scenario.segments["cs"] = (*scenario.segments["cs"][:3], 0x93)
        wide = not (self.real or self.v86) and scenario.segments["cs"][3] & 0x4000 != 0
        scenario.registers["cr0"] |= NE
        if self.pae and self.chance(0.5):
            scenario.prologue.append(NX_ENABLE)
        for register in ("esp", "ebp", "esi", "edi"):
            scenario.registers[register] = inside(scenario.registers[register], wide)
        name = rng.choice((*INSTRUCTIONS, *OFTEN))
        if name.startswith("pop "):     # four bytes or two have to be aligned
            scenario.registers["cr0"] &= ~AM
        code = INSTRUCTIONS[name](self, wide)
        self.write((scenario.segments["cs"][1] + scenario.registers["eip"]) % scenario.ram,
                   code + (SETZ if name in ZF_SETTERS else b"") + NOPS)
        return Case(scenario, code, name)

    # --- Operands -------------------------------------------------------------------------------------------------

    def far_pointer(self, wide: bool) -> bytes:
        offset = self.rng.choice(self.codes) if self.chance(0.9) else self.value()
        return (offset & (0xFFFFFFFF if wide else 0xFFFF)).to_bytes(4 if wide else 2, "little") + \
            self.rng.choice(self.selectors).to_bytes(2, "little")

    def memory(self, wide: bool, reg: int, content: bytes = b"") -> bytes:
        """ModRM and displacement of an operand that holds `content`, in DS."""
        address = self.place() + self.rng.choice((0x20, 0x100, 0xFFE, 0xFFC, 0xFFD)) if self.chance(0.8) else \
            self.value()
        base = self.made.segments["ds"][1]
        offset = inside(address - base, wide)
        if content and address + len(content) <= self.made.ram:
            self.made.memory.append((address, content))
        if wide:
            return bytes([reg << 3 | 5]) + offset.to_bytes(4, "little")
        return bytes([reg << 3 | 6]) + (offset & 0xFFFF).to_bytes(2, "little")

    def selector(self, register: int = 0) -> bytes:
        """ModRM of a register that gets a selector."""
        self.made.registers[GENERAL[register]] = self.rng.choice((*self.selectors, 0, 3)) | self.rng.choice(
            (0, 0, 0, 1, 2, 3, 4, 0xFFFF0000))
        return bytes([0xC0 | register])


Encoder = Callable[[CaseMaker, bool], bytes]


def system(code: str, reg: int | None = None, content: int = 0, far: bool = False, to_register: bool = False,
           immediate: int = 0) -> Encoder:
    """An instruction with a memory operand, a far pointer in it, or a selector in a register."""
    def make(maker: CaseMaker, wide: bool) -> bytes:
        prefix = b"\x66" if maker.chance(0.2) else b""
        size = wide != bool(prefix)
        made = prefix + bytes.fromhex(code)
        number = maker.rng.randrange(8) if reg is None else reg
        if to_register:
            made += bytes([maker.selector()[0] | number << 3])
        elif far:
            made += maker.memory(wide, number, maker.far_pointer(size))
        elif content:
            made += maker.memory(wide, number, maker.rng.randbytes(content))
        return made + maker.rng.randbytes(immediate)
    return make


def far_direct(code: str) -> Encoder:
    def make(maker: CaseMaker, wide: bool) -> bytes:
        prefix = b"\x66" if maker.chance(0.2) else b""
        return prefix + bytes.fromhex(code) + maker.far_pointer(wide != bool(prefix))
    return make


def stack(code: str, kind: str) -> Encoder:
    """An instruction that returns: its frame is made of selectors and addresses."""
    def make(maker: CaseMaker, wide: bool) -> bytes:
        rng = maker.rng
        prefix = b"\x66" if maker.chance(0.2) and not (maker.v86 and kind == "iret") else b""
        size = 4 if wide != bool(prefix) else 2
        words = [rng.choice(maker.codes), rng.choice(maker.selectors)]
        if not wide:
            words[0] &= 0xFFFF
        if kind == "iret":
            words.append(maker.flags() & ~(TF | VIP) | (VM if maker.chance(0.15) else 0))
        words += [maker.stack, rng.choice(maker.selectors), *(rng.choice(maker.selectors) for _ in range(4))]
        top = maker.made.segments["ss"][1] + maker.made.registers["esp"] & 0xFFFFFFFF
        content = b"".join((word & (1 << 8 * size) - 1).to_bytes(size, "little") for word in words)
        if top + len(content) <= maker.made.ram:
            maker.made.memory.append((top, content))
        return prefix + bytes.fromhex(code) + (b"\x08\x00" if code in ("ca", "c2") else b"")
    return make


def control(code: str) -> Encoder:
    """MOV to a control or debug register."""
    def make(maker: CaseMaker, wide: bool) -> bytes:
        number = maker.rng.choice((0, 0, 2, 3, 4, 4))
        registers = maker.made.registers
        value = {0: registers["cr0"] ^ maker.rng.choice((1, PG, 0x10000, 0x40000, 8, 0)),
                 3: registers["cr3"], 4: registers["cr4"] ^ maker.rng.choice((0x10, 0x20, 0x80, 4, 1))}.get(
                     number, maker.value())
        registers["eax"] = value & 0xFFFFFFFF
        return bytes.fromhex(code) + bytes([0xC0 | number << 3])
    return make


INSTRUCTIONS: dict[str, Encoder] = {
    "mov sreg": system("8e", to_register=True), "lar": system("0f02", 1, to_register=True),
    "lsl": system("0f03", 1, to_register=True), "verr": system("0f00", 4, to_register=True),
    "verw": system("0f00", 5, to_register=True), "arpl": system("63", 2, to_register=True),
    "lldt": system("0f00", 2, to_register=True), "ltr": system("0f00", 3, to_register=True),
    "sldt": system("0f00", 0, to_register=True), "str": system("0f00", 1, to_register=True),
    "smsw": system("0f01", 4, to_register=True),
    "lds": system("c5", far=True), "les": system("c4", far=True), "lss": system("0fb2", far=True),
    "lfs": system("0fb4", far=True), "lgs": system("0fb5", far=True),
    "call far": system("ff", 3, far=True), "jmp far": system("ff", 5, far=True),
    "call ptr": far_direct("9a"), "jmp ptr": far_direct("ea"),
    "ret far": stack("cb", "ret"), "ret far imm": stack("ca", "ret"),
    "iret": stack("cf", "iret"), "popf": stack("9d", "ret"),
    "pop ds": stack("1f", "ret"), "pop ss": stack("17", "ret"), "pop fs": stack("0fa1", "ret"),
    "int": system("cd", immediate=1), "int 0x0d": system("cd0d"), "int3": system("cc"), "into": system("ce"),
    "ud2": system("0f0b"), "mov from memory": system("8b", 0, 4), "mov to memory": system("89", 0, 4),
    "add to memory": system("01", 0, 4), "inc memory": system("fe", 0, 1), "push": system("50"), "pop": system("58"),
    "push memory": system("ff", 6, 4), "pusha": system("60"), "popa": system("61"), "leave": system("c9"),
    "enter": system("c8100001"), "movs": system("a5"), "stos": system("ab"), "lgdt": system("0f01", 2, 6),
    "lidt": system("0f01", 3, 6), "sgdt": system("0f01", 0, 6), "sidt": system("0f01", 1, 6), "clts": system("0f06"),
    "invlpg": system("0f01", 7, 4), "mov to cr": control("0f22"), "mov from cr": control("0f20"), "cli": system("fa"),
    "sti": system("fb"), "pushf": system("9c"), "out": system("e6", immediate=1), "lmsw": system("0f01", 6, 2),
    "wbinvd": system("0f09"), "call near": system("e800000000"), "bound": system("62", 0, 8),
}
FAR_LOADS = ("lds", "les", "lss", "lfs", "lgs")
OFTEN = ("call ptr", "jmp ptr", "iret", "iret", "iret")
ZF_SETTERS = ("lar", "lsl", "verr", "verw", "arpl")
SETZ, NOPS = bytes.fromhex("0f94c2"), b"\x90" * 8
"""`sete %dl` shows ZF, which Bochs keeps elsewhere."""


# --- Both sides ------------------------------------------------------------------------------------------------------

class Bochs:
    """The server process. Raises `RuntimeError` with the reason when there is none."""

    def __init__(self) -> None:
        self.folder = tempfile.TemporaryDirectory(prefix="pvfast-")
        source, library = Path(self.folder.name, "shim.c"), Path(self.folder.name, "shim.so")
        source.write_text(SHIM)
        environment = dict(os.environ)
        with contextlib.suppress(OSError):
            if subprocess.run(["gcc", "-shared", "-fPIC", "-o", library, source], capture_output=True).returncode == 0:
                environment["LD_PRELOAD"] = str(library)
        self.command = [sys.executable, str(SERVER)]
        trial = subprocess.run(self.command, input=b"", capture_output=True, env=environment)
        if trial.returncode:
            self.folder.cleanup()
            raise RuntimeError(trial.stderr.decode().strip().splitlines()[-1])
        self.process = subprocess.Popen(self.command, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        stderr=subprocess.DEVNULL, env=environment)

    def ask(self, case: dict[str, Any]) -> dict[str, Any]:
        assert self.process.stdin and self.process.stdout
        pickle.dump(case, self.process.stdin)
        self.process.stdin.flush()
        return pickle.load(self.process.stdout)

    def close(self) -> None:
        self.process.kill()
        self.process.communicate()
        self.folder.cleanup()


def make(seed: int, number: int) -> Case:
    return CaseMaker(random.Random(f"bochs/{seed}/{number}")).case()


def differences(bochs: Bochs, case: Case) -> list[str] | None:
    """What differs, in words; None for a case that cannot be compared."""
    scenario = case.scenario
    run = Run(scenario)
    cpu = run.machine.cpu
    if cpu.eip > cpu.cs.limit or cpu.ss.attributes & NULL:
        return None
    if not cpu.cr0 & 1 and cpu.ss.base + (cpu.esp & 0xFFFF) < VECTORS_END:
        return None
    before = run.state()
    segments = {name: before[name] for name in SEGMENTS}
    for name, busy in (("tr", 2), ("ldtr", 0)):
        selector, base, limit, access = scenario.segments.get(name, (0, 0, 0, 0))
        segments[name] = selector, base, limit, access | busy
    registers = {name: before[name] for name in COMPARED}
    registers |= {"dr6": 0xFFFF0FF0, "dr7": 0x400, "efer": 0x800 if NX_ENABLE in scenario.prologue else 0}
    way = [cpu.eip]
    if case.instruction in ZF_SETTERS:
        way.append(cpu.eip + len(case.code))
    expected = bochs.ask({"ram": before["memory"], "registers": registers, "segments": segments,
                          "tables": {"gdtr": cpu.gdtr, "idtr": cpu.idtr}, "way": way})
    if expected["ended"] in LOST:
        return None
    for eip in way:
        if cpu.eip == eip:
            run.go([1])
    if expected["ended"] == DIED and run.ending == "BUDGET" and cpu.cr0 & PG:
        return None
    first = found = differing(case, expected, run)
    instructions = run.before["instructions"]
    for _ in range(NESTED):     # Bochs has fetched the next instruction, and delivered what that raised
        if not found or run.ending != "BUDGET" or run.go([1]).before["instructions"] != instructions:
            break
        found = differing(case, expected, run)
    return found and first


def differing(case: Case, expected: dict[str, Any], run: Run) -> list[str]:
    """What differs now, expected / actual."""
    if run.ending == "SHUTDOWN" or expected["ended"] != "step":
        same = run.ending == "SHUTDOWN" and expected["ended"] != "step"
        return [] if same else [f"ended: {expected['ended']} / {run.ending}"]
    after = run.state()
    for state in (expected, after):
        state["eflags"] &= ~(ARITHMETIC | RF)
        if case.instruction == "lar":
            state["ecx"] &= ~LIMIT
        if case.instruction in FAR_LOADS:
            state["cr2"] &= ~7
    found = [f"{name} {expected[name]:#x} / {after[name]:#x}" for name in COMPARED if expected[name] != after[name]]
    for name in SEGMENTS:
        (selector, *hidden, attributes), (their_selector, *their_hidden, their_attributes) = after[name], expected[name]
        hidden.append(attributes & ATTRIBUTES)
        their_hidden.append(their_attributes & ATTRIBUTES)
        if attributes & NULL:
            same = selector == their_selector or selector | their_selector <= 3
        else:
            same = selector == their_selector and hidden == their_hidden
        if not same:
            found.append(f"{name} {[hex(v) for v in expected[name]]} / {[hex(v) for v in after[name]]}")
    ours, theirs = after["memory"], expected["ram"]
    for at in range(len(ours)) if ours != theirs else ():
        if ours[at] != theirs[at] and not explained(case, run, at, ours[at], theirs[at]):
            found.append(f"memory {at:#x}: {theirs[at]:#x} / {ours[at]:#x}")
    return found


def explained(case: Case, run: Run, at: int, ours: int, theirs: int) -> bool:
    """Bytes of memory that the first five of DIFFERENCES are about."""
    scenario, cpu = case.scenario, run.machine.cpu
    tables = [base for base, _ in scenario.tables.values()] + [scenario.segments.get("ldtr", (0, 0))[1]]
    top = scenario.segments["ss"][1] + scenario.registers["esp"] & 0xFFFFFFFF
    paging, faults = bool(cpu.cr0 & PG), run.before["faults"]
    return ((paging and theirs == ours | PAGE_ACCESSED)
            or (ours == theirs | 1 and any((at - base) % 8 == 5 for base in tables))
            or (paging and ours == theirs | PAGE_DIRTY)
            or (faults > 0 and case.instruction in ("sgdt", "sidt"))
            or (faults > 0 and case.instruction.startswith("call ") and 0 < top - at <= FAR_FRAME)
            or (paging and ours == theirs | PAGE_ACCESSED and case.instruction.startswith("pop ")))
