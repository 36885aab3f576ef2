/*
 * Data with an address that somebody else must know: descriptor tables, the per-CPU area, stacks, page tables.
 *
 * No code. In the kernel %gs addresses the per-CPU area (boot_pda), as in 2.6.20; Xen's struct vcpu_info lies
 * inside it, so that one instruction can mask events. Pages that the processor or a hypervisor is told about
 * have a page each.
 * Next: paravirt.S, the last file.
 */

.section .data.page, "aw"
.balign 4096

/* One page: Xen takes descriptor tables by the page. */
cpu_gdt_table:
	.fill 12, 8, 0
	.quad 0x00cf9a000000ffff        /* __KERNEL_CS */
	.quad 0x00cf92000000ffff        /* __KERNEL_DS */
	.quad 0x00cffa000000ffff        /* __USER_CS */
	.quad 0x00cff2000000ffff        /* __USER_DS */
	.fill GDT_ENTRIES - 16, 8, 0    /* TSS, LDT and per-CPU area: cpu_init */
	.balign 4096

boot_pda:
	.long boot_pda                  /* _pda */
per_cpu__cpu_number:
	.long 0
	.long init_task                 /* pcurrent */
	.long 0                         /* irq_regs */
per_cpu__xen_vcpu:
	.long 0                         /* pointer to this CPU's vcpu_info, wherever it is */
per_cpu__xen_cr3:
	.long 0
per_cpu__xen_ldt:
	.long 0                         /* linear address of the LDT that Xen has, and how many descriptors it holds */
per_cpu__xen_ldt_entries:
	.long 0
	.balign 64
per_cpu__xen_vcpu_info:
	.fill 16, 4, 0
	.balign 4096

.equ xen_vcpu, per_cpu__xen_vcpu - boot_pda
.equ xen_cr3, per_cpu__xen_cr3 - boot_pda
.equ xen_ldt, per_cpu__xen_ldt - boot_pda
.equ xen_ldt_entries, per_cpu__xen_ldt_entries - boot_pda
.equ xen_vcpu_info, per_cpu__xen_vcpu_info - boot_pda

/* Filled by Xen before it enters; unused elsewhere. */
hypercall_page:
	.fill 1024, 4, 0

/* A hole for Xen's shared_info: its page is mapped here instead of this one. */
xen_shared_info_page:
	.fill 1024, 4, 0

/* The bytes of .user.text and .user.data are put here. */
user_text_page:
	.space USER_TEXT_PAGES * PAGE_SIZE, 0
user_data_page:
	.space USER_DATA_PAGES * PAGE_SIZE, 0
/* Nothing, to be read. */
empty_zero_page:
	.space PAGE_SIZE, 0
user_pages_end:

/* Where a module is loaded. */
module_page:
	.fill 1024, 4, 0

swapper_pg_dir:
	.fill 1024, 4, 0
pg0:
	.fill LOWMEM_TABLES * 1024, 4, 0
user_pg_table:
	.fill 1024, 4, 0

.section .data.init_task, "aw"
.balign 8192
init_thread_union:
	.long init_task                 /* thread_info */
	.long 0                         /* exec_domain */
	.long 0                         /* flags */
	.long 0                         /* status */
	.long 0                         /* cpu */
	.long 0                         /* preempt_count */
	.space THREAD_SIZE - 24, 0

.data
.balign 8
cpu_gdt_descr:
	.word GDT_ENTRIES * 8 - 1
	.long cpu_gdt_table
	.word 0
idt_descr:
	.word IDT_ENTRIES * 8 - 1
	.long idt_table
	.word 0
idt_table:
	.fill IDT_ENTRIES, 8, 0

init_tss:
	.long 0                         /* back_link */
	.long init_thread_union + THREAD_SIZE   /* esp0 */
	.long __KERNEL_DS               /* ss0 */
	.long 0                         /* esp1 */
	.long __KERNEL_CS               /* ss1: what MSR_IA32_SYSENTER_CS holds */
	.fill 20, 4, 0
	.word 0
	.word TSS_BYTES                 /* io_bitmap_base: behind the limit, so there is none */

/* The idle task is the boot context. */
init_task:
	.long TASK_RUNNING, 0           /* state, exit_state */
	.long init_thread_union
	.long init_task + TASK_run_list, init_task + TASK_run_list
	.long 0, 0                      /* in no list of tasks */
	.long init_task + TASK_children, init_task + TASK_children
	.long 0, 0
	.long 0                         /* tgid */
	.long child_reaper              /* real_parent */
	.long 0                         /* exit_code */
	.long 0, init_mm                /* mm, active_mm */
	.long init_task + TASK_wait_chldexit, init_task + TASK_wait_chldexit
	.long 0, 0                      /* timestamp */
	.long init_files
	.long init_sighand
	.long 0, 0, 0                   /* blocked, pending, sigqueue */
	.fill 6, 4, 0                   /* thread.tls_array */
	.long init_thread_union + THREAD_SIZE   /* thread.esp0 */
	.long __KERNEL_CS               /* thread.sysenter_cs */
	.space THREAD_BYTES - THREAD_sysenter_cs - 4, 0

/* Process 1: the parent of the first process and of orphans. It never runs, and waits for nobody. */
child_reaper:
	.space TASK_children, 0
	.long child_reaper + TASK_children, child_reaper + TASK_children
	.long 0, 0
	.long 1                         /* tgid: what getppid answers */
	.long child_reaper
	.space TASK_BYTES - TASK_exit_code, 0
