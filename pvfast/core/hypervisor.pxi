# Hypervisors plug in here: the base type, the detour through Python, and world switches.
#
# Enters: events (interrupts.pxi offers each one before it looks at the IDT). Leaves: the guest elsewhere, or the event
# for the IDT after all. Next: x87_registers.pxi. paravirt/hypervisors/xen_host.pyx is an extension type that uses all
# of it.
#
# Design: the hook is a C function with a pointer to C state, not a method, because a method call on an object needs
# the GIL. A hypervisor in Python gets the same events by an exit each.

cdef class HypervisorBase:
    """What a hypervisor is to the core.

    A Python subclass overrides `interrupt`. An extension type sets `hook` and `state` instead (engine.pxd) and is
    served without leaving the core. Both are devices too: `next_event`, `fire`, `save` and `restore` are called as for
    any device.
    """

    def attach(self, machine):
        """Called once by `Machine(hypervisor=...)`, before the guest runs."""
        machine._plug(self)

    def interrupt(self, machine, vector, error, software):
        """An interrupt or exception is about to be delivered.

        Parameters
        ----------
        machine : pvfast.Machine
            Stopped; EIP is what a handler would return to.
        vector : int
        error : int or None
            The error code, where the vector has one.
        software : bool
            INT n, whose instruction has retired; otherwise an exception or an external interrupt.

        Returns
        -------
        bool
            Whether this was all. False: it goes through the guest's IDT as on bare hardware.
        """
        return False

    def next_event(self):
        """Modelled cycles of the next thing to do, or None."""
        return None

    def fire(self, machine):
        """`next_event` has come."""

    def save(self):
        """State for a snapshot."""
        return None

    def restore(self, state):
        """Go back to what `save` returned."""


cdef InterruptHook hook_of(HypervisorBase hypervisor):
    if hypervisor.hook != NULL:
        return hypervisor.hook
    if type(hypervisor).interrupt is HypervisorBase.interrupt:
        return NULL
    return exit_with_event


cdef bint exit_with_event(void* state, CPU* cpu, u32 vector, u32 error, bint has_error, u32 kind) noexcept nogil:
    """The hook of a hypervisor in Python: first an exit, then offer_to_python()."""
    cpu.event.vector = vector
    cpu.event.error = error
    cpu.event.has_error = has_error
    cpu.event.kind = kind
    cpu.exit = EXIT_HYPERVISOR
    return True


cdef offer_to_python(machine, CPU* cpu, hypervisor):
    """Serve EXIT_HYPERVISOR. An event that is declined goes through the IDT, and what that raises is offered too."""
    cdef Event event
    while True:
        event = cpu.event
        cpu.exit = EXIT_NONE
        if hypervisor.interrupt(machine, event.vector, event.error if event.has_error else None,
                                event.kind == EVENT_SOFTWARE):
            return
        if event.kind == EVENT_SOFTWARE:
            cpu.units -= 1
            cpu.instructions -= 1
            cpu.cycles -= event.cycles
            cpu.interrupts -= 1
            cpu.eip = event.eip
            cpu.event.declined = True       # the instruction runs again
            return
        deliver_by_idt(cpu, event.vector, event.error, event.has_error, event.kind)
        if cpu.exit == EXIT_SHUTDOWN:
            cpu.shutdown = True
        if cpu.exit == EXIT_IO:
            raise PvfastError(f"the stack at {cpu.gpr[ESP].d:#x} belongs to a device: interrupt {event.vector} cannot "
                              "be delivered after a hypervisor in Python has declined it")
        if cpu.exit != EXIT_HYPERVISOR:
            return


# --- World switches, for hypervisors that play ring 0 themselves -----------------------------------------------------

cdef void charge_trap(CPU* cpu) noexcept nogil:
    """What an exception or an external interrupt that goes to ring 0, and the way back from there, cost."""
    charge_event(cpu, cpu.cost[COST_EXCEPTION] + cpu.cost[COST_RING_IN] + cpu.cost[COST_IRET]
                 + cpu.cost[COST_RING_OUT])


