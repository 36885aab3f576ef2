/*
 * lhype: its own entry into the kernel, the probe that recognises it, hypercalls, and the memory shared with the host.
 *
 * Enters: behind the signature, in ring 1, paging on with the launcher's tables, which map all memory at PAGE_OFFSET;
 * ESI = physical address of the boot parameters; CS, DS, ES, SS are flat, FS and GS null. From 2.6.24 on in
 * startup_32, which goes to lguest_entry. Leaves: to startup_32, whose ring test leads to the probes, or by own_entry
 * (head.S); lhype_probe fills paravirt_ops and goes to start_kernel.
 * Next: lhype_irq.S, lhype_memory.S hold the operations.
 */

.text

/* EDX, EBX, ECX: arguments; the answer is in EAX. Everything else is kept. */
.macro hcall name
	movl $LHCALL_\name, %eax
	int $LGUEST_TRAP_ENTRY
.endm

.macro lazy_hcall name
	movl $LHCALL_\name, %eax
	call lhype_lazy_hcall
.endm

	lguest_signature
startup_lhype:
	leal PAGE_OFFSET(%esi), %eax
	movl %eax, lhype_boot_params
	.ifdef DISCOVERY_PROBES
	jmp startup_32
	.else
	own_entry lhype_probe
	.endif

/* From startup_32, where the launcher says who it is in the boot parameters: memory is mapped as it is, too. */
lguest_entry:
	movl $startup_lhype, %eax
	jmp *%eax

/* Like every probe: EAX, ECX and EDX are its own; returns when this is not lhype. */
lhype_probe:
	cmpl $0, lhype_boot_params
	jne lhype_start_kernel
	ret

	paravirt_probe lhype_probe

lhype_start_kernel:
	movl $lhype_paravirt_ops, %esi
1:	movl (%esi), %ecx
	movl 4(%esi), %edx
	movl %edx, paravirt_ops(%ecx)
	addl $8, %esi
	cmpl $lhype_paravirt_ops_end, %esi
	jb 1b

	movl %cs, %ecx
	andl $SEGMENT_RPL_MASK, %ecx
	movl %ecx, paravirt_ops + PARAVIRT_kernel_rpl
	movl $1, paravirt_ops + PARAVIRT_paravirt_enabled
	movl $lguest_name, paravirt_ops + PARAVIRT_name
	movl $lhype_console_write, console_write

	movl $(lguest_data - PAGE_OFFSET), %edx
	hcall LGUEST_INIT

	/* Our own page tables for as much memory as there is. paging_init loads them instead of the launcher's. */
	movl lhype_boot_params, %esi
	movl BOOT_E820_SIZE(%esi), %ecx
	shrl $PAGE_SHIFT, %ecx
	cmpl $(LOWMEM_TABLES * PTRS_PER_TABLE), %ecx
	jbe 2f
	movl $(LOWMEM_TABLES * PTRS_PER_TABLE), %ecx
2:	movl $pg0, %edi
	movl $__PAGE_KERNEL, %eax
3:	stosl
	addl $PAGE_SIZE, %eax
	decl %ecx
	jnz 3b
	movl $(swapper_pg_dir + (PAGE_OFFSET >> (PGDIR_SHIFT - 2))), %edi
	movl $(pg0 - PAGE_OFFSET + __PAGE_KERNEL), %eax
	movl $LOWMEM_TABLES, %ecx
4:	stosl
	addl $PAGE_SIZE, %eax
	decl %ecx
	jnz 4b
	jmp start_kernel

/* EAX: number, EDX, EBX, ECX: arguments. At once, or in a lazy mode with others when it ends. Destroys EAX. */
lhype_lazy_hcall:
	cmpl $PARAVIRT_LAZY_NONE, lhype_lazy_mode
	jne 1f
	int $LGUEST_TRAP_ENTRY
	ret

	/* Into the ring, unless it is full: then an ordinary hypercall, before which the host empties it. */
1:	pushl %esi
	pushl %edi
	pushl lguest_data + LGUEST_DATA_IRQ_ENABLED
	movl $0, lguest_data + LGUEST_DATA_IRQ_ENABLED
	movl lhype_next_call, %esi
	cmpb $LHCALL_DONE, lguest_data + LGUEST_DATA_HCALL_STATUS(%esi)
	jne 2f
	imull $LHCALL_ENTRY_BYTES, %esi, %edi
	movl %eax, lguest_data + LGUEST_DATA_HCALLS(%edi)
	movl %edx, lguest_data + LGUEST_DATA_HCALLS + 4(%edi)
	movl %ebx, lguest_data + LGUEST_DATA_HCALLS + 8(%edi)
	movl %ecx, lguest_data + LGUEST_DATA_HCALLS + 12(%edi)
	movb $LHCALL_PENDING, lguest_data + LGUEST_DATA_HCALL_STATUS(%esi)
	incl %esi
	andl $(LHCALL_RING_SIZE - 1), %esi
	movl %esi, lhype_next_call
	jmp 3f
