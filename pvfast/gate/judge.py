"""One run of the gate: a baseline and a fresh measurement go in, comparison and explanations come out as a `Report`.

Next: formats.py shows it.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from pvfast.gate.check import Comparison, Verdict, compare
from pvfast.gate.explain import Explanation, explain
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
        for number, word in ((len(c.regressions), "slower"), (len(c.improvements), "faster"),
                             (len(c.tolerated), "tolerated"), (len(c.added), "added"), (len(c.removed), "removed"),
                             (len(c.skipped), "skipped")):
            if number:
                parts.append(f"{number} {word}")
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

    Examples
    --------
    >>> report = judge("b.json", Measurement({}, {"a/b/direct/cycles": 9}), Measurement({}, {"a/b/direct/cycles": 12}))
    >>> report.verdict.name, report.summary
    ('REGRESSION', 'points: 1 compared, 1 slower')
    """
    skipped = dict(after.skipped)
    for name in before.points.keys() - after.points.keys():
        hypervisor, operation, *_ = (*row_of(name).split("/"), "")
        if (hypervisors and hypervisor not in hypervisors) or (operations and operation not in operations):
            skipped.setdefault(row_of(name), "not asked for")
    comparison = compare(before.points, after.points, skipped=skipped, tolerance_percent=tolerance_percent)
    return Report(baseline, before, after, comparison, explain(before, after, comparison, rows))
