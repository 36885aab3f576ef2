# x87: arithmetic, functions, comparisons.
#
# Enters: uops of forms_x87.py rows. Leaves: the next uop. Next: x87_moves.pxi.

cdef inline bint get_operand(CPU* cpu, Uop* op, char* mem, const u32 size, const u32 variant, void* buffer, char** host,
                             u32* offset, bint* slow) noexcept nogil:
    """Where the memory operand can be read: in place, or in `buffer` after the full check. False: a fault is noted."""
    slow[0] = False
    if variant != GENERAL:
        offset[0] = offset_of(cpu, op)
        if read_at(cpu, mem, op.segment, offset[0], size, variant, host):
            return True
    offset[0] = effective_address(cpu, op)
    slow[0] = True
    host[0] = <char*>buffer
    return virtual_load(cpu, op.segment, offset[0], size, buffer)


cdef inline void go_on(CPU* cpu, Uop* op, char* mem, bint slow) noexcept nogil:
    if rare(slow):
        finish(cpu, op, mem)
        return
    next_uop(cpu, op, mem)


cdef inline u32 size_of(const u32 kind) noexcept nogil:
    """Bytes of a memory format."""
    return 2 if kind == I16 else 4 if kind == M32 or kind == I32 else 8 if kind == M64 or kind == I64 else 10


cdef inline i64 integer_of(const u32 kind, const char* host) noexcept nogil:
    return (<i16*>host)[0] if kind == I16 else (<i32*>host)[0] if kind == I32 else (<i64*>host)[0]


# --- FADD, FMUL, FSUB, FDIV (SDM 2) ----------------------------------------------------------------------------------

cdef inline void x87_arithmetic(CPU* cpu, Uop* op, char* mem, const u32 what, const bint to_i,
                                const bint pop) noexcept nogil:
    """Two registers; the destination is ST(0) or ST(i)."""
    cdef u32 top = top_of(cpu)
    cdef u32 other = place_of(cpu, op.base)
    cdef u32 target = other if to_i else top
    cdef u32 result
    if unready(cpu):
        refuse_x87(cpu, op)
        return
    if rare(cpu.fpu_empty and (is_empty(cpu, top) or is_empty(cpu, other))):
        fail_at(cpu, op, mem, target, pop)
        return
    remember(cpu, op)
    result = maker_arithmetic(what, register_at(cpu, target), register_at(cpu, top if to_i else other),
                              cpu.fpu_control, cpu.fpu_status)
    settle(cpu, op, result)
    if pop and carried_out(cpu, result):
        drop(cpu)
    next_uop(cpu, op, mem)


cdef inline void x87_arithmetic_memory(CPU* cpu, Uop* op, char* mem, const u32 what, const u32 kind,
                                       const u32 variant) noexcept nogil:
    """ST(0) and a real or an integer in memory."""
    cdef char* host
    cdef u32 offset, result
    cdef bint slow
    cdef x87_real* target
    cdef x87_real* value = <x87_real*>&cpu.fpu_operand
    if unready(cpu):
        refuse_x87(cpu, op)
        return
    if rare(not get_operand(cpu, op, mem, size_of(kind), variant, &cpu.fpu_operand, &host, &offset, &slow)):
        raise_fault(cpu, op)
        return
    remember_data(cpu, op, offset)
    if rare(is_empty(cpu, top_of(cpu))):
        if underflow(cpu, op):
            set_indefinite(cpu, top_of(cpu))
        go_on(cpu, op, mem, slow)
        return
    target = register_at(cpu, top_of(cpu))
    if kind == M32:
        result = x87_arithmetic_m32(what, target, host, cpu.fpu_control, cpu.fpu_status)
    elif kind == M64:
        result = x87_arithmetic_m64(what, target, host, cpu.fpu_control, cpu.fpu_status)
    else:
        x87_from_integer(value, integer_of(kind, host))
        result = maker_arithmetic(what, target, value, cpu.fpu_control, cpu.fpu_status)
    settle(cpu, op, result)
    go_on(cpu, op, mem, slow)


