/*
 * Objects of one size: kmem_cache_alloc and kmem_cache_free.
 *
 * Each cache is a list of free objects, linked through their first words, with interrupts off while it is
 * changed: one site that saves and disables, one that restores, as each has in 2.6.20's slab allocator. The
 * objects are part of the image, so a cache is as large as it will ever be. An allocated object holds what its
 * last user left.
 * Next: files.S, a user of it.
 */

.text

/* A cache of count objects of size bytes. */
.macro kmem_cache name, size, count
	.pushsection .data
	.balign 4
\name:
	.long \name\()_objects
\name\()_objects:
	.rept \count - 1
	.long . + \size
	.space \size - 4, 0
	.endr
	.long 0
	.space \size - 4, 0
	.popsection
.endm

/* (EAX: cache); the object, or 0 when there is no more. */
kmem_cache_alloc:
	movl %eax, %edx
	__raw_local_irq_save
	movl (%edx), %ecx
	testl %ecx, %ecx
	jz 1f
	pushl (%ecx)
	popl (%edx)
1:	raw_local_irq_restore
	movl %ecx, %eax
	ret

/* (EAX: cache, EDX: object) */
kmem_cache_free:
	movl %eax, %ecx
	__raw_local_irq_save
	pushl (%ecx)
	popl (%edx)
	movl %edx, (%ecx)
	raw_local_irq_restore
	ret
