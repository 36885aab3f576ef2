"""The clobber checker for sites whose operation takes arguments, which from 2.6.22 on are most of all.

``clobber_check.py`` makes up register states; a page-table entry or a descriptor cannot be made up. So here the kernel
boots, or runs a loop, until it first comes to a site, and from there the site is run in each form, as its caller meant
it. Enters: a hypervisor and an era. Leaves: a `Violation` for each form that does not do what the compiled site does.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pvfast.core.engine import StopReason
from pvfast.experiments.clobber_check import CHECKED, DEAD_STACK, SYSTEM, Violation
from pvfast.experiments.runs import BOOT_INSTRUCTIONS, load
from pvfast.experiments.tracing import Labels
from pvfast.experiments.workloads import FORMS, settings
from pvfast.guest import Benchmark, GuestImage, build
from pvfast.paravirt.clobbers import REGISTERS
from pvfast.paravirt.sites import PatchSite

_INSTRUCTIONS = 20_000              # more than any operation takes
#: Their answer is the time, which passes differently in each form.
_CLOCKS = ("read_tsc", "read_pmc", "get_scheduled_cycles", "sched_clock")
#: The host may write the time to memory for them.
_CLOCK_SETTERS = ("write_msr",)
_RESULTS = {"void": (), "u64": ("eax", "edx")}


@dataclass(frozen=True)
class _Outcome:
    where: str
    before: Mapping[str, int]
    registers: Mapping[str, int]
    ram: npt.NDArray[np.uint8] | None
    same_memory: bool = True


class CallChecker:
    """A guest kernel at the beginning of its boot, in which the forms of patch sites are compared.

    Parameters
    ----------
    image : GuestImage
        As compiled.
    hypervisor : str
        What it runs under.

    Examples
    --------
    >>> from pvfast.guest import build
    >>> checker = CallChecker(build("2.6.22"), "native")
    >>> site = next(site for site in checker.image.sites if checker.image.era.site_operation(site.type) == "set_pmd")
    >>> checker.check(site)
    []
    >>> [violation.what for violation in checker.compare(site, {"wrong": bytes.fromhex("909090909090")})][-1]
    'leaves other memory'
    """

    def __init__(self, image: GuestImage, hypervisor: str) -> None:
        setting = settings(image, hypervisor)[0]
        self.image = image
        self.hypervisor = hypervisor
        self._machine = load(setting.image, hypervisor)
        self._forms = {form: setting.formed(form) for form in FORMS}
        self._labels = Labels.of(image)
        self._start = self._machine.snapshot()
        self._ways = self._find_ways()

    @property
    def reached(self) -> tuple[PatchSite, ...]:
        """The sites that boot or a loop comes to."""
        return tuple(site for site in self.image.sites if site.address in self._ways)

    def check(self, site: PatchSite) -> list[Violation]:
        """Compare the direct and the patched form of a site with the compiled one."""
        return self.compare(site, {form: image.read(site.address, site.length) for form, image in self._forms.items()})

    def compare(self, site: PatchSite, codes: Mapping[str, bytes]) -> list[Violation]:
        """Run a site with other bytes, and compare with the site as compiled.

        Parameters
        ----------
        site : PatchSite
            One of `reached`.
        codes : mapping of str to bytes
            By a name for people; each as long as the site.

        Returns
        -------
        list of Violation
            Empty when all is well.
        """
        compiled = self._run(site, self._forms["indirect"].read(site.address, site.length), None)
        outcomes = {code: self._run(site, code, compiled.ram) for code in dict.fromkeys(codes.values())}
        label = self._labels.named(f"{site.address:#x}")
        return [
            Violation(self.hypervisor, site, label, form, "as its caller left them", what)
            for form, code in codes.items() for what in self._problems(site, compiled, outcomes[code])
        ]

    def _find_ways(self) -> dict[int, Benchmark | None]:
        """By linear address of a site, the loop that comes to it first; None for boot."""
        sites = {site.address for site in self.image.sites}
        ways: dict[int, Benchmark | None] = {}
        for way in (None, *self.image.benchmarks.values()):
            self._go(way)
            end = self.image.labels["bench_done" if way else "boot_done"]
            for _ in range(BOOT_INSTRUCTIONS):
                at = self._machine.cpu.eip
                if at in sites:
                    ways.setdefault(at, way)
                if at == end:
                    break
                self._machine.step()
            if way is None:
                self._booted = self._machine.snapshot()
        return ways

    def _go(self, way: Benchmark | None) -> None:
        """To where boot, or one iteration of a loop, begins."""
        self._machine.restore(self._booted if way else self._start)
        if way:
            self._machine.cpu.eip, self._machine.cpu.ecx = way.address, 1

    def _run(self, site: PatchSite, code: bytes, expected: npt.NDArray[np.uint8] | None) -> _Outcome:
        """Come to the site, run it with other bytes, and compare RAM with what is expected, or keep it."""
        machine = self._machine
        self._go(self._ways[site.address])
        machine.run(until=site.address, max_instructions=BOOT_INSTRUCTIONS)
        before = machine.cpu.registers()
        now = machine.read_linear(site.address, site.length)
        machine.write_linear(site.address, code)
        stop = machine.run(until=site.end, max_instructions=_INSTRUCTIONS)
        registers = machine.cpu.registers()
        if stop.reason is StopReason.UNTIL:
            machine.write_linear(site.address, now)
            machine.write_linear(registers["esp"] - DEAD_STACK, bytes(DEAD_STACK))
        if expected is None:
            return _Outcome(stop.reason.name, before, registers, np.array(machine.ram))
        return _Outcome(stop.reason.name, before, registers, None, np.array_equal(machine.ram, expected))

    def _problems(self, site: PatchSite, compiled: _Outcome, outcome: _Outcome) -> list[str]:
        if outcome.where != compiled.where:
            return [f"leads to {outcome.where}, not to {compiled.where}"]
        if outcome.where != StopReason.UNTIL.name:
            return []
        operation = self.image.era[self.image.era.site_operation(site.type) or ""]
        results = _RESULTS.get(operation.returns, ("eax",))
        kept = [name for number, name in enumerate(REGISTERS)
                if not site.clobbers >> number & 1 and name not in results]
        broken = [name for name in kept if outcome.registers[name] != outcome.before[name]]
        found = [f"destroys {', '.join(broken)}"] if broken else []
        compared = SYSTEM if operation.name in _CLOCKS else (*results, *SYSTEM)
        changed = [name for name in compared if outcome.registers[name] != compiled.registers[name]]
        found += [f"leaves other {', '.join(changed)}"] if changed else []
        if operation.name not in _CLOCK_SETTERS and not outcome.same_memory:
            found.append("leaves other memory")
        return found


def check_calls(hypervisor: str, era: str) -> tuple[Violation, ...]:
    """Run every patch site that the kernel comes to, and ``check_sites`` cannot run, in each form, and compare.

    Parameters
    ----------
    hypervisor : str
        One of `pvfast.paravirt.hypervisors.hypervisor_names`.
    era : str
        The kernel's release.

    Returns
    -------
    tuple of Violation
        Empty when every form does what the compiled site does and keeps what the record says.

    Examples
    --------
    >>> check_calls("native", "2.6.22")
    ()
    """
    checker = CallChecker(build(era, hypervisor), hypervisor)
    sites = (site for site in checker.reached if checker.image.era.site_operation(site.type) not in CHECKED)
    return tuple(violation for site in sites for violation in checker.check(site))
