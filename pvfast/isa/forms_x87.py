"""x87 instructions: arithmetic, comparisons, moves, constants, transcendental functions, control and state.

Enters: SDM volume 2. Leaves: `FORMS`. Next: forms.py. A row names an inline function of core/x87_*.pxi with its
constant arguments (`raw="function:arguments"`), or a handwritten handler there.

`WAIT` forms (FSTCW, FINIT ...) are FWAIT followed by the row that starts with FN. FISTTP is SSE3: #UD.
"""
from __future__ import annotations

from pvfast.isa.form import Form, form

ARITHMETIC = (("ADD", 0, "fpu_add"), ("MUL", 1, "fpu_mul"), ("SUB", 4, "fpu_add"), ("SUBR", 5, "fpu_add"),
              ("DIV", 6, "fpu_div"), ("DIVR", 7, "fpu_div"))
"""Name, ModRM.reg in D8, cost class."""
REVERSED = {4: 5, 5: 4, 6: 7, 7: 6}
"""With the destination ST(i), SUB and DIV change places with their reversed forms (SDM 2, FSUB)."""
MEMORY = (("D8", "m32fp", "M32"), ("DC", "m64fp", "M64"), ("DA", "m32int", "I32"), ("DE", "m16int", "I16"))
CONDITIONS = (("B", 2), ("E", 4), ("BE", 6), ("U", 10))
"""FCMOVcc by the condition codes of Jcc (SDM 2, FCMOVcc)."""


def _row(opcode: str, syntax: str, raw: str, *, access: str = "", cost: str = "fpu_move", feature: str = "FPU",
         writes: str = "", reads: str = "") -> Form:
    return form(opcode, syntax, raw=raw, access=access, cost=cost, feature=feature, writes=writes, reads=reads)


def _arithmetic() -> list[Form]:
    """FADD, FMUL, FSUB, FSUBR, FDIV, FDIVR in all forms."""
    rows = []
    for name, reg, cost in ARITHMETIC:
        first, other = 0xC0 + 8 * reg, 0xC0 + 8 * REVERSED.get(reg, reg)
        rows += [
            _row(f"D8 {first:02X}+i", f"F{name} ST(0), ST(i)", f"x87_arithmetic:X87_{name}, False, False",
                 access="rw r", cost=cost),
            _row(f"DC {other:02X}+i", f"F{name} ST(i), ST(0)", f"x87_arithmetic:X87_{name}, True, False",
                 access="rw r", cost=cost),
            _row(f"DE {other:02X}+i", f"F{name}P ST(i), ST(0)", f"x87_arithmetic:X87_{name}, True, True",
                 access="rw r", cost=cost),
        ]
        for opcode, operand, kind in MEMORY:
            rows.append(_row(f"{opcode} /{reg}", f"F{'I' if 'int' in operand else ''}{name} {operand}",
                             f"x87_arithmetic_memory:X87_{name}, {kind}", access="r", cost=cost))
    return rows


def _comparisons() -> list[Form]:
    """FCOM and its kin; D0-D5 in DC and DE are undocumented aliases that every processor has."""
    rows = []
    for pop, reg in ((0, 2), (1, 3)):
        name = "FCOM" + "P" * pop
        rows.append(_row(f"D8 {0xC0 + 8 * reg:02X}+i", f"{name} ST(i)", f"x87_compare:False, {pop}", access="r",
                         cost="fpu_add"))
        rows.append(_row(f"DC {0xC0 + 8 * reg:02X}+i", f"{name} ST(i)", f"x87_compare:False, {pop}", access="r",
                         cost="fpu_add"))
        for opcode, operand, kind in MEMORY:
            rows.append(_row(f"{opcode} /{reg}", f"F{'I' if 'int' in operand else ''}{name[1:]} {operand}",
                             f"x87_compare_memory:{kind}, {pop}", access="r", cost="fpu_add"))
    rows += [
        _row("DE D0+i", "FCOMP ST(i)", "x87_compare:False, 1", access="r", cost="fpu_add"),
        _row("DE D9", "FCOMPP", "x87_compare:False, 2", cost="fpu_add"),
        _row("DD E0+i", "FUCOM ST(i)", "x87_compare:True, 0", access="r", cost="fpu_add"),
        _row("DD E8+i", "FUCOMP ST(i)", "x87_compare:True, 1", access="r", cost="fpu_add"),
        _row("DA E9", "FUCOMPP", "x87_compare:True, 2", cost="fpu_add"),
        _row("D9 E4", "FTST", "ftst", cost="fpu_add"),
        _row("D9 E5", "FXAM", "fxam", cost="fpu_add"),
    ]
    for opcode, name, quiet, pop in (("DB F0+i", "FCOMI", False, 0), ("DF F0+i", "FCOMIP", False, 1),
                                     ("DB E8+i", "FUCOMI", True, 0), ("DF E8+i", "FUCOMIP", True, 1)):
        rows.append(_row(opcode, f"{name} ST(0), ST(i)", f"x87_compare_flags:{quiet}, {pop}", access="r r",
                         cost="fpu_add", feature="CMOV", writes="oszapc"))
    return rows


