/*
 * User programs: pipes, within one process, between two, and around a ring.
 *
 * Enters and leaves as user_io.S says. Descriptors are the lowest free ones, so that a process's first pipe is 0 and
 * 1, its second 2 and 3. A process that has been forked goes on with its parent's registers.
 * Next: user_process.S.
 */

.section .user.text, "ax"

/* lat_ctx's overhead: one process hands the token to itself. */
user_pipe_1p:
	movl %ebx, %ebp
	leal -8(%esp), %ebx
	syscall_ok pipe
	leal -4(%esp), %ecx
	movl $4, %edx
1:	movl $1, %ebx
	syscall write
	xorl %ebx, %ebx
	syscall read
	decl %ebp
	jnz 1b
	jmp user_exit

/* lat_pipe: a byte to another process and back. */
user_pipe:
	movl %ebx, %ebp
	leal -8(%esp), %ebx
	syscall_ok pipe
	syscall_ok pipe
	syscall_ok fork
	leal -4(%esp), %ecx
	movl $1, %edx
	testl %eax, %eax
	jz 2f
1:	movl $1, %ebx
	syscall write
	movl $2, %ebx
	syscall read
	decl %ebp
	jnz 1b
	jmp user_exit
2:	xorl %ebx, %ebx
	syscall read
	movl $3, %ebx
	syscall write
	decl %ebp
	jnz 2b
	jmp user_exit

/*
 * lat_ctx: a token goes around processes that each wait for it at a pipe of their own, and pass it on to the next
 * one's. EDI: how many; ESI: which one this is, later where it reads. Number 0 begins.
 */
user_context_switch_2p:
	movl $2, %edi
	jmp 1f
user_context_switch_8p:
	movl $8, %edi
1:	movl %ebx, %ebp
	movl %edi, %esi
	leal -8(%esp), %ebx
2:	syscall_ok pipe
	decl %esi
	jnz 2b
3:	incl %esi
	cmpl %edi, %esi
	je 4f
	syscall_ok fork
	testl %eax, %eax
	jnz 3b
	jmp 5f
4:	xorl %esi, %esi
5:	leal 1(%esi), %eax
	cmpl %edi, %eax
	jb 6f
	xorl %eax, %eax
6:	leal 1(,%eax,2), %edi           /* where it writes */
	addl %esi, %esi
	leal -4(%esp), %ecx
	movl $4, %edx
	testl %esi, %esi
	jnz 8f
7:	movl %edi, %ebx
	syscall write
	movl %esi, %ebx
	syscall read
	decl %ebp
	jnz 7b
	jmp user_exit
8:	movl %esi, %ebx
	syscall read
	movl %edi, %ebx
	syscall write
	decl %ebp
	jnz 8b
	jmp user_exit
