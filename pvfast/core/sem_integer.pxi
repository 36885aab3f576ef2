# Integer instructions that do not fit the generated wrappers: two results, implicit registers, #DE.
#
# Enters: uops of rows with `raw=`. Leaves: registers, memory, flags. Next: sem_decimal.pxi.
# Functions with a `size` are called by generated handlers, one per width (isa/maps.py, SIZED).

cdef inline bint operand_read(CPU* cpu, Uop* op, const u32 size, const bint memory, u32* value) noexcept nogil:
    """The r/m operand. 8-bit registers are byte offsets into the register file."""
    if memory:
        return virtual_read(cpu, op.segment, effective_address(cpu, op), size, value)
    if size == 1:
        value[0] = (<u8*>cpu.gpr)[op.base]
    elif size == 2:
        value[0] = cpu.gpr[op.base].w
    else:
        value[0] = cpu.gpr[op.base].d
    return True


cdef inline void register_write(CPU* cpu, u32 number, const u32 size, u32 value) noexcept nogil:
    if size == 1:
        (<u8*>cpu.gpr)[number] = <u8>value
    elif size == 2:
        cpu.gpr[number].w = <u16>value
    else:
        cpu.gpr[number].q = value


cdef inline u32 register_read(CPU* cpu, u32 number, const u32 size) noexcept nogil:
    if size == 1:
        return (<u8*>cpu.gpr)[number]
    if size == 2:
        return cpu.gpr[number].w
    return cpu.gpr[number].d


cdef inline u32 low_bits(u32 value, const u32 size) noexcept nogil:
    return value if size == 4 else value & ((<u32>1 << (8 * size)) - 1)


cdef inline void exchange(CPU* cpu, Uop* op, char* mem, const u32 size, const bint memory) noexcept nogil:
    cdef u32 a
    cdef u32 b = register_read(cpu, op.reg, size)
    cdef u32 offset
    if memory:
        offset = effective_address(cpu, op)
        if not (virtual_read_locked(cpu, op.segment, offset, size, &a)
                and virtual_write(cpu, op.segment, offset, size, b)):
            raise_fault(cpu, op)
            return
    else:
        a = register_read(cpu, op.base, size)
        register_write(cpu, op.base, size, b)
    register_write(cpu, op.reg, size, a)
    finish(cpu, op, mem)


cdef void raw_xchg_a32(CPU* cpu, Uop* op, char* mem) noexcept nogil:
    cdef u32 a = cpu.gpr[EAX].d
    cpu.gpr[EAX].q = cpu.gpr[op.base].d
    cpu.gpr[op.base].q = a
    next_uop(cpu, op, mem)


cdef void raw_xchg_a16(CPU* cpu, Uop* op, char* mem) noexcept nogil:
    cdef u16 a = cpu.gpr[EAX].w
    cpu.gpr[EAX].w = cpu.gpr[op.base].w
    cpu.gpr[op.base].w = a
    next_uop(cpu, op, mem)


cdef inline u32 add_flags(CPU* cpu, u32 a, u32 b, const u32 size) noexcept nogil:
    if size == 1:
        return add[u8](cpu, <u8>a, <u8>b, True)
    if size == 2:
        return add[u16](cpu, <u16>a, <u16>b, True)
    return add[u32](cpu, a, b, True)


cdef inline void cmp_flags(CPU* cpu, u32 a, u32 b, const u32 size) noexcept nogil:
    if size == 1:
        cmp[u8](cpu, <u8>a, <u8>b, True)
    elif size == 2:
        cmp[u16](cpu, <u16>a, <u16>b, True)
    else:
        cmp[u32](cpu, a, b, True)


cdef inline void exchange_add(CPU* cpu, Uop* op, char* mem, const u32 size, const bint memory) noexcept nogil:
    cdef u32 a
    cdef u32 b = register_read(cpu, op.reg, size)
    cdef u32 offset
    if memory:
        offset = effective_address(cpu, op)
        if not (virtual_read_locked(cpu, op.segment, offset, size, &a)
                and virtual_write(cpu, op.segment, offset, size, low_bits(a + b, size))):
            raise_fault(cpu, op)
            return
        register_write(cpu, op.reg, size, a)
    else:
        a = register_read(cpu, op.base, size)
        register_write(cpu, op.reg, size, a)
        register_write(cpu, op.base, size, a + b)
    add_flags(cpu, a, b, size)
    finish(cpu, op, mem)


cdef inline void compare_exchange(CPU* cpu, Uop* op, char* mem, const u32 size, const bint memory) noexcept nogil:
    """The destination is written in either case (SDM 2, CMPXCHG), so a read-only page always faults."""
    cdef u32 old
    cdef u32 accumulator = register_read(cpu, EAX, size)
    cdef u32 source = register_read(cpu, op.reg, size)
    cdef bint equal
    cdef u32 offset
    if memory:
        offset = effective_address(cpu, op)
        if not virtual_read_locked(cpu, op.segment, offset, size, &old):
            raise_fault(cpu, op)
            return
        equal = old == accumulator
        if not virtual_write(cpu, op.segment, offset, size, source if equal else old):
            raise_fault(cpu, op)
            return
    else:
        old = register_read(cpu, op.base, size)
        equal = old == accumulator
        if equal:
            register_write(cpu, op.base, size, source)
    cmp_flags(cpu, accumulator, old, size)
    if not equal:
        register_write(cpu, EAX, size, old)
    finish(cpu, op, mem)


