"""What a kernel's boot makes of its patch sites: an image enters, the bytes of each site afterwards leave.

Since Linux 5.13 two tables decide. ``apply_paravirt`` turns each site into a direct call to what its
``pv_ops`` member holds; ``apply_alternatives`` then replaces bytes where a processor feature asks for it.
This is the state of bare hardware: ``pv_ops`` as the image's data has it, no hypervisor's feature set. Next:
``listing.py``.

Design: what cannot be known from the image (the address of paravirt_BUG, a feature that depends on the
processor) is left undecided with a reason. A wrong byte would be worse than none.
"""

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from pvfast.assembly import disassemble, nops
from pvfast.images.altinstructions import Alternative, read_alternatives
from pvfast.images.kernel import KernelImage
from pvfast.images.parainstructions import SiteRecord, pointer_of, read_sites
from pvfast.paravirt.linux.naming import operation_name, operation_names

#: First version with this procedure, and the first with another (6.3 began to change apply_alternatives).
SINCE, UNTIL = (5, 13), (6, 3)

#: The reason of every site of an image that boot, or pvfast, has been over.
PATCHED_ALREADY = ("no site calls through pv_ops, so its address is unknown: the image was patched already, give "
                   "the original")

#: Feature numbers, 32 * word + bit (Linux 6.1, arch/x86/include/asm/cpufeatures.h).
ALWAYS, XENPV, PVUNLOCK, VCPUPREEMPT = 3 * 32 + 21, 8 * 32 + 16, 8 * 32 + 20, 8 * 32 + 21

_NOP = 0x90
_CALL, _JMP, _JMP_SHORT, _RET = 0xE8, 0xE9, 0xEB, 0xC3
_BRANCH_BYTES = 5
_PUSH, _POP = range(0x50, 0x58), range(0x58, 0x60)
_ENDBR = (bytes.fromhex("f30f1efb"), bytes.fromhex("f30f1efa"))


@dataclass(frozen=True, slots=True)
class CpuFeatures:
    """What is known of the processor that the kernel boots on.

    Attributes
    ----------
    present, absent : frozenset of int
        Feature numbers; one that is in neither is unknown.

    Examples
    --------
    >>> BARE_HARDWARE.has(XENPV), BARE_HARDWARE.has(0)
    (False, None)
    """

    present: frozenset[int]
    absent: frozenset[int]

    def has(self, feature: int) -> bool | None:
        """Whether the processor has the feature; None when that is not known."""
        return True if feature in self.present else False if feature in self.absent else None


#: No hypervisor: Linux sets none of the features that stand for one.
BARE_HARDWARE = CpuFeatures(frozenset({ALWAYS}), frozenset({XENPV, PVUNLOCK, VCPUPREEMPT}))


@dataclass(frozen=True, slots=True)
class PatchedSite:
    """A patch site before and after the kernel's boot.

    Attributes
    ----------
    record : SiteRecord
        The site.
    operation : str or None
        Its operation's name, when the kernel's table is known.
    before : bytes
        The bytes in the image.
    after : bytes or None
        The bytes after boot; None when they cannot be known from the image.
    callee : int or None
        Linear address of the function that the unpatched site calls.
    reason : str
        Why `after` is None; empty otherwise.
    """

    record: SiteRecord
    operation: str | None
    before: bytes
    after: bytes | None
    callee: int | None
    reason: str


@dataclass(frozen=True, slots=True)
class BootPatch:
    """What a kernel's boot changes.

    Attributes
    ----------
    sites : tuple of PatchedSite
        Every patch site, in table order.
    changes : tuple of (int, bytes)
        Linear address and new bytes of all that changes: the decided sites, and what alternatives that are
        larger than their site replace around it.
    """

    sites: tuple[PatchedSite, ...]
    changes: tuple[tuple[int, bytes], ...]


def boot_patch(
    image: KernelImage, features: CpuFeatures = BARE_HARDWARE, nop_family: str | None = None
) -> BootPatch:
    """Compute what the kernel's own boot on bare hardware makes of every patch site.

    Parameters
    ----------
    image : KernelImage
        An opened kernel, Linux 5.13 to 6.2.
    features : CpuFeatures, optional
        What the processor is known to have and to lack.
    nop_family : str, optional
        Family of the padding. By default the one these kernels use whatever the processor:
        ``"generic"`` in 32-bit kernels and ``"p6"`` in 64-bit ones.

    Returns
    -------
    BootPatch
        Every site before and after. For other kernels every site is undecided and says why.

    Raises
    ------
    ImageError
        A table of the image is missing or damaged.
    """
    sites = read_sites(image)
    patcher = _Patcher(image, sites, nop_family or ("generic" if image.bits == 32 else "p6"))
    if image.version is None or not SINCE <= image.version < UNTIL:
        patcher.refuse_all("how this kernel patches itself is known for Linux 5.13 to 6.2 only; this is "
                           + (image.banner or "a kernel without a version banner"))
    else:
        patcher.apply_paravirt()
        patcher.apply_alternatives(read_alternatives(image), features)
    return patcher.result()


