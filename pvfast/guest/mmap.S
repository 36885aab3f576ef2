/*
 * Areas: what a process may use of its address space.
 *
 * Enters: sys_mmap2 and sys_munmap from entry.S; the rest from fork.S, exec.S, exit.S, fault.S. An area has no
 * pages of its own: fault.S maps them when they are used, from the table VMA_pages of a file, or fresh ones.
 * Leaves: the areas in the order of their addresses, in a list at MM_mmap.
 * Next: fault.S.
 */

.text

	kmem_cache area_cache, VMA_BYTES, NR_AREAS

/* (EAX: mm, EDX: address) -> EAX: the first area that ends behind it; 0: none. Keeps EDX. */
find_vma:
	movl MM_mmap(%eax), %eax
	jmp 2f
1:	cmpl %edx, VMA_end(%eax)
	ja 3f
	movl VMA_next(%eax), %eax
2:	testl %eax, %eax
	jnz 1b
3:	ret

/* (EAX: mm, EDX: area) */
insert_vm_struct:
	pushl %ebx
	leal MM_mmap - VMA_next(%eax), %eax
	movl VMA_start(%edx), %ebx
	jmp 2f
1:	cmpl %ebx, VMA_start(%ecx)
	ja 3f
	movl %ecx, %eax
2:	movl VMA_next(%eax), %ecx
	testl %ecx, %ecx
	jnz 1b
3:	movl %ecx, VMA_next(%edx)
	movl %edx, VMA_next(%eax)
	popl %ebx
	ret

/* (EAX: mm, EDX: struct vm_area_struct to copy, VMA_next aside) -> EAX: 0 or -ENOMEM. */
insert_vm_copy:
	pushl %ebx
	pushl %esi
	pushl %edi
	movl %eax, %ebx
	movl %edx, %esi
	movl $area_cache, %eax
	call kmem_cache_alloc
	testl %eax, %eax
	jz 1f
	movl %eax, %edx
	movl %eax, %edi
	movl $(VMA_next / 4), %ecx
	rep movsl
	movl %ebx, %eax
	call insert_vm_struct
	xorl %eax, %eax
	jmp 2f
1:	movl $-ENOMEM, %eax
2:	popl %edi
	popl %esi
	popl %ebx
	ret

/*
 * mmap2. EBX: address, ECX: length, EDX: PROT_*, ESI: MAP_*, EDI: file, EBP: page of the file. Private memory
 * is anonymous; what is shared is the one file that this kernel has, whatever EDI is.
 */
sys_mmap2:
	movl 4 + PT_EDX(%esp), %edx
	addl $(PAGE_SIZE - 1), %ecx
	andl $PAGE_MASK, %ecx
	jz 8f
	subl $VMA_BYTES, %esp           /* the new area */
	movl $0, VMA_pages(%esp)
	/* PROT_* are VM_*. Readable memory may be executed: there is no NX bit. */
	andl $(PROT_READ | PROT_WRITE | PROT_EXEC), %edx
	movl $PAGE_COPY, VMA_page_prot(%esp)
	testl $MAP_SHARED, %esi
	jz 1f
	testl $MAP_ANONYMOUS, %esi
	jnz 7f
	movl %ecx, %eax
	shrl $PAGE_SHIFT, %eax
	addl %ebp, %eax
	jc 7f
	cmpl $SHARED_FILE_PAGES, %eax
	ja 7f
	leal shared_file(,%ebp,4), %eax
	movl %eax, VMA_pages(%esp)
	orl $VM_SHARED, %edx
	testl $PROT_WRITE, %edx
	jz 2f
	movl $PAGE_SHARED, VMA_page_prot(%esp)
	jmp 2f
1:	testl $MAP_ANONYMOUS, %esi
	jz 7f
2:	movl %edx, VMA_flags(%esp)
	movl %gs:PDA_pcurrent, %eax
	movl TASK_mm(%eax), %edi
	testl $MAP_FIXED, %esi
	jz 3f
	/* Where it says, if nothing is there. */
	testl $(PAGE_SIZE - 1), %ebx
	jnz 7f
	movl %edi, %eax
	movl %ebx, %edx
	call find_gap
	cmpl %ebx, %eax
	jne 7f
	jmp 4f
3:	movl %edi, %eax
	movl $TASK_UNMAPPED_BASE, %edx
	call find_gap
	movl %eax, %ebx
4:	addl %ebx, %ecx
	jc 6f
	cmpl $PAGE_OFFSET, %ecx
	ja 6f
	movl %ebx, VMA_start(%esp)
	movl %ecx, VMA_end(%esp)
	movl %edi, %eax
	movl %esp, %edx
	call insert_vm_copy
	testl %eax, %eax
	jnz 5f
	movl %ebx, %eax
5:	addl $VMA_BYTES, %esp
	ret
6:	movl $-ENOMEM, %eax
	jmp 5b
7:	movl $-EINVAL, %eax
	jmp 5b
8:	movl $-EINVAL, %eax
	ret

