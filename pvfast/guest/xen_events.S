/*
 * Xen, platform part: event channels instead of interrupt lines, the console, the clock.
 *
 * Enters: xen_evtchn_do_upcall from the callback (xen_iret.S), registers saved, events masked; the rest as
 * native_cpu.S says.
 * Next: percpu.S, the data.
 */

.text

xen_arch_setup:
	pushl %ebx
	pushl %esi
	movl $FLAT_RING1_CS, %ebx
	movl $xen_hypervisor_callback, %ecx
	movl $FLAT_RING1_CS, %edx
	movl $xen_failsafe_callback, %esi
	hypercall set_callbacks
	popl %esi
	popl %ebx
	testl %eax, %eax
	jnz xen_bug
	ret

/* Behind the page tables that the domain was built with, which are the last thing that is in it. */
xen_memory_setup:
	movl xen_start_info, %edx
	movl START_INFO_NR_PT_FRAMES(%edx), %eax
	shll $PAGE_SHIFT, %eax
	addl START_INFO_PT_BASE(%edx), %eax
	subl $PAGE_OFFSET, %eax
	movl %eax, memory_start
	movl START_INFO_NR_PAGES(%edx), %eax
	shll $PAGE_SHIFT, %eax
	cmpl $(LOWMEM_TABLES * PGDIR_SIZE), %eax
	jbe 1f
	movl $(LOWMEM_TABLES * PGDIR_SIZE), %eax
1:	movl %eax, memory_end
	movl $xen_name, %eax
	ret

/* The timer is a virtual interrupt; Xen says on which event channel. */
xen_init_IRQ:
	pushl %ebx
	subl $12, %esp                  /* struct evtchn_bind_virq: virq, vcpu, port */
	movl $VIRQ_TIMER, (%esp)
	movl $0, 4(%esp)
	movl $EVTCHNOP_bind_virq, %ebx
	movl %esp, %ecx
	hypercall event_channel_op
	testl %eax, %eax
	jnz xen_bug
	movl 8(%esp), %ecx
	addl $12, %esp
	popl %ebx
	movl %ecx, xen_timer_port
	/* Unmask the channel: bit (port % 32) of word (port / 32). */
	movl %ecx, %edx
	shrl $5, %edx
	movl $-2, %eax
	roll %cl, %eax
	lock andl %eax, xen_shared_info_page + SHARED_EVTCHN_MASK(,%edx,4)
	ret

/* Pending is cleared before the channels are scanned: what arrives during the scan sets it again. */
xen_evtchn_do_upcall:
	movl %gs:xen_vcpu, %edi
1:	movb $0, VCPU_EVTCHN_UPCALL_PENDING(%edi)
	xorl %esi, %esi
	xchgl %esi, VCPU_EVTCHN_PENDING_SEL(%edi)
2:	bsfl %esi, %ebx                 /* EBX: word with pending channels */
	jz 5f
	movl %ebx, %ecx
	movl $-2, %eax
	roll %cl, %eax
	andl %eax, %esi
3:	movl xen_shared_info_page + SHARED_EVTCHN_MASK(,%ebx,4), %eax
	notl %eax
	andl xen_shared_info_page + SHARED_EVTCHN_PENDING(,%ebx,4), %eax
	bsfl %eax, %ecx                 /* ECX: bit in the word */
	jz 2b
	movl $-2, %eax
	roll %cl, %eax
	lock andl %eax, xen_shared_info_page + SHARED_EVTCHN_PENDING(,%ebx,4)
	movl %ebx, %eax
	shll $5, %eax
	addl %ecx, %eax
	cmpl xen_timer_port, %eax
	jne 4f
	call do_timer
	jmp 3b
4:	atomic_inc unexpected_interrupts
	jmp 3b
5:	cmpb $0, VCPU_EVTCHN_UPCALL_PENDING(%edi)
	jne 1b
	ret

/* Xen could not return to where it was told to. */
xen_failsafe_callback:
	jmp panic

/* Seconds since 1970, from Xen. */
xen_get_wallclock:
	movl xen_shared_info_page + SHARED_WC_SEC, %eax
	ret

.ifdef PARAVIRT_get_cpu_khz
/* What Xen multiplies cycles by to get nanoseconds << 32, inverted; 0 while it has not said. */
xen_get_cpu_khz:
	movl per_cpu__xen_vcpu, %edx
	movb VCPU_TIME_TSC_SHIFT(%edx), %cl
	pushl %ebx
	movl VCPU_TIME_TSC_TO_SYSTEM_MUL(%edx), %ebx
	xorl %eax, %eax
	movl $1000000, %edx
	cmpl %edx, %ebx
	jbe 2f                          /* more than 4 THz, or nothing */
	divl %ebx
	testb %cl, %cl
	js 1f
	shrl %cl, %eax
	popl %ebx
	ret
1:	negb %cl
	shll %cl, %eax
2:	popl %ebx
	ret
.endif

/* (EAX: text, EDX: length) */
xen_console_write:
	pushl %ebx
	movl %edx, %ecx
	movl %eax, %edx
	xorl %ebx, %ebx                 /* CONSOLEIO_write */
	hypercall console_io
	popl %ebx
	ret

/* (EAX: mask, the privilege level in its place in EFLAGS) */
xen_set_iopl_mask:
	pushl %ebx
	shrl $12, %eax
	pushl %eax
	movl $PHYSDEVOP_set_iopl, %ebx
	movl %esp, %ecx
	hypercall physdev_op
	addl $4, %esp
	popl %ebx
	ret

/* Virtual devices need no pause, and there is no local APIC. */
xen_io_delay:
xen_apic_write:
xen_apic_write_atomic:
	ret

xen_apic_read:
	xorl %eax, %eax
	ret

.equ VIRQ_TIMER, 0
.equ EVTCHNOP_bind_virq, 1
.equ PHYSDEVOP_set_iopl, 6

.pushsection .data
xen_timer_port:
	.long 0
.popsection
