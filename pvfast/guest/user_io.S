/*
 * User programs: reading and writing devices, and opening them.
 *
 * Enters: from bench.S by iret, iterations in EBX. A counter in EBP, because EBX is a system call's first
 * argument. Leaves: user_exit, with the last call's result as the status, or a call's error at once.
 * Next: user_signal.S.
 */

.section .user.text, "ax"

.macro syscall number
	movl $__NR_\number, %eax
	int $SYSCALL_VECTOR
.endm

/* A call that must not fail: a program that cannot do its work ends with the error as its status. */
.macro syscall_ok number
	syscall \number
	testl %eax, %eax
	js user_exit
.endm

/* lmbench's read: one byte of /dev/zero. */
user_read:
	movl %ebx, %ebp
	movl $user_dev_zero, %ebx
	xorl %ecx, %ecx
	syscall_ok open
	movl %eax, %ebx
	leal -4(%esp), %ecx
	movl $1, %edx
1:	syscall read
	decl %ebp
	jnz 1b
	jmp user_exit

/* lmbench's write: one byte to /dev/null. */
user_write:
	movl %ebx, %ebp
	movl $user_dev_null, %ebx
	movl $1, %ecx
	syscall_ok open
	movl %eax, %ebx
	leal -4(%esp), %ecx
	movl $1, %edx
1:	syscall write
	decl %ebp
	jnz 1b
	jmp user_exit

/* lmbench's open: open and close. */
user_open:
	movl %ebx, %ebp
1:	movl $user_dev_zero, %ebx
	xorl %ecx, %ecx
	syscall_ok open
	movl %eax, %ebx
	syscall close
	decl %ebp
	jnz 1b
	jmp user_exit

user_dev_zero:
	.asciz "/dev/zero"
user_dev_null:
	.asciz "/dev/null"
