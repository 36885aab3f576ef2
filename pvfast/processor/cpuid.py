"""CPUID: what the core can execute, and how a model names itself (SDM 2, CPUID).

Enters: a vendor and a signature. Leaves: leaves 0 and 1 as (eax, ebx, ecx, edx). Next: core/, which answers with them.
"""

_FEATURE_BITS = {"PSE": 3, "TSC": 4, "MSR": 5, "CX8": 8, "SEP": 11, "PGE": 13, "CMOV": 15}
FEATURES = sum(1 << bit for bit in _FEATURE_BITS.values())
"""CPUID.1:EDX of every model: the features that the core executes."""


def leaves(vendor: bytes, signature: int) -> tuple[tuple[int, int, int, int], ...]:
    """Leaves 0 and 1 of a processor with this 12-byte vendor and this family, model and stepping.

    >>> [hex(register) for register in leaves(b"GenuineIntel", 0xF29)[0]]
    ['0x1', '0x756e6547', '0x6c65746e', '0x49656e69']
    """
    ebx, edx, ecx = (int.from_bytes(vendor[i:i + 4], "little") for i in (0, 4, 8))
    return (1, ebx, ecx, edx), (signature, 0, 0, FEATURES)
