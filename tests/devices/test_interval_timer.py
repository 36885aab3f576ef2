"""The interval timer: ticks at the exact modelled cycle, however a run is cut up, and again from a snapshot."""

import pytest

import pvfast
from pvfast.assembly import assemble
from pvfast.devices import Device, IntervalTimer, SavedDevice, TimedDevice

VECTOR, PORT = 0x20, 0x70
CODE, IDT, GDT, STACK, TICKS = 0x1000, 0x2000, 0x4000, 0x8000, 0x9000

COUNT_TICKS = f"""
handler:
    incl {TICKS}
    rdtsc
    movl %eax, {TICKS} + 4
    iret
"""
LOOP = """
    sti
    movl $400, %ecx
again:
    imull %ecx, %eax
    movl %eax, 0x9100
    rep; movsb
    movl $400, %ecx
    decl %ebx
    jnz again
    cli
    hlt
"""
SLEEP = """
    sti
again:
    hlt
    decl %ebx
    jnz again
    cli
    hlt
"""


def machine_with(body: str) -> pvfast.Machine:
    program = assemble(f"{body}\n{COUNT_TICKS}", CODE)
    machine = pvfast.Machine(ram="1M")
    machine.write(CODE, program.code)
    handler = program.labels["handler"]
    machine.write(IDT + 8 * VECTOR, handler.to_bytes(2, "little") + bytes.fromhex("0800 008e 0000"))
    machine.install_flat_gdt(GDT)
    machine.cpu.idtr = (IDT, 0x7FF)
    machine.cpu.esp, machine.cpu.eip, machine.cpu.ebx = STACK, CODE, 40
    machine.cpu.esi, machine.cpu.edi = 0xA000, 0xB000
    return machine


def word(machine: pvfast.Machine, address: int) -> int:
    return int.from_bytes(machine.read(address, 4), "little")


def outcome(machine: pvfast.Machine) -> tuple[object, ...]:
    return machine.cpu.registers(), machine.counters.as_dict(), machine.read(TICKS, 8)


def finish(machine: pvfast.Machine, step: int | None) -> None:
    if step is None:
        assert machine.run(max_instructions=1_000_000).reason is pvfast.StopReason.HALT
        return
    for _ in range(1_000_000):
        if machine.run(max_instructions=step).reason is pvfast.StopReason.HALT:
            return
    pytest.fail("the guest does not come to its end")


def test_is_a_device() -> None:
    timer = IntervalTimer(VECTOR)
    assert isinstance(timer, Device)
    assert isinstance(timer, TimedDevice)
    assert isinstance(timer, SavedDevice)


def test_hlt_wakes_exactly_at_the_cycle_of_the_event() -> None:
    machine = machine_with(SLEEP)
    timer = IntervalTimer(VECTOR, 50_000)
    timer.connect(machine)
    handler = assemble(f"{SLEEP}\n{COUNT_TICKS}", CODE).labels["handler"]
    # The cost of taking the interrupt comes behind the event: measure it from one injected at a known cycle.
    machine.run(max_instructions=2)
    assert machine.cpu.halted
    asleep = machine.snapshot()
    before_cycles = machine.counters.cycles
    machine.inject_interrupt(VECTOR)
    machine.run(until=handler)
    delivery_cycles = machine.counters.cycles - before_cycles
    machine.restore(asleep)
    machine.run(until=handler)
    assert machine.counters.cycles == 50_000 + delivery_cycles
    assert machine.counters.instructions == 2


def test_sleeping_costs_no_instructions() -> None:
    counts = []
    for period_cycles in (10_000, 10_000_000_000):
        machine = machine_with(SLEEP)
        IntervalTimer(VECTOR, period_cycles).connect(machine)
        finish(machine, None)
        assert word(machine, TICKS) == 40
        assert 40 * period_cycles <= machine.counters.cycles < 41 * period_cycles
        counts.append(machine.counters.instructions)
    assert counts[0] == counts[1]


@pytest.mark.parametrize("body", [LOOP, SLEEP], ids=["loop", "sleep"])
@pytest.mark.parametrize("period_cycles", [2_000, 3_333, 12_347])
@pytest.mark.parametrize("step", [1, 2, 7, 1000])
def test_counts_do_not_depend_on_how_the_run_is_cut(body: str, period_cycles: int, step: int) -> None:
    outcomes = []
    for size in (None, step):
        machine = machine_with(body)
        timer = IntervalTimer(VECTOR, period_cycles)
        timer.connect(machine)
        finish(machine, size)
        assert timer.ticks >= word(machine, TICKS) > 0
        outcomes.append((outcome(machine), timer.save()))
    assert outcomes[0] == outcomes[1]


def test_a_tick_waits_for_if_and_the_next_ones_are_lost() -> None:
    machine = machine_with("again: decl %ebx; jnz again; sti; nop; nop; cli; hlt")
    machine.cpu.ebx = 20_000
    timer = IntervalTimer(VECTOR, 5_000)
    timer.connect(machine)
    finish(machine, None)
    assert timer.ticks > 2
    assert 1 <= word(machine, TICKS) <= 2


def test_a_restored_machine_ticks_again_at_the_same_cycles() -> None:
    machine = machine_with(LOOP)
    timer = IntervalTimer(VECTOR, 3_000)
    timer.connect(machine)
    machine.run(max_instructions=777)
    state = machine.snapshot()
    finish(machine, None)
    first = outcome(machine), timer.save()
    machine.restore(state)
    finish(machine, 5)
    assert (outcome(machine), timer.save()) == first


@pytest.mark.parametrize("step", [None, 1, 3])
def test_the_guest_sets_the_period_through_the_port(step: int | None) -> None:
    machine = machine_with(f"movl $4000, %eax; outl %eax, ${PORT}; inl ${PORT}, %eax; movl %eax, 0x9200; {SLEEP}")
    timer = IntervalTimer(VECTOR)
    timer.connect(machine, PORT)
    finish(machine, step)
    assert word(machine, 0x9200) == timer.period_cycles == 4000
    assert word(machine, TICKS) == 40
    assert 160_000 <= machine.counters.cycles < 170_000


@pytest.mark.parametrize("step", [None, 1, 3])
def test_a_timer_started_by_the_guest_interrupts_a_loop(step: int | None) -> None:
    machine = machine_with(f"sti; movl $4000, %eax; outl %eax, ${PORT}; movl $20000, %ecx; "
                           "again: decl %ecx; jnz again; cli; hlt")
    IntervalTimer(VECTOR).connect(machine, PORT)
    finish(machine, step)
    assert word(machine, TICKS) >= 5


def test_the_guest_stops_the_timer_through_the_port() -> None:
    machine = machine_with(f"xorl %eax, %eax; outl %eax, ${PORT}; sti; hlt")
    IntervalTimer(VECTOR, 100_000).connect(machine, PORT)
    assert machine.run(max_instructions=1000).reason is pvfast.StopReason.HALT
    assert word(machine, TICKS) == 0


@pytest.mark.parametrize("arguments", [(256,), (-1,), (0x20, -1)])
def test_refuses_what_makes_no_sense(arguments: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"not 0-255|use 0 to stop"):
        IntervalTimer(*arguments)
