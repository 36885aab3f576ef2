"""Writes the repetitive glue of the core from the rows: one wrapper per form and specialisation, and the tables.

Enters: FORMS and the cost classes. Leaves: core/generated/handlers.pxi and tables.pxi (git-ignored; setup.py runs
this). Next: core/engine.pyx, which includes them. Standard library only; the same rows give the same bytes.

Every form with a memory operand gets variant G (GENERAL), which does everything by checked functions and is the
reference; the others (core/access.pxd) are fast ways of the same thing that fall back to G.
"""
from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path

from pvfast.isa.form import FLAGS, Form
from pvfast.isa.forms import FORMS
from pvfast.processor.costs import COST_CLASSES

VARIANTS = ("FLAT", "PAGED", "SEGMENT", "SEGMENT_PAGED")
SEGMENTS = ("ES", "CS", "SS", "DS", "FS", "GS")
REGISTERS = ("EAX", "ECX", "EDX", "EBX", "ESP", "EBP", "ESI", "EDI")
CTYPE = {8: "u8", 16: "u16", 32: "u32"}
TERMINATORS = {"jmp", "call", "call_rm", "jmp_rm", "ret", "ret_i", "loop", "loopz", "loopnz", "jecxz"}
STACK_TEMPLATES = {"call": "call", "ret": "ret", "call_rm": "call_memory", "jmp_rm": "jmp_memory"}
"""Raw terminators whose fast variants are inline functions of sem_branch.pxi."""
IMMEDIATES = {"imm8": "I_8", "simm8": "I_S8", "imm16": "I_16", "imm32": "I_32", "rel8": "I_REL8",
              "rel32": "I_REL32", "moffs8": "I_MOFFS", "moffs16": "I_MOFFS", "moffs32": "I_MOFFS",
              "ptr16:32": "I_FAR"}
FUSED = {  # (sem, operand kinds) -> class; the wrappers are below
    ("cmp", "rm32 r32"): "FUSE_CMP_RM_REG", ("cmp", "r32 rm32"): "FUSE_CMP_REG_RM", ("cmp", "rm32 imm"): "FUSE_CMP_IMM",
    ("test", "rm32 r32"): "FUSE_TEST", ("test", "rm32 imm"): "FUSE_TEST_IMM", ("sub", "rm32 imm"): "FUSE_SUB_IMM",
    ("add", "rm32 imm"): "FUSE_ADD_IMM", ("bit_and", "rm32 imm"): "FUSE_AND_IMM", ("dec", "rm32"): "FUSE_DEC",
    ("dec", "r32"): "FUSE_DEC", ("inc", "rm32"): "FUSE_INC", ("inc", "r32"): "FUSE_INC",
    ("cmp", "acc32 imm"): "FUSE_CMP_IMM", ("cmp", "rm8 imm"): "FUSE_CMP_MEMORY8",
}
FUSE_CLASSES = ("FUSE_NONE", "FUSE_CMP_RM_REG", "FUSE_CMP_REG_RM", "FUSE_CMP_IMM", "FUSE_TEST", "FUSE_TEST_IMM",
                "FUSE_SUB_IMM", "FUSE_ADD_IMM", "FUSE_AND_IMM", "FUSE_DEC", "FUSE_INC", "FUSE_CMP_MEMORY8")
SEGMENT_FAST = {"mov", "zero_extend", "cmp", "test", "add", "inc", "dec"}
"""Operations worth a fast way through %fs and %gs, and in segments that are not flat."""
SPECIAL_RR = {"mov", "add", "sub", "bit_and", "bit_or", "bit_xor"}
SPECIAL_R = {"mov", "add", "sub", "bit_and", "bit_or", "bit_xor", "inc", "dec", "shl", "shr", "sar"}


@dataclass(frozen=True)
class Operand:
    """One operand of a row: what kind, how wide, and whether it is read or written."""

    kind: str       # rm, r, imm, acc, m, moffs, cl, one
    size: int
    access: str


