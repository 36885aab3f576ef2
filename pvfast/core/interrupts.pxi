# Interrupts and exceptions: delivery through the IDT, real mode's vectors, double and triple faults, IRET; V86 mode.
#
# Enters: a vector. Leaves: the CPU at the first instruction of its handler, all or nothing. Next: system.pxi.

cdef enum:
    IDT_ERROR = 2           # error code bit 1: the index is one of the IDT (SDM 3:6.13)
    EXT_ERROR = 1           # error code bit 0: while delivering an event outside the program's will


cdef bint has_error_code(u32 vector) noexcept nogil:
    """SDM 3:6.15: #DF, #TS, #NP, #SS, #GP, #PF and #AC push one."""
    return vector == VECTOR_DF or VECTOR_TS <= vector <= VECTOR_PF or vector == VECTOR_AC


cdef bint is_fault_class(u32 vector) noexcept nogil:
    """Faults restart their instruction, with RF set in the saved EFLAGS (SDM 3:6.15, 3:17.3.1.1); so is it for #DF,
    which stands for two of them."""
    return (vector != VECTOR_DB and vector != 2 and vector != VECTOR_BP and vector != VECTOR_OF
            and vector != 18)


cdef bint is_contributory(u32 vector) noexcept nogil:
    """SDM 3:6.15, table 6-4."""
    return vector == VECTOR_DE or VECTOR_TS <= vector <= VECTOR_GP


# --- Delivery (SDM 2, INT n; SDM 3:6.12) -----------------------------------------------------------------------------

cdef bint enter_gate(CPU* cpu, u32 vector, u32 error, bint has_error, u32 kind, u32 return_eip) noexcept nogil:
    """One attempt to enter a handler. False: nothing has changed, unless a task gate was passed (CPU.in_new_task); a
    fault is noted, or a device must be served."""
    cdef bint entered
    cdef u32 cpl = cpu.cpl
    cpu.debug_traps = 0                     # those of the frame count
    if real_mode(cpu):
        entered = pass_vector(cpu, cpu.idt_base, cpu.idt_limit, vector, get_eflags(cpu), return_eip)
        if entered:
            cpu.eflags &= ~<u32>(EFLAGS_IF | AC)
    else:
        entered = pass_gate(cpu, vector, error, has_error, kind, return_eip)
    if entered:
        if cpu.cpl != cpl:
            charge_event(cpu, cpu.cost[COST_RING_IN])
        cpu.resume_unit = NEVER
        if vector == VECTOR_DB and kind != EVENT_SOFTWARE:
            cpu.dr[7] &= ~<u32>DR7_GD       # SDM 3:17.2.4
        return True
    cpu.debug_traps = 0
    if cpu.exit != EXIT_IO and kind != EVENT_SOFTWARE and VECTOR_TS <= cpu.fault_vector <= VECTOR_GP:
        cpu.fault_error |= EXT_ERROR
    return False


cdef void arrive_at_handler(CPU* cpu, u32 offset) noexcept nogil:
    cpu.eip = offset
    cpu.halted = False
    cpu.shadow_unit = NEVER                 # the event ends the shadow of STI or MOV SS


