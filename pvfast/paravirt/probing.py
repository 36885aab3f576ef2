"""Boot probing: how a kernel finds out, in its first instructions, what it runs on. `discovery` tells the era's way.

In 2.6.20 and 2.6.21 a kernel that is not in ring 0 walks a table of probe functions, ``.paravirtprobe``; each looks for
its hypervisor and either fills ``paravirt_ops`` and boots, never returning, or returns. The last entry is the
bare-hardware start itself, so the walk has no end test. Xen enters through its own door but reaches the same
probes. 2.6.22 has no probes any more: each hypervisor has a door of its own, Xen's ELF notes or the signature
"GenuineLguest". From 2.6.24 on ``startup_32`` also asks the boot parameters, whose ``hardware_subarch`` the boot loader
sets. Data only: the guest kernel holds the code (``head.S``).
"""

import struct
from collections.abc import Iterable
from enum import Enum, IntEnum

from pvfast.errors import PatchError
from pvfast.paravirt.operations import ERAS, Era


class Discovery(Enum):
    """How a kernel comes to know its hypervisor."""

    PROBES = "ring test and probes"
    OWN_ENTRIES = "each hypervisor enters at its own door"
    HARDWARE_SUBARCH = "hardware_subarch in the boot parameters, or an own door"


_SINCE = {"2.6.20": Discovery.PROBES, "2.6.22": Discovery.OWN_ENTRIES, "2.6.24": Discovery.HARDWARE_SUBARCH}


def discovery(era: Era) -> Discovery:
    """How the kernels of an era find out what they run on.

    Examples
    --------
    >>> from pvfast.paravirt.operations import era
    >>> discovery(era("2.6.21")).name, discovery(era("2.6.23")).name, discovery(era("2.6.31")).name
    ('PROBES', 'OWN_ENTRIES', 'HARDWARE_SUBARCH')
    """
    releases = ERAS[:ERAS.index(era.name) + 1]
    return next(_SINCE[name] for name in reversed(releases) if name in _SINCE)


#: Of struct boot_params: the version of the boot protocol (u16), and from version 2.07 on the kind of machine (u32).
BP_VERSION = 0x206
BP_HARDWARE_SUBARCH = 0x23C
BOOT_PROTOCOL_2_07 = 0x207


class Subarch(IntEnum):
    """Values of ``hardware_subarch``."""

    PC = 0
    LGUEST = 1
    XEN = 2


#: First instructions of ``startup_32``: the requested privilege level of CS is the ring.
RING_TEST_TEXT = "mov %cs, %eax; test $3, %eax"
RING_TEST = bytes.fromhex("8cc8 a903000000")

#: The same test one byte at a time, which is shorter; both set ZF in ring 0 only.
RING_TEST_SHORT_TEXT = "mov %cs, %eax; test $3, %al"
RING_TEST_SHORT = bytes.fromhex("8cc8 a803")

#: Follows the test: ``jnz startup_paravirt``, opcode of the long form.
RING_TEST_BRANCH = bytes.fromhex("0f85")
RPL_MASK = 3

#: Section of u32 function pointers, in link order.
PROBE_SECTION = ".paravirtprobe"
PROBE_ENTRY = struct.Struct("<I")

#: What bare hardware registers; it is linked last and never returns.
PROBE_OF_LAST_RESORT = "start_kernel"


def ring(selector: int) -> int:
    """Ring that a code selector asks for.

    Examples
    --------
    >>> ring(0x60), ring(0xE019)
    (0, 1)
    """
    return selector & RPL_MASK


def pack_probes(functions: Iterable[int]) -> bytes:
    """Make a ``.paravirtprobe`` table; the probe of last resort has to be the last function.

    Raises
    ------
    PatchError
        An address does not fit 32 bits, or there is no function.

    Examples
    --------
    >>> pack_probes([0xC0100200, 0xC0100400]).hex()
    '000210c0000410c0'
    """
    functions = list(functions)
    if not functions:
        raise PatchError(f"{PROBE_SECTION} without a probe: put {PROBE_OF_LAST_RESORT} there")
    try:
        return b"".join(PROBE_ENTRY.pack(function) for function in functions)
    except struct.error:
        listed = ", ".join(map(hex, functions))
        raise PatchError(f"a probe's address does not fit 32 bits: {listed}") from None


def unpack_probes(table: bytes) -> list[int]:
    """Read a ``.paravirtprobe`` table, in the order of the walk.

    Raises
    ------
    PatchError
        The table is empty or cut short.

    Examples
    --------
    >>> [hex(function) for function in unpack_probes(bytes.fromhex("000210c0000410c0"))]
    ['0xc0100200', '0xc0100400']
    """
    if not table or len(table) % PROBE_ENTRY.size:
        raise PatchError(f"{PROBE_SECTION} holds {len(table)} bytes: it needs one or more entries of "
                         f"{PROBE_ENTRY.size}")
    return [function for (function,) in PROBE_ENTRY.iter_unpack(table)]
