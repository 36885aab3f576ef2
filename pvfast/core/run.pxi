# The dispatcher: slices, boundaries, and running blocks until there is a reason to stop.
#
# Enters: a CPU. Leaves: CPU.exit, with counters and state exact at an instruction boundary. Next: sem_string.pxi.
#
# Design: a slice is as many instructions and cycles as may run before something has to be looked at: the budget, the
# next device event, signals. `left` holds both, packed, and every block takes its cost from it when it is entered;
# a block that would overdraw either is not entered. The last stretch to a limit runs instruction by instruction.

cdef enum:
    POLL_UNITS = 0x2000000      # signals are looked at this often (about 30 ms)
    CYCLE_LIMIT = 0x40000000    # of one slice: half of what fits beside the sign bit


cdef void end_slice(CPU* cpu) noexcept nogil:
    """Move what the slice used into the counters."""
    cdef i64 left = <i64>cpu.left
    cdef i64 left_cycles = <i32>(left & 0xFFFFFFFFu)
    cdef i64 left_units = (left - left_cycles) >> 32
    check(left_units >= 0 or cpu.slice_left == 0)
    cpu.cycles += <u64>(<i64>(cpu.slice_left & 0xFFFFFFFFu) - left_cycles)
    cpu.units += <u64>(<i64>(cpu.slice_left >> 32) - left_units)
    cpu.instructions = cpu.units - cpu.surplus
    cpu.slice_left = cpu.left = 0
    cpu.slice_end = cpu.units


cdef void begin_slice(CPU* cpu, u64 limit) noexcept nogil:
    cdef u64 units = min_u64(min_u64(cpu.budget_end, cpu.poll_end) - cpu.units, limit)
    check(units < 0x80000000u)
    cpu.slice_left = cpu.left = units << 32 | min_u64(cpu.deadline - cpu.cycles, CYCLE_LIMIT)
    cpu.slice_end = cpu.units + units


cdef inline u64 units_now(CPU* cpu) noexcept nogil:
    """Budget units since power-on, inside a slice."""
    cdef i64 left = <i64>cpu.left
    return cpu.slice_end - <u64>((left - <i32>(left & 0xFFFFFFFFu)) >> 32)


cdef bint next_slice(CPU* cpu) noexcept nogil:
    """A new slice, unless a limit has been reached: then the exit says which."""
    end_slice(cpu)
    if cpu.exit != EXIT_NONE:
        return False
    if cpu.units >= cpu.budget_end:
        cpu.exit = EXIT_BUDGET
        return False
    if cpu.units >= cpu.poll_end or cpu.cycles >= cpu.deadline:
        cpu.exit = EXIT_POLL
        return False
    begin_slice(cpu, POLL_UNITS)
    return True


cdef void enter_block(CPU* cpu, Block* block) noexcept nogil:
    cdef Uop* op = first_uop(block)
    cpu.left -= block.cost
    op.run(cpu, op, cpu.mem)
    if not TAIL_CALLS:
        while cpu.next != NULL:
            op = cpu.next
            cpu.next = NULL
            op.run(cpu, op, cpu.mem)


cdef Block* block_here(CPU* cpu, u32 mode) noexcept nogil:
    """The block at CS:EIP, or NULL after delivering the fault of fetching it."""
    cdef u32 linear = <u32>(cpu.seg[CS].base + cpu.eip)
    cdef u64 physical
    if cpu.eip > cpu.seg[CS].limit or rare(refused_virtual_interrupt(cpu)):
        note_fault(cpu, VECTOR_GP, 0)
    elif translate_fetch(cpu, linear, cpu.cpl == 3, &physical):
        return find_block(cpu, physical, linear, mode)
    cpu.open_link = NULL
    cpu.open_cross = NULL
    deliver_fault(cpu)
    return NULL


cdef void fill_link(CPU* cpu, Block* block) noexcept nogil:
    """Remember the block where the way to it was asked for."""
    cdef JumpCacheEntry* entry
    if cpu.open_link != NULL:
        if cpu.open_link_taken:
            cpu.open_link.taken = first_uop(block)
        else:
            cpu.open_link.fall = first_uop(block)
        cpu.open_link = NULL
    elif cpu.open_cross != NULL:
        cpu.open_cross.target = first_uop(block)
        cpu.open_cross.generation = cpu.generation
        cpu.open_cross = NULL
    else:
        entry = &cpu.jump_cache[jump_slot(block.eip)]
        entry.eip = block.eip
        entry.mode = cpu.mode
        entry.generation = cpu.generation
        entry.target = first_uop(block)


