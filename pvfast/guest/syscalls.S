/*
 * System calls and the timer's work: called with the registers saved, result in EAX.
 *
 * Enters: from entry.S through sys_call_table (syscall_table.S). sys_getppid is the null system call (it is what lmbench's
 * lat_syscall null measures); sys_exit ends the user program of a benchmark (bench.S, user.S).
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
	movl %edx, %eax
	je 1f
	xorl %eax, %eax
1:	ret

/* EBX: status. The only program is over; what is left of its kernel stack is dropped. */
sys_exit:
	movl %ebx, %eax
do_group_exit:                          /* (EAX: status, or the signal that it died of) */
	movl %eax, exit_status
	movl $init_files, %eax
	call close_files
	movl %gs:PDA_pcurrent, %eax
	movl $0, TASK_blocked(%eax)
	call flush_sigqueue
	call flush_signal_handlers
	movl $(init_thread_union + THREAD_SIZE), %esp
	jmp bench_done

sys_ni_syscall:
	movl $-ENOSYS, %eax
	ret

do_timer:
	_raw_spin_lock xtime_lock
	incl jiffies
	_raw_spin_unlock xtime_lock
	ret

.pushsection .data
jiffies:
	.long 0
xtime_lock:
	.long SPIN_LOCK_UNLOCKED
exit_status:
	.long 0
.popsection
