# Decimal adjustment of AL and AX (SDM 1:7.3.4.4), BOUND and SALC: what only old code uses.
#
# Enters: uops of rows with `raw=`. Leaves: AX, flags, or #DE and #BR. Next: segments.pxi.

cdef inline void set_decimal_flags(CPU* cpu, u32 flags) noexcept nogil:
    """SF, ZF and PF of AL, AF and CF as given; OF is undefined, and clear."""
    set_result_overflow[u8](cpu, cpu.gpr[EAX].b[0], 0)
    set_eflags(cpu, flags, AF | CF)


cdef inline bint needs_adjustment(CPU* cpu) noexcept nogil:
    """The low digit is none, or carried or borrowed."""
    return (cpu.gpr[EAX].b[0] & 0xF) > 9 or get_af(cpu) != 0


cdef void raw_aaa(CPU* cpu, Uop* op, char* mem) noexcept nogil:
    """AAA (SDM 2)."""
    cdef bint adjust = needs_adjustment(cpu)
    if adjust:
        cpu.gpr[EAX].w += 0x106
    cpu.gpr[EAX].b[0] &= 0xF
    set_decimal_flags(cpu, AF | CF if adjust else 0)
    next_uop(cpu, op, mem)


cdef void raw_aas(CPU* cpu, Uop* op, char* mem) noexcept nogil:
    """AAS (SDM 2)."""
    cdef bint adjust = needs_adjustment(cpu)
    if adjust:
        cpu.gpr[EAX].w -= 0x106
    cpu.gpr[EAX].b[0] &= 0xF
    set_decimal_flags(cpu, AF | CF if adjust else 0)
    next_uop(cpu, op, mem)


cdef void raw_daa(CPU* cpu, Uop* op, char* mem) noexcept nogil:
    """DAA (SDM 2)."""
    cdef bint adjust = needs_adjustment(cpu)
    cdef bint carry = cpu.gpr[EAX].b[0] > 0x99 or cpu.fl_carry != 0
    cpu.gpr[EAX].b[0] += (6 if adjust else 0) + (0x60 if carry else 0)
    set_decimal_flags(cpu, (AF if adjust else 0) | (CF if carry else 0))
    next_uop(cpu, op, mem)


cdef void raw_das(CPU* cpu, Uop* op, char* mem) noexcept nogil:
    """DAS (SDM 2): a borrow out of the low digit's adjustment is a carry too."""
    cdef bint adjust = needs_adjustment(cpu)
    cdef bint high = cpu.gpr[EAX].b[0] > 0x99 or cpu.fl_carry != 0
    cdef bint carry = high or (adjust and cpu.gpr[EAX].b[0] < 6)
    cpu.gpr[EAX].b[0] -= (6 if adjust else 0) + (0x60 if high else 0)
    set_decimal_flags(cpu, (AF if adjust else 0) | (CF if carry else 0))
    next_uop(cpu, op, mem)


cdef void raw_aam(CPU* cpu, Uop* op, char* mem) noexcept nogil:
    """AAM (SDM 2), for any base; base 0 is #DE."""
    cdef u32 base = op.imm & 0xFF
    cdef u32 value = cpu.gpr[EAX].b[0]
    if base == 0:
        fault(cpu, op, VECTOR_DE, 0)
        return
    cpu.gpr[EAX].w = <u16>((value / base) << 8 | value % base)
    set_decimal_flags(cpu, 0)
    next_uop(cpu, op, mem)


cdef void raw_aad(CPU* cpu, Uop* op, char* mem) noexcept nogil:
    """AAD (SDM 2), for any base."""
    cpu.gpr[EAX].w = <u8>(cpu.gpr[EAX].b[0] + cpu.gpr[EAX].b[1] * op.imm)
    set_decimal_flags(cpu, 0)
    next_uop(cpu, op, mem)


cdef void raw_salc(CPU* cpu, Uop* op, char* mem) noexcept nogil:
    """SALC, in no manual and on every processor: AL is 0 or FF, as CF."""
    cpu.gpr[EAX].b[0] = 0xFF if cpu.fl_carry else 0
    next_uop(cpu, op, mem)


cdef void raw_bound32_m(CPU* cpu, Uop* op, char* mem) noexcept nogil:
    """BOUND r32, m32&32."""
    check_bounds(cpu, op, mem, 4, <i32>cpu.gpr[op.reg].d)


cdef void raw_bound16_m(CPU* cpu, Uop* op, char* mem) noexcept nogil:
    """BOUND r16, m16&16."""
    check_bounds(cpu, op, mem, 2, <i16>cpu.gpr[op.reg].w)


cdef void check_bounds(CPU* cpu, Uop* op, char* mem, u32 size, i32 index) noexcept nogil:
    """BOUND (SDM 2): #BR unless the signed index is within the two bounds in memory."""
    cdef u32 offset = effective_address(cpu, op)
    cdef u32 low, high
    if not (virtual_read(cpu, op.segment, offset, size, &low)
            and virtual_read(cpu, op.segment, offset + size, size, &high)):
        raise_fault(cpu, op)
        return
    if size == 2:
        low = <u32><i32><i16>low
        high = <u32><i32><i16>high
    if index < <i32>low or index > <i32>high:
        fault(cpu, op, VECTOR_BR, 0)
        return
    finish(cpu, op, mem)
