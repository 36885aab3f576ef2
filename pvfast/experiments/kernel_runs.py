"""Real sites of a real kernel, unpatched and patched: an image goes in, a row per operation comes out.

For each operation the first site that can be run is executed in the core, from its address to the address behind
it, once as the image has it (through the pv_ops member to the real callee) and once as the kernel's own boot would
patch it. Both start in the same state and have to end in the same. Next: ``pvfast/report/tables.py``.
"""

import contextlib
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from pvfast.assembly import show_code
from pvfast.core.engine import StopReason
from pvfast.errors import GuestError, PvfastError
from pvfast.experiments import kernel_machine
from pvfast.experiments.kernel_states import STATES, UNKNOWN, Scratch, State
from pvfast.experiments.matrix import Progress
from pvfast.experiments.workloads import Counts, overhead_percent
from pvfast.images import KernelImage, SiteRecord, load_kernel, read_sites
from pvfast.machine import Machine
from pvfast.paravirt.linux import PatchedSite, boot_patch
from pvfast.paravirt.linux.naming import operation_name
from pvfast.processor import load_model
from pvfast.processor.cpuid import FEATURE_BITS

_MAX_INSTRUCTIONS = 100_000
_CALLEE_BYTES = 128
_POISON = 0xFFFFFFFF
#: What every function keeps, by the calling convention.
_PRESERVED = ("ebx", "esi", "edi", "ebp", "esp")


@dataclass(frozen=True, slots=True)
class KernelRow:
    """One operation of a kernel.

    Attributes
    ----------
    operation : str
        For example ``"lock.queued_spin_unlock"``; ``"type 3"`` where the kernel's table is not known.
    sites : int
        How many the kernel has.
    address : int
        Linear address of the one that was run.
    callee : int or None
        What the image's pv_ops member points to.
    before, after : bytes or None
        The site in the image and after boot.
    before_text, after_text : str
        The same, disassembled.
    state : str
        The synthetic state it was run in.
    unpatched, patched : Counts or None
        From the site to the address behind it; None where it was not measured.
    reason : str
        Why it was not measured; empty otherwise.
    """

    operation: str
    sites: int
    address: int
    callee: int | None
    before: bytes
    after: bytes | None
    before_text: str
    after_text: str
    state: str = ""
    unpatched: Counts | None = None
    patched: Counts | None = None
    reason: str = ""

    def overhead_percent(self, figure: str = "cycles") -> float | None:
        """How much more the unpatched site costs than the patched one, in "cycles" or "instructions"."""
        return overhead_percent(self.unpatched, self.patched, figure)

    def as_dict(self) -> dict[str, Any]:
        """Plain types, for JSON."""
        return {
            "operation": self.operation, "sites": self.sites, "address": self.address, "callee": self.callee,
            "before": self.before.hex(), "after": None if self.after is None else self.after.hex(),
            "before_text": self.before_text, "after_text": self.after_text, "state": self.state,
            "unpatched": self.unpatched and self.unpatched.as_dict(),
            "patched": self.patched and self.patched.as_dict(),
            "overhead_percent": {name: self.overhead_percent(name) for name in ("instructions", "cycles")},
            "reason": self.reason,
        }


@dataclass(frozen=True, slots=True)
class KernelRun:
    """Every operation of a kernel's table, sorted by name.

    Attributes
    ----------
    banner : str
        The kernel's own words, or nothing.
    processor : str
        The processor model.
    rows : tuple of KernelRow
    """

    banner: str
    processor: str
    rows: tuple[KernelRow, ...]

    @property
    def measured(self) -> tuple[KernelRow, ...]:
        """The rows that hold figures."""
        return tuple(row for row in self.rows if row.unpatched is not None)

    def as_dict(self) -> dict[str, Any]:
        """Plain types, for JSON."""
        return {"kind": "kernel", "schema": 1, "banner": self.banner, "processor": self.processor,
                "rows": [row.as_dict() for row in self.rows]}


def kernel_operation_names(image: KernelImage) -> tuple[str, ...]:
    """What `run_kernel` knows of a kernel, sorted.

    Raises
    ------
    ImageError
        The image is damaged or not supported.
    """
    kernel_machine.lay_out(image)       # refuses what cannot be run
    names = {_name(operation_name(image, site.type), site) for site in read_sites(image)}
    return tuple(sorted(names))


def _name(operation: str | None, site: SiteRecord) -> str:
    return operation or f"type {site.type}"


