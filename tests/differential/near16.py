"""Near branches with 16-bit operand size in 32-bit code: they clear the upper half of EIP (SDM 2 JMP, CALL, RET).

Enters: a Program and a Form. Leaves: the program, longer. Next: families.py. Each lands on a JMP below 64 KiB that
leads back.
"""
from __future__ import annotations

from pvfast.isa.form import Form

from .builder import SHAPES, Program, row
from .encoder import ESP, encode
from .instructions import Choice, operand

PUSH16 = row("68", "PUSH imm16")
RAW = ("call16", "call_rm16", "jmp_rm16", "ret16", "ret_i16")


def has(form: Form) -> bool:
    return form.raw in RAW or "rel16" in form.operands


def add(program: Program, form: Form, choice: Choice) -> None:
    program.require_defined(form.reads)
    if form.raw.startswith(("call", "ret")):
        program.require_stack()
    if "rel16" in form.operands:
        add_relative(program, form)
    elif form.raw.startswith("ret"):
        add_return(program, form)
    else:
        add_indirect(program, form, choice)


def add_relative(program: Program, form: Form) -> None:
    """Taken or not, what follows is next."""
    length = len(encode(form))
    where = program.landing(length)
    call = form.mnemonic == "CALL"
    program.emit(form, encode(form, immediate=where - (program.here + length)), stack=-2 if call else None, stores=call)


def add_return(program: Program, form: Form) -> None:
    immediate = program.rng.randrange(64) if form.operands else 0
    code = encode(form, immediate=immediate)
    where = program.landing(len(encode(PUSH16)) + len(code))
    program.emit(PUSH16, encode(PUSH16, immediate=where), stack=-2, stores=True)
    program.emit(form, code, stack=2 + immediate)


def add_indirect(program: Program, form: Form, choice: Choice) -> None:
    rng = program.rng
    shape = choice.shape or rng.choice(("register", *SHAPES))
    call = form.mnemonic == "CALL"
    if shape == "register":
        register = rng.choice((0, 1, 2, 3, 5, 6, 7)) if choice.base in (None, ESP) else choice.base
        code = encode(form, rm=register)
        # The register may have to be loaded after the landing is made, with a MOV of five bytes.
        load = 5 if register in program.used else 0
        where = program.landing(load + len(code))
        before = len(program.code)
        program.require(register, where | program.rng.getrandbits(16) << 16)
        program.code += b"\x90" * (load - (len(program.code) - before))
    else:
        at = program.target(2)
        memory = operand(program, at, shape, choice, set())
        code = encode(form, rm=memory)
        where = program.landing(program.stores_before(2) + len(code))
        program.require_memory(at, 2, where)
    program.emit(form, code, stack=-2 if call else None, stores=call)
