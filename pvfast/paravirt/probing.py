"""Boot probing of Linux 2.6.20: how a kernel finds out, in its first instructions, what it runs on.

A kernel that is not in ring 0 walks a table of probe functions, ``.paravirtprobe``; each looks for its
hypervisor and either fills ``paravirt_ops`` and boots, never returning, or returns. The last entry is the
bare-hardware start itself, so the walk has no end test. Xen enters through its own door but reaches the same
probes. Data only: the guest kernel holds the code.
"""

import struct
from collections.abc import Iterable

from pvfast.errors import PatchError

#: First instructions of ``startup_32``: the requested privilege level of CS is the ring.
RING_TEST_TEXT = "mov %cs, %eax; test $3, %eax"
RING_TEST = bytes.fromhex("8cc8 a903000000")

#: The same test one byte at a time, which is shorter; both set ZF in ring 0 only.
RING_TEST_SHORT_TEXT = "mov %cs, %eax; test $3, %al"
RING_TEST_SHORT = bytes.fromhex("8cc8 a803")

#: Follows the test: ``jnz startup_paravirt``, opcode of the long form.
RING_TEST_BRANCH = bytes.fromhex("0f85")
RPL_MASK = 3

#: Section of u32 function pointers, in link order, and the labels around it.
PROBE_SECTION = ".paravirtprobe"
PROBE_START = "__start_paravirtprobe"
PROBE_STOP = "__stop_paravirtprobe"
PROBE_ENTRY = struct.Struct("<I")

#: What bare hardware registers; it is linked last and never returns.
PROBE_OF_LAST_RESORT = "start_kernel"

#: Pushed in this order at the start of the walk and put back before each probe, which sees the values of
#: entry in every register except ESP.
PROBE_SAVED_REGISTERS = ("edx", "ecx", "eax")


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
