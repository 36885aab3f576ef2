"""The core without a kernel: general programs on flat memory, through page tables, and with segments that have a base.

Next: programs.py for what they are; peers.py compares them with other engines.
"""

try:
    from .programs import counts, loaded
except ImportError:
    loaded = None

PROGRAMS = (
    "crc", "sieve", "fib", "copy", "rep_movsd", "rep_stosd", "rep_movsb",
    "x87", "sse_float", "sse_integer", "indirect_store", "inline_store", "gs_store", "patch_itself",
)
MODES = ("flat", "paged", "segment_base")
COUNTS = {"crc": 100, "sieve": 20, "fib": 100, "copy": 100, "rep_movsd": 100, "rep_stosd": 100, "rep_movsb": 100_000,
          "x87": 100, "sse_float": 100, "sse_integer": 100}
SHORT = 1_000_000                       # the count of the others, which are a few instructions each


class Programs:
    """Host time of a run, and exact figures of one more of its count."""

    version = "1"
    params = (PROGRAMS, MODES)
    param_names = ("program", "mode")

    def setup(self, program, mode):
        try:
            self.machine, self.done = loaded(program, COUNTS.get(program, SHORT), mode)
        except (AttributeError, NameError, TypeError) as error:
            raise NotImplementedError("this commit has no Machine, or no assembler") from error
        self.start = self.machine.cpu.eip

    def time_run(self, program, mode):
        self.machine.cpu.eip = self.start
        self.machine.run(until=self.done)

    def track_instructions(self, program, mode):
        figures = counts(program, mode)
        return figures["instructions"] + figures["iterations"]

    def track_cycles(self, program, mode):
        return counts(program, mode)["cycles"]

    time_run.pretty_name = "Program: host time"
    track_instructions.pretty_name = "Program: instructions"
    track_instructions.unit = "instructions and REP iterations/count"
    track_cycles.pretty_name = "Program: modelled cycles"
    track_cycles.unit = "modelled cycles/count"
