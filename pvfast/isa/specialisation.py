"""Specialised handlers: register numbers as constants, pairs fused into one.

Enters: hot 32-bit integer rows. Leaves: handlers in the special_* and fused_* tables. Next: vectors.py.
What is specialised, and what that brought, is in docs/decisions/0002-registers-in-memory.md.
"""
from __future__ import annotations

from pvfast.isa.form import Form
from pvfast.isa.forms import FORMS
from pvfast.isa.operands import REGISTERS, Operand, kinds, parse
from pvfast.isa.wrappers import VARIANTS, Output, live_variants, wrap

SPECIAL_RR = {"mov", "add", "sub", "bit_and", "bit_or", "bit_xor"}
SPECIAL_R = {"mov", "add", "sub", "bit_and", "bit_or", "bit_xor", "inc", "dec", "shl", "shr", "sar"}
FUSED = {  # (sem, operand kinds) -> class; the wrappers are below
    ("cmp", "rm32 r32"): "FUSE_CMP_RM_REG", ("cmp", "r32 rm32"): "FUSE_CMP_REG_RM", ("cmp", "rm32 imm"): "FUSE_CMP_IMM",
    ("test", "rm32 r32"): "FUSE_TEST", ("test", "rm32 imm"): "FUSE_TEST_IMM", ("sub", "rm32 imm"): "FUSE_SUB_IMM",
    ("add", "rm32 imm"): "FUSE_ADD_IMM", ("bit_and", "rm32 imm"): "FUSE_AND_IMM", ("dec", "rm32"): "FUSE_DEC",
    ("dec", "r32"): "FUSE_DEC", ("inc", "rm32"): "FUSE_INC", ("inc", "r32"): "FUSE_INC",
    ("cmp", "acc32 imm"): "FUSE_CMP_IMM", ("cmp", "rm8 imm"): "FUSE_CMP_MEMORY8",
}
FUSE_CLASSES = ("FUSE_NONE", "FUSE_CMP_RM_REG", "FUSE_CMP_REG_RM", "FUSE_CMP_IMM", "FUSE_TEST", "FUSE_TEST_IMM",
                "FUSE_SUB_IMM", "FUSE_ADD_IMM", "FUSE_AND_IMM", "FUSE_DEC", "FUSE_INC", "FUSE_CMP_MEMORY8")


NO_INDEX = 13
"""The slot of index ESP alone, which no encoding has (SDM 2, table 2-3)."""


def specialise(out: Output, form: Form, index: int) -> set[tuple[str, int]]:
    """Handlers with register numbers as constants, for hot 32-bit integer forms.

    Returns the (variant, live) that they cover for all operands, so that nothing more general is needed.
    """
    covered: set[tuple[str, int]] = set()
    operands = parse(form)
    width = max(o.size for o in operands)
    hot = width == 32 and all(o.size in (8, 32) for o in operands)
    lives = live_variants(form, width)
    signature = kinds(operands)
    if hot and signature in ("rm32 r32", "r32 rm32") and form.sem in SPECIAL_RR:
        covered = {("REGISTER", 1), ("REGISTER", 0)}
        out.table.append(f"forms[{index}].special_register = special_register_{index}")
        out.handlers.append(f"cdef Handler special_register_{index}[128]\n")
        mirrored = signature == "r32 rm32"
        owner = twin(form) if mirrored else index
        for live in (1, 0):
            for reg in range(8):
                for base in range(8):
                    alive = live or not form.writes
                    if mirrored:    # the same operation on the same registers as the other encoding, fields swapped
                        name = (f"h{owner}_{form.mnemonic.lower()}_register_reg{base}_base{reg}"
                                f"{'' if alive else '_dead'}")
                    elif live or form.writes:
                        name = wrap(out, form, index, operands, "REGISTER", live, {"reg": reg, "base": base})
                    else:
                        name = f"h{index}_{form.mnemonic.lower()}_register_reg{reg}_base{base}"
                    out.table.append(f"special_register_{index}[{(0 if live else 64) + reg * 8 + base}] = {name}")
    elif (hot and form.sem in SPECIAL_R and signature in ("rm32 imm", "rm32", "rm32 one")) \
            or (form.sem == "zero_extend" and signature == "r32 rm8"):
        covered = {("REGISTER", 1), ("REGISTER", 0)}
        out.table.append(f"forms[{index}].special_register = special_register_{index}")
        out.handlers.append(f"cdef Handler special_register_{index}[128]\n")
        regs = range(8) if form.sem == "zero_extend" else (0,)
        for live in (1, 0):
            for base in range(8):
                for reg in regs:
                    special = {"base": base, "reg": reg} if len(regs) > 1 else {"base": base}
                    if live or (form.writes and 0 in lives):
                        name = wrap(out, form, index, operands, "REGISTER", live, special)
                    else:
                        name = f"h{index}_{form.mnemonic.lower()}_register" + "".join(
                            f"_{key}{value}" for key, value in special.items())
                    place = (0 if live else 64) + reg * 8 + base
                    count = 1 if len(regs) > 1 else 8
                    out.table.append(f"spread(&special_register_{index}[{place}], {count}, 8, {name})")
    return covered | specialise_memory(out, form, index, operands, lives)


