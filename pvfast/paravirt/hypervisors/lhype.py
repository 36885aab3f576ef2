"""lhype, the talk's example hypervisor, which became lguest: interrupts are masked by a word in the guest's memory.

`LHYPE_CODE` is all that it inlines. The word, ``lguest_data.irq_enabled``, has one address and the sense of EFLAGS.IF,
so each of the four flag operations is one instruction that needs no register and no relocation. Constants are in
``lhype_interface.py``, the host side is in ``lhype_host.pyx``.
"""

from collections.abc import Mapping
from types import MappingProxyType

from pvfast.paravirt.hypervisors.interface import Hypervisor
from pvfast.paravirt.hypervisors.lhype_host import LhypeHost
from pvfast.paravirt.hypervisors.lhype_interface import GUEST_PL, LGUEST_DATA_IRQ_ENABLED
from pvfast.paravirt.operations import FUSED, FUSED_PARTS
from pvfast.paravirt.patcher import PatchContext, patch_default, patch_insns

#: Linear address of struct lguest_data: the symbol that inlining needs.
LGUEST_DATA_SYMBOL = "lguest_data"

_IRQ_ENABLED = f"{LGUEST_DATA_SYMBOL} + {LGUEST_DATA_IRQ_ENABLED}"

#: By operation, AT&T text and the opcode before and the immediate behind the address of irq_enabled.
LHYPE_CODE: Mapping[str, tuple[str, bytes, bytes]] = MappingProxyType({
    "irq_disable": (f"movl $0, {_IRQ_ENABLED}", b"\xc7\x05", bytes.fromhex("00000000")),
    "irq_enable": (f"movl $0x200, {_IRQ_ENABLED}", b"\xc7\x05", bytes.fromhex("00020000")),
    "restore_fl": (f"movl %eax, {_IRQ_ENABLED}", b"\xa3", b""),
    "save_fl": (f"movl {_IRQ_ENABLED}, %eax", b"\xa1", b""),
})


def inline_code(operation: str, lguest_data: int) -> bytes | None:
    """Encode an operation on ``irq_enabled``.

    Parameters
    ----------
    operation : str
        Of `LHYPE_CODE`, or the fused one of 2.6.20, which is two of them in sequence.
    lguest_data : int
        Linear address of the structure.

    Returns
    -------
    bytes or None
        None: it has no inline form.

    Examples
    --------
    >>> inline_code("irq_disable", 0xC0400000).hex(" ")
    'c7 05 00 00 40 c0 00 00 00 00'
    >>> inline_code("save_fl", 0xC0400000).hex(" ")
    'a1 00 00 40 c0'
    """
    if operation == FUSED:
        return b"".join(inline_code(part, lguest_data) or b"" for part in FUSED_PARTS)
    if operation not in LHYPE_CODE:
        return None
    _, opcode, immediate = LHYPE_CODE[operation]
    return opcode + (lguest_data + LGUEST_DATA_IRQ_ENABLED).to_bytes(4, "little") + immediate


class Lhype(LhypeHost, Hypervisor):
    """lhype, with the interface that lguest had in Linux 2.6.23.

    It inlines the four flag operations when the context's symbols hold ``lguest_data``; all else is as
    ``paravirt_patch_default`` does it.

    Its host side is `LhypeHost`: under ``Machine(hypervisor=lhype)`` the guest runs in ring 1 and this plays ring 0.

    Examples
    --------
    >>> context = PatchContext(symbols={"lguest_data": 0xC0400000})
    >>> insns = bytes.fromhex("5152ff15680040c05a59")
    >>> Lhype().patch(2, 1, insns, 0xC0100000, context).hex(" ")
    'a3 00 00 40 c0'
    """

    name = "lhype"
    banner = "lguest"
    kernel_rpl = GUEST_PL
    paravirt_enabled = 1
    patch_labels = (LGUEST_DATA_SYMBOL,)

    def patch(
        self, site_type: int, clobbers: int, insns: bytes, address: int, context: PatchContext
    ) -> bytes | None:
        """Inline the flag operations; all else as ``paravirt_patch_default`` does."""
        lguest_data = context.symbols.get(LGUEST_DATA_SYMBOL)
        operation = context.era.site_operation(site_type)
        if lguest_data is not None and operation is not None:
            code = inline_code(operation, lguest_data)
            if code is not None and len(code) <= len(insns):
                return patch_insns(code, len(insns))
        return patch_default(site_type, clobbers, insns, address, context)
