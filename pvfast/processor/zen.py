"""The Zen 1 (3.6 GHz): costs that sources support, and what is assumed between them.

Enters: published measurements. Leaves: `CYCLES` and `PREDICTION`; a class that is not here costs what it does in the
generic model. Next: core/.

"IL-ZN" is InstLatx64's dump of an 800F11, reciprocal throughput in user mode, rounded up to whole cycles.
"""
from pvfast.processor.prediction import Prediction

CYCLES: dict[str, tuple] = {
    "nop": (1, "IL-ZN 0.24, rounded up"),
    "pause": (3, "IL-ZN"),
    "alu": (1, "IL-ZN 0.46-1"),
    "mov": (1, "IL-ZN load 0.5, store 1"),
    "lea": (1, "IL-ZN 0.25"),
    "shift": (1, "IL-ZN 0.4"),
    "mul": (3, "IL-ZN mul r32"),
    "div": (14, "IL-ZN 14-30: the low end"),
    "push": (1, "IL-ZN"),
    "pop": (1, "IL-ZN 0.5"),
    "xchg": (26, "IL-ZN 26.4"),
    "xadd": (4, "assumed: as cmpxchg"),
    "cmpxchg": (4, "derived: lock cmpxchg 23 less lock 19"),
    "cmpxchg8b": (9, "IL-ZN 6-9, no lock"),
    "call": (2, "derived: GCC's znver1_call"),
    "call_indirect": (2, "derived: as call; range 1-3", 1, 3),
    "ret": (1, "derived: taken branch 1; range 1-2", 1, 2),
    "movs": (35, "assumed start-up"),
    "stos": (35, "assumed start-up"),
    "rep_iteration": (1, "IL-ZN 0.27-0.29 per 4 bytes, rounded up"),
    "lock": (19, "IL-ZN lock add 19.6, less the add"),
    "segment_base": (1, "assumed"),
    "cli": (6, "assumed: twice IL-ZN's CLD; range 3-15", 3, 15),
    "sti": (6, "assumed: as cli; range 3-15", 3, 15),
    "cld": (3, "IL-ZN"),
    "pushf": (4, "IL-ZN"),
    "popf": (16, "IL-ZN 15.5"),
    "int": (230, "assumed: as Skylake"),
    "ring_in": (100, "assumed: as Skylake"),
    "iret": (200, "assumed: as Skylake"),
    "ring_out": (84, "assumed: as Skylake"),
    "sysenter": (39, "assumed: half of 78, quoted second-hand for SYSCALL and SYSRET"),
    "sysexit": (39, "assumed: half of 78"),
    "segment_load": (20, "assumed: as Skylake"),
    "descriptor_table": (60, "assumed"),
    "cr_read": (20, "assumed"),
    "cr_write": (100, "assumed"),
    "invlpg": (120, "assumed"),
    "rdmsr": (80, "assumed"),
    "wrmsr": (120, "assumed"),
    "rdtsc": (37, "IL-ZN 36.6"),
    "cpuid": (125, "IL-ZN 125-133"),
    "exception": (230, "assumed: as int"),
    "vm_exit": (1350, "LKML 2020: 1344-1376 with KVM's code, an AMD server of a generation not stated"),
    "tlb_miss": (20, "assumed"),
}

PREDICTION = Prediction(
    conditional=(17, "LLVM's Znver1"),
    indirect=(19, "assumed"),
    returned=(19, "assumed"),
    return_stack=(32, "assumed"),
    targets=(4096, "assumed"),
    ways=(4, "assumed"),
)
