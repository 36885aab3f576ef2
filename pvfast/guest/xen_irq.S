/*
 * Xen, interrupt part: masking events, waiting for them, leaving the kernel.
 *
 * Enters and leaves as native_cpu.S says. Events are masked by a byte in vcpu_info instead of EFLAGS.IF, with
 * the opposite sense. Each operation is here twice: for a vcpu_info that a per-CPU pointer finds, and, *_direct,
 * for one in the per-CPU area itself. The direct bodies, and those of irq_disable, which has a third, come from
 * pvfast/paravirt/hypervisors/xen_forms.py. All of these leave EAX alone unless it is their result: an assembly
 * site does not save it.
 * Next: xen_iret.S.
 */

.text

/* %edx = current_thread_info(), and preemption off: between finding vcpu_info and using it we must not move. */
.macro preempt_disable
	movl $-THREAD_SIZE, %edx
	andl %esp, %edx
	incl TI_preempt_count(%edx)
.endm

.macro preempt_enable_no_resched
	decl TI_preempt_count(%edx)
.endm

xen_irq_disable_shared:
	xen_irq_disable_form_smp_processor_id
	ret

xen_irq_disable:
xen_irq_disable_percpu:
	xen_irq_disable_form_per_cpu
	ret

xen_irq_disable_direct:
	xen_irq_disable_direct_form
	ret

xen_irq_enable_direct:
	xen_irq_enable_direct_form
	ret

xen_save_fl_direct:
	xen_save_fl_direct_form
	ret

xen_restore_fl_direct:
	xen_restore_fl_direct_form
	ret

/* Unmask first and look after: an event that arrives in between is delivered by Xen itself. */
xen_irq_enable:
	preempt_disable
	movl %gs:xen_vcpu, %ecx
	movb $0, VCPU_EVTCHN_UPCALL_MASK(%ecx)
	preempt_enable_no_resched
	testb $0xff, VCPU_EVTCHN_UPCALL_PENDING(%ecx)
	jnz xen_force_evtchn_callback
	ret

xen_save_fl:
	preempt_disable
	movl %gs:xen_vcpu, %ecx
	xorl %eax, %eax
	cmpb $0, VCPU_EVTCHN_UPCALL_MASK(%ecx)
	sete %ah
	addb %ah, %ah                   /* X86_EFLAGS_IF is bit 1 of the second byte */
	preempt_enable_no_resched
	ret

/* (EAX: flags) */
xen_restore_fl:
	preempt_disable
	movl %gs:xen_vcpu, %ecx
	testb $(X86_EFLAGS_IF >> 8), %ah
	sete VCPU_EVTCHN_UPCALL_MASK(%ecx)
	preempt_enable_no_resched
	cmpw $PENDING_UNMASKED, VCPU_EVTCHN_UPCALL_PENDING(%ecx)
	je xen_force_evtchn_callback
	ret

/*
 * Any hypercall makes Xen deliver what is pending; asking for its version does nothing else. It may destroy EBX
 * and ECX, which we keep, and EDX, which it does not touch; check_events is for callers in the middle of something.
 */
check_events:
	pushl %edx
	call xen_force_evtchn_callback
	popl %edx
	ret

xen_force_evtchn_callback:
	pushl %eax
	pushl %ebx
	pushl %ecx
	xorl %ebx, %ebx                 /* XENVER_version */
	xorl %ecx, %ecx
	hypercall xen_version
	popl %ecx
	popl %ebx
	popl %eax
	ret

/* Blocking unmasks events, as STI does before HLT. */
xen_safe_halt:
	pushl %ebx
	movl $SCHEDOP_block, %ebx
	xorl %ecx, %ecx
	hypercall sched_op
	popl %ebx
	ret

/* With events masked nothing could wake us: give the CPU back for good. */
xen_halt:
	movl %gs:xen_vcpu, %eax
	cmpb $0, VCPU_EVTCHN_UPCALL_MASK(%eax)
	je xen_safe_halt
	pushl %ebx
	movl $VCPUOP_down, %ebx
	xorl %ecx, %ecx
	xorl %edx, %edx
	hypercall vcpu_op
	popl %ebx
	ret

xen_read_cr2_direct:
	movl %gs:xen_vcpu_info + VCPU_ARCH_CR2, %eax
	ret

/* Nobody can get here: the cpuid operation hides SEP. */
xen_irq_enable_sysexit:
	ud2
