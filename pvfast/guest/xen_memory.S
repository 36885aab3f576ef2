/*
 * Xen, memory part: page tables, TLB, CPUID.
 *
 * Enters and leaves as native_cpu.S says. A hypercall takes EBX, ECX, EDX, ESI, EDI and may destroy them, so
 * what the caller keeps is saved here. Frames are the machine's (xen_frames.S).
 *
 * Xen lets nobody map a page table, a directory or a descriptor table writable. The table of 2.6.20 has no
 * operation that says what becomes one, so set_pmd and write_cr3 see to it; later ones have alloc_pt.
 * Next: xen_descriptors.S.
 */

.text

/*
 * CPUID 1 without what Xen does not virtualize: the local APIC, sysenter, which would land in ring 0, and global pages,
 * which Xen keeps to itself: it refuses an entry of that kind.
 */
xen_cpuid:
	pushl (%eax)
	pushl 8(%esp)                   /* the fourth argument once more */
	call native_cpuid
	popl %edx
	popl %eax
	cmpl $1, %eax
	jne 1f
	andl $~((1 << X86_FEATURE_SEP) | (1 << X86_FEATURE_APIC) | (1 << X86_FEATURE_PGE)), (%edx)
1:	ret

xen_read_cr2:
	movl %gs:xen_vcpu, %eax
	movl VCPU_ARCH_CR2(%eax), %eax
	ret

xen_write_cr2:
	movl %gs:xen_vcpu, %edx
	movl %eax, VCPU_ARCH_CR2(%edx)
	ret

xen_read_cr3:
	movl %gs:xen_cr3, %eax
	ret

/* A directory that we can still write is new: it is pinned from now on. They come from a cache that keeps them. */
xen_write_cr3:
	movl %eax, %gs:xen_cr3
	pushl %ebx
	leal PAGE_OFFSET(%eax), %ebx
	movl %eax, %edx
	call phys_to_machine
	shrl $PAGE_SHIFT, %eax
	pushl %eax                      /* machine frame */
	shrl $PAGE_SHIFT, %edx
	movl xen_lowmem_ptes, %ecx
	testl $_PAGE_RW, (%ecx,%edx,4)
	jz 1f
	movl %ebx, %eax
	call xen_make_page_readonly
	movl (%esp), %edx
	movl $MMUEXT_PIN_L2_TABLE, %eax
	call xen_mmuext_op
1:	popl %edx
	popl %ebx
	movl $MMUEXT_NEW_BASEPTR, %eax
	jmp xen_mmuext_op

xen_flush_tlb_user:
xen_flush_tlb_kernel:
	movl $MMUEXT_TLB_FLUSH_LOCAL, %eax
	jmp xen_mmuext_op

xen_flush_tlb_single:
	movl %eax, %edx
	movl $MMUEXT_INVLPG_LOCAL, %eax
	jmp xen_mmuext_op

/* EAX: command, EDX: machine frame or linear address, ECX: entries. */
xen_mmuext_op:
	pushl %ebx
	pushl %esi
	pushl %ecx
	pushl %edx
	pushl %eax
	movl %esp, %ebx
	movl $1, %ecx
	xorl %edx, %edx
	movl $DOMID_SELF, %esi
	batched_hypercall mmuext_op, 1
	addl $12, %esp
	popl %esi
	popl %ebx
	testl %eax, %eax
	jnz xen_bug
	ret

/* What these bits control is Xen's affair. */
xen_write_cr4:
	ret

/* EAX: linear address of a page, EDX: its rights in the kernel's own mapping. */
xen_make_page_readonly:
	movl $PAGE_KERNEL_RO, %edx
xen_set_page_rights:
	pushl %ebx
	pushl %esi
	movl %eax, %ebx
	call virt_to_machine
	leal (%eax,%edx), %ecx
	xorl %edx, %edx
	movl $UVMF_INVLPG, %esi
	batched_hypercall update_va_mapping
	popl %esi
	popl %ebx
	testl %eax, %eax
	jnz xen_bug
	ret

.ifdef PARAVIRT_alloc_pt
/* (EAX: frame; from 2.6.23 EAX: mm, EDX: frame) */
xen_alloc_pt:
	.ifdef PARAVIRT_post_allocator_init
	movl %edx, %eax
	.endif
	shll $PAGE_SHIFT, %eax
	addl $PAGE_OFFSET, %eax
	jmp xen_make_page_readonly

/* (EAX: frame), which no directory holds any longer. */
xen_release_pt:
	shll $PAGE_SHIFT, %eax
	addl $PAGE_OFFSET, %eax
	movl $__PAGE_KERNEL, %edx
	jmp xen_set_page_rights

.else
/* (EAX: entry of the directory, EDX: value). What it leads to is a page table from now on, or no longer. */
xen_set_pmd:
	testl $_PAGE_PRESENT, %edx
	jz 1f
	pushl %eax
	pushl %edx
	movl %edx, %eax
	andl $PAGE_MASK, %eax
	addl $PAGE_OFFSET, %eax
	call xen_make_page_readonly
	popl %edx
	popl %eax
	jmp xen_set_pte
1:	pushl (%eax)
	call xen_set_pte
	popl %eax
	testl $_PAGE_PRESENT, %eax
	jz 2f
	call machine_to_phys
	andl $PAGE_MASK, %eax
	addl $PAGE_OFFSET, %eax
	movl $__PAGE_KERNEL, %edx
	jmp xen_set_page_rights
2:	ret
.endif

/* (EAX: entry, EDX: value). A page table is read-only to us; Xen checks and writes. */
.ifdef PARAVIRT_alloc_pt
xen_set_pmd:
.endif
xen_set_pte:
	.ifndef PARAVIRT_make_pte
	xchgl %eax, %edx
	call xen_make_pte
	xchgl %eax, %edx
	.endif
	call virt_to_machine
	pushl %ebx
	pushl %esi
	pushl $0                        /* struct mmu_update: ptr u64, val u64 */
	pushl %edx
	pushl $0
	pushl %eax
	movl %esp, %ebx
	movl $1, %ecx
	xorl %edx, %edx
	movl $DOMID_SELF, %esi
	batched_hypercall mmu_update, 1
	addl $16, %esp
	popl %esi
	popl %ebx
	testl %eax, %eax
	jnz xen_bug
	ret

/* (EAX: mm, EDX: address, ECX: entry, stack: value) */
xen_set_pte_at:
	movl %ecx, %eax
	movl 4(%esp), %edx
	jmp xen_set_pte

.pushsection .data
.balign 4
xen_lowmem_ptes:
	.long 0                         /* the kernel's own page tables, by page: Xen puts them behind pt_base */
.popsection
