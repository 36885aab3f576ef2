/*
 * System calls and the timer's work: called with the registers saved, result in EAX.
 *
 * Enters: from entry.S through sys_call_table. sys_getppid is the null system call (it is what lmbench's
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

/* EBX: status. The only program is over; what is left of its kernel stack is dropped. */
sys_exit:
	movl %ebx, exit_status
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

.pushsection .rodata
sys_call_table:
	.long sys_ni_syscall
	.long sys_exit
	.rept __NR_getppid - __NR_exit - 1
	.long sys_ni_syscall
	.endr
	.long sys_getppid
.popsection

.pushsection .data
jiffies:
	.long 0
xtime_lock:
	.long SPIN_LOCK_UNLOCKED
exit_status:
	.long 0
.popsection
