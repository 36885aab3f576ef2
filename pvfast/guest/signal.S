/*
 * Signals: what a task does on each, sending one, and which one is next.
 *
 * siglock is irqs off, taken and released where 2.6.20 has spin_lock_irq (a pair of disable and enable) and
 * spin_lock_irqsave (save and disable, restore). Each signal sent is a struct sigqueue in the task's list, and
 * a bit in its TASK_pending. Real-time signals are left out: a set is one word, bit (number - 1).
 * Leaves: do_signal comes from work_pending in entry.S, on the way back to user mode.
 * Next: signal_frame.S.
 */

.text

	kmem_cache sighand_cachep, SIGHAND_BYTES, NR_TASKS
	kmem_cache sigqueue_cachep, SIGQUEUE_BYTES, 32

/* \action = what sighand says about signal \signal; destroys \signal. */
.macro sigaction_of sighand, signal, action
	leal (\signal,\signal,4), \signal
	leal SIGHAND_action - SIGACTION_BYTES(\sighand,\signal,4), \action
.endm

/* (signal, new action or 0, where to put the old one or 0, bytes of a set) */
sys_rt_sigaction:
	cmpl $SIGSET_BYTES, %esi
	jne invalid_argument
	subl $2 * SIGACTION_BYTES, %esp         /* the new one, the old one */
	testl %ecx, %ecx
	jz 1f
	movl %esp, %eax
	movl %ecx, %edx
	movl $SIGACTION_BYTES, %ecx
	call copy_from_user
	testl %eax, %eax
	jnz 4f
1:	movl 2 * SIGACTION_BYTES + 4 + PT_EBX(%esp), %eax
	movl 2 * SIGACTION_BYTES + 4 + PT_ECX(%esp), %edx
	testl %edx, %edx
	jz 2f
	movl %esp, %edx
2:	leal SIGACTION_BYTES(%esp), %ecx
	call do_sigaction
	testl %eax, %eax
	jnz 3f
	movl 2 * SIGACTION_BYTES + 4 + PT_EDX(%esp), %eax
	testl %eax, %eax
	jz 3f
	leal SIGACTION_BYTES(%esp), %edx
	movl $SIGACTION_BYTES, %ecx
	call copy_to_user
	testl %eax, %eax
	jnz 4f
3:	addl $2 * SIGACTION_BYTES, %esp
	ret
4:	movl $-EFAULT, %eax
	jmp 3b

/* (EAX: signal, EDX: new action or 0, ECX: where to put the old one) */
do_sigaction:
	leal -1(%eax), %ebx
	cmpl $NSIG, %ebx
	jae invalid_argument
	movl %edx, %esi
	movl %ecx, %edi
	btl %ebx, sig_kernel_only_mask
	jnc 1f
	testl %esi, %esi
	jnz invalid_argument
1:	movl %gs:PDA_pcurrent, %edx
	movl TASK_sighand(%edx), %edx
	sigaction_of %edx, %eax, %ebx
	raw_local_irq_disable                   /* spin_lock_irq(siglock) */
	pushl %esi
	movl %ebx, %esi
	movl $(SIGACTION_BYTES / 4), %ecx
	rep movsl
	popl %esi
	testl %esi, %esi
	jz 2f
	movl sig_kernel_only_mask, %eax
	notl %eax
	andl %eax, SA_mask(%esi)                /* nobody blocks SIGKILL */
	movl %ebx, %edi
	movl $(SIGACTION_BYTES / 4), %ecx
	rep movsl
2:	raw_local_irq_enable
	xorl %eax, %eax
	ret

/* (process, signal); signal 0 only asks whether there is such a process. */
sys_kill:
	movl %ebx, %eax
	call find_task_by_pid
	testl %eax, %eax
	jz 1f
	movl %eax, %edx
	movl 4 + PT_ECX(%esp), %eax
	cmpl $NSIG, %eax
	ja invalid_argument
	testl %eax, %eax
	jz 2f
	call group_send_sig
2:	xorl %eax, %eax
	ret
1:	movl $-ESRCH, %eax
	ret

/* (EAX: signal, EDX: task) */
group_send_sig:
	pushl %ebx
	pushl %esi
	movl %eax, %ebx
	movl %edx, %esi
	__raw_local_irq_save                    /* lock_task_sighand */
	pushl %eax
	movl TASK_sighand(%esi), %ecx
	movl %ebx, %eax
	sigaction_of %ecx, %eax, %edx
	movl SA_handler(%edx), %edx
	cmpl $SIG_IGN, %edx
	je 1f
	leal -1(%ebx), %ecx
	cmpl $SIG_DFL, %edx
	jne 2f
	btl %ecx, sig_kernel_ignore_mask
	jc 1f
2:	btl %ecx, TASK_pending(%esi)
	jc 1f                                   /* it is pending already: once is enough */
	call send_signal