cdef bint pass_gate(CPU* cpu, u32 vector, u32 error, bint has_error, u32 kind, u32 return_eip) noexcept nogil:
    cdef Descriptor gate, code
    cdef Segment stack
    cdef u32 frame[10]
    cdef u32 count = 0
    cdef bint v86 = v86_mode(cpu)
    cdef u32 idt_error = vector * 8 + IDT_ERROR
    cdef u32 type, selector, cpl, esp, size, flags, offset
    cdef bint inner
    if vector * 8 + 7 > cpu.idt_limit:
        return refuse(cpu, VECTOR_GP, idt_error)
    gate.linear = cpu.idt_base + vector * 8
    if not (linear_read(cpu, gate.linear, 4, False, &gate.low)
            and linear_read(cpu, gate.linear + 4, 4, False, &gate.high)):
        return False
    gate.attributes = (gate.high >> 8) & ATTRIBUTES
    type = gate.attributes & (SEG_S | SEG_TYPE)
    if (type != TYPE_TASK_GATE and type != TYPE_INTERRUPT_GATE32 and type != TYPE_TRAP_GATE32
            and type != TYPE_INTERRUPT_GATE16 and type != TYPE_TRAP_GATE16):
        return refuse(cpu, VECTOR_GP, idt_error)
    if kind == EVENT_SOFTWARE and dpl_of(gate.attributes) < cpu.cpl:
        return refuse(cpu, VECTOR_GP, idt_error)
    if not gate.attributes & SEG_P:
        return refuse(cpu, VECTOR_NP, idt_error)

    flags = get_eflags(cpu)
    if (kind == EVENT_FAULT and is_fault_class(vector)) or (kind != EVENT_SOFTWARE and resuming(cpu)):
        flags |= RF
    selector = gate.low >> 16
    if type == TYPE_TASK_GATE:
        return enter_task(cpu, selector, SWITCH_NEST, return_eip, flags, &error if has_error else NULL)
    if not fetch_descriptor(cpu, selector, &code):
        return False
    cpl = dpl_of(code.attributes)
    if not is_code(code.attributes) or cpl > cpu.cpl:
        return refuse(cpu, VECTOR_GP, selector & SELECTOR_INDEX)
    if not code.attributes & SEG_P:
        return refuse(cpu, VECTOR_NP, selector & SELECTOR_INDEX)
    if v86 and (code.attributes & SEG_CONFORMING or cpl != 0):
        return refuse(cpu, VECTOR_GP, selector & SELECTOR_INDEX)
    if code.attributes & SEG_CONFORMING:
        cpl = cpu.cpl
    inner = cpl < cpu.cpl

    if inner:
        if not inner_stack(cpu, cpl, &stack, &esp):
            return False
        if v86:
            frame[0] = cpu.seg[GS].selector
            frame[1] = cpu.seg[FS].selector
            frame[2] = cpu.seg[DS].selector
            frame[3] = cpu.seg[ES].selector
            count = 4
        frame[count] = cpu.seg[SS].selector
        frame[count + 1] = cpu.gpr[ESP].d
        count += 2
    else:
        stack = cpu.seg[SS]
        esp = cpu.gpr[ESP].d
    offset = gate_offset(&gate)
    if not check_offset(cpu, &code, offset) or not mark_accessed(cpu, &code):
        return False
    frame[count] = flags
    frame[count + 1] = cpu.seg[CS].selector
    frame[count + 2] = return_eip
    count += 3
    if has_error:
        frame[count] = error
        count += 1
    size = 4 if type & TYPE_32 else 2
    if not push_frame(cpu, &stack, &esp, frame, count, size, cpl == 3,
                      stack.selector & SELECTOR_INDEX if inner else 0):
        return False

    if inner:
        set_stack(cpu, &stack, esp)
    else:
        cpu.gpr[ESP].q = esp
    if v86:
        clear_segment(&cpu.seg[GS], 0)
        clear_segment(&cpu.seg[FS], 0)
        clear_segment(&cpu.seg[DS], 0)
        clear_segment(&cpu.seg[ES], 0)
    cpu.eflags &= ~<u32>(TF | NT | RF | VM)
    if type == TYPE_INTERRUPT_GATE32 or type == TYPE_INTERRUPT_GATE16:
        cpu.eflags &= ~<u32>EFLAGS_IF
    set_code(cpu, selector, &code, cpl)
    arrive_at_handler(cpu, offset)
    return True


cdef void charge_event(CPU* cpu, u32 cycles) noexcept nogil:
    """Cycles of something that happens between instructions, in a slice or between two."""
    if cpu.slice_left:
        charge(cpu, cycles)
    else:
        cpu.cycles += cycles


