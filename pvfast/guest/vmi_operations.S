/*
 * VMI: operations whose arguments are not those of the ROM's call.
 *
 * Enters and leaves as native_cpu.S says; the ROM's calls have the same convention. vmi_ops holds where they are.
 * Next: percpu.S, the data.
 */

.text

.macro vmi_call name
	call *vmi_ops + VMI_CALL_\name * 4
.endm

.macro vmi_jump name
	jmp *vmi_ops + VMI_CALL_\name * 4
.endm

/* (EAX: &eax, EDX: &ebx, ECX: &ecx, stack: &edx). The call has registers only, as the instruction. */
vmi_cpuid:
	cpuid_function vmi_call, CPUID

/* Seconds since 1970; the call has nanoseconds, in EDX:EAX. The high half is below 10^9 until 2106. */
vmi_get_wallclock:
	vmi_call GetWallclockTime
	movl $1000000000, %ecx
	divl %ecx
	ret

vmi_load_tr_desc:
	movl $(GDT_ENTRY_TSS * 8), %eax
	vmi_jump SetTR

/* (EAX: address, EDX: entries). No entries, no LDT: the null selector. */
vmi_set_ldt:
	testl %edx, %edx
	jnz 1f
	xorl %eax, %eax
	vmi_jump SetLDT
1:	movl %eax, %ecx
	andl $0xff000000, %ecx
	pushl %ecx
	leal -1(,%edx,8), %ecx          /* limit */
	movl %eax, %edx
	shll $16, %eax
	movw %cx, %ax
	xchgl %eax, %ecx                /* ECX: low word */
	shrl $16, %edx
	andl $0x000000ff, %edx
	orl $DESCRIPTOR_LDT, %edx
	orl %edx, (%esp)                /* high word: the fourth argument */
	movl $GDT_ENTRY_LDT, %edx
	movl $cpu_gdt_table, %eax
	vmi_call WriteGDTEntry
	addl $4, %esp
	movl $(GDT_ENTRY_LDT * 8), %eax
	vmi_jump SetLDT

/* (EAX: thread, EDX: cpu). The hypervisor's copy of the GDT has to change too, so a store is not enough. */
vmi_load_tls:
	pushl %ebx
	pushl %esi
	leal THREAD_tls_array(%eax), %ebx
	xorl %esi, %esi
1:	pushl 4(%ebx,%esi,8)
	movl (%ebx,%esi,8), %ecx
	leal GDT_ENTRY_TLS_MIN(%esi), %edx
	movl $cpu_gdt_table, %eax
	vmi_call WriteGDTEntry
	addl $4, %esp
	incl %esi
	cmpl $3, %esi
	jb 1b
	popl %esi
	popl %ebx
	ret

/* (EAX: tss, EDX: thread). The MSR traps, so it is written only when it changes. */
vmi_load_esp0:
	movl THREAD_esp0(%edx), %ecx
	movl %ecx, TSS_esp0(%eax)
	movl THREAD_sysenter_cs(%edx), %edx
	cmpl %edx, TSS_ss1(%eax)
	je 1f
	movl %edx, TSS_ss1(%eax)
	pushl %ecx
	movl $MSR_IA32_SYSENTER_CS, %eax
	xorl %ecx, %ecx
	paravirt_call write_msr
	popl %ecx
1:	movl $__KERNEL_DS, %eax
	movl %ecx, %edx
	vmi_jump UpdateKernelStack

vmi_flush_tlb_user:
	movl $VMI_FLUSH_TLB, %eax
	vmi_jump FlushTLB

vmi_flush_tlb_kernel:
	movl $(VMI_FLUSH_TLB | VMI_FLUSH_GLOBAL), %eax
	vmi_jump FlushTLB

/* (EAX: entry, EDX: value). The call wants them the other way round, and what kind of entry it is. */
vmi_set_pte:
	xchgl %eax, %edx
	movl $VMI_PAGE_PT, %ecx
	vmi_jump SetPxE

vmi_set_pmd:
	xchgl %eax, %edx
	movl $VMI_PAGE_PD, %ecx
	vmi_jump SetPxE

/* (EAX: mm, EDX: address, ECX: entry, stack: value) */
vmi_set_pte_at:
	call vmi_flags_addr
	movl 4(%esp), %eax
	xchgl %ecx, %edx
	vmi_jump SetPxE

/* (EAX: mm, EDX: address, ECX: entry). The kernel has changed the entry itself. */
vmi_pte_update:
	call vmi_flags_addr
	movl %ecx, %eax
	vmi_jump UpdatePxE

vmi_pte_update_defer:
	call vmi_flags_addr
	orl $VMI_PAGE_DEFER, %edx
	movl %ecx, %eax
	vmi_jump UpdatePxE

/* EDX: linear address, which becomes flags that tell it; keeps ECX. */
vmi_flags_addr:
	andl $VMI_PAGE_VA_MASK, %edx
	orl $(VMI_PAGE_PT | VMI_PAGE_CURRENT_AS), %edx
	ret

/* (EAX: mode). Flushing is leaving the mode for a moment. */
vmi_set_lazy_mode:
	cmpl $PARAVIRT_LAZY_FLUSH, %eax
	je 1f
	movl %eax, vmi_lazy_mode
	vmi_jump SetLazyMode
1:	xorl %eax, %eax
	vmi_call SetLazyMode
	movl vmi_lazy_mode, %eax
	vmi_jump SetLazyMode

vmi_enter_lazy_mmu:
	movl $VMI_LAZY_MMU, %eax
	vmi_jump SetLazyMode

vmi_enter_lazy_cpu:
	movl $VMI_LAZY_CPU, %eax
	vmi_jump SetLazyMode

vmi_leave_lazy_mmu:
vmi_leave_lazy_cpu:
	movl $VMI_LAZY_NONE, %eax
	vmi_jump SetLazyMode

.pushsection .data
vmi_lazy_mode:
	.long VMI_LAZY_NONE
.popsection

/* A page becomes a page table, or is one no longer: (EAX: frame; for alloc_pt from 2.6.23 on EAX: mm, EDX: frame). */
vmi_alloc_pt:
	.ifdef ARGUMENTS_alloc_pt
	.if ARGUMENTS_alloc_pt == 2
	movl %edx, %eax
	.endif
	.endif
	movl $VMI_PAGE_PT, %edx
	jmp 1f
vmi_alloc_pd:
	movl $VMI_PAGE_PD, %edx
1:	xorl %ecx, %ecx
	pushl $0
	pushl $0
	vmi_call AllocatePage
	addl $8, %esp
	ret

/* (EAX: frame, EDX: frame it is a copy of, ECX: first entry, stack: how many) */
vmi_alloc_pd_clone:
	pushl 4(%esp)
	pushl %ecx
	movl %edx, %ecx
	movl $(VMI_PAGE_PD | VMI_PAGE_CLONE), %edx
	vmi_call AllocatePage
	addl $8, %esp
	ret

vmi_release_pt:
	movl $VMI_PAGE_PT, %edx
	vmi_jump ReleasePage

vmi_release_pd:
	movl $VMI_PAGE_PD, %edx
	vmi_jump ReleasePage
