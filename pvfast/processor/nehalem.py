"""The Nehalem (2.67 GHz, Nehalem-EP): costs that sources support, and what is assumed between them.

Enters: published measurements. Leaves: `CYCLES` and `PREDICTION`; a class that is not here costs what it does in the
generic model. Next: skylake.py.

"IL-NH" is InstLatx64's dump of an A-step part, reciprocal throughput in user mode, rounded up to whole cycles. "X86L"
is x86.lol's measurement of kernel entries on a Skylake (2019).
"""
from pvfast.processor.prediction import Prediction

CYCLES: dict[str, tuple] = {
    "nop": (1, "IL-NH 0.33, rounded up"),
    "pause": (9, "IL-NH"),
    "alu": (1, "IL-NH 0.36-1"),
    "mov": (1, "IL-NH load 1, store 1"),
    "lea": (1, "IL-NH"),
    "shift": (1, "IL-NH 0.5"),
    "mul": (5, "IL-NH mul r32 4.8"),
    "div": (21, "IL-NH 21-28: the low end"),
    "push": (1, "IL-NH"),
    "pop": (1, "IL-NH"),
    "xchg": (20, "IL-NH xchg with memory"),
    "xadd": (5, "assumed: as cmpxchg"),
    "cmpxchg": (5, "IL-NH, no lock"),
    "cmpxchg8b": (7, "IL-NH, no lock"),
    "call": (2, "derived: push 1 + taken branch 1"),
    "call_indirect": (2, "derived: load and push overlap; range 2-3", 2, 3),
    "ret": (2, "derived: pop 1 + taken branch 1; range 1-2", 1, 2),
    "movs": (35, "assumed start-up"),
    "stos": (35, "assumed start-up"),
    "rep_iteration": (1, "IL-NH 0.26-0.29 per 4 bytes, rounded up"),
    "lock": (19, "IL-NH lock add 20, less the add"),
    "segment_base": (1, "assumed"),
    "cli": (8, "assumed: twice IL-NH's CLD; range 3-20", 3, 20),
    "sti": (8, "assumed: as cli; range 3-20", 3, 20),
    "cld": (4, "IL-NH"),
    "pushf": (1, "IL-NH"),
    "popf": (20, "IL-NH"),
    "int": (200, "assumed: 600 for a round trip to an inner ring, as X86L's 614"),
    "ring_in": (100, "assumed: as int"),
    "iret": (200, "assumed: as int"),
    "ring_out": (100, "assumed: as int"),
    "sysenter": (45, "assumed: half of a round trip of 90"),
    "sysexit": (45, "assumed: half of a round trip of 90"),
    "segment_load": (18, "P6 class: 36 for a pair, I. Molnar 2002"),
    "descriptor_table": (60, "assumed"),
    "cr_read": (20, "assumed"),
    "cr_write": (150, "assumed: order of a hundred for CR3, Linux PTI documentation"),
    "invlpg": (120, "assumed"),
    "rdmsr": (80, "assumed"),
    "wrmsr": (120, "assumed"),
    "rdtsc": (24, "IL-NH"),
    "cpuid": (200, "IL-NH 84-200"),
    "exception": (200, "assumed: as int"),
    "vm_exit": (950, "vmlatency on an i5 760"),
    "tlb_miss": (15, "derived from IL-NH's memory latencies: 55 with a walk, 40 without"),
}

PREDICTION = Prediction(
    conditional=(17, "zsim's Nehalem"),
    indirect=(20, "assumed: conditional + 3"),
    returned=(20, "assumed: conditional + 3"),
    return_stack=(16, "assumed"),
    targets=(2048, "assumed"),
    ways=(4, "assumed"),
)
