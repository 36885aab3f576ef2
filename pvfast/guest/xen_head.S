/*
 * Xen: its own entry into the kernel, and the probe that recognises it.
 *
 * Enters: startup_xen in ring 1, paging on, ESI = start_info; CS, DS, ES, SS are Xen's flat segments, FS and
 * GS null; hypercall_page is filled. The notes tell the domain builder all this. Leaves: by own_entry
 * (head.S) to xen_probe, which fills paravirt_ops and goes to start_kernel.
 * Next: xen_irq.S, xen_iret.S, xen_frames.S, xen_memory.S, xen_descriptors.S and xen_events.S hold the operations.
 */

.text

.macro hypercall name
	call hypercall_page + __HYPERVISOR_\name * HYPERCALL_ENTRY_BYTES
.endm

startup_xen:
	cld
	movl %esi, xen_start_info
	own_entry xen_probe

/* Like every probe: EAX, ECX and EDX are its own; returns when this is not Xen. */
xen_probe:
	movl xen_start_info, %eax
	testl %eax, %eax
	jz 1f
	movl START_INFO_MAGIC(%eax), %ecx
	cmpl $0x2d6e6578, %ecx          /* "xen-" */
	jne 1f
	movl START_INFO_MAGIC + 4(%eax), %ecx
	andl $0x00ffffff, %ecx          /* seven characters count */
	cmpl $0x00302e33, %ecx          /* "3.0" */
	je xen_start_kernel
1:	ret

	paravirt_probe xen_probe

xen_start_kernel:
	movl $xen_paravirt_ops, %esi
	movl $xen_paravirt_ops_end, %edi
	call xen_copy_operations
	movl %cs, %ecx
	andl $SEGMENT_RPL_MASK, %ecx
	movl %ecx, paravirt_ops + PARAVIRT_kernel_rpl
	movl $1, paravirt_ops + PARAVIRT_paravirt_enabled
	movl $xen_name, paravirt_ops + PARAVIRT_name
	movl $xen_console_write, console_write

	.ifndef PARAVIRT_pte_val
	call xen_patch_entry_reads
	.endif
	movl xen_start_info, %eax
	movl START_INFO_MFN_LIST(%eax), %ecx
	movl %ecx, phys_to_machine_mapping
	movl START_INFO_PT_BASE(%eax), %ecx
	movl %ecx, init_mm_pgd
	leal PAGE_SIZE(%ecx), %edx
	movl %edx, xen_lowmem_ptes
	subl $PAGE_OFFSET, %ecx
	movl %ecx, per_cpu__xen_cr3

	/* shared_info belongs to Xen, which gives its machine address: map its page over the hole that we keep for it. */
	movl $xen_shared_info_page, %ebx
	movl START_INFO_SHARED_INFO(%eax), %ecx
	orl $__PAGE_KERNEL, %ecx
	xorl %edx, %edx
	movl $UVMF_INVLPG, %esi
	hypercall update_va_mapping
	testl %eax, %eax
	jnz xen_bug
	movl $xen_shared_info_page, HYPERVISOR_shared_info
	call xen_vcpu_setup
	jmp start_kernel

/* ESI up to EDI: offset and function of each operation. */
xen_copy_operations:
	movl (%esi), %ecx
	movl 4(%esi), %edx
	movl %edx, paravirt_ops(%ecx)
	addl $8, %esi
	cmpl %edi, %esi
	jb xen_copy_operations
	ret

/*
 * Where this CPU's vcpu_info is. At first it is one of the array in shared_info, found by CPU number. If Xen
 * agrees to have it in the per-CPU area, one instruction is enough to mask events, and IRET needs no hypercall.
 */
xen_vcpu_setup:
	movl $(xen_shared_info_page + SHARED_VCPU_INFO), per_cpu__xen_vcpu
	cmpl $0, have_vcpu_info_placement
	je 1f
	movl $boot_pda, %eax
	call virt_to_machine
	shrl $PAGE_SHIFT, %eax
	pushl $0                        /* struct vcpu_register_vcpu_info: mfn u64, offset, reserved */
	pushl $(xen_vcpu_info)
	pushl $0
	pushl %eax
	movl $VCPUOP_register_vcpu_info, %ebx
	xorl %ecx, %ecx
	movl %esp, %edx
	hypercall vcpu_op
	addl $16, %esp
	testl %eax, %eax
	jnz 1f
	movl $per_cpu__xen_vcpu_info, per_cpu__xen_vcpu
	movl $xen_direct_ops, %esi
	movl $xen_direct_ops_end, %edi
	call xen_copy_operations
	jmp 2f
