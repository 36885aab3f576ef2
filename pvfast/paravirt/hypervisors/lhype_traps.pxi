# Interrupts and traps: which are the host's, and how the guest gets its own.
#
# Enters: the hook's events. Leaves: the guest in a handler of its own, with a frame on its ring-1 stack, or behind an
# instruction that was emulated, or killed. Next: lhype_hypercalls.pxi.
#
# Real EFLAGS.IF is always set in the guest. What it sees as IF in a frame is its irq_enabled, and lhype_iret puts it
# back there.

cdef u32 gate_index(u32 vector) noexcept nogil:
    """In Guest.idt; behind its end: the host keeps no such gate."""
    return vector if vector < GATES else SYSCALL_GATE if vector == SYSCALL_VECTOR else GATES + 1


cdef u32 gate_type(u64 gate) noexcept nogil:
    return <u32>(gate >> (32 + GATE_TYPE_SHIFT)) & 0xF


cdef bint is_direct(u32 vector, u64 gate) noexcept nogil:
    """Does the processor enter the guest without the host? Not by interrupt gates, which turn irq_enabled off, not for
    device interrupts, and not for what the host has to see."""
    if gate == 0 or gate_type(gate) != TYPE_TRAP_GATE32:
        return False
    if vector >= FIRST_EXTERNAL_VECTOR and vector != SYSCALL_VECTOR:
        return False
    return vector != VECTOR_NM and vector != VECTOR_GP and vector != VECTOR_PF


cdef bint enter(Guest* g, CPU* cpu, u64 gate, u32 error, bint has_error) noexcept nogil:
    """Into the guest's handler. Its stack may have to be paged in: two pages of it, for reading and for writing."""
    cdef u32 frame[6]
    cdef u32 attempt, count
    cdef u32 flags = get_eflags(cpu) & ~<u32>(EFLAGS_IF | VM)
    if irq_enabled(g, cpu):
        flags |= EFLAGS_IF
    count = make_frame(cpu, frame, flags, cpu.seg[CS].selector, error, has_error)
    for attempt in range(5):
        if interrupt_guest(cpu, LGUEST_KERNEL_CS | GUEST_PL, gate_offset(gate), g.kernel_ss, g.kernel_esp, frame,
                           count):
            if gate_type(gate) == TYPE_INTERRUPT_GATE32:
                set_irq_enabled(g, cpu, 0)
            return True
        if cpu.exit != EXIT_NONE or cpu.fault_vector != VECTOR_PF:
            return False
        if not demand_page(g, cpu, cpu.cr2, cpu.fault_error):
            return False
    return False


# --- Interrupts ------------------------------------------------------------------------------------------------------

cdef void maybe_do_interrupt(Guest* g, CPU* cpu) noexcept nogil:
    """On the way back to the guest: the first interrupt that is pending and that it does not block, if it may."""
    cdef u32 irqs, irq
    if not g.irqs_pending or not g.initialised or cpu.exit != EXIT_NONE:
        return
    irqs = g.irqs_pending & ~get_word(cpu, g.lguest_data + LGUEST_DATA_BLOCKED_INTERRUPTS)
    if not irqs or g.noirq_start <= cpu.eip < g.noirq_end:
        return
    if g.halted:
        set_irq_enabled(g, cpu, EFLAGS_IF)
        g.halted = cpu.halted = False
    elif not irq_enabled(g, cpu):
        set_irq_pending(g, cpu, EFLAGS_IF)
        return
    write_timestamp(g, cpu)
    irq = lowest_bit(irqs)
    if g.idt[FIRST_EXTERNAL_VECTOR + irq] == 0:
        return
    g.irqs_pending &= ~(<u32>1 << irq)
    if irqs & (irqs - 1) == 0:
        set_irq_pending(g, cpu, 0)
    if enter(g, cpu, g.idt[FIRST_EXTERNAL_VECTOR + irq], 0, False):
        g.interrupts += 1
    else:
        unhandled(g, cpu, FIRST_EXTERNAL_VECTOR + irq, 0)


