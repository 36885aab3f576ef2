"""One instruction of a row, with whatever it needs before it: the only place that knows what instructions want.

Enters: a Program, a Form and a Choice. Leaves: the program, longer. Next: cases.py.
"""
from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from pvfast.isa.form import FLAGS, Form
from pvfast.isa.forms import FORMS

from .builder import (
    COUNTED,
    DATA,
    DATA_BYTES,
    MOV_MEMORY,
    MOV_REGISTER,
    SEGMENT_BASE,
    SHAPES,
    STACK,
    STACK_BYTES,
    Program,
    row,
    value,
)
from .differences import reason_not_compared
from .encoder import (
    EAX,
    EBP,
    EBX,
    ECX,
    EDI,
    EDX,
    ESI,
    ESP,
    LOCK,
    OPERAND_SIZE,
    REPNZ,
    REPZ,
    SEGMENT_PREFIX,
    Memory,
    encode,
)

COMPARED = tuple(form for form in FORMS if reason_not_compared(form) is None)

_MUL = {8: (EAX,), 16: (EAX, EDX), 32: (EAX, EDX)}
IMPLICIT = {"cmpxchg8b": (EAX, EDX), "xlat": (EAX,), "lahf": (EAX,), "cbw": (EAX,), "cwde": (EAX,), "cwd": (EDX,),
            "cdq": (EDX,), "salc": (EAX,),
            **dict.fromkeys(("aaa", "aas", "daa", "das", "aam", "aad"), (EAX,)),
            "loop": (ECX,), "loopz": (ECX,), "loopnz": (ECX,)}
"""Registers that raw handlers write beside their operands."""
REFERENCE = {(f"{opcode} /1", syntax): row(f"{opcode} /0", syntax) for opcode, syntax in (
    ("F6", "TEST r/m8, imm8"), ("F7", "TEST r/m16, imm16"), ("F7", "TEST r/m32, imm32"))} | {
    (f"0F 18 /{number}", "NOP r"): row("0F 18 /4", "NOP r/m") for number in range(4)}
"""Rows that Unicorn does not know (differences.py), and the ones of the same meaning."""
UNSYNCHRONISED = ("loopz", "loopnz", "cmpxchg8b")
"""Raw handlers for which Unicorn has to have its flags in order (differences.py)."""
STRINGS = ("movs", "stos", "lods", "cmps", "scas")
NOP2 = bytes([OPERAND_SIZE, 0x90])
LINUX_SYSTEM_CALL = 0x80
"""INT with this would be one on the host."""
RELATIVE = ("jmp", "call", "loop", "loopz", "loopnz", "jecxz")
PUSH_IMMEDIATE, TEST, JUMP_SHORT = row("68", "PUSH imm32"), row("85 /r", "TEST r/m32, r32"), row("EB", "JMP rel8")


@dataclass(frozen=True)
class Choice:
    """How one instruction is made; None fields are drawn."""

    shape: str | None = None        # "register" or one of SHAPES
    reg: int | None = None
    base: int | None = None
    index: int | None = None
    segment: str | None = None      # "default": no prefix


def add(program: Program, form: Form, choice: Choice = Choice()) -> None:
    """Append one instruction of a row, with whatever has to come before it."""
    program.require_defined(form.reads)
    if form.raw in UNSYNCHRONISED:
        program.references.append((len(program.code), encode(JUMP_SHORT)))
        program.code += NOP2
    kind = form.raw.rstrip("0123456789")
    if kind in STRINGS:
        add_string(program, form, kind)
    elif form.raw.startswith("jcc_") or form.raw in RELATIVE:
        add_relative(program, form)
    elif form.raw in SPECIAL:
        SPECIAL[form.raw](program, form)
    elif form.raw in ("call_rm", "jmp_rm"):
        add_indirect(program, form, choice)
    elif kind == "bound":
        add_bound(program, form, choice)
    elif kind in ("div", "idiv"):
        add_divide(program, form, choice)
    else:
        add_operands(program, form, choice)


def parent(number: int, size: int) -> int:
    """The 32-bit register that a register number of that size is part of."""
    return number & 3 if size == 8 else number


