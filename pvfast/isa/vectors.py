"""Wrappers of MMX, SSE and SSE2 rows: the plumbing around a lane loop or an instruction of the host.

Enters: rows of forms_vector.py with `sem`. Leaves: Cython handlers and their places in FormInfo. Next: maps.py.

A row has up to four handlers: REGISTER, FLAT and PAGED (core/access.pxd), and GENERAL, which does everything by the
checked functions of core/vector.pxi and is the reference. Each first asks whether the instruction is allowed now
(`blocked`: CR0.TS, CR4.OSFXSR, MXCSR in the host, ...); a fast memory handler leaves the answer to GENERAL.
"""
from __future__ import annotations

import re
from dataclasses import dataclass

from pvfast.isa.form import Form
from pvfast.isa.wrappers import VARIANTS, Output

UNALIGNED = {"MOVUPS", "MOVUPD", "MOVDQU"}
"""The rows with a 128-bit memory operand that need not be aligned (SDM 2:2.4)."""
LANES = {"ps": ("u32", 4), "ss": ("u32", 1), "pd": ("u64", 2), "sd": ("u64", 1)}
"""Of floating-point operands, by the suffix of the instruction."""
LANE_BYTES = {"u8": 1, "i8": 1, "u16": 2, "i16": 2, "u32": 4, "i32": 4}


@dataclass(frozen=True)
class Place:
    """An operand: its register file (mm, xmm, r32 or none), the uop's field with the number, bits in memory or 0."""

    file: str
    field: str
    memory: int

    @property
    def register(self) -> str:
        """The register as a Vector."""
        return {"xmm": "&cpu.xmm[op.{}]", "mm": "<Vector*>&cpu.fpu[op.{}]"}[self.file].format(self.field)


def is_vector(form: Form) -> bool:
    return bool(form.sem) and form.sem.partition(":")[0] in ("packed", "vector", "float")


def places(form: Form) -> list[Place]:
    """The operands but an immediate. A memory operand is ModRM.r/m; without one, the last register is."""
    names = [o for o in form.operands if o != "imm8"]
    memory = next((i for i, o in enumerate(names) if re.search(r"(^|/)m\d", o)), len(names) - 1)
    result = []
    for i, name in enumerate(names):
        file = re.match(r"xmm|mm|r32|r(?=/)|", name).group()       # type: ignore[union-attr]
        bits = re.search(r"(?:^|/)m(\d+)$", name)
        result.append(Place("r32" if file == "r" else file, "base" if i == memory else "reg",
                            int(bits.group(1)) if bits else 0))
    return result


def uses(form: Form, *, in_memory: bool) -> str:
    """What has to be allowed, as a constant of core/vector.pxi. A memory operand of CVTPI2PS is no MM register."""
    files = {place.file for place in places(form) if not (in_memory and place.memory and place.file == "mm")}
    parts = [name for name, present in (("USES_MMX", "mm" in files), ("USES_SSE", "xmm" in files)) if present]
    return " | ".join(parts) or "0"


