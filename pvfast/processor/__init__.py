"""Which processor: its features and CPUID answers, and the cost model that it is charged by, every number sourced.

Enters: nothing. Leaves: `load_model`. Next: costs.py (cost classes), cpuid.py (features), prediction.py (branches),
models.py (the processors), generic.py and the other cost models; then core/, which charges and answers what they say.
"""
from __future__ import annotations

import hashlib
import importlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from types import MappingProxyType

from pvfast.errors import PvfastError
from pvfast.processor import generic
from pvfast.processor.costs import COST_CLASSES, MAX_CYCLES, Cost, cost_of
from pvfast.processor.cpuid import EXECUTED, Leaf, basic_leaves, extended_leaves, feature_word
from pvfast.processor.models import MODELS
from pvfast.processor.prediction import Prediction

#: What the name of a file with a model ends in.
MODEL_FILE = ".json"
#: What such a file is, and its layout.
MODEL_FILE_HEAD: Mapping[str, object] = MappingProxyType({"kind": "model", "schema": 1})


@dataclass(frozen=True, slots=True)
class Model:
    """A processor.

    Attributes
    ----------
    name : str
    cycles : mapping of str to Cost
        Modelled cycles and their source by cost class, in the order of `COST_CLASSES`.
    prediction : Prediction or None
        None: every branch counts as predicted.
    features : int
        CPU.features.
    cpuid, cpuid_extended : tuple of (int, int, int, int)
        Leaves from 0 and from 80000000 on.

    Raises
    ------
    PvfastError
        A cost class is missing, or is none, or cannot cost that.
    """

    name: str
    cycles: Mapping[str, Cost]
    prediction: Prediction | None
    features: int
    cpuid: tuple[Leaf, ...]
    cpuid_extended: tuple[Leaf, ...]

    def __post_init__(self) -> None:
        for kind, cost in self.cycles.items():
            if kind not in COST_CLASSES:
                raise PvfastError(f"no cost class {kind!r}: choose from {', '.join(COST_CLASSES)}")
            if tuple(map(type, cost)) != (int, str, int, int):
                raise PvfastError(f"{kind}: cycles are whole numbers, with a source, not {cost!r}")
            if not 0 <= cost.low <= cost.cycles <= cost.high <= MAX_CYCLES:
                raise PvfastError(f"{kind} costs {cost.cycles}, {cost.low} to {cost.high}: 0 to {MAX_CYCLES} cycles "
                                  "are possible, and a range around them")
        if tuple(self.cycles) != COST_CLASSES:
            raise PvfastError(f"{self.name}: give cycles for all cost classes, in the order of COST_CLASSES")

    @property
    def costs(self) -> tuple[int, ...]:
        """Modelled cycles by class, in the order of `COST_CLASSES`."""
        return tuple(cost.cycles for cost in self.cycles.values())

    @property
    def costs_sha256(self) -> str:
        """Of `costs` and the numbers of the prediction, by name, in hexadecimal: equal where cycles may be compared."""
        prediction = self.prediction and {name: number for name, (number, _) in asdict(self.prediction).items()}
        numbers = dict(zip(self.cycles, self.costs, strict=True)), prediction
        return hashlib.sha256(repr(numbers).encode("ascii")).hexdigest()

    def with_costs(self, **cycles: int) -> Model:
        """The same with other cycles for some classes: what a result owes to an assumption.

        Raises
        ------
        PvfastError
            There is no such class, or it cannot cost that.

        >>> load_model("pentium4").with_costs(cli=20, sti=20).cycles["cli"]
        Cost(cycles=20, source='set by the caller', low=20, high=20)
        """
        return self.with_cycles(self.name, {name: cost_of(number, "set by the caller")
                                            for name, number in cycles.items()})

    def with_cycles(self, name: str, cycles: Mapping[str, Cost]) -> Model:
        """The same under another name and with other costs for some classes; raises what `with_costs` does."""
        return replace(self, name=name, cycles=MappingProxyType({**self.cycles, **cycles}))


def load_model(name: str | Model) -> Model:
    """The model of that name, or in a file that ``pvfast calibrate`` wrote; a model is returned as it is.

    Raises
    ------
    PvfastError
        There is no such model, or the file holds none.

    >>> load_model("generic").name
    'generic'
    >>> load_model("i486").cpuid
    ()
    >>> load_model("pentium5")
    Traceback (most recent call last):
    pvfast.errors.PvfastError: no processor model 'pentium5'; there are: generic, i486, pentium, pentium-mmx, \
pentium-pro, pentium2, pentium3, pentium4, k8, nehalem, skylake, skylake-retpoline, zen
    """
    if isinstance(name, Model):
        return name
    if name.endswith(MODEL_FILE):
        return _read_model(name)
    row = MODELS.get(name)
    if row is None:
        raise PvfastError(f"no processor model {name!r}; there are: {', '.join(MODELS)}")
    module = importlib.import_module(f"pvfast.processor.{row.costs}")
    cycles = getattr(module, f"{row.variant}CYCLES")
    prediction = getattr(module, f"{row.variant}PREDICTION")
    features = feature_word(row.features & EXECUTED)
    basic = basic_leaves(row.identity, features) if row.identity else ()
    extended = extended_leaves(row.identity, features) if row.identity else ()
    return Model(name, _complete(cycles), prediction, features, basic, extended)


def _read_model(path: str) -> Model:
    """A base model, and costs that replace some of its own."""
    try:
        with open(path, encoding="utf-8") as file:
            content = json.load(file)
    except OSError as error:
        raise PvfastError(f"{path}: {error.strerror}; `pvfast calibrate -o FILE` writes a processor model") from None
    except (ValueError, RecursionError) as error:
        raise PvfastError(f"{path} holds no processor model: {error}") from None
    try:
        if {name: content[name] for name in MODEL_FILE_HEAD} != MODEL_FILE_HEAD:
            raise PvfastError(f"it does not begin with {json.dumps(dict(MODEL_FILE_HEAD))}")
        base, name = content["base"], content["model"]
        if base not in MODELS or not isinstance(name, str):
            raise PvfastError(f"its base {base!r} is none of {', '.join(MODELS)}, or its name {name!r} is none")
        return load_model(base).with_cycles(name, {
            kind: Cost(row["cycles"], row["source"], row["low"], row["high"])
            for kind, row in content["cycles"].items()})
    except PvfastError as error:
        raise PvfastError(f"{path} holds no processor model: {error}") from None
    except (AttributeError, KeyError, TypeError) as error:
        raise PvfastError(f"{path} holds no processor model: a part is missing or has another shape: {error}") from None


def _complete(cycles: Mapping[str, tuple]) -> Mapping[str, Cost]:
    """What a model says nothing about costs what it does in the generic one, and says so."""
    return MappingProxyType({
        name: cost_of(*cycles[name]) if name in cycles else
        cost_of(generic.CYCLES[name][0], f"assumed: as generic, {generic.CYCLES[name][1]}")
        for name in COST_CLASSES})
