"""KernelImage: reading by linear address, notes, versions, and files that are broken."""

import os
import random
import struct
from pathlib import Path

import pytest

from pvfast.errors import ImageError, PvfastError
from pvfast.images import load_kernel
from pvfast.paravirt.linux import boot_patch, list_sites, write_patched

from .synthetic import BANNER, BASES, PHYSICAL, TEXT, Kernel, bzimage, note


@pytest.mark.parametrize("bits", [32, 64])
def test_reading(bits: int) -> None:
    kernel = Kernel(bits=bits, code=b"\x90\xc3", pointers=(0x11223344,), sites=((8, 0, 6),))
    image = load_kernel(kernel.elf())
    assert (image.bits, image.entry, image.version) == (bits, PHYSICAL, (6, 1))
    assert image.banner == "Linux version 6.1.0-test (somebody) #1 SMP"
    assert image.segments[0].linear == BASES[bits] and image.segments[0].physical == PHYSICAL
    assert image.read(kernel.text, 3) == b"\x90\xc3\xcc"
    assert image.read_word(kernel.pv_ops) == 0x11223344
    end = image.segments[0].linear + image.segments[0].file_size
    assert image.read(end - 1, 3)[1:] == bytes(2)  # .bss reads as zero
    section = image.section_at(kernel.text, 2)
    assert section is not None and (section.name, section.executable) == (".text", True)
    assert image.section_at(kernel.text - 1) is None
    for address, length in ((kernel.text, -1), (end + 0x100, 1), (0, 4), (end, 0x101), (1 << bits, 1)):
        with pytest.raises(ImageError):
            image.read(address, length)


def test_with_bytes() -> None:
    kernel = Kernel(sites=((0, 0, 6),), pointers=(0,))
    image = load_kernel(kernel.elf())
    changed = image.with_bytes([(kernel.text + 1, b"ab"), (kernel.text + 9, b"c")])
    assert len(changed) == len(image.data)
    assert [i for i, (old, new) in enumerate(zip(image.data, changed, strict=True)) if old != new] == [
        TEXT + 1, TEXT + 2, TEXT + 9]
    end = image.segments[0].linear + image.segments[0].file_size
    with pytest.raises(ImageError, match="not in the file"):
        image.with_bytes([(end - 1, b"xy")])


def test_notes() -> None:
    pvh = struct.pack("<I", 0x1000450)
    notes = note(b"Xen", 18, pvh) + note(b"GNU", 3, b"\x01\x02\x03") + note(b"Xen", 1, b"e")
    image = load_kernel(Kernel(notes=notes).elf())
    assert image.pvh_entry == 0x1000450
    assert image.xen_notes == {18: pvh, 1: b"e"}
    assert load_kernel(Kernel().elf()).pvh_entry is None
    with pytest.raises(ImageError, match="longer than the segment"):
        load_kernel(Kernel(notes=notes[:-5]).elf())


@pytest.mark.parametrize("banner, version", [
    (b"", None),
    (b"Linux version %s (builder)\0", None),
    (b"Linux version 6.1.0 a\0Linux version 6.1.0 b\0", (6, 1)),
    (b"Linux version 6.1.0 a\0Linux version 5.10.0 b\0", None),
    (b"Linux version 2.6.32-5-686 (Debian)\0", (2, 6)),
])
def test_version(banner: bytes, version: tuple[int, int] | None) -> None:
    assert load_kernel(Kernel(banner=banner).elf()).version == version


def test_files(tmp_path: Path) -> None:
    path = tmp_path / "vmlinux"
    path.write_bytes(Kernel().elf())
    assert load_kernel(path) == load_kernel(str(path))
    for missing in (tmp_path / "none", tmp_path):
        with pytest.raises(ImageError, match="cannot read"):
            load_kernel(missing)


def test_what_is_no_regular_file_is_never_read(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)     # nobody writes to it: reading would wait for ever
    for bad in (fifo, tmp_path, Path("/dev/zero")):
        with pytest.raises(ImageError, match="not a regular file"):
            load_kernel(bad)
    for name, message in (("", "an empty name"), ("nul\0", "cannot read the image")):
        with pytest.raises(ImageError, match=message):
            load_kernel(name)


def test_huge_files_are_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sparse = tmp_path / "sparse"
    sparse.touch()
    os.truncate(sparse, (1 << 30) + 1)
    with pytest.raises(ImageError, match="is larger than 1 GiB, which no kernel is"):
        load_kernel(sparse)
    path = tmp_path / "vmlinux"
    path.write_bytes(Kernel().elf())
    with monkeypatch.context() as context:      # a file without an end says that it has no bytes
        context.setattr(os, "fstat", lambda _: os.stat_result((0,) * 10))
        assert load_kernel(path).version == (6, 1)
        context.setattr("pvfast.images.kernel._MAX_FILE_BYTES", 100)
        with pytest.raises(ImageError, match="is larger than"):
            load_kernel(path)


@pytest.mark.parametrize("data, message", [
    (b"", "neither an ELF kernel nor a bzImage"),
    (b"\x7fELF", "damaged"),
    (Kernel().elf()[:40], "damaged"),
    (Kernel().elf()[:60], "header"),
    (Kernel().elf()[:0x1800], "cut short"),
    (Kernel().elf()[:18] + b"\x28" + Kernel().elf()[19:], "EM_ARM"),
    (Kernel().elf()[:44] + b"\0\0" + Kernel().elf()[46:], "header"),
])
def test_broken_files(data: bytes, message: str) -> None:
    with pytest.raises(ImageError, match=message):
        load_kernel(data)


@pytest.mark.parametrize("bits", [32, 64])
def test_flipped_bytes_give_a_result_or_a_typed_error(bits: int, tmp_path: Path) -> None:
    kernel = Kernel(
        bits=bits, banner=BANNER, sites=tuple((at * 8, at % 4, 6) for at in range(24)),
        pointers=tuple(BASES[bits] + TEXT + 0x800 + 16 * i for i in range(4)),
        alternatives=((8, 6, b"\xfa", 0x8110), (16, 6, b"\xe8\0\0\0\0", 0x8114)),
        notes=note(b"Xen", 1, bytes(8)),
    )
    whole = kernel.elf()
    packed = bzimage(whole)
    choose = random.Random(6100 + bits)
    # Most bytes of an image are code; damage is aimed at headers and tables, where it matters.
    targets = [*range(0x40 + 0x80), *range(0x2400, len(whole))]
    refused = 0
    for case in range(600):
        damaged = bytearray(whole)
        for _ in range(choose.choice((1, 1, 2, 8))):
            damaged[choose.choice(targets)] = choose.choice((0, 1, 0x7F, 0x80, 0xFF, choose.randrange(256)))
        data = bytes(damaged)
        if case % 5 == 0:
            data = data[:choose.randrange(len(data))]
        if case % 7 == 0:
            outside = bytearray(packed)
            outside[choose.choice((0x1F1, 0x206, *range(0x248, 0x250)))] = choose.randrange(256)
            data = bytes(outside)
        try:
            image = load_kernel(data)
            list_sites(image)
            write_patched(image, boot_patch(image), tmp_path / "out")
        except PvfastError as error:
            assert str(error)
            refused += 1
    assert 100 < refused < 600
