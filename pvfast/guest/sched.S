/*
 * The scheduler: one queue, round robin, and the context switch.
 *
 * Enters: schedule from a task that waits, from work_pending (entry.S) or from the idle loop; try_to_wake_up
 * from wait queues; scheduler_tick from the timer interrupt. Who runs stays on the queue, and the tick sends it to
 * the end. The idle task is the boot context; it is not on the queue and runs when that is empty.
 * Leaves: in the next task, behind its own call of schedule, or at ret_from_fork (entry.S).
 * Next: wait.S.
 */

.text

/* The caller's state says whether it wants to go on: TASK_RUNNING does. */
schedule:
	pushl %ebp
	pushl %edi
	pushl %esi
	pushl %ebx
	movl %gs:PDA_pcurrent, %esi     /* ESI: previous, EBX: next */
	call sched_clock
	movl %eax, %edi
	movl %edx, %ebp
	raw_local_irq_disable           /* spin_lock_irq(&rq->lock) */
	_raw_spin_lock runqueue_lock
	movl TASK_thread_info(%esi), %ecx
	clear_thread_flag _TIF_NEED_RESCHED, %ecx
	cmpl $TASK_RUNNING, TASK_state(%esi)
	je 2f
	cmpl $TASK_INTERRUPTIBLE, TASK_state(%esi)
	jne 1f
	testl $_TIF_SIGPENDING, TI_flags(%ecx)
	jz 1f
	movl $TASK_RUNNING, TASK_state(%esi)
	jmp 2f
1:	leal TASK_run_list(%esi), %edx
	list_del_init %edx, %ecx
2:	movl runqueue, %ebx
	cmpl $runqueue, %ebx
	jne 3f
	movl $(init_task + TASK_run_list), %ebx
3:	subl $TASK_run_list, %ebx
	movl %edi, TASK_timestamp(%esi)
	movl %ebp, TASK_timestamp + 4(%esi)
	cmpl %esi, %ebx
	jne context_switch
	_raw_spin_unlock runqueue_lock
	raw_local_irq_enable
schedule_done:
	popl %ebx
	popl %esi
	popl %edi
	popl %ebp
	ret

context_switch:
	movl %edi, TASK_timestamp(%ebx)
	movl %ebp, TASK_timestamp + 4(%ebx)
	arch_enter_lazy_cpu_mode        /* until __switch_to has loaded what the next instructions need */
	movl TASK_active_mm(%esi), %eax
	movl TASK_mm(%ebx), %edx
	testl %edx, %edx
	jnz 1f
	movl %eax, TASK_active_mm(%ebx)         /* a kernel thread runs on whatever is there */
	atomic_inc MM_count(%eax)
	jmp 2f
1:	call switch_mm
2:	cmpl $0, TASK_mm(%esi)
	jne 3f
	movl TASK_active_mm(%esi), %eax
	movl %eax, runqueue_prev_mm
	movl $0, TASK_active_mm(%esi)

	/* switch_to(prev, next): the stack, then the rest; comes back with EAX as it was. */
3:	movl %esi, %eax
	movl %ebx, %edx
	movl %esp, TASK_thread + THREAD_esp(%esi)
	movl TASK_thread + THREAD_esp(%ebx), %esp
	movl $1f, TASK_thread + THREAD_eip(%esi)
	pushl TASK_thread + THREAD_eip(%ebx)
	jmp __switch_to
1:	call finish_task_switch
	jmp schedule_done

/* (EAX: previous task, EDX: next task) -> EAX: previous task. What the processor has to know of a task. */
__switch_to:
	pushl %ebx
	pushl %esi
	movl %eax, %esi
	movl %edx, %ebx
	/* __unlazy_fpu: whose registers these are is told by TS. */
	movl TASK_thread_info(%esi), %ecx
	testl $TS_USEDFPU, TI_status(%ecx)
	jz 1f
	andl $~TS_USEDFPU, TI_status(%ecx)
	paravirt_call read_cr0
	orl $X86_CR0_TS, %eax
	paravirt_call write_cr0
1:	movl $init_tss, %eax
	leal TASK_thread(%ebx), %edx
	paravirt_call load_esp0
	movl %fs, %eax
	movl %eax, TASK_thread + THREAD_fs(%esi)
	leal TASK_thread(%ebx), %eax
	xorl %edx, %edx
	paravirt_call load_tls
	arch_leave_lazy_cpu_mode
	movl TASK_thread + THREAD_fs(%ebx), %eax
	movl %eax, %ecx
	orl TASK_thread + THREAD_fs(%esi), %ecx
	jz 3f
2:	movl %eax, %fs
	jmp 3f
4:	xorl %eax, %eax                 /* a selector that the task could have once and cannot have now */
	movl %eax, %fs
	ex_table 2b, 4b
