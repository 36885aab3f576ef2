"""Patching since Linux 5.13: every site becomes a direct call, then alternatives replace bytes.

Enters: an image and what is known of the processor. Leaves: the sites as ``apply_paravirt`` and ``apply_alternatives``
make them on bare hardware: ``pv_ops`` as the image's data has it, no hypervisor's feature set. ``xen_boot.py`` has
what a Xen PV guest sets. Next: ``boot_patch.py``, which chooses the procedure.
"""

from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass

from pvfast.assembly import disassemble, nops
from pvfast.images.altinstructions import Alternative
from pvfast.images.kernel import KernelImage
from pvfast.images.parainstructions import SiteRecord
from pvfast.paravirt.linux.site_patcher import BRANCH_BYTES, CALL, JMP, SitePatcher

#: Feature numbers, 32 * word + bit (Linux 6.1, arch/x86/include/asm/cpufeatures.h).
ALWAYS, XENPV, PVUNLOCK, VCPUPREEMPT = 3 * 32 + 21, 8 * 32 + 16, 8 * 32 + 20, 8 * 32 + 21

_NOP, _JMP_SHORT = 0x90, 0xEB


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


def xen_guest(vcpus: int | None) -> CpuFeatures:
    """What Linux sets as a Xen PV guest of so many virtual CPUs; None when their number is not known.

    Examples
    --------
    >>> xen_guest(2).has(PVUNLOCK), xen_guest(1).has(PVUNLOCK), xen_guest(None).has(PVUNLOCK)
    (True, False, None)
    """
    locks, none = frozenset({PVUNLOCK, VCPUPREEMPT}), frozenset[int]()
    several = vcpus is not None and vcpus > 1
    return CpuFeatures(frozenset({ALWAYS, XENPV}) | (locks if several else none), locks if vcpus == 1 else none)


class AlternativesPatcher(SitePatcher):
    """The kernel's two passes."""

    def __init__(self, image: KernelImage, sites: tuple[SiteRecord, ...], nop_family: str) -> None:
        super().__init__(image, sites, nop_family)
        self.applied: list[tuple[Alternative, list[SiteRecord]]] = []

    def apply_paravirt(self) -> None:
        """First pass: each site becomes a direct call, or NOPs where ``pv_ops`` holds ``_paravirt_nop``."""
        self.find_callees(one_structure=True)
        empty = self.empty_functions()
        nop = self._paravirt_nop(empty)
        for site, callee in self.callees.items():
            if not callee and (bug := self.symbols.addresses.get("paravirt_BUG")) is not None:
                self.branch(site, bug)
            elif not callee:
                self.reasons[site] = ("its pv_ops member is null: boot makes it a call to paravirt_BUG, whose "
                                      "address the image does not tell without symbols")
            elif callee in empty and nop is None:
                self.reasons[site] = f"pv_ops has {len(empty)} empty functions, any of which may be _paravirt_nop"
            elif callee == nop:
                self.fill(site, b"")
            else:
                self.branch(site, callee)

    def _paravirt_nop(self, empty: set[int]) -> int | None:
        """The function that stands for nothing to do; None when several may be it."""
        if len(empty) > 1 or self.members:  # members that boot sets: any of them may be empty
            return self.symbols.addresses.get("_paravirt_nop")
        return next(iter(empty), None)

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
            code = self.read(record.address, record.length)
            if present != record.when_absent:
                code = self._replacement(record)
                for site in touched:
                    if record.address <= site.address and _end(site) <= record.address + record.length:
                        self.reasons.pop(site, None)
            self.write(record.address, self._optimize_nops(code))
            self.applied.append((record, touched))

    def _replacement(self, record: Alternative) -> bytes:
        """The replacement, its branch relocated as recompute_jump does, padded with single-byte NOPs."""
        code = self.image.read(record.replacement, record.replacement_length)
        if len(code) == BRANCH_BYTES and code[0] in (CALL, JMP):
            target = record.replacement + BRANCH_BYTES + int.from_bytes(code[1:], "little", signed=True)
            forward = target - record.address
            if code[0] == JMP and 0 <= forward <= 127 + 2:
                displacement = (forward - 2) % 256
                code = bytes([_JMP_SHORT, displacement]) + nops(self.nop_family, 3)
            else:
                code = code[:1] + ((forward - BRANCH_BYTES) % (1 << 32)).to_bytes(4, "little")
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

    def other_changes(self) -> list[tuple[int, bytes]]:
        """What alternatives that are larger than their site replace around it."""
        return [(record.address, self.read(record.address, record.length)) for record, touched in self.applied
                if self.reasons.keys().isdisjoint(touched)]


def _end(site: SiteRecord) -> int:
    return site.address + site.length


def _overlapping(ordered: list[SiteRecord], record: Alternative) -> list[SiteRecord]:
    """The sites that share a byte with the alternative; as none overlap, their ends are in order too."""
    first = bisect_right(ordered, record.address, key=_end)
    last = bisect_right(ordered, record.address + record.length - 1, key=lambda site: site.address)
    return ordered[first:last]