def parse(form: Form) -> list[Operand]:
    """The operands of a row that has a semantic function."""
    result = []
    for text, access in zip(form.operands, form.access, strict=True):
        if text.startswith("r/m"):
            result.append(Operand("rm", int(text[3:]), access))
        elif text.startswith("moffs"):
            result.append(Operand("moffs", int(text[5:]), access))
        elif text in ("AL", "AX", "EAX"):
            result.append(Operand("acc", {"AL": 8, "AX": 16, "EAX": 32}[text], access))
        elif text.startswith("imm") or text == "simm8":
            result.append(Operand("imm", 8, access))
        elif text == "CL":
            result.append(Operand("cl", 8, access))
        elif text == "1":
            result.append(Operand("one", 8, access))
        elif text == "m":
            result.append(Operand("m", 32, access))
        elif text.startswith("r") and text[1:].isdigit():
            result.append(Operand("rplus" if "+r" in form.opcode else "r", int(text[1:]), access))
        else:
            raise ValueError(f"{form.opcode} {form.syntax}: operand {text!r}")
    return result


@dataclass
class Output:
    """The generated text and what the tables need to know about it."""

    handlers: list[str] = field(default_factory=list)
    table: list[str] = field(default_factory=list)
    names: list[str] = field(default_factory=list)

    def handler(self, name: str, comment: str, body: list[str]) -> str:
        self.handlers.append(f"cdef void {name}(CPU* cpu, Uop* op, char* mem) noexcept nogil:  # {comment}")
        self.handlers += [f"    {line}" for line in body]
        self.handlers.append("")
        self.table.append(f"all_handlers[{len(self.names)}] = {name}")
        self.names.append(name)
        return name


def register(operand: Operand, number: str) -> str:
    """The expression that reads a register operand."""
    if operand.size == 8 and number.isdigit():
        # Always whole words: the host forwards and renames those, but not a byte store to a wider load.
        return f"<u8>whole{int(number) & 3}" if int(number) < 4 else f"<u8>(whole{int(number) & 3} >> 8)"
    if operand.size == 8:
        return f"(<u8*>cpu.gpr)[{number}]"
    return f"cpu.gpr[{number}].{'w' if operand.size == 16 else 'd'}"


def store(operand: Operand, number: str, value: str) -> str:
    if operand.size == 8 and number.isdigit():
        low = int(number) < 4
        place = int(number) & 3
        return (f"cpu.gpr[{place}].q = (whole{place} & {'0xFFFFFF00u' if low else '0xFFFF00FFu'}) | "
                f"(<u32><u8>({value}){'' if low else ' << 8'})")
    if operand.size == 8:
        return f"(<u8*>cpu.gpr)[{number}] = {value}"
    return f"cpu.gpr[{number}].{'w' if operand.size == 16 else 'q'} = {value}"


def number_of(operand: Operand, special: dict[str, int]) -> str:
    """Where the register number comes from: fixed, specialised, or the uop."""
    if operand.kind == "acc":
        return "EAX"
    place = "base" if operand.kind in ("rm", "rplus") else "reg"
    if place not in special or special[place] > 7:
        return f"op.{place}"
    return str(special[place]) if operand.size == 8 else REGISTERS[special[place]]


def value_of(operand: Operand, width: int, special: dict[str, int], memory: str) -> str:
    """The expression that reads an operand as `width` bits; `memory` is the one for the memory operand."""
    ctype = CTYPE[width]
    if operand.kind == "imm":
        return f"<{ctype}>op.imm"
    if operand.kind == "cl":
        return f"<{ctype}>cpu.gpr[ECX].b[0]"
    if operand.kind == "one":
        return f"<{ctype}>1"
    if memory and operand.kind in ("rm", "moffs"):
        return memory
    return register(operand, number_of(operand, special))


def compute(form: Form, operands: list[Operand], values: list[str], live: int) -> str:
    """The call of the semantic function."""
    name, _, parameter = form.sem.partition(":")
    width = operands[0].size
    if name == "mov":
        return values[0]
    if name == "zero_extend":
        return f"<{CTYPE[width]}>{values[0]}"
    if name == "sign_extend":
        source = operands[1].size
        return f"<{CTYPE[width]}>sign_extend[{CTYPE[source]}]({values[0]})"
    arguments = ", ".join(["cpu", *([parameter] if parameter else []), *values, *([] if parameter else [str(live)])])
    return f"{name}({arguments})" if name == "setcc" else f"{name}[{CTYPE[width]}]({arguments})"


def is_memory_operand(operand: Operand) -> bool:
    return operand.kind in ("rm", "moffs")


