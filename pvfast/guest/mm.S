/*
 * Address spaces: what a process has of its own, and the switch from one to another.
 *
 * Enters: from fork.S, exec.S, exit.S, sched.S. An mm has two counts: the tasks whose memory it is, and who needs
 * its page directory, as the idle task does that runs on whatever was there before. Hooks of later releases are
 * called where those call them.
 * Next: page_table.S, what the directory leads to; mmap.S, the areas.
 */

.text

	kmem_cache mm_cache, MM_BYTES, NR_MMS

/*
 * Page directories are made once: no user entries, and the kernel's, which never change. Each is loaded once, so
 * that a hypervisor that has to prepare a new one does it now and not in a process's time.
 */
pgd_cache_init:
	pushl %ebx
	pushl %esi
	pushl %edi
	.ifdef PARAVIRT_alloc_pd
	xorl %eax, %eax                 /* no task's */
	movl init_mm_pgd, %edx
	subl $PAGE_OFFSET, %edx
	shrl $PAGE_SHIFT, %edx
	paravirt_alloc_pd
	.endif
	xorl %ebx, %ebx
1:	movl pgd_cache + CACHE_entries(,%ebx,4), %edi
	pushl %edi
	xorl %eax, %eax
	movl $USER_PTRS_PER_PGD, %ecx
	rep stosl
	movl init_mm_pgd, %esi
	addl $(USER_PTRS_PER_PGD * 4), %esi
	movl $(PTRS_PER_TABLE - USER_PTRS_PER_PGD), %ecx
	rep movsl
	popl %edi
	subl $PAGE_OFFSET, %edi
	.ifdef PARAVIRT_alloc_pd_clone
	movl %edi, %eax
	shrl $PAGE_SHIFT, %eax
	movl init_mm_pgd, %edx
	subl $PAGE_OFFSET, %edx
	shrl $PAGE_SHIFT, %edx
	movl $USER_PTRS_PER_PGD, %ecx
	pushl $(PTRS_PER_TABLE - USER_PTRS_PER_PGD)
	paravirt_call alloc_pd_clone
	addl $4, %esp
	.endif
	movl %edi, %eax
	paravirt_call write_cr3
	incl %ebx
	cmpl $NR_MMS, %ebx
	jb 1b
	movl init_mm_pgd, %eax
	subl $PAGE_OFFSET, %eax
	paravirt_call write_cr3
	popl %edi
	popl %esi
	popl %ebx
	ret

/* () -> EAX: an mm without areas, one user; 0: no memory. */
mm_alloc:
	pushl %ebx
	movl $mm_cache, %eax
	call kmem_cache_alloc
	testl %eax, %eax
	jz 2f
	movl %eax, %ebx
	movl $pgd_cache, %eax
	call kmem_cache_alloc
	testl %eax, %eax
	jz 1f
	movl %eax, MM_pgd(%ebx)
	.ifdef PARAVIRT_pgd_alloc
	movl %ebx, %eax
	paravirt_call pgd_alloc
	testl %eax, %eax
	jnz 3f
	.endif
	movl $1, MM_users(%ebx)
	movl $1, MM_count(%ebx)
	xorl %eax, %eax
	movl %eax, MM_mmap(%ebx)
	movl %eax, MM_ldt(%ebx)
	movl %eax, MM_ldt_entries(%ebx)
	movl %ebx, %eax
	popl %ebx
	ret
	.ifdef PARAVIRT_pgd_alloc
3:	movl $pgd_cache, %eax
	movl MM_pgd(%ebx), %edx
	call kmem_cache_free
	.endif
1:	movl $mm_cache, %eax
	movl %ebx, %edx
	call kmem_cache_free
	xorl %eax, %eax
2:	popl %ebx
	ret

/* (EAX: mm). One task less uses it; the last one's memory is given back. */
mmput:
	atomic_dec MM_users(%eax)
	jnz 1f
	pushl %eax
	call exit_mmap
	popl %eax
	jmp mmdrop
1:	ret

/* (EAX: mm). Nobody may have the directory in its CR3 when the count gets to 0. */
mmdrop:
	atomic_dec MM_count(%eax)
	jnz 1f
	pushl %eax
	call destroy_ldt
	movl (%esp), %eax
	movl MM_pgd(%eax), %edx
	.ifdef PARAVIRT_pgd_free
	paravirt_call pgd_free
	movl (%esp), %eax
	movl MM_pgd(%eax), %edx
	.endif
	movl $pgd_cache, %eax
	call kmem_cache_free
	popl %edx
	movl $mm_cache, %eax
	jmp kmem_cache_free
1:	ret

/* (EAX: previous mm, EDX: next mm) */
switch_mm:
	cmpl %eax, %edx
	je 2f
	pushl %ebx
	pushl %esi
	movl %eax, %esi
	movl %edx, %ebx
	movl MM_pgd(%ebx), %eax
	subl $PAGE_OFFSET, %eax
	paravirt_call write_cr3
	movl MM_ldt(%ebx), %eax
	cmpl %eax, MM_ldt(%esi)
	je 1f
	movl MM_ldt_entries(%ebx), %edx
	paravirt_call set_ldt
1:	popl %esi
	popl %ebx
2:	ret

/* The idle task stops borrowing: the page directory of the process before may go. */
leave_mm:
	pushl init_task + TASK_active_mm
	movl (%esp), %eax
	movl $init_mm, %edx
	movl %edx, init_task + TASK_active_mm
	atomic_inc MM_count(%edx)
	call switch_mm
	popl %eax
	jmp mmdrop

/* (EAX: new mm, EDX: old mm) -> EAX: 0 or -ENOMEM. */
dup_mmap:
	pushl %edi
	pushl %esi
	pushl %ebx
	movl %eax, %ebx
	movl %edx, %esi
	.ifdef PARAVIRT_dup_mmap
	movl %edx, %eax
	movl %ebx, %edx
	paravirt_call dup_mmap
	.endif
	movl %ebx, %eax
	movl %esi, %edx
	call copy_ldt
	testl %eax, %eax
	jnz 4f
	movl MM_mmap(%esi), %edi
1:	testl %edi, %edi
	jz 3f
	movl %ebx, %eax
	movl %edi, %edx
	call insert_vm_copy
	testl %eax, %eax
	jnz 4f
	/* What a file has can be found there again. */
	testl $VM_ANON, VMA_flags(%edi)
	jz 2f
	movl %ebx, %eax
	movl %esi, %edx
	movl %edi, %ecx
	call copy_page_range
	testl %eax, %eax
	jnz 4f
2:	movl VMA_next(%edi), %edi
	jmp 1b
3:	xorl %eax, %eax
4:	pushl %eax
	movl %esi, %eax
	call flush_tlb_mm               /* rights have been taken away */
	popl %eax
	popl %ebx
	popl %esi
	popl %edi
	ret

.pushsection .data
.balign 4
init_mm:                                /* of the kernel's own threads */
init_mm_pgd:
	.long swapper_pg_dir            /* a hypervisor that brings its own page tables changes it */
	.long 1, 2                      /* users, count: the idle task borrows it */
	.long 0, 0, 0
.popsection