class _Patcher:
    """The bytes of the sites while the kernel's two passes go over them."""

    def __init__(self, image: KernelImage, sites: tuple[SiteRecord, ...], nop_family: str) -> None:
        self.image = image
        self.sites = sites
        self.nop_family = nop_family
        self.changed: dict[int, int] = {}  # linear address -> byte
        self.reasons: dict[SiteRecord, str] = {}
        self.damaged: dict[SiteRecord, str] = {}  # reasons that stay, whatever an alternative does to the site
        self.callees: dict[SiteRecord, int] = {}
        self.applied: list[tuple[Alternative, list[SiteRecord]]] = []

    def refuse_all(self, reason: str) -> None:
        self.reasons = dict.fromkeys(self.sites, reason)

    def apply_paravirt(self) -> None:
        """First pass: each site becomes a direct call, or NOPs where ``pv_ops`` holds ``_paravirt_nop``."""
        word = self.image.word_bytes
        self.damaged = {site: reason for site in self.sites if (reason := _damage(self.image, site))}
        pointers = {site: pointer_of(self.image, site) for site in self.sites if site not in self.damaged}
        bases = Counter(at - site.type * word for site, at in pointers.items() if at is not None)
        pv_ops = bases.most_common(1)[0][0] if bases else None
        for site, at in pointers.items():
            if pv_ops is None:
                self.reasons[site] = PATCHED_ALREADY
            elif at is None:  # the kernel goes by the type alone, whatever bytes the site has
                self.damaged[site] = ("it does not call through pv_ops as other sites do: it was patched already, "
                                      "or the table is damaged")
            elif at != pv_ops + site.type * word:
                self.reasons[site] = f"it calls through linear {at:#x}, not the pv_ops member of its type"
            else:
                self.callees[site] = self.image.read_word(pv_ops + site.type * word)
        empty = _empty_functions(self.image, set(self.callees.values()))
        for site, callee in self.callees.items():
            self._direct(site, callee, empty)

    def _direct(self, site: SiteRecord, callee: int, empty: set[int]) -> None:
        rel32 = callee - (site.address + _BRANCH_BYTES)
        if self.image.bits == 32:
            rel32 = (rel32 + (1 << 31)) % (1 << 32) - (1 << 31)
        if not callee:
            self.reasons[site] = ("its pv_ops member is null: boot makes it a call to paravirt_BUG, whose "
                                  "address the image does not tell without symbols")
        elif callee in empty and len(empty) > 1:
            self.reasons[site] = f"pv_ops has {len(empty)} empty functions, any of which may be _paravirt_nop"
        elif callee in empty:
            self._write(site.address, nops(self.nop_family, site.length))
        elif site.length < _BRANCH_BYTES or not -(1 << 31) <= rel32 < 1 << 31:
            self.reasons[site] = f"a direct call to linear {callee:#x} does not fit: boot would stop with BUG"
        else:
            call = bytes([_CALL]) + rel32.to_bytes(4, "little", signed=True)
            self._write(site.address, call + nops(self.nop_family, site.length - len(call)))

    def apply_alternatives(self, alternatives: Iterable[Alternative], features: CpuFeatures) -> None:
        """Second pass: the alternatives that touch a site, in table order."""
        ordered = sorted(self.sites, key=lambda site: site.address)
        for record in alternatives:
            touched = _overlapping(ordered, record)
            if not touched or not record.length:
                continue
            present = features.has(record.feature)
            if present is None:
                word, bit = divmod(record.feature, 32)
                reason = f"an alternative depends on processor feature {word}*32+{bit}"
                self.reasons |= dict.fromkeys(touched, reason)
                continue
            code = self._read(record.address, record.length)
            if present != record.when_absent:
                code = self._replacement(record)
                for site in touched:
                    if record.address <= site.address and _end(site) <= record.address + record.length:
                        self.reasons.pop(site, None)
            self._write(record.address, self._optimize_nops(code))
            self.applied.append((record, touched))

    def _replacement(self, record: Alternative) -> bytes:
        """The replacement, its branch relocated as recompute_jump does, padded with single-byte NOPs."""
        code = self.image.read(record.replacement, record.replacement_length)
        if len(code) == _BRANCH_BYTES and code[0] in (_CALL, _JMP):
            target = record.replacement + _BRANCH_BYTES + int.from_bytes(code[1:], "little", signed=True)
            forward = target - record.address
            if code[0] == _JMP and 0 <= forward <= 127 + 2:
                displacement = (forward - 2) % 256
                code = bytes([_JMP_SHORT, displacement]) + nops(self.nop_family, 3)
            else:
                code = code[:1] + ((forward - _BRANCH_BYTES) % (1 << 32)).to_bytes(4, "little")
        return code + bytes([_NOP]) * (record.length - len(code))

    def _optimize_nops(self, code: bytes) -> bytes:
        """Runs of single-byte NOPs become longer NOPs, as the kernel's optimize_nops does."""
        result = bytearray(code)
        position = 0
        for instruction in disassemble(code, 0, self.image.bits):
            if instruction.text.startswith(".byte"):
                break
            if instruction.address >= position and instruction.bytes == bytes([_NOP]):
                position = instruction.address
                run = len(code) - position - len(code[position:].lstrip(bytes([_NOP])))
                result[position:position + run] = nops(self.nop_family, run)
                position += run
        return bytes(result)

    def _read(self, linear: int, length: int) -> bytes:
        code = self.image.read(linear, length)
        return bytes(self.changed.get(linear + i, byte) for i, byte in enumerate(code))

    def _write(self, linear: int, code: bytes) -> None:
        self.changed.update(zip(range(linear, linear + len(code)), code, strict=True))

    def result(self) -> BootPatch:
        self.reasons |= self.damaged
        sites = tuple(
            PatchedSite(
                record=site,
                operation=operation_name(self.image, site.type),
                before=self.image.read(site.address, site.length),
                after=None if site in self.reasons else self._read(site.address, site.length),
                callee=self.callees.get(site),
                reason=self.reasons.get(site, ""),
            )
            for site in self.sites
        )
        changes = [(site.record.address, site.after) for site in sites if site.after is not None]
        for record, touched in self.applied:
            if self.reasons.keys().isdisjoint(touched):
                changes.append((record.address, self._read(record.address, record.length)))
        return BootPatch(sites, tuple(changes))


