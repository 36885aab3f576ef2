"""The benchmarks cover what there is, and what they run is right; how fast it is, is not tested."""

import inspect
import io
import json
import os
import re
import subprocess
import sys
import tomllib
from importlib import import_module
from pathlib import Path

import pytest
from elftools.elf.elffile import ELFFile

import pvfast
from benchmarks import core, dispatch, engines, exits, guest, hypercalls, patching, peers, startup, workloads
from benchmarks.program import BASE
from benchmarks.programs import MODES, PROGRAMS, counts, loaded
from benchmarks.survey import FAMILIES, instructions
from benchmarks.system_programs import SYSTEM_PROGRAMS
from pvfast.experiments import FORMS, operation_names, settings, workload_names
from pvfast.guest import build
from pvfast.paravirt.hypervisors import ENTRY_POINT_GROUP, hypervisor_names

ROOT = Path(__file__).parents[1]
#: The modules of `benchmarks` in which asv finds suites.
SUITES = ("dispatch", "workloads", "hypercalls", "patching", "startup", "memory", "core", "machine", "exits", "peers")
PREFIXES = ("time_", "timeraw_", "track_", "peakmem_")


def benchmarks(suite: type) -> list[str]:
    """The methods that asv runs."""
    return [name for name in vars(suite) if name.startswith(PREFIXES)]


def classes(module: str) -> list[type]:
    """The suites of a module."""
    name = f"benchmarks.{module}"
    return [each for each in vars(import_module(name)).values()
            if inspect.isclass(each) and each.__module__ == name and benchmarks(each)]


def parameters(suite: type) -> list[tuple]:
    """The values of each parameter."""
    params = getattr(suite, "params", ())
    return [params] if params and not isinstance(params[0], tuple) else list(params)


CLASSES = [pytest.param(each, id=f"{module}.{each.__name__}") for module in SUITES for each in classes(module)]


def test_every_module_with_benchmarks_is_a_suite() -> None:
    modules = {path.stem for path in (ROOT / "benchmarks").glob("*.py")} - {"__init__"}
    assert {module for module in modules if classes(module)} == set(SUITES)


def test_every_operation_of_the_guest_has_a_benchmark() -> None:
    assert set(guest.OPERATIONS) == set(operation_names())


def test_every_workload_of_the_guest_has_a_benchmark() -> None:
    assert workload_names() == guest.WORKLOADS


def test_every_hypervisor_has_a_benchmark() -> None:
    missing = set(hypervisor_names()) - set(guest.HYPERVISORS)
    assert not missing, f"{ENTRY_POINT_GROUP} has {missing}: name them in benchmarks/guest.py"


def test_every_form_and_variant_has_a_benchmark() -> None:
    assert guest.FORMS == FORMS
    variants = [setting.variant for name in guest.HYPERVISORS for setting in settings(build(), name)]
    assert set(guest.VARIANTS) == set(filter(None, variants))


def test_the_suites_have_every_row() -> None:
    for suite in (dispatch.Counts, dispatch.Dispatch):
        assert suite.params == (guest.HYPERVISORS, guest.OPERATIONS, guest.FORMS)
    for suite in (workloads.Counts, workloads.Time):
        assert suite.params == (guest.HYPERVISORS, guest.WORKLOADS, guest.FORMS)
    assert startup.Boot.params == (guest.HYPERVISORS, guest.FORMS)
    assert patching.ApplyParavirt.params == guest.HYPERVISORS


@pytest.mark.parametrize("suite", CLASSES)
def test_the_pages_of_asv_have_titles_names_and_units(suite: type) -> None:
    assert len(getattr(suite, "param_names", ())) == len(parameters(suite))
    for name in benchmarks(suite):
        function = getattr(suite, name)
        assert function.pretty_name
        assert function.unit if name.startswith("track_") else not hasattr(function, "unit")


def test_no_two_titles_are_the_same() -> None:
    titles = [getattr(suite, name).pretty_name for module in SUITES for suite in classes(module)
              for name in benchmarks(suite)]
    assert len(set(titles)) == len(titles)


