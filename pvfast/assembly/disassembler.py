"""Disassembly for people: bytes go in, one record per instruction comes out, and no byte is dropped.

Capstone stops silently at bytes it cannot decode; here they become ``.byte`` records and decoding goes on
behind them. Never in a hot loop: the core decodes for itself. ``encoder.py`` reads its own output back
through this.
"""

import threading
from dataclasses import dataclass
from typing import Any

from pvfast.errors import AssemblyError

_local = threading.local()


@dataclass(frozen=True, slots=True)
class Instruction:
    """One decoded instruction, or one undecodable byte shown as ``.byte``.

    Attributes
    ----------
    address : int
        Linear address of the first byte.
    bytes : bytes
        The instruction itself.
    text : str
        AT&T syntax.
    """

    address: int
    bytes: bytes
    text: str

    def __str__(self) -> str:
        return f"{self.address:08x}  {self.bytes.hex(' '):<30}  {self.text}"


def disassemble(code: bytes, address: int = 0, bits: int = 32) -> list[Instruction]:
    """Decode code linearly.

    Parameters
    ----------
    code : bytes
        What to decode.
    address : int, optional
        Linear address of its first byte.
    bits : int, optional
        16, 32 or 64.

    Returns
    -------
    list of Instruction
        Their bytes joined are `code`.

    Raises
    ------
    AssemblyError
        No such mode.

    Examples
    --------
    >>> for instruction in disassemble(bytes.fromhex("5152ff15100040c05a59"), 0xC0100000):
    ...     print(instruction.text)
    pushl %ecx
    pushl %edx
    calll *0xc0400010
    popl %edx
    popl %ecx
    >>> [instruction.text for instruction in disassemble(bytes.fromhex("0f0490"))]
    ['.byte 0x0f', 'addb $0x90, %al']
    """
    if bits not in (16, 32, 64):
        raise AssemblyError(f"cannot disassemble {bits}-bit code: choose 16, 32 or 64")
    code = bytes(code)
    decoder = _decoder(bits)
    result: list[Instruction] = []
    position = 0
    while position < len(code):
        for _, size, mnemonic, operands in decoder.disasm_lite(code[position:], address + position):
            raw = code[position:position + size]
            result.append(Instruction(address + position, raw, f"{mnemonic} {operands}".strip()))
            position += size
        if position < len(code):
            raw = code[position:position + 1]
            result.append(Instruction(address + position, raw, f".byte {raw[0]:#04x}"))
            position += 1
    return result


def show_code(code: bytes, address: int = 0, bits: int = 32) -> str:
    """`disassemble` on one line.

    Examples
    --------
    >>> show_code(bytes.fromhex("fa90"), 0xC0100000)
    'cli; nop'
    """
    return "; ".join(instruction.text for instruction in disassemble(code, address, bits))


def _decoder(bits: int) -> Any:
    decoder = getattr(_local, f"bits{bits}", None)
    if decoder is None:
        import capstone

        decoder = capstone.Cs(capstone.CS_ARCH_X86, getattr(capstone, f"CS_MODE_{bits}"))
        decoder.syntax = capstone.CS_OPT_SYNTAX_ATT
        setattr(_local, f"bits{bits}", decoder)
    return decoder