# --- Functions (SDM 1:8.3.5-8.3.10) ----------------------------------------------------------------------------------

cdef inline void x87_unary(CPU* cpu, Uop* op, char* mem, const u32 what) noexcept nogil:
    """ST(0) is replaced. FSIN and FCOS say in C2 that they did nothing: the operand is not within 2**63."""
    cdef u32 top = top_of(cpu)
    cdef u32 result
    if unready(cpu):
        refuse_x87(cpu, op)
        return
    if is_empty(cpu, top):
        if what == X87_SIN or what == X87_COS:
            set_c2(cpu, 0)
        fail_at(cpu, op, mem, top, False)
        return
    remember(cpu, op)
    result = maker_unary(what, register_at(cpu, top), cpu.fpu_control, cpu.fpu_status)
    settle(cpu, op, result)
    if what == X87_SIN or what == X87_COS:
        set_c2(cpu, result)
    next_uop(cpu, op, mem)


cdef inline void set_c2(CPU* cpu, u32 result) noexcept nogil:
    cpu.fpu_status = <u16>((cpu.fpu_status & ~<u32>FSW_C2) | (result & FSW_C2))


cdef inline void x87_binary(CPU* cpu, Uop* op, char* mem, const u32 what) noexcept nogil:
    """ST(0) is replaced by a function of ST(0) and ST(1). FPREM: C0, C3, C1 are quotient bits, C2: not done yet."""
    cdef u32 top = top_of(cpu)
    cdef u32 other = place_of(cpu, 1)
    cdef u32 result
    if unready(cpu):
        refuse_x87(cpu, op)
        return
    if is_empty(cpu, top) or is_empty(cpu, other):
        if what != X87_SCALE:
            set_c2(cpu, 0)
        fail_at(cpu, op, mem, top, False)
        return
    remember(cpu, op)
    result = maker_binary(what, register_at(cpu, top), register_at(cpu, other), cpu.fpu_control, cpu.fpu_status)
    settle(cpu, op, result)
    if what != X87_SCALE:
        if cpu.fpu[top].exponent & EXPONENT == EXPONENT or not carried_out(cpu, result):
            set_c2(cpu, 0)              # a NaN has no quotient
        else:
            set_codes(cpu, result)
    next_uop(cpu, op, mem)


cdef inline void x87_pop(CPU* cpu, Uop* op, char* mem, const u32 what) noexcept nogil:
    """ST(1) is replaced by a function of ST(0) and ST(1), then ST(0) is popped."""
    cdef u32 top = top_of(cpu)
    cdef u32 other = place_of(cpu, 1)
    cdef u32 result
    cdef x87_real value
    if unready(cpu):
        refuse_x87(cpu, op)
        return
    if is_empty(cpu, top) or is_empty(cpu, other):
        fail_at(cpu, op, mem, other, True)
        return
    remember(cpu, op)
    value = register_at(cpu, other)[0]
    result = maker_pop(what, register_at(cpu, other), register_at(cpu, top), cpu.fpu_control, cpu.fpu_status)
    settle(cpu, op, result)
    if carried_out(cpu, result):
        drop(cpu)
    else:
        register_at(cpu, other)[0] = value
    next_uop(cpu, op, mem)


