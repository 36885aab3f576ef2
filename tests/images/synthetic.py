"""Kernel images made by hand: sections and a few numbers enter, a small ELF or bzImage leaves."""

import struct
from dataclasses import dataclass, field

BASES = {32: 0xC1000000, 64: 0xFFFFFFFF81000000}
PHYSICAL = 0x1000000
BANNER = b"Linux version 6.1.0-test (somebody) #1 SMP\n\0"
TEXT, DATA = 0x1000, 0x2000  # offsets of .text and .data from the base; equal in the file
ALLOC, WRITE, EXECUTE = 2, 1, 4


@dataclass
class Kernel:
    """A kernel with one page of code, ``pv_ops`` at the start of its data, and tables behind.

    ``sites`` are (offset in .text, type, length), ``alternatives`` (offset in .text, length, replacement,
    feature field), ``extra`` sections (content, flags).
    """

    bits: int = 32
    banner: bytes = BANNER
    code: bytes = b""
    pointers: tuple[int, ...] = ()
    sites: tuple[tuple[int, int, int], ...] = ()
    alternatives: tuple[tuple[int, int, bytes, int], ...] = ()
    table: bytes | None = None
    extra: dict[str, tuple[bytes, int]] = field(default_factory=dict)
    notes: bytes = b""
    sections: bool = True

    @property
    def text(self) -> int:
        return BASES[self.bits] + TEXT

    @property
    def pv_ops(self) -> int:
        return BASES[self.bits] + DATA

    def call(self, offset: int, kind: int) -> bytes:
        """The bytes of ``call *pv_ops[kind]`` at an offset of .text."""
        pointer = self.pv_ops + kind * self.bits // 8
        operand = pointer if self.bits == 32 else pointer - (self.text + offset + 6)
        return b"\xff\x15" + (operand & 0xFFFFFFFF).to_bytes(4, "little")

    def parainstructions(self) -> bytes:
        if self.table is not None:
            return self.table
        layout = "<IBBH" if self.bits == 32 else "<QBBHxxxx"
        records = ((self.text + at, kind, length, 0) for at, kind, length in self.sites)
        return b"".join(struct.pack(layout, *record) for record in records)

    def elf(self) -> bytes:
        word = self.bits // 8
        code = bytearray(self.code.ljust(0x1000, b"\xcc"))
        for at, kind, length in self.sites:
            if 0 <= at < 0x1000 and length >= 6 and not self.code:
                code[at:at + 6] = self.call(at, kind)
        pv_ops = b"".join(pointer.to_bytes(word, "little") for pointer in self.pointers)
        data = pv_ops.ljust(0x400, b"\0") + self.banner
        parts = {".text": (bytes(code[:0x1000]), ALLOC | EXECUTE), ".data": (data, ALLOC | WRITE)}
        replacements = b"".join(new for _, _, new, _ in self.alternatives)
        position = DATA + (len(data) + 15 & ~15)
        offsets = {".text": TEXT, ".data": DATA}
        tables = {".parainstructions": self.parainstructions(), ".altinstr_replacement": replacements,
                  ".altinstructions": bytes(12 * len(self.alternatives))}
        allocated = {name: (content, ALLOC) for name, content in tables.items() if content}
        for name, (content, flags) in (allocated | self.extra).items():
            parts[name] = (content, flags)
            offsets[name] = position
            position += len(content) + 15 & ~15
        if self.alternatives:
            parts[".altinstructions"] = (self._alternatives(offsets), ALLOC)
        return self._link(parts, offsets)

    def _alternatives(self, offsets: dict[str, int]) -> bytes:
        result = b""
        source = offsets[".altinstr_replacement"]
        for at, length, new, feature in self.alternatives:
            here = offsets[".altinstructions"] + len(result)
            result += struct.pack("<iiHBB", TEXT + at - here, source - here - 4, feature, length, len(new))
            source += len(new)
        return result

    def _link(self, parts: dict[str, tuple[bytes, int]], offsets: dict[str, int]) -> bytes:
        names = b"\0" + b"\0".join(name.encode() for name in (*parts, ".shstrtab")) + b"\0"
        body = bytearray(max(offsets[name] + len(content) for name, (content, _) in parts.items()))
        for name, (content, _) in parts.items():
            body[offsets[name]:offsets[name] + len(content)] = content
        end = len(body)
        note_at = end
        names_at = note_at + len(self.notes)
        table_at = names_at + len(names) + 15 & ~15
        headers = [self._section(0, 0, 0, 0, 0, 0)]
        for name, (content, flags) in parts.items():
            at = names.index(b"\0" + name.encode() + b"\0") + 1
            linear = BASES[self.bits] + offsets[name]
            headers.append(self._section(at, 1, flags, linear, offsets[name], len(content)))
        headers.append(self._section(names.index(b".shstrtab"), 3, 0, 0, names_at, len(names)))
        segments = [self._segment(1, 0, BASES[self.bits], PHYSICAL, end, end + 0x100)]
        if self.notes:
            segments.append(self._segment(4, note_at, 0, 0, len(self.notes), len(self.notes)))
        body += self.notes + names
        body += bytes(table_at - len(body))
        count = len(headers) if self.sections else 0
        head, program, section = (52, 32, 40) if self.bits == 32 else (64, 56, 64)
        ident = b"\x7fELF" + bytes([self.bits // 32, 1, 1]) + bytes(9)
        machine = 3 if self.bits == 32 else 62
        fields = (2, machine, 1, PHYSICAL, head, table_at if count else 0, 0, head, program, len(segments),
                  section, count, count - 1 if count else 0)
        packed = struct.pack("<HHIIIIIHHHHHH" if self.bits == 32 else "<HHIQQQIHHHHHH", *fields)
        start = ident + packed + b"".join(segments)
        body[:len(start)] = start
        return bytes(body) + (b"".join(headers) if count else b"")

    def _section(self, name: int, kind: int, flags: int, address: int, offset: int, size: int) -> bytes:
        layout = "<IIIIIIIIII" if self.bits == 32 else "<IIQQQQIIQQ"
        return struct.pack(layout, name, kind, flags, address, offset, size, 0, 0, 1, 0)

    def _segment(self, kind: int, offset: int, linear: int, physical: int, held: int, size: int) -> bytes:
        if self.bits == 32:
            return struct.pack("<IIIIIIII", kind, offset, linear, physical, held, size, 7, 4)
        return struct.pack("<IIQQQQQQ", kind, 7, offset, linear, physical, held, size, 4)


def note(owner: bytes, kind: int, description: bytes) -> bytes:
    """One ELF note."""
    name = owner + b"\0"
    packed = struct.pack("<III", len(name), len(description), kind) + name.ljust(len(name) + 3 & ~3, b"\0")
    return packed + description.ljust(len(description) + 3 & ~3, b"\0")


def bzimage(payload: bytes, setup_sects: int = 4, version: int = 0x20F) -> bytes:
    """A bzImage around a packed kernel; `setup_sects` as the header field has it."""
    sectors = (setup_sects or 4) + 1
    image = bytearray(sectors * 512)
    image[0x1F1] = setup_sects
    image[0x1FE:0x200] = b"\x55\xaa"
    image[0x202:0x206] = b"HdrS"
    struct.pack_into("<H", image, 0x206, version)
    struct.pack_into("<II", image, 0x248, 0x40, len(payload))
    return bytes(image) + bytes(0x40) + payload + bytes(32)
