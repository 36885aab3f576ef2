"""The call sites on the host's own processor: that they are what they say, and what becomes of the figures."""
import platform
import sys
from pathlib import Path

import pytest

from pvfast.assembly import disassemble
from pvfast.experiments import calibration
from pvfast.processor import load_model
from pvfast.processor.costs import COST_CLASSES, cost_of

pytestmark = pytest.mark.skipif(platform.machine() != "x86_64" or sys.platform != "linux",
                                reason="measures an x86-64 host")


def test_bodies_are_the_instructions_of_their_texts() -> None:
    """Mnemonics in order, the callee's and its return where the call is."""
    for row in calibration._SEQUENCES:
        if row.body is None or row.name == "nop":
            continue
        names = [line.text.split()[0] for line in disassemble(row.body, 0, 64)]
        said = [part.split()[0] for part in row.text.partition("; f: ")[0].split("; ")]
        assert all(name.startswith(word) for name, word in zip(names, said, strict=True)), row.name


def test_every_class_exists() -> None:
    assert {name for row in calibration._SEQUENCES for name in row.classes} <= set(COST_CLASSES)


def test_the_host_is_measured(tmp_path: Path) -> None:
    """Every sequence, and the model that is written is the one that is read again."""
    found = calibration.calibrate()
    assert set(found.measured) == {"empty", *(row.name for row in calibration._SEQUENCES)}
    assert all(taken > 0 for taken in found.measured.values())
    calibration.write_model(tmp_path / "host.json", found)
    assert load_model(str(tmp_path / "host.json")) == found.model


MEASURED = {"empty": 1.0, "push and pop": 3.0, "nop": 1.4, "direct call": 12.0, "indirect call": 15.0,
            "save_fl, indirect": 0.0, "save_fl, inline": 7.0, "restore_fl, indirect": 0.0, "restore_fl, inline": 22.0,
            "Xen's irq_disable, indirect": 0.0, "Xen's irq_disable, inline": 3.6}
"""A processor that a person can calculate: a push and a pop take 2, a site's four and its return 5."""


def test_the_model_is_derived_from_what_was_measured() -> None:
    model, generic = calibration._model(MEASURED), load_model("generic")
    found = {name: cost.cycles for name, cost in model.cycles.items() if cost != generic.cycles[name]}
    assert found == {"push": 1, "pop": 1, "nop": 1, "call": 11 - 5, "call_indirect": 14 - 5, "ret": 1, "pushf": 6 - 1,
                     "popf": 21 - 1, "mov": 3}
    assert model.cycles["call"] == cost_of(6, "measured on this host: 6.00")
    assert model.cycles["nop"].source == "measured on this host: 0.40"


def test_what_cannot_be_measured_is_no_measurement() -> None:
    model = calibration._model({**MEASURED, "direct call": 5.66})
    assert model.cycles["call"] == cost_of(1, "assumed: below what can be measured (-0.34), at least 1")
    assert model.cycles["ret"].source.startswith("assumed")