/* (EAX: mm, EDX: lowest address, ECX: length, kept) -> EAX: the first gap that is long enough. */
find_gap:
	pushl %ebx
	call find_vma
	movl %eax, %ebx
	movl %edx, %eax
1:	testl %ebx, %ebx
	jz 2f
	movl VMA_start(%ebx), %edx
	subl %eax, %edx
	jb 3f
	cmpl %ecx, %edx
	jae 2f
3:	movl VMA_end(%ebx), %eax
	movl VMA_next(%ebx), %ebx
	jmp 1b
2:	popl %ebx
	ret

/* munmap. EBX: address, ECX: length. Areas go as a whole; a part of one is -EINVAL: areas are not split. */
sys_munmap:
	testl $(PAGE_SIZE - 1), %ebx
	jnz 9f
	addl $(PAGE_SIZE - 1), %ecx
	andl $PAGE_MASK, %ecx
	jz 9f
	addl %ebx, %ecx
	jc 9f
	movl %ecx, %ebp                 /* EBX: start, EBP: end */
	movl %gs:PDA_pcurrent, %eax
	movl TASK_mm(%eax), %edi
	/* Look before anything is changed. */
	movl %edi, %eax
	movl %ebx, %edx
	call find_vma
	testl %eax, %eax
	jz 8f
	cmpl %ebx, VMA_start(%eax)
	jb 9f
1:	cmpl %ebp, VMA_start(%eax)
	jae 2f
	cmpl %ebp, VMA_end(%eax)
	ja 9f
	movl VMA_next(%eax), %eax
	testl %eax, %eax
	jnz 1b

2:	movl %edi, %eax
	movl %ebx, %edx
	call find_vma
	testl %eax, %eax
	jz 8f
	cmpl %ebp, VMA_start(%eax)
	jae 8f
	movl %eax, %edx
	movl %edi, %eax
	call unmap_region
	jmp 2b
8:	xorl %eax, %eax
	ret
9:	movl $-EINVAL, %eax
	ret

/* (EAX: mm, EDX: area). Its pages, the page tables that only it needed, and the area itself. */
unmap_region:
	pushl %ebp
	pushl %edi
	pushl %esi
	pushl %ebx
	movl %eax, %ebx
	movl %edx, %esi
	/* EDI: the end of the area before, EBP: the start of the one behind */
	xorl %edi, %edi
	leal MM_mmap - VMA_next(%ebx), %edx
	cmpl %esi, VMA_next(%edx)
	je 2f
1:	movl VMA_next(%edx), %edx
	cmpl %esi, VMA_next(%edx)
	jne 1b
	movl VMA_end(%edx), %edi
2:	movl $PAGE_OFFSET, %ebp
	movl VMA_next(%esi), %ecx
	movl %ecx, VMA_next(%edx)
	testl %ecx, %ecx
	jz 3f
	movl VMA_start(%ecx), %ebp
3:	pushl $0
	movl %ebx, %eax
	movl VMA_start(%esi), %edx
	movl VMA_end(%esi), %ecx
	call zap_page_range
	addl $4, %esp
	pushl %ebp
	pushl %edi
	movl %ebx, %eax
	movl VMA_start(%esi), %edx
	movl VMA_end(%esi), %ecx
	call free_pgtables
	addl $8, %esp
	movl %ebx, %eax
	call flush_tlb_mm
	movl $area_cache, %eax
	movl %esi, %edx
	call kmem_cache_free
	popl %ebx
	popl %esi
	popl %edi
	popl %ebp
	ret

/* (EAX: mm). Everything that its processes had. */
exit_mmap:
	pushl %edi
	pushl %esi
	pushl %ebx
	movl %eax, %ebx
	paravirt_hook exit_mmap
	movl MM_mmap(%ebx), %esi
1:	testl %esi, %esi
	jz 2f
	pushl $1
	movl %ebx, %eax
	movl VMA_start(%esi), %edx
	movl VMA_end(%esi), %ecx
	call zap_page_range
	addl $4, %esp
	movl VMA_next(%esi), %esi
	jmp 1b

2:	movl MM_mmap(%ebx), %esi
3:	testl %esi, %esi
	jz 5f
	movl VMA_next(%esi), %edi
	movl $PAGE_OFFSET, %eax         /* a table that the next area needs is the next area's */
	testl %edi, %edi
	jz 4f
	movl VMA_start(%edi), %eax
4:	pushl %eax
	pushl $0
	movl %ebx, %eax
	movl VMA_start(%esi), %edx
	movl VMA_end(%esi), %ecx
	call free_pgtables
	addl $8, %esp
	movl $area_cache, %eax
	movl %esi, %edx
	call kmem_cache_free
	movl %edi, %esi
	jmp 3b
5:	movl $0, MM_mmap(%ebx)
	movl %ebx, %eax
	call flush_tlb_mm
	popl %ebx
	popl %esi
	popl %edi
	ret

.pushsection .data
shared_file:
	.fill SHARED_FILE_PAGES, 4, 0   /* its pages */
.popsection
