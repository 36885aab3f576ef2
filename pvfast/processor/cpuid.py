"""CPUID: what the core can execute, and how a model names itself (SDM 2, CPUID).

Enters: a vendor and a signature. Leaves: leaves 0 and 1 as (eax, ebx, ecx, edx). Next: core/, which answers with them.
"""

FEATURE_BITS = {"FPU": 0, "VME": 1, "DE": 2, "PSE": 3, "TSC": 4, "MSR": 5, "PAE": 6, "MCE": 7, "CX8": 8, "SEP": 11,
                "MTRR": 12, "PGE": 13, "MCA": 14, "CMOV": 15, "PAT": 16, "PSE36": 17, "CLFSH": 19, "MMX": 23,
                "FXSR": 24, "SSE": 25, "SSE2": 26}
"""Bits of CPUID.1:EDX by the names of SDM 2, CPUID, table 3-11; rows of isa/ name them."""
FEATURES = sum(1 << FEATURE_BITS[name] for name in ("VME", "PSE", "TSC", "MSR", "CX8", "SEP", "PGE", "CMOV"))
"""CPUID.1:EDX of every model: the features that the core executes."""


def leaves(vendor: bytes, signature: int) -> tuple[tuple[int, int, int, int], ...]:
    """Leaves 0 and 1 of a processor with this 12-byte vendor and this family, model and stepping.

    >>> [hex(register) for register in leaves(b"GenuineIntel", 0xF29)[0]]
    ['0x1', '0x756e6547', '0x6c65746e', '0x49656e69']
    """
    ebx, edx, ecx = (int.from_bytes(vendor[i:i + 4], "little") for i in (0, 4, 8))
    return (1, ebx, ecx, edx), (signature, 0, 0, FEATURES)
