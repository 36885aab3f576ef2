# Events: interrupts and exceptions become the guest's, through its IDT; instructions that trap are carried out.
#
# Enters: the hook's events. Leaves: the guest in a handler of its own, with a frame on its ring-1 stack, or behind an
# emulated instruction, or at its end. Next: vmi_calls.pxi.
#
# Real EFLAGS.IF is always set in the guest: the hypervisor takes every interrupt, and keeps it while the word SHARED_IF
# is 0. What the guest finds as IF in a frame is that word.

cdef bint enter_gate(Guest* g, CPU* cpu, u32 vector, u32 error, bint has_error) noexcept nogil:
    """Enter the guest's handler; all or nothing."""
    cdef u64 gate = g.idt[vector]
    cdef u32 frame[6]
    cdef u32 count
    cdef u32 flags = get_eflags(cpu) & ~<u32>(EFLAGS_IF | IOPL) | g.iopl << IOPL_SHIFT
    if gate == 0:
        return False
    if interrupts_enabled(cpu):
        flags |= EFLAGS_IF
    count = make_frame(cpu, frame, flags, cpu.seg[CS].selector, error, has_error)
    if not interrupt_guest(cpu, <u32>gate >> 16, gate_offset(gate), g.kernel_ss, g.kernel_esp, frame, count):
        return False
    if <u32>(gate >> 32) & GATE_KIND == GATE_INTERRUPT:
        enable_interrupts(cpu, False)
    return True


cdef void deliver(Guest* g, CPU* cpu, u32 vector, u32 error, bint has_error) noexcept nogil:
    """An event that cannot be delivered is the guest's end."""
    if not enter_gate(g, cpu, vector, error, has_error):
        end(g, cpu, ENDED_CRASH, vector, error)


cdef void refuse_call(Guest* g, CPU* cpu) noexcept nogil:
    """A call with arguments that make no sense: #GP at the instruction that trapped."""
    cpu.eip -= TRAP_BYTES
    deliver(g, cpu, VECTOR_GP, 0, True)


# --- External interrupts ---------------------------------------------------------------------------------------------

cdef u32 first_pending(Guest* g) noexcept nogil:
    """The lowest vector first, as lines of the interrupt controller; VECTORS: none."""
    cdef u32 i
    for i in range(PENDING_WORDS):
        if g.pending[i]:
            return 32 * i + lowest_bit(g.pending[i])
    return VECTORS


