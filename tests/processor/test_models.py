"""Every cost model gives every cost class a number and says where it is from; processors hide what they lack."""
import importlib
import json
import re
from dataclasses import fields, replace
from types import MappingProxyType

import pytest

import pvfast
from pvfast.assembly import assemble
from pvfast.errors import ArgumentError, PvfastError
from pvfast.isa.forms import FORMS
from pvfast.paravirt.hypervisors import hypervisor, hypervisor_names
from pvfast.processor import MAX_CYCLES, MODEL_FILE_HEAD, MODELS, generic, load_model
from pvfast.processor.costs import COST_CLASSES, cost_of
from pvfast.processor.cpuid import EXECUTED, FEATURE_BITS

#: What may cost nothing: an addition to what is charged anyway.
ADDITIONS = {"segment_base", "tlb_miss"}


#: What a label begins with when somebody has published the number, beside what a model's own text explains.
PUBLISHED = re.compile(r"vmlatency on |P6 class: |LKML \d{4}: |zsim's |LLVM's |A\. Kleen \d{4}|P\. Turner \d{4}: ")
#: Dumps, manuals and pages by the short names that a model's text explains.
EXPLAINED = re.compile(r"(IL-[A-Z0-9]{2}|TN|X86L|SOG)\b")


def assert_sourced(name, source):
    """It says whose number it is, or that it is nobody's."""
    explained = EXPLAINED.match(source)
    if explained:
        module = importlib.import_module(f"pvfast.processor.{MODELS[name].costs}")
        assert f'"{explained[1]}" is' in module.__doc__, source
    else:
        assert source.startswith(("assumed", "derived")) or PUBLISHED.match(source), source


@pytest.mark.parametrize("name", MODELS)
def test_a_cost_model_is_complete_and_sourced(name):
    cycles = load_model(name).cycles
    assert tuple(cycles) == COST_CLASSES
    for kind, cost in cycles.items():
        assert (0 if kind in ADDITIONS else 1) <= cost.low <= cost.cycles <= cost.high <= MAX_CYCLES
        assert_sourced(name, cost.source)


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
        assert_sourced(name, getattr(prediction, field.name)[1])


def test_what_a_model_does_not_say_is_assumed():
    own = importlib.import_module("pvfast.processor.zen").CYCLES
    for kind, cost in load_model("zen").cycles.items():
        if kind not in own:
            assert cost == cost_of(generic.CYCLES[kind][0], f"assumed: as generic, {generic.CYCLES[kind][1]}")
    assert not {"decimal", "fpu_div"} & set(own)


def test_the_hash_is_of_every_number_that_cycles_depend_on():
    model = load_model("pentium4")
    others = [model.with_costs(**{kind: cost.cycles + 1}) for kind, cost in model.cycles.items()]
    others += [replace(model, prediction=replace(model.prediction, **{field.name: (number * 2 % 8192, "x")}))
               for field in fields(model.prediction) for number in [getattr(model.prediction, field.name)[0]]
               if field.name != "targets"]
    others += [replace(model, prediction=replace(model.prediction, targets=(2048, "x"))),
               replace(model, prediction=None)]
    assert len({each.costs_sha256 for each in (model, *others)}) == 1 + len(others)


def test_the_hash_is_not_of_names_and_sources():
    model = load_model("pentium4")
    same = model.with_cycles("mine", {"cli": cost_of(model.cycles["cli"].cycles, "another source")})
    same = replace(same, prediction=replace(model.prediction, ways=(model.prediction.target_ways, "another source")))
    assert same.costs_sha256 == model.costs_sha256
    assert load_model("skylake").costs_sha256 != load_model("skylake-retpoline").costs_sha256


def test_a_model_without_all_costs_is_refused():
    model = load_model("generic")
    for cycles, message in (({"cli": model.cycles["cli"]}, "all cost classes"),
                            ({**model.cycles, "cly": model.cycles["cli"]}, "no cost class 'cly'"),
                            (dict(reversed(model.cycles.items())), "in the order")):
        with pytest.raises(PvfastError, match=message):
            replace(model, cycles=MappingProxyType(cycles))


def test_costs_of_the_callers_own():
    assert load_model("pentium4").with_costs(cli=20).costs[COST_CLASSES.index("cli")] == 20
    with pytest.raises(PvfastError, match="no cost class 'cly'"):
        load_model("pentium4").with_costs(cly=20)
    for cycles in (-1, 0x4000):
        with pytest.raises(PvfastError, match="cycles are possible"):
            load_model("pentium4").with_costs(cli=cycles)


