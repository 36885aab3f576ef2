/*
 * Reading and writing the user's memory, which may not be there.
 *
 * Each function checks that the user's part of the address space holds all of the bytes, and answers how many
 * were not copied: 0 is success. A page that is not there, or is read-only, ends the copy through __ex_table.
 * Next: files.S.
 */

.text

/* Jumps to fail unless the user may own size bytes at address; destroys scratch. */
.macro access_ok address, size, scratch, fail
	movl \address, \scratch
	addl \size, \scratch
	jc \fail
	cmpl $PAGE_OFFSET, \scratch
	ja \fail
.endm

/* (EAX: to, in user memory, EDX: from, ECX: bytes) */
copy_to_user:
	pushl %edi
	access_ok %eax, %ecx, %edi, 5f
	jmp copy_user

/* (EAX: to, EDX: from, in user memory, ECX: bytes) */
copy_from_user:
	pushl %edi
	access_ok %edx, %ecx, %edi, 5f
copy_user:
	pushl %esi
	movl %eax, %edi
	movl %edx, %esi
	movl %ecx, %eax
	andl $3, %eax
	shrl $2, %ecx
1:	rep movsl
	movl %eax, %ecx
2:	rep movsb
3:	movl %ecx, %eax
	popl %esi
	popl %edi
	ret
4:	leal (%eax,%ecx,4), %ecx
	jmp 3b
5:	movl %ecx, %eax
	popl %edi
	ret
	ex_table 1b, 4b
	ex_table 2b, 3b

/* (EAX: to, in user memory, EDX: bytes) */
clear_user:
	pushl %edi
	access_ok %eax, %edx, %ecx, 3f
	movl %eax, %edi
	movl %edx, %ecx
	xorl %eax, %eax
1:	rep stosb
2:	movl %ecx, %eax
	popl %edi
	ret
3:	movl %edx, %eax
	popl %edi
	ret
	ex_table 1b, 2b

/* (EAX: to, EDX: text, in user memory, ECX: room); the length, or room when it does not end, or -EFAULT. */
strncpy_from_user:
	pushl %ebx
	xorl %ebx, %ebx
1:	cmpl %ecx, %ebx
	jae 3f
	cmpl $PAGE_OFFSET, %edx
	jae 4f
	pushl %ecx
2:	movb (%edx), %cl
	movb %cl, (%eax,%ebx)
	testb %cl, %cl
	popl %ecx
	jz 3f
	incl %edx
	incl %ebx
	jmp 1b
3:	movl %ebx, %eax
	popl %ebx
	ret
5:	addl $4, %esp
4:	movl $-EFAULT, %eax
	popl %ebx
	ret
	ex_table 2b, 5b
