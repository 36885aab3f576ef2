"""The workloads of the built-in guest kernel, named after lmbench's: exact figures, operations, host time.

An iteration is whole: nothing is subtracted. Next: hypercalls.py, what leaves the guest; core.py, programs without
a kernel.
"""

from .guest import FORMS, HYPERVISORS, WORKLOADS, executed, figures, find_run, measured

ITERATIONS = 20


class _Measured:
    """Every row, measured once for all classes: asv keeps one cache for one function."""

    def setup_cache(self):
        return measured([(h, w, "", f) for h in HYPERVISORS for w in WORKLOADS for f in FORMS])

    setup_cache.timeout = 300


class Counts(_Measured):
    """Exact figures of an iteration."""

    version = "1"
    params = (HYPERVISORS, WORKLOADS, FORMS)
    param_names = ("hypervisor", "workload", "form")

    def setup(self, cache, hypervisor, workload, form):
        self.instructions, self.cycles = figures(cache, hypervisor, workload, "", form)

    def track_instructions(self, cache, hypervisor, workload, form):
        return self.instructions

    def track_cycles(self, cache, hypervisor, workload, form):
        return self.cycles

    track_instructions.pretty_name = "Workload: instructions"
    track_instructions.unit = "instructions/iteration"
    track_cycles.pretty_name = "Workload: modelled cycles"
    track_cycles.unit = "modelled cycles/iteration"


class Ratio(_Measured):
    """What patching saves of a whole workload, and what a hypervisor costs it: ratios of modelled cycles."""

    version = "1"
    params = (HYPERVISORS, WORKLOADS)
    param_names = ("hypervisor", "workload")

    def setup(self, cache, hypervisor, workload):
        self.indirect = figures(cache, hypervisor, workload, "", "indirect")[1]
        self.patched = figures(cache, hypervisor, workload, "", "patched")[1]
        self.native = figures(cache, "native", workload, "", "patched")[1]

    def track_unpatched(self, cache, hypervisor, workload):
        return self.indirect / self.patched

    def track_to_native(self, cache, hypervisor, workload):
        return self.patched / self.native

    track_unpatched.pretty_name = "Workload: cycles, indirect over patched"
    track_unpatched.unit = "indirect/patched"
    track_to_native.pretty_name = "Workload: cycles, patched, over bare hardware's"
    track_to_native.unit = "hypervisor/native"


class Operations:
    """The members of ``paravirt_ops`` that an iteration executes, and the share of interrupt operations among them."""

    version = "1"
    params = (HYPERVISORS, WORKLOADS)
    param_names = ("hypervisor", "workload")

    def setup_cache(self):
        return executed()

    setup_cache.timeout = 300

    def setup(self, cache, hypervisor, workload):
        self.operations, self.percent = figures(cache, hypervisor, workload)

    def track_operations(self, cache, hypervisor, workload):
        return self.operations

    def track_interrupt_percent(self, cache, hypervisor, workload):
        return self.percent

    track_operations.pretty_name = "Workload: paravirt operations"
    track_operations.unit = "operations/iteration"
    track_interrupt_percent.pretty_name = "Workload: share of interrupt operations"
    track_interrupt_percent.unit = "%"


class Time:
    """Host time of ITERATIONS iterations."""

    version = "1"
    params = (HYPERVISORS, WORKLOADS, FORMS)
    param_names = ("hypervisor", "workload", "form")
    repeat, rounds, warmup_time = (1, 5, 1.0), 1, 0         # 255 rows

    def setup(self, hypervisor, workload, form):
        self.run = find_run(hypervisor, form, workload)

    def time_workload(self, hypervisor, workload, form):
        self.run.loop(workload, ITERATIONS)

    time_workload.pretty_name = f"Workload: host time of {ITERATIONS} iterations"
