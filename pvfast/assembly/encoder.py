"""One instruction's text goes in, its checked bytes come out.

Keystone encodes, one handle per thread, and is never believed: the bytes are decoded back and have to give
the same mnemonic, the same registers and the same numbers. What it gets wrong without saying so (prefixes,
far transfers, relative jumps, decimal numbers) never reaches it. Next: ``layout.py``, the caller;
``disassembler.py``, the check.
"""

import re
import threading
from functools import lru_cache
from typing import Any

from pvfast.assembly.disassembler import disassemble

_local = threading.local()

_CONDITIONS = (
    ("o",), ("no",), ("b", "c", "nae"), ("ae", "nb", "nc"), ("e", "z"), ("ne", "nz"), ("be", "na"),
    ("a", "nbe"), ("s",), ("ns",), ("p", "pe"), ("np", "po"), ("l", "nge"), ("ge", "nl"), ("le", "ng"),
    ("g", "nle"),
)

#: Relative transfers: mnemonic to (opcode with rel8, opcode with rel32); None where that form does not exist.
BRANCHES: dict[str, tuple[bytes | None, bytes | None]] = {
    "jmp": (b"\xeb", b"\xe9"),
    "call": (None, b"\xe8"),
    "calll": (None, b"\xe8"),
    "jmpl": (b"\xeb", b"\xe9"),
    "loopne": (b"\xe0", None), "loopnz": (b"\xe0", None), "loope": (b"\xe1", None), "loopz": (b"\xe1", None),
    "loop": (b"\xe2", None), "jecxz": (b"\xe3", None),
    **{
        f"j{name}": (bytes((0x70 + code,)), bytes((0x0F, 0x80 + code)))
        for code, names in enumerate(_CONDITIONS) for name in names
    },
}

#: Direct far transfers ``ljmp $selector, $offset``: opcode, offset, selector. Keystone truncates them.
FAR_TRANSFERS = {"ljmp": b"\xea", "lcall": b"\x9a", "ljmpl": b"\xea", "lcalll": b"\x9a"}

_STRING = frozenset(("ins", "outs", "movs", "lods", "stos", "cmps", "scas"))
_LOCKABLE = frozenset((
    "add", "adc", "and", "btc", "btr", "bts", "cmpxchg", "cmpxchg8b", "dec", "inc", "neg", "not", "or", "sbb",
    "sub", "xor", "xadd", "xchg",
))
_ALIASES = {
    "sal": "shl", "ud2a": "ud2", "xlat": "xlatb", "pusha": "pushal", "popa": "popal", "fwait": "wait",
    "cwd": "cwtd", "cdq": "cltd", "cwde": "cwtl", "cbw": "cbtw",
    **{
        f"{stem}{alias}": f"{stem}{names[0]}"
        for stem in ("set", "cmov") for names in _CONDITIONS for alias in names[1:]
    },
}
#: The only text that keystone gets to see: it can hang for ever on text that is not well formed.
_MNEMONIC = re.compile(r"[a-z][a-z0-9]*")
_HEX = r"-?0x[0-9a-f]+"
_ANY_REGISTER = r"%(?:st\([0-7]\)|[a-z][a-z0-9]*)"
_OPERAND = re.compile(
    rf"\${_HEX}|\*?{_ANY_REGISTER}"
    rf"|\*?(?:%[c-gs]s:)?(?:{_HEX}|(?:{_HEX})?\((?:%[a-z]+)?(?:,%[a-z]+(?:,[1248])?)?\))"
)
_REGISTER = re.compile(r"%\w+")
_NUMBER = re.compile(r"-?0x[0-9a-f]+|(?<![\w%])-?\d+")
_IMMEDIATE = re.compile(r"\$(-?0x[0-9a-f]+|-?\d+)")
_WIDE_NOP = "use `.byte`, or pvfast.assembly.nops: keystone encodes long NOPs as prefetches"


def prefix_problem(prefix: str, mnemonic: str, operands: tuple[str, ...]) -> str | None:
    """Why a prefix is not allowed before an instruction, or None.

    Examples
    --------
    >>> prefix_problem("lock", "movl", ("%eax", "(%ecx)"))
    'lock is not allowed before movl'
    >>> prefix_problem("rep", "movsl", ()) is None
    True
    """
    stem = mnemonic if mnemonic in _LOCKABLE else mnemonic[:-1]
    if prefix == "lock" and (stem not in _LOCKABLE or not any(_is_memory(operand) for operand in operands)):
        return f"lock is not allowed before {mnemonic}"
    if prefix.startswith("rep") and mnemonic[:-1] not in _STRING and mnemonic not in ("nop", "ret"):
        return f"{prefix} is not allowed before {mnemonic}"
    return None


