"""The benchmarks cover what there is, and what they run is right; how fast it is, is not tested."""

import io

import pytest
from elftools.elf.elffile import ELFFile

from benchmarks import dispatch, engines, exits, patching, peers, workloads
from benchmarks.program import BASE
from benchmarks.programs import MODES, PROGRAMS, counts, loaded
from benchmarks.survey import FAMILIES, instructions
from benchmarks.system_programs import SYSTEM_PROGRAMS
from pvfast.experiments import FORMS, operation_names, settings
from pvfast.guest import build
from pvfast.guest.benchmarks import ROWS
from pvfast.paravirt.hypervisors import ENTRY_POINT_GROUP, hypervisor_names


def test_every_operation_of_the_guest_has_a_benchmark() -> None:
    loops = {row.name for row in ROWS if row.sites}
    assert set(dispatch.OPERATIONS) == loops == set(operation_names())


def test_every_hypervisor_has_a_benchmark() -> None:
    missing = set(hypervisor_names()) - set(dispatch.HYPERVISORS)
    assert not missing, f"{ENTRY_POINT_GROUP} has {missing}: name them in benchmarks/dispatch.py"
    assert dispatch.HYPERVISORS == patching.HYPERVISORS


def test_every_form_and_variant_has_a_benchmark() -> None:
    assert dispatch.FORMS == FORMS
    variants = [setting.variant for name in dispatch.HYPERVISORS for setting in settings(build(), name)]
    assert set(dispatch.VARIANTS) == set(filter(None, variants))


def test_every_program_is_a_benchmark() -> None:
    assert set(PROGRAMS) == set(workloads.WORKLOADS) | set(peers.WORKLOADS)
    assert workloads.MODES == MODES


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
    for hypervisor in patching.HYPERVISORS:
        benchmark = patching.ApplyParavirt()
        benchmark.setup(hypervisor)
        assert benchmark.track_changed_bytes(hypervisor) > 0


def test_rows_that_do_not_exist_say_so_in_setup() -> None:
    with pytest.raises(NotImplementedError):
        dispatch.Counts().setup({}, "xen", "null_syscall_sysenter", "indirect")
    with pytest.raises(NotImplementedError):
        dispatch.find_run("native", "indirect", "no_such_operation")
