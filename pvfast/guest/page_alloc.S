/*
 * Page frames.
 *
 * Enters: mem_init from main.S, when memory_setup has said which frames are ours; the rest from everywhere.
 * Leaves: linear addresses in the kernel's own mapping. What was freed last is handed out first, as from the
 * per-CPU lists of 2.6.20, and interrupts are off meanwhile, as there.
 * Next: mm.S.
 */

.text

/* One more user of the page at EAX, which is kept; destroys ECX. */
.macro get_page
	movl %eax, %ecx
	shrl $PAGE_SHIFT, %ecx
	LOCK_PREFIX
	incl page_counts(,%ecx,4)
.endm

mem_init:
	pushl %edi
	/* Kernel stacks come first: they need the alignment. */
	movl memory_start, %edi
	addl $(PAGE_OFFSET + THREAD_SIZE - 1), %edi
	andl $-THREAD_SIZE, %edi
	movl $thread_cache, %eax
	movl $THREAD_SIZE, %edx
	movl $NR_TASKS, %ecx
	call fill_cache
	movl $pgd_cache, %eax
	movl $PAGE_SIZE, %edx
	movl $NR_MMS, %ecx
	call fill_cache
	movl %edi, %edx

	/* The rest is free, the lowest page on top. */
	movl memory_end, %eax
	addl $(PAGE_OFFSET - PAGE_SIZE), %eax
	movl $free_pages, %edi
1:	cmpl %edx, %eax
	jb 2f
	stosl
	subl $PAGE_SIZE, %eax
	jmp 1b
2:	subl $free_pages, %edi
	shrl $2, %edi
	movl %edi, nr_free_pages

	/* Pages of the image that processes map have one more user than processes: the kernel. */
	movl $user_text_page, %eax
3:	get_page
	addl $PAGE_SIZE, %eax
	cmpl $user_pages_end, %eax
	jb 3b

	/* The file that everybody can map. */
	movl $shared_file, %edi
4:	call get_zeroed_page
	testl %eax, %eax
	jz panic                        /* not even memory for this: there is no kernel without */
	stosl
	cmpl $(shared_file + SHARED_FILE_PAGES * 4), %edi
	jb 4b
	popl %edi
	jmp pgd_cache_init

/* Fill the cache at EAX with ECX pieces of EDX bytes from the memory at EDI on, which goes behind them. */
fill_cache:
	movl %ecx, CACHE_avail(%eax)
1:	movl %edi, CACHE_entries - 4(%eax,%ecx,4)
	addl %edx, %edi
	decl %ecx
	jnz 1b
	ret

/* () -> EAX: a page with one user, whatever it holds; 0: there is none. */
get_free_page:
	__raw_local_irq_save
	movl nr_free_pages, %ecx
	decl %ecx
	js 1f
	movl %ecx, nr_free_pages
	movl free_pages(,%ecx,4), %edx
	raw_local_irq_restore
	movl %edx, %eax
	shrl $PAGE_SHIFT, %edx
	movl $1, page_counts(,%edx,4)
	ret
1:	raw_local_irq_restore
	xorl %eax, %eax
	ret

/* () -> EAX: the same with zeros in it. */
get_zeroed_page:
	call get_free_page
	testl %eax, %eax
	jz 1f
	pushl %edi
	movl %eax, %edi
	movl %eax, %edx
	xorl %eax, %eax
	movl $(PAGE_SIZE / 4), %ecx
	rep stosl
	movl %edx, %eax
	popl %edi
1:	ret

/* (EAX: page). One user less; nobody left: it is free. */
free_page:
	movl %eax, %edx
	shrl $PAGE_SHIFT, %eax
	LOCK_PREFIX
	decl page_counts(,%eax,4)
	jnz 1f
	__raw_local_irq_save
	movl nr_free_pages, %ecx
	movl %edx, free_pages(,%ecx,4)
	incl nr_free_pages
	raw_local_irq_restore
1:	ret

/* By linear page number, so that no address has to be changed first. */
.equ page_counts, mem_map - (PAGE_OFFSET >> PAGE_SHIFT) * 4

.pushsection .data
.balign 4
memory_start:
	.long 0                         /* physical: what memory_setup leaves to us, at most 16 MiB */
memory_end:
	.long 0
nr_free_pages:
	.long 0
thread_cache:
	.fill 1 + NR_TASKS, 4, 0
pgd_cache:
	.fill 1 + NR_MMS, 4, 0
.popsection

.pushsection .data.page
mem_map:
	.fill LOWMEM_TABLES * PTRS_PER_TABLE, 4, 0      /* users of each page */
free_pages:
	.fill LOWMEM_TABLES * PTRS_PER_TABLE, 4, 0      /* a stack */
.popsection
