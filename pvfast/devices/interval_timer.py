"""A timer: one interrupt every so many modelled cycles.

Enters: a period, from the host or from the guest through the timer's port. Leaves: external interrupts. It is no
8254; it is for a workload that wants a tick and little to program. Next: interface.py says what a device is.
"""

from pvfast.machine import Machine


class IntervalTimer:
    """Raises an interrupt whenever a period of modelled cycles is over.

    A tick that comes while the one before it still waits for IF is lost, as on an edge-triggered line; `ticks`
    counts it all the same.

    Parameters
    ----------
    vector : int
        Of the interrupt.
    period_cycles : int, optional
        0 stops the timer.

    Attributes
    ----------
    ticks : int
        Periods that were over so far.

    Examples
    --------
    The guest sleeps until the tick, whose handler ends the run.

    >>> machine = Machine(ram="1M")
    >>> machine.write(0x1000, bytes.fromhex("fb f4"))                            # sti; hlt
    >>> machine.write(0x3000, bytes.fromhex("f4"))                               # hlt, with interrupts disabled
    >>> machine.write(0x2000 + 8 * 0x20, bytes.fromhex("0030 0800 008e 0000"))   # interrupt gate to 08:3000
    >>> machine.install_flat_gdt(0x4000)
    >>> machine.cpu.idtr, machine.cpu.esp, machine.cpu.eip = (0x2000, 0x7FF), 0x8000, 0x1000
    >>> timer = IntervalTimer(0x20, period_cycles=10_000)
    >>> timer.connect(machine)
    >>> machine.run().reason.name, timer.ticks, machine.counters.instructions
    ('HALT', 1, 3)
    >>> machine.counters.cycles > 10_000
    True
    """

    def __init__(self, vector: int, period_cycles: int = 0) -> None:
        if not 0 <= vector <= 255:
            raise ValueError(f"interrupt vector {vector} is not 0-255")
        self.vector = vector
        self.ticks = 0
        self._period_cycles = self._checked(period_cycles)
        self._next_cycles: int | None = None
        self._machine: Machine | None = None

    @staticmethod
    def _checked(period_cycles: int) -> int:
        if period_cycles < 0:
            raise ValueError(f"a period of {period_cycles} cycles: use 0 to stop the timer")
        return period_cycles

    @property
    def period_cycles(self) -> int:
        """Modelled cycles between two ticks; 0 while the timer is stopped."""
        return self._period_cycles

    def connect(self, machine: Machine, port: int | None = None) -> None:
        """Start in a machine: the first tick is one period from now.

        Parameters
        ----------
        machine : Machine
        port : int, optional
            Where the guest reads the period and writes a new one, 32 bits wide, which starts anew.
        """
        self._machine = machine
        self._start()
        machine.attach(self)
        if port is not None:
            machine.intercept_port(port, self)

    def _start(self) -> None:
        now = self._machine.counters.cycles if self._machine is not None else 0
        self._next_cycles = now + self._period_cycles if self._period_cycles else None

    def read(self, port: int, size: int) -> int:
        """The period."""
        return self._period_cycles

    def write(self, port: int, size: int, value: int) -> None:
        """Set the period and start anew; 0 stops."""
        self._period_cycles = value
        self._start()

    def next_event(self) -> int | None:
        """The cycle of the next tick."""
        return self._next_cycles

    def fire(self, machine: Machine) -> None:
        """One period is over."""
        if self._next_cycles is not None:
            self._next_cycles += self._period_cycles
            self.ticks += 1
            machine.inject_interrupt(self.vector)

    def save(self) -> tuple[int, int | None, int]:
        """Period, next tick and ticks."""
        return self._period_cycles, self._next_cycles, self.ticks

    def restore(self, state: tuple[int, int | None, int]) -> None:
        """Go back to saved ones."""
        self._period_cycles, self._next_cycles, self.ticks = state
