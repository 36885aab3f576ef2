# System instructions that paravirtual kernels replace most: the interrupt flag, EFLAGS, software interrupts and their
# returns; and the refusals.
#
# Enters: uops of forms_system.py rows whose `raw` names one of these. Leaves: the next uop, or the block.
# Next: control.pxi (control registers, descriptor-table registers).
#
# A handler that may change how decoding sees code (mode, mapping, privilege) ends its block: leave_after(), return.
# CLI, STI, PUSHF and POPF go on to the next uop; their cold parts are functions of their own, called in tail position.
# Names ending in 16 are the forms of 16-bit operand size.

cdef inline u32 iopl_of(CPU* cpu) noexcept nogil:
    return (cpu.eflags & IOPL) >> IOPL_SHIFT


# --- Refusals --------------------------------------------------------------------------------------------------------

cdef void raw_privileged(CPU* cpu, Uop* op, char* mem) noexcept nogil:
    """What a privileged form decodes to when CPL is not 0 (SDM 3:5.9)."""
    fault(cpu, op, VECTOR_GP, 0)


cdef void raw_undefined(CPU* cpu, Uop* op, char* mem) noexcept nogil:
    """No such instruction (SDM 3:6.15, interrupt 6)."""
    fault(cpu, op, VECTOR_UD, 0)


cdef void raw_ud2(CPU* cpu, Uop* op, char* mem) noexcept nogil:
    """UD2 (SDM 2, UD)."""
    fault(cpu, op, VECTOR_UD, 0)


cdef void raw_ud1_r(CPU* cpu, Uop* op, char* mem) noexcept nogil:
    """UD1 (SDM 2, UD) has a ModRM byte, which names nothing."""
    fault(cpu, op, VECTOR_UD, 0)


cdef void raw_ud1_m(CPU* cpu, Uop* op, char* mem) noexcept nogil:
    fault(cpu, op, VECTOR_UD, 0)


# --- The interrupt flag (SDM 3:6.8.1) --------------------------------------------------------------------------------

cdef void raw_cli(CPU* cpu, Uop* op, char* mem) noexcept nogil:
    """CLI (SDM 2): needs CPL <= IOPL."""
    if rare(cpu.cpl != 0):
        outer_cli(cpu, op, mem)
        return
    cpu.eflags &= ~<u32>EFLAGS_IF
    next_uop(cpu, op, mem)


cdef void outer_cli(CPU* cpu, Uop* op, char* mem) noexcept nogil:
    if cpu.cpl <= iopl_of(cpu):
        cpu.eflags &= ~<u32>EFLAGS_IF
    elif virtual_interrupts(cpu):
        cpu.eflags &= ~<u32>VIF
    else:
        fault(cpu, op, VECTOR_GP, 0)
        return
    next_uop(cpu, op, mem)


cdef void raw_sti(CPU* cpu, Uop* op, char* mem) noexcept nogil:
    """STI (SDM 2): when IF was clear, interrupts wait for the instruction behind it too.

    Within a block nothing is recognised. The block is left only when an interrupt is waiting already; one that comes
    at this very boundary, after a stop here, finds the boundary noted by hold_interrupts().
    """
    if rare(cpu.cpl != 0 or cpu.irq):
        careful_sti(cpu, op, mem)
        return
    if not cpu.eflags & EFLAGS_IF:
        hold_interrupts(cpu, op)
    cpu.eflags |= EFLAGS_IF
    next_uop(cpu, op, mem)


cdef void careful_sti(CPU* cpu, Uop* op, char* mem) noexcept nogil:
    if cpu.cpl > iopl_of(cpu):
        if not virtual_interrupts(cpu) or cpu.eflags & VIP:
            fault(cpu, op, VECTOR_GP, 0)
            return
        cpu.eflags |= VIF
        next_uop(cpu, op, mem)
        return
    if cpu.eflags & EFLAGS_IF:
        next_uop(cpu, op, mem)
        return
    hold_interrupts(cpu, op)
    cpu.eflags |= EFLAGS_IF
    if cpu.irq:
        leave_after(cpu, op)
        return
    next_uop(cpu, op, mem)


# --- EFLAGS (SDM 2, PUSHF and POPF) ----------------------------------------------------------------------------------

cdef void raw_pushf(CPU* cpu, Uop* op, char* mem) noexcept nogil:
    """PUSHFD on a flat stack; the rest in checked_pushf()."""
    cdef u32 esp = cpu.gpr[ESP].d - 4
    cdef char* host
    cdef bint found
    if rare(not cpu.mode & MODE_FLAT):
        checked_pushf(cpu, op, mem)
        return
    if cpu.mode & MODE_PAGING:
        found = write_at(cpu, mem, SS, esp, 4, PAGED, &host)
    else:
        found = write_at(cpu, mem, SS, esp, 4, FLAT, &host)
    if rare(not found):
        checked_pushf(cpu, op, mem)
        return
    (<u32*>host)[0] = get_eflags(cpu) & ~<u32>(VM | RF)
    cpu.gpr[ESP].q = esp
    next_uop(cpu, op, mem)


cdef void checked_pushf(CPU* cpu, Uop* op, char* mem) noexcept nogil:
    """PUSHFD anywhere: VM and RF are clear in the image."""
    push_flags(cpu, op, mem, 4)


cdef void raw_pushf16(CPU* cpu, Uop* op, char* mem) noexcept nogil:
    """PUSHF with 16-bit operand size."""
    push_flags(cpu, op, mem, 2)


