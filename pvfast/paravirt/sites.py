"""Patch sites: records and call-site bytes go in and out, as data.

A site is a run of instructions that calls through ``paravirt_ops`` and may be replaced; its record in
``.parainstructions`` says where it is, which operation it performs, how long it is and which registers a
replacement may destroy. The operations themselves are in ``operations.py``, which form an era uses where in
``shapes.py``; ``patcher.py`` comes next.
"""

import struct
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum
from functools import cache
from itertools import pairwise

from pvfast.assembly.nops import FAMILIES, nops
from pvfast.errors import PatchError
from pvfast.images.parainstructions import LAYOUTS

#: Which registers the patched-in code may destroy; bit n is register number n.
CLBR_NONE = 0
CLBR_EAX = 1 << 0
CLBR_ECX = 1 << 1
CLBR_EDX = 1 << 2
CLBR_ANY = CLBR_EAX | CLBR_ECX | CLBR_EDX

#: From 2.6.30 on; the number of EDI is another one.
CLBR_EDI = 1 << 3
#: What the result of a 32-bit operation may take, and what an operation of the callee-save convention may destroy.
CLBR_RET_REG = CLBR_EAX | CLBR_EDX

ADDRESS_END = 1 << 32

#: One record of an i386 kernel, the same in all eras: u32 instr, u8 instrtype, u8 len, u16 clobbers.
RECORD = struct.Struct(LAYOUTS[32].format)


class PatchType(IntEnum):
    """What a site does, as its record says it in 2.6.20 and 2.6.21; later types are offsets (``operations.py``)."""

    IRQ_DISABLE = 0
    IRQ_ENABLE = 1
    RESTORE_FLAGS = 2
    SAVE_FLAGS = 3
    SAVE_FLAGS_IRQ_DISABLE = 4
    INTERRUPT_RETURN = 5
    STI_SYSEXIT = 6


#: Types whose result is in EAX: their replacement writes it although the record does not list it.
RESULT_IN_EAX = frozenset((PatchType.SAVE_FLAGS, PatchType.SAVE_FLAGS_IRQ_DISABLE))


@dataclass(frozen=True, order=True, slots=True)
class PatchSite:
    """One patch site.

    Attributes
    ----------
    address : int
        Linear address of the first instruction.
    type : int
        What it does; ``Era.site_operation`` names it.
    length : int
        Bytes that may be replaced, 1 to 255.
    clobbers : int
        ``CLBR_*`` bits: the registers a replacement may destroy.

    Examples
    --------
    >>> PatchSite(0xC0100000, PatchType.IRQ_DISABLE, 10, CLBR_EAX).end - 0xC0100000
    10
    """

    address: int
    type: int
    length: int
    clobbers: int

    @property
    def end(self) -> int:
        """Linear address behind the site."""
        return self.address + self.length

    def __str__(self) -> str:
        return f"patch site {self.address:#010x} (type {self.type}, {self.length} bytes)"


def check_sites(sites: Iterable[PatchSite], start: int = 0, end: int = ADDRESS_END) -> list[PatchSite]:
    """Check that sites lie inside a range, are not empty and do not overlap.

    Parameters
    ----------
    sites : iterable of PatchSite
    start, end : int, optional
        The linear addresses that hold code; `end` is exclusive.

    Returns
    -------
    list of PatchSite
        The sites as given.

    Raises
    ------
    PatchError
        Names the first site that breaks a rule.
    """
    sites = list(sites)
    for site in sites:
        if not 0 < site.length <= 0xFF:
            raise PatchError(f"{site}: a site is 1 to 255 bytes long: check the table's bounds")
        if not start <= site.address or site.end > end:
            raise PatchError(f"{site}: outside the code at {start:#x}..{end:#x}: check the load address")
    ordered = sorted(sites)
    for lower, upper in pairwise(ordered):
        if lower.end > upper.address:
            raise PatchError(f"{upper} overlaps {lower}: one of the two records is wrong")
    return sites


def pack_records(sites: Iterable[PatchSite]) -> bytes:
    """Make a ``.parainstructions`` table.

    Raises
    ------
    PatchError
        A field does not fit its record.

    Examples
    --------
    >>> pack_records([PatchSite(0xC0100000, 0, 10, CLBR_EAX)]).hex()
    '000010c0000a0100'
    """
    table = bytearray()
    for site in check_sites(sites):
        try:
            table += RECORD.pack(site.address, site.type, site.length, site.clobbers)
        except struct.error as reason:
            raise PatchError(f"{site}: does not fit its record: {reason}") from None
    return bytes(table)


