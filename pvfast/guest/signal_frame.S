/*
 * A signal's handler: the frame on the user's stack that leads to it, and the way back.
 *
 * Enters: do_signal from work_pending (entry.S), sys_sigreturn from the handler's end. The frame is 2.6.20's
 * struct sigframe without the FPU's state: pretcode, signal, struct sigcontext, the second word of the mask,
 * and code that nobody executes but by which debuggers know the frame.
 * Next: entry.S, which goes where pt_regs says.
 */

.text

/* (EAX: pt_regs, of user mode) */
do_signal:
	pushl %ebx
	pushl %esi
	pushl %edi
	movl %eax, %ebx
	call get_signal_to_deliver
	testl %eax, %eax
	jz no_signal
	movl %eax, %esi
	movl %edx, %edi
	/* A call that was interrupted fails, or, if the handler's owner wants that, is made again. */
	cmpl $0, PT_ORIG_EAX(%ebx)
	jl 1f
	cmpl $-ERESTARTSYS, PT_EAX(%ebx)
	jne 1f
	testl $SA_RESTART, SA_flags(%edi)
	jnz 2f
	movl $-EINTR, PT_EAX(%ebx)
	jmp 1f
2:	call restart_syscall
1:	movl %esi, %eax
	movl %edi, %edx
	movl %ebx, %ecx
	call setup_frame
	testl %eax, %eax
	jnz 4f
	testl $SA_NODEFER, SA_flags(%edi)
	jnz 3f
	raw_local_irq_disable                   /* spin_lock_irq(siglock) */
	movl %gs:PDA_pcurrent, %eax
	movl SA_mask(%edi), %edx
	decl %esi
	btsl %esi, %edx
	orl %edx, TASK_blocked(%eax)
	call recalc_sigpending
	raw_local_irq_enable
3:	popl %edi
	popl %esi
	popl %ebx
	ret
4:	/* There is no stack to handle it on. A handler of SIGSEGV would not find one either. */
	cmpl $SIGSEGV, %esi
	jne 5f
	movl $SIG_DFL, SA_handler(%edi)
5:	movl $SIGSEGV, %eax
	movl %gs:PDA_pcurrent, %edx
	call force_sig
	jmp 3b

no_signal:
	cmpl $0, PT_ORIG_EAX(%ebx)
	jl 3b
	cmpl $-ERESTARTSYS, PT_EAX(%ebx)
	jne 3b
	call restart_syscall
	jmp 3b

/* EBX: pt_regs. The int or sysenter, two bytes either, will be executed again. */
restart_syscall:
	movl PT_ORIG_EAX(%ebx), %eax
	movl %eax, PT_EAX(%ebx)
	subl $2, PT_EIP(%ebx)
	ret

/* (EAX: signal, EDX: action, ECX: pt_regs); 0, or -EFAULT. The frame is built here and copied as a whole. */
setup_frame:
	pushl %ebx
	pushl %esi
	pushl %edi
	pushl %ebp
	movl %ecx, %ebx
	movl %eax, %esi
	movl %edx, %edi
	movl %esp, %ebp
	movl %gs:PDA_pcurrent, %edx
	pushl $0x80cd0000                       /* retcode: popl %eax; movl $__NR_sigreturn, %eax; int $0x80 */
	pushl $(__NR_sigreturn << 16 | 0xb858)
	pushl $0                                /* extramask */
	pushl TASK_thread + THREAD_cr2(%edx)    /* struct sigcontext, from its end */
	pushl TASK_blocked(%edx)
	pushl $0                                /* fpstate */
	pushl PT_OLDSS(%ebx)
	pushl PT_OLDESP(%ebx)
	pushl PT_EFLAGS(%ebx)
	pushl PT_CS(%ebx)
	pushl PT_EIP(%ebx)
	pushl TASK_thread + THREAD_error_code(%edx)
	pushl TASK_thread + THREAD_trap_no(%edx)
	pushl PT_EAX(%ebx)
	pushl PT_ECX(%ebx)
	pushl PT_EDX(%ebx)
	pushl PT_EBX(%ebx)
	pushl PT_OLDESP(%ebx)
	pushl PT_EBP(%ebx)
	pushl PT_ESI(%ebx)
	pushl PT_EDI(%ebx)
	pushl PT_DS(%ebx)
	pushl PT_ES(%ebx)
	pushl %fs
	pushl PT_GS(%ebx)
	pushl %esi                              /* the handler's argument */
	pushl SA_restorer(%edi)                 /* pretcode: where the handler returns to */
	movl PT_OLDESP(%ebx), %eax
	subl $SIGFRAME_BYTES, %eax
	andl $-8, %eax
	pushl %eax
	leal 4(%esp), %edx
	movl $SIGFRAME_BYTES, %ecx
	call copy_to_user
	popl %edx
	testl %eax, %eax
	movl $-EFAULT, %eax
	jnz 1f
	movl %edx, PT_OLDESP(%ebx)
	movl SA_handler(%edi), %eax
	movl %eax, PT_EIP(%ebx)
	movl %esi, PT_EAX(%ebx)                 /* for handlers that take their argument there */
	movl $0, PT_EDX(%ebx)
	movl $0, PT_ECX(%ebx)
	movl $__USER_DS, PT_DS(%ebx)
	movl $__USER_DS, PT_ES(%ebx)
	movl $__USER_DS, PT_OLDSS(%ebx)
	movl $__USER_CS, PT_CS(%ebx)
	andl $~X86_EFLAGS_TF, PT_EFLAGS(%ebx)
	xorl %eax, %eax