cdef inline bint offer_event(CPU* cpu, u32 vector, u32 error, bint has_error, u32 kind) noexcept nogil:
    """A hypervisor sees every event first. True: it is dealt with."""
    return cpu.interrupt_hook != NULL and cpu.interrupt_hook(cpu.hypervisor, cpu, vector, error, has_error, kind)


cdef bint deliver_event(CPU* cpu, u32 vector, u32 error, bint has_error, u32 kind) noexcept nogil:
    """Deliver an event at cpu.eip, to the hypervisor or through the IDT."""
    cpu.restartable = False
    return (offer_event(cpu, vector, error, has_error, kind)
            or deliver_by_idt(cpu, vector, error, has_error, kind))


cdef bint deliver_by_idt(CPU* cpu, u32 vector, u32 error, bint has_error, u32 kind) noexcept nogil:
    """The event, or what comes of it: another fault, #DF, shutdown (SDM 3:6.15, table 6-5).

    Design: the table makes no double fault of #AC, so that a misaligned stack at CPL 3 would keep a processor
    delivering it for ever. The second #AC of one event shuts down instead.
    """
    cdef u32 first_vector = vector
    cdef u32 first_error = error
    cdef u32 unaligned = 0
    cdef u32 second
    cdef bint double
    while True:
        if enter_gate(cpu, vector, error, has_error, kind, cpu.eip):
            if kind != EVENT_SOFTWARE:
                charge_event(cpu, cpu.cost[COST_EXCEPTION])
            return True
        if cpu.exit == EXIT_IO:
            return False
        cpu.in_new_task = False
        second = cpu.fault_vector
        cpu.faults += 1
        if kind == EVENT_FAULT:
            unaligned += second == VECTOR_AC
            if vector == VECTOR_DF or unaligned > 1:
                cpu.exit = EXIT_SHUTDOWN
                cpu.shutdown_vector = first_vector
                cpu.shutdown_error = first_error
                cpu.shutdown_eip = cpu.eip
                cpu.shutdown_cs = cpu.seg[CS].selector
                return False
            double = ((is_contributory(vector) and is_contributory(second))
                      or (vector == VECTOR_PF and (is_contributory(second) or second == VECTOR_PF)))
        else:
            first_vector = second
            first_error = cpu.fault_error
            double = False
        vector = VECTOR_DF if double else second
        error = 0 if double else cpu.fault_error
        has_error = has_error_code(vector)
        kind = EVENT_FAULT
        if offer_event(cpu, vector, error, has_error, kind):
            return True


cdef bint deliver(CPU* cpu, u32 vector, u32 error, bint has_error, bint software) noexcept nogil:
    """Deliver an event at cpu.eip, the address that the handler will find on its stack.

    Not `software`: an exception of the processor when the vector is one of its 32, else an external interrupt.
    """
    if software:
        cpu.interrupts += 1
        return deliver_event(cpu, vector, error, has_error, EVENT_SOFTWARE)
    return deliver_event(cpu, vector, error, has_error, EVENT_FAULT if vector < 32 else EVENT_EXTERNAL)


cdef bint deliver_external(CPU* cpu, u32 vector) noexcept nogil:
    """Deliver an external interrupt between two instructions, whatever its vector."""
    return deliver_event(cpu, vector, 0, False, EVENT_EXTERNAL)


cdef void software_interrupt(CPU* cpu, Uop* op, u32 vector) noexcept nogil:
    """INT n, INT3, INTO (SDM 2, INT n): the saved address is behind the instruction, a fault's is its own."""
    cpu.debug_traps = 0                     # no single-step trap behind it
    if cpu.intercepted[vector]:
        leave_after(cpu, op)
        cpu.exit = EXIT_INTERRUPT
        cpu.exit_vector = vector
        return
    if cpu.interrupt_hook != NULL and offer_software(cpu, op, vector, EVENT_SOFTWARE):
        return
    enter_handler(cpu, op, vector, EVENT_SOFTWARE)


