/*
 * Open files: descriptors, and the system calls that find a file's own functions.
 *
 * A task has a struct files_struct, an array of pointers to struct file; a struct file has its operations, a
 * count of its users and a position. Its functions take (EAX: file, EDX: buffer in user memory, ECX: bytes) and
 * answer the bytes done or a negative error number.
 * Next: devices.S, pipe.S: whose functions those are.
 */

.text

	kmem_cache filp_cachep, FILE_BYTES, NR_FILES
	kmem_cache files_cachep, FILES_BYTES, NR_TASKS
	kmem_cache names_cachep, NAME_BYTES, NR_TASKS

/* (EAX: descriptor); its file, or 0. The files_struct is this task's alone, so nothing need be counted. */
fget_light:
	cmpl $NR_OPEN, %eax
	jae 1f
	movl %gs:PDA_pcurrent, %edx
	movl TASK_files(%edx), %edx
	movl FILES_fd(%edx,%eax,4), %eax
	ret
1:	xorl %eax, %eax
	ret

/* read and write differ in which of the file's functions they go to. */
.macro file_transfer function
	movl %ebx, %eax
	call fget_light
	testl %eax, %eax
	jz bad_descriptor
	movl F_op(%eax), %esi
	movl \function(%esi), %esi
	testl %esi, %esi
	jz bad_descriptor
	movl 4 + PT_ECX(%esp), %edx
	movl 4 + PT_EDX(%esp), %ecx
	testl %ecx, %ecx
	js invalid_argument
	access_ok %edx, %ecx, %edi, bad_address
	jmp *%esi
.endm

/* (descriptor, buffer, bytes) */
sys_read:
	file_transfer FOP_read

sys_write:
	file_transfer FOP_write

bad_descriptor:
	movl $-EBADF, %eax
	ret
invalid_argument:
	movl $-EINVAL, %eax
	ret
bad_address:
	movl $-EFAULT, %eax
	ret

/* (descriptor, offset, whence). Devices have no end, so SEEK_SET is all there is. */
sys_lseek:
	movl %ebx, %eax
	call fget_light
	testl %eax, %eax
	jz bad_descriptor
	cmpl $0, 4 + PT_EDX(%esp)
	jne invalid_argument
	movl 4 + PT_ECX(%esp), %edx
	movl %edx, F_pos(%eax)
	movl %edx, %eax
	ret

/* (name, flags, mode). There are devices and nothing else, and anyone may do anything with them. */
sys_open:
	movl $names_cachep, %eax
	call kmem_cache_alloc
	testl %eax, %eax
	jz no_memory
	movl %eax, %ebp                 /* the name */
	movl 4 + PT_EBX(%esp), %edx
	movl $NAME_BYTES, %ecx
	call strncpy_from_user
	testl %eax, %eax
	js 2f
	movl $chrdevs, %ebx
1:	movl (%ebx), %esi
	testl %esi, %esi
	movl $-ENOENT, %eax
	jz 2f
	movl %ebp, %eax
	movl %esi, %edx
	call strcmp
	testl %eax, %eax
	jz 3f
	addl $8, %ebx
	jmp 1b
3:	movl 4(%ebx), %eax
	call open_file
2:	pushl %eax
	movl $names_cachep, %eax
	movl %ebp, %edx
	call kmem_cache_free
	popl %eax
	ret

no_memory:
	movl $-ENOMEM, %eax
	ret

/* (EAX, EDX: texts); 0 when they are equal. */
strcmp:
	movb (%eax), %cl
	cmpb (%edx), %cl
	jne 1f
	incl %eax
	incl %edx
	testb %cl, %cl
	jnz strcmp
	xorl %eax, %eax
	ret
1:	movl $1, %eax
	ret

/* (EAX: operations); a descriptor of a new file with them, or a negative error number. */
open_file:
	pushl %ebx
	pushl %esi
	movl %eax, %ebx
	movl %gs:PDA_pcurrent, %edx
	movl TASK_files(%edx), %esi
	xorl %eax, %eax
1:	cmpl $0, FILES_fd(%esi,%eax,4)
	je 2f
	incl %eax
	cmpl $NR_OPEN, %eax
	jb 1b
	movl $-EMFILE, %eax
	jmp 3f
2:	leal FILES_fd(%esi,%eax,4), %esi
	pushl %eax
	movl $filp_cachep, %eax
	call kmem_cache_alloc
	movl %eax, %edx
	popl %eax
	testl %edx, %edx
	jz 4f
	movl %ebx, F_op(%edx)
	movl $1, F_count(%edx)
	movl $0, F_pos(%edx)
	movl %edx, (%esi)
3:	popl %esi
	popl %ebx
	ret
4:	movl $-ENFILE, %eax
	jmp 3b

/* (descriptor) */
sys_close:
	movl %ebx, %eax
	call fget_light
	testl %eax, %eax
	jz bad_descriptor
	movl $0, FILES_fd(%edx,%ebx,4)
	call fput
	xorl %eax, %eax
	ret

/* (EAX: file). One user less; the last one releases it. */
fput:
	atomic_dec F_count(%eax)
	jnz 1f
	pushl %ebx
	movl %eax, %ebx
	movl F_op(%eax), %edx
	movl FOP_release(%edx), %edx
	testl %edx, %edx
	jz 2f
	call *%edx
2:	movl $filp_cachep, %eax
	movl %ebx, %edx
	popl %ebx
	jmp kmem_cache_free
1:	ret

/* (EAX: a new task). It gets this task's open files; 0 or -ENOMEM. */
copy_files:
	pushl %ebx
	movl %eax, %ebx
	movl $files_cachep, %eax
	call kmem_cache_alloc
	testl %eax, %eax
	jz 3f
	movl %eax, TASK_files(%ebx)
	movl %gs:PDA_pcurrent, %edx
	movl TASK_files(%edx), %edx
	xorl %ebx, %ebx
1:	movl FILES_fd(%edx,%ebx,4), %ecx
	movl %ecx, FILES_fd(%eax,%ebx,4)
	testl %ecx, %ecx
	jz 2f
	atomic_inc F_count(%ecx)
2:	incl %ebx
	cmpl $NR_OPEN, %ebx
	jb 1b
	xorl %eax, %eax
	popl %ebx
	ret
3:	movl $-ENOMEM, %eax
	popl %ebx
	ret

/* (EAX: task). Everything that it has open is closed. */
exit_files:
	pushl TASK_files(%eax)
	movl TASK_files(%eax), %eax
	call close_files
	movl $files_cachep, %eax
	popl %edx
	jmp kmem_cache_free

/* (EAX: files_struct) */
close_files:
	pushl %ebx
	pushl %esi
	movl %eax, %esi
	xorl %ebx, %ebx
1:	xorl %eax, %eax
	xchgl FILES_fd(%esi,%ebx,4), %eax
	testl %eax, %eax
	jz 2f
	call fput
2:	incl %ebx
	cmpl $NR_OPEN, %ebx
	jb 1b
	popl %esi
	popl %ebx
	ret

.pushsection .data
.balign 4
init_files:
	.fill NR_OPEN, 4, 0
.popsection