def wrap(out: Output, form: Form, index: int, operands: list[Operand], variant: str, live: int,
         special: dict[str, int] | None = None) -> str:
    """Write one wrapper; returns its name. `variant` is REGISTER, a fast variant or GENERAL."""
    special = special or {}
    suffix = "".join(f"_{key}{value}" for key, value in special.items())
    name = f"h{index}_{form.mnemonic.lower()}_{variant.lower()}{suffix}{'' if live else '_dead'}"
    comment = f"{form.opcode}  {form.syntax}"
    if form.sem == "lea":
        source = "effective_address(cpu, op)" if variant == "GENERAL" else address(special)
        return out.handler(name, comment, [store(operands[0], number_of(operands[0], special),
                                                 f"<{CTYPE[operands[0].size]}>({source})"),
                                           "next_uop(cpu, op, mem)"])
    target = operands[0]
    writes = "w" in target.access
    width = target.size
    memory_operand = next((o for o in operands if is_memory_operand(o)), None) if variant != "REGISTER" else None
    body: list[str] = []
    memory = ""
    if memory_operand:
        size = memory_operand.size // 8
        ctype = CTYPE[memory_operand.size]
        reads, stores = "r" in memory_operand.access, "w" in memory_operand.access
        if variant == "GENERAL":
            body += ["cdef u32 offset = effective_address(cpu, op)", "cdef u32 value = 0"]
            if reads:
                function = "virtual_read_locked" if stores else "virtual_read"
                body += [f"if not {function}(cpu, op.segment, offset, {size}, &value):", "    raise_fault(cpu, op)",
                         "    return"]
            memory = f"<{ctype}>value"
        else:
            access = "write_at" if stores else "read_at"
            fallback = f"h{index}_{form.mnemonic.lower()}_general"
            segment = SEGMENTS[special["segment"]] if "segment" in special else "op.segment"
            place = f"cpu, mem, {segment}, {address(special)}, {size}, {variant}, &host"
            body += ["cdef char* host", f"if rare(not {access}({place})):", f"    {fallback}(cpu, op, mem)",
                     "    return"]
            memory = f"(<{ctype}*>host)[0]"
    values = [value_of(o, width if o.kind in ("imm", "cl", "one") else o.size, special, memory)
              for o in operands if "r" in o.access]
    if form.sem in ("shld", "shrd"):
        values[2] = values[2].replace(f"<{CTYPE[width]}>", "<u32>")
    call = compute(form, operands, values, live)
    if not writes:
        body.append(call)
    elif is_memory_operand(target) and memory_operand:
        if variant == "GENERAL":
            keeps = form.writes and "r" in target.access
            if keeps:   # a device may have to be written first: the instruction is run again, with its old flags
                body += ["cdef SavedFlags saved = save_flags(cpu)"]
            body += [f"value = {call}",
                     f"if not virtual_write(cpu, op.segment, offset, {width // 8}, value):",
                     *(["    restore_flags(cpu, saved)"] if keeps else []), "    raise_fault(cpu, op)", "    return"]
        else:
            body.append(f"(<{CTYPE[width]}*>host)[0] = {call}")
    else:
        body.append(store(target, number_of(target, special), call))
    body.append("finish(cpu, op, mem)" if variant == "GENERAL" else "next_uop(cpu, op, mem)")
    text = "\n".join(body)
    words = [f"cdef u32 whole{n} = whole_word(&cpu.gpr[{n}].d)" for n in range(4) if f"whole{n}" in text]
    return out.handler(name, comment, words + body)


def address(special: dict[str, int]) -> str:
    """The effective address.

    `slot` 0-7: that base; 8: none; 9-16: no base, index `slot` - 9; 17: base and index; 18: any base alone;
    19: any index alone.
    """
    slot = special.get("slot", 17)
    if slot == 17:
        return "offset_of(cpu, op)"
    if slot == 18:
        return "cpu.gpr[op.base].d + <u32>op.disp"
    if slot == 19:
        return "(cpu.gpr[op.index].d << op.scale) + <u32>op.disp"
    if slot == 8:
        return "<u32>op.disp"
    if slot < 8:
        return f"cpu.gpr[{REGISTERS[slot]}].d + <u32>op.disp"
    return f"(cpu.gpr[{REGISTERS[slot - 9]}].d << op.scale) + <u32>op.disp"


