"""Real kernels: the golden bytes of one that patched itself, and the shape of every other in the folder."""

import csv
import gzip
import io
from collections import Counter
from pathlib import Path

import pytest

from pvfast.images import KernelImage, load_kernel
from pvfast.images.parainstructions import pointer_of, read_sites, structure_at
from pvfast.paravirt.linux import PATCHED_ALREADY, boot_patch, list_sites, naming, patch_csv, summarize, write_patched
from pvfast.paravirt.operations import era
from pvfast.paravirt.shapes import call_shape

GOLDEN = Path(__file__).parent.parent / "data" / "deb-6.1.0-50-686.native.csv"
#: Of every site of amd64: the bytes after a boot as dom0 of Xen 4.17 with one virtual CPU; where with two they differ,
#: those too.
GOLDEN_XEN = Path(__file__).parent.parent / "data" / "deb-6.1.0-50-amd64.xen.csv.gz"
#: Bytes that native operations of 6.1 amd64 become; every other site is a call or a NOP.
INLINE_64 = {
    "irq.save_fl": "9c58", "irq.irq_disable": "fa", "irq.irq_enable": "fb", "cpu.wbinvd": "0f09",
    "mmu.read_cr2": "0f20d0", "mmu.read_cr3": "0f20d8", "mmu.write_cr3": "0f22df", "mmu.pte_val": "4889f8",
    "mmu.make_pgd": "4889f8", "lock.queued_spin_unlock": "c60700", "lock.vcpu_is_preempted": "4831c0",
}


def find(kernels: Path, flavour: str) -> KernelImage:
    found = sorted(kernels.glob(f"vmlinuz-6.1.0-*-{flavour}"))
    if not found:
        pytest.fail(f"no vmlinuz-6.1.0-*-{flavour} in {kernels}")
    return load_kernel(found[0])


def test_every_golden_site_matches(kernels: Path) -> None:
    image = load_kernel(kernels / "vmlinuz-6.1.0-50-686")
    rows = list(csv.reader(io.StringIO(patch_csv(boot_patch(image).sites))))
    golden = list(csv.reader(GOLDEN.read_text().splitlines()))
    assert len(rows) == len(golden) == 265
    for row, expected in zip(rows, golden, strict=True):
        assert row[:6] == expected[:6]
        assert expected[6] in ("", row[6])


def test_every_site_of_a_xen_guest_matches(kernels: Path) -> None:
    image = load_kernel(kernels / "vmlinuz-6.1.0-50-amd64")
    golden = list(csv.DictReader(gzip.decompress(GOLDEN_XEN.read_bytes()).decode().splitlines()))
    assert len(golden) == 3841
    for vcpus in (1, 2, None):
        sites = boot_patch(image, hypervisor="xen", vcpus=vcpus).sites
        for site, row in zip(sites, golden, strict=True):
            assert f"{site.record.address:x}" == row["site"]
            if vcpus is None and site.operation and site.operation.startswith("lock."):
                assert site.after is None and "several virtual CPUs" in site.reason
            else:
                assert site.after is not None
                assert site.after.hex() == ((vcpus == 2 and row["several"]) or row["one"])


@pytest.mark.parametrize("flavour", ["686", "686-pae", "amd64"])
def test_every_site_is_as_the_table_of_operations_makes_it(kernels: Path, flavour: str) -> None:
    """Bytes, type, length and clobbers: all follow from the row and the era."""
    image = find(kernels, flavour)
    linux = era("6.1", bits=image.bits)
    sites = read_sites(image)
    pv_ops = structure_at({site: pointer_of(image, site) for site in sites}, image.word_bytes)
    assert pv_ops is not None
    for site in sites:
        shape = call_shape(linux, linux.template[site.type].name)
        assert (shape.type, shape.length, shape.clobbers) == (site.type, site.length, site.clobbers)
        assert shape.code(linux.pointers(pv_ops), site.address) == image.read(site.address, site.length)


