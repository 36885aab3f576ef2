"""Which processor: CPUID features and cost models together, one data file each, every number sourced.

Enters: nothing. Leaves: cost classes (costs.py) and models (generic.py, pentium4.py). Next: core/, which
charges what they say.
"""
from __future__ import annotations

import importlib
from dataclasses import dataclass

from pvfast.errors import PvfastError
from pvfast.processor.costs import COST_CLASSES
from pvfast.processor.cpuid import leaves

MODELS = ("generic", "pentium4")


@dataclass(frozen=True, slots=True)
class Model:
    """A processor: modelled cycles per cost class, and CPUID leaves as (eax, ebx, ecx, edx)."""

    name: str
    costs: tuple[int, ...]
    cpuid: tuple[tuple[int, int, int, int], ...]

    @property
    def features(self) -> int:
        """CPUID.1:EDX: what the processor executes (cpuid.py, FEATURE_BITS)."""
        return self.cpuid[1][3]


def load_model(name: str) -> Model:
    """The model of that name.

    >>> load_model("generic").name
    'generic'
    >>> load_model("pentium5")
    Traceback (most recent call last):
    pvfast.errors.PvfastError: no processor model 'pentium5'; there are: generic, pentium4
    """
    if name not in MODELS:
        raise PvfastError(f"no processor model {name!r}; there are: {', '.join(MODELS)}")
    data = importlib.import_module(f"pvfast.processor.{name}")
    costs = tuple(data.CYCLES[cost_class][0] for cost_class in COST_CLASSES)
    return Model(name, costs, leaves(data.VENDOR, data.SIGNATURE))
