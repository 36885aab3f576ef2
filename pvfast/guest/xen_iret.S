/*
 * Xen: leaving the kernel, and the call that comes when an event may be delivered.
 *
 * Enters: xen_iret by a jump, with the processor's frame on the stack; xen_hypervisor_callback from Xen, with events
 * masked. Leaves: where the frame says, by the processor's own IRET, which needs no privilege from ring 1, or by
 * Xen's; from the callback through ret_from_intr (entry.S). Data segments may be the user's, so memory is addressed
 * through the stack segment.
 * Next: xen_multicall.S.
 */

.text

/* The frame is the processor's; Xen takes the event mask from its IF and looks for pending events. */
xen_iret:
hyper_iret:
	jmp hypercall_page + __HYPERVISOR_iret * HYPERCALL_ENTRY_BYTES

/*
 * The same without Xen, when vcpu_info is in the per-CPU area. From the moment that events may be unmasked until IRET
 * has taken the frame, an event comes in between: the frame that Xen makes then is nested in ours. The callback
 * recognises it by its EIP, in the critical region, and folds it into ours, so that it comes as if IRET had been
 * over: with one frame on the stack, and with all that is looked at on the way out to the user.
 */
xen_iret_direct:
	testl $X86_EFLAGS_VM, 8(%esp)
	jnz hyper_iret
	pushl %eax
	movl $-THREAD_SIZE, %eax
	andl %esp, %eax
	movl %ss:TI_cpu(%eax), %eax
	movl %ss:__per_cpu_offset(,%eax,4), %eax
	testb $(X86_EFLAGS_IF >> 8), 13(%esp)
	setz %ss:xen_vcpu_info + VCPU_EVTCHN_UPCALL_MASK(%eax)
xen_iret_start_crit:
	cmpw $PENDING_UNMASKED, %ss:xen_vcpu_info + VCPU_EVTCHN_UPCALL_PENDING(%eax)
	jne 1f                          /* up to 2011 a sete stored the mask either way, and unmasked what was masked */
	movb $1, %ss:xen_vcpu_info + VCPU_EVTCHN_UPCALL_MASK(%eax)
1:	popl %eax
xen_iret_restore_end:
	je xen_hypervisor_callback      /* with the frame that IRET would have taken */
	iret
xen_iret_end_crit:

xen_hypervisor_callback:
	pushl $-1
	SAVE_ALL
	movl PT_EIP(%esp), %eax
	cmpl $xen_iret_start_crit, %eax
	jb 1f
	cmpl $xen_iret_end_crit, %eax
	jae 1f
	jmp xen_iret_crit_fixup
1:	call xen_evtchn_do_upcall
	jmp ret_from_intr

/*
 * EAX: the EIP of the frame. Everything that SAVE_ALL has saved moves up over EIP, CS and EFLAGS of the nested frame,
 * to just below the one that IRET was about to take. If EAX had not been popped yet, it lies in between, and is what
 * belongs into the saved registers. User code has no business at these addresses, whatever its EIP claims.
 */
xen_iret_crit_fixup:
	movl PT_CS(%esp), %ecx
	andl $SEGMENT_RPL_MASK, %ecx
	cmpl $USER_RPL, %ecx
	je 1b
	leal PT_ORIG_EAX(%esp), %esi
	leal PT_EFLAGS(%esp), %edi
	cmpl $xen_iret_restore_end, %eax
	jae 2f
	addl $4, %edi
	movl (%edi), %eax
	movl %eax, PT_EAX(%esp)
2:	movl $(PT_EIP / 4), %ecx
	std
	rep movsl
	cld
	leal 4(%edi), %esp
	jmp 1b

.pushsection .data
__per_cpu_offset:
	.long boot_pda                  /* of each CPU; there is one */
.popsection
