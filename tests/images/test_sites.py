"""Site records and names: sound tables are read, damaged ones refused, unknown numbers stay numbers."""

import struct

import pytest

from pvfast.errors import ImageError
from pvfast.images import load_kernel, pointer_of, read_sites
from pvfast.paravirt.linux import list_sites, summarize
from pvfast.paravirt.linux.naming import operation_name, table_of
from pvfast.paravirt.operations import era

from .synthetic import BASES, DATA, TEXT, Kernel, note

XEN_PV = note(b"Xen", 1, bytes(8))


@pytest.mark.parametrize("bits", [32, 64])
def test_records(bits: int) -> None:
    kernel = Kernel(bits=bits, sites=((0x20, 9, 6), (0, 12, 6)), pointers=(0,) * 16)
    image = load_kernel(kernel.elf())
    sites = read_sites(image)
    assert [(site.address, site.type, site.length, site.section) for site in sites] == [
        (kernel.text + 0x20, 9, 6, ".text"), (kernel.text, 12, 6, ".text")]
    assert [pointer_of(image, site) for site in sites] == [
        kernel.pv_ops + 9 * bits // 8, kernel.pv_ops + 12 * bits // 8]


def test_last_entry_of_12_bytes() -> None:
    whole = Kernel(bits=64, sites=((0, 0, 6), (8, 1, 6)), pointers=(0, 0))
    short = Kernel(bits=64, sites=whole.sites, pointers=(0, 0), table=whole.parainstructions()[:-4])
    assert read_sites(load_kernel(short.elf())) == read_sites(load_kernel(whole.elf()))


@pytest.mark.parametrize("bits, cut", [(32, 1), (32, 4), (64, 1), (64, 5), (64, 8), (64, 15)])
def test_truncated_table(bits: int, cut: int) -> None:
    whole = Kernel(bits=bits, sites=((0, 0, 6), (8, 1, 6)), pointers=(0, 0))
    broken = Kernel(bits=bits, sites=whole.sites, table=whole.parainstructions()[:-cut])
    with pytest.raises(ImageError, match="cut short"):
        read_sites(load_kernel(broken.elf()))


@pytest.mark.parametrize("sites, message", [
    (((0, 0, 6), (5, 0, 6)), "overlap"),
    (((0, 0, 6), (0, 0, 6)), "overlap"),
    (((8, 0, 6), (0, 0, 9)), "overlap"),
    (((0x1000 - 5, 0, 6),), "does not lie in the code"),
    (((-1, 0, 6),), "does not lie in the code"),
    (((DATA - TEXT, 0, 6),), "does not lie in the code"),
    (((0x3000000, 0, 6),), "does not lie in the code"),
    (((0, 0, 0),), "has the length 0"),
    (((0, 0, 255),), "has the length 255"),
])
def test_impossible_sites(sites: tuple[tuple[int, int, int], ...], message: str) -> None:
    for bits in (32, 64):
        image = load_kernel(Kernel(bits=bits, sites=sites).elf())
        with pytest.raises(ImageError, match=message) as error:
            read_sites(image)
        assert f"{BASES[bits] + TEXT + sites[-1][0]:#x}" in str(error.value)


def test_no_table() -> None:
    with pytest.raises(ImageError, match="no section headers"):
        read_sites(load_kernel(Kernel(sites=((0, 0, 6),), sections=False).elf()))
    with pytest.raises(ImageError, match="without CONFIG_PARAVIRT"):
        read_sites(load_kernel(Kernel().elf()))
    with pytest.raises(ImageError, match=r"6\.8 and later"):
        read_sites(load_kernel(Kernel(banner=b"Linux version 6.12.1 x\0").elf()))


def paths(name: str, bits: int, **config: bool) -> tuple[str, ...]:
    return tuple(member.path for member in era(name, bits=bits, **config).template)


def test_which_table_applies() -> None:
    old = b"Linux version 5.10.0 x\0"
    assert table_of(load_kernel(Kernel().elf())) == paths("6.1", 32)
    assert table_of(load_kernel(Kernel(bits=64, notes=XEN_PV).elf())) == paths("6.1", 64)
    in_5_2 = b"Linux version 5.2.60 x\0"
    assert table_of(load_kernel(Kernel(banner=in_5_2).elf())) == paths("5.2", 32)
    assert table_of(load_kernel(Kernel(banner=in_5_2, notes=XEN_PV).elf())) == paths("5.2", 32, pae=True, xxl=True)
    old_xen = Kernel(bits=64, banner=old, notes=XEN_PV)
    for unknown in (Kernel(bits=64), Kernel(banner=old), old_xen, Kernel(banner=b"")):
        assert table_of(load_kernel(unknown.elf())) is None


@pytest.mark.parametrize(("body", "fits"), [
    ("c60000c3", False), ("fae9", False), ("f30f1efbfbc3", False), ("c6000090", True), ("90c3", True)])
def test_a_table_of_another_configuration_names_nothing(body: str, fits: bool) -> None:
    """A function whose body is known is in another member than the table says."""
    kernel = Kernel(sites=((0, 11, 6),), pointers=(0xC1001800,) * 12)
    kernel.code = (kernel.call(0, 11).ljust(0x800, b"\xcc") + bytes.fromhex(body)).ljust(0x1000, b"\xcc")
    assert operation_name(load_kernel(kernel.elf()), 11) == ("lock.kick" if fits else None)
    kernel.sites = ((0, 9, 6),)
    kernel.code = (kernel.call(0, 9).ljust(0x800, b"\xcc") + bytes.fromhex("c60000c3")).ljust(0x1000, b"\xcc")
    assert operation_name(load_kernel(kernel.elf()), 9) == "lock.queued_spin_unlock"


def test_unknown_types_keep_their_number() -> None:
    image = load_kernel(Kernel(sites=((0, 13, 6), (8, 200, 6), (16, 9, 6)), pointers=(0,) * 14).elf())
    assert operation_name(image, 12) == "lock.vcpu_is_preempted"
    assert operation_name(image, 13) is operation_name(image, -1) is None
    rows = list_sites(image)
    assert [(row.type, row.operation) for row in rows] == [
        (13, "unknown"), (200, "unknown"), (9, "lock.queued_spin_unlock")]
    assert [(total.type, total.sites, total.bytes) for total in summarize(rows)] == [
        (9, 1, 6), (13, 1, 6), (200, 1, 6)]


@pytest.mark.parametrize("bits, code, pointer", [
    (32, "ff15a416c5c1", 0xC1C516A4),
    (32, "5152ff15100040c05a59", 0xC0400010),
    (32, "2eff25100040c0", 0xC0400010),
    (64, "ff1510000000", BASES[64] + TEXT + 6 + 0x10),
    (64, "ff14251000c081", 0xFFFFFFFF81C00010),
    (32, "e8000000009090", None),
    (32, "ff15a416", None),
])
def test_pointer_of(bits: int, code: str, pointer: int | None) -> None:
    raw = bytes.fromhex(code)
    image = load_kernel(Kernel(bits=bits, code=raw, sites=((0, 0, len(raw)),)).elf())
    assert pointer_of(image, read_sites(image)[0]) == pointer


def test_records_are_packed_as_documented() -> None:
    assert Kernel(sites=((0, 3, 6),)).parainstructions() == struct.pack("<IBBH", BASES[32] + TEXT, 3, 6, 0)
