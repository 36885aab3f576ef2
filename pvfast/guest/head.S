/*
 * The first instructions: what are we on? Then paging (bare hardware), or what knows this hypervisor.
 *
 * Enters: startup_32 at its physical address, flat 32-bit protected mode, paging off, interrupts off, CPL 0; ESI:
 * boot parameters, where the release looks at them. With CPL 1-3 whoever started the kernel has mapped it at its
 * linear addresses. Leaves: start_kernel (main.S) in the linear address space, on the kernel's own stack.
 * Which way a release looks for a hypervisor is told in pvfast/paravirt/probing.py.
 * Next: main.S; Xen's own entry is in xen_head.S and goes on by own_entry.
 */

.text

startup_32:
	.ifdef DISCOVERY_PROBES
	movl %cs, %eax
	testl $SEGMENT_RPL_MASK, %eax
	jnz startup_paravirt
	.endif

	/* Boot loaders that know of hypervisors say so. No address is used here: some have us mapped elsewhere. */
	.ifdef DISCOVERY_HARDWARE_SUBARCH
	cmpw $BOOT_PROTOCOL_2_07, BP_VERSION(%esi)
	jb default_entry
	movl BP_HARDWARE_SUBARCH(%esi), %eax
	cmpl $X86_SUBARCH_PC, %eax
	je default_entry
	cmpl $X86_SUBARCH_LGUEST, %eax
	je lguest_entry
bad_subarch:
	ud2                             /* Xen has its own entry; nothing else is known, and there is no console to say so */
default_entry:
	.endif

	cld
	/* Page tables for the low 16 MiB. Until paging is on, a label is PAGE_OFFSET too high. */
	movl $(pg0 - PAGE_OFFSET), %edi
	movl $__PAGE_KERNEL, %eax
	movl $(LOWMEM_TABLES * PTRS_PER_TABLE), %ecx
1:	stosl
	addl $PAGE_SIZE, %eax
	decl %ecx
	jnz 1b

	/* Each goes into the directory twice: where we are now, and at PAGE_OFFSET. */
	movl $(swapper_pg_dir - PAGE_OFFSET), %edi
	movl $(pg0 - PAGE_OFFSET + __PAGE_KERNEL), %eax
	movl $LOWMEM_TABLES, %ecx
2:	movl %eax, (%edi)
	movl %eax, (PAGE_OFFSET >> (PGDIR_SHIFT - 2))(%edi)
	addl $PAGE_SIZE, %eax
	addl $4, %edi
	decl %ecx
	jnz 2b

	movl $(swapper_pg_dir - PAGE_OFFSET), %eax
	movl %eax, %cr3
	movl %cr0, %eax
	orl $X86_CR0_PAGING, %eax
	movl %eax, %cr0
	movl $3f, %eax
	jmp *%eax

3:	/* Linear addresses from here on; a null pointer shall fault again. */
	movl $swapper_pg_dir, %edi
	xorl %eax, %eax
	movl $LOWMEM_TABLES, %ecx
	rep stosl
	movl %cr3, %eax
	movl %eax, %cr3

	/* The loader's segments are flat but their descriptors are not ours. */
	lgdt cpu_gdt_descr
	ljmp $__KERNEL_CS, $4f
4:	movl $__KERNEL_DS, %eax
	movl %eax, %ds
	movl %eax, %es
	movl %eax, %ss
	xorl %eax, %eax
	movl %eax, %fs
	movl %eax, %gs
	lldt %ax
	jmp start_kernel

.ifdef DISCOVERY_PROBES
/*
 * Not in ring 0: ask each registered probe, in link order, whether it knows this hypervisor. Every register
 * but ESP reaches each probe as it was at entry. A probe that succeeds fills paravirt_ops and does not
 * return; the last one is start_kernel itself (paravirt.S), so there is no test for the end.
 */
startup_paravirt:
	cld
	movl $(init_thread_union + THREAD_SIZE), %esp
	pushl $__start_paravirtprobe
	pushl %edx
	pushl %ecx
	pushl %eax
1:	movl 12(%esp), %eax
	pushl (%eax)                    /* the probe; called from here so that EAX can be restored first */
	movl 4(%esp), %eax
	movl 8(%esp), %ecx
	movl 12(%esp), %edx
	call *(%esp)
	addl $4, %esp
	addl $4, 12(%esp)
	jmp 1b
.endif

/* Registers what looks for a hypervisor that leaves the kernel in ring 0: see native_arch_setup. */
.macro hypervisor_init function
	.pushsection .hypervisorinit, "a"
	.long \function
	.popsection
.endm

.macro paravirt_probe function
	.ifdef DISCOVERY_PROBES
	.pushsection .paravirtprobe, "a"
	.long \function
	.popsection
	.endif
.endm

/*
 * From a hypervisor's own entry to the probe that recognises it: among the others while there are any, else at
 * once; then it is a mistake if it returns.
 */
.macro own_entry probe
	.ifdef DISCOVERY_PROBES
	jmp startup_paravirt
	.else
	movl $(init_thread_union + THREAD_SIZE), %esp
	call \probe
	ud2
	.endif
.endm
