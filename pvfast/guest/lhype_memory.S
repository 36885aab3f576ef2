/*
 * lhype, memory part: descriptor tables, stacks, control registers, page tables, TLB, CPUID.
 *
 * Enters and leaves as native_cpu.S says. Tables are ordinary memory: each operation stores as the native one does and
 * tells the host, which keeps what the processor really uses. The host speaks physical addresses.
 * Next: percpu.S, the data.
 */

.text

/* CPUID 1 with what this host can do: SSE3, CMPXCHG16B, SSSE3; FPU, CX8, CMOV, MMX, FXSR, SSE, SSE2, and PGE. */
lhype_cpuid:
	pushl %esi
	pushl %edi
	movl %eax, %esi
	movl %ecx, %edi
	pushl (%esi)                    /* the function */
	pushl 16(%esp)                  /* the fourth argument once more */
	call native_cpuid
	popl %edx
	popl %ecx
	cmpl $1, %ecx
	jne 1f
	andl $0x00002201, (%edi)
	andl $0x07808101, (%edx)
	orl $(1 << X86_FEATURE_PGE), (%edx)     /* Linux then says what it flushes of the kernel's */
1:	cmpl $0x80000000, %ecx
	jne 2f
	cmpl $0x80000008, (%esi)
	jbe 2f
	movl $0x80000008, (%esi)
2:	popl %edi
	popl %esi
	ret

/* CR0 and CR3 are kept here too: the host never changes them. */
lhype_read_cr0:
	movl lhype_current_cr0, %eax
	ret

lhype_write_cr0:
	movl %eax, lhype_current_cr0
	movl %eax, %edx
	andl $X86_CR0_TS, %edx
	jmp lhype_ts

lhype_clts:
	andl $~X86_CR0_TS, lhype_current_cr0
	xorl %edx, %edx
lhype_ts:
	lazy_hcall TS
	ret

/* The host leaves the address of the last page fault here. */
lhype_read_cr2:
	movl lguest_data + LGUEST_DATA_CR2, %eax
	ret

lhype_write_cr2:
	movl %eax, lguest_data + LGUEST_DATA_CR2
	ret

lhype_read_cr3:
	movl lhype_current_cr3, %eax
	ret

lhype_write_cr3:
	movl %eax, lhype_current_cr3
	movl %eax, %edx
	lazy_hcall NEW_PGTABLE
	ret

/* What CR4's bits control is the host's affair. */
lhype_read_cr4:
	xorl %eax, %eax
	ret

/* Nobody watches anything: see below. What lguest has no function for would end in a privileged instruction. */
lhype_get_debugreg:
	xorl %eax, %eax
	ret

/* Nothing to do: the host's task register, no LDT, no debugging, no caches of its own. */
lhype_write_cr4:
lhype_set_debugreg:
lhype_wbinvd:
lhype_load_tr_desc:
lhype_set_ldt:
	ret

/* (EAX: descriptor of the table) */
lhype_load_gdt:
	movl 2(%eax), %eax
lhype_reload_gdt:
	pushl %ebx
	movl %eax, %edx
	subl $PAGE_OFFSET, %edx
	movl $GDT_ENTRIES, %ebx
	hcall LOAD_GDT
	popl %ebx
	ret

/* (EAX: table, EDX: entry, ECX: low word, stack: high word). Rare: the host takes all of it again. */
lhype_write_gdt_entry:
	movl %ecx, (%eax,%edx,8)
	movl 4(%esp), %ecx
	movl %ecx, 4(%eax,%edx,8)
	jmp lhype_reload_gdt

lhype_write_idt_entry:
	pushl %ebx
	movl %ecx, (%eax,%edx,8)
	movl %ecx, %ebx
	movl 8(%esp), %ecx
	movl %ecx, 4(%eax,%edx,8)
	hcall LOAD_IDT_ENTRY
	popl %ebx
	ret

/* (EAX: descriptor of the table). Entry by entry. */
lhype_load_idt:
	pushl %ebx
	pushl %esi
	pushl %edi
	movl 2(%eax), %esi
	movzwl (%eax), %edi
	incl %edi
	shrl $3, %edi
	xorl %edx, %edx
1:	movl (%esi,%edx,8), %ebx
	movl 4(%esi,%edx,8), %ecx
	hcall LOAD_IDT_ENTRY
	incl %edx
	cmpl %edi, %edx
	jb 1b
	popl %edi
	popl %esi
	popl %ebx
	ret

/* (EAX: thread, EDX: cpu). In 2.6.23 %gs is cleared first, for it is the user's there; here it is the kernel's. */
lhype_load_tls:
	pushl %ebx
	movl %edx, %ebx
	leal THREAD_tls_array(%eax), %edx
	subl $PAGE_OFFSET, %edx
	lazy_hcall LOAD_TLS
	popl %ebx
	ret

/* (EAX: tss, EDX: thread). The stack for traps from user mode: segment, pointer, pages. */
lhype_load_esp0:
	pushl %ebx
	movl THREAD_esp0(%edx), %ebx
	movl $(__KERNEL_DS | GUEST_PL), %edx
	movl $(THREAD_SIZE / PAGE_SIZE), %ecx
	lazy_hcall SET_STACK
	popl %ebx
	ret

/* (EAX: mm, EDX: address, ECX: entry, stack: value) */
lhype_set_pte_at:
	pushl %ebx
	movl %edx, %ebx
	movl MM_pgd(%eax), %edx
	subl $PAGE_OFFSET, %edx
	movl 8(%esp), %eax
	movl %eax, (%ecx)
	movl %eax, %ecx
	lazy_hcall SET_PTE
	popl %ebx
	ret

/* (EAX: entry, EDX: value). Whose it is, and for which address, is not known: the host has to forget everything. */
lhype_set_pte:
	movl %edx, (%eax)
	cmpl $0, lhype_current_cr3
	jne lhype_flush_tlb_kernel
	ret

/* (EAX: entry, EDX: value) */
lhype_set_pmd:
	pushl %ebx
	movl %edx, (%eax)
	movl %eax, %edx
	subl $PAGE_OFFSET, %edx
	movl %edx, %ebx
	andl $(PAGE_SIZE - 1), %ebx
	xorl %ebx, %edx
	shrl $2, %ebx
	lazy_hcall SET_PMD
	popl %ebx
	ret

lhype_flush_tlb_user:
	xorl %edx, %edx
	jmp lhype_flush_tlb

lhype_flush_tlb_kernel:
	movl $1, %edx
lhype_flush_tlb:
	lazy_hcall FLUSH_TLB
	ret

/* (EAX: address). Gone from the host's table, it comes back from ours when it is used. */
lhype_flush_tlb_single:
	pushl %ebx
	movl lhype_current_cr3, %edx
	movl %eax, %ebx
	xorl %ecx, %ecx
	lazy_hcall SET_PTE
	popl %ebx
	ret

.pushsection .data
.balign 4
lhype_current_cr0:
	.long 0
lhype_current_cr3:
	.long 0
.popsection