def sizes_of(form: Form) -> tuple[int, int]:
    """Widths of the r/m operand and of the register operand; 32 where there is none."""
    rm = next((o for o in form.operands if o.startswith(("r/m", "moffs", "m"))), "r/m32")
    reg = next((o for o in form.operands if o in ("r8", "r16", "r32")), "r32")
    digits = rm.lstrip("r/mofs")
    return int(digits) if digits.isdigit() else 32, int(reg[1:])


def immediate_of(program: Program, form: Form) -> int:
    rng = program.rng
    if form.mnemonic == "ENTER":
        return rng.randrange(0x100) | rng.choice((0, 0, 1, 2, 3, 5)) << 16
    if form.raw == "aam" and rng.random() < 0.9:
        return rng.randrange(1, 256)
    if form.sem in ("shld", "shrd") and "r/m16" in form.operands:
        return rng.randrange(17)            # more is undefined
    return value(rng)


def undefined_by(form: Form, immediate: int | None) -> int:
    """The row's undefined flags; less where the immediate says that the manual defines them."""
    undefined = form.undefined
    if form.sem in COUNTED and immediate is not None and "CL" not in form.operands and "imm8" in form.operands:
        count = immediate & 31
        if count == 0:
            return 0
        if count == 1 and form.sem not in ("shld", "shrd"):
            undefined &= ~FLAGS["o"]
        if count < sizes_of(form)[0] and form.sem in ("shl", "shr"):
            undefined &= ~FLAGS["c"]
    return undefined


def add_operands(program: Program, form: Form, choice: Choice) -> None:
    """The general case: a register, an r/m, an immediate."""
    rng = program.rng
    rm_size, reg_size = sizes_of(form)
    has_rm = any(o.startswith("r/m") for o in form.operands)
    moffs = any(o.startswith("moffs") for o in form.operands)
    memory_only = not has_rm and any(o in ("m", "m8", "m64") for o in form.operands)
    reg = rng.randrange(8) if choice.reg is None else choice.reg
    shape = choice.shape or rng.choice(("register", *SHAPES))
    if memory_only and shape == "register":
        shape = "base"
    stack = STACK_DELTA.get(form.raw)
    keep_off = {ECX} if "CL" in form.operands else set()
    if form.raw.startswith("xlat"):
        program.require(EBX, program.target(0x100) - 0x80 & ~0xFF)
    if stack is not None:
        program.require_stack()
    if "CL" in form.operands and form.sem in ("shld", "shrd") and rm_size == 16:
        program.require(ECX, value(rng) & ~0x1F | rng.randrange(17))
    wide_offset = form.raw.startswith("bt") and "imm8" not in form.operands and shape != "register"
    if wide_offset:
        program.require(reg, rng.randrange(-0x4000, 0x4000) if rng.random() < 0.8 else rng.randrange(64))
        keep_off.add(reg)
    rm: int | Memory | None = None
    prefixes = b""
    writes = set(IMPLICIT.get(form.raw, ()))
    stores = False
    first_written = bool(form.access) and "w" in form.access[0]
    if has_rm and shape == "register":
        rm = rng.randrange(8) if choice.base is None else choice.base
        if first_written and form.operands[0].startswith("r/m"):
            writes.add(parent(rm, rm_size))
    elif has_rm or memory_only or moffs:
        target = DATA + DATA_BYTES // 2 + rng.randrange(8) if wide_offset else program.target(max(rm_size // 8, 8))
        rm = operand(program, target, "absolute" if moffs and shape != "address16" else shape, choice, keep_off,
                     esp_offset=stack if stack and form.raw.startswith("pop_rm") else 0, moffs=moffs)
        stores = form.operands[0].startswith(("r/m", "moffs", "m")) and "w" in "".join(form.access)
        if form.lock and rng.random() < 0.3:
            prefixes = bytes([LOCK])
    if form.raw.rstrip("0123456789") in ("mul", "imul"):
        writes.update(_MUL[rm_size])
    if form.raw.startswith(("xchg", "xadd")):
        writes.update((parent(reg, reg_size), EAX if form.raw.startswith("xchg_a") else parent(reg, reg_size)))
    if form.raw.startswith("cmpxchg"):
        writes.add(EAX)
    if first_written and form.operands[0] in ("r8", "r16", "r32"):
        writes.add(parent(reg, reg_size))
    if first_written and form.operands[0] in ("AL", "AX", "EAX"):
        writes.add(EAX)
    if form.mnemonic in ("POPA", "LEAVE", "ENTER"):
        writes.update(range(8) if form.mnemonic == "POPA" else (EBP,))
        writes.discard(ESP)
    immediate = immediate_of(program, form)
    code = encode(form, reg=reg, rm=rm, immediate=immediate, prefixes=prefixes)
    if stack is None:
        twin = REFERENCE.get((form.opcode, form.syntax), form)
        if form.mnemonic == "NEG" and prefixes:
            prefixes = bytes([SEGMENT_PREFIX["ds"]])
        reference = encode(twin, reg=reg, rm=rm, immediate=immediate, prefixes=prefixes)
        program.emit(form, code, writes, undefined=undefined_by(form, immediate), stores=stores, reference=reference)
        return
    if form.mnemonic == "LEAVE":
        program.known[ESP] = program.known.get(EBP, 0)
    elif form.mnemonic == "ENTER":
        levels = immediate >> 16 & 31
        stack += stack * levels - (immediate & 0xFFFF)
    pops_esp = ESP in writes
    program.emit(form, code, writes, stack=None if pops_esp else stack, stores=True)


