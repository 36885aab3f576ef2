/*
 * Layouts of the kernel's own structures, and the macros of lists; no code.
 *
 * Names are Linux 2.6.20's; of each structure there is as much as this kernel uses.
 * Next: operations.S, atomic.S, more macros; head.S, the first instructions.
 */

/* struct pt_regs: what SAVE_ALL leaves on the stack. */
.equ PT_EBX, 0
.equ PT_ECX, 4
.equ PT_EDX, 8
.equ PT_ESI, 12
.equ PT_EDI, 16
.equ PT_EBP, 20
.equ PT_EAX, 24
.equ PT_DS, 28
.equ PT_ES, 32
.equ PT_GS, 36
.equ PT_ORIG_EAX, 40
.equ PT_EIP, 44
.equ PT_CS, 48
.equ PT_EFLAGS, 52
.equ PT_OLDESP, 56
.equ PT_OLDSS, 60
.equ PT_BYTES, 64

/* struct thread_info, at the low end of the kernel stack. Only the low half of the flags is work to do. */
.equ TI_task, 0
.equ TI_exec_domain, 4
.equ TI_flags, 8
.equ TI_status, 12
.equ TI_cpu, 16
.equ TI_preempt_count, 20
.equ TI_BYTES, 24
.equ _TIF_SIGPENDING, 1 << 2
.equ _TIF_NEED_RESCHED, 1 << 3
.equ _TIF_DEBUG, 1 << 17
.equ TS_USEDFPU, 1

/* struct task_struct, as much as there is of it, with its thread_struct. */
.equ TASK_state, 0
.equ TASK_exit_state, 4
.equ TASK_thread_info, 8
.equ TASK_run_list, 12                  /* lists are two words: next, prev */
.equ TASK_tasks, 20
.equ TASK_children, 28
.equ TASK_sibling, 36
.equ TASK_tgid, 44
.equ TASK_real_parent, 48
.equ TASK_exit_code, 52
.equ TASK_mm, 56
.equ TASK_active_mm, 60
.equ TASK_wait_chldexit, 64             /* wait queue */
.equ TASK_timestamp, 72                 /* u64: when it was last switched to or from, or woken */
.equ TASK_files, 80
.equ TASK_sighand, 84
.equ TASK_blocked, 88
.equ TASK_pending, 92
.equ TASK_sigqueue, 96                  /* the struct sigqueues of what is pending */
.equ TASK_thread, 100
.equ THREAD_tls_array, 0
.equ THREAD_esp0, 24
.equ THREAD_sysenter_cs, 28
.equ THREAD_trap_no, 32                 /* of the last exception in user mode, for its signal's handler */
.equ THREAD_error_code, 36
.equ THREAD_cr2, 40
.equ THREAD_iopl, 44
.equ THREAD_debugreg, 48                /* eight */
.equ THREAD_esp, 80
.equ THREAD_eip, 84
.equ THREAD_fs, 88
.equ THREAD_BYTES, 92
.equ TASK_BYTES, TASK_thread + THREAD_BYTES

.equ TASK_RUNNING, 0
.equ TASK_INTERRUPTIBLE, 1
.equ TASK_DEAD, 64
.equ EXIT_ZOMBIE, 16
.equ EXIT_DEAD, 32

/* struct __wait_queue, on the stack of who waits; a wait queue is a list. */
.equ WAIT_flags, 0
.equ WAIT_task, 4
.equ WAIT_func, 8
.equ WAIT_task_list, 12
.equ WAIT_BYTES, 20

/* struct mm_struct, struct vm_area_struct. */
.equ MM_pgd, 0                          /* linear */
.equ MM_users, 4                        /* tasks whose memory it is */
.equ MM_count, 8                        /* who needs the page directory: all those users are one */
.equ MM_mmap, 12                        /* areas in the order of their addresses */
.equ MM_ldt, 16
.equ MM_ldt_entries, 20
.equ MM_BYTES, 24
.equ VMA_start, 0
.equ VMA_end, 4
.equ VMA_flags, 8
.equ VMA_page_prot, 12
.equ VMA_pages, 16                      /* table of the file's pages from the start of the area on; 0: anonymous */
.equ VMA_next, 20
.equ VMA_BYTES, 24
.equ VM_READ, 0x1
.equ VM_WRITE, 0x2
.equ VM_EXEC, 0x4
.equ VM_SHARED, 0x8
.equ VM_ANON, 0x100                     /* has had anonymous pages: in Linux, that there is an anon_vma */

