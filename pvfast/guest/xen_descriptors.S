/*
 * Xen, descriptor part: GDT, LDT, traps, the kernel's stack.
 *
 * Enters and leaves as native_cpu.S says; hypercalls and rights of pages as xen_memory.S says. Xen accepts no
 * segment more privileged than our ring.
 * Next: xen_events.S.
 */

.text

/* The task register is Xen's; what we need of the TSS is load_esp0. */
xen_load_tr_desc:
	ret

/* (EAX: tss, EDX: thread) */
xen_load_esp0:
	pushl %ebx
	movl THREAD_esp0(%edx), %ecx
	movl %ecx, TSS_esp0(%eax)
	movl $FLAT_RING1_SS, %ebx
	batched_hypercall stack_switch
	popl %ebx
	ret

/* (EAX: descriptor of the table) */
xen_load_gdt:
	pushl %ebx
	movzwl (%eax), %ecx
	incl %ecx
	shrl $3, %ecx
	movl 2(%eax), %edx
	movl %ecx, %ebx
1:	movl -4(%edx,%ebx,8), %eax
	call xen_raise_dpl
	movl %eax, -4(%edx,%ebx,8)
	decl %ebx
	jnz 1b
	pushl %ecx
	movl %edx, %eax
	movl %edx, %ebx
	call xen_make_page_readonly
	movl %ebx, %eax
	call virt_to_machine
	popl %ecx
	shrl $PAGE_SHIFT, %eax
	pushl %eax                      /* the list of machine frames: one */
	movl %esp, %ebx
	hypercall set_gdt
	addl $4, %esp
	popl %ebx
	testl %eax, %eax
	jnz xen_bug
	ret

/* EAX: high word of a descriptor; a present segment of DPL 0 gets DPL 1. */
xen_raise_dpl:
	testl $DESCRIPTOR_SEGMENT, %eax
	jz 1f
	testl $DESCRIPTOR_DPL, %eax
	jnz 1f
	orl $DESCRIPTOR_DPL_1, %eax
1:	ret

/* (EAX: table, EDX: entry, ECX: low word, stack: high word). TSS and LDT descriptors are not for Xen. */
xen_write_ldt_entry:
xen_write_gdt_entry:
	leal (%eax,%edx,8), %edx
	movl 4(%esp), %eax
	andl $(DESCRIPTOR_PRESENT | DESCRIPTOR_SEGMENT), %eax
	cmpl $DESCRIPTOR_PRESENT, %eax
	movl 4(%esp), %eax
	jne 1f
	ret
1:	call xen_raise_dpl

/* Descriptor at EDX becomes ECX (low), EAX (high). */
xen_update_descriptor:
	pushl %ebx
	pushl %esi
	movl %eax, %esi
	pushl %ecx
	movl %edx, %eax
	call virt_to_machine
	movl %eax, %ebx
	popl %edx
	xorl %ecx, %ecx
	batched_hypercall update_descriptor
	popl %esi
	popl %ebx
	testl %eax, %eax
	jnz xen_bug
	ret

/* (EAX: thread, EDX: cpu). An empty slot has no segment bit, and may be written as it is. */
xen_load_tls:
	pushl %ebx
	pushl %edi
	leal THREAD_tls_array(%eax), %ebx
	xorl %edi, %edi
1:	leal cpu_gdt_table + GDT_ENTRY_TLS_MIN * 8(,%edi,8), %edx
	movl (%ebx,%edi,8), %ecx
	movl 4(%ebx,%edi,8), %eax
	call xen_update_descriptor
	incl %edi
	cmpl $3, %edi
	jb 1b
	popl %edi
	popl %ebx
	ret

/* (EAX: address, EDX: entries). Xen takes pages that we cannot write; those of the LDT before become ours again. */
xen_set_ldt:
	pushl %ebx
	pushl %esi
	pushl %edi
	movl %eax, %ebx
	movl %edx, %esi
	movl $PAGE_KERNEL_RO, %edi
	call xen_protect_ldt
	movl %esi, %ecx
	movl %ebx, %edx
	movl $MMUEXT_SET_LDT, %eax
	call xen_mmuext_op
	xchgl %ebx, %gs:xen_ldt
	xchgl %esi, %gs:xen_ldt_entries
	cmpl %ebx, %gs:xen_ldt
	je 1f
	movl $__PAGE_KERNEL, %edi
	call xen_protect_ldt
1:	popl %edi
	popl %esi
	popl %ebx
	ret

/* The pages of ESI descriptors at EBX get the rights EDI. */
xen_protect_ldt:
	pushl %ebp
	leal (%ebx,%esi,8), %ebp
	pushl %ebx
1:	cmpl %ebp, %ebx
	jae 2f
	movl %ebx, %eax
	movl %edi, %edx
	call xen_set_page_rights
	addl $PAGE_SIZE, %ebx
	jmp 1b
2:	popl %ebx
	popl %ebp
	ret

/* (EAX: descriptor of the table). Every present gate goes into a list of struct trap_info, ended by zeros. */
xen_load_idt:
	pushl %ebx
	pushl %esi
	pushl %edi
	movl 2(%eax), %esi
	movl $xen_trap_info, %edi
	xorl %ebx, %ebx
1:	movl 4(%esi,%ebx,8), %eax       /* gate: offset 31-16, P, DPL, type */
	testl $GATE_PRESENT, %eax
	jz 3f
	movb %bl, TRAP_INFO_VECTOR(%edi)
	movl %eax, %ecx
	shrl $13, %ecx
	andl $TRAP_DPL_MASK, %ecx
	movl %eax, %edx
	andl $GATE_TYPE_MASK, %edx
	cmpl $(GATE_INTERRUPT & GATE_TYPE_MASK), %edx
	jne 2f
	orl $TRAP_DISABLE_EVENTS, %ecx
2:	movb %cl, TRAP_INFO_FLAGS(%edi)
	movw $FLAT_RING1_CS, TRAP_INFO_CS(%edi)
	andl $0xffff0000, %eax
	movzwl (%esi,%ebx,8), %edx
	orl %edx, %eax
	movl %eax, TRAP_INFO_ADDRESS(%edi)
	addl $TRAP_INFO_BYTES, %edi
3:	incl %ebx
	cmpl $IDT_ENTRIES, %ebx
	jb 1b
	movl $0, TRAP_INFO_VECTOR(%edi)
	movl $0, TRAP_INFO_ADDRESS(%edi)
	movl $xen_trap_info, %ebx
	hypercall set_trap_table
	popl %edi
	popl %esi
	popl %ebx
	testl %eax, %eax
	jnz xen_bug
	ret

.equ DESCRIPTOR_PRESENT, 0x8000
.equ DESCRIPTOR_SEGMENT, 0x1000
.equ DESCRIPTOR_DPL, 0x6000
.equ DESCRIPTOR_DPL_1, 0x2000
.equ GATE_PRESENT, 0x8000
.equ GATE_TYPE_MASK, 0x0f00

.pushsection .data
.balign 4
xen_trap_info:
	.fill IDT_ENTRIES + 1, TRAP_INFO_BYTES, 0
.popsection
