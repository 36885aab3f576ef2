"""The call sites on the host's own processor: that they are what they say, and that the figures make sense."""
import platform
import sys

import pytest

from pvfast.assembly import disassemble
from pvfast.experiments import calibration
from pvfast.processor.costs import COST_CLASSES

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


def test_the_host_is_measured() -> None:
    found = calibration.calibrate()
    assert set(found.measured) == {"empty", *(row.name for row in calibration._SEQUENCES)}
    assert found.measured["restore_fl, inline"] > found.measured["push and pop"]
    assert found.measured["indirect call"] > found.measured["nop"]
    assert found.model.cycles["popf"].cycles > found.model.cycles["push"].cycles
    assert found.model.cycles["popf"].source.startswith("measured on this host")
    assert all(modelled >= 1 for *_, modelled in found.rows())
