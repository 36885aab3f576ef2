/*
 * VMI: finding the ROM, calling it, and pointing paravirt_ops into it.
 *
 * Enters: vmi_init from main.S, on bare hardware, in ring 0, interrupts off. Leaves: the same way, on bare hardware
 * still when there is no ROM, else in the ring that the ROM chose, with paravirt_ops filled and the call sites
 * patched. Kernel: arch/i386/kernel/vmi.c and setup.c of 2.6.21.
 * Next: vmi_operations.S, the wrappers; pvfast/paravirt/hypervisors/vmi_rom.py, the ROM.
 */

.equ MNEM_CALL, 0xe8
.equ MNEM_JMP, 0xe9
.equ VMI_CALL_BYTES, 5                  /* of either */
.equ VMI_ROW_BYTES, 12                  /* of the tables at the end */
.equ VMI_MAP_LOWMEM, 0
.equ VMI_SAVE_DISABLE, -1               /* no call: GetInterruptMask, then DisableInterrupts */
.equ VMI_POISON_IRET, 0x0badbab0
.equ VMI_POISON_SYSEXIT, 0xfeedbab0

.text

/* A kernel that knows its hypervisor already does not look for another. */
vmi_init:
vmi_probe:                              /* as the probes are named: by it one sees that this kernel can */
	cmpl $0, paravirt_ops + PARAVIRT_paravirt_enabled
	jne 2f
	pushl %ebx
	movl $(PAGE_OFFSET + VROM_FIRST), %ebx
1:	call check_vmi_rom
	testl %eax, %eax
	jnz activate_vmi
	addl $VROM_STEP, %ebx
	cmpl $(PAGE_OFFSET + VROM_END), %ebx
	jb 1b
	popl %ebx
2:	ret

/* EBX: where a ROM may begin. EAX: not 0 when one is there that this kernel may use. */
check_vmi_rom:
	pushl %esi
	pushl %edi
	cmpw $ROM_SIGNATURE, VROM_ROM_SIGNATURE(%ebx)
	jne 2f
	cmpl $VMI_SIGNATURE, VROM_VROM_SIGNATURE(%ebx)
	jne 2f
	cmpb $VMI_API_REV_MAJOR, VROM_API_VERSION_MAJ(%ebx)
	jne 2f
	cmpw $0, VROM_PCI_HEADER_OFFS(%ebx)     /* whose it is does not matter */
	je 2f
	movzwl VROM_LICENSE_OFFS(%ebx), %edx
	testl %edx, %edx
	jz 2f
	addl %ebx, %edx
	movl %edx, %esi
	movl $license_gpl, %edi
	movl $(license_gpl_v2 - license_gpl), %ecx
	repe cmpsb
	je 1f
	movl %edx, %esi
	movl $license_gpl_v2, %edi
	movl $(license_end - license_gpl_v2), %ecx
	repe cmpsb
	jne 2f
1:	movl $1, %eax
	jmp 3f
2:	xorl %eax, %eax
3:	popl %edi
	popl %esi
	ret

/* EBX: the ROM; pushed by vmi_init, which this returns for. */
activate_vmi:
	leal VROM_VMI_INIT(%ebx), %eax
	call *%eax
	testl %eax, %eax
	jnz 7f                          /* it does not want us: bare hardware */
	movl %ebx, vmi_rom

	movl %cs, %ecx                  /* no longer ring 0 */
	andl $SEGMENT_RPL_MASK, %ecx
	movl %ecx, paravirt_ops + PARAVIRT_kernel_rpl
	movl $1, paravirt_ops + PARAVIRT_paravirt_enabled
	movl $vmi_name, paravirt_ops + PARAVIRT_name
	movl $vmi_patch, paravirt_ops + PARAVIRT_patch

	/* Where each call is; 0: nowhere, the native code is right. */
	xorl %ebx, %ebx
