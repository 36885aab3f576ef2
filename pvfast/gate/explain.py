"""Why a figure changed: the row's patch sites and executed instructions, then and now.

Enters: two measurements. Leaves: an `Explanation` per row that differs. Next: formats.py.
"""

import difflib
from collections.abc import Iterable
from dataclasses import dataclass

from pvfast.experiments import FORMS
from pvfast.gate.check import Change, Comparison
from pvfast.gate.measurement import Measurement, Site, row_of

#: Labels in the one sentence; all of them follow it.
_NAMED = 3


@dataclass(frozen=True, slots=True)
class SiteChange:
    """A patch site then and now; one side is None where it has no such site."""

    label: str
    before: Site | None
    after: Site | None

    @property
    def same(self) -> bool:
        """Whether it is the code that it was, compiled and patched, wherever it lies now."""
        return self.before is not None and self.after is not None and self.before.code == self.after.code


@dataclass(frozen=True, slots=True)
class Explanation:
    """One row: its figures and its code, then and now.

    Attributes
    ----------
    row : str
        Hypervisor, operation, and variant if there is one; of a kernel image the operation, section and address.
    changes : tuple of Change
        Per execution of the operation, sorted by name.
    sites : tuple of SiteChange
        Every patch site that the row executes.
    paths : mapping-like tuple of (str, tuple of str)
        By form: the executed instructions as lines that start with ``"- "``, ``"+ "`` or ``"  "``. Forms whose
        instructions are the same are left out.
    profiles : tuple of (str, tuple of (str, int, int))
        Of a workload, by form: the labels of the kernel in which an iteration executes another number of
        instructions, then and now. Forms without any are left out.
    """

    row: str
    changes: tuple[Change, ...]
    sites: tuple[SiteChange, ...]
    paths: tuple[tuple[str, tuple[str, ...]], ...] = ()
    profiles: tuple[tuple[str, tuple[tuple[str, int, int], ...]], ...] = ()

    @property
    def differs(self) -> bool:
        """Whether the code is another."""
        return bool(self.paths or self.profiles) or not all(site.same for site in self.sites)

    @property
    def cause(self) -> str:
        """In one sentence, what is different.

        Examples
        --------
        >>> Explanation("native/irq_disable", (), ()).cause
        'nothing differs'
        >>> Explanation("xen/pipe", (), (), profiles=(("patched", (("schedule", 41, 43),)),)).cause
        'another number of instructions in schedule (patched)'
        """
        changed = [site.label for site in self.sites if not site.same]
        if changed:
            return f"{', '.join(changed)}: the patch site has other code"
        if self.paths:
            forms = ", ".join(form for form, _ in self.paths)
            return f"the sites are the same; the code that they reach is different ({forms})"
        if self.profiles:
            found = [f"{', '.join(label for label, _, _ in labels[:_NAMED])}"
                     + (f" and {len(labels) - _NAMED} more" if len(labels) > _NAMED else "") + f" ({form})"
                     for form, labels in self.profiles]
            return f"another number of instructions in {'; '.join(found)}"
        if not self.changes:
            return "nothing differs"
        return "neither sites nor numbers of instructions differ: what they cost does"


def explain(before: Measurement, after: Measurement, comparison: Comparison,
            rows: Iterable[str] = ()) -> tuple[Explanation, ...]:
    """Explain every row with other figures or other code, or those asked for whether they changed or not.

    Parameters
    ----------
    before, after : Measurement
    comparison : Comparison
        Of their points.
    rows : iterable of str, optional
        Beginnings of row or point names.

    Returns
    -------
    tuple of Explanation
        Sorted by row.
    """
    wanted = tuple(rows)
    changed: dict[str, list[Change]] = {}
    for change in (*comparison.changed, *comparison.tolerated):
        changed.setdefault(row_of(change.name), []).append(change)
    if wanted:
        known = {row_of(name) for name in (*before.points, *after.points)}
        names = {row for row in known if any(row.startswith(start) or row_of(start) == row for start in wanted)}
    else:
        names = {*changed, *comparison.recoded}
    return tuple(explain_row(before, after, row, tuple(changed.get(row, ()))) for row in sorted(names))


def explain_row(before: Measurement, after: Measurement, row: str, changes: tuple[Change, ...] = ()) -> Explanation:
    """One row, whether it changed or not."""
    old = {site.label: site for site in before.sites.get(row, ())}
    new = {site.label: site for site in after.sites.get(row, ())}
    sites = tuple(SiteChange(label, old.get(label), new.get(label)) for label in dict.fromkeys((*old, *new)))
    paths, profiles = [], []
    for form in FORMS:
        was, now = (side.paths.get(f"{row}/{form}", ()) for side in (before, after))
        if was != now:
            lines = (line for line in difflib.ndiff(was, now) if not line.startswith("?"))
            paths.append((form, tuple(lines)))
        then, since = before.profiles.get(f"{row}/{form}"), after.profiles.get(f"{row}/{form}")
        if then and since and then != since:
            profiles.append((form, tuple((label, then.get(label, 0), since.get(label, 0))
                                         for label in sorted({*then, *since}) if then.get(label) != since.get(label))))
    return Explanation(row, changes, sites, tuple(paths), tuple(profiles))


def totals(explanations: Iterable[Explanation]) -> dict[str, int]:
    """What all changes add up to, by unit: each row executed once in each form.

    Examples
    --------
    >>> totals([Explanation("a", (Change("a/direct/cycles", 9, 12), Change("a/patched/cycles", 4, 3)), ())])
    {'cycles': 2}
    """
    found: dict[str, int] = {}
    for explanation in explanations:
        for change in explanation.changes:
            unit = change.name.rpartition("/")[2]
            found[unit] = found.get(unit, 0) + change.after - change.before
    return dict(sorted(found.items()))
