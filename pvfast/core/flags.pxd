# Lazy arithmetic flags.
#
# Enters: results and operands of ALU operations. Leaves: each flag, EFLAGS as a whole. Next: sem_alu.pxd.
#
# Design: five words are always valid and every flag is a branch-free function of them, so no "which operation was
# last" tag exists and a flag can be set alone:
#   r = low 32 bits of fl_result (the result, sign-extended to 64 bits)
#   ZF  r == 0                  SF  bit 63 of fl_result
#   PF  even parity of (byte 0 ^ byte 5): bytes 4-7 of a sign-extended result are 00 or FF, both even, so byte 5
#       is free to invert PF when EFLAGS is loaded with a combination that no result has
#   CF  fl_carry (0 or 1)
#   OF  bit 31 of (fl_a ^ r) & (fl_b ^ r)
#   AF  bit 4 of fl_a ^ fl_b ^ r
# fl_a and fl_b are the sign-extended operands; a subtraction stores b with bit 31 inverted, which makes the addition
# rule for OF right and leaves bit 4 for AF.

from .types cimport *


cdef inline u32 sign_extend(uint value) noexcept nogil:
    if uint is u8:
        return <u32><i32><i8>value
    elif uint is u16:
        return <u32><i32><i16>value
    else:
        return value


cdef inline void set_result(CPU* cpu, uint r, u32 a, u32 b) noexcept nogil:
    """Z, S, P from the result; O and A from the operands. CF stays."""
    cpu.fl_result = <i64><i32>sign_extend[uint](r)
    cpu.fl_a = a
    cpu.fl_b = b


cdef inline void set_result_overflow(CPU* cpu, uint r, u32 overflow) noexcept nogil:
    """Z, S, P from the result, O as given (0 or 1), A clear. CF stays."""
    cdef u32 wide = sign_extend[uint](r)
    cpu.fl_result = <i64><i32>wide
    cpu.fl_a = (wide & ~<u32>0x10) ^ (overflow << 31)
    cpu.fl_b = wide ^ (overflow << 31)


cdef inline bint get_zf(CPU* cpu) noexcept nogil:
    return <u32>cpu.fl_result == 0


cdef inline bint get_sf(CPU* cpu) noexcept nogil:
    return cpu.fl_result < 0


cdef inline bint get_of(CPU* cpu) noexcept nogil:
    cdef u32 r = <u32>cpu.fl_result
    return ((cpu.fl_a ^ r) & (cpu.fl_b ^ r)) >> 31


cdef inline u32 get_af(CPU* cpu) noexcept nogil:
    """AF in place (0 or 0x10)."""
    return (cpu.fl_a ^ cpu.fl_b ^ <u32>cpu.fl_result) & AF


cdef inline bint get_pf(CPU* cpu) noexcept nogil:
    cdef u32 byte = (<u32>cpu.fl_result ^ <u32>(cpu.fl_result >> 40)) & 0xFF
    byte ^= byte >> 4
    return (0x9669 >> (byte & 15)) & 1     # bit n: nibble n has even parity


cdef inline void set_of(CPU* cpu, u32 overflow) noexcept nogil:
    """O alone."""
    cdef u32 r = <u32>cpu.fl_result
    cdef u32 adjust = get_af(cpu)
    cpu.fl_a = ((r & ~<u32>0x10) | adjust) ^ (overflow << 31)
    cpu.fl_b = r ^ (overflow << 31)


cdef inline u32 get_eflags(CPU* cpu) noexcept nogil:
    """All of EFLAGS."""
    return (cpu.eflags | cpu.fl_carry | (<u32>get_pf(cpu) << 2) | get_af(cpu) | (<u32>get_zf(cpu) << 6)
            | (<u32>get_sf(cpu) << 7) | (<u32>get_of(cpu) << 11))


cdef inline void set_eflags(CPU* cpu, u32 value, u32 mask) noexcept nogil:
    """Replace the bits of EFLAGS that `mask` selects."""
    cdef u32 flags = (get_eflags(cpu) & ~mask) | (value & mask)
    cpu.eflags = (flags & ~<u32>ARITHMETIC) | FLAG_1
    cpu.fl_carry = flags & CF
    cpu.fl_result = 0 if flags & ZF else 0x100
    if flags & SF:
        cpu.fl_result = <i64>(<u64>cpu.fl_result | (<u64>1 << 63))
    if not flags & PF:
        cpu.fl_result = <i64>(<u64>cpu.fl_result | (<u64>1 << 40))
    cpu.fl_b = (flags & OF) << 20
    cpu.fl_a = cpu.fl_b | (flags & AF)


cdef inline void set_zf(CPU* cpu, bint zero) noexcept nogil:
    set_eflags(cpu, ZF if zero else 0, ZF)


cdef inline bint condition(CPU* cpu, const u32 code) noexcept nogil:
    """The condition of Jcc, SETcc and CMOVcc with this code (SDM 1:B.1)."""
    cdef bint result
    cdef u32 kind = code >> 1
    if kind == 0:
        result = get_of(cpu)
    elif kind == 1:
        result = cpu.fl_carry != 0
    elif kind == 2:
        result = get_zf(cpu)
    elif kind == 3:
        result = cpu.fl_carry != 0 or get_zf(cpu)
    elif kind == 4:
        result = get_sf(cpu)
    elif kind == 5:
        result = get_pf(cpu)
    elif kind == 6:
        result = get_sf(cpu) != get_of(cpu)
    else:
        result = get_zf(cpu) or get_sf(cpu) != get_of(cpu)
    return result != (code & 1)


cdef struct SavedFlags:
    i64 result
    u32 a
    u32 b
    u32 carry


cdef inline SavedFlags save_flags(CPU* cpu) noexcept nogil:
    """The lazy flags, for an instruction that may have to be run again."""
    cdef SavedFlags saved
    saved.result = cpu.fl_result
    saved.a = cpu.fl_a
    saved.b = cpu.fl_b
    saved.carry = cpu.fl_carry
    return saved


cdef inline void restore_flags(CPU* cpu, SavedFlags saved) noexcept nogil:
    cpu.fl_result = saved.result
    cpu.fl_a = saved.a
    cpu.fl_b = saved.b
    cpu.fl_carry = saved.carry
