"""``pv_ops`` when a Xen PV guest patches its sites: an image enters, what each member holds by then leaves.

xen_start_kernel replaces the groups cpu, irq and mmu (until 5.12 also time) whole, later code some members once more,
and xen_init_spinlocks the group lock unless the guest has a single virtual CPU (Linux 4.20 to 6.7, arch/x86/xen/
enlighten_pv.c, irq.c, mmu_pv.c, spinlock.c, time.c). The image tells which functions these are, in two ways: templates
in its data, which are copied, and instructions of its functions xen_* that store one function in one member. A member
for which both ways leave more than one function, or none, is not known. Next: ``boot_patch.py`` hands the members to
the same procedures that patch on bare hardware, ``naming.py`` names operations by them.

Taken for granted is Xen 3.4 or later: it takes the place of vcpu_info from the guest
(``VCPUOP_register_vcpu_info``) and keeps accessed and dirty bits (``XENFEAT_mmu_pt_update_preserve_ad``).
"""

import re
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Mapping
from types import MappingProxyType

from pvfast.images.kallsyms import Symbols
from pvfast.images.kernel import KernelImage

#: The first version whose boot is known: the one pv_ops, and patching by ``paravirt_patch_default``.
XEN_SINCE = (4, 20)
#: XEN_ELFNOTE_ENTRY: only a kernel that can be a Xen PV guest has it, so CONFIG_PARAVIRT_XXL is on.
XEN_PV_ENTRY = 1

_WORD = 8
#: A site's type is one byte; no version has so many members.
_MOST_MEMBERS = 256
#: The native function of a member, and Xen's: members by which each group's template is known.
_ANCHORS: Mapping[str, Mapping[str, str]] = MappingProxyType({
    "cpu": {"native_cpuid": "xen_cpuid", "native_load_idt": "xen_load_idt", "native_load_sp0": "xen_load_sp0"},
    "irq": {"native_safe_halt": "xen_safe_halt", "native_halt": "xen_halt"},
    "mmu": {"__native_read_cr3": "xen_read_cr3", "native_set_fixmap": "xen_set_fixmap"},
})
_FIRST_OF_CPU, _FIRST_OF_IRQ, _LAST_OF_IRQ = "native_io_delay", "native_save_fl", "native_halt"
_LAST_OF_MMU, _FIRST_OF_LOCK = "native_set_fixmap", "native_queued_spin_lock_slowpath"
_TIME = ("native_sched_clock", "native_steal_clock")
_LOCK_MEMBERS = 5

#: What members hold for a while only: until vcpu_info has its place, until the descriptor table is loaded, until the
#: allocator of pages works (xen_post_allocator_init), until the features of Xen are known.
_EARLY = frozenset({
    "__raw_callee_save_xen_save_fl", "__raw_callee_save_xen_restore_fl", "__raw_callee_save_xen_irq_disable",
    "__raw_callee_save_xen_irq_enable", "paravirt_ret0", "BUG_func", "xen_read_cr2",
    "xen_load_gdt_boot", "xen_write_gdt_entry_boot",
    "xen_set_pte_init", "__xen_set_pte", "xen_set_pmd_hyper", "xen_set_pud_hyper", "xen_set_p4d_hyper",
    "xen_alloc_pte_init", "xen_alloc_pmd_init", "xen_release_pte_init", "xen_release_pmd_init",
    "__raw_callee_save_xen_make_pte_init", "xen_write_cr3_init",
    "__ptep_modify_prot_start", "__ptep_modify_prot_commit",
})
#: In the group irq since 5.16, irq_disable for a while; final for load_tr_desc and swapgs.
_EARLY_IN_IRQ = _EARLY | {"_paravirt_nop"}

_DEPENDS_ON_VCPUS = ("its lock operation is Xen's when the guest has several virtual CPUs, and native when it has one: "
                     "how many is not known")
#: movq $imm32, disp32(%rip)
_STORE, _STORE_BYTES = b"\x48\xc7\x05", 11
#: The functions of a PV guest; xen_hvm_* are those of full virtualization.
_BOOTS = re.compile(r"xen_(?!hvm_)")


def xen_members(image: KernelImage, symbols: Symbols, pv_ops: int, vcpus: int | None) -> dict[int, int | str]:
    """What the members of ``pv_ops`` hold when the sites are patched.

    Parameters
    ----------
    image : KernelImage
        An x86-64 kernel, Linux 4.20 to 6.7, that can be a Xen PV guest.
    symbols : Symbols
        Its own.
    pv_ops : int
        Linear address of the structure.
    vcpus : int or None
        Virtual CPUs of the guest; None when that is not known.

    Returns
    -------
    dict of int to (int or str)
        By linear address of the member: the function, 0 for none, or why it is not known.
    """
    return _Members(image, symbols, pv_ops).decide(vcpus)


