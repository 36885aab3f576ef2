/*
 * Numbers that every other file of the guest kernel uses; no code.
 *
 * What is not here comes from Python (prelude.py): PAGE_OFFSET, USER_TEXT and USER_DATA, the offsets
 * PARAVIRT_* of paravirt_ops, CLBR_*, paravirt_call and the macros of the patch sites, and Xen's interface. The
 * values are Linux 2.6.20's for i386 wherever that kernel has the thing at all.
 * Next: structures.S, the layouts; operations.S, atomic.S, macros; head.S, the first instructions.
 */

/* Memory: pgtable.h, page.h, thread_info.h. */
.equ PAGE_SIZE, 4096
.equ PAGE_SHIFT, 12
.equ PAGE_MASK, 0xfffff000
.equ PTRS_PER_TABLE, 1024
.equ LOWMEM_TABLES, 4                   /* page tables made at boot: 16 MiB */
.equ THREAD_SIZE, 8192

.equ _PAGE_PRESENT, 0x001
.equ _PAGE_RW, 0x002
.equ _PAGE_USER, 0x004
.equ _PAGE_ACCESSED, 0x020
.equ _PAGE_DIRTY, 0x040
.equ _PAGE_GLOBAL, 0x100
.equ _PAGE_TABLE, 0x067                 /* present, writable, user, accessed, dirty */
.equ __PAGE_KERNEL, 0x063               /* present, writable, accessed, dirty */
.equ PAGE_KERNEL_RO, 0x061
.equ PAGE_READONLY, 0x025               /* present, user, accessed */
.equ PAGE_COPY, 0x025                   /* the same: a write is a fault, which copies the page */
.equ PAGE_SHARED, 0x027                 /* present, writable, user, accessed */

/* Processor: cr0, EFLAGS, MSRs, CPUID function 1. */
.equ X86_CR0_EM, 0x00000004
.equ X86_CR0_TS, 0x00000008
.equ X86_CR0_PAGING, 0x80010000         /* PG, and WP so that the kernel too respects read-only pages */
.equ X86_EFLAGS_RESERVED, 0x002
.equ X86_EFLAGS_TF, 0x100
.equ X86_EFLAGS_IF, 0x200
.equ X86_EFLAGS_IOPL, 0x3000
.equ X86_EFLAGS_VM, 0x20000
.equ IOPL_SHIFT, 12
.equ X86_CR4_PGE, 0x080
.equ X86_CR4_OSFXSR, 0x200
.equ DR_LAST_ADDRESS, 3
.equ DR_STATUS, 6
.equ DR_CONTROL, 7
.equ DR_CONTROL_RESERVED, 0xfc00
.equ MSR_IA32_SYSENTER_CS, 0x174
.equ MSR_IA32_SYSENTER_ESP, 0x175
.equ MSR_IA32_SYSENTER_EIP, 0x176
.equ X86_FEATURE_SEP, 11
.equ X86_FEATURE_APIC, 9
.equ X86_FEATURE_PGE, 13
.equ X86_FEATURE_MMX, 23
.equ X86_FEATURE_FXSR, 24

/* Global descriptor table: segment.h. SYSEXIT demands the order kernel CS, kernel DS, user CS, user DS. */
.equ GDT_ENTRIES, 32
.equ GDT_ENTRY_TLS_MIN, 6
.equ GDT_ENTRY_TLS_MAX, 8
.equ GDT_ENTRY_TSS, 16
.equ GDT_ENTRY_LDT, 17
.equ GDT_ENTRY_PDA, 27
.equ __KERNEL_CS, 0x60
.equ __KERNEL_DS, 0x68
.equ __USER_CS, 0x73
.equ __USER_DS, 0x7b
.equ __KERNEL_PDA, GDT_ENTRY_PDA * 8    /* %gs in the kernel: the per-CPU area */
.equ SEGMENT_RPL_MASK, 3
.equ USER_RPL, 3

/* Descriptor words: the high one has type and rights in bits 8-15. */
.equ DESCRIPTOR_DATA_4G, 0x00cf9200     /* writable data, 4 GiB limit; Xen raises the DPL */
.equ DESCRIPTOR_TSS, 0x00008900         /* available 32-bit TSS */
.equ DESCRIPTOR_LDT, 0x00008200
.equ DESCRIPTOR_USER, 0x00007000        /* code or data, DPL 3 */
.equ DESCRIPTOR_AVL, 0x00100000
.equ GATE_INTERRUPT, 0x8e00             /* present, DPL 0, clears IF */
.equ GATE_TRAP, 0x8f00                  /* present, DPL 0, leaves IF */
.equ GATE_SYSTEM, 0xef00                /* present, DPL 3, leaves IF */

/* Vectors. */
.equ IDT_ENTRIES, 256
.equ EXCEPTIONS, 20
.equ VECTOR_DB, 1
.equ VECTOR_NM, 7
.equ VECTOR_GP, 13
.equ VECTOR_PF, 14
.equ VECTOR_IRET, 32                    /* no vector: what do_exception is told when a return fails */
.equ FIRST_EXTERNAL_VECTOR, 0x20
.equ TIMER_VECTOR, 0x20
.equ EXTERNAL_VECTORS, 16               /* both 8259A */
.equ SYSCALL_VECTOR, 0x80

/* struct tss_struct. */
.equ TSS_BYTES, 104
.equ TSS_esp0, 4
.equ TSS_ss0, 8
.equ TSS_ss1, 16                        /* holds what MSR_IA32_SYSENTER_CS holds, to spare the wrmsr */
.equ TSS_io_bitmap_base, 102

