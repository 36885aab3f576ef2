"""What a real system does all day: system calls, interrupts, far calls, segment loads, V86 code and its monitor.

Enters: nothing. Leaves: `SYSTEM_PROGRAMS`, and `tables()`, their GDT, IDT and TSS. Each sets itself up from flat
protected mode by LGDT, LIDT and LTR, so that every engine sees the same bytes. Next: programs.py.
"""

import struct

from .program import DATA, SYMBOLS, Program

GDT, IDT, TSS = DATA + 0x2000, DATA + 0x2800, DATA + 0x3000
KERNEL_CODE, KERNEL_DATA, USER_CODE, USER_DATA, TSS_SELECTOR, CALL_GATE = 0x08, 0x10, 0x1B, 0x23, 0x28, 0x33
FIRST_VECTOR = 0x80
V86_SEGMENT = 0xFFFF                    # its offsets 0x10 and up lie in BASE's first 64 KiB
V86_BASE = V86_SEGMENT << 4
SYSTEM_SYMBOLS = {
    "GDTR": GDT + 0x100, "IDTR": GDT + 0x108, "KERNEL_CODE": KERNEL_CODE, "KERNEL_DATA": KERNEL_DATA,
    "USER_CODE": USER_CODE, "USER_DATA": USER_DATA, "TSS_SELECTOR": TSS_SELECTOR, "CALL_GATE": CALL_GATE,
    "RING0_STACK": DATA + 0x5000, "USER_STACK": DATA + 0x6000, "V86_BASE": V86_BASE, "V86_SEGMENT": V86_SEGMENT,
}
SYMBOLS |= SYSTEM_SYMBOLS

START = """
start:
    movl $STACK_TOP, %esp
    cld
    lgdt GDTR
    lidt IDTR
    ljmp $KERNEL_CODE, $1f
1:  movl $KERNEL_DATA, %eax
    movl %eax, %ss
    movl $USER_DATA, %eax
    movl %eax, %ds
    movl %eax, %es
    movl $TSS_SELECTOR, %eax
    ltr %ax
    movl COUNT, %ecx
    jmp workload
finish:
"""
FINISH = "xorl %eax, %eax; done: nop"
TO_USER = "pushl $USER_DATA; pushl $USER_STACK; pushl $2; pushl $USER_CODE; pushl $user; iret"
TO_V86 = """
    pushl $0; pushl $0; pushl $0; pushl $0
    pushl $V86_SEGMENT; pushl $USER_STACK - V86_BASE
    pushl $0x20002; pushl $V86_SEGMENT; pushl $user - V86_BASE; iret
"""
NO_IDT = "hands interrupts to its host and looks at no IDT"


def _program(title: str, text: str, gates: tuple[str, ...] = (), only_pvfast: str = "") -> Program:
    start = START + ("hlt" if "done:" in text else FINISH)
    return Program(title, text, "", ring0=True, start=start, gates=("finish", *gates), only_pvfast=only_pvfast)


