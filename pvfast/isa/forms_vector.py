"""MMX, SSE and SSE2: moves, packed integers, floating point, conversions, shuffles, cache control.

Enters: SDM volume 2; volume 1, chapters 9-11. Leaves: `FORMS`. Next: forms_x87.py. vectors.py reads the `sem` column:

``packed:add:u8``   the lane loop `packed_add` of core/sem_vector.pxd on lanes of that type
``vector:shufps``   `vector_shufps`, on whole registers; ``vector:sad:size`` gets the operand's bytes as well
``float:addps``     the instruction of that name in core/host_sse.h, which MXCSR governs

A row with `mm` obeys the rules of MMX, one with `xmm` those of SSE (SDM 2:2.4). Where the manual gives one row for two
operations (MOVSS between registers and from memory), there are two.
"""
from __future__ import annotations

from pvfast.isa.form import Form, form

_PREFIX = {"ps": "NP", "pd": "66", "ss": "F3", "sd": "F2"}
_MEMORY = {"ps": "xmm/m128", "pd": "xmm/m128", "ss": "xmm/m32", "sd": "xmm/m64"}
_FEATURE = {"ps": "SSE", "ss": "SSE", "pd": "SSE2", "sd": "SSE2"}


def _both(code: str, name: str, sem: str, *, feature: str = "MMX", cost: str = "simd") -> list[Form]:
    """``NP 0F code`` on mm, and ``66 0F code`` on xmm, which is SSE2."""
    return [form(f"NP 0F {code} /r", f"{name} mm, mm/m64", sem=sem, access="rw r", feature=feature, cost=cost),
            form(f"66 0F {code} /r", f"{name} xmm, xmm/m128", sem=sem, access="rw r", feature="SSE2", cost=cost)]


