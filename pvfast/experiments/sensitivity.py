"""What a headline owes to its assumptions: a processor model goes in, overheads with their intervals come out.

A cost model gives a range where its sources leave one (`pvfast.processor.costs.Cost`). The overhead of the indirect
form over the patched one is computed at both ends of each range alone, and at the ends of all of them that make it
smallest and largest. Next: ``benchmarks/document.py``, which writes the documentation's tables.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from pvfast.errors import PvfastError
from pvfast.experiments.runs import GuestRun
from pvfast.experiments.workloads import settings
from pvfast.guest import build
from pvfast.processor import Model, load_model


@dataclass(frozen=True, slots=True)
class Sensitivity:
    """The overhead of one benchmark under one processor model.

    Attributes
    ----------
    benchmark : str
    percent : float
        How many more cycles the indirect form takes than the patched one.
    low, high : float
        The same with every range at the end that makes it smallest, and largest.
    carriers : tuple of (str, float, float)
        Cost class, and the overhead with this one alone at the low and the high end of its range; those that change it
        most come first, those that do not change it are left out.
    """

    benchmark: str
    percent: float
    low: float
    high: float
    carriers: tuple[tuple[str, float, float], ...]


def sensitivity(hypervisor: str, benchmarks: Iterable[str], processor: str | Model) -> tuple[Sensitivity, ...]:
    """Overheads with their intervals.

    Parameters
    ----------
    hypervisor : str
        One of `pvfast.paravirt.hypervisors.hypervisor_names`.
    benchmarks : iterable of str
        Of `operation_names` or `workload_names`.
    processor : str or Model
        As `pvfast.processor.load_model` takes it.

    Returns
    -------
    tuple of Sensitivity
        One for each benchmark that can run there.

    Raises
    ------
    PvfastError
        There is no such benchmark, hypervisor or processor.

    Examples
    --------
    >>> found, = sensitivity("native", ["irq_disable"], "pentium4")
    >>> found.percent, found.low, found.high, found.carriers[0][0]
    (17.6, 7.5, 69.6, 'cli')
    """
    model, names = load_model(processor), tuple(benchmarks)
    ranged = [name for name, cost in model.cycles.items() if cost.low != cost.high]
    middle = _overheads(hypervisor, names, model)
    ends = {name: tuple(_overheads(hypervisor, names, model.with_costs(**{name: end}))
                        for end in (model.cycles[name].low, model.cycles[name].high)) for name in ranged}
    extremes: dict[tuple[tuple[str, int], ...], Mapping[str, float]] = {}

    def at_ends(benchmark: str, largest: bool) -> float:
        chosen = []
        for name in ranged:
            low, high = (end[benchmark] for end in ends[name])
            cost = model.cycles[name]
            chosen.append((name, cost.high if (high > low) == largest else cost.low))
        key = tuple(chosen)
        if key not in extremes:
            extremes[key] = _overheads(hypervisor, names, model.with_costs(**dict(chosen)))
        return extremes[key][benchmark]

    found = []
    for benchmark, percent in middle.items():
        carriers = [(name, round(low[benchmark], 1), round(high[benchmark], 1)) for name, (low, high) in ends.items()]
        carriers = [row for row in carriers if row[1] != row[2]]
        carriers.sort(key=lambda row: -abs(row[2] - row[1]))
        found.append(Sensitivity(benchmark, round(percent, 1), round(at_ends(benchmark, False), 1),
                                 round(at_ends(benchmark, True), 1), tuple(carriers)))
    return tuple(found)


def _overheads(hypervisor: str, benchmarks: tuple[str, ...], model: Model) -> dict[str, float]:
    """Per cent by benchmark."""
    image = build(hypervisor=hypervisor)
    if unknown := [name for name in benchmarks if name not in image.benchmarks]:
        raise PvfastError(f"no operation or workload {unknown[0]!r}: choose from {', '.join(image.benchmarks)}")
    setting = settings(image, hypervisor)[0]
    runs = [GuestRun(setting, form, model) for form in ("indirect", "patched")]
    found = {}
    for name in benchmarks:
        if runs[0].missing(image.benchmarks[name]):
            continue
        indirect, patched = (run.measure(name).cycles for run in runs)
        found[name] = 100 * (indirect - patched) / patched
    return found

