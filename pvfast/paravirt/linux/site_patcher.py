"""The bytes of a kernel's patch sites while its boot goes over them: records enter, sites before and after leave.

What all procedures share: reading and writing the image with its changes, the callee of each site, sites that stay
undecided with a reason. Next: ``native_patch.py`` (Linux 2.6.24 to 5.12) and ``alternatives_patch.py`` (since 5.13).

Design: what cannot be known from the image is left undecided. A wrong byte would be worse than none.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from pvfast.assembly import disassemble, nops
from pvfast.images.kallsyms import Symbols, read_kallsyms
from pvfast.images.kernel import KernelImage
from pvfast.images.parainstructions import SiteRecord, pointer_of, structure_at
from pvfast.paravirt.linux.naming import operation_names, table_of

#: The reason of every site of an image that boot, or pvfast, has been over.
PATCHED_ALREADY = ("no site calls through pv_ops, so its address is unknown: the image was patched already, give "
                   "the original")

CALL, JMP = 0xE8, 0xE9
BRANCH_BYTES = 5
_RET = 0xC3
_PUSH, _POP = range(0x50, 0x58), range(0x58, 0x60)
_ENDBR = (bytes.fromhex("f30f1efb"), bytes.fromhex("f30f1efa"))
_INDIRECT_JUMP = (b"\xff\x25", b"\xff\x24\x25", b"\x2e\xff\x25")


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


class SitePatcher:
    """Base of the procedures: the sites of an image, and what has become of them so far."""

    def __init__(self, image: KernelImage, sites: tuple[SiteRecord, ...], nop_family: str) -> None:
        self.image = image
        self.sites = sites
        self.nop_family = nop_family
        self.changed: dict[int, int] = {}  # linear address -> byte
        self.reasons: dict[SiteRecord, str] = {}
        self.damaged: dict[SiteRecord, str] = {}  # reasons that stay, whatever comes after
        self.callees: dict[SiteRecord, int] = {}
        self.members: Mapping[int, int | str] = {}  # pv_ops members by address, where not as in the image: see below

    @cached_property
    def symbols(self) -> Symbols:
        """The kernel's own symbols; looked for when they are first needed, which takes seconds."""
        return read_kallsyms(self.image)

    def refuse_all(self, reason: str) -> None:
        """Leave every site undecided."""
        self.reasons = dict.fromkeys(self.sites, reason)

    # --- Callees --------------------------------------------------------------------------------------------------

    def find_callees(self, *, one_structure: bool) -> None:
        """Fill `callees` from the pointers that the sites go through, and refuse sites that cannot be right.

        A pointer holds what `members` says, a function or why that is not known; else what the image says.

        Parameters
        ----------
        one_structure : bool
            All members lie in one ``pv_ops``, by their type; else only the sites of one type share a pointer.
        """
        word = self.image.word_bytes
        self.damaged = {site: reason for site in self.sites if (reason := _damage(self.image, site))}
        pointers = {site: pointer_of(self.image, site) for site in self.sites if site not in self.damaged}
        expected = self._members(pointers, word, one_structure)
        for site, at in pointers.items():
            member = expected.get(site.type)
            if not expected:
                self.reasons[site] = PATCHED_ALREADY
            elif at is None:  # the kernel goes by the type alone, whatever bytes the site has
                self.damaged[site] = ("it does not call through pv_ops as other sites do: it was patched already, "
                                      "or the table is damaged")
            elif at != member:
                self.reasons[site] = f"it calls through linear {at:#x}, not the pv_ops member of its type"
            elif isinstance(function := self.members.get(at, self.image.read_word(at)), str):
                self.damaged[site] = function
            else:
                self.callees[site] = function

    def _members(self, pointers: Mapping[SiteRecord, int | None], word: int, one_structure: bool) -> dict[int, int]:
        """Where the member of each type lies, by what most sites say."""
        if one_structure:
            base = structure_at(pointers, word)
            return {} if base is None else {site.type: base + site.type * word for site in self.sites}
        found = Counter((site.type, at) for site, at in pointers.items() if at is not None)
        members: dict[int, int] = {}
        for (kind, at), _ in found.most_common():
            members.setdefault(kind, at)
        return members

    @cached_property
    def _return_sites(self) -> frozenset[int]:
        """Where functions jump to the return thunk."""
        section = self.image.section(".return_sites")
        if section is None or section.offset is None:
            return frozenset()
        places = range(section.address, section.address + section.size - 3, 4)
        return frozenset(at + int.from_bytes(self.image.read(at, 4), "little", signed=True) for at in places)

    def is_function(self, linear: int, code: bytes) -> bool:
        """Whether a function is nothing but `code` and a return: ``ret``, or a jump to the return thunk."""
        section = self.image.section_at(linear, len(code) + BRANCH_BYTES + len(_ENDBR[0]))
        if section is None or not section.executable:
            return False
        start = linear + (len(_ENDBR[0]) if self.image.read(linear, len(_ENDBR[0])) in _ENDBR else 0)
        end = start + len(code)
        return self.image.read(start, len(code)) == code and (
            end in self._return_sites or self.image.read(end, 1)[0] == _RET)

    def empty_functions(self) -> set[int]:
        """The callees that only return."""
        return {callee for callee in set(self.callees.values()) if self.is_function(callee, b"")}

    # --- Bytes ----------------------------------------------------------------------------------------------------

    def branch(self, site: SiteRecord, target: int, opcode: int = CALL) -> None:
        """The whole site becomes a direct call or jump."""
        rel32 = target - (site.address + BRANCH_BYTES)
        if self.image.bits == 32:
            rel32 = (rel32 + (1 << 31)) % (1 << 32) - (1 << 31)
        if site.length < BRANCH_BYTES or not -(1 << 31) <= rel32 < 1 << 31:
            self.reasons[site] = f"a direct call to linear {target:#x} does not fit: boot would stop with BUG"
            return
        self.fill(site, bytes([opcode]) + rel32.to_bytes(4, "little", signed=True))

    def fill(self, site: SiteRecord, code: bytes) -> None:
        """Code at the start of the site, NOPs behind it."""
        self.write(site.address, code + nops(self.nop_family, site.length - len(code)))

    def read(self, linear: int, length: int) -> bytes:
        """As the image and the changes so far have it."""
        code = self.image.read(linear, length)
        return bytes(self.changed.get(linear + i, byte) for i, byte in enumerate(code))

    def write(self, linear: int, code: bytes) -> None:
        """Change bytes."""
        self.changed.update(zip(range(linear, linear + len(code)), code, strict=True))

    def jumps(self, site: SiteRecord) -> bool:
        """Whether the unpatched site jumps rather than calls."""
        return self.image.read(site.address, 3).startswith(_INDIRECT_JUMP)

    def other_changes(self) -> list[tuple[int, bytes]]:
        """What else changes beside the sites."""
        return []

    def result(self) -> BootPatch:
        """Every site, before and after."""
        self.reasons |= self.damaged
        names = operation_names(self.image)
        sites = tuple(
            PatchedSite(
                record=site,
                operation=names.get(site.type),
                before=self.image.read(site.address, site.length),
                after=None if site in self.reasons else self.read(site.address, site.length),
                callee=self.callees.get(site),
                reason=self.reasons.get(site, ""),
            )
            for site in self.sites
        )
        changes = [(site.record.address, site.after) for site in sites if site.after is not None]
        return BootPatch(sites, tuple(changes + self.other_changes()))


def _damage(image: KernelImage, site: SiteRecord) -> str:
    """Why the site's record cannot be right; empty when nothing is wrong with it.

    The site is whole instructions. Before it is patched they are one indirect call, perhaps with as many pushes
    before it as pops behind it.
    """
    table = table_of(image)
    if table is not None and site.type >= len(table):
        return f"its type {site.type} is none of this kernel's, 0 to {len(table) - 1}: the table is damaged"
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
