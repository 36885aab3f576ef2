/*
 * Bare hardware, memory part: descriptor tables, page tables, TLB.
 *
 * Enters and leaves as native_cpu.S says. Without PAE an entry is one word, so a store is all there is.
 * Next: native_irq.S.
 */

.text

native_load_tr_desc:
	movl $(GDT_ENTRY_TSS * 8), %eax
	ltr %ax
	ret

native_load_gdt:
	lgdt (%eax)
	ret

native_load_idt:
	lidt (%eax)
	ret

native_store_gdt:
	sgdt (%eax)
	ret

native_store_idt:
	sidt (%eax)
	ret

/* (EAX: address, EDX: entries). No entries, no LDT: the null selector. */
native_set_ldt:
	testl %edx, %edx
	jnz 1f
	xorl %eax, %eax
	lldt %ax
	ret
1:	leal -1(,%edx,8), %ecx          /* limit */
	movl %eax, %edx
	shll $16, %edx
	movw %cx, %dx
	movl %edx, cpu_gdt_table + GDT_ENTRY_LDT * 8
	movl %eax, %edx
	andl $0xff000000, %edx
	shrl $16, %eax
	andl $0x000000ff, %eax
	orl %edx, %eax
	orl $DESCRIPTOR_LDT, %eax
	movl %eax, cpu_gdt_table + GDT_ENTRY_LDT * 8 + 4
	movl $(GDT_ENTRY_LDT * 8), %eax
	lldt %ax
	ret

native_store_tr:
	xorl %eax, %eax
	str %ax
	ret

/* (EAX: thread, EDX: cpu). Three descriptors of eight bytes. */
native_load_tls:
	pushl %esi
	pushl %edi
	leal THREAD_tls_array(%eax), %esi
	movl $(cpu_gdt_table + GDT_ENTRY_TLS_MIN * 8), %edi
	movl $6, %ecx
	rep movsl
	popl %edi
	popl %esi
	ret

/* (EAX: table, EDX: entry, ECX: low word, stack: high word); see write_entry (operations.S). */
native_write_ldt_entry:
native_write_gdt_entry:
native_write_idt_entry:
	.ifdef PARAVIRT_load_sp0
	pushl 4(%ecx)
	movl (%ecx), %ecx
	movl %ecx, (%eax,%edx,8)
	popl 4(%eax,%edx,8)
	.else
	movl %ecx, (%eax,%edx,8)
	movl 4(%esp), %ecx
	movl %ecx, 4(%eax,%edx,8)
	.endif
	ret

native_flush_tlb_user:
	movl %cr3, %eax
	movl %eax, %cr3
	ret

/* A load of %cr3 keeps global pages, a change of PGE none. Only for processors that have it. */
native_flush_tlb_kernel:
	movl %cr4, %eax
	movl %eax, %edx
	andl $~X86_CR4_PGE, %edx
	movl %edx, %cr4                 /* turn off PGE */
	movl %cr3, %ecx
	movl %ecx, %cr3                 /* flush TLB */
	movl %eax, %cr4                 /* turn PGE back on */
	ret

native_flush_tlb_single:
	invlpg (%eax)
	ret

/* (EAX: entry, EDX: value) */
native_set_pte:
native_set_pmd:
	movl %edx, (%eax)
	ret

/* (EAX: mm, EDX: address, ECX: entry, stack: value) */
native_set_pte_at:
	movl 4(%esp), %eax
	movl %eax, (%ecx)
	ret

/* For hypervisors that keep a shadow, batch, or hold page tables of their own. */
paravirt_nop:
native_pte_update:
native_pte_update_defer:
native_map_pt_hook:
native_alloc_pt:
native_alloc_pd:
native_alloc_pd_clone:
native_release_pt:
native_release_pd:
native_set_lazy_mode:
native_enter_lazy_mmu:
native_leave_lazy_mmu:
native_enter_lazy_cpu:
native_leave_lazy_cpu:
native_activate_mm:
native_dup_mmap:
native_exit_mmap:
native_startup_ipi_hook:
native_post_allocator_init:
native_alloc_pud:
native_release_pud:
native_pgd_free:
native_alloc_ldt:
native_free_ldt:
native_start_context_switch:
native_end_context_switch:
native_swapgs:
	ret

/* (EAX: mm). A directory needs nothing: 0. */
.ifdef PARAVIRT_pgd_alloc
native_pgd_alloc:
	xorl %eax, %eax
	ret
.endif

/* (EAX: mm, EDX: address, ECX: entry, and on the stack for commit: value). Nobody may change it between the two. */
.ifdef PARAVIRT_ptep_modify_prot_start
native_ptep_modify_prot_start:
	xorl %eax, %eax
	xchgl %eax, (%ecx)
	ret

native_ptep_modify_prot_commit:
	movl 4(%esp), %eax
	movl %eax, (%ecx)
	ret
.endif

/* (EAX: index, EDX: physical, ECX: flags): one page down from the end of the address space for each index. */
.ifdef PARAVIRT_set_fixmap
native_set_fixmap:
	orl %ecx, %edx
	shll $PAGE_SHIFT, %eax
	negl %eax
	subl $PAGE_SIZE, %eax
	movl %eax, %ecx
	shrl $PGDIR_SHIFT, %ecx
	shll $2, %ecx
	addl init_mm_pgd, %ecx
	movl (%ecx), %ecx
	testl $_PAGE_PRESENT, %ecx
	jnz 1f
	ud2                             /* as the kernel: no table for it was made at boot */
1:	andl $~(PAGE_SIZE - 1), %ecx
	pushl %eax
	shrl $PAGE_SHIFT, %eax
	andl $(PTRS_PER_TABLE - 1), %eax
	movl %edx, PAGE_OFFSET(%ecx,%eax,4)
	popl %eax
	invlpg (%eax)
	ret
.endif

/* (EAX: pgd). What boot made of the kernel's page tables is all there is to set up. */
.ifdef PARAVIRT_pagetable_setup_start
native_pagetable_setup_start:
native_pagetable_setup_done:
	ret
.endif

/* (EAX: &cpumask, EDX: mm, ECX: address). There are no others. */
.ifdef PARAVIRT_flush_tlb_others
native_flush_tlb_others:
	ret
.endif

/* (EAX: entry or its value); the same on bare hardware, so a site that is patched is nothing. */
.ifdef PARAVIRT_pte_val
_paravirt_ident_32:
native_pte_val:
native_pgd_val:
native_make_pte:
native_make_pgd:
	ret
.endif
