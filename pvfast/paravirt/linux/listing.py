"""Listings: a kernel image enters; rows, a summary, CSV text and a patched ELF file leave.

The plain functions behind ``pvfast sites`` and ``pvfast patch``; nothing here prints. Next:
``pvfast/cli.py``.
"""

import csv
import io
import os
import secrets
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from pvfast.assembly import show_code
from pvfast.errors import ImageError
from pvfast.images.kernel import KernelImage
from pvfast.images.parainstructions import SiteRecord, read_sites
from pvfast.paravirt.linux.naming import UNKNOWN, operation_names
from pvfast.paravirt.linux.site_patcher import BootPatch, PatchedSite

CSV_COLUMNS = ("site", "type", "op", "len", "section", "before", "after")


@dataclass(frozen=True, slots=True)
class SiteRow:
    """One line of ``pvfast sites``.

    Attributes
    ----------
    address : int
        Linear address.
    type : int
        The operation's number.
    operation : str
        Its name, ``"unknown"`` where the kernel's table is not known.
    length : int
        Bytes that may be patched.
    section : str
        Where the site lies.
    disassembly : str
        Its instructions in the image, AT&T syntax, separated by ``"; "``.
    """

    address: int
    type: int
    operation: str
    length: int
    section: str
    disassembly: str


@dataclass(frozen=True, slots=True)
class OperationSummary:
    """How many sites one operation has.

    Attributes
    ----------
    type : int
        The operation's number.
    operation : str
        Its name, or ``"unknown"``.
    sites, bytes : int
        Number of sites and the bytes they cover.
    """

    type: int
    operation: str
    sites: int
    bytes: int


def list_sites(image: KernelImage) -> list[SiteRow]:
    """List the patch sites of a kernel.

    Parameters
    ----------
    image : KernelImage
        From :func:`pvfast.images.kernel.load_kernel`.

    Returns
    -------
    list of SiteRow
        In table order.

    Raises
    ------
    ImageError
        The table is missing or damaged.
    """
    names = operation_names(image)
    return [_row(image, site, names.get(site.type, UNKNOWN)) for site in read_sites(image)]


def _row(image: KernelImage, site: SiteRecord, name: str) -> SiteRow:
    text = show_code(image.read(site.address, site.length), site.address, image.bits)
    return SiteRow(site.address, site.type, name, site.length, site.section, text)


def summarize(rows: Iterable[SiteRow]) -> list[OperationSummary]:
    """Count sites per operation.

    Parameters
    ----------
    rows : iterable of SiteRow
        From :func:`list_sites`.

    Returns
    -------
    list of OperationSummary
        In the order of the operations' numbers.

    Examples
    --------
    >>> row = SiteRow(0xC0100000, 31, "irq.irq_disable", 6, ".text", "calll *0xc0400010")
    >>> summarize([row, row])
    [OperationSummary(type=31, operation='irq.irq_disable', sites=2, bytes=12)]
    """
    sites: Counter[tuple[int, str]] = Counter()
    covered: Counter[tuple[int, str]] = Counter()
    for row in rows:
        sites[row.type, row.operation] += 1
        covered[row.type, row.operation] += row.length
    return [OperationSummary(*key, sites[key], covered[key]) for key in sorted(sites)]


def patch_csv(sites: Iterable[PatchedSite]) -> str:
    """Write what boot makes of the sites as CSV text.

    Parameters
    ----------
    sites : iterable of PatchedSite
        ``boot_patch(image).sites``.

    Returns
    -------
    str
        The columns ``site,type,op,len,section,before,after``, one line per site in table order, addresses and
        bytes in lower-case hexadecimal; `after` is empty where it cannot be known.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(CSV_COLUMNS)
    for site in sites:
        record = site.record
        after = "" if site.after is None else site.after.hex()
        writer.writerow((f"{record.address:x}", record.type, site.operation or UNKNOWN, record.length,
                         record.section, site.before.hex(), after))
    return text.getvalue()


def write_patched(image: KernelImage, patch: BootPatch, path: str | os.PathLike[str]) -> None:
    """Write the kernel as an ELF file with its sites patched.

    The file appears whole or not at all: it is written beside its place and then renamed.

    Parameters
    ----------
    image : KernelImage
        The kernel that was patched.
    patch : BootPatch
        From :func:`pvfast.paravirt.linux.boot_patch.boot_patch`; its undecided sites keep the bytes that they have.
    path : path
        Where to write; a file that is there is replaced, a link keeps pointing where it does.

    Raises
    ------
    ImageError
        The file cannot be written, or is a device, a FIFO or a directory.
    """
    data = image.with_bytes(patch.changes)
    where = f"cannot write the patched kernel to {os.fspath(path)!r}"
    try:
        target = Path(path).resolve()   # what a link points to is replaced, not the link
        irregular = target.exists() and not target.is_file()
    except (OSError, RuntimeError, ValueError) as error:    # a loop of links, a name with NUL in it
        raise ImageError(f"{where}: {error}") from error
    if not os.fspath(path) or irregular:
        raise ImageError(f"{where}: not a regular file")
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(4)}")
    try:
        try:
            with open(temporary, "xb") as file:
                file.write(data)
            os.replace(temporary, target)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise ImageError(f"{where}: {error.strerror}; nothing was left there") from error
