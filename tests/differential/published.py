"""Cases that others wrote: Valgrind's none/tests/x86/*.def, made into programs.

Enters: the lines of a .def file. Leaves: `Published`: a Case, and what its results should be. Next: test_published.py.

A line is `insn presets : arguments => results`, e.g. `adcb eflags[0x1,0x0] : imm8[12] al.ub[34] => 1.ub[46]`; result
`1.` is argument 1 afterwards. What registers stand for `r32`, and what the flags are before, is as in Valgrind's
gen_insn_test.pl. Programs load their state from the data window and store what came of it there, so that any runner
can run them; the system's assembler makes the bytes.
"""
from __future__ import annotations

import re
import struct
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from .builder import DATA, INITIAL_FXSAVE, WINDOW
from .cases import Case
from .outcome import Outcome

CASE_BYTES = 0x400
RESULTS = DATA + 0x200
STACK_TOP = 0x8000
FORMATS = {"sb": "b", "ub": "B", "sw": "h", "uw": "H", "sd": "i", "ud": "I", "sq": "q", "uq": "Q", "ps": "f", "pd": "d"}
SIZES = {"r8": 1, "r16": 2, "r32": 4, "m8": 1, "m16": 2, "m32": 4, "m64": 8, "m128": 16, "mm": 8, "xmm": 16,
         "eflags": 4, "fpucw": 2, "fpusw": 2}
LETTERS = "abcd"
CLOSE = 1.5 * 2 ** -12
"""Valgrind's relative tolerance of floating-point results."""

_LINE = re.compile(r"(\S+)\s+(?:(\S+(?:\s+\S+)*)\s+:\s+)?((?:\S+\s+)*?)(?:=>\s+(\S+(?:\s+\S+)*))?\s*$")
_TERM = re.compile(r"(\w+)(?:\.(\w\w))?\[([^\]]+)\]$")
_GENERAL = re.compile(r"(e?)([abcd])([lhx])$")


def general_type(name: str) -> str | None:
    """r8, r16 or r32 of a register by name."""
    if match := _GENERAL.match(name):
        return "r32" if match[1] else "r16" if match[3] == "x" else "r8"
    return None


def pack(subtype: str, values: list[str]) -> bytes:
    kind = FORMATS[subtype]
    if kind in "fd":
        return struct.pack(f"<{len(values)}{kind}", *map(float, values))
    mask = (1 << 8 * struct.calcsize(kind)) - 1
    return struct.pack(f"<{len(values)}{kind.upper()}", *(int(value, 0) & mask for value in values))


@dataclass
class Term:
    """`al.ub[34]`: a register, a kind of operand, or flags; `address`: of its value in the data window."""

    name: str
    subtype: str
    values: list[str]
    register: str = ""
    address: int = 0

    @classmethod
    def parse(cls, text: str) -> Term:
        match = _TERM.match(text)
        if not match:
            raise ValueError(f"not a term: {text}")
        return cls(match[1], match[2] or "", match[3].split(","))

    @property
    def type(self) -> str:
        return "st" if re.match(r"st\d", self.name) else general_type(self.name) or self.name

    @property
    def masked(self) -> tuple[int, int]:
        mask, value = (int(text, 0) for text in self.values)
        return mask, value


@dataclass
class Published:
    """One line of a file."""

    name: str
    insn: str
    presets: list[Term]
    arguments: list[Term]
    results: list[Term]
    code: bytes = b""
    lines: list[str] = field(default_factory=list)

    def case(self, address: int) -> Case:
        patches = tuple((term.address, pack(term.subtype, term.values)) for term in self.presets + self.arguments
                        if term.subtype)
        return Case(0, address, self.code, (0, 0, 0, 0, STACK_TOP, 0, 0, 0), 2, patches, 0, 0, 0, (), self.code,
                    fxsave=INITIAL_FXSAVE)

    def wrong(self, outcome: Outcome) -> str:
        """What differs from the line's results, or an empty string."""
        if outcome.vector is not None:
            return f"vector {outcome.vector} at {outcome.eip:#x}"
        for term in self.results:
            at = term.address - WINDOW.start
            if term.type in ("eflags", "fpucw", "fpusw"):
                mask, wanted = term.masked
                actual = int.from_bytes(outcome.window[at:at + SIZES[term.type]], "little") & mask
                if actual != wanted:
                    return f"{term.type} & {mask:#x}: {wanted:#x} expected, not {actual:#x}"
                continue
            expected = pack(term.subtype, term.values)
            actual_bytes = outcome.window[at:at + len(expected)]
            if actual_bytes != expected and not close(term.subtype, expected, actual_bytes):
                return f"{term.name}.{term.subtype}: {expected.hex()} expected, not {actual_bytes.hex()}"
        return ""


def close(subtype: str, expected: bytes, actual: bytes) -> bool:
    if FORMATS[subtype] not in "fd":
        return False
    kind = f"<{len(expected) // struct.calcsize(FORMATS[subtype])}{FORMATS[subtype]}"
    return all(a == b or abs(a - b) < abs(a) * CLOSE
               for a, b in zip(struct.unpack(kind, actual), struct.unpack(kind, expected), strict=True))


def parse(name: str, line: str) -> Published:
    match = _LINE.match(f"{line} ")
    if not match:
        raise ValueError(f"{name}: {line}")
    presets, arguments, results = ([Term.parse(text) for text in (match[n] or "").split()] for n in (2, 3, 4))
    published = Published(name, match[1], presets, arguments, results)
    allocate(published)
    published.lines = program(published)
    return published


