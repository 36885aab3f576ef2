# The stack: PUSH and POP in all forms, LEAVE, ENTER, PUSHA and POPA (SDM 2).
#
# Enters: stack uops. Leaves: memory and ESP, changed together or not at all. Next: sem_branch.pxi.
# `variant` (access.pxd) and other `const` arguments are constants in the generated handlers.

cdef inline u32 stack_mask(CPU* cpu) noexcept nogil:
    return 0xFFFFFFFFu if cpu.seg[SS].attributes & SEG_DB else 0xFFFFu


cdef inline void set_sp(CPU* cpu, u32 value) noexcept nogil:
    """ESP or SP, by the size of the stack segment."""
    if cpu.seg[SS].attributes & SEG_DB:
        cpu.gpr[ESP].q = value
    else:
        cpu.gpr[ESP].w = <u16>value


cdef bint checked_push(CPU* cpu, u32 size, u32 value) noexcept nogil:
    cdef u32 sp = (cpu.gpr[ESP].d - size) & stack_mask(cpu)
    if not virtual_write(cpu, SS, sp, size, value):
        return False
    set_sp(cpu, sp)
    return True


cdef bint checked_pop(CPU* cpu, u32 size, u32* value) noexcept nogil:
    cdef u32 sp = cpu.gpr[ESP].d & stack_mask(cpu)
    if not virtual_read(cpu, SS, sp, size, value):
        return False
    set_sp(cpu, sp + size)
    return True


cdef inline bint push32(CPU* cpu, char* mem, u32 value, const u32 variant) noexcept nogil:
    cdef u32 sp = cpu.gpr[ESP].d - 4
    cdef char* host
    if rare(not write_at(cpu, mem, SS, sp, 4, variant, &host)):
        return False
    (<u32*>host)[0] = value
    cpu.gpr[ESP].q = sp
    return True


cdef inline void push_register(CPU* cpu, Uop* op, char* mem, const u32 number, const u32 variant) noexcept nogil:
    if rare(not push32(cpu, mem, cpu.gpr[number].d, variant)):
        raw_push_r32(cpu, op, mem)
        return
    next_uop(cpu, op, mem)


cdef inline void pop_register(CPU* cpu, Uop* op, char* mem, const u32 number, const u32 variant) noexcept nogil:
    cdef u32 sp = cpu.gpr[ESP].d
    cdef char* host
    if rare(not read_at(cpu, mem, SS, sp, 4, variant, &host)):
        raw_pop_r32(cpu, op, mem)
        return
    cpu.gpr[ESP].q = <u32>(sp + 4)
    cpu.gpr[number].q = (<u32*>host)[0]
    next_uop(cpu, op, mem)


cdef inline bint push16(CPU* cpu, char* mem, u32 value, const u32 variant) noexcept nogil:
    """A word on a 16-bit stack. False on any other, and where the full check has to decide."""
    cdef u32 sp = <u16>(cpu.gpr[ESP].w - 2)
    cdef char* host
    if rare(cpu.mode & MODE_STACK32 or not write_at(cpu, mem, SS, sp, 2, variant, &host)):
        return False
    (<u16*>host)[0] = <u16>value
    cpu.gpr[ESP].w = <u16>sp
    return True


cdef inline bint pop16(CPU* cpu, char* mem, u32* value, const u32 variant) noexcept nogil:
    cdef char* host
    if rare(cpu.mode & MODE_STACK32 or not read_at(cpu, mem, SS, cpu.gpr[ESP].w, 2, variant, &host)):
        return False
    value[0] = (<u16*>host)[0]
    cpu.gpr[ESP].w = <u16>(cpu.gpr[ESP].w + 2)
    return True


cdef inline void push_word(CPU* cpu, Uop* op, char* mem, const u32 variant) noexcept nogil:
    if rare(not push16(cpu, mem, cpu.gpr[op.base].w, variant)):
        raw_push_r16(cpu, op, mem)
        return
    next_uop(cpu, op, mem)


cdef inline void pop_word(CPU* cpu, Uop* op, char* mem, const u32 variant) noexcept nogil:
    cdef u32 value
    if rare(not pop16(cpu, mem, &value, variant)):
        raw_pop_r16(cpu, op, mem)
        return
    cpu.gpr[op.base].w = <u16>value
    next_uop(cpu, op, mem)


