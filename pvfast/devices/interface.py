"""What a device offers to a machine: protocols, so that any class with these methods is one.

Enters: the guest's accesses, and modelled cycles. Leaves: values, and interrupts through the machine. `Device` is
for `Machine.intercept_port` and `Machine.map_mmio`, `TimedDevice` for `Machine.attach`; `SavedDevice` makes what
is attached part of snapshots. Next: debug_port.py, the shortest device; interval_timer.py, one with all of it.
"""

from typing import Any, Protocol, runtime_checkable


@runtime_checkable
class Device(Protocol):
    """Something the guest reads and writes.

    Examples
    --------
    >>> class Constant:
    ...     def read(self, place, size):
    ...         return 0x2A
    ...     def write(self, place, size, value):
    ...         pass
    >>> isinstance(Constant(), Device)
    True
    """

    def read(self, place: int, size: int, /) -> int:
        """What an access reads; bits above its size are cut off.

        Parameters
        ----------
        place : int
            The port of an IN, or the offset into the MMIO range.
        size : int
            1, 2 or 4 bytes.
        """

    def write(self, place: int, size: int, value: int, /) -> None:
        """Take what an access writes.

        Parameters
        ----------
        place, size : int
            As for `read`.
        value : int
            `size` bytes.
        """


@runtime_checkable
class TimedDevice(Protocol):
    """Something that acts by itself, at a modelled cycle."""

    def next_event(self) -> int | None:
        """The value of ``machine.counters.cycles`` at which `fire` is due; None when nothing is.

        The machine asks after attaching, after `fire`, after `restore` and after serving the guest. In HLT with
        interrupts enabled it goes straight to the earliest event.
        """

    def fire(self, machine: Any, /) -> None:
        """Act, at the first instruction boundary at or behind the event; must move `next_event` on."""


@runtime_checkable
class SavedDevice(Protocol):
    """A timed device whose state belongs to snapshots."""

    def save(self) -> Any:
        """The state: a value that later changes of the device do not touch."""

    def restore(self, state: Any, /) -> None:
        """Go back to what `save` returned."""
