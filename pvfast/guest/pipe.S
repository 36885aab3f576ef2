/*
 * Pipes: a page of bytes with a reading and a writing end, and a queue of those who wait for either.
 *
 * Enters: sys_pipe; from files.S, (EAX: file, EDX: buffer in user memory, ECX: bytes). Operations stand where
 * 2.6.20's fs/pipe.c has them, with one page for its sixteen. The page comes with the first write and stays.
 * Leaves: schedule (sched.S) while there is nothing to read or no room to write.
 * Next: signal.S.
 */

.text

	kmem_cache pipe_cachep, PIPE_BYTES, NR_PIPES

/* (where to put the two descriptors) */
sys_pipe:
	movl $pipe_cachep, %eax
	call kmem_cache_alloc
	testl %eax, %eax
	jz no_memory
	movl %eax, %ebp
	movl $0, PIPE_page(%ebp)
	movl $0, PIPE_offset(%ebp)
	movl $0, PIPE_len(%ebp)
	movl $0, PIPE_readers(%ebp)
	movl $0, PIPE_writers(%ebp)
	leal PIPE_wait(%ebp), %eax
	call init_waitqueue_head
	movl $read_pipe_fops, %eax
	call open_file
	testl %eax, %eax
	js 4f
	movl %eax, %esi
	call fget_light
	movl %ebp, F_private(%eax)
	incl PIPE_readers(%ebp)
	movl $write_pipe_fops, %eax
	call open_file
	testl %eax, %eax
	js 3f
	movl %eax, %edi
	call fget_light
	movl %ebp, F_private(%eax)
	incl PIPE_writers(%ebp)
	pushl %edi
	pushl %esi
	movl %ebx, %eax
	movl %esp, %edx
	movl $8, %ecx
	call copy_to_user
	addl $8, %esp
	testl %eax, %eax
	jnz 2f
	ret
2:	movl %edi, %ebx
	call sys_close
	pushl $-EFAULT
	jmp 5f
3:	pushl %eax
5:	movl %esi, %ebx
	call sys_close                  /* the last end takes the pipe with it */
	popl %eax
	ret
4:	pushl %eax
	movl $pipe_cachep, %eax
	movl %ebp, %edx
	call kmem_cache_free
	popl %eax
	ret

/* EBX: pipe. Sleep until somebody has changed it, or a signal comes. */
pipe_wait:
	pushl %ebp
	DEFINE_WAIT
	movl %esp, %ebp
	leal PIPE_wait(%ebx), %eax
	movl %ebp, %edx
	movl $TASK_INTERRUPTIBLE, %ecx
	call prepare_to_wait
	call schedule
	leal PIPE_wait(%ebx), %eax
	movl %ebp, %edx
	call finish_wait
	addl $WAIT_BYTES, %esp
	popl %ebp
	ret

/* Jumps to \target when current has a signal to look at; destroys EAX. */
.macro if_signal_pending target
	movl $-THREAD_SIZE, %eax
	andl %esp, %eax
	testl $_TIF_SIGPENDING, TI_flags(%eax)
	jnz \target
.endm

/* In both: EBX pipe, EDI buffer, ESI bytes still to do, EBP bytes done. */
pipe_read:
	pushl %ebx
	pushl %esi
	pushl %edi
	pushl %ebp
	movl F_private(%eax), %ebx
	movl %edx, %edi
	movl %ecx, %esi
	xorl %ebp, %ebp
1:	testl %esi, %esi
	jz 4f
	movl PIPE_len(%ebx), %ecx
	testl %ecx, %ecx
	jz 3f
	cmpl %esi, %ecx
	jbe 2f
	movl %esi, %ecx
2:	movl PIPE_offset(%ebx), %edx
	call pipe_piece
	addl PIPE_page(%ebx), %edx
	movl %edi, %eax
	pushl %ecx
	call copy_to_user
	popl %ecx
	testl %eax, %eax
	jnz pipe_fault
	subl %ecx, PIPE_len(%ebx)
	addl %ecx, PIPE_offset(%ebx)
	andl $(PAGE_SIZE - 1), PIPE_offset(%ebx)
	addl %ecx, %edi
	subl %ecx, %esi
	addl %ecx, %ebp
	jmp 1b
