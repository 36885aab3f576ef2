/*
 * Debug registers: ptrace's part of them, and the exception they cause.
 *
 * Enters: the system call; do_debug from do_exception (traps.S). A task's registers are loaded when it is
 * switched to, while _TIF_DEBUG says that it has any. Whom one may trace is left out: anybody.
 * Next: time.S.
 */

.text

/* (request, process, offset in struct user, value or where to put it) */
sys_ptrace:
	cmpl $PTRACE_PEEKUSR, %ebx
	je 1f
	cmpl $PTRACE_POKEUSR, %ebx
	jne bad_request
1:	movl %ecx, %eax
	call find_task_by_pid
	testl %eax, %eax
	jz no_process
	movl %eax, %edi
	movl 4 + PT_EDX(%esp), %ecx
	subl $USER_u_debugreg, %ecx
	testl $3, %ecx
	jnz bad_request
	cmpl $32, %ecx
	jae bad_request
	shrl $2, %ecx
	cmpl $PTRACE_POKEUSR, %ebx
	je 2f
	pushl TASK_thread + THREAD_debugreg(%edi,%ecx,4)
	movl %esi, %eax
	movl %esp, %edx
	movl $4, %ecx
	call copy_to_user
	addl $4, %esp
	testl %eax, %eax
	jnz bad_address
	ret
2:	cmpl $DR_STATUS, %ecx
	ja 4f
	je 3f
	cmpl $DR_LAST_ADDRESS, %ecx
	ja bad_request                  /* 4 and 5 are not there */
	cmpl $(PAGE_OFFSET - 3), %esi
	jae bad_request                 /* nobody watches the kernel */
3:	movl %esi, TASK_thread + THREAD_debugreg(%edi,%ecx,4)
	xorl %eax, %eax
	ret
4:	andl $~DR_CONTROL_RESERVED, %esi
	movl TASK_thread_info(%edi), %eax
	orl $_TIF_DEBUG, TI_flags(%eax)
	testl %esi, %esi
	jnz 3b
	andl $~_TIF_DEBUG, TI_flags(%eax)
	jmp 3b

bad_request:
	movl $-EIO, %eax
	ret
no_process:
	movl $-ESRCH, %eax
	ret

/*
 * EAX: pt_regs. The status goes to the task, and the breakpoints are off until it is switched to again. An I/O or
 * single-step trap that nobody asked for ends here too: with SIGTRAP.
 */
do_debug:
	testb $2, PT_CS(%eax)
	jnz 1f
	andl $~X86_EFLAGS_TF, PT_EFLAGS(%eax)   /* who single-steps into the kernel is not shown it */
1:	movl $DR_STATUS, %eax
	paravirt_call get_debugreg
	movl %gs:PDA_pcurrent, %edx
	movl %eax, TASK_thread + THREAD_debugreg + 4 * DR_STATUS(%edx)
	movl $SIGTRAP, %eax
	call force_sig
	movl $DR_CONTROL, %eax
	xorl %edx, %edx
	paravirt_call set_debugreg
	ret
