"""Tables: what the decoder knows of each row (FormInfo), and the opcode maps that lead to it.

Enters: all rows. Leaves: assignments for tables.pxi. Next: generate.py.
"""
from __future__ import annotations

from pvfast.isa.form import FLAGS, Form
from pvfast.isa.forms import FORMS
from pvfast.isa.operands import REGISTERS, kinds, parse
from pvfast.isa.specialisation import FUSED
from pvfast.isa.wrappers import VARIANTS, Output

TERMINATORS = {"jmp", "call", "call_rm", "jmp_rm", "ret", "ret_i", "loop", "loopz", "loopnz", "jecxz"}
STACK_TEMPLATES = {"call": "call", "ret": "ret", "call_rm": "call_memory", "jmp_rm": "jmp_memory"}
"""Raw terminators whose fast variants are inline functions of core/sem_branch.pxi."""
SIZED = {
    "xchg": "exchange(cpu, op, mem, {bytes}, {memory})", "xadd": "exchange_add(cpu, op, mem, {bytes}, {memory})",
    "cmpxchg": "compare_exchange(cpu, op, mem, {bytes}, {memory})",
    "mul": "multiply(cpu, op, mem, {bytes}, False, {memory})",
    "imul": "multiply(cpu, op, mem, {bytes}, True, {memory})",
    "div": "divide(cpu, op, mem, {bytes}, False, {memory})", "idiv": "divide(cpu, op, mem, {bytes}, True, {memory})",
    "bt": "bit_string(cpu, op, mem, {bytes}, BIT_TEST, {memory})",
    "bts": "bit_string(cpu, op, mem, {bytes}, BIT_SET, {memory})",
    "btr": "bit_string(cpu, op, mem, {bytes}, BIT_RESET, {memory})",
    "btc": "bit_string(cpu, op, mem, {bytes}, BIT_COMPLEMENT, {memory})",
    **{name.lower(): f"string(cpu, op, mem, {name}, {{bytes}})" for name in ("MOVS", "STOS", "LODS", "CMPS", "SCAS")},
}
"""Raw rows that differ in width only: the inline function of core/sem_integer.pxi or sem_string.pxi to call."""
IMMEDIATES = {"imm8": "I_8", "simm8": "I_S8", "imm16": "I_16", "imm32": "I_32", "rel8": "I_REL8",
              "rel32": "I_REL32", "moffs8": "I_MOFFS", "moffs16": "I_MOFFS", "moffs32": "I_MOFFS",
              "ptr16:32": "I_FAR"}


def generate_raw(out: Output, form: Form, index: int) -> None:
    """Places of a handwritten handler; Jcc and the stack get their constant-argument wrappers here."""
    raw = form.raw
    has_rm = any(o.startswith("r/m") for o in form.operands)
    memory_only = form.has_modrm and not has_rm and any(o.startswith("m") for o in form.operands)
    comment = f"{form.opcode}  {form.syntax}"
    base = raw.rstrip("0123456789")
    if base in SIZED:
        for memory in (False, True) if has_rm else (False,):
            call = SIZED[base].format(bytes=int(raw[len(base):]) // 8, memory=memory)
            name = out.handler(f"h{index}_{raw}_{'m' if memory else 'r'}", comment, [call])
            out.table.append(f"forms[{index}].live[{'GENERAL' if memory else 'V_REGISTER'}] = {name}")
        return
    if raw.startswith("jcc_"):
        code = raw[4:]
        name = out.handler(f"h{index}_jcc_{code}", comment, [f"jcc(cpu, op, mem, {code})"])
        out.table.append(f"forms[{index}].live[V_REGISTER] = {name}")
        return
    if raw in ("push_r32", "pop_r32"):
        what = "push_register" if raw == "push_r32" else "pop_register"
        for number, variant in enumerate(VARIANTS[:2]):
            for base in range(8):
                name = out.handler(f"h{index}_{raw}_{variant.lower()}_base{base}", comment,
                                   [f"{what}(cpu, op, mem, {REGISTERS[base]}, {variant})"])
                out.table.append(f"stack_special[{number}][{0 if raw == 'push_r32' else 1}][{base}] = {name}")
            out.table.append(f"forms[{index}].live[{variant}] = {name}")    # never chosen: tells that there are some
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
    if (form.sem and not ("w" in form.access[0] and any(
            o.startswith(("r/m", "moffs")) for o in operands[:1]))) or form.raw in ("call_rm", "jmp_rm"):
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
