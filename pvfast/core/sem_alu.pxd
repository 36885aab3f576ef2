# Integer arithmetic, once for all widths: values in, result out, flags stored lazily when `live`.
#
# Enters: operand values. Leaves: results and fl_*. Next: access.pxd.
# A function whose name a row of isa/forms_integer.py gives as `sem` is called by the generated wrappers.

from .types cimport *
from .flags cimport *


cdef inline uint add(CPU* cpu, uint a, uint b, bint live) noexcept nogil:
    cdef uint r = <uint>(a + b)
    if live:
        set_result[uint](cpu, r, sign_extend[uint](a), sign_extend[uint](b))
        cpu.fl_carry = r < a
    return r


cdef inline uint adc(CPU* cpu, uint a, uint b, bint live) noexcept nogil:
    cdef u32 carry = cpu.fl_carry
    cdef uint r = <uint>(a + b + carry)
    if live:
        set_result[uint](cpu, r, sign_extend[uint](a), sign_extend[uint](b))
        cpu.fl_carry = r < a or (carry and r == a)
    return r


cdef inline uint sub(CPU* cpu, uint a, uint b, bint live) noexcept nogil:
    cdef uint r = <uint>(a - b)
    if live:
        set_result[uint](cpu, r, sign_extend[uint](a), sign_extend[uint](b) ^ (<u32>1 << 31))
        cpu.fl_carry = a < b
    return r


cdef inline uint sbb(CPU* cpu, uint a, uint b, bint live) noexcept nogil:
    cdef u32 borrow = cpu.fl_carry
    cdef uint r = <uint>(a - b - borrow)
    if live:
        set_result[uint](cpu, r, sign_extend[uint](a), sign_extend[uint](b) ^ (<u32>1 << 31))
        cpu.fl_carry = a < b or (borrow and a == b)
    return r


cdef inline void logic_flags(CPU* cpu, uint r) noexcept nogil:
    """C and O clear; A, undefined, clear too (SDM 2, AND)."""
    set_result[uint](cpu, r, sign_extend[uint](r), 0)
    cpu.fl_carry = 0


cdef inline uint bit_and(CPU* cpu, uint a, uint b, bint live) noexcept nogil:
    cdef uint r = <uint>(a & b)
    if live:
        logic_flags[uint](cpu, r)
    return r


cdef inline uint bit_or(CPU* cpu, uint a, uint b, bint live) noexcept nogil:
    cdef uint r = <uint>(a | b)
    if live:
        logic_flags[uint](cpu, r)
    return r


cdef inline uint bit_xor(CPU* cpu, uint a, uint b, bint live) noexcept nogil:
    cdef uint r = <uint>(a ^ b)
    if live:
        logic_flags[uint](cpu, r)
    return r


cdef inline void cmp(CPU* cpu, uint a, uint b, bint live) noexcept nogil:
    sub[uint](cpu, a, b, live)


cdef inline void test(CPU* cpu, uint a, uint b, bint live) noexcept nogil:
    bit_and[uint](cpu, a, b, live)


cdef inline uint inc(CPU* cpu, uint a, bint live) noexcept nogil:
    cdef uint r = <uint>(a + 1)
    if live:
        set_result[uint](cpu, r, sign_extend[uint](a), 1)
    return r


cdef inline uint dec(CPU* cpu, uint a, bint live) noexcept nogil:
    cdef uint r = <uint>(a - 1)
    if live:
        set_result[uint](cpu, r, sign_extend[uint](a), <u32>1 ^ (<u32>1 << 31))
    return r


cdef inline uint bit_not(CPU* cpu, uint a, bint live) noexcept nogil:
    return <uint>~a


cdef inline uint neg(CPU* cpu, uint a, bint live) noexcept nogil:
    return sub[uint](cpu, 0, a, live)


cdef inline uint bswap(CPU* cpu, uint a, bint live) noexcept nogil:
    return <uint>((a >> 24) | ((a >> 8) & 0xFF00) | ((a << 8) & 0xFF0000) | (a << 24))