cdef void back_to_guest(Guest* g, CPU* cpu) noexcept nogil:
    """Whatever the host was entered for: the ring is worked off, and an interrupt delivered."""
    if g.initialised and g.killed < 0:
        do_async_hcalls(g, cpu)
    maybe_do_interrupt(g, cpu)


cdef void charge_direct(CPU* cpu) noexcept nogil:
    """A gate leads from ring 3 to the guest's kernel, and the host does not see it."""
    if cpu.cpl != GUEST_PL:
        charge_event(cpu, cpu.cost[COST_RING_IN])


cdef void hardware_interrupt(Guest* g, CPU* cpu, u32 vector) noexcept nogil:
    """An interrupt of the host; the first 32 lines are passed on. One that is blocked ends a HALT all the same."""
    charge_trap(cpu)
    if vector - FIRST_EXTERNAL_VECTOR < LGUEST_IRQS:
        g.irqs_pending |= <u32>1 << (vector - FIRST_EXTERNAL_VECTOR)
    back_to_guest(g, cpu)
    g.halted = False


# --- Exceptions and software interrupts ------------------------------------------------------------------------------

cdef void unhandled(Guest* g, CPU* cpu, u32 vector, u32 error) noexcept nogil:
    if g.killed < 0:
        g.killed = KILLED_UNHANDLED_TRAP
        cpu.exit = EXIT_NONE            # the stack may be a device's
        shut_down(cpu, vector, error)


cdef void deliver_trap(Guest* g, CPU* cpu, u32 vector, u32 error, bint has_error) noexcept nogil:
    cdef u32 index = gate_index(vector)
    if index > GATES or g.idt[index] == 0 or not enter(g, cpu, g.idt[index], error, has_error):
        unhandled(g, cpu, vector, error)


cdef bint software_interrupt(Guest* g, CPU* cpu, u32 vector) noexcept nogil:
    """INT n other than a hypercall. False: the real IDT has no gate for it; the processor makes #GP(vector * 8 + 2)."""
    cdef u32 index = gate_index(vector)
    cdef u32 dpl
    if index > GATES or not is_direct(vector, g.idt[index]):
        return False
    dpl = <u32>(g.idt[index] >> (32 + GATE_DPL_SHIFT)) & 3
    if cpu.cpl > (dpl if dpl else GUEST_PL):
        return False
    charge_direct(cpu)
    deliver_trap(g, cpu, vector, 0, False)
    return True


cdef void exception(Guest* g, CPU* cpu, u32 vector, u32 error, bint has_error) noexcept nogil:
    cdef u32 index = gate_index(vector)
    cdef u32 linear = cpu.cr2
    if index <= GATES and is_direct(vector, g.idt[index]):
        charge_event(cpu, cpu.cost[COST_EXCEPTION])
        charge_direct(cpu)
        deliver_trap(g, cpu, vector, error, has_error)
        return
    charge_trap(cpu)
    if vector == VECTOR_PF:
        if demand_page(g, cpu, linear, error):
            back_to_guest(g, cpu)
            return
        if g.initialised:
            put_word(cpu, g.lguest_data + LGUEST_DATA_CR2, linear)
    elif vector == VECTOR_GP and error == 0 and emulate_insn(cpu):
        back_to_guest(g, cpu)
        return
    if g.killed < 0:
        deliver_trap(g, cpu, vector, error, has_error)
        back_to_guest(g, cpu)


cdef bint emulate_insn(CPU* cpu) noexcept nogil:
    """The guest kernel looks for devices: IN reads all ones, OUT goes nowhere. Nothing else is emulated."""
    cdef u32 opcode, prefixes
    if cpu.cpl != GUEST_PL or not fetch_opcode(cpu, &opcode, &prefixes) or not is_port_access(opcode):
        return False
    finish_port_access(cpu, opcode, prefixes, 0xFFFFFFFFu)
    return True
