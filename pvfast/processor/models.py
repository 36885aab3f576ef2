"""Models: the processors that a machine can have, a row each: a cost model, named features, and a CPUID identity.

Enters: processor manuals and CPUID dumps. Leaves: `MODELS`. Next: generic.py, a cost model.

A feature set is that of the original, cut to what the core executes (cpuid.py, EXECUTED): an instruction, a CR4 bit or
a model-specific register that belongs to another feature is not there. Variety of CPUID does not need variety of
costs: many rows are charged by the generic cost model.
"""
from __future__ import annotations

from dataclasses import dataclass

from pvfast.processor.cpuid import EXECUTED, Identity

_INTEL = b"GenuineIntel"
_AMD = b"AuthenticAMD"
_PENTIUM = frozenset({"FPU", "VME", "DE", "PSE", "TSC", "MSR", "MCE", "CX8", "CPUID"})
_PENTIUM_PRO = _PENTIUM | {"PAE", "MTRR", "PGE", "MCA", "CMOV", "RDPMC"}
_PENTIUM_2 = _PENTIUM_PRO | {"SEP", "PAT", "PSE36", "MMX", "FXSR"}
_PENTIUM_3 = _PENTIUM_2 | {"SSE"}
_PENTIUM_4 = _PENTIUM_3 | {"CLFSH", "SSE2"}
_P6_CACHES = 0x03020101         # one call; TLBs of 4 KiB and 4 MiB pages (AP-485, table 2-7)
_SKYLAKE = Identity(_INTEL, 0x506E3, 0, (0x76036301, 0x00F0B5FF, 0, 0x00C30000),
                    "Intel(R) Core(TM) i7-6700K CPU @ 4.00GHz")


@dataclass(frozen=True, slots=True)
class Row:
    """A processor. `costs` names a module with CYCLES and PREDICTION, `variant` what their names begin with; without an
    identity there is no CPUID instruction."""

    costs: str
    features: frozenset[str]
    identity: Identity | None = None
    variant: str = ""


MODELS: dict[str, Row] = {
    # All that the core executes. Model 3, stepping 3: from there on the SEP bit is valid.
    "generic": Row("generic", EXECUTED, Identity(b"pvfast  core", 0x633, 0, (_P6_CACHES, 0, 0, 0x0C040882),
                                                 "pvfast generic processor")),
    "i486": Row("generic", frozenset({"FPU"})),
    "pentium": Row("generic", _PENTIUM, Identity(_INTEL, 0x52C)),
    "pentium-mmx": Row("generic", _PENTIUM | {"MMX", "RDPMC"}, Identity(_INTEL, 0x543)),
    "pentium-pro": Row("generic", _PENTIUM_PRO, Identity(_INTEL, 0x619, 0, (_P6_CACHES, 0, 0, 0x06040A42))),
    "pentium2": Row("generic", _PENTIUM_2, Identity(_INTEL, 0x652, 0, (_P6_CACHES, 0, 0, 0x0C040843))),
    "pentium3": Row("generic", _PENTIUM_3, Identity(_INTEL, 0x686, 2, (_P6_CACHES, 0, 0, 0x0C040882))),
    "pentium4": Row("pentium4", _PENTIUM_4, Identity(_INTEL, 0xF29, 9, (0x665B5001, 0, 0, 0x007B7040),
                                                     "Intel(R) Pentium(R) 4 CPU 3.00GHz".rjust(47))),
    "k8": Row("k8", EXECUTED, Identity(_AMD, 0xF5A, 0, None, "AMD Opteron(tm) Processor 248")),
    "nehalem": Row("nehalem", EXECUTED, Identity(_INTEL, 0x106A5, 0, (0x55035A01, 0x00F0B2E4, 0, 0x09CA212C),
                                                 "Intel(R) Core(TM) i7 CPU         920  @ 2.67GHz")),
    "skylake": Row("skylake", EXECUTED, _SKYLAKE),
    "skylake-retpoline": Row("skylake", EXECUTED, _SKYLAKE, "RETPOLINE_"),
    "zen": Row("zen", EXECUTED, Identity(_AMD, 0x800F11, 0, None, "AMD Ryzen 7 1800X Eight-Core Processor")),
}
"""By the name that `Machine(processor=...)` takes; the first is the default of the command."""