1:	popl %eax
	raw_local_irq_restore
	popl %esi
	popl %ebx
	ret

/* EBX: signal, ESI: task; siglock held. Without memory the signal comes all the same, without what came with it. */
send_signal:
	movl $sigqueue_cachep, %eax
	call kmem_cache_alloc
	testl %eax, %eax
	jz 1f
	movl %ebx, SIGQUEUE_signo(%eax)
	movl TASK_sigqueue(%esi), %edx
	movl %edx, SIGQUEUE_next(%eax)
	movl %eax, TASK_sigqueue(%esi)
1:	leal -1(%ebx), %ecx
	btsl %ecx, TASK_pending(%esi)
	movl %esi, %eax
	btl %ecx, TASK_blocked(%esi)
	jnc signal_wake_up
	ret

/* (EAX: signal, EDX: task). The task itself has done wrong: it cannot ignore or block this one. */
force_sig:
	pushl %ebx
	pushl %esi
	movl %eax, %ebx
	movl %edx, %esi
	__raw_local_irq_save
	pushl %eax
	movl TASK_sighand(%esi), %edx
	movl %ebx, %eax
	sigaction_of %edx, %eax, %edx
	leal -1(%ebx), %ecx
	cmpl $SIG_IGN, SA_handler(%edx)
	je 1f
	btl %ecx, TASK_blocked(%esi)
	jnc 2f
1:	movl $SIG_DFL, SA_handler(%edx)
	btrl %ecx, TASK_blocked(%esi)
2:	btl %ecx, TASK_pending(%esi)
	jc 3f
	call send_signal
3:	popl %eax
	raw_local_irq_restore
	popl %esi
	popl %ebx
	ret

/* (EAX: task). It shall look at its signals before it next runs user code, and not sleep until then. */
signal_wake_up:
	movl TASK_thread_info(%eax), %edx
	set_thread_flag _TIF_SIGPENDING, %edx
	jmp try_to_wake_up

/* (EAX: task), siglock held. Is there still something to deliver? */
recalc_sigpending:
	movl TASK_thread_info(%eax), %edx
	movl TASK_blocked(%eax), %ecx
	notl %ecx
	testl %ecx, TASK_pending(%eax)
	jnz 1f
	clear_thread_flag _TIF_SIGPENDING, %edx
	ret
1:	set_thread_flag _TIF_SIGPENDING, %edx
	ret

/*
 * EAX: pt_regs. The next signal with a handler, or 0 in EAX; its action in EDX. One whose default is to end
 * the process does.
 */
get_signal_to_deliver:
	pushl %ebx
	pushl %esi
	movl %gs:PDA_pcurrent, %esi
	raw_local_irq_disable                   /* spin_lock_irq(siglock) */
1:	call dequeue_signal
	movl %eax, %ebx
	testl %eax, %eax
	jz 2f
	movl TASK_sighand(%esi), %ecx
	sigaction_of %ecx, %eax, %edx
	movl SA_handler(%edx), %eax
	cmpl $SIG_IGN, %eax
	je 1b
	cmpl $SIG_DFL, %eax
	jne 2f
	leal -1(%ebx), %ecx
	btl %ecx, sig_kernel_ignore_mask
	jc 1b
	raw_local_irq_enable
	movl %ebx, %eax
	jmp do_group_exit
2:	raw_local_irq_enable
	movl %ebx, %eax
	popl %esi
	popl %ebx
	ret

/* ESI: task, siglock held. Takes the lowest signal that is pending and not blocked; its number, or 0, in EAX. */
dequeue_signal:
	pushl %ebx
	movl TASK_blocked(%esi), %eax
	notl %eax
	andl TASK_pending(%esi), %eax
	jz 4f
	bsfl %eax, %ebx
	btrl %ebx, TASK_pending(%esi)
	incl %ebx
	leal TASK_sigqueue(%esi), %ecx          /* the link that leads to its sigqueue */
1:	movl (%ecx), %edx
	testl %edx, %edx
	jz 3f
	cmpl %ebx, SIGQUEUE_signo(%edx)
	je 2f
	leal SIGQUEUE_next(%edx), %ecx
	jmp 1b
2:	movl SIGQUEUE_next(%edx), %eax
	movl %eax, (%ecx)
	movl $sigqueue_cachep, %eax
	call kmem_cache_free
3:	movl %esi, %eax
	call recalc_sigpending
	movl %ebx, %eax
	popl %ebx
	ret
4:	movl %esi, %eax
	call recalc_sigpending
	xorl %eax, %eax
	popl %ebx
	ret

.pushsection .rodata
.balign 4
sig_kernel_only_mask:
	.long 1 << (SIGKILL - 1) | 1 << (SIGSTOP - 1)
sig_kernel_ignore_mask:
	.long 1 << (SIGCHLD - 1) | 1 << (SIGCONT - 1) | 1 << (SIGURG - 1) | 1 << (SIGWINCH - 1)
.popsection
