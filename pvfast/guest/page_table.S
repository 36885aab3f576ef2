/*
 * Page tables and their entries.
 *
 * Enters: from mm.S, mmap.S, fault.S. Leaves: through the page-table operations, at the places of 2.6.20; what
 * changes an entry that is in use calls pte_update besides, as the ptep_* functions there. A page table is empty
 * when it is hooked into a directory, and when it is unhooked.
 * Next: mmap.S.
 */

.text

/* (EAX: mm, EDX: address) -> EAX: its page-table entry; 0: there is no page table. */
pte_offset:
	movl MM_pgd(%eax), %eax
	movl %edx, %ecx
	shrl $PGDIR_SHIFT, %ecx
	movl (%eax,%ecx,4), %eax
	testl $_PAGE_PRESENT, %eax
	jz 1f
	paravirt_value pgd_val
	entry_read andl, $PAGE_MASK
	shrl $(PAGE_SHIFT - 2), %edx
	andl $(PAGE_SIZE - 4), %edx
	leal PAGE_OFFSET(%eax,%edx), %eax
	ret
1:	xorl %eax, %eax
	ret

/* (EAX: mm, EDX: address) -> EAX: its entry, in a new page table if need be; 0: no memory. */
pte_alloc_map:
	pushl %ebx
	pushl %esi
	movl %eax, %ebx
	movl %edx, %esi
	call pte_offset
	testl %eax, %eax
	jnz 1f
	call get_zeroed_page
	testl %eax, %eax
	jz 1f
	pushl %eax
	movl %eax, %edx
	subl $PAGE_OFFSET, %edx
	shrl $PAGE_SHIFT, %edx
	movl %ebx, %eax
	paravirt_alloc_pt
	popl %eax
	subl $(PAGE_OFFSET - _PAGE_TABLE), %eax
	paravirt_value make_pgd
	movl %eax, %edx
	movl %esi, %eax
	shrl $PGDIR_SHIFT, %eax
	shll $2, %eax
	addl MM_pgd(%ebx), %eax
	paravirt_call set_pmd
	movl %ebx, %eax
	movl %esi, %edx
	call pte_offset
1:	popl %esi
	popl %ebx
	ret

/*
 * (EAX: mm, EDX: address, ECX: entry, stack: value). What ptep_set_wrprotect and ptep_get_and_clear do to an
 * entry that is in use. 2.6.20 does it in place, which needs a hypervisor that traps and emulates such writes.
 */
change_pte:
	pushl %ebx
	pushl %esi
	pushl %edi
	movl %eax, %ebx
	movl %edx, %esi
	movl %ecx, %edi
	pushl 16(%esp)
	paravirt_call set_pte_at
	addl $4, %esp
	movl %ebx, %eax
	movl %esi, %edx
	movl %edi, %ecx
	paravirt_call pte_update
	popl %edi
	popl %esi
	popl %ebx
	ret

/*
 * (EAX: mm, EDX: start, ECX: end, stack: full). Nothing is mapped there any more, and each page has one user
 * less. Full: the whole mm goes, so nobody can change an entry meanwhile.
 */
zap_page_range:
	pushl %ebp
	pushl %edi
	pushl %esi
	pushl %ebx
	pushl %ecx
	movl %eax, %ebx
	movl %edx, %esi
	arch_enter_lazy_mmu_mode
1:	movl %ebx, %eax                 /* ESI: address, EDI: its entry */
	movl %esi, %edx
	call pte_offset
	movl %eax, %edi
	testl %eax, %eax
	jnz 2f
	addl $PGDIR_SIZE, %esi
	andl $-PGDIR_SIZE, %esi
	jmp 6f
2:	movl (%edi), %ebp
	testl %ebp, %ebp
	jz 5f
	movl %ebx, %eax
	movl %esi, %edx
	movl %edi, %ecx
	cmpl $0, 24(%esp)
	je 3f
	pushl $0                        /* pte_clear */
	paravirt_call set_pte_at
	addl $4, %esp
	jmp 4f
3:	pushl $0                        /* ptep_get_and_clear */
	call change_pte
	addl $4, %esp
4:	movl %ebp, %eax
	paravirt_value pte_val
	entry_read andl, $PAGE_MASK
	addl $PAGE_OFFSET, %eax
	call free_page
5:	addl $4, %edi
	addl $PAGE_SIZE, %esi
	cmpl (%esp), %esi
	jae 7f
	testl $(PGDIR_SIZE - 1), %esi
	jnz 2b