def specialise_memory(out: Output, form: Form, index: int, operands: list[Operand],
                      lives: tuple[int, ...]) -> set[tuple[str, int]]:
    """Memory forms in flat modes: on the register, and for moves on the address registers too.

    The host renames memory at constant addresses, which is where a specialised handler finds its registers.
    """
    signature = kinds(operands)
    moves = form.sem in ("mov", "lea", "zero_extend") and signature in ("rm32 r32", "r32 rm32", "r32 m", "r32 rm8")
    immediate = form.sem == "mov" and signature in ("rm32 imm", "rm8 imm")
    arithmetic = (form.sem in SPECIAL_RR and signature in ("r32 rm32", "r8 rm8")) or (
        form.sem == "mov" and signature == "rm8 r8")
    covered: set[tuple[str, int]] = set()
    if not (moves or immediate or arithmetic):
        return covered
    out.table.append(f"forms[{index}].special_memory = special_memory_{index}")
    out.handlers.append(f"cdef Handler special_memory_{index}[{2 * 2 * 18 * 8}]\n")
    everywhere = arithmetic and form.sem in ("add", "bit_xor") and signature == "r32 rm32"
    if immediate or (form.sem == "mov" and signature in ("rm32 r32", "r32 rm32")):
        specialise_per_cpu(out, form, index, operands, immediate)
    slots = [s for s in range(17) if s != NO_INDEX] if moves or everywhere else list(range(9)) if immediate else []
    for number, variant in enumerate(VARIANTS[:2]):
        for live in (1, 0):
            alive = live or not form.writes
            start = (number * 2 + (1 - live)) * 144
            general = (f"h{index}_{form.mnemonic.lower()}_{'flat' if form.sem == 'lea' else variant.lower()}"
                       f"{'' if alive else '_dead'}")
            slots_here = [] if everywhere and live else slots   # wanted flags are rare: on the register only
            if slots_here:
                out.table.append(f"spread(&special_memory_{index}[{start}], 144, 1, {general})")
            else:
                covered.add((variant, live))
            for slot in slots_here or (17, 18, 19):
                for reg in (0,) if immediate else range(8):
                    special = {"slot": slot} if immediate else {"slot": slot, "reg": reg}
                    name = f"h{index}_{form.mnemonic.lower()}_{variant.lower()}" + "".join(
                        f"_{key}{value}" for key, value in special.items()) + ("" if alive else "_dead")
                    if form.sem == "lea" and number:
                        name = name.replace("paged", "flat")
                    elif live or form.writes:
                        wrap(out, form, index, operands, variant, 1 if alive else 0, special)
                    if slots_here:
                        out.table.append(f"spread(&special_memory_{index}[{start + slot * 8 + reg}], "
                                         f"{8 if immediate else 1}, 1, {name})")
                    else:
                        first, count = {17: (17, 1), 18: (0, 9), 19: (9, 8)}[slot]
                        place = start + first * 8 + reg
                        out.table.append(f"spread(&special_memory_{index}[{place}], {count}, 8, {name})")
    return covered


def specialise_per_cpu(out: Output, form: Form, index: int, operands: list[Operand], immediate: bool) -> None:
    """Moves at %fs:disp32 and %gs:disp32, where kernels keep their per-CPU data."""
    out.table.append(f"forms[{index}].special_per_cpu = special_per_cpu_{index}")
    out.handlers.append(f"cdef Handler special_per_cpu_{index}[32]\n")
    for number, variant in enumerate(VARIANTS[2:4]):
        for segment in (4, 5):
            for reg in (0,) if immediate else range(8):
                special = {"segment": segment, "slot": 8} | ({} if immediate else {"reg": reg})
                name = wrap(out, form, index, operands, variant, 1, special)
                out.table.append(f"spread(&special_per_cpu_{index}[{number * 16 + (segment - 4) * 8 + reg}], "
                                 f"{8 if immediate else 1}, 1, {name})")


