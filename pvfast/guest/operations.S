/*
 * Calls of operations that are not the same in every release; macros only.
 *
 * paravirt_call itself, and which operations the kernel is built with, come from Python (prelude.py); what a release
 * does not have is not assembled.
 * Next: atomic.S, more macros; head.S, the first instructions.
 */

/* An operation that only some releases have, and that does nothing on bare hardware. */
.macro paravirt_hook operation
	.ifdef PARAVIRT_\operation
	paravirt_call \operation
	.endif
.endm

/*
 * Lazy modes: updates between the two may wait for the second. 2.6.21 to 2.6.23 have one operation for both modes, later
 * releases a pair for each, 2.6.20 none. From 2.6.31 on that of the CPU is told the tasks (ESI: previous, EBX: next).
 */
.equ PARAVIRT_LAZY_NONE, 0
.equ PARAVIRT_LAZY_MMU, 1
.equ PARAVIRT_LAZY_CPU, 2
.equ PARAVIRT_LAZY_FLUSH, 3

.macro set_lazy_mode mode
	.ifdef PARAVIRT_set_lazy_mode
	movl $\mode, %eax
	paravirt_call set_lazy_mode
	.endif
.endm

.macro arch_enter_lazy_mmu_mode
	set_lazy_mode PARAVIRT_LAZY_MMU
	paravirt_hook enter_lazy_mmu
.endm

.macro arch_leave_lazy_mmu_mode
	set_lazy_mode PARAVIRT_LAZY_NONE
	paravirt_hook leave_lazy_mmu
.endm

.macro arch_enter_lazy_cpu_mode
	set_lazy_mode PARAVIRT_LAZY_CPU
	paravirt_hook enter_lazy_cpu
	.ifdef PARAVIRT_start_context_switch
	movl %esi, %eax
	paravirt_call start_context_switch
	.endif
.endm

.macro arch_leave_lazy_cpu_mode
	set_lazy_mode PARAVIRT_LAZY_NONE
	paravirt_hook leave_lazy_cpu
	.ifdef PARAVIRT_end_context_switch
	movl %ebx, %eax
	paravirt_call end_context_switch
	.endif
.endm

/* (EAX: mm, EDX: frame). The first releases that have them are not told whose the new table or directory is. */
.macro paravirt_alloc_pt operation=alloc_pt
	.ifdef PARAVIRT_\operation
	.if ARGUMENTS_\operation == 1
	movl %edx, %eax
	.endif
	paravirt_call \operation
	.endif
.endm

.macro paravirt_alloc_pd
	paravirt_alloc_pt alloc_pd
.endm

/* pte_val, make_pte and the like: EAX to EAX, the other registers kept; only some releases have them. */
.macro paravirt_value operation
	.ifdef PARAVIRT_\operation
	pushl %ecx
	pushl %edx
	paravirt_call \operation
	popl %edx
	popl %ecx
	.endif
.endm

/*
 * Where the kernel has read an entry of a page table or a directory into EAX, and uses the frame in it, or makes another
 * entry of it. From 2.6.22 on entries are what the processor reads, wherever the kernel has them, and pte_val, make_pte
 * and the like translate. 2.6.20 and 2.6.21 do not have these: there entries are the kernel's own, set_pte and the like
 * translate if need be, and here it is done the other way. This is no operation, and costs nothing: a hypervisor that
 * needs it writes calls over these five bytes at boot (.entry_reads: where they are, what to call), for all others they
 * are just the instruction. at_ebx: the entry is at EBX, and is read here.
 */
.equ ENTRY_READ_BYTES, 5

.macro entry_read_as operation, immediate, at_ebx, translate
	.if \at_ebx
	movl (%ebx), %eax
	.endif
	.if \translate
	call xen_entry_read
	.endif
	\operation \immediate, %eax
.endm

.macro entry_read operation, immediate, at_ebx=0
	.ifdef PARAVIRT_pte_val
	entry_read_as \operation, \immediate, \at_ebx, 0
	.else
771:	entry_read_as \operation, \immediate, \at_ebx, 0
	.pushsection .fixup
772:	entry_read_as \operation, \immediate, \at_ebx, 1
	ret
	.popsection
	.pushsection .entry_reads, "a"
	.long 771b, 772b
	.popsection
	.endif
.endm

/*
 * (EAX: table, EDX: entry, ECX: low word, stack: high word). From 2.6.25 on the two words are passed by their address,
 * and what kind of segment it is in the global table.
 */
.equ DESC_TSS, 0x09

.macro write_entry operation
	.ifdef PARAVIRT_load_sp0
	pushl %ecx
	movl %esp, %ecx
	.if ARGUMENTS_\operation == 4
	pushl $DESC_TSS
	.endif
	paravirt_call \operation
	.if ARGUMENTS_\operation == 4
	addl $4, %esp
	.endif
	addl $4, %esp
	.else
	paravirt_call \operation
	.endif
.endm