@lru_cache(maxsize=65536)
def encode(mnemonic: str, operands: tuple[str, ...] = ()) -> bytes:
    """Encode one 32-bit instruction whose numbers are written in hexadecimal.

    Parameters
    ----------
    mnemonic : str
        AT&T, without prefixes.
    operands : tuple of str
        AT&T order; no symbols.

    Returns
    -------
    bytes

    Raises
    ------
    ValueError
        Keystone refuses the text, or what it made reads back as something else.

    Examples
    --------
    >>> encode("movb", ("$0x1", "%gs:0x8")).hex()
    '65c6050800000001'
    """
    if mnemonic.startswith("nop") and operands:
        raise ValueError(_WIDE_NOP)
    operands = tuple(operand.replace(" ", "") for operand in operands)
    for operand in operands:
        if not _OPERAND.fullmatch(operand) or operand.endswith("()"):
            raise ValueError(f"{operand or 'nothing'} is no operand")
    if not _MNEMONIC.fullmatch(mnemonic):
        raise ValueError(f"{mnemonic} is no mnemonic")
    text = f"{mnemonic} {', '.join(operands)}".strip()
    code = _keystone(text)
    decoded = disassemble(code)
    if len(decoded) != 1 or decoded[0].text.startswith(".byte"):
        raise ValueError(f"keystone made {code.hex()}, which is not one instruction")
    problem = _disagreement(mnemonic, operands, decoded[0].text)
    if problem:
        raise ValueError(f"keystone made {code.hex()}, which reads back as `{decoded[0].text}`: {problem}")
    return code


def _keystone(text: str) -> bytes:
    assembler: Any = getattr(_local, "keystone", None)
    if assembler is None:
        import keystone

        assembler = keystone.Ks(keystone.KS_ARCH_X86, keystone.KS_MODE_32)
        assembler.syntax = keystone.KS_OPT_SYNTAX_ATT
        _local.keystone = assembler
        _local.error = keystone.KsError
    try:
        code, count = assembler.asm(text, 0, True)
    except _local.error as reason:
        hint = " (is the size suffix b, w or l missing?)" if "OPERAND" in str(reason) else ""
        raise ValueError(f"{reason}{hint}") from None
    if not code or count != 1:
        raise ValueError("no such instruction in 32-bit code, or a number is out of range")
    return bytes(code)


def _disagreement(mnemonic: str, operands: tuple[str, ...], decoded: str) -> str | None:
    name, _, rest = decoded.partition(" ")
    if not _same_mnemonic(mnemonic, name):
        return "another mnemonic"
    written = ", ".join(operands).replace("%db", "%dr")
    if not set(_REGISTER.findall(written)) <= set(_REGISTER.findall(rest)):
        return "other registers"
    width = _width(name, operands)
    found = {int(number, 0) for number in _NUMBER.findall(rest)}
    shown = {number % (1 << 32) for number in found} | {0, 1}
    narrow = {number % (1 << width) for number in found} | {0, 1}
    for operand in operands:
        immediate = _IMMEDIATE.match(operand)
        for number in (int(text, 0) for text in _NUMBER.findall(operand)):
            if immediate and not -(1 << (width - 1)) <= number < 1 << width:
                return f"{number:#x} does not fit {width} bits"
            if number % (1 << 32) not in shown and not (immediate and number % (1 << width) in narrow):
                return f"the number {number:#x} is lost"
    return None


def _same_mnemonic(written: str, decoded: str) -> bool:
    names = {written, _ALIASES.get(written, written)}
    if written[-1:] in ("b", "w", "l"):
        names |= {written[:-1], _ALIASES.get(written[:-1], written[:-1])}
    return any(decoded == name or (decoded[:-1] == name and decoded[-1] in "bwl") for name in names)


def _width(decoded: str, operands: tuple[str, ...]) -> int:
    if decoded.startswith("int"):
        return 8
    registers = [operand for operand in operands if operand.startswith("%")]
    if any(re.fullmatch(r"%[abcd][lh]", register) for register in registers) and "," not in decoded:
        shift_count = decoded[:2] in ("sh", "sa", "ro", "rc")
        return 8 if not shift_count or decoded.endswith("b") else 32
    if decoded.endswith("w"):
        return 16
    return 8 if decoded.endswith("b") and decoded != "sub" else 32


def _is_memory(operand: str) -> bool:
    return not operand.startswith("$") and ("(" in operand or not operand.startswith("%") or ":" in operand)
