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