def operand(program: Program, target: int, shape: str, choice: Choice, keep_off: set[int], *, esp_offset: int = 0,
            moffs: bool = False) -> Memory:
    """A memory operand; its registers are none of `keep_off`."""
    rng = program.rng
    free = [r for r in range(8) if r not in keep_off]
    base = choice.base if choice.base in free else rng.choice(free)
    index = choice.index if choice.index in free and choice.index != ESP else rng.choice([r for r in free if r != ESP])
    segment = choice.segment
    if segment is None and rng.random() < 0.15:
        segment = rng.choice(tuple(SEGMENT_PREFIX)) if rng.random() < 0.5 else rng.choice(("fs", "gs"))
    if segment == "default":
        segment = None
    if segment == "cs":
        segment = "gs"          # CS cannot be written; add_string() reads through it
    if moffs:
        return Memory(disp=target - SEGMENT_BASE.get(segment or "", 0), segment=segment,
                      address16=shape == "address16")
    if shape == "address16" and keep_off:
        shape = "absolute"
    return program.memory(target, shape, base=base, index=index, scale=rng.randrange(4), segment=segment,
                          esp_offset=esp_offset)


# --- Instructions with needs of their own ----------------------------------------------------------------------------

STACK_DELTA = {"push_r16": -2, "push_r32": -4, "push_i16": -2, "push_i32": -4, "push_rm16": -2, "push_rm32": -4,
               "pop_r16": 2, "pop_r32": 4, "pop_rm16": 2, "pop_rm32": 4, "pusha": -32, "popa": 32, "leave": 4,
               "enter": -4, "pusha16": -16, "popa16": 16, "leave16": 2, "enter16": -2, "pushf": -4, "pushf16": -2}


def add_string(program: Program, form: Form, kind: str) -> None:
    """MOVS, STOS, LODS, CMPS, SCAS, with and without REP, in both directions."""
    rng = program.rng
    short = rng.random() < 0.15
    half = rng.getrandbits(16) << 16 if short else 0
    segment = rng.choice(tuple(SEGMENT_PREFIX)) if kind in ("movs", "lods", "cmps") and rng.random() < 0.2 else None
    source = DATA + DATA_BYTES // 2 + rng.randrange(-0x900, 0x900)
    target = source + rng.randrange(-16, 17) if rng.random() < 0.3 else source + rng.randrange(-0x900, 0x900)
    count = rng.choice((0, 1, 2, 3, 7, 16, 40, 40, 300))
    prefixes = b""
    if rng.random() < 0.6:
        prefixes = bytes([rng.choice((REPZ, REPNZ)) if kind in ("cmps", "scas") else REPZ])
        program.require(ECX, count | half)
    if segment:
        prefixes += bytes([SEGMENT_PREFIX[segment]])
        source -= SEGMENT_BASE.get(segment, 0)
    program.require(ESI, source & 0xFFFF | half if short else source)
    program.require(EDI, target | half)
    if short:
        prefixes += b"\x67"
    if kind in ("cmps", "scas") and rng.random() < 0.3:
        program.require(EAX, 0)
    writes = {ESI, EDI, ECX} | ({EAX} if kind == "lods" else set())
    program.emit(form, encode(form, prefixes=prefixes), writes, stores=True, may_keep_flags=bool(prefixes))


