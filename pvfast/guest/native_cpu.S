/*
 * Bare hardware, processor part: flags, control and debug registers, MSRs, halting, leaving the kernel.
 *
 * One function native_<operation> for each member of paravirt_ops (the table itself is made from
 * pvfast/paravirt/operations.py). Arguments in EAX, EDX, ECX, then on the stack, which the caller pops;
 * results in EAX or EDX:EAX; EBX, ESI, EDI and EBP are kept. What the patcher puts in place of a call is
 * the body of the function here.
 * Next: native_memory.S, native_irq.S.
 */

.text

native_save_fl:
	pushfl
	popl %eax
	ret

native_restore_fl:
	pushl %eax
	popfl
	ret

native_irq_disable:
	cli
	ret

native_irq_enable:
	sti
	ret

/* STI holds interrupts off for one more instruction, so none is lost between the two. */
native_safe_halt:
	sti
	hlt
	ret

native_halt:
	hlt
	ret

/* Jumped to, not called. */
native_iret:
	iret
	ex_table native_iret, iret_exc

native_irq_enable_sysexit:
	sti
	sysexit

/* (EAX: &eax, EDX: &ebx, ECX: &ecx, stack: &edx); EAX and ECX are also what CPUID, or who answers for it, is asked. */
.macro cpuid_function instruction argument
	pushl %ebx
	pushl %esi
	pushl %edi
	pushl %ebp
	movl %eax, %esi
	movl %edx, %edi
	movl %ecx, %ebp
	movl (%esi), %eax
	movl (%ebp), %ecx
	\instruction \argument
	movl %eax, (%esi)
	movl %ebx, (%edi)
	movl %ecx, (%ebp)
	movl 20(%esp), %ecx
	movl %edx, (%ecx)
	popl %ebp
	popl %edi
	popl %esi
	popl %ebx
	ret
.endm

native_cpuid:
	cpuid_function cpuid

/* (EAX: 0-7). Each of the eight entries is four bytes: mov, ret. */
native_get_debugreg:
	leal get_debugreg_entries(,%eax,4), %edx
	jmp *%edx
get_debugreg_entries:
	movl %db0, %eax
	ret
	movl %db1, %eax
	ret
	movl %db2, %eax
	ret
	movl %db3, %eax
	ret
	movl %db4, %eax
	ret
	movl %db5, %eax
	ret
	movl %db6, %eax
	ret
	movl %db7, %eax
	ret

/* (EAX: 0-7, EDX: value) */
native_set_debugreg:
	leal set_debugreg_entries(,%eax,4), %ecx
	jmp *%ecx
set_debugreg_entries:
	movl %edx, %db0
	ret
	movl %edx, %db1
	ret
	movl %edx, %db2
	ret
	movl %edx, %db3
	ret
	movl %edx, %db4
	ret
	movl %edx, %db5
	ret
	movl %edx, %db6
	ret
	movl %edx, %db7
	ret

native_clts:
	clts
	ret

native_read_cr0:
	movl %cr0, %eax
	ret

native_write_cr0:
	movl %eax, %cr0
	ret

native_read_cr2:
	movl %cr2, %eax
	ret

native_write_cr2:
	movl %eax, %cr2
	ret

native_read_cr3:
	movl %cr3, %eax
	ret

native_write_cr3:
	movl %eax, %cr3
	ret

/* A processor without CR4 faults on it; then it reads as 0. */
native_read_cr4_safe:
	xorl %eax, %eax
1:	movl %cr4, %eax
2:	ret
	ex_table 1b, 2b

native_read_cr4:
	movl %cr4, %eax
	ret

native_write_cr4:
	movl %eax, %cr4
	ret

native_wbinvd:
	wbinvd
	ret

/* (EAX: number, EDX: &error); EDX:EAX is the value, the error 0 or -EFAULT. */
native_read_msr:
	pushl %ebx
	movl %edx, %ebx
	movl %eax, %ecx
1:	rdmsr
	movl $0, (%ebx)
	popl %ebx
	ret
2:	movl $-EFAULT, (%ebx)
	popl %ebx
	ret
	ex_table 1b, 2b

/* (EAX: number, EDX: low, ECX: high); 0 or -EFAULT. */
native_write_msr:
	xchgl %eax, %ecx
	xchgl %eax, %edx                /* now EAX is low, EDX high, ECX the number */
1:	wrmsr
	xorl %eax, %eax
	ret
2:	movl $-EFAULT, %eax
	ret
	ex_table 1b, 2b

native_read_tsc:
	rdtsc
	ret

/* (EAX: number, EDX: &error): some registers of AMD's want to see a password in EDI. */
.ifdef PARAVIRT_read_msr_amd
.equ AMD_MSR_PASSWORD, 0x9c5a203a
native_read_msr_amd:
	pushl %edi
	movl $AMD_MSR_PASSWORD, %edi
	call native_read_msr
	popl %edi
	ret
.endif

/* (EAX: &aux). A processor with RDTSCP is not among those that this kernel knows: the counter, and number 0. */
.ifdef PARAVIRT_read_tscp
native_read_tscp:
	movl $0, (%eax)
	rdtsc
	ret
.endif

/* There are no 64-bit tasks to return to: nobody gets here. */
.ifdef PARAVIRT_usergs_sysret64
native_usergs_sysret64:
native_usergs_sysret32:
	ud2
.endif

/* There is one counter that this kernel would read. */
native_read_pmc:
	xorl %ecx, %ecx
	rdpmc
	ret

/* (EAX: the I/O privilege level in its place in EFLAGS) */
native_set_iopl_mask:
	pushfl
	andl $0xffffcfff, (%esp)
	orl %eax, (%esp)
	popfl
	ret

/* (EAX: tss, EDX: thread). The MSR is slow, so it is written only when it changes. */
native_load_esp0:
	movl THREAD_esp0(%edx), %ecx
	movl %ecx, TSS_esp0(%eax)
	movl THREAD_sysenter_cs(%edx), %edx
	cmpl %edx, TSS_ss1(%eax)
	je 1f
	movl %edx, TSS_ss1(%eax)
	movl $MSR_IA32_SYSENTER_CS, %ecx
	movl %edx, %eax
	xorl %edx, %edx
	wrmsr
1:	ret
