"""Runs a scenario in several ways and holds the results against each other and against what always has to be true.

Enters: a Scenario. Leaves: nothing, or `Violation`. Next: fuzz.py.

One run, pieces, single steps, `until`, and a run that goes back to a snapshot have to end in the same state; the guest
can write neither ROM nor the memory behind a device; counters only grow, and never by more than the budget.
"""
from __future__ import annotations

import contextlib
import random
from collections.abc import Iterable

import pvfast
from pvfast.core.engine import HypervisorBase, StopReason
from pvfast.errors import PvfastError

from .scenario import GENERAL, SEGMENTS, Scenario, descriptor

SCRATCH = 0xE0000000        # pages of RAM for the prologue: IDT, handler and code, then its GDT and its stack
HANDLER, CODE, GDT = SCRATCH + 0x800, SCRATCH + 0x900, SCRATCH + 0x1000
SCRATCH_BYTES = 0x3000
CODE_SELECTOR = 0xFF8       # behind the selectors of scenarios
RESERVED_FLAGS = ~0x3F7FD7 & 0xFFFFFFFF
STEPS = 400                 # runs of up to so many units are also made one by one
REGISTERS = tuple(name for name in dir(pvfast.Machine(ram=4096).cpu)
                  if not name.startswith("_") and name not in (*SEGMENTS, "registers", "fpu", "mm", "xmm"))
"""What can be read of a processor; `fxsave` stands for the registers of x87, MMX and SSE."""
NUMBERS = tuple(bytes.fromhex(text) for text in (
    "00000000000000000000", "0000000000000080ff3f", "00000000000000800080", "000000000000008000ff",
    "0000000000000080ff7f", "00000000000000c0ffff", "01000000000000a0ff7f", "01000000000000000000",
    "ffffffffffffffffff7f", "0000000000000000ff3f", "ffffffffffffffff1e40"))
"""Extended reals: zeros, one, least and greatest, infinities, NaNs, denormal, unnormal, not of any class."""


class Violation(AssertionError):
    """A property of the core that does not hold."""


class DeviceError(Exception):
    """What a wild device raises."""


class Device:
    """Reads are random; now and then it interrupts, writes memory, or, when wild, does what devices should not."""

    def __init__(self, machine: pvfast.Machine, scenario: Scenario, number: int) -> None:
        self.machine, self.scenario = machine, scenario
        self.rng = random.Random(f"{scenario.devices}/{number}")

    def read(self, offset: int, size: int) -> int:
        self.act()
        return self.rng.choice((0, 0xFFFFFFFF, self.rng.getrandbits(32)))

    def write(self, offset: int, size: int, value: int) -> None:
        self.act()

    def act(self) -> None:
        rng = self.rng
        kind = rng.random()
        if kind < 0.1:
            self.machine.inject_interrupt(rng.randrange(256))
        elif kind < 0.2 and self.scenario.memory:
            start, content = rng.choice(self.scenario.memory)
            address = start + rng.randrange(len(content))
            if not any(first <= address < first + size for first, size in self.scenario.rom + self.scenario.mmio):
                self.machine.write(address, rng.randbytes(1))
        elif self.scenario.wild and kind < 0.3:
            self.misbehave(rng.randrange(4))

    def misbehave(self, kind: int) -> None:
        if kind == 0:
            raise DeviceError
        if kind == 1:
            self.machine.stop()
        elif kind == 2:
            self.machine.cpu.eip = self.rng.randrange(self.scenario.ram)
        else:
            self.machine.cpu.eflags = self.rng.getrandbits(18) & 0xFFFF

    def save(self) -> object:
        return self.rng.getstate()

    def restore(self, state: object) -> None:
        self.rng.setstate(state)

    def next_event(self) -> int | None:
        return None

    def fire(self, machine: pvfast.Machine) -> None:
        """Never called."""


