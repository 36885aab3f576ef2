/*
 * Character devices behind which the processor is: its model-specific registers, and its first performance counter.
 *
 * Enters: from files.S. The position in /dev/cpu/0/msr is a register's number; eight bytes are its value, as in
 * 2.6.20. That kernel has no device for the counter: it has the operation for those who bring one.
 * Next: pipe.S.
 */

.text

read_msr_device:
	pushl %ebx
	pushl %esi
	cmpl $8, %ecx
	jne 2f
	movl %edx, %esi
	movl F_pos(%eax), %eax
	subl $4, %esp                   /* the error */
	movl %esp, %edx
	paravirt_call read_msr
	popl %ecx
	testl %ecx, %ecx
	jnz 3f
1:	call put_u64
	popl %esi
	popl %ebx
	ret
2:	movl $-EINVAL, %eax
	jmp 4f
3:	movl $-EIO, %eax
4:	popl %esi
	popl %ebx
	ret

/* EDX:EAX to the user's ESI; the eight bytes written, or -EFAULT. */
put_u64:
	pushl %edx
	pushl %eax
	movl %esi, %eax
	movl %esp, %edx
	movl $8, %ecx
	call copy_to_user
	addl $8, %esp
	testl %eax, %eax
	movl $8, %eax
	jz 1f
	movl $-EFAULT, %eax
1:	ret

write_msr_device:
	pushl %ebx
	cmpl $8, %ecx
	jne 2f
	movl %eax, %ebx
	subl $8, %esp
	movl %esp, %eax
	call copy_from_user
	testl %eax, %eax
	popl %edx
	popl %ecx
	jnz 3f
	movl F_pos(%ebx), %eax
	paravirt_call write_msr
	testl %eax, %eax
	movl $8, %eax
	jz 1f
	movl $-EIO, %eax
1:	popl %ebx
	ret
2:	movl $-EINVAL, %eax
	popl %ebx
	ret
3:	movl $-EFAULT, %eax
	popl %ebx
	ret

/* Processors have it since those with MMX; a hypervisor does not give it away. */
read_pmc_device:
	pushl %esi
	cmpl $8, %ecx
	movl $-EINVAL, %eax
	jne 1f
	movl $-ENODEV, %eax
	btl $X86_FEATURE_MMX, boot_cpu_capability
	jnc 1f
	cmpl $0, paravirt_ops + PARAVIRT_paravirt_enabled
	jne 1f
	movl %edx, %esi
	paravirt_call read_pmc
	call put_u64
1:	popl %esi
	ret

.pushsection .rodata
.balign 4
msr_fops:
	.long read_msr_device, write_msr_device, 0
pmc_fops:
	.long read_pmc_device, 0, 0
msr_name:
	.asciz "/dev/cpu/0/msr"
pmc_name:
	.asciz "/dev/cpu/0/pmc"
.popsection
