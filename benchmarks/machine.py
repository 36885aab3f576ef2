"""Machines: making one, starting and stopping it, single steps, snapshots. Next: pvfast/machine.py."""

try:
    from pvfast.machine import Machine
except ImportError:
    Machine = None

CODE = 0x1000


class Construction:
    """Host time to make a machine."""

    version = "1"
    params = ("1M", "16M", "1G")
    param_names = ("ram",)

    def setup(self, ram):
        if Machine is None:
            raise NotImplementedError("this commit has no Machine")

    def time_construct(self, ram):
        Machine(ram=ram)

    time_construct.pretty_name = "Machine: making one"


class StartStop:
    """Host time of short runs, and of a machine's state going out and in."""

    version = "1"

    def setup(self):
        if Machine is None:
            raise NotImplementedError("this commit has no Machine")
        self.machine = Machine(ram="16M")
        self.machine.write(CODE, b"\x90" * 3 + b"\xeb\xfb")         # 1: nop; nop; nop; jmp 1b
        self.machine.cpu.eip = CODE
        self.machine.run(max_instructions=100)
        self.state = self.machine.snapshot()

    def time_start_and_stop(self):
        self.machine.cpu.eip = CODE
        self.machine.run(until=CODE + 3)

    def time_step(self):
        self.machine.step()

    def time_snapshot(self):
        self.machine.snapshot()

    def time_restore(self):
        self.machine.restore(self.state)

    time_start_and_stop.pretty_name = "Machine: start, three NOPs, stop"
    time_step.pretty_name = "Machine: a single step"
    time_snapshot.pretty_name = "Machine: snapshot"
    time_restore.pretty_name = "Machine: restore"
