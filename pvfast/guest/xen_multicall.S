/*
 * Xen: hypercalls that may wait for others, in kernels that say when.
 *
 * Enters: xen_batch and xen_batch_update in place of a hypercall, number in EAX, arguments in EBX, ECX, EDX, ESI.
 * Leaves: the answer in EAX, other registers as a hypercall does. In a lazy mode (from 2.6.21 on) the answer is 0, and
 * the call waits in a list that one multicall works off when the mode ends, in the order of the calls. A kernel that has
 * no lazy modes calls at once.
 * Next: xen_memory.S and xen_descriptors.S call this.
 */

.text

/* A hypercall that may wait; `update`: EBX points at its only argument in memory, which has to be kept until then. */
.macro batched_hypercall name, update=0
	.ifdef XEN_LAZY_MODES
	movl $__HYPERVISOR_\name, %eax
	.if \update
	call xen_batch_update
	.else
	call xen_batch
	.endif
	.else
	hypercall \name
	.endif
.endm

.ifdef PARAVIRT_set_lazy_mode
.equ XEN_LAZY_MODES, 1
.endif
.ifdef PARAVIRT_enter_lazy_mmu
.equ XEN_LAZY_MODES, 1
.endif

.ifdef XEN_LAZY_MODES
.equ MC_BATCH, 32
.equ MC_BATCH_SHIFT, 5                  /* MULTICALL_ENTRY_BYTES */
.equ MC_UPDATE_SHIFT, 4                 /* MMU_UPDATE_BYTES, the largest argument in memory */

/* The entry of the hypercall page is found by its number: it takes up as many bytes as an entry of the list. */
xen_batch:
	cmpl $PARAVIRT_LAZY_NONE, xen_lazy_mode
	jne 1f
	shll $MC_BATCH_SHIFT, %eax
	addl $hypercall_page, %eax
	jmp *%eax
1:	cmpl $MC_BATCH, xen_mc_count
	jb xen_mc_add
	call xen_mc_flush

xen_mc_add:
	pushl %edi
	movl xen_mc_count, %edi
	shll $MC_BATCH_SHIFT, %edi
	movl %eax, xen_mc_entries + MULTICALL_OP(%edi)
	movl %ebx, xen_mc_entries + MULTICALL_ARGS(%edi)
	movl %ecx, xen_mc_entries + MULTICALL_ARGS + 4(%edi)
	movl %edx, xen_mc_entries + MULTICALL_ARGS + 8(%edi)
	movl %esi, xen_mc_entries + MULTICALL_ARGS + 12(%edi)
	incl xen_mc_count
	popl %edi
	xorl %eax, %eax
	ret

xen_batch_update:
	cmpl $PARAVIRT_LAZY_NONE, xen_lazy_mode
	je xen_batch
	cmpl $MC_BATCH, xen_mc_count
	jb 1f
	call xen_mc_flush
1:	pushl %esi
	pushl %edi
	pushl %ecx
	movl %ebx, %esi
	movl xen_mc_count, %edi
	shll $MC_UPDATE_SHIFT, %edi
	addl $xen_mc_updates, %edi
	movl %edi, %ebx
	movl $(1 << (MC_UPDATE_SHIFT - 2)), %ecx
	cld
	rep movsl
	popl %ecx
	popl %edi
	popl %esi
	jmp xen_mc_add

/* Keeps all registers. */
xen_mc_flush:
	cmpl $0, xen_mc_count
	je 3f
	pushal
	movl $xen_mc_entries, %ebx
	movl xen_mc_count, %ecx
	movl %ecx, %edi
	movl $0, xen_mc_count
	hypercall multicall
	testl %eax, %eax
	jnz xen_bug
	movl $xen_mc_entries, %ebx
1:	cmpl $0, MULTICALL_RESULT(%ebx)
	jl xen_bug
	addl $MULTICALL_ENTRY_BYTES, %ebx
	decl %edi
	jnz 1b
	popal
3:	ret

/* (EAX: mode) */
.ifdef PARAVIRT_set_lazy_mode
xen_set_lazy_mode:
	call xen_mc_flush
	cmpl $PARAVIRT_LAZY_FLUSH, %eax
	je 1f
	movl %eax, xen_lazy_mode
1:	ret
.endif

.ifdef PARAVIRT_enter_lazy_mmu
xen_enter_lazy_mmu:
	movl $PARAVIRT_LAZY_MMU, xen_lazy_mode
	ret

xen_enter_lazy_cpu:
	movl $PARAVIRT_LAZY_CPU, xen_lazy_mode
	ret

xen_leave_lazy_mmu:
xen_leave_lazy_cpu:
	movl $PARAVIRT_LAZY_NONE, xen_lazy_mode
	jmp xen_mc_flush
.endif

.pushsection .data
.balign 4
xen_lazy_mode:
	.long PARAVIRT_LAZY_NONE        /* not in the per-CPU area: hypercalls come before %gs */
xen_mc_count:
	.long 0
xen_mc_entries:
	.fill MC_BATCH * MULTICALL_ENTRY_BYTES, 1, 0
xen_mc_updates:
	.fill MC_BATCH * MMU_UPDATE_BYTES, 1, 0
.popsection
.endif
