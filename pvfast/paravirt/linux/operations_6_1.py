"""Linux 6.1's ``pv_ops``, as names in type order: what a patch site's type number stands for.

A site's type is the offset of its member in ``struct paravirt_patch_template`` divided by the size of a
pointer. Source: Linux 6.1, arch/x86/include/asm/paravirt_types.h, the structures pv_cpu_ops, pv_irq_ops,
pv_mmu_ops (with pv_lazy_ops inside) and pv_lock_ops in that order. Most members exist only under
CONFIG_PARAVIRT_XXL, which only CONFIG_XEN_PV selects, and that only on x86-64. ``naming.py``
decides which table a kernel has.
"""


def _group(group: str, members: str) -> tuple[str, ...]:
    return tuple(f"{group}.{member}" for member in members.split())


_MMU_COMMON = """
    flush_tlb_user flush_tlb_kernel flush_tlb_one_user flush_tlb_multi tlb_remove_table exit_mmap
    notify_page_enc_status_changed
"""

_LOCK = _group("lock", "queued_spin_lock_slowpath queued_spin_unlock wait kick vcpu_is_preempted")

#: Without CONFIG_PARAVIRT_XXL: every i386 kernel.
I386: tuple[str, ...] = (*_group("cpu", "io_delay"), *_group("mmu", _MMU_COMMON), *_LOCK)

#: With CONFIG_PARAVIRT_XXL: x86-64 kernels that can be Xen PV guests.
X86_64: tuple[str, ...] = (
    *_group("cpu", """
        io_delay get_debugreg set_debugreg read_cr0 write_cr0 write_cr4 load_tr_desc load_gdt load_idt set_ldt
        store_tr load_tls load_gs_index write_ldt_entry write_gdt_entry write_idt_entry alloc_ldt free_ldt
        load_sp0 invalidate_io_bitmap update_io_bitmap wbinvd cpuid read_msr write_msr read_msr_safe
        write_msr_safe read_pmc start_context_switch end_context_switch
    """),
    *_group("irq", "save_fl irq_disable irq_enable safe_halt halt"),
    *_group("mmu", _MMU_COMMON + """
        read_cr2 write_cr2 read_cr3 write_cr3 activate_mm dup_mmap pgd_alloc pgd_free
        alloc_pte alloc_pmd alloc_pud alloc_p4d release_pte release_pmd release_pud release_p4d
        set_pte set_pmd ptep_modify_prot_start ptep_modify_prot_commit pte_val make_pte pgd_val make_pgd
        set_pud pmd_val make_pmd pud_val make_pud set_p4d p4d_val make_p4d set_pgd
        lazy_mode.enter lazy_mode.leave lazy_mode.flush set_fixmap
    """),
    *_LOCK,
)
