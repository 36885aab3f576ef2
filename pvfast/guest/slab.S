/*
 * Objects of one size: kmem_cache_alloc and kmem_cache_free.
 *
 * Each cache is a stack of free objects, as 2.6.20's array_cache, with interrupts off while it is changed: one
 * site that saves and disables, one that restores. It is full at the start and does not grow, so that the first
 * process costs what the second does. An allocated object holds what its last user left, and nothing is stored
 * in a free one: a page directory is read-only under some hypervisors.
 * Next: files.S, a user of it.
 */

.text

.equ CACHE_avail, 0
.equ CACHE_entries, 4

/* A cache of count objects of size bytes, which are part of the image. */
.macro kmem_cache name, size, count
	.pushsection .data
	.balign 4
\name:
	.long \count
	.rept \count
	.long \name\()_objects + (. - \name - CACHE_entries) / 4 * \size
	.endr
\name\()_objects:
	.space \count * \size, 0
	.popsection
.endm

/* (EAX: cache); the object, or 0 when there is no more. */
kmem_cache_alloc:
	movl %eax, %edx
	__raw_local_irq_save
	movl CACHE_avail(%edx), %ecx
	decl %ecx
	js 1f
	movl %ecx, CACHE_avail(%edx)
	movl CACHE_entries(%edx,%ecx,4), %ecx
	raw_local_irq_restore
	movl %ecx, %eax
	ret
1:	raw_local_irq_restore
	xorl %eax, %eax
	ret

/* (EAX: cache, EDX: object) */
kmem_cache_free:
	pushl %ebx
	movl %eax, %ebx
	__raw_local_irq_save
	movl CACHE_avail(%ebx), %ecx
	movl %edx, CACHE_entries(%ebx,%ecx,4)
	incl CACHE_avail(%ebx)
	raw_local_irq_restore
	popl %ebx
	ret
