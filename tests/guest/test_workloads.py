"""The workloads: that they do what they are named after, and that every iteration costs the same."""

import re
from collections import Counter
from pathlib import Path

import pytest

from pvfast.experiments import FORMS, GuestRun, settings
from pvfast.experiments.matrix import INTERRUPT_GROUPS
from pvfast.experiments.runs import read_word
from pvfast.experiments.tracing import trace_operations
from pvfast.guest import GuestImage
from pvfast.guest.benchmarks import WORKLOADS
from pvfast.paravirt.hypervisors import BUILT_IN

DOCUMENT = Path(__file__).parents[2] / "docs" / "workloads.md"
#: What the last process leaves as its exit status: its last call's result, or how many handlers did not run.
STATUS = {"null": 1, "read": 1, "write": 1, "pipe-1p": 4, "pipe": 1, "context-switch-2p": 4, "context-switch-8p": 4}
#: Those whose last result is a process's number.
NUMBERS = ("fork-exit", "fork-exec")


@pytest.mark.parametrize("form", FORMS)
# Not under full virtualization: which shadow entries are there differs from one iteration to the next.
@pytest.mark.parametrize("hypervisor", [name for name in BUILT_IN if name != "full"])
def test_iterations_cost_the_same(image: GuestImage, hypervisor: str, form: str) -> None:
    run = GuestRun(settings(image, hypervisor)[0], form)
    for row in WORKLOADS:
        hundred = run.counts(row.name, 100)
        status = read_word(run.machine, image, "exit_status")
        assert row.name in NUMBERS or status == STATUS.get(row.name, 0), row.name
        one = (run.counts(row.name, 200) - hundred).per(100, row.name)
        assert run.counts(row.name, 101) - hundred == one
        assert run.counts(row.name, 100) == hundred
        assert read_word(run.machine, image, "fault_record", 8) == 0, row.name


#: Operations of one iteration natively, as Linux 2.6.20 executes them; interrupt operations come first.
CALLS = {
    "null": {"irq_disable": 1, "iret": 1},
    "read": {"irq_disable": 1, "iret": 1},
    "write": {"irq_disable": 1, "iret": 1},
    "signal-install": {"irq_disable": 2, "irq_enable": 1, "iret": 1},
    # Three of them because whoever gets a signal might sleep: try_to_wake_up takes the run queue's lock to find out.
    "signal-catch": {"save_fl": 4, "irq_disable": 10, "restore_fl": 4, "irq_enable": 3, "iret": 2},
    # Two hops, each of two calls, two wake-ups, a wait, a switch.
    "context-switch-2p": {"save_fl": 8, "irq_disable": 14, "restore_fl": 8, "irq_enable": 2, "iret": 4,
                          "read_tsc": 4, "write_cr3": 2, "load_esp0": 2, "load_tls": 2},
}


@pytest.mark.parametrize("name", CALLS)
def test_operations_are_those_of_2_6_20(image: GuestImage, name: str) -> None:
    assert executed(GuestRun(settings(image, "native")[0], "indirect"), name) == CALLS[name]


@pytest.mark.parametrize("hypervisor", ["native", "xen"])
def test_a_hop_costs_the_same_in_every_ring(image: GuestImage, hypervisor: str) -> None:
    run = GuestRun(settings(image, hypervisor)[0], "indirect")
    instructions, cycles = run.per_unit("context-switch-2p")
    assert (instructions, cycles) == run.per_unit("context-switch-8p")
    assert instructions == run.per_iteration("context-switch-2p").instructions / 2 - run.per_iteration(
        "pipe-1p").instructions


def executed(run: GuestRun, name: str) -> Counter[str]:
    run.loop(name, 1)
    return Counter(traced.operation.name for traced in trace_operations(run, name))


def test_a_page_fault_is_seven_operations(image: GuestImage) -> None:
    """Each of the 64 pages, and two more when it is unmapped; a mapping that is not touched has neither."""
    run = GuestRun(settings(image, "native")[0], "indirect")
    touched = executed(run, "page-fault")
    touched.subtract(executed(run, "mmap-munmap"))
    assert {name: count / 64 for name, count in touched.items() if count} == {
        "read_cr2": 1, "irq_enable": 2, "irq_disable": 2, "set_pte_at": 1 + 1, "iret": 1, "pte_update": 1}


def test_the_documented_figures_are_those_that_are_counted(image: GuestImage) -> None:
    """Per unit; of a page fault, beyond the mapping."""
    run = GuestRun(settings(image, "native")[0], "indirect")
    table = [line.split("|")[1:4] for line in DOCUMENT.read_text().splitlines() if line.startswith("| ")]
    checked = 0
    for names, operations, interrupts in table[1:]:
        for name in re.findall(r"[a-z]+(?:-[a-z0-9]+)*", names.replace(", a hop", "").replace(", a page", "")):
            row = image.benchmarks[name]
            counted = executed(run, name)
            if name == "page-fault":
                counted.subtract(executed(run, row.baseline))
            groups = {operation.name: operation.group for operation in image.era.operations}
            irq = sum(count for each, count in counted.items() if groups[each] in INTERRUPT_GROUPS)
            assert (sum(counted.values()) / row.units, irq / row.units) == (int(operations), int(interrupts)), name
            checked += 1
    assert checked >= 12
