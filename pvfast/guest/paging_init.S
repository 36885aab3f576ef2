/*
 * The kernel's own page tables, as boot leaves them, and flushes of the whole TLB.
 *
 * Enters: paging_init from main.S, on tables that map low memory already: those of head.S, or of a hypervisor's part.
 * Leaves: what every page directory has above PAGE_OFFSET, global where the cpuid operation shows PGE, as in 2.6.20.
 * Hooks of later releases are called where those call them.
 * Next: traps.S.
 */

.text

/* CF: whether this processor has global pages, and whoever answers for it shows them. */
.macro cpu_has_pge
	btl $X86_FEATURE_PGE, boot_cpu_capability
.endm

paging_init:
	.ifdef PARAVIRT_pagetable_setup_start
	movl init_mm_pgd, %eax
	paravirt_call pagetable_setup_start
	.endif
	call pagetable_init
	call map_user_program
	.ifdef PARAVIRT_pagetable_setup_done
	movl init_mm_pgd, %eax
	paravirt_call pagetable_setup_done
	.endif
	movl init_mm_pgd, %eax
	subl $PAGE_OFFSET, %eax
	paravirt_call write_cr3

/* Global pages too. A processor without them may have no %cr4, which flush_tlb_kernel needs. */
__flush_tlb_all:
	cpu_has_pge
	jnc 1f
	paravirt_call flush_tlb_kernel
	ret
1:	paravirt_call flush_tlb_user
	ret

/*
 * The kernel's pages are the same in all address spaces. Where they can be global, a load of %cr3 leaves them in the
 * TLB: Linux makes every entry anew, and here that is all that is new about it.
 */
pagetable_init:
	cpu_has_pge
	jnc 2f
	movl $X86_CR4_PGE, %eax
	call set_in_cr4
	movl $(__PAGE_KERNEL | _PAGE_GLOBAL), %ebx
	movl $pg0, %edi
1:	movl %ebx, %eax
	paravirt_value make_pte
	movl %eax, %edx
	movl %edi, %eax
	paravirt_call set_pte
	addl $4, %edi
	addl $PAGE_SIZE, %ebx
	cmpl memory_end, %ebx
	jb 1b
2:	ret

/*
 * The programs' first page in the kernel's own directory, by a page table that is made entry by entry, as pagetable_init
 * does: the place for set_pte, which is not told whose address space it is.
 */
map_user_program:
	movl $(user_text_page - PAGE_OFFSET + PAGE_READONLY), %eax
	paravirt_value make_pte
	movl %eax, %edx
	movl $(user_pg_table + USER_TEXT_INDEX * 4), %eax
	paravirt_call set_pte
	.ifdef PARAVIRT_alloc_pt
	xorl %eax, %eax                 /* no task's */
	movl $((user_pg_table - PAGE_OFFSET) >> PAGE_SHIFT), %edx
	paravirt_alloc_pt
	.endif
	movl $(user_pg_table - PAGE_OFFSET + _PAGE_TABLE), %eax
	paravirt_value make_pgd
	movl %eax, %edx
	movl init_mm_pgd, %eax
	addl $((USER_TEXT >> PGDIR_SHIFT) * 4), %eax
	paravirt_call set_pmd
	ret
