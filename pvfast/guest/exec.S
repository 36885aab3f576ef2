/*
 * execve of a program that is built in: new memory, and a start from nothing.
 *
 * Enters: sys_execve from entry.S; program_mm from fork.S and start_thread from bench.S for the first process.
 * Programs are in .user.text (the user_*.S), all in the same pages; a row in user_programs is its entry point.
 * Leaves: in the program's first instruction, EBX what its caller gave, the stack empty.
 * Next: exit.S.
 */

.text

/* EBX: number of the program, ECX: a word for it. There are no names, arguments or environments. */
sys_execve:
	cmpl $NR_PROGRAMS, %ebx
	jae 1f
	leal 4(%esp), %edi
	movl user_programs(,%ebx,4), %esi
	movl %ecx, %ebp
	call program_mm
	testl %eax, %eax
	jz no_memory
	call exec_mmap
	call flush_signal_handlers
	call flush_thread
	movl %edi, %eax
	movl %esi, %edx
	movl %ebp, %ecx
	call start_thread
	xorl %eax, %eax
	ret
1:	movl $-ENOENT, %eax
	ret

/* (EAX: new mm). It is current's from now on; the old one is given back. */
exec_mmap:
	pushl %ebx
	pushl %esi
	movl %gs:PDA_pcurrent, %ecx
	movl %eax, %ebx
	movl TASK_mm(%ecx), %esi
	movl %eax, TASK_mm(%ecx)
	movl %eax, TASK_active_mm(%ecx)
	.ifdef PARAVIRT_activate_mm
	movl %esi, %eax
	movl %ebx, %edx
	paravirt_call activate_mm
	.endif
	movl %esi, %eax
	movl %ebx, %edx
	call switch_mm
	movl %esi, %eax
	popl %esi
	popl %ebx
	jmp mmput

/* What belongs to the old program in current's thread_struct. */
flush_thread:
	pushl %edi
	movl %gs:PDA_pcurrent, %edx
	xorl %eax, %eax
	leal TASK_thread + THREAD_tls_array(%edx), %edi
	movl $6, %ecx
	rep stosl
	leal TASK_thread + THREAD_debugreg(%edx), %edi
	movl $8, %ecx
	rep stosl
	movl TASK_thread_info(%edx), %edx
	andl $~_TIF_DEBUG, TI_flags(%edx)
	popl %edi
	ret

/* (EAX: pt_regs, EDX: entry point, ECX: what EBX shall be there) */
start_thread:
	pushl %edi
	pushl %ecx
	movl %eax, %edi
	pushl %eax
	xorl %eax, %eax
	movl $(PT_BYTES / 4), %ecx
	rep stosl
	popl %eax
	popl PT_EBX(%eax)
	movl $__USER_DS, %ecx
	movl %ecx, PT_DS(%eax)
	movl %ecx, PT_ES(%eax)
	movl %ecx, PT_OLDSS(%eax)
	movl $__USER_CS, PT_CS(%eax)
	movl $(X86_EFLAGS_IF + X86_EFLAGS_RESERVED), PT_EFLAGS(%eax)
	movl %edx, PT_EIP(%eax)
	movl $USER_STACK_TOP, PT_OLDESP(%eax)
	movl $-1, PT_ORIG_EAX(%eax)
	popl %edi
	ret

/* () -> EAX: an mm with the areas of a program, of which no page is there yet; 0: no memory. */
program_mm:
	pushl %ebx
	pushl %esi
	call mm_alloc
	testl %eax, %eax
	jz 3f
	movl %eax, %ebx
	movl $program_areas, %esi
1:	movl %ebx, %eax
	movl %esi, %edx
	call insert_vm_copy
	testl %eax, %eax
	jnz 2f
	addl $VMA_next, %esi
	cmpl $program_areas_end, %esi
	jb 1b
	movl %ebx, %eax
	jmp 3f
2:	movl %ebx, %eax
	call mmput
	xorl %eax, %eax
3:	popl %esi
	popl %ebx
	ret

.pushsection .rodata
.balign 4
user_programs:
	.long user_exit_with            /* 0 */
user_programs_end:
.equ PROGRAM_exit_with, 0
.equ NR_PROGRAMS, (user_programs_end - user_programs) / 4

/* struct vm_area_struct up to VMA_next: start, end, flags, rights, pages. */
program_areas:
	.long USER_TEXT, USER_TEXT + USER_TEXT_PAGES * PAGE_SIZE, VM_READ | VM_EXEC, PAGE_READONLY, user_text_pages
	.long USER_DATA, USER_DATA + USER_DATA_PAGES * PAGE_SIZE, VM_READ | VM_WRITE, PAGE_COPY, user_data_pages
	.long USER_STACK_TOP - USER_STACK_PAGES * PAGE_SIZE, USER_STACK_TOP, VM_READ | VM_WRITE, PAGE_COPY, 0
program_areas_end:

.macro page_table_of label, count
	.rept \count
	.long \label + (. - \label\()s) / 4 * PAGE_SIZE
	.endr
.endm

user_text_pages:
	page_table_of user_text_page, USER_TEXT_PAGES
user_data_pages:
	page_table_of user_data_page, USER_DATA_PAGES
.popsection