1:	movl %ebx, %eax
	call vmi_get_reloc
	movzbl %dl, %edx
	cmpl $VMI_RELOCATION_NONE, %edx
	jne 2f
	xorl %eax, %eax
2:	cmpl $VMI_RELOCATION_NOP, %edx
	jne 3f
	movl $vmi_nop, %eax
3:	movl %eax, vmi_ops(,%ebx,4)
	incl %ebx
	cmpl $VMI_CALLS, %ebx
	jb 1b

	/* Rows of operation, call, wrapper; without a wrapper the pointer goes to the ROM itself. */
	movl $vmi_paravirt_ops, %ebx
4:	movl 4(%ebx), %eax
	movl vmi_ops(,%eax,4), %eax
	testl %eax, %eax
	jz 6f
	cmpl $0, 8(%ebx)
	je 5f
	movl 8(%ebx), %eax
5:	movl (%ebx), %edx
	movl %eax, paravirt_ops(%edx)
6:	addl $VMI_ROW_BYTES, %ebx
	cmpl $vmi_paravirt_ops_end, %ebx
	jb 4b

	/*
	 * The ROM may want to be called or to be jumped to, so these two cannot be pointers. Every site has to be
	 * patched, and before the first interrupt returns. Linux patches again when it has booted: that must change
	 * nothing.
	 */
	movl $VMI_POISON_IRET, paravirt_ops + PARAVIRT_iret
	movl $VMI_POISON_SYSEXIT, paravirt_ops + PARAVIRT_irq_enable_sysexit
	movl $irq_save_disable_callout, %ecx
	movl $(2 * VMI_CALL_BYTES + 1), %edx
	movl $VMI_CALL_GetInterruptMask, %eax
	call patch_internal
	movl $irq_save_disable_callout + VMI_CALL_BYTES, %ecx
	movl $(VMI_CALL_BYTES + 1), %edx
	movl $VMI_CALL_DisableInterrupts, %eax
	call patch_internal
	movl $__start_parainstructions, %eax
	movl $__stop_parainstructions, %edx
	call apply_paravirt

	/* Where low memory is mapped. */
	movl $VMI_MAP_LOWMEM, %eax
	movl $PAGE_OFFSET, %edx
	movl $(LOWMEM_TABLES * PTRS_PER_TABLE), %ecx
	pushl $0
	call *vmi_ops + VMI_CALL_SetLinearMapping * 4
	addl $4, %esp
7:	popl %ebx
	ret

/* (EAX: call); EAX is an address, DL what to do with it. */
vmi_get_reloc:
	movl vmi_rom, %ecx
	addl $VROM_GET_RELOC, %ecx
	jmp *%ecx

/*
 * (EAX: type, EDX: clobbers, ECX: instructions, stack: from 2.6.23 on their place; length); bytes used. What the ROM
 * destroys, a site allows.
 */
vmi_patch:
	.if ARGUMENTS_patch == 5
	movl 4(%esp), %edx
	subl %ecx, %edx
	movl %edx, vmi_patch_distance
	.endif
	pushl %ebx
	movl 4 + (ARGUMENTS_patch - 3) * 4(%esp), %edx
	movl $vmi_patch_calls, %ebx
1:	cmpl %eax, (%ebx)
	je 2f
	addl $VMI_ROW_BYTES, %ebx
	cmpl $vmi_patch_calls_end, %ebx
	jb 1b
	jmp 5f
2:	cmpl $0, vmi_patch_exits_only
	je 3f
	cmpl $0, 8(%ebx)
	je 5f
3:	movl 4(%ebx), %eax
	popl %ebx
	cmpl $VMI_SAVE_DISABLE, %eax
	jne patch_internal

	/* Two operations in one site: two calls, or one to a helper when the site is too short. */
	cmpl $(2 * VMI_CALL_BYTES), %edx
	jb 4f
	pushl %ecx
	pushl %edx
	movl $VMI_CALL_GetInterruptMask, %eax
	call patch_internal
	popl %edx
	popl %ecx
	subl $VMI_CALL_BYTES, %edx
	addl $VMI_CALL_BYTES, %ecx
	movl $VMI_CALL_DisableInterrupts, %eax
	call patch_internal
	movl $(2 * VMI_CALL_BYTES), %eax
	ret
