/*
 * A user program that makes the system calls which no workload makes, so that every operation is executed somewhere.
 *
 * Enters and leaves as user_io.S says; the status is 0, or the number of the call that did not do what it must.
 * What a hypervisor may refuse (the local table, model-specific registers, the counter, to suspend) is only asked for.
 * Next: exec.S.
 */

.section .user.text, "ax"

.macro everything number, ebx=$0, ecx=$0, edx=$0, esi=$0
	incl user_calls
	movl \ebx, %ebx
	movl \ecx, %ecx
	movl \edx, %edx
	movl \esi, %esi
	syscall \number
.endm

.macro expect value
	cmpl \value, %eax
	jne user_everything_failed
.endm

user_everything:
	movl %ebx, user_turns
1:	movl $0, user_calls

	/* Clocks. */
	everything time, $user_buffer
	everything stime, $user_buffer
	expect $0
	everything gettimeofday, $user_buffer
	expect $0

	/* Segments of its own, and ports. */
	everything set_thread_area, $user_tls_desc
	expect $0
	movl $(GDT_ENTRY_TLS_MIN * 8 + USER_RPL), %eax
	movl %eax, %gs
	everything modify_ldt, $LDT_WRITE, $user_ldt_desc, $USER_DESC_BYTES
	expect $0
	everything modify_ldt, $0, $user_buffer, $16
	expect $16
	everything iopl, $3
	expect $0
	everything iopl, $0
	expect $0

	/* The processor's registers. */
	everything open, $user_dev_msr
	expect $0
	everything lseek, $0, $MSR_IA32_SYSENTER_CS
	expect $MSR_IA32_SYSENTER_CS
	everything read, $0, $user_buffer, $8
	cmpl $8, %eax
	jne 2f
	everything write, $0, $user_buffer, $8
	expect $8
2:	everything close, $0
	expect $0
	everything open, $user_dev_pmc
	expect $0
	everything read, $0, $user_buffer, $8
	everything close, $0
	expect $0
	everything reboot, $LINUX_REBOOT_MAGIC1, $LINUX_REBOOT_MAGIC2, $LINUX_REBOOT_CMD_SW_SUSPEND
	fninit                                  /* the FPU is switched on when it is used, and off at the next switch */

	/* A child that runs into a watchpoint. */
	everything pipe, $user_buffer
	expect $0
	everything fork
	testl %eax, %eax
	jz user_watched_child
	js user_everything_failed
	movl %eax, %edi
	everything ptrace, $PTRACE_POKEUSR, %edi, $USER_u_debugreg, $user_watched
	expect $0
	everything ptrace, $PTRACE_POKEUSR, %edi, $USER_u_debugreg7, $DR7_WRITES_OF_DR0
	expect $0
	everything write, $1, $user_buffer, $1
	expect $1
	everything waitpid, %edi
	cmpl %edi, %eax
	jne user_everything_failed
	everything close, $0
	everything close, $1
	decl user_turns
	jnz 1b
	xorl %eax, %eax
	jmp user_exit

user_everything_failed:
	movl user_calls, %eax
	jmp user_exit

user_watched_child:
	everything read, $0, $user_buffer, $1
	incl user_watched                       /* the end of it, where there are watchpoints */
	xorl %eax, %eax
	jmp user_exit

.equ DR7_WRITES_OF_DR0, 0x000d0001      /* enabled, on writes, four bytes */
.equ USER_u_debugreg7, USER_u_debugreg + 4 * DR_CONTROL

user_dev_msr:
	.asciz "/dev/cpu/0/msr"
user_dev_pmc:
	.asciz "/dev/cpu/0/pmc"

.section .user.data, "aw"
.balign 4
user_turns:
	.long 0
user_calls:
	.long 0
user_watched:
	.long 0
user_buffer:
	.fill 4, 4, 0
user_tls_desc:                          /* struct user_desc: the first four bytes of the data */
	.long GDT_ENTRY_TLS_MIN, user_turns, 3, 0x41
user_ldt_desc:
	.long 1, user_turns, 3, 0x41
