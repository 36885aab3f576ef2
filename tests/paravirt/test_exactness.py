"""One run equals pieces of any size, under every hypervisor: the same counters, registers, memory and host state.

The hosts work between the guest's instructions and charge for it there, so nothing may depend on where blocks are cut:
not under a model that predicts branches and charges for TLB misses either, and not while a timer interrupts.
"""

import hashlib
import random
from typing import Any

import pytest

from pvfast import Machine, PvfastError, StopReason
from pvfast.devices import IntervalTimer
from pvfast.experiments import GuestRun, settings
from pvfast.guest import build
from pvfast.paravirt.hypervisors import hypervisor, hypervisor_names

WORKLOADS = ("context-switch-2p", "fork-exec", "protection-fault", "page-fault")
TIMER = 0x20
PERIODS = {"generic": 25_013, "pentium4": 60_013}
"""Cycles between two ticks: more than a tick takes under any hypervisor."""
INSTRUCTIONS = 300_000
PIECES = {"single steps": (1,), "pieces": (1, 2, 3, 5, 17, 100, 1000)}


def begin(name: str, processor: str, form: str, workload: str) -> tuple[GuestRun, IntervalTimer]:
    run = GuestRun(settings(build(), name)[0], form, processor)
    timer = IntervalTimer(TIMER, PERIODS[processor])
    timer.connect(run.machine)
    run.enter(workload, 2)
    return run, timer


def go(run: GuestRun, machine: Machine, rng: random.Random, pieces: tuple[int, ...], budget: int) -> StopReason:
    """Use up to so many instructions, in pieces."""
    reason = StopReason.BUDGET
    while budget and reason is StopReason.BUDGET:
        piece = min(budget, rng.choice(pieces))
        reason = machine.run(until=run.image.labels["bench_done"], max_instructions=piece).reason
        budget -= piece
    return reason


def state(machine: Machine) -> tuple[Any, ...]:
    return (machine.counters.as_dict(), machine.cpu.registers(), hashlib.sha256(machine.ram.tobytes()).digest(),
            machine.hypervisor.save())


@pytest.mark.parametrize("processor", PERIODS)
@pytest.mark.parametrize("name", hypervisor_names())
def test_one_run_equals_pieces(name: str, processor: str) -> None:
    ticks = 0
    for workload in WORKLOADS:
        rng = random.Random(f"{name}/{processor}/{workload}")
        form = rng.choice(("indirect", "patched"))
        whole, timer = begin(name, processor, form, workload)
        assert go(whole, whole.machine, rng, (INSTRUCTIONS,), INSTRUCTIONS) is StopReason.UNTIL
        ticks += timer.ticks
        for kind, pieces in PIECES.items():
            run, _ = begin(name, processor, form, workload)
            assert go(run, run.machine, rng, pieces, INSTRUCTIONS) is StopReason.UNTIL
            assert state(run.machine) == state(whole.machine), f"{workload}, {form}, {kind}"
    assert ticks > 3


@pytest.mark.parametrize("processor", PERIODS)
@pytest.mark.parametrize("name", hypervisor_names())
def test_a_snapshot_anywhere_changes_nothing(name: str, processor: str) -> None:
    """A run goes on from it in the same machine after it has gone elsewhere, and in another one."""
    rng = random.Random(f"{name}/{processor}")
    whole, _ = begin(name, processor, "indirect", "fork-exec")
    first = whole.machine.counters.instructions
    go(whole, whole.machine, rng, (INSTRUCTIONS,), INSTRUCTIONS)
    length = whole.machine.counters.instructions - first
    for _ in range(2):
        run, _ = begin(name, processor, "indirect", "fork-exec")
        machine = run.machine
        go(run, machine, rng, (1000,), rng.randrange(length))
        taken = machine.snapshot()
        go(run, machine, rng, (1000,), rng.randrange(3000))
        machine.restore(taken)
        assert go(run, machine, rng, (1000,), INSTRUCTIONS) is StopReason.UNTIL
        assert state(machine) == state(whole.machine)
        if name == "vmi":       # whose host moves one kernel out of ring 0, in one machine
            continue
        other = Machine(ram=len(machine.ram), processor=processor, hypervisor=hypervisor(name))
        IntervalTimer(TIMER).connect(other)
        other.restore(taken)
        assert go(run, other, rng, (1000,), INSTRUCTIONS) is StopReason.UNTIL
        assert state(other) == state(whole.machine)


@pytest.mark.parametrize("name", [name for name in hypervisor_names() if name != "native"])
def test_a_snapshot_that_is_refused_changes_nothing(name: str) -> None:
    machine = begin(name, "generic", "indirect", "fork-exec")[0].machine
    before = state(machine)
    with pytest.raises(PvfastError):
        machine.restore(Machine(ram=len(machine.ram), hypervisor=hypervisor("native")).snapshot())
    assert state(machine) == before


def test_a_kernel_out_of_ring_0_does_not_go_to_a_machine_where_that_has_not_happened() -> None:
    machine = Machine(ram="16M", hypervisor=hypervisor("vmi"))
    before = state(machine)
    with pytest.raises(PvfastError, match="out of ring 0"):
        machine.restore(begin("vmi", "generic", "indirect", "fork-exec")[0].machine.snapshot())
    assert state(machine) == before
