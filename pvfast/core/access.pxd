# The inline memory accesses of generated handlers, one per variant.
#
# Enters: an offset in a segment. Leaves: a host pointer, or False when the full check (GENERAL, memory.pxi) has to
# decide. `variant` is a constant in every call, so only one branch of each function is compiled in.
# Next: memory.pxi.
#
#   FLAT          flat segments, paging off: one bound; `mem` is RAM
#   PAGED         flat segments, paging on: `mem` is the TLB of the current privilege
#   SEGMENT       any segment, paging off
#   SEGMENT_PAGED any segment, paging on
#   SEGMENT_A16, SEGMENT_A16_PAGED: the same two with 16-bit addressing
# A store also looks at the mark of its first 64-byte line: marked lines hold decoded code (blocks.pxi).

from .types cimport *

cdef enum:
    FLAT
    PAGED
    SEGMENT
    SEGMENT_PAGED
    SEGMENT_A16
    SEGMENT_A16_PAGED
    GENERAL


cdef inline u32 offset_of(CPU* cpu, Uop* op) noexcept nogil:
    """Effective address of 32-bit addressing: base + index * scale + displacement."""
    return cpu.gpr[op.base].d + (cpu.gpr[op.index].d << op.scale) + <u32>op.disp


cdef inline u32 offset16_of(CPU* cpu, Uop* op) noexcept nogil:
    """Effective address of 16-bit addressing, which has no scale."""
    return <u16>(cpu.gpr[op.base].d + cpu.gpr[op.index].d + <u32>op.disp)


cdef inline bint inside(CPU* cpu, char* host) noexcept nogil:
    """Always true, and checked to be so in the checked build: nothing outside the guest's RAM is touched."""
    check(host >= cpu.ram and <u64>(host - cpu.ram) < GUEST_SPACE)
    return True


cdef inline bint tlb_read(char* mem, u32 linear, const u32 size, char** host) noexcept nogil:
    # An access that crosses into the next page compares that page's tag with its own: no match, full check.
    cdef TlbEntry* entry = <TlbEntry*>mem + ((linear >> 12) & (TLB_ENTRIES - 1))
    if rare(entry.read_tag != ((linear + size - 1) & 0xFFFFF000u)):
        return False
    host[0] = <char*>(entry.addend + linear)
    return True


cdef inline bint tlb_write(char* mem, u32 linear, const u32 size, char** host) noexcept nogil:
    cdef TlbEntry* entry = <TlbEntry*>mem + ((linear >> 12) & (TLB_ENTRIES - 1))
    if rare(entry.write_tag != ((linear + size - 1) & 0xFFFFF000u)):
        return False
    host[0] = <char*>(entry.addend + linear)
    return True


cdef inline bint read_at(CPU* cpu, char* mem, u32 segment, u32 offset, const u32 size, const u32 variant,
                         char** host) noexcept nogil:
    """Where to read, in `host`. False: the full check has to decide."""
    cdef Segment* s
    if variant == SEGMENT or variant == SEGMENT_PAGED:
        s = &cpu.seg[segment]
        if rare(offset >= s.read_end):
            return False
        offset += <u32>s.base
    if variant == PAGED or variant == SEGMENT_PAGED:
        return tlb_read(mem, offset, size, host) and inside(cpu, host[0])
    if rare(offset >= cpu.flat_end):
        return False
    host[0] = mem + offset
    return inside(cpu, host[0])


cdef inline bint write_at(CPU* cpu, char* mem, u32 segment, u32 offset, const u32 size, const u32 variant,
                          char** host) noexcept nogil:
    """The same for stores, and for read-modify-write: a page that may be written may be read."""
    cdef Segment* s
    if variant == SEGMENT or variant == SEGMENT_PAGED:
        s = &cpu.seg[segment]
        if rare(offset >= s.write_end):
            return False
        offset += <u32>s.base
    if variant == PAGED or variant == SEGMENT_PAGED:
        if rare(not tlb_write(mem, offset, size, host)):
            return False
        return inside(cpu, host[0]) and not rare((<u8*>(cpu.line_bias + (<u64>host[0] >> LINE_SHIFT)))[0] != 0)
    if rare(offset >= cpu.flat_end):
        return False
    if rare((<u8*>mem)[<i64>(offset >> LINE_SHIFT) - LINE_MAP_BYTES] != 0):
        return False
    host[0] = mem + offset
    return inside(cpu, host[0])
