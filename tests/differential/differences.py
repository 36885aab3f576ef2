"""What is not compared with Unicorn, and where the two differ with a reason.

Enters: rows and finished comparisons. Leaves: reasons. Next: builder.py.
"""
from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pvfast.isa import forms_x87
from pvfast.isa.form import Form
from pvfast.isa.maps import WORD_STACK

if TYPE_CHECKING:
    from .cases import Case

_SYSTEM = "reads what the host's kernel hides: tests/core/test_system.py"
_TABLES = "reads what the host's kernel hides: tests/core/test_segments.py"
_MODEL = "its result is the processor model's: tests/core/test_system.py"
_EVENTS = "enters the host's kernel: tests/core/test_interrupts.py"

NOT_COMPARED: dict[str, str] = {
    **dict.fromkeys(("sldt", "sldt16", "str", "str16"), _TABLES),
    **dict.fromkeys(("sgdt", "sidt", "smsw", "smsw16"), _SYSTEM),
    **dict.fromkeys(("rdtsc", "cpuid"), _MODEL),
    "sysenter": _EVENTS,
}
"""Raw handler to the reason why its rows have no differential cases, and to where their tests are."""

_SIZES = ("", "16", "32")
FORBIDDEN = {f"{name}{size}" for name in ("lldt", "ltr", "lmsw", "lgdt", "lidt", "mov_from_cr", "mov_to_cr",
                                          "mov_from_dr", "mov_to_dr", "wrmsr", "rdmsr", "rdpmc", "sysexit")
             for size in _SIZES}
FORBIDDEN |= {f"{direction}{size}_{place}" for direction in ("in", "out") for size in (8, 16, 32)
              for place in ("imm", "dx")}
FORBIDDEN |= {f"{direction}s{size}" for direction in ("in", "out") for size in (8, 16, 32)}
"""Raw handlers that fault in ring 3. What they do in ring 0 changes what the processor is, or talks to devices, and is
tested in tests/core."""
IN_RING_3 = FORBIDDEN | {f"{name}{size}" for name in (
    "mov_to_sreg", "mov_from_sreg", "les", "lds", "lss", "lfs", "lgs", "push_es", "push_cs", "push_ss", "push_ds",
    "push_fs", "push_gs", "pop_es", "pop_ss", "pop_ds", "pop_fs", "pop_gs", "verr", "verw", "lar", "lsl", "jmp_far",
    "call_far", "ret_far", "ret_far_i", "iret", "int1") for size in _SIZES}
"""Raw handlers compared in ring 3 with the host alone: they need descriptor tables, or are forbidden there."""

TRAPS = {"int1", "int3", "int_n", "ud1", "ud2"}
"""Raw handlers whose job is to fault."""
FAULTING = TRAPS | FORBIDDEN
"""Exempt from the share of cases that complete, and not in sequences."""

RING_DEPENDENT = {"cli", "sti", "hlt", "popf", "popf16", "pushf", "pushf16", "int_n"}
"""Raw handlers whose result depends on the ring; so does every privileged one's."""

VECTOR_FEATURES = ("MMX", "SSE", "SSE2", "CLFSH")


def depends_on_ring(case: Case) -> bool:
    return any(form.privileged or form.raw in RING_DEPENDENT | IN_RING_3 for form in case.forms)


def needs_host(form: Form) -> bool:
    """Whether only the host can tell what is right: Unicorn is wrong (DIFFERENCES), or lacks what the cases need."""
    return form.mnemonic in UNICORN_WRONG or form.feature in VECTOR_FEATURES or form.raw in IN_RING_3


def is_word_handler(name: str) -> bool:
    """A fast way of 16-bit stacks, which only the cases of sixteen.py take."""
    return any(f"_{raw}_segment_a16" in name for raw in WORD_STACK)


def reason_not_compared(form: Form) -> str | None:
    return NOT_COMPARED.get(form.raw)


@dataclass(frozen=True)
class Difference:
    """One thing that Unicorn 2.1.4 does differently, and how the cases still compare it."""

    rows: str
    what: str
    right: str
    treatment: str
    mnemonics: tuple[str, ...] = ()     # of the cases that Unicorn does not get at all


DIFFERENCES: tuple[Difference, ...] = (
    Difference(
        "F6 /1, F7 /1 TEST", "Unicorn raises #UD",
        "pvfast: processors execute /1 like /0; SDM 2 table A-6 leaves it out, AMD's manual 3, appendix A, has it",
        "Unicorn gets the same instruction with /0"),
    Difference(
        "0F 18 /0 to /3 with a register", "Unicorn raises #UD",
        "pvfast: SDM 2 table A-6, group 16, 11B is a reserved NOP",
        "Unicorn gets the same instruction with /4"),
    Difference(
        "LOCK NEG m", "Unicorn keeps flags that are not those of the result",
        "pvfast: SDM 2 NEG, OF SF ZF AF PF are set according to the result, with LOCK or without",
        "Unicorn gets a DS prefix in place of LOCK"),
    Difference(
        "LOOPE, LOOPNE that count to 0", "Unicorn loses the arithmetic flags that its translator holds lazily",
        "pvfast: SDM 2 LOOPcc, flags affected: none",
        "Unicorn gets a JMP to the next instruction first, where its translator stores them; pvfast a NOP"),
    Difference(
        "CMPXCHG8B", "Unicorn computes CF PF AF SF OF from flags older than the instruction before",
        "pvfast: SDM 2 CMPXCHG8B, only ZF is affected",
        "the same"),
    Difference(
        "o32 PUSH Sreg", "Unicorn zero-extends",
        "pvfast: a 16-bit move that leaves the rest of the slot alone, as on recent processors (SDM 2 PUSH)",
        "compared with the host alone"),
    Difference(
        "o32 ENTER with a 16-bit stack", "Unicorn leaves the upper half of EBP alone",
        "pvfast: processors load EBP with all of ESP (a host asked through a 16-bit stack segment of its LDT)",
        "the upper halves of ESP and EBP are 0 there"),
    Difference(
        "x87", "Unicorn computes through 64 bits, and reports few exceptions",
        "pvfast: it agrees with the host to the last bit, in results, flags and condition codes",
        "compared with the host", tuple(dict.fromkeys(form.mnemonic for form in forms_x87.FORMS))),
    Difference(
        "MMX, SSE, SSE2", "Unicorn raises no #XM, chooses other NaNs, and has its own RCPPS and RSQRTPS",
        "pvfast: it agrees with the host to the last bit, in results and MXCSR",
        "compared with the host, by feature: MOVSD and CMPSD are strings too"),
)
"""Each with its treatment in instructions.py or sixteen.py, or the mnemonics that are compared with the host alone."""

UNICORN_WRONG = {mnemonic for difference in DIFFERENCES for mnemonic in difference.mnemonics}