@pytest.mark.parametrize("suite", [each for each in CLASSES if not each.id.startswith("peers.")])
def test_the_first_row_of_every_suite_runs(suite: type, monkeypatch: pytest.MonkeyPatch) -> None:
    module = import_module(suite.__module__)
    for name, few in (("HYPERVISORS", ("native",)), ("OPERATIONS", ("irq_disable",)), ("WORKLOADS", ("null",))):
        if hasattr(module, name) and name in vars(guest):
            monkeypatch.setattr(module, name, few)
            monkeypatch.setattr(guest, name, few)
    row = [values[0] for values in parameters(suite)]
    for name in benchmarks(suite):
        instance = suite()
        arguments = [instance.setup_cache(), *row] if hasattr(suite, "setup_cache") else row
        instance.setup(*arguments)
        result = getattr(instance, name)(*arguments)
        if name.startswith("track_"):
            assert isinstance(result, int | float)
        elif name.startswith("timeraw_"):
            for text in reversed([result] if isinstance(result, str) else result):
                compile(text, name, "exec")


#: Run where pvfast is an empty package, as in a commit that has nothing to measure. An editable installation would find
#: its modules all the same.
OLD = """
import inspect, sys
from importlib import import_module
sys.path.insert(0, ".")
sys.meta_path[:] = [finder for finder in sys.meta_path if "_EditableFinder" not in repr(finder)]
for name in sys.argv[1].split():
    module, name = name.split(".")
    suite = getattr(import_module("benchmarks." + module), name)
    cache = [suite().setup_cache()] if hasattr(suite, "setup_cache") else []
    row = [None] * (len(inspect.signature(suite.setup).parameters) - len(cache) - 1)
    try:
        suite().setup(*cache, *row)
    except NotImplementedError:
        continue
    print(suite)
"""


def test_where_there_is_nothing_to_measure_every_row_is_not_available(tmp_path: Path) -> None:
    (tmp_path / "pvfast").mkdir()
    (tmp_path / "pvfast" / "__init__.py").touch()
    (tmp_path / "benchmarks").symlink_to(ROOT / "benchmarks")
    names = " ".join(each.id for each in CLASSES)
    old = subprocess.run([sys.executable, "-P", "-c", OLD, names], cwd=tmp_path, capture_output=True, text=True,
                         timeout=60)
    assert (old.stdout, old.stderr) == ("", "")


def test_the_configuration_of_asv_builds_what_the_project_needs() -> None:
    if not (ROOT / "asv.conf.json").exists():
        pytest.skip("asv.conf.json is in the repository, not in the installed package")
    configuration = json.loads((ROOT / "asv.conf.json").read_text())
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    pinned = configuration["matrix"]["req"]
    wanted = (*project["project"]["dependencies"], *project["build-system"]["requires"])
    names = {re.split("[<>=]", text)[0] for text in wanted}
    assert names <= set(pinned), "asv installs pvfast without its dependencies"
    assert "--no-deps" in configuration["build_command"][0] and "--no-deps" in configuration["install_command"][0]
    assert configuration["project"] == project["project"]["name"]
    assert (ROOT / configuration["benchmark_dir"] / "__init__.py").exists()
    assert configuration["branches"] == ["HEAD"]            # whatever is checked out, on a runner of CI too


def test_asv_accepts_the_benchmarks() -> None:
    pytest.importorskip("asv")
    if not (ROOT / ".git").exists():
        pytest.skip("asv wants a repository")
    environment = {**os.environ, "ASV_PYTHONPATH": str(Path(pvfast.__file__).parents[1])}
    check = subprocess.run([sys.executable, "-m", "asv", "check", "--python=same"], cwd=ROOT, env=environment,
                           capture_output=True, text=True, timeout=120)
    assert check.returncode == 0, check.stdout + check.stderr


def test_every_program_is_a_benchmark() -> None:
    assert set(PROGRAMS) == set(core.PROGRAMS) | set(peers.WORKLOADS)
    assert core.MODES == MODES