cdef inline void x87_push(CPU* cpu, Uop* op, char* mem, const u32 what) noexcept nogil:
    """ST(0) is replaced and a second result is pushed: FPTAN, FSINCOS, FXTRACT."""
    cdef u32 top = top_of(cpu)
    cdef u32 above = place_of(cpu, 7)
    cdef u32 result
    cdef x87_real* pushed = <x87_real*>&cpu.fpu_operand
    if unready(cpu):
        refuse_x87(cpu, op)
        return
    remember(cpu, op)
    if what != X87_EXTRACT:
        set_c2(cpu, 0)
    if is_empty(cpu, top) or not is_empty(cpu, above):
        if underflow(cpu, op) if is_empty(cpu, top) else overflow(cpu, op):
            set_indefinite(cpu, top)
            push_indefinite(cpu)
        next_uop(cpu, op, mem)
        return
    memset(pushed, 0, sizeof(x87_real))
    result = maker_push(what, register_at(cpu, top), pushed, cpu.fpu_control, cpu.fpu_status)
    settle(cpu, op, result)
    if what != X87_EXTRACT:
        set_c2(cpu, result)
    if not carried_out(cpu, result) or (what != X87_EXTRACT and result & FSW_C2):
        register_at(cpu, top)[0] = pushed[0]
    else:
        turn(cpu, 7)
        set_place(cpu, above, pushed)
    next_uop(cpu, op, mem)


cdef void raw_fchs(CPU* cpu, Uop* op, char* mem) noexcept nogil:
    """FCHS (SDM 2)."""
    change_sign(cpu, op, mem, 0, SIGN)


cdef void raw_fabs(CPU* cpu, Uop* op, char* mem) noexcept nogil:
    """FABS (SDM 2)."""
    change_sign(cpu, op, mem, SIGN, 0)


cdef inline void change_sign(CPU* cpu, Uop* op, char* mem, const u32 clear, const u32 flip) noexcept nogil:
    cdef u32 top = top_of(cpu)
    if unready(cpu):
        refuse_x87(cpu, op)
        return
    if is_empty(cpu, top):
        fail_at(cpu, op, mem, top, False)
        return
    remember(cpu, op)
    settle(cpu, op, 0)
    cpu.fpu[top].exponent = <u16>((cpu.fpu[top].exponent & ~clear) ^ flip)
    next_uop(cpu, op, mem)


# --- Comparisons (SDM 2, FCOM, FUCOM, FICOM, FTST, FXAM, FCOMI) ------------------------------------------------------

cdef inline u32 compare_places(CPU* cpu, u32 first, u32 second, const bint quiet) noexcept nogil:
    if quiet:
        return x87_ucom(register_at(cpu, first), register_at(cpu, second), cpu.fpu_control, cpu.fpu_status)
    return x87_com(register_at(cpu, first), register_at(cpu, second), cpu.fpu_control, cpu.fpu_status)


cdef inline void compared(CPU* cpu, Uop* op, u32 result, const u32 pop) noexcept nogil:
    """C3, C2, C0 are the answer, C1 is clear. An unmasked exception keeps from popping only."""
    settle(cpu, op, result & ~<u32>FSW_C1)
    cpu.fpu_status = <u16>((cpu.fpu_status & ~<u32>FSW_UNORDERED) | (result & FSW_UNORDERED))
    if pop and carried_out(cpu, result):
        drop(cpu)
        if pop == 2:
            drop(cpu)


cdef inline void x87_compare(CPU* cpu, Uop* op, char* mem, const bint quiet, const u32 pop) noexcept nogil:
    """ST(0) with ST(i), or with ST(1) when both are popped."""
    cdef u32 top = top_of(cpu)
    cdef u32 other = place_of(cpu, op.base)
    cdef u32 result
    if unready(cpu):
        refuse_x87(cpu, op)
        return
    remember(cpu, op)
    if is_empty(cpu, top) or is_empty(cpu, other):
        result = FSW_IE | FSW_SF | FSW_UNORDERED
    else:
        result = compare_places(cpu, top, other, quiet)
    compared(cpu, op, result, pop)
    next_uop(cpu, op, mem)


