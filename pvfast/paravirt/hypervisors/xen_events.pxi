# Events: what interrupts and exceptions become for the guest, and the event channels.
#
# Enters: the hook's events. Leaves: the guest in a handler of its own, with a frame on its ring-1 stack, or an
# instruction emulated (xen_emulation.pxi), or the domain crashed. Next: xen_hypercalls.pxi.
#
# Real EFLAGS.IF is always set in the guest: Xen takes every interrupt. What the guest sees as IF in a frame is the
# opposite of its event mask, and the iret hypercall takes the mask from there.

cdef bint bounce(Domain* d, CPU* cpu, u32 cs, u32 eip, bint mask, u32 error, bint has_error) noexcept nogil:
    """Enter the guest's handler. The byte above CS in the frame holds the event mask of before."""
    cdef u32 frame[6]
    cdef u32 count
    cdef bint masked = events_masked(d, cpu)
    cdef u32 flags = get_eflags(cpu) & ~<u32>(EFLAGS_IF | IOPL | VM) | d.iopl << IOPL_SHIFT
    if not masked:
        flags |= EFLAGS_IF
    count = make_frame(cpu, frame, flags, cpu.seg[CS].selector | <u32>masked << 16, error, has_error)
    if not interrupt_guest(cpu, cs, eip, d.kernel_ss, d.kernel_esp, frame, count):
        return False
    if mask:
        mask_events(d, cpu, True)
    return True


cdef void deliver_pending(Domain* d, CPU* cpu) noexcept nogil:
    """On the way back to the guest: call it up when an event is pending and not masked."""
    if cpu.exit != EXIT_NONE or d.event_eip == 0:
        return
    if shared_read(cpu, d.vcpu_info, 2) & 0xFF == 0 or events_masked(d, cpu):
        return
    if not bounce(d, cpu, d.event_cs, d.event_eip, True, 0, False):
        crash(d, cpu, cpu.fault_vector, cpu.fault_error)
        return
    d.upcalls += 1


# --- Exceptions and software interrupts ------------------------------------------------------------------------------

cdef void deliver_trap(Domain* d, CPU* cpu, u32 vector, u32 error, bint has_error) noexcept nogil:
    cdef Trap* trap = &d.traps[vector]
    if trap.address == 0 or not bounce(d, cpu, trap.cs, trap.address, (trap.flags & TRAP_DISABLE_EVENTS) != 0, error,
                                       has_error):
        crash(d, cpu, vector, error)


cdef bint software_interrupt(Domain* d, CPU* cpu, u32 vector) noexcept nogil:
    """INT n for the guest itself. False: not allowed; the processor makes #GP(vector * 8 + 2) of it.

    INT3 and INTO need no permission. Other vectors come to Xen as #GP first, except 0x80, which has a real gate.
    """
    cdef Trap* trap = &d.traps[vector]
    cdef u32 ring = 3 if cpu.cpl == 3 else KERNEL_RING
    if trap.address == 0:
        return False
    if vector != VECTOR_BP and vector != VECTOR_OF and trap.flags & TRAP_DPL_MASK < ring:
        return False
    if vector != 0x80:
        charge_trap(cpu)
    elif cpu.cpl == 3:
        charge_event(cpu, cpu.cost[COST_RING_IN])
    deliver_trap(d, cpu, vector, 0, False)
    return True


cdef void exception(Domain* d, CPU* cpu, u32 vector, u32 error, bint has_error) noexcept nogil:
    """An exception in the guest: Xen's business first, then the guest's."""
    charge_trap(cpu)
    if vector == VECTOR_PF:
        physical_write(cpu, d.vcpu_info + VCPU_ARCH_CR2, 4, cpu.cr2)
    elif vector == VECTOR_NM:
        cpu.cr0 &= ~<u32>CR0_TS         # the guest's handler finds it clear
    elif vector == VECTOR_GP and error == 0 and cpu.cpl == KERNEL_RING and emulate_privileged(d, cpu):
        deliver_pending(d, cpu)
        return
    elif vector == VECTOR_UD and emulate_forced_cpuid(cpu):
        deliver_pending(d, cpu)
        return
    if cpu.exit == EXIT_IO:
        cpu.exit = EXIT_NONE            # the look at the instruction met a device
    deliver_trap(d, cpu, vector, error, has_error)
    deliver_pending(d, cpu)


# --- Event channels --------------------------------------------------------------------------------------------------