def _moves() -> list[Form]:
    """FLD, FST, FXCH, FCMOVcc; integers and BCD."""
    rows = [
        _row("D9 C0+i", "FLD ST(i)", "fld", access="r"),
        _row("D9 /0", "FLD m32fp", "x87_load:M32", access="r"),
        _row("DD /0", "FLD m64fp", "x87_load:M64", access="r"),
        _row("DB /5", "FLD m80fp", "x87_load:M80", access="r"),
        _row("DF /0", "FILD m16int", "x87_load:I16", access="r"),
        _row("DB /0", "FILD m32int", "x87_load:I32", access="r"),
        _row("DF /5", "FILD m64int", "x87_load:I64", access="r"),
        _row("DF /4", "FBLD m80bcd", "x87_load:BCD", access="r", cost="fpu_div"),
        _row("D9 /2", "FST m32fp", "x87_store:M32, False", access="w"),
        _row("D9 /3", "FSTP m32fp", "x87_store:M32, True", access="w"),
        _row("DD /2", "FST m64fp", "x87_store:M64, False", access="w"),
        _row("DD /3", "FSTP m64fp", "x87_store:M64, True", access="w"),
        _row("DB /7", "FSTP m80fp", "x87_store:M80, True", access="w"),
        _row("DF /2", "FIST m16int", "x87_store:I16, False", access="w"),
        _row("DF /3", "FISTP m16int", "x87_store:I16, True", access="w"),
        _row("DB /2", "FIST m32int", "x87_store:I32, False", access="w"),
        _row("DB /3", "FISTP m32int", "x87_store:I32, True", access="w"),
        _row("DF /7", "FISTP m64int", "x87_store:I64, True", access="w"),
        _row("DF /6", "FBSTP m80bcd", "x87_store:BCD, True", access="w", cost="fpu_transcendental"),
        _row("DD D0+i", "FST ST(i)", "x87_store_register:False", access="w"),
    ]
    for opcode in ("DD D8+i", "DF D0+i", "DF D8+i"):            # the last two are undocumented aliases
        rows.append(_row(opcode, "FSTP ST(i)", "x87_store_register:True", access="w"))
    rows.append(_row("D9 D8+i", "FSTPNCE ST(i)", "fstpnce", access="w"))        # undocumented: empty is no exception
    for opcode in ("D9 C8+i", "DD C8+i", "DF C8+i"):            # the last two are undocumented aliases
        rows.append(_row(opcode, "FXCH ST(i)", "fxch", access="rw"))
    for number, (name, code) in enumerate(CONDITIONS):
        for negated in (0, 1):
            rows.append(_row(f"{('DA', 'DB')[negated]} {0xC0 + 8 * number:02X}+i",
                             f"FCMOV{'N' * negated}{name} ST(0), ST(i)", f"x87_move_if:{code + negated}",
                             access="w r", feature="CMOV", reads="zpc"))
    for number, name in enumerate(("1", "L2T", "L2E", "PI", "LG2", "LN2", "Z")):
        rows.append(_row(f"D9 {0xE8 + number:02X}", f"FLD{name}", f"x87_load_constant:{number}"))
    return rows


