/*
 * The time of day: what the clock said at boot, and the time-stamp counter since.
 *
 * Enters: time_boot from main.S, the rest as system calls. One cycle is taken for one nanosecond: 2.6.20 would
 * measure it with the interval timer, which this kernel leaves alone.
 * Next: tls.S.
 */

.text

time_boot:
	paravirt_call get_wallclock
	movl %eax, wall_seconds
	paravirt_call read_tsc
	movl %eax, wall_tsc
	movl %edx, wall_tsc + 4
	ret

/* (); EAX: seconds, EDX: nanoseconds, since 1970 where the clock knows the date. */
getnstimeofday:
	paravirt_call read_tsc
	subl wall_tsc, %eax
	sbbl wall_tsc + 4, %edx
	movl $NSEC_PER_SEC, %ecx
	divl %ecx
	addl wall_seconds, %eax
	ret

/* (where to put it or 0) */
sys_time:
	call getnstimeofday
	testl %ebx, %ebx
	jz 2f
	cmpl $(PAGE_OFFSET - 4), %ebx
	ja bad_address
1:	movl %eax, (%ebx)
2:	ret
	ex_table 1b, bad_address

/* (where the seconds are). The clock is told too, if it can be. */
sys_stime:
	cmpl $(PAGE_OFFSET - 4), %ebx
	ja bad_address
1:	movl (%ebx), %esi
	ex_table 1b, bad_address
	call getnstimeofday
	subl %esi, %eax
	subl %eax, wall_seconds
	movl %esi, %eax
	paravirt_call set_wallclock
	xorl %eax, %eax
	ret

/* (where to put seconds and microseconds or 0, time zone: there is none) */
sys_gettimeofday:
	testl %ebx, %ebx
	jz 1f
	call getnstimeofday
	pushl %eax
	movl %edx, %eax
	xorl %edx, %edx
	movl $NSEC_PER_USEC, %ecx
	divl %ecx
	popl %edx
	pushl %eax
	pushl %edx
	movl %ebx, %eax
	movl %esp, %edx
	movl $8, %ecx
	call copy_to_user
	addl $8, %esp
	testl %eax, %eax
	jnz bad_address
1:	xorl %eax, %eax
	ret

.equ NSEC_PER_USEC, 1000

.pushsection .data
.balign 4
wall_seconds:
	.long 0
wall_tsc:
	.long 0, 0                      /* when it was wall_seconds */
.popsection
