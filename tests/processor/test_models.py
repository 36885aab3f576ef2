"""Every cost model gives every cost class a number and says where it is from; processors hide what they lack."""
import importlib
import json
from dataclasses import fields

import pytest

import pvfast
from pvfast.assembly import assemble
from pvfast.errors import PvfastError
from pvfast.isa.forms import FORMS
from pvfast.paravirt.hypervisors import hypervisor, hypervisor_names
from pvfast.processor import MAX_CYCLES, MODELS, load_model
from pvfast.processor.costs import COST_CLASSES
from pvfast.processor.cpuid import EXECUTED, FEATURE_BITS

#: What may cost nothing: an addition to what is charged anyway.
ADDITIONS = {"segment_base", "tlb_miss"}


@pytest.mark.parametrize("name", MODELS)
def test_a_cost_model_is_complete_and_sourced(name):
    cycles = load_model(name).cycles
    assert tuple(cycles) == COST_CLASSES
    for kind, cost in cycles.items():
        assert (0 if kind in ADDITIONS else 1) <= cost.low <= cost.cycles <= cost.high <= MAX_CYCLES
        assert cost.source


@pytest.mark.parametrize("name", sorted({row.costs for row in MODELS.values()}))
def test_a_cost_model_has_no_class_of_its_own(name):
    assert set(importlib.import_module(f"pvfast.processor.{name}").CYCLES) <= set(COST_CLASSES)


@pytest.mark.parametrize("name", [name for name in MODELS if load_model(name).prediction])
def test_predictors_are_such_as_the_core_can_be(name):
    prediction = load_model(name).prediction
    assert 1 <= prediction.return_depth <= 32
    assert prediction.targets[0] <= 4096
    assert prediction.target_sets & (prediction.target_sets - 1) == 0
    for field in fields(prediction):
        assert getattr(prediction, field.name)[1]


def test_costs_of_the_callers_own():
    assert load_model("pentium4").with_costs(cli=20).costs[COST_CLASSES.index("cli")] == 20
    with pytest.raises(PvfastError, match="no cost class 'cly'"):
        load_model("pentium4").with_costs(cly=20)
    for cycles in (-1, 0x4000):
        with pytest.raises(PvfastError, match="cycles are possible"):
            load_model("pentium4").with_costs(cli=cycles)


def model_file(path, **content):
    path.write_text(json.dumps({"model": "mine", "base": "generic", "cycles": {}} | content))
    return str(path)


def cost(cycles, low, high):
    return {"cycles": cycles, "source": "a test", "low": low, "high": high}


@pytest.mark.parametrize("content", [
    {"base": "mine.json"}, {"base": None}, {"cycles": []}, {"cycles": {"cly": cost(1, 1, 1)}},
    {"cycles": {"cli": cost(0x4000, 1, 0x4000)}}, {"cycles": {"cli": cost(5, 6, 7)}},
    {"cycles": {"cli": cost(5, -1, 7)}}, {"cycles": {"cli": cost("1e999", 1, 1)}},
    {"cycles": {"cli": {"cycles": float("inf")}}},
])
def test_a_file_that_holds_no_model_is_refused(tmp_path, content):
    with pytest.raises(PvfastError, match=r"mine\.json"):
        load_model(model_file(tmp_path / "mine.json", **content))


def test_a_file_that_cannot_be_read_is_refused(tmp_path):
    for name in ("none.json", "deep.json", "bytes.json"):
        if name == "deep.json":
            (tmp_path / name).write_text("[" * 100_000)
        elif name == "bytes.json":
            (tmp_path / name).write_bytes(b"\xff\xfe")
        with pytest.raises(PvfastError, match=name):
            load_model(str(tmp_path / name))


def test_the_largest_costs_are_those_that_every_host_can_charge(tmp_path):
    largest = cost(MAX_CYCLES, MAX_CYCLES, MAX_CYCLES)
    model = load_model(model_file(tmp_path / "slow.json", cycles=dict.fromkeys(COST_CLASSES, largest)))
    for name in hypervisor_names():
        pvfast.Machine(processor=model, hypervisor=hypervisor(name))


def test_a_long_rep_of_costly_iterations():
    """Its cycles do not fit into 32 bits."""
    model, count = load_model("generic").with_costs(rep_iteration=10_000), 0x80000
    machines = []
    for piece in (None, 1000):
        machine = pvfast.Machine(ram="1M", processor=model)
        machine.write(0x1000, bytes.fromhex("f3 aa"))       # rep stosb
        machine.cpu.eip, machine.cpu.edi, machine.cpu.ecx = 0x1000, 0x2000, count
        while machine.cpu.ecx:
            machine.run(until=0x1002, max_instructions=piece)
        machines.append(machine.counters.as_dict())
    assert machines[0] == machines[1]
    assert machines[0]["cycles"] == count * 10_000 + model.cycles["stos"].cycles


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


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize(("prefix", "costs"), [("lock", ("lock", "alu")), ("nop;", ("nop", "alu")), ("ds", ("alu",))])
def test_a_lock_prefix_costs_and_what_replaces_it_on_one_processor_does_not(name, prefix, costs):
    model = dict(zip(COST_CLASSES, load_model(name).costs, strict=True))
    machine = pvfast.Machine(ram="64K", processor=name)
    code = assemble(f"{prefix} incl (%esp)\ndone: nop", 0x1000)
    machine.write(0x1000, code.code)
    machine.cpu.eip, machine.cpu.esp = 0x1000, 0x8000
    machine.run(until=code.labels["done"])
    assert machine.counters.cycles == sum(model[cost] for cost in costs)
    assert machine.read(0x8000, 1) == b"\1"


