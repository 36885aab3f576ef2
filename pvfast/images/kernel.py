"""A kernel image: a bzImage or ELF file enters; sections, segments, notes and bytes by linear address leave.

Everything that is read was checked against the file's length first, so a damaged file gives an ``ImageError``
and never a wrong slice. Next: ``parainstructions.py`` and ``altinstructions.py`` read its tables.
"""

import io
import os
import re
import stat
import struct
from bisect import bisect_right
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import cast

from elftools.elf.elffile import ELFFile

from pvfast.errors import ImageError
from pvfast.images.bzimage import extract_vmlinux, is_bzimage

_MACHINES = {"EM_386": 32, "EM_X86_64": 64}
_HEADER_BYTES = {32: (52, 32, 40), 64: (64, 56, 64)}  # ELF header, program header, section header
_BANNER = re.compile(rb"Linux version (\d{1,3})\.(\d{1,4})[^\0\n]{0,400}")
#: No kernel is larger; a file may be as large as it likes, or have no end.
_MAX_FILE_BYTES = 1 << 30
_CHUNK_BYTES = 1 << 22
#: A note is a few words; what is longer is no note.
_MAX_NOTE_BYTES = 1 << 16
#: XEN_ELFNOTE_PHYS32_ENTRY: where PVH enters, a physical address.
_XEN_PHYS32_ENTRY = 18


@dataclass(frozen=True, slots=True)
class Section:
    """One section header.

    Attributes
    ----------
    name : str
        For example ``".text"``.
    address : int
        Linear address of the first byte.
    size : int
        Bytes in memory.
    offset : int or None
        File offset; None when the section has no bytes in the file (``.bss``).
    writable, executable : bool
        The section's flags.
    """

    name: str
    address: int
    size: int
    offset: int | None
    writable: bool
    executable: bool

    def contains(self, linear: int, length: int = 1) -> bool:
        """Tell whether all `length` bytes from `linear` lie in the section."""
        return self.address <= linear and linear + length <= self.address + self.size


@dataclass(frozen=True, slots=True)
class Segment:
    """One loadable segment (PT_LOAD).

    Attributes
    ----------
    linear, physical : int
        Where its first byte goes: p_vaddr and p_paddr.
    offset, file_size : int
        Its bytes in the file.
    memory_size : int
        Bytes in memory; those past `file_size` are zero.
    """

    linear: int
    physical: int
    offset: int
    file_size: int
    memory_size: int


