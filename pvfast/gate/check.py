"""What differs between two sets of exact figures: changed, added and removed points. Pure functions.

Enters: two mappings of point names to integers, from baseline.py or fresh from a measurement. Leaves: a
`Comparison`. Next: __main__.py, the gate for two files.
"""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Change:
    """One point that has another figure.

    Examples
    --------
    >>> str(Change("native/irq_disable/cycles", 9, 12))
    'native/irq_disable/cycles: 9 -> 12 (+33.3 %)'
    """

    name: str
    before: int
    after: int

    def __str__(self) -> str:
        percent = 100 * (self.after - self.before) / abs(self.before) if self.before else None
        relative = "from nothing" if percent is None else f"{percent:+.1f} %"
        return f"{self.name}: {self.before} -> {self.after} ({relative})"


@dataclass(frozen=True, slots=True)
class Comparison:
    """All differences, each group sorted by name.

    Attributes
    ----------
    changed : tuple of Change
    added, removed : mapping of str to int
        Points that only the one side has.
    """

    changed: tuple[Change, ...]
    added: Mapping[str, int]
    removed: Mapping[str, int]

    @property
    def same(self) -> bool:
        """Whether there is no difference at all."""
        return not (self.changed or self.added or self.removed)

    def lines(self) -> list[str]:
        """One line per difference, for people.

        Examples
        --------
        >>> compare({"a": 1, "b": 2}, {"b": 3, "c": 4}).lines()
        ['b: 2 -> 3 (+50.0 %)', 'c: added, 4', 'a: removed, was 1']
        """
        return [
            *map(str, self.changed),
            *(f"{name}: added, {value}" for name, value in self.added.items()),
            *(f"{name}: removed, was {value}" for name, value in self.removed.items()),
        ]


def compare(before: Mapping[str, int], after: Mapping[str, int]) -> Comparison:
    """Compare figures exactly: there is no tolerance, because they are equal on every run of the same code.

    Parameters
    ----------
    before, after : mapping of str to int

    Returns
    -------
    Comparison

    Examples
    --------
    >>> compare({"cycles": 9}, {"cycles": 9}).same
    True
    >>> compare({"cycles": 9}, {"cycles": 8}).changed
    (Change(name='cycles', before=9, after=8),)
    """
    common = sorted(before.keys() & after.keys())
    return Comparison(
        changed=tuple(Change(name, before[name], after[name]) for name in common if before[name] != after[name]),
        added={name: after[name] for name in sorted(after.keys() - before.keys())},
        removed={name: before[name] for name in sorted(before.keys() - after.keys())},
    )
