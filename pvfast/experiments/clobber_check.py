"""The clobber checker: every patch site is run in each of its forms from equal states, and what they leave is compared.

Enters: a guest image and a hypervisor. Leaves: a `Violation` for each form that does something else than the site as
compiled, or destroys what the site's record says must survive. ``clobbers.py`` reads replacement code without running
it; this runs the site, whatever it calls, and looks at registers, memory, the interrupt flag and where control goes.
Next: ``call_check.py``, for sites whose operation takes arguments; ``workloads.py``, where the forms come from.

Design: after a run only the pages that some run has written are compared and put back. When all runs of a site are
over, all of RAM is compared once; a page that was missed joins them, and the site is run again.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from random import Random

import numpy as np

from pvfast.core.engine import StopReason
from pvfast.errors import PvfastError
from pvfast.experiments.runs import boot, read_word
from pvfast.experiments.tracing import Labels
from pvfast.experiments.workloads import FORMS, settings
from pvfast.guest import GuestImage, build
from pvfast.paravirt.clobbers import REGISTERS
from pvfast.paravirt.operations import FUSED
from pvfast.paravirt.sites import CLBR_EAX, PatchSite

#: Seeds of the register states; the last state is all ones.
SEEDS = range(3)

_INSTRUCTIONS = 2_000               # more than any operation that a site performs takes
_PAGE = 4096
_STACK_IN_USE = 256                 # bytes of the kernel stack above ESP at a site
#: Bytes below ESP: what calls leave behind, of no meaning.
DEAD_STACK = 1024
_GENERAL = tuple(name for name in REGISTERS if name != "esp")
_FLAGS = 0x8D5                      # OF SF ZF AF PF CF: no site keeps them
_IF = 0x200                         # all that save_fl answers and restore_fl takes
_RESERVED = 0x002
_USER_RING = 3
_TIMER_VECTOR = 0x20                # of the guest kernel; a hypervisor may make an event of it
#: Of what `registers()` tells, what no site changes.
SYSTEM = ("cpl", "cs", "ss", "ds", "es", "fs", "gs", "cr0", "cr3", "cr4")
_LANDING = "bench_done"             # where a return within the kernel leads; a jump to boot_done
_EXITS = ("iret", "irq_enable_sysexit")
_ENABLE = ("irq_enable", "restore_fl")
_ANSWER_FLAGS = ("save_fl", FUSED)
#: What a site may do to be run from any registers. The other operations of 2.6.22 on want their callers' arguments.
CHECKED = (*_ANSWER_FLAGS, "restore_fl", "irq_disable", "irq_enable", *_EXITS)


@dataclass(frozen=True, slots=True)
class Violation:
    """A form of a site that breaks its record, or does not do what the compiled site does.

    Attributes
    ----------
    hypervisor : str
    site : PatchSite
    label : str
        Of the guest's source, with an offset.
    form : str
        One of `pvfast.experiments.workloads.FORMS`, or the caller's name for its own bytes.
    state : str
        Which registers it started with.
    what : str
        For people.
    """

    hypervisor: str
    site: PatchSite
    label: str
    form: str
    state: str
    what: str

    def __str__(self) -> str:
        return f"{self.hypervisor}: {self.label} ({self.site}), {self.form}, {self.state}: {self.what}"


@dataclass(frozen=True, slots=True)
class _State:
    """What the registers hold at the site, and whether interrupts are enabled."""

    name: str
    registers: Mapping[str, int]
    flags: int
    enabled: bool
    to_user: bool = False
    pending: bool = False       # an interrupt waits for them to be enabled


@dataclass(frozen=True, slots=True)
class _Outcome:
    """What a run of a site leaves, and the general registers that it began with."""

    where: str
    before: Mapping[str, int]
    after: Mapping[str, int]
    system: Mapping[str, int]
    memory: Mapping[int, bytes]     # by the physical address of the page


class ClobberChecker:
    """A booted guest kernel in which the forms of patch sites are compared.

    Parameters
    ----------
    image : GuestImage
        As compiled.
    hypervisor : str
        What it runs under.

    Examples
    --------
    >>> from pvfast.guest import build
    >>> checker = ClobberChecker(build(), "native")
    >>> site = checker.image.site("site_irq_disable")
    >>> checker.check(site)
    []
    >>> found = checker.compare(site, {"wrong": bytes.fromhex("fa 31c9 909090909090 90")})      # cli; xor %ecx, %ecx
    >>> found[0].what
    'destroys ecx'
    """

    def __init__(self, image: GuestImage, hypervisor: str) -> None:
        self.image = image
        self.hypervisor = hypervisor
        setting = settings(image, hypervisor)[0]
        self.machine = boot(setting.image, hypervisor)
        self._forms = {form: setting.formed(form) for form in FORMS}
        self._targets = setting.context.targets
        self._labels = Labels.of(image)
        self._base = self.machine.snapshot()
        self._ram = np.array(self.machine.ram).view(np.uint64)
        self._differs = np.empty(len(self._ram), bool)
        self._pages: set[int] = set()
        self._esp = self.machine.cpu.esp - _STACK_IN_USE
        self._user = self._find_user()
        self._code = self._rewritten()

    def check(self, site: PatchSite) -> list[Violation]:
        """Compare the direct and the patched form of a site with the compiled one, and all with its record."""
        return self.compare(site, {form: image.read(site.address, site.length) for form, image in self._forms.items()})

    def compare(self, site: PatchSite, codes: Mapping[str, bytes]) -> list[Violation]:
        """Run a site with other bytes, and compare with the site as compiled.

        Parameters
        ----------
        site : PatchSite
            One of the image's.
        codes : mapping of str to bytes
            By a name for people; each as long as the site.

        Returns
        -------
        list of Violation
            Empty when all is well.
        """
        while True:
            found = [violation for state in self._states(site) for violation in self._compare(site, codes, state)]
            if not self._widen():
                return found

    def _compare(self, site: PatchSite, codes: Mapping[str, bytes], state: _State) -> list[Violation]:
        compiled = self._forms["indirect"].read(site.address, site.length)
        outcomes = {code: self._run(site, code, state) for code in dict.fromkeys([compiled, *codes.values()])}
        found = []
        for form, code in codes.items():
            outcome = outcomes[code]
            problems = self._broken(site, outcome) + self._differences(site, outcomes[compiled], outcome)
            found += [Violation(self.hypervisor, site, self._labels.named(f"{site.address:#x}"), form, state.name, what)
                      for what in problems]
        return found

    def _operation(self, site: PatchSite) -> str | None:
        return self.image.era.site_operation(site.type)

    def _jumped_to(self, site: PatchSite) -> bool:
        return self._operation(site) in _EXITS

    def _answers_flags(self, site: PatchSite) -> bool:
        return self._operation(site) in _ANSWER_FLAGS

    def _broken(self, site: PatchSite, outcome: _Outcome) -> list[str]:
        """What must survive by the record, and did not."""
        if self._jumped_to(site):
            return []
        allowed = site.clobbers | (CLBR_EAX if self._answers_flags(site) else 0)
        before = {**outcome.before, "esp": self._esp}
        broken = [name for number, name in enumerate(REGISTERS)
                  if not allowed >> number & 1 and outcome.after[name] != before[name]]
        return [f"destroys {', '.join(broken)}"] if broken else []

    def _differences(self, site: PatchSite, compiled: _Outcome, outcome: _Outcome) -> list[str]:
        """What it does, and the compiled site does not."""
        if outcome.where != compiled.where:
            return [f"leads to {outcome.where}, not to {compiled.where}"]
        found = []
        if self._jumped_to(site):
            changed = [name for name in REGISTERS if outcome.after[name] != compiled.after[name]]
            found += [f"arrives with other {', '.join(changed)}"] if changed else []
        if self._answers_flags(site) and (outcome.after["eax"] ^ compiled.after["eax"]) & _IF:
            found.append(f"answers {outcome.after['eax']:#x}, not {compiled.after['eax']:#x}")
        changed = [name for name, value in outcome.system.items() if value != compiled.system[name]]
        found += [f"leaves other {', '.join(changed)}"] if changed else []
        pages = sorted(page for page in outcome.memory.keys() | compiled.memory.keys()
                       if outcome.memory.get(page) != compiled.memory.get(page))
        found += [f"leaves other memory in the page at {page:#x} physical" for page in pages]
        return found

    def _states(self, site: PatchSite) -> list[_State]:
        states = []
        for seed in SEEDS:
            random = Random(seed)
            registers = {name: random.getrandbits(32) for name in _GENERAL}
            flags = random.getrandbits(12) & _FLAGS
            states.append(_State(f"state {seed}", registers, flags, bool(seed & 1), to_user=seed == SEEDS[-1]))
        states.append(_State("all ones", dict.fromkeys(_GENERAL, 0xFFFFFFFF), _FLAGS, enabled=True))
        if self._operation(site) in _ENABLE:
            states.append(replace(states[0], name="an interrupt is pending", enabled=False, pending=True))
        if self._operation(site) == "restore_fl":
            return [replace(state, registers={**state.registers, "eax": flags | state.flags})
                    for state in states for flags in (_RESERVED, _RESERVED | _IF)]
        return states

    # --- One run --------------------------------------------------------------------------------------------------

    def _run(self, site: PatchSite, code: bytes, state: _State) -> _Outcome:
        machine, cpu = self.machine, self.machine.cpu
        compiled = machine.read_linear(site.address, site.length)
        self._set_interrupts(state.enabled)
        if state.pending:
            machine.inject_interrupt(_TIMER_VECTOR)
        machine.write_linear(site.address, code)
        machine.hypervisor.code_changed(machine, site.address)
        registers = dict(state.registers)
        end = site.end
        cpu.esp = self._esp
        if self._operation(site) == "iret":
            end = self._interrupt_frame(state)
        elif self._operation(site) == "irq_enable_sysexit":
            end, _, registers["ecx"], _ = self._user
            registers["edx"] = end
        for name, value in registers.items():
            setattr(cpu, name, value)
        cpu.eflags = cpu.eflags & ~_FLAGS | state.flags
        cpu.eip = site.address
        stop = machine.run(until=end, max_instructions=_INSTRUCTIONS)
        arrived = stop.reason is StopReason.UNTIL
        restored = self._jumped_to(site) or state.pending or machine.hypervisor.rewrites_code
        vector = read_word(machine, self.image, "fault_record")
        where = f"{end:#x}" if arrived else f"{stop.reason.name}, exception {vector}"
        left = cpu.registers()
        if arrived and state.pending:   # behind STI and RET, one instruction more lets it in
            cpu.eip = self.image.labels[_LANDING]
            machine.run(until=self.image.labels["boot_done"], max_instructions=_INSTRUCTIONS)
        memory: dict[int, bytes] = {}
        if arrived:
            machine.write_linear(site.address, compiled)
            machine.write_linear(self._esp - DEAD_STACK, bytes(DEAD_STACK))
            pages = self._written() - self._code if restored else self._pages
            memory = {page: machine.read(page, _PAGE) for page in pages}
        if arrived and not restored:
            self._undo()
        else:
            machine.restore(self._base)
        system = {name: left[name] for name in SYSTEM} | {"eflags": left["eflags"] & ~_FLAGS}
        return _Outcome(where, registers, {name: left[name] for name in REGISTERS}, system, memory)

    def _set_interrupts(self, enabled: bool) -> None:
        """By the guest's own function, whatever enabling means here."""
        cpu = self.machine.cpu
        cpu.esp = self._esp - 4
        cpu.eax = _RESERVED | enabled * _IF
        done = self.image.labels[_LANDING]
        self.machine.write_linear(cpu.esp, done.to_bytes(4, "little"))
        cpu.eip = self._targets["restore_fl"]
        if self.machine.run(until=done, max_instructions=_INSTRUCTIONS).reason is not StopReason.UNTIL:
            raise PvfastError(f"{self.hypervisor}: restore_fl did not return: the guest kernel is broken")
        self.machine.write_linear(self._esp - DEAD_STACK, bytes(DEAD_STACK))

    def _find_user(self) -> tuple[int, int, int, int]:
        """EIP, CS, ESP and SS of user code: where the kernel starts it."""
        cpu = self.machine.cpu
        cpu.eip = next(loop.address for loop in self.image.benchmarks.values() if loop.ring == _USER_RING)
        cpu.ecx = 1
        for _ in range(_INSTRUCTIONS):
            if cpu.cpl == _USER_RING:
                break
            self.machine.step()
        found = cpu.eip, cpu.cs.selector, cpu.esp, cpu.ss.selector
        self.machine.restore(self._base)
        return found

    def _rewritten(self) -> set[int]:
        """The pages in which the host may have put what is not the guest's."""
        if not self.machine.hypervisor.rewrites_code:
            return set()
        text = self.image.sections[".text"]
        return set(range(self.image.to_physical(text.address) & -_PAGE, self.image.to_physical(text.end), _PAGE))

    def _interrupt_frame(self, state: _State) -> int:
        """Push what iret takes; answers where it leads."""
        flags = _RESERVED | _IF | state.flags
        if state.to_user:
            end, cs, esp, ss = self._user
            words = [end, cs, flags, esp, ss]
        else:
            end = self.image.labels[_LANDING]
            words = [end, self.machine.cpu.cs.selector, flags]
        self.machine.write_linear(self._esp, b"".join(word.to_bytes(4, "little") for word in words))
        return end

    # --- Memory ---------------------------------------------------------------------------------------------------

    def _undo(self) -> None:
        ram = self._ram.view(np.uint8)
        for page in self._pages:
            before = ram[page:page + _PAGE].tobytes()
            if self.machine.read(page, _PAGE) != before:
                self.machine.write(page, before)

    def _written(self) -> set[int]:
        """The pages that differ from those of the booted machine, by a look at all of RAM."""
        np.not_equal(self.machine.ram.view(np.uint64), self._ram, out=self._differs)
        return set((np.flatnonzero(self._differs) * self._ram.itemsize & -_PAGE).tolist())

    def _widen(self) -> bool:
        """Whether a page was written that nobody looked at; it is looked at from now on."""
        written = self._written()
        self._pages |= written
        self._undo()
        return bool(written)


def check_sites(hypervisor: str, era: str = "2.6.20") -> tuple[Violation, ...]:
    """Run every patch site of the built-in kernel that does what `CHECKED` lists in each form, and compare.

    Parameters
    ----------
    hypervisor : str
        One of `pvfast.paravirt.hypervisors.hypervisor_names`.
    era : str, optional
        The kernel's release.

    Returns
    -------
    tuple of Violation
        Empty when every form does what the compiled site does and keeps what the record says.

    Raises
    ------
    GuestError
        The kernel did not boot.

    Examples
    --------
    >>> check_sites("xen")
    ()
    """
    image = build(era, hypervisor)
    checker = ClobberChecker(image, hypervisor)
    return tuple(violation for site in image.sites if image.era.site_operation(site.type) in CHECKED
                 for violation in checker.check(site))