def _packed() -> list[Form]:
    """Integers in both registers (SDM 1:9.4, 1:10.4.4, 1:11.4.2)."""
    rows = []
    for code, name, sem in (
            ("FC", "PADDB", "add:u8"), ("FD", "PADDW", "add:u16"), ("FE", "PADDD", "add:u32"),
            ("EC", "PADDSB", "add_saturated:i8"), ("ED", "PADDSW", "add_saturated:i16"),
            ("DC", "PADDUSB", "add_saturated:u8"), ("DD", "PADDUSW", "add_saturated:u16"),
            ("F8", "PSUBB", "sub:u8"), ("F9", "PSUBW", "sub:u16"), ("FA", "PSUBD", "sub:u32"),
            ("E8", "PSUBSB", "sub_saturated:i8"), ("E9", "PSUBSW", "sub_saturated:i16"),
            ("D8", "PSUBUSB", "sub_saturated:u8"), ("D9", "PSUBUSW", "sub_saturated:u16"),
            ("74", "PCMPEQB", "equal:u8"), ("75", "PCMPEQW", "equal:u16"), ("76", "PCMPEQD", "equal:u32"),
            ("64", "PCMPGTB", "greater:i8"), ("65", "PCMPGTW", "greater:i16"), ("66", "PCMPGTD", "greater:i32"),
            ("DB", "PAND", "and:u32"), ("DF", "PANDN", "and_not:u32"), ("EB", "POR", "or:u32"),
            ("EF", "PXOR", "xor:u32"),
            ("F1", "PSLLW", "shift_left:u16"), ("F2", "PSLLD", "shift_left:u32"),
            ("D1", "PSRLW", "shift_right:u16"), ("D2", "PSRLD", "shift_right:u32"),
            ("E1", "PSRAW", "shift_right:i16"), ("E2", "PSRAD", "shift_right:i32")):
        rows += _both(code, name, f"packed:{sem}")
    rows += _both("F3", "PSLLQ", "vector:shift_left64") + _both("D3", "PSRLQ", "vector:shift_right64")
    for code, name, sem in (("D5", "PMULLW", "packed:multiply_low:i16"), ("E5", "PMULHW", "packed:multiply_high:i16"),
                            ("F5", "PMADDWD", "vector:multiply_add:size")):
        rows += _both(code, name, sem, cost="simd_mul")
    for code, name, sem in (("63", "PACKSSWB", "pack_i16_i8"), ("67", "PACKUSWB", "pack_i16_u8"),
                            ("6B", "PACKSSDW", "pack_i32_i16"), ("6A", "PUNPCKHDQ", "unpack_high32")):
        rows += _both(code, name, f"vector:{sem}:size", cost="simd_shuffle")
    rows += _both("68", "PUNPCKHBW", "vector:unpack_high8:size", cost="simd_shuffle")
    rows += _both("69", "PUNPCKHWD", "vector:unpack_high16:size", cost="simd_shuffle")
    for code, name, sem in (("60", "PUNPCKLBW", "vector:unpack_low8:size"),
                            ("61", "PUNPCKLWD", "vector:unpack_low16:size"),
                            ("62", "PUNPCKLDQ", "vector:unpack_low32:size")):
        rows += [form(f"NP 0F {code} /r", f"{name} mm, mm/m32", sem=sem, access="rw r", feature="MMX",
                      cost="simd_shuffle"),
                 form(f"66 0F {code} /r", f"{name} xmm, xmm/m128", sem=sem, access="rw r", feature="SSE2",
                      cost="simd_shuffle")]
    for code, name, sem in (("E0", "PAVGB", "average:u8"), ("E3", "PAVGW", "average:u16"), ("DA", "PMINUB", "min:u8"),
                            ("DE", "PMAXUB", "max:u8"), ("EA", "PMINSW", "min:i16"), ("EE", "PMAXSW", "max:i16")):
        rows += _both(code, name, f"packed:{sem}", feature="SSE")
    rows += _both("E4", "PMULHUW", "packed:multiply_high:u16", feature="SSE", cost="simd_mul")
    rows += _both("F6", "PSADBW", "vector:sad:size", feature="SSE", cost="simd_mul")
    rows += _both("D4", "PADDQ", "vector:add64", feature="SSE2") + _both("FB", "PSUBQ", "vector:sub64", feature="SSE2")
    rows += _both("F4", "PMULUDQ", "vector:multiply_even", feature="SSE2", cost="simd_mul")
    for code, extension, name, sem in (
            ("71", 2, "PSRLW", "packed:shift_right_by:u16"), ("71", 4, "PSRAW", "packed:shift_right_by:i16"),
            ("71", 6, "PSLLW", "packed:shift_left_by:u16"), ("72", 2, "PSRLD", "packed:shift_right_by:u32"),
            ("72", 4, "PSRAD", "packed:shift_right_by:i32"), ("72", 6, "PSLLD", "packed:shift_left_by:u32"),
            ("73", 2, "PSRLQ", "vector:shift_right64_by"), ("73", 6, "PSLLQ", "vector:shift_left64_by")):
        rows += [form(f"NP 0F {code} /{extension}", f"{name} mm, imm8", sem=sem, access="rw r", feature="MMX",
                      cost="simd"),
                 form(f"66 0F {code} /{extension}", f"{name} xmm, imm8", sem=sem, access="rw r", feature="SSE2",
                      cost="simd")]
    rows += [form("66 0F 73 /3", "PSRLDQ xmm, imm8", sem="vector:shift_right128", access="rw r", feature="SSE2",
                  cost="simd"),
             form("66 0F 73 /7", "PSLLDQ xmm, imm8", sem="vector:shift_left128", access="rw r", feature="SSE2",
                  cost="simd")]
    return rows