1:	movl %ebp, %esp
	popl %ebp
	popl %edi
	popl %esi
	popl %ebx
	ret

/* (). ESP is behind the frame's first two words: the handler's return and its restorer have popped them. */
sys_sigreturn:
	leal 4(%esp), %ebx                      /* pt_regs */
	subl $SIGCONTEXT_BYTES, %esp
	movl PT_OLDESP(%ebx), %edx
	movl %esp, %eax
	movl $SIGCONTEXT_BYTES, %ecx
	call copy_from_user
	testl %eax, %eax
	jnz 1f
	movl %esp, %esi
	raw_local_irq_disable                   /* spin_lock_irq(siglock) */
	movl %gs:PDA_pcurrent, %eax
	movl sig_kernel_only_mask, %edx
	notl %edx
	andl SC_oldmask(%esi), %edx
	movl %edx, TASK_blocked(%eax)
	call recalc_sigpending
	raw_local_irq_enable
	call restore_sigcontext
	addl $SIGCONTEXT_BYTES, %esp
	ret
1:	addl $SIGCONTEXT_BYTES, %esp
	movl $SIGSEGV, %eax
	movl %gs:PDA_pcurrent, %edx
	call force_sig
	xorl %eax, %eax
	ret

/* EBX: pt_regs, ESI: sigcontext. Everything that the user may change; EAX becomes what it was. */
restore_sigcontext:
	movl SC_fs(%esi), %eax
1:	movl %eax, %fs
	movl SC_gs(%esi), %eax
	movl %eax, PT_GS(%ebx)
	movl SC_es(%esi), %eax
	movl %eax, PT_ES(%ebx)
	movl SC_ds(%esi), %eax
	movl %eax, PT_DS(%ebx)
	.irp register, EDI, ESI, EBP, EBX, EDX, ECX, EIP
	movl SC_\register(%esi), %eax
	movl %eax, PT_\register(%ebx)
	.endr
	movl SC_ESP(%esi), %eax
	movl %eax, PT_OLDESP(%ebx)
	movl SC_CS(%esi), %eax
	orl $USER_RPL, %eax
	movl %eax, PT_CS(%ebx)
	movl SC_SS(%esi), %eax
	orl $USER_RPL, %eax
	movl %eax, PT_OLDSS(%ebx)
	movl SC_EFLAGS(%esi), %eax
	andl $FIX_EFLAGS, %eax
	andl $~FIX_EFLAGS, PT_EFLAGS(%ebx)
	orl %eax, PT_EFLAGS(%ebx)
	movl $-1, PT_ORIG_EAX(%ebx)             /* not in a system call any more */
	movl SC_EAX(%esi), %eax
	ret
3:	xorl %eax, %eax
	jmp 1b
	ex_table 1b, 3b
