"""One run of the gate: a baseline and a fresh measurement go in, comparison and explanations come out as a `Report`.

Next: formats.py shows it.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace

from pvfast.errors import GuestError
from pvfast.gate.check import Comparison, Verdict, compare
from pvfast.gate.explain import Explanation, explain, explain_row
from pvfast.gate.measurement import Measurement, row_of


@dataclass(frozen=True, slots=True)
class Report:
    """One run of the gate.

    Attributes
    ----------
    baseline : str
        The file.
    before, after : Measurement
    comparison : Comparison
    explanations : tuple of Explanation
    """

    baseline: str
    before: Measurement
    after: Measurement
    comparison: Comparison
    explanations: tuple[Explanation, ...]

    @property
    def verdict(self) -> Verdict:
        """Of the comparison."""
        return self.comparison.verdict

    @property
    def summary(self) -> str:
        """Counts in one line."""
        c = self.comparison
        parts = [f"{c.compared} compared"]
        for found, word in ((c.regressions, "slower"), (c.improvements, "faster"), (c.tolerated, "tolerated"),
                            (c.added, "added"), (c.removed, "removed"), (c.incomparable, "with other costs"),
                            (c.skipped, "not asked for")):
            if found:
                parts.append(f"{len(found)} {word}")
        return "points: " + ", ".join(parts)

    @property
    def subject_changes(self) -> list[str]:
        """What the figures depend on and has changed: another cost model makes cycles incomparable."""
        lines = []
        for name in sorted(self.before.subject.keys() | self.after.subject.keys()):
            old, new = (side.subject.get(name, "none") for side in (self.before, self.after))
            if old != new:
                lines.append(f"{name}: {old[:40]} -> {new[:40]}")
        return lines


def judge(
    baseline: str,
    before: Measurement,
    after: Measurement,
    *,
    hypervisors: Collection[str] = (),
    operations: Collection[str] = (),
    tolerance_percent: float = 0.0,
    rows: Iterable[str] = (),
) -> Report:
    """Compare a measurement with the baseline and explain what differs.

    Parameters
    ----------
    baseline : str
        Name of the baseline's file.
    before, after : Measurement
    hypervisors, operations : collection of str, optional
        What `after` was asked for, when that was not everything: other rows of the baseline count as skipped.
    tolerance_percent : float, optional
        See `pvfast.gate.compare`.
    rows : iterable of str, optional
        Rows to explain, changed or not; those that changed unless given.

    Returns
    -------
    Report

    Raises
    ------
    GuestError
        No point of the baseline was measured.

    Examples
    --------
    >>> report = judge("b.json", Measurement({}, {"a/b/direct/cycles": 9}), Measurement({}, {"a/b/direct/cycles": 12}))
    >>> report.verdict.name, report.summary
    ('REGRESSION', 'points: 1 compared, 1 slower')
    """
    incomparable = _with_other_costs(before, after)
    old, new = ({name: value for name, value in side.points.items() if name not in incomparable}
                for side in (before, after))
    if not old.keys() & new.keys():
        raise GuestError(f"not one point of {baseline} was measured: it is of {before.subject.get('image')}, and this "
                         f"is {after.subject.get('image')}")
    skipped = set()
    for name in old.keys() - new.keys():
        hypervisor, operation, *_ = (*row_of(name).split("/"), "")
        if (hypervisors and hypervisor not in hypervisors) or (operations and operation not in operations):
            skipped.add(name)
    comparison = compare(old, new, skipped=skipped, reasons=after.skipped, tolerance_percent=tolerance_percent)
    comparison = replace(comparison, incomparable=incomparable,
                         recoded=() if tolerance_percent else _with_other_code(before, after, comparison))
    return Report(baseline, before, after, comparison, explain(before, after, comparison, rows))


def _with_other_costs(before: Measurement, after: Measurement) -> tuple[str, ...]:
    """Cycles of two cost models have nothing to say about each other."""
    if before.subject.get("costs_sha256") == after.subject.get("costs_sha256"):
        return ()
    return tuple(sorted(name for name in before.points.keys() & after.points.keys() if name.endswith("/cycles")))


def _with_other_code(before: Measurement, after: Measurement, comparison: Comparison) -> tuple[str, ...]:
    """Rows that execute something else, although no figure of theirs says so."""
    told = {row_of(change.name) for change in (*comparison.changed, *comparison.tolerated)}
    rows = {row_of(name) for name in before.points.keys() & after.points.keys()} - told
    return tuple(sorted(row for row in rows if explain_row(before, after, row).differs))