def _functions() -> list[Form]:
    """What works on ST(0), or on ST(0) and ST(1)."""
    rows = [
        _row("D9 E0", "FCHS", "fchs"),
        _row("D9 E1", "FABS", "fabs"),
    ]
    for modrm, name, raw in (
            (0xF0, "F2XM1", "x87_unary:X87_F2XM1"), (0xF1, "FYL2X", "x87_pop:X87_YL2X"),
            (0xF2, "FPTAN", "x87_push:X87_TAN"), (0xF3, "FPATAN", "x87_pop:X87_ATAN"),
            (0xF9, "FYL2XP1", "x87_pop:X87_YL2XP1"), (0xFB, "FSINCOS", "x87_push:X87_SINCOS"),
            (0xFE, "FSIN", "x87_unary:X87_SIN"), (0xFF, "FCOS", "x87_unary:X87_COS")):
        rows.append(_row(f"D9 {modrm:02X}", name, raw, cost="fpu_transcendental"))
    for modrm, name, raw in (
            (0xF4, "FXTRACT", "x87_push:X87_EXTRACT"), (0xF5, "FPREM1", "x87_binary:X87_PREM1"),
            (0xF8, "FPREM", "x87_binary:X87_PREM"), (0xFA, "FSQRT", "x87_unary:X87_SQRT"),
            (0xFC, "FRNDINT", "x87_unary:X87_ROUND"), (0xFD, "FSCALE", "x87_binary:X87_SCALE")):
        rows.append(_row(f"D9 {modrm:02X}", name, raw, cost="fpu_div"))
    return rows


def _control() -> list[Form]:
    """Control words, the stack pointer, the environment and the whole state (SDM 1:8.1)."""
    rows = [
        _row("9B", "FWAIT", "fwait", cost="nop"),
        _row("D9 D0", "FNOP", "fnop", cost="nop"),
        _row("D9 F6", "FDECSTP", "x87_turn:7", cost="fpu_move"),
        _row("D9 F7", "FINCSTP", "x87_turn:1", cost="fpu_move"),
        _row("DD C0+i", "FFREE ST(i)", "x87_free:False", access="w"),
        _row("DF C0+i", "FFREEP ST(i)", "x87_free:True", access="w"),           # undocumented
        _row("DB E2", "FNCLEX", "fnclex", cost="fpu_control"),
        _row("DB E3", "FNINIT", "fninit", cost="fpu_state"),
        _row("D9 /5", "FLDCW m2byte", "fldcw", access="r", cost="fpu_control"),
        _row("D9 /7", "FNSTCW m2byte", "fnstcw", access="w", cost="fpu_control"),
        _row("DD /7", "FNSTSW m2byte", "fnstsw", access="w", cost="fpu_control"),
        _row("DF E0", "FNSTSW AX", "fnstsw_ax", access="w", cost="fpu_control"),
        _row("NP 0F AE /0", "FXSAVE m512byte", "fxsave", access="w", cost="fpu_state", feature="FXSR"),
        _row("NP 0F AE /1", "FXRSTOR m512byte", "fxrstor", access="r", cost="fpu_state", feature="FXSR"),
    ]
    for modrm, name in ((0xE0, "FNENI"), (0xE1, "FNDISI"), (0xE4, "FNSETPM")):   # of the 8087 and 80287: nothing now
        rows.append(_row(f"DB {modrm:02X}", name, "fpu_nothing", cost="nop"))
    for opcode, name, sizes, access in (("D9 /4", "FLDENV", (14, 28), "r"), ("D9 /6", "FNSTENV", (14, 28), "w"),
                                        ("DD /4", "FRSTOR", (94, 108), "r"), ("DD /6", "FNSAVE", (94, 108), "w")):
        for size, length in zip(("o16", "o32"), sizes, strict=True):
            suffix = "16" if size == "o16" else ""
            rows.append(_row(f"{size} {opcode}", f"{name} m{length}byte", f"{name.lower()}{suffix}", access=access,
                             cost="fpu_state"))
    return rows


FORMS: tuple[Form, ...] = tuple(_arithmetic() + _comparisons() + _moves() + _functions() + _control())
