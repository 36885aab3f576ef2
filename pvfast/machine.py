"""The embedding API: Machine = processor + core + memory map + devices + hypervisor.

Enters: what the embedder asks for. Leaves: a machine ready to run. Next: docs/embedding.md.
"""
from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator

import numpy as np

from pvfast.core.engine import REGIONS, Engine
from pvfast.errors import ArgumentError, MemoryMapError
from pvfast.processor import Model, load_model

_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}


def parse_size(size: int | str) -> int:
    """Bytes from 4096, "64K", "16M" or "1G".

    >>> parse_size("16M")
    16777216
    """
    if isinstance(size, int):
        return size
    match = re.fullmatch(r"(\d+)([KMG]?)", size.strip().upper()) if isinstance(size, str) else None
    if not match:
        raise MemoryMapError(f"size {size!r}: write it as 65536, '64K', '16M' or '1G'")
    return int(match[1]) * _UNITS[match[2]]


class Machine(Engine):
    """A 32-bit PC without a chip set: processor, RAM at physical 0, and what you map and attach.

    A new machine is in flat 32-bit protected mode at CPL 0, its segments loaded, with no GDT in RAM; or, when asked, in
    real mode as after a reset: at F000:FFF0 with CS.base FFFF0000, where firmware may be mapped with `map_rom`.

    Parameters
    ----------
    ram : int or str
        Bytes of RAM at physical 0: a multiple of 4096, or "16M".
    processor : str or pvfast.processor.Model
        A row of pvfast/processor/models.py: what it has, its CPUID and modelled cycles.
    hypervisor : Hypervisor, optional
        What the guest runs on; None is bare hardware.
    mode : str
        "protected" or "real".

    Examples
    --------
    >>> machine = Machine(ram="1M")
    >>> machine.write(0x1000, b"\\xf4")
    >>> machine.cpu.eip = 0x1000
    >>> machine.run().reason.name
    'HALT'
    >>> machine.counters.instructions
    1
    """

    def __init__(self, ram: int | str = "16M", processor: str | Model = "generic", hypervisor=None,
                 mode: str = "protected"):
        if mode not in ("protected", "real"):
            raise ArgumentError(f"mode={mode!r}: a machine starts in 'protected' or 'real' mode")
        size = parse_size(ram)
        self._map(0, size, REGIONS["ram"])
        self._ram_bytes = size
        self.processor = load_model(processor)
        self._set_costs(self.processor.costs)
        self._set_prediction(self.processor.prediction)
        self._set_cpuid(self.processor.cpuid, self.processor.cpuid_extended)
        self._set_features(self.processor.features)
        if mode == "real":
            self._reset_to_real_mode()
        self.hypervisor = hypervisor
        if hypervisor is not None:
            if not hasattr(hypervisor, "attach"):
                raise ArgumentError(f"hypervisor={hypervisor!r}: pass pvfast.paravirt.hypervisors.hypervisor(name)")
            hypervisor.attach(self)

    @property
    def ram(self) -> np.ndarray:
        """RAM at physical 0 as a zero-copy numpy view, uint8, that cannot be made writable."""
        return np.frombuffer(self._export(self._ram_bytes), dtype=np.uint8)

    # The slot itself, not a property around it: `machine.cpu.eip = ...` is on every embedder's hot path.
    cpu = Engine.cpu_registers

    def map_ram(self, address: int, size: int | str) -> None:
        """More RAM at a physical address, zero-filled."""
        self._map(address, parse_size(size), REGIONS["ram"])

    def map_rom(self, address: int, content: bytes) -> None:
        """ROM: the guest's writes are ignored. Padded with FF to a whole page. Inside RAM it replaces it there."""
        padded = bytes(content) + b"\xff" * (-len(content) % 4096)
        self._map(address, len(padded), REGIONS["rom"])
        self.write(address, padded)

    def map_mmio(self, address: int, size: int | str, device) -> None:
        """Send accesses of a physical range to `device.read(offset, size)` and `device.write(offset, size, value)`."""
        self._add_mmio(address, parse_size(size), device)

    @contextlib.contextmanager
    def writable(self, address: int, size: int) -> Iterator[np.ndarray]:
        """A copy of guest memory to change; what changed is stored at the end, and code among it decoded again.

        >>> machine = Machine(ram="1M")
        >>> with machine.writable(0x1000, 4) as copy:
        ...     copy[:2] = 0x90
        >>> machine.read(0x1000, 4).hex()
        '90900000'
        """
        before = self.read(address, size)
        copy = np.frombuffer(bytearray(before), dtype=np.uint8)
        yield copy
        changed = np.flatnonzero(copy != np.frombuffer(before, dtype=np.uint8))
        if changed.size:
            first, last = int(changed[0]), int(changed[-1])
            self.write(address + first, copy[first:last + 1].tobytes())

    def install_flat_gdt(self, address: int) -> None:
        """Write a GDT with flat code (08) and data (10) at a physical address, and load GDTR with it.

        The selectors are those a new machine's segments have. Paging should be off, or the address mapped one to one.
        """
        self.write(address, bytes.fromhex("0000000000000000 ffff0000009bcf00 ffff00000093cf00"))
        self.cpu.gdtr = (address, 23)
