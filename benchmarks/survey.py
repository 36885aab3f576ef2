"""One loop per family of instructions, on pvfast and on Unicorn: ``python -m benchmarks.survey [FAMILY ...]``.

Enters: families, a few instructions each. Leaves: nanoseconds per instruction, with paging off and on, the slowest in
relation to Unicorn first: where to look for what can be made faster. Next: report.py, the documented comparison.
"""

import statistics
import sys

from .engines import pvfast_engine, seconds_per_count, settled_count, unicorn_engine
from .program import Program
from .programs import ALL

COPIES, REPEATS, SETTLED_SECONDS = 16, 3, 0.01
#: Statements that a loop repeats; EBP counts, ESI and EDI point to memory, EBX is 4, ECX is 3.
FAMILIES = {
    "add register": "addl %ebx, %eax", "add memory": "addl %eax, (%edi)", "add from memory": "addl (%esi), %eax",
    "adc": "adcl %ebx, %eax", "adc memory": "adcl %eax, (%edi)", "add 8": "addb %bl, %al", "add 16": "addw %bx, %ax",
    "add 16 memory": "addw %ax, (%edi)", "and 16 immediate": "andw $0x7fff, (%edi)", "inc memory": "incl (%edi)",
    "cmp 16": "cmpw %bx, (%edi)", "test 8 memory": "testb $1, (%edi)", "neg": "negl %eax", "not 8": "notb %al",
    "mov": "movl %ebx, %eax", "mov load": "movl (%esi), %eax", "mov store": "movl %eax, (%edi)",
    "mov load 16": "movw (%esi), %ax", "mov store 16": "movw %ax, (%edi)", "mov load 8": "movb (%esi), %al",
    "mov high byte": "movb %ah, %dl", "movzx 8": "movzbl (%esi), %eax", "movzx 16": "movzwl (%esi), %eax",
    "movsx 8": "movsbl (%esi), %eax", "movsx 16 register": "movswl %ax, %eax", "movsx 8 to 16": "movsbw (%esi), %ax",
    "lea": "leal 4(%esi,%ebx,4), %eax", "xchg register": "xchgl %eax, %edx", "xchg memory": "xchgl %eax, (%edi)",
    "bswap": "bswap %eax", "shl": "shll $3, %eax", "shl cl": "shll %cl, %eax", "sar memory": "sarl $1, (%edi)",
    "rol": "roll $3, %eax", "rcl": "rcll $1, %eax", "rcr cl": "rcrl %cl, %eax", "shl 16": "shlw $3, %ax",
    "shld": "shldl $3, %ebx, %eax", "shld cl memory": "shldl %cl, %eax, (%edi)", "imul": "imull %ebx, %eax",
    "imul memory": "imull (%esi), %eax", "imul immediate": "imull $3, %ebx, %eax", "mul": "mull %ebx",
    "div": "xorl %edx, %edx; divl %ebx", "div 8": "movl $100, %eax; divb %bl", "bt": "btl $3, %eax",
    "bts memory": "btsl $3, (%edi)", "bts string": "btsl %ebx, (%edi)", "bsf": "bsfl %ebx, %eax",
    "setcc": "setc %al", "setcc memory": "setz (%edi)", "cmov": "cmovzl %ebx, %eax",
    "cmov memory": "cmovnzl (%esi), %eax",
    "cmp, jcc": "cmpl %ebx, %eax; jz 2f; 2:", "test, jcc": "testl %eax, %eax; jnz 2f; 2:",
    "cmp memory, jcc": "cmpl $0, (%edi); jz 2f; 2:", "jmp": "jmp 2f; 2:",
    "jmp register": "movl $2f, %eax; jmp *%eax; 2:",
    "call, ret": "call callee", "call register": "movl $callee, %eax; call *%eax",
    "push, pop": "pushl %eax; popl %edx", "push memory, pop memory": "pushl (%esi); popl (%edi)",
    "push immediate": "pushl $5; addl $4, %esp", "push 16": "pushw %ax; popw %dx", "pusha": "pushal; popal",
    "enter": "pushl %ebp; enter $8, $0; leave; popl %ebp", "pushf": "pushfl; popfl",
    "xlat": "movl %esi, %ebx; xlatb; movl $4, %ebx",
    "lahf": "lahf; sahf", "cbw": "cbtw; cwtl; cltd", "clc": "clc; stc; cmc", "cld": "std; cld", "nop": "nop",
    "lods": "lodsb; decl %esi", "stos": "stosl; subl $4, %edi", "movs": "movsl; subl $4, %edi; subl $4, %esi",
    "repne scas": "movl $64, %ecx; movl $TARGET, %edi; repne; scasb", "scas": "scasb; decl %edi",
    "repe cmps": "movl $64, %ecx; movl $TARGET, %edi; movl %edi, %esi; repe; cmpsb",
    "cmpxchg": "cmpxchgl %ebx, (%edi)", "lock xadd": "lock; xaddl %ebx, (%edi)",
    "cmpxchg8b": "cmpxchg8b (%edi)", "lock inc": "lock; incl (%edi)",
    "loop": "movl $2, %ecx; 2: loop 2b; movl $3, %ecx",
    "rdtsc": "rdtsc", "cpuid": "pushl %ebx; pushl %ecx; xorl %eax, %eax; cpuid; popl %ecx; popl %ebx",
    "sgdt": "sgdt 16(%edi)", "mov cr0": "movl %cr0, %eax", "mov to cr0": "movl %cr0, %eax; movl %eax, %cr0",
    "clts": "clts", "lar": "pushl %cs; popl %eax; larl %eax, %eax", "bound": ".byte 0x62, 0x1f",
    "daa": "daa; das; aaa; aas", "fs load": "movl %fs:(%esi), %eax", "aam": "movb $25, %al; aam",
    "x87 add": "fadds (%esi); fstps 16(%edi); flds 16(%edi)", "x87 multiply": "fmul %st(1), %st",
    "x87 divide": "fdiv %st(1), %st", "x87 square root": "fsqrt", "x87 sine": "fsin",
    "x87 integer": "fildl (%edi); fistpl 16(%edi)", "x87 compare": "fcomi %st(1), %st", "x87 exchange": "fxch %st(1)",
    "x87 control": "fnstcw 16(%edi); fldcw 16(%edi)", "fnstsw": "fnstsw %ax",
    "mmx": "movq (%esi), %mm0; paddw %mm0, %mm1; movq %mm1, 16(%edi)", "mmx unpack": "punpcklbw %mm0, %mm1",
    "sse load store": "movaps (%edi), %xmm0; movaps %xmm0, 16(%edi)", "sse unaligned": "movups 1(%edi), %xmm0",
    "sse add": "addps %xmm1, %xmm0", "sse multiply": "mulps %xmm1, %xmm0", "sse scalar": "addss 16(%esi), %xmm0",
    "sse divide": "divps %xmm1, %xmm2", "sse shuffle": "shufps $27, %xmm1, %xmm0",
    "sse compare": "cmpltps %xmm1, %xmm0",
    "sse convert": "cvtsi2ssl %eax, %xmm0; cvttss2si %xmm0, %eax", "sse ucomis": "ucomiss %xmm1, %xmm0",
    "sse2 add": "paddd %xmm1, %xmm0", "sse2 multiply": "pmuludq %xmm1, %xmm0", "sse2 shift": "pslld $3, %xmm0",
    "sse2 double": "addpd %xmm1, %xmm0", "sse2 scalar double": "mulsd %xmm1, %xmm0", "sse2 xor": "pxor %xmm1, %xmm0",
    "sse2 shuffle": "pshufd $27, %xmm1, %xmm0", "sse2 mask": "pmovmskb %xmm0, %eax",
    "fxsave": "fxsave 0x100(%edi); fxrstor 0x100(%edi)", "fsave": "fnsave 0x100(%edi); frstor 0x100(%edi)",
}
LOOP = """
    movl %ecx, %ebp; movl $SOURCE, %esi; movl $TARGET, %edi; movl $4, %ebx; movl $3, %ecx
    xorl %eax, %eax; xorl %edx, %edx; movl $-8, (%edi); movl $8, 4(%edi)
    {setup}
    9: {body}
    decl %ebp; jnz 9b; ret"""
