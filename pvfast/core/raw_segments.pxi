# Instructions on segment registers: MOV, PUSH, POP, LDS ...; LLDT, LTR and their stores; far JMP, CALL and RET.
#
# Enters: uops of forms_system.py rows whose `raw` names one of these. Leaves: the next uop, or the block.
# Next: raw_descriptors.pxi. The checks are in segments.pxi and transfers.pxi.

# --- MOV, PUSH, POP, LDS (SDM 2) -------------------------------------------------------------------------------------

cdef void load_and_go_on(CPU* cpu, Uop* op, char* mem, u32 seg, u32 selector) noexcept nogil:
    """Load a segment register. The block is left when it was decoded for another mode, and after SS, whose load holds
    off interrupts for one instruction."""
    cdef u32 mode = cpu.mode
    if not load_segment(cpu, seg, selector):
        raise_fault(cpu, op)
        return
    if seg == SS:
        hold_interrupts(cpu, op)
        cpu.stack_shadow_unit = cpu.shadow_unit
    if cpu.mode != mode or seg == SS:
        leave_after(cpu, op)
        return
    finish(cpu, op, mem)


cdef void raw_mov_to_sreg_r(CPU* cpu, Uop* op, char* mem) noexcept nogil:
    """MOV Sreg, r16."""
    if op.reg == CS or op.reg > GS:
        fault(cpu, op, VECTOR_UD, 0)
        return
    load_and_go_on(cpu, op, mem, op.reg, cpu.gpr[op.base].w)


cdef void raw_mov_to_sreg_m(CPU* cpu, Uop* op, char* mem) noexcept nogil:
    """MOV Sreg, m16."""
    cdef u32 selector
    if op.reg == CS or op.reg > GS:
        fault(cpu, op, VECTOR_UD, 0)
        return
    if not virtual_read(cpu, op.segment, effective_address(cpu, op), 2, &selector):
        raise_fault(cpu, op)
        return
    load_and_go_on(cpu, op, mem, op.reg, selector)


cdef void raw_mov_from_sreg_r(CPU* cpu, Uop* op, char* mem) noexcept nogil:
    """MOV r32, Sreg: zero-extended."""
    if op.reg > GS:
        fault(cpu, op, VECTOR_UD, 0)
        return
    cpu.gpr[op.base].q = cpu.seg[op.reg].selector
    next_uop(cpu, op, mem)


cdef void raw_mov_from_sreg16_r(CPU* cpu, Uop* op, char* mem) noexcept nogil:
    """MOV r16, Sreg."""
    if op.reg > GS:
        fault(cpu, op, VECTOR_UD, 0)
        return
    cpu.gpr[op.base].w = cpu.seg[op.reg].selector
    next_uop(cpu, op, mem)


cdef void raw_mov_from_sreg_m(CPU* cpu, Uop* op, char* mem) noexcept nogil:
    """MOV m16, Sreg."""
    if op.reg > GS:
        fault(cpu, op, VECTOR_UD, 0)
        return
    store_word(cpu, op, mem, cpu.seg[op.reg].selector)


cdef void raw_mov_from_sreg16_m(CPU* cpu, Uop* op, char* mem) noexcept nogil:
    raw_mov_from_sreg_m(cpu, op, mem)


cdef inline void push_segment(CPU* cpu, Uop* op, char* mem, const u32 size, const u32 seg) noexcept nogil:
    """PUSH Sreg: a 16-bit move; the rest of the slot stays as it is (SDM 2 PUSH)."""
    cdef u32 sp = (cpu.gpr[ESP].d - size) & stack_mask(cpu)
    if not virtual_write(cpu, SS, sp, 2, cpu.seg[seg].selector):
        raise_fault(cpu, op)
        return
    set_sp(cpu, sp)
    finish(cpu, op, mem)


cdef void pop_segment(CPU* cpu, Uop* op, char* mem, u32 size, u32 seg) noexcept nogil:
    """POP Sreg: ESP moves with the size of the stack segment that was read."""
    cdef u32 selector
    cdef u64 before = cpu.gpr[ESP].q
    cdef u32 mode = cpu.mode
    if not checked_pop(cpu, size, &selector):
        raise_fault(cpu, op)
        return
    if not load_segment(cpu, seg, selector):
        cpu.gpr[ESP].q = before
        raise_fault(cpu, op)
        return
    if seg == SS:
        hold_interrupts(cpu, op)
        cpu.stack_shadow_unit = cpu.shadow_unit
    if cpu.mode != mode or seg == SS:
        leave_after(cpu, op)
        return
    finish(cpu, op, mem)


cdef bint read_far_pointer(CPU* cpu, Uop* op, u32 size, u32* offset, u32* selector) noexcept nogil:
    """m16:16 and m16:32: the offset, then the selector."""
    cdef u32 at = effective_address(cpu, op)
    return (virtual_read(cpu, op.segment, at, size, offset)
            and virtual_read(cpu, op.segment, at + size, 2, selector))


cdef void load_far_pointer(CPU* cpu, Uop* op, char* mem, u32 size, u32 seg) noexcept nogil:
    """LDS, LES, LFS, LGS, LSS (SDM 2): the register is written when the segment has been loaded."""
    cdef u32 offset, selector
    cdef u32 mode = cpu.mode
    if not (read_far_pointer(cpu, op, size, &offset, &selector) and load_segment(cpu, seg, selector)):
        raise_fault(cpu, op)
        return
    register_write(cpu, op.reg, size, offset)
    if cpu.mode != mode:
        leave_after(cpu, op)
        return
    finish(cpu, op, mem)


