"""What is tried: rows alone and in sequences, from a seed.

Enters: a seed and a number. Leaves: `Case`, the same on every machine. Next: targets.py.

A single case is one row with one shape, maybe followed by an instruction that overwrites its flags (so that the
handler without flag stores runs) or by a branch. A sequence has 3 to 12 instructions, in which compares and branches,
and call-site pushes and pops, are frequent enough to be fused.
"""
from __future__ import annotations

import random
from dataclasses import dataclass

from pvfast.isa.form import Form

from .builder import INITIAL_FXSAVE, MOV_MEMORY, SHAPES, WINDOW, Program, row
from .differences import FAULTING, needs_host
from .encoder import EAX, EBP, EBX, ECX, EDI, EDX, ESI, ESP, Memory, encode
from .families import add
from .instructions import COMPARED, JUMP_SHORT, Choice

IN_SEQUENCES = tuple(form for form in COMPARED if form.raw not in FAULTING | {"hlt"})
SEQUENCED = tuple(form for form in IN_SEQUENCES if not needs_host(form))
HOST_SEQUENCES = 4
"""Every fourth sequence may use what only the host decides."""
JUMPS = [form for form in COMPARED if form.raw.startswith("jcc_")]
ARITHMETIC = [form for form in SEQUENCED if form.sem and form.writes]
PUSH, POP, RET = row("50+r", "PUSH r32"), row("58+r", "POP r32"), row("o32 C3", "RET")
CALL_MEMORY = row("FF /2", "CALL r/m32")
KILLERS = [row("39 /r", "CMP r/m32, r32"), row("85 /r", "TEST r/m32, r32"), row("3B /r", "CMP r32, r/m32")]
FUSED = [row(opcode, syntax) for opcode, syntax in (
    ("39 /r", "CMP r/m32, r32"), ("3B /r", "CMP r32, r/m32"), ("83 /7", "CMP r/m32, simm8"),
    ("81 /7", "CMP r/m32, imm32"), ("3D", "CMP EAX, imm32"), ("80 /7", "CMP r/m8, imm8"), ("85 /r", "TEST r/m32, r32"),
    ("F7 /0", "TEST r/m32, imm32"), ("83 /5", "SUB r/m32, simm8"), ("83 /0", "ADD r/m32, simm8"),
    ("83 /4", "AND r/m32, simm8"), ("48+r", "DEC r32"), ("40+r", "INC r32"), ("FF /1", "DEC r/m32"))]


@dataclass(frozen=True)
class Case:
    """A program ready to run; `end` is the address behind it.

    `undefined` flags are those at the end, `ever_undefined` those at any point, where a fault may end it.
    """

    number: int
    address: int
    code: bytes
    registers: tuple[int, ...]
    eflags: int
    patches: tuple[tuple[int, bytes], ...]
    pool_offset: int
    undefined: int
    ever_undefined: int
    forms: tuple[Form, ...]
    reference: bytes
    lands: bool = False                 # there is code in the data window
    fxsave: bytes = INITIAL_FXSAVE      # x87, MMX and SSE at the start, as FXSAVE stores them

    @property
    def end(self) -> int:
        return self.address + len(self.code)

    def window(self, content: bytes) -> bytearray:
        """What the windows hold at the start: a part of the pool, then the patches."""
        window = bytearray(content[self.pool_offset:self.pool_offset + len(WINDOW)])
        for address, data in self.patches:
            window[address - WINDOW.start:address - WINDOW.start + len(data)] = data
        return window


def add_call_site(program: Program) -> None:
    """`push; push; call *m` and `pop; pop`, as a 2.6.20 patch site has them; the callee returns at once."""
    rng = program.rng
    program.require_stack()
    first, second = rng.choice(((ECX, EDX), (rng.randrange(8), rng.randrange(8))))
    where = program.target(4)
    call = encode(CALL_MEMORY, rm=Memory(disp=where))
    back = encode(POP, reg=second) + encode(POP, reg=first) + encode(JUMP_SHORT, immediate=1)
    length = len(encode(PUSH, reg=first) + encode(PUSH, reg=second) + call + back)
    if program.stored or program.skips:
        length += len(encode(MOV_MEMORY[4], rm=Memory(disp=where)))
    program.require_memory(where, 4, program.here + length)
    program.emit(PUSH, encode(PUSH, reg=first), stack=-4, stores=True)
    program.emit(PUSH, encode(PUSH, reg=second), stack=-4, stores=True)
    program.emit(CALL_MEMORY, call, stores=True)
    program.emit(POP, encode(POP, reg=second), {second}, stack=4)
    program.emit(POP, encode(POP, reg=first), {first}, stack=4)
    program.emit(JUMP_SHORT, encode(JUMP_SHORT, immediate=1) + encode(RET))


def add_fused(program: Program) -> None:
    """An arithmetic instruction and the branch on its flags."""
    rng = program.rng
    shape = "register" if rng.random() < 0.7 else None
    reg = rng.randrange(8)
    form = rng.choice(FUSED if rng.random() < 0.7 else ARITHMETIC)     # what looks alike must not be fused
    if form.mnemonic not in ("CMP", "TEST") and reg == ESP:
        reg = EBX
    base = reg if form.mnemonic == "TEST" or rng.random() < 0.1 else rng.randrange(8)
    if form.mnemonic not in ("CMP", "TEST") and base == ESP:
        base = ESI
    if form.mnemonic == "CMP" and "r/m8" in form.operands and rng.random() < 0.7:
        shape = rng.choice(SHAPES[:4])
    add(program, form, Choice(shape=shape, reg=reg, base=base))
    add(program, rng.choice(JUMPS))


def add_flag_killer(program: Program) -> None:
    """An instruction behind which no flag of the one before can be seen."""
    rng = program.rng
    form = rng.choice(KILLERS)
    add(program, form, Choice(shape="register"))


def finish(program: Program, number: int) -> Case:
    program.close()
    reference = bytearray(program.code)
    for at, code in program.references:
        reference[at:at + len(code)] = code
    return Case(number, program.address, bytes(program.code), tuple(program.initial), program.eflags,
                tuple(program.patches), program.pool_offset, program.undefined, program.ever_undefined,
                tuple(program.forms), bytes(reference), bool(program.landings), program.fxsave)


def single(seed: int, number: int, address: int, form: Form, choice: Choice, dead: bool, jump: int | None) -> Case:
    """One row. `dead`: something behind it overwrites its flags; `jump`: a branch with that condition follows."""
    program = Program(random.Random(f"{seed}/{number}"), address)
    add(program, form, choice)
    if jump is not None:
        add(program, program.rng.choice([form for form in JUMPS if form.raw == f"jcc_{jump}"]))
    elif dead and form.raw not in FAULTING | {"hlt"}:
        add_flag_killer(program)
    return finish(program, number)


def sequence(seed: int, number: int, address: int) -> Case:
    """3 to 12 instructions."""
    rng = random.Random(f"{seed}/{number}")
    forms = SEQUENCED if number // 2 % HOST_SEQUENCES else IN_SEQUENCES
    program = Program(rng, address)
    for _ in range(rng.randrange(3, 13)):
        kind = rng.random()
        if kind < 0.2:
            add_fused(program)
        elif kind < 0.27:
            add_call_site(program)
        else:
            # Anything may write ESP, but seldom: what uses the stack has to load it again.
            reg = rng.choice((EAX, ECX, EDX, EBX, EBP, ESI, EDI)) if rng.random() < 0.9 else ESP
            add(program, rng.choice(forms), Choice(reg=reg))
        program.end_statement()
    return finish(program, number)
