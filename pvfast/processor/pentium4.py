"""The Pentium 4 of the talk (Northwood, 3 GHz class): costs that sources support, and what is assumed between them.

Enters: published measurements. Leaves: `CYCLES`, a (cycles, source) pair per cost class. Next: cpuid.py.

"IL-NW" is InstLatx64's dump of a Northwood at 2.84 GHz, reciprocal throughput in user mode, rounded to whole cycles and
at least 1. "TN" is an unnamed author's measurement on a 2.8 GHz part (second-hand). No branch or TLB events yet: calls
and branches count as predicted. The model claims to be no processor.
"""

CYCLES: dict[str, tuple[int, str]] = {
    "nop": (1, "IL-NW 0.35, rounded up"),
    "alu": (1, "IL-NW 0.35-1"),
    "mov": (1, "IL-NW load 1, store 1.75"),
    "lea": (1, "IL-NW 0.35-1"),
    "shift": (1, "IL-NW"),
    "shift_cl": (6, "IL-NW"),
    "mul": (14, "IL-NW mul r32"),
    "div": (57, "IL-NW div r32"),
    "push": (2, "IL-NW"),
    "pop": (1, "IL-NW"),
    "pusha": (16, "assumed: eight pushes"),
    "enter": (16, "assumed"),
    "xchg": (125, "IL-NW xchg with memory"),
    "xadd": (124, "IL-NW lock add"),
    "cmpxchg": (9, "IL-NW 8.6, no lock"),
    "cmpxchg8b": (44, "IL-NW latency, no lock"),
    "branch": (1, "assumed: predicted"),
    "jump": (1, "assumed: predicted"),
    "jump_indirect": (2, "assumed: predicted, load 1"),
    "call": (3, "derived: push 2 + taken branch 1"),
    "call_indirect": (4, "derived: call 3 + load 1"),
    "ret": (2, "derived: pop 1 + branch 1"),
    "loop": (4, "assumed"),
    "movs": (60, "assumed start-up: microcoded like CLD, 48-54"),
    "stos": (60, "assumed start-up: microcoded like CLD, 48-54"),
    "lods": (4, "assumed"),
    "cmps": (5, "assumed"),
    "scas": (5, "assumed"),
    "rep_iteration": (1, "IL-NW 0.94-1.06 per 4 bytes"),
    "cli": (48, "assumed: IL-NW's CLD, the nearest slow flag write; range 20-90"),
    "sti": (48, "assumed: as cli; range 20-90"),
    "pushf": (6, "IL-NW; Z. Amsden 2006: 6"),
    "popf": (52, "IL-NW; Z. Amsden 2006: 54; L. Torvalds 2006: 48"),
    "int": (1348, "TN, interrupt from ring 3; an upper bound"),
    "iret": (923, "TN, to ring 3; within a ring it is less, and not modelled apart"),
    "sysenter": (150, "assumed: TN's round trip by Skylake's ratio of int to sysenter"),
    "sysexit": (120, "assumed: as sysenter"),
    "far": (120, "assumed"),
    "segment_load": (30, "assumed"),
    "descriptor_table": (120, "assumed: at least a serialising mfence, 100-124"),
    "cr_read": (20, "assumed"),
    "cr_write": (120, "assumed: at least a serialising mfence, 100-124"),
    "dr": (120, "assumed"),
    "invlpg": (300, "assumed"),
    "wbinvd": (2000, "assumed"),
    "rdmsr": (150, "assumed"),
    "wrmsr": (250, "assumed"),
    "rdtsc": (80, "IL-NW; L. Torvalds 2001: 80"),
    "cpuid": (262, "IL-NW 262-266"),
    "hlt": (200, "assumed"),
    "io": (300, "assumed: P6 class, more than 300"),
    "exception": (1348, "assumed: as int"),
    "hypercall": (100, "assumed: entry code"),
}

VENDOR = b"GenuineIntel"
SIGNATURE = 0xF29       # family 15, model 2, stepping 9
