"""Alternatives: a kernel image enters, its ``.altinstructions`` records leave, with absolute addresses.

A record says: where this processor feature is present (or absent), these bytes stand in place of those.
Paravirt sites are covered by such records since Linux 5.13. Next: ``paravirt/linux/boot_patch.py``
applies those that touch a site.
"""

import struct
from collections.abc import Callable
from dataclasses import dataclass

from pvfast.errors import ImageError
from pvfast.images.kernel import KernelImage

TABLE = ".altinstructions"
#: ALTINSTR_FLAG_INV: in 5.13 to 6.2 the top bit of the feature number asks for the feature's absence.
_INVERTED = 1 << 15


@dataclass(frozen=True, slots=True)
class Alternative:
    """One alternative.

    Attributes
    ----------
    address, length : int
        Linear address and size of what may be replaced.
    replacement, replacement_length : int
        Linear address and size of what takes its place, never larger.
    feature : int
        Processor feature, 32 * word + bit as in the kernel's cpufeatures.h.
    when_absent : bool
        True to replace where the processor lacks the feature.
    """

    address: int
    length: int
    replacement: int
    replacement_length: int
    feature: int
    when_absent: bool


@dataclass(frozen=True, slots=True)
class AlternativeLayout:
    """How the kernels from one version on store a record.

    Attributes
    ----------
    since : (int, int)
        The first Linux version.
    format : str
        Of ``struct``; the first two fields are offsets from their own addresses.
    decode : callable
        From the fields after the offsets to (feature, when_absent, length, replacement_length).
    """

    since: tuple[int, int]
    format: str
    decode: Callable[[tuple[int, ...]], tuple[int, bool, int, int]]


def _top_bit_inverts(fields: tuple[int, ...]) -> tuple[int, bool, int, int]:
    feature, length, replacement_length = fields
    return feature & ~_INVERTED, bool(feature & _INVERTED), length, replacement_length


def _flags_invert(fields: tuple[int, ...]) -> tuple[int, bool, int, int]:
    feature, flags, length, replacement_length = fields
    return feature, bool(flags & 1), length, replacement_length


#: Newest last. Before 5.13 the stable series disagree with their mainline version: those are not read.
LAYOUTS = (
    AlternativeLayout((5, 13), "<iiHBB", _top_bit_inverts),
    AlternativeLayout((6, 3), "<iiHHBB", _flags_invert),
)


def read_alternatives(image: KernelImage) -> tuple[Alternative, ...]:
    """Read every alternative of a kernel.

    Parameters
    ----------
    image : KernelImage
        An opened kernel.

    Returns
    -------
    tuple of Alternative
        In table order, the order in which the kernel applies them; empty when the kernel has no table.

    Raises
    ------
    ImageError
        The layout of this kernel's records is not known; the table is cut short; a record points outside the
        image or replaces by more bytes than there are.
    """
    section = image.section(TABLE)
    if section is None or section.offset is None:
        return ()
    layout = next((row for row in reversed(LAYOUTS) if image.version and image.version >= row.since), None)
    if layout is None:
        raise ImageError(f"the layout of {TABLE} is not known for "
                         f"{image.banner or 'a kernel without version banner'}: give a kernel from 5.13 on")
    table = image.data[section.offset:section.offset + section.size]
    size = struct.calcsize(layout.format)
    if len(table) % size:
        raise ImageError(f"{TABLE} is {len(table)} bytes, and its records are {size}: the table is cut "
                         "short, take the image from the package again")
    records = []
    for offset in range(0, len(table), size):
        origin, to, *rest = struct.unpack_from(layout.format, table, offset)
        feature, when_absent, length, new_length = layout.decode(tuple(rest))
        here = section.address + offset
        record = Alternative(here + origin, length, here + 4 + to, new_length, feature, when_absent)
        _check(image, offset // size, record)
        records.append(record)
    return tuple(records)


def _check(image: KernelImage, index: int, record: Alternative) -> None:
    where = f"record {index} of {TABLE} (for linear {record.address:#x})"
    if record.replacement_length > record.length:
        raise ImageError(f"{where} replaces {record.length} bytes by {record.replacement_length}: the table "
                         "is damaged")
    for address, length in ((record.address, record.length), (record.replacement, record.replacement_length)):
        if length and image.section_at(address, length) is None:
            raise ImageError(f"{where} needs {length} bytes at linear {address:#x}, outside the image: the "
                             "table is damaged")
