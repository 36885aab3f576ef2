/*
 * Bare hardware, platform part: interrupt controllers, clocks, console, and the patch function.
 *
 * Enters and leaves as native_cpu.S says. The ports are those of a PC; where a machine has no such device,
 * a write goes nowhere and a read gives all ones, and the kernel boots all the same.
 * Next: paravirt.S, the table; xen_head.S, the other way to fill it.
 */

.text

/* (EAX: type, EDX: clobbers, ECX: instructions, stack: from 2.6.23 on their place; length). The patcher is outside: leave all as it is. */
native_patch:
	movl (ARGUMENTS_patch - 3) * 4(%esp), %eax
	ret

/* Hypervisors that leave a kernel in ring 0 are looked for here: each changes the operations that it wants, and returns. */
native_arch_setup:
	pushl %ebx
	movl $__start_hypervisorinit, %ebx
1:	call *(%ebx)
	addl $4, %ebx
	cmpl $__stop_hypervisorinit, %ebx
	jb 1b
	popl %ebx
	ret

/* Behind the image, up to the first MiB that keeps nothing. There is no BIOS to ask. */
native_memory_setup:
	movl $(__stop_data_init_task - PAGE_OFFSET), memory_start
	movl $(PAGE_OFFSET + MIB), %eax
1:	addl $MIB, %eax
	cmpl $(PAGE_OFFSET + LOWMEM_TABLES * PGDIR_SIZE), %eax
	jae 2f
	movl (%eax), %ecx
	notl %ecx
	movl %ecx, (%eax)
	cmpl %ecx, (%eax)
	jne 2f
	notl (%eax)
	jmp 1b
2:	subl $PAGE_OFFSET, %eax
	movl %eax, memory_end
	movl $machine_name, %eax
	ret

.equ MIB, 0x100000

/*
 * Gates for the sixteen lines, and the 8259A pair moved away from the exceptions. All lines stay masked: a
 * benchmark must not be interrupted. A host that wants ticks unmasks line 0, or injects the vector.
 */
native_init_IRQ:
	pushl %ebx
	movl $TIMER_VECTOR, %ebx
	movl $timer_interrupt, %edx
	movl $GATE_INTERRUPT, %ecx
	call set_gate
1:	incl %ebx
	movl $unexpected_interrupt, %edx
	movl $GATE_INTERRUPT, %ecx
	call set_gate
	cmpl $(FIRST_EXTERNAL_VECTOR + EXTERNAL_VECTORS - 1), %ebx
	jb 1b
	popl %ebx

	movb $0xff, %al                 /* OCW1: mask everything */
	outb %al, $PIC1_DATA
	outb %al, $PIC2_DATA
	movb $0x11, %al                 /* ICW1: cascade, ICW4 follows */
	outb %al, $PIC1_CMD
	outb %al, $PIC2_CMD
	movb $FIRST_EXTERNAL_VECTOR, %al
	outb %al, $PIC1_DATA            /* ICW2: vectors */
	movb $(FIRST_EXTERNAL_VECTOR + 8), %al
	outb %al, $PIC2_DATA
	movb $0x04, %al                 /* ICW3: the slave is on line 2 */
	outb %al, $PIC1_DATA
	movb $0x02, %al
	outb %al, $PIC2_DATA
	movb $0x01, %al                 /* ICW4: 8086 mode, explicit end of interrupt */
	outb %al, $PIC1_DATA
	outb %al, $PIC2_DATA
	movb $0xff, %al
	outb %al, $PIC1_DATA
	outb %al, $PIC2_DATA
	ret

/* The interval timer is left alone; see native_init_IRQ. */
native_time_init:
	ret

native_banner:
	movl $banner_text, %eax
	call printk
	movl paravirt_ops + PARAVIRT_name, %eax
	call printk
	movl $newline, %eax
	jmp printk

/* Seconds since midnight, as the clock chip tells it; the date does not matter here. */
native_get_wallclock:
	pushl %ebx
	movl $4, %eax                   /* hours */
	call rtc_read
	imull $60, %eax, %ebx
	movl $2, %eax                   /* minutes */
	call rtc_read
	addl %eax, %ebx
	imull $60, %ebx, %ebx
	xorl %eax, %eax                 /* seconds */
	call rtc_read
	addl %ebx, %eax
	popl %ebx
	ret

/* EAX: register; answers its value, which the chip holds as two decimal digits. */
rtc_read:
	outb %al, $RTC_INDEX
	paravirt_call io_delay
	inb $RTC_DATA, %al
	movzbl %al, %eax
	pushl %eax
	paravirt_call io_delay
	popl %eax
	movl %eax, %edx
	andl $15, %edx
	shrl $4, %eax
	imull $10, %eax, %eax
	addl %edx, %eax
	ret

