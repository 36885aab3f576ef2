# Instructions that ask about descriptors without loading them: LAR, LSL, VERR, VERW; and ARPL.
#
# Enters: uops of forms_system.py rows. Leaves: ZF, and perhaps a register; no fault but those of reading memory.
# Next: ports.pxi.

cdef bint visible(CPU* cpu, u32 selector, Descriptor* d) noexcept nogil:
    """The privilege rule of all four: conforming code always, the rest when DPL >= CPL and RPL."""
    if is_code(d.attributes) and d.attributes & SEG_CONFORMING:
        return True
    return dpl_of(d.attributes) >= cpu.cpl and dpl_of(d.attributes) >= selector & SELECTOR_RPL


cdef bint look_up(CPU* cpu, Uop* op, bint memory, u32* selector, Descriptor* d, bint* found) noexcept nogil:
    """The descriptor of the r/m16 operand. False: a memory fault is noted."""
    found[0] = False
    if not selector_operand(cpu, op, memory, selector):
        return False
    if selector[0] & SELECTOR_INDEX == NOTHING or not in_table(cpu, selector[0], &d.linear):
        return True
    found[0] = True
    return fetch_descriptor(cpu, selector[0], d)


# --- LAR and LSL (SDM 2) ---------------------------------------------------------------------------------------------

cdef void lar(CPU* cpu, Uop* op, char* mem, bint memory, bint wide) noexcept nogil:
    cdef Descriptor d
    cdef u32 selector
    cdef bint found
    if not look_up(cpu, op, memory, &selector, &d, &found):
        raise_fault(cpu, op)
        return
    if found and not d.attributes & SEG_S:
        found = (LAR_TYPES >> (d.attributes & SEG_TYPE)) & 1
    found = found and visible(cpu, selector, &d)
    if found:
        if wide:
            cpu.gpr[op.reg].q = d.high & LAR_RESULT
        else:
            cpu.gpr[op.reg].w = <u16>(d.high & 0xFF00)
    set_zf(cpu, found)
    finish(cpu, op, mem)


cdef void raw_lar_r(CPU* cpu, Uop* op, char* mem) noexcept nogil:
    lar(cpu, op, mem, False, True)


cdef void raw_lar_m(CPU* cpu, Uop* op, char* mem) noexcept nogil:
    lar(cpu, op, mem, True, True)


cdef void raw_lar16_r(CPU* cpu, Uop* op, char* mem) noexcept nogil:
    lar(cpu, op, mem, False, False)


cdef void raw_lar16_m(CPU* cpu, Uop* op, char* mem) noexcept nogil:
    lar(cpu, op, mem, True, False)


cdef void lsl(CPU* cpu, Uop* op, char* mem, bint memory, bint wide) noexcept nogil:
    cdef Descriptor d
    cdef u32 selector
    cdef bint found
    if not look_up(cpu, op, memory, &selector, &d, &found):
        raise_fault(cpu, op)
        return
    if found and not d.attributes & SEG_S:
        found = (LSL_TYPES >> (d.attributes & SEG_TYPE)) & 1
    found = found and visible(cpu, selector, &d)
    if found:
        if wide:
            cpu.gpr[op.reg].q = descriptor_limit(&d)
        else:
            cpu.gpr[op.reg].w = <u16>descriptor_limit(&d)
    set_zf(cpu, found)
    finish(cpu, op, mem)


cdef void raw_lsl_r(CPU* cpu, Uop* op, char* mem) noexcept nogil:
    lsl(cpu, op, mem, False, True)


cdef void raw_lsl_m(CPU* cpu, Uop* op, char* mem) noexcept nogil:
    lsl(cpu, op, mem, True, True)


cdef void raw_lsl16_r(CPU* cpu, Uop* op, char* mem) noexcept nogil:
    lsl(cpu, op, mem, False, False)


cdef void raw_lsl16_m(CPU* cpu, Uop* op, char* mem) noexcept nogil:
    lsl(cpu, op, mem, True, False)


# --- VERR and VERW (SDM 2) -------------------------------------------------------------------------------------------

cdef void verify(CPU* cpu, Uop* op, char* mem, bint memory, bint write) noexcept nogil:
    cdef Descriptor d
    cdef u32 selector
    cdef bint found
    if not look_up(cpu, op, memory, &selector, &d, &found):
        raise_fault(cpu, op)
        return
    if found:
        if write:
            found = is_writable_data(d.attributes)
        else:
            found = d.attributes & SEG_S and (not d.attributes & SEG_CODE or d.attributes & SEG_READABLE)
    set_zf(cpu, found and visible(cpu, selector, &d))
    finish(cpu, op, mem)


cdef void raw_verr_r(CPU* cpu, Uop* op, char* mem) noexcept nogil:
    verify(cpu, op, mem, False, False)


cdef void raw_verr_m(CPU* cpu, Uop* op, char* mem) noexcept nogil:
    verify(cpu, op, mem, True, False)


cdef void raw_verw_r(CPU* cpu, Uop* op, char* mem) noexcept nogil:
    verify(cpu, op, mem, False, True)


cdef void raw_verw_m(CPU* cpu, Uop* op, char* mem) noexcept nogil:
    verify(cpu, op, mem, True, True)


# --- ARPL (SDM 2) ----------------------------------------------------------------------------------------------------

cdef void raw_arpl_r(CPU* cpu, Uop* op, char* mem) noexcept nogil:
    """ARPL r16, r16: raise the RPL of the first to that of the second."""
    cdef u32 rpl = cpu.gpr[op.reg].w & SELECTOR_RPL
    cdef bint adjust = cpu.gpr[op.base].w & SELECTOR_RPL < rpl
    if adjust:
        cpu.gpr[op.base].w = <u16>((cpu.gpr[op.base].w & ~<u32>SELECTOR_RPL) | rpl)
    set_zf(cpu, adjust)
    finish(cpu, op, mem)


cdef void raw_arpl_m(CPU* cpu, Uop* op, char* mem) noexcept nogil:
    """ARPL m16, r16: processors ask for the right to write only when there is something to write."""
    cdef u32 rpl = cpu.gpr[op.reg].w & SELECTOR_RPL
    cdef u32 offset = effective_address(cpu, op)
    cdef u32 selector
    cdef bint adjust
    if not virtual_read(cpu, op.segment, offset, 2, &selector):
        raise_fault(cpu, op)
        return
    adjust = selector & SELECTOR_RPL < rpl
    if adjust and not virtual_write(cpu, op.segment, offset, 2, (selector & ~<u32>SELECTOR_RPL) | rpl):
        raise_fault(cpu, op)
        return
    set_zf(cpu, adjust)
    finish(cpu, op, mem)
