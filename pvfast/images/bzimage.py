"""bzImage: a bootable x86 kernel file enters, the ELF vmlinux packed inside it leaves.

The header is Linux's documented boot protocol (Documentation/x86/boot.rst), whose field names are kept.
Next: ``payloads.py`` unpacks, ``kernel.py`` reads the ELF.
"""

import struct
from dataclasses import dataclass

from pvfast.errors import ImageError
from pvfast.images.payloads import MAX_UNPACKED_BYTES, compression_of, unpack

#: File offsets of the boot protocol's fields.
SETUP_SECTS, BOOT_FLAG, HEADER, VERSION, PAYLOAD_OFFSET = 0x1F1, 0x1FE, 0x202, 0x206, 0x248
#: The first protocol version with payload_offset and payload_length (Linux 2.6.26).
PAYLOAD_VERSION = 0x0208
_HEADER_END = 0x250
_SECTOR_BYTES = 512


@dataclass(frozen=True, slots=True)
class BzImageHeader:
    """What the boot protocol's header says about the payload.

    Attributes
    ----------
    version : int
        Boot protocol version, 0x020F for 2.15.
    setup_sects : int
        Sectors of real-mode code after the boot sector; 0 in the file means 4.
    payload_start, payload_length : int
        The packed kernel, as a file offset and a number of bytes.
    """

    version: int
    setup_sects: int
    payload_start: int
    payload_length: int


def is_bzimage(data: bytes) -> bool:
    """Tell whether `data` carries the boot protocol's signature.

    Examples
    --------
    >>> is_bzimage(b"\\x7fELF")
    False
    """
    return data[HEADER:HEADER + 4] == b"HdrS" and data[BOOT_FLAG:BOOT_FLAG + 2] == b"\x55\xaa"


def parse_header(data: bytes) -> BzImageHeader:
    """Read the header of a bzImage.

    Parameters
    ----------
    data : bytes
        The whole file.

    Returns
    -------
    BzImageHeader
        Checked against the file's length.

    Raises
    ------
    ImageError
        Not a bzImage, a protocol older than 2.08, or a payload that is not in the file.
    """
    if not is_bzimage(data):
        raise ImageError("not a bzImage: no 'HdrS' at offset 0x202 or no boot flag at 0x1fe")
    if len(data) < _HEADER_END:
        raise ImageError(f"the bzImage ends inside its header, after {len(data):#x} bytes: the file is cut "
                         "short")
    (version,) = struct.unpack_from("<H", data, VERSION)
    if version < PAYLOAD_VERSION:
        raise ImageError(f"boot protocol {version >> 8}.{version & 255:02} does not say where the packed "
                         "kernel is (2.08, Linux 2.6.26, does): give the ELF vmlinux instead")
    setup_sects = data[SETUP_SECTS] or 4
    offset, length = struct.unpack_from("<II", data, PAYLOAD_OFFSET)
    start = (setup_sects + 1) * _SECTOR_BYTES + offset
    if not length or start + length > len(data):
        raise ImageError(f"the packed kernel would be at file offset {start:#x}, {length:#x} bytes, but the "
                         f"file has {len(data):#x}: it is cut short, fetch it again")
    return BzImageHeader(version, setup_sects, start, length)


def extract_vmlinux(data: bytes, limit_bytes: int = MAX_UNPACKED_BYTES) -> bytes:
    """Unpack the ELF kernel of a bzImage.

    Parameters
    ----------
    data : bytes
        The whole bzImage.
    limit_bytes : int
        The most that may come out.

    Returns
    -------
    bytes
        The ELF vmlinux.

    Raises
    ------
    ImageError
        As :func:`parse_header`; or the payload is damaged, too large, or not an ELF file when unpacked.
    """
    header = parse_header(data)
    payload = data[header.payload_start:header.payload_start + header.payload_length]
    vmlinux = unpack(payload, limit_bytes)
    if not vmlinux.startswith(b"\x7fELF"):
        raise ImageError(f"the {compression_of(payload)} payload unpacks to something that starts with "
                         f"{vmlinux[:4].hex() or 'nothing'}, not to an ELF kernel")
    return vmlinux