1:	/* An older Xen, or switched off: the way of the talk's "why no patching?" */
	movl $0, have_vcpu_info_placement
	movl $xen_irq_disable_shared, paravirt_ops + PARAVIRT_irq_disable
2:	movl per_cpu__xen_vcpu, %eax
	movb $1, VCPU_EVTCHN_UPCALL_MASK(%eax)
	ret

/* Xen refused what it must not refuse; there is no console yet to say so. */
xen_bug:
	ud2

.equ UVMF_INVLPG, 2
.equ DOMID_SELF, 0x7ff0

.pushsection .data
xen_start_info:
	.long 0
HYPERVISOR_shared_info:
	.long 0
have_vcpu_info_placement:
	.long 1                         /* a host that writes 0 before the boot keeps it in shared_info */
.popsection

.pushsection .rodata
xen_name:
	.asciz "Xen"
.popsection

/* Which operations Xen needs; the others stay native, for Xen emulates them or they need no privilege. */
.macro xen_operation name
	.ifdef PARAVIRT_\name
	.long PARAVIRT_\name, xen_\name
	.endif
.endm

.pushsection .rodata
.balign 4
xen_paravirt_ops:
	xen_operation arch_setup
	xen_operation memory_setup
	xen_operation init_IRQ
	xen_operation get_wallclock
	xen_operation cpuid
	xen_operation read_cr2
	xen_operation write_cr2
	xen_operation read_cr3
	xen_operation write_cr3
	xen_operation write_cr4
	xen_operation save_fl
	xen_operation restore_fl
	xen_operation irq_disable
	xen_operation irq_enable
	xen_operation safe_halt
	xen_operation halt
	xen_operation load_tr_desc
	xen_operation load_gdt
	xen_operation load_idt
	xen_operation set_ldt
	xen_operation load_tls
	xen_operation write_ldt_entry
	xen_operation write_gdt_entry
	xen_operation load_esp0
	xen_operation set_iopl_mask
	xen_operation io_delay
	xen_operation apic_write
	xen_operation apic_write_atomic
	xen_operation apic_read
	xen_operation flush_tlb_user
	xen_operation flush_tlb_kernel
	xen_operation flush_tlb_single
	xen_operation set_pte
	xen_operation set_pte_at
	xen_operation set_pmd
	xen_operation pte_val
	xen_operation make_pte
	xen_operation pgd_val
	xen_operation make_pgd
	xen_operation alloc_pt
	xen_operation release_pt
	xen_operation set_lazy_mode
	xen_operation enter_lazy_mmu
	xen_operation leave_lazy_mmu
	xen_operation enter_lazy_cpu
	xen_operation leave_lazy_cpu
	xen_operation get_cpu_khz
	xen_operation irq_enable_sysexit
	xen_operation iret
xen_paravirt_ops_end:
.popsection

/* Those that are better off with vcpu_info in the per-CPU area. */
.macro xen_direct_operation name
	.long PARAVIRT_\name, xen_\name\()_direct
.endm

.pushsection .rodata
.balign 4
xen_direct_ops:
	xen_direct_operation read_cr2
	xen_direct_operation save_fl
	xen_direct_operation restore_fl
	xen_direct_operation irq_disable
	xen_direct_operation irq_enable
	xen_direct_operation iret
xen_direct_ops_end:
.popsection

/* What the domain builder reads: ELF notes of the owner "Xen". */
.macro xen_note_address type, value
	.long 4, 4, \type
	.asciz "Xen"
	.long \value
.endm

.macro xen_note_text type, text
	.long 4, 2f - 1f, \type
	.asciz "Xen"
1:	.asciz "\text"
2:	.balign 4
.endm

.pushsection .note.Xen, "a"
.balign 4
	xen_note_text XEN_ELFNOTE_GUEST_OS, linux
	xen_note_text XEN_ELFNOTE_GUEST_VERSION, 2.6
	xen_note_text XEN_ELFNOTE_XEN_VERSION, xen-3.0
	xen_note_address XEN_ELFNOTE_VIRT_BASE, PAGE_OFFSET
	xen_note_address XEN_ELFNOTE_PADDR_OFFSET, PAGE_OFFSET
	xen_note_address XEN_ELFNOTE_ENTRY, startup_xen
	xen_note_address XEN_ELFNOTE_HYPERCALL_PAGE, hypercall_page
	xen_note_text XEN_ELFNOTE_PAE_MODE, no
	xen_note_text XEN_ELFNOTE_LOADER, generic
.popsection
