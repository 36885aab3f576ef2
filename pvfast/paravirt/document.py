"""docs/operations.md from the table: ``python -m pvfast.paravirt.document FILE`` (`make operations`).

Enters: every era of ``operations.py``. Leaves: Markdown, the same for the same rows: how each release has its
operations, and which release has which operation. A test compares it with the file.
"""

import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from pvfast.paravirt.operations import ERAS, ERAS_64, Era, era
from pvfast.paravirt.probing import discovery
from pvfast.paravirt.shapes import shapes

HEAD = """<!-- Written by pvfast/paravirt/document.py (make operations). Do not edit. -->

# Operations

What `pvfast/paravirt/operations.py` knows of each release of Linux, with a local APIC and without PAE and HIGHPTE; on
x86-64 with CONFIG_PARAVIRT_XXL. The built-in kernel can be built with the releases up to 2.6.24, and for bare hardware
with 2.6.31; images of real kernels are named from those of their version.

* Functions: function pointers, `patch` among them. With PAE: the same on a PAE kernel.
* Recorded: operations whose ordinary call is a patch site; until 2.6.21, those that have sites of their own.
* `irq_disable`: bytes of its site in C and in entry code (there with nothing that may be destroyed).
"""

ROWS_HEAD = """
## Which release has which operation

Rows stand in the order in which the releases brought them. Per release, the type of the operation's sites, `x` where it
exists and its calls have no record, or nothing.
"""


def document() -> str:
    """All of docs/operations.md.

    Examples
    --------
    >>> [line for line in document().splitlines() if line.startswith("| save_fl")]
    ['| save_fl | irq | 3 | 3 | 27 | 28 | 43 | 50 |  |  | 53 | 37 | 30 |']
    """
    known = [*(era(name) for name in ERAS), *(era(name, bits=64) for name in ERAS_64)]
    columns: tuple[str, ...] = (
        "release", "functions", "with PAE", "recorded", "bytes", "structures", "`irq_disable`", "finds out by")
    text = HEAD + "\n" + "\n".join(_table(columns, map(_release, known)))
    columns = ("operation", "about", *map(_title, known))
    return text + "\n" + ROWS_HEAD + "\n" + "\n".join(_table(columns, _operations(known))) + "\n"


def _title(linux: Era) -> str:
    return linux.name if linux.bits == 32 else f"{linux.name} x86-64"


def _release(linux: Era) -> tuple[str, ...]:
    pae = str(len(era(linux.name, pae=True).operations)) if linux.bits == 32 else ""
    recorded = sum(row.patch_type is not None for row in linux.operations)
    sites = "none" if "irq_disable" not in linux else ""
    if linux.bits == 32 and not sites:
        macros = shapes(linux)
        sites = f"{macros['raw_local_irq_disable'].length}, {macros['DISABLE_INTERRUPTS'].length}"
    names = ", ".join(f"`{name}`" for name in linux.structures)
    return (_title(linux), str(len(linux.operations)), pae, str(recorded), str(linux.size), names, sites,
            discovery(linux).value)


def _operations(known: list[Era]) -> Iterator[tuple[str, ...]]:
    rows = {row.name: row for linux in known for row in linux.operations}
    for name, row in rows.items():
        yield (name, row.group, *(_type(linux, name) for linux in known))


def _type(linux: Era, name: str) -> str:
    if name not in linux:
        return ""
    number = linux[name].patch_type
    return "x" if number is None else str(int(number))


def _table(columns: Iterable[str], rows: Iterable[tuple[str, ...]]) -> Iterator[str]:
    head = tuple(columns)
    yield f"| {' | '.join(head)} |"
    yield "|" + " --- |" * len(head)
    for row in rows:
        yield f"| {' | '.join(row)} |"


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(document(), encoding="utf-8")
