"""The workloads: small 32-bit programs, assembled when first used, for pvfast and for other engines alike.

Enters: a name, a count, a mode. Leaves: an image of flat memory, or a machine about to run it. The general ones need
no operating system, and only those marked `ring0` need ring 0. Those with `gates` are what an operating system does:
they start with descriptor tables of their own (system_tables.py). Next: engines.py.
"""

import struct
from functools import cache

from .program import BASE, END, SYMBOLS, Program
from .system_programs import SYSTEM_PROGRAMS, tables

try:
    from pvfast.assembly import assemble
    from pvfast.machine import Machine
except ImportError:                     # an older commit: everything that needs them is n/a
    Machine = None

MODES = ("flat", "paged", "segment_base")
PAGE_DIRECTORY, PAGE_TABLE, SEGMENT_BASE = 0x200000, 0x201000, 0x40000
CR0_PG, PRESENT_WRITABLE_USER = 1 << 31, 7
CR4_SSE = 0x600                         # OSFXSR and OSXMMEXCPT, as every operating system sets them

STORE_BODY = "movl POINTER, %eax; movb $1, 1(%eax); ret"

PROGRAMS = {
    "indirect_store": Program("indirect call site, two-load callee", """
        1: pushl %ecx; pushl %edx; call *OPERATION; popl %edx; popl %ecx; decl %ecx; jnz 1b; ret
        """, STORE_BODY),
    "inline_store": Program("the same patched: movb to memory", """
        1: movb $1, PER_CPU + 1; .byte 0x0f, 0x1f, 0x00; decl %ecx; jnz 1b; ret"""),
    "indirect_cli": Program("indirect call site, cli", """
        1: pushl %ecx; pushl %edx; call *OPERATION; popl %edx; popl %ecx; decl %ecx; jnz 1b; ret
        """, "cli; ret", ring0=True),
    "inline_cli": Program("the same patched: cli", """
        1: cli; .byte 0x66, 0x0f, 0x1f, 0x84, 0, 0, 0, 0, 0; decl %ecx; jnz 1b; ret""", ring0=True),
    "gs_store": Program("movb to %gs:offset", """
        1: movb $1, %gs:1; .byte 0x66, 0x90; decl %ecx; jnz 1b; ret""", ring0=True, per_cpu=True),
    "crc": Program("CRC-32 by table, 4 KiB", """
        pushl %ecx
        movl $255, %ecx
        1: movl %ecx, %eax; movl $8, %edx
        2: shrl $1, %eax; jnc 3f
        xorl $0xedb88320, %eax
        3: decl %edx; jnz 2b
        movl %eax, TABLE(,%ecx,4)
        decl %ecx; jns 1b
        popl %ecx
        movl $-1, %eax
        4: xorl %esi, %esi
        5: movzbl SOURCE(%esi), %edx
        movzbl %al, %ebx
        xorl %edx, %ebx
        shrl $8, %eax
        xorl TABLE(,%ebx,4), %eax
        incl %esi; cmpl $4096, %esi; jne 5b
        decl %ecx; jnz 4b
        notl %eax; ret"""),
    "sieve": Program("sieve of 8192", """
        1: xorl %edi, %edi
        2: movl $0x01010101, TARGET(%edi); addl $4, %edi; cmpl $8192, %edi; jne 2b
        movl $2, %esi; xorl %eax, %eax
        3: cmpb $0, TARGET(%esi); je 6f
        incl %eax
        leal (%esi,%esi), %edi
        jmp 5f
        4: movb $0, TARGET(%edi); addl %esi, %edi
        5: cmpl $8192, %edi; jb 4b
        6: incl %esi; cmpl $8192, %esi; jb 3b
        decl %ecx; jnz 1b; ret"""),
    "fib": Program("fib(16), recursive", """
        xorl %edi, %edi
        1: movl $16, %eax; call fib; addl %eax, %edi; decl %ecx; jnz 1b
        movl %edi, %eax; ret
        .balign 16
        fib: cmpl $2, %eax; jb 2f
        pushl %ebx; movl %eax, %ebx
        decl %eax; call fib; pushl %eax
        leal -2(%ebx), %eax; call fib; popl %edx
        addl %edx, %eax; popl %ebx
        2: ret"""),
    "copy": Program("copy 16 KiB by double words", """
        1: xorl %esi, %esi
        2: movl SOURCE(%esi), %eax; movl %eax, TARGET(%esi); addl $4, %esi; cmpl $16384, %esi; jne 2b
        decl %ecx; jnz 1b; ret"""),
    "rep_movsd": Program("rep movsd, 64 KiB", """
        movl %ecx, %edx
        1: movl $SOURCE, %esi; movl $TARGET, %edi; movl $16384, %ecx; rep; movsl; decl %edx; jnz 1b
        movl TARGET + 65532, %eax; ret"""),
    "rep_stosd": Program("rep stosd, 64 KiB", """
        movl %ecx, %edx; movl $0x5a5a5a5a, %eax
        1: movl $TARGET, %edi; movl $16384, %ecx; rep; stosl; decl %edx; jnz 1b; ret"""),
    "rep_movsb": Program("rep movsb, 64 B", """
        movl %ecx, %edx
        1: movl $SOURCE, %esi; movl $TARGET, %edi; movl $64, %ecx; rep; movsb; decl %edx; jnz 1b
        movl TARGET + 60, %eax; ret"""),
    "x87": Program("x87: scale and sum 1024 integers", """
        movl $0x3e800000, TABLE                         /* 0.25 */
        1: xorl %esi, %esi; fninit; fldz
        2: fildl SOURCE(%esi); fmuls TABLE; fstl TARGET(,%esi,2); faddp; addl $4, %esi; cmpl $4096, %esi; jne 2b
        fstps TABLE + 4; decl %ecx; jnz 1b
        movl TABLE + 4, %eax; ret"""),
    "sse_float": Program("SSE: the same, four at a time", """
        movl $0x3e800000, %eax
        movl %eax, TABLE; movl %eax, TABLE + 4; movl %eax, TABLE + 8; movl %eax, TABLE + 12
        1: xorl %esi, %esi; xorps %xmm2, %xmm2
        2: movaps SOURCE(%esi), %xmm0; cvtdq2ps %xmm0, %xmm0; mulps TABLE, %xmm0; addps %xmm0, %xmm2
        movaps %xmm0, TARGET(%esi); addl $16, %esi; cmpl $4096, %esi; jne 2b
        decl %ecx; jnz 1b
        movss %xmm2, TABLE + 16; movl TABLE + 16, %eax; ret"""),
    "sse_integer": Program("SSE2: add, exclusive or, shuffle of 4 KiB", """
        1: xorl %esi, %esi; pxor %xmm1, %xmm1; pxor %xmm2, %xmm2
        2: movdqa SOURCE(%esi), %xmm0; paddd %xmm0, %xmm1; pxor %xmm1, %xmm2; pshufd $0x39, %xmm2, %xmm2
        movdqa %xmm2, TARGET(%esi); addl $16, %esi; cmpl $4096, %esi; jne 2b
        decl %ecx; jnz 1b
        movd %xmm2, %eax; ret"""),
    "patch_itself": Program("store into code, run it", """
        1: movl %ecx, site + 1; jmp site
        .balign 64
        site: movl $0x12345678, %eax; decl %ecx; jnz 1b; ret""", patches_itself=True),
}