cdef void enter_handler(CPU* cpu, Uop* op, u32 vector, u32 kind) noexcept nogil:
    if not enter_gate(cpu, vector, 0, False, kind, next_eip(op)):
        end_transfer(cpu, op)
        return
    cpu.interrupts += 1
    arrive(cpu, op, cpu.eip)


cdef void raw_int1(CPU* cpu, Uop* op, char* mem) noexcept nogil:
    """INT1 (SDM 2, INT n): the trap #DB, whatever the gate's DPL; DR6 stays as it is."""
    cpu.debug_traps = 0
    if cpu.interrupt_hook == NULL or not offer_software(cpu, op, VECTOR_DB, EVENT_FAULT):
        enter_handler(cpu, op, VECTOR_DB, EVENT_FAULT)


cdef bint offer_software(CPU* cpu, Uop* op, u32 vector, u32 kind) noexcept nogil:
    """Offer INT n to the hypervisor, retired. False: it has not been executed yet."""
    cdef u64 left = cpu.left
    leave_before(cpu, op)
    if cpu.event.declined and cpu.event.eip == cpu.eip:
        cpu.event.declined = False
        cpu.left = left
        return False
    cpu.restartable = False
    cpu.event.eip = cpu.eip
    cpu.event.cycles = op.cycles
    cpu.event.declined = False
    cpu.left = left
    leave_after(cpu, op)
    if cpu.interrupt_hook(cpu.hypervisor, cpu, vector, 0, False, kind):
        cpu.interrupts += 1
        return True
    cpu.left = left
    return False


# --- IRET (SDM 2, IRET; SDM 3:6.12.1) --------------------------------------------------------------------------------

cdef u32 restorable_flags(CPU* cpu, u32 size) noexcept nogil:
    """The EFLAGS bits that IRET and POPF may change here: IOPL at CPL 0 only, IF when CPL <= IOPL."""
    cdef u32 mask = RESTORED_FLAGS
    if cpu.cpl == 0:
        mask |= IOPL
    if cpu.cpl <= (cpu.eflags & IOPL) >> IOPL_SHIFT:
        mask |= EFLAGS_IF
    if not has_feature(cpu, FEATURE_CPUID):
        mask &= ~<u32>ID
    return mask if size == 4 else mask & 0xFFFF


cdef bint interrupt_return(CPU* cpu, u32 size, u32 return_eip, u32* target) noexcept nogil:
    """IRET to the same or to an outer privilege level, or from a nested task. With 32 bits it loads RF."""
    cdef Descriptor code
    cdef Segment stack
    cdef u32 eip, selector, flags, esp, cpl, mask
    cdef bint outer
    if cpu.mode & MODE_8086:
        return return_in_8086_mode(cpu, size, target)
    if cpu.eflags & NT:
        if not return_to_task(cpu, return_eip):
            return False
        target[0] = cpu.eip
        return True
    if not (stack_read(cpu, 0, size, &eip) and stack_read(cpu, size, size, &selector)
            and stack_read(cpu, 2 * size, size, &flags)):
        return False
    if size == 4 and flags & VM and cpu.cpl == 0:
        return return_to_v86(cpu, eip, selector, flags, target)
    selector &= 0xFFFF
    cpl = selector & SELECTOR_RPL
    if not check_return_code(cpu, selector, &code):
        return False
    outer = cpl != cpu.cpl
    if outer and not check_outer_stack(cpu, 3 * size, size, cpl, &stack, &esp):
        return False
    if not check_offset(cpu, &code, eip):
        return False
    mask = restorable_flags(cpu, size)
    if size == 4:
        mask |= RF
    if cpu.cpl == 0 and size == 4 and has_feature(cpu, FEATURE_VME):
        mask |= VIF | VIP
    if outer:
        set_stack(cpu, &stack, esp)
    else:
        set_sp(cpu, cpu.gpr[ESP].d + 3 * size)
    set_eflags(cpu, flags, mask)
    set_code(cpu, selector, &code, cpl)
    if outer:
        drop_inner_segments(cpu)
    target[0] = eip
    return True