def kinds(operands: list[Operand]) -> str:
    names = {"rplus": "r"}
    return " ".join(names.get(o.kind, o.kind) + (str(o.size) if o.kind in ("rm", "r", "rplus", "acc") else "")
                    for o in operands)


def generate_semantic(out: Output, form: Form, index: int) -> None:
    """Wrappers of a row with `sem`, and their places in its FormInfo."""
    operands = parse(form)
    width = max(o.size for o in operands)
    hot = width == 32 and all(o.size in (8, 32) for o in operands)
    lives = (1, 0) if form.writes and width != 16 else (1,)
    has_memory = any(is_memory_operand(o) or o.kind == "m" for o in operands)
    has_register_form = not any(o.kind in ("m", "moffs") for o in operands)
    variants = ["GENERAL"] if has_memory else []
    if has_memory and width != 16:
        variants += [v for v in VARIANTS if v in VARIANTS[:2] or form.sem in SEGMENT_FAST]
    if form.sem == "lea":
        variants = ["GENERAL", *VARIANTS] if width == 32 else ["GENERAL"]
    for live in lives:
        table = "live" if live else "dead"
        if has_register_form:
            name = wrap(out, form, index, operands, "REGISTER", live)
            out.table.append(f"forms[{index}].{table}[V_REGISTER] = {name}")
        for variant in variants:
            if not live and variant not in VARIANTS[:2]:
                name = f"h{index}_{form.mnemonic.lower()}_{variant.lower()}"
            elif form.sem == "lea" and variant not in ("GENERAL", "FLAT"):
                name = f"h{index}_lea_flat"
            else:
                name = wrap(out, form, index, operands, variant, live)
            out.table.append(f"forms[{index}].{table}[{variant}] = {name}")
    specialise(out, form, index, operands, hot, lives)


def specialise(out: Output, form: Form, index: int, operands: list[Operand], hot: bool, lives: tuple[int, ...]) -> None:
    """Handlers with register numbers as constants, for hot 32-bit integer forms."""
    signature = kinds(operands)
    if hot and signature in ("rm32 r32", "r32 rm32") and form.sem in SPECIAL_RR:
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
    elif hot and form.sem in SPECIAL_R and signature in ("rm32 imm", "rm32", "rm32 one") \
            or form.sem == "zero_extend" and signature == "r32 rm8":
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
                    out.table.append(f"spread(&special_register_{index}[{place}], {1 if len(regs) > 1 else 8}, 8, {name})")
    specialise_memory(out, form, index, operands, lives)


def specialise_memory(out: Output, form: Form, index: int, operands: list[Operand], lives: tuple[int, ...]) -> None:
    """Memory forms in flat modes: on the register, and for moves on the address registers too.

    The host renames memory at constant addresses, which is where a specialised handler finds its registers.
    """
    signature = kinds(operands)
    moves = form.sem in ("mov", "lea", "zero_extend") and signature in ("rm32 r32", "r32 rm32", "r32 m", "r32 rm8")
    immediate = form.sem == "mov" and signature in ("rm32 imm", "rm8 imm")
    arithmetic = form.sem in SPECIAL_RR and signature in ("r32 rm32", "r8 rm8") or (
        form.sem == "mov" and signature == "rm8 r8")
    if not (moves or immediate or arithmetic):
        return
    out.table.append(f"forms[{index}].special_memory = special_memory_{index}")
    out.handlers.append(f"cdef Handler special_memory_{index}[{2 * 2 * 18 * 8}]\n")
    everywhere = arithmetic and form.sem in ("add", "bit_xor") and signature == "r32 rm32"
    if immediate or form.sem == "mov" and signature in ("rm32 r32", "r32 rm32"):
        specialise_per_cpu(out, form, index, operands, immediate)
    slots = range(17) if moves or everywhere else range(9) if immediate else ()
    for number, variant in enumerate(VARIANTS[:2]):
        for live in (1, 0):
            alive = live or not form.writes
            start = (number * 2 + (1 - live)) * 144
            general = (f"h{index}_{form.mnemonic.lower()}_{'flat' if form.sem == 'lea' else variant.lower()}"
                       f"{'' if alive else '_dead'}")
            out.table.append(f"spread(&special_memory_{index}[{start}], 144, 1, {general})")
            if everywhere and live:     # the flags are rarely wanted: on the register only
                slots_here: tuple[int, ...] | range = ()
            else:
                slots_here = slots
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
                        out.table.append(f"spread(&special_memory_{index}[{start + first * 8 + reg}], {count}, 8, {name})")


