/*
 * The end of a process, and who waits for it.
 *
 * Enters: sys_exit, sys_waitpid from entry.S; do_group_exit from a signal that nobody handles (signal.S) and from
 * fault.S. Leaves: do_exit never comes back: the scheduler takes over, and what the process still stands on is
 * freed by its parent's wait, or by the next task when there is nobody to wait.
 * Next: bench.S.
 */

.text

/* EBX: status */
sys_exit:
	movl %ebx, exit_status
	movl %ebx, %eax
	andl $0xff, %eax
	shll $8, %eax
	jmp do_exit

/* (EAX: the signal that current dies of) */
do_group_exit:
	movl %eax, exit_status

/* (EAX: what wait will say) */
do_exit:
	movl %gs:PDA_pcurrent, %ebx
	movl %eax, TASK_exit_code(%ebx)

	/* exit_mm: the directory stays until we are off it. */
	movl TASK_mm(%ebx), %eax
	movl $0, TASK_mm(%ebx)
	atomic_inc MM_count(%eax)
	call mmput
	movl %ebx, %eax
	call exit_files
	call exit_notify
	movl $TASK_DEAD, TASK_state(%ebx)
	call schedule
	ud2

/* EBX: current. Its children get another parent, and its parent is told. */
exit_notify:
	pushl %esi
	raw_local_irq_disable           /* write_lock_irq(&tasklist_lock) */
	_raw_write_lock tasklist_lock
1:	movl TASK_children(%ebx), %edx
	leal TASK_children(%ebx), %eax
	cmpl %eax, %edx
	je 2f
	list_del_init %edx, %ecx
	movl $(child_reaper + TASK_children), %eax
	list_add_tail %edx, %eax, %ecx
	leal -TASK_sibling(%edx), %eax
	movl $child_reaper, TASK_real_parent(%eax)
	cmpl $EXIT_ZOMBIE, TASK_exit_state(%eax)
	jne 1b
	movl $EXIT_DEAD, TASK_exit_state(%eax)
	pushl %eax
	call unlink_task
	popl %eax
	call free_task
	jmp 1b

2:	movl TASK_real_parent(%ebx), %esi
	cmpl $child_reaper, %esi
	je 3f
	movl $EXIT_ZOMBIE, TASK_exit_state(%ebx)
	/* do_notify_parent: SIGCHLD, and whoever is in wait */
	movl $SIGCHLD, %eax
	movl %esi, %edx
	call group_send_sig
	leal TASK_wait_chldexit(%esi), %eax
	call __wake_up
	_raw_write_unlock tasklist_lock
	raw_local_irq_enable
	popl %esi
	ret
3:	movl $EXIT_DEAD, TASK_exit_state(%ebx)
	_raw_write_unlock tasklist_lock
	raw_local_irq_enable
	movl %ebx, %eax
	popl %esi

/* (EAX: task). Nobody can find it any more. */
release_task:
	pushl %eax                      /* the site may destroy it */
	raw_local_irq_disable           /* write_lock_irq(&tasklist_lock) */
	popl %eax
	_raw_write_lock tasklist_lock
	call unlink_task
	_raw_write_unlock tasklist_lock
	raw_local_irq_enable
	ret

/* EAX: task, kept only until here. Its signals' part goes with its place in the lists. */
unlink_task:
	leal TASK_sibling(%eax), %edx
	list_del_init %edx, %ecx
	leal TASK_tasks(%eax), %edx
	list_del_init %edx, %ecx
	decl nr_threads
	jmp exit_sighand

/* (EAX: task), which is not current: its stack and itself. */
free_task:
	pushl %eax
	movl TASK_thread_info(%eax), %edx
	movl $thread_cache, %eax
	call kmem_cache_free
	popl %edx
	movl $task_cache, %eax
	jmp kmem_cache_free

/* EBX: process or -1, ECX: where its status goes or 0, EDX: WNOHANG or 0. The number of a child that is dead. */
sys_waitpid:
	movl %gs:PDA_pcurrent, %ebp
	movl 4 + PT_EDX(%esp), %edi
	DEFINE_WAIT default_wake_function
	leal TASK_wait_chldexit(%ebp), %eax
	movl %esp, %edx
	call add_wait_queue
1:	movl $TASK_INTERRUPTIBLE, TASK_state(%ebp)
	movl $-ECHILD, %eax
	movl TASK_children(%ebp), %esi
2:	leal TASK_children(%ebp), %ecx
	cmpl %ecx, %esi
	je 4f
	cmpl $-1, %ebx
	je 3f
	cmpl %ebx, TASK_tgid - TASK_sibling(%esi)
	jne 5f
3:	xorl %eax, %eax
	cmpl $EXIT_ZOMBIE, TASK_exit_state - TASK_sibling(%esi)
	je 7f
5:	movl (%esi), %esi
	jmp 2b
4:	testl %eax, %eax                /* none of them, or none yet */
	jnz 8f
	testl $WNOHANG, %edi
	jnz 8f
	movl TASK_thread_info(%ebp), %ecx
	testl $_TIF_SIGPENDING, TI_flags(%ecx)
	jnz 6f
	call schedule
	jmp 1b
6:	movl $-ERESTARTSYS, %eax
	jmp 8f

7:	leal -TASK_sibling(%esi), %ebx
	movl $EXIT_DEAD, TASK_exit_state(%ebx)
	movl TASK_tgid(%ebx), %eax
	movl TASK_exit_code(%ebx), %edx
	movl WAIT_BYTES + 4 + PT_ECX(%esp), %esi
	testl %esi, %esi
	jz 9f
	pushl %eax
	pushl %edx
	movl %esi, %eax
	movl %esp, %edx
	movl $4, %ecx
	call copy_to_user
	popl %edx
	testl %eax, %eax
	popl %eax
	jz 9f
	movl $-EFAULT, %eax
9:	pushl %eax
	movl %ebx, %eax
	call release_task
	movl %ebx, %eax
	call free_task
	popl %eax

8:	movl $TASK_RUNNING, TASK_state(%ebp)
	movl %eax, %esi
	leal TASK_wait_chldexit(%ebp), %eax
	movl %esp, %edx
	call remove_wait_queue
	addl $WAIT_BYTES, %esp
	movl %esi, %eax
	ret

.pushsection .data
.balign 4
exit_status:
	.long 0                         /* what the last process to end gave to exit, or the signal that it died of */
.popsection
