/*
 * Character devices: the memory devices null and zero.
 *
 * Enters: from files.S, (EAX: file, EDX: buffer in user memory, ECX: bytes), the buffer's range checked.
 * Next: msr.S, the devices behind which the processor is.
 */

.text

read_null:
	xorl %eax, %eax
	ret

write_null:
	movl %ecx, %eax
	ret

read_zero:
	pushl %ecx
	movl %edx, %eax
	movl %ecx, %edx
	call clear_user
	popl %ecx
	testl %eax, %eax
	jnz 1f
	movl %ecx, %eax
	ret
1:	movl $-EFAULT, %eax
	ret

.pushsection .rodata
.balign 4
null_fops:
	.long read_null, write_null, 0
zero_fops:
	.long read_zero, write_null, 0

/* What sys_open finds: name and operations. */
chrdevs:
	.long null_name, null_fops
	.long zero_name, zero_fops
	.long msr_name, msr_fops
	.long pmc_name, pmc_fops
	.long 0
null_name:
	.asciz "/dev/null"
zero_name:
	.asciz "/dev/zero"
.popsection
