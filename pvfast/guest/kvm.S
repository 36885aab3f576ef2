/*
 * KVM: recognised by CPUID during the boot of bare hardware; what it replaces of paravirt_ops, as in 2.6.26.
 *
 * Enters: kvm_guest_init, from native_arch_setup. Leaves: paravirt_ops with what the host's features make worth
 * replacing; every other operation, all those of interrupts among them, stays native. Entering and leaving the
 * operations: native_cpu.S. A vmcall takes its number in EAX, arguments in EBX, ECX, EDX, and answers in EAX.
 * Next: paravirt.S.
 */

.text

.macro vmcall
	.byte 0x0f, 0x01, 0xc1
.endm

/* kvm_leaf becomes the answer to CPUID function EAX. */
kvm_ask:
	movl %eax, kvm_leaf
	movl $0, kvm_leaf + 8
	pushl $(kvm_leaf + 12)
	movl $kvm_leaf, %eax
	movl $(kvm_leaf + 4), %edx
	movl $(kvm_leaf + 8), %ecx
	paravirt_call cpuid
	addl $4, %esp
	ret

/* Is there KVM, and what does it offer? */
	hypervisor_init kvm_guest_init

kvm_probe:
kvm_guest_init:
	movl $KVM_CPUID_SIGNATURE, %eax
	call kvm_ask
	cmpl $KVM_SIGNATURE_EBX, kvm_leaf + 4
	jne 2f
	cmpl $KVM_SIGNATURE_ECX, kvm_leaf + 8
	jne 2f
	cmpl $KVM_SIGNATURE_EDX, kvm_leaf + 12
	jne 2f
	movl $KVM_CPUID_FEATURES, %eax
	call kvm_ask
	movl $1, paravirt_ops + PARAVIRT_paravirt_enabled
	movl $kvm_name, paravirt_ops + PARAVIRT_name

	pushl %esi
	movl $kvm_paravirt_ops, %esi
1:	movl (%esi), %ecx               /* the feature that the operation needs */
	btl %ecx, kvm_leaf
	jnc 3f
	movl 4(%esi), %ecx
	movl 8(%esi), %edx
	movl %edx, paravirt_ops(%ecx)
3:	addl $12, %esi
	cmpl $kvm_paravirt_ops_end, %esi
	jb 1b
	popl %esi

	btl $KVM_FEATURE_CLOCKSOURCE, kvm_leaf
	jnc 2f
	movl $MSR_KVM_SYSTEM_TIME, %eax
	movl $(kvm_vcpu_time - PAGE_OFFSET + KVM_SYSTEM_TIME_ENABLE), %edx
	xorl %ecx, %ecx
	paravirt_call write_msr
2:	ret

kvm_io_delay:
	ret

/* EDX:EAX becomes nanoseconds since power-on. The version is odd while KVM writes, and new when it has written. */
kvm_sched_clock:
	pushl %ebx
	pushl %esi
	pushl %edi
1:	movl kvm_vcpu_time + PVCLOCK_VERSION, %esi
	testl $1, %esi
	jnz 1b
	rdtsc
	subl kvm_vcpu_time + PVCLOCK_TSC_TIMESTAMP, %eax
	sbbl kvm_vcpu_time + PVCLOCK_TSC_TIMESTAMP + 4, %edx
	movb kvm_vcpu_time + PVCLOCK_TSC_SHIFT, %cl
	testb %cl, %cl
	js 2f
	shldl %cl, %eax, %edx
	shll %cl, %eax
	jmp 3f
2:	negb %cl
	shrdl %cl, %edx, %eax
	shrl %cl, %edx
3:	movl kvm_vcpu_time + PVCLOCK_TSC_TO_SYSTEM_MUL, %ecx
	movl %edx, %edi
	mull %ecx
	movl %edx, %ebx                 /* low word times mul, without its fraction */
	movl %edi, %eax
	mull %ecx
	addl %ebx, %eax
	adcl $0, %edx
	addl kvm_vcpu_time + PVCLOCK_SYSTEM_TIME, %eax
	adcl kvm_vcpu_time + PVCLOCK_SYSTEM_TIME + 4, %edx
	cmpl kvm_vcpu_time + PVCLOCK_VERSION, %esi
	jne 1b
	popl %edi
	popl %esi
	popl %ebx
	ret

/* Seconds since 1970: the time of day at power-on, which KVM is asked for each time, and what has passed since. */
kvm_get_wallclock:
	pushl %ebx
	movl $MSR_KVM_WALL_CLOCK, %eax
	movl $(kvm_wall_clock - PAGE_OFFSET), %edx
	xorl %ecx, %ecx
	paravirt_call write_msr
1:	movl kvm_wall_clock + WALL_CLOCK_VERSION, %ebx
	testl $1, %ebx
	jnz 1b
	call kvm_sched_clock
	addl kvm_wall_clock + WALL_CLOCK_NSEC, %eax
	adcl $0, %edx
	movl $NSEC_PER_SEC, %ecx
	divl %ecx
	addl kvm_wall_clock + WALL_CLOCK_SEC, %eax
	cmpl kvm_wall_clock + WALL_CLOCK_VERSION, %ebx
	jne 1b
	popl %ebx
	ret

/* The host's clock is not the guest's to set, and nobody is told so. */
kvm_set_wallclock:
	xorl %eax, %eax
	ret

/* (EAX: request, EDX: bytes). To KVM, which takes as much as it likes at a time. */
kvm_mmu_op:
	pushl %ebx
	pushl %esi
	pushl %edi
	movl %eax, %esi
	subl $PAGE_OFFSET, %esi
	movl %edx, %edi