cdef void raw_cmpxchg8b_m(CPU* cpu, Uop* op, char* mem) noexcept nogil:
    cdef u32 offset = effective_address(cpu, op)
    cdef u32 low, high
    cdef bint equal
    if not (virtual_read_locked(cpu, op.segment, offset, 4, &low)
            and virtual_read_locked(cpu, op.segment, offset + 4, 4, &high)):
        raise_fault(cpu, op)
        return
    equal = low == cpu.gpr[EAX].d and high == cpu.gpr[EDX].d
    if not (virtual_write(cpu, op.segment, offset, 4, cpu.gpr[EBX].d if equal else low)
            and virtual_write(cpu, op.segment, offset + 4, 4, cpu.gpr[ECX].d if equal else high)):
        raise_fault(cpu, op)
        return
    if not equal:
        cpu.gpr[EAX].q = low
        cpu.gpr[EDX].q = high
    set_zf(cpu, equal)
    finish(cpu, op, mem)


cdef inline void multiply(CPU* cpu, Uop* op, char* mem, const u32 size, const bint signed_,
                          const bint memory) noexcept nogil:
    cdef u32 b
    cdef u32 a = register_read(cpu, EAX, size)
    cdef u64 wide
    cdef bint overflow
    if not operand_read(cpu, op, size, memory, &b):
        raise_fault(cpu, op)
        return
    if signed_:
        if size == 1:
            wide = <u64>(<i64><i8>a * <i64><i8>b)
            overflow = <i64>wide != <i64><i8>wide
        elif size == 2:
            wide = <u64>(<i64><i16>a * <i64><i16>b)
            overflow = <i64>wide != <i64><i16>wide
        else:
            wide = <u64>(<i64><i32>a * <i64><i32>b)
            overflow = <i64>wide != <i64><i32>wide
    else:
        wide = <u64>a * b
        overflow = (wide >> (8 * size)) != 0
    if size == 1:
        cpu.gpr[EAX].w = <u16>wide
    elif size == 2:
        cpu.gpr[EAX].w = <u16>wide
        cpu.gpr[EDX].w = <u16>(wide >> 16)
    else:
        cpu.gpr[EAX].q = <u32>wide
        cpu.gpr[EDX].q = <u32>(wide >> 32)
    set_result_overflow[u32](cpu, <u32>wide, overflow)
    cpu.fl_carry = overflow
    finish(cpu, op, mem)


cdef inline void divide(CPU* cpu, Uop* op, char* mem, const u32 size, const bint signed_,
                        const bint memory) noexcept nogil:
    """#DE for a zero divisor and for a quotient that does not fit (SDM 2, DIV, IDIV)."""
    cdef u32 divisor
    cdef u64 dividend
    cdef i64 n, d, q
    if not operand_read(cpu, op, size, memory, &divisor):
        raise_fault(cpu, op)
        return
    if divisor == 0:
        fault(cpu, op, VECTOR_DE, 0)
        return
    if size == 1:
        dividend = cpu.gpr[EAX].w
    elif size == 2:
        dividend = <u64>cpu.gpr[EDX].w << 16 | cpu.gpr[EAX].w
    else:
        dividend = <u64>cpu.gpr[EDX].d << 32 | cpu.gpr[EAX].d
    if signed_:
        if size == 1:
            n = <i16>dividend
            d = <i8>divisor
        elif size == 2:
            n = <i32>dividend
            d = <i16>divisor
        else:
            n = <i64>dividend
            d = <i32>divisor
            if dividend == <u64>1 << 63 and d == -1:
                fault(cpu, op, VECTOR_DE, 0)
                return
        q = truncated_quotient(n, d)
        if q != (<i64><i8>q if size == 1 else <i64><i16>q if size == 2 else <i64><i32>q):
            fault(cpu, op, VECTOR_DE, 0)
            return
        dividend = <u64>q
        n = n - q * d
    else:
        if dividend / divisor >> (8 * size):
            fault(cpu, op, VECTOR_DE, 0)
            return
        n = <i64>(dividend % divisor)
        dividend = dividend / divisor
    if size == 1:
        cpu.gpr[EAX].w = <u16>((dividend & 0xFF) | (<u64>n & 0xFF) << 8)
    elif size == 2:
        cpu.gpr[EAX].w = <u16>dividend
        cpu.gpr[EDX].w = <u16>n
    else:
        cpu.gpr[EAX].q = <u32>dividend
        cpu.gpr[EDX].q = <u32>n
    finish(cpu, op, mem)


cdef inline i64 truncated_quotient(i64 n, i64 d) noexcept nogil:
    """Towards zero, as the processor divides (the module is compiled with cdivision)."""
    return n / d


cdef enum BitOperation:
    BIT_TEST
    BIT_SET
    BIT_RESET
    BIT_COMPLEMENT