class Timer:
    """An interrupt every so many cycles."""

    def __init__(self, machine: pvfast.Machine, period: int, vector: int) -> None:
        self.period, self.vector = period, vector
        self.when = machine.counters.cycles + period

    def next_event(self) -> int:
        return self.when

    def fire(self, machine: pvfast.Machine) -> None:
        self.when = machine.counters.cycles + self.period
        machine.inject_interrupt(self.vector)

    def save(self) -> object:
        return self.when

    def restore(self, state: object) -> None:
        self.when = state


class Hypervisor(HypervisorBase):
    """Declines most events, swallows some, and moves the guest elsewhere now and then."""

    armed = False

    def __init__(self, scenario: Scenario) -> None:
        self.scenario = scenario
        self.rng = random.Random(scenario.devices)

    def interrupt(self, machine: pvfast.Machine, vector: int, error: int | None, software: bool) -> bool:
        kind = self.rng.random()
        if not self.armed or kind < 0.6:
            return False
        if kind < 0.8:
            machine.cpu.eip = self.rng.choice(self.scenario.memory)[0] if self.scenario.memory else 0
        return True

    def save(self) -> object:
        return self.rng.getstate()

    def restore(self, state: object) -> None:
        self.rng.setstate(state)


class Run:
    """A machine in the state that a scenario describes, and what has come of it."""

    def __init__(self, scenario: Scenario) -> None:
        self.scenario = scenario
        hypervisor = Hypervisor(scenario) if scenario.hypervisor else None
        self.machine = machine = pvfast.Machine(ram=scenario.ram, hypervisor=hypervisor)
        machine.map_ram(SCRATCH, SCRATCH_BYTES)
        for address, content in scenario.memory:
            machine.write(address, content)
        self.prologue()
        self.hidden = [(start, machine.read(start, size)) for start, size in scenario.mmio
                       if start + size <= scenario.ram]
        self.rom = [(start, machine.read(start, size)) for start, size in scenario.rom]
        for start, content in self.rom:
            machine.map_rom(start, content)
        self.devices = [Device(machine, scenario, number) for number in range(len(scenario.mmio) + 1)]
        for (start, size), device in zip(scenario.mmio, self.devices[1:], strict=True):
            machine.map_mmio(start, size, device)
        for port in scenario.ports:
            machine.intercept_port(port, self.devices[0])
        self.load()
        for device in self.devices:
            machine.attach(device)
        if scenario.timer:
            machine.attach(Timer(machine, *scenario.timer))
        if scenario.interrupt is not None:
            machine.inject_interrupt(scenario.interrupt)
        if hypervisor:
            hypervisor.armed = True
        self.ending = ""
        self.before = machine.counters.as_dict()

    def prologue(self) -> None:
        """LTR and LLDT of what the scenario says, then its own instructions, on tables of their own."""
        machine, cpu = self.machine, self.machine.cpu
        segments = self.scenario.segments
        cpu.gdtr, cpu.idtr = (GDT, 0xFFF), (SCRATCH, 0x7FF)
        machine.write(SCRATCH, (HANDLER & 0xFFFF | CODE_SELECTOR << 16 | (HANDLER >> 16 << 16 | 0x8E00) << 32)
                      .to_bytes(8, "little") * 256)
        machine.write(HANDLER, b"\xf4")
        machine.write(GDT + CODE_SELECTOR, descriptor(0, 0xFFFFF, 0x9B, 0xC))
        for name, code in (("tr", "0f00d8"), ("ldtr", "0f00d0")):
            if name in segments:
                selector, base, limit, attributes = segments[name]
                machine.write(GDT + (selector & 0xFF8), descriptor(base, limit, attributes & 0xFF, 0))
                self.execute(b"\xb8" + selector.to_bytes(4, "little") + bytes.fromhex(code))
        for code in self.scenario.prologue:
            self.execute(code)

    def execute(self, code: bytes) -> None:
        """Run it up to a HLT, behind it or in the handler of its fault."""
        self.machine.write(CODE, code + b"\xf4")
        self.machine.cpu.eip, self.machine.cpu.esp = CODE, SCRATCH + SCRATCH_BYTES
        self.machine.run(max_instructions=10)

    def load(self) -> None:
        """The registers. What the core refuses to be set is left as it is."""
        cpu, scenario = self.machine.cpu, self.scenario
        registers = dict(scenario.registers)
        order = [name for name in ("cr4", "cr3", "cr0") if name in registers]
        for name in order:
            with contextlib.suppress(PvfastError):
                setattr(cpu, name, registers.pop(name))
        with contextlib.suppress(PvfastError):      # V86 and CPL first, as far as they go together
            cpu.eflags = registers.get("eflags", 2)
        for name in SEGMENTS:
            if name in scenario.segments:
                with contextlib.suppress(PvfastError):
                    getattr(cpu, name).set(*scenario.segments[name])
        rng = random.Random(scenario.devices)
        for number in range(8):
            cpu.xmm[number] = rng.getrandbits(128)
            cpu.fpu[number] = rng.choice((*NUMBERS, rng.randbytes(10)))
        cpu.fpu.tags, cpu.fpu.status = rng.choice((0xFFFF, rng.getrandbits(16))), rng.getrandbits(16)
        cpu.fpu.control = rng.choice((0x37F, 0x37F, rng.getrandbits(16)))
        cpu.mxcsr = rng.choice((0x1F80, 0x1F80, rng.getrandbits(16)))
        for name, value in (*registers.items(), *scenario.tables.items()):
            with contextlib.suppress(PvfastError):
                setattr(cpu, name, tuple(value) if isinstance(value, list) else value)

    # --- Running --------------------------------------------------------------------------------------------------

    def go(self, budgets: Iterable[int], until: int | None = None) -> Run:
        """Run pieces until one ends for another reason than its budget. Errors of wild devices do not count."""
        for budget in budgets:
            try:
                stop = self.machine.run(until=until, max_instructions=budget)
            except DeviceError:
                self.invariants(budget)
                continue
            except PvfastError as error:
                self.ending = f"{type(error).__name__}: {error}"
                self.invariants(budget)
                break
            self.invariants(budget)
            self.ending = stop.reason.name
            if stop.reason is StopReason.SHUTDOWN and not 0 <= stop.vector <= 255:
                raise Violation(f"shutdown with vector {stop.vector}")
            if stop.reason not in (StopReason.BUDGET, StopReason.REQUESTED):
                break
        return self

    def invariants(self, budget: int) -> None:
        cpu, now = self.machine.cpu, self.machine.counters.as_dict()
        grown = {name: now[name] - self.before[name] for name in now}
        self.before = now
        if min(grown.values()) < 0:
            raise Violation(f"a counter went back: {grown}")
        if max(grown["instructions"], grown["iterations"], grown["interrupts"]) > budget:
            raise Violation(f"more than the budget of {budget}: {grown}")
        if cpu.eflags & RESERVED_FLAGS or not cpu.eflags & 2:
            raise Violation(f"eflags {cpu.eflags:#x}")
        if not 0 <= cpu.cpl <= 3:
            raise Violation(f"cpl {cpu.cpl}")
        for start, content in self.hidden:
            if self.machine.ram[start:start + len(content)].tobytes() != content:
                raise Violation(f"the memory behind the device at {start:#x} has been written")
        for start, content in self.rom:
            if self.machine.read(start, len(content)) != content:
                raise Violation(f"the ROM at {start:#x} has been written")

    def linear(self) -> int:
        return self.machine.cpu.cs.base + self.machine.cpu.eip & 0xFFFFFFFF

    def state(self) -> dict[str, object]:
        """All that can be seen of a machine."""
        machine, cpu = self.machine, self.machine.cpu
        state: dict[str, object] = {name: getattr(cpu, name) for name in REGISTERS}
        for name in SEGMENTS:
            view = getattr(cpu, name)
            state[name] = view.selector, view.base, view.limit, view.attributes
        state |= machine.counters.as_dict()
        state["fxsave"] = cpu.fxsave
        state["memory"] = machine.ram.tobytes()
        state["scratch"] = machine.read(SCRATCH, SCRATCH_BYTES)
        state["devices"] = [device.save() for device in self.devices]
        state["ending"] = self.ending
        return state


