"""Alternatives as 2.6.20 has them: code and ``.altinstructions`` go in, the code for a processor's features comes out.

A record says: where the processor has a feature, these bytes stand in place of those, and NOPs behind them. The
replacement is in the same code, in a section of its own, and must run wherever it is copied to. The records of later
kernels are read by ``pvfast/images/altinstructions.py``. Next: ``smp_alternatives.py``.
"""

import struct
from collections.abc import Collection, Iterable

from pvfast.assembly.nops import nops
from pvfast.errors import PatchError
from pvfast.images.altinstructions import Alternative
from pvfast.paravirt.sites import ADDRESS_END

#: struct alt_instr: u32 instr, u32 replacement, u8 cpuid, u8 instrlen, u8 replacementlen, u8 pad.
RECORD = struct.Struct("<IIBBBx")


def unpack_alternatives(table: bytes, start: int = 0, end: int = ADDRESS_END) -> tuple[Alternative, ...]:
    """Read an ``.altinstructions`` table of 2.6.20.

    Parameters
    ----------
    table : bytes
        The section.
    start, end : int, optional
        The linear addresses that hold code; `end` is exclusive.

    Returns
    -------
    tuple of Alternative
        In table order.

    Raises
    ------
    PatchError
        The table is cut short, or a record points outside the code or replaces by more bytes than there are.

    Examples
    --------
    >>> row, = unpack_alternatives(bytes.fromhex("000010c0 000110c0 1a 05 03 00"))
    >>> row.feature, row.length, row.replacement_length
    (26, 5, 3)
    """
    if len(table) % RECORD.size:
        raise PatchError(f".altinstructions holds {len(table)} bytes, no multiple of {RECORD.size}: its last record is "
                         "cut short, or it is another table")
    found = []
    for address, replacement, feature, length, new_length in RECORD.iter_unpack(table):
        where = f"the alternative at {address:#x}"
        if new_length > length:
            raise PatchError(f"{where} replaces {length} bytes by {new_length}: the table is damaged")
        for place, size in ((address, length), (replacement, new_length)):
            if not start <= place <= place + size <= end:
                raise PatchError(f"{where} needs {size} bytes at {place:#x}, outside the code at {start:#x}..{end:#x}")
        found.append(Alternative(address, length, replacement, new_length, feature, when_absent=False))
    return tuple(found)


def apply_alternatives(
    text: bytes,
    address: int,
    alternatives: Iterable[Alternative],
    features: Collection[int],
    nop_family: str = "generic",
) -> bytes:
    """Put the replacements in whose feature the processor has.

    Parameters
    ----------
    text : bytes
        The code, replacements included.
    address : int
        Linear address of its first byte.
    alternatives : iterable of Alternative
        All inside `text`.
    features : collection of int
        Those of the processor, as the records number them: 32 * word + bit, word 0 being EDX of CPUID function 1.
    nop_family : str, optional
        See `pvfast.assembly.nops`.

    Returns
    -------
    bytes
        As long as `text`.

    Examples
    --------
    >>> text = bytes.fromhex("f083042400 c3 0faef0")        # lock addl $0, (%esp); ret; mfence
    >>> table = unpack_alternatives(bytes.fromhex("00100000 06100000 1a 05 03 00"))
    >>> apply_alternatives(text, 0x1000, table, {26}).hex(" ")
    '0f ae f0 89 f6 c3 0f ae f0'
    >>> apply_alternatives(text, 0x1000, table, set()) == text
    True
    """
    code = bytearray(text)
    for row in alternatives:
        if (row.feature in features) != row.when_absent:
            source, place = row.replacement - address, row.address - address
            new = bytes(code[source:source + row.replacement_length])
            code[place:place + row.length] = new + nops(nop_family, row.length - len(new))
    return bytes(code)
