# Debug exceptions (SDM 3:17) and alignment checks (SDM 3:6.15, interrupt 17).
#
# Enters: DR0-DR7, EFLAGS.TF, RF and AC, the accesses of instructions. Leaves: #DB at the right boundary, DR6, #AC.
# Next: interrupts.pxi. The boundary itself is in run.pxi.
#
# Design: nothing of this costs anything while it is not in use. A breakpoint enabled in DR7 (CPU.watching) has the
# dispatcher run one instruction at a time, as TF does; then, and while alignment is checked, MODE_CHECKED has every
# operand accessed through segment_check(), which asks checked_access().
# Traps are collected as bits of DR6 in CPU.debug_traps and taken at the next boundary, before external interrupts.
# A fault or an event in between discards them, as do INT n and its like.
# EFLAGS.RF is no bit for long: it lasts until the next instruction retires, so it is the number of the boundary at
# which it is set (CPU.resume_unit). The B0-B3 of breakpoints that are not enabled stay as they are.

cdef enum:
    ON_EXECUTION = 0            # R/Wn (SDM 3:17.2.4)
    ON_WRITE = 1
    ON_PORT = 2
    ON_ACCESS = 3

cdef u32[4] WATCHED_BYTES = [1, 2, 8, 4]        # LENn


cdef void breakpoints_changed(CPU* cpu) noexcept nogil:
    """DR7 has been written."""
    cpu.watching = (cpu.dr[7] & DR7_ENABLES) != 0
    update_mode(cpu)


cdef void disable_local_breakpoints(CPU* cpu) noexcept nogil:
    """What a task switch does to DR7 (SDM 3:17.2.4). The caller updates the mode."""
    cpu.dr[7] &= ~<u32>DR7_LOCAL
    cpu.watching = (cpu.dr[7] & DR7_ENABLES) != 0


# --- Matching (SDM 3:17.2.5) -----------------------------------------------------------------------------------------

cdef u32 matches(CPU* cpu, u32 address, u32 size, u32 kinds) noexcept nogil:
    """B0-B3 of the enabled breakpoints that an access hits; bit n of `kinds`: those with R/W = n are asked."""
    cdef u32 hits = 0
    cdef u32 n, control, length, start
    for n in range(4):
        control = cpu.dr[7] >> (16 + 4 * n)
        length = WATCHED_BYTES[(control >> 2) & 3]
        start = cpu.dr[n] & ~(length - 1)
        if (cpu.dr[7] >> (2 * n)) & 3 and (kinds >> (control & 3)) & 1 \
                and (<u32>(address - start) < length or <u32>(start - address) < size):
            hits |= <u32>1 << n
    return hits


cdef bint at_breakpoint(CPU* cpu) noexcept nogil:
    """An instruction breakpoint at the next instruction, which RF and the load of SS before it hold off
    (SDM 3:17.3.1.1)."""
    cdef u32 hits
    if resuming(cpu) or units_now(cpu) == cpu.stack_shadow_unit:
        return False
    hits = matches(cpu, <u32>cpu.seg[CS].base + cpu.eip, 1, 1 << ON_EXECUTION)
    cpu.dr[6] |= hits
    return hits != 0


cdef u32 alignment_of(u32 size) noexcept nogil:
    """SDM 3:6.15, table 6-7, by size: pseudo-descriptors 4, extended precision 8, x87 environments 4 or 2. Operands of
    16 bytes and the image of FXSAVE, multiples of 16 all, have rules of their own."""
    if size == 6:
        return 4
    if size == 10:
        return 8
    return 1 if size & 15 == 0 else size & (~size + 1)


cdef bint checked_access(CPU* cpu, Segment* s, u32 which, u32 linear, u32 size, bint write) noexcept nogil:
    """An operand of an instruction in MODE_CHECKED. Stacks of inner privilege levels are exempt from alignment."""
    if cpu.cr0 & CR0_AM and cpu.eflags & AC and cpu.cpl == 3 and linear & (alignment_of(size) - 1) \
            and (which != SS or dpl_of(s.attributes) == 3):
        return refuse(cpu, VECTOR_AC, 0)
    if cpu.watching:
        cpu.debug_traps |= matches(cpu, linear, size, 1 << ON_ACCESS | (1 << ON_WRITE if write else 0))
    return True


cdef void watch_port(CPU* cpu, u32 port, u32 size) noexcept nogil:
    """I/O breakpoints exist when CR4.DE is set."""
    if cpu.watching and cpu.cr4 & CR4_DE:
        cpu.debug_traps |= matches(cpu, port, size, 1 << ON_PORT)


# --- RF (SDM 3:17.3.1.1) ---------------------------------------------------------------------------------------------

cdef bint resuming(CPU* cpu) noexcept nogil:
    """EFLAGS.RF, at a boundary."""
    return units_now(cpu) == cpu.resume_unit


cdef void note_resume(CPU* cpu) noexcept nogil:
    """IRET and task switches load RF into EFLAGS; the dispatcher makes it the boundary at which it holds."""
    if cpu.eflags & RF:
        cpu.eflags &= ~<u32>RF
        cpu.resume_unit = units_now(cpu)


# --- Delivery --------------------------------------------------------------------------------------------------------

cdef void deliver_trap(CPU* cpu) noexcept nogil:
    """#DB for what has been collected; again later when its frame lies on a device."""
    cdef u32 traps = cpu.debug_traps
    cpu.dr[6] |= traps
    cpu.debug_traps = 0         # a hypervisor may deal with it, and nothing else would clear them
    deliver(cpu, VECTOR_DB, 0, False, False)
    cpu.delivering = cpu.exit == EXIT_IO
    if cpu.delivering:
        cpu.debug_traps = traps


cdef void general_detect(CPU* cpu, Uop* op) noexcept nogil:
    """MOV DR with DR7.GD set: a fault, whose image of EFLAGS has RF set unlike that of a breakpoint."""
    leave_before(cpu, op)
    cpu.dr[6] |= DR6_BD
    note_fault(cpu, VECTOR_DB, 0)
    cpu.resume_unit = units_now(cpu) + 1        # where deliver_fault() gets to
    deliver_fault(cpu)