def compare(what: str, expected: dict[str, object], actual: dict[str, object]) -> None:
    found = []
    for name, value in expected.items():
        if value == actual[name]:
            continue
        if isinstance(value, bytes):
            at = next(i for i, (a, b) in enumerate(zip(value, actual[name], strict=True)) if a != b)
            found.append(f"{name} at {at:#x}: {value[at:at + 8].hex()} / {actual[name][at:at + 8].hex()}")
        elif isinstance(value, int) and not isinstance(value, bool):
            found.append(f"{name}: {value:#x} / {actual[name]:#x}")
        else:
            found.append(f"{name}: {str(value)[:60]} / {str(actual[name])[:60]}")
    if found:
        raise Violation(f"{what}: {'; '.join(found)}")


def pieces(rng: random.Random, budget: int) -> list[int]:
    """Random parts of a budget, some of them empty."""
    made = []
    while budget:
        made.append(min(budget, rng.choice((0, 1, 1, 2, 3, 7, 20, 100, budget))))
        budget -= made[-1]
    return made


def check(scenario: Scenario, rng: random.Random) -> str:
    """Run a scenario in two or more ways; returns how it ended. Raises Violation."""
    parts = pieces(rng, scenario.budget)
    first = Run(scenario).go(parts)
    expected = first.state()
    kind = rng.random()
    if scenario.wild or kind < 0.2:
        compare("the same again", expected, Run(scenario).go(parts).state())
    if scenario.wild:
        return first.ending
    whole = Run(scenario).go([scenario.budget])
    compare("pieces and one run", expected, whole.state())
    if kind < 0.4:
        rewound(scenario, rng, expected)
    elif kind < 0.7 and scenario.budget <= STEPS:
        stepped(scenario, rng, expected)
    return first.ending


