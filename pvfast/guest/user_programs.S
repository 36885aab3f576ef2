/*
 * User programs that execve starts: their table is in exec.S.
 *
 * Enters: with an empty stack, and in EBX the word that execve was given.
 * Next: exec.S.
 */

.section .user.text, "ax"

/* The smallest program there is: it exits with what it was given. */
user_exit_with:
	movl $__NR_exit, %eax
	int $SYSCALL_VECTOR
	ud2