def _shuffles() -> list[Form]:
    rows = [
        form("66 0F 6C /r", "PUNPCKLQDQ xmm, xmm/m128", sem="vector:high64", access="rw r", feature="SSE2",
             cost="simd_shuffle"),
        form("66 0F 6D /r", "PUNPCKHQDQ xmm, xmm/m128", sem="vector:both_high", access="rw r", feature="SSE2",
             cost="simd_shuffle"),
        form("NP 0F 14 /r", "UNPCKLPS xmm, xmm/m128", sem="vector:unpack_low32:size", access="rw r", feature="SSE",
             cost="simd_shuffle"),
        form("NP 0F 15 /r", "UNPCKHPS xmm, xmm/m128", sem="vector:unpack_high32:size", access="rw r", feature="SSE",
             cost="simd_shuffle"),
        form("66 0F 14 /r", "UNPCKLPD xmm, xmm/m128", sem="vector:high64", access="rw r", feature="SSE2",
             cost="simd_shuffle"),
        form("66 0F 15 /r", "UNPCKHPD xmm, xmm/m128", sem="vector:both_high", access="rw r", feature="SSE2",
             cost="simd_shuffle"),
        form("NP 0F C6 /r", "SHUFPS xmm, xmm/m128, imm8", sem="vector:shufps", access="rw r r", feature="SSE",
             cost="simd_shuffle"),
        form("66 0F C6 /r", "SHUFPD xmm, xmm/m128, imm8", sem="vector:shufpd", access="rw r r", feature="SSE2",
             cost="simd_shuffle"),
    ]
    for prefix, name, operands, sem, feature in (
            ("NP", "PSHUFW", "mm, mm/m64", "shuffle_low16", "SSE"),
            ("66", "PSHUFD", "xmm, xmm/m128", "shuffle32", "SSE2"),
            ("F2", "PSHUFLW", "xmm, xmm/m128", "shuffle_low16", "SSE2"),
            ("F3", "PSHUFHW", "xmm, xmm/m128", "shuffle_high16", "SSE2")):
        rows.append(form(f"{prefix} 0F 70 /r", f"{name} {operands}, imm8", sem=f"vector:{sem}", access="w r r",
                         feature=feature, cost="simd_shuffle"))
    for prefix, register, feature in (("NP", "mm", "SSE"), ("66", "xmm", "SSE2")):
        rows += [
            form(f"{prefix} 0F C4 /r", f"PINSRW {register}, r32/m16, imm8", sem="vector:insert16:size",
                 access="rw r r", feature=feature, cost="simd_shuffle"),
            form(f"{prefix} 0F C5 /r", f"PEXTRW r32, {register}, imm8", sem="vector:extract16:size",
                 access="w r r", feature=feature, cost="simd_to_gpr"),
            form(f"{prefix} 0F D7 /r", f"PMOVMSKB r32, {register}", sem="vector:byte_signs:size", access="w r",
                 feature=feature, cost="simd_to_gpr"),
        ]
    rows += [form("NP 0F 50 /r", "MOVMSKPS r32, xmm", sem="vector:signs32", access="w r", feature="SSE",
                  cost="simd_to_gpr"),
             form("66 0F 50 /r", "MOVMSKPD r32, xmm", sem="vector:signs64", access="w r", feature="SSE2",
                  cost="simd_to_gpr")]
    return rows


def _moves() -> list[Form]:
    """SDM 1:9.4.1, 1:10.4.1.1, 1:11.4.1.1, 1:11.4.4."""
    rows = []
    for opcode, syntax, sem, feature in (
            ("NP 0F 6E", "MOVD mm, r/m32", "zero_extend32", "MMX"),
            ("66 0F 6E", "MOVD xmm, r/m32", "zero_extend32", "SSE2"),
            ("NP 0F 7E", "MOVD r/m32, mm", "zero_extend32", "MMX"),
            ("66 0F 7E", "MOVD r/m32, xmm", "zero_extend32", "SSE2"),
            ("NP 0F 6F", "MOVQ mm, mm/m64", "zero_extend64", "MMX"),
            ("NP 0F 7F", "MOVQ mm/m64, mm", "zero_extend64", "MMX"),
            ("F3 0F 7E", "MOVQ xmm, xmm/m64", "zero_extend64", "SSE2"),
            ("66 0F D6", "MOVQ xmm/m64, xmm", "zero_extend64", "SSE2"),
            ("F2 0F D6", "MOVDQ2Q mm, xmm", "zero_extend64", "SSE2"),
            ("F3 0F D6", "MOVQ2DQ xmm, mm", "zero_extend64", "SSE2"),
            ("NP 0F E7", "MOVNTQ m64, mm", "zero_extend64", "SSE"), ("66 0F E7", "MOVNTDQ m128, xmm", "move", "SSE2"),
            ("NP 0F 2B", "MOVNTPS m128, xmm", "move", "SSE"), ("66 0F 2B", "MOVNTPD m128, xmm", "move", "SSE2"),
            ("NP 0F C3", "MOVNTI m32, r32", "zero_extend32", "SSE2"),
            ("NP 0F 12", "MOVLPS xmm, m64", "low64", "SSE"), ("66 0F 12", "MOVLPD xmm, m64", "low64", "SSE2"),
            ("NP 0F 12", "MOVHLPS xmm, xmm", "high_to_low", "SSE"),
            ("NP 0F 13", "MOVLPS m64, xmm", "zero_extend64", "SSE"),
            ("66 0F 13", "MOVLPD m64, xmm", "zero_extend64", "SSE2"),
            ("NP 0F 16", "MOVHPS xmm, m64", "high64", "SSE"), ("66 0F 16", "MOVHPD xmm, m64", "high64", "SSE2"),
            ("NP 0F 16", "MOVLHPS xmm, xmm", "high64", "SSE"),
            ("NP 0F 17", "MOVHPS m64, xmm", "from_high", "SSE"), ("66 0F 17", "MOVHPD m64, xmm", "from_high", "SSE2"),
            ("F3 0F 10", "MOVSS xmm, xmm", "low32", "SSE"), ("F3 0F 10", "MOVSS xmm, m32", "zero_extend32", "SSE"),
            ("F2 0F 10", "MOVSD xmm, xmm", "low64", "SSE2"), ("F2 0F 10", "MOVSD xmm, m64", "zero_extend64", "SSE2"),
            ("F3 0F 11", "MOVSS xmm/m32, xmm", "low32", "SSE"), ("F2 0F 11", "MOVSD xmm/m64, xmm", "low64", "SSE2")):
        merges = sem in ("low32", "low64", "high64", "high_to_low")
        rows.append(form(f"{opcode} /r", syntax, sem=f"vector:{sem}", access="rw r" if merges else "w r",
                         feature=feature, cost="simd_to_gpr" if syntax.startswith("MOVD r") else "simd_move"))
    for load, store, name, feature in (
            ("NP 0F 28", "NP 0F 29", "MOVAPS", "SSE"), ("66 0F 28", "66 0F 29", "MOVAPD", "SSE2"),
            ("NP 0F 10", "NP 0F 11", "MOVUPS", "SSE"), ("66 0F 10", "66 0F 11", "MOVUPD", "SSE2"),
            ("66 0F 6F", "66 0F 7F", "MOVDQA", "SSE2"), ("F3 0F 6F", "F3 0F 7F", "MOVDQU", "SSE2")):
        rows += [form(f"{load} /r", f"{name} xmm, xmm/m128", sem="vector:move", access="w r", feature=feature,
                      cost="simd_move"),
                 form(f"{store} /r", f"{name} xmm/m128, xmm", sem="vector:move", access="w r", feature=feature,
                      cost="simd_move")]
    return rows


