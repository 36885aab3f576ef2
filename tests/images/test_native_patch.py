"""What native_patch makes of sites in Linux before 5.13, on images small enough to work out by hand.

The 21,683 sites of four 5.10 kernels were compared with what those kernels made of themselves: docs/real-kernels.md.
"""

import struct

import pytest

from pvfast.images import load_kernel
from pvfast.images.kallsyms import Symbols, read_kallsyms
from pvfast.paravirt.linux import boot_patch, list_sites, naming, site_patcher

from .synthetic import BASES, TEXT, Kernel
from .test_boot_patch import code_with

V5_10, V4_19, V3_16, V2_6_32 = (f"Linux version {version} x\0".encode() for version in (
    "5.10.0", "4.19.0", "3.16.0", "2.6.32"))
TEXT_32, TEXT_64 = BASES[32] + TEXT, BASES[64] + TEXT
FUNCTION, OTHER, LABELS = TEXT_32 + 0x800, TEXT_32 + 0x900, TEXT_32 + 0xA00
ANY_32 = 0xF


@pytest.fixture
def symbols(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """What the kernel's symbols say, for a test to fill in."""
    found: dict[str, int] = {}
    for module in (site_patcher, naming):
        monkeypatch.setattr(module, "read_kallsyms", lambda image: Symbols.of(list(found.items())))
    naming.operation_names.cache_clear()
    return found


def after(kernel: Kernel, cpu: str | None = None) -> list[str | None]:
    sites = boot_patch(load_kernel(kernel.elf()), cpu=cpu).sites
    return [None if site.after is None else site.after.hex() for site in sites]


def with_clobbers(kernel: Kernel, *clobbers: int) -> Kernel:
    """The kernel with these clobbers in its records."""
    kernel.table = b"".join(struct.pack("<IBBH", kernel.text + at, kind, length, allowed)
                            for (at, kind, length), allowed in zip(kernel.sites, clobbers, strict=True))
    return kernel


@pytest.mark.parametrize(("function", "expected"), [
    ("native_irq_disable", "fa908d742600"), ("native_irq_enable", "fb908d742600"),
    ("native_save_fl", "9c588d742600"), ("native_restore_fl", "509d8d742600"), ("native_read_cr2", "0f20d08d7600"),
    ("native_write_cr3", "0f22d88d7600"), ("__native_read_cr3", "0f20d88d7600"), ("native_iret", "cf908d742600"),
    ("__raw_callee_save___native_queued_spin_unlock", "c600008d7600"),
    ("__raw_callee_save___native_vcpu_is_preempted", "31c08d742600"),
    ("_paravirt_nop", "8db600000000"), ("_paravirt_ident_64", "8db600000000"), ("native_load_gdt", "e8fb07000090"),
])
def test_5_10_by_the_name_of_the_callee(symbols: dict[str, int], function: str, expected: str) -> None:
    symbols[function] = FUNCTION
    assert after(Kernel(banner=V5_10, sites=((0, 0, 6),), pointers=(FUNCTION,))) == [expected]


def test_64_bit_identity_is_a_move(symbols: dict[str, int]) -> None:
    symbols |= {"_paravirt_ident_64": TEXT_64 + 0x800, "_paravirt_nop": TEXT_64 + 0x900}
    kernel = Kernel(bits=64, banner=V5_10, sites=((0, 0, 6), (8, 1, 6)), pointers=(TEXT_64 + 0x800, TEXT_64 + 0x900))
    assert after(kernel) == ["4889f80f1f00", "660f1f440000"]
    assert after(kernel, "k8") == ["4889f8666690", "666690666690"]


def test_null_pointers(symbols: dict[str, int]) -> None:
    kernel = Kernel(banner=V5_10, sites=((0, 0, 6),), pointers=(0,))
    assert after(kernel) == [None]
    symbols["paravirt_BUG"] = OTHER
    assert after(kernel) == ["e8fb08000090"]
    kernel.banner = V3_16
    assert after(kernel) == ["0f0b8d742600"]


def test_before_5_2_the_instructions_are_read_between_labels(symbols: dict[str, int]) -> None:
    symbols |= {"native_clts": FUNCTION, "start_pv_cpu_ops_clts": LABELS, "end_pv_cpu_ops_clts": LABELS + 2,
                "native_load_idt": OTHER}
    kernel = code_with(Kernel(banner=V4_19, sites=((0, 0, 6), (8, 1, 6)), pointers=(FUNCTION, OTHER)),
                       (LABELS, bytes.fromhex("0f06cc")))
    assert after(with_clobbers(kernel, ANY_32, ANY_32)) == ["0f068d742600", "e8f308000090"]


def test_instructions_that_do_not_fit_leave_the_site(symbols: dict[str, int]) -> None:
    symbols |= {"native_clts": FUNCTION, "start_pv_cpu_ops_clts": LABELS, "end_pv_cpu_ops_clts": LABELS + 7}
    kernel = Kernel(banner=V4_19, sites=((0, 0, 6),), pointers=(FUNCTION,))
    assert after(with_clobbers(kernel, ANY_32)) == [kernel.call(0, 0).hex()]


@pytest.mark.parametrize(("banner", "clobbers", "patched"), [
    (V4_19, ANY_32, True), (V4_19, 0x1, False), (V4_19, 0, False), (V2_6_32, ANY_32, True), (V2_6_32, 0x2, False),
    (V5_10, 0, True)])
def test_a_bare_call_needs_registers_to_destroy(
        symbols: dict[str, int], banner: bytes, clobbers: int, patched: bool) -> None:
    symbols["native_load_idt"] = OTHER
    kernel = with_clobbers(Kernel(banner=banner, sites=((0, 0, 6),), pointers=(OTHER,)), clobbers)
    assert after(kernel) == ["e8fb08000090" if patched else kernel.call(0, 0).hex()]


def test_what_never_returns_is_jumped_to(symbols: dict[str, int]) -> None:
    """Sites of 7 bytes, ``jmp *%cs:pointer``, as 2.6.24 to 2.6.32 have them."""
    symbols["native_iret_odd"] = OTHER
    kernel = Kernel(banner=V2_6_32, sites=((0, 0, 7),), pointers=(OTHER,))
    kernel.code = (b"\x2e\xff\x25" + kernel.pv_ops.to_bytes(4, "little")).ljust(0x1000, b"\xcc")
    assert after(with_clobbers(kernel, 0)) == ["e9fb080000" + "89f6"]


def test_without_symbols_a_body_tells(symbols: dict[str, int]) -> None:
    kernel = code_with(Kernel(banner=V5_10, sites=((0, 0, 6), (8, 1, 6)), pointers=(FUNCTION, OTHER)),
                       (FUNCTION, b"\xfa\xc3"), (OTHER, b"\x90\xc3"))
    found = boot_patch(load_kernel(kernel.elf())).sites
    assert [site.after and site.after.hex() for site in found] == ["fa908d742600", None]
    assert "symbols" in found[1].reason


def test_operations_are_named_by_symbols(symbols: dict[str, int]) -> None:
    symbols |= {"native_irq_disable": FUNCTION, "_paravirt_nop": OTHER}
    image = load_kernel(Kernel(banner=V5_10, sites=((0, 0, 6), (8, 1, 6)), pointers=(FUNCTION, OTHER)).elf())
    assert [row.operation for row in list_sites(image)] == ["irq_disable", "unknown"]


def test_an_image_without_a_table_of_symbols_has_none() -> None:
    assert not read_kallsyms(load_kernel(Kernel().elf()))