def _damage(image: KernelImage, site: SiteRecord) -> str:
    """Why the site's record cannot be right; empty when nothing is wrong with it.

    The site is whole instructions. Before it is patched they are one indirect call, perhaps with as many pushes
    before it as pops behind it.
    """
    names = operation_names(image)
    if names is not None and site.type >= len(names):
        return f"its type {site.type} is none of this kernel's, 0 to {len(names) - 1}: the table is damaged"
    found = disassemble(image.read(site.address, site.length), site.address, image.bits)
    if any(instruction.text.startswith(".byte") for instruction in found):
        return f"the length {site.length} does not end at an instruction: the table is damaged"
    if pointer_of(image, site) is None:
        return ""
    around = [instruction.bytes for instruction in found]
    while len(around) > 2 and around[0][0] in _PUSH and around[-1][0] in _POP:
        around = around[1:-1]
    if len(around) != 1:
        return f"the length {site.length} takes in more than the call through pv_ops: the table is damaged"
    return ""


def _end(site: SiteRecord) -> int:
    return site.address + site.length


def _overlapping(ordered: list[SiteRecord], record: Alternative) -> list[SiteRecord]:
    """The sites that share a byte with the alternative; as none overlap, their ends are in order too."""
    first = bisect_right(ordered, record.address, key=_end)
    last = bisect_right(ordered, record.address + record.length - 1, key=lambda site: site.address)
    return ordered[first:last]


def _empty_functions(image: KernelImage, callees: set[int]) -> set[int]:
    """The callees that only return: ``ret``, or a jump to the return thunk, which ``.return_sites`` lists."""
    section = image.section(".return_sites")
    returns = set()
    if section is not None and section.offset is not None:
        for at in range(section.address, section.address + section.size - 3, 4):
            returns.add(at + int.from_bytes(image.read(at, 4), "little", signed=True))
    empty = set()
    for callee in callees:
        section = image.section_at(callee, _BRANCH_BYTES)
        if section is None or not section.executable:
            continue
        start = callee + (4 if image.read(callee, 4) in _ENDBR else 0)
        if start in returns or image.read(start, 1)[0] == _RET:
            empty.add(callee)
    return empty
