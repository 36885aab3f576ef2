"""Bare hardware: every operation is the instruction it stands for.

The table is Linux 2.6.20's ``native_patch``: what a site becomes when the kernel owns the machine.
"""

from collections.abc import Mapping
from types import MappingProxyType

from pvfast.paravirt.hypervisors.interface import Hypervisor, PatchContext
from pvfast.paravirt.patcher import patch_insns
from pvfast.paravirt.sites import PatchType

#: AT&T text and bytes of each inline replacement; the tests assemble the one and compare with the other.
NATIVE_CODE: Mapping[int, tuple[str, bytes]] = MappingProxyType({
    PatchType.IRQ_DISABLE: ("cli", b"\xfa"),
    PatchType.IRQ_ENABLE: ("sti", b"\xfb"),
    PatchType.RESTORE_FLAGS: ("push %eax; popf", b"\x50\x9d"),
    PatchType.SAVE_FLAGS: ("pushf; pop %eax", b"\x9c\x58"),
    PatchType.SAVE_FLAGS_IRQ_DISABLE: ("pushf; pop %eax; cli", b"\x9c\x58\xfa"),
    PatchType.INTERRUPT_RETURN: ("iret", b"\xcf"),
    PatchType.STI_SYSEXIT: ("sti; sysexit", b"\xfb\x0f\x35"),
})


class Native(Hypervisor):
    """No hypervisor at all.

    Examples
    --------
    >>> insns = bytes.fromhex("5152ff15680040c05a59")
    >>> Native().patch(PatchType.SAVE_FLAGS, 0, insns, 0xC0100000, PatchContext()).hex()
    '9c58'
    """

    name = "native"
    banner = "bare hardware"

    def patch(
        self, site_type: int, clobbers: int, insns: bytes, address: int, context: PatchContext
    ) -> bytes | None:
        """Inline the instruction when it fits."""
        row = NATIVE_CODE.get(site_type)
        return patch_insns(row[1], len(insns)) if row else None