SYSTEM_PROGRAMS = {
    "int80": _program("system call: int $0x80 from CPL 3, iret", f"""
        {TO_USER}
        user: int $0x81; decl %ecx; jnz user; int $0x80
        .balign 16
        service: iret""", ("service",), only_pvfast=NO_IDT),
    "sysenter": _program("system call: sysenter, sysexit", f"""
        movl %ecx, %esi
        xorl %edx, %edx
        movl $0x174, %ecx; movl $KERNEL_CODE, %eax; wrmsr
        movl $0x175, %ecx; movl $RING0_STACK, %eax; wrmsr
        movl $0x176, %ecx; movl $service, %eax; wrmsr
        {TO_USER}
        user: sysenter
        .balign 16
        service: decl %esi; jz finish
        movl $user, %edx; movl $USER_STACK, %ecx; sysexit""", only_pvfast="hands SYSENTER to its host"),
    "interrupt": _program("interrupt within the kernel, iret", """
        1: int $0x81; decl %ecx; jnz 1b; jmp finish
        .balign 16
        service: iret""", ("service",), only_pvfast=NO_IDT),
    "page_fault": _program("page fault at CPL 0, iret over it", """
        1: movl 0x800000, %eax; decl %ecx; jnz 1b; jmp finish
        .balign 16
        service: addl $4, %esp; addl $5, (%esp); iret""", ("service",), only_pvfast=NO_IDT),
    "far_call": _program("far call and return, same level", """
        1: lcall $KERNEL_CODE, $service; decl %ecx; jnz 1b; jmp finish
        .balign 16
        service: lret"""),
    "call_gate": _program("call gate from CPL 3, far return", f"""
        {TO_USER}
        user: lcall $CALL_GATE, $0; jmp user
        .balign 16
        service: decl %ecx; jz finish
        lret""", ("service",)),
    "segment_loads": _program("mov to %ds, mov to %es, push and pop %fs", """
        movl $USER_DATA, %eax
        movl %eax, %fs
        1: movl %eax, %ds; movl %eax, %es; pushl %fs; popl %fs; decl %ecx; jnz 1b; jmp finish"""),
    "flags": _program("pushf, cli, popf", """
        1: pushfl; cli; popfl; decl %ecx; jnz 1b; jmp finish"""),
    "page_tables": _program("a page-table entry, invlpg, a load through it", """
        1: orl $0x20, 0x201000 + 0x12c * 4; invlpg 0x12c000; movl 0x12c000, %eax; decl %ecx; jnz 1b; jmp finish"""),
    "code16": _program("16-bit code in V86: load, add, store, near call", f"""
        {TO_V86}
        user:
        .byte 0xbe, 0x00, 0x60                      # mov $0x6000, %si
        .byte 0xbf, 0x00, 0x68                      # mov $0x6800, %di
        .byte 0xbb, 0x00, 0x02                      # mov $0x200, %bx
        .byte 0x31, 0xd2                            # xor %dx, %dx
        .byte 0x2e, 0x8a, 0x04                      # 1: mov %cs:(%si), %al
        .byte 0x00, 0xc2                            # add %al, %dl
        .byte 0x36, 0x88, 0x15                      # mov %dl, %ss:(%di)
        .byte 0x46, 0x47                            # inc %si; inc %di
        .byte 0xe8, 0x08, 0x00                      # call 2f
        .byte 0x4b, 0x75, 0xf0                      # dec %bx; jnz 1b
        .byte 0x66, 0x49, 0x75, 0xe1                # dec %ecx; jnz user
        done: hlt
        .byte 0xc3                                  # 2: ret"""),
    "monitor": _program("cli in V86, emulated by a #GP monitor", f"""
        {TO_V86}
        user:
        .byte 0xfa                                  # cli
        .byte 0x66, 0x49, 0x75, 0xfb                # dec %ecx; jnz user
        hlt                                         # which the monitor does not emulate
        .balign 16
        service: pushl %eax; pushl %ds; movl $USER_DATA, %eax; movl %eax, %ds
        movzwl 16(%esp), %eax; shll $4, %eax; addl 12(%esp), %eax
        cmpb $0xfa, (%eax); jne finish
        incl 12(%esp); popl %ds; popl %eax; addl $4, %esp; iret""", ("service",), only_pvfast=NO_IDT),
}


def _descriptor(base: int, limit: int, access: int, flags: int = 0xC) -> bytes:
    """SDM 3:3.4.5: `access` is bits 40-47, `flags` the nibble G D/B L AVL."""
    return struct.pack("<HHBBBB", limit & 0xFFFF, base & 0xFFFF, (base >> 16) & 0xFF, access,
                       flags << 4 | (limit >> 16) & 0xF, base >> 24)


def _gate(offset: int, access: int) -> bytes:
    """A call, interrupt or trap gate to the kernel (SDM 3:5.8.3, 3:6.11)."""
    return struct.pack("<HHBBH", offset & 0xFFFF, KERNEL_CODE, 0, access, offset >> 16)


def tables(handlers: list[int]) -> dict[int, bytes]:
    """GDT, IDT and TSS by address. Vector 0x80 is the first handler's; exceptions, 0x81 and the gate are the last's."""
    if not handlers:
        return {}
    first, last = handlers[0], handlers[-1]
    exceptions = b"".join(_gate(last, 0x8E) for _ in range(32))
    return {
        GDT: b"".join((bytes(8), _descriptor(0, 0xFFFFF, 0x9B), _descriptor(0, 0xFFFFF, 0x93),
                       _descriptor(0, 0xFFFFF, 0xFB), _descriptor(0, 0xFFFFF, 0xF3), _descriptor(TSS, 0x67, 0x89, 0),
                       _gate(last, 0xEC))),
        GDT + 0x100: struct.pack("<HI2xHI", 0x37, GDT, 0x7FF, IDT),
        IDT: exceptions.ljust(8 * FIRST_VECTOR, b"\0") + _gate(first, 0xEE) + _gate(last, 0xEE),
        TSS: struct.pack("<4xII", SYSTEM_SYMBOLS["RING0_STACK"], KERNEL_DATA).ljust(0x68, b"\0"),
    }
