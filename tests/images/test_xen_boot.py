"""What a Xen PV guest's boot makes of sites, on images small enough to work out by hand.

The sites of Debian's 6.1 and 5.10 were compared with what those kernels made of themselves under Xen:
docs/real-kernels.md; test_real_kernels.py has the bytes of 6.1.
"""

from dataclasses import dataclass, field

import pytest

from pvfast.errors import PatchError
from pvfast.images import load_kernel
from pvfast.images.kallsyms import Symbols
from pvfast.paravirt.linux import BootPatch, boot_patch, naming, site_patcher

from .synthetic import ALLOC, BASES, TEXT, Kernel, note
from .test_boot_patch import NOT

TEXT_64 = BASES[64] + TEXT
XEN_ENTRY = note(b"Xen", 1, bytes(8))
V6_2, V5_10 = b"Linux version 6.2.0 x\0", b"Linux version 5.10.0 x\0"
XENPV, PVUNLOCK = 8 * 32 + 16, 8 * 32 + 20

#: Groups in the order of every version, shortened: members with the native function, and Xen's for a while.
MEMBERS = (
    ("io_delay", "native_io_delay", "xen_io_delay"), ("load_idt", "native_load_idt", "xen_load_idt"),
    ("load_tr_desc", "native_load_tr_desc", "_paravirt_nop"), ("wbinvd", "native_wbinvd", "native_wbinvd"),
    ("cpuid", "native_cpuid", "xen_cpuid"), ("load_sp0", "native_load_sp0", "xen_load_sp0"),
    ("save_fl", "native_save_fl", "paravirt_ret0"), ("irq_disable", "native_irq_disable", "_paravirt_nop"),
    ("safe_halt", "native_safe_halt", "xen_safe_halt"), ("halt", "native_halt", "xen_halt"),
    ("read_cr3", "__native_read_cr3", "xen_read_cr3"), ("alloc_p4d", "_paravirt_nop", None),
    ("set_pte", "native_set_pte", "xen_set_pte_init"),
    ("pte_val", "_paravirt_ident_64", "__raw_callee_save_xen_pte_val"),
    ("lazy_mode.leave", "_paravirt_nop", "xen_leave_lazy_mmu"), ("set_fixmap", "native_set_fixmap", "xen_set_fixmap"),
    ("queued_spin_lock_slowpath", "native_queued_spin_lock_slowpath", None),
    ("queued_spin_unlock", "__raw_callee_save___native_queued_spin_unlock", None),
)
NUMBERS = {operation: number for number, (operation, _, _) in enumerate(MEMBERS)}
#: What is stored later, and by which function.
STORES = (
    ("xen_setup_vcpu_info_placement", "save_fl", "xen_save_fl_direct"),
    ("xen_setup_vcpu_info_placement", "irq_disable", "xen_irq_disable_direct"),
    ("xen_post_allocator_init", "set_pte", "xen_set_pte"),
    ("xen_init_spinlocks", "queued_spin_lock_slowpath", "__pv_queued_spin_lock_slowpath"),
    ("xen_init_spinlocks", "queued_spin_unlock", "__raw_callee_save___pv_queued_spin_unlock"),
)
NOP_6, OTHERS = "660f1f440000", 0x400