def twin(form: Form) -> int:
    """The row of the same operation with the operands the other way round, e.g. 01 /r for 03 /r."""
    return next(i for i, other in enumerate(FORMS, 1)
                if other.sem == form.sem and other.operands == form.operands[::-1])


def generate_fused(out: Output) -> None:
    """Compare-and-branch pairs, specialised on the condition and the first register; the call-site sequences."""
    out.handlers.append(f"cdef Handler fused_branch[{len(FUSE_CLASSES)}][16][8]\n")
    out.handlers.append("cdef Handler fused_memory[1][2][16]\n")
    out.handlers.append("cdef Handler fused_stack[2][2][2]\n")
    for number, variant in enumerate(VARIANTS[:2]):
        for place, what in enumerate(("pop_pop", "push_push_call")):
            for special, registers in enumerate(("op.reg, op.index", "EDX, ECX" if place == 0 else "ECX, EDX")):
                name = out.handler(f"fused_{what}_{variant.lower()}_{special}", f"{what} {registers}",
                                   [f"{what}(cpu, op, mem, {registers}, {variant})"])
                out.table.append(f"fused_stack[{number}][{place}][{special}] = {name}")
    unary = {"FUSE_DEC": "dec", "FUSE_INC": "inc"}
    binary = {"FUSE_CMP_RM_REG": ("cmp", "cpu.gpr[op.reg].d"), "FUSE_CMP_IMM": ("cmp", "op.imm"),
              "FUSE_TEST_IMM": ("test", "op.imm"), "FUSE_SUB_IMM": ("sub", "op.imm"),
              "FUSE_ADD_IMM": ("add", "op.imm"), "FUSE_AND_IMM": ("bit_and", "op.imm")}
    for number, name in enumerate(FUSE_CLASSES):
        for code in range(16):
            for reg in range(8):
                general = name in ("FUSE_INC", "FUSE_ADD_IMM", "FUSE_AND_IMM", "FUSE_TEST_IMM")
                if general and reg:     # rarer: one handler for all registers
                    out.table.append(f"fused_branch[{number}][{code}][{reg}] = {name.lower().replace('fuse', 'fused')}"
                                     f"_{code}_0")
                    continue
                a = "cpu.gpr[op.base]" if general else f"cpu.gpr[{REGISTERS[reg]}]"
                if name in unary:
                    body = [f"{a}.q = {unary[name]}[u32](cpu, {a}.d, 1)"]
                elif name in binary:
                    sem, b = binary[name]
                    call = f"{sem}[u32](cpu, {a}.d, {b}, 1)"
                    body = [call if sem in ("cmp", "test") else f"{a}.q = {call}"]
                elif name == "FUSE_TEST":
                    body = [f"test[u32](cpu, {a}.d, {a}.d, 1)"]
                elif name == "FUSE_CMP_REG_RM":
                    other = f"fused_cmp_rm_reg_{code}_{reg}"
                    out.table.append(f"fused_branch[{number}][{code}][{reg}] = {other}")
                    continue
                else:
                    continue
                handler = out.handler(f"{name.lower().replace('fuse', 'fused')}_{code}_{reg}", f"{name} + Jcc",
                                      [*body, f"jcc(cpu, op, mem, {code})"])
                out.table.append(f"fused_branch[{number}][{code}][{reg}] = {handler}")
    for number, variant in enumerate(VARIANTS[:2]):
        for code in range(16):
            handler = out.handler(f"fused_cmp_memory8_{variant.lower()}_{code}", "CMP r/m8, imm8 + Jcc", [
                "cdef char* host",
                f"if rare(not read_at(cpu, mem, op.segment, offset_of(cpu, op), 1, {variant}, &host)):",
                "    unfuse(cpu, op)", "    return",
                "cmp[u8](cpu, (<u8*>host)[0], <u8>op.imm, 1)", f"jcc(cpu, op, mem, {code})"])
            out.table.append(f"fused_memory[0][{number}][{code}] = {handler}")
