"""The patcher: code, its patch sites and a hypervisor's patch function go in, the patched code comes out.

Pure functions of bytes with the contract of Linux's ``apply_paravirt``: the patch function answers with the
code to put at the start of the site, and the rest becomes NOPs. Either every site is patched or an error is
raised and nothing changes; patching twice gives the same bytes. Used alike on the built-in guest, on an image
and inside a machine. ``clobbers.py`` computes what a replacement destroys; ``hypervisors/`` holds the patch
functions. Next: ``poking.py``, the two ways to store what comes out.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from pvfast.assembly.nops import nops
from pvfast.errors import PatchError
from pvfast.paravirt.clobbers import destroyed, register_names
from pvfast.paravirt.operations import FUSED, Era, era
from pvfast.paravirt.shapes import SiteState, classify
from pvfast.paravirt.sites import ADDRESS_END, CLBR_ANY, CLBR_EAX, RESULT_IN_EAX, PatchSite, check_sites

#: Longest site that may be patched: the size of the kernel's buffer from 2.6.23.
MAX_PATCH_LEN = 254

#: ``call rel32`` and ``jmp rel32``.
BRANCH_BYTES = 5

#: (type, clobbers, insns, address) to the replacement: None leaves the site as it is (the kernel's "return
#: len"), ``b""`` makes it all NOPs.
PatchFunction = Callable[[int, int, bytes, int], bytes | None]

#: What an operation that must never be used becomes.
UD2A = b"\x0f\x0b"

#: The kernel's function that does nothing, and the one that answers with its argument (EAX is both), by their symbols.
PARAVIRT_NOP = "paravirt_nop"
PARAVIRT_IDENTITY = "_paravirt_ident_32"


@dataclass(frozen=True, slots=True)
class PatchContext:
    """What a patch function may know about the kernel it patches.

    Attributes
    ----------
    targets : mapping of str to int
        Operation to the linear address of this hypervisor's implementation; 0 is the null pointer.
    symbols : mapping of str to int
        Addresses and per-CPU offsets by name; each hypervisor documents the ones it asks for. `patch_default` knows
        `PARAVIRT_NOP` and `PARAVIRT_IDENTITY`.
    era : Era
        Whose table: ``era.site_operation(site_type)`` names what a site does.
    """

    targets: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))
    symbols: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))
    era: Era = field(default_factory=lambda: era("2.6.20"))


class Replacement(bytes):
    """Code for a site whose calls destroy less than any function may.

    Attributes
    ----------
    callee_clobbers : int
        ``CLBR_*`` bits: what its calls destroy.

    Examples
    --------
    >>> Replacement(bytes.fromhex("e800000000"), CLBR_EAX).callee_clobbers == CLBR_EAX
    True
    """

    callee_clobbers: int

    def __new__(cls, code: bytes, callee_clobbers: int) -> "Replacement":
        """Bytes, and what their calls destroy."""
        made = super().__new__(cls, code)
        made.callee_clobbers = callee_clobbers
        return made


def patch_nop() -> bytes:
    """``paravirt_patch_nop``: the whole site becomes NOPs."""
    return b""


def patch_ignore() -> None:
    """``paravirt_patch_ignore``: the site stays as it is."""


def patch_insns(insns: bytes, length: int) -> bytes | None:
    """``paravirt_patch_insns``: inline code when it fits a site of `length` bytes, else leave it.

    Examples
    --------
    >>> patch_insns(bytes.fromhex("65c6050800000001"), 10).hex()
    '65c6050800000001'
    >>> patch_insns(bytes.fromhex("65c6050800000001"), 7) is None
    True
    """
    return insns if len(insns) <= length else None


def patch_call(
    target: int, target_clobbers: int, address: int, site_clobbers: int, length: int
) -> bytes | None:
    """``paravirt_patch_call``: a direct call, unless it destroys what the site must keep or does not fit.

    Examples
    --------
    >>> patch_call(0xC0200000, CLBR_ANY, 0xC0100000, CLBR_ANY, 6).hex()
    'e8fbff0f00'
    >>> patch_call(0xC0200000, CLBR_ANY, 0xC0100000, CLBR_EAX, 6) is None
    True
    """
    if target_clobbers & ~site_clobbers or length < BRANCH_BYTES:
        return None
    return patch_near_call(target, address)


def patch_near_call(target: int, address: int) -> bytes:
    """A direct call, five bytes."""
    return _branch(b"\xe8", address, target)


def patch_jmp(target: int, address: int, length: int) -> bytes | None:
    """``paravirt_patch_jmp``: a direct jump when it fits."""
    return _branch(b"\xe9", address, target) if length >= BRANCH_BYTES else None


def patch_default(
    site_type: int, clobbers: int, insns: bytes, address: int, context: PatchContext
) -> bytes | None:
    """``paravirt_patch_default``: what becomes of a site for which the hypervisor has no instructions of its own.

    A null pointer becomes ``ud2a``, a function that does nothing becomes NOPs, and what is jumped to a jump. All else
    becomes a call where the site allows what any function may destroy. So a C site of the flags in 2.6.20, which
    allows EAX, stays as it is: an indirect call between pushes and pops.

    Parameters
    ----------
    site_type, clobbers, insns, address, context
        As `pvfast.paravirt.hypervisors.Hypervisor.patch` gets them.

    Returns
    -------
    bytes or None
        None leaves the site as it is; so does a site that is two operations, or whose target is not known.

    Examples
    --------
    >>> context = PatchContext({"irq_enable": 0xC0200000, "iret": 0xC0200010, "irq_enable_sysexit": 0})
    >>> patch_default(1, CLBR_ANY, bytes(11), 0xC0100000, context).hex()
    'e8fbff0f00'
    >>> patch_default(1, CLBR_EAX, bytes(10), 0xC0100000, context) is None
    True
    >>> patch_default(5, CLBR_ANY, bytes(7), 0xC0100000, context).hex()
    'e90b001000'
    >>> patch_default(6, CLBR_ANY, bytes(7), 0xC0100000, context).hex()
    '0f0b'
    """
    operation = context.era.site_operation(site_type)
    target = context.targets.get(operation) if operation else None
    if operation is None or operation == FUSED or target is None:
        return None
    if not target:
        return patch_insns(UD2A, len(insns))
    if target in (context.symbols.get(PARAVIRT_NOP), context.symbols.get(PARAVIRT_IDENTITY)):
        return patch_nop()
    if context.era[operation].jumped_to:
        return patch_jmp(target, address, len(insns))
    return patch_call(target, CLBR_ANY, address, clobbers, len(insns))


def patch_site(
    site: PatchSite,
    insns: bytes,
    patch: PatchFunction,
    nop_family: str = "generic",
    debug_clobbers: bool = False,
) -> bytes:
    """Patch one site.

    Parameters
    ----------
    site : PatchSite
        Where, what, how long.
    insns : bytes
        What it holds now.
    patch : callable
        The hypervisor's patch function.
    nop_family : str, optional
        See `pvfast.assembly.nops`.
    debug_clobbers : bool, optional
        CONFIG_DEBUG_PARAVIRT: invert the registers that may be destroyed, as far as there is room, so that
        code that relied on them fails.

    Returns
    -------
    bytes
        As long as the site.

    Raises
    ------
    PatchError
        The replacement does not fit, is not whole instructions, leaves the stack unbalanced, or destroys a
        register that the site must keep.

    Examples
    --------
    >>> from pvfast.paravirt.sites import PatchType
    >>> site = PatchSite(0xC0100000, PatchType.IRQ_DISABLE, 10, CLBR_EAX)
    >>> insns = bytes.fromhex("5152ff15680040c05a59")
    >>> patch_site(site, insns, lambda *site: bytes.fromhex("fa")).hex(" ")
    'fa 90 8d b4 26 00 00 00 00 90'
    """
    if site.length > MAX_PATCH_LEN:
        raise PatchError(f"{site}: longer than {MAX_PATCH_LEN} bytes, which is what can be patched")
    if len(insns) != site.length:
        raise PatchError(f"{site}: {len(insns)} bytes were given for it")
    code = patch(site.type, site.clobbers, insns, site.address)
    if code is None or code == insns:
        return insns
    if len(code) > site.length:
        raise PatchError(f"{site}: the replacement takes {len(code)} bytes: leave the site as it is instead")
    allowed = site.clobbers & CLBR_ANY
    if site.type in RESULT_IN_EAX:
        allowed |= CLBR_EAX
    callees = code.callee_clobbers if isinstance(code, Replacement) else CLBR_ANY
    broken = destroyed(bytes(code), site.address, callees) & ~allowed
    if broken:
        raise PatchError(f"{site}: the replacement {code.hex(' ')} destroys {register_names(broken)}, which "
                         "the site must keep: save them, or leave the site as it is")
    if debug_clobbers:
        code += _inverted(site.clobbers, site.length - len(code))
    return code + nops(nop_family, site.length - len(code))


def apply_paravirt(
    text: bytes,
    address: int,
    sites: Iterable[PatchSite],
    patch: PatchFunction,
    nop_family: str = "generic",
    debug_clobbers: bool = False,
) -> bytes:
    """Patch every site of a piece of code.

    Parameters
    ----------
    text : bytes
        The code.
    address : int
        Linear address of its first byte.
    sites : iterable of PatchSite
        All inside `text`.
    patch, nop_family, debug_clobbers
        As for `patch_site`.

    Returns
    -------
    bytes
        As long as `text`.

    Raises
    ------
    PatchError
        A site is wrong or its replacement breaks a rule; nothing was patched.
    """
    return _replace(
        text, address, sites, lambda site, insns: patch_site(site, insns, patch, nop_family, debug_clobbers)
    )


def apply_direct_calls(
    text: bytes,
    address: int,
    sites: Iterable[PatchSite],
    targets: Mapping[int, int],
    nop_family: str = "generic",
) -> bytes:
    """Make every compiled site direct, keeping its pushes and pops: the same work without the indirection.

    Parameters
    ----------
    text, address, sites, nop_family
        As for `apply_paravirt`.
    targets : mapping of int to int
        Linear address of each function pointer to what it holds.

    Returns
    -------
    bytes
        As long as `text`; sites that are direct or inline already stay as they are.

    Raises
    ------
    PatchError
        A site is outside `text`, or goes through a pointer that `targets` does not know.

    Examples
    --------
    >>> text = bytes.fromhex("5152ff15680040c05a59")
    >>> site = PatchSite(0xC0100000, 0, 10, CLBR_EAX)
    >>> apply_direct_calls(text, 0xC0100000, [site], {0xC0400068: 0xC0100020}).hex(" ")
    '51 52 e8 19 00 00 00 90 5a 59'
    """
    def direct(site: PatchSite, insns: bytes) -> bytes:
        found = classify(insns, site.address)
        if found is None or found.state is SiteState.DIRECT:
            return insns
        try:
            goals = [targets[pointer] for pointer in found.addresses]
        except KeyError as pointer:
            raise PatchError(f"{site}: nothing is known about the pointer at {pointer.args[0]:#x}") from None
        return found.form.direct(site.address, goals, nop_family)

    return _replace(text, address, sites, direct)


def _replace(
    text: bytes, address: int, sites: Iterable[PatchSite], replace: Callable[[PatchSite, bytes], bytes]
) -> bytes:
    patched = bytearray(text)
    for site in check_sites(sites, address, address + len(text)):
        place = slice(site.address - address, site.end - address)
        patched[place] = replace(site, bytes(patched[place]))
    return bytes(patched)


def _branch(opcode: bytes, address: int, target: int) -> bytes:
    return opcode + ((target - (address + BRANCH_BYTES)) % ADDRESS_END).to_bytes(4, "little")


def _inverted(clobbers: int, room: int) -> bytes:
    code = b""
    for register in range(3):
        if clobbers >> register & 1 and len(code) + 2 <= room:
            code += bytes((0xF7, 0xD0 | register))    # not %eax, %ecx, %edx
    return code