cdef void raw_push_r32(CPU* cpu, Uop* op, char* mem) noexcept nogil:
    if not checked_push(cpu, 4, cpu.gpr[op.base].d):
        raise_fault(cpu, op)
        return
    finish(cpu, op, mem)


cdef void raw_push_r16(CPU* cpu, Uop* op, char* mem) noexcept nogil:
    if not checked_push(cpu, 2, cpu.gpr[op.base].w):
        raise_fault(cpu, op)
        return
    finish(cpu, op, mem)


cdef void raw_pop_r32(CPU* cpu, Uop* op, char* mem) noexcept nogil:
    cdef u32 value
    if not checked_pop(cpu, 4, &value):
        raise_fault(cpu, op)
        return
    cpu.gpr[op.base].q = value
    finish(cpu, op, mem)


cdef void raw_pop_r16(CPU* cpu, Uop* op, char* mem) noexcept nogil:
    cdef u32 value
    if not checked_pop(cpu, 2, &value):
        raise_fault(cpu, op)
        return
    cpu.gpr[op.base].w = <u16>value
    finish(cpu, op, mem)


cdef void raw_push_i32(CPU* cpu, Uop* op, char* mem) noexcept nogil:
    if not checked_push(cpu, 4, op.imm):
        raise_fault(cpu, op)
        return
    finish(cpu, op, mem)


cdef void raw_push_i16(CPU* cpu, Uop* op, char* mem) noexcept nogil:
    if not checked_push(cpu, 2, op.imm & 0xFFFF):
        raise_fault(cpu, op)
        return
    finish(cpu, op, mem)


cdef inline void push_memory(CPU* cpu, Uop* op, char* mem, const u32 size) noexcept nogil:
    cdef u32 value
    if not (virtual_read(cpu, op.segment, effective_address(cpu, op), size, &value)
            and checked_push(cpu, size, value)):
        raise_fault(cpu, op)
        return
    finish(cpu, op, mem)


cdef void raw_push_rm32_m(CPU* cpu, Uop* op, char* mem) noexcept nogil:
    push_memory(cpu, op, mem, 4)


cdef void raw_push_rm16_m(CPU* cpu, Uop* op, char* mem) noexcept nogil:
    push_memory(cpu, op, mem, 2)


cdef void raw_push_rm32_r(CPU* cpu, Uop* op, char* mem) noexcept nogil:
    raw_push_r32(cpu, op, mem)


cdef void raw_push_rm16_r(CPU* cpu, Uop* op, char* mem) noexcept nogil:
    raw_push_r16(cpu, op, mem)


cdef inline void pop_memory(CPU* cpu, Uop* op, char* mem, const u32 size) noexcept nogil:
    """POP m: the address is computed with ESP already incremented (SDM 2, POP)."""
    cdef u32 value
    cdef u64 before = cpu.gpr[ESP].q
    if not checked_pop(cpu, size, &value):
        raise_fault(cpu, op)
        return
    if not virtual_write(cpu, op.segment, effective_address(cpu, op), size, value):
        cpu.gpr[ESP].q = before
        raise_fault(cpu, op)
        return
    finish(cpu, op, mem)


cdef void raw_pop_rm32_m(CPU* cpu, Uop* op, char* mem) noexcept nogil:
    pop_memory(cpu, op, mem, 4)


cdef void raw_pop_rm16_m(CPU* cpu, Uop* op, char* mem) noexcept nogil:
    pop_memory(cpu, op, mem, 2)


cdef void raw_pop_rm32_r(CPU* cpu, Uop* op, char* mem) noexcept nogil:
    raw_pop_r32(cpu, op, mem)


cdef void raw_pop_rm16_r(CPU* cpu, Uop* op, char* mem) noexcept nogil:
    raw_pop_r16(cpu, op, mem)


cdef inline void leave(CPU* cpu, Uop* op, char* mem, const u32 size) noexcept nogil:
    cdef u32 value
    cdef u32 frame = cpu.gpr[EBP].d & stack_mask(cpu)
    if not virtual_read(cpu, SS, frame, size, &value):
        raise_fault(cpu, op)
        return
    set_sp(cpu, frame + size)
    register_write(cpu, EBP, size, value)
    finish(cpu, op, mem)


