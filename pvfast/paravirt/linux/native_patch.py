"""Patching in Linux 2.6.24 to 5.12: ``native_patch`` gives each site an instruction, a direct call, or nothing to do.

Enters: an image. Leaves: the sites as ``apply_paravirt`` makes them on bare hardware, and by
``paravirt_patch_default``, which Xen PV guests use from 4.20 on. What a site does is told by the
function that its pointer holds in the image, ``native_irq_disable``, whose name comes from the kernel's own symbols, or
from its body where there are none. Next: ``boot_patch.py``, which chooses the procedure.

Until 5.1 the instructions stand in the image between labels such as start_pv_irq_ops_irq_disable and
end_pv_irq_ops_irq_disable (DEF_NATIVE), and are read there; from 5.2 on in a structure without symbols, so they are
written down here (arch/x86/kernel/paravirt_patch.c).
"""

from collections.abc import Mapping
from functools import cached_property
from types import MappingProxyType

from pvfast.images.kernel import KernelImage
from pvfast.images.parainstructions import SiteRecord
from pvfast.paravirt.linux.naming import native_operation
from pvfast.paravirt.linux.site_patcher import JMP, SitePatcher

#: The first version whose instructions are not between labels.
_STRUCTURE_SINCE = (5, 2)
#: The first version in which a patch function is not told what it may clobber (4.20, 27876f3882fd).
_NO_CLOBBERS_SINCE = (4, 20)
#: CLBR_ANY: what a call may destroy, and so what a site must allow for one (arch/x86/include/asm/paravirt_types.h).
_CLBR_ANY = {32: 0xF, 64: 0x1FF}
_CLBR_ANY_BEFORE_2_6_30 = 0x7

_PATCHED = {
    32: {"irq_disable": "fa", "irq_enable": "fb", "restore_fl": "509d", "save_fl": "9c58", "read_cr2": "0f20d0",
         "read_cr3": "0f20d8", "write_cr3": "0f22d8", "iret": "cf", "queued_spin_unlock": "c60000",
         "vcpu_is_preempted": "31c0"},
    64: {"irq_disable": "fa", "irq_enable": "fb", "restore_fl": "579d", "save_fl": "9c58", "read_cr2": "0f20d0",
         "read_cr3": "0f20d8", "write_cr3": "0f22df", "wbinvd": "0f09", "swapgs": "0f01f8",
         "usergs_sysret64": "0f01f8480f07", "queued_spin_unlock": "c60700", "vcpu_is_preempted": "31c0"},
}
#: By bits: operation to the instructions of ``native_patch`` in 5.2 to 5.12.
PATCHED: Mapping[int, Mapping[str, bytes]] = MappingProxyType({
    bits: MappingProxyType({name: bytes.fromhex(code) for name, code in table.items()})
    for bits, table in _PATCHED.items()})

#: Replacements that every version has, so that a body tells enough.
_IN_EVERY_VERSION = {"irq_disable", "irq_enable", "restore_fl", "save_fl", "read_cr2", "read_cr3", "write_cr3"}
#: mov %rdi, %rax and mov %edi, %eax; on 32 bits argument and result are in %eax already.
_IDENTITY = {64: {"_paravirt_ident_64": bytes.fromhex("4889f8"), "_paravirt_ident_32": bytes.fromhex("89f8")},
             32: {"_paravirt_ident_64": b"", "_paravirt_ident_32": b""}}
_NOP = "_paravirt_nop"
#: More than any instructions of DEF_NATIVE take.
_LONGEST = 24


