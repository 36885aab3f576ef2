/* Compared byte for byte with GNU as, in the forms that kernel code uses. The test puts each line's own
   label in place of `near`, and defines far_away and table behind the last line. */
.equ counter, 0x2000
.equ other, 0x3000
pushf; popf; pushfl; popfl; iret; lret; lret $8; ret; ret $4; leave; enter $8,$0; nop; pause; hlt; ud2
cli; sti; cld; std; clc; stc; cmc; lahf; sahf; cltd; cwtl; cbtw; cwtd; clts; wbinvd; invd; cpuid; rdtsc; rdmsr; wrmsr
rdpmc; sysenter; sysexit; int $0x80; int $130; int3; into; xlat; aam; aad; daa; das; aaa; aas; pusha; popa
pushl $0x5a5a5a5a; pushl $-1; pushl $127; pushl $128; push %eax; pop %ebp; pushl (%eax); popl 8(%esp,%ecx,2)
push %ds; pop %ds; push %gs; pop %fs; pushl %es; popl %ss
movl $10,%eax; movb $0xff,%al; movb $-1,%cl; movw $0xffff,%ax; movl $0x5a5a5a5a, 0x3c3c3c3c
movl %eax,(%ebx,%ecx,4); movl 0x10,%eax; movl %eax,1000; movb 0x10,%al; movl -4(%ebp),%edx; movb %ah,128(%esi)
movl 0xc0400010(%eax),%ecx; movl table(,%eax,4),%ecx; movl $table+4,%esi; movl table+8,%edi; movl $table,other
movzbl (%eax),%ecx; movsbl %al,%ecx; movzwl %ax,%ecx; movswl 2(%eax),%edx; movzbw %al,%cx; movsbw (%esi),%ax
movb $1,%gs:8; testb $0xff,%gs:1; movl %fs:0,%eax; movl %esp,%ss:0x1000; cmpw $1,%gs:0; andw $255,%gs:0
call *0xc0400010; call *%cs:0xc0400010; jmp *%cs:0xc0400010; jmp *%eax; call *%edx; call *(%eax); call *table(,%eax,4)
ljmp *0x1000; lcall *(%eax); ljmp $0x10,$0xc0100000; lcall $0x33,$table
addl $-1,%eax; addl $0xffffffff,%eax; subl $128,%esp; subl $-128,%esp; addl $10,%ebx; andl $0xfffffff0,%esp
addl $table,%eax; cmpl $table,%ecx; cmpl %eax,(%ecx); cmpb $10,(%eax); orl $512,4(%esp); xorl %eax,%eax
adcl %edx,%ecx; sbbl $0,%edx; testl $3,%eax; test $3,%al; testl %eax,%eax; testw $3,8(%esp)
shll $4,%eax; shll %eax; shll $1,%eax; shrl %cl,%eax; sarl $31,%edx; roll $7,%ecx; rorb $1,%al; rcll $2,%eax
shldl $4,%eax,%ecx; shrdl %cl,%edx,%eax; imull $3,%eax,%ecx; imull $1000,(%eax),%ecx; imull %ecx,%eax; mull %ecx
divl %ecx; idivl (%eax); mulb %cl; negl (%eax); notl %eax; incl %eax; incb %al; dec %ecx; decl counter; incl counter
xchgl %eax,(%ecx); xchg %eax,%ecx; cmpxchgl %ecx,(%edx); cmpxchg8b (%edx); xaddl %eax,(%edx); bswap %eax
lock incl (%eax); lock; decl (%edx); lock cmpxchgl %ecx,(%edx); lock orl $1,counter
bsfl %eax,%ecx; bsrl (%eax),%ecx; btl %eax,%ecx; btsl $3,(%eax); btrl %ecx,(%edx); btcl $31,%eax
setz %al; setne (%eax); setg %dl; cmovz %eax,%ecx; cmovnel (%eax),%ecx; leal 4(%esp),%esp; lea table(%eax,%eax,8),%edx
rep movsl; rep; movsb; rep stosl; repe cmpsb; repne scasb; movsw; stosb; lodsl; insb; outsl; rep insl; rep outsb
inb $0x20,%al; inb %dx,%al; outb %al,$0x80; outl %eax,%dx; inl $64,%eax; outw %ax,%dx
lgdt (%eax); lidt table; sgdt 4(%eax); sidt (%esp); ltr %ax; lldt %ax; invlpg (%eax)
mov %cr0,%eax; mov %eax,%cr3; movl %cr2,%edx; movl %ecx,%cr4; movl %eax,%db7; movl %db6,%ecx
movl %ds,%eax; movl %eax,%ds; mov %cs,%eax; movl %eax,%gs; lss (%eax),%esp; lds (%eax),%esi; verr %ax; verw %cx
lmsw %ax; arpl %ax,%cx; fninit; fldl (%eax); fstpl 8(%eax); fadd %st(1),%st; fxsave (%eax); fxrstor (%eax)
jecxz near; loop near; jmp near; jz near; jnbe near; jc near; jmp far_away; jne far_away; call far_away; jnp far_away
1: jmp 1b; jmp 1f; 1: nop; pushl $far_away-near; .byte 10, 'A', 0x10; .word 10; .long far_away-near, . ; .ascii "a\tb"
.asciz "x"; .space 3; .space 2, 0xcc; .fill 2, 2, 0x1234; .long 1b - 4; .balign 4, 0xcc; .p2align 3, 0xcc
