/*
 * Which function a system call's number leads to. No code; the numbers are asm-i386/unistd.h's (constants.S).
 *
 * A function finds its arguments in pt_regs, above its return address, as an asmlinkage function does; EBX, ECX,
 * ESI, EDI and EBP still hold them when it begins. It may destroy every register, and leaves its result, or a
 * negative error number, in EAX.
 * Next: syscalls.S, and the file that each function's topic names.
 */

/* The numbers between two that this kernel has. */
.macro ni_syscalls after, before
	.rept \before - \after - 1
	.long sys_ni_syscall
	.endr
.endm

.pushsection .rodata
.balign 4
sys_call_table:
	.long sys_ni_syscall            /* restart_syscall */
	.long sys_exit
	.long sys_fork
	.long sys_read
	.long sys_write
	.long sys_open
	.long sys_close
	.long sys_waitpid
	ni_syscalls __NR_waitpid, __NR_execve
	.long sys_execve
	ni_syscalls __NR_execve, __NR_time
	.long sys_time
	ni_syscalls __NR_time, __NR_lseek
	.long sys_lseek
	.long sys_getpid
	ni_syscalls __NR_getpid, __NR_stime
	.long sys_stime
	.long sys_ptrace
	ni_syscalls __NR_ptrace, __NR_kill
	.long sys_kill
	ni_syscalls __NR_kill, __NR_pipe
	.long sys_pipe
	ni_syscalls __NR_pipe, __NR_getppid
	.long sys_getppid
	ni_syscalls __NR_getppid, __NR_gettimeofday
	.long sys_gettimeofday
	ni_syscalls __NR_gettimeofday, __NR_reboot
	.long sys_reboot
	ni_syscalls __NR_reboot, __NR_munmap
	.long sys_munmap
	ni_syscalls __NR_munmap, __NR_iopl
	.long sys_iopl
	ni_syscalls __NR_iopl, __NR_sigreturn
	.long sys_sigreturn
	ni_syscalls __NR_sigreturn, __NR_modify_ldt
	.long sys_modify_ldt
	ni_syscalls __NR_modify_ldt, __NR_rt_sigaction
	.long sys_rt_sigaction
	ni_syscalls __NR_rt_sigaction, __NR_mmap2
	.long sys_mmap2
	ni_syscalls __NR_mmap2, __NR_set_thread_area
	.long sys_set_thread_area
	ni_syscalls __NR_set_thread_area, NR_syscalls
.popsection