cdef void charge_hypercall(CPU* cpu) noexcept nogil:
    """The same for INT n, which has been charged by its own class, and the entry code of a hypervisor."""
    charge_event(cpu, cpu.cost[COST_RING_IN] + cpu.cost[COST_HYPERCALL] + cpu.cost[COST_IRET]
                 + cpu.cost[COST_RING_OUT])


cdef bint interrupt_guest(CPU* cpu, u32 selector, u32 eip, u32 stack_selector, u32 stack_esp, u32* frame,
                          u32 count) noexcept nogil:
    """Enter the guest's handler at selector:eip, at the privilege of the selector's RPL; all or nothing.

    The frame, first item highest, goes on the current stack, or on stack_selector:stack_esp when privilege changes.
    """
    cdef Descriptor code, data
    cdef Segment stack
    cdef u32 cpl = selector & SELECTOR_RPL
    cdef u32 esp = stack_esp
    cdef bint inner = cpl < cpu.cpl
    if not fetch_descriptor(cpu, selector, &code):
        return False
    if (not is_code(code.attributes) or cpl > cpu.cpl or dpl_of(code.attributes) > cpl
            or (dpl_of(code.attributes) != cpl and not code.attributes & SEG_CONFORMING)):
        return refuse(cpu, VECTOR_GP, selector & SELECTOR_INDEX)
    if not code.attributes & SEG_P:
        return refuse(cpu, VECTOR_NP, selector & SELECTOR_INDEX)
    if inner:
        if not check_stack_segment(cpu, stack_selector, cpl, VECTOR_TS, &data):
            return False
        fill_segment(&stack, stack_selector, &data)
    else:
        stack = cpu.seg[SS]
        esp = cpu.gpr[ESP].d
    if not check_offset(cpu, &code, eip) or not mark_accessed(cpu, &code):
        return False
    if not push_frame(cpu, &stack, &esp, frame, count, 4, cpl == 3, 0):
        return False
    if inner:
        set_stack(cpu, &stack, esp)
    else:
        cpu.gpr[ESP].q = esp
    set_code(cpu, selector, &code, cpl)
    cpu.eflags &= ~<u32>(TF | NT | RF | VM)
    cpu.eip = eip
    cpu.halted = False
    cpu.shadow_unit = <u64>-1
    return True


cdef bint return_to_guest(CPU* cpu, u32 selector, u32 eip, u32 stack_selector, u32 esp) noexcept nogil:
    """What IRET would do with selector:eip and, when its RPL is not the CPL, stack_selector; EFLAGS is the caller's."""
    cdef Descriptor code, data
    cdef Segment stack
    cdef u32 cpl = selector & SELECTOR_RPL
    cdef bint outer = cpl != cpu.cpl
    if not check_return_code(cpu, selector, &code):
        return False
    if outer:
        if not check_stack_segment(cpu, stack_selector, cpl, VECTOR_GP, &data):
            return False
        fill_segment(&stack, stack_selector, &data)
    if not check_offset(cpu, &code, eip):
        return False
    if outer:
        set_stack(cpu, &stack, esp)
    else:
        set_sp(cpu, esp)
    set_code(cpu, selector, &code, cpl)
    if outer:
        drop_inner_segments(cpu)
    cpu.eip = eip
    return True


cdef void shut_down(CPU* cpu, u32 vector, u32 error) noexcept nogil:
    """Stop the machine for good: StopReason.SHUTDOWN with this vector and error."""
    cpu.exit = EXIT_SHUTDOWN
    cpu.shutdown_vector = vector
    cpu.shutdown_error = error
    cpu.shutdown_eip = cpu.eip
    cpu.shutdown_cs = cpu.seg[CS].selector


# --- Time -----------------------------------------------------------------------------------------------------------

cdef u64 cycles_now(CPU* cpu) noexcept nogil:
    """Modelled cycles since power-on, at an instruction boundary: what a hook sees."""
    return cpu.cycles + <u64>(<i64><i32><u32>cpu.slice_left - <i64><i32><u32>cpu.left)


cdef void wake_at(CPU* cpu, u64 cycles) noexcept nogil:
    """Have next_event() and fire() called then; in a hook, where the slice can be ended."""
    cpu.deadline = min_u64(cpu.deadline, cycles)
    end_slice(cpu)