def specialise_per_cpu(out: Output, form: Form, index: int, operands: list[Operand], immediate: bool) -> None:
    """Moves at %fs:disp32 and %gs:disp32, where kernels keep their per-CPU data."""
    out.table.append(f"forms[{index}].special_per_cpu = special_per_cpu_{index}")
    out.handlers.append(f"cdef Handler special_per_cpu_{index}[32]\n")
    for number, variant in enumerate(VARIANTS[2:]):
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


def generate_raw(out: Output, form: Form, index: int) -> None:
    """Places of a handwritten handler; Jcc and the stack get their constant-argument wrappers here."""
    raw = form.raw
    has_rm = any(o.startswith("r/m") for o in form.operands)
    memory_only = form.has_modrm and not has_rm and any(o.startswith("m") for o in form.operands)
    comment = f"{form.opcode}  {form.syntax}"
    if raw.startswith("jcc_"):
        code = raw[4:]
        name = out.handler(f"h{index}_jcc_{code}", comment, [f"jcc(cpu, op, mem, {code})"])
        out.table.append(f"forms[{index}].live[V_REGISTER] = {name}")
        return
    if raw in ("push_r32", "pop_r32"):
        what = "push_register" if raw == "push_r32" else "pop_register"
        for number, variant in enumerate(VARIANTS[:2]):
            name = out.handler(f"h{index}_{raw}_{variant.lower()}", comment,
                               [f"{what}(cpu, op, mem, op.base, {variant})"])
            out.table.append(f"forms[{index}].live[{variant}] = {name}")
            for base in range(8):
                name = out.handler(f"h{index}_{raw}_{variant.lower()}_base{base}", comment,
                                   [f"{what}(cpu, op, mem, {REGISTERS[base]}, {variant})"])
                out.table.append(f"stack_special[{number}][{0 if raw == 'push_r32' else 1}][{base}] = {name}")
        out.table.append(f"forms[{index}].live[GENERAL] = raw_{raw}")
        return
    general = f"raw_{raw}"
    if has_rm or memory_only:
        general += "_m"
        if has_rm:
            out.table.append(f"forms[{index}].live[V_REGISTER] = raw_{raw}_r")
    if raw in STACK_TEMPLATES:
        for variant in VARIANTS[:2]:
            name = out.handler(f"h{index}_{raw}_{variant.lower()}", comment,
                               [f"{STACK_TEMPLATES[raw]}(cpu, op, mem, {variant})"])
            out.table.append(f"forms[{index}].live[{variant}] = {name}")
        out.table.append(f"forms[{index}].live[GENERAL] = {general}")
    elif has_rm or memory_only:
        out.table.append(f"forms[{index}].live[GENERAL] = {general}")
    else:
        out.table.append(f"forms[{index}].live[V_REGISTER] = {general}")


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


def fold(mask: int) -> int:
    """EFLAGS mask to one byte: OF, bit 11, goes to bit 1."""
    return (mask & 0xFF) | (2 if mask & FLAGS["o"] else 0)


