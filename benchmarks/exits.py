"""Exits: a port, an MMIO range and an intercepted interrupt, each served by a Python callback.

A run makes EXITS of them. Next: latencies.py, the same against Unicorn.
"""

try:
    from pvfast.assembly import assemble
    from pvfast.machine import Machine
except ImportError:
    Machine = None

CODE, MMIO, PORT, VECTOR, EXITS = 0x1000, 0xF000_0000, 0x3F8, 0x80, 1_000
BODIES = {
    "port_read": f"movl ${PORT}, %edx; again: inb %dx, %al; decl %ecx; jnz again",
    "port_write": f"movl ${PORT}, %edx; again: outb %al, %dx; decl %ecx; jnz again",
    "mmio_read": f"again: movl {MMIO}, %eax; decl %ecx; jnz again",
    "mmio_write": f"again: movl %eax, {MMIO}; decl %ecx; jnz again",
    "interrupt": f"again: int ${VECTOR}; decl %ecx; jnz again",
}


class _Null:
    def read(self, place, size):
        return 0

    def write(self, place, size, value):
        pass


class Exits:
    """Host time of EXITS exits; what the guest is charged for one."""

    version = "1"
    params = ("port_read", "port_write", "mmio_read", "mmio_write", "interrupt")
    param_names = ("exit",)

    def setup(self, kind):
        if Machine is None:
            raise NotImplementedError("this commit has no Machine, or no assembler")
        code = assemble(BODIES[kind], CODE).code
        self.machine, self.end = Machine(ram="1M"), CODE + len(code)
        self.machine.write(CODE, code)
        self.machine.map_mmio(MMIO, 0x1000, _Null())
        self.machine.intercept_port(PORT, _Null())
        self.machine.intercept_interrupt(VECTOR, lambda machine: None)

    def time_exits(self, kind):
        self._run(EXITS)

    def track_cycles(self, kind):
        return self._cycles(2) - self._cycles(1)

    time_exits.pretty_name = f"Exit: host time of {EXITS:,}"
    track_cycles.pretty_name = "Exit: modelled cycles"
    track_cycles.unit = "modelled cycles/exit and loop"

    def _run(self, exits):
        self.machine.cpu.eip, self.machine.cpu.ecx = CODE, exits
        self.machine.run(until=self.end)

    def _cycles(self, exits):
        before = self.machine.counters.cycles
        self._run(exits)
        return self.machine.counters.cycles - before
