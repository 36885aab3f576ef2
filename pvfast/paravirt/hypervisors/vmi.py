"""VMI: the calls are code in a ROM, and the ROM says how each call site reaches it.

Which operations point straight into the ROM is here; those whose arguments differ have a wrapper in the kernel
(``guest/vmi_operations.S``). The patch function does what the kernel's own ``vmi_patch`` (``guest/vmi.S``) does while
it boots: the same bytes, from outside. Numbers are in ``vmi_interface.py``, the ROM is in ``vmi_rom.py``.
"""

from collections.abc import Mapping
from types import MappingProxyType

from pvfast.paravirt.hypervisors.interface import Hypervisor
from pvfast.paravirt.hypervisors.vmi_host import VmiHost
from pvfast.paravirt.hypervisors.vmi_interface import Reloc, VmiCall
from pvfast.paravirt.hypervisors.vmi_rom import rom
from pvfast.paravirt.operations import FUSED
from pvfast.paravirt.patcher import PatchContext, Replacement, patch_jmp, patch_near_call
from pvfast.paravirt.sites import CLBR_NONE

#: ``para_fill``: operations whose arguments are those of the call, so that the pointer is the ROM's address.
PARA_FILL: Mapping[str, VmiCall] = MappingProxyType({
    "get_debugreg": VmiCall.GetDR,
    "set_debugreg": VmiCall.SetDR,
    "clts": VmiCall.CLTS,
    "read_cr0": VmiCall.GetCR0,
    "write_cr0": VmiCall.SetCR0,
    "read_cr2": VmiCall.GetCR2,
    "write_cr2": VmiCall.SetCR2,
    "read_cr3": VmiCall.GetCR3,
    "write_cr3": VmiCall.SetCR3,
    "read_cr4_safe": VmiCall.GetCR4,
    "read_cr4": VmiCall.GetCR4,
    "write_cr4": VmiCall.SetCR4,
    "save_fl": VmiCall.GetInterruptMask,
    "restore_fl": VmiCall.SetInterruptMask,
    "irq_disable": VmiCall.DisableInterrupts,
    "irq_enable": VmiCall.EnableInterrupts,
    "safe_halt": VmiCall.Halt,
    "halt": VmiCall.Halt,               # there is no halt with interrupts off
    "wbinvd": VmiCall.WBINVD,
    "read_tsc": VmiCall.RDTSC,
    "load_gdt": VmiCall.SetGDT,
    "load_idt": VmiCall.SetIDT,
    "store_gdt": VmiCall.GetGDT,
    "store_idt": VmiCall.GetIDT,
    "store_tr": VmiCall.GetTR,
    "write_ldt_entry": VmiCall.WriteLDTEntry,
    "write_gdt_entry": VmiCall.WriteGDTEntry,
    "write_idt_entry": VmiCall.WriteIDTEntry,
    "set_iopl_mask": VmiCall.SetIOPLMask,
    "io_delay": VmiCall.IODelay,
    "apic_write": VmiCall.APICWrite,
    "apic_write_atomic": VmiCall.APICWrite,
    "apic_read": VmiCall.APICRead,
    "flush_tlb_single": VmiCall.InvalPage,
})

