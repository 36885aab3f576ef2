"""CPUID: what the core executes, and how a processor names itself (SDM 2, CPUID).

Enters: an `Identity` and the names of its features. Leaves: feature words and leaves as (eax, ebx, ecx, edx).
Next: models.py.
"""
from __future__ import annotations

from dataclasses import dataclass

FEATURE_BITS = {"FPU": 0, "VME": 1, "DE": 2, "PSE": 3, "TSC": 4, "MSR": 5, "PAE": 6, "MCE": 7, "CX8": 8, "SEP": 11,
                "MTRR": 12, "PGE": 13, "MCA": 14, "CMOV": 15, "PAT": 16, "PSE36": 17, "CLFSH": 19, "MMX": 23,
                "FXSR": 24, "SSE": 25, "SSE2": 26, "NX": 32, "CPUID": 33, "RDPMC": 34}
"""Bits of CPU.features by name; rows of isa/ name them. Bits 0-31 are CPUID.1:EDX (SDM 2, CPUID, table 3-11). Those
above are announced elsewhere, NX in CPUID.80000001:EDX, or nowhere: that CPUID and RDPMC are there."""

EXECUTED = frozenset(FEATURE_BITS)
"""The features that the core executes: no processor has others, whatever its original had."""

_CLFLUSH_8_BYTES = 8            # the line that CLFLUSH flushes, in units of 8 bytes
_XD = 1 << 20                   # CPUID.80000001:EDX

Leaf = tuple[int, int, int, int]


@dataclass(frozen=True, slots=True)
class Identity:
    """How a processor answers CPUID.

    Attributes
    ----------
    vendor : bytes
        Twelve bytes.
    signature : int
        Family, model and stepping: EAX of leaf 1.
    brand_index : int
        EBX of leaf 1, bits 0-7.
    caches : tuple of int, optional
        Leaf 2 (SDM 2, CPUID, table 3-12).
    brand : str
        Leaves 80000002 to 80000004; without one there are no extended leaves.
    """

    vendor: bytes
    signature: int
    brand_index: int = 0
    caches: Leaf | None = None
    brand: str = ""


def feature_word(names: frozenset[str]) -> int:
    """The value of CPU.features.

    >>> hex(feature_word(frozenset({"TSC", "NX"})))
    '0x100000010'
    """
    return sum(1 << FEATURE_BITS[name] for name in names)


def basic_leaves(identity: Identity, features: int) -> tuple[Leaf, ...]:
    """Leaves 0, 1 and, where there is one, 2.

    >>> [hex(register) for register in basic_leaves(Identity(b"GenuineIntel", 0xF29), 0x10)[0]]
    ['0x1', '0x756e6547', '0x6c65746e', '0x49656e69']
    """
    ebx, edx, ecx = (int.from_bytes(identity.vendor[i:i + 4], "little") for i in (0, 4, 8))
    flush = _CLFLUSH_8_BYTES << 8 if features >> FEATURE_BITS["CLFSH"] & 1 else 0
    one = (identity.signature, flush | identity.brand_index, 0, features & 0xFFFFFFFF)
    if identity.caches is None:
        return (1, ebx, ecx, edx), one
    return (2, ebx, ecx, edx), one, identity.caches


def extended_leaves(identity: Identity, features: int) -> tuple[Leaf, ...]:
    """Leaves 80000000 to 80000004; none without a brand string."""
    if not identity.brand:
        return ()
    text = identity.brand.encode("ascii").ljust(48, b"\0")
    words = [int.from_bytes(text[i:i + 4], "little") for i in range(0, 48, 4)]
    xd = _XD if features >> FEATURE_BITS["NX"] & 1 else 0
    return ((0x80000004, 0, 0, 0), (0, 0, 0, xd),
            *((words[i], words[i + 1], words[i + 2], words[i + 3]) for i in (0, 4, 8)))
