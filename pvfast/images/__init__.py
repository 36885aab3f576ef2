"""Files <-> bytes: kernel images, their tables, and what boot makes of them.

Read ``kernel.py`` first (``load_kernel``), then ``parainstructions.py`` and ``altinstructions.py`` (the
tables), ``naming.py`` (types to operations), ``boot_patch.py`` (what the kernel does to itself) and
``listing.py``.
"""

from pvfast.images.boot_patch import BARE_HARDWARE, BootPatch, CpuFeatures, PatchedSite, boot_patch
from pvfast.images.kernel import KernelImage, Section, Segment, load_kernel
from pvfast.images.listing import (
    OperationSummary,
    SiteRow,
    list_sites,
    patch_csv,
    show_code,
    summarize,
    write_patched,
)
from pvfast.images.parainstructions import SiteRecord, pointer_of, read_sites

__all__ = [
    "BARE_HARDWARE",
    "BootPatch",
    "CpuFeatures",
    "KernelImage",
    "OperationSummary",
    "PatchedSite",
    "Section",
    "Segment",
    "SiteRecord",
    "SiteRow",
    "boot_patch",
    "list_sites",
    "load_kernel",
    "patch_csv",
    "pointer_of",
    "read_sites",
    "show_code",
    "summarize",
    "write_patched",
]
