/*
 * modify_ldt: a process's own descriptor table.
 *
 * One page, made when the first entry is written, and told to the processor with all of its entries; after that
 * an entry changes by write_ldt_entry. It belongs to the memory of the process: MM_ldt, which switch_mm looks at.
 * Next: suspend.S.
 */

.text

/* (function, struct user_desc *, its size) */
sys_modify_ldt:
	cmpl $0, %ebx
	je read_ldt
	cmpl $LDT_WRITE_OLD, %ebx
	je write_ldt
	cmpl $LDT_WRITE, %ebx
	je write_ldt
	movl $-ENOSYS, %eax
	ret

/* ECX: where to put the table. */
read_ldt:
	movl %gs:PDA_pcurrent, %edx
	movl TASK_mm(%edx), %edx
	movl MM_ldt(%edx), %eax
	testl %eax, %eax
	jz 2f
	movl %eax, %edx
	movl 4 + PT_EDX(%esp), %eax
	cmpl $PAGE_SIZE, %eax
	jb 1f
	movl $PAGE_SIZE, %eax
1:	movl %eax, %esi
	xchgl %ecx, %eax
	call copy_to_user
	testl %eax, %eax
	jnz bad_address
	movl %esi, %eax
2:	ret

/* EBX: function, ECX: the description. */
write_ldt:
	cmpl $USER_DESC_BYTES, 4 + PT_EDX(%esp)
	jne invalid_argument
	subl $USER_DESC_BYTES, %esp
	movl %esp, %eax
	movl %ecx, %edx
	movl $USER_DESC_BYTES, %ecx
	call copy_from_user
	testl %eax, %eax
	movl $-EFAULT, %eax
	jnz 4f
	movl $-EINVAL, %eax
	movl USER_DESC_entry_number(%esp), %esi
	cmpl $LDT_ENTRIES, %esi
	jae 4f
	movl USER_DESC_flags(%esp), %ecx
	movl %ecx, %edx
	notl %edx
	testl $USER_DESC_CONTENTS, %edx         /* contents 3, conforming code: only when it is not present */
	jnz 1f
	cmpl $LDT_WRITE_OLD, %ebx
	je 4f
	testl $USER_DESC_NOT_PRESENT, %ecx
	jz 4f
1:	call alloc_ldt
	testl %eax, %eax
	jz 3f
	movl %eax, %edi
	movl %esp, %eax
	call user_desc_words
	cmpl $LDT_WRITE_OLD, %ebx
	jne 2f
	andl $~DESCRIPTOR_AVL, %edx
2:	pushl %edx
	movl %eax, %ecx
	movl %esi, %edx
	movl %edi, %eax
	write_entry write_ldt_entry
	addl $4, %esp
	xorl %eax, %eax
	jmp 4f
3:	movl $-ENOMEM, %eax
4:	addl $USER_DESC_BYTES, %esp
	ret

/* (); the table of this process, or 0. */
alloc_ldt:
	pushl %ebx
	movl %gs:PDA_pcurrent, %ebx
	movl TASK_mm(%ebx), %ebx
	movl MM_ldt(%ebx), %eax
	testl %eax, %eax
	jnz 1f
	call get_zeroed_page
	testl %eax, %eax
	jz 1f
	movl %eax, MM_ldt(%ebx)
	movl $LDT_ENTRIES, MM_ldt_entries(%ebx)
	movl $LDT_ENTRIES, %edx
	paravirt_call set_ldt
	movl MM_ldt(%ebx), %eax
1:	popl %ebx
	ret

/* (EAX: new mm, EDX: old mm). init_new_context: the table is copied; 0 or -ENOMEM. */
copy_ldt:
	pushl %ebx
	pushl %esi
	pushl %edi
	movl %eax, %ebx
	movl MM_ldt(%edx), %esi
	xorl %eax, %eax
	testl %esi, %esi
	jz 2f
	call get_free_page
	testl %eax, %eax
	jz 1f
	movl %eax, MM_ldt(%ebx)
	movl $LDT_ENTRIES, MM_ldt_entries(%ebx)
	movl %eax, %edi
	movl $(PAGE_SIZE / 4), %ecx
	rep movsl
	xorl %eax, %eax
	jmp 2f
1:	movl $-ENOMEM, %eax
2:	popl %edi
	popl %esi
	popl %ebx
	ret

/* (EAX: mm, which no processor uses). destroy_context. */
destroy_ldt:
	movl MM_ldt(%eax), %eax
	testl %eax, %eax
	jnz free_page
	ret