cdef inline void x87_compare_memory(CPU* cpu, Uop* op, char* mem, const u32 kind, const u32 pop,
                                    const u32 variant) noexcept nogil:
    cdef char* host
    cdef u32 offset, result
    cdef bint slow
    cdef x87_real* value = <x87_real*>&cpu.fpu_operand
    cdef u32 top = top_of(cpu)
    if unready(cpu):
        refuse_x87(cpu, op)
        return
    if rare(not get_operand(cpu, op, mem, size_of(kind), variant, &cpu.fpu_operand, &host, &offset, &slow)):
        raise_fault(cpu, op)
        return
    remember_data(cpu, op, offset)
    if is_empty(cpu, top):
        result = FSW_IE | FSW_SF | FSW_UNORDERED
    elif kind == M32:
        result = x87_com_m32(register_at(cpu, top), host, cpu.fpu_control, cpu.fpu_status)
    elif kind == M64:
        result = x87_com_m64(register_at(cpu, top), host, cpu.fpu_control, cpu.fpu_status)
    else:
        x87_from_integer(value, integer_of(kind, host))
        result = x87_com(register_at(cpu, top), value, cpu.fpu_control, cpu.fpu_status)
    compared(cpu, op, result, pop)
    go_on(cpu, op, mem, slow)


cdef inline void x87_compare_flags(CPU* cpu, Uop* op, char* mem, const bint quiet, const bint pop) noexcept nogil:
    """FCOMI: the answer goes to ZF, PF, CF; OF, SF and AF are cleared. C1 changes by stack underflow only."""
    cdef u32 top = top_of(cpu)
    cdef u32 other = place_of(cpu, op.base)
    cdef u32 result
    if unready(cpu):
        refuse_x87(cpu, op)
        return
    remember(cpu, op)
    if is_empty(cpu, top) or is_empty(cpu, other):
        result = FSW_IE | FSW_SF | FSW_UNORDERED
    else:
        result = compare_places(cpu, top, other, quiet)
    settle(cpu, op, result & ~<u32>FSW_C1 | (0 if result & FSW_SF else cpu.fpu_status & FSW_C1))
    set_eflags(cpu, (CF if result & FSW_C0 else 0) | (PF if result & FSW_C2 else 0) |
               (ZF if result & FSW_C3 else 0), ARITHMETIC)
    if pop and carried_out(cpu, result):
        drop(cpu)
    next_uop(cpu, op, mem)


cdef void raw_ftst(CPU* cpu, Uop* op, char* mem) noexcept nogil:
    """FTST (SDM 2): ST(0) with 0.0."""
    cdef u32 top = top_of(cpu)
    cdef x87_real* zero = <x87_real*>&cpu.fpu_operand
    if unready(cpu):
        refuse_x87(cpu, op)
        return
    remember(cpu, op)
    memset(zero, 0, sizeof(x87_real))
    if is_empty(cpu, top):
        compared(cpu, op, FSW_IE | FSW_SF | FSW_UNORDERED, 0)
    else:
        compared(cpu, op, x87_com(register_at(cpu, top), zero, cpu.fpu_control, cpu.fpu_status), 0)
    next_uop(cpu, op, mem)


cdef u32 class_of(Float80* value) noexcept nogil:
    """C3, C2, C0 of FXAM (SDM 2, table 3-45)."""
    cdef u32 exponent = value.exponent & EXPONENT
    if exponent == 0:
        return FSW_C3 if value.significand == 0 else FSW_C3 | FSW_C2
    if not value.significand & INTEGER_BIT:
        return 0                            # unsupported
    if exponent != EXPONENT:
        return FSW_C2                       # normal
    return FSW_C2 | FSW_C0 if value.significand == INTEGER_BIT else FSW_C0      # infinity, NaN


cdef void raw_fxam(CPU* cpu, Uop* op, char* mem) noexcept nogil:
    """FXAM (SDM 2): C1 is the sign, of an empty register too."""
    cdef u32 top = top_of(cpu)
    if unready(cpu):
        refuse_x87(cpu, op)
        return
    remember(cpu, op)
    set_codes(cpu, (FSW_C3 | FSW_C0 if is_empty(cpu, top) else class_of(&cpu.fpu[top])) |
              (FSW_C1 if cpu.fpu[top].exponent & SIGN else 0))
    next_uop(cpu, op, mem)
