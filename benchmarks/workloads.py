"""The general workloads, on flat memory, through page tables, and with segments that have a base.

Next: programs.py for what they are; peers.py compares them with other engines.
"""

try:
    from .programs import counts, loaded
except ImportError:
    loaded = None

WORKLOADS = (
    "crc", "sieve", "fib", "copy", "rep_movsd", "rep_stosd", "rep_movsb",
    "x87", "sse_float", "sse_integer", "indirect_store", "inline_store", "gs_store", "patch_itself",
)
MODES = ("flat", "paged", "segment_base")
COUNTS = {"crc": 100, "sieve": 20, "fib": 100, "copy": 100, "rep_movsd": 100, "rep_stosd": 100, "rep_movsb": 100_000,
          "x87": 100, "sse_float": 100, "sse_integer": 100}
SHORT = 1_000_000                       # the count of the others, which are a few instructions each


class Workloads:
    """Host time of a run, and exact figures of one more of its count."""

    version = "1"
    params = (WORKLOADS, MODES)
    param_names = ("workload", "mode")

    def setup(self, workload, mode):
        try:
            self.machine, self.done = loaded(workload, COUNTS.get(workload, SHORT), mode)
        except (AttributeError, NameError, TypeError) as error:
            raise NotImplementedError("this commit has no Machine, or no assembler") from error
        self.start = self.machine.cpu.eip

    def time_run(self, workload, mode):
        self.machine.cpu.eip = self.start
        self.machine.run(until=self.done)

    def track_instructions(self, workload, mode):
        figures = counts(workload, mode)
        return figures["instructions"] + figures["iterations"]

    def track_cycles(self, workload, mode):
        return counts(workload, mode)["cycles"]

    track_instructions.unit = "instructions and REP iterations/count"
    track_cycles.unit = "modelled cycles/count"