/* Error code of a page fault. */
.equ PF_PROT, 1
.equ PF_WRITE, 2
.equ PF_USER, 4

/* How many processes; each has a page directory, and so have an execve and a lazy idle task. */
.equ NR_TASKS, 16
.equ NR_MMS, NR_TASKS + 2
.equ NR_AREAS, 128

/* struct file, file_operations, files_struct: fs.h, file.h. */
.equ F_op, 0
.equ F_count, 4
.equ F_pos, 8
.equ F_private, 12
.equ FILE_BYTES, 16
.equ FOP_read, 0
.equ FOP_write, 4
.equ FOP_release, 8
.equ NR_FILES, 48
.equ NR_OPEN, 32
.equ FILES_fd, 0
.equ FILES_BYTES, 4 * NR_OPEN
.equ NAME_BYTES, 32

/* struct pipe_inode_info: pipe_fs_i.h. */
.equ PIPE_wait, 0                       /* wait queue */
.equ PIPE_page, 8
.equ PIPE_offset, 12
.equ PIPE_len, 16
.equ PIPE_readers, 20
.equ PIPE_writers, 24
.equ PIPE_BYTES, 28
.equ NR_PIPES, 20

/* Signals: signal.h, sigcontext.h. */
.equ NSIG, 32
.equ SIGILL, 4
.equ SIGTRAP, 5
.equ SIGBUS, 7
.equ SIGFPE, 8
.equ SIGKILL, 9
.equ SIGUSR1, 10
.equ SIGSEGV, 11
.equ SIGPIPE, 13
.equ SIGCHLD, 17
.equ SIGCONT, 18
.equ SIGSTOP, 19
.equ SIGURG, 23
.equ SIGWINCH, 28
.equ SIG_DFL, 0
.equ SIG_IGN, 1
.equ SA_RESTORER, 0x04000000
.equ SA_RESTART, 0x10000000
.equ SA_NODEFER, 0x40000000
.equ SA_handler, 0
.equ SA_flags, 4
.equ SA_restorer, 8
.equ SA_mask, 12
.equ SIGSET_BYTES, 8
.equ SIGACTION_BYTES, 20
.equ SIGHAND_action, 0
.equ SIGHAND_BYTES, NSIG * SIGACTION_BYTES
.equ SIGQUEUE_next, 0
.equ SIGQUEUE_signo, 4
.equ SIGQUEUE_BYTES, 8
.equ SC_gs, 0
.equ SC_fs, 4
.equ SC_es, 8
.equ SC_ds, 12
.equ SC_EDI, 16
.equ SC_ESI, 20
.equ SC_EBP, 24
.equ SC_ESP, 28
.equ SC_EBX, 32
.equ SC_EDX, 36
.equ SC_ECX, 40
.equ SC_EAX, 44
.equ SC_EIP, 56
.equ SC_CS, 60
.equ SC_EFLAGS, 64
.equ SC_SS, 72
.equ SC_oldmask, 80
.equ SIGCONTEXT_BYTES, 88
.equ SIGFRAME_BYTES, 8 + SIGCONTEXT_BYTES + 4 + 8
.equ FIX_EFLAGS, 0x00040dd5             /* AC, OF, DF, TF, SF, ZF, AF, PF, CF: what a handler may change */

/* An empty list: the head is its own neighbour. */
.macro LIST_HEAD name
\name:
	.long \name, \name
.endm

/* Entry \entry out of its list, and alone. Destroys \scratch. */
.macro list_del_init entry, scratch
	pushl %eax
	movl (\entry), \scratch
	movl 4(\entry), %eax
	movl \scratch, (%eax)
	movl %eax, 4(\scratch)
	movl \entry, (\entry)
	movl \entry, 4(\entry)
	popl %eax
.endm

/* \entry becomes the last of the list \head. Destroys \scratch. */
.macro list_add_tail entry, head, scratch
	movl 4(\head), \scratch
	movl \entry, 4(\head)
	movl \head, (\entry)
	movl \scratch, 4(\entry)
	movl \entry, (\scratch)
.endm