def unpack_records(
    table: bytes, start: int = 0, end: int = ADDRESS_END, types: Iterable[int] = PatchType, clobbers: int = CLBR_ANY
) -> list[PatchSite]:
    """Read a ``.parainstructions`` table.

    Parameters
    ----------
    table : bytes
        The section.
    start, end : int, optional
        The linear addresses that hold code; a site outside is refused.
    types : iterable of int, optional
        The types that exist: ``Era.patch_types``.
    clobbers : int, optional
        The bits that exist: ``Era.any_clobber``.

    Returns
    -------
    list of PatchSite
        In table order.

    Raises
    ------
    PatchError
        The table is truncated, or a site is empty, of unknown type, outside the code, or overlaps another
        one.

    Examples
    --------
    >>> unpack_records(bytes.fromhex("000010c0000a0100"))[0].length
    10
    """
    if len(table) % RECORD.size:
        raise PatchError(f".parainstructions holds {len(table)} bytes, no multiple of {RECORD.size}: its "
                         "last record is cut short")
    sites = [PatchSite(*fields) for fields in RECORD.iter_unpack(table)]
    known = frozenset(types)
    for site in sites:
        if site.type not in known:
            raise PatchError(f"{site}: unknown type: is this table of another era?")
        if site.clobbers & ~clobbers:
            raise PatchError(f"{site}: unknown clobbers {site.clobbers:#x}: is this table of another era?")
    return check_sites(sites, start, end)


@dataclass(frozen=True, slots=True)
class Transfer:
    """A ``call`` or ``jmp`` in a site: the `indirect` opcode before m32, the `direct` one before rel32.

    The pointer of a `relative` one is as far from its end as m32 says.
    """

    indirect: bytes
    direct: bytes
    text: str
    relative: bool = False

    @property
    def length(self) -> int:
        """Bytes of the indirect instruction."""
        return len(self.indirect) + 4

    def indirect_code(self, address: int, pointer: int) -> bytes:
        """Encode the indirect form at `address`."""
        operand = pointer - (address + self.length) if self.relative else pointer
        return self.indirect + (operand % ADDRESS_END).to_bytes(4, "little")

    def direct_code(self, address: int, target: int, nop_family: str) -> bytes:
        """Encode the direct form at `address`, padded to the length of the indirect one."""
        size = len(self.direct) + 4
        distance = (target - (address + size)) % ADDRESS_END
        return self.direct + distance.to_bytes(4, "little") + nops(nop_family, self.length - size)


CALL = Transfer(b"\xff\x15", b"\xe8", "call *{}")
CALL_CS = Transfer(b"\x2e\xff\x15", b"\xe8", "call *%cs:{}")
JMP_CS = Transfer(b"\x2e\xff\x25", b"\xe9", "jmp *%cs:{}")
#: x86-64: the pointer by its address until 5.12, then by its distance.
CALL_ABSOLUTE = Transfer(b"\xff\x14\x25", b"\xe8", "call *{}")
CALL_RELATIVE = Transfer(b"\xff\x15", b"\xe8", "call *{}(%rip)", relative=True)

_PUSHES = {b"\x51": "push %ecx", b"\x52": "push %edx", b"\x50": "push %eax",
           b"\x5a": "pop %edx", b"\x59": "pop %ecx", b"\x58": "pop %eax",
           b"\x57": "push %edi", b"\x5f": "pop %edi"}