def compute(form: Form, target: Place, source: Place, value: str, *, merges: bool) -> str:
    """The call of the semantic function; `value` is the source as a Vector."""
    family, operation, *rest = form.sem.split(":")
    old = target.register if merges and target.file in ("mm", "xmm") else value
    width = 8 if "mm" in (target.file, source.file) and family != "float" else 16
    extra = ["op.imm"] if "imm8" in form.operands else []
    if family == "packed":
        lane = rest[0]
        arguments = [f"<{lane}*>&result", *(f"<const {lane}*>({v})" for v in (old, value)),
                     str(width // LANE_BYTES[lane]), *extra]
        return f"packed_{operation}[{lane}]({', '.join(arguments)})"
    arguments = ["&result", old, value, *([str(width)] if rest else []), *extra]
    return f"{family}_{operation}({', '.join(arguments)})"


def commit(form: Form, target: Place) -> list[str]:
    """Store the result in a register."""
    if form.sem.startswith("float:") and "w" not in form.access[0]:
        return ["set_order(cpu, result.d[0])"]
    if target.file == "r32":
        return [f"cpu.gpr[op.{target.field}].q = result.d[0]"]
    if target.file == "mm":
        return [f"set_mm(cpu, op.{target.field}, result.q[0])"]
    return [f"cpu.xmm[op.{target.field}] = result"]


def finish_float(form: Form, old: str, value: str) -> list[str]:
    """Behind a computation on `old` and `value` that MXCSR governs."""
    if not form.sem.startswith("float:"):
        return []
    lines = []
    name = form.sem.removeprefix("float:")
    if match := re.match(r"(add|sub|mul|div)(ps|ss|pd|sd)$|cvt(pd2ps|sd2ss)$", name):
        operation, suffix, narrows = match.groups()
        lane, count = LANES[suffix or narrows[:2]]
        scalar = "cvtsd2ss" if narrows else operation + ("ss" if lane == "u32" else "sd")
        kind = "A_SUM" if operation in ("add", "sub") else "A_PRODUCT"
        lines = ["if rare(cpu.mxcsr_guarded):",
                 f"    refine_flags[{lane}](cpu, float_{scalar}, {kind}, {bool(narrows) or lane == 'u32'}, "
                 f"<const {lane}*>({value if narrows else old}), <const {lane}*>({value}), {count})"]
    return [*lines, "if rare(cpu.mxcsr_guarded) and not end_float(cpu):", "    raise_fault(cpu, op)", "    return"]


def wrap(out: Output, form: Form, index: int, variant: str) -> str:
    """Write one handler; returns its name."""
    name = f"h{index}_{form.mnemonic.lower()}_{variant.lower()}"
    target, source = (places(form) * 2)[:2]
    merges = "r" in form.access[0]
    is_float = form.sem.startswith("float:")
    needed = uses(form, in_memory=variant != "REGISTER")
    # MMX takes the x87 registers over (SDM 1:9.5.1): when nothing but #XM can be raised any more.
    enters = ["enter_mmx(cpu)"] if "USES_MMX" in needed else []
    body = ["cdef Vector result"]
    in_memory = None if variant == "REGISTER" else target if target.memory else source
    size = in_memory.memory // 8 if in_memory else 0
    aligned = size == 16 and form.mnemonic not in UNALIGNED
    stores = in_memory is target and "w" in form.access[0]
    if variant == "REGISTER" or stores:
        value = source.register if source.file in ("mm", "xmm") else "&source"
        if source.file == "r32":
            body += ["cdef Vector source", f"source.d[0] = cpu.gpr[op.{source.field}].d"]
    elif variant == "GENERAL":
        body += ["cdef Vector source"]
        value = "&source"
    else:
        value = "<Vector*>host"
    call = compute(form, target, source, value, merges=merges and not stores)
    target_value = target.register if target.file in ("mm", "xmm") else value
    guard = f"blocked(cpu, {needed}{' | USES_MXCSR' if is_float else ''})"
    if variant == "REGISTER":
        if is_float:
            body += [f"if rare({guard}) and not (permit(cpu, {needed}) and begin_float(cpu)):",
                     "    raise_fault(cpu, op)", "    return"]
        elif needed != "0":
            body += [f"if rare({guard}):", f"    refuse_vector(cpu, op, {needed})", "    return"]
        body += [call, *enters, *finish_float(form, target_value, value), *commit(form, target)]
    elif variant == "GENERAL" and stores:
        body += [call, f"if not (permit(cpu, {needed}) and store_vector(cpu, op, {size}, {aligned}, &result)):",
                 "    raise_fault(cpu, op)", "    return", *enters]
    elif variant == "GENERAL":
        begin = f"permit(cpu, {needed}) and load_vector(cpu, op, {size}, {aligned}, &source)" + (
            " and begin_float(cpu)" if is_float else "")
        body += [f"if not ({begin}):", "    raise_fault(cpu, op)", "    return", call, *enters,
                 *finish_float(form, target_value, value), *commit(form, target)]
    else:
        access = "write_at" if stores else "read_at"
        conditions = [f"not {access}(cpu, mem, op.segment, offset_of(cpu, op), {size}, {variant}, &host)"]
        if needed != "0":
            conditions.insert(0, guard)
        if aligned:
            conditions.append("misaligned(host)")
        body += ["cdef char* host", f"if rare({' or '.join(conditions)}):",
                 f"    h{index}_{form.mnemonic.lower()}_general(cpu, op, mem)", "    return", call]
        if stores:
            body += [f"memcpy(host, &result, {size})", *enters]
        else:
            body += [*enters, *commit(form, target)]
    body.append("finish(cpu, op, mem)" if variant == "GENERAL" else "next_uop(cpu, op, mem)")
    if variant == "GENERAL" or (source.file == "r32" and not stores):
        body = [keep_in_cpu(line) for line in body]
    return out.handler(name, f"{form.opcode}  {form.syntax}", body)


def keep_in_cpu(line: str) -> str:
    """A line of a handler whose `result` and `source` are handed to functions: a handler with a local that others have
    the address of cannot end in a tail call, so they lie in the CPU structure.

    >>> keep_in_cpu("cdef Vector source"), keep_in_cpu("cpu.xmm[op.reg] = result")
    ('cdef Vector* source = &cpu.vector_source', 'cpu.xmm[op.reg] = result[0]')
    """
    line = re.sub(r"^cdef Vector (\w+)$", r"cdef Vector* \1 = &cpu.vector_\1", line)
    line = re.sub(r"&(result|source)\b", r"\1", line)
    return re.sub(r"= result$", "= result[0]", line)


def generate_vector(out: Output, form: Form, index: int) -> None:
    """The handlers of a row and their places in its FormInfo."""
    variants = [("REGISTER", "V_REGISTER")] if not form.takes_only_memory else []
    if form.takes_memory:
        variants += [(variant, variant) for variant in ("GENERAL", *VARIANTS[:2])]
    for variant, place in variants:
        out.table.append(f"forms[{index}].live[{place}] = {wrap(out, form, index, variant)}")
