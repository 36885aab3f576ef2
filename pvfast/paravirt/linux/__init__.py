"""Real Linux kernels: what their patch sites are called, and what their own boot makes of them.

An image (``pvfast.images``) goes in, rows and bytes come out. ``naming.py`` (types to operations, by the tables of
``operations_6_1.py``), ``boot_patch.py`` (what the kernel does to itself), ``listing.py`` (rows for people and files).
"""

from pvfast.paravirt.linux.boot_patch import (
    BARE_HARDWARE,
    PATCHED_ALREADY,
    BootPatch,
    CpuFeatures,
    PatchedSite,
    boot_patch,
)
from pvfast.paravirt.linux.listing import (
    OperationSummary,
    SiteRow,
    list_sites,
    patch_csv,
    show_code,
    summarize,
    write_patched,
)

__all__ = [
    "BARE_HARDWARE",
    "PATCHED_ALREADY",
    "BootPatch",
    "CpuFeatures",
    "OperationSummary",
    "PatchedSite",
    "SiteRow",
    "boot_patch",
    "list_sites",
    "patch_csv",
    "show_code",
    "summarize",
    "write_patched",
]
