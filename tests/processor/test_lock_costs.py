"""LOCK prefixes: the built-in kernel for several processors costs what the model says more than the one for one."""

from pvfast.experiments.runs import boot
from pvfast.guest import build
from pvfast.processor import load_model
from pvfast.processor.costs import COST_CLASSES

ITERATIONS = 10


def test_the_difference_is_what_the_model_says_of_a_lock() -> None:
    cycles, executed = {}, 0
    for smp in (True, False):
        image = build().with_smp_locks(smp)
        machine = boot(image, processor="pentium4")
        machine.cpu.eip, machine.cpu.ecx = image.benchmarks["null_syscall_int80"].address, ITERATIONS
        before = machine.counters.cycles
        while (at := machine.cpu.eip) != image.labels["bench_done"]:
            executed += smp and at in image.smp_locks
            machine.step()
        cycles[smp] = machine.counters.cycles - before
    cost = dict(zip(COST_CLASSES, load_model("pentium4").costs, strict=True))
    # The loop itself has no locks, but its process begins and ends. For one processor each is a NOP.
    assert executed
    assert cycles[True] - cycles[False] == executed * (cost["lock"] - cost["nop"])
