"""Comparing figures: exact, complete, and independent of their order."""

from hypothesis import given
from hypothesis import strategies as st

from pvfast.gate import Change, compare

FIGURES = st.dictionaries(st.sampled_from("abcdefgh"), st.integers(-3, 3))


def test_finds_changed_added_and_removed() -> None:
    comparison = compare({"kept": 5, "slower": 10, "gone": 1}, {"slower": 11, "kept": 5, "new": 2})
    assert comparison.changed == (Change("slower", 10, 11),)
    assert comparison.added == {"new": 2}
    assert comparison.removed == {"gone": 1}
    assert not comparison.same


def test_a_difference_of_one_in_a_large_figure_counts() -> None:
    assert compare({"cycles": 1 << 62}, {"cycles": (1 << 62) + 1}).changed


def test_says_so_when_a_figure_was_zero() -> None:
    assert compare({"faults": 0}, {"faults": 2}).lines() == ["faults: 0 -> 2 (from nothing)"]


@given(FIGURES, FIGURES)
def test_is_the_same_only_for_equal_figures(before: dict[str, int], after: dict[str, int]) -> None:
    assert compare(before, after).same == (before == after)


@given(FIGURES, FIGURES)
def test_accounts_for_every_point(before: dict[str, int], after: dict[str, int]) -> None:
    comparison = compare(before, after)
    rebuilt = {name: value for name, value in before.items() if name not in comparison.removed}
    rebuilt |= comparison.added
    rebuilt |= {change.name: change.after for change in comparison.changed}
    assert rebuilt == after
    assert len(comparison.lines()) == len(comparison.changed) + len(comparison.added) + len(comparison.removed)
