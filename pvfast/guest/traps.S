/*
 * Gates, and what happens on an exception.
 *
 * Enters: trap_init from main.S; do_exception and math_state_restore from the stubs in entry.S. Leaves: an
 * instruction listed in __ex_table resumes at its fixup; any other fault is written to fault_record, and the
 * label panic is the end of it.
 * Next: entry.S.
 */

.text

trap_init:
	/* Exceptions are traps except the page fault, which must not let %cr2 be overwritten. */
	xorl %ebx, %ebx
1:	movl exception_stubs(,%ebx,4), %edx
	movl $GATE_TRAP, %ecx
	cmpl $VECTOR_PF, %ebx
	jne 2f
	movl $GATE_INTERRUPT, %ecx
2:	call set_gate
	incl %ebx
	cmpl $EXCEPTIONS, %ebx
	jb 1b

	movl $SYSCALL_VECTOR, %ebx
	movl $system_call, %edx
	movl $GATE_SYSTEM, %ecx
	call set_gate
	movl $idt_descr, %eax
	paravirt_call load_idt
	ret

/* Gate EBX leads to EDX; ECX holds type and DPL. Keeps EBX. */
set_gate:
	movl %edx, %eax
	andl $0xffff0000, %eax
	orl %ecx, %eax
	pushl %eax                      /* the fourth argument: the high word */
	movzwl %dx, %ecx
	orl $(__KERNEL_CS << 16), %ecx  /* the third: the low word */
	movl %ebx, %edx
	movl $idt_table, %eax
	write_entry write_idt_entry
	addl $4, %esp
	ret

/* EAX: pt_regs, EDX: vector, ECX: error code. Returns when the fault was expected. */
do_exception:
	cmpl $VECTOR_DB, %edx
	je do_debug
	cmpl $VECTOR_PF, %edx
	je do_page_fault
	testb $2, PT_CS(%eax)           /* ring 3; the kernel is in 0 or 1 */
	jnz do_user_exception

/* The same, of an exception in the kernel: goes on at the fixup of the instruction, if it has one. */
fixup_exception:
	pushl %ebx
	movl PT_EIP(%eax), %ebx
	pushl %esi
	movl $__start___ex_table, %esi
1:	cmpl $__stop___ex_table, %esi
	jae die
	cmpl %ebx, (%esi)
	je 2f
	addl $8, %esi
	jmp 1b
2:	movl 4(%esi), %ebx
	movl %ebx, PT_EIP(%eax)
	popl %esi
	popl %ebx
	ret

/* What a program did wrong is its own affair: it gets the signal that goes with the exception. */
do_user_exception:
	pushl %ebx
	movl %gs:PDA_pcurrent, %ebx
	movl %edx, TASK_thread + THREAD_trap_no(%ebx)
	movl %ecx, TASK_thread + THREAD_error_code(%ebx)
	movzbl exception_signals(%edx), %eax
	movl %ebx, %edx
	popl %ebx
	jmp force_sig

die:
	movl %edx, fault_record + FAULT_vector
	movl %ecx, fault_record + FAULT_error_code
	movl %ebx, fault_record + FAULT_eip
	movl PT_CS(%eax), %edx
	movl %edx, fault_record + FAULT_cs
	movl PT_EFLAGS(%eax), %edx
	movl %edx, fault_record + FAULT_eflags
	leal PT_OLDESP(%eax), %edx      /* a fault in the kernel does not push ESP: this is where it was */
	movl PT_CS(%eax), %ecx
	andl $SEGMENT_RPL_MASK, %ecx
	cmpl $USER_RPL, %ecx
	jne 3f
	movl PT_OLDESP(%eax), %edx
3:	movl %edx, fault_record + FAULT_esp
	movl PT_EAX(%eax), %edx
	movl %edx, fault_record + FAULT_eax
	paravirt_call read_cr2
	movl %eax, fault_record + FAULT_cr2
	incl fault_record + FAULT_count
	paravirt_call read_cr0
	movl %eax, fault_record + FAULT_cr0
	paravirt_call read_cr3
	movl %eax, fault_record + FAULT_cr3
	paravirt_call read_cr4_safe
	movl %eax, fault_record + FAULT_cr4

panic:
	DISABLE_INTERRUPTS CLBR_ANY
1:	paravirt_call halt
	jmp 1b

/* EAX: cr0. Whoever used the FPU last, it is ours now; there is no state to load yet. */
math_state_restore:
	paravirt_call clts
	movl %gs:PDA_pcurrent, %eax
	movl TASK_thread_info(%eax), %eax
	orl $TS_USEDFPU, TI_status(%eax)
	ret

/* An instruction that may fault, and where to go on then. */
.macro ex_table instruction, fixup
	.pushsection __ex_table, "a"
	.long \instruction, \fixup
	.popsection
.endm

.equ FAULT_vector, 0
.equ FAULT_error_code, 4
.equ FAULT_eip, 8
.equ FAULT_cs, 12
.equ FAULT_eflags, 16
.equ FAULT_esp, 20
.equ FAULT_eax, 24
.equ FAULT_cr2, 28
.equ FAULT_count, 32
.equ FAULT_cr0, 36
.equ FAULT_cr3, 40
.equ FAULT_cr4, 44

.pushsection .rodata
exception_signals:                      /* by vector; what a program cannot cause has SIGKILL */
	.byte SIGFPE, SIGTRAP, SIGKILL, SIGTRAP, SIGSEGV, SIGSEGV, SIGILL, SIGSEGV, SIGKILL, SIGFPE
	.byte SIGSEGV, SIGBUS, SIGBUS, SIGSEGV, SIGSEGV, SIGKILL, SIGFPE, SIGBUS, SIGKILL, SIGFPE
	.fill VECTOR_IRET - EXCEPTIONS, 1, SIGKILL
	.byte SIGSEGV
.popsection

.pushsection .data
fault_record:
	.fill 12, 4, 0
.popsection
