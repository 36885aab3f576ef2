"""What ``bench.S`` can run: one row per loop or workload, addresses filled in when the image is built.

Either runs from ``bench_<name>`` to ``bench_done``. A loop (`ROWS`) executes its sites once per iteration, and its
`baseline` is the same loop without them. A workload (`WORKLOADS`) is a user program named after what lmbench
measures; it executes many sites, which are not listed, and its `baseline` is the workload that lmbench subtracts.
Next: ``build.py``.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType


@dataclass(frozen=True, slots=True)
class Benchmark:
    """One loop, or one workload.

    Attributes
    ----------
    name : str
        ``bench_<name>`` is its label, a dash being an underscore there.
    title : str
        For people.
    sites : tuple of str
        Labels of the patch sites that one iteration executes, in order; empty for a baseline or a workload.
    baseline : str
        Name of the row whose counts are to be subtracted; empty when there is nothing to subtract.
    baseline_times : int
        How often an iteration holds what the baseline's does.
    units : int
        How many of what is measured one iteration does: the hops of a token's round, the pages of a mapping.
    ring : int
        3 when the loop itself is user code.
    is_workload : bool
        Whether it is one of `WORKLOADS`.
    needs_sep : bool
        Whether it needs sysenter: where CPUID does not show SEP to the kernel the loop ends at once and
        leaves ``-ENOSYS`` in ``exit_status``.
    address : int
        Linear address of the label.
    """

    name: str
    title: str
    sites: tuple[str, ...] = ()
    baseline: str = ""
    baseline_times: int = 1
    units: int = 1
    ring: int = 0
    needs_sep: bool = False
    is_workload: bool = False
    address: int = 0

    @property
    def label(self) -> str:
        """Its label in the image."""
        return f"bench_{self.name.replace('-', '_')}"


_SYSENTER_SITES = ("site_sysenter_enable", "site_sysenter_disable", "site_irq_enable_sysexit")

ROWS = (
    Benchmark("empty", "the loop alone"),
    Benchmark("empty_iret", "the loop and the stores of an interrupt frame"),
    Benchmark("irq_disable", "local_irq_disable (C)", ("site_irq_disable",), "empty"),
    Benchmark("irq_enable", "local_irq_enable (C)", ("site_irq_enable",), "empty"),
    Benchmark("save_fl", "local_save_flags (C)", ("site_save_fl",), "empty"),
    Benchmark("restore_fl", "local_irq_restore (C)", ("site_restore_fl",), "empty"),
    Benchmark("irq_save", "local_irq_save (C)", ("site_irq_save",), "empty"),
    Benchmark("irq_save_restore", "local_irq_save and local_irq_restore (C)",
              ("site_irq_save_restore_save", "site_irq_save_restore_restore"), "empty"),
    Benchmark("asm_irq_disable", "DISABLE_INTERRUPTS (entry code)", ("site_asm_irq_disable",), "empty"),
    Benchmark("asm_irq_enable", "ENABLE_INTERRUPTS (entry code)", ("site_asm_irq_enable",), "empty"),
    Benchmark("iret", "INTERRUPT_RETURN within the kernel", ("site_iret",), "empty_iret"),
    Benchmark("irq_enable_sysexit", "ENABLE_INTERRUPTS_SYSEXIT, with the sysenter that precedes it", _SYSENTER_SITES,
              "empty", ring=3, needs_sep=True),
    Benchmark("null_syscall_int80", "getppid by int $0x80", ("site_syscall_exit", "site_interrupt_return"), "empty",
              ring=3),
    Benchmark("null_syscall_sysenter", "getppid by sysenter", _SYSENTER_SITES, "empty", ring=3, needs_sep=True),
)


def _workload(name: str, title: str, baseline: str = "", baseline_times: int = 1, units: int = 1) -> Benchmark:
    return Benchmark(name, title, baseline=baseline, baseline_times=baseline_times, units=units, ring=3,
                     is_workload=True)


WORKLOADS = (
    _workload("null", "getppid()"),
    _workload("read", "read() of a byte of /dev/zero"),
    _workload("write", "write() of a byte to /dev/null"),
    _workload("open", "open() and close() of a device"),
    _workload("signal-install", "sigaction()"),
    _workload("signal-none", "kill(getpid(), 0): what lmbench subtracts from signal-catch"),
    _workload("signal-catch", "a signal sent, caught and returned from", "signal-none"),
    _workload("protection-fault", "a store to a read-only page, beyond the catching", "signal-catch"),
    _workload("pipe-1p", "a word to a pipe and back: what lmbench subtracts from context-switch"),
    _workload("pipe", "a byte by a pipe to another process, and one back by another"),
    _workload("context-switch-2p", "from one process to the next of 2, by pipe, beyond the pipe", "pipe-1p", 2, 2),
    _workload("context-switch-8p", "from one process to the next of 8, by pipe, beyond the pipe", "pipe-1p", 8, 8),
    _workload("mmap-munmap", "a mapping of 64 pages: what lmbench subtracts from page-fault"),
    _workload("mmap", "a mapping of 64 pages, a byte in every tenth, and munmap()"),
    _workload("page-fault", "the first read of a page of a mapped file", "mmap-munmap", units=64),
    _workload("fork-exit", "fork(), a child that exits, waitpid()"),
    _workload("fork-exec", "fork(), a child that becomes another program, which exits, waitpid()"),
)


def located(labels: Mapping[str, int]) -> Mapping[str, Benchmark]:
    """Fill in the addresses.

    Parameters
    ----------
    labels : mapping of str to int
        Of the assembled image.

    Returns
    -------
    mapping of str to Benchmark
        By name, in the order of `ROWS` and `WORKLOADS`.
    """
    return MappingProxyType({
        row.name: replace(row, address=labels[row.label]) for row in (*ROWS, *WORKLOADS)
    })
