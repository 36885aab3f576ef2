/*
 * Entering and leaving the kernel: system calls, interrupts, exceptions.
 *
 * Enters: through the gates that traps.S and native_irq.S set, and sysenter. Leaves: through the sites
 * INTERRUPT_RETURN and ENABLE_INTERRUPTS_SYSEXIT. Which registers an assembly site may destroy is its
 * argument; its callee gets ECX and EDX saved but not EAX, as in 2.6.20.
 * Next: syscalls.S for what a system call does, traps.S for what an exception does.
 */

.text

/* struct pt_regs on the stack, kernel data segments; the caller has pushed orig_eax. Destroys EDX. */
.macro SAVE_ALL
	cld
	pushl %gs
	SAVE_BELOW_GS
	LOAD_KERNEL_SEGMENTS
.endm

.macro SAVE_BELOW_GS
	pushl %es
	pushl %ds
	pushl %eax
	pushl %ebp
	pushl %edi
	pushl %esi
	pushl %edx
	pushl %ecx
	pushl %ebx
.endm

.macro LOAD_KERNEL_SEGMENTS
	movl $__USER_DS, %edx           /* flat at any privilege, so it need not change on the way out */
	movl %edx, %ds
	movl %edx, %es
	movl $__KERNEL_PDA, %edx
	movl %edx, %gs
.endm

.macro RESTORE_REGS
	popl %ebx
	popl %ecx
	popl %edx
	popl %esi
	popl %edi
	popl %ebp
	popl %eax
1:	popl %ds
2:	popl %es
3:	popl %gs
	addl $4, %esp                   /* orig_eax */
	/* A selector that has become wrong while it was not loaded becomes null. */
	.pushsection .fixup
4:	movl $0, (%esp)
	jmp 1b
5:	movl $0, (%esp)
	jmp 2b
6:	movl $0, (%esp)
	jmp 3b
	.popsection
	ex_table 1b, 4b
	ex_table 2b, 5b
	ex_table 3b, 6b
.endm

/* int $0x80: number in EAX, arguments in EBX, ECX, EDX, ESI, EDI, EBP; result in EAX. */
system_call:
	pushl %eax
	SAVE_ALL
	cmpl $NR_syscalls, %eax
	jae syscall_badsys
	call *sys_call_table(,%eax,4)
	movl %eax, PT_EAX(%esp)
syscall_exit:
	/* Nothing may interrupt between here and the return, or a wake-up could be missed. */
site_syscall_exit:
	DISABLE_INTERRUPTS CLBR_ANY
	movl $-THREAD_SIZE, %ebp
	andl %esp, %ebp
	cmpw $0, TI_flags(%ebp)
	jne work_pending
restore_all:
	RESTORE_REGS
site_interrupt_return:
	INTERRUPT_RETURN
	ex_table site_interrupt_return, iret_exc        /* where it is inline */

/* Code or stack to return to are no segments of the user's. The frame is still there: the fault is the user's. */
iret_exc:
	ENABLE_INTERRUPTS CLBR_NONE
	pushl $0
	pushl $VECTOR_IRET
	jmp exception_common

syscall_badsys:
	movl $-ENOSYS, PT_EAX(%esp)
	jmp syscall_exit

/* Rescheduling and signals; then everything is looked at again. */
work_pending:
	testl $_TIF_NEED_RESCHED, TI_flags(%ebp)
	jz work_notifysig
	call schedule
	jmp resume_userspace
work_notifysig:
	movl %esp, %eax
	call do_signal
	jmp resume_userspace

/* Where a new task begins. EAX: the task that ran before. */
ret_from_fork:
	call schedule_tail
	jmp syscall_exit

/*
 * sysenter: as above, with the user's stack in EBP and nothing saved by the processor. Interrupts are off
 * and EAX holds the number of the call, so this site may destroy nothing.
 */
sysenter_entry:
	movl TSS_esp0(%esp), %esp       /* the MSR points at the TSS */