def rewound(scenario: Scenario, rng: random.Random, expected: dict[str, object]) -> None:
    """Back to a snapshot in the middle, after something else has happened."""
    middle = rng.randrange(scenario.budget)
    run = Run(scenario).go([middle])
    if run.ending not in ("BUDGET", ""):
        return
    before, state, counters = run.state(), run.machine.snapshot(), run.before
    run.go([rng.choice((1, 10, 300))])
    run.machine.restore(state)
    run.before = counters
    run.ending = before["ending"]
    compare("a state and its snapshot", before, run.state())
    compare("one run and one with a detour", expected, run.go([scenario.budget - middle]).state())


def stepped(scenario: Scenario, rng: random.Random, expected: dict[str, object]) -> None:
    """Single steps, then a run to an address on their way."""
    run = Run(scenario)
    way = [run.linear()]
    states = {way[0]: run.state()}
    wanted = {rng.randrange(scenario.budget) for _ in range(3)}
    for number in range(scenario.budget):
        run.go([1])
        if run.ending != "BUDGET":
            break
        way.append(run.linear())
        if number in wanted:
            states.setdefault(way[-1], run.state()) if way.index(way[-1]) == len(way) - 1 else None
    compare("one run and single steps", expected, run.state())
    for until, state in states.items():
        other = Run(scenario).go([scenario.budget], until)
        if other.ending != "UNTIL":
            raise Violation(f"until {until:#x} ended with {other.ending}")
        compare(f"steps and until {until:#x}", state | {"ending": "UNTIL"}, other.state())


__all__ = ["GENERAL", "Run", "Violation", "check"]
