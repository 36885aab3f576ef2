"""Cost classes: what a processor model gives cycles for. Rows of isa/ name one; models give each a number.

Enters: nothing. Leaves: `COST_CLASSES`, in the order of CPU.cost[], and `MAX_CYCLES`. Next: cpuid.py.
"""

from __future__ import annotations

from typing import NamedTuple

COST_CLASSES = (
    # integer; xchg is the one with memory, which locks by itself
    "nop", "pause", "alu", "mov", "lea", "shift", "shift_cl", "mul", "div", "push", "pop", "pusha", "enter",
    "xchg", "xadd", "cmpxchg", "cmpxchg8b", "decimal", "bound",
    # control flow
    "branch", "jump", "jump_indirect", "call", "call_indirect", "ret", "loop",
    # strings: one execution without REP or the start of a REP, and one iteration
    "movs", "stos", "lods", "cmps", "scas", "rep_iteration",
    # MMX, SSE and SSE2
    "simd", "simd_mul", "simd_shuffle", "simd_move", "simd_to_gpr", "sse_add", "sse_mul", "sse_div", "sse_convert",
    "emms", "mxcsr", "fence",
    # system: cld is also STD, lahf also SAHF; cr_write is also LMSW and CLTS
    "cli", "sti", "cld", "lahf", "pushf", "popf", "int", "iret", "sysenter", "sysexit", "far", "segment_load",
    "descriptor_table", "cr_read", "cr_write", "dr", "invlpg", "wbinvd", "rdmsr", "wrmsr", "rdtsc", "cpuid", "hlt",
    "io",
    # x87: move is also exchange and constant, add also compare, div also square root and remainder
    "fpu_move", "fpu_add", "fpu_mul", "fpu_div", "fpu_transcendental", "fpu_control", "fpu_state",
    # what a LOCK prefix adds to its instruction, and a memory operand in %fs or %gs
    "lock", "segment_base",
    # events: charged when they happen. ring_in and ring_out come to INT, an exception and IRET that change the ring
    "exception", "ring_in", "ring_out", "tlb_miss",
    # hypervisors: what they do for one call of the guest, without the way in and out; and a round trip by hardware
    "hypercall", "vm_exit",
)


#: Of a class or a wrong guess. KVM's host adds up three classes in 16 bits, the core the hypercalls of a list in 31.
MAX_CYCLES = 0x3FFF


class Cost(NamedTuple):
    """Modelled cycles of a class.

    Attributes
    ----------
    cycles : int
    source : str
        Where the number is from; one that no source carries says `assumed` or `derived`.
    low, high : int
        The range that the sources leave open; `cycles` unless a model gives one.
    """

    cycles: int
    source: str
    low: int
    high: int


def cost_of(cycles: int, source: str, low: int | None = None, high: int | None = None) -> Cost:
    """A `Cost` as a row of a cost model writes it.

    >>> cost_of(48, "assumed: range 20-90", 20, 90).high
    90
    """
    return Cost(cycles, source, cycles if low is None else low, cycles if high is None else high)