cdef void raw_leave(CPU* cpu, Uop* op, char* mem) noexcept nogil:
    leave(cpu, op, mem, 4)


cdef void raw_leave16(CPU* cpu, Uop* op, char* mem) noexcept nogil:
    leave(cpu, op, mem, 2)


cdef inline void enter_frame(CPU* cpu, Uop* op, char* mem, const u32 size) noexcept nogil:
    """ENTER imm16, imm8 (SDM 2): the level is in the third immediate byte. The stack size tells how far ESP and EBP
    count as addresses, the operand size what is stored of them."""
    cdef u32 level = (op.imm >> 16) & 31
    cdef u32 mask = stack_mask(cpu)
    cdef u32 sp = (cpu.gpr[ESP].d - size) & mask
    cdef u32 frame = (cpu.gpr[ESP].d & ~mask) | sp
    cdef u32 bp = cpu.gpr[EBP].d
    cdef u32 value, i
    if not virtual_write(cpu, SS, sp, size, register_read(cpu, EBP, size)):
        raise_fault(cpu, op)
        return
    for i in range(1, level):
        bp = (bp - size) & mask
        sp = (sp - size) & mask
        if not (virtual_read(cpu, SS, bp, size, &value) and virtual_write(cpu, SS, sp, size, value)):
            raise_fault(cpu, op)
            return
    if level:
        sp = (sp - size) & mask
        if not virtual_write(cpu, SS, sp, size, low_bits(frame, size)):
            raise_fault(cpu, op)
            return
    sp = (sp - (op.imm & 0xFFFF)) & mask
    if not virtual_probe_write(cpu, SS, sp, size):
        raise_fault(cpu, op)
        return
    register_write(cpu, EBP, size, frame)
    set_sp(cpu, sp)
    finish(cpu, op, mem)


cdef void raw_enter(CPU* cpu, Uop* op, char* mem) noexcept nogil:
    enter_frame(cpu, op, mem, 4)


cdef void raw_enter16(CPU* cpu, Uop* op, char* mem) noexcept nogil:
    enter_frame(cpu, op, mem, 2)


cdef inline void push_all(CPU* cpu, Uop* op, char* mem, const u32 size) noexcept nogil:
    cdef u32 i
    cdef u32 mask = stack_mask(cpu)
    cdef u32 sp = (cpu.gpr[ESP].d - 8 * size) & mask
    for i in range(8):
        if not virtual_probe_write(cpu, SS, (sp + size * i) & mask, size):
            raise_fault(cpu, op)
            return
    for i in range(8):
        if not virtual_write(cpu, SS, (sp + size * i) & mask, size, register_read(cpu, 7 - i, size)):
            raise_fault(cpu, op)
            return
    set_sp(cpu, sp)
    finish(cpu, op, mem)


cdef void raw_pusha(CPU* cpu, Uop* op, char* mem) noexcept nogil:
    push_all(cpu, op, mem, 4)


cdef void raw_pusha16(CPU* cpu, Uop* op, char* mem) noexcept nogil:
    push_all(cpu, op, mem, 2)


cdef inline void pop_all(CPU* cpu, Uop* op, char* mem, const u32 size) noexcept nogil:
    cdef u32 i
    cdef u32 values[8]
    cdef u32 mask = stack_mask(cpu)
    cdef u32 sp = cpu.gpr[ESP].d
    for i in range(8):
        if not virtual_read(cpu, SS, (sp + size * i) & mask, size, &values[i]):
            raise_fault(cpu, op)
            return
    for i in range(8):
        if i != 3:      # the stored ESP is skipped
            register_write(cpu, 7 - i, size, values[i])
    set_sp(cpu, sp + 8 * size)
    finish(cpu, op, mem)


cdef void raw_popa(CPU* cpu, Uop* op, char* mem) noexcept nogil:
    pop_all(cpu, op, mem, 4)


cdef void raw_popa16(CPU* cpu, Uop* op, char* mem) noexcept nogil:
    pop_all(cpu, op, mem, 2)