cdef void run_one(CPU* cpu) noexcept nogil:
    """One instruction, or one iteration of a REP, in a slice of its own. The slice is over behind it.

    Debug traps of TF and of breakpoints, for which every instruction comes here, follow at once (SDM 3:17.3.1).
    """
    cdef Block* block
    cdef bint stepping = (cpu.eflags & TF) != 0
    cdef bint debugging = stepping or cpu.watching
    cdef u64 before
    end_slice(cpu)
    begin_slice(cpu, 1)
    before = units_now(cpu)
    forget_links(cpu)
    if cpu.watching and cpu.replays == 0 and at_breakpoint(cpu):
        note_fault(cpu, VECTOR_DB, 0)
        deliver_fault(cpu)
        return
    if stepping:
        cpu.debug_traps |= DR6_BS
    block = block_here(cpu, cpu.mode | MODE_SINGLE)
    if block != NULL:
        enter_block(cpu, block)
        forget_links(cpu)
    if rare(cpu.predictor.pending):
        settle_branch(cpu)
    if cpu.exit != EXIT_IO:
        cpu.replays = 0
    cpu.replayed = 0
    if cpu.singles:
        cpu.singles -= 1
    if units_now(cpu) == before:
        cpu.debug_traps &= ~<u32>DR6_BS     # nothing has retired
    elif debugging and trap_due(cpu) and cpu.exit == EXIT_NONE:
        deliver_trap(cpu)


cdef inline bint trap_due(CPU* cpu) noexcept nogil:
    return cpu.debug_traps != 0 and units_now(cpu) != cpu.stack_shadow_unit


cdef bint attend(CPU* cpu) noexcept nogil:
    """Debug traps, interrupts, HLT and single steps at a boundary. True: a new slice is due."""
    note_resume(cpu)
    if cpu.debug_traps and (cpu.delivering or (cpu.replays == 0 and trap_due(cpu))):
        deliver_trap(cpu)
        if not cpu.delivering:
            cpu.replays = 0
            cpu.replayed = 0
            cpu.left -= packed_cost(1, 0)       # as a fault: a guest that only traps must not run for ever
            cpu.surplus += 1
        return True
    if cpu.delivering or (cpu.replays == 0 and cpu.irq and cpu.eflags & EFLAGS_IF
                          and units_now(cpu) != cpu.shadow_unit):
        cpu.delivering = not deliver_external(cpu, cpu.irq_vector) and cpu.exit == EXIT_IO
        if not cpu.delivering:
            cpu.replays = 0
            cpu.replayed = 0
            cpu.irq = False
            cpu.halted = False
            cpu.interrupts += 1
            cpu.left -= packed_cost(1, 0)       # a device may interrupt faster than a handler can begin
            cpu.surplus += 1
        return True             # the handler's first instruction may be the one to stop before
    if cpu.replays == 0:
        if cpu.halted:
            end_slice(cpu)
            if cpu.eflags & EFLAGS_IF and cpu.deadline != NEVER:
                cpu.cycles = cpu.deadline       # nothing happens until the next device event
                cpu.units += 1                  # waiting uses up budget too
                cpu.surplus += 1
                cpu.slice_end = cpu.units
                cpu.exit = EXIT_POLL
            else:
                cpu.exit = EXIT_HALT
            return True
    if (cpu.replays or cpu.singles or cpu.eflags & TF or cpu.watching or cpu.debug_traps
            or (cpu.irq and cpu.eflags & EFLAGS_IF)):
        run_one(cpu)
        return True
    return False


cdef inline void forget_links(CPU* cpu) noexcept nogil:
    cpu.open_link = NULL
    cpu.open_cross = NULL


cdef void run_cpu(CPU* cpu) noexcept nogil:
    """Run until CPU.exit says why not further."""
    cdef Block* block
    cdef u64 flushes
    cdef u32 host_x87 = x87_enter()
    cpu.next = NULL
    cpu.replayed = 0
    cpu.left = cpu.slice_left = 0
    cpu.slice_end = cpu.units
    cpu.poll_end = cpu.units + POLL_UNITS
    forget_links(cpu)
    while cpu.exit == EXIT_NONE:
        if rare(cpu.predictor.pending):
            settle_branch(cpu)
        if cpu.until_set and not cpu.replays and <u32>(cpu.seg[CS].base + cpu.eip) == cpu.until:
            cpu.exit = EXIT_UNTIL
            break
        if <i64>cpu.left <= <i64>0xFFFFFFFFu or <i32>cpu.left <= 0:
            if not next_slice(cpu):
                break
        if (cpu.halted or cpu.irq or cpu.singles or cpu.replays or cpu.eflags & (TF | RF) or cpu.watching
                or cpu.debug_traps):
            if attend(cpu):
                end_slice(cpu)
                continue
        flushes = cpu.flushes
        block = block_here(cpu, cpu.mode)
        if block == NULL:
            continue
        if (cpu.left - block.cost) & OVERDRAWN:
            run_one(cpu)
            end_slice(cpu)
            continue
        if flushes == cpu.flushes and not block.stale:
            fill_link(cpu, block)
        forget_links(cpu)
        cpu.restartable = True
        enter_block(cpu, block)
        cpu.restartable = False
    if cpu.predictor.pending:
        settle_branch(cpu)
    end_slice(cpu)
    leave_mxcsr(cpu)
    x87_leave(host_x87)
