"""Branch prediction: what a processor model knows about it, every number with its source.

Enters: published numbers. Leaves: `Prediction`, which core/prediction.pxi carries out. Next: models.py.

Modelled: a return stack; a branch target buffer for indirect jumps and calls, with the last target of each; a table of
two-bit counters for conditional branches, one by address and without history. Direct jumps and calls are always right.
What is called the frontend (fetch, decoding, trace caches) is not modelled.
"""
from __future__ import annotations

from dataclasses import dataclass, fields

from pvfast.errors import ArgumentError
from pvfast.processor.costs import MAX_CYCLES

Sourced = tuple[int, str]

#: What the core has room for; isa/generate.py tells it. The first is a power of two.
MAX_RETURNS, MAX_TARGETS = 32, 4096


@dataclass(frozen=True, slots=True)
class Prediction:
    """How a processor predicts branches. Each field is a number and its source.

    Attributes
    ----------
    conditional, indirect, returned : (int, str)
        Cycles that a wrong guess costs: conditional branches; indirect jumps and calls; returns.
    return_stack : (int, str)
        Calls that it remembers; at most `MAX_RETURNS`.
    targets, ways : (int, str)
        Entries of the branch target buffer, at most `MAX_TARGETS`, and how many of them a branch may be in; the sets
        are a power of two. No entries: indirect branches are not predicted and cost what their class says (retpolines).

    Raises
    ------
    ArgumentError
        The core cannot predict like that.

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

    def __post_init__(self) -> None:
        limits = {"return_stack": MAX_RETURNS, "targets": MAX_TARGETS, "ways": MAX_TARGETS}
        for field in fields(self):
            value, limit = getattr(self, field.name), limits.get(field.name, MAX_CYCLES)
            if not (isinstance(value, tuple) and [type(part) for part in value] == [int, str]
                    and 0 <= value[0] <= limit):
                raise ArgumentError(f"{field.name}={value!r}: write it as (number, source), the number 0 to {limit}")
        if not self.target_ways or self.targets[0] % self.target_ways or self.target_sets & (self.target_sets - 1):
            raise ArgumentError(f"targets={self.targets[0]}, ways={self.target_ways}: their quotient, the sets, has to "
                                "be a power of two, or targets 0")

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
