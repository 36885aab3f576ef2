# Events: what the processor reports, and what becomes of it for the guest.
#
# Enters: the hook's events. Leaves: a shadow entry made, an instruction emulated (full_emulation.pxi), or the guest in
# a handler of its own IDT with the frame that ring 0 would have found. Next: full_host.pyx.

cdef bint full_event(void* state, CPU* cpu, u32 vector, u32 error, bint has_error, u32 kind) noexcept nogil:
    """The hook: everything that would go to ring 0."""
    cdef Guest* g = <Guest*>state
    cdef bint alone = g.step != STEP_NONE
    if not g.started or cpu.cpl == 0:
        return False
    g.cpu = cpu
    if kind == EVENT_SOFTWARE:
        charge_hypercall(cpu)
    else:
        charge_trap(cpu)
        charge_event(cpu, cpu.cost[COST_HYPERCALL])
    cpu.eflags |= EFLAGS_IF
    if alone and not (vector == VECTOR_PF and kind == EVENT_FAULT):
        end_step(g, cpu)
        if vector == VECTOR_DB and kind == EVENT_FAULT and not cpu.eflags & TF:
            return True
    if kind == EVENT_SOFTWARE:
        return software_interrupt(g, cpu, vector)
    if kind == EVENT_EXTERNAL:
        if g.interrupts:
            deliver(g, cpu, vector, 0, False, kind)
        else:
            g.pending = PENDING | vector
    else:
        exception(g, cpu, vector, error, has_error)
    if cpu.exit == EXIT_IO:
        cpu.exit = EXIT_NONE
    return True


cdef void exception(Guest* g, CPU* cpu, u32 vector, u32 error, bint has_error) noexcept nogil:
    cdef u32 eip = <u32>cpu.seg[CS].base + cpu.eip
    cdef u32 linear = cpu.cr2
    if vector == VECTOR_PF:
        if fill(g, cpu, linear, error & (PFE_W | PFE_U), False):
            if cpu.cpl == KERNEL_RING and linear >> PAGE_BITS == eip >> PAGE_BITS:
                scan(g, cpu, eip)
            return
        if g.step != STEP_NONE:
            end_step(g, cpu)
        deliver(g, cpu, VECTOR_PF, cpu.fault_error, True, EVENT_FAULT)
        return
    if g.stale and VECTOR_TS <= vector <= VECTOR_GP and error & 0xFFFC and not error & 2:
        synchronise(g, cpu)             # the instruction runs again
        return
    if VECTOR_NP <= vector <= VECTOR_GP:
        if emulate(g, cpu, vector, error):
            return
        vector, error = cpu.fault_vector, cpu.fault_error
    elif vector == VECTOR_DB:
        g.dr[6] = cpu.dr[6]
        cpu.dr[6] = DR6_ONES
    deliver(g, cpu, vector, error, has_error, EVENT_FAULT)


# --- The guest's IDT -------------------------------------------------------------------------------------------------

cdef bint is_contributory(u32 vector) noexcept nogil:
    return vector == VECTOR_DE or VECTOR_TS <= vector <= VECTOR_GP


cdef bint pushes_error(u32 vector) noexcept nogil:
    return vector == VECTOR_DF or VECTOR_TS <= vector <= VECTOR_PF or vector == VECTOR_AC


cdef void deliver(Guest* g, CPU* cpu, u32 vector, u32 error, bint has_error, u32 kind) noexcept nogil:
    """Enter the guest's handler, or that of what goes wrong meanwhile; a triple fault ends the guest."""
    cdef u32 first = vector
    cdef u32 first_error = error
    cdef u32 second
    while True:
        if vector == VECTOR_PF:
            g.cr2 = cpu.cr2
        if enter_gate(g, cpu, vector, error, has_error, kind):
            g.reflected += 1
            return
        if vector == VECTOR_DF:
            shut_down(cpu, first, first_error)
            return
        second = cpu.fault_vector
        error = cpu.fault_error
        if kind == EVENT_FAULT and (vector == VECTOR_PF or (is_contributory(vector) and is_contributory(second))):
            second = VECTOR_DF
            error = 0
        elif kind == EVENT_FAULT and second == vector:
            second = VECTOR_DF          # #NM, #AC ...: no second chance for the same
            error = 0
        vector = second
        has_error = pushes_error(vector)
        kind = EVENT_FAULT


