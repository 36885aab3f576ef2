"""Segment registers, far transfers, questions about descriptors, and what ring 3 may not do.

Enters: a Program and a Form. Leaves: the program, longer. Next: families.py.

These run in ring 3 with the LDT of tables.py. Unicorn has no such table, and ring 0 would need another one: the host
alone says what is expected.
"""
from __future__ import annotations

from collections.abc import Callable

from pvfast.isa.form import Form

from .builder import SEGMENT_BASE, Program, row
from .differences import IN_RING_3
from .encoder import ESP, Memory, encode
from .instructions import Choice, image_of_flags, operand
from .outcome import SEGMENTS
from .tables import CODE, DATA_LIKE, LDT, SELECTORS, STACKS, selector

WILD = 0.04
"""How often a load gets any selector."""
PUSH, PUSH16 = row("68", "PUSH imm32"), row("68", "PUSH imm16")
LOAD, STORE = row("8B /r", "MOV r32, r/m32"), row("89 /r", "MOV r/m32, r32")
POPF = row("o32 9D", "POPFD")


def has(form: Form) -> bool:
    return form.raw in IN_RING_3


def add(program: Program, form: Form, choice: Choice) -> None:
    prefix = next((name for name in ADDERS if form.raw.startswith(name)), None)
    if prefix is None:
        add_privileged(program, form, choice)
    else:
        ADDERS[prefix](program, form, choice)


def wild(program: Program) -> int:
    """Any selector: of the LDT, null, or behind the end of a table. Between them the host's own GDT has its own."""
    rng = program.rng
    rpl = rng.randrange(4)
    return rng.choice((selector(rng.randrange(len(LDT))) & ~3 | rpl, rpl,
                       rng.randrange(len(LDT), 0x2000) << 3 | 4 | rpl, rng.randrange(0x10, 0x2000) << 3 | rpl))


def selector_for(program: Program, segment: str) -> int:
    """One that the segment register takes, for the most part. Bases stay as they were: addresses were made for them."""
    rng = program.rng
    home = SELECTORS[SEGMENTS.index(segment)]
    if rng.random() < WILD:
        wanted = wild(program)
        entry = wanted >> 3
        other = wanted & 4 and entry < len(LDT) and LDT[entry].base != LDT[home >> 3].base
        return home if other else wanted
    if segment in ("fs", "gs"):
        return home
    return rng.choice((home, home, home, home, selector(rng.choice(STACKS if segment == "ss" else DATA_LIKE))))


def use(program: Program, segment: str) -> None:
    """Now and then a load or store through the segment shows what was loaded with it."""
    rng = program.rng
    if segment == "ss" or rng.random() < 0.5:
        return
    form = rng.choice((LOAD, LOAD, STORE))
    memory = Memory(disp=program.target(4) - SEGMENT_BASE.get(segment, 0), segment=segment)
    reg = rng.choice((0, 1, 2, 3, 5, 6, 7))
    program.emit(form, encode(form, reg=reg, rm=memory), {reg} if form is LOAD else (), stores=form is STORE)


# --- Loads and stores of segment registers ----------------------------------------------------------------------------

def add_move_to(program: Program, form: Form, choice: Choice) -> None:
    rng = program.rng
    segment = rng.choice(("es", "ss", "ds", "fs", "gs")) if rng.random() < 0.95 else "cs"     # CS: #UD
    wanted = selector_for(program, segment)
    if choice.shape == "register" or (choice.shape is None and rng.random() < 0.5):
        rm: int | Memory = rng.choice((0, 1, 2, 3, 5, 6, 7)) if choice.base in (None, ESP) else choice.base
        program.require(rm, rng.getrandbits(16) << 16 | wanted)
    else:
        where = program.target(2)
        rm = operand(program, where, choice.shape or "absolute", choice, set())
        program.require_memory(where, 2, wanted)
    program.emit(form, encode(form, reg=SEGMENTS.index(segment), rm=rm))
    use(program, segment)


def add_move_from(program: Program, form: Form, choice: Choice) -> None:
    rng = program.rng
    register = choice.shape == "register" or (choice.shape is None and rng.random() < 0.5)
    if register:
        rm: int | Memory = rng.randrange(8) if choice.base is None else choice.base
    else:
        rm = operand(program, program.target(4), choice.shape or "base", choice, set())
    program.emit(form, encode(form, reg=rng.randrange(6), rm=rm), {rm} if register else (), stores=not register)


def add_push(program: Program, form: Form, _choice: Choice) -> None:
    program.require_stack()
    program.emit(form, encode(form), stack=-2 if narrow(form) else -4, stores=True)


def add_pop(program: Program, form: Form, _choice: Choice) -> None:
    program.require_stack()
    segment = form.operands[0].lower()
    wanted = selector_for(program, segment)
    push, bytes_pushed = (PUSH16, 2) if narrow(form) else (PUSH, 4)
    program.emit(push, encode(push, immediate=wanted | program.rng.getrandbits(16) << 16), stack=-bytes_pushed,
                 stores=True)
    program.emit(form, encode(form), stack=bytes_pushed)
    use(program, segment)


def add_load_pointer(program: Program, form: Form, choice: Choice) -> None:
    """LDS and its like."""
    segment = form.mnemonic[1:].lower()
    where = program.target(6)
    memory = operand(program, where, memory_shape(program, choice), choice, set())
    offset_bytes = 2 if narrow(form) else 4
    program.require_memory(where + offset_bytes, 2, selector_for(program, segment))
    reg = program.rng.choice((0, 1, 2, 3, 5, 6, 7)) if choice.reg in (None, ESP) else choice.reg
    program.emit(form, encode(form, reg=reg, rm=memory), {reg})
    use(program, segment)