def _floating_point() -> list[Form]:
    """SDM 1:10.4.1, 1:11.4.1."""
    rows = []
    for code, name, cost in (("58", "add", "sse_add"), ("5C", "sub", "sse_add"), ("59", "mul", "sse_mul"),
                             ("5E", "div", "sse_div"), ("5D", "min", "sse_add"), ("5F", "max", "sse_add"),
                             ("51", "sqrt", "sse_div"), ("53", "rcp", "sse_mul"), ("52", "rsqrt", "sse_mul")):
        unary = name in ("sqrt", "rcp", "rsqrt")
        for suffix in ("ps", "ss") if name in ("rcp", "rsqrt") else ("ps", "ss", "pd", "sd"):
            rows.append(form(f"{_PREFIX[suffix]} 0F {code} /r", f"{(name + suffix).upper()} xmm, {_MEMORY[suffix]}",
                             sem=f"float:{name}{suffix}", access="w r" if unary and suffix[0] == "p" else "rw r",
                             feature=_FEATURE[suffix], cost=cost))
    for suffix in ("ps", "ss", "pd", "sd"):
        rows.append(form(f"{_PREFIX[suffix]} 0F C2 /r", f"CMP{suffix.upper()} xmm, {_MEMORY[suffix]}, imm8",
                         sem=f"float:cmp{suffix}", access="rw r r", feature=_FEATURE[suffix], cost="sse_add"))
    for code, name in (("2F", "COMIS"), ("2E", "UCOMIS")):
        for kind, prefix in (("S", "NP"), ("D", "66")):
            rows.append(form(f"{prefix} 0F {code} /r", f"{name}{kind} xmm, {_MEMORY['s' + kind.lower()]}",
                             sem=f"float:{name.lower()}{kind.lower()}", access="r r", writes="oszapc",
                             feature="SSE" if kind == "S" else "SSE2", cost="sse_add"))
    for code, name, sem in (("54", "AND", "and"), ("55", "ANDN", "and_not"), ("56", "OR", "or"), ("57", "XOR", "xor")):
        for suffix in ("ps", "pd"):
            rows.append(form(f"{_PREFIX[suffix]} 0F {code} /r", f"{name}{suffix.upper()} xmm, xmm/m128",
                             sem=f"packed:{sem}:u32", access="rw r", feature=_FEATURE[suffix], cost="simd"))
    return rows