class _Members:
    """The evidence of one image."""

    def __init__(self, image: KernelImage, symbols: Symbols, pv_ops: int) -> None:
        self.image = image
        self.symbols = symbols
        self.pv_ops = pv_ops
        self.index: dict[str, int] = {}  # native function -> number of the first member that holds it
        for number in range(_MOST_MEMBERS):
            at = pv_ops + number * _WORD
            if image.section_at(at, _WORD) is None:
                break
            for name in symbols.names.get(image.read_word(at), ()):
                self.index.setdefault(name, number)
        self.stored = self._stored()

    def decide(self, vcpus: int | None) -> dict[int, int | str]:
        """Every member."""
        found: dict[int, int | str] = dict.fromkeys(
            range(_MOST_MEMBERS), "its pv_ops member is in none of the groups that a Xen PV guest is known to replace")
        for group, (first, end) in self._groups().items():
            template = self._template(group, first, end)
            early = _EARLY_IN_IRQ if group == "irq" else _EARLY
            found |= {number: self._final(number, template.get(number), early) for number in range(first, end)}
        found |= {self.index[name]: self._final(self.index[name], None, _EARLY)
                  for name in _TIME if name in self.index}
        lock = self.index.get(_FIRST_OF_LOCK, _MOST_MEMBERS)
        for number in range(lock, min(lock + _LOCK_MEMBERS, _MOST_MEMBERS)):
            found[number] = (_DEPENDS_ON_VCPUS if vcpus is None else self._final(number, None, _EARLY) if vcpus > 1
                             else self.image.read_word(self.pv_ops + number * _WORD))
        return {self.pv_ops + number * _WORD: function for number, function in found.items()}

    def _final(self, number: int, copied: int | None, early: frozenset[str]) -> int | str:
        """What a member holds in the end: what is stored in it outlives what was copied."""
        late = {function for function in self.stored[number] if early.isdisjoint(self.symbols.names[function])}
        if len(late) == 1:
            return late.pop()
        if late or copied is None or not early.isdisjoint(self.symbols.names.get(copied, ())):
            return "the image does not tell which function a Xen PV guest's boot leaves in its pv_ops member"
        return copied

    def _groups(self) -> dict[str, tuple[int, int]]:
        """First member and end of the groups; they lie in this order in every version."""
        edges = [self.index.get(name) for name in (_FIRST_OF_CPU, _FIRST_OF_IRQ, _LAST_OF_IRQ, _LAST_OF_MMU)]
        known = [edge for edge in edges if edge is not None]
        if len(known) < len(edges) or known != sorted(set(known)):
            return {}
        cpu, irq, halt, fixmap = known
        return {"cpu": (cpu, irq), "irq": (irq, halt + 1), "mmu": (halt + 1, fixmap + 1)}

    def _template(self, group: str, first: int, end: int) -> dict[int, int]:
        """The group as the image's data holds it for Xen; empty when there is none, or several."""
        anchors = {self.index[native]: self.symbols.addresses[xen] for native, xen in _ANCHORS[group].items()
                   if native in self.index and xen in self.symbols.addresses}
        if len(anchors) < len(_ANCHORS[group]):
            return {}
        number, function = next(iter(anchors.items()))
        found = []
        for place in self._words(function):
            start = place - (number - first) * _WORD
            if self.image.section_at(start, (end - first) * _WORD) is None:
                continue
            words = {n: self.image.read_word(start + (n - first) * _WORD) for n in range(first, end)}
            if anchors.items() <= words.items() and all(not w or w in self.symbols.names for w in words.values()):
                found.append(words)
        return found[0] if len(found) == 1 else {}

    def _words(self, value: int) -> list[int]:
        """Where a word stands in the image's data."""
        pattern = re.compile(re.escape(value.to_bytes(_WORD, "little")))
        return [place for section in self.image.sections if section.offset is not None and not section.executable
                for match in pattern.finditer(self.image.data, section.offset, section.offset + section.size)
                if not (place := section.address + match.start() - section.offset) % _WORD]

    def _stored(self) -> defaultdict[int, set[int]]:
        """The functions that single instructions of xen_* store, by member."""
        starts = sorted(self.symbols.names)
        found: defaultdict[int, set[int]] = defaultdict(set)
        for section in self.image.sections:
            if section.offset is None or not section.executable:
                continue
            held = self.image.data[section.offset:section.offset + section.size]
            for match in re.finditer(re.escape(_STORE), held[:-_STORE_BYTES + len(_STORE)]):
                operands = held[match.end():match.start() + _STORE_BYTES]
                displacement, value = (int.from_bytes(operands[i:i + 4], "little", signed=True) for i in (0, 4))
                member = section.address + match.start() + _STORE_BYTES + displacement - self.pv_ops
                function = value % (1 << 64)
                if 0 <= member < _MOST_MEMBERS * _WORD and not member % _WORD and function in self.symbols.names:
                    storing = starts[bisect_right(starts, section.address + match.start()) - 1]
                    if any(_BOOTS.match(name) for name in self.symbols.names[storing]):
                        found[member // _WORD].add(function)
        return found
