"""The Skylake client (4 GHz): costs that sources support, and what is assumed between them; and with retpolines.

Enters: published measurements. Leaves: `CYCLES`, `PREDICTION`, and the same as a kernel built with retpolines has them;
a class that is not here costs what it does in the generic model. Next: zen.py.

"IL-SK" is InstLatx64's dump of a 506E3, reciprocal throughput in user mode, rounded up to whole cycles. "X86L" is
x86.lol's measurement of kernel entries on a Xeon E3-1270 v5 (2019). Kernel page-table isolation is not in the figures;
Linux' documentation says about 100 cycles more for each entry and each exit.
"""
from dataclasses import replace

from pvfast.processor.prediction import Prediction

CYCLES: dict[str, tuple] = {
    "nop": (1, "IL-SK 0.25, rounded up"),
    "pause": (141, "IL-SK"),
    "alu": (1, "IL-SK 0.29-1"),
    "mov": (1, "IL-SK load 0.5, store 1"),
    "lea": (1, "IL-SK 0.5"),
    "shift": (1, "IL-SK 0.5"),
    "shift_cl": (2, "IL-SK"),
    "mul": (1, "IL-SK mul r32"),
    "div": (6, "IL-SK div r32"),
    "push": (1, "IL-SK"),
    "pop": (1, "IL-SK 0.5"),
    "xchg": (20, "IL-SK 18-23"),
    "xadd": (4, "assumed: as cmpxchg"),
    "cmpxchg": (4, "derived: lock cmpxchg 23 less lock 19"),
    "cmpxchg8b": (11, "IL-SK, no lock"),
    "call": (2, "derived: push 1 + taken branch 1"),
    "call_indirect": (2, "derived: load and push overlap; range 1-3", 1, 3),
    "ret": (1, "derived: taken branch 1; range 1-2", 1, 2),
    "movs": (35, "assumed start-up"),
    "stos": (35, "assumed start-up"),
    "rep_iteration": (1, "IL-SK 0.14 per 4 bytes, rounded up"),
    "lock": (19, "IL-SK lock add 18-23, less the add"),
    "segment_base": (1, "assumed"),
    "cli": (8, "assumed: twice IL-SK's CLD; range 2-20", 2, 20),
    "sti": (8, "assumed: as cli; range 2-20", 2, 20),
    "cld": (4, "IL-SK"),
    "pushf": (1, "IL-SK"),
    "popf": (23, "IL-SK"),
    "int": (230, "assumed: 330 to an inner ring, an arbitrary split of X86L's 614"),
    "ring_in": (100, "assumed: as int"),
    "iret": (200, "assumed"),
    "ring_out": (84, "assumed: 284 to an outer ring, an arbitrary split of X86L's 614"),
    "sysenter": (37, "X86L: half of 73"),
    "sysexit": (36, "X86L: half of 73"),
    "segment_load": (20, "assumed"),
    "descriptor_table": (60, "assumed"),
    "cr_read": (20, "assumed"),
    "cr_write": (100, "assumed; for CR3 of the order of a hundred cycles, Linux PTI documentation"),
    "invlpg": (120, "assumed"),
    "rdmsr": (80, "assumed"),
    "wrmsr": (120, "assumed"),
    "rdtsc": (25, "IL-SK"),
    "cpuid": (207, "IL-SK 100-207"),
    "exception": (230, "assumed: as int"),
    "vm_exit": (616, "vmlatency on client parts, 600-632, no mitigations"),
    "tlb_miss": (20, "assumed"),
}

PREDICTION = Prediction(
    conditional=(16, "derived: LLVM's model has 14; 16-20 commonly reported"),
    indirect=(20, "assumed; 15-20 reported"),
    returned=(20, "assumed; 15-20 reported"),
    return_stack=(16, "assumed"),
    targets=(4096, "assumed"),
    ways=(4, "assumed"),
)

#: P. Turner, January 2018: 33.2 to 33.4 cycles, complete, on a processor that is not named; 15 % of uncertainty.
RETPOLINE_CYCLES: dict[str, tuple] = {
    **CYCLES,
    "call_indirect": (34, "P. Turner 2018: retpoline 33.2 + load 0.5; range 29-39", 29, 39),
    "jump_indirect": (33, "P. Turner 2018: retpoline 33.2; range 28-38", 28, 38),
}

#: A retpoline's branch is never predicted: that is its purpose.
RETPOLINE_PREDICTION = replace(PREDICTION, targets=(0, "assumed: a retpoline's branch is not predicted"))