# --- Shifts and rotates (SDM 2, SAL/SAR/SHL/SHR, RCL/RCR/ROL/ROR): counts modulo 32 ----------------------------------
# OF is defined for a count of 1 only; for others it is what the formula for 1 gives with the last carry.

cdef inline uint shl(CPU* cpu, uint a, uint count, bint live) noexcept nogil:
    cdef u32 n = count & 31
    cdef uint r
    cdef u32 carry
    if n == 0:
        return a
    r = <uint>((<u64>a) << n)
    if live:
        carry = <u32>(((<u64>a) << n) >> (8 * sizeof(uint))) & 1
        set_result_overflow[uint](cpu, r, (r >> (8 * sizeof(uint) - 1)) ^ carry)
        cpu.fl_carry = carry
    return r


cdef inline uint shr(CPU* cpu, uint a, uint count, bint live) noexcept nogil:
    cdef u32 n = count & 31
    cdef uint r
    if n == 0:
        return a
    r = <uint>((<u64>a) >> n)
    if live:
        set_result_overflow[uint](cpu, r, a >> (8 * sizeof(uint) - 1))
        cpu.fl_carry = <u32>((<u64>a) >> (n - 1)) & 1
    return r


cdef inline uint sar(CPU* cpu, uint a, uint count, bint live) noexcept nogil:
    cdef u32 n = count & 31
    cdef uint r
    cdef i64 wide = <i32>sign_extend[uint](a)
    if n == 0:
        return a
    r = <uint>(wide >> n)
    if live:
        set_result_overflow[uint](cpu, r, 0)
        cpu.fl_carry = <u32>(wide >> (n - 1)) & 1
    return r


cdef inline uint rol(CPU* cpu, uint a, uint count, bint live) noexcept nogil:
    cdef u32 bits = 8 * sizeof(uint)
    cdef u32 n = count & 31
    cdef uint r
    if n == 0:
        return a
    n &= bits - 1
    r = a if n == 0 else <uint>((<u64>a << n) | (<u64>a >> (bits - n)))
    if live:
        cpu.fl_carry = r & 1
        set_of(cpu, (r & 1) ^ (r >> (bits - 1)))
    return r


cdef inline uint ror(CPU* cpu, uint a, uint count, bint live) noexcept nogil:
    cdef u32 bits = 8 * sizeof(uint)
    cdef u32 n = count & 31
    cdef uint r
    if n == 0:
        return a
    n &= bits - 1
    r = a if n == 0 else <uint>((<u64>a >> n) | (<u64>a << (bits - n)))
    if live:
        cpu.fl_carry = r >> (bits - 1)
        set_of(cpu, ((r >> (bits - 1)) ^ (r >> (bits - 2))) & 1)
    return r


cdef inline uint rcl(CPU* cpu, uint a, uint count, bint live) noexcept nogil:
    cdef u32 bits = 8 * sizeof(uint)
    cdef u32 n = (count & 31) % (bits + 1)
    cdef u64 wide
    cdef uint r
    if n == 0:
        return a
    wide = <u64>a | (<u64>cpu.fl_carry << bits)
    wide = (wide << n) | (wide >> (bits + 1 - n))
    r = <uint>wide
    if live:
        cpu.fl_carry = <u32>(wide >> bits) & 1
        set_of(cpu, cpu.fl_carry ^ (r >> (bits - 1)))
    return r


cdef inline uint rcr(CPU* cpu, uint a, uint count, bint live) noexcept nogil:
    cdef u32 bits = 8 * sizeof(uint)
    cdef u32 n = (count & 31) % (bits + 1)
    cdef u64 wide
    cdef uint r
    if n == 0:
        return a
    wide = <u64>a | (<u64>cpu.fl_carry << bits)
    wide = (wide >> n) | (wide << (bits + 1 - n))
    r = <uint>wide
    if live:
        cpu.fl_carry = <u32>(wide >> bits) & 1
        set_of(cpu, ((r >> (bits - 1)) ^ (r >> (bits - 2))) & 1)
    return r


