# x87: loads, stores, exchanges, constants.
#
# Enters: uops of forms_x87.py rows. Leaves: the next uop. Next: x87_state.pxi.

cdef u64 constants[7]           # FLD1, FLDL2T, FLDL2E, FLDPI, FLDLG2, FLDLN2, FLDZ: significands to nearest (SDM 2)
constants[:] = [0x8000000000000000, 0xD49A784BCD1B8AFE, 0xB8AA3B295C17F0BC, 0xC90FDAA22168C235, 0x9A209A84FBCFF799,
                0xB17217F7D1CF79AC, 0]
cdef u16 constant_exponents[7]
constant_exponents[:] = [0x3FFF, 0x4000, 0x3FFF, 0x4000, 0x3FFD, 0x3FFE, 0]
cdef i8 constant_roundings[7]   # to nearest went: 1 up, -1 down, 0 nowhere
constant_roundings[:] = [0, -1, 1, 1, 1, 1, 0]


cdef enum:                  # the control word's RC (SDM 1:4.8.4)
    RC_NEAREST = 0
    RC_UP = 2


cdef inline bint push_at(CPU* cpu, Uop* op, u32* place) noexcept nogil:
    """The place of what is about to be pushed. False: the stack is full, and that has been dealt with."""
    place[0] = place_of(cpu, 7)
    if rare(not is_empty(cpu, place[0])):
        if overflow(cpu, op):
            push_indefinite(cpu)
        return False
    return True


cdef inline void pushed(CPU* cpu, u32 place) noexcept nogil:
    cpu.fpu_empty &= <u8>~<u32>(1 << place)
    turn(cpu, 7)


# --- FLD, FILD, FBLD (SDM 2) -----------------------------------------------------------------------------------------

cdef void raw_fld(CPU* cpu, Uop* op, char* mem) noexcept nogil:
    """FLD ST(i)."""
    cdef u32 source = place_of(cpu, op.base)
    cdef u32 place
    if unready(cpu):
        refuse_x87(cpu, op)
        return
    remember(cpu, op)
    if rare(is_empty(cpu, source)):
        if underflow(cpu, op):
            push_indefinite(cpu)
    elif push_at(cpu, op, &place):
        settle(cpu, op, 0)
        register_at(cpu, place)[0] = register_at(cpu, source)[0]
        pushed(cpu, place)
    next_uop(cpu, op, mem)


cdef void from_bcd(x87_real* value, const u8* digits) noexcept nogil:
    """Eighteen digits, two to a byte, and a sign (SDM 1:4.7)."""
    cdef i64 magnitude = 0
    cdef u32 i = 9
    while i > 0:
        i -= 1
        magnitude = magnitude * 100 + (digits[i] >> 4) * 10 + (digits[i] & 15)
    x87_from_integer(value, magnitude)
    if digits[9] & 0x80:
        value.exponent |= SIGN


cdef inline void x87_load(CPU* cpu, Uop* op, char* mem, const u32 kind, const u32 variant) noexcept nogil:
    cdef void* buffer = &cpu.fpu_operand
    cdef char* host
    cdef u32 offset, place
    cdef u32 result = 0
    cdef bint slow
    cdef x87_real* target
    cdef x87_real value
    if unready(cpu):
        refuse_x87(cpu, op)
        return
    if rare(not get_operand(cpu, op, mem, size_of(kind), variant, buffer, &host, &offset, &slow)):
        raise_fault(cpu, op)
        return
    remember_data(cpu, op, offset)
    if rare(not push_at(cpu, op, &place)):
        go_on(cpu, op, mem, slow)
        return
    target = register_at(cpu, place)
    if kind == M80:
        memcpy(target, host, 10)
    elif kind == BCD:
        from_bcd(target, <u8*>host)
    elif kind == M32 or kind == M64:
        value = target[0]
        if kind == M32:
            result = x87_load_m32(target, host, cpu.fpu_control, cpu.fpu_status)
        else:
            result = x87_load_m64(target, host, cpu.fpu_control, cpu.fpu_status)
        if result & ~<u32>cpu.fpu_control & FSW_IE:
            target[0] = value
    else:
        x87_from_integer(target, integer_of(kind, host))
    settle(cpu, op, result & ~<u32>FSW_C1)
    if not result & ~<u32>cpu.fpu_control & FSW_IE:
        pushed(cpu, place)              # a denormal is loaded even when that is an unmasked exception
    go_on(cpu, op, mem, slow)


cdef inline void x87_load_constant(CPU* cpu, Uop* op, char* mem, const u32 number) noexcept nogil:
    """FLD1 ... FLDZ, rounded as RC says; inexact is not reported (SDM 2)."""
    cdef u32 rounding = cpu.fpu_control >> FCW_RC_SHIFT & 3
    cdef u32 place
    if unready(cpu):
        refuse_x87(cpu, op)
        return
    remember(cpu, op)
    if push_at(cpu, op, &place):
        settle(cpu, op, 0)
        cpu.fpu[place].significand = constants[number]
        cpu.fpu[place].exponent = constant_exponents[number]
        if rounding == RC_UP:
            cpu.fpu[place].significand += constant_roundings[number] < 0
        elif rounding != RC_NEAREST:
            cpu.fpu[place].significand -= constant_roundings[number] > 0
        pushed(cpu, place)
    next_uop(cpu, op, mem)


# --- FST, FIST, FBSTP (SDM 2) ----------------------------------------------------------------------------------------