def add_relative(program: Program, form: Form) -> None:
    """Jcc, JMP, CALL, LOOP, JECXZ: forward, over some of the next instructions or bytes never executed."""
    rng = program.rng
    size = 4 if "rel32" in form.operands else 1
    if form.raw in ("jmp", "call"):
        if form.raw == "call":
            program.require_stack()
        before = len(program.code)
        program.gap()
        gap = program.code[before:]
        del program.code[before:]
        code = encode(form, immediate=len(gap)) + gap
        program.emit(form, bytes(code), stack=-4 if form.raw == "call" else None, stores=form.raw == "call")
        return
    if form.raw in ("loop", "loopz", "loopnz", "jecxz") and rng.random() < 0.5:
        program.require(ECX, rng.choice((0, 1, 2)))
    prefixes = b"\x67" if form.raw in ("loop", "loopz", "loopnz", "jecxz") and rng.random() < 0.2 else b""
    program.emit(form, encode(form, prefixes=prefixes), IMPLICIT.get(form.raw, ()))
    program.skip(len(program.code) - size, size, rng.randrange(4))


def add_return(program: Program, form: Form) -> None:
    """RET to an address pushed before, RET imm16 too."""
    rng = program.rng
    program.require_stack()
    immediate = rng.randrange(64) if form.raw == "ret_i" else 0
    code = encode(form, immediate=immediate)
    push_bytes = len(encode(PUSH_IMMEDIATE))
    gap = b"\x0f\x0b" * rng.randrange(3)
    target = program.here + push_bytes + len(code) + len(gap)
    program.emit(PUSH_IMMEDIATE, encode(PUSH_IMMEDIATE, immediate=target), stack=-4, stores=True)
    program.emit(form, code + gap, stack=4 + immediate)


def add_indirect(program: Program, form: Form, choice: Choice) -> None:
    """CALL and JMP through a register or memory."""
    rng = program.rng
    call = form.raw == "call_rm"
    if call:
        program.require_stack()
    gap = b"\x0f\x0b" * rng.randrange(3)
    shape = choice.shape or rng.choice(("register", "absolute", *SHAPES))
    if shape == "register":
        register = rng.randrange(8) if choice.base is None else choice.base
        if register == ESP and call:
            register = EAX
        code = encode(form, rm=register)
        load = len(encode(MOV_REGISTER)) if register in program.used else 0
        program.require(register, program.here + load + len(code) + len(gap))
    else:
        where = program.target(4)
        memory = operand(program, where, shape, choice, set())
        code = encode(form, rm=memory)
        if program.stored or program.skips:
            length = len(encode(MOV_MEMORY[4], rm=Memory(disp=where)))
            program.require_memory(where, 4, program.here + length + len(code) + len(gap))
        else:
            program.require_memory(where, 4, program.here + len(code) + len(gap))
    program.emit(form, code + gap, stack=-4 if call else None, stores=call)


