"""Branch prediction and the other events that a processor model charges for (core/prediction.pxi)."""
from __future__ import annotations

import pytest

import pvfast
from pvfast.assembly import assemble
from pvfast.processor import load_model

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


def test_a_loop_is_wrong_at_its_first_and_its_last_turn() -> None:
    """The counter begins at "weakly not taken"."""
    events = mispredicted("again: decl %ecx; jnz again; done: nop", *["alu", "branch"] * 100, ecx=100)
    assert events == 2 * PENALTY


def test_a_branch_that_alternates_is_wrong_half_the_time() -> None:
    source = "again: testl $1, %ecx; jz 1f; nop; 1: decl %ecx; jnz again; done: nop"
    events = mispredicted(source, *["alu", "branch", "alu", "branch"] * 100, *["nop"] * 50, ecx=100)
    assert events == (2 + 100) * PENALTY        # the two-bit counter goes up and down between 1 and 2


@pytest.mark.parametrize(("depth", "wrong"), [(1, 0), (16, 0), (17, 1), (32, 16)])
def test_returns_beyond_the_depth_of_the_return_stack(depth: int, wrong: int) -> None:
    """A ring of 16: the first returns are right, those whose calls were overwritten are not."""
    calls = "".join(f"f{n}: call f{n + 1}\nret\n" for n in range(depth - 1))
    source = f"call f0\njmp done\n{calls}f{depth - 1}: ret\ndone: nop"
    events = mispredicted(source, *["call", "ret"] * depth, "jump")
    assert events == wrong * PENALTY


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


def test_retpolines_have_no_prediction_of_indirect_branches() -> None:
    assert load_model("skylake-retpoline").prediction.target_sets == 0
    code = assemble("call *%edx; f: popl %eax; done: nop", 0x1000)
    machine = pvfast.Machine(ram="64K", processor="skylake-retpoline")
    machine.write(0x1000, code.code)
    machine.cpu.eip, machine.cpu.esp, machine.cpu.edx = 0x1000, 0x8000, code.labels["f"]
    machine.run(until=code.labels["done"])
    cycles = machine.processor.cycles
    assert machine.counters.cycles == cycles["call_indirect"].cycles + cycles["pop"].cycles


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
    """Each run from it is wrong as often as the first, and one in another machine too."""
    source = "again: call f; decl %ecx; jnz again; jmp done; f: ret; done: nop"
    code = assemble(source, 0x1000)
    machine, other = (pvfast.Machine(ram="64K", processor=MODEL) for _ in range(2))
    machine.write(0x1000, code.code)
    machine.cpu.eip, machine.cpu.esp, machine.cpu.ecx = 0x1000, 0x8000, 50
    state = machine.snapshot()
    cycles = []
    for each in (machine, machine, other):
        each.restore(state)
        each.run(until=code.labels["done"])
        cycles.append(each.counters.cycles)
    assert cycles[0] == cycles[1] == cycles[2]
    assert cycles[0] > 50 * sum(CYCLES[name] for name in ("call", "ret", "alu", "branch")) + PENALTY
