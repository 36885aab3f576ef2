"""SMP alternatives: code and its table of LOCK prefixes go in, the code for one processor or for several comes out.

A kernel built for several processors notes the address of every LOCK prefix in ``.smp_locks``, four bytes each and
nothing else. With one processor running, boot takes the prefixes out, and puts them back before a second one starts.
It is the mechanism that patching ``paravirt_ops`` resembles. Next: ``boot_patching.py``, which does all of it.
"""

import struct
from collections.abc import Iterable

from pvfast.errors import PatchError
from pvfast.paravirt.operations import Era
from pvfast.paravirt.sites import ADDRESS_END

#: One entry: the linear address of a prefix.
ENTRY = struct.Struct("<I")

LOCK_PREFIX = 0xF0

#: What stands in its place on one processor: a NOP of one byte, an instruction of its own.
NOP1 = 0x90
#: From 2.6.28, a segment prefix that changes nothing: prefix and instruction stay one, so nothing can stop between.
DS_PREFIX = 0x3E

_DS_PREFIX_SINCE = (2, 6, 28)


def up_prefix(era: Era) -> int:
    """What the kernels of an era put in place of a LOCK prefix.

    Examples
    --------
    >>> from pvfast.paravirt.operations import era
    >>> hex(up_prefix(era("2.6.20")))
    '0x90'
    """
    return DS_PREFIX if era.release >= _DS_PREFIX_SINCE else NOP1


def unpack_locks(table: bytes, start: int = 0, end: int = ADDRESS_END) -> tuple[int, ...]:
    """Read a ``.smp_locks`` table.

    Parameters
    ----------
    table : bytes
        The section.
    start, end : int, optional
        The linear addresses that hold code; a prefix outside is refused.

    Returns
    -------
    tuple of int
        Linear addresses, in table order.

    Raises
    ------
    PatchError
        The table is cut short, or an address is outside the code or there twice.

    Examples
    --------
    >>> [hex(lock) for lock in unpack_locks(bytes.fromhex("000010c0 070010c0"))]
    ['0xc0100000', '0xc0100007']
    """
    if len(table) % ENTRY.size:
        raise PatchError(f".smp_locks holds {len(table)} bytes, no multiple of {ENTRY.size}: its last entry is cut "
                         "short")
    locks = tuple(lock for lock, in ENTRY.iter_unpack(table))
    for lock in locks:
        if not start <= lock < end:
            raise PatchError(f"the LOCK prefix at {lock:#x} is outside the code at {start:#x}..{end:#x}: check the "
                             "load address")
    if len(set(locks)) != len(locks):
        raise PatchError(".smp_locks names a LOCK prefix twice")
    return locks


def alternatives_smp_lock(text: bytes, address: int, locks: Iterable[int]) -> bytes:
    """Put every LOCK prefix in: code for several processors.

    Parameters
    ----------
    text : bytes
        The code.
    address : int
        Linear address of its first byte.
    locks : iterable of int
        Linear addresses, all inside `text`.

    Returns
    -------
    bytes
        As long as `text`.

    Raises
    ------
    PatchError
        Something else than a prefix stands at one of the addresses; nothing was changed.

    Examples
    --------
    >>> alternatives_smp_lock(bytes.fromhex("90ff00"), 0x1000, [0x1000]).hex(" ")
    'f0 ff 00'
    """
    return _replaced(text, address, locks, LOCK_PREFIX)


def alternatives_smp_unlock(text: bytes, address: int, locks: Iterable[int], prefix: int = NOP1) -> bytes:
    """Take every LOCK prefix out: code for one processor.

    Parameters
    ----------
    text, address, locks
        As for `alternatives_smp_lock`.
    prefix : int, optional
        What takes its place: see `up_prefix`.

    Returns
    -------
    bytes
        As long as `text`.

    Examples
    --------
    >>> alternatives_smp_unlock(bytes.fromhex("f0ff00"), 0x1000, [0x1000], DS_PREFIX).hex(" ")
    '3e ff 00'
    """
    return _replaced(text, address, locks, prefix)


def _replaced(text: bytes, address: int, locks: Iterable[int], prefix: int) -> bytes:
    code = bytearray(text)
    for lock in locks:
        place = lock - address
        if not 0 <= place < len(code) or code[place] not in (LOCK_PREFIX, NOP1, DS_PREFIX):
            raise PatchError(f"no LOCK prefix at {lock:#x}, nor what replaces it on one processor: is this table of "
                             "another kernel?")
        code[place] = prefix
    return bytes(code)
