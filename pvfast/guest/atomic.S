/*
 * Atomic operations, thread flags and spin locks, as atomic.h, bitops.h and spinlock.h have them; macros only.
 *
 * Every LOCK prefix goes through LOCK_PREFIX, which notes its address in .smp_locks, so that it can be taken out where
 * there is one processor (pvfast/paravirt/smp_alternatives.py). Memory shared with a hypervisor is the exception: it
 * runs on other processors than ours, so those instructions keep a plain lock.
 * Next: head.S.
 */

.macro LOCK_PREFIX
	.pushsection .smp_locks, "a"
	.balign 4
	.long 661f
	.popsection
661:	lock
.endm

.macro atomic_inc counter
	LOCK_PREFIX
	incl \counter
.endm

/* ZF: it is zero now, what atomic_dec_and_test answers. */
.macro atomic_dec counter
	LOCK_PREFIX
	decl \counter
.endm

/* Another processor may look at a task's flags, or set one, at any time. */
.macro set_thread_flag flag, thread_info
	LOCK_PREFIX
	orl $\flag, TI_flags(\thread_info)
.endm

.macro clear_thread_flag flag, thread_info
	LOCK_PREFIX
	andl $~(\flag), TI_flags(\thread_info)
.endm

/* A lock is one word, 1 when it is free. */
.equ SPIN_LOCK_UNLOCKED, 1

.macro _raw_spin_lock lock
662:	LOCK_PREFIX
	decb \lock
	jns 664f
663:	rep; nop
	cmpb $0, \lock
	jle 663b
	jmp 662b
664:
.endm

.macro _raw_spin_unlock lock
	movb $SPIN_LOCK_UNLOCKED, \lock
.endm

/* Readers or one writer: RW_LOCK_BIAS when it is free, one less for each reader. */
.equ RW_LOCK_BIAS, 0x01000000

.macro _raw_read_lock lock
665:	LOCK_PREFIX
	decl \lock
	jns 667f
	LOCK_PREFIX
	incl \lock
666:	rep; nop
	cmpl $1, \lock
	js 666b
	jmp 665b
667:
.endm

.macro _raw_read_unlock lock
	LOCK_PREFIX
	incl \lock
.endm

.macro _raw_write_lock lock
668:	LOCK_PREFIX
	subl $RW_LOCK_BIAS, \lock
	jz 670f
	LOCK_PREFIX
	addl $RW_LOCK_BIAS, \lock
669:	rep; nop
	cmpl $RW_LOCK_BIAS, \lock
	jne 669b
	jmp 668b
670:
.endm

.macro _raw_write_unlock lock
	LOCK_PREFIX
	addl $RW_LOCK_BIAS, \lock
.endm