cdef bint enter_gate(Guest* g, CPU* cpu, u32 vector, u32 error, bint has_error, u32 kind) noexcept nogil:
    """All or nothing. The gates of 32-bit interrupts and traps are those there are."""
    cdef u32 frame[6]
    cdef u32 low, high, type, ss, esp, selector, flags, count, i
    cdef u32 gate_error = vector * 8 + 2
    if vector * 8 + 7 > g.idt_limit:
        return refuse(cpu, VECTOR_GP, gate_error)
    if not (guest_read(g, cpu, g.idt_base + vector * 8, 4, &low)
            and guest_read(g, cpu, g.idt_base + vector * 8 + 4, 4, &high)):
        return False
    type = high >> 8 & (SEG_S | SEG_TYPE)
    if type != TYPE_INTERRUPT_GATE32 and type != TYPE_TRAP_GATE32:
        return refuse(cpu, VECTOR_GP, gate_error)
    if kind == EVENT_SOFTWARE and cpu.cpl == 3 and high >> 13 & 3 != 3:
        return refuse(cpu, VECTOR_GP, gate_error)
    if not high >> 8 & SEG_P:
        return refuse(cpu, VECTOR_NP, gate_error)
    selector = low >> 16
    if selector & RPL or not selector & INDEX:
        selector &= ~<u32>RPL           # the processor ignores it in a gate
    refresh(g, cpu)
    ss = cpu.seg[SS].selector
    esp = cpu.gpr[ESP].d
    if cpu.cpl == 3:
        if not g.tr & INDEX or g.tr_limit < TSS_SS0 + 1:
            return refuse(cpu, VECTOR_TS, g.tr & 0xFFFC)
        if not (guest_read(g, cpu, g.tr_base + TSS_ESP0, 4, &esp)
                and guest_read(g, cpu, g.tr_base + TSS_SS0, 2, &ss)):
            return False
        ss = real_selector(ss)
    flags = guest_flags(g, cpu)
    if kind == EVENT_FAULT and vector != VECTOR_DB and vector != VECTOR_BP and vector != VECTOR_OF:
        flags |= RF
    count = make_frame(cpu, frame, flags, own_selector(cpu, CS), error, has_error)
    for i in range(4):
        if interrupt_guest(cpu, real_selector(selector), low & 0xFFFF | (high & 0xFFFF0000u), ss, esp, frame, count):
            if type == TYPE_INTERRUPT_GATE32:
                g.interrupts = False
            scan(g, cpu, <u32>cpu.seg[CS].base + cpu.eip)
            return True
        if not try_again(g, cpu, PFE_W):
            break
    return False


cdef u32 guest_flags(Guest* g, CPU* cpu) noexcept nogil:
    """EFLAGS as the guest's ring 0 would see it."""
    cdef u32 flags = get_eflags(cpu) & ~<u32>(EFLAGS_IF | IOPL | VM | RF) | g.iopl << IOPL_SHIFT
    return flags | EFLAGS_IF if g.interrupts else flags


cdef bint software_interrupt(Guest* g, CPU* cpu, u32 vector) noexcept nogil:
    """INT n. False: not allowed; the real IDT is empty, so it comes back as #GP with the vector in its error code."""
    cdef u32 high
    if vector * 8 + 7 > g.idt_limit or not guest_read(g, cpu, g.idt_base + vector * 8 + 4, 4, &high):
        return False
    if not high >> 8 & SEG_P or (cpu.cpl == 3 and high >> 13 & 3 != 3):
        return False
    deliver(g, cpu, vector, 0, False, EVENT_SOFTWARE)
    return True


# --- Interrupts of the guest -----------------------------------------------------------------------------------------

cdef void allow_interrupts(Guest* g, CPU* cpu, bint allowed) noexcept nogil:
    """EFLAGS.IF of the guest. One that has waited goes back to the processor, which offers it at the next boundary."""
    g.interrupts = allowed
    if allowed and g.pending:
        if not cpu.irq:
            cpu.irq = True
            cpu.irq_vector = g.pending & 0xFF
        g.pending = 0


cdef void hold_interrupts(CPU* cpu) noexcept nogil:
    """No interrupt at the boundary in front of the next instruction, as behind STI and MOV SS."""
    cdef i64 left = <i64>cpu.left
    cpu.shadow_unit = cpu.slice_end - <u64>((left - <i32>(left & 0xFFFFFFFFu)) >> 32)


# --- One instruction by itself ---------------------------------------------------------------------------------------

cdef void begin_step(Guest* g, CPU* cpu, u32 kind) noexcept nogil:
    """Back to the guest for one instruction: TF brings the processor here again."""
    if g.step == STEP_NONE:
        g.step_tf = cpu.eflags & TF
        g.stepped += 1
    g.step = kind
    cpu.eflags |= TF
    if kind == STEP_PORT:
        cpu.eflags |= cpu.cpl << IOPL_SHIFT


cdef void end_step(Guest* g, CPU* cpu) noexcept nogil:
    """It has run, or something came before it; then it will trap again."""
    cdef u32 i
    cdef u32 count = g.step_count
    cpu.eflags = cpu.eflags & ~<u32>(TF | IOPL) | g.step_tf
    g.step = STEP_NONE
    g.step_count = 0
    for i in range(count):
        end_write(g, cpu, g.step_pages[i])