SETUP = {"x87": "fninit; fld1; fld1;"}


def instructions(body: str) -> int:
    """How many instructions a body has; the callee's is one more."""
    statements = [part.strip() for part in body.split(";")]
    prefixes = ("", "lock", "repe", "repne")
    return sum(part not in prefixes and not part.endswith(":") for part in statements) + ("callee" in body)


def _time(engine, name: str) -> float | None:
    """Nanoseconds for a run of the loop, or None where an engine cannot run it."""
    try:
        engine(name, 3)
        count = settled_count(engine, name, SETTLED_SECONDS)
        return statistics.median(seconds_per_count(engine, name, count) for _ in range(REPEATS)) * 1e9
    except Exception as error:          # an engine that cannot run a family is a finding
        print(f"{name}: {error}", file=sys.stderr)
        return None


def _paged(name: str, count: int) -> tuple[float, int]:
    return pvfast_engine(name, count, "paged")


def survey(families: list[str]) -> list[tuple]:
    """(family, ns per instruction flat, paged, on Unicorn), the worst ratio of the paged ones first."""
    rows = []
    for family in families:
        body = FAMILIES[family]
        setup = next((text for word, text in SETUP.items() if family.startswith(word)), "")
        name = f"survey: {family}"
        ALL[name] = Program(family, LOOP.format(setup=setup, body="; ".join([body] * COPIES)), ring0=True)
        each = [_time(engine, name) for engine in (pvfast_engine, _paged, unicorn_engine)]
        rows.append((family, *(None if t is None else t / COPIES / instructions(body) for t in each)))
        print(".", end="", file=sys.stderr, flush=True)
    return sorted(rows, key=lambda row: -(row[2] or 0) / (row[3] or 1))


def main(families: list[str]) -> None:
    unknown = [family for family in families if family not in FAMILIES]
    if unknown:
        sys.exit(f"no family {', '.join(unknown)}; there are: {', '.join(FAMILIES)}")
    print("\n| family | pvfast, ns | paged, ns | Unicorn, ns | paged / Unicorn |\n| --- | ---: | ---: | ---: | ---: |")
    for family, *times in survey(families or list(FAMILIES)):
        show = ["-" if t is None else f"{t:.2f}" for t in times]
        ratio = "-" if None in times[1:] else f"{times[1] / times[2]:.2f}"
        print(f"| {family} | {' | '.join(show)} | {ratio} |")


if __name__ == "__main__":
    main(sys.argv[1:])
