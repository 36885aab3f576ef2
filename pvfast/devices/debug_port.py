"""A console at port E9: every byte that the guest writes there is collected.

Enters: OUT to the port. Leaves: `output`. Bochs and QEMU have the same port, so guest code can print without a
driver; reading it gives E9, by which the guest finds out that it is there. Next: interval_timer.py.
"""

from pvfast.machine import Machine


class DebugPort:
    """Collects what the guest prints.

    Parameters
    ----------
    port : int, optional
        0xE9 unless given; it is also what the guest reads.

    Attributes
    ----------
    output : bytearray
        Everything written so far; the low byte of each access.

    Examples
    --------
    >>> from pvfast.assembly import assemble
    >>> machine = Machine(ram="1M")
    >>> console = DebugPort()
    >>> console.connect(machine)
    >>> machine.write(0x1000, assemble("movb $'!', %al; outb %al, $0xe9; hlt", 0x1000).code)
    >>> machine.cpu.eip = 0x1000
    >>> machine.run().reason.name, bytes(console.output)
    ('HALT', b'!')
    """

    PORT = 0xE9

    def __init__(self, port: int = PORT) -> None:
        self.port = port
        self.output = bytearray()

    def connect(self, machine: Machine) -> None:
        """Take the port of a machine, and be part of its snapshots."""
        machine.intercept_port(self.port, self)
        machine.attach(self)

    def read(self, port: int, size: int) -> int:
        """The number of the port: the guest's way to find it."""
        return self.port & 0xFF

    def write(self, port: int, size: int, value: int) -> None:
        """Collect the low byte."""
        self.output.append(value & 0xFF)

    def next_event(self) -> None:
        """Nothing happens here by itself."""

    def fire(self, machine: Machine) -> None:
        """Never called: there is no event."""

    def save(self) -> bytes:
        """What was printed so far."""
        return bytes(self.output)

    def restore(self, state: bytes) -> None:
        """Forget what was printed since."""
        self.output[:] = state
