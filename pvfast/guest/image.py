"""The assembled guest kernel: bytes, addresses, patch sites and benchmarks, as one frozen record.

``build.py`` makes it; a machine, a patcher or a domain builder reads it. Nothing here runs the kernel. Next:
``benchmarks.py``, what the loops in the image measure.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

from pvfast.assembly import AssembledSection
from pvfast.errors import ImageError
from pvfast.guest.benchmarks import Benchmark
from pvfast.guest.notes import XenNotes
from pvfast.paravirt.boot_patching import PatchTables, alternative_instructions, boot_options
from pvfast.paravirt.hypervisors import hypervisor as find_hypervisor
from pvfast.paravirt.hypervisors.native import Native
from pvfast.paravirt.hypervisors.xen import Xen
from pvfast.paravirt.hypervisors.xen_forms import VCPU_INFO_SYMBOL
from pvfast.paravirt.operations import Convention, Era
from pvfast.paravirt.patcher import (
    PARAVIRT_IDENTITY,
    PARAVIRT_NOP,
    PatchContext,
    PatchFunction,
    apply_direct_calls,
    apply_paravirt,
)
from pvfast.paravirt.sites import PatchSite
from pvfast.paravirt.smp_alternatives import alternatives_smp_lock, alternatives_smp_unlock, up_prefix

_WORD_BYTES = 4
_NATIVE = Native.name
_PLACEMENT = "have_vcpu_info_placement"


@dataclass(frozen=True)
class GuestImage:
    """The built-in guest kernel, ready to be written to memory.

    Attributes
    ----------
    era : Era
        Layout of its ``paravirt_ops``.
    code : bytes
        Everything, zeros included: one run of bytes from the first section to the end of the last.
    physical, linear : int
        Physical and linear address of the first byte of `code`.
    labels : mapping of str to int
        Linear address of each label.
    sections : mapping of str to AssembledSection
        As assembled; `code` is what counts after patching.
    sites : tuple of PatchSite
        The records in the image's own ``.parainstructions``.
    smp_locks : tuple of int
        Linear addresses of the LOCK prefixes, from the image's own ``.smp_locks``.
    benchmarks : mapping of str to Benchmark
        By name.
    symbols : mapping of str to int
        Per-CPU offsets (in %gs) that a hypervisor's inline code needs.
    notes : XenNotes
        What a Xen domain builder wants to know.
    nop_family : str
        The NOPs that fill a patched site unless another family is asked for.

    Examples
    --------
    >>> from pvfast.guest import build
    >>> image = build()
    >>> hex(image.linear), hex(image.physical), hex(image.entry)
    ('0xc0100000', '0x100000', '0x100000')
    >>> image.read("startup_32", 2).hex(" ")            # mov %cs, %eax
    '8c c8'
    """

    era: Era
    code: bytes
    physical: int
    linear: int
    labels: Mapping[str, int]
    sections: Mapping[str, AssembledSection]
    sites: tuple[PatchSite, ...]
    smp_locks: tuple[int, ...]
    benchmarks: Mapping[str, Benchmark]
    symbols: Mapping[str, int]
    notes: XenNotes
    nop_family: str = "generic"

    @property
    def entry(self) -> int:
        """Physical address of ``startup_32``, where bare hardware enters with paging off."""
        return self.labels["startup_32"] - self.linear + self.physical

    @property
    def end(self) -> int:
        """Linear address behind the last byte."""
        return self.linear + len(self.code)

    @property
    def pointers(self) -> Mapping[str, int]:
        """Linear address of each operation's pointer in the kernel's ``paravirt_ops``."""
        return self.era.pointers(self.labels["paravirt_ops"])

    def implementations(self, hypervisor: str = _NATIVE) -> Mapping[str, int]:
        """What each pointer holds once the kernel has booted under a hypervisor.

        Parameters
        ----------
        hypervisor : str, optional
            One of `pvfast.paravirt.hypervisors.hypervisor_names`.

        Returns
        -------
        mapping of str to int
            Operation to linear address; what the hypervisor does not replace is native.

        Raises
        ------
        ImageError
            This kernel has no support for that hypervisor.

        Examples
        --------
        >>> from pvfast.guest import build
        >>> image = build()
        >>> image.implementations("xen")["read_tsc"] == image.labels["native_read_tsc"]
        True
        """
        host = find_hypervisor(hypervisor)
        prefix = host.operations_prefix
        if prefix != _NATIVE and f"{prefix}_probe" not in self.labels:
            raise ImageError(f"this guest kernel was built without a probe for {hypervisor!r}: build it with that "
                             "hypervisor's name, and see paravirt_probe in its sources")
        if prefix != _NATIVE and self.era.convention is Convention.CALLEE_SAVE:
            raise ImageError(f"no operations of {hypervisor!r} keep to the convention of Linux {self.era.name}: they "
                             "destroy registers that its sites do not save")
        found = {
            row.name: self.labels.get(f"{prefix}_{row.label}", self.labels[f"{_NATIVE}_{row.label}"])
            for row in self.era.operations
        }
        found |= {name: address for name, address in host.operations.items() if name in found}
        if hypervisor == Xen.name and self.vcpu_info_is_placed:
            direct = {name: f"xen_{name}_direct" for name in found}
            found |= {name: self.labels[label] for name, label in direct.items() if label in self.labels}
        elif hypervisor == Xen.name:
            found["irq_disable"] = self.labels["xen_irq_disable_shared"]
        return MappingProxyType(found)

    @property
    def vcpu_info_is_placed(self) -> bool:
        """Whether the kernel will ask Xen to keep its vcpu_info in the per-CPU area.

        ``with_word("have_vcpu_info_placement", 0)`` makes a kernel that finds it by CPU number in
        ``shared_info``; ``irq_disable`` cannot be inlined then.
        """
        return any(self.read(_PLACEMENT, _WORD_BYTES))

    def patch_context(self, hypervisor: str = _NATIVE) -> PatchContext:
        """What a hypervisor's patch function may know about this kernel."""
        hidden = () if self.vcpu_info_is_placed else (VCPU_INFO_SYMBOL,)
        symbols = {name: offset for name, offset in self.symbols.items() if name not in hidden}
        wanted = (PARAVIRT_NOP, PARAVIRT_IDENTITY, *find_hypervisor(hypervisor).patch_labels)
        symbols |= {name: self.labels[name] for name in wanted if name in self.labels}
        return PatchContext(self.implementations(hypervisor), MappingProxyType(symbols), self.era)

    def to_physical(self, linear: int) -> int:
        """Physical address of a linear address at or above PAGE_OFFSET."""
        return linear - self.linear + self.physical

    def read(self, start: str | int, size: int) -> bytes:
        """Bytes of the image.

        Parameters
        ----------
        start : str or int
            A label or a linear address.
        size : int
            How many.

        Raises
        ------
        ImageError
            They are not all in the image.
        """
        offset = self._offset(start, size)
        return self.code[offset:offset + size]

    def site(self, label: str) -> PatchSite:
        """The patch record of the site at a label.

        Raises
        ------
        ImageError
            There is no such label, or no record for it.

        Examples
        --------
        >>> from pvfast.guest import build
        >>> build().site("site_irq_disable").length
        10
        """
        address = self._address(label)
        for site in self.sites:
            if site.address == address:
                return site
        raise ImageError(f"{label} at {address:#x} has no record in .parainstructions")

    def patched(self, patch: PatchFunction, nop_family: str | None = None) -> "GuestImage":
        """Patch every site, as ``apply_paravirt`` does.

        Parameters
        ----------
        patch : callable
            A hypervisor's patch function.
        nop_family : str, optional
            Default: `nop_family` of the image.

        Returns
        -------
        GuestImage
            A new one.

        Examples
        --------
        >>> from pvfast.guest import build
        >>> from pvfast.paravirt.hypervisors import hypervisor
        >>> image = build().patched(hypervisor("native").patcher())
        >>> image.read("site_irq_disable", 10).hex(" ")
        'fa 90 8d b4 26 00 00 00 00 90'
        """
        family = nop_family or self.nop_family
        return self.with_patches(apply_paravirt(self.code, self.linear, self.sites, patch, family))

    def direct(self, hypervisor: str = _NATIVE, nop_family: str | None = None) -> "GuestImage":
        """Make every site a direct call to the hypervisor's implementation, pushes and pops kept."""
        goals = self.implementations(hypervisor)
        targets = {pointer: goals[name] for name, pointer in self.pointers.items()}
        family = nop_family or self.nop_family
        return self.with_patches(apply_direct_calls(self.code, self.linear, self.sites, targets, family))

    def boot_patched(
        self, hypervisor: str = _NATIVE, command_line: str = "", *, smp: bool = False, debug_clobbers: bool = False
    ) -> "GuestImage":
        """What the kernel's own boot would make of it: LOCK prefixes and patch sites, as the command line allows.

        Parameters
        ----------
        hypervisor : str, optional
            One of `pvfast.paravirt.hypervisors.hypervisor_names`.
        command_line : str, optional
            See `pvfast.paravirt.boot_patching.boot_options`.
        smp : bool, optional
            Whether several processors run.
        debug_clobbers : bool, optional
            CONFIG_DEBUG_PARAVIRT of 2.6.20: see `pvfast.paravirt.patcher.patch_site`.

        Examples
        --------
        >>> from pvfast.guest import build
        >>> build().boot_patched().read("site_irq_disable", 10).hex(" ")
        'fa 90 8d b4 26 00 00 00 00 90'
        >>> build().boot_patched(command_line="ro noreplacement") == build()
        True
        """
        patch = find_hypervisor(hypervisor).patcher(self.patch_context(hypervisor))
        tables = PatchTables(smp_locks=self.smp_locks, sites=self.sites)
        return self.with_patches(alternative_instructions(
            self.code, self.linear, tables, patch, self.era, smp=smp, options=boot_options(command_line, self.era),
            nop_family=self.nop_family, debug_clobbers=debug_clobbers))

    def with_smp_locks(self, smp: bool) -> "GuestImage":
        """The same kernel for several processors, as it is built, or for one, as boot makes it where there is one.

        Parameters
        ----------
        smp : bool
            Whether the LOCK prefixes are there; what stands in their place otherwise is the era's.

        Examples
        --------
        >>> from pvfast.guest import build
        >>> image = build()
        >>> image.with_smp_locks(False).read(image.smp_locks[0], 1).hex(), image.read(image.smp_locks[0], 1).hex()
        ('90', 'f0')
        """
        if smp:
            return self.with_patches(alternatives_smp_lock(self.code, self.linear, self.smp_locks))
        prefix = up_prefix(self.era)
        return self.with_patches(alternatives_smp_unlock(self.code, self.linear, self.smp_locks, prefix))

    def with_patches(self, code: bytes) -> "GuestImage":
        """The same kernel with `code` in place, as a patcher returned it.

        Raises
        ------
        ImageError
            It has another length.
        """
        if len(code) != len(self.code):
            raise ImageError(f"{len(code)} bytes given for an image of {len(self.code)}: patching changes no "
                             "length")
        return replace(self, code=bytes(code))

    def with_word(self, label: str, value: int) -> "GuestImage":
        """The same kernel with another value in a variable of four bytes.

        Examples
        --------
        >>> from pvfast.guest import build
        >>> image = build().with_word("have_vcpu_info_placement", 0)
        >>> image.read("have_vcpu_info_placement", 4).hex()
        '00000000'
        """
        offset = self._offset(label, _WORD_BYTES)
        word = (value % (1 << 32)).to_bytes(_WORD_BYTES, "little")
        return replace(self, code=self.code[:offset] + word + self.code[offset + _WORD_BYTES:])

    def load(self, machine: Any) -> None:
        """Write the image to a machine's memory and set its EIP to the entry of bare hardware.

        Parameters
        ----------
        machine : pvfast.Machine
            At least as much RAM as the image needs, in flat protected mode.
        """
        machine.write(self.physical, self.code)
        machine.cpu.eip = self.entry

    def _address(self, start: str | int) -> int:
        if isinstance(start, int):
            return start
        try:
            return self.labels[start]
        except KeyError:
            raise ImageError(f"the guest kernel has no label {start!r}") from None

    def _offset(self, start: str | int, size: int) -> int:
        address = self._address(start)
        if not (self.linear <= address and size >= 0 and address + size <= self.end):
            raise ImageError(f"{size} bytes at {address:#x} are not all inside the image at "
                             f"{self.linear:#x}..{self.end:#x}")
        return address - self.linear
