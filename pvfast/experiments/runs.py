"""How one machine is measured: an image in one form goes in; counts and host times per operation come out.

`boot` is the one place that makes a machine for a hypervisor. `measure_loop` measures a loop of any guest on any
machine: it is run for N and for 2N iterations, and what the second N cost is the loop's. Of the built-in guest's the
baseline's is subtracted. Next: ``tracing.py``.

Design: each loop of the built-in guest is measured, or traced, on a machine that has only booted, because branch
predictors, TLBs and hypervisors remember what ran before: a figure owes nothing to what else is measured. Booting is
faster than going back to a snapshot of 16 MiB, and keeps no memory.
"""

from collections.abc import Callable
from copy import copy
from functools import partial
from time import perf_counter_ns

from pvfast.core.engine import StopReason
from pvfast.errors import GuestError
from pvfast.experiments.workloads import Counts, Setting
from pvfast.guest import Benchmark, GuestImage
from pvfast.machine import Machine
from pvfast.paravirt.hypervisors import hypervisor as make_hypervisor
from pvfast.paravirt.hypervisors.native import Native
from pvfast.processor import Model, load_model

#: Iterations of a counted run.
ITERATIONS = 100

_RAM = "16M"
#: More than it takes to boot.
BOOT_INSTRUCTIONS = 2_000_000
#: More than any iteration of any loop takes.
ITERATION_INSTRUCTIONS = 200_000
_FAULT_WORDS = ("vector", "error code", "eip")


def boot(image: GuestImage, hypervisor: str = Native.name, processor: str | Model = "generic") -> Machine:
    """Make a machine and boot the guest kernel on it until it idles.

    Parameters
    ----------
    image : GuestImage
        In any form.
    hypervisor : str, optional
        What it runs on.
    processor : str, optional
        A model of `pvfast.processor`.

    Returns
    -------
    Machine
        Stopped at the label ``boot_done``.

    Raises
    ------
    GuestError
        The kernel did not get there.

    Examples
    --------
    >>> from pvfast.guest import build
    >>> image = build()
    >>> boot(image).cpu.eip == image.labels["boot_done"]
    True
    """
    machine = load(image, hypervisor, processor)
    run_to(machine, image, "boot_done", BOOT_INSTRUCTIONS)
    return machine


def load(image: GuestImage, hypervisor: str = Native.name, processor: str | Model = "generic") -> Machine:
    """Make a machine whose next instruction is the guest kernel's first; parameters as for `boot`."""
    host = make_hypervisor(hypervisor)
    machine = Machine(ram=_RAM, processor=processor, hypervisor=host)
    host.start(machine, image)
    return machine


def run_to(machine: Machine, image: GuestImage, label: str, max_instructions: int) -> None:
    """Run until the next instruction is at a label.

    Raises
    ------
    GuestError
        It stopped before; says where, and the guest's first fault.
    """
    stop = machine.run(until=image.labels[label], max_instructions=max_instructions)
    if stop.reason is not StopReason.UNTIL:
        raise GuestError(f"the guest kernel did not reach {label}: {stop.reason.name} at {stop.eip:#010x} after "
                         f"{machine.counters.instructions} instructions{_first_fault(machine, image)}; "
                         "Machine.step() from there shows how")


def read_word(machine: Machine, image: GuestImage, label: str, index: int = 0) -> int:
    """One of the guest kernel's variables."""
    return int.from_bytes(machine.read_linear(image.labels[label] + 4 * index, 4), "little")


def _first_fault(machine: Machine, image: GuestImage) -> str:
    try:
        values = [read_word(machine, image, "fault_record", index) for index in range(len(_FAULT_WORDS))]
    except ValueError:      # paging is not what the kernel has set up: it never got far
        return ""
    if not values[-1]:
        return ""
    return ", its first fault: " + ", ".join(
        f"{name} {value:#x}" for name, value in zip(_FAULT_WORDS, values, strict=True))


def measure_loop(machine: Machine, loop: Callable[[int], object], what: str, iterations: int = ITERATIONS) -> Counts:
    """What one iteration of a loop costs, on a machine with any guest.

    Parameters
    ----------
    machine : Machine
        Whose counters are read.
    loop : callable
        Called with a number of iterations: runs the loop that often, from where it begins to where it ends. What ran
        before on the machine, a branch predictor may remember: give each loop one of its own.
    what : str
        The loop's name, for the error.
    iterations : int, optional
        N: the loop is run for N iterations, which are not counted, because hypervisors and branch predictors learn
        from them, then for N and for 2N.

    Returns
    -------
    Counts
        The way in and out cancels. Under a model that predicts branches cycles are their mean.

    Raises
    ------
    GuestError
        The iterations do not all cost the same.

    Examples
    --------
    >>> from pvfast.assembly import assemble
    >>> program = assemble("again: cli; sti; decl %ecx; jnz again; done:", 0x1000)
    >>> machine = Machine(ram="1M")
    >>> machine.write(0x1000, program.code)
    >>> def loop(iterations):
    ...     machine.cpu.eip, machine.cpu.ecx = 0x1000, iterations
    ...     machine.run(until=program.labels["done"])
    >>> measure_loop(machine, loop, "cli and sti").instructions
    4
    """
    loop(iterations)
    once = _counts(machine, loop, iterations)
    twice = _counts(machine, loop, 2 * iterations)
    return (twice - once).per(iterations, what, machine.processor.prediction is not None)