cdef inline uint shld(CPU* cpu, uint a, uint b, u32 count, bint live) noexcept nogil:
    """Counts above the width are undefined (16-bit only): the bits come from b, then a again."""
    cdef u32 bits = 8 * sizeof(uint)
    cdef u32 n = count & 31
    cdef u64 wide
    cdef uint r
    if n == 0:
        return a
    if uint is u16:
        wide = (<u64>a << 32) | (<u64>b << 16) | a
        r = <uint>(wide >> (32 - n))
        if live:
            cpu.fl_carry = <u32>(wide >> (48 - n)) & 1
    else:
        wide = (<u64>a << bits) | b
        r = <uint>(wide >> (bits - n))
        if live:
            cpu.fl_carry = <u32>(wide >> (2 * bits - n)) & 1
    if live:
        set_result_overflow[uint](cpu, r, ((a ^ r) >> (bits - 1)) & 1)
    return r


cdef inline uint shrd(CPU* cpu, uint a, uint b, u32 count, bint live) noexcept nogil:
    cdef u32 bits = 8 * sizeof(uint)
    cdef u32 n = count & 31
    cdef u64 wide
    cdef uint r
    if n == 0:
        return a
    if uint is u16:
        wide = (<u64>a << 32) | (<u64>b << 16) | a
    else:
        wide = (<u64>b << bits) | a
    r = <uint>(wide >> n)
    if live:
        cpu.fl_carry = <u32>(wide >> (n - 1)) & 1
        set_result_overflow[uint](cpu, r, ((a ^ r) >> (bits - 1)) & 1)
    return r


# --- Multiplication (SDM 2, MUL, IMUL): C and O tell that the upper half is needed; S Z A P undefined ----------------

cdef inline uint imul(CPU* cpu, uint a, uint b, bint live) noexcept nogil:
    cdef i64 wide = <i64><i32>sign_extend[uint](a) * <i64><i32>sign_extend[uint](b)
    cdef uint r = <uint>wide
    if live:
        cpu.fl_carry = wide != <i64><i32>sign_extend[uint](r)
        set_result_overflow[uint](cpu, r, cpu.fl_carry)
    return r


# --- Bits (SDM 2, BT, BSF) -------------------------------------------------------------------------------------------

cdef inline void bt(CPU* cpu, uint a, uint b, bint live) noexcept nogil:
    cpu.fl_carry = (a >> (b & (8 * sizeof(uint) - 1))) & 1


cdef inline uint bts(CPU* cpu, uint a, uint b, bint live) noexcept nogil:
    bt[uint](cpu, a, b, live)
    return <uint>(a | (<uint>1 << (b & (8 * sizeof(uint) - 1))))


cdef inline uint btr(CPU* cpu, uint a, uint b, bint live) noexcept nogil:
    bt[uint](cpu, a, b, live)
    return <uint>(a & ~(<uint>1 << (b & (8 * sizeof(uint) - 1))))


cdef inline uint btc(CPU* cpu, uint a, uint b, bint live) noexcept nogil:
    bt[uint](cpu, a, b, live)
    return <uint>(a ^ (<uint>1 << (b & (8 * sizeof(uint) - 1))))


cdef inline uint bsf(CPU* cpu, uint old, uint b, bint live) noexcept nogil:
    """A zero source sets ZF and leaves the destination, as every processor does and the manual does not promise."""
    if b == 0:
        set_zf(cpu, True)
        return old
    set_zf(cpu, False)
    return <uint>lowest_bit(b)


cdef inline uint bsr(CPU* cpu, uint old, uint b, bint live) noexcept nogil:
    if b == 0:
        set_zf(cpu, True)
        return old
    set_zf(cpu, False)
    return <uint>highest_bit(b)


# --- Conditions (SDM 2, SETcc, CMOVcc) -------------------------------------------------------------------------------

cdef inline u8 setcc(CPU* cpu, const u32 code) noexcept nogil:
    return condition(cpu, code)


cdef inline uint cmov(CPU* cpu, const u32 code, uint a, uint b) noexcept nogil:
    return b if condition(cpu, code) else a