def add_bound(program: Program, form: Form, choice: Choice) -> None:
    """BOUND: nine times in ten the index is within the bounds."""
    rng = program.rng
    size = 16 if form.raw == "bound16" else 32
    program.require_stack()         # a fault pushes a frame
    low, index, high = sorted(value(rng) % (1 << size) - (1 << size - 1) for _ in range(3))
    if rng.random() < 0.1:
        index, high = high, index
    reg = rng.choice([r for r in range(8) if r != ESP])
    program.require(reg, rng.getrandbits(32) & ~((1 << size) - 1) | index & (1 << size) - 1)
    where = program.target(size // 4)
    shape = choice.shape if choice.shape in SHAPES else rng.choice(SHAPES)
    rm = operand(program, where, shape, choice, {reg})
    program.require_memory(where, size // 4, high << size & (1 << 2 * size) - 1 | low & (1 << size) - 1)
    program.emit(form, encode(form, reg=reg, rm=rm))


def add_divide(program: Program, form: Form, choice: Choice) -> None:
    """DIV and IDIV: nine times in ten the quotient fits."""
    rng = program.rng
    size = sizes_of(form)[0]
    signed = form.raw.startswith("idiv")
    program.require_stack()         # a fault pushes a frame
    shape = choice.shape or rng.choice(("register", *SHAPES))
    low = -(1 << size - 1) if signed else 0
    divisor = value(rng) % (1 << size) + low or 1
    quotient = value(rng) % (1 << size) + low
    remainder = rng.randrange(abs(divisor)) * (-1 if quotient * divisor < 0 else 1)
    dividend = quotient * divisor + remainder
    if not quotient and signed and rng.random() < 0.5:
        dividend = -dividend
    if rng.random() < 0.1:
        divisor, dividend = rng.choice((0, 1, divisor)), rng.getrandbits(2 * size)
    if signed and dividend.bit_length() >= 2 * size:
        dividend = remainder
    free = [r for r in range(8) if parent(r, size) not in (EAX, EDX) and (size == 8 or r != ESP)]
    keep_off = {EAX, EDX} if size > 8 else {EAX}
    writes = {EAX} if size == 8 else {EAX, EDX}
    if shape == "register":
        rm: int | Memory = choice.base if choice.base in free else rng.choice(free)
        whole = rng.getrandbits(32)
        if size == 8:
            shift = 8 if rm >= 4 else 0
            whole = whole & ~(0xFF << shift) | (divisor & 0xFF) << shift
        else:
            whole = whole & ~((1 << size) - 1) | divisor & (1 << size) - 1
        program.require(parent(rm, size), whole)
    else:
        where = program.target(size // 8)
        rm = operand(program, where, shape, choice, keep_off)
        program.require_memory(where, size // 8, divisor)
    if size == 8:
        program.require(EAX, rng.getrandbits(16) << 16 | dividend & 0xFFFF)
    else:
        mask = (1 << size) - 1
        program.require(EAX, rng.getrandbits(32) & ~mask | dividend & mask)
        program.require(EDX, rng.getrandbits(32) & ~mask | dividend >> size & mask)
    program.emit(form, encode(form, rm=rm), writes)


def image_of_flags(rng: random.Random) -> int:
    """Not TF, nothing of a V86 monitor's; seldom AC, with which ring 3 checks alignment."""
    return rng.getrandbits(22) & (0x247ED5 if rng.random() < 0.1 else 0x207ED5)


def add_popf(program: Program, form: Form) -> None:
    """POPF of flags pushed before."""
    program.require_stack()
    flags = image_of_flags(program.rng)
    program.emit(PUSH_IMMEDIATE, encode(PUSH_IMMEDIATE, immediate=flags), stack=-4, stores=True)
    wide = form.raw == "popf"
    program.emit(form, encode(form), stack=4 if wide else 2, undefined=0)


def add_frame(program: Program, form: Form) -> None:
    """LEAVE and ENTER: EBP points into the stack."""
    program.require_stack()
    program.require(EBP, STACK + STACK_BYTES // 2 + program.rng.randrange(-256, 256))
    add_operands(program, form, Choice())


def add_trap(program: Program, form: Form) -> None:
    """INT3, INT n, UD2; INTO, most often with OF clear."""
    if form.raw == "into" and program.rng.random() < 0.9:
        program.code += encode(TEST, reg=EAX, rm=EAX)
        program.undefined = FLAGS["a"]
        program.ever_undefined |= FLAGS["a"]
        program.used.add(EAX)
    program.require_stack()
    immediate = program.rng.choice([n for n in range(0x20, 0x100) if n != LINUX_SYSTEM_CALL])
    program.emit(form, encode(form, immediate=immediate))


SPECIAL: dict[str, Callable[[Program, Form], None]] = {
    "ret": add_return, "ret_i": add_return, "popf": add_popf, "popf16": add_popf, "leave": add_frame,
    "enter": add_frame, "leave16": add_frame, "enter16": add_frame,
    "int_n": add_trap, "int3": add_trap, "into": add_trap, "ud1": add_trap, "ud2": add_trap}
