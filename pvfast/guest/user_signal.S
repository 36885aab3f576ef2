/*
 * User programs: installing a signal's handler, catching a signal, writing where nobody may.
 *
 * Enters and leaves as user_io.S says. A handler's registers are lost when it returns, so it counts in memory.
 * Next: entry.S, where system calls and faults arrive.
 */

.section .user.text, "ax"

.pushsection .user.data, "aw"
user_count:
	.long 0
.popsection

/* lmbench's signal handler installation. */
user_signal_install:
	movl %ebx, %ebp
	movl $SIGUSR1, %ebx
	movl $user_sigaction, %ecx
	xorl %edx, %edx
	movl $SIGSET_BYTES, %esi
1:	syscall rt_sigaction
	decl %ebp
	jnz 1b
	jmp user_exit

/* What lmbench subtracts from the next: the same call with nothing to deliver. */
user_signal_none:
	movl %ebx, %ebp
	syscall getpid
	movl %eax, %ebx
	xorl %ecx, %ecx
1:	syscall kill
	decl %ebp
	jnz 1b
	jmp user_exit

/* lmbench's signal handler overhead: send, deliver, return. The status is how many handlers did not run. */
user_signal_catch:
	movl %ebx, %ebp
	movl %ebx, user_count
	movl $SIGUSR1, %ebx
	movl $user_sigaction, %ecx
	xorl %edx, %edx
	movl $SIGSET_BYTES, %esi
	syscall_ok rt_sigaction
	syscall getpid
	movl %eax, %ebx
	movl $SIGUSR1, %ecx
1:	syscall kill
	decl %ebp
	jnz 1b
	movl user_count, %eax
	jmp user_exit

user_catch_handler:
	decl user_count
	ret
user_restorer:
	popl %eax
	syscall sigreturn

user_sigaction:
	.long user_catch_handler
	.long SA_RESTORER
	.long user_restorer
	.long 0, 0

/* lmbench's protection fault: the handler returns to the store that it could not stop, until it has had enough. */
user_protection_fault:
	movl %ebx, user_count
	movl $SIGSEGV, %ebx
	movl $user_segv_sigaction, %ecx
	xorl %edx, %edx
	movl $SIGSET_BYTES, %esi
	syscall_ok rt_sigaction
	movl $0, user_protection_fault          /* its own text */
	ud2

user_segv_handler:
	decl user_count
	jz 1f
	ret
1:	xorl %eax, %eax
	jmp user_exit

user_segv_sigaction:
	.long user_segv_handler
	.long SA_RESTORER
	.long user_restorer
	.long 0, 0
