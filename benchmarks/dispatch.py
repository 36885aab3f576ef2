"""Every paravirt operation of the built-in guest: as an indirect call, as a direct call, patched; per hypervisor.

Exact figures come from `setup_cache`, measured once; host time runs the same loops. Next: workloads.py.
"""

try:
    from pvfast.errors import PvfastError
    from pvfast.experiments import GuestRun, settings
    from pvfast.guest import build
except ImportError:                     # an older commit: everything is n/a
    GuestRun = None

HYPERVISORS = ("native", "xen", "lhype", "vmi", "kvm", "full")
OPERATIONS = (
    "irq_disable", "irq_enable", "save_fl", "restore_fl", "irq_save", "irq_save_restore", "asm_irq_disable",
    "asm_irq_enable", "iret", "irq_enable_sysexit", "null_syscall_int80", "null_syscall_sysenter",
)
FORMS = ("indirect", "direct", "patched")
VARIANTS = ("smp_processor_id", "per_cpu", "inline")        # bodies of irq_disable under Xen
ITERATIONS = 10_000


def find_run(hypervisor: str, form: str, operation: str, variant: str = "") -> "GuestRun":
    """A booted guest in which an operation can run; NotImplementedError where there is no such row."""
    if GuestRun is None:
        raise NotImplementedError("this commit has no experiments")
    image = build()
    try:
        setting = next(each for each in settings(image, hypervisor) if each.variant == variant)
        run = GuestRun(setting, form)
    except (PvfastError, StopIteration) as error:
        raise NotImplementedError(str(error)) from error
    if operation not in image.benchmarks or run.missing(image.benchmarks[operation]):
        raise NotImplementedError(f"{hypervisor} has no {operation}")
    return run


def measured(rows) -> dict:
    """(instructions, cycles) per operation of each row that exists: (hypervisor, operation, variant, form)."""
    found, runs = {}, {}
    for hypervisor, operation, variant, form in rows:
        try:
            run = runs.get((hypervisor, variant, form)) or find_run(hypervisor, form, operation, variant)
            if run.missing(run.image.benchmarks[operation]):
                continue
        except (KeyError, NotImplementedError):
            continue
        runs[hypervisor, variant, form] = run
        counts = run.per_operation(operation)
        found[hypervisor, operation, variant, form] = (counts.instructions, counts.cycles)
    return found


def figures(cache: dict, *key: str) -> tuple[int, int]:
    """A row's figures; NotImplementedError where there is none."""
    if key not in cache:
        raise NotImplementedError("no such row")
    return cache[key]


class Counts:
    """Exact figures per operation."""

    version = "1"
    params = (HYPERVISORS, OPERATIONS, FORMS)
    param_names = ("hypervisor", "operation", "form")

    def setup_cache(self):
        return measured([(h, o, "", f) for h in HYPERVISORS for o in OPERATIONS for f in FORMS])

    def setup(self, cache, hypervisor, operation, form):
        self.instructions, self.cycles = figures(cache, hypervisor, operation, "", form)

    def track_instructions(self, cache, hypervisor, operation, form):
        return self.instructions

    def track_cycles(self, cache, hypervisor, operation, form):
        return self.cycles

    track_instructions.unit = "instructions/operation"
    track_cycles.unit = "modelled cycles/operation"


class Ratio:
    """What patching saves: modelled cycles of the indirect form over those of the patched one."""

    version = "1"
    params = (HYPERVISORS, OPERATIONS)
    param_names = ("hypervisor", "operation")

    def setup_cache(self):
        return measured([(h, o, "", f) for h in HYPERVISORS for o in OPERATIONS for f in ("indirect", "patched")])

    def setup(self, cache, hypervisor, operation):
        self.indirect = figures(cache, hypervisor, operation, "", "indirect")[1]
        self.patched = figures(cache, hypervisor, operation, "", "patched")[1]

    def track_ratio(self, cache, hypervisor, operation):
        return self.indirect / self.patched

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

    track_instructions.unit = "instructions/operation"
    track_cycles.unit = "modelled cycles/operation"


class Dispatch:
    """Host time of ITERATIONS operations, their loop included."""

    version = "1"
    params = (HYPERVISORS, OPERATIONS, FORMS)
    param_names = ("hypervisor", "operation", "form")

    def setup(self, hypervisor, operation, form):
        self.run = find_run(hypervisor, form, operation)

    def time_operation(self, hypervisor, operation, form):
        self.run.loop(operation, ITERATIONS)