def _counts(machine: Machine, loop: Callable[[int], object], iterations: int) -> Counts:
    before = Counts.of(machine)
    loop(iterations)
    return Counts.of(machine) - before


class GuestRun:
    """A guest kernel whose patch sites have one form; `machine` has booted it.

    Parameters
    ----------
    setting : Setting
        Hypervisor and variant.
    form : str
        One of `pvfast.experiments.workloads.FORMS`.
    processor : str, optional
        A model of `pvfast.processor`.

    Examples
    --------
    >>> from pvfast.experiments.workloads import settings
    >>> from pvfast.guest import build
    >>> native, = settings(build(), "native")
    >>> GuestRun(native, "indirect").per_operation("irq_disable").instructions
    7
    """

    def __init__(self, setting: Setting, form: str, processor: str | Model = "generic") -> None:
        self.form = form
        self.image = setting.formed(form)
        self._setting, self._processor = setting, load_model(processor)
        self.machine = self._booted()
        self._loops: dict[str, Counts] = {}

    def _booted(self) -> Machine:
        machine = boot(self.image, self._setting.hypervisor, self._processor)
        for operation, target in self._setting.pointers.items():
            machine.write_linear(self.image.pointers[operation], target.to_bytes(4, "little"))
        return machine

    def anew(self) -> "GuestRun":
        """The same with another machine, which has only booted."""
        run = copy(self)
        run.machine = self._booted()
        return run

    def missing(self, benchmark: Benchmark) -> str:
        """Why a loop cannot run on this machine; empty when it can."""
        if benchmark.needs_sep and not read_word(self.machine, self.image, "sysenter_enabled"):
            return ("the cpuid operation shows the kernel no SEP here, so sysenter and sysexit are not used: "
                    "system calls enter by int $0x80")
        return ""

    def enter(self, name: str, iterations: int) -> None:
        """Stand at the label of a loop."""
        self.machine.cpu.eip = self.image.benchmarks[name].address
        self.machine.cpu.ecx = iterations

    def loop(self, name: str, iterations: int) -> None:
        """Run a loop from its label to ``bench_done``."""
        self.enter(name, iterations)
        run_to(self.machine, self.image, "bench_done", iterations * ITERATION_INSTRUCTIONS)

    def counts(self, name: str, iterations: int) -> Counts:
        """What a run of a loop costs, the way in and out included."""
        return _counts(self.machine, partial(self.loop, name), iterations)

    def measure(self, name: str) -> Counts:
        """What is reported of a benchmark: a whole iteration of a workload; of an operation, less the loop around it.

        Raises
        ------
        GuestError
            Its iterations do not all cost the same, or the guest did not come back.
        """
        return self.per_iteration(name) if self.image.benchmarks[name].is_workload else self.per_operation(name)

    def per_operation(self, name: str) -> Counts:
        """What one iteration costs, less the same of its baseline: the loop without its site.

        Raises
        ------
        GuestError
            Its iterations do not all cost the same, or the guest did not come back.
        """
        baseline = self.image.benchmarks[name].baseline
        own = self.per_iteration(name)
        return own - self.per_iteration(baseline) if baseline else own

    def per_unit(self, name: str) -> tuple[float, float]:
        """What lmbench would report of a workload: an iteration less its baselines, divided by its units.

        Returns
        -------
        tuple of float
            Instructions and cycles; no integers where a hypervisor does work for several units at once.
        """
        row = self.image.benchmarks[name]
        own = self.per_iteration(name)
        for _ in range(row.baseline_times if row.baseline else 0):
            own -= self.per_iteration(row.baseline)
        return own.instructions / row.units, own.cycles / row.units

    def per_iteration(self, name: str) -> Counts:
        """What one iteration costs, nothing subtracted, on a machine of its own that has only booted.

        Under a model that predicts branches cycles are their mean.

        Raises
        ------
        GuestError
            Its iterations do not all cost the same, or the guest did not come back.
        """
        if name not in self._loops:
            run = self.anew()
            self._loops[name] = measure_loop(run.machine, partial(run.loop, name), name)
        return self._loops[name]

    def host_ns(self, name: str, iterations: int) -> float:
        """Host nanoseconds per iteration, once; of an operation, less its baseline's. Not exact, not repeatable."""
        benchmark = self.image.benchmarks[name]
        baseline = "" if benchmark.is_workload else benchmark.baseline
        spent = self._time(name, iterations)
        return (spent - (self._time(baseline, iterations) if baseline else 0)) / iterations

    def _time(self, name: str, iterations: int) -> int:
        start = perf_counter_ns()
        self.loop(name, iterations)
        return perf_counter_ns() - start
