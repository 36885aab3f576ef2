"""Real Linux kernels: what their patch sites are called, and what their own boot makes of them.

An image (``pvfast.images``) goes in, rows and bytes come out. ``naming.py`` (types to operations, by
``paravirt/operations.py`` or the kernel's symbols), ``boot_patch.py`` (what the kernel does to itself;
``site_patcher.py``, ``native_patch.py``,
``alternatives_patch.py`` and ``xen_boot.py`` are its parts), ``listing.py`` (rows for people and files).
"""

from pvfast.paravirt.linux.alternatives_patch import BARE_HARDWARE, CpuFeatures
from pvfast.paravirt.linux.boot_patch import CPUS, HYPERVISORS, boot_patch, default_cpu
from pvfast.paravirt.linux.listing import (
    OperationSummary,
    SiteRow,
    list_sites,
    patch_csv,
    summarize,
    write_patched,
)
from pvfast.paravirt.linux.site_patcher import PATCHED_ALREADY, BootPatch, PatchedSite

__all__ = [
    "BARE_HARDWARE",
    "CPUS",
    "HYPERVISORS",
    "PATCHED_ALREADY",
    "BootPatch",
    "CpuFeatures",
    "OperationSummary",
    "PatchedSite",
    "SiteRow",
    "boot_patch",
    "default_cpu",
    "list_sites",
    "patch_csv",
    "summarize",
    "write_patched",
]
