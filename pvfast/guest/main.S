/*
 * start_kernel: the boot order, in assembly what Linux says in C.
 *
 * Enters: from head.S (bare hardware) or from a successful probe (xen_head.S), in the linear address space.
 * Everything that touches the machine goes through paravirt_ops, so this file is the same on both.
 * Leaves: the label boot_done, an idle loop with interrupts enabled. A host stops there, and starts a
 * benchmark (bench.S) or injects an interrupt from there.
 * Next: paging_init.S; traps.S (gates), entry.S (what the gates lead to).
 */

.text

start_kernel:
	cld
	movl $(init_thread_union + THREAD_SIZE), %esp
	call vmi_init                   /* Linux does it when low memory has been mapped, as it is here */
	paravirt_call arch_setup
	paravirt_call memory_setup
	movl %eax, memory_map_name
	call cpu_init                   /* Linux has the processor's features and %gs since head.S */
	call paging_init
	paravirt_hook post_allocator_init
	call trap_init
	paravirt_call init_IRQ
	call time_boot
	paravirt_call time_init
	.ifdef PARAVIRT_get_cpu_khz
	paravirt_call get_cpu_khz
	movl %eax, cpu_khz
	.endif
	paravirt_hook setup_boot_clock
	call mem_init
	raw_local_irq_enable
	call check_fpu
	paravirt_call banner

boot_done:
	paravirt_call safe_halt
	jmp boot_done

/*
 * This processor's own descriptors: the per-CPU segment, which every entry into the kernel loads into %gs,
 * and the task-state segment, which says where the kernel's stack is when user code is interrupted.
 */
cpu_init:
	movl $boot_pda, %ecx
	movl $DESCRIPTOR_DATA_4G, %edx
	movl $GDT_ENTRY_PDA, %eax
	movl $0x0000ffff, %ebx
	call write_segment
	call set_tss_desc

	movl $cpu_gdt_descr, %eax
	paravirt_call load_gdt
	movl $__KERNEL_PDA, %eax
	movl %eax, %gs

	paravirt_call load_tr_desc
	movl $init_tss, %eax
	movl $(init_task + TASK_thread), %edx
	paravirt_call load_esp0
	xorl %eax, %eax
	xorl %edx, %edx
	paravirt_call set_ldt

/* The second way into the kernel, where the processor has it and the hypervisor does not hide it. */
enable_sep_cpu:
	subl $16, %esp                  /* eax, ebx, ecx, edx of CPUID */
	movl $1, (%esp)
	movl $0, 8(%esp)
	movl %esp, %eax
	leal 4(%esp), %edx
	leal 8(%esp), %ecx
	leal 12(%esp), %ebx
	pushl %ebx
	paravirt_call cpuid
	addl $4, %esp
	movl 12(%esp), %eax
	movl %eax, boot_cpu_capability
	addl $16, %esp
	btl $X86_FEATURE_SEP, %eax
	jnc 1f

	movl $__KERNEL_CS, %edx
	xorl %ecx, %ecx
	movl $MSR_IA32_SYSENTER_CS, %eax
	paravirt_call write_msr
	movl $init_tss, %edx            /* sysenter_entry finds esp0 there */
	xorl %ecx, %ecx
	movl $MSR_IA32_SYSENTER_ESP, %eax
	paravirt_call write_msr
	movl $sysenter_entry, %edx
	xorl %ecx, %ecx
	movl $MSR_IA32_SYSENTER_EIP, %eax
	paravirt_call write_msr
	movl $1, sysenter_enabled
1:	ret

/* Programs may use FXSAVE, and what needs it. TS: nobody's registers are in the FPU yet. */
check_fpu:
	paravirt_call clts
	fninit
	paravirt_call read_cr0
	orl $X86_CR0_TS, %eax
	paravirt_call write_cr0
	btl $X86_FEATURE_FXSR, boot_cpu_capability
	jnc 1f
	movl $X86_CR4_OSFXSR, %eax

/* (EAX: bits) */
set_in_cr4:
	pushl %eax
	paravirt_call read_cr4
	popl %edx
	orl %edx, %eax
	paravirt_call write_cr4
1:	ret

/* A task-state segment that is not in use yet: the processor loads no other. */
set_tss_desc:
	movl $init_tss, %ecx
	movl $DESCRIPTOR_TSS, %edx
	movl $GDT_ENTRY_TSS, %eax
	movl $(TSS_BYTES - 1), %ebx

/* GDT entry EAX becomes a segment with base ECX, limit EBX and rights EDX (bits of the high word). */
write_segment:
	movl %ecx, %esi
	shll $16, %esi
	orl %ebx, %esi                  /* low word: limit 15-0, base 15-0 */
	movl %ecx, %edi
	andl $0xff000000, %edi
	orl %edi, %edx
	shrl $16, %ecx
	andl $0x000000ff, %ecx
	orl %ecx, %edx                  /* high word: base 31-24, rights, base 23-16 */
	pushl %edx                      /* the fourth argument */
	movl %esi, %ecx
	movl %eax, %edx
	movl $cpu_gdt_table, %eax
	write_entry write_gdt_entry
	addl $4, %esp
	ret

/* Print the zero-terminated string at EAX on whatever the hypervisor has for a console. */
printk:
	pushl %edi
	movl %eax, %edi
	xorl %eax, %eax
	movl $-1, %ecx
	repne scasb
	movl $-2, %edx
	subl %ecx, %edx                 /* length */
	movl %edi, %eax
	subl %edx, %eax
	decl %eax
	popl %edi
	jmp *console_write

.pushsection .data
memory_map_name:
	.long 0                         /* what memory_setup answered */
boot_cpu_capability:
	.long 0                         /* CPUID function 1, EDX, as the cpuid operation shows it */
sysenter_enabled:
	.long 0
	.ifdef PARAVIRT_get_cpu_khz
cpu_khz:
	.long 0
	.endif
console_write:
	.long serial_write              /* (EAX: text, EDX: length) */
.popsection