def describe(form: Form, index: int) -> str:
    """The FormInfo of a row."""
    attributes = []
    operands = form.operands
    if form.has_modrm:
        attributes.append("A_MODRM")
    if "+r" in form.opcode:
        attributes.append("A_PLUS_R")
        if any(o == "r8" for o in operands):
            attributes.append("A_RM8")
    elif any(o == "r8" for o in operands):
        attributes.append("A_REG8")
    if any(o == "r/m8" for o in operands):
        attributes.append("A_RM8")
    terminator = form.raw in TERMINATORS or form.raw.startswith("jcc_")
    for condition, attribute in ((form.ends, "A_ENDS"), (form.lock, "A_LOCK"), (form.privileged, "A_PRIVILEGED"),
                                 (terminator, "A_TERMINATOR"), (form.raw == "nop", "A_NOP"),
                                 (form.sem and operands[0] in ("AL", "AX", "EAX"), "A_ACCUMULATOR")):
        if condition:
            attributes.append(attribute)
    if form.raw.rstrip("0123456789") in ("movs", "stos", "lods", "cmps", "scas", "ins", "outs"):
        attributes.append("A_STRING")
    registers_only = form.sem and not form.has_modrm and not any("moffs" in o for o in operands)
    harmless = form.raw in ("cwde", "cdq", "clc", "stc", "cmc", "cld", "std", "lahf", "sahf", "nop") or (
        form.raw.startswith("xchg_a"))
    if not registers_only and not harmless and form.sem != "lea":
        attributes.append("A_BARRIER")
    if form.sem and not ("w" in form.access[0] and any(
            o.startswith(("r/m", "moffs")) for o in operands[:1])) or form.raw in ("call_rm", "jmp_rm"):
        attributes.append("A_MEMORY_READ_ONLY")
    immediates = [o for o in operands if o in IMMEDIATES]
    immediate = "I_16_8" if immediates == ["imm16", "imm8"] else IMMEDIATES[immediates[0]] if immediates else "I_NONE"
    if form.raw in ("far_call", "far_jmp"):
        immediate = "I_FAR" if immediates else "I_NONE"
    counted = form.sem.startswith(("rol", "ror", "rcl", "rcr", "sh", "sar")) and "1" not in operands
    kills = 0 if counted or form.sem in ("bsf", "bsr") else form.writes
    condition = form.raw[4:] if form.raw.startswith("jcc_") else "255"
    fuse = "FUSE_NONE"
    if form.sem:
        fuse = FUSED.get((form.sem, kinds(parse(form))), "FUSE_NONE")
    reads = fold(form.reads)
    if form.raw and not terminator and not harmless:
        reads = 0xFF        # raw handlers may look at anything
    return (f"describe({index}, {' | '.join(attributes) or '0'}, {immediate}, {reads}, "
            f"{fold(form.writes) if form.sem else 0}, {fold(kills) if form.sem else 0}, COST_{form.cost.upper()}, "
            f"{fuse}, {condition})")


def opcode_places(form: Form) -> list[tuple[tuple[int, ...], int, int, str | None]]:
    """Where a row stands in the opcode maps: (operand sizes, map, opcode, ModRM.reg or None)."""
    text = form.opcode
    sizes: tuple[int, ...] = (0, 1)
    if text.startswith("o32 "):
        text, sizes = text[4:], (0,)
    elif text.startswith("o16 "):
        text, sizes = text[4:], (1,)
    else:
        named = {32 if o.endswith("32") else 16 for o in form.operands
                 if o in ("r/m32", "r32", "imm32", "EAX", "rel32", "moffs32", "r/m16", "r16", "imm16", "AX", "moffs16",
                          "ptr16:32", "m16:32")}
        if form.raw in ("ret_i", "enter") or form.mnemonic in ("MOVZX", "MOVSX"):
            named = {32} if "r32" in form.operands or not form.sem else {16}
        if form.raw.endswith(("16", "32")) and form.raw.rstrip("0123456789") in (
                "movs", "stos", "lods", "cmps", "scas", "ins", "outs", "push_i"):
            named = {int(form.raw[-2:])}
        if 32 in named:
            sizes = (0,)
        elif 16 in named:
            sizes = (1,)
    parts = text.split()
    plus = [p for p in parts if "+r" in p]
    extension = next((p[1:] for p in parts if p.startswith("/")), None)
    codes = [p for p in parts if not p.startswith("/")]
    opcodes = [int(c.split("+")[0], 16) for c in codes]
    table = 0
    if opcodes[0] == 0x0F:
        table = 1
        opcodes = opcodes[1:]
    if len(opcodes) != 1:
        raise ValueError(f"{form.opcode}: one opcode byte after 0F is supported")
    first = opcodes[0]
    return [(sizes, table, first + i, extension) for i in range(8 if plus else 1)]


