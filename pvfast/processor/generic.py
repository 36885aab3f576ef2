"""The generic cost model: one plausible x86 of the 32-bit era. It claims to be no processor.

Enters: published measurements. Leaves: `CYCLES`, a (cycles, source) pair per cost class. Next: cpuid.py.

"IL-CO" is InstLatx64's dump of a Conroe (Core 2, 2.94 GHz), reciprocal throughputs rounded up to whole cycles.
Every number that no source carries says `assumed`. Integers on purpose: counts are equal on every machine.
"""

CYCLES: dict[str, tuple[int, str]] = {
    "nop": (1, "IL-CO 0.33, rounded up"),
    "alu": (1, "IL-CO"),
    "mov": (1, "IL-CO: load 1, store 1"),
    "lea": (1, "IL-CO"),
    "shift": (1, "IL-CO"),
    "shift_cl": (2, "IL-CO"),
    "mul": (5, "IL-CO mul32 4.8"),
    "div": (17, "IL-CO 17-41: the low end"),
    "push": (1, "IL-CO"),
    "pop": (1, "IL-CO"),
    "pusha": (8, "assumed: eight pushes"),
    "enter": (8, "assumed"),
    "xchg": (25, "IL-CO xchg with memory"),
    "xadd": (27, "IL-CO lock add"),
    "cmpxchg": (7, "IL-CO"),
    "cmpxchg8b": (8, "IL-CO"),
    "branch": (1, "assumed: predicted"),
    "jump": (1, "assumed: predicted"),
    "jump_indirect": (2, "assumed: predicted"),
    "call": (2, "push 1 + one taken branch a cycle, derived"),
    "call_indirect": (3, "call 2 + load 1, derived"),
    "ret": (2, "pop 1 + one taken branch a cycle, derived"),
    "loop": (5, "assumed"),
    "movs": (5, "assumed start-up"),
    "stos": (4, "assumed start-up"),
    "lods": (3, "assumed"),
    "cmps": (4, "assumed"),
    "scas": (4, "assumed"),
    "rep_iteration": (1, "IL-CO 0.52-0.60 per 4 bytes, rounded up"),
    "cli": (8, "assumed: twice IL-CO's CLD"),
    "sti": (8, "assumed: twice IL-CO's CLD"),
    "pushf": (7, "IL-CO"),
    "popf": (20, "IL-CO"),
    "int": (300, "assumed: half of Skylake's measured 614 for int + iret"),
    "iret": (300, "assumed: the other half"),
    "sysenter": (45, "assumed: half of Skylake's measured 73-90 round trip"),
    "sysexit": (45, "assumed: the other half"),
    "far": (60, "assumed"),
    "segment_load": (18, "P6 class: 36 for a pair, I. Molnar 2002"),
    "descriptor_table": (60, "assumed"),
    "cr_read": (20, "assumed"),
    "cr_write": (100, "order of a hundred cycles for CR3, Linux PTI documentation"),
    "dr": (60, "assumed"),
    "invlpg": (120, "assumed"),
    "wbinvd": (2000, "assumed"),
    "rdmsr": (80, "assumed"),
    "wrmsr": (120, "assumed"),
    "rdtsc": (64, "IL-CO"),
    "cpuid": (200, "IL-CO 180-215"),
    "hlt": (200, "assumed"),
    "io": (300, "P6 class: more than 300"),
    "exception": (300, "assumed: as int"),
    "hypercall": (100, "assumed: saving and restoring registers, the dispatch, a look for pending events"),
}

VENDOR = b"pvfast  core"
SIGNATURE = 0x633       # family 6, model 3, stepping 3: from there on the SEP bit is valid
