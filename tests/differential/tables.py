"""The local descriptor table of ring 3, the same on the host and in pvfast.

Enters: nothing. Leaves: `LDT`, as descriptors and as modify_ldt(2) wants them. Next: cases.py.
"""
from __future__ import annotations

import struct
from dataclasses import dataclass

from .builder import SEGMENT_BASE

DATA_TYPE, EXPAND_DOWN, CODE_TYPE = 0, 1, 2
"""`contents` of modify_ldt's user_desc: bits 11 and 10 of a descriptor (SDM 3, table 3-1)."""


@dataclass(frozen=True)
class Segment:
    """A segment of ring 3; `base` is relative to where a runner has address 0. Its accessed bit is set."""

    base: int = 0
    limit: int = 0xFFFFF
    contents: int = DATA_TYPE
    pages: bool = True
    wide: bool = True           # D/B
    fixed: bool = False         # not writable, or not readable if code
    present: bool = True

    @property
    def attributes(self) -> int:
        """Access byte and G, D/B, AVL, as the second doubleword of a descriptor has them from bit 8."""
        return (0x71 | self.contents << 2 | (not self.fixed) << 1 | self.present << 7
                | 0x1000 | self.wide << 14 | self.pages << 15)

    def descriptor(self, base: int) -> bytes:
        """SDM 3:3.4.5."""
        address = self.base + base & 0xFFFFFFFF
        return struct.pack("<HHBHB", self.limit & 0xFFFF, address & 0xFFFF, address >> 16 & 0xFF,
                           self.attributes | self.limit >> 8 & 0xF00, address >> 24)

    def user_desc(self, entry: int, base: int) -> bytes:
        """`struct user_desc` of modify_ldt(2); the kernel sets AVL from `useable`."""
        flags = (self.wide | self.contents << 1 | self.fixed << 3 | self.pages << 4 | (not self.present) << 5 | 1 << 6)
        return struct.pack("<4I", entry, self.base + base & 0xFFFFFFFF, self.limit, flags)


LDT = (
    Segment(contents=CODE_TYPE),
    Segment(),
    Segment(SEGMENT_BASE["fs"]),
    Segment(SEGMENT_BASE["gs"]),
    Segment(contents=CODE_TYPE, fixed=True),                        # not readable
    Segment(fixed=True),
    Segment(present=False),
    Segment(limit=0x8FFF, pages=False),
    Segment(limit=0x2FFF, contents=EXPAND_DOWN, pages=False),       # from 0x3000 up
    Segment(wide=False),                                            # a stack with SP
    Segment(contents=CODE_TYPE, present=False),
    Segment(limit=0xC0F, contents=CODE_TYPE),
    Segment(limit=0x5FFF, pages=False),
)
"""Those that cases start with (CS; DS, ES and SS; FS; GS), then others to load."""
CODE, STACKS, DATA_LIKE = (0, 4, 11), (1, 7, 8, 9), (0, 1, 5, 7, 8, 9, 11, 12)
"""Entries that CS, SS and the others take and that let cases go on, for the most part."""


def selector(entry: int) -> int:
    """Of an entry of the LDT, RPL 3."""
    return entry << 3 | 7


SELECTORS = tuple(selector(entry) for entry in (1, 0, 1, 1, 2, 3))
"""ES CS SS DS FS GS when a case starts."""
