"""What is not compared with Unicorn, and where the two differ with a reason.

Enters: rows and finished comparisons. Leaves: reasons. Next: builder.py.
"""
from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pvfast.isa.form import Form

if TYPE_CHECKING:
    from .cases import Case

_NO_TABLES = "Unicorn starts with null selectors and no descriptor tables: tests/core/test_segments.py"
_NO_EVENTS = "needs an IDT or a GDT, which Unicorn does not use: tests/core/test_interrupts.py"
_CONTROL = "changes what the processor is, not a result to compare: tests/core/test_system.py"
_DEVICES = "talks to devices, which differ: tests/core/test_system.py"
_SIXTEEN = "leads below 64 KiB, where the 32-bit cases are not: test_real_mode.py"
_DEBUG = "raises a debug exception: tests/core/test_debug.py"
_MODEL = "its result is the processor model's: tests/core/test_system.py"

NOT_COMPARED: dict[str, str] = {
    **dict.fromkeys(("iret", "iret16", "sysenter", "sysexit", "jmp_far32", "call_far32", "ret_far", "ret_far_i",
                     "jmp_far16", "call_far16", "ret_far16", "ret_far_i16"), _NO_EVENTS),
    **dict.fromkeys((f"{name}{size}" for size in (16, 32) for name in (
        "les", "lds", "lss", "lfs", "lgs", "push_es", "push_cs", "push_ss", "push_ds", "push_fs", "push_gs", "pop_es",
        "pop_ss", "pop_ds", "pop_fs", "pop_gs")), _NO_TABLES),
    **dict.fromkeys(("mov_to_sreg", "mov_from_sreg", "mov_from_sreg16", "sldt", "sldt16", "str", "str16", "lldt", "ltr",
                     "verr", "verw", "lar", "lar16", "lsl", "lsl16", "sgdt", "sidt"), _NO_TABLES),
    **dict.fromkeys(("lgdt", "lgdt16", "lidt", "lidt16", "mov_from_cr", "mov_to_cr", "mov_from_dr", "mov_to_dr", "smsw",
                     "smsw16", "lmsw", "wrmsr", "rdmsr"), _CONTROL),
    **dict.fromkeys((f"{direction}{size}_{place}" for direction in ("in", "out") for size in (8, 16, 32)
                     for place in ("imm", "dx")), _DEVICES),
    **dict.fromkeys((f"{direction}s{size}" for direction in ("in", "out") for size in (8, 16, 32)),
                    "talks to devices, which differ: tests/core/test_port_strings.py"),
    **dict.fromkeys(("call16", "call_rm16", "jmp_rm16", "ret16", "ret_i16"), _SIXTEEN),
    **dict.fromkeys(("rdtsc", "rdpmc", "cpuid"), _MODEL),
    "int1": _DEBUG,
}
"""Raw handler to the reason why its rows have no differential cases."""

TRAPS = {"int3", "int_n", "ud1", "ud2"}
"""Raw handlers whose job is to fault: exempt from the share of cases that complete."""


RING_DEPENDENT = {"cli", "sti", "hlt", "popf", "popf16", "pushf", "pushf16", "int_n"}
"""Raw handlers whose result depends on the ring; so does every privileged one's."""


def depends_on_ring(case: Case) -> bool:
    return any(form.privileged or form.raw in RING_DEPENDENT for form in case.forms)


def unicorn_differs(case: Case) -> bool:
    """Whether a row of DIFFERENCES says that only the host can tell what is right."""
    return not UNICORN_WRONG.isdisjoint(form.mnemonic for form in case.forms)


def reason_not_compared(form: Form) -> str | None:
    return NOT_COMPARED.get(form.raw) or (_SIXTEEN if "rel16" in form.operands else None)


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
        "o32 ENTER with a 16-bit stack", "Unicorn leaves the upper half of EBP alone",
        "pvfast: processors load EBP with all of ESP (a host asked through a 16-bit stack segment of its LDT)",
        "the upper halves of ESP and EBP are 0 there"),
)
"""Each with its treatment in instructions.py or sixteen.py, or the mnemonics that are compared with the host alone."""

UNICORN_WRONG = {mnemonic for difference in DIFFERENCES for mnemonic in difference.mnemonics}
