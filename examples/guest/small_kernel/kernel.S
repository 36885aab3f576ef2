/*
 * A kernel of one's own, as small as it can be: three operations in a table, a lock that goes through them.
 *
 * Enters: the host puts the machine at the label of a loop, with the number of iterations (at least 1) in ECX and a
 * stack. Leaves: the label done. The names of patch types and clobbers come from Python (__init__.py).
 */

.text

/*
 * A patch site: an indirect call that keeps ECX and EDX, and its record for the patcher, which is where it is, what it
 * does, how long it is and which registers its replacement may destroy.
 */
.macro site operation, type, clobbers
771:	push %ecx
	push %edx
	call *\operation
	pop %edx
	pop %ecx
772:
	.pushsection .parainstructions
	.long 771b
	.byte \type
	.byte 772b - 771b
	.short \clobbers
	.popsection
.endm

/* A critical section: interrupts off, a lock taken, a word counted, the lock released, interrupts as before. */
critical_section:
1:	site save_fl, SAVE_FLAGS, CLBR_NONE
	movl %eax, %esi
	site irq_disable, IRQ_DISABLE, CLBR_EAX
2:	lock decb lock_byte
	jns 4f
3:	cmpb $0, lock_byte              /* another processor has it */
	jle 3b
	jmp 2b
4:	incl counter
	movb $1, lock_byte
	movl %esi, %eax
	site restore_fl, RESTORE_FLAGS, CLBR_EAX
	decl %ecx
	jnz 1b
	jmp done

/* The same without the operations: what the lock itself costs. */
lock_alone:
1:	lock decb lock_byte
	incl counter
	movb $1, lock_byte
	decl %ecx
	jnz 1b

done:
	hlt

/* What the operations are on bare hardware. */
native_save_fl:
	pushf
	pop %eax
	ret

native_restore_fl:
	push %eax
	popf
	ret

native_irq_disable:
	cli
	ret

.data
save_fl:
	.long native_save_fl
restore_fl:
	.long native_restore_fl
irq_disable:
	.long native_irq_disable
lock_byte:
	.long 1
counter:
	.long 0
