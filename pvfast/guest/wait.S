/*
 * Wait queues: who sleeps until something happens, and who wakes them.
 *
 * Enters: from whoever has to wait: DEFINE_WAIT, then prepare_to_wait, look, schedule, again from
 * prepare_to_wait, and finish_wait. To look after one is on the queue is what loses no wake-up. A queue is
 * changed with interrupts off, as under its spin_lock_irqsave in 2.6.20.
 * Leaves: try_to_wake_up (sched.S).
 * Next: mm.S.
 */

.text

/* An entry for current on the stack, on no queue. Destroys EAX; addl $WAIT_BYTES, %esp drops it. */
.macro DEFINE_WAIT function=autoremove_wake_function
	subl $WAIT_BYTES, %esp
	movl $0, WAIT_flags(%esp)
	movl %gs:PDA_pcurrent, %eax
	movl %eax, WAIT_task(%esp)
	movl $\function, WAIT_func(%esp)
	leal WAIT_task_list(%esp), %eax
	movl %eax, WAIT_task_list(%esp)
	movl %eax, WAIT_task_list + 4(%esp)
.endm

/* (EAX: queue, EDX: entry, ECX: state). On the queue if it is not; then current is in that state. */
prepare_to_wait:
	pushl %ebx
	pushl %esi
	movl %eax, %ebx
	movl %ecx, %esi
	addl $WAIT_task_list, %edx
	__raw_local_irq_save
	cmpl %edx, (%edx)
	jne 1f
	list_add_tail %edx, %ebx, %ecx
1:	movl %gs:PDA_pcurrent, %ecx
	movl %esi, TASK_state(%ecx)
	raw_local_irq_restore
	popl %esi
	popl %ebx
	ret

/* (EAX: queue, EDX: entry). Running again; who was woken is off the queue already. */
finish_wait:
	movl %gs:PDA_pcurrent, %ecx
	movl $TASK_RUNNING, TASK_state(%ecx)
	addl $WAIT_task_list, %edx
	cmpl %edx, (%edx)
	jne remove_wait_entry
	ret

/* (EAX: queue, EDX: entry) */
remove_wait_queue:
	addl $WAIT_task_list, %edx
remove_wait_entry:
	__raw_local_irq_save
	list_del_init %edx, %ecx
	raw_local_irq_restore
	ret

/* (EAX: queue, EDX: entry) */
add_wait_queue:
	pushl %ebx
	movl %eax, %ebx
	addl $WAIT_task_list, %edx
	__raw_local_irq_save
	list_add_tail %edx, %ebx, %ecx
	raw_local_irq_restore
	popl %ebx
	ret

/* (EAX: queue). Everybody on it; an entry's function decides what that means. */
__wake_up:
	pushl %edi
	pushl %esi
	pushl %ebx
	movl %eax, %edi
	__raw_local_irq_save
	pushl %eax
	movl (%edi), %ebx
1:	cmpl %edi, %ebx
	je 2f
	movl (%ebx), %esi
	leal -WAIT_task_list(%ebx), %eax
	call *WAIT_func - WAIT_task_list(%ebx)
	movl %esi, %ebx
	jmp 1b
2:	popl %eax
	raw_local_irq_restore
	popl %ebx
	popl %esi
	popl %edi
	ret

/* (EAX: entry) -> EAX: whether its task slept. */
default_wake_function:
	movl WAIT_task(%eax), %eax
	jmp try_to_wake_up

/* The same, and who is woken is off the queue. */
autoremove_wake_function:
	pushl %eax
	call default_wake_function
	popl %edx
	testl %eax, %eax
	jz 1f
	addl $WAIT_task_list, %edx
	list_del_init %edx, %ecx
1:	ret