cdef inline void bit_string(CPU* cpu, Uop* op, char* mem, const u32 size, const u32 kind,
                            const bint memory) noexcept nogil:
    """BT, BTS, BTR, BTC with a register bit offset: in memory it reaches beyond the operand (SDM 2, BT)."""
    cdef u32 bits = 8 * size
    cdef u32 bit = register_read(cpu, op.reg, size)
    cdef u32 single, value, offset, result
    cdef i32 far
    offset = 0
    single = <u32>1 << (bit & (bits - 1))
    if memory:
        far = <i32>bit if size == 4 else <i32><i16>bit
        offset = offset_of(cpu, op) + <u32>((far >> (5 if size == 4 else 4)) * <i32>size)
        if op.extra & ADDRESS16:
            offset &= 0xFFFF
        if kind == BIT_TEST:
            if not virtual_read(cpu, op.segment, offset, size, &value):
                raise_fault(cpu, op)
                return
        elif not virtual_read_locked(cpu, op.segment, offset, size, &value):
            raise_fault(cpu, op)
            return
    else:
        value = register_read(cpu, op.base, size)
    if kind != BIT_TEST:
        result = (value | single if kind == BIT_SET else
                  value & ~single if kind == BIT_RESET else value ^ single)
        if memory:
            if not virtual_write(cpu, op.segment, offset, size, result):
                raise_fault(cpu, op)
                return
        else:
            register_write(cpu, op.base, size, result)
    cpu.fl_carry = (value & single) != 0
    finish(cpu, op, mem)


# --- Without operands ------------------------------------------------------------------------------------------------

cdef void raw_nop(CPU* cpu, Uop* op, char* mem) noexcept nogil:
    next_uop(cpu, op, mem)


cdef void raw_nop_r(CPU* cpu, Uop* op, char* mem) noexcept nogil:
    next_uop(cpu, op, mem)


cdef void raw_nop_m(CPU* cpu, Uop* op, char* mem) noexcept nogil:
    next_uop(cpu, op, mem)


cdef void raw_bswap16(CPU* cpu, Uop* op, char* mem) noexcept nogil:
    """BSWAP r16 (SDM 2, BSWAP): undefined, and 0 on processors."""
    cpu.gpr[op.base].w = 0
    next_uop(cpu, op, mem)


cdef void raw_cbw(CPU* cpu, Uop* op, char* mem) noexcept nogil:
    cpu.gpr[EAX].w = <u16><i16><i8>cpu.gpr[EAX].b[0]
    next_uop(cpu, op, mem)


cdef void raw_cwde(CPU* cpu, Uop* op, char* mem) noexcept nogil:
    cpu.gpr[EAX].q = <u32><i32><i16>cpu.gpr[EAX].w
    next_uop(cpu, op, mem)


cdef void raw_cwd(CPU* cpu, Uop* op, char* mem) noexcept nogil:
    cpu.gpr[EDX].w = 0xFFFF if cpu.gpr[EAX].w & 0x8000 else 0
    next_uop(cpu, op, mem)


cdef void raw_cdq(CPU* cpu, Uop* op, char* mem) noexcept nogil:
    cpu.gpr[EDX].q = <u32>(<i32>cpu.gpr[EAX].d >> 31)
    next_uop(cpu, op, mem)


cdef void raw_clc(CPU* cpu, Uop* op, char* mem) noexcept nogil:
    cpu.fl_carry = 0
    next_uop(cpu, op, mem)


cdef void raw_stc(CPU* cpu, Uop* op, char* mem) noexcept nogil:
    cpu.fl_carry = 1
    next_uop(cpu, op, mem)


cdef void raw_cmc(CPU* cpu, Uop* op, char* mem) noexcept nogil:
    cpu.fl_carry ^= 1
    next_uop(cpu, op, mem)


cdef void raw_cld(CPU* cpu, Uop* op, char* mem) noexcept nogil:
    cpu.eflags &= ~<u32>DF
    next_uop(cpu, op, mem)


cdef void raw_std(CPU* cpu, Uop* op, char* mem) noexcept nogil:
    cpu.eflags |= DF
    next_uop(cpu, op, mem)


cdef void raw_lahf(CPU* cpu, Uop* op, char* mem) noexcept nogil:
    cpu.gpr[EAX].b[1] = <u8>get_eflags(cpu)
    next_uop(cpu, op, mem)


cdef void raw_sahf(CPU* cpu, Uop* op, char* mem) noexcept nogil:
    set_eflags(cpu, cpu.gpr[EAX].b[1], SF | ZF | AF | PF | CF)
    next_uop(cpu, op, mem)


cdef void raw_xlat(CPU* cpu, Uop* op, char* mem) noexcept nogil:
    cdef u32 value
    cdef u32 offset = (cpu.gpr[EBX].d + cpu.gpr[EAX].b[0]) & address_mask(op)
    if not virtual_read(cpu, op.segment, offset, 1, &value):
        raise_fault(cpu, op)
        return
    cpu.gpr[EAX].b[0] = <u8>value
    finish(cpu, op, mem)