3:	movl TASK_thread + THREAD_iopl(%ebx), %eax
	cmpl TASK_thread + THREAD_iopl(%esi), %eax
	je 5f
	paravirt_call set_iopl_mask
5:	movl TASK_thread_info(%ebx), %ecx
	testl $_TIF_DEBUG, TI_flags(%ecx)
	jz 6f
	call load_debug_registers
6:	movl %ebx, %gs:PDA_pcurrent
	movl %esi, %eax
	popl %esi
	popl %ebx
	ret

/* EBX: task. All but 4 and 5, which are not there. */
load_debug_registers:
	pushl %esi
	xorl %esi, %esi
1:	movl %esi, %eax
	movl TASK_thread + THREAD_debugreg(%ebx,%esi,4), %edx
	paravirt_call set_debugreg
	incl %esi
	cmpl $4, %esi
	jne 2f
	movl $6, %esi
2:	cmpl $8, %esi
	jb 1b
	popl %esi
	ret

/* (EAX: previous task). In the next one: what had to wait until nothing of the previous one is in use. */
schedule_tail:
finish_task_switch:
	pushl %ebx
	pushl %esi
	movl %eax, %ebx
	movl runqueue_prev_mm, %esi
	movl $0, runqueue_prev_mm
	_raw_spin_unlock runqueue_lock
	raw_local_irq_enable            /* spin_unlock_irq(&rq->lock) */
	testl %esi, %esi
	jz 1f
	movl %esi, %eax
	call mmdrop
1:	cmpl $TASK_DEAD, TASK_state(%ebx)
	jne 2f
	cmpl $EXIT_DEAD, TASK_exit_state(%ebx)
	jne 2f
	movl %ebx, %eax                 /* nobody will wait for it */
	call free_task
2:	popl %esi
	popl %ebx
	ret

/* (EAX: task) -> EAX: 1 when it slept and is on the queue now, else 0. */
try_to_wake_up:
	pushl %ebx
	movl %eax, %ebx
	__raw_local_irq_save            /* task_rq_lock */
	_raw_spin_lock runqueue_lock
	pushl %eax
	cmpl $TASK_INTERRUPTIBLE, TASK_state(%ebx)
	jne 2f
	movl $TASK_RUNNING, TASK_state(%ebx)
	leal TASK_run_list(%ebx), %edx
	cmpl %edx, (%edx)
	jne 1f                          /* it had not gone yet */
	movl $runqueue, %eax
	list_add_tail %edx, %eax, %ecx
1:	call sched_clock
	movl %eax, TASK_timestamp(%ebx)
	movl %edx, TASK_timestamp + 4(%ebx)
	movl $1, %edx
	jmp 3f
2:	xorl %edx, %edx
3:	popl %eax
	_raw_spin_unlock runqueue_lock
	raw_local_irq_restore
	movl %edx, %eax
	popl %ebx
	ret

/* (EAX: new task). It goes before its parent, which would only copy pages that the child is about to drop. */
wake_up_new_task:
	leal TASK_run_list(%eax), %edx
	__raw_local_irq_save            /* task_rq_lock */
	_raw_spin_lock runqueue_lock
	pushl %eax
	pushl %ebx
	movl %gs:PDA_pcurrent, %eax
	movl TASK_thread_info(%eax), %ecx
	set_thread_flag _TIF_NEED_RESCHED, %ecx
	leal TASK_run_list(%eax), %ebx
	cmpl $init_task, %eax
	jne 1f
	movl $runqueue, %ebx
1:	list_add_tail %edx, %ebx, %ecx
	popl %ebx
	popl %eax
	_raw_spin_unlock runqueue_lock
	raw_local_irq_restore
	ret

/* () -> EDX:EAX: time, in cycles or, with the later operation, in nanoseconds. */
sched_clock:
	.ifdef PARAVIRT_sched_clock
	paravirt_call sched_clock
	.else
	.ifdef PARAVIRT_get_scheduled_cycles
	paravirt_call get_scheduled_cycles
	.else
	paravirt_call read_tsc
	.endif
	.endif
	ret

/* The tick: a turn is over, and the next one begins on the way out of the kernel. */
scheduler_tick:
	movl %gs:PDA_pcurrent, %eax
	cmpl $init_task, %eax
	je 1f
	movl TASK_thread_info(%eax), %ecx
	set_thread_flag _TIF_NEED_RESCHED, %ecx
	leal TASK_run_list(%eax), %edx
	list_del_init %edx, %ecx
	movl $runqueue, %eax
	list_add_tail %edx, %eax, %ecx
1:	ret

.pushsection .data
.balign 4
	LIST_HEAD runqueue
runqueue_lock:
	.long SPIN_LOCK_UNLOCKED
runqueue_prev_mm:
	.long 0                         /* to be dropped when the switch is over */
.popsection
