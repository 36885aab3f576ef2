"""What the suites run of the built-in guest kernel, by names that stay fixed, and a booted machine for each.

Enters: names. Leaves: a `GuestRun`, or its exact figures, or NotImplementedError in a commit that has no such thing.
Next: dispatch.py and workloads.py.
"""

from contextlib import suppress

try:
    from pvfast.errors import PvfastError
    from pvfast.experiments import GuestRun, run_matrix, settings
    from pvfast.guest import build

    build()                             # here, so that asv's fork server assembles the kernel once for all rows
except ImportError:                     # an older commit: everything is n/a
    GuestRun, PvfastError = None, Exception

HYPERVISORS = ("native", "xen", "lhype", "vmi", "kvm", "full")
OPERATIONS = (
    "irq_disable", "irq_enable", "save_fl", "restore_fl", "irq_save", "irq_save_restore", "asm_irq_disable",
    "asm_irq_enable", "iret", "irq_enable_sysexit", "null_syscall_int80", "null_syscall_sysenter",
)
WORKLOADS = (
    "null", "read", "write", "open", "signal-install", "signal-none", "signal-catch", "protection-fault", "pipe-1p",
    "pipe", "context-switch-2p", "context-switch-8p", "mmap-munmap", "mmap", "page-fault", "fork-exit", "fork-exec",
)
FORMS = ("indirect", "direct", "patched")
VARIANTS = ("smp_processor_id", "per_cpu", "inline")        # bodies of irq_disable under Xen


def require_guest() -> None:
    """NotImplementedError in a commit whose guest kernel cannot be measured."""
    if GuestRun is None:
        raise NotImplementedError("this commit has no experiments")


def find_setting(hypervisor: str, variant: str = ""):
    """A `Setting`; NotImplementedError where there is none."""
    require_guest()
    try:
        return next(each for each in settings(build(), hypervisor) if each.variant == variant)
    except (PvfastError, StopIteration) as error:
        raise NotImplementedError(str(error)) from error


def find_run(hypervisor: str, form: str, name: str, variant: str = ""):
    """A booted guest in which an operation or a workload can run; NotImplementedError where there is no such row."""
    setting = find_setting(hypervisor, variant)
    try:
        run = GuestRun(setting, form)
    except PvfastError as error:
        raise NotImplementedError(str(error)) from error
    if name not in run.image.benchmarks or run.missing(run.image.benchmarks[name]):
        raise NotImplementedError(f"{hypervisor} has no {name}")
    return run


def counted(run, name: str):
    """Exact figures of an operation, less the loop around it, or of an iteration of a workload."""
    return run.per_iteration(name) if name in WORKLOADS else run.per_operation(name)


def measured(rows) -> dict:
    """(instructions, cycles) of each row that exists: (hypervisor, name, variant, form)."""
    found, runs = {}, {}
    for hypervisor, name, variant, form in rows:
        with suppress(NotImplementedError):
            run = runs.get((hypervisor, variant, form)) or find_run(hypervisor, form, name, variant)
            if name in run.image.benchmarks and not run.missing(run.image.benchmarks[name]):
                runs[hypervisor, variant, form] = run
                counts = counted(run, name)
                found[hypervisor, name, variant, form] = (counts.instructions, counts.cycles)
    return found


def figures(cache: dict, *key: str) -> tuple[int, int]:
    """A row's figures; NotImplementedError where there is none."""
    if key not in cache:
        raise NotImplementedError("no such row")
    return cache[key]


def executed() -> dict:
    """(operations, per cent of them that are interrupt operations) of a workload's iteration: (hypervisor, name)."""
    found = {}
    for hypervisor in HYPERVISORS:
        # An older commit has no such hypervisor, or counts no operations.
        with suppress(NotImplementedError, AttributeError, PvfastError):
            require_guest()
            for row in run_matrix([hypervisor], WORKLOADS).measured:
                found[row.hypervisor, row.benchmark] = (row.executed, row.interrupt_percent)
    return found
