"""Naming patch sites: a kernel image enters, the names of its operations by type number leave.

Where the kernel's table is written down (its version banner, its bitness and its Xen notes tell which), the names are
the table's. Otherwise the kernel's own symbols name the function that a type's pointer holds: native_irq_disable
performs irq_disable. A type that neither names keeps its number: a name is never guessed. Next: ``listing.py`` prints
the names.
"""

import re
from collections.abc import Mapping
from functools import lru_cache

from pvfast.images.kallsyms import read_kallsyms
from pvfast.images.kernel import KernelImage
from pvfast.images.parainstructions import pointer_of, read_sites
from pvfast.paravirt.linux import operations_6_1

#: What an operation without a known name is called in listings.
UNKNOWN = "unknown"

#: XEN_ELFNOTE_ENTRY: only a kernel that can be a Xen PV guest has it, so CONFIG_PARAVIRT_XXL is on.
XEN_PV_ENTRY = 1
#: native_clts, __native_read_cr3, __raw_callee_save___native_queued_spin_unlock; compilers add .constprop.0 and so on.
_NATIVE = re.compile(r"(?:__raw_callee_save_)?(?:__)?native_(\w+?)(?:\.\w+)*")


def native_operation(function: str) -> str | None:
    """The operation that a native function performs, by its name.

    Examples
    --------
    >>> native_operation("__raw_callee_save___native_queued_spin_unlock"), native_operation("__native_read_cr3")
    ('queued_spin_unlock', 'read_cr3')
    >>> native_operation("_paravirt_nop") is None
    True
    """
    match = _NATIVE.fullmatch(function)
    return match[1] if match else None


def table_of(image: KernelImage) -> tuple[str, ...] | None:
    """The members of a kernel's ``pv_ops`` in type order.

    Parameters
    ----------
    image : KernelImage
        An opened kernel.

    Returns
    -------
    tuple of str or None
        None when the kernel's table is not written down.
    """
    if image.version != (6, 1):
        return None
    if image.bits == 32:
        return operations_6_1.I386
    return operations_6_1.X86_64 if XEN_PV_ENTRY in image.xen_notes else None


@lru_cache(maxsize=4)
def operation_names(image: KernelImage) -> Mapping[int, str]:
    """The operations of a kernel by type number, as far as they are known.

    Parameters
    ----------
    image : KernelImage
        An opened kernel.

    Returns
    -------
    mapping of int to str
        For example ``"irq.save_fl"`` from a table, ``"save_fl"`` from a symbol.

    Raises
    ------
    ImageError
        The table of sites is damaged.
    """
    table = table_of(image)
    if table is not None:
        return dict(enumerate(table))
    pointers: dict[int, int] = {}
    for site in read_sites(image):
        if site.type not in pointers and (pointer := pointer_of(image, site)) is not None:
            pointers[site.type] = pointer
    symbols = read_kallsyms(image)
    names = {}
    for kind, pointer in pointers.items():
        if image.section_at(pointer, image.word_bytes) is None:
            continue
        functions = symbols.names.get(image.read_word(pointer), ())
        found = next(filter(None, map(native_operation, functions)), None)
        if found is not None:
            names[kind] = found
    return names


def operation_name(image: KernelImage, type_number: int) -> str | None:
    """The operation that a site's type stands for, or None when that is not known."""
    return operation_names(image).get(type_number)
