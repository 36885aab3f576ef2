"""bzImage and its compressions: every kind unpacks, and no damage gets further than an ImageError."""

import bz2
import gzip
import io
import lzma
import random
import struct
from collections.abc import Callable
from contextlib import suppress

import lz4.block
import minilzo
import pytest
import zstandard

from pvfast.errors import ImageError
from pvfast.images import load_kernel
from pvfast.images.bzimage import extract_vmlinux, is_bzimage, parse_header
from pvfast.images.payloads import compression_of, unpack

from .synthetic import Kernel, bzimage

VMLINUX = Kernel(pointers=(0xC1001800,), sites=((0, 0, 6),)).elf()


def legacy_lz4(data: bytes) -> bytes:
    blocks = b""
    for start in range(0, len(data), 8 << 20):
        packed = lz4.block.compress(data[start:start + (8 << 20)], store_size=False)
        blocks += struct.pack("<I", len(packed)) + packed
    return b"\x02\x21\x4c\x18" + blocks


def lzop(data: bytes) -> bytes:
    file = io.BytesIO()
    stream = minilzo.LzoFile(fileobj=file, mode="wb")
    for start in range(0, len(data), minilzo.BLOCK_SIZE):
        stream._write_block(data[start:start + minilzo.BLOCK_SIZE])
    stream._write_block(b"")
    return file.getvalue()


PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "xz": lzma.compress,
    "gzip": gzip.compress,
    "bz2": bz2.compress,
    "lzma": lambda data: lzma.compress(data, format=lzma.FORMAT_ALONE),
    "lz4": legacy_lz4,
    "zstd": zstandard.compress,
    "lzo": lzop,
    "none": bytes,
}


@pytest.mark.parametrize("name", PACKERS)
@pytest.mark.parametrize("setup_sects", [0, 4, 39])
@pytest.mark.parametrize("with_size", [False, True])
def test_every_compression_unpacks(name: str, setup_sects: int, with_size: bool) -> None:
    payload = PACKERS[name](VMLINUX)
    assert compression_of(payload) == name
    if with_size and name != "none":  # the kernel's build appends the unpacked size
        payload += struct.pack("<I", len(VMLINUX))
    image = bzimage(payload, setup_sects)
    assert is_bzimage(image)
    assert extract_vmlinux(image) == VMLINUX
    assert load_kernel(image).version == (6, 1)


@pytest.mark.parametrize("name", [name for name in PACKERS if name != "none"])
def test_cut_payload_is_refused(name: str) -> None:
    payload = PACKERS[name](VMLINUX)
    for length in (8, len(payload) // 2, len(payload) - 9):
        with pytest.raises(ImageError):
            unpack(payload[:length])


@pytest.mark.parametrize("name", [name for name in PACKERS if name != "none"])
def test_a_bomb_stops_at_the_limit(name: str) -> None:
    payload = PACKERS[name](bytes(32 << 20))
    with pytest.raises(ImageError, match="more than 0x100000 bytes"):
        unpack(payload, limit_bytes=1 << 20)


@pytest.mark.parametrize("name", [name for name in PACKERS if name != "none"])
def test_damaged_payloads_give_bytes_or_an_image_error(name: str) -> None:
    payload = PACKERS[name](VMLINUX)
    choose = random.Random(f"payload {name}")
    for _ in range(100):
        damaged = bytearray(payload)
        damaged[choose.randrange(len(payload))] ^= 1 << choose.randrange(8)
        with suppress(ImageError):
            unpack(bytes(damaged), limit_bytes=1 << 22)


def test_unknown_compression() -> None:
    with pytest.raises(ImageError, match="starts with 6162"):
        unpack(b"abcdefgh")


def test_setup_sects_zero_means_four() -> None:
    assert parse_header(bzimage(b"payload", 0)).setup_sects == 4


def test_old_protocol() -> None:
    with pytest.raises(ImageError, match=r"boot protocol 2\.06"):
        parse_header(bzimage(b"payload", version=0x206))


def test_truncated_file() -> None:
    image = bzimage(lzma.compress(VMLINUX))
    for length in (0x206, 0x24C, 0x600, len(image) - 64):
        with pytest.raises(ImageError, match="cut short"):
            load_kernel(image[:length])


def test_payload_that_is_no_elf() -> None:
    with pytest.raises(ImageError, match="not to an ELF kernel"):
        extract_vmlinux(bzimage(gzip.compress(b"MZ nothing")))


def test_not_a_bzimage() -> None:
    with pytest.raises(ImageError, match="not a bzImage"):
        parse_header(b"\x7fELF")
