/*
 * System calls and the timer's work: called with the registers saved, result in EAX.
 *
 * Enters: from entry.S through sys_call_table (syscall_table.S). sys_getppid is the null system call (it is what lmbench's
 * lat_syscall null measures).
 * Next: bench.S.
 */

.text

/* current->real_parent->tgid */
sys_getppid:
	movl %gs:PDA_pcurrent, %eax
	movl TASK_real_parent(%eax), %eax
	movl TASK_tgid(%eax), %eax
	ret

/* current->tgid */
sys_getpid:
	movl %gs:PDA_pcurrent, %eax
	movl TASK_tgid(%eax), %eax
	ret

/* (EAX: process); its task, or 0. */
find_task_by_pid:
	movl %gs:PDA_pcurrent, %edx
	cmpl %eax, TASK_tgid(%edx)
	je 3f
	movl tasks, %edx
1:	cmpl $tasks, %edx
	je 2f
	subl $TASK_tasks, %edx
	cmpl %eax, TASK_tgid(%edx)
	je 3f
	movl TASK_tasks(%edx), %edx
	jmp 1b
2:	xorl %edx, %edx
3:	movl %edx, %eax
	ret

sys_ni_syscall:
	movl $-ENOSYS, %eax
	ret

do_timer:
	_raw_spin_lock xtime_lock
	incl jiffies
	_raw_spin_unlock xtime_lock
	jmp scheduler_tick

.pushsection .data
jiffies:
	.long 0
xtime_lock:
	.long SPIN_LOCK_UNLOCKED
.popsection