ALL = PROGRAMS | SYSTEM_PROGRAMS


@cache
def assembled(name: str):
    """The code of a program at BASE, with its labels."""
    program = ALL[name]
    return assemble(f"{program.start}{program.callee}\n.balign 16\nworkload:\n{program.text}\n", BASE, SYMBOLS)


def label(name: str, which: str) -> int:
    """Linear address of a label of a program."""
    return assembled(name).labels[which]


def image(name: str, count: int) -> bytes:
    """Memory from BASE to END: code, the count, and a pattern to work on."""
    memory = bytearray(END - BASE)
    code = assembled(name).code
    memory[:len(code)] = code
    struct.pack_into("<I", memory, SYMBOLS["COUNT"] - BASE, count)
    source = SYMBOLS["SOURCE"] - BASE
    memory[source:source + 0x10000] = bytes((i * 167 + (i >> 8)) & 0xFF for i in range(0x10000))
    for address, content in tables([label(name, gate) for gate in ALL[name].gates]).items():
        memory[address - BASE:address - BASE + len(content)] = content
    return bytes(memory)


def page_tables() -> bytes:
    """A page directory and behind it the table of the first 4 MiB, every page where it is, for every privilege."""
    directory = struct.pack("<I", PAGE_TABLE | PRESENT_WRITABLE_USER).ljust(0x1000, b"\0")
    return directory + struct.pack("<1024I", *(page << 12 | PRESENT_WRITABLE_USER for page in range(1024)))


def loaded(name: str, count: int, mode: str = "flat") -> tuple["Machine", int]:
    """A machine about to run a program, and the linear address at which it is done.

    Parameters
    ----------
    name : str
        Of ALL.
    count : int
        How often; at least 1.
    mode : str
        ``flat``; ``paged``: the same addresses through 4 KiB pages; ``segment_base``: every segment begins at
        SEGMENT_BASE.
    """
    machine = Machine(ram="4M")
    base = SEGMENT_BASE if mode == "segment_base" else 0
    machine.write(BASE + base, image(name, count))
    cpu = machine.cpu
    cpu.cr4 |= CR4_SSE
    if mode == "paged":
        machine.write(PAGE_DIRECTORY, page_tables())
        cpu.cr3, cpu.cr0 = PAGE_DIRECTORY, cpu.cr0 | CR0_PG
    if base:
        for segment in (cpu.cs, cpu.ss, cpu.ds, cpu.es):
            segment.base = base
    if ALL[name].per_cpu:
        cpu.gs.base = SYMBOLS["PER_CPU"] + base
    cpu.eip = label(name, "start")
    return machine, label(name, "done") + base


@cache
def counts(name: str, mode: str = "flat") -> dict[str, int]:
    """What one more of `count` costs: instructions, cycles and iterations, exact."""
    totals = []
    for count in (2, 3):
        machine, done = loaded(name, count, mode)
        machine.run(until=done)
        totals.append(machine.counters.as_dict())
    return {figure: totals[1][figure] - totals[0][figure] for figure in ("instructions", "cycles", "iterations")}
