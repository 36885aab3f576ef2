/*
 * Bare hardware, locks: the ticket spinlocks that 2.6.27 made operations, for hypervisors whose CPUs do not always run.
 *
 * A lock is two bytes: the ticket that is served, and above it the next one. Enters and leaves as native_cpu.S says;
 * EAX is the lock. With one processor nobody calls these.
 * Next: paravirt.S.
 */

.ifdef PARAVIRT_spin_lock
.text

native_spin_is_locked:
	movzwl (%eax), %edx
	xorl %eax, %eax
	cmpb %dl, %dh
	setne %al
	ret

/* Does anybody wait besides the owner? */
native_spin_is_contended:
	movzwl (%eax), %edx
	xorl %eax, %eax
	subb %dl, %dh
	cmpb $1, %dh
	seta %al
	ret

native_spin_lock:
native_spin_lock_flags:
	movl $0x0100, %edx
	LOCK_PREFIX
	xaddw %dx, (%eax)
1:	cmpb %dl, %dh
	je 2f
	pause
	movb (%eax), %dl
	jmp 1b
2:	ret

native_spin_trylock:
	movl %eax, %ecx
	movzwl (%ecx), %eax
	cmpb %al, %ah
	jne 1f
	leal 0x0100(%eax), %edx
	LOCK_PREFIX
	cmpxchgw %dx, (%ecx)
	jne 1f
	movl $1, %eax
	ret
1:	xorl %eax, %eax
	ret

native_spin_unlock:
	incb (%eax)
	ret
.endif
