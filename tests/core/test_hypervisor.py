"""Hypervisors written in Python, on the core's base class."""

import pytest

import pvfast
from pvfast.core.engine import HypervisorBase
from tests.core.protected import CODE, World

HLT = "f4"


class Recorder(HypervisorBase):
    """Writes down every event; `answers` says for which vectors that was all."""

    def __init__(self, *answers: int) -> None:
        self.answers = set(answers)
        self.seen: list[tuple[int, int | None, bool, int]] = []

    def interrupt(self, machine, vector, error, software):
        self.seen.append((vector, error, software, machine.cpu.eip))
        if vector == 6 and vector in self.answers:
            machine.cpu.eip += 2                        # over the UD2
        return vector in self.answers


def run(code: str, hypervisor: HypervisorBase | None, **limits) -> pvfast.Machine:
    machine = pvfast.Machine(ram="1M", hypervisor=hypervisor)
    machine.write(0x1000, bytes.fromhex(code))
    machine.cpu.eip, machine.cpu.esp = 0x1000, 0x9000
    machine.stop_seen = machine.run(**{"max_instructions": 100, **limits})
    return machine


def test_software_interrupts_are_offered_behind_the_instruction() -> None:
    recorder = Recorder(0x21)
    machine = run("cd21 40 cd21" + HLT, recorder)
    assert recorder.seen == [(0x21, None, True, 0x1002), (0x21, None, True, 0x1005)]
    assert machine.stop_seen.reason is pvfast.StopReason.HALT
    assert machine.counters.as_dict()["instructions"] == 4
    assert machine.counters.exits == 2
    assert machine.counters.interrupts == 2


def test_exceptions_are_offered_at_the_instruction() -> None:
    recorder = Recorder(6)
    machine = run("0f0b 40" + HLT, recorder)
    assert recorder.seen == [(6, None, False, 0x1000)]
    assert machine.cpu.eax == 1


def test_external_interrupts_are_offered() -> None:
    recorder = Recorder(0x30)
    machine = pvfast.Machine(ram="1M", hypervisor=recorder)
    machine.write(0x1000, bytes.fromhex("9090" + HLT))
    machine.cpu.eip, machine.cpu.eflags = 0x1000, 0x200
    machine.inject_interrupt(0x30)
    assert machine.run(max_instructions=100).reason is pvfast.StopReason.HALT
    assert recorder.seen == [(0x30, None, False, 0x1000)]


def test_single_steps_are_offered_once_each() -> None:
    """nop; nop; hlt: dealing with a trap does away with it, wherever the hypervisor lets the guest go on."""
    recorder = Recorder(1)
    machine = pvfast.Machine(ram="1M", hypervisor=recorder)
    machine.write(0x1000, bytes.fromhex("9090" + HLT))
    machine.cpu.eip, machine.cpu.eflags = 0x1000, 0x100
    assert machine.run(max_instructions=100).reason is pvfast.StopReason.HALT
    assert [(vector, eip) for vector, _, _, eip in recorder.seen] == [(1, 0x1001), (1, 0x1002), (1, 0x1003)]


def test_what_is_declined_goes_through_the_idt() -> None:
    """No IDT: #GP, #DF and shutdown, each of them offered, and the counters as on bare hardware."""
    recorder = Recorder()
    machine, bare = run("90 cd21", recorder), run("90 cd21", None)
    assert [(vector, error) for vector, error, _, _ in recorder.seen][:2] == [(0x21, None), (13, 0x21 * 8 + 2)]
    assert recorder.seen[-1][0] == 8
    assert machine.stop_seen.reason is bare.stop_seen.reason is pvfast.StopReason.SHUTDOWN
    assert machine.cpu.registers() == bare.cpu.registers()
    for name, value in bare.counters.as_dict().items():
        if name != "exits":
            assert machine.counters.as_dict()[name] == value, name


@pytest.mark.parametrize("code", ["cd30", "0f0b", "cc"])
def test_declined_events_arrive_as_on_bare_hardware(code: str) -> None:
    ends = []
    for recorder in (None, Recorder()):
        world = World()
        if recorder is not None:
            world.machine._plug(recorder)
        world.machine.write(CODE, bytes.fromhex("90" + code + HLT))
        world.cpu.eip = CODE
        stop = world.machine.run(max_instructions=50)
        counters = world.machine.counters.as_dict()
        counters.pop("exits")
        ends.append((stop.reason, world.cpu.registers(), counters))
    assert ends[0][0] is pvfast.StopReason.HALT
    assert ends[0] == ends[1]


def test_a_machine_has_one_hypervisor() -> None:
    machine = pvfast.Machine(ram="1M", hypervisor=Recorder())
    with pytest.raises(pvfast.PvfastError, match="already"):
        Recorder().attach(machine)


def test_a_base_without_a_method_is_bare_hardware() -> None:
    machine = run("cd21", HypervisorBase())
    assert machine.stop_seen.reason is pvfast.StopReason.SHUTDOWN
    assert machine.counters.exits == 0


def test_errors_in_a_hypervisor_reach_the_caller() -> None:
    class Broken(HypervisorBase):
        def interrupt(self, machine, vector, error, software):
            raise KeyError(vector)

    with pytest.raises(KeyError):
        run("cd21", Broken())


def test_a_hypervisor_is_part_of_snapshots() -> None:
    class Counting(Recorder):
        def save(self):
            return list(self.seen)

        def restore(self, state):
            self.seen = list(state)

    counting = Counting(0x21)
    machine = run("cd21 90 cd21 90 cd21" + HLT, counting, max_instructions=2)
    state = machine.snapshot()
    machine.run(max_instructions=100)
    assert len(counting.seen) == 3
    machine.restore(state)
    assert len(counting.seen) == 1
    machine.run(max_instructions=100)
    assert len(counting.seen) == 3