def generate_maps(out: Output) -> list[str]:
    """Opcode maps: a form, or a group that ModRM.reg and register/memory choose from."""
    single: dict[tuple[int, int, int], int] = {}
    groups: dict[tuple[int, int, int], list[list[int]]] = {}
    for index, form in enumerate(FORMS, 1):
        for sizes, table, opcode, extension in opcode_places(form):
            for size in sizes:
                key = (size, table, opcode)
                if extension in (None, "r"):
                    if single.setdefault(key, index) != index and "+r" not in form.opcode and not (
                            opcode == 0x90 and table == 0):
                        raise ValueError(f"{form.opcode} {form.syntax}: taken by {FORMS[single[key] - 1]}")
                    if form.raw == "nop" or key not in single:
                        single[key] = index
                    continue
                group = groups.setdefault(key, [[0] * 8, [0] * 8])
                memory_only = not any(o.startswith("r/m") for o in form.operands) and any(
                    o.startswith("m") for o in form.operands)
                register_only = not memory_only and not any(o.startswith("r/m") for o in form.operands) and any(
                    o.startswith("r") for o in form.operands)
                for kind in ((0,) if memory_only else (1,) if register_only else (0, 1)):
                    group[kind][int(extension)] = index
    lines = [f"cdef u16 opcode_groups[{max(len(groups), 1)}][2][8]"]
    body = []
    for number, (key, group) in enumerate(sorted(groups.items())):
        if key in single:
            raise ValueError(f"opcode {key} is a group and a form")
        body.append(f"opcode_map[{key[0]}][{key[1]}][{key[2]}] = GROUP | {number}")
        for kind in (0, 1):
            for extension in range(8):
                if group[kind][extension]:
                    body.append(f"opcode_groups[{number}][{kind}][{extension}] = {group[kind][extension]}")
    for key, index in sorted(single.items()):
        body.append(f"opcode_map[{key[0]}][{key[1]}][{key[2]}] = {index}")
    out.table += body
    return lines


def form_index(raw: str, opcode: str) -> int:
    return next(i for i, f in enumerate(FORMS, 1) if f.raw == raw and f.opcode == opcode)


def build() -> tuple[Output, list[str]]:
    """Everything that the rows give, and the declarations of the opcode groups."""
    out = Output()
    for index, form in enumerate(FORMS, 1):
        out.table.append(describe(form, index))
        if form.sem:
            generate_semantic(out, form, index)
        else:
            generate_raw(out, form, index)
    generate_fused(out)
    return out, generate_maps(out)


def handler_names() -> list[str]:
    """Names of the generated handlers, in the order of the core's `all_handlers`."""
    return build()[0].names


def generate(directory: Path) -> int:
    """Write handlers.pxi and tables.pxi into `directory`; returns the number of generated handlers."""
    out, declarations = build()
    header = "# Generated by pvfast/isa/generate.py from the rows of pvfast/isa/forms_*.py. Do not edit.\n\n"
    enums = "cdef enum:\n" + "".join(f"    COST_{name.upper()} = {i}\n" for i, name in enumerate(COST_CLASSES)) + "\n"
    enums += "cdef enum:\n" + "".join(f"    {name} = {i}\n" for i, name in enumerate(FUSE_CLASSES))
    enums += "    FUSE_MEMORY = FUSE_CMP_MEMORY8\n\n"
    enums += (f"cdef enum:\n    FORM_PUSH = {form_index('push_r32', '50+r')}\n"
              f"    FORM_POP = {form_index('pop_r32', '58+r')}\n"
              f"    FORM_CALL_MEMORY = {form_index('call_rm', 'FF /2')}\n    FORM_COUNT = {len(FORMS) + 1}\n\n")
    chunks = [out.table[i:i + 400] for i in range(0, len(out.table), 400)]
    fill = "\n".join(f"cdef void fill_tables_{i}() noexcept nogil:\n" + "".join(f"    {line}\n" for line in chunk)
                     for i, chunk in enumerate(chunks))
    fill += "\ncdef void fill_tables() noexcept nogil:\n" + "".join(
        f"    fill_tables_{i}()\n" for i in range(len(chunks)))
    constants = header + enums
    directory.mkdir(parents=True, exist_ok=True)
    for name, text in (("constants.pxi", constants),
                       ("handlers.pxi", header + "\n".join(out.handlers)),
                       ("tables.pxi", header + fill)):
        path = directory / name
        if not path.exists() or path.read_text() != text:
            path.write_text(text)
    (directory / "maps.pxi").write_text(header + "cdef u16 opcode_map[2][2][256]\n" + "\n".join(declarations)
                                        + "\ncdef FormInfo forms[FORM_COUNT]\ncdef Handler stack_special[2][2][8]\n"
                                        + f"cdef Handler all_handlers[{len(out.names)}]\n")
    return len(out.names)


if __name__ == "__main__":
    print(generate(Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).parent.parent / "core" / "generated")),
          "handlers")
