"""Decompression: the packed kernel of a bzImage enters, plain bytes leave, and no more of them than a limit.

The compression is told by its first bytes, as the kernel's own build chooses it. Every decoder works in
pieces so that a small hostile file cannot fill the memory. Next: ``bzimage.py``, which finds the payload.
"""

import bz2
import io
import lzma
import zlib
from collections.abc import Callable, Iterator

from pvfast.errors import ImageError

#: No unpacked x86 kernel comes near this; Debian's largest 6.1 image is 66 MB.
MAX_UNPACKED_BYTES = 1 << 30
_PIECE_BYTES = 1 << 20
#: Working memory for dictionaries; the kernel's build uses 32 MiB (xz) and 128 MiB windows (zstd) at most.
_WINDOW_BYTES = 1 << 28

#: First bytes -> name of the compression (Linux: scripts/Makefile.lib, lib/decompress.c).
MAGICS = (
    (b"\xfd7zXZ\x00", "xz"),
    (b"\x1f\x8b", "gzip"),
    (b"BZh", "bz2"),
    (b"\x5d\x00\x00", "lzma"),
    (b"\x02\x21\x4c\x18", "lz4"),
    (b"\x28\xb5\x2f\xfd", "zstd"),
    (b"\x89LZO\x00", "lzo"),
    (b"\x7fELF", "none"),
)


def compression_of(payload: bytes) -> str:
    """Name the compression of a kernel payload from its first bytes.

    Parameters
    ----------
    payload : bytes
        The payload, or at least its first eight bytes.

    Returns
    -------
    str
        ``"xz"``, ``"gzip"``, ``"bz2"``, ``"lzma"``, ``"lz4"``, ``"zstd"``, ``"lzo"`` or ``"none"`` (a bare
        ELF).

    Raises
    ------
    ImageError
        The bytes are none of these.

    Examples
    --------
    >>> compression_of(bytes.fromhex("fd377a585a00 0001"))
    'xz'
    """
    for magic, name in MAGICS:
        if payload.startswith(magic):
            return name
    raise ImageError(f"the kernel payload starts with {payload[:8].hex() or 'nothing'}, which is no known "
                     "compression: the file is damaged, or unpack it yourself and give the ELF vmlinux")


def unpack(payload: bytes, limit_bytes: int = MAX_UNPACKED_BYTES) -> bytes:
    """Unpack a kernel payload.

    Parameters
    ----------
    payload : bytes
        The packed kernel; what the build appends to it (the unpacked size) may follow.
    limit_bytes : int
        The most that may come out.

    Returns
    -------
    bytes
        The unpacked bytes.

    Raises
    ------
    ImageError
        The payload is damaged or cut short, or unpacks to more than `limit_bytes`.

    Examples
    --------
    >>> unpack(zlib.compress(b"vmlinux", wbits=31))
    b'vmlinux'
    """
    name = compression_of(payload)
    if name == "none":
        return payload
    pieces = []
    total = 0
    try:
        for piece in _DECODERS[name](payload):
            total += len(piece)
            if total > limit_bytes:
                raise ImageError(f"the {name} payload unpacks to more than {limit_bytes:#x} bytes: not a "
                                 "kernel image")
            pieces.append(piece)
    except ImageError:
        raise
    except Exception as error:  # each library has its own kinds, and none of them is ours
        raise ImageError(f"the {name} payload is damaged ({error}): fetch the image again") from error
    return b"".join(pieces)


def _stream(decoder: "lzma.LZMADecompressor | bz2.BZ2Decompressor", payload: bytes) -> Iterator[bytes]:
    piece = decoder.decompress(payload, max_length=_PIECE_BYTES)
    while True:
        yield piece
        if decoder.eof:
            return
        if decoder.needs_input:
            raise ImageError("the payload ends before its compressed data does: the image is cut short")
        piece = decoder.decompress(b"", max_length=_PIECE_BYTES)


def _xz(payload: bytes) -> Iterator[bytes]:
    yield from _stream(lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_WINDOW_BYTES), payload)


def _lzma(payload: bytes) -> Iterator[bytes]:
    yield from _stream(lzma.LZMADecompressor(lzma.FORMAT_ALONE, memlimit=_WINDOW_BYTES), payload)


def _bz2(payload: bytes) -> Iterator[bytes]:
    yield from _stream(bz2.BZ2Decompressor(), payload)


def _gzip(payload: bytes) -> Iterator[bytes]:
    decoder = zlib.decompressobj(wbits=31)
    rest = payload
    while not decoder.eof:
        piece = decoder.decompress(rest, _PIECE_BYTES)
        if not piece and not decoder.eof and not decoder.unconsumed_tail:
            raise ImageError("the payload ends before its compressed data does: the image is cut short")
        rest = decoder.unconsumed_tail
        yield piece


def _zstd(payload: bytes) -> Iterator[bytes]:
    import zstandard  # only images that need it pay for loading it

    decoder = zstandard.ZstdDecompressor(max_window_size=_WINDOW_BYTES).decompressobj()
    for start in range(0, len(payload), 1024):
        yield decoder.decompress(payload[start:start + 1024])
        if decoder.eof:
            return
    raise ImageError("the payload ends before its compressed data does: the image is cut short")


def _lz4(payload: bytes) -> Iterator[bytes]:
    """The legacy frame: blocks of 8 MiB, each behind its packed length; what cannot be a block ends it.

    Four bytes may follow the last block, the unpacked size that the kernel's build appends.
    """
    import lz4.block  # only images that need it pay for loading it

    position, unpacked = 4, 0
    while len(payload) - position >= 4:
        length = int.from_bytes(payload[position:position + 4], "little")
        if len(payload) - position == 4 and length == unpacked:
            return
        position += 4
        if not 0 < length <= len(payload) - position:
            raise ImageError(f"an lz4 block of {length:#x} bytes does not fit the payload: the image is cut "
                             "short")
        piece = lz4.block.decompress(payload[position:position + length], uncompressed_size=8 << 20)
        position += length
        unpacked += len(piece)
        yield piece
    if position != len(payload) or not unpacked:
        raise ImageError("the lz4 payload ends inside a block's length: the image is cut short")


def _lzo(payload: bytes) -> Iterator[bytes]:
    """The file format of lzop, which the kernel's build calls; blocks of at most 64 MiB."""
    import minilzo  # only images that need it pay for loading it

    stream = minilzo.LzoFile(fileobj=io.BytesIO(payload), mode="rb")
    while piece := stream._read_block():        # read() would hold all blocks before the limit is looked at
        yield piece


_DECODERS: dict[str, Callable[[bytes], Iterator[bytes]]] = {
    "xz": _xz, "gzip": _gzip, "bz2": _bz2, "lzma": _lzma, "lz4": _lz4, "zstd": _zstd,
    "lzo": _lzo,
}
