"""NOP families: how many bytes to fill goes in, harmless instructions come out.

The rows are Linux 2.6.20's tables (asm-i386/processor.h; P6 joined in 2.6.24), the filling is its
``nop_out``: chunks of at most eight bytes, the largest first. The generic and K7 forms are real
``mov``/``lea`` instructions that leave registers and flags alone; some lengths are two instructions, so a
jump into the middle of a filled range is legal only at an instruction's start. Next:
``pvfast/paravirt/patcher.py``, which pads patch sites.
"""

from types import MappingProxyType

from pvfast.errors import PatchError

#: ASM_NOP_MAX: the longest single row of a family.
NOP_MAX = 8


def _rows(*rows: str) -> tuple[bytes, ...]:
    return (b"", *(bytes.fromhex(row) for row in rows))


#: Family name to its rows; ``FAMILIES["k8"][n]`` is the NOP of n bytes.
FAMILIES = MappingProxyType({
    "generic": _rows(
        "90", "89f6", "8d7600", "8d742600",
        "90 8d742600",              # 1 + 4
        "8db600000000", "8db42600000000",
        "90 8db42600000000",        # 1 + 7
    ),
    "k8": _rows(
        "90", "6690", "666690", "66666690",
        "666690 6690",              # 3 + 2
        "666690 666690",            # 3 + 3
        "66666690 666690",          # 4 + 3
        "66666690 66666690",        # 4 + 4
    ),
    "k7": _rows(
        "90", "8bc0", "8d0420", "8d442000",
        "8d442000 90",              # 4 + 1
        "8d8000000000", "8d040500000000",
        "8d040500000000 90",        # 7 + 1
    ),
    "p6": _rows(
        "90", "6690", "0f1f00", "0f1f4000", "0f1f440000", "660f1f440000", "0f1f8000000000",
        "0f1f840000000000",
    ),
})


def nops(family: str, length: int) -> bytes:
    """Fill `length` bytes with the NOPs of a family, as the kernel's ``nop_out`` does.

    Parameters
    ----------
    family : str
        ``"generic"``, ``"k8"``, ``"k7"`` or ``"p6"``.
    length : int
        How many bytes to fill; zero is allowed.

    Returns
    -------
    bytes
        Exactly `length` bytes.

    Raises
    ------
    PatchError
        The family is unknown or the length negative.

    Examples
    --------
    >>> nops("generic", 9).hex(" ")
    '90 8d b4 26 00 00 00 00 90'
    >>> nops("p6", 3).hex(" ")
    '0f 1f 00'
    """
    rows = FAMILIES.get(family)
    if rows is None:
        raise PatchError(f"unknown NOP family {family!r}: choose one of {', '.join(FAMILIES)}")
    if length < 0:
        raise PatchError(f"cannot fill {length} bytes with NOPs: the code before is longer than its site")
    whole, rest = divmod(length, NOP_MAX)
    return rows[NOP_MAX] * whole + rows[rest]
