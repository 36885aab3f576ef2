"""The synthetic state that each operation of Linux 6.1's ``pv_ops`` is run in, and which ones cannot be run so.

Calling convention: arguments in EAX, EDX, ECX. The words lie in a zeroed scratch area; everything else is as
`kernel_machine.load` leaves it: CPL 0, interrupts disabled, per-CPU variables and static keys as in the image. The
structures are those of Linux 6.1 (asm/paravirt_types.h, asm-generic/tlb.h, asm-generic/qspinlock_types.h).
Next: ``kernel_runs.py``.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType


@dataclass(frozen=True, slots=True)
class Scratch:
    """The linear address of a byte of the scratch area."""

    offset: int


@dataclass(frozen=True, slots=True)
class State:
    """What an operation finds.

    Attributes
    ----------
    text : str
        The same in words.
    registers : mapping of str to (int or Scratch)
        The others are zero.
    words : mapping of int to (int or Scratch)
        32-bit words of the scratch area, by offset.
    leaves : mapping of int to (int or Scratch)
        Words of the scratch area afterwards: that the operation did what it is for.
    feature : str
        A name of `processor.cpuid.FEATURE_BITS` that the processor must have: without it Linux does not use the
        operation.
    cr4_shadow : bool
        Give the per-CPU copy of CR4 the register's value: it is all ones, to fail hard, until cr4_init_shadow().
    result : int
        Bits of EAX that the operation answers with; 0 when it answers nothing.
    """

    text: str
    registers: Mapping[str, int | Scratch] = field(default_factory=lambda: MappingProxyType({}))
    words: Mapping[int, int | Scratch] = field(default_factory=lambda: MappingProxyType({}))
    leaves: Mapping[int, int | Scratch] = field(default_factory=lambda: MappingProxyType({}))
    feature: str = ""
    cr4_shadow: bool = False
    result: int = 0


# struct mmu_gather up to its first batch, and struct mmu_gather_batch {next, nr, max, pages[]}.
_GATHER_END = 0x0C
_GATHER_ACTIVE = 0x18
_GATHER_LOCAL = 0x1C
_BATCH_NR, _BATCH_MAX, _BATCH_PAGES = (_GATHER_LOCAL + offset for offset in (4, 8, 12))
_MMU_GATHER_BUNDLE = 8
_PAGE = 0x800                       # a struct page; only its address is used
_PAGE_BYTES = 0x1000
_LOCKED = 1                         # _Q_LOCKED_VAL

_LOCK_FREED = State(
    "EAX: a lock word of 0, EDX: 1; it was held when the caller looked and is free now; static keys as in the "
    "image",
    {"eax": Scratch(0), "edx": _LOCKED}, {0: 0}, {0: _LOCKED})

#: Operation to its state, or to the reason why it has none.
STATES: Mapping[str, State | str] = MappingProxyType({
    "cpu.io_delay": State("no arguments; io_delay_type as in the image, port 80h unconnected"),
    "mmu.flush_tlb_user": State("no arguments; CR3 holds the page tables of the direct map"),
    "mmu.flush_tlb_kernel": State("no arguments; CR4 and its per-CPU copy hold 0", feature="PGE", cr4_shadow=True),
    "mmu.flush_tlb_one_user": State("EAX: a mapped linear address", {"eax": Scratch(_PAGE_BYTES)}),
    "mmu.flush_tlb_multi": "it interrupts other processors and waits for them: needs a booted kernel with two",
    "mmu.tlb_remove_table": State(
        "EAX: a struct mmu_gather whose first batch is empty and has room for 8, EDX: a struct page",
        {"eax": Scratch(0), "edx": Scratch(_PAGE)},
        {_GATHER_END: _PAGE_BYTES, _GATHER_ACTIVE: Scratch(_GATHER_LOCAL), _BATCH_MAX: _MMU_GATHER_BUNDLE},
        {_BATCH_NR: 1, _BATCH_PAGES: Scratch(_PAGE)}),
    "mmu.exit_mmap": State("EAX: a struct mm_struct, not read", {"eax": Scratch(0)}),
    "mmu.notify_page_enc_status_changed": State(
        "EAX: a linear address, EDX: 1 page, ECX: 0, not encrypted", {"eax": Scratch(0), "edx": 1}),
    "lock.queued_spin_lock_slowpath": _LOCK_FREED,
    "lock.queued_spin_unlock": State("EAX: a lock word of 1: held, nobody waits",
                                     {"eax": Scratch(0)}, {0: _LOCKED}, {0: 0}),
    "lock.wait": State("EAX: a byte of 1, EDX: 1, the value to wait on; a processor without a hypervisor goes on",
                       {"eax": Scratch(0), "edx": _LOCKED}, {0: _LOCKED}),
    "lock.kick": State("EAX: processor 0"),
    "lock.vcpu_is_preempted": State("EAX: processor 0", result=0xFF),
})

#: What is said of an operation that is not in `STATES`.
UNKNOWN = "no state is written down for it: add one to pvfast/experiments/kernel_states.py"