def run_kernel(
    image: KernelImage | str | os.PathLike[str],
    operations: Iterable[str] = (),
    *,
    processor: str = "generic",
    progress: Progress | None = None,
) -> KernelRun:
    """Run a real site of each operation of a 32-bit kernel, unpatched and patched.

    Parameters
    ----------
    image : KernelImage or path
        A bzImage or an ELF kernel.
    operations : iterable of str, optional
        Names as in the table; all unless given.
    processor : str, optional
        A model of `pvfast.processor`.
    progress : callable, optional
        Called with (done, total, what comes next).

    Returns
    -------
    KernelRun
        Equal on every run.

    Raises
    ------
    ImageError
        The image is damaged or not supported.
    PvfastError
        The kernel has no such operation.

    Examples
    --------
    >>> run = run_kernel("vmlinuz-6.1.0-686")                           # doctest: +SKIP
    >>> [row.patched.instructions for row in run.measured if row.operation == "lock.queued_spin_unlock"]
    ...                                                                 # doctest: +SKIP
    [2]
    """
    kernel = image if isinstance(image, KernelImage) else load_kernel(image)
    kernel_machine.lay_out(kernel)      # refuses what cannot be run before anything is
    by_operation: dict[str, list[PatchedSite]] = {}
    for site in boot_patch(kernel).sites:
        by_operation.setdefault(_name(site.operation, site.record), []).append(site)
    wanted = set(operations) or set(by_operation)
    if unknown := sorted(wanted - by_operation.keys()):
        raise PvfastError(f"the kernel has no operation {unknown[0]!r}: choose from "
                          f"{', '.join(sorted(by_operation))}")
    rows = []
    for done, name in enumerate(sorted(wanted)):
        if progress:
            progress(done, len(wanted), name)
        rows.append(_measure(kernel, name, by_operation[name], processor))
    if progress:
        progress(len(rows), len(rows), "")
    return KernelRun(kernel.banner or "", processor, tuple(rows))


def _measure(kernel: KernelImage, name: str, sites: list[PatchedSite], processor: str) -> KernelRow:
    site = next((site for site in sites if site.after is not None), sites[0])
    known = STATES.get(name, UNKNOWN)
    address = site.record.address
    after_text = "" if site.after is None else show_code(site.after, address, kernel.bits)
    facts = (name, len(sites), address, site.callee, site.before, site.after,
             show_code(site.before, address, kernel.bits), after_text)
    if isinstance(known, str):
        return KernelRow(*facts, reason=known)
    if site.after is None:
        return KernelRow(*facts, state=known.text, reason=site.reason)
    if known.feature and not load_model(processor).features >> FEATURE_BITS[known.feature] & 1:
        return KernelRow(*facts, state=known.text, reason=f"the processor model {processor} has no "
                         f"{known.feature}, and without it Linux does not use this operation")
    try:
        unpatched, left = _run(kernel, site, site.before, known, processor)
        patched, also_left = _run(kernel, site, site.after, known, processor)
    except GuestError as error:
        return KernelRow(*facts, state=known.text, reason=str(error))
    if left != also_left:
        return KernelRow(*facts, state=known.text, reason="unpatched and patched code left different registers or "
                         "memory: the state is not one that this site can be run in alone")
    return KernelRow(*facts, state=known.text, unpatched=unpatched, patched=patched)


def _run(kernel: KernelImage, site: PatchedSite, code: bytes, state: State, processor: str) \
        -> tuple[Counts, tuple[object, ...]]:
    """Counts, and what the site must leave behind whatever its form."""
    address = site.record.address
    machine, memory = kernel_machine.load(kernel, [(address, code)], processor)
    _enter(machine, memory.scratch, state)
    if state.cr4_shadow and site.callee is not None:
        machine.write_linear(_cr4_shadow(kernel, site.callee), machine.cpu.cr4.to_bytes(4, "little"))
    kept = [getattr(machine.cpu, name) for name in _PRESERVED]
    machine.cpu.eip = address
    stop = machine.run(until=address + len(code), max_instructions=_MAX_INSTRUCTIONS)
    if stop.reason is not StopReason.UNTIL:
        raise GuestError(_stopped(machine, stop, kernel.bits))
    if [getattr(machine.cpu, name) for name in _PRESERVED] != kept:
        raise GuestError(f"the site at {address:#010x} changed a register that a call preserves")
    counts = Counts.of(machine)
    scratch = machine.read_linear(memory.scratch, kernel_machine.SCRATCH_BYTES)
    for offset, word in state.leaves.items():
        found = int.from_bytes(scratch[offset:offset + 4], "little")
        if found != _value(memory.scratch, word):
            raise GuestError(f"it left {found:#x} at offset {offset:#x} of its state, which is not what it is for")
    return counts, (machine.cpu.eax & state.result, scratch)


def _enter(machine: Machine, scratch: int, state: State) -> None:
    for offset, word in state.words.items():
        machine.write_linear(scratch + offset, _value(scratch, word).to_bytes(4, "little"))
    for name, given in state.registers.items():
        setattr(machine.cpu, name, _value(scratch, given))


def _cr4_shadow(kernel: KernelImage, callee: int) -> int:
    """Linear address of cpu_tlbstate.cr4: the %fs word that a callee reads and that the image sets to all ones."""
    code = show_code(kernel.read(callee, _CALLEE_BYTES), callee, kernel.bits)
    for match in re.finditer(r"%fs:(0x[0-9a-f]+), %e", code):
        linear = int(match[1], 16)
        if kernel.section_at(linear, 4) and kernel.read_word(linear) == _POISON:
            return linear
    raise GuestError(f"the per-CPU copy of CR4 was not found in the function at {callee:#010x}")


def _value(scratch: int, given: int | Scratch) -> int:
    return scratch + given.offset if isinstance(given, Scratch) else given


def _stopped(machine: Machine, stop: Any, bits: int) -> str:
    where = f"{stop.reason.name} at linear {stop.eip:#010x}"
    with contextlib.suppress(ValueError):       # nothing is mapped there
        where += f" ({show_code(machine.read_linear(stop.eip, 15), stop.eip, bits).split(';')[0]})"
    cause = "" if stop.vector is None else f", first fault {stop.vector}, CR2 {machine.cpu.cr2:#x}"
    return f"it did not come back from its callee: {where}{cause}; the state it was given lacks something"