# --- Far JMP, CALL, RET ----------------------------------------------------------------------------------------------

cdef bint far_pointer(CPU* cpu, Uop* op, u32 size, bint memory, u32* offset, u32* selector) noexcept nogil:
    """The operand of a far JMP or CALL: in memory, or in `imm` and `disp`."""
    if memory:
        return read_far_pointer(cpu, op, size, offset, selector)
    offset[0] = op.imm
    selector[0] = <u32>op.disp
    return True


cdef void jump_far(CPU* cpu, Uop* op, u32 size, bint memory) noexcept nogil:
    cdef u32 offset, selector, target
    if not (far_pointer(cpu, op, size, memory, &offset, &selector)
            and far_jump(cpu, selector, offset, next_eip(op), &target)):
        end_transfer(cpu, op)
        return
    arrive(cpu, op, target)


cdef void call_far(CPU* cpu, Uop* op, u32 size, bint memory) noexcept nogil:
    cdef u32 offset, selector, target
    if not (far_pointer(cpu, op, size, memory, &offset, &selector)
            and far_call(cpu, selector, offset, size, next_eip(op), &target)):
        end_transfer(cpu, op)
        return
    arrive(cpu, op, target)


cdef void ret_far(CPU* cpu, Uop* op, u32 size, u32 release) noexcept nogil:
    cdef u32 target
    if not far_return(cpu, size, release, &target):
        raise_fault(cpu, op)
        return
    arrive(cpu, op, target)


cdef void raw_ret_far(CPU* cpu, Uop* op, char* mem) noexcept nogil:
    ret_far(cpu, op, 4, 0)


cdef void raw_ret_far16(CPU* cpu, Uop* op, char* mem) noexcept nogil:
    ret_far(cpu, op, 2, 0)


cdef void raw_ret_far_i(CPU* cpu, Uop* op, char* mem) noexcept nogil:
    ret_far(cpu, op, 4, op.imm & 0xFFFF)


cdef void raw_ret_far_i16(CPU* cpu, Uop* op, char* mem) noexcept nogil:
    ret_far(cpu, op, 2, op.imm & 0xFFFF)


# --- LDTR and TR (SDM 2, LLDT, SLDT, LTR, STR) -----------------------------------------------------------------------

cdef bint selector_operand(CPU* cpu, Uop* op, bint memory, u32* selector) noexcept nogil:
    """The r/m16 operand."""
    if memory:
        return virtual_read(cpu, op.segment, effective_address(cpu, op), 2, selector)
    selector[0] = cpu.gpr[op.base].w
    return True


cdef void lldt(CPU* cpu, Uop* op, char* mem, bint memory) noexcept nogil:
    cdef u32 selector
    if not (selector_operand(cpu, op, memory, &selector) and load_ldtr(cpu, selector)):
        raise_fault(cpu, op)
        return
    finish(cpu, op, mem)


cdef void raw_lldt_r(CPU* cpu, Uop* op, char* mem) noexcept nogil:
    lldt(cpu, op, mem, False)


cdef void raw_lldt_m(CPU* cpu, Uop* op, char* mem) noexcept nogil:
    lldt(cpu, op, mem, True)


cdef void ltr(CPU* cpu, Uop* op, char* mem, bint memory) noexcept nogil:
    cdef u32 selector
    if not (selector_operand(cpu, op, memory, &selector) and load_tr(cpu, selector)):
        raise_fault(cpu, op)
        return
    finish(cpu, op, mem)


cdef void raw_ltr_r(CPU* cpu, Uop* op, char* mem) noexcept nogil:
    ltr(cpu, op, mem, False)


cdef void raw_ltr_m(CPU* cpu, Uop* op, char* mem) noexcept nogil:
    ltr(cpu, op, mem, True)


cdef void raw_sldt_r(CPU* cpu, Uop* op, char* mem) noexcept nogil:
    cpu.gpr[op.base].q = cpu.ldtr.selector
    next_uop(cpu, op, mem)


cdef void raw_sldt16_r(CPU* cpu, Uop* op, char* mem) noexcept nogil:
    cpu.gpr[op.base].w = cpu.ldtr.selector
    next_uop(cpu, op, mem)


cdef void raw_sldt_m(CPU* cpu, Uop* op, char* mem) noexcept nogil:
    store_word(cpu, op, mem, cpu.ldtr.selector)


cdef void raw_sldt16_m(CPU* cpu, Uop* op, char* mem) noexcept nogil:
    store_word(cpu, op, mem, cpu.ldtr.selector)


cdef void raw_str_r(CPU* cpu, Uop* op, char* mem) noexcept nogil:
    cpu.gpr[op.base].q = cpu.tr.selector
    next_uop(cpu, op, mem)


cdef void raw_str16_r(CPU* cpu, Uop* op, char* mem) noexcept nogil:
    cpu.gpr[op.base].w = cpu.tr.selector
    next_uop(cpu, op, mem)


cdef void raw_str_m(CPU* cpu, Uop* op, char* mem) noexcept nogil:
    store_word(cpu, op, mem, cpu.tr.selector)


cdef void raw_str16_m(CPU* cpu, Uop* op, char* mem) noexcept nogil:
    store_word(cpu, op, mem, cpu.tr.selector)