cdef void push_flags(CPU* cpu, Uop* op, char* mem, u32 size) noexcept nogil:
    if v86_mode(cpu) and not may_use_flags(cpu, size):
        raise_fault(cpu, op)
        return
    push_value(cpu, op, mem, size, flags_image(cpu) & ~<u32>(VM | RF))


cdef void push_value(CPU* cpu, Uop* op, char* mem, u32 size, u32 value) noexcept nogil:
    """Push and go on."""
    if not checked_push(cpu, size, value):
        raise_fault(cpu, op)
        return
    finish(cpu, op, mem)


cdef void raw_popf(CPU* cpu, Uop* op, char* mem) noexcept nogil:
    """POPFD at CPL 0 on a flat stack; the rest in checked_popf()."""
    cdef u32 esp = cpu.gpr[ESP].d
    cdef u32 flags
    cdef char* host
    cdef bint found
    if rare(cpu.mode & (MODE_FLAT | MODE_CPL) != MODE_FLAT or cpu.irq):
        checked_popf(cpu, op, mem)
        return
    if cpu.mode & MODE_PAGING:
        found = read_at(cpu, mem, SS, esp, 4, PAGED, &host)
    else:
        found = read_at(cpu, mem, SS, esp, 4, FLAT, &host)
    if rare(not found or (<u32*>host)[0] & (TF | ID)):
        checked_popf(cpu, op, mem)
        return
    flags = (<u32*>host)[0]
    cpu.gpr[ESP].q = <u32>(esp + 4)
    set_eflags(cpu, flags, RESTORED_FLAGS | IOPL | EFLAGS_IF)
    next_uop(cpu, op, mem)


cdef void checked_popf(CPU* cpu, Uop* op, char* mem) noexcept nogil:
    """POPFD anywhere."""
    pop_flags(cpu, op, mem, 4)


cdef void raw_popf16(CPU* cpu, Uop* op, char* mem) noexcept nogil:
    """POPF with 16-bit operand size."""
    pop_flags(cpu, op, mem, 2)


cdef void pop_flags(CPU* cpu, Uop* op, char* mem, u32 size) noexcept nogil:
    """IF changes when CPL <= IOPL, IOPL at CPL 0, silently not otherwise; RF is clear behind any instruction.

    The block is left when TF is set, since the next instruction traps, when an interrupt is no longer held off, and
    when alignment is checked from here on or no longer.
    """
    cdef u32 flags
    cdef u64 before = cpu.gpr[ESP].q
    cdef u32 mode = cpu.mode
    if v86_mode(cpu) and not may_use_flags(cpu, size) or not checked_pop(cpu, size, &flags):
        raise_fault(cpu, op)
        return
    if not may_restore_flags(cpu, flags):
        cpu.gpr[ESP].q = before
        raise_fault(cpu, op)
        return
    restore_flags_image(cpu, flags, size)
    if cpu.mode != mode or cpu.eflags & TF or (cpu.irq and cpu.eflags & EFLAGS_IF):
        leave_after(cpu, op)
        return
    finish(cpu, op, mem)


# --- Halting, software interrupts ------------------------------------------------------------------------------------

cdef void raw_hlt(CPU* cpu, Uop* op, char* mem) noexcept nogil:
    """HLT (SDM 2)."""
    leave_after(cpu, op)
    cpu.halted = True


cdef void raw_int3(CPU* cpu, Uop* op, char* mem) noexcept nogil:
    """INT3 (SDM 2, INT n)."""
    software_interrupt(cpu, op, VECTOR_BP)


cdef void raw_int_n(CPU* cpu, Uop* op, char* mem) noexcept nogil:
    """INT imm8 (SDM 2, INT n)."""
    if v86_mode(cpu):
        v86_interrupt(cpu, op, op.imm & 0xFF)
        return
    software_interrupt(cpu, op, op.imm & 0xFF)


cdef void raw_into(CPU* cpu, Uop* op, char* mem) noexcept nogil:
    """INTO (SDM 2, INT n): only when OF is set."""
    if get_of(cpu):
        software_interrupt(cpu, op, VECTOR_OF)
        return
    next_uop(cpu, op, mem)


cdef void raw_iret(CPU* cpu, Uop* op, char* mem) noexcept nogil:
    """IRETD (SDM 2, IRET)."""
    return_from_interrupt(cpu, op, 4)


cdef void raw_iret16(CPU* cpu, Uop* op, char* mem) noexcept nogil:
    """IRET with 16-bit operand size."""
    return_from_interrupt(cpu, op, 2)


cdef void return_from_interrupt(CPU* cpu, Uop* op, u32 size) noexcept nogil:
    cdef u32 target
    cdef u32 cpl = cpu.cpl
    if not interrupt_return(cpu, size, next_eip(op), &target):
        end_transfer(cpu, op)
        return
    if cpu.cpl != cpl:
        charge_event(cpu, cpu.cost[COST_RING_OUT])
    arrive(cpu, op, target)


cdef void raw_sysenter(CPU* cpu, Uop* op, char* mem) noexcept nogil:
    """SYSENTER (SDM 2)."""
    cdef u32 target
    if not system_enter(cpu, &target):
        raise_fault(cpu, op)
        return
    arrive(cpu, op, target)


cdef void raw_sysexit(CPU* cpu, Uop* op, char* mem) noexcept nogil:
    """SYSEXIT (SDM 2)."""
    cdef u32 target
    if not system_exit(cpu, &target):
        raise_fault(cpu, op)
        return
    arrive(cpu, op, target)
