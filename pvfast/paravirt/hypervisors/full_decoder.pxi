# Instructions of the guest, taken apart: for the scan of its code and for emulating what traps.
#
# Enters: bytes. Leaves: an Instruction. Next: full_scan.pxi.
#
# Lengths come from the rows of pvfast/isa, as the core's decoder has them: fill_lengths() in full_host.pyx.

cdef enum:
    MAX_INSTRUCTION = 15
    L_VALID = 0x80
    L_MODRM = 0x40
    L_MOFFS = 0x20          # an address follows, of the address size
    L_BYTES = 0x0F          # of the immediate
    NO_REGISTER = 16
    TWO_BYTE = 0x0F00       # Instruction.opcode of 0F xx

cdef u8 lengths[2][2][256][8]           # by operand size (1: 16 bits), escape, opcode, ModRM.reg

cdef struct Instruction:
    u32 length
    u32 opcode
    u32 size                # of the operand: 2 or 4
    bint address16
    i32 segment             # an override, or -1
    bint repeated
    u32 mod
    u32 reg
    u32 rm
    u32 base
    u32 index
    u32 scale
    i32 displacement
    u64 immediate


cdef u32 little_endian(const u8* code, u32 size) noexcept nogil:
    cdef u32 i
    cdef u32 value = 0
    for i in range(size):
        value |= <u32>code[i] << 8 * i
    return value


cdef i32 segment_prefix(u32 byte) noexcept nogil:
    if byte == 0x26 or byte == 0x2E or byte == 0x36 or byte == 0x3E:
        return <i32>(byte >> 3 & 3)
    return FS if byte == 0x64 else GS if byte == 0x65 else -1


cdef bint decode(const u8* code, u32 count, Instruction* insn) noexcept nogil:
    """False: no instruction that somebody has written, or not all of its bytes are there."""
    cdef u32 at = 0
    cdef u32 escape = 0
    cdef u32 byte, kind, displacement_bytes, immediate_bytes
    insn.size = 4
    insn.address16 = False
    insn.segment = -1
    insn.repeated = False
    while True:
        if at >= count:
            return False
        byte = code[at]
        if segment_prefix(byte) >= 0:
            insn.segment = segment_prefix(byte)
        elif byte == 0x66:
            insn.size = 2
        elif byte == 0x67:
            insn.address16 = True
        elif byte == 0xF2 or byte == 0xF3:
            insn.repeated = True
        elif byte != 0xF0:
            break
        at += 1
    if byte == 0x0F:
        at += 1
        if at >= count:
            return False
        byte = code[at]
        escape = 1
    at += 1
    insn.opcode = escape * TWO_BYTE | byte
    insn.mod = insn.reg = insn.rm = 0
    insn.base = insn.index = NO_REGISTER
    insn.scale = 0
    insn.displacement = 0
    displacement_bytes = 0
    if byte == 0 and escape == 0 and at < count and code[at] == 0:
        return False                    # memory that nobody has written: it would be ADD %al, (%eax)
    kind = lengths[insn.size == 2][escape][byte][code[at] >> 3 & 7 if at < count else 0]
    if not kind & L_VALID:
        return False
    if kind & L_MODRM:
        if at >= count:
            return False
        insn.mod = code[at] >> 6
        insn.reg = code[at] >> 3 & 7
        insn.rm = code[at] & 7
        at += 1
        if insn.address16:
            displacement_bytes = insn.mod if insn.mod < 3 else 0
            if insn.mod == 0 and insn.rm == 6:
                displacement_bytes = 2
        elif insn.mod != 3:
            insn.base = insn.rm
            if insn.rm == 4:
                if at >= count:
                    return False
                insn.base = code[at] & 7
                insn.index = code[at] >> 3 & 7
                insn.scale = code[at] >> 6
                if insn.index == 4:
                    insn.index = NO_REGISTER
                at += 1
            displacement_bytes = 1 if insn.mod == 1 else 4 if insn.mod == 2 else 0
            if insn.mod == 0 and insn.base == 5:
                insn.base = NO_REGISTER
                displacement_bytes = 4
    immediate_bytes = kind & L_BYTES
    if kind & L_MOFFS:
        immediate_bytes = 2 if insn.address16 else 4
    insn.length = at + displacement_bytes + immediate_bytes
    if insn.length > count:
        return False
    insn.displacement = <i32>little_endian(code + at, displacement_bytes)
    if displacement_bytes == 1:
        insn.displacement = <i8>code[at]
    at += displacement_bytes
    insn.immediate = little_endian(code + at, immediate_bytes if immediate_bytes < 4 else 4)
    if immediate_bytes > 4:
        insn.immediate |= <u64>little_endian(code + at + 4, immediate_bytes - 4) << 32
    return True


cdef u32 operand_segment(Instruction* insn) noexcept nogil:
    if insn.segment >= 0:
        return <u32>insn.segment
    return SS if insn.base == ESP or insn.base == EBP else DS


cdef u32 operand_offset(CPU* cpu, Instruction* insn) noexcept nogil:
    """The effective address, 32-bit."""
    cdef u32 offset = <u32>insn.displacement
    if insn.base != NO_REGISTER:
        offset += cpu.gpr[insn.base].d
    if insn.index != NO_REGISTER:
        offset += cpu.gpr[insn.index].d << insn.scale
    return offset
