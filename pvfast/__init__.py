"""pvfast: exact, repeatable measurement of paravirtualization, on an embeddable x86 core.

Enters: guest code. Leaves: machines, counters, experiments. Next: machine.py.

>>> import pvfast
>>> machine = pvfast.Machine(ram="1M")
>>> machine.write(0x1000, bytes.fromhex("b82a000000 40"))      # mov $42,%eax; inc %eax
>>> machine.cpu.eip = 0x1000
>>> machine.run(until=0x1006).reason.name, machine.cpu.eax
('UNTIL', 43)
"""
import importlib

__version__ = "0.1.0"

_HOMES = {
    "Machine": "pvfast.machine", "StopReason": "pvfast.core.engine", "Stop": "pvfast.core.engine",
} | dict.fromkeys(("AddressError", "ArgumentError", "AssemblyError", "GuestError", "ImageError", "MachineBusy",
                   "MemoryMapError", "PatchError", "PvfastError", "SnapshotError"), "pvfast.errors")

__all__ = [*_HOMES, "__version__"]


def __getattr__(name: str):
    # Lazy: setup.py imports pvfast.isa before the core is compiled, and `pvfast --help` needs none of it.
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'pvfast' has no attribute {name!r}")