def execute(name: str, source: str) -> pvfast.Machine:
    machine = pvfast.Machine(ram="64K", processor=name)
    code = assemble(source, 0x1000)
    machine.write(0x1000, code.code)
    machine.cpu.eip, machine.cpu.esp = 0x1000, 0x8000
    machine.run(max_instructions=100)
    return machine


def cpuid(name: str, leaf: int) -> tuple[int, int, int, int]:
    cpu = execute(name, f"mov ${leaf:#x}, %eax; cpuid; hlt").cpu
    return cpu.eax, cpu.ebx, cpu.ecx, cpu.edx


def text(*registers: int) -> str:
    return b"".join(register.to_bytes(4, "little") for register in registers).decode("ascii")


@pytest.mark.parametrize("name", [name for name, row in MODELS.items() if row.identity])
class TestCpuid:
    """SDM 2, CPUID."""

    def test_the_vendor(self, name):
        _, ebx, ecx, edx = cpuid(name, 0)
        assert text(ebx, edx, ecx) == MODELS[name].identity.vendor.decode()

    def test_features_are_those_of_the_row_that_the_core_executes(self, name):
        eax, _, _, edx = cpuid(name, 1)
        assert eax == MODELS[name].identity.signature
        assert edx == sum(1 << FEATURE_BITS[feature] for feature in MODELS[name].features & EXECUTED
                          if FEATURE_BITS[feature] < 32)

    def test_a_leaf_beyond_the_last_answers_as_the_last_does(self, name):
        last = cpuid(name, 0)[0]
        assert cpuid(name, last + 1) == cpuid(name, last) == cpuid(name, 0x7FFFFFFF)

    def test_the_brand_string(self, name):
        if not MODELS[name].identity.brand:
            assert cpuid(name, 0x80000000) == cpuid(name, cpuid(name, 0)[0])
            return
        assert cpuid(name, 0x80000000)[0] == 0x80000004
        brand = "".join(text(*cpuid(name, leaf)) for leaf in (0x80000002, 0x80000003, 0x80000004))
        assert brand.rstrip("\0") == MODELS[name].identity.brand


def test_families():
    families = {name: cpuid(name, 1)[0] >> 8 & 15 for name, row in MODELS.items() if row.identity}
    assert families == {"generic": 6, "pentium": 5, "pentium-mmx": 5, "pentium-pro": 6, "pentium2": 6, "pentium3": 6,
                        "pentium4": 15, "k8": 15, "nehalem": 6, "skylake": 6, "skylake-retpoline": 6, "zen": 15}


def test_nx_is_announced_where_it_is():
    assert cpuid("generic", 0x80000001)[3] == 1 << 20
    assert cpuid("pentium4", 0x80000001)[3] == 0


def test_the_id_flag_toggles_where_cpuid_exists():
    """SDM 1:3.4.3.3, and the way every kernel looks for a 486."""
    toggle = "pushfl; xorl $0x200000, (%esp); popfl; pushfl; popl %eax; hlt"
    assert execute("generic", toggle).cpu.eax & 0x200000
    assert not execute("i486", toggle).cpu.eax & 0x200000


@pytest.mark.parametrize("name, instruction, there", [
    ("i486", "cpuid", False), ("i486", "rdtsc", False), ("i486", "rdmsr", False), ("i486", "bswap %eax", True),
    ("pentium", "cpuid", True), ("pentium", "rdtsc", True), ("pentium", "cmpxchg8b 0x2000", True),
    ("pentium", "cmovz %eax, %ecx", False), ("pentium-pro", "cmovz %eax, %ecx", True),
    ("pentium-pro", "rdpmc", True), ("pentium", "rdpmc", False), ("pentium", "sysenter", False)])
def test_an_instruction_of_a_later_processor_is_undefined(name, instruction, there):
    """SDM 2: #UD; without an IDT that is a shutdown, which names it."""
    machine = pvfast.Machine(ram="64K", processor=name)
    machine.write(0x1000, assemble(f"xor %ecx, %ecx; {instruction}; hlt", 0x1000).code)
    machine.cpu.eip, machine.cpu.esp = 0x1000, 0x8000
    stop = machine.run(max_instructions=100)
    assert stop.reason.name == ("HALT" if there else "SHUTDOWN")
    assert stop.vector == (None if there else 6)


@pytest.mark.parametrize("name", MODELS)
def test_cr4_bits_come_with_their_features(name):
    """SDM 3:2.5."""
    bits = {"VME": 0x3, "TSC": 0x4, "DE": 0x8, "PSE": 0x10, "PAE": 0x20, "MCE": 0x40, "PGE": 0x80, "RDPMC": 0x100,
            "FXSR": 0x200, "SSE": 0x400}
    there = 0
    for bit in range(32):
        if MODELS[name].identity is None:
            assert execute(name, "mov %cr4, %eax; hlt").cpu.eip != 0x1004       # #UD: no IDT, a shutdown
            break
        there |= execute(name, f"mov ${1 << bit:#x}, %eax; mov %eax, %cr4; hlt").cpu.cr4
    assert there == sum(bits[feature] for feature in bits if feature in MODELS[name].features & EXECUTED)