@dataclass(frozen=True, slots=True)
class KernelImage:
    """A kernel's ELF file, opened.

    Attributes
    ----------
    data : bytes
        The whole ELF file.
    bits : int
        32 or 64.
    entry : int
        The ELF entry point (physical for Linux kernels).
    sections : tuple of Section
        Sections that are loaded, in the order of their addresses.
    segments : tuple of Segment
        Loadable segments in file order.
    notes : tuple of (str, int, bytes)
        ELF notes: owner, type, description.
    banner : str or None
        The "Linux version ..." line.
    version : (int, int) or None
        Major and minor number; None when the image says none, or several.
    """

    data: bytes
    bits: int
    entry: int
    sections: tuple[Section, ...]
    segments: tuple[Segment, ...]
    notes: tuple[tuple[str, int, bytes], ...]
    banner: str | None
    version: tuple[int, int] | None

    @property
    def word_bytes(self) -> int:
        """Size of a pointer."""
        return self.bits // 8

    @property
    def pvh_entry(self) -> int | None:
        """Physical address where PVH enters (32-bit, paging off), or None."""
        for owner, kind, description in self.notes:
            if (owner, kind) == ("Xen", _XEN_PHYS32_ENTRY) and len(description) >= 4:
                return int.from_bytes(description[:4], "little")
        return None

    @property
    def xen_notes(self) -> dict[int, bytes]:
        """The Xen notes: type -> description."""
        return {kind: description for owner, kind, description in self.notes if owner == "Xen"}

    def section(self, name: str) -> Section | None:
        """The section called `name`, or None."""
        return next((section for section in self.sections if section.name == name), None)

    def section_at(self, linear: int, length: int = 1) -> Section | None:
        """The section that holds all `length` bytes from `linear`, or None."""
        end = bisect_right(self.sections, linear, key=lambda section: section.address)
        before = reversed(self.sections[:end])
        return next((section for section in before if section.contains(linear, length)), None)

    def read(self, linear: int, length: int) -> bytes:
        """Read bytes as the loaded kernel has them.

        Parameters
        ----------
        linear : int
            Linear address of the first byte.
        length : int
            How many; bytes that the file does not hold (``.bss``) read as zero.

        Returns
        -------
        bytes
            Exactly `length` bytes.

        Raises
        ------
        ImageError
            Some byte lies outside every segment.
        """
        if length < 0:
            raise ImageError(f"cannot read {length} bytes at linear {linear:#x}")
        for segment in self.segments:
            start, end = linear - segment.linear, linear - segment.linear + length
            if start >= 0 and end <= segment.memory_size:
                held = self.data[segment.offset + start:segment.offset + min(end, segment.file_size)]
                return held + bytes(length - len(held))
        raise ImageError(f"the {length} bytes at linear {linear:#x} lie outside every loaded segment of the "
                         "image")

    def read_word(self, linear: int) -> int:
        """Read one pointer at a linear address."""
        return int.from_bytes(self.read(linear, self.word_bytes), "little")

    def with_bytes(self, changes: Iterable[tuple[int, bytes]]) -> bytes:
        """The ELF file with other bytes in it; this image stays as it is.

        Parameters
        ----------
        changes : iterable of (int, bytes)
            Linear address and the bytes that go there.

        Returns
        -------
        bytes
            A whole ELF file of the same length.

        Raises
        ------
        ImageError
            A change lies outside the bytes that the file holds.
        """
        result = bytearray(self.data)
        for linear, new in changes:
            offset = self._file_offset(linear, len(new))
            result[offset:offset + len(new)] = new
        return bytes(result)

    def _file_offset(self, linear: int, length: int) -> int:
        for segment in self.segments:
            start = linear - segment.linear
            if start >= 0 and start + length <= segment.file_size:
                return segment.offset + start
        raise ImageError(f"the {length} bytes at linear {linear:#x} are not in the file, so they cannot be "
                         "changed")


def load_kernel(source: str | os.PathLike[str] | bytes) -> KernelImage:
    """Open a kernel: a bzImage (unpacked in memory) or an ELF vmlinux.

    Parameters
    ----------
    source : path or bytes
        The file, or its bytes.

    Returns
    -------
    KernelImage
        Symbol tables are not needed.

    Raises
    ------
    ImageError
        The file cannot be read, is neither kind, is damaged, or is for another processor.

    Examples
    --------
    >>> load_kernel(b"MZ")
    Traceback (most recent call last):
    ...
    pvfast.errors.ImageError: neither an ELF kernel nor a bzImage: it starts with 4d5a
    """
    data = source if isinstance(source, bytes) else _read_file(os.fspath(source))
    if is_bzimage(data):
        data = extract_vmlinux(data)
    if not data.startswith(b"\x7fELF"):
        raise ImageError(f"neither an ELF kernel nor a bzImage: it starts with {data[:4].hex() or 'nothing'}")
    try:
        return _open_elf(data)
    except ImageError:
        raise
    except Exception as error:  # pyelftools lets construct's and the standard library's errors through
        raise ImageError(f"the ELF kernel is damaged: {type(error).__name__}: {error}") from error


def _read_file(path: str) -> bytes:
    """A regular file's bytes; anything else may block, have no end or change when it is read."""
    if not path:
        raise ImageError("cannot read the image '': an empty name names no file")
    held = bytearray()
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise ImageError(f"cannot read the image {path!r}: it is a directory, a device or a FIFO, not a regular "
                             "file")
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size      # 0 where the system makes the file up
            while max(size, len(held)) <= _MAX_FILE_BYTES and (chunk := file.read(_CHUNK_BYTES)):
                held += chunk
    except (OSError, ValueError) as error:      # ValueError: a name with NUL in it
        raise ImageError(f"cannot read the image {path!r}: {getattr(error, 'strerror', None) or error}") from error
    if max(size, len(held)) > _MAX_FILE_BYTES:
        raise ImageError(f"{path!r} is larger than {_MAX_FILE_BYTES >> 30} GiB, which no kernel is")
    return bytes(held)


