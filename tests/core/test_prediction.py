"""Branch prediction, which a processor model charges for (core/prediction.pxi)."""
from __future__ import annotations

from dataclasses import fields, replace

import pytest

import pvfast
from pvfast.assembly import assemble
from pvfast.errors import ArgumentError, SnapshotError
from pvfast.processor import MAX_CYCLES, Model, load_model
from pvfast.processor.prediction import MAX_RETURNS, MAX_TARGETS, Prediction

MODEL = load_model("pentium4")
CYCLES = {name: cost.cycles for name, cost in MODEL.cycles.items()}
PENALTY = 20        # of each kind in this model


def mispredicted(source: str, *static: str, **registers: int) -> float:
    """Wrong guesses of a program that ends at `done`: its cycles beyond those of the named classes."""
    code = assemble(source, 0x1000)
    machine = pvfast.Machine(ram="64K", processor=MODEL)
    machine.write(0x1000, code.code)
    machine.cpu.eip, machine.cpu.esp = 0x1000, 0x8000
    for name, value in registers.items():
        setattr(machine.cpu, name, value)
    assert machine.run(until=code.labels["done"], max_instructions=100_000).reason.name == "UNTIL"
    return machine.counters.cycles - sum(CYCLES[name] for name in static)


class Branches:
    """A machine that executes one branch at a time, wherever a test wants it."""

    def __init__(self, model: Model = MODEL) -> None:
        self.machine = pvfast.Machine(ram="64K", processor=model)
        self.machine.cpu.esp = 0x8000

    def is_wrong(self, cost: str, source: str, at: int) -> bool:
        """Execute an instruction of a cost class; whether the guess was wrong, where it went."""
        self.machine.write(at, assemble(source, at).code)
        self.machine.cpu.eip = at
        before = self.machine.counters.cycles
        self.machine.step()
        extra = self.machine.counters.cycles - before - self.machine.processor.cycles[cost].cycles
        assert extra in (0, PENALTY)
        return extra == PENALTY

    def jump_is_wrong(self, at: int, target: int) -> bool:
        """An indirect jump."""
        self.machine.cpu.eax = target
        return self.is_wrong("jump_indirect", "jmp *%eax", at)

    def branch_is_wrong(self, at: int, taken: bool) -> bool:
        """A conditional branch."""
        self.machine.cpu.eflags = 2 | taken << 6
        return self.is_wrong("branch", "jz .+0x10", at)


def test_a_loop_is_wrong_at_its_first_and_its_last_turn() -> None:
    """The counter begins at "weakly not taken"."""
    events = mispredicted("again: decl %ecx; jnz again; done: nop", *["alu", "branch"] * 100, ecx=100)
    assert events == 2 * PENALTY


def test_a_branch_that_alternates_is_wrong_half_the_time() -> None:
    source = "again: testl $1, %ecx; jz 1f; nop; 1: decl %ecx; jnz again; done: nop"
    events = mispredicted(source, *["alu", "branch", "alu", "branch"] * 100, *["nop"] * 50, ecx=100)
    assert events == (2 + 100) * PENALTY        # the two-bit counter goes up and down between 1 and 2


def test_a_counter_holds_three_times_taken() -> None:
    """After them it takes two turns not taken to change its mind."""
    branches = Branches()
    taken = (True, True, True, False, True, False, False, True)
    wrong = (True, False, False, True, False, True, True, True)
    assert tuple(branches.branch_is_wrong(0x1000, turn) for turn in taken) == wrong


def test_there_are_4096_counters_by_address() -> None:
    branches = Branches()
    assert branches.branch_is_wrong(0x1000, taken=True)
    for distance in (1 << n for n in range(4, 12)):         # a branch is as long as 2 bytes
        assert branches.branch_is_wrong(0x1000 + distance, taken=True), distance
    assert not branches.branch_is_wrong(0x2000, taken=True)


@pytest.mark.parametrize("instruction", ["loop .+0x10", "jecxz .+0x10"])
def test_loop_and_jecxz_are_conditional_branches(instruction: str) -> None:
    branches = Branches()
    taken = []
    for _ in range(2):
        branches.machine.cpu.ecx = 2 if instruction.startswith("loop") else 0
        taken.append(branches.is_wrong("loop", instruction, 0x1000))
        assert branches.machine.cpu.eip == 0x1010
    assert taken == [True, False]