# --- Questions --------------------------------------------------------------------------------------------------------

def add_question(program: Program, form: Form, choice: Choice) -> None:
    """LAR, LSL, VERR, VERW."""
    rng = program.rng
    if choice.shape == "register" or (choice.shape is None and rng.random() < 0.5):
        rm: int | Memory = rng.randrange(8) if choice.base in (None, ESP) else choice.base
        program.require(rm, wild(program))
    else:
        where = program.target(2)
        rm = operand(program, where, choice.shape or "absolute", choice, set())
        program.require_memory(where, 2, wild(program))
    reg = rng.choice((0, 1, 2, 3, 5, 6, 7)) if choice.reg is None else choice.reg
    program.emit(form, encode(form, reg=reg, rm=rm), {reg} if form.has_modrm and "r" in form.opcode[-2:] else ())


# --- Far transfers within ring 3 --------------------------------------------------------------------------------------

def narrow(form: Form) -> bool:
    return form.opcode.startswith("o16 ")


def code_selector(program: Program, any_rpl: bool) -> int:
    rng = program.rng
    if rng.random() < WILD:
        return wild(program)
    return selector(rng.choice(CODE)) & ~3 | (rng.randrange(4) if any_rpl else 3)


def gap(program: Program) -> bytes:
    """Bytes that are never executed."""
    return b"\x0f\x0b" * program.rng.randrange(3)


def add_far(program: Program, form: Form, choice: Choice) -> None:
    """JMP and CALL to a pointer in the instruction or in memory."""
    call = form.raw.startswith("call")
    if call:
        program.require_stack()
    behind = gap(program)
    wanted = code_selector(program, any_rpl=True)
    offset_bytes = 2 if narrow(form) else 4
    direct = form.operands[0].startswith("ptr")
    where = program.target(6)
    memory = None if direct else operand(program, where, memory_shape(program, choice), choice, set())
    length = len(encode(form, rm=memory)) + len(behind)
    if narrow(form):
        length += 0 if direct else program.stores_before(offset_bytes + 2)
        target = program.landing(length)
    else:
        target = program.here + length + (0 if direct else program.stores_before(offset_bytes + 2))
    pointer = target | wanted << 8 * offset_bytes
    if not direct:
        program.require_memory(where, offset_bytes + 2, pointer)
    program.emit(form, encode(form, rm=memory, immediate=pointer) + behind, stack=-2 * offset_bytes if call else None,
                 stores=call)


def add_far_return(program: Program, form: Form, _choice: Choice) -> None:
    """RETF to a pointer pushed before."""
    program.require_stack()
    immediate = program.rng.randrange(64) if form.operands else 0
    code = encode(form, immediate=immediate) + gap(program)
    return_to(program, form, code, [], immediate)


def add_iret(program: Program, form: Form, _choice: Choice) -> None:
    """IRET within ring 3. NT is cleared first: it would ask for another task."""
    program.require_stack()
    if any(used.raw.startswith(("popf", "iret")) for used in program.forms):
        program.emit(PUSH, encode(PUSH, immediate=2), stack=-4, stores=True)
        program.emit(POPF, encode(POPF), stack=4, undefined=0)
    return_to(program, form, encode(form) + gap(program), [image_of_flags(program.rng)], 0)


def return_to(program: Program, form: Form, code: bytes, above: list[int], immediate: int) -> None:
    """Push what the instruction pops, `above` first, then CS and EIP."""
    push, size = (PUSH16, 2) if narrow(form) else (PUSH, 4)
    pushed = [*above, code_selector(program, any_rpl=False)]
    length = len(encode(push)) * (len(pushed) + 1) + len(code)
    target = program.landing(length) if narrow(form) else program.here + length
    for content in (*pushed, target):
        program.emit(push, encode(push, immediate=content), stack=-size, stores=True)
    program.emit(form, code, stack=size * (len(pushed) + 1) + immediate, undefined=0)


# --- What ring 3 may not do -------------------------------------------------------------------------------------------

def memory_shape(program: Program, choice: Choice) -> str:
    if choice.shape in (None, "register"):
        return program.rng.choice(("absolute", "base", "index", "base+index"))
    return choice.shape


def add_privileged(program: Program, form: Form, choice: Choice) -> None:
    """#GP(0), whatever the operands."""
    rng = program.rng
    reg = rng.choice((0, 2, 3, 4)) if "CR" in form.operands else rng.choice((0, 1, 2, 3, 6, 7))
    rm: int | Memory = rng.randrange(8)
    if form.operands[:1] == ("m",) or (form.operands[:1] == ("r/m16",) and choice.shape not in (None, "register")):
        rm = operand(program, program.target(8), memory_shape(program, choice), choice, set())
    program.emit(form, encode(form, reg=reg, rm=rm, immediate=rng.getrandbits(8)))


ADDERS: dict[str, Callable[[Program, Form, Choice], None]] = {
    "mov_to_sreg": add_move_to, "mov_from_sreg": add_move_from, "push_": add_push, "pop_": add_pop,
    "les": add_load_pointer, "lds": add_load_pointer, "lss": add_load_pointer, "lfs": add_load_pointer,
    "lgs": add_load_pointer, "lar": add_question, "lsl": add_question, "verr": add_question, "verw": add_question,
    "jmp_far": add_far, "call_far": add_far, "ret_far": add_far_return, "iret": add_iret}
"""By the start of the raw handler's name; the rest are privileged."""
