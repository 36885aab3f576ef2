"""Naming patch sites: a kernel image enters, the names of its operations by type number leave.

Where the kernel's table is written down (its version banner, its bitness and its Xen notes tell which) and fits, the
names are the table's. Otherwise the kernel's own symbols name the function that a type's pointer holds,
native_irq_disable for irq_disable, or, where that says nothing, the function that it holds in a Xen PV guest,
xen_alloc_pte for alloc_pte. A type that none of them names keeps its number: a name is never guessed. Next:
``listing.py`` prints the names.
"""

import re
from collections.abc import Mapping
from functools import lru_cache
from types import MappingProxyType

from pvfast.images.kallsyms import read_kallsyms
from pvfast.images.kernel import KernelImage
from pvfast.images.parainstructions import SiteRecord, pointer_of, read_sites, structure_at
from pvfast.paravirt.linux.xen_boot import XEN_PV_ENTRY, XEN_SINCE, xen_members
from pvfast.paravirt.operations import era

#: Versions whose table is in ``operations.py``.
_TABLES = MappingProxyType({(5, 2): "5.2", (6, 1): "6.1"})
#: So many that the operations of spinlocks are Xen's own.
_SEVERAL_VCPUS = 2
#: What an operation without a known name is called in listings.
UNKNOWN = "unknown"

#: native_clts, __native_read_cr3, __raw_callee_save___native_queued_spin_unlock; compilers add .constprop.0 and so on.
_NATIVE = re.compile(r"(?:__raw_callee_save_)?(?:__)?native_(\w+?)(?:\.\w+)*")
#: Functions that are one instruction and a return, or a jump to the return thunk, perhaps behind endbr.
_BODIES = MappingProxyType({b"\xfa": "irq.irq_disable", b"\xfb": "irq.irq_enable",
                            b"\xc6\x00\x00": "lock.queued_spin_unlock", b"\xc6\x07\x00": "lock.queued_spin_unlock"})
_BODY = re.compile(rb"(?:\xf3\x0f\x1e[\xfa\xfb])?(\xfa|\xfb|\xc6[\x00\x07]\x00)[\xc3\xe9]", re.DOTALL)
_BODY_BYTES = 8
#: Native functions that are not called as the operation is.
_CALLED_OTHERWISE = MappingProxyType({
    "flush_tlb": "flush_tlb_user", "flush_tlb_local": "flush_tlb_user", "flush_tlb_global": "flush_tlb_kernel",
    "tss_invalidate_io_bitmap": "invalidate_io_bitmap", "tss_update_io_bitmap": "update_io_bitmap"})
#: xen_alloc_pte, __raw_callee_save_xen_pte_val, xen_save_fl_direct, xen_qlock_kick; some of Xen's are common code.
_XEN = re.compile(r"(?:__raw_callee_save_)?(?:xen_(?:qlock_)?|paravirt_)(\w+?)(?:_direct)?|(tlb_remove_table)")
_LAZY_MODE = re.compile(r"(enter|leave|flush)_lazy_mmu")


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


def xen_operation(function: str) -> str | None:
    """The operation that a function of a Xen PV guest's ``pv_ops`` performs, by its name.

    Examples
    --------
    >>> xen_operation("__raw_callee_save_xen_pte_val"), xen_operation("xen_leave_lazy_mmu")
    ('pte_val', 'lazy_mode.leave')
    >>> xen_operation("_paravirt_nop") is None
    True
    """
    match = _XEN.fullmatch(function)
    return _LAZY_MODE.sub(r"lazy_mode.\1", match[1] or match[2]) if match else None


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
    release = _TABLES.get(image.version or (0, 0))
    is_xen_guest = XEN_PV_ENTRY in image.xen_notes      # what CONFIG_PARAVIRT_XXL is for
    if release is None or (image.bits == 64 and not is_xen_guest):
        return None
    linux = era(release, pae=is_xen_guest, bits=image.bits, xxl=is_xen_guest)
    return tuple(member.path for member in linux.template)


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
    pointers = {site: pointer_of(image, site) for site in read_sites(image)}
    if table is not None and _fits(image, table, pointers):
        return dict(enumerate(table))
    symbols = read_kallsyms(image)
    on_xen: Mapping[int, int | str] = {}
    pv_ops = structure_at(pointers, image.word_bytes)
    if pv_ops is not None and (image.version or (0, 0)) >= XEN_SINCE and XEN_PV_ENTRY in image.xen_notes:
        on_xen = xen_members(image, symbols, pv_ops, _SEVERAL_VCPUS)
    names: dict[int, str] = {}
    for site, pointer in pointers.items():
        if site.type in names or pointer is None or image.section_at(pointer, image.word_bytes) is None:
            continue
        functions = symbols.names.get(image.read_word(pointer), ())
        found = next(filter(None, map(native_operation, functions)), None)
        if found is None and isinstance(function := on_xen.get(pointer), int):
            found = next(filter(None, map(xen_operation, symbols.names.get(function, ()))), None)
        if found is not None:
            names[site.type] = _CALLED_OTHERWISE.get(found, found)
    return names


def _fits(image: KernelImage, table: tuple[str, ...], pointers: Mapping[SiteRecord, int | None]) -> bool:
    """Whether the functions known by their bodies are where the table has them; members depend on the configuration."""
    for kind, pointer in {site.type: pointer for site, pointer in pointers.items() if pointer is not None}.items():
        if kind >= len(table) or image.section_at(pointer, image.word_bytes) is None:
            continue
        function = image.read_word(pointer)
        section = image.section_at(function, _BODY_BYTES)
        if section is not None and section.executable:
            match = _BODY.match(image.read(function, _BODY_BYTES))
            if match is not None and table[kind] != _BODIES[match[1]]:
                return False
    return True


def operation_name(image: KernelImage, type_number: int) -> str | None:
    """The operation that a site's type stands for, or None when that is not known."""
    return operation_names(image).get(type_number)
