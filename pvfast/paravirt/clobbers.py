"""Which registers a piece of replacement code destroys: bytes go in, a mask of register numbers comes out.

The code is followed in a straight line with symbolic registers and a symbolic stack, so a register that is
pushed, used and popped again counts as kept. A call destroys EAX, ECX and EDX, as the regparm convention
allows, unless the caller knows better. Inner conditional jumps are read as not taken. ``patcher.py`` compares
the result with the clobbers of the site.
"""

import threading
from functools import lru_cache
from typing import Any

from pvfast.errors import PatchError
from pvfast.paravirt.sites import CLBR_ANY

#: Registers by number; bit n of a mask is register n.
REGISTERS = ("eax", "ecx", "edx", "ebx", "esp", "ebp", "esi", "edi")
_PARTS = {
    part: number
    for number, letter in enumerate("acdb")
    for part in (f"{letter}l", f"{letter}h", f"{letter}x")
} | {"sp": 4, "bp": 5, "si": 6, "di": 7} | {name: number for number, name in enumerate(REGISTERS)}
_LEAVES = frozenset(("jmp", "ljmp", "iretd", "iret", "sysexit", "ud2"))
_local = threading.local()


def register_names(mask: int) -> str:
    """Names of the registers in a mask.

    Examples
    --------
    >>> register_names(CLBR_ANY)
    'eax, ecx, edx'
    """
    return ", ".join(name for number, name in enumerate(REGISTERS) if mask >> number & 1)


@lru_cache(maxsize=4096)
def destroyed(code: bytes, address: int = 0, callee_clobbers: int = CLBR_ANY) -> int:
    """Follow replacement code and say what it destroys.

    Parameters
    ----------
    code : bytes
        Whole 32-bit instructions.
    address : int, optional
        Where it will be; used in errors.
    callee_clobbers : int, optional
        What its calls destroy: any function may destroy EAX, ECX and EDX, some promise more.

    Returns
    -------
    int
        Bit n set: register n does not hold at the end what it held at the start.

    Raises
    ------
    PatchError
        A byte sequence is no instruction, or the stack is not balanced at the end.

    Examples
    --------
    >>> destroyed(bytes.fromhex("9c58"))                  # pushf; pop %eax
    1
    >>> register_names(destroyed(bytes.fromhex("5152e8000000005a59")))
    'eax'
    """
    registers: list[object] = list(range(len(REGISTERS)))
    stack: list[object] = []
    position = 0
    for instruction in _decoder().disasm(code, address):
        position += instruction.size
        name = instruction.mnemonic
        if name in _LEAVES:
            if position != len(code):
                raise PatchError(f"the replacement {code.hex(' ')} at {address:#x} leaves at byte {position}"
                                 ", before its end: what follows cannot be checked")
            return _changed(registers)
        _follow(instruction, registers, stack, address, callee_clobbers)
    if position != len(code):
        raise PatchError(f"the replacement {code.hex(' ')} at {address:#x} does not decode from byte "
                         f"{position} on: it has to be whole 32-bit instructions")
    if stack:
        raise PatchError(f"the replacement {code.hex(' ')} at {address:#x} leaves {len(stack)} words on the "
                         "stack: pop what it pushes")
    return _changed(registers)


def _follow(
    instruction: Any, registers: list[object], stack: list[object], address: int, callee_clobbers: int
) -> None:
    name, operands = instruction.mnemonic, instruction.op_str
    if name in ("push", "pushfd"):
        stack.append(registers[_PARTS[operands]] if operands in REGISTERS else object())
    elif name in ("pop", "popfd"):
        if not stack:
            raise PatchError(f"the replacement at {address:#x} pops what it did not push: it would take the "
                             "caller's stack apart")
        value = stack.pop()
        if operands in REGISTERS:
            registers[_PARTS[operands]] = value
    else:
        written = callee_clobbers if name == "call" else _written(instruction)
        for number in range(len(REGISTERS)):
            if written >> number & 1:
                registers[number] = object()


def _written(instruction: Any) -> int:
    mask = 0
    for register in instruction.regs_access()[1]:
        number = _PARTS.get(instruction.reg_name(register))
        mask |= 0 if number is None else 1 << number
    return mask


def _changed(registers: list[object]) -> int:
    return sum(1 << number for number, value in enumerate(registers) if value != number)


def _decoder() -> Any:
    decoder = getattr(_local, "decoder", None)
    if decoder is None:
        import capstone

        decoder = _local.decoder = capstone.Cs(capstone.CS_ARCH_X86, capstone.CS_MODE_32)
        decoder.detail = True
    return decoder
