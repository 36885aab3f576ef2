"""Xen's ELF notes: the bytes of ``.note.Xen`` go in, what a domain builder must know comes out."""

import struct
from dataclasses import dataclass

from pvfast.errors import ImageError
from pvfast.paravirt.hypervisors.xen_interface import ElfNote

_HEADER = struct.Struct("<III")         # length of owner and of contents, type
_OWNER = b"Xen\0"
_ALIGNMENT = 4


@dataclass(frozen=True, slots=True)
class XenNotes:
    """What the kernel says about itself to Xen.

    Attributes
    ----------
    entry : int
        Linear address of ``startup_xen``.
    hypercall_page : int
        Linear address of the page that Xen fills.
    virt_base : int
        Linear address that physical address 0 is mapped at.
    xen_version : str
        The interface it was written for.
    pae_mode : str
        ``"yes"`` or ``"no"``.

    Examples
    --------
    >>> from pvfast.guest import build
    >>> notes = build().notes
    >>> notes.xen_version, hex(notes.virt_base)
    ('xen-3.0', '0xc0000000')
    """

    entry: int
    hypercall_page: int
    virt_base: int
    xen_version: str
    pae_mode: str


def parse_notes(section: bytes) -> XenNotes:
    """Read a ``.note.Xen`` section.

    Parameters
    ----------
    section : bytes
        Notes with the owner "Xen".

    Returns
    -------
    XenNotes

    Raises
    ------
    ImageError
        A note is cut short, belongs to somebody else, or one that is needed is missing.
    """
    found: dict[int, bytes] = {}
    position = 0
    while position < len(section):
        contents = position + _HEADER.size + len(_OWNER)
        if contents > len(section):
            raise ImageError(f"the note at byte {position} of .note.Xen is cut short")
        owner_bytes, length, kind = _HEADER.unpack_from(section, position)
        if owner_bytes != len(_OWNER) or section[position + _HEADER.size:contents] != _OWNER:
            raise ImageError(f"the note at byte {position} of .note.Xen has another owner")
        if contents + length > len(section):
            raise ImageError(f"the note at byte {position} of .note.Xen is cut short")
        found[kind] = section[contents:contents + length]
        position = contents + -(-length // _ALIGNMENT) * _ALIGNMENT
    try:
        return XenNotes(
            entry=_number(found[ElfNote.ENTRY]),
            hypercall_page=_number(found[ElfNote.HYPERCALL_PAGE]),
            virt_base=_number(found[ElfNote.VIRT_BASE]),
            xen_version=_text(found[ElfNote.XEN_VERSION]),
            pae_mode=_text(found[ElfNote.PAE_MODE]),
        )
    except KeyError as kind:
        raise ImageError(f".note.Xen has no note {ElfNote(kind.args[0]).name}") from None


def _number(contents: bytes) -> int:
    return int.from_bytes(contents, "little")


def _text(contents: bytes) -> str:
    return contents.rstrip(b"\0").decode("ascii")
