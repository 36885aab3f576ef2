"""The table of docs/performance.md from one interleaved run: ``python -m benchmarks.report [FILE]``.

Enters: the programs, on every engine that is here. Leaves: Markdown with the date and the versions. Each figure is
the median of REPEATS turns in which every engine runs once; only ratios within one run mean anything.
"""

import datetime
import platform
import statistics
import subprocess
import sys
from functools import partial
from importlib import metadata
from pathlib import Path

from .engines import engines, pvfast_engine, seconds_per_count, settled_count, unicorn_engine
from .latencies import LATENCIES, unicorn
from .programs import MODES, PROGRAMS, counts
from .system_programs import SYSTEM_PROGRAMS

REPEATS = 5
PACKAGES = {"unicorn": "unicorn", "icicle": "icicle-emu"}
#: The absolute form of a program that reaches its data through a segment.
ABSOLUTE_FORMS = {"gs_store": "inline_store"}
LATENCY_REPEATS = (20_000, 2_000)


def times(name: str, found: dict) -> dict[str, float]:
    """Seconds for one more of a program's count on each engine that can run it."""
    results, sizes = {}, {}
    for engine_name, engine in found.items():
        try:
            results[engine_name] = engine(name, 37)[1]
            sizes[engine_name] = settled_count(engine, name)
        except NotImplementedError:
            continue
    for engine_name, result in results.items():
        if result & 127 != results["pvfast"] & 127:
            raise RuntimeError(f"{name}: {engine_name} computes {result:#x}, pvfast {results['pvfast']:#x}")
    taken: dict[str, list[float]] = {engine_name: [] for engine_name in sizes}
    for _ in range(REPEATS):
        for engine_name, size in sizes.items():
            taken[engine_name].append(seconds_per_count(found[engine_name], name, size))
    return {engine_name: statistics.median(each) for engine_name, each in taken.items()}


def speeds(name: str, found: dict) -> dict[str, float]:
    """Millions of guest instructions a second; every REP iteration counts."""
    per_count = counts(name)["instructions"] + counts(name)["iterations"]
    return {engine_name: per_count / seconds / 1e6 for engine_name, seconds in times(name, found).items()}


def paired(engine, name: str, other, other_name: str) -> float:
    """How fast `engine` runs `name` in relation to `other` and `other_name`: the median of interleaved pairs."""
    count, other_count = settled_count(engine, name), settled_count(other, other_name)
    return statistics.median(
        seconds_per_count(other, other_name, other_count) / seconds_per_count(engine, name, count)
        for _ in range(REPEATS))


def table(head: list[str], rows: list[list[str]]) -> str:
    """A Markdown table, its first column to the left, the others to the right."""
    lines = [head, ["---", *("---:" for _ in head[1:])], *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines) + "\n"


def speed_table(found: dict) -> str:
    """Speed of every engine on the general programs, and what pvfast's is in relation to it."""
    peers = [name for name in found if name != "pvfast"]
    head = ["workload", *(f"{name}, MIPS" for name in found), *(f"pvfast / {name}" for name in peers)]
    rows = []
    for name, program in PROGRAMS.items():
        if name in ABSOLUTE_FORMS:
            continue
        mips = speeds(name, found)
        show = [f"{mips[each]:.{0 if mips[each] >= 10 else 1}f}" if each in mips else "-" for each in found]
        ratios = [f"{mips['pvfast'] / mips[each]:.2f}" if each in mips else "-" for each in peers]
        rows.append([f"{program.title} (`{name}`)", *show, *ratios])
        print(rows[-1], file=sys.stderr, flush=True)
    return table(head, rows)


def mode_table() -> str:
    """Speed with paging on, and with segments that have a base, as a share of the flat speed."""
    rows = []
    for name in PROGRAMS:
        shares = [paired(partial(pvfast_engine, mode=mode), name, pvfast_engine, name)
                  for mode in MODES if mode != "flat"]
        rows.append([f"`{name}`", *(f"{100 * share:.0f} %" for share in shares)])
        print(rows[-1], file=sys.stderr, flush=True)
    text = table(["workload", "paged / flat", "segment base / flat"], rows)
    for name, absolute in ABSOLUTE_FORMS.items():
        share = paired(pvfast_engine, name, pvfast_engine, absolute)
        text += f"\n`{name}` runs at {100 * share:.0f} % of the speed of its absolute form `{absolute}`.\n"
    return text


def system_table() -> str:
    """Nanoseconds of what a system does, without paging and through page tables."""
    engines_here = {"pvfast": pvfast_engine, "paged": partial(pvfast_engine, mode="paged"),
                    "unicorn": partial(unicorn_engine, mode="paged")}
    rows, reasons = [], []
    for name, program in SYSTEM_PROGRAMS.items():
        taken = times(name, engines_here)
        show = [f"{taken[each] * 1e9:.0f}" if each in taken else "n/a" for each in engines_here]
        ratio = f"{taken['unicorn'] / taken['paged']:.2f}" if "unicorn" in taken else "-"
        rows.append([f"{program.title} (`{name}`)", *show, ratio])
        print(rows[-1], file=sys.stderr, flush=True)
        if program.only_pvfast:
            reasons.append(f"`{name}` has no figure for Unicorn, which {program.only_pvfast}.")
    head = ["one of", "pvfast, ns", "pvfast paged, ns", "unicorn paged, ns", "pvfast / unicorn, speed"]
    return table(head, rows) + "\n" + "\n".join(reasons) + "\n"


def latency_table() -> str:
    """Microseconds of what embedders do often, from Python."""
    rows = []
    for ours, theirs, title in LATENCIES.values():
        pairs = [(ours(LATENCY_REPEATS[0]), theirs(LATENCY_REPEATS[1])) for _ in range(REPEATS)]
        mine, other = (statistics.median(column) * 1e6 for column in zip(*pairs, strict=True))
        rows.append([title, f"{mine:.2f}", f"{other:.2f}", f"{mine / other:.3f}"])
    return table(["from Python", "pvfast, us", "unicorn, us", "pvfast / unicorn"], rows)


def versions(found: dict) -> str:
    """Date, and the versions of everything that matters."""
    compiler = subprocess.run(["gcc", "-dumpfullversion"], capture_output=True, text=True, check=False).stdout.strip()
    parts = [f"pvfast {metadata.version('pvfast')}" if _installed("pvfast") else "pvfast"]
    parts += [f"{name} {metadata.version(PACKAGES[name])}" for name in found if name in PACKAGES]
    parts += [f"Python {platform.python_version()}", f"GCC {compiler or '?'}", f"{platform.system()} on {_processor()}"]
    return f"{datetime.date.today().isoformat()}: {', '.join(parts)}."


def _installed(package: str) -> bool:
    return any(True for _ in metadata.distributions(name=package))


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.machine()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def report() -> str:
    """The whole file."""
    found = engines()
    parts = [
        "<!-- Written by benchmarks/report.py (make bench-peers). Do not edit. -->", "",
        f"{versions(found)} Median of {REPEATS} interleaved turns; every REP iteration counts as one instruction.", "",
        speed_table(found), mode_table(),
    ]
    if unicorn is not None:
        paged = {"pvfast": partial(pvfast_engine, mode="paged"), "unicorn": partial(unicorn_engine, mode="paged")}
        parts += ["Through page tables, on both:", "", speed_table(paged), system_table(), latency_table()]
    return "\n".join(parts)


if __name__ == "__main__":
    text = report()
    if len(sys.argv) > 1:
        Path(sys.argv[1]).write_text(text, encoding="utf-8")
    else:
        print(text)