@dataclass
class Guest:
    """An image with Xen's functions; every member has one site, and the sites lie 8 bytes apart."""

    banner: bytes = V6_2
    stores: tuple[tuple[str, str, str], ...] = STORES
    templates: tuple[tuple[str | None, ...], ...] = (tuple(xen for _, _, xen in MEMBERS),)
    alternatives: tuple[tuple[int, int, bytes, int], ...] = ()
    notes: bytes = XEN_ENTRY
    symbols: dict[str, int] = field(default_factory=dict)

    def elf(self) -> bytes:
        names = sorted({name for _, *pair in MEMBERS for name in pair if name}
                       | {stored for _, _, stored in self.stores} | {"paravirt_BUG", "_paravirt_nop", "xen_io_delay"})
        self.symbols |= {name: TEXT_64 + 0x800 + 16 * number for number, name in enumerate(names)}
        kernel = Kernel(bits=64, banner=self.banner, notes=self.notes, alternatives=self.alternatives,
                        sites=tuple((8 * number, number, 6) for number in range(len(MEMBERS))),
                        pointers=tuple(self.symbols[native] for _, native, _ in MEMBERS))
        code = bytearray(b"\xcc" * 0x1000)
        for at, kind, _ in kernel.sites:
            code[at:at + 6] = kernel.call(at, kind)
        for number, (storing, operation, function) in enumerate(self.stores):
            at = OTHERS + 16 * number
            self.symbols.setdefault(storing, TEXT_64 + at)
            relative = kernel.pv_ops + 8 * NUMBERS[operation] - (TEXT_64 + at + 11)
            code[at:at + 11] = (b"\x48\xc7\x05" + relative.to_bytes(4, "little", signed=True)
                                + (self.symbols[function] & 0xFFFFFFFF).to_bytes(4, "little"))
        for name in ("_paravirt_nop", "xen_io_delay"):
            code[self.symbols[name] - TEXT_64] = 0xC3
        kernel.code = bytes(code)
        words = [self.symbols[name] if name else 0 for template in self.templates for name in template]
        if words:
            kernel.extra[".init.data"] = (b"".join(word.to_bytes(8, "little") for word in words), ALLOC)
        return kernel.elf()


@pytest.fixture
def boot(monkeypatch: pytest.MonkeyPatch) -> "Boot":
    return Boot(monkeypatch)


