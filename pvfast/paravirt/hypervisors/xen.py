"""Xen: interrupts are masked by a byte in memory that guest and hypervisor share.

The three ways to ``irq_disable`` are here as text, from the slowest to the one that patching makes possible,
and the patch function that uses the last one. Constants are in ``xen_interface.py``. The bodies are entered
by a call from a patch site, so they may use ECX and EDX, which the site saves; they leave EAX alone, because
the assembly sites of 2.6.20 do not save it and some hold the number of the system call there.
"""

from collections.abc import Mapping
from types import MappingProxyType

from pvfast.errors import PatchError
from pvfast.paravirt.hypervisors.interface import Hypervisor, PatchContext
from pvfast.paravirt.hypervisors.xen_host import XenHost
from pvfast.paravirt.hypervisors.xen_interface import (
    FLAT_RING1_CS,
    VCPU_EVTCHN_UPCALL_MASK,
    VCPU_INFO_SHIFT,
)
from pvfast.paravirt.patcher import patch_default, patch_insns
from pvfast.paravirt.sites import ADDRESS_END

#: Per-CPU offset (in %gs) of this CPU's struct vcpu_info: the symbol that inlining needs.
VCPU_INFO_SYMBOL = "xen_vcpu_info"

#: ``movb imm8, %gs:m32`` up to its address: segment prefix, C6 /0 with a bare displacement.
_MOVB_GS = b"\x65\xc6\x05"

_PREEMPT_DISABLE = """
    movl $-THREAD_SIZE, %edx
    andl %esp, %edx                         # thread_info stands at the low end of the stack
    incl TI_preempt_count(%edx)
"""
_PREEMPT_ENABLE_NO_RESCHED = """
    decl TI_preempt_count(%edx)
"""

#: Bodies of ``irq_disable`` without their ``ret``, as AT&T text.
#:
#: ``smp_processor_id``: the vcpu_info is looked up by CPU number, so preemption is held off meanwhile.
#: Symbols: THREAD_SIZE, TI_cpu, TI_preempt_count, and the pointer variable HYPERVISOR_shared_info.
#: ``per_cpu``: a per-CPU pointer (at %gs:xen_vcpu) finds it; two instructions, so preemption is held off too.
#: ``inline``: the vcpu_info lies in the per-CPU area itself (at %gs:xen_vcpu_info); one instruction.
IRQ_DISABLE_FORMS: Mapping[str, str] = MappingProxyType({
    "smp_processor_id": f"""{_PREEMPT_DISABLE}
    movl TI_cpu(%edx), %ecx                 # smp_processor_id()
    shll ${VCPU_INFO_SHIFT}, %ecx
    addl HYPERVISOR_shared_info, %ecx
    movb $1, {VCPU_EVTCHN_UPCALL_MASK}(%ecx)
{_PREEMPT_ENABLE_NO_RESCHED}""",
    "per_cpu": f"""{_PREEMPT_DISABLE}
    movl %gs:xen_vcpu, %ecx
    movb $1, {VCPU_EVTCHN_UPCALL_MASK}(%ecx)
{_PREEMPT_ENABLE_NO_RESCHED}""",
    "inline": f"    movb $1, %gs:{VCPU_INFO_SYMBOL} + {VCPU_EVTCHN_UPCALL_MASK}\n",
})


def inline_irq_disable(vcpu_info_offset: int) -> bytes:
    """Encode ``movb $1, %gs:mask``: 8 bytes, no register, no flags.

    Parameters
    ----------
    vcpu_info_offset : int
        Offset of the vcpu_info in the per-CPU area that %gs addresses.

    Examples
    --------
    >>> inline_irq_disable(0x20).hex(" ")
    '65 c6 05 21 00 00 00 01'
    """
    if not 0 <= vcpu_info_offset < ADDRESS_END - VCPU_EVTCHN_UPCALL_MASK:
        raise PatchError(f"{VCPU_INFO_SYMBOL} is {vcpu_info_offset:#x}, no offset in a 32-bit segment")
    mask = vcpu_info_offset + VCPU_EVTCHN_UPCALL_MASK
    return _MOVB_GS + mask.to_bytes(4, "little") + b"\x01"


class Xen(XenHost, Hypervisor):
    """Xen 3 as a 32-bit paravirtual guest sees it.

    It inlines ``irq_disable`` when the context's symbols hold ``xen_vcpu_info``. Other sites become direct
    calls or jumps where the context's targets and the clobbers of the site allow it, and stay as they are
    otherwise.

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

    def patch(
        self, site_type: int, clobbers: int, insns: bytes, address: int, context: PatchContext
    ) -> bytes | None:
        """Inline ``irq_disable``; all else as ``paravirt_patch_default`` does."""
        offset = context.symbols.get(VCPU_INFO_SYMBOL)
        if context.era.site_operation(site_type) == "irq_disable" and offset is not None:
            code = patch_insns(inline_irq_disable(offset), len(insns))
            if code is not None:
                return code
        return patch_default(site_type, clobbers, insns, address, context)
