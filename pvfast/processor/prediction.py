"""Branch prediction: what a processor model knows about it, every number with its source.

Enters: published numbers. Leaves: `Prediction`, which core/prediction.pxi carries out. Next: models.py.

Modelled: a return stack; a branch target buffer for indirect jumps and calls, with the last target of each; a table of
two-bit counters for conditional branches, one by address and without history. Direct jumps and calls are always right.
What is called the frontend (fetch, decoding, trace caches) is not modelled.
"""
from __future__ import annotations

from dataclasses import dataclass

Sourced = tuple[int, str]


@dataclass(frozen=True, slots=True)
class Prediction:
    """How a processor predicts branches. Each field is a number and its source.

    Attributes
    ----------
    conditional, indirect, returned : (int, str)
        Cycles that a wrong guess costs: conditional branches; indirect jumps and calls; returns.
    return_stack : (int, str)
        Calls that it remembers; at most 32.
    targets, ways : (int, str)
        Entries of the branch target buffer, and how many of them a branch may be in. No entries: indirect branches are
        not predicted and cost what their class says (retpolines).

    Examples
    --------
    >>> from pvfast.processor import load_model
    >>> load_model("pentium4").prediction.penalties
    (20, 20, 20)
    """

    conditional: Sourced
    indirect: Sourced
    returned: Sourced
    return_stack: Sourced
    targets: Sourced
    ways: Sourced

    @property
    def penalties(self) -> tuple[int, int, int]:
        """Cycles of a wrong guess: conditional, indirect, return."""
        return self.conditional[0], self.indirect[0], self.returned[0]

    @property
    def return_depth(self) -> int:
        """Calls that the return stack remembers."""
        return self.return_stack[0]

    @property
    def target_ways(self) -> int:
        """Entries of a set of the branch target buffer."""
        return self.ways[0]

    @property
    def target_sets(self) -> int:
        """Sets of the branch target buffer; a power of two, or 0."""
        return self.targets[0] // self.ways[0]
