/*
 * Page faults: pages on demand, copies on write, and what is left, signals.
 *
 * Enters: do_page_fault from do_exception (traps.S), interrupts off so that nothing overwrites %cr2. Leaves: the
 * instruction runs again with its page there; or SIGSEGV for user code, the fixup for an instruction of the
 * kernel that may fault. Operations are those of 2.6.20's fault path, in its order.
 * Next: fork.S.
 */

.text

/* EAX: pt_regs, EDX: vector, ECX: error code */
do_page_fault:
	pushl %ebp
	pushl %edi
	pushl %esi
	pushl %ebx
	movl %eax, %ebx
	movl %ecx, %ebp
	paravirt_call read_cr2
	movl %eax, %edi
	testl $X86_EFLAGS_IF, PT_EFLAGS(%ebx)
	jz 1f
	raw_local_irq_enable
1:	cmpl $PAGE_OFFSET, %edi
	jae bad_area
	movl %gs:PDA_pcurrent, %eax
	movl TASK_mm(%eax), %esi
	testl %esi, %esi
	jz bad_area
	movl %esi, %eax
	movl %edi, %edx
	call find_vma
	testl %eax, %eax
	jz bad_area
	cmpl %edi, VMA_start(%eax)
	ja bad_area
	testl $PF_WRITE, %ebp
	jz 2f
	testl $VM_WRITE, VMA_flags(%eax)
	jz bad_area
	jmp 3f
2:	testl $PF_PROT, %ebp            /* the page is there and may not be read */
	jnz bad_area
	testl $(VM_READ | VM_EXEC), VMA_flags(%eax)
	jz bad_area
3:	movl %ebp, %ecx
	andl $PF_WRITE, %ecx
	pushl %ecx
	movl %eax, %edx
	movl %esi, %eax
	movl %edi, %ecx
	call handle_mm_fault
	addl $4, %esp
	testl %eax, %eax
	jnz out_of_memory
page_fault_done:
	popl %ebx
	popl %esi
	popl %edi
	popl %ebp
	ret

bad_area:
	testl $PF_USER, %ebp
	jz no_context
	movl %gs:PDA_pcurrent, %edx
	movl %edi, TASK_thread + THREAD_cr2(%edx)
	movl %ebp, TASK_thread + THREAD_error_code(%edx)
	movl $VECTOR_PF, TASK_thread + THREAD_trap_no(%edx)
	movl $SIGSEGV, %eax
	call force_sig
	jmp page_fault_done

/* The kernel's own access, for a user or by mistake. */
no_context:
	movl %ebx, %eax
	movl $VECTOR_PF, %edx
	movl %ebp, %ecx
	call fixup_exception
	jmp page_fault_done

out_of_memory:
	testl $PF_USER, %ebp
	jz no_context
	movl $SIGKILL, %eax
	jmp do_group_exit

/* (EAX: mm, EDX: area, ECX: address, stack: write) -> EAX: 0 or -ENOMEM. */
handle_mm_fault:
	pushl %ebp
	pushl %edi
	pushl %esi
	pushl %ebx
	movl %eax, %ebp
	movl %edx, %esi
	movl %ecx, %edi
	movl %edi, %edx
	call pte_alloc_map
	testl %eax, %eax
	jz fault_oom
	movl %eax, %ebx
	/* EBP: mm, ESI: area, EDI: address, EBX: entry, 20(%esp): write */
	movl (%ebx), %eax
	testl $_PAGE_PRESENT, %eax
	jnz do_present_page
	cmpl $0, VMA_pages(%esi)
	jne do_no_page

do_anonymous_page:
	cmpl $0, 20(%esp)
	je 1f
	orl $VM_ANON, VMA_flags(%esi)
	call get_zeroed_page
	testl %eax, %eax
	jz fault_oom
	subl $(PAGE_OFFSET - PAGE_SHARED - _PAGE_DIRTY), %eax
	jmp install_page
1:	movl $empty_zero_page, %eax
	get_page
	subl $PAGE_OFFSET, %eax
	orl VMA_page_prot(%esi), %eax

/* EAX: the entry's value */
install_page:
	paravirt_value make_pte
	pushl %eax
	movl %ebp, %eax
	movl %edi, %edx
	movl %ebx, %ecx
	paravirt_call set_pte_at
	addl $4, %esp
