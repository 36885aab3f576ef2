"""Patch sites: a kernel image enters, one checked record per ``.parainstructions`` entry leaves.

The kernel's linker script puts the table between __parainstructions and __parainstructions_end (struct
paravirt_patch_site); Linux 2.6.20 to 6.7 have it, 6.8 folded it into ``.altinstructions``.
Next: ``paravirt/linux/``, where ``naming.py`` names the types and ``boot_patch.py`` computes what becomes of each site.
"""

import re
import struct
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

from pvfast.errors import ImageError
from pvfast.images.kernel import KernelImage

TABLE = ".parainstructions"
#: MAX_PATCH_LEN of Linux 2.6.23 and later: the kernel refuses longer sites.
MAX_SITE_BYTES = 254


@dataclass(frozen=True, slots=True)
class RecordLayout:
    """How one table entry is stored.

    Attributes
    ----------
    format : str
        Of ``struct``: address, type, length, clobbers (padding from 6.2 on).
    stride : int
        Bytes from one entry to the next; the last entry may end with its fields.
    """

    format: str
    stride: int


#: Bitness -> layout. A 64-bit entry is aligned to 8 bytes at its start only, so the last one may be 12 bytes.
LAYOUTS = {32: RecordLayout("<IBBH", 8), 64: RecordLayout("<QBBH", 16)}


@dataclass(frozen=True, slots=True)
class SiteRecord:
    """One patch site.

    Attributes
    ----------
    address : int
        Linear address of its first byte.
    type : int
        Number of the operation; ``naming.py`` knows some of the names.
    length : int
        Bytes that may be patched.
    clobbers : int
        Bits of the registers that patched code may destroy.
    section : str
        Where the site lies, for example ``".text"``.
    """

    address: int
    type: int
    length: int
    clobbers: int
    section: str


def read_sites(image: KernelImage) -> tuple[SiteRecord, ...]:
    """Read every patch site of a kernel.

    Parameters
    ----------
    image : KernelImage
        An opened kernel.

    Returns
    -------
    tuple of SiteRecord
        In table order.

    Raises
    ------
    ImageError
        There is no table; it is cut short; a site has an impossible length, lies outside the image's code, or
        overlaps another site.
    """
    table = _table(image)
    layout = LAYOUTS[image.bits]
    size = struct.calcsize(layout.format)
    if len(table) % layout.stride not in (0, size % layout.stride):
        raise ImageError(f"{TABLE} is {len(table)} bytes, and its entries are {layout.stride}: the table is "
                         "cut short, so no site of it can be trusted; take the image from the package again")
    sites = []
    for offset in range(0, len(table), layout.stride):
        fields = struct.unpack_from(layout.format, table, offset)
        sites.append(_checked(image, offset // layout.stride, *fields))
    _refuse_overlaps(sites)
    return tuple(sites)


def _table(image: KernelImage) -> bytes:
    section = image.section(TABLE)
    if section is not None and section.offset is not None:
        return image.data[section.offset:section.offset + section.size]
    if not image.sections:
        raise ImageError(f"the image has no section headers, so {TABLE} cannot be found: give the bzImage or "
                         "a vmlinux that was stripped of symbols only")
    if image.version is not None and image.version >= (6, 8):
        raise ImageError(f"the image has no {TABLE}: Linux 6.8 and later keep their paravirt sites in "
                         ".altinstructions, which pvfast does not list yet; give a kernel before 6.8")
    raise ImageError(f"the image has no {TABLE}: the kernel was built without CONFIG_PARAVIRT; give one "
                     "built with it")


def _checked(
    image: KernelImage, index: int, address: int, kind: int, length: int, clobbers: int
) -> SiteRecord:
    where = f"entry {index} of {TABLE} (site at linear {address:#x}, type {kind})"
    if not 0 < length <= MAX_SITE_BYTES:
        raise ImageError(f"{where} has the length {length}, but a site has 1 to {MAX_SITE_BYTES} bytes: the "
                         "table is damaged")
    section = image.section_at(address, length)
    if section is None or section.offset is None or not section.executable:
        raise ImageError(f"{where} does not lie in the code of the image: the table is damaged, or the image "
                         "was relinked without it")
    return SiteRecord(address, kind, length, clobbers, section.name)


def _refuse_overlaps(sites: list[SiteRecord]) -> None:
    ordered = sorted(sites, key=lambda site: site.address)
    for first, second in pairwise(ordered):
        if first.address + first.length > second.address:
            raise ImageError(f"the sites at linear {first.address:#x} ({first.length} bytes) and "
                             f"{second.address:#x} ({second.length} bytes) overlap: the table is damaged")


#: Pushes and a CS prefix may stand before the indirect call or jump of a site.
_INDIRECT = re.compile(rb"[\x50-\x57]{0,3}\x2e?\xff(?:([\x15\x25])|[\x14\x24]\x25)(.{4})", re.DOTALL)


def pointer_of(image: KernelImage, site: SiteRecord) -> int | None:
    """Linear address of the pointer that an unpatched site calls or jumps through.

    Parameters
    ----------
    image : KernelImage
        The kernel of the site.
    site : SiteRecord
        One of its sites.

    Returns
    -------
    int or None
        The member of ``pv_ops``; None when the site starts with anything but an indirect call or jump to
        memory.
    """
    match = _INDIRECT.match(image.read(site.address, site.length))
    if match is None:
        return None
    displacement = int.from_bytes(match[2], "little", signed=True)
    if image.bits == 64 and match[1]:  # relative to the next instruction
        displacement += site.address + match.end()
    return displacement & (1 << image.bits) - 1


def structure_at(pointers: Mapping[SiteRecord, int | None], word_bytes: int) -> int | None:
    """Linear address of the one ``pv_ops`` (since 4.20), by what most sites say.

    Parameters
    ----------
    pointers : mapping of SiteRecord to int or None
        `pointer_of` each site.
    word_bytes : int
        Size of a pointer.

    Returns
    -------
    int or None
        None when no site calls or jumps through a pointer.
    """
    bases = Counter(at - site.type * word_bytes for site, at in pointers.items() if at is not None)
    return bases.most_common(1)[0][0] if bases else None
