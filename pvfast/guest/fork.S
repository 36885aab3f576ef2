/*
 * fork: a new process with its parent's memory, copied when one of them writes.
 *
 * Enters: sys_fork from entry.S; do_fork from start_user (bench.S) too, where the idle task makes the first
 * process, which gets the built-in programs' memory as from an execve. Leaves: the new task on the run queue; it
 * starts at ret_from_fork (entry.S). What it is made of is allocated piece by piece as in 2.6.20.
 * Next: exec.S, exit.S.
 */

.text

	kmem_cache task_cache, TASK_BYTES, NR_TASKS

sys_fork:
	leal 4(%esp), %eax

/* (EAX: pt_regs that the child returns through) -> EAX: its number, or -EAGAIN, or -ENOMEM. */
do_fork:
	pushl %ebp
	pushl %edi
	pushl %esi
	pushl %ebx
	movl %eax, %ebp
	movl $-EAGAIN, %eax
	cmpl $NR_TASKS, nr_threads
	jae fork_done
	movl $thread_cache, %eax
	call kmem_cache_alloc
	movl %eax, %ebx
	testl %eax, %eax
	jz fork_no_stack
	movl $task_cache, %eax
	call kmem_cache_alloc
	testl %eax, %eax
	jz fork_no_task
	movl %ebx, %edx
	movl %eax, %ebx                 /* EBX: the new task */
	call dup_task_struct
	movl %ebx, %eax
	call copy_files
	testl %eax, %eax
	jnz fork_no_files
	movl %ebx, %eax
	call copy_sighand
	testl %eax, %eax
	jnz fork_no_sighand
	movl %ebx, %eax
	call copy_mm
	testl %eax, %eax
	jnz fork_no_mm
	movl %ebx, %eax
	movl %ebp, %edx
	call copy_thread

	raw_local_irq_disable           /* sched_fork */
	call sched_clock
	movl %eax, TASK_timestamp(%ebx)
	movl %edx, TASK_timestamp + 4(%ebx)
	raw_local_irq_enable

	incl last_pid
	movl last_pid, %esi
	movl %esi, TASK_tgid(%ebx)
	movl %gs:PDA_pcurrent, %edx
	cmpl $init_task, %edx
	jne 1f
	movl $child_reaper, %edx
1:	movl %edx, TASK_real_parent(%ebx)
	raw_local_irq_disable           /* write_lock_irq(&tasklist_lock) */
	_raw_write_lock tasklist_lock
	addl $TASK_children, %edx
	leal TASK_sibling(%ebx), %eax
	list_add_tail %eax, %edx, %ecx
	leal TASK_tasks(%ebx), %eax
	movl $tasks, %edx
	list_add_tail %eax, %edx, %ecx
	incl nr_threads
	_raw_write_unlock tasklist_lock
	raw_local_irq_enable
	movl %ebx, %eax
	call wake_up_new_task
	movl %esi, %eax
fork_done:
	popl %ebx
	popl %esi
	popl %edi
	popl %ebp
	ret

fork_no_mm:
	movl %ebx, %eax
	call exit_sighand
fork_no_sighand:
	movl %ebx, %eax
	call exit_files
fork_no_files:
	movl %ebx, %eax
	call free_task
	movl $-ENOMEM, %eax
	jmp fork_done
fork_no_task:
	movl $thread_cache, %eax
	movl %ebx, %edx
	call kmem_cache_free
fork_no_stack:
	movl $-ENOMEM, %eax
	jmp fork_done

/* (EAX: new task, EDX: its thread_info). A copy of current, of which nothing is shared yet. */
dup_task_struct:
	pushl %ebx
	pushl %esi
	pushl %edi
	movl %eax, %ebx
	movl %gs:PDA_pcurrent, %esi
	movl %eax, %edi
	movl $(TASK_BYTES / 4), %ecx
	rep movsl
	movl %edx, TASK_thread_info(%ebx)
	movl %ebx, TI_task(%edx)
	xorl %eax, %eax
	movl %eax, TI_exec_domain(%edx)
	movl %eax, TI_flags(%edx)
	movl %eax, TI_status(%edx)
	movl %eax, TI_cpu(%edx)
	movl %eax, TI_preempt_count(%edx)
	leal TASK_run_list(%ebx), %eax
	call init_list_head
	leal TASK_children(%ebx), %eax
	call init_list_head
	leal TASK_wait_chldexit(%ebx), %eax
	call init_waitqueue_head
	popl %edi
	popl %esi
	popl %ebx
	ret

/* (EAX: list) */
init_waitqueue_head:
init_list_head:
	movl %eax, (%eax)
	movl %eax, 4(%eax)
	ret

/* (EAX: new task, EDX: pt_regs). Its kernel stack holds what it returns to user mode with: 0 from fork. */
copy_thread:
	pushl %esi
	pushl %edi
	movl TASK_thread_info(%eax), %edi
	addl $THREAD_SIZE, %edi
	movl %edi, TASK_thread + THREAD_esp0(%eax)
	subl $PT_BYTES, %edi
	movl %edi, TASK_thread + THREAD_esp(%eax)
	movl $ret_from_fork, TASK_thread + THREAD_eip(%eax)
	movl %edx, %esi
	movl $(PT_BYTES / 4), %ecx
	rep movsl
	movl $0, PT_EAX - PT_BYTES(%edi)
	popl %edi
	popl %esi
	ret

/* (EAX: new task) -> EAX: 0 or -ENOMEM. The idle task's child gets what a program has after execve. */
copy_mm:
	pushl %ebx
	pushl %esi
	movl %eax, %ebx
	movl TASK_mm(%eax), %esi
	testl %esi, %esi
	jnz 1f
	call program_mm
	jmp 2f
1:	call mm_alloc
	testl %eax, %eax
	jz 2f
	pushl %eax
	movl %esi, %edx
	call dup_mmap
	testl %eax, %eax
	popl %eax
	jz 3f
	call mmput
	xorl %eax, %eax
2:	testl %eax, %eax
	jnz 3f
	movl $-ENOMEM, %eax
	jmp 4f
3:	movl %eax, TASK_mm(%ebx)
	movl %eax, TASK_active_mm(%ebx)
	xorl %eax, %eax
4:	popl %esi
	popl %ebx
	ret

.pushsection .data
.balign 4
last_pid:
	.long 1
nr_threads:
	.long 0                         /* processes, up to the end of their wait */
	LIST_HEAD tasks
tasklist_lock:
	.long RW_LOCK_BIAS
.popsection
