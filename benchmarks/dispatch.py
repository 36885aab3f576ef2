"""Every paravirt operation of the built-in guest: as an indirect call, as a direct call, patched; per hypervisor.

Exact figures come from `setup_cache`, measured once; host time runs the same loops. Next: workloads.py.
"""

from .guest import FORMS, HYPERVISORS, OPERATIONS, VARIANTS, figures, find_run, measured

ITERATIONS = 10_000


class _Measured:
    """Every row, measured once for all classes: asv keeps one cache for one function."""

    def setup_cache(self):
        return measured([(h, o, "", f) for h in HYPERVISORS for o in OPERATIONS for f in FORMS])


class Counts(_Measured):
    """Exact figures per operation."""

    version = "1"
    params = (HYPERVISORS, OPERATIONS, FORMS)
    param_names = ("hypervisor", "operation", "form")

    def setup(self, cache, hypervisor, operation, form):
        self.instructions, self.cycles = figures(cache, hypervisor, operation, "", form)

    def track_instructions(self, cache, hypervisor, operation, form):
        return self.instructions

    def track_cycles(self, cache, hypervisor, operation, form):
        return self.cycles

    track_instructions.pretty_name = "Operation: instructions"
    track_instructions.unit = "instructions/operation"
    track_cycles.pretty_name = "Operation: modelled cycles"
    track_cycles.unit = "modelled cycles/operation"


class Ratio(_Measured):
    """What patching saves: modelled cycles of the indirect form over those of the patched one."""

    version = "1"
    params = (HYPERVISORS, OPERATIONS)
    param_names = ("hypervisor", "operation")

    def setup(self, cache, hypervisor, operation):
        self.indirect = figures(cache, hypervisor, operation, "", "indirect")[1]
        self.patched = figures(cache, hypervisor, operation, "", "patched")[1]

    def track_ratio(self, cache, hypervisor, operation):
        return self.indirect / self.patched

    track_ratio.pretty_name = "Operation: cycles, indirect over patched"
    track_ratio.unit = "indirect/patched"


class Variants:
    """Xen's ways to irq_disable, from the slowest to the one that patching makes possible."""

    version = "1"
    params = (VARIANTS, FORMS)
    param_names = ("variant", "form")

    def setup_cache(self):
        return measured([("xen", "irq_disable", v, f) for v in VARIANTS for f in FORMS])

    def setup(self, cache, variant, form):
        self.instructions, self.cycles = figures(cache, "xen", "irq_disable", variant, form)

    def track_instructions(self, cache, variant, form):
        return self.instructions

    def track_cycles(self, cache, variant, form):
        return self.cycles

    track_instructions.pretty_name = "irq_disable under Xen: instructions"
    track_instructions.unit = "instructions/operation"
    track_cycles.pretty_name = "irq_disable under Xen: modelled cycles"
    track_cycles.unit = "modelled cycles/operation"


class Dispatch:
    """Host time of ITERATIONS operations, their loop included."""

    version = "1"
    params = (HYPERVISORS, OPERATIONS, FORMS)
    param_names = ("hypervisor", "operation", "form")
    repeat, rounds, warmup_time = (1, 5, 1.0), 1, 0         # 180 rows

    def setup(self, hypervisor, operation, form):
        self.run = find_run(hypervisor, form, operation)

    def time_operation(self, hypervisor, operation, form):
        self.run.loop(operation, ITERATIONS)

    time_operation.pretty_name = f"Operation: host time of {ITERATIONS:,}"