/* The clock chip is nobody's to set: -EINVAL. */
native_set_wallclock:
	movl $-EINVAL, %eax
	ret

native_io_delay:
	outb %al, $IO_DELAY_PORT
	ret

/* (EAX: seconds / 2^32). A turn of the loop is taken for two cycles of a nanosecond each; 2.6.20 would measure it. */
.ifdef PARAVIRT_const_udelay
native_const_udelay:
	movl $(NSEC_PER_SEC / 2), %edx
	mull %edx
1:	decl %edx
	jns 1b
	ret
.endif

/* The time-stamp counter's frequency in kHz, by one millisecond of the interval timer; 0 without a timer. */
.ifdef PARAVIRT_get_cpu_khz
native_get_cpu_khz:
	pushl %ebx
	pushl %esi
	inb $PIT_GATE, %al
	andb $~PIT_SPEAKER, %al
	orb $PIT_GATE2, %al
	outb %al, $PIT_GATE
	movb $PIT_CHANNEL2_ONESHOT, %al
	outb %al, $PIT_MODE
	movb $(PIT_TICKS_PER_MS & 0xff), %al
	outb %al, $PIT_CHANNEL2
	movb $(PIT_TICKS_PER_MS >> 8), %al
	outb %al, $PIT_CHANNEL2
	paravirt_call read_tsc
	movl %eax, %esi
	movl $PIT_TRIES, %ebx
1:	inb $PIT_GATE, %al
	testb $PIT_OUT2, %al
	jnz 2f
	decl %ebx
	jnz 1b
2:	paravirt_call read_tsc
	subl %esi, %eax
	cmpl $(PIT_TRIES - 1), %ebx
	jb 3f
	xorl %eax, %eax                 /* over at the first look: nothing has counted */
3:	popl %esi
	popl %ebx
	ret
.endif

/* EDX:EAX, in cycles. */
.ifdef PARAVIRT_get_scheduled_cycles
native_get_scheduled_cycles:
	rdtsc
	ret
.endif

/* EDX:EAX, in nanoseconds: cycles * (10^6 << 10) / kHz >> 10, with ticks instead where the frequency is not known. */
.ifdef PARAVIRT_sched_clock
native_sched_clock:
	pushl %ebx
	pushl %esi
	movl cpu_khz, %esi
	testl %esi, %esi
	jz 1f
	xorl %edx, %edx
	movl $(1000000 << CYC2NS_SCALE_FACTOR), %eax
	divl %esi
	movl %eax, %esi
	paravirt_call read_tsc
	movl %edx, %ebx
	mull %esi
	imull %esi, %ebx
	addl %ebx, %edx
	shrdl $CYC2NS_SCALE_FACTOR, %edx, %eax
	shrl $CYC2NS_SCALE_FACTOR, %edx
	jmp 2f
1:	movl $NSEC_PER_TICK, %eax
	mull jiffies
2:	popl %esi
	popl %ebx
	ret
.endif

/* No local APIC is used: the interval timer is this processor's clock too. */
.ifdef PARAVIRT_setup_boot_clock
native_setup_boot_clock:
native_setup_secondary_clock:
	ret
.endif

.ifdef PARAVIRT_apic_write
/* (EAX: register, EDX: value) */
native_apic_write:
	movl %edx, APIC_BASE(%eax)
	ret

native_apic_write_atomic:
	xchgl %edx, APIC_BASE(%eax)
	ret

native_apic_read:
	movl APIC_BASE(%eax), %eax
	ret
.endif

/* (EAX: text, EDX: length), to the first serial port. Without one, every wait ends at once. */
serial_write:
	pushl %esi
	pushl %ebx
	movl %eax, %esi
	movl %edx, %ebx
1:	decl %ebx
	js 4f
	movl $COM1_TRIES, %ecx
	movl $COM1_STATUS, %edx
2:	inb %dx, %al
	testb $COM1_READY, %al
	jnz 3f
	.ifdef PARAVIRT_const_udelay
	pushl %ecx
	movl $UDELAY_1, %eax
	paravirt_call const_udelay
	popl %ecx
	movl $COM1_STATUS, %edx
	.endif
	decl %ecx
	jnz 2b
3:	movl $COM1_DATA, %edx
	movb (%esi), %al
	incl %esi
	outb %al, %dx
	jmp 1b
4:	popl %ebx
	popl %esi
	ret

.pushsection .rodata
machine_name:
	.asciz "PC"
banner_text:
	.asciz "Booting paravirtualized kernel on "
bare_hardware:
	.asciz "bare hardware"
newline:
	.asciz "\n"
.popsection