fault_done:
	xorl %eax, %eax
fault_exit:
	popl %ebx
	popl %esi
	popl %edi
	popl %ebp
	ret

fault_oom:
	movl $-ENOMEM, %eax
	jmp fault_exit

/* A page of a file: shared, or copied at once when the first access writes to it. */
do_no_page:
	raw_local_irq_disable           /* find_get_page: read_lock_irq(&mapping->tree_lock) */
	_raw_read_lock page_tree_lock
	movl %edi, %eax
	subl VMA_start(%esi), %eax
	shrl $PAGE_SHIFT, %eax
	movl VMA_pages(%esi), %edx
	movl (%edx,%eax,4), %eax
	get_page
	movl %eax, %edx
	_raw_read_unlock page_tree_lock
	raw_local_irq_enable
	movl %edx, %eax
	cmpl $0, 20(%esp)
	je 1f
	testl $VM_SHARED, VMA_flags(%esi)
	jnz 2f
	orl $VM_ANON, VMA_flags(%esi)
	call copy_page
	testl %eax, %eax
	jz fault_oom
2:	subl $PAGE_OFFSET, %eax
	orl VMA_page_prot(%esi), %eax
	orl $(_PAGE_RW | _PAGE_DIRTY), %eax
	jmp install_page
1:	subl $PAGE_OFFSET, %eax
	orl VMA_page_prot(%esi), %eax
	jmp install_page

/* EAX: the entry. A write to a page that is not ours alone makes a copy. */
do_present_page:
	cmpl $0, 20(%esp)
	je 2f
	testl $_PAGE_RW, %eax
	jnz 2f
	paravirt_value pte_val
	entry_read andl, $PAGE_MASK
	addl $PAGE_OFFSET, %eax
	movl %eax, %ecx
	shrl $PAGE_SHIFT, %ecx
	cmpl $1, page_counts(,%ecx,4)
	je 1f
	orl $VM_ANON, VMA_flags(%esi)
	get_page                        /* copy_page gives it back; the entry's own use ends below */
	pushl %eax
	call copy_page
	testl %eax, %eax
	jz 3f
	pushl %eax
	movl %ebp, %eax
	movl %edi, %edx
	movl %ebx, %ecx
	pushl $0                        /* ptep_clear_flush: nobody shall still read the old page, and another the new */
	call change_pte
	addl $4, %esp
	movl %edi, %eax
	paravirt_call flush_tlb_single
	movl 4(%esp), %eax
	call free_page
	popl %eax
	addl $4, %esp
	subl $(PAGE_OFFSET - PAGE_SHARED - _PAGE_DIRTY), %eax
	jmp install_page

1:	/* The others are gone: it may just be written. */
	entry_read orl, $(_PAGE_RW | _PAGE_DIRTY | _PAGE_ACCESSED), at_ebx=1
	pushl %eax                      /* ptep_set_access_flags */
	movl %ebp, %eax
	movl %edi, %edx
	movl %ebx, %ecx
	paravirt_call set_pte_at
	addl $4, %esp
	movl %ebp, %eax
	movl %edi, %edx
	movl %ebx, %ecx
	paravirt_call pte_update_defer

2:	movl %edi, %eax                 /* a translation of before may still be in the TLB */
	paravirt_call flush_tlb_single
	jmp fault_done

3:	popl %eax                       /* the copy was not made, and has given nothing back but its own use */
	jmp fault_oom

/* (EAX: page) -> EAX: a copy, for which the caller's use of the page is given up; 0: no memory. */
copy_page:
	pushl %esi
	pushl %edi
	movl %eax, %esi
	call get_free_page
	testl %eax, %eax
	jz 1f
	movl %eax, %edi
	pushl %eax
	pushl %esi
	movl $(PAGE_SIZE / 4), %ecx
	rep movsl
	popl %eax
	call free_page
	popl %eax
	popl %edi
	popl %esi
	ret
1:	movl %esi, %eax
	call free_page
	xorl %eax, %eax
	popl %edi
	popl %esi
	ret

.pushsection .data
page_tree_lock:
	.long RW_LOCK_BIAS              /* of the one file that can be mapped */
.popsection