2:	int $LGUEST_TRAP_ENTRY
3:	popl lguest_data + LGUEST_DATA_IRQ_ENABLED
	popl %edi
	popl %esi
	ret

/* (EAX: mode). Every end of a mode, and a flush inside one, hands the ring over. */
lhype_set_lazy_mode:
	cmpl $PARAVIRT_LAZY_FLUSH, %eax
	je 1f
	movl %eax, lhype_lazy_mode
	testl %eax, %eax
	jz 2f
	ret
1:	cmpl $PARAVIRT_LAZY_NONE, lhype_lazy_mode
	jne 2f
	ret
2:	hcall FLUSH_ASYNC
	ret

/* From 2.6.24 on each mode has a pair of operations. */
lhype_enter_lazy_mmu:
	movl $PARAVIRT_LAZY_MMU, lhype_lazy_mode
	ret

lhype_enter_lazy_cpu:
	movl $PARAVIRT_LAZY_CPU, lhype_lazy_mode
	ret

lhype_leave_lazy_mmu:
lhype_leave_lazy_cpu:
	movl $PARAVIRT_LAZY_NONE, lhype_lazy_mode
	hcall FLUSH_ASYNC
	ret

.pushsection .data
.balign 4
lhype_boot_params:
	.long 0                         /* linear; 0: not started by lhype's launcher */
lhype_lazy_mode:
	.long PARAVIRT_LAZY_NONE
lhype_next_call:
	.long 0

/* Shared with the host: irq_enabled 0, and the timer blocked until time_init. */
lguest_data:
	.long 0
	.long 1
	.fill (LGUEST_DATA_HCALL_STATUS - LGUEST_DATA_CR2) / 4, 4, 0
	.fill LHCALL_RING_SIZE, 1, LHCALL_DONE
	.fill (LGUEST_DATA_NOIRQ_START - LGUEST_DATA_HCALLS) / 4, 4, 0
	.long lguest_noirq_start
	.long lguest_noirq_end
.popsection

.pushsection .rodata
lguest_name:
	.asciz "lguest"
.popsection

/* Which operations lhype needs; the others stay native, for they need no privilege or may fail. */
.macro lhype_operation name
	.ifdef PARAVIRT_\name
	.long PARAVIRT_\name, lhype_\name
	.endif
.endm

.pushsection .rodata
.balign 4
lhype_paravirt_ops:
	lhype_operation memory_setup
	lhype_operation init_IRQ
	lhype_operation get_wallclock
	lhype_operation time_init
	lhype_operation cpuid
	lhype_operation get_debugreg
	lhype_operation set_debugreg
	lhype_operation clts
	lhype_operation read_cr0
	lhype_operation write_cr0
	lhype_operation read_cr2
	lhype_operation write_cr2
	lhype_operation read_cr3
	lhype_operation write_cr3
	lhype_operation read_cr4
	lhype_operation write_cr4
	lhype_operation save_fl
	lhype_operation restore_fl
	lhype_operation irq_disable
	lhype_operation irq_enable
	lhype_operation safe_halt
	lhype_operation halt
	lhype_operation wbinvd
	lhype_operation load_tr_desc
	lhype_operation load_gdt
	lhype_operation load_idt
	lhype_operation set_ldt
	lhype_operation load_tls
	lhype_operation write_gdt_entry
	lhype_operation write_idt_entry
	lhype_operation load_esp0
	lhype_operation apic_write
	lhype_operation apic_write_atomic
	lhype_operation apic_read
	lhype_operation flush_tlb_user
	lhype_operation flush_tlb_kernel
	lhype_operation flush_tlb_single
	lhype_operation set_pte
	lhype_operation set_pte_at
	lhype_operation set_pmd
	lhype_operation set_lazy_mode
	lhype_operation enter_lazy_mmu
	lhype_operation leave_lazy_mmu
	lhype_operation enter_lazy_cpu
	lhype_operation leave_lazy_cpu
	lhype_operation iret
lhype_paravirt_ops_end:
.popsection
