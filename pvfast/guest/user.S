/*
 * The user program: ring 3, in its own page at USER_TEXT, read-only.
 *
 * Enters: from bench.S by iret, iterations in EBX. Leaves: by the system call exit, whose status is the
 * result of the last getppid. __kernel_vsyscall is the sysenter stub that Linux keeps in its vdso.
 * Next: entry.S, where system calls arrive.
 */

.section .user.text, "ax"

user_null_syscall_int80:
1:	movl $__NR_getppid, %eax
	int $SYSCALL_VECTOR
	decl %ebx
	jnz 1b
	jmp user_exit

/* The registers that sysexit cannot restore are the stub's to keep, but nobody here needs them. */
user_null_syscall_sysenter:
	movl %esp, %ebp
1:	movl $__NR_getppid, %eax
	movl %esp, %ebp
	sysenter
SYSENTER_RETURN:
	decl %ebx
	jnz 1b

user_exit:
	movl %eax, %ebx
	movl $__NR_exit, %eax
	int $SYSCALL_VECTOR
	ud2