@pytest.mark.parametrize(("depth", "wrong"), [(1, 0), (16, 0), (17, 1), (32, 16)])
def test_returns_beyond_the_depth_of_the_return_stack(depth: int, wrong: int) -> None:
    """A ring of 16: the first returns are right, those whose calls were overwritten are not."""
    calls = "".join(f"f{n}: call f{n + 1}\nret\n" for n in range(depth - 1))
    source = f"call f0\njmp done\n{calls}f{depth - 1}: ret\ndone: nop"
    events = mispredicted(source, *["call", "ret"] * depth, "jump")
    assert events == wrong * PENALTY


def test_a_return_that_goes_elsewhere_is_wrong() -> None:
    """However many calls the return stack holds; the next one is right."""
    source = "call f\nback: jmp done\nf: call g\nnop\ng: movl $elsewhere, (%esp)\nret\nelsewhere: ret\ndone: nop"
    assert mispredicted(source, "call", "call", "mov", "ret", "ret", "jump") == PENALTY


def test_jumps_are_not_on_the_return_stack() -> None:
    code = "call f\njmp done\nf: jmp *%eax\ng: jmp h\nh: ret\ndone: nop"
    events = mispredicted(code, "call", "jump_indirect", "jump", "ret", "jump", eax=assemble(code, 0x1000).labels["g"])
    assert events == PENALTY        # of the indirect jump, which has never been seen


def test_the_same_target_is_right_from_the_second_time_on() -> None:
    source = "again: call *%edx; decl %ecx; jnz again; jmp done; f: ret; done: nop"
    code = assemble(source, 0x1000)
    events = mispredicted(source, *["call_indirect", "ret", "alu", "branch"] * 10, "jump", ecx=10,
                          edx=code.labels["f"])
    assert events == (1 + 2) * PENALTY


def test_two_targets_in_turn_are_always_wrong() -> None:
    source = "again: call *%edx; xchgl %edx, %ebx; decl %ecx; jnz again; jmp done; f: ret; g: ret; done: nop"
    labels = assemble(source, 0x1000).labels
    events = mispredicted(source, *["call_indirect", "ret", "mov", "alu", "branch"] * 10, "jump", ecx=10,
                          edx=labels["f"], ebx=labels["g"])
    assert events == (10 + 2) * PENALTY


def test_a_set_of_the_branch_target_buffer_holds_four_branches() -> None:
    """Five indirect jumps whose addresses fall into one of its 1024 sets push each other out."""
    def jumps(count: int) -> int:
        machine = pvfast.Machine(ram="64K", processor=MODEL)
        for n in range(count):      # movl $next, %eax; jmp *%eax: the last goes to the first
            after = 0x1000 + 0x400 * ((n + 1) % count)
            machine.write(0x1000 + 0x400 * n, b"\xb8" + after.to_bytes(4, "little") + b"\xff\xe0")
        machine.cpu.eip = 0x1000
        machine.run(max_instructions=2 * count * 10)
        return machine.counters.cycles - 10 * count * (CYCLES["mov"] + CYCLES["jump_indirect"])
    assert jumps(4) == 4 * PENALTY
    assert jumps(5) == 50 * PENALTY


SET = [0x1000 + 0x400 * n for n in range(5)]
"""Places whose branches are in one set."""


def test_a_branch_knows_its_own_target_only() -> None:
    """Not that of another branch of its set."""
    branches = Branches()
    assert all(branches.jump_is_wrong(at, 0x4000) for at in SET)


@pytest.mark.parametrize("target", [0x4000, 0x5000])
def test_the_least_recently_used_branch_is_forgotten(target: int) -> None:
    """A use counts whether it was right or wrong."""
    branches = Branches()
    first, second, third, fourth, fifth = SET
    for at in (first, second, third, fourth):
        branches.jump_is_wrong(at, 0x4000)
    assert branches.jump_is_wrong(first, target) == (target != 0x4000)
    branches.jump_is_wrong(fifth, 0x4000)
    assert not branches.jump_is_wrong(first, target)
    assert branches.jump_is_wrong(second, 0x4000)


def test_retpolines_have_no_prediction_of_indirect_branches() -> None:
    assert load_model("skylake-retpoline").prediction.target_sets == 0
    code = assemble("call *%edx; f: popl %eax; done: nop", 0x1000)
    machine = pvfast.Machine(ram="64K", processor="skylake-retpoline")
    machine.write(0x1000, code.code)
    machine.cpu.eip, machine.cpu.esp, machine.cpu.edx = 0x1000, 0x8000, code.labels["f"]
    machine.run(until=code.labels["done"])
    cycles = machine.processor.cycles
    assert machine.counters.cycles == cycles["call_indirect"].cycles + cycles["pop"].cycles