1:	movl $KVM_HC_MMU_OP, %eax
	movl %edi, %ebx
	movl %esi, %ecx
	xorl %edx, %edx
	vmcall
	testl %eax, %eax
	jle kvm_bug
	addl %eax, %esi
	subl %eax, %edi
	jnz 1b
	popl %edi
	popl %esi
	popl %ebx
	ret

/* KVM refused what it must not refuse. */
kvm_bug:
	ud2

/* What is queued goes to KVM. */
kvm_mmu_queue_flush:
	movl kvm_mmu_queue_len, %edx
	testl %edx, %edx
	jz 1f
	movl $0, kvm_mmu_queue_len
	movl $kvm_mmu_queue, %eax
	jmp kvm_mmu_op
1:	ret

/* (EAX: request, EDX: bytes). Now, or in lazy MMU mode when it is left or the queue is full. */
kvm_deferred_mmu_op:
	cmpl $PARAVIRT_LAZY_MMU, kvm_lazy_mode
	jne kvm_mmu_op
	pushl %esi
	pushl %edi
	movl %eax, %esi
	movl %edx, %edi
	addl kvm_mmu_queue_len, %edx
	cmpl $MMU_QUEUE_SIZE, %edx
	jbe 1f
	call kvm_mmu_queue_flush
1:	movl %edi, %ecx
	movl kvm_mmu_queue_len, %edi
	addl %ecx, kvm_mmu_queue_len
	addl $kvm_mmu_queue, %edi
	shrl $2, %ecx
	rep movsl
	popl %edi
	popl %esi
	ret

/* (EAX: entry, EDX: value) */
kvm_set_pte:
kvm_set_pmd:
	pushl $0                        /* struct kvm_mmu_op_write_pte: op, pad, pte_phys u64, pte_val u64 */
	pushl %edx
	pushl $0
	subl $PAGE_OFFSET, %eax
	pushl %eax
	pushl $0
	pushl $KVM_MMU_OP_WRITE_PTE
	movl %esp, %eax
	movl $MMU_OP_WRITE_PTE_BYTES, %edx
	call kvm_deferred_mmu_op
	addl $MMU_OP_WRITE_PTE_BYTES, %esp
	ret

/* (EAX: mm, EDX: address, ECX: entry, stack: value) */
kvm_set_pte_at:
	movl %ecx, %eax
	movl 4(%esp), %edx
	jmp kvm_set_pte

kvm_flush_tlb_user:
	pushl $0
	pushl $KVM_MMU_OP_FLUSH_TLB
	movl %esp, %eax
	movl $MMU_OP_FLUSH_TLB_BYTES, %edx
	call kvm_deferred_mmu_op
	addl $MMU_OP_FLUSH_TLB_BYTES, %esp
	ret

/* (EAX: frame). Never deferred: the page has another use at once. */
kvm_release_pt:
kvm_release_pd:
	pushl $0                        /* struct kvm_mmu_op_release_pt: op, pad, pt_phys u64 */
	shll $PAGE_SHIFT, %eax
	pushl %eax
	pushl $0
	pushl $KVM_MMU_OP_RELEASE_PT
	movl %esp, %eax
	movl $MMU_OP_RELEASE_PT_BYTES, %edx
	call kvm_mmu_op
	addl $MMU_OP_RELEASE_PT_BYTES, %esp
	ret

/* (EAX: mode) */
kvm_set_lazy_mode:
	cmpl $PARAVIRT_LAZY_FLUSH, %eax
	je kvm_mmu_queue_flush
	movl %eax, kvm_lazy_mode
	cmpl $PARAVIRT_LAZY_MMU, %eax
	jne kvm_mmu_queue_flush
	ret

/* The same, where each group has its own lazy mode. */
kvm_enter_lazy_mmu:
	movl $PARAVIRT_LAZY_MMU, kvm_lazy_mode
	ret

kvm_leave_lazy_mmu:
	movl $PARAVIRT_LAZY_NONE, kvm_lazy_mode
	jmp kvm_mmu_queue_flush

.macro kvm_operation feature, name
	.ifdef PARAVIRT_\name
	.long KVM_FEATURE_\feature, PARAVIRT_\name, kvm_\name
	.endif
.endm

.pushsection .rodata
.balign 4
kvm_paravirt_ops:
	kvm_operation NOP_IO_DELAY, io_delay
	kvm_operation CLOCKSOURCE, get_wallclock
	kvm_operation CLOCKSOURCE, set_wallclock
	kvm_operation CLOCKSOURCE, sched_clock
	kvm_operation MMU_OP, set_pte
	kvm_operation MMU_OP, set_pte_at
	kvm_operation MMU_OP, set_pmd
	kvm_operation MMU_OP, flush_tlb_user
	kvm_operation MMU_OP, release_pt
	kvm_operation MMU_OP, release_pd
	kvm_operation MMU_OP, set_lazy_mode
	kvm_operation MMU_OP, enter_lazy_mmu
	kvm_operation MMU_OP, leave_lazy_mmu
kvm_paravirt_ops_end:
kvm_name:
	.asciz "KVM"
.popsection

.pushsection .data
.balign 8
kvm_vcpu_time:
	.fill PVCLOCK_BYTES, 1, 0
kvm_wall_clock:
	.fill WALL_CLOCK_BYTES, 1, 0
kvm_leaf:
	.fill 4, 4, 0
kvm_lazy_mode:
	.long 0
kvm_mmu_queue_len:
	.long 0
kvm_mmu_queue:                          /* struct kvm_para_state: physically contiguous, as the kernel itself is */
	.fill MMU_QUEUE_SIZE, 1, 0
.popsection
