"""The K8 (Opteron 248, Sledgehammer): costs that sources support, and what is assumed between them.

Enters: published measurements. Leaves: `CYCLES` and `PREDICTION`; a class that is not here costs what it does in the
generic model. Next: nehalem.py.

"IL-K8" is InstLatx64's dump of that part, reciprocal throughput in user mode, rounded up to whole cycles. "SOG" is
AMD's software optimization guide, publication 25112, revision 3.06, table 13.
"""
from pvfast.processor.prediction import Prediction

CYCLES: dict[str, tuple] = {
    "nop": (1, "IL-K8 0.33, rounded up"),
    "pause": (1, "IL-K8 0.33, rounded up"),
    "alu": (1, "IL-K8 0.33-0.5"),
    "mov": (1, "IL-K8 load 0.5, store 1"),
    "lea": (1, "IL-K8 0.33-0.5"),
    "shift": (1, "IL-K8 0.33"),
    "mul": (3, "IL-K8 mul r32"),
    "div": (39, "IL-K8 div r32 39-40"),
    "push": (1, "IL-K8"),
    "pop": (1, "IL-K8"),
    "xchg": (16, "IL-K8 xchg with memory"),
    "xadd": (2, "assumed: as cmpxchg"),
    "cmpxchg": (2, "IL-K8, no lock"),
    "cmpxchg8b": (8, "IL-K8, no lock"),
    "call": (3, "assumed: a microcoded operation in GCC's athlon.md; range 2-3", 2, 3),
    "call_indirect": (5, "assumed; at least push 1 + branch 1 + load 1", 3, 5),
    "ret": (5, "assumed; at least pop 1 + branch 1", 2, 5),
    "movs": (15, "assumed start-up"),
    "stos": (15, "assumed start-up"),
    "rep_iteration": (1, "IL-K8 0.51-1.03 per 4 bytes"),
    "lock": (17, "IL-K8 lock add 18, less the add"),
    "segment_base": (1, "assumed"),
    "cli": (4, "assumed: as sti; range 3-6", 3, 6),
    "sti": (4, "A. Kleen 2006; range 3-6", 3, 6),
    "pushf": (2, "IL-K8; Z. Amsden 2006: 2"),
    "popf": (10, "IL-K8; Z. Amsden 2006: 12", 10, 12),
    "int": (80, "assumed: as iret"),
    "ring_in": (20, "assumed: 100 in all for an inner ring; range 7-30", 7, 30),
    "iret": (80, "assumed"),
    "ring_out": (30, "assumed: 110 in all for an outer ring"),
    "sysenter": (27, "assumed: SOG's SYSCALL"),
    "sysexit": (35, "assumed: SOG's SYSRET"),
    "segment_load": (8, "SOG 8-10"),
    "descriptor_table": (37, "SOG lgdt 37; lidt 148"),
    "cr_read": (10, "assumed"),
    "cr_write": (100, "assumed for CR3; SOG's LMSW takes 11-12"),
    "invlpg": (100, "assumed"),
    "rdmsr": (80, "assumed"),
    "wrmsr": (90, "assumed"),
    "rdtsc": (7, "IL-K8 6.5"),
    "cpuid": (127, "IL-K8 127-165 for leaf 1"),
    "exception": (80, "assumed: as int"),
    "vm_exit": (2500, "assumed"),
    "tlb_miss": (47, "derived from IL-K8's memory latencies: second-level TLB 7, a walk 40-70"),
}

PREDICTION = Prediction(
    conditional=(12, "derived: pipeline of 12 stages; up to 26 seen"),
    indirect=(12, "derived: as conditional; up to 26 seen"),
    returned=(12, "derived: as conditional"),
    return_stack=(12, "assumed"),
    targets=(2048, "assumed"),
    ways=(4, "assumed"),
)