def _conversions() -> list[Form]:
    """SDM 1:11.4.1.6."""
    rows = []
    for opcode, syntax, sem in (
            ("NP 0F 2A", "CVTPI2PS xmm, mm/m64", "cvtpi2ps"), ("NP 0F 2D", "CVTPS2PI mm, xmm/m64", "cvtps2pi"),
            ("NP 0F 2C", "CVTTPS2PI mm, xmm/m64", "cvttps2pi"), ("F3 0F 2A", "CVTSI2SS xmm, r/m32", "cvtsi2ss"),
            ("F3 0F 2D", "CVTSS2SI r32, xmm/m32", "cvtss2si"), ("F3 0F 2C", "CVTTSS2SI r32, xmm/m32", "cvttss2si"),
            ("66 0F 2A", "CVTPI2PD xmm, mm/m64", "cvtdq2pd"), ("66 0F 2D", "CVTPD2PI mm, xmm/m128", "cvtpd2dq"),
            ("66 0F 2C", "CVTTPD2PI mm, xmm/m128", "cvttpd2dq"), ("F2 0F 2A", "CVTSI2SD xmm, r/m32", "cvtsi2sd"),
            ("F2 0F 2D", "CVTSD2SI r32, xmm/m64", "cvtsd2si"), ("F2 0F 2C", "CVTTSD2SI r32, xmm/m64", "cvttsd2si"),
            ("NP 0F 5B", "CVTDQ2PS xmm, xmm/m128", "cvtdq2ps"), ("66 0F 5B", "CVTPS2DQ xmm, xmm/m128", "cvtps2dq"),
            ("F3 0F 5B", "CVTTPS2DQ xmm, xmm/m128", "cvttps2dq"), ("F3 0F E6", "CVTDQ2PD xmm, xmm/m64", "cvtdq2pd"),
            ("F2 0F E6", "CVTPD2DQ xmm, xmm/m128", "cvtpd2dq"), ("66 0F E6", "CVTTPD2DQ xmm, xmm/m128", "cvttpd2dq"),
            ("NP 0F 5A", "CVTPS2PD xmm, xmm/m64", "cvtps2pd"), ("66 0F 5A", "CVTPD2PS xmm, xmm/m128", "cvtpd2ps"),
            ("F3 0F 5A", "CVTSS2SD xmm, xmm/m32", "cvtss2sd"), ("F2 0F 5A", "CVTSD2SS xmm, xmm/m64", "cvtsd2ss")):
        merges = sem in ("cvtpi2ps", "cvtsi2ss", "cvtsi2sd", "cvtss2sd", "cvtsd2ss")
        first = sem in ("cvtpi2ps", "cvtps2pi", "cvttps2pi", "cvtsi2ss", "cvtss2si", "cvttss2si")
        rows.append(form(f"{opcode} /r", syntax, sem=f"float:{sem}", access="rw r" if merges else "w r",
                         feature="SSE" if first else "SSE2", cost="sse_convert"))
    return rows


def _control() -> list[Form]:
    """State, cache control, ordering (SDM 1:10.4.6, 1:11.4.4)."""
    return [
        form("NP 0F 77", "EMMS", raw="emms", feature="MMX", cost="emms"),
        form("NP 0F AE /2", "LDMXCSR m32", raw="ldmxcsr", access="r", feature="SSE", cost="mxcsr"),
        form("NP 0F AE /3", "STMXCSR m32", raw="stmxcsr", access="w", feature="SSE", cost="mxcsr"),
        form("NP 0F F7 /r", "MASKMOVQ mm, mm", raw="maskmovq", access="r r", feature="SSE", cost="simd_move"),
        form("66 0F F7 /r", "MASKMOVDQU xmm, xmm", raw="maskmovdqu", access="r r", feature="SSE2", cost="simd_move"),
        form("NP 0F AE E8+i", "LFENCE", raw="fence", feature="SSE2", cost="fence"),
        form("NP 0F AE F0+i", "MFENCE", raw="fence", feature="SSE2", cost="fence"),
        form("NP 0F AE F8+i", "SFENCE", raw="fence", feature="SSE", cost="fence"),
        form("NP 0F AE /7", "CLFLUSH m8", raw="clflush", access="r", feature="CLFSH", cost="fence"),
    ]


FORMS: tuple[Form, ...] = tuple(_packed() + _shuffles() + _moves() + _floating_point() + _conversions() + _control())
