/*
 * Xen, memory part: descriptor tables, stacks, page tables, TLB, CPUID.
 *
 * Enters and leaves as native_cpu.S says. A hypercall takes EBX, ECX, EDX, ESI, EDI and may destroy them, so
 * what the caller keeps is saved here. Machine addresses are physical addresses: this kernel is not given
 * memory whose frames are renumbered.
 * Next: xen_events.S.
 */

.text

/* CPUID 1 without what Xen does not virtualize: the local APIC, and sysenter, which would land in ring 0. */
xen_cpuid:
	pushl (%eax)
	pushl 8(%esp)                   /* the fourth argument once more */
	call native_cpuid
	popl %edx
	popl %eax
	cmpl $1, %eax
	jne 1f
	andl $~((1 << X86_FEATURE_SEP) | (1 << X86_FEATURE_APIC)), (%edx)
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

xen_write_cr3:
	movl %eax, %gs:xen_cr3
	movl %eax, %edx
	shrl $PAGE_SHIFT, %edx
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

/* (EAX: address, EDX: entries) */
xen_set_ldt:
	movl %edx, %ecx
	movl %eax, %edx
	movl $MMUEXT_SET_LDT, %eax

/* EAX: command, EDX: frame or linear address, ECX: entries. */
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
	hypercall mmuext_op
	addl $12, %esp
	popl %esi
	popl %ebx
	testl %eax, %eax
	jnz xen_bug
	ret

/* What these bits control is Xen's affair. */
xen_write_cr4:
	ret

/* (EAX: entry, EDX: value). A page table is read-only to us; Xen checks and writes. */
xen_set_pte:
xen_set_pmd:
	pushl %ebx
	pushl %esi
	pushl $0                        /* struct mmu_update: ptr u64, val u64 */
	pushl %edx
	pushl $0
	subl $PAGE_OFFSET, %eax
	pushl %eax
	movl %esp, %ebx
	movl $1, %ecx
	xorl %edx, %edx
	movl $DOMID_SELF, %esi
	hypercall mmu_update
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

/* The task register is Xen's; what we need of the TSS is load_esp0. */
xen_load_tr_desc:
	ret

/* (EAX: tss, EDX: thread) */
xen_load_esp0:
	pushl %ebx
	movl THREAD_esp0(%edx), %ecx
	movl %ecx, TSS_esp0(%eax)
	movl $FLAT_RING1_SS, %ebx
	hypercall stack_switch
	popl %ebx
	ret

/* (EAX: descriptor of the table). Xen accepts no segment more privileged than our ring. */
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
	subl $PAGE_OFFSET, %edx
	shrl $PAGE_SHIFT, %edx
	pushl %edx                      /* the list of frames: one */
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
	testl $DESCRIPTOR_SEGMENT, %eax
	jnz 1f
	ret
1:	call xen_raise_dpl

/* Descriptor at EDX becomes ECX (low), EAX (high). */
xen_update_descriptor:
	pushl %ebx
	pushl %esi
	movl %edx, %ebx
	subl $PAGE_OFFSET, %ebx
	movl %ecx, %edx
	xorl %ecx, %ecx
	movl %eax, %esi
	hypercall update_descriptor
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