@pytest.mark.parametrize("flavour", ["686", "686-pae"])
def test_32_bit_kernels(kernels: Path, flavour: str) -> None:
    image = find(kernels, flavour)
    assert (image.bits, image.version) == (32, (6, 1))
    assert (image.pvh_entry is not None) == (flavour == "686-pae")
    rows = list_sites(image)
    assert len(summarize(rows)) == 12
    assert {row.disassembly.split()[0] for row in rows} == {"calll"}
    sites = boot_patch(image).sites
    assert all(site.after is not None for site in sites)
    by_operation = {site.operation: site.after for site in sites if site.operation != "cpu.io_delay"}
    assert by_operation["lock.queued_spin_unlock"] == bytes.fromhex("c600008d7600")
    assert by_operation["lock.vcpu_is_preempted"] == bytes.fromhex("31c08d742600")
    assert by_operation["lock.kick"] == bytes.fromhex("8db600000000")


def test_64_bit_kernel(kernels: Path) -> None:
    image = find(kernels, "amd64")
    assert (image.bits, image.version) == (64, (6, 1))
    assert image.pvh_entry is not None
    sites = boot_patch(image).sites
    counts = Counter(site.operation for site in sites)
    assert len(counts) == 81 and None not in counts
    assert (counts["irq.save_fl"], counts["irq.irq_disable"], counts["irq.irq_enable"]) == (457, 409, 451)
    for site in sites:
        assert site.after is not None and len(site.after) == site.record.length
        if site.operation in INLINE_64:
            assert site.after.hex().startswith(INLINE_64[site.operation])
    shapes = Counter(site.after[:1].hex() for site in sites if site.after)
    assert set(shapes) == {"e8", "66", "fa", "fb", "9c", "0f", "48", "c6"}


def test_symbols_give_the_names_of_the_table(kernels: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image = find(kernels, "amd64")
    table = naming.table_of(image)
    assert table is not None
    monkeypatch.setattr(naming, "table_of", lambda image: None)
    found = naming.operation_names.__wrapped__(image)      # not from the cache, nor into it
    nameless = {"mmu.notify_page_enc_status_changed", "mmu.alloc_p4d", "mmu.release_p4d"}     # null on Xen
    for number in {site.type for site in read_sites(image)}:
        assert found.get(number) == (None if table[number] in nameless else table[number].split(".", 1)[1])


@pytest.mark.parametrize("flavour", ["686", "686-pae", "amd64"])
def test_a_damaged_length_is_noticed(kernels: Path, flavour: str) -> None:
    image = find(kernels, flavour)
    table = image.section(".parainstructions")
    assert table is not None and table.offset is not None
    data = bytearray(image.data)
    stride = 8 if image.bits == 32 else 16
    lengths = range(table.offset + image.word_bytes + 1, table.offset + table.size, stride * 3)
    for number, at in enumerate(lengths):
        data[at] = (1, 2, 3, 5)[number % 4]
    sites = boot_patch(load_kernel(bytes(data))).sites
    damaged = {site.record.address for site in sites if site.record.length != 6}
    assert damaged == {site.record.address for site in sites if site.after is None}
    assert len(damaged) == len(lengths)


@pytest.mark.parametrize("flavour", ["686", "amd64"])
def test_patched_file_reads_back(kernels: Path, tmp_path: Path, flavour: str) -> None:
    image = find(kernels, flavour)
    patch = boot_patch(image)
    write_patched(image, patch, tmp_path / "vmlinux")
    assert [path.name for path in tmp_path.iterdir()] == ["vmlinux"]
    again = load_kernel(tmp_path / "vmlinux")
    assert len(again.data) == len(image.data)
    for site in patch.sites:
        assert again.read(site.record.address, site.record.length) == site.after
    for before, after in zip(patch.sites, boot_patch(again).sites, strict=True):
        assert after.reason in ("", PATCHED_ALREADY)
        assert after.after in (before.after, None)
        assert bool(after.reason) == (after.after is None)
