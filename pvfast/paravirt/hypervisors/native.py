"""Bare hardware: every operation is the instruction it stands for.

The table is Linux' ``native_patch``: what a site becomes when the kernel owns the machine. Which of the operations have
sites is the era's affair: in 2.6.20 and 2.6.21 the first seven; from 2.6.22 on all but the fused one.
"""

from collections.abc import Mapping
from types import MappingProxyType

from pvfast.paravirt.hypervisors.interface import Hypervisor, PatchContext
from pvfast.paravirt.operations import FUSED
from pvfast.paravirt.patcher import patch_default, patch_insns

#: By operation, AT&T text and bytes of each inline replacement; the tests assemble the one and compare with the other.
NATIVE_CODE: Mapping[str, tuple[str, bytes]] = MappingProxyType({
    "irq_disable": ("cli", b"\xfa"),
    "irq_enable": ("sti", b"\xfb"),
    "restore_fl": ("push %eax; popf", b"\x50\x9d"),
    "save_fl": ("pushf; pop %eax", b"\x9c\x58"),
    FUSED: ("pushf; pop %eax; cli", b"\x9c\x58\xfa"),
    "iret": ("iret", b"\xcf"),
    "irq_enable_sysexit": ("sti; sysexit", b"\xfb\x0f\x35"),
    "read_cr2": ("mov %cr2, %eax", b"\x0f\x20\xd0"),
    "read_cr3": ("mov %cr3, %eax", b"\x0f\x20\xd8"),
    "write_cr3": ("mov %eax, %cr3", b"\x0f\x22\xd8"),
    "clts": ("clts", b"\x0f\x06"),
    "read_tsc": ("rdtsc", b"\x0f\x31"),
})


class Native(Hypervisor):
    """No hypervisor at all.

    Examples
    --------
    >>> insns = bytes.fromhex("5152ff15680040c05a59")
    >>> Native().patch(3, 0, insns, 0xC0100000, PatchContext()).hex()
    '9c58'
    """

    name = "native"
    banner = "bare hardware"

    def patch(
        self, site_type: int, clobbers: int, insns: bytes, address: int, context: PatchContext
    ) -> bytes | None:
        """Inline the instruction when it fits; what has none, as ``paravirt_patch_default`` does."""
        row = NATIVE_CODE.get(context.era.site_operation(site_type) or "")
        if row is None:
            return patch_default(site_type, clobbers, insns, address, context)
        return patch_insns(row[1], len(insns))
