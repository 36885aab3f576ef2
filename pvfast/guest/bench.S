/*
 * One loop per patchable operation, and the null system call both ways.
 *
 * Enters: the host puts the machine, stopped at boot_done or bench_done, at a label bench_*, with the number
 * of iterations (at least 1) in ECX. Leaves: the label bench_done. Every loop has the same shape, one move to
 * prepare EAX, the site, and the counter in EBX, so that bench_empty is what to subtract; no replacement may
 * destroy EBX, ESI or EDI. The label site_* of each loop is the address in its patch record.
 * Next: user.S, for the loops that run in ring 3.
 */

.text

/* ESI: flags with interrupts enabled, as restore_fl usually gets them. */
.macro benchmark name
bench_\name:
	cld
	movl %ecx, %ebx
	movl $(X86_EFLAGS_IF + X86_EFLAGS_RESERVED), %esi
	movl %cs, %edi
.endm

.macro benchmark_end
	decl %ebx
	jnz 1b
	jmp bench_done
.endm

	benchmark empty
1:	movl %esi, %eax
	benchmark_end

	benchmark irq_disable
1:	movl %esi, %eax
site_irq_disable:
	raw_local_irq_disable
	benchmark_end

	benchmark irq_enable
1:	movl %esi, %eax
site_irq_enable:
	raw_local_irq_enable
	benchmark_end

	benchmark save_fl
1:	movl %esi, %eax
site_save_fl:
	__raw_local_save_flags
	benchmark_end

	benchmark restore_fl
1:	movl %esi, %eax
site_restore_fl:
	raw_local_irq_restore
	benchmark_end

	benchmark irq_save
1:	movl %esi, %eax
site_irq_save:
	__raw_local_irq_save
	benchmark_end

	/* The pair that spin_lock_irqsave and spin_unlock_irqrestore put around a critical section. */
	benchmark irq_save_restore
1:	movl %esi, %eax
site_irq_save_restore_save:
	__raw_local_irq_save
site_irq_save_restore_restore:
	raw_local_irq_restore
	benchmark_end

	benchmark asm_irq_disable
1:	movl %esi, %eax
site_asm_irq_disable:
	DISABLE_INTERRUPTS CLBR_ANY
	benchmark_end

	benchmark asm_irq_enable
1:	movl %esi, %eax
site_asm_irq_enable:
	ENABLE_INTERRUPTS CLBR_ANY
	benchmark_end

	/* A return within the kernel; the frame is built anew each time, so it has its own empty loop. */
	benchmark iret
1:	movl %esi, %eax
	pushl %esi
	pushl %edi
	pushl $2f
site_iret:
	INTERRUPT_RETURN
2:	benchmark_end

	benchmark empty_iret
1:	movl %esi, %eax
	movl %esi, -4(%esp)
	movl %edi, -8(%esp)
	movl $2f, -12(%esp)
2:	benchmark_end

/* System calls: into the user program with the count in EBX; exit brings us back. */
bench_null:
bench_null_syscall_int80:
	movl $user_null_syscall_int80, %edx
	jmp start_user

bench_irq_enable_sysexit:               /* there is no way to SYSEXIT without having entered */
bench_null_syscall_sysenter:
	movl $user_null_syscall_sysenter, %edx
	cmpl $0, sysenter_enabled
	jne start_user
	movl $-ENOSYS, exit_status      /* no such way in here: over at once, and it says so */
	jmp bench_done

/* Workloads, named after lmbench's: a user program each, in the user_*.S. */
.macro workload name
bench_\name:
	movl $user_\name, %edx
	jmp start_user
.endm

	workload read
	workload write
	workload open
	workload signal_install
	workload signal_none
	workload signal_catch
	workload protection_fault
	workload pipe_1p
	workload pipe
	workload context_switch_2p
	workload context_switch_8p
	workload mmap_munmap
	workload mmap
	workload page_fault
	workload fork_exit
	workload fork_exec
	workload everything             /* not measured */

/*
 * ECX: iterations, EDX: entry point. A process of its own, child of the idle task that we are; which idles until
 * no process is left.
 */
start_user:
	movl $(init_thread_union + THREAD_SIZE), %esp
	subl $PT_BYTES, %esp
	movl %esp, %eax
	call start_thread
	movl %esp, %eax
	call do_fork
	addl $PT_BYTES, %esp
	movl %eax, exit_status          /* in case there is none */
cpu_idle:
	call schedule
	cmpl $0, nr_threads
	je 2f
	raw_local_irq_disable
	testl $_TIF_NEED_RESCHED, init_thread_union + TI_flags
	jnz 1f
	paravirt_call safe_halt
	jmp cpu_idle
1:	raw_local_irq_enable
	jmp cpu_idle
2:	call leave_mm
	jmp bench_done

/* The host stops here; one that does not gets an idle kernel again. */
bench_done:
	jmp boot_done