cdef void deliver_pending(Guest* g, CPU* cpu) noexcept nogil:
    """On the way back to the guest: what waits, when its interrupts are enabled."""
    cdef u32 vector = first_pending(g)
    if vector == VECTORS or cpu.exit != EXIT_NONE or not interrupts_enabled(cpu):
        return
    g.pending[vector // 32] &= ~(<u32>1 << (vector & 31))
    shared_write(cpu, SHARED_PENDING, first_pending(g) != VECTORS)
    g.interrupts += 1
    deliver(g, cpu, vector, 0, False)


cdef void hardware_interrupt(Guest* g, CPU* cpu, u32 vector) noexcept nogil:
    charge_trap(cpu)
    g.pending[vector // 32] |= <u32>1 << (vector & 31)
    shared_write(cpu, SHARED_PENDING, 1)
    deliver_pending(g, cpu)


# --- Exceptions and software interrupts ------------------------------------------------------------------------------

cdef bint software_interrupt(Guest* g, CPU* cpu, u32 vector) noexcept nogil:
    """INT n for the guest itself. False: not allowed; the processor makes #GP(vector * 8 + 2) of it, for its own IDT
    is empty. A trap gate for ring 3 can stand in the real IDT as it is: the processor's own change of the ring."""
    cdef u32 high = <u32>(g.idt[vector] >> 32)
    cdef u32 dpl = high >> 13 & 3
    if g.idt[vector] == 0 or (cpu.cpl == 3 and dpl < 3):
        return False
    if dpl < 3 or high & GATE_KIND != GATE_TRAP:
        charge_trap(cpu)
    elif cpu.cpl == 3:
        charge_event(cpu, cpu.cost[COST_RING_IN])
    deliver(g, cpu, vector, 0, False)
    return True


cdef void exception(Guest* g, CPU* cpu, u32 vector, u32 error, bint has_error) noexcept nogil:
    """An exception in the guest: the hypervisor's business first, then the guest's."""
    if vector == VECTOR_GP and error == 0:
        if cpu.cpl == KERNEL_RING and emulate_privileged(g, cpu) or cpu.cpl == 3 and emulate_user(g, cpu):
            if cpu.exit != EXIT_NONE:       # the host performs a device's access, then it traps again
                return
            if cpu.eflags & TF:
                cpu.debug_traps |= DR6_BS
            charge_trap(cpu)
            deliver_pending(g, cpu)
            return
        if cpu.exit == EXIT_IO:
            cpu.exit = EXIT_NONE            # the look at the instruction met a device
    charge_trap(cpu)
    if vector == VECTOR_PF:
        shared_write(cpu, SHARED_CR2, cpu.cr2)
    deliver(g, cpu, vector, error, has_error)


# --- Instructions that trap in ring 1 --------------------------------------------------------------------------------

cdef bint emulate_privileged(Guest* g, CPU* cpu) noexcept nogil:
    """What VMI has no call for, or what the kernel does without calling. False: the guest gets its #GP."""
    cdef u32 first, second, modrm, prefixes
    if not fetch_opcode(cpu, &first, &prefixes):
        return False
    if is_port_access(first):
        return emulate_port(cpu, first, prefixes)
    if prefixes:
        return False
    if first == 0xFA or first == 0xFB:
        enable_interrupts(cpu, first == 0xFB)
        cpu.eip += 1
        return True
    if first == 0xF4:
        cpu.eip += 1
        cpu.halted = True
        return True
    if first != 0x0F or not fetch_code(cpu, 1, &second):
        return False
    if second == 0x06:                  # CLTS
        cpu.cr0 &= ~<u32>CR0_TS
        shared_write(cpu, SHARED_CR0, cpu.cr0)
    elif second == 0x30:
        if not write_msr(g, cpu):
            return False
    elif second == 0x32:
        if not read_msr(g, cpu):
            return False
    elif second != 0x09:                # WBINVD
        if not 0x20 <= second <= 0x23 or not fetch_code(cpu, 2, &modrm):
            return False
        if not emulate_move(g, cpu, second, modrm >> 3 & 7, modrm & 7):
            return False
        cpu.eip += 1
    cpu.eip += 2
    return True


cdef bint emulate_port(CPU* cpu, u32 opcode, u32 prefixes) noexcept nogil:
    """The machine's devices are the guest's. The first time this asks the host for the access; then the instruction
    traps again, and the host's answer is there."""
    cdef u32 size = port_access_bytes(opcode, prefixes)
    cdef u32 kind = IO_PORT_WRITE if opcode & 2 else IO_PORT_READ
    cdef u32 port = cpu.gpr[EDX].w
    if not opcode & 8 and not fetch_code(cpu, 1 + prefixes, &port):
        return False
    if not (cpu.replays and cpu.replay[0].kind == kind and cpu.replay[0].address == port
            and cpu.replay[0].size == size):
        cpu.replays = 0
        cpu.io.kind = kind
        cpu.io.address = port
        cpu.io.size = size
        cpu.io.value = cpu.gpr[EAX].d & (0xFFFFFFFFu >> (32 - 8 * size))
        cpu.exit = EXIT_IO
        return True
    finish_port_access(cpu, opcode, prefixes, <u32>cpu.replay[0].value)
    cpu.replays = 0
    return True


cdef bint read_msr(Guest* g, CPU* cpu) noexcept nogil:
    cdef u32 number = cpu.gpr[ECX].d
    if number == MSR_TSC:
        set_wide(cpu, cycles_now(cpu) + cpu.tsc_offset)
    elif number - MSR_SYSENTER_CS < 3:
        set_wide(cpu, g.sysenter[number - MSR_SYSENTER_CS])
    else:
        return False
    return True


cdef bint write_msr(Guest* g, CPU* cpu) noexcept nogil:
    """The time-stamp counter stays as it is."""
    cdef u32 number = cpu.gpr[ECX].d
    if number == MSR_TSC:
        return True
    if number - MSR_SYSENTER_CS >= 3:
        return False
    g.sysenter[number - MSR_SYSENTER_CS] = cpu.gpr[EAX].d
    if number == MSR_SYSENTER_CS:
        shared_write(cpu, SHARED_SYSEXIT_CS, ((g.sysenter[0] & 0xFFFC) + 16) & 0xFFFF | 3)
        shared_write(cpu, SHARED_SYSEXIT_SS, ((g.sysenter[0] & 0xFFFC) + 24) & 0xFFFF | 3)
    return True


cdef bint emulate_user(Guest* g, CPU* cpu) noexcept nogil:
    """In ring 3: ports, where the guest allows them, and SYSENTER, whose real MSR is 0."""
    cdef u32 first, second, prefixes
    if not fetch_opcode(cpu, &first, &prefixes):
        return False
    if is_port_access(first):
        return g.iopl == 3 and emulate_port(cpu, first, prefixes)
    return first == 0x0F and not prefixes and fetch_code(cpu, 1, &second) and second == 0x34 and system_enter(g, cpu)


cdef bint system_enter(Guest* g, CPU* cpu) noexcept nogil:
    """Into the guest's ring 1."""
    cdef u32 selector = g.sysenter[0] & 0xFFFC
    if selector == 0 or not interrupt_guest(cpu, selector | KERNEL_RING, g.sysenter[2],
                                            (selector + 8) & 0xFFFF | KERNEL_RING, g.sysenter[1], NULL, 0):
        return False
    enable_interrupts(cpu, False)
    return True


cdef bint emulate_move(Guest* g, CPU* cpu, u32 opcode, u32 number, u32 register) noexcept nogil:
    """MOV between a general register and a control (20, 22) or debug register (21, 23)."""
    cdef Register* general = &cpu.gpr[register]
    if opcode == 0x21:
        if number == 4 or number == 5:
            return False
        general.q = cpu.dr[number]
        return True
    if opcode == 0x23:
        return set_debugreg(cpu, number, general.d)
    if number == 1 or number > 4:
        return False
    if opcode == 0x22:
        return set_control_register(g, cpu, number, general.d)
    general.q = shared_read(cpu, SHARED_CR0 + 4 * (number - 1 if number else 0))
    return True
