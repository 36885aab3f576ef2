"""What the page shows: names go in, everything measured for it comes out, in one record.

Next: ``html.py``, which writes it down.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from pvfast.experiments.guest_sites import GuestSite, guest_sites
from pvfast.experiments.matrix import HYPERVISORS, Matrix, Progress, run_matrix, workload_names
from pvfast.experiments.runs import GuestRun
from pvfast.experiments.sensitivity import Sensitivity, sensitivity
from pvfast.experiments.tracing import profile
from pvfast.experiments.workloads import settings
from pvfast.guest import build
from pvfast.processor import MODELS, load_model
from pvfast.report.history import History
from pvfast.report.provenance import versions

#: The forms that a profile shows.
PROFILED = ("indirect", "patched")
#: By workload, hypervisor and form: instructions by label.
Profiles = Mapping[str, Mapping[tuple[str, str], tuple[tuple[str, int], ...]]]


@dataclass(frozen=True, slots=True)
class Contents:
    """Everything on the page but the time and the machine: equal on every run.

    Attributes
    ----------
    matrix : Matrix
    sensitivities : mapping of str to tuple of Sensitivity
        By processor model, on bare hardware.
    profiles : mapping
        As `Profiles` has it.
    sites : tuple of GuestSite
    history : History or None
        asv's, where it has run.
    versions : tuple of (str, str)
        What the figures depend on.
    """

    matrix: Matrix
    sensitivities: Mapping[str, tuple[Sensitivity, ...]]
    profiles: Profiles
    sites: tuple[GuestSite, ...]
    history: History | None
    versions: tuple[tuple[str, str], ...]


def ranged_processors() -> tuple[str, ...]:
    """The processor models whose sources leave a range somewhere: those of real processors.

    Examples
    --------
    >>> ranged_processors()[0]
    'pentium4'
    """
    return tuple(name for name in MODELS if any(cost.low != cost.high for cost in load_model(name).cycles.values()))


def gather(
    hypervisors: Iterable[str] = HYPERVISORS,
    benchmarks: Iterable[str] = (),
    processors: Iterable[str] | None = None,
    history: History | None = None,
    progress: Progress | None = None,
) -> Contents:
    """Measure everything that the page shows.

    Parameters
    ----------
    hypervisors, benchmarks : iterable of str, optional
        As `run_matrix` takes them.
    processors : iterable of str, optional
        Models to compare; `ranged_processors` unless given.
    history : History, optional
        From `read_history` or `usual_history`.
    progress : callable, optional
        Called with (done, total, what comes next), for each part anew.

    Raises
    ------
    PvfastError
        As `run_matrix`.
    """
    hypervisors, benchmarks = tuple(sorted(hypervisors)), tuple(benchmarks)
    processors = ranged_processors() if processors is None else tuple(processors)
    matrix = run_matrix(hypervisors, benchmarks, progress=progress)
    chosen = [name for name in (*workload_names(), *_operations(matrix)) if not benchmarks or name in benchmarks]
    sensitivities = {}
    for done, processor in enumerate(processors):
        if progress:
            progress(done, len(processors), f"intervals: {processor}")
        sensitivities[processor] = sensitivity("native", chosen, processor)
    profiles: dict[str, dict[tuple[str, str], tuple[tuple[str, int], ...]]] = {}
    sites: list[GuestSite] = []
    for done, hypervisor in enumerate(hypervisors):
        if progress:
            progress(done, len(hypervisors), f"profile and sites: {hypervisor}")
        measured = {row.benchmark for row in matrix.measured if row.is_workload and row.hypervisor == hypervisor}
        setting = settings(build(hypervisor=hypervisor), hypervisor)[0]
        for form in PROFILED:
            run = GuestRun(setting, form)
            for name in filter(measured.__contains__, workload_names()):
                profiles.setdefault(name, {})[hypervisor, form] = profile(run, name)
        sites += guest_sites(hypervisor)
    return Contents(matrix, sensitivities, profiles, tuple(sites), history,
                    versions(hypervisors, dict.fromkeys((matrix.processor, *processors))))


def _operations(matrix: Matrix) -> tuple[str, ...]:
    return tuple(dict.fromkeys(row.benchmark for row in matrix.rows if not row.is_workload))