4:	movl $irq_save_disable_callout, %eax
	movb $MNEM_CALL, (%ecx)
	jmp patch_offset

5:	movl %edx, %eax                 /* left as it is */
	popl %ebx
	ret

/* (EAX: call, EDX: length, ECX: instructions); bytes used. */
patch_internal:
	pushl %ebx
	pushl %esi
	movl %edx, %esi
	movl %ecx, %ebx
	call vmi_get_reloc
	movl %ebx, %ecx
	cmpb $VMI_RELOCATION_CALL_REL, %dl
	je 1f
	cmpb $VMI_RELOCATION_JUMP_REL, %dl
	je 2f
	xorl %eax, %eax
	cmpb $VMI_RELOCATION_NOP, %dl
	je 3f
	movl %esi, %eax
3:	popl %esi
	popl %ebx
	ret
1:	movb $MNEM_CALL, (%ecx)
	jmp 4f
2:	movb $MNEM_JMP, (%ecx)
4:	popl %esi
	popl %ebx

/* The operand of the instruction at ECX becomes the way to EAX; bytes used. */
patch_offset:
	subl vmi_patch_distance, %eax
	subl %ecx, %eax
	subl $VMI_CALL_BYTES, %eax
	movl %eax, 1(%ecx)
	movl $VMI_CALL_BYTES, %eax
	ret

vmi_nop:
	ret

/* Types of sites that are patched: the call, and whether the site leaves the kernel. */
.macro vmi_patch_row operation, call, exits=0
	.ifdef SITE_TYPE_\operation
	.long SITE_TYPE_\operation, \call, \exits
	.endif
.endm

/* An operation that the call of the ROM takes over, and the wrapper between the two. */
.macro para_fill operation, call
	.ifdef PARAVIRT_\operation
	.long PARAVIRT_\operation, VMI_CALL_\call, 0
	.endif
.endm
.macro para_wrap operation, call
	.ifdef PARAVIRT_\operation
	.long PARAVIRT_\operation, VMI_CALL_\call, vmi_\operation
	.endif
.endm

.pushsection .rodata
.balign 4
vmi_patch_calls:
	vmi_patch_row irq_disable, VMI_CALL_DisableInterrupts
	vmi_patch_row irq_enable, VMI_CALL_EnableInterrupts
	vmi_patch_row restore_fl, VMI_CALL_SetInterruptMask
	vmi_patch_row save_fl, VMI_CALL_GetInterruptMask
	vmi_patch_row save_fl_irq_disable, VMI_SAVE_DISABLE
	vmi_patch_row iret, VMI_CALL_IRET, 1
	vmi_patch_row irq_enable_sysexit, VMI_CALL_SYSEXIT, 1
vmi_patch_calls_end:
vmi_paravirt_ops:
	vmi_paravirt_rows               /* para_fill and para_wrap, from pvfast/paravirt/hypervisors/vmi.py */
vmi_paravirt_ops_end:
license_gpl:
	.asciz "GPL"
license_gpl_v2:
	.asciz "GPL v2"
license_end:
vmi_name:
	.asciz "vmi"
.popsection

.pushsection .data
.balign 4
vmi_rom:
	.long 0
vmi_ops:
	.fill VMI_CALLS, 4, 0
vmi_patch_exits_only:
	.long 0                         /* a host that writes 1 before the boot keeps the other sites as they are */
vmi_patch_distance:
	.long 0                         /* from a copy of the instructions to their place; 0: in place */
irq_save_disable_callout:
	.fill 2 * VMI_CALL_BYTES, 1, 0
	.byte 0xc3                      /* ret */
.popsection
