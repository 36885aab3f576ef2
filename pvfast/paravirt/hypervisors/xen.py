"""Xen: interrupts are masked by a byte in memory that guest and hypervisor share.

The patch function is here, what it puts into a site in ``xen_forms.py``, constants in ``xen_interface.py``, the side
of Xen itself in ``xen_host.pyx``.
"""

from pvfast.paravirt.hypervisors.interface import Hypervisor
from pvfast.paravirt.hypervisors.xen_forms import (
    CHECK_EVENTS_SYMBOL,
    DIRECT_FORMS,
    GS,
    SEGMENT_SYMBOL,
    VCPU_INFO_SYMBOL,
    calls_check_events,
    direct_form,
)
from pvfast.paravirt.hypervisors.xen_host import XenHost
from pvfast.paravirt.hypervisors.xen_interface import FLAT_RING1_CS
from pvfast.paravirt.patcher import PatchContext, patch_default, patch_insns


class Xen(XenHost, Hypervisor):
    """Xen 3 as a 32-bit paravirtual guest sees it.

    When the context's symbols hold ``xen_vcpu_info``, an operation is inlined where its direct form fits; those that
    call ``check_events`` need that symbol too. ``percpu_segment`` says which segment register the kernel uses: %gs
    unless it is there. Other sites become direct calls or jumps where the context's targets and the clobbers of the
    site allow it, and stay as they are otherwise.

    Its host side is `XenHost`: under ``Machine(hypervisor=xen)`` the guest runs in ring 1 and this plays ring 0.

    Examples
    --------
    >>> context = PatchContext(symbols={"xen_vcpu_info": 0x20})
    >>> insns = bytes.fromhex("5152ff15680040c05a59")
    >>> Xen().patch(0, 1, insns, 0xC0100000, context).hex(" ")
    '65 c6 05 21 00 00 00 01'
    >>> Xen().patch(1, 1, insns, 0xC0100000, context) is None
    True
    """

    name = "xen"
    banner = "Xen"
    kernel_rpl = FLAT_RING1_CS & 3
    paravirt_enabled = 1
    patch_labels = (CHECK_EVENTS_SYMBOL,)

    def patch(
        self, site_type: int, clobbers: int, insns: bytes, address: int, context: PatchContext
    ) -> bytes | None:
        """``xen_patch``: the direct form if there is one and it fits, else ``paravirt_patch_default``."""
        code = self._direct(context.era.site_operation(site_type), address, context)
        if code is not None and patch_insns(code, len(insns)) is not None:
            return code
        return patch_default(site_type, clobbers, insns, address, context)

    def _direct(self, operation: str | None, address: int, context: PatchContext) -> bytes | None:
        text, symbols = DIRECT_FORMS.get(operation or ""), context.symbols
        if text is None or VCPU_INFO_SYMBOL not in symbols:
            return None
        if calls_check_events(text) and CHECK_EVENTS_SYMBOL not in symbols:
            return None
        form = direct_form(text, symbols[VCPU_INFO_SYMBOL], symbols.get(CHECK_EVENTS_SYMBOL, 0),
                           symbols.get(SEGMENT_SYMBOL, GS))
        return form.at(address)