@dataclass(frozen=True, slots=True)
class SiteForm:
    """The instructions of a site, apart from which pointers it calls through.

    Attributes
    ----------
    name : str
    parts : tuple of (bytes or Transfer)
        One-byte pushes and pops, and transfers.

    Examples
    --------
    >>> CALL_10.indirect([0xC0400010]).hex()
    '5152ff15100040c05a59'
    >>> CALL_10.direct(0xC0100000, [0xC0100020]).hex()
    '5152e819000000905a59'
    """

    name: str
    parts: tuple[bytes | Transfer, ...]

    @property
    def length(self) -> int:
        """Bytes of the site."""
        return sum(part.length if isinstance(part, Transfer) else len(part) for part in self.parts)

    @property
    def calls(self) -> int:
        """How many pointers the site goes through."""
        return sum(isinstance(part, Transfer) for part in self.parts)

    def indirect(self, pointers: Sequence[int], address: int = 0) -> bytes:
        """Encode the site as compiled, for `address`; `pointers` are the linear addresses of the function pointers."""
        remaining = self._take(pointers)
        code = b""
        for part in self.parts:
            code += part.indirect_code(address + len(code), next(remaining)) if isinstance(part, Transfer) else part
        return code

    def direct(self, address: int, targets: Sequence[int], nop_family: str = "generic") -> bytes:
        """Encode the site at `address` with direct transfers to `targets`, same length."""
        remaining = self._take(targets)
        code = b""
        for part in self.parts:
            if isinstance(part, Transfer):
                code += part.direct_code(address + len(code), next(remaining), nop_family)
            else:
                code += part
        return code

    def text(self, pointers: Sequence[int | str]) -> str:
        """AT&T text of the site as compiled; a pointer may be a symbol."""
        remaining = iter(pointers)
        return "; ".join(
            part.text.format(next(remaining)) if isinstance(part, Transfer) else _PUSHES[part]
            for part in self.parts
        )

    def pointers(self, code: bytes) -> tuple[int, ...] | None:
        """The pointers that `code` calls through when it is this form as compiled, else None."""
        found, position = [], 0
        for part in self.parts:
            opcode = part.indirect if isinstance(part, Transfer) else part
            if code[position:position + len(opcode)] != opcode:
                return None
            position += len(opcode)
            if isinstance(part, Transfer):
                found.append(int.from_bytes(code[position:position + 4], "little"))
                position += 4
        return tuple(found) if position == len(code) else None

    def targets(self, code: bytes, address: int) -> tuple[int, ...] | None:
        """The targets when `code` at `address` is this form with direct transfers, else None."""
        found, position = [], 0
        for part in self.parts:
            if isinstance(part, Transfer):
                size = len(part.direct) + 4
                rel32 = code[position + len(part.direct):position + size]
                found.append((address + position + size + int.from_bytes(rel32, "little")) % ADDRESS_END)
            position += part.length if isinstance(part, Transfer) else len(part)
        is_direct = any(code == self.direct(address, found, family) for family in FAMILIES)
        return tuple(found) if position == len(code) and is_direct else None

    def _take(self, addresses: Sequence[int]) -> Iterator[int]:
        if len(addresses) != self.calls:
            raise PatchError(f"the {self.name} form goes through {self.calls} pointers, not {len(addresses)}")
        return iter(addresses)


CALL_6 = SiteForm("call", (CALL,))
CALL_10 = SiteForm("push, call, pop", (b"\x51", b"\x52", CALL, b"\x5a", b"\x59"))
CALL_CS_11 = SiteForm("push, call %cs:, pop", (b"\x51", b"\x52", CALL_CS, b"\x5a", b"\x59"))
CALL_CS_13 = SiteForm(
    "push %eax, push, call %cs:, pop, pop %eax", (b"\x50", b"\x51", b"\x52", CALL_CS, b"\x5a", b"\x59", b"\x58")
)
CALL_18 = SiteForm(
    "push, call, push, call, pop", (b"\x51", b"\x52", CALL, b"\x50", CALL, b"\x58", b"\x5a", b"\x59")
)
JMP_CS_7 = SiteForm("jmp %cs:", (JMP_CS,))
CALL_ABSOLUTE_7 = SiteForm("call of x86-64", (CALL_ABSOLUTE,))
CALL_RELATIVE_6 = SiteForm("call relative to %rip", (CALL_RELATIVE,))

#: ``PV_SAVE_REGS`` of 2.6.30: what an assembly site pushes, in this order, unless it may destroy it.
PV_SAVE_REGS = ((CLBR_EAX, b"\x50", b"\x58"), (CLBR_EDI, b"\x57", b"\x5f"), (CLBR_ECX, b"\x51", b"\x59"),
                (CLBR_EDX, b"\x52", b"\x5a"))


@cache
def saving_form(clobbers: int) -> SiteForm:
    """An assembly site of 2.6.30 and later around a callee that keeps ECX (``CLBR_CALLEE_SAVE``).

    Examples
    --------
    >>> saving_form(CLBR_NONE).length, saving_form(CLBR_EAX).length, saving_form(0xF).length
    (13, 11, 7)
    """
    saved = [(push, pop) for bit, push, pop in PV_SAVE_REGS if not (clobbers | CLBR_ECX) & bit]
    pushes, pops = [push for push, _ in saved], [pop for _, pop in reversed(saved)]
    return SiteForm("push, call %cs:, pop, as it must", (*pushes, CALL_CS, *pops))


FORMS = (CALL_6, CALL_10, CALL_CS_11, CALL_CS_13, CALL_18, JMP_CS_7,
         *dict.fromkeys(saving_form(clobbers) for clobbers in range(16)))