@pytest.mark.parametrize("name", PROGRAMS)
def test_programs_do_the_same_in_every_mode(name: str) -> None:
    results = []
    for mode in MODES:
        machine, done = loaded(name, 3, mode)
        assert machine.run(until=done, max_instructions=1_000_000).reason.name == "UNTIL"
        figures = counts(name, mode)
        results.append((machine.cpu.eax, figures["instructions"], figures["iterations"]))
    assert len(set(results)) == 1


@pytest.mark.parametrize("mode", ["flat", "paged"])
@pytest.mark.parametrize("name", SYSTEM_PROGRAMS)
def test_system_programs_take_as_long_for_each_of_their_count(name: str, mode: str) -> None:
    taken = []
    for count in (1, 2, 3):
        machine, done = loaded(name, count, mode)
        stop = machine.run(until=done, max_instructions=1_000_000)
        assert (stop.reason.name, machine.cpu.eip + machine.cpu.cs.base) == ("UNTIL", done)
        taken.append(machine.counters.instructions)
    assert taken[2] - taken[1] == taken[1] - taken[0] > 0


def test_the_survey_counts_instructions() -> None:
    bodies = {"cmp, jcc": 2, "call, ret": 2, "lock inc": 1, "jmp register": 2}
    assert {family: instructions(FAMILIES[family]) for family in bodies} == bodies


@pytest.mark.parametrize("name", ["crc", "sieve", "fib", "copy", "rep_movsd", "indirect_cli", "patch_itself"])
def test_other_engines_compute_the_same(name: str) -> None:
    if engines.unicorn is None:
        pytest.skip("Unicorn is not installed")
    assert engines.pvfast_engine(name, 3)[1] == engines.unicorn_engine(name, 3)[1]


def test_the_process_for_the_bare_processor_holds_the_same_bytes() -> None:
    machine, done = loaded("fib", 3)
    elf = ELFFile(io.BytesIO(engines.elf("fib", 3)))
    segment = elf.get_segment(0)
    assert (elf.elfclass, elf["e_machine"], elf["e_entry"]) == (32, "EM_386", machine.cpu.eip)
    assert segment["p_vaddr"] == BASE
    assert segment.data() == machine.read(BASE, segment["p_filesz"])
    assert BASE < done < BASE + segment["p_filesz"]


@pytest.mark.parametrize("kind", exits.Exits.params)
def test_every_exit_exits(kind: str) -> None:
    benchmark = exits.Exits()
    benchmark.setup(kind)
    benchmark.time_exits(kind)
    assert benchmark.machine.counters.exits == exits.EXITS
    assert benchmark.track_cycles(kind) > 0


def test_patching_changes_the_kernel() -> None:
    for hypervisor in guest.HYPERVISORS:
        benchmark = patching.ApplyParavirt()
        benchmark.setup(hypervisor)
        assert benchmark.track_changed_bytes(hypervisor) > 0


def test_rows_that_do_not_exist_say_so_in_setup() -> None:
    with pytest.raises(NotImplementedError):
        dispatch.Counts().setup({}, "xen", "null_syscall_sysenter", "indirect")
    with pytest.raises(NotImplementedError):
        guest.find_run("native", "indirect", "no_such_operation")


@pytest.mark.parametrize("hypervisor", hypercalls.HYPERVISORS)
def test_a_loop_of_hypercalls_makes_them(hypervisor: str) -> None:
    caller = hypercalls.Caller(hypervisor)
    counters = caller.machine.counters
    taken = []
    for count, empty in ((10, False), (20, False), (10, True), (20, True)):
        before = counters.cycles
        caller.calls(count, empty)
        taken.append(counters.cycles - before)
    per_call, per_turn = (taken[1] - taken[0]) // 10, (taken[3] - taken[2]) // 10
    assert per_call - per_turn >= caller.machine.processor.cycles["hypercall"].cycles


def test_hypervisors_without_hypercalls_say_so() -> None:
    for name in set(guest.HYPERVISORS) - set(hypercalls.HYPERVISORS):
        with pytest.raises(NotImplementedError):
            hypercalls.Caller(name)
