/*
 * lhype, interrupt part: masking interrupts, waiting for them, leaving the kernel; the platform.
 *
 * Enters and leaves as native_cpu.S says. Interrupts are masked by lguest_data.irq_enabled instead of EFLAGS.IF, with
 * the same sense; what the patcher puts in place of a call is the body here (pvfast/paravirt/hypervisors/lhype.py). As
 * in 2.6.23 nobody looks for a pending interrupt when he enables them: it waits for the host's next turn.
 * Next: lhype_memory.S.
 */

.text

lhype_save_fl:
	movl lguest_data + LGUEST_DATA_IRQ_ENABLED, %eax
	ret

/* (EAX: flags) */
lhype_restore_fl:
	movl %eax, lguest_data + LGUEST_DATA_IRQ_ENABLED
	ret

lhype_irq_disable:
	movl $0, lguest_data + LGUEST_DATA_IRQ_ENABLED
	ret

lhype_irq_enable:
	movl $X86_EFLAGS_IF, lguest_data + LGUEST_DATA_IRQ_ENABLED
	ret

/* The host enables interrupts when one comes. */
lhype_safe_halt:
	hcall HALT
	ret

/* With interrupts off nothing could wake us, so this is the end; the host gets a message, as it does of a panic. */
lhype_halt:
	testl $X86_EFLAGS_IF, lguest_data + LGUEST_DATA_IRQ_ENABLED
	jnz lhype_safe_halt
	movl $(lhype_halted - PAGE_OFFSET), %edx
	hcall CRASH
	ret

/*
 * Interrupts are to be as the frame says, from inside the kernel: the instruction itself cannot do it in ring 1. From
 * noirq_start on they may be enabled already, so there the host holds them back. Data segments are the user's here.
 */
lhype_iret:
	pushl %eax
	movl 12(%esp), %eax
lguest_noirq_start:
	movl %eax, %ss:lguest_data + LGUEST_DATA_IRQ_ENABLED
	popl %eax
	iret
lguest_noirq_end:

/* The launcher's page tables are at the end of it, and ours replace them before anybody gets it. */
lhype_memory_setup:
	movl lhype_boot_params, %edx
	movl BOOT_E820_SIZE(%edx), %eax
	cmpl $(LOWMEM_TABLES * PGDIR_SIZE), %eax
	jbe 1f
	movl $(LOWMEM_TABLES * PGDIR_SIZE), %eax
1:	movl %eax, memory_end
	movl $(__stop_data_init_task - PAGE_OFFSET), memory_start
	movl $lguest_memory_name, %eax
	ret

/* Gates for all 32 lines. The controller is a bitmap in lguest_data, which only the timer's has to be cleared in. */
lhype_init_IRQ:
	pushl %ebx
	movl $TIMER_VECTOR, %ebx
	movl $lhype_timer_interrupt, %edx
	movl $GATE_INTERRUPT, %ecx
	call set_gate
1:	incl %ebx
	movl $lhype_unexpected_interrupt, %edx
	movl $GATE_INTERRUPT, %ecx
	call set_gate
	cmpl $(FIRST_EXTERNAL_VECTOR + LGUEST_IRQS - 1), %ebx
	jb 1b
	popl %ebx
	ret

lhype_time_init:
	LOCK_PREFIX
	andl $~1, lguest_data + LGUEST_DATA_BLOCKED_INTERRUPTS
	ret

/* The host has nothing to be told: what it delivers is no longer pending. */
lhype_timer_interrupt:
	pushl $(~TIMER_VECTOR)
	SAVE_ALL
	call do_timer
	jmp ret_from_intr

lhype_unexpected_interrupt:
	pushl $-1
	SAVE_ALL
	incl unexpected_interrupts
	jmp ret_from_intr

/* Seconds since 1970, as of the last interrupt. */
lhype_get_wallclock:
	movl lguest_data + LGUEST_DATA_TIME_SEC, %eax
	ret

/* (EAX: text, EDX: length up to a page), by DMA to the launcher's console, which takes no piece across pages. */
lhype_console_write:
	pushl %ebx
	subl $PAGE_OFFSET, %eax
	movl %eax, lhype_console_dma + LGUEST_DMA_ADDR
	movl %eax, %ecx
	orl $(PAGE_SIZE - 1), %ecx
	incl %ecx
	movl %ecx, lhype_console_dma + LGUEST_DMA_ADDR + 4
	subl %eax, %ecx                 /* as much as its page has */
	cmpl %edx, %ecx
	jbe 1f
	movl %edx, %ecx
1:	movw %cx, lhype_console_dma + LGUEST_DMA_LEN
	subl %ecx, %edx
	movw %dx, lhype_console_dma + LGUEST_DMA_LEN + 2
	movl $LGUEST_CONSOLE_DMA_KEY, %edx
	movl $(lhype_console_dma - PAGE_OFFSET), %ebx
	hcall SEND_DMA
	popl %ebx
	ret

/* There is no local APIC. */
lhype_apic_write:
lhype_apic_write_atomic:
	ret

lhype_apic_read:
	xorl %eax, %eax
	ret

.pushsection .rodata
lguest_memory_name:
	.asciz "LGUEST"
lhype_halted:
	.asciz "Halted with interrupts off"
.popsection

.pushsection .data
.balign 4
lhype_console_dma:
	.fill LGUEST_DMA_LEN + 2 * LGUEST_MAX_DMA_SECTIONS, 1, 0
.popsection
