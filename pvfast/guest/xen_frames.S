/*
 * Xen, frames: ours and the machine's.
 *
 * Enters: from xen_head.S, xen_memory.S and xen_descriptors.S. What the kernel calls physical, and has in order from
 * PAGE_OFFSET on, is pseudo-physical: Xen has other frames for it. Hypercalls and what is in page tables want the
 * machine's, found in two tables of Xen's: phys_to_machine_mapping by our number, machine_to_phys_mapping, which is where
 * Xen's part of the address space begins, by the machine's. Page tables are read at their pseudo-physical places.
 * Next: xen_memory.S.
 */

.text

/* (EAX: linear address in the kernel's own mapping) -> EAX: machine address. Destroys ECX. */
virt_to_machine:
	subl $PAGE_OFFSET, %eax

/* (EAX: physical address, or an entry) -> EAX: the same with the machine's frame. Destroys ECX. */
phys_to_machine:
	movl %eax, %ecx
	shrl $PAGE_SHIFT, %eax
	shll $2, %eax
	addl phys_to_machine_mapping, %eax
	movl (%eax), %eax
	jmp 1f

/* (EAX: machine address, or an entry) -> EAX: the same with our own number of the frame. Destroys ECX. */
machine_to_phys:
	movl %eax, %ecx
	shrl $PAGE_SHIFT, %eax
	movl HYPERVISOR_VIRT_START(,%eax,4), %eax
1:	shll $PAGE_SHIFT, %eax
	andl $(PAGE_SIZE - 1), %ecx
	orl %ecx, %eax
	ret

/* (EAX: entry). One that is not present has no frame. */
xen_make_pte:
xen_make_pgd:
	testl $_PAGE_PRESENT, %eax
	jnz phys_to_machine
	ret

xen_pte_val:
xen_pgd_val:
	testl $_PAGE_PRESENT, %eax
	jnz machine_to_phys
	ret

.ifndef PARAVIRT_pte_val
/* Keeps the other registers: see entry_read (operations.S). */
xen_entry_read:
	pushl %ecx
	call xen_pte_val
	popl %ecx
	ret

/* Every entry_read becomes a call of what it says, once, before anything is read. */
xen_patch_entry_reads:
	movl $__start_entry_reads, %esi
1:	movl (%esi), %edi
	movl 4(%esi), %eax
	leal ENTRY_READ_BYTES(%edi), %ecx
	subl %ecx, %eax
	movb $CALL_REL32, (%edi)
	movl %eax, 1(%edi)
	addl $8, %esi
	cmpl $__stop_entry_reads, %esi
	jb 1b
	ret

.equ CALL_REL32, 0xe8
.endif

.pushsection .data
.balign 4
phys_to_machine_mapping:
	.long 0                         /* start_info.mfn_list */
.popsection