cdef void to_indefinite(u8* bytes, const u32 kind) noexcept nogil:
    """The masked response to storing what is empty (SDM 1:4.8.3.7, table 4-1; 1:4.7)."""
    memset(bytes, 0, 16)
    if kind == M32:
        (<u32*>bytes)[0] = 0xFFC00000u
    elif kind == M64:
        (<u64*>bytes)[0] = 0xFFF8000000000000u
    elif kind == M80 or kind == BCD:
        (<u64*>bytes)[0] = INDEFINITE
        bytes[8] = bytes[9] = 0xFF
    else:
        bytes[size_of(kind) - 1] = 0x80


cdef inline bint put_operand(CPU* cpu, Uop* op, char* mem, const u32 size, const u32 variant, const void* bytes,
                             u32* offset, bint* slow) noexcept nogil:
    cdef char* host
    slow[0] = False
    if variant != GENERAL:
        offset[0] = offset_of(cpu, op)
        if write_at(cpu, mem, op.segment, offset[0], size, variant, &host):
            memcpy(host, bytes, size)
            return True
    offset[0] = effective_address(cpu, op)
    slow[0] = True
    return virtual_store(cpu, op.segment, offset[0], size, bytes)


cdef inline void x87_store(CPU* cpu, Uop* op, char* mem, const u32 kind, const bint pop,
                           const u32 variant) noexcept nogil:
    """What an unmasked exception does not let happen is not stored, and pops nothing."""
    cdef void* buffer = &cpu.fpu_operand
    cdef u32 top = top_of(cpu)
    cdef u32 offset, result
    cdef bint done
    cdef bint slow = False
    cdef x87_real* source = register_at(cpu, top)
    if unready(cpu):
        refuse_x87(cpu, op)
        return
    if rare(is_empty(cpu, top)):
        result = FSW_IE | FSW_SF
        to_indefinite(<u8*>buffer, kind)
    elif kind == M32:
        result = x87_store_m32(buffer, source, cpu.fpu_control, cpu.fpu_status)
    elif kind == M64:
        result = x87_store_m64(buffer, source, cpu.fpu_control, cpu.fpu_status)
    elif kind == I16:
        result = x87_store_i16(buffer, source, cpu.fpu_control, cpu.fpu_status)
    elif kind == I32:
        result = x87_store_i32(buffer, source, cpu.fpu_control, cpu.fpu_status)
    elif kind == I64:
        result = x87_store_i64(buffer, source, cpu.fpu_control, cpu.fpu_status)
    elif kind == BCD:
        result = x87_store_bcd(buffer, source, cpu.fpu_control, cpu.fpu_status)
    else:
        result = 0
        memcpy(buffer, source, 10)
    done = not rare(result & ~<u32>cpu.fpu_control & NOT_STORED)
    if done:
        if rare(not put_operand(cpu, op, mem, size_of(kind), variant, buffer, &offset, &slow)):
            raise_fault(cpu, op)
            return
    else:
        offset = effective_address(cpu, op)
    remember_data(cpu, op, offset)
    settle(cpu, op, result)
    if pop and done:
        drop(cpu)
    go_on(cpu, op, mem, slow)


cdef inline void x87_store_register(CPU* cpu, Uop* op, char* mem, const bint pop) noexcept nogil:
    """FST ST(i): the destination may be empty."""
    cdef u32 top = top_of(cpu)
    cdef u32 target = place_of(cpu, op.base)
    if unready(cpu):
        refuse_x87(cpu, op)
        return
    if rare(is_empty(cpu, top)):
        fail_at(cpu, op, mem, target, pop)
        return
    remember(cpu, op)
    settle(cpu, op, 0)
    set_place(cpu, target, register_at(cpu, top))
    if pop:
        drop(cpu)
    next_uop(cpu, op, mem)


cdef void raw_fstpnce(CPU* cpu, Uop* op, char* mem) noexcept nogil:
    """FSTP ST(i), but an empty ST(0) is popped only; undocumented."""
    cdef u32 top = top_of(cpu)
    cdef u32 target = place_of(cpu, op.base)
    if unready(cpu):
        refuse_x87(cpu, op)
        return
    remember(cpu, op)
    settle(cpu, op, 0)
    if not is_empty(cpu, top):
        set_place(cpu, target, register_at(cpu, top))
    drop(cpu)
    next_uop(cpu, op, mem)


# --- FXCH, FCMOVcc (SDM 2) -------------------------------------------------------------------------------------------

cdef void raw_fxch(CPU* cpu, Uop* op, char* mem) noexcept nogil:
    """FXCH: the masked response fills what is empty first."""
    cdef u32 top = top_of(cpu)
    cdef u32 other = place_of(cpu, op.base)
    cdef x87_real value
    if unready(cpu):
        refuse_x87(cpu, op)
        return
    remember(cpu, op)
    if rare(is_empty(cpu, top) or is_empty(cpu, other)):
        if not underflow(cpu, op):
            next_uop(cpu, op, mem)
            return
        if is_empty(cpu, top):
            set_indefinite(cpu, top)
        if is_empty(cpu, other):
            set_indefinite(cpu, other)
    else:
        settle(cpu, op, 0)
    value = register_at(cpu, top)[0]
    register_at(cpu, top)[0] = register_at(cpu, other)[0]
    register_at(cpu, other)[0] = value
    next_uop(cpu, op, mem)


cdef inline void x87_move_if(CPU* cpu, Uop* op, char* mem, const u32 code) noexcept nogil:
    """FCMOVcc: C1 changes by stack underflow only."""
    cdef u32 top = top_of(cpu)
    cdef u32 other = place_of(cpu, op.base)
    if unready(cpu):
        refuse_x87(cpu, op)
        return
    if rare(is_empty(cpu, top) or is_empty(cpu, other)):
        fail_at(cpu, op, mem, top, False)
        return
    remember(cpu, op)
    if condition(cpu, code):
        register_at(cpu, top)[0] = register_at(cpu, other)[0]
    next_uop(cpu, op, mem)
