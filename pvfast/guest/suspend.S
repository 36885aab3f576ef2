/*
 * reboot, of which this kernel has two commands: to halt, and to save the processor's state as a machine that goes
 * to sleep does, and give it back as one that wakes up.
 *
 * Enters: the system call. This machine has no sleep state, so it wakes up at once. Only on bare hardware: what a
 * hypervisor shows of its own tables is not for the guest to load again.
 * Next: msr.S.
 */

.text

/* (magic number, another, command) */
sys_reboot:
	cmpl $LINUX_REBOOT_MAGIC1, %ebx
	jne invalid_argument
	cmpl $LINUX_REBOOT_MAGIC2, %ecx
	jne invalid_argument
	movl 4 + PT_EDX(%esp), %eax
	cmpl $LINUX_REBOOT_CMD_HALT, %eax
	je panic
	cmpl $LINUX_REBOOT_CMD_SW_SUSPEND, %eax
	jne invalid_argument
	cmpl $0, paravirt_ops + PARAVIRT_paravirt_enabled
	jne 1f
	__raw_local_irq_save
	pushl %eax
	call save_processor_state
	paravirt_call wbinvd
	call restore_processor_state
	popl %eax
	raw_local_irq_restore
	xorl %eax, %eax
	ret
1:	movl $-ENODEV, %eax
	ret

save_processor_state:
	movl $saved_gdt, %eax
	paravirt_call store_gdt
	movl $saved_idt, %eax
	paravirt_call store_idt
	paravirt_call store_tr
	movl %eax, saved_tr
	paravirt_call read_cr0
	movl %eax, saved_cr0
	paravirt_call read_cr2
	movl %eax, saved_cr2
	paravirt_call read_cr3
	movl %eax, saved_cr3
	paravirt_call read_cr4_safe
	movl %eax, saved_cr4
	ret

restore_processor_state:
	pushl %ebx
	pushl %esi
	pushl %edi
	movl saved_cr4, %eax
	testl %eax, %eax                /* it may not have this one */
	jz 1f
	paravirt_call write_cr4
1:	movl saved_cr3, %eax
	paravirt_call write_cr3
	movl saved_cr2, %eax
	paravirt_call write_cr2
	movl saved_cr0, %eax
	paravirt_call write_cr0
	movl $saved_gdt, %eax
	paravirt_call load_gdt
	movl $saved_idt, %eax
	paravirt_call load_idt
	call __flush_tlb_all

	/* The TSS is marked busy in the table; loading it again needs one that is not. */
	call set_tss_desc
	paravirt_call load_tr_desc
	movl %gs:PDA_pcurrent, %eax
	movl TASK_mm(%eax), %eax
	movl MM_ldt_entries(%eax), %edx
	movl MM_ldt(%eax), %eax
	paravirt_call set_ldt
	movl %gs:PDA_pcurrent, %ebx
	call load_debug_registers
	popl %edi
	popl %esi
	popl %ebx
	ret

.pushsection .data
.balign 8
saved_gdt:
	.long 0, 0                      /* limit and base, as sgdt stores them */
saved_idt:
	.long 0, 0
saved_tr:
	.long 0
saved_cr0:
	.long 0
saved_cr2:
	.long 0
saved_cr3:
	.long 0
saved_cr4:
	.long 0
.popsection
