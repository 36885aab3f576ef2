"""Every model gives every cost class a number and says where it is from."""
import importlib

import pytest

import pvfast
from pvfast.assembly import assemble
from pvfast.isa.forms import FORMS
from pvfast.processor import MODELS, load_model
from pvfast.processor.costs import COST_CLASSES


@pytest.mark.parametrize("name", MODELS)
def test_a_model_is_complete_and_sourced(name):
    cycles = importlib.import_module(f"pvfast.processor.{name}").CYCLES
    assert set(cycles) == set(COST_CLASSES)
    for number, source in cycles.values():
        assert 1 <= number < 65536
        assert source


def test_rows_name_classes_that_exist():
    assert {form.cost for form in FORMS} <= set(COST_CLASSES)


def test_the_machine_charges_what_its_model_says():
    code = assemble("cli\npushl %eax\npopfl\ndone: nop", 0x1000)
    for name in MODELS:
        machine = pvfast.Machine(ram="64K", processor=name)
        machine.write(0x1000, code.code)
        machine.cpu.eip, machine.cpu.esp = 0x1000, 0x8000
        machine.run(until=code.labels["done"])
        costs = dict(zip(COST_CLASSES, load_model(name).costs, strict=True))
        assert machine.counters.cycles == costs["cli"] + costs["push"] + costs["popf"]
