"""Cost classes: what a processor model gives cycles for. Rows of isa/ name one; models give each a number.

Enters: nothing. Leaves: `COST_CLASSES`, in the order of CPU.cost[]. Next: cpuid.py.
"""

COST_CLASSES = (
    # integer
    "nop", "alu", "mov", "lea", "shift", "shift_cl", "mul", "div", "push", "pop", "pusha", "enter",
    "xchg", "xadd", "cmpxchg", "cmpxchg8b", "decimal", "bound",
    # control flow
    "branch", "jump", "jump_indirect", "call", "call_indirect", "ret", "loop",
    # strings: one execution without REP or the start of a REP, and one iteration
    "movs", "stos", "lods", "cmps", "scas", "rep_iteration",
    # MMX, SSE and SSE2
    "simd", "simd_mul", "simd_shuffle", "simd_move", "simd_to_gpr", "sse_add", "sse_mul", "sse_div", "sse_convert",
    "emms", "mxcsr", "fence",
    # system
    "cli", "sti", "pushf", "popf", "int", "iret", "sysenter", "sysexit", "far", "segment_load", "descriptor_table",
    "cr_read", "cr_write", "dr", "invlpg", "wbinvd", "rdmsr", "wrmsr", "rdtsc", "cpuid", "hlt", "io",
    # x87: move is also exchange and constant, add also compare, div also square root and remainder
    "fpu_move", "fpu_add", "fpu_mul", "fpu_div", "fpu_transcendental", "fpu_control", "fpu_state",
    # events: charged when they happen
    "exception",
    # hypervisors: what they do for one call of the guest, without the way in and out
    "hypercall",
    # what a LOCK prefix adds to its instruction
    "lock",
)
