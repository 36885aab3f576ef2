"""Which processor: its features and CPUID answers, and the cost model that it is charged by, every number sourced.

Enters: nothing. Leaves: `load_model`. Next: costs.py (cost classes), cpuid.py (features), models.py (the processors),
generic.py and pentium4.py (cost models); then core/, which charges and answers what they say.
"""
from __future__ import annotations

import importlib
from dataclasses import dataclass

from pvfast.errors import PvfastError
from pvfast.processor.costs import COST_CLASSES
from pvfast.processor.cpuid import EXECUTED, Leaf, basic_leaves, extended_leaves, feature_word
from pvfast.processor.models import MODELS


@dataclass(frozen=True, slots=True)
class Model:
    """A processor: modelled cycles per cost class, CPU.features, CPUID leaves from 0 and from 80000000 on."""

    name: str
    costs: tuple[int, ...]
    features: int
    cpuid: tuple[Leaf, ...]
    cpuid_extended: tuple[Leaf, ...]


def load_model(name: str) -> Model:
    """The model of that name.

    >>> load_model("generic").name
    'generic'
    >>> load_model("i486").cpuid
    ()
    >>> load_model("pentium5")
    Traceback (most recent call last):
    pvfast.errors.PvfastError: no processor model 'pentium5'; there are: generic, i486, pentium, pentium-mmx, \
pentium-pro, pentium2, pentium3, pentium4
    """
    row = MODELS.get(name)
    if row is None:
        raise PvfastError(f"no processor model {name!r}; there are: {', '.join(MODELS)}")
    cycles = importlib.import_module(f"pvfast.processor.{row.costs}").CYCLES
    costs = tuple(cycles[cost_class][0] for cost_class in COST_CLASSES)
    features = feature_word(row.features & EXECUTED)
    basic = basic_leaves(row.identity, features) if row.identity else ()
    extended = extended_leaves(row.identity, features) if row.identity else ()
    return Model(name, costs, features, basic, extended)