@pytest.mark.parametrize("leaves", ["cpuid", "cpuid_extended"])
def test_a_model_has_no_more_leaves_than_there_is_room_for(leaves):
    model = load_model("generic")
    pvfast.Machine(ram="64K", processor=replace(model, **{leaves: ((1, 2, 3, 4),) * 8}))
    with pytest.raises(ArgumentError, match="9 leaves of CPUID, and there is room for 8"):
        pvfast.Machine(ram="64K", processor=replace(model, **{leaves: ((1, 2, 3, 4),) * 9}))


def model_file(path, **content):
    path.write_text(json.dumps({**MODEL_FILE_HEAD, "model": "mine", "base": "generic", "cycles": {}} | content))
    return str(path)


def cost(cycles, low, high):
    return {"cycles": cycles, "source": "a test", "low": low, "high": high}


@pytest.mark.parametrize("content", [
    {"base": "mine.json"}, {"base": None}, {"cycles": []}, {"cycles": {"cly": cost(1, 1, 1)}},
    {"cycles": {"cli": cost(0x4000, 1, 0x4000)}}, {"cycles": {"cli": cost(5, 6, 7)}},
    {"cycles": {"cli": cost(5, -1, 7)}}, {"cycles": {"cli": cost("1e999", 1, 1)}},
    {"cycles": {"cli": {"cycles": float("inf")}}}, {"cycles": {"cli": cost(1.0, 1, 1)}},
    {"cycles": {"cli": cost(True, 1, 1)}}, {"cycles": {"cli": cost(1, 1, 1) | {"source": None}}},
    {"kind": "gate"}, {"schema": 9}, {"model": 1}, {"base": ["generic"]},
])
def test_a_file_that_holds_no_model_is_refused(tmp_path, content):
    assert load_model(model_file(tmp_path / "mine.json")).name == "mine"
    with pytest.raises(PvfastError, match=r"mine\.json holds no processor model: "):
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
    assert {cost for form in FORMS for cost in (form.cost, form.register_cost)} <= set(COST_CLASSES)


def assert_costs(name, source, *classes):
    """A program of one straight line under a model."""
    machine = pvfast.Machine(ram="64K", processor=name)
    code = assemble(f"{source}\ndone: nop", 0x1000)
    machine.write(0x1000, code.code)
    machine.cpu.eip, machine.cpu.esp = 0x1000, 0x8000
    assert machine.run(until=code.labels["done"], max_instructions=100).reason.name == "UNTIL"
    assert machine.counters.cycles == sum(load_model(name).cycles[each].cycles for each in classes)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize(("source", "classes"), [
    ("cli\npushl %eax\npopfl", ("cli", "push", "popf")),
    ("std\ncld", ("cld", "cld")), ("lahf\nsahf", ("lahf", "lahf")), ("pause", ("pause",)), ("nop", ("nop",)),
    ("xchgl %ecx, %edx", ("mov",)), ("xchgb %cl, %dl", ("mov",)), ("xchgl %eax, %edx", ("mov",)),
    ("xchgl %ecx, (%esp)", ("xchg",)), ("xchgb %cl, (%esp)", ("xchg",)),
    ("movl %eax, %cr3", ("cr_write",)),
])
def test_the_machine_charges_what_its_model_says(name, source, classes):
    assert_costs(name, source, *classes)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize(("instruction", "cost"), [
    ("incl (%esp)", "alu"), ("addl %eax, (%esp)", "alu"), ("xaddl %eax, (%esp)", "xadd"),
    ("cmpxchgl %ecx, (%esp)", "cmpxchg"), ("btsl $1, (%esp)", "alu"), ("negb (%esp)", "alu"),
])
def test_a_lock_prefix_costs_and_what_replaces_it_on_one_processor_does_not(name, instruction, cost):
    assert_costs(name, f"lock {instruction}", "lock", cost)
    assert_costs(name, f"nop; {instruction}", "nop", cost)
    assert_costs(name, f"ds {instruction}", cost)


@pytest.mark.parametrize("name", MODELS)
def test_xchg_with_memory_locks_by_itself(name):
    """SDM 2, XCHG: whether there is a LOCK prefix or not."""
    assert_costs(name, "lock xchgl %ecx, (%esp)", "xchg")
    assert_costs(name, "xchgl %ecx, (%esp)", "xchg")


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
