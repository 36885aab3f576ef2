"""Wrappers: the plumbing around a semantic function, one per operand kind and memory variant.

Enters: rows with `sem`. Leaves: Cython handlers and their places in FormInfo. Next: specialisation.py.

Every form with a memory operand gets the variant GENERAL, which does everything by checked functions and is the
reference; the others (core/access.pxd) are fast ways of the same thing that fall back to it.
"""
from __future__ import annotations

from dataclasses import dataclass, field

from pvfast.isa.form import Form
from pvfast.isa.operands import (
    CTYPE,
    Operand,
    address,
    is_memory_operand,
    number_of,
    parse,
    store,
    value_of,
)

VARIANTS = ("FLAT", "PAGED", "SEGMENT", "SEGMENT_PAGED", "SEGMENT_A16", "SEGMENT_A16_PAGED")
SEGMENTS = ("ES", "CS", "SS", "DS", "FS", "GS")
SEGMENT_FAST = {"mov", "zero_extend", "cmp", "test", "add", "inc", "dec"}
"""Operations worth a fast way through %fs and %gs, in segments that are not flat, and with 16-bit addressing."""


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
            offset = "offset16_of(cpu, op)" if "A16" in variant else address(special)
            place = f"cpu, mem, {segment}, {offset}, {size}, {variant.replace('_A16', '')}, &host"
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


def live_variants(form: Form, width: int) -> tuple[int, ...]:
    """1: flags are stored; 0: the twin for flags that nothing reads."""
    return (1, 0) if form.writes and width != 16 else (1,)


def generate_semantic(out: Output, form: Form, index: int, covered: set[tuple[str, int]]) -> None:
    """Wrappers of a row with `sem`, and their places in its FormInfo.

    `covered`: (variant, live) for which a specialised handler is chosen whatever the operands.
    """
    operands = parse(form)
    width = max(o.size for o in operands)
    lives = live_variants(form, width)
    has_memory = any(is_memory_operand(o) or o.kind == "m" for o in operands)
    has_register_form = not any(o.kind in ("m", "moffs") for o in operands)
    variants = ["GENERAL"] if has_memory else []
    if has_memory:
        variants += [v for v in VARIANTS if v in VARIANTS[:2] or form.sem in SEGMENT_FAST]
    if form.sem == "lea":
        variants = ["GENERAL", *VARIANTS[:4]] if width == 32 else ["GENERAL"]
    for live in lives:
        table = "live" if live else "dead"
        if has_register_form and ("REGISTER", live) not in covered:
            name = wrap(out, form, index, operands, "REGISTER", live)
            out.table.append(f"forms[{index}].{table}[V_REGISTER] = {name}")
        for variant in variants:
            if (variant, live) in covered:
                continue
            if not live and variant not in VARIANTS[:2]:
                name = f"h{index}_{form.mnemonic.lower()}_{variant.lower()}"
            elif form.sem == "lea" and variant not in ("GENERAL", "FLAT"):
                name = f"h{index}_lea_flat"
            else:
                name = wrap(out, form, index, operands, variant, live)
            out.table.append(f"forms[{index}].{table}[{variant}] = {name}")