6:	cmpl (%esp), %esi
	jb 1b
7:	arch_leave_lazy_mmu_mode
	popl %ecx
	popl %ebx
	popl %esi
	popl %edi
	popl %ebp
	ret

/*
 * (EAX: mm, EDX: start, ECX: end, stack: floor, ceiling). Page tables of [start, end) that hold nothing but
 * what is between floor and ceiling go.
 */
free_pgtables:
	pushl %ebp
	pushl %edi
	pushl %esi
	pushl %ebx
	movl %eax, %ebx
	movl %ecx, %ebp
	movl %edx, %esi
	andl $-PGDIR_SIZE, %esi
	cmpl 20(%esp), %esi
	jae 1f
	addl $PGDIR_SIZE, %esi
1:	leal (PGDIR_SIZE - 1)(%esi), %eax
	cmpl %ebp, %esi
	jae 3f
	cmpl 24(%esp), %eax
	jae 3f
	movl %ebx, %eax
	movl %esi, %edx
	call pte_offset
	testl %eax, %eax
	jz 2f
	movl %eax, %edi
	movl %esi, %eax
	shrl $PGDIR_SHIFT, %eax
	shll $2, %eax
	addl MM_pgd(%ebx), %eax
	xorl %edx, %edx
	paravirt_call set_pmd           /* pmd_clear */
	.ifdef PARAVIRT_release_pt
	movl %edi, %eax
	subl $PAGE_OFFSET, %eax
	shrl $PAGE_SHIFT, %eax
	paravirt_call release_pt
	.endif
	movl %edi, %eax
	call free_page
2:	addl $PGDIR_SIZE, %esi
	jmp 1b
3:	popl %ebx
	popl %esi
	popl %edi
	popl %ebp
	ret

/* (EAX: mm). After entries have been taken away, or rights: only who runs on it can have them in the TLB. */
flush_tlb_mm:
	movl %gs:PDA_pcurrent, %edx
	cmpl %eax, TASK_active_mm(%edx)
	jne 1f
	paravirt_call flush_tlb_user
1:	ret

/* (EAX: new mm, EDX: old mm, ECX: private area) -> EAX: 0 or -ENOMEM. Both get its pages, and neither may write. */
copy_page_range:
	pushl %ebp
	pushl %edi
	pushl %esi
	pushl %ebx
	pushl %ecx
	movl %eax, %ebx
	movl %edx, %esi
	movl VMA_start(%ecx), %ebp
1:	movl %esi, %eax
	movl %ebp, %edx
	call pte_offset
	movl %eax, %edi
	testl %eax, %eax
	jz 6f
	movl %ebx, %eax
	movl %ebp, %edx
	call pte_alloc_map
	testl %eax, %eax
	jz 9f
	pushl %eax                      /* the new entry, in step with the old one in EDI */
	arch_enter_lazy_mmu_mode
2:	movl (%edi), %eax
	testl %eax, %eax
	jz 4f
	entry_read testl, $_PAGE_RW
	jz 3f
	andl $~_PAGE_RW, %eax           /* ptep_set_wrprotect */
	pushl %eax
	movl %esi, %eax
	movl %ebp, %edx
	movl %edi, %ecx
	call change_pte
	popl %eax
3:	pushl %eax
	paravirt_value pte_val
	andl $PAGE_MASK, %eax
	addl $PAGE_OFFSET, %eax
	shrl $PAGE_SHIFT, %eax
	LOCK_PREFIX
	incl page_counts(,%eax,4)
	movl 4(%esp), %ecx
	movl %ebx, %eax
	movl %ebp, %edx
	paravirt_call set_pte_at
	addl $4, %esp
4:	addl $4, (%esp)
	addl $4, %edi
	addl $PAGE_SIZE, %ebp
	movl 4(%esp), %ecx
	cmpl VMA_end(%ecx), %ebp
	jae 5f
	testl $(PGDIR_SIZE - 1), %ebp
	jnz 2b
5:	arch_leave_lazy_mmu_mode
	popl %eax
	jmp 7f
6:	addl $PGDIR_SIZE, %ebp
	andl $-PGDIR_SIZE, %ebp
7:	movl (%esp), %ecx
	cmpl VMA_end(%ecx), %ebp
	jb 1b
	xorl %eax, %eax
8:	popl %ecx
	popl %ebx
	popl %esi
	popl %edi
	popl %ebp
	ret
9:	movl $-ENOMEM, %eax
	jmp 8b
