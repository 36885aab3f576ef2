"""What came of a case, the same for every runner.

Enters: states read from a runner. Leaves: `Outcome`, and the differences between two. Next: runners.py, host/host.py.
"""
from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from .builder import WINDOW

if TYPE_CHECKING:
    from .cases import Case

FXSAVE_POINTERS, FXSAVE_END = range(6, 24), 288


@dataclass
class Outcome:
    """State after a case. `vector`: of the fault that ended it, "halt", "hang", or None at its end.

    The fields behind `vector` are None where a runner does not know them.
    """

    registers: list[int]
    eip: int
    eflags: int
    window: bytes
    vector: int | str | None
    fxsave: bytes | None = None
    selectors: tuple[int, ...] | None = None    # ES CS SS DS FS GS
    error: int | None = None
    cr2: int | None = None
    delivery: range = range(0)                  # of the windows, what delivering the fault has overwritten


REGISTERS = ("eax", "ecx", "edx", "ebx", "esp", "ebp", "esi", "edi")
SEGMENTS = ("es", "cs", "ss", "ds", "fs", "gs")
COMPARED_FLAGS = 0x247FD5


def compare(case: Case, expected: Outcome, actual: Outcome, ignored_flags: int = 0) -> list[str]:
    """What differs, in words; undefined flags do not count, nor does what only one of them knows."""
    found = []
    if expected.vector != actual.vector:
        return [f"vector {expected.vector} expected, not {actual.vector} (eip {expected.eip:#x}, {actual.eip:#x})"]
    faulted = expected.vector not in (None, "halt")
    for name, a, b in (*zip(REGISTERS, expected.registers, actual.registers, strict=True),
                       ("eip", expected.eip, actual.eip), ("error code", expected.error, actual.error),
                       ("cr2", expected.cr2, actual.cr2),
                       *zip(SEGMENTS, expected.selectors or (), actual.selectors or (), strict=False)):
        if a != b and a is not None and b is not None:
            found.append(f"{name} {a:#x} expected, not {b:#x}")
    mask = COMPARED_FLAGS & ~(case.ever_undefined if faulted else case.undefined) & ~ignored_flags
    if (expected.eflags ^ actual.eflags) & mask:
        found.append(f"eflags {expected.eflags & mask:#x} expected, not {actual.eflags & mask:#x}")
    if expected.fxsave is not None and actual.fxsave is not None:
        found += compare_fxsave(expected.fxsave, actual.fxsave)
    pushed = actual.delivery
    window = expected.window[:pushed.start] + actual.window[pushed.start:pushed.stop] + expected.window[pushed.stop:]
    if window != actual.window:
        at = next(i for i, (a, b) in enumerate(zip(window, actual.window, strict=True)) if a != b)
        found.append(f"memory at {WINDOW.start + at:#x}: {window[at:at + 8].hex()} expected, "
                     f"not {actual.window[at:at + 8].hex()}")
    return found


def compare_fxsave(expected: bytes, actual: bytes) -> list[str]:
    """The x87's opcode and pointers do not count (x87.py says why), nor what is reserved."""
    differing = [i for i in range(FXSAVE_END) if expected[i] != actual[i] and i not in FXSAVE_POINTERS]
    return [f"fxsave image at {at:#x}: {expected[at:at + 16].hex()} expected, not {actual[at:at + 16].hex()}"
            for at in differing[:1]]