def _open_elf(data: bytes) -> KernelImage:
    elf = ELFFile(io.BytesIO(data))
    header = elf.header
    bits = _MACHINES.get(header["e_machine"])
    if bits is None or not elf.little_endian or elf.elfclass != bits:
        raise ImageError(f"an ELF file for {header['e_machine']} ({elf.elfclass}-bit): pvfast reads x86 "
                         "kernels")
    _check_tables(cast(Mapping[str, int], header), bits, len(data))
    segments = []
    notes: list[tuple[str, int, bytes]] = []
    for entry in elf.iter_segments():
        _check_inside(data, f"segment at linear {entry['p_vaddr']:#x}", entry["p_offset"], entry["p_filesz"])
        if entry["p_type"] == "PT_LOAD":
            if entry["p_filesz"] > entry["p_memsz"]:
                raise ImageError(f"the segment at linear {entry['p_vaddr']:#x} has more bytes in the file "
                                 "than in memory: the ELF file is damaged")
            segments.append(Segment(entry["p_vaddr"], entry["p_paddr"], entry["p_offset"], entry["p_filesz"],
                                    entry["p_memsz"]))
        elif entry["p_type"] == "PT_NOTE" and entry["p_filesz"] <= _MAX_NOTE_BYTES:
            notes += _read_notes(data[entry["p_offset"]:entry["p_offset"] + entry["p_filesz"]])
    if not segments:
        raise ImageError("the ELF file has no loadable segment: an object file or module is no kernel; give "
                         "the linked vmlinux or the bzImage")
    banner, version = _read_banner(data)
    return KernelImage(data, bits, header["e_entry"], _read_sections(elf, data), tuple(segments),
                       tuple(notes), banner, version)


def _check_tables(header: Mapping[str, int], bits: int, length: int) -> None:
    """Refuse header tables that are not in the file, before anything walks them."""
    _, program_bytes, section_bytes = _HEADER_BYTES[bits]
    for what, offset, count, size, expected in (
        ("program", header["e_phoff"], header["e_phnum"], header["e_phentsize"], program_bytes),
        ("section", header["e_shoff"], header["e_shnum"], header["e_shentsize"], section_bytes),
    ):
        if (offset and not count) or (count and (size != expected or offset + count * size > length)):
            raise ImageError(f"the {what} headers ({count} of {size} bytes at file offset {offset:#x}) are "
                             f"not in the file of {length:#x} bytes: it is damaged or cut short")


def _check_inside(data: bytes, what: str, offset: int, size: int) -> None:
    if offset + size > len(data):
        raise ImageError(f"the {what} ends at file offset {offset + size:#x}, past the end of the file "
                         f"({len(data):#x}): it is cut short")


def _read_sections(elf: ELFFile, data: bytes) -> tuple[Section, ...]:
    if not elf.header["e_shnum"]:
        return ()
    sections = []
    for entry in elf.iter_sections():
        flags = entry["sh_flags"]
        if not flags & 2:  # SHF_ALLOC: only what is loaded
            continue
        held = entry["sh_type"] != "SHT_NOBITS"
        if held:
            _check_inside(data, f"section {entry.name!r}", entry["sh_offset"], entry["sh_size"])
        offset = entry["sh_offset"] if held else None
        sections.append(Section(entry.name, entry["sh_addr"], entry["sh_size"], offset, bool(flags & 1),
                                bool(flags & 4)))
    return tuple(sorted(sections, key=lambda section: section.address))


def _read_notes(table: bytes) -> list[tuple[str, int, bytes]]:
    """ELF notes: sizes of owner and description, type, then both padded to four bytes."""
    notes = []
    position = 0
    while position + 12 <= len(table):
        name_size, size, kind = struct.unpack_from("<III", table, position)
        start = position + 12 + (name_size + 3 & ~3)
        if start + size > len(table):
            raise ImageError(f"the ELF note at offset {position:#x} of its segment is longer than the "
                             "segment: the file is damaged")
        owner = table[position + 12:position + 12 + name_size].rstrip(b"\0").decode("latin-1")
        notes.append((owner, kind, table[start:start + size]))
        position = start + (size + 3 & ~3)
    return notes


def _read_banner(data: bytes) -> tuple[str | None, tuple[int, int] | None]:
    found = list(_BANNER.finditer(data))
    versions = {(int(match[1]), int(match[2])) for match in found}
    if len(versions) != 1:
        return None, None
    return max((match[0] for match in found), key=len).decode("latin-1").strip(), versions.pop()