cdef bint set_shared_bit(CPU* cpu, u64 bitmap, u32 bit) noexcept nogil:
    """True: it was clear."""
    cdef u64 word = bitmap + bit // 32 * 4
    cdef u32 value = shared_read(cpu, word, 4)
    if value >> (bit & 31) & 1:
        return False
    physical_write(cpu, word, 4, value | <u32>1 << (bit & 31))
    return True


cdef void mark_pending(Domain* d, CPU* cpu, u32 port) noexcept nogil:
    """The port's word and the virtual CPU have something to look at."""
    if set_shared_bit(cpu, d.vcpu_info + VCPU_EVTCHN_PENDING_SEL, port // 32):
        physical_write(cpu, d.vcpu_info + VCPU_EVTCHN_UPCALL_PENDING, 1, 1)


cdef void wake_poller(Domain* d, CPU* cpu) noexcept nogil:
    d.polling = False
    d.poll_cycles = NEVER
    cpu.halted = False


cdef void send_event(Domain* d, CPU* cpu, u32 port) noexcept nogil:
    cdef u32 mask = shared_read(cpu, d.shared_info + SHARED_EVTCHN_MASK + port // 32 * 4, 4)
    if d.polling:
        wake_poller(d, cpu)
    if set_shared_bit(cpu, d.shared_info + SHARED_EVTCHN_PENDING, port) and not mask >> (port & 31) & 1:
        mark_pending(d, cpu, port)


cdef void unmask_port(Domain* d, CPU* cpu, u32 port) noexcept nogil:
    cdef u64 word = d.shared_info + SHARED_EVTCHN_MASK + port // 32 * 4
    cdef u32 mask = shared_read(cpu, word, 4)
    if not mask >> (port & 31) & 1:
        return
    physical_write(cpu, word, 4, mask & ~(<u32>1 << (port & 31)))
    if shared_read(cpu, d.shared_info + SHARED_EVTCHN_PENDING + port // 32 * 4, 4) >> (port & 31) & 1:
        mark_pending(d, cpu, port)


cdef void hardware_interrupt(Domain* d, CPU* cpu, u32 vector) noexcept nogil:
    """An interrupt line is Xen's; the guest has at most an event channel bound to it."""
    cdef u32 port
    charge_trap(cpu)
    if vector == TIMER_VECTOR and d.poll_is_over:
        d.poll_is_over = False
        wake_poller(d, cpu)
    elif vector == TIMER_VECTOR:
        if d.virq_port[VIRQ_TIMER]:
            send_event(d, cpu, d.virq_port[VIRQ_TIMER])
    else:
        for port in range(EVENT_CHANNELS):
            if d.port_type[port] == EVENTSTATUS_PIRQ and d.port_source[port] == vector:
                send_event(d, cpu, port)
    deliver_pending(d, cpu)


cdef u32 free_port(Domain* d) noexcept nogil:
    """0: none."""
    cdef u32 port = 1
    while port < EVENT_CHANNELS:
        if d.port_type[port] == EVENTSTATUS_CLOSED:
            return port
        port += 1
    return 0


cdef i32 bind(Domain* d, CPU* cpu, u32 type, u32 source, u32 answer) noexcept nogil:
    """Give a new port to a source; its number goes to the guest's structure."""
    cdef u32 port = free_port(d)
    if port == 0:
        return -ERRNO_NOSPC
    if not copy_out(cpu, answer, port):
        return -ERRNO_FAULT
    d.port_type[port] = <u8>type
    d.port_source[port] = <u16>source
    if type == EVENTSTATUS_VIRQ:
        d.virq_port[source] = port
    return 0


cdef i32 event_channel_op(Domain* d, CPU* cpu, u32 command, u32 argument) noexcept nogil:
    cdef u32 words[3]
    cdef u32 port
    if command == EVENTOP_BIND_VIRQ:            # virq, vcpu, port
        if not copy_in(cpu, argument, words, 2):
            return -ERRNO_FAULT
        if words[0] >= VIRQS:
            return -ERRNO_INVAL
        if words[1] != 0:
            return -ERRNO_NOENT
        if d.virq_port[words[0]]:
            return -ERRNO_EXIST
        return bind(d, cpu, EVENTSTATUS_VIRQ, words[0], argument + 8)
    if command == EVENTOP_BIND_PIRQ:            # pirq, flags, port
        if not copy_in(cpu, argument, words, 2):
            return -ERRNO_FAULT
        if words[0] == 0 or words[0] + FIRST_EXTERNAL_VECTOR > 0xFF:
            return -ERRNO_INVAL
        return bind(d, cpu, EVENTSTATUS_PIRQ, words[0] + FIRST_EXTERNAL_VECTOR, argument + 8)
    if command == EVENTOP_BIND_IPI:             # vcpu, port
        if not copy_in(cpu, argument, words, 1):
            return -ERRNO_FAULT
        return bind(d, cpu, EVENTSTATUS_IPI, 0, argument + 4) if words[0] == 0 else -ERRNO_NOENT
    if command == EVENTOP_ALLOC_UNBOUND:        # dom and remote_dom in one word, port
        if not copy_in(cpu, argument, words, 1):
            return -ERRNO_FAULT
        if words[0] != (DOMID_SELF << 16 | DOMID_SELF):
            return -ERRNO_PERM if words[0] & 0xFFFF != DOMID_SELF else -ERRNO_INVAL
        return bind(d, cpu, EVENTSTATUS_UNBOUND, 0, argument + 4)
    if command == EVENTOP_BIND_INTERDOMAIN:     # remote_dom, remote_port, local_port
        return bind_interdomain(d, cpu, argument)
    if command == EVENTOP_STATUS:               # dom, port, status, vcpu, what it is bound to
        return event_status(d, cpu, argument)
    if command == EVENTOP_BIND_VCPU:            # port, vcpu
        if not copy_in(cpu, argument, words, 2):
            return -ERRNO_FAULT
        return 0 if is_open(d, words[0]) and words[1] == 0 else -ERRNO_INVAL
    if command != EVENTOP_CLOSE and command != EVENTOP_SEND and command != EVENTOP_UNMASK:
        return -ERRNO_NOSYS
    if not copy_in(cpu, argument, words, 1):
        return -ERRNO_FAULT
    port = words[0]
    if not is_open(d, port):
        return -ERRNO_INVAL
    if command == EVENTOP_UNMASK:
        unmask_port(d, cpu, port)
    elif command == EVENTOP_SEND:
        if d.port_type[port] == EVENTSTATUS_INTERDOMAIN:
            port = d.port_source[port]
        elif d.port_type[port] != EVENTSTATUS_IPI:
            return -ERRNO_INVAL
        send_event(d, cpu, port)
    else:
        if d.port_type[port] == EVENTSTATUS_VIRQ:
            d.virq_port[d.port_source[port]] = 0
        elif d.port_type[port] == EVENTSTATUS_INTERDOMAIN:
            d.port_type[d.port_source[port]] = EVENTSTATUS_UNBOUND
        d.port_type[port] = EVENTSTATUS_CLOSED
    return 0


cdef bint is_open(Domain* d, u32 port) noexcept nogil:
    return 0 < port < EVENT_CHANNELS and d.port_type[port] != EVENTSTATUS_CLOSED


cdef i32 bind_interdomain(Domain* d, CPU* cpu, u32 argument) noexcept nogil:
    """The other end is this domain too: there is no other. What was sent before is not lost: the new port is told."""
    cdef u32 words[2]
    cdef u32 port
    cdef i32 result
    if not copy_in(cpu, argument, words, 2):
        return -ERRNO_FAULT
    if words[0] & 0xFFFF != DOMID_SELF:
        return -ERRNO_PERM
    if not is_open(d, words[1]) or d.port_type[words[1]] != EVENTSTATUS_UNBOUND:
        return -ERRNO_INVAL
    port = free_port(d)
    result = bind(d, cpu, EVENTSTATUS_INTERDOMAIN, words[1], argument + 8)
    if result == 0:
        d.port_type[words[1]] = EVENTSTATUS_INTERDOMAIN
        d.port_source[words[1]] = <u16>port
        send_event(d, cpu, port)
    return result


cdef i32 event_status(Domain* d, CPU* cpu, u32 argument) noexcept nogil:
    cdef u32 words[2]
    cdef u32 type, source
    if not copy_in(cpu, argument, words, 2):
        return -ERRNO_FAULT
    if words[0] & 0xFFFF != DOMID_SELF:
        return -ERRNO_PERM
    if words[1] >= EVENT_CHANNELS:
        return -ERRNO_INVAL
    type = d.port_type[words[1]]
    source = d.port_source[words[1]]
    if not copy_out(cpu, argument + 8, type) or not copy_out(cpu, argument + 12, 0):
        return -ERRNO_FAULT
    if type == EVENTSTATUS_UNBOUND or type == EVENTSTATUS_INTERDOMAIN:
        if not copy_out(cpu, argument + 16, DOMID_SELF):
            return -ERRNO_FAULT
        argument += 4
    elif type == EVENTSTATUS_PIRQ:
        source -= FIRST_EXTERNAL_VECTOR
    return 0 if copy_out(cpu, argument + 16, source) else -ERRNO_FAULT