#: ``para_wrap``: operations with a wrapper ``vmi_<operation>``, and the call that it makes.
PARA_WRAP: Mapping[str, VmiCall] = MappingProxyType({
    "cpuid": VmiCall.CPUID,
    "get_wallclock": VmiCall.GetWallclockTime,
    "load_tr_desc": VmiCall.SetTR,
    "set_ldt": VmiCall.SetLDT,
    "load_tls": VmiCall.WriteGDTEntry,
    "load_esp0": VmiCall.UpdateKernelStack,
    "flush_tlb_user": VmiCall.FlushTLB,
    "flush_tlb_kernel": VmiCall.FlushTLB,
    "set_pte": VmiCall.SetPxE,
    "set_pte_at": VmiCall.SetPxE,
    "set_pmd": VmiCall.SetPxE,
    "pte_update": VmiCall.UpdatePxE,
    "pte_update_defer": VmiCall.UpdatePxE,
    "set_lazy_mode": VmiCall.SetLazyMode,
    "enter_lazy_mmu": VmiCall.SetLazyMode,
    "leave_lazy_mmu": VmiCall.SetLazyMode,
    "enter_lazy_cpu": VmiCall.SetLazyMode,
    "leave_lazy_cpu": VmiCall.SetLazyMode,
    "alloc_pt": VmiCall.AllocatePage,
    "alloc_pd": VmiCall.AllocatePage,
    "alloc_pd_clone": VmiCall.AllocatePage,
    "release_pt": VmiCall.ReleasePage,
    "release_pd": VmiCall.ReleasePage,
})

#: ``vmi_patch``: the call or calls that replace a site.
PATCHED: Mapping[str, tuple[VmiCall, ...]] = MappingProxyType({
    "irq_disable": (VmiCall.DisableInterrupts,),
    "irq_enable": (VmiCall.EnableInterrupts,),
    "restore_fl": (VmiCall.SetInterruptMask,),
    "save_fl": (VmiCall.GetInterruptMask,),
    FUSED: (VmiCall.GetInterruptMask, VmiCall.DisableInterrupts),
    "iret": (VmiCall.IRET,),
    "irq_enable_sysexit": (VmiCall.SYSEXIT,),
})

#: The kernel's helper for a site of two operations that is too short for two calls.
_CALLOUT = "irq_save_disable_callout"


def _rom_operations() -> Mapping[str, int]:
    """Operation to the address in the ROM: those that point there, and the two whose pointers are poisoned because
    only a patched site can go there."""
    calls = {**PARA_FILL, "iret": VmiCall.IRET, "irq_enable_sysexit": VmiCall.SYSEXIT}
    found = {name: rom().relocations[call] for name, call in calls.items()}
    return MappingProxyType({
        name: address for name, (kind, address) in found.items() if kind in (Reloc.CALL_REL, Reloc.JUMP_REL)
    })


class Vmi(VmiHost, Hypervisor):
    """VMware's hypervisor as a guest with VMI sees it: an option ROM.

    The machine starts as bare hardware. The kernel finds the ROM, and `vmi_init` in it moves the kernel to ring 1.

    Examples
    --------
    >>> insns = bytes.fromhex("5152ff15680040c05a59")
    >>> Vmi().patch(0, 1, insns, 0xC0100000, PatchContext()).hex(" ")
    'e8 bb 87 fc ff'
    >>> Vmi().patch(4, 0, bytes(18), 0xC0100000, PatchContext()).hex(" ")
    'e8 db 87 fc ff e8 b6 87 fc ff'
    """

    name = "vmi"
    banner = "vmi"
    kernel_rpl = 1
    paravirt_enabled = 1
    operations = _rom_operations()
    patch_labels = (_CALLOUT,)

    def patch(
        self, site_type: int, clobbers: int, insns: bytes, address: int, context: PatchContext
    ) -> bytes | None:
        """What `get_reloc` says, for the operations of interrupts and of leaving the kernel."""
        calls = PATCHED.get(context.era.site_operation(site_type) or "", ())
        code = b""
        destroyed = CLBR_NONE
        for call in calls:
            kind, target = rom().relocations[call]
            if kind is Reloc.NONE:
                return None
            if kind is Reloc.JUMP_REL:
                return patch_jmp(target, address, len(insns))
            if kind is Reloc.CALL_REL:
                code += patch_near_call(target, address + len(code))
                destroyed |= rom().destroys(call)
        if len(code) > len(insns) and _CALLOUT in context.symbols:
            code = patch_near_call(context.symbols[_CALLOUT], address)
        return Replacement(code, destroyed) if calls and len(code) <= len(insns) else None