site_sysenter_enable:
	ENABLE_INTERRUPTS CLBR_NONE
	pushl $__USER_DS
	pushl %ebp
	pushfl
	pushl $__USER_CS
	pushl $SYSENTER_RETURN
	pushl %eax
	SAVE_ALL
	cmpl $NR_syscalls, %eax
	jae syscall_badsys
	call *sys_call_table(,%eax,4)
	movl %eax, PT_EAX(%esp)
	/* EAX keeps the result; SYSEXIT takes ECX and EDX anyway. */
site_sysenter_disable:
	DISABLE_INTERRUPTS CLBR_ECX|CLBR_EDX
	movl $-THREAD_SIZE, %ebp
	andl %esp, %ebp
	cmpw $0, TI_flags(%ebp)
	jne work_pending
	movl PT_EIP(%esp), %edx
	movl PT_OLDESP(%esp), %ecx
	xorl %ebp, %ebp
	movw PT_GS(%esp), %gs
site_irq_enable_sysexit:
	ENABLE_INTERRUPTS_SYSEXIT

/* The timer. The end of the interrupt is told to the controller before the work, as for any edge. */
timer_interrupt:
	pushl $(~TIMER_VECTOR)
	SAVE_ALL
	movb $PIC_EOI, %al
	outb %al, $PIC1_CMD
	call do_timer
ret_from_intr:
	movl PT_CS(%esp), %eax
	andl $SEGMENT_RPL_MASK, %eax
	cmpl $USER_RPL, %eax
	jb restore_all                  /* back into the kernel: nothing to look at */
resume_userspace:
	DISABLE_INTERRUPTS CLBR_ANY
	movl $-THREAD_SIZE, %ebp
	andl %esp, %ebp
	cmpw $0, TI_flags(%ebp)
	jne work_pending
	jmp restore_all

/* Every other line of the two controllers: counted, and otherwise ignored. */
unexpected_interrupt:
	pushl $-1
	SAVE_ALL
	atomic_inc unexpected_interrupts
	movb $PIC_EOI, %al
	outb %al, $PIC2_CMD
	outb %al, $PIC1_CMD
	jmp ret_from_intr

/*
 * Exceptions. Each stub pushes what the processor did not: a zero for the error code, where there is none,
 * and its vector, which takes the place of %gs in pt_regs until it has been read.
 */
.macro exception vector, has_error=0
exception_\vector:
	.if \has_error == 0
	pushl $0
	.endif
	pushl $\vector
	jmp exception_common
	.pushsection .rodata
	.long exception_\vector
	.popsection
.endm

.pushsection .rodata
.balign 4
exception_stubs:
.popsection
	exception 0
	exception 1
	exception 2
	exception 3
	exception 4
	exception 5
	exception 6
.pushsection .rodata
	.long device_not_available
.popsection
	exception 8, 1
	exception 9
	exception 10, 1
	exception 11, 1
	exception 12, 1
	exception 13, 1
	exception 14, 1
	exception 15
	exception 16
	exception 17, 1
	exception 18
	exception 19

exception_common:
	cld
	SAVE_BELOW_GS
	movl %gs, %ecx
	movl PT_GS(%esp), %ebx
	movl %ecx, PT_GS(%esp)
	LOAD_KERNEL_SEGMENTS
	movl %esp, %eax
	movl %ebx, %edx
	movl PT_ORIG_EAX(%esp), %ecx
	call do_exception
	jmp ret_from_intr

device_not_available:
	pushl $-1
	SAVE_ALL
	GET_CR0_INTO_EAX
	testl $X86_CR0_EM, %eax
	jnz 1f
	call math_state_restore
	jmp ret_from_intr
1:	movl %esp, %eax
	movl $VECTOR_NM, %edx
	xorl %ecx, %ecx
	call do_exception
	jmp ret_from_intr

.pushsection .data
unexpected_interrupts:
	.long 0
.popsection