class NativePatcher(SitePatcher):
    """``apply_paravirt`` with ``native_patch``, or with ``paravirt_patch_default``, which knows no instructions."""

    def __init__(self, image: KernelImage, sites: tuple[SiteRecord, ...], nop_family: str) -> None:
        super().__init__(image, sites, nop_family)
        self.version = image.version or (0, 0)
        self.inlines = True

    def apply_paravirt(self, *, inlines: bool = True) -> None:
        """The one pass: by ``native_patch`` where it `inlines`, else by ``paravirt_patch_default``."""
        self.inlines = inlines
        self.find_callees(one_structure=self.version >= _NO_CLOBBERS_SINCE)
        for site, callee in self.callees.items():
            if not callee:
                self._bug(site)
            elif (code := self._instructions(site, callee)) is not None:
                # paravirt_patch_insns leaves the site as it is when they do not fit
                self.fill(site, code) if len(code) <= site.length else self.write(site.address, self._now(site))
            elif site not in self.reasons:
                self._branch(site, callee)

    def _now(self, site: SiteRecord) -> bytes:
        return self.image.read(site.address, site.length)

    def _bug(self, site: SiteRecord) -> None:
        """A null pointer: paravirt_BUG from 4.20 on; before, an ud2a stands at the start of the site."""
        if self.version < _NO_CLOBBERS_SINCE:
            self.fill(site, b"\x0f\x0b")
        elif (bug := self.symbols.addresses.get("paravirt_BUG")) is not None:
            self.branch(site, bug)
        else:
            self.reasons[site] = "its pv_ops member is null, and the address of paravirt_BUG is not known"

    def _branch(self, site: SiteRecord, callee: int) -> None:
        """paravirt_patch_jmp for what never returns, else paravirt_patch_call."""
        if self.jumps(site):
            self.branch(site, callee, JMP)
        elif self._keeps_registers(site):
            self.write(site.address, self._now(site))
        else:
            self.branch(site, callee)

    def _keeps_registers(self, site: SiteRecord) -> bool:
        """A bare call may destroy registers that this site keeps: the kernel leaves it as it is."""
        if self.version >= _NO_CLOBBERS_SINCE:
            return False
        wanted = _CLBR_ANY[self.image.bits]
        if site.clobbers == _CLBR_ANY_BEFORE_2_6_30 and self._most_clobbers <= _CLBR_ANY_BEFORE_2_6_30:
            wanted = _CLBR_ANY_BEFORE_2_6_30
        return bool(wanted & ~site.clobbers)

    @cached_property
    def _most_clobbers(self) -> int:
        """Of all sites: what CLBR_ANY is in this kernel."""
        return max(site.clobbers for site in self.sites)

    # --- Instructions ---------------------------------------------------------------------------------------------

    def _instructions(self, site: SiteRecord, callee: int) -> bytes | None:
        """What replaces the call; None for a branch, or when that is not known (with a reason)."""
        names = self.symbols.names.get(callee, ())
        for name in names:
            if name == _NOP:
                return b""
            if name in _IDENTITY[self.image.bits]:
                return _IDENTITY[self.image.bits][name]
        if not self.inlines:
            return None
        if names:
            operations = filter(None, map(native_operation, names))
            return next((code for name in operations if (code := self._native(name)) is not None), None)
        return self._by_body(site, callee)

    def _native(self, operation: str) -> bytes | None:
        """The instructions of an operation in this version."""
        if self.version >= _STRUCTURE_SINCE:
            return PATCHED[self.image.bits].get(operation)
        return next((self.image.read(start, length) for name, (start, length) in self._labelled.items()
                     if name.endswith(f"_{operation}")), None)

    @cached_property
    def _labelled(self) -> Mapping[str, tuple[int, int]]:
        """Linear address and length of the instructions between labels, by what follows start_ and end_."""
        found = self.symbols.addresses
        starts = {name.removeprefix("start_"): at for name, at in found.items() if name.startswith("start_")}
        return {name: (start, found[f"end_{name}"] - start) for name, start in starts.items()
                if 0 < found.get(f"end_{name}", 0) - start <= _LONGEST}

    def _by_body(self, site: SiteRecord, callee: int) -> bytes | None:
        """Without symbols: a function of nothing but an operation's instructions performs it; others are not known."""
        known = PATCHED[self.image.bits] if self.version >= _STRUCTURE_SINCE else {
            name: PATCHED[self.image.bits][name] for name in _IN_EVERY_VERSION}
        identity = _IDENTITY[self.image.bits].values() if self.image.bits == 64 else ()
        for code in (*known.values(), *identity):
            if self.is_function(callee, code):
                return code
        self.reasons[site] = ("which function its callee is, and so what takes its place, is told by symbols, which "
                              "cannot be read from this image")
        return None
