/*
 * apply_paravirt: the kernel patches its own call sites.
 *
 * Enters: from vmi.S, while nothing may interrupt. Only there: usually pvfast patches the image from outside. Leaves:
 * every site holds what paravirt_ops.patch wrote there, and NOPs. Running it again writes the same bytes, for patch
 * looks at the records alone. From 2.6.23 on a copy is patched and put back. Kernel: arch/i386/kernel/alternative.c.
 * Next: vmi.S.
 */

/* struct paravirt_patch, a record of .parainstructions. */
.equ PATCH_SITE_instr, 0
.equ PATCH_SITE_instrtype, 4
.equ PATCH_SITE_len, 5
.equ PATCH_SITE_clobbers, 6
.equ PATCH_SITE_BYTES, 8

.text

/* (EAX: first record, EDX: behind the last) */
apply_paravirt:
	pushl %ebx
	pushl %esi
	pushl %edi
	movl %eax, %ebx
	movl %edx, %esi
1:	cmpl %esi, %ebx
	jae 2f
	movzbl PATCH_SITE_len(%ebx), %edi
	pushl %edi                      /* the last argument */
	movl PATCH_SITE_instr(%ebx), %ecx
	.if ARGUMENTS_patch == 5
	pushl %ecx
	movl $insnbuf, %eax
	movl %ecx, %edx
	movl %edi, %ecx
	call text_poke
	movl $insnbuf, %ecx
	.endif
	movzwl PATCH_SITE_clobbers(%ebx), %edx
	movzbl PATCH_SITE_instrtype(%ebx), %eax
	paravirt_call patch
	addl $((ARGUMENTS_patch - 3) * 4), %esp
	movl PATCH_SITE_instr(%ebx), %ecx
	.if ARGUMENTS_patch == 5
	movl $insnbuf, %ecx
	.endif
	movl %edi, %edx
	subl %eax, %edx
	addl %ecx, %eax
	call nop_out
	.if ARGUMENTS_patch == 5
	movl PATCH_SITE_instr(%ebx), %eax
	movl $insnbuf, %edx
	movl %edi, %ecx
	call text_poke
	.endif
	addl $PATCH_SITE_BYTES, %ebx
	jmp 1b
2:	popl %edi
	popl %esi
	popl %ebx
	ret

/* (EAX: to, EDX: from, ECX: length) */
text_poke:
	pushl %esi
	pushl %edi
	movl %eax, %edi
	movl %edx, %esi
	rep movsb
	popl %edi
	popl %esi
	ret

/* (EAX: address, EDX: length). Chunks of at most eight bytes, the largest first. */
nop_out:
	pushl %esi
	pushl %edi
	movl %eax, %edi
1:	testl %edx, %edx
	jz 3f
	movl %edx, %ecx
	cmpl $ASM_NOP_MAX, %ecx
	jbe 2f
	movl $ASM_NOP_MAX, %ecx
2:	subl %ecx, %edx
	leal intel_nops - ASM_NOP_MAX(,%ecx,8), %esi
	rep movsb
	jmp 1b
3:	popl %edi
	popl %esi
	ret

.pushsection .rodata
intel_nops:
	intel_nop_rows                  /* ASM_NOP_MAX rows of as many bytes: prelude.py */
.popsection

.pushsection .data
insnbuf:
	.fill MAX_PATCH_LEN, 1, 0
.popsection