3:	testl %ebp, %ebp
	jnz 4f
	cmpl $0, PIPE_writers(%ebx)
	je 5f                           /* the end of the file */
	if_signal_pending pipe_interrupted
	call pipe_wait
	jmp 1b
4:	testl %ebp, %ebp
	jz 5f
pipe_wake:                              /* somebody may wait for the room, or for the bytes */
	leal PIPE_wait(%ebx), %eax
	call __wake_up
5:	movl %ebp, %eax
pipe_return:
	popl %ebp
	popl %edi
	popl %esi
	popl %ebx
	ret

pipe_fault:
	testl %ebp, %ebp
	jnz pipe_wake
	movl $-EFAULT, %eax
	jmp pipe_return

pipe_interrupted:
	testl %ebp, %ebp
	jnz pipe_wake
	movl $-ERESTARTSYS, %eax
	jmp pipe_return

/* EDX: a place in the page, ECX: bytes; not more of them than up to the page's end. */
pipe_piece:
	movl $PAGE_SIZE, %eax
	subl %edx, %eax
	cmpl %eax, %ecx
	jbe 1f
	movl %eax, %ecx
1:	ret

/* What fits the page goes into it as a whole, so that two writers do not mix. */
pipe_write:
	pushl %ebx
	pushl %esi
	pushl %edi
	pushl %ebp
	movl F_private(%eax), %ebx
	movl %edx, %edi
	movl %ecx, %esi
	xorl %ebp, %ebp
	testl %esi, %esi
	jz pipe_done
1:	cmpl $0, PIPE_readers(%ebx)
	je 7f
	testl %esi, %esi
	jz pipe_wake
	movl $PAGE_SIZE, %ecx
	subl PIPE_len(%ebx), %ecx
	jz 6f
	cmpl %esi, %ecx
	jae 2f
	leal (%esi,%ebp), %eax
	cmpl $PAGE_SIZE, %eax
	jbe 6f
	jmp 3f
2:	movl %esi, %ecx
3:	movl PIPE_page(%ebx), %eax
	testl %eax, %eax
	jnz 4f
	pushl %ecx
	call get_free_page
	popl %ecx
	testl %eax, %eax
	jz 8f
	movl %eax, PIPE_page(%ebx)
4:	movl PIPE_offset(%ebx), %edx
	addl PIPE_len(%ebx), %edx
	andl $(PAGE_SIZE - 1), %edx
	call pipe_piece
	movl PIPE_page(%ebx), %eax
	addl %edx, %eax
	movl %edi, %edx
	pushl %ecx
	call copy_from_user
	popl %ecx
	testl %eax, %eax
	jnz pipe_fault
	addl %ecx, PIPE_len(%ebx)
	addl %ecx, %edi
	subl %ecx, %esi
	addl %ecx, %ebp
	jmp 1b
6:	if_signal_pending pipe_interrupted
	testl %ebp, %ebp
	jz 5f
	leal PIPE_wait(%ebx), %eax
	call __wake_up
5:	call pipe_wait
	jmp 1b
7:	movl $SIGPIPE, %eax
	movl %gs:PDA_pcurrent, %edx
	call group_send_sig
	testl %ebp, %ebp
	jnz pipe_wake
	movl $-EPIPE, %eax
	jmp pipe_return
8:	testl %ebp, %ebp
	jnz pipe_wake
	movl $-ENOMEM, %eax
	jmp pipe_return
pipe_done:
	xorl %eax, %eax
	jmp pipe_return

/* (EAX: file). Without its last end the pipe is gone; the other end has to know. */
pipe_read_release:
	movl F_private(%eax), %eax
	decl PIPE_readers(%eax)
	jmp pipe_release
pipe_write_release:
	movl F_private(%eax), %eax
	decl PIPE_writers(%eax)
pipe_release:
	movl PIPE_readers(%eax), %edx
	orl PIPE_writers(%eax), %edx
	jz 1f
	addl $PIPE_wait, %eax
	jmp __wake_up
1:	pushl %eax
	movl PIPE_page(%eax), %eax
	testl %eax, %eax
	jz 2f
	call free_page
2:	movl $pipe_cachep, %eax
	popl %edx
	jmp kmem_cache_free

.pushsection .rodata
.balign 4
read_pipe_fops:
	.long pipe_read, 0, pipe_read_release
write_pipe_fops:
	.long 0, pipe_write, pipe_write_release
.popsection
