/*
 * Segments and rights of a task's own: set_thread_area and iopl.
 *
 * A segment is described by struct user_desc, as for modify_ldt (ldt.S). The selectors of the three
 * thread-local segments stand in the global descriptor table, and change with the task.
 * Next: ldt.S.
 */

.text

/* Bits of a user_desc's flags (ECX) go up into the high word (EDX); destroys EBX. */
.macro user_desc_bits mask, shift
	movl %ecx, %ebx
	andl $\mask, %ebx
	shll $\shift, %ebx
	orl %ebx, %edx
.endm

/* (struct user_desc *). An entry number of -1 asks for a free one. */
sys_set_thread_area:
	subl $USER_DESC_BYTES, %esp
	movl %esp, %eax
	movl %ebx, %edx
	movl $USER_DESC_BYTES, %ecx
	call copy_from_user
	testl %eax, %eax
	jnz 4f
	movl %gs:PDA_pcurrent, %edi
	leal TASK_thread(%edi), %edi
	movl USER_DESC_entry_number(%esp), %esi
	cmpl $-1, %esi
	jne 2f
	movl $GDT_ENTRY_TLS_MIN, %esi
1:	movl THREAD_tls_array - GDT_ENTRY_TLS_MIN * 8(%edi,%esi,8), %eax
	orl THREAD_tls_array - GDT_ENTRY_TLS_MIN * 8 + 4(%edi,%esi,8), %eax
	jz 6f
	incl %esi
	cmpl $GDT_ENTRY_TLS_MAX, %esi
	jbe 1b
	movl $-ESRCH, %eax
	jmp 5f
6:	movl %esi, USER_DESC_entry_number(%esp)
	movl %ebx, %eax
	movl %esp, %edx
	movl $4, %ecx                           /* the number alone */
	call copy_to_user
	testl %eax, %eax
	jnz 4f
2:	leal -GDT_ENTRY_TLS_MIN(%esi), %eax
	cmpl $(GDT_ENTRY_TLS_MAX - GDT_ENTRY_TLS_MIN), %eax
	ja 3f
	movl %esp, %eax
	call user_desc_words
	movl %eax, THREAD_tls_array - GDT_ENTRY_TLS_MIN * 8(%edi,%esi,8)
	movl %edx, THREAD_tls_array - GDT_ENTRY_TLS_MIN * 8 + 4(%edi,%esi,8)
	movl %edi, %eax
	xorl %edx, %edx                         /* the CPU */
	paravirt_call load_tls
	xorl %eax, %eax
	jmp 5f
3:	movl $-EINVAL, %eax
	jmp 5f
4:	movl $-EFAULT, %eax
5:	addl $USER_DESC_BYTES, %esp
	ret

/* (EAX: struct user_desc); the descriptor, EAX the low word and EDX the high one. All zeros when it is empty. */
user_desc_words:
	pushl %ebx
	pushl %esi
	movl %eax, %esi
	movl USER_DESC_flags(%esi), %ecx
	andl $USER_DESC_FLAGS, %ecx
	xorl $USER_DESC_EMPTY, %ecx             /* the bits that are 1 for nothing */
	movl USER_DESC_base_addr(%esi), %edx
	movl %ecx, %eax
	orl %edx, %eax
	orl USER_DESC_limit(%esi), %eax
	jz 1f
	movl %edx, %eax
	shll $16, %eax
	movw USER_DESC_limit(%esi), %ax         /* low: base 15-0, limit 15-0 */
	andl $0xff000000, %edx
	movzbl USER_DESC_base_addr + 2(%esi), %ebx
	orl %ebx, %edx
	movl USER_DESC_limit(%esi), %ebx
	andl $0x000f0000, %ebx
	orl %ebx, %edx
	orl $DESCRIPTOR_USER, %edx
	user_desc_bits 0x01, 22                 /* seg_32bit */
	user_desc_bits 0x06, 9                  /* contents */
	user_desc_bits 0x08, 6                  /* not read_exec_only */
	user_desc_bits 0x10, 19                 /* limit_in_pages */
	user_desc_bits 0x20, 10                 /* not seg_not_present */
	user_desc_bits 0x40, 14                 /* useable */
1:	popl %esi
	popl %ebx
	ret

/* (level). What it was before does not matter: everybody may everything. */
sys_iopl:
	cmpl $USER_RPL, %ebx
	ja invalid_argument
	movl %gs:PDA_pcurrent, %edx
	movl %ebx, %eax
	shll $IOPL_SHIFT, %eax
	movl %eax, TASK_thread + THREAD_iopl(%edx)
	andl $~X86_EFLAGS_IOPL, 4 + PT_EFLAGS(%esp)
	orl %eax, 4 + PT_EFLAGS(%esp)
	paravirt_call set_iopl_mask
	xorl %eax, %eax
	ret