def allocate(published: Published) -> None:
    """Registers and addresses, in the order of gen_insn_test.pl."""
    general = [f"{letter}{half}" for half in "lh" for letter in LETTERS]    # al bl cl dl ah bh ch dh
    mmx, xmm = [f"mm{n}" for n in (6, 7, 0, 1, 2, 3, 4, 5)], [f"xmm{n}" for n in (4, 5, 0, 1, 2, 3, 6, 7)]
    terms = [term for term in published.presets + published.arguments if term.subtype]
    for term in terms:
        if match := _GENERAL.match(term.name):
            general.remove(match[2] + ("h" if match[3] == "h" else "l"))
            term.register = term.name
    for number, term in enumerate(terms):
        term.address = DATA + 16 * number
        if term.type == "st":
            term.register = term.name
        elif term.type in ("mm", "m64"):
            term.register = mmx.pop(0)
        elif term.type in ("xmm", "m128"):
            term.register = xmm.pop(0)
        elif not term.register:
            first = general.pop(0)
            term.register = {"8": first, "16": f"{first[0]}x", "32": f"e{first[0]}x"}[term.type[1:]]
    for number, term in enumerate(published.results):
        term.address = RESULTS + 16 * number
        if term.name.isdigit():
            argument = published.arguments[int(term.name)]
            term.name, term.register = argument.name, argument.register
            if argument.type.startswith("m") and argument.type != "mm":
                term.address = argument.address
        else:
            term.register = term.name


def program(published: Published) -> list[str]:
    """Load, execute, store: what gen_insn_test.pl writes, with addresses in place of operands."""
    lines = ["fninit"] if uses_x87(published) else []
    loads = {"r8": "movb", "r16": "movw", "r32": "movl", "mm": "movq", "xmm": "movups"}
    floats: dict[int, Term] = {}
    for term in published.presets + published.arguments:
        if term.type in loads:
            lines.append(f"{loads[term.type]} {term.address:#x}, %{term.register}")
        elif term.type == "st":
            floats[int(term.name[2:])] = term
    for number in reversed(range(max(floats, default=-1) + 1)):
        lines.append(f"fld{'s' if floats[number].subtype == 'ps' else 'l'} {floats[number].address:#x}"
                     if number in floats else "fldz")
    lines += set_flags(published)
    lines.append(f"{published.insn} {', '.join(map(assembled, published.arguments))}")
    floats = {}
    for term in published.results:
        if term.type in loads:
            lines.append(f"{loads[term.type]} %{term.register}, {term.address:#x}")
        elif term.type == "st":
            floats[int(term.name[2:])] = term
        elif term.type == "eflags":
            lines += ["pushfl", f"popl {term.address:#x}"]
        elif term.type in ("fpucw", "fpusw"):
            lines.append(f"f{'st' + term.type[3:]} {term.address:#x}")
    for number in range(max(floats, default=-1) + 1):
        lines.append(f"fstp{'s' if floats[number].subtype == 'ps' else 'l'} {floats[number].address:#x}"
                     if number in floats else "fincstp")
    return lines


def uses_x87(published: Published) -> bool:
    terms = published.presets + published.arguments + published.results
    return published.insn.startswith("f") or any(term.type in ("st", "fpucw", "fpusw") for term in terms)


def set_flags(published: Published) -> list[str]:
    """EFLAGS and the control word as preset; where only a result names them, the opposite of the result."""
    lines = []
    for kind, load in (("eflags", ["pushfl", "andl {0}, (%esp)", "orl {1}, (%esp)", "popfl"]),
                       ("fpucw", ["subl $4, %esp", "fstcw (%esp)", "andw {0}, (%esp)", "orw {1}, (%esp)",
                                  "fldcw (%esp)", "addl $4, %esp"])):
        width = 0xFFFFFFFF if kind == "eflags" else 0xFFFF
        before = next((term.masked for term in published.presets if term.type == kind), None)
        after = next((term.masked for term in published.results if term.type == kind), None)
        if before or after:
            mask, value = before or (after[0], after[0] & ~after[1])
            lines += [line.format(f"${mask ^ width:#x}", f"${value:#x}") for line in load]
    return lines


def assembled(term: Term) -> str:
    """An argument in AT&T syntax."""
    if term.type.startswith("imm"):
        return f"${term.values[0]}"
    if term.type == "st":
        return f"%st({term.name[2:]})"
    return f"{term.address:#x}" if term.type.startswith("m") and term.type != "mm" else f"%{term.register}"


def assemble(cases: list[Published], folder: Path) -> None:
    """Fill in `code` of all, by one run of the assembler."""
    source = folder / "published.s"
    source.write_text("".join(f".balign {CASE_BYTES}, 0xcc\n" + "\n".join(case.lines) + f"\nend{number}: .byte 0xcc\n"
                              for number, case in enumerate(cases)))
    subprocess.run(["as", "--32", "-o", folder / "published.o", source], check=True)
    subprocess.run(["objcopy", "-O", "binary", "-j", ".text", folder / "published.o", folder / "published.bin"],
                   check=True)
    content = (folder / "published.bin").read_bytes()
    for number, case in enumerate(cases):
        case.code = content[number * CASE_BYTES:(number + 1) * CASE_BYTES].rstrip(b"\xcc")


def read(file: Path) -> Iterable[Published]:
    for number, line in enumerate(file.read_text().splitlines(), 1):
        if line.strip() and not line.startswith("#"):
            yield parse(f"{file.name}:{number} {line.split()[0]}", line)