class Boot:
    """Boots guests, and tells the function that a site calls, or its bytes."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.monkeypatch = monkeypatch

    def patch(self, guest: Guest, vcpus: int | None = None, symbols: bool = True) -> BootPatch:
        image = load_kernel(guest.elf())
        known = Symbols.of(list(guest.symbols.items()) if symbols else [])
        for module in (site_patcher, naming):
            self.monkeypatch.setattr(module, "read_kallsyms", lambda image: known)
        naming.operation_names.cache_clear()
        return boot_patch(image, hypervisor="xen", vcpus=vcpus)

    def __call__(self, guest: Guest, vcpus: int | None = None) -> dict[str, str | None]:
        sites = self.patch(guest, vcpus).sites
        functions = {linear: name for name, linear in guest.symbols.items()}
        result: dict[str, str | None] = {}
        for site in sites:
            code = site.after
            if code is not None and code[0] == 0xE8 and code[5:] == b"\x90":
                target = site.record.address + 5 + int.from_bytes(code[1:5], "little", signed=True)
                result[MEMBERS[site.record.type][0]] = functions[target]
            else:
                result[MEMBERS[site.record.type][0]] = None if code is None else code.hex()
        return result


def test_templates_and_what_is_stored_later(boot: Boot) -> None:
    assert boot(Guest()) == {
        "io_delay": "xen_io_delay", "load_idt": "xen_load_idt", "load_tr_desc": NOP_6, "wbinvd": "native_wbinvd",
        "cpuid": "xen_cpuid", "load_sp0": "xen_load_sp0", "save_fl": "xen_save_fl_direct",
        "irq_disable": "xen_irq_disable_direct", "safe_halt": "xen_safe_halt", "halt": "xen_halt",
        "read_cr3": "xen_read_cr3", "alloc_p4d": "paravirt_BUG", "set_pte": "xen_set_pte",
        "pte_val": "__raw_callee_save_xen_pte_val", "lazy_mode.leave": "xen_leave_lazy_mmu",
        "set_fixmap": "xen_set_fixmap", "queued_spin_lock_slowpath": None, "queued_spin_unlock": None,
    }


def test_before_5_13_no_instructions_take_the_place_of_calls(boot: Boot) -> None:
    """paravirt_patch_default: not even a native function becomes its instruction."""
    found = boot(Guest(banner=V5_10), 1)
    assert found["wbinvd"] == "native_wbinvd"
    assert found["queued_spin_unlock"] == "__raw_callee_save___native_queued_spin_unlock"
    assert found["load_tr_desc"] == NOP_6
    assert found["irq_disable"] == "xen_irq_disable_direct"


@pytest.mark.parametrize(("vcpus", "slowpath", "unlock"), [
    (None, None, None), (1, "native_queued_spin_lock_slowpath", "c607000f1f00"),
    (2, "__pv_queued_spin_lock_slowpath", "__raw_callee_save___pv_queued_spin_unlock")])
def test_locks_depend_on_the_number_of_processors(
        boot: Boot, vcpus: int | None, slowpath: str | None, unlock: str | None) -> None:
    at = 8 * NUMBERS["queued_spin_unlock"]
    guest = Guest(alternatives=((at, 6, b"\xc6\x07\x00", NOT | PVUNLOCK),))
    found = boot(guest, vcpus)
    assert (found["queued_spin_lock_slowpath"], found["queued_spin_unlock"]) == (slowpath, unlock)
    reasons = {site.reason for site in boot.patch(guest, vcpus).sites if site.reason}
    assert all("several virtual CPUs" in reason for reason in reasons)
    assert bool(reasons) == (vcpus is None)


def test_the_alternatives_of_bare_hardware_are_left_out(boot: Boot) -> None:
    at = 8 * NUMBERS["cpuid"]
    assert boot(Guest(alternatives=((at, 6, b"\x0f\xa2", NOT | XENPV),)))["cpuid"] == "xen_cpuid"
    assert boot(Guest(alternatives=((at, 6, b"\x0f\xa2", XENPV),)))["cpuid"] == "0fa20f1f4000"


@pytest.mark.parametrize(("stores", "undecided"), [
    (STORES[1:], {"save_fl"}),                                                      # its template is for a while only
    (STORES[:2], {"set_pte"}),
    ((*STORES, ("xen_start_kernel", "cpuid", "xen_halt"), ("xen_start_kernel", "cpuid", "xen_cpuid")), {"cpuid"}),
    ((*STORES, ("kvm_guest_init", "cpuid", "xen_halt")), set()),                    # not of Xen
    ((*STORES, ("xen_hvm_init_mmu_ops", "read_cr3", "xen_halt")), set()),           # not of a PV guest
])
def test_what_the_image_does_not_tell(
        boot: Boot, stores: tuple[tuple[str, str, str], ...], undecided: set[str]) -> None:
    found = boot(Guest(stores=stores), 1)
    assert {operation for operation, code in found.items() if code is None} == undecided


def test_a_single_store_outlives_the_template(boot: Boot) -> None:
    assert boot(Guest(stores=(*STORES, ("xen_start_kernel", "cpuid", "xen_halt"))))["cpuid"] == "xen_halt"


@pytest.mark.parametrize("copies", [0, 2])
def test_no_template_or_two(boot: Boot, copies: int) -> None:
    found = boot(Guest(templates=Guest().templates * copies), 1)
    assert {operation for operation, code in found.items() if code} == {
        "save_fl", "irq_disable", "set_pte", "queued_spin_lock_slowpath", "queued_spin_unlock"}


@pytest.mark.parametrize(("guest", "symbols", "reason"), [
    (Guest(banner=b"Linux version 4.19.0 x\0"), True, "from Linux 4.20 on"),
    (Guest(banner=b"Linux version 6.8.0 x\0"), True, "2.6.24 to 6.7 only"),
    (Guest(notes=b""), True, "cannot be a Xen PV guest"), (Guest(), False, "known by symbols")])
def test_other_kernels(boot: Boot, guest: Guest, symbols: bool, reason: str) -> None:
    assert all(site.after is None and reason in site.reason for site in boot.patch(guest, symbols=symbols).sites)


def test_operations_are_named_by_xen_where_the_native_function_tells_nothing(boot: Boot) -> None:
    names = [site.operation for site in boot.patch(Guest()).sites]
    assert names == [None if operation == "alloc_p4d" else operation for operation, _, _ in MEMBERS]


def test_other_hypervisors() -> None:
    with pytest.raises(PatchError, match="one of native, xen"):
        boot_patch(load_kernel(Guest().elf()), hypervisor="bochs")
