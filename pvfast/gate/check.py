"""The verdict: what differs between two measurements, point by point. Pure functions.

Enters: two mappings of point names to integers. Leaves: a `Comparison` and its `Verdict`, which is the exit code.
Next: explain.py.
"""

import enum
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from pvfast.gate.measurement import row_of


class Verdict(enum.IntEnum):
    """What a comparison comes to; the value is the command's exit code."""

    PASS = 0
    REGRESSION = 1
    STALE = 4       # nothing is worse, but the baseline no longer says what is

    @property
    def sentence(self) -> str:
        """For people: what it means and what to do."""
        return _SENTENCES[self]


_SENTENCES = {
    Verdict.PASS: "pass: every figure compared is as the baseline has it",
    Verdict.REGRESSION: "regression: `pvfast gate explain` shows why; if it is meant to be, run `pvfast gate update` "
                        "and commit the baseline",
    Verdict.STALE: "baseline stale: nothing that was compared is slower, but the baseline says something else; run "
                   "`pvfast gate update` and commit it",
}


@dataclass(frozen=True, slots=True)
class Change:
    """One point that has another figure. More is worse, whatever the unit.

    Examples
    --------
    >>> str(Change("native/irq_disable/cycles", 9, 12))
    'native/irq_disable/cycles: 9 -> 12 (+33.3 %)'
    """

    name: str
    before: int
    after: int

    @property
    def worse(self) -> bool:
        """Whether it went up."""
        return self.after > self.before

    @property
    def percent(self) -> float | None:
        """By how much, relative to before; None from zero."""
        return 100 * (self.after - self.before) / abs(self.before) if self.before else None

    def __str__(self) -> str:
        relative = "from nothing" if self.percent is None else f"{self.percent:+.1f} %"
        return f"{self.name}: {self.before} -> {self.after} ({relative})"


@dataclass(frozen=True, slots=True)
class Comparison:
    """All differences, each group sorted by name.

    Attributes
    ----------
    changed : tuple of Change
        Beyond the tolerance.
    tolerated : tuple of Change
        Within it.
    added, removed : mapping of str to int
        Points that only the one side has.
    skipped : tuple of str
        Points of the baseline that were not asked for.
    compared : int
        Points that both sides have.
    reasons : mapping of str to str
        Of removed points: why they cannot be measured, where that is known.
    incomparable : tuple of str
        Points whose figures mean something else now.
    recoded : tuple of str
        Rows with other code and the same figures.
    """

    changed: tuple[Change, ...]
    added: Mapping[str, int]
    removed: Mapping[str, int]
    skipped: tuple[str, ...] = ()
    tolerated: tuple[Change, ...] = ()
    compared: int = 0
    reasons: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    incomparable: tuple[str, ...] = ()
    recoded: tuple[str, ...] = ()

    @property
    def same(self) -> bool:
        """Whether there is no difference at all."""
        return not (self.changed or self.added or self.removed or self.incomparable or self.recoded)

    @property
    def regressions(self) -> tuple[Change, ...]:
        """The changes for the worse."""
        return tuple(change for change in self.changed if change.worse)

    @property
    def improvements(self) -> tuple[Change, ...]:
        """The changes for the better."""
        return tuple(change for change in self.changed if not change.worse)

    @property
    def verdict(self) -> Verdict:
        """The exit code."""
        if self.regressions:
            return Verdict.REGRESSION
        return Verdict.PASS if self.same else Verdict.STALE

    def lines(self) -> list[str]:
        """One line per difference, for people; one for all that cannot be compared.

        Examples
        --------
        >>> compare({"a": 1, "b": 2}, {"b": 3, "c": 4}).lines()
        ['b: 2 -> 3 (+50.0 %)', 'c: added, 4', 'a: removed, was 1']
        """
        return [
            *map(str, self.changed),
            *(f"{change}, tolerated" for change in self.tolerated),
            *(f"{name}: added, {value}" for name, value in self.added.items()),
            *(f"{name}: removed, was {value}" + (f": {self.reasons[name]}" if name in self.reasons else "")
              for name, value in self.removed.items()),
            *([f"{len(self.incomparable)} points in cycles cannot be compared: the costs are others"]
              if self.incomparable else []),
            *(f"{row}: the same figures from other code" for row in self.recoded),
        ]


def compare(
    before: Mapping[str, int],
    after: Mapping[str, int],
    *,
    skipped: Collection[str] = (),
    reasons: Mapping[str, str] = MappingProxyType({}),
    tolerance_percent: float = 0.0,
) -> Comparison:
    """Compare figures exactly: they are equal on every run of the same code, so any difference is one.

    Parameters
    ----------
    before, after : mapping of str to int
    skipped : collection of str, optional
        Points that the second side was not asked for: they do not count as removed.
    reasons : mapping of str to str, optional
        Rows that the second side could not measure, and why.
    tolerance_percent : float, optional
        Differences up to this are listed and forgiven.

    Returns
    -------
    Comparison

    Examples
    --------
    >>> compare({"cycles": 9}, {"cycles": 9}).verdict.name
    'PASS'
    >>> compare({"cycles": 9}, {"cycles": 8}).verdict.name
    'STALE'
    >>> compare({"cycles": 100}, {"cycles": 101}, tolerance_percent=1).verdict.name
    'PASS'
    """
    common = sorted(before.keys() & after.keys())
    changes = [Change(name, before[name], after[name]) for name in common if before[name] != after[name]]
    missing = sorted(before.keys() - after.keys())
    removed = {name: before[name] for name in missing if name not in skipped}

    def forgiven(change: Change) -> bool:
        return change.percent is not None and abs(change.percent) <= tolerance_percent

    return Comparison(
        changed=tuple(change for change in changes if not forgiven(change)),
        tolerated=tuple(change for change in changes if forgiven(change)),
        added={name: after[name] for name in sorted(after.keys() - before.keys())},
        removed=removed,
        skipped=tuple(name for name in missing if name in skipped),
        compared=len(common),
        reasons={name: reasons[row_of(name)] for name in removed if row_of(name) in reasons},
    )
