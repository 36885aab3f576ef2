"""How fast the host runs operations, hypercalls and the matrix: ``python -m benchmarks.speed``.

Enters: the loops of the built-in guest kernel. Leaves: the text between the marks of docs/performance.md. Each
figure is the median of TURNS in which every hypervisor runs once, in seconds of the host's processor. Next: report.py,
other engines.
"""

import statistics
import time
from collections.abc import Iterator

from pvfast.experiments import GuestRun, run_matrix, trace_operations
from pvfast.processor import load_model

from .core import COUNTS, SHORT
from .document import DOCS, replaced, table
from .engines import engines
from .guest import HYPERVISORS, OPERATIONS, find_run
from .hypercalls import HYPERVISORS as CALLERS
from .hypercalls import Caller, unicorn, unicorn_seconds
from .programs import loaded
from .report import versions

TURNS = 7
MILLION = 1_000_000
#: A loop runs that often at a time.
ITERATIONS = 50_000


def seconds(run: GuestRun, name: str) -> float:
    """Seconds for one iteration of a loop."""
    start = time.process_time()
    run.loop(name, ITERATIONS)
    return (time.process_time() - start) / ITERATIONS


def runs(name: str) -> Iterator[tuple[str, GuestRun, GuestRun]]:
    """(hypervisor, indirect, patched) of those under which an operation runs."""
    for hypervisor in HYPERVISORS:
        try:
            yield hypervisor, find_run(hypervisor, "indirect", name), find_run(hypervisor, "patched", name)
        except NotImplementedError:
            continue


def operation_row(name: str) -> list[str]:
    """Milliseconds for a million iterations under every hypervisor."""
    found = {hypervisor: pair for hypervisor, *pair in runs(name)}
    turns = [{hypervisor: [seconds(run, name) for run in pair] for hypervisor, pair in found.items()}
             for _ in range(TURNS + 1)][1:]             # the first warms up
    native = next(iter(found.values()))[0]
    cells = [f"`{name}`", str(len(trace_operations(native, name)))]
    for hypervisor in HYPERVISORS:
        if hypervisor not in found:
            cells.append("-")
            continue
        indirect, patched = (statistics.median(turn[hypervisor][form] for turn in turns) for form in (0, 1))
        ratio = statistics.median(turn[hypervisor][1] / turn["native"][1] for turn in turns)
        cells.append(f"{indirect * MILLION * 1e3:.1f} / {patched * MILLION * 1e3:.1f} ({ratio:.2f})")
    return cells


def hypercall_rows() -> list[list[str]]:
    """Nanoseconds for a hypercall beyond the guest's own instructions, and for Unicorn's hooks."""
    callers = {hypervisor: Caller(hypervisor) for hypervisor in CALLERS}
    measures = {f"{name}, served in the core": caller.seconds for name, caller in callers.items()}
    if unicorn is not None:
        measures |= {"Unicorn, an empty hook in C": lambda count: unicorn_seconds(count, in_c=True),
                     "Unicorn, an empty hook in Python": lambda count: unicorn_seconds(count, in_c=False)}
    turns = [{name: measure(ITERATIONS) / ITERATIONS * 1e9 for name, measure in measures.items()}
             for _ in range(TURNS + 1)][1:]
    return [[name, f"{statistics.median(turn[name] for turn in turns):.1f}"] for name in measures]


def model_rows() -> list[list[str]]:
    """How many times longer programs take when the processor model predicts branches and counts TLB misses."""
    model = load_model("pentium4")
    rows = []
    for name in ("crc", "sieve", "fib", "copy", "indirect_cli"):
        cells = [f"`{name}`"]
        for mode in ("flat", "paged"):
            pair = [loaded(name, COUNTS.get(name, SHORT), mode) for _ in range(2)]
            pair[1][0]._set_costs(model.costs)
            pair[1][0]._set_prediction(model.prediction)
            starts = [machine.cpu.eip for machine, _ in pair]
            taken: list[list[float]] = [[], []]
            for _ in range(TURNS):
                for (machine, done), start, times in zip(pair, starts, taken, strict=True):
                    machine.cpu.eip = start
                    begun = time.process_time()
                    machine.run(until=done)
                    times.append(time.process_time() - begun)
            cells.append(f"{min(taken[1]) / min(taken[0]):.2f}")
        rows.append(cells)
    return rows


def text() -> str:
    """The tables."""
    rows = [operation_row(name) for name in OPERATIONS]
    start = time.process_time()
    matrix = run_matrix()
    taken = time.process_time() - start
    here = {name: engine for name, engine in engines().items() if name in ("pvfast", "unicorn")}
    return "\n".join((
        f"{versions(here)} Median of {TURNS} interleaved turns, in time of the host's processor.\n",
        "Milliseconds for a million iterations of an operation's loop, loop included: indirect / patched, and\n"
        "in brackets the patched one over that on bare hardware. An iteration executes as many paravirt operations as\n"
        "the second column says.\n",
        table(("a million of", "operations", *HYPERVISORS), rows),
        "Nanoseconds for a hypercall that does next to nothing, beyond the guest's own instructions:\n",
        table(("", "ns"), hypercall_rows()),
        "Time under a processor model that predicts branches and charges for TLB misses (`pentium4`), over the\n"
        "generic model's, which does neither and costs nothing beyond the sum of a block:\n",
        table(("program", "flat", "paged"), model_rows()),
        f"The matrix of `pvfast run`, {len(matrix.rows)} rows under {len(HYPERVISORS)} hypervisors: {taken:.1f} s.\n"))


if __name__ == "__main__":
    page = DOCS / "performance.md"
    page.write_text(replaced(page, text()), encoding="utf-8")