/* struct i386_pda, the per-CPU data; percpu.S lays it out. */
.equ PDA_pcurrent, 8

/* A process: text, data and stack of the built-in programs, then what it maps. USER_DATA comes from Python. */
.equ USER_TEXT_PAGES, (USER_DATA - USER_TEXT) / PAGE_SIZE
.equ USER_DATA_PAGES, 2
.equ USER_STACK_TOP, PAGE_OFFSET
.equ USER_STACK_PAGES, 4
.equ TASK_UNMAPPED_BASE, 0x40000000
.equ SHARED_FILE_PAGES, 64
.equ PGDIR_SHIFT, 22
.equ PGDIR_SIZE, 1 << PGDIR_SHIFT
.equ USER_PTRS_PER_PGD, PAGE_OFFSET >> PGDIR_SHIFT
.equ USER_TEXT_INDEX, (USER_TEXT >> PAGE_SHIFT) & (PTRS_PER_TABLE - 1)

.equ PROT_READ, 1
.equ PROT_WRITE, 2
.equ PROT_EXEC, 4
.equ MAP_SHARED, 0x01
.equ MAP_PRIVATE, 0x02
.equ MAP_FIXED, 0x10
.equ MAP_ANONYMOUS, 0x20
.equ WNOHANG, 1

/* System calls and errors: unistd.h, errno.h. */
.equ __NR_exit, 1
.equ __NR_fork, 2
.equ __NR_read, 3
.equ __NR_write, 4
.equ __NR_open, 5
.equ __NR_close, 6
.equ __NR_waitpid, 7
.equ __NR_execve, 11
.equ __NR_time, 13
.equ __NR_lseek, 19
.equ __NR_getpid, 20
.equ __NR_stime, 25
.equ __NR_ptrace, 26
.equ __NR_kill, 37
.equ __NR_pipe, 42
.equ __NR_getppid, 64
.equ __NR_gettimeofday, 78
.equ __NR_reboot, 88
.equ __NR_munmap, 91
.equ __NR_iopl, 110
.equ __NR_sigreturn, 119
.equ __NR_modify_ldt, 123
.equ __NR_rt_sigaction, 174
.equ __NR_mmap2, 192
.equ __NR_set_thread_area, 243
.equ NR_syscalls, 320
.equ CYC2NS_SCALE_FACTOR, 10
.equ NSEC_PER_TICK, 1000000             /* HZ is 1000 */
.equ NSEC_PER_SEC, 1000000000
.equ ENOENT, 2
.equ ESRCH, 3
.equ EINTR, 4
.equ EIO, 5
.equ EBADF, 9
.equ ECHILD, 10
.equ EAGAIN, 11
.equ ENOMEM, 12
.equ EFAULT, 14
.equ ENODEV, 19
.equ EINVAL, 22
.equ ENFILE, 23
.equ EMFILE, 24
.equ EPIPE, 32
.equ ENOSYS, 38
.equ ERESTARTSYS, 512

/* ptrace.h, user.h. */
.equ PTRACE_PEEKUSR, 3
.equ PTRACE_POKEUSR, 6
.equ USER_u_debugreg, 252               /* in struct user */

/* struct user_desc, of set_thread_area and modify_ldt: asm-i386/ldt.h. */
.equ USER_DESC_entry_number, 0
.equ USER_DESC_base_addr, 4
.equ USER_DESC_limit, 8
.equ USER_DESC_flags, 12
.equ USER_DESC_BYTES, 16
.equ USER_DESC_FLAGS, 0x7f
.equ USER_DESC_EMPTY, 0x28              /* read_exec_only, seg_not_present */
.equ USER_DESC_CONTENTS, 0x06
.equ USER_DESC_NOT_PRESENT, 0x20
.equ LDT_ENTRIES, 512                   /* a page of them */
.equ LDT_WRITE_OLD, 1                   /* modify_ldt's functions; 0 reads */
.equ LDT_WRITE, 0x11

/* reboot.h. */
.equ LINUX_REBOOT_MAGIC1, 0xfee1dead
.equ LINUX_REBOOT_MAGIC2, 672274793
.equ LINUX_REBOOT_CMD_HALT, 0xcdef0123
.equ LINUX_REBOOT_CMD_SW_SUSPEND, 0xd000fce2

/* Ports of the PC. */
.equ PIC1_CMD, 0x20
.equ PIC1_DATA, 0x21
.equ PIC2_CMD, 0xa0
.equ PIC2_DATA, 0xa1
.equ PIC_EOI, 0x20
.equ PIT_CHANNEL2, 0x42
.equ PIT_MODE, 0x43
.equ PIT_CHANNEL2_ONESHOT, 0xb0         /* low byte, then high byte; mode 0 */
.equ PIT_TICKS_PER_MS, 1193
.equ PIT_GATE, 0x61
.equ PIT_GATE2, 0x01
.equ PIT_SPEAKER, 0x02
.equ PIT_OUT2, 0x20
.equ PIT_TRIES, 0x10000
.equ RTC_INDEX, 0x70
.equ RTC_DATA, 0x71
.equ IO_DELAY_PORT, 0x80
.equ COM1_DATA, 0x3f8
.equ COM1_STATUS, 0x3fd
.equ COM1_READY, 0x20
.equ COM1_TRIES, 100
.equ UDELAY_1, 0x10c7                   /* a microsecond for const_udelay: 2^32 / 10^6 */
.equ APIC_BASE, 0xffffd000              /* a fixmap address; this kernel maps no local APIC there */
