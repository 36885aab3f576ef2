/*
 * Signals when a task is made, gets another program, or ends.
 *
 * Enters: from fork, exec and exit. SIG_DFL is 0, so a new program's actions are zeros.
 * Next: signal_frame.S.
 */

.text

/* (EAX: a new task). It gets this task's actions, and nothing is pending for it; 0 or -ENOMEM. */
copy_sighand:
	pushl %esi
	pushl %edi
	movl %eax, %esi
	movl $sighand_cachep, %eax
	call kmem_cache_alloc
	testl %eax, %eax
	jz 1f
	movl %eax, TASK_sighand(%esi)
	movl $0, TASK_pending(%esi)
	movl $0, TASK_sigqueue(%esi)
	movl %eax, %edi
	movl %gs:PDA_pcurrent, %edx
	movl TASK_sighand(%edx), %esi
	movl $(SIGHAND_BYTES / 4), %ecx
	rep movsl
	xorl %eax, %eax
	popl %edi
	popl %esi
	ret
1:	movl $-ENOMEM, %eax
	popl %edi
	popl %esi
	ret

/* (EAX: task). What is pending is lost. */
exit_sighand:
	pushl TASK_sighand(%eax)
	call flush_sigqueue
	movl $sighand_cachep, %eax
	popl %edx
	jmp kmem_cache_free

/* (EAX: task) */
flush_sigqueue:
	pushl %ebx
	movl TASK_sigqueue(%eax), %ebx
	movl $0, TASK_sigqueue(%eax)
	movl $0, TASK_pending(%eax)
1:	testl %ebx, %ebx
	jz 2f
	movl %ebx, %edx
	movl SIGQUEUE_next(%ebx), %ebx
	movl $sigqueue_cachep, %eax
	call kmem_cache_free
	jmp 1b
2:	popl %ebx
	ret

/* (). The handlers were in the program that is gone; what it ignored stays ignored. */
flush_signal_handlers:
	movl %gs:PDA_pcurrent, %eax
	movl TASK_sighand(%eax), %eax
	xorl %edx, %edx
1:	cmpl $SIG_IGN, SA_handler(%eax,%edx)
	je 2f
	movl $SIG_DFL, SA_handler(%eax,%edx)
2:	movl $0, SA_flags(%eax,%edx)
	movl $0, SA_mask(%eax,%edx)
	addl $SIGACTION_BYTES, %edx
	cmpl $SIGHAND_BYTES, %edx
	jb 1b
	ret

.pushsection .data
.balign 4
init_sighand:
	.fill SIGHAND_BYTES, 1, 0
.popsection
