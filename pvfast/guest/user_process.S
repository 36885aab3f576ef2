/*
 * User programs: making processes, and mapping memory.
 *
 * Enters and leaves as user_io.S says.
 * Next: user_everything.S.
 */

.section .user.text, "ax"

/* A child for each of EBX iterations, waited for; only the children go on behind it. */
.macro fork_each_time
	movl %ebx, %ebp
1:	syscall_ok fork
	testl %eax, %eax
	jz 2f
	call user_wait
	decl %ebp
	jnz 1b
	jmp user_exit
2:
.endm

/* lat_proc fork: a process that only exits, waited for. */
user_fork_exit:
	fork_each_time
	xorl %eax, %eax
	jmp user_exit

/* lat_proc exec: one that becomes another program, which exits. */
user_fork_exec:
	fork_each_time
	movl $PROGRAM_exit_with, %ebx
	xorl %ecx, %ecx
	syscall execve
	jmp user_exit

/* Waits for any child; its status is lost. */
user_wait:
	movl $-1, %ebx
	xorl %ecx, %ecx
	xorl %edx, %edx
	syscall_ok waitpid
	ret

/* A mapping of the file: its address in EAX. Destroys all registers but EBP, which mmap2 wants for itself. */
.macro user_map length
	pushl %ebp
	xorl %ebx, %ebx
	movl $\length, %ecx
	movl $(PROT_READ | PROT_WRITE), %edx
	movl $MAP_SHARED, %esi
	xorl %edi, %edi
	xorl %ebp, %ebp
	syscall mmap2
	popl %ebp
	cmpl $-PAGE_SIZE, %eax
	jae user_exit
.endm

/* lat_mmap: a mapping, one page in ten of it written to, and gone. */
user_mmap:
	movl %ebx, %ebp
1:	user_map USER_FILE_BYTES
	movl %eax, %ebx
2:	movb $1, (%eax)
	addl $10 * PAGE_SIZE, %eax
	leal USER_FILE_BYTES(%ebx), %ecx
	cmpl %ecx, %eax
	jb 2b
	movl $USER_FILE_BYTES, %ecx
	syscall_ok munmap
	decl %ebp
	jnz 1b
	jmp user_exit

/* What lmbench subtracts from the next: the mapping alone. Another mapping keeps the page table. */
user_mmap_munmap:
	call user_keep_page_table
1:	user_map USER_FILE_BYTES
	movl %eax, %ebx
	xorl %edx, %edx
	movl $USER_FILE_BYTES, %ecx
	syscall_ok munmap
	decl %ebp
	jnz 1b
	jmp user_exit

/* lat_pagefault: every page of a mapped file read once, out of order. */
user_page_fault:
	call user_keep_page_table
1:	user_map USER_FILE_BYTES
	movl %eax, %ebx
	xorl %edx, %edx
2:	movb (%ebx,%edx), %al
	addl $USER_FILE_STRIDE, %edx
	andl $(USER_FILE_BYTES - 1), %edx
	jnz 2b
	movl $USER_FILE_BYTES, %ecx
	syscall_ok munmap
	decl %ebp
	jnz 1b
	jmp user_exit

/* EBX: iterations, which go to EBP. */
user_keep_page_table:
	movl %ebx, %ebp
	user_map PAGE_SIZE
	movb (%eax), %al
	ret

.equ USER_FILE_BYTES, 64 * PAGE_SIZE
.equ USER_FILE_STRIDE, 27 * PAGE_SIZE   /* odd, so that it comes by every page */