def test_the_return_from_a_retpolines_call_is_right() -> None:
    code = "call *%edx; jmp done; f: ret; done: nop"
    machine = pvfast.Machine(ram="64K", processor="skylake-retpoline")
    assembly = assemble(code, 0x1000)
    machine.write(0x1000, assembly.code)
    machine.cpu.eip, machine.cpu.esp, machine.cpu.edx = 0x1000, 0x8000, assembly.labels["f"]
    machine.run(until=assembly.labels["done"])
    cycles = machine.processor.cycles
    assert machine.counters.cycles == sum(cycles[name].cycles for name in ("call_indirect", "ret", "jump"))


def test_a_call_that_faults_is_no_branch() -> None:
    """It is judged neither where its handler is nor when it runs again, and the return stack does not see it."""
    machine = pvfast.Machine(ram="64K", processor=MODEL)
    code = assemble("call *0x20000\nhlt", 0x1000)       # memory that is not there reads as ones
    machine.write(0x1000, code.code)
    machine.cpu.eip, machine.cpu.esp = 0x1000, 0x2
    machine.cpu.ss.set(0x10, 0, 0xFFF, 0x4093)          # a push at 2 would wrap below the segment
    assert machine.run(max_instructions=10).reason.name == "SHUTDOWN"
    assert machine.counters.cycles == 0


def test_a_snapshot_holds_what_was_learned() -> None:
    """Of branches, targets and returns; a machine that has learned something else, or nothing, knows it then."""
    def learn(branches: Branches, target: int, taken: bool) -> None:
        branches.is_wrong("call", f"call {target}", 0x1000)
        for _ in range(3):
            branches.jump_is_wrong(0x2000, target)
            branches.branch_is_wrong(0x3000, taken)

    taught, other = Branches(), Branches()
    learn(taught, 0x4000, taken=True)
    state = taught.machine.snapshot()
    learn(taught, 0x5000, taken=False)
    for branches in (taught, other):
        branches.machine.restore(state)
        assert not branches.jump_is_wrong(0x2000, 0x4000)
        assert not branches.branch_is_wrong(0x3000, taken=True)
        assert not branches.is_wrong("ret", "ret", 0x6000)
        assert branches.machine.cpu.eip == 0x1005


@pytest.mark.parametrize("other", ["k8", "generic", load_model("pentium4").with_costs(cli=20)])
def test_a_snapshot_of_another_model_is_refused(other: str | Model) -> None:
    machine = pvfast.Machine(ram="64K", processor=other)
    with pytest.raises(SnapshotError, match="another processor model"):
        machine.restore(pvfast.Machine(ram="64K", processor=MODEL).snapshot())
    machine.restore(pvfast.Machine(ram="64K", processor=other).snapshot())


@pytest.mark.parametrize("wrong", [
    {"targets": (1 << 24, "x")}, {"targets": (MAX_TARGETS * 2, "x")}, {"targets": (96, "x")}, {"targets": (6, "x")},
    {"ways": (0, "x")}, {"ways": (3, "x")}, {"targets": (0, "x"), "ways": (0, "x")}, {"ways": (MAX_TARGETS * 2, "x")},
    {"return_stack": (MAX_RETURNS + 1, "x")}, {"conditional": (MAX_CYCLES + 1, "x")}, {"returned": (-1, "x")},
    {"indirect": (20.0, "x")}, {"indirect": 20}, {"indirect": (20,)}, {"indirect": (20, None)},
])
def test_a_prediction_that_the_core_cannot_make_is_refused(wrong: dict[str, object]) -> None:
    assert MODEL.prediction is not None
    with pytest.raises(ArgumentError, match="="):
        replace(MODEL.prediction, **wrong)


@pytest.mark.parametrize(("targets", "ways", "depth"), [
    (MAX_TARGETS, 1, MAX_RETURNS), (MAX_TARGETS, MAX_TARGETS, 1), (1, 1, 0), (0, 4, 0)])
def test_the_largest_and_the_smallest_prediction(targets: int, ways: int, depth: int) -> None:
    numbers = {"targets": targets, "ways": ways, "return_stack": depth}
    prediction = Prediction(**{field.name: (numbers.get(field.name, PENALTY), "x") for field in fields(Prediction)})
    branches = Branches(replace(MODEL, prediction=prediction))
    assert branches.jump_is_wrong(0x1000, 0x4000) == bool(targets)
    assert not branches.jump_is_wrong(0x1000, 0x4000)
    branches.is_wrong("call", "call 0x4000", 0x2000)
    assert branches.is_wrong("ret", "ret", 0x6000) == (depth == 0)
