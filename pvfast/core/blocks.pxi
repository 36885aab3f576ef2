# The block cache: finding, installing and staling blocks, and leaving one in its middle.
#
# Enters: addresses to run, and writes to code. Leaves: blocks ready to run. Next: decoder.pxi.
#
# Design: patch coherence by construction. Every store looks at the mark of its 64-byte line. A marked line takes the
# store through code_written(), which makes every block whose bytes were hit *stale*: its first uop's handler is
# replaced, so links and inline caches that lead to it need no unlinking, and it is decoded again, in place when it
# fits, when next entered. A block that hits itself is left behind the storing instruction.

cdef inline u32 line_list(u32 address) noexcept nogil:
    return (address >> LINE_SHIFT) & (LINE_LISTS - 1)


cdef inline u32 hash_of(u64 physical, u32 linear, u32 mode) noexcept nogil:
    cdef u32 h = (<u32>physical ^ (linear >> 12) * 0x9E3779B1u ^ mode * 0x85EBCA6Bu)
    return (h ^ (h >> 15)) & (HASH_ENTRIES - 1)


cdef inline Uop* first_uop(Block* block) noexcept nogil:
    return <Uop*>(block + 1)


cdef inline Block* block_of(Uop* op) noexcept nogil:
    check(op.position < MAX_BLOCK_UOPS + 4)
    return <Block*>(op - op.position) - 1


# --- Marks -----------------------------------------------------------------------------------------------------------

cdef void mark_lines(CPU* cpu, u32 physical, u32 length, i32 step) noexcept nogil:
    """Count a block in or out of the marks of its lines. A count that reached 255 stays: always the slow way."""
    cdef u8* marks = <u8*>cpu.ram - LINE_MAP_BYTES
    cdef u64 start = physical - MAX_STORE_BYTES + 1 if physical >= MAX_STORE_BYTES else 0
    cdef u64 line = start >> LINE_SHIFT
    cdef u64 last = (<u64>physical + length - 1) >> LINE_SHIFT
    while line <= last and line < LINE_MAP_BYTES:
        if marks[line] != 255:
            marks[line] += step
        line += 1


cdef bint unlink_from(Block** head, Block* block, bint by_linear) noexcept nogil:
    cdef Block* other
    while head[0] != NULL:
        other = head[0]
        if other == block:
            head[0] = other.linear_next if by_linear else other.line_next
            return True
        head = &other.linear_next if by_linear else &other.line_next
    return False


cdef void make_stale(CPU* cpu, Block* block) noexcept nogil:
    """From now on, entering the block leads to the dispatcher, which decodes it anew."""
    if block.stale:
        return
    block.stale = True
    unlink_from(&cpu.lines[line_list(block.physical)], block, False)
    unlink_from(&cpu.linears[line_list(block.linear)], block, True)
    mark_lines(cpu, block.physical, block.length, -1)
    first_uop(block).run = stale_block


cdef void code_written(CPU* cpu, u32 physical, u32 size) noexcept nogil:
    """Bytes changed, by whoever: the blocks that cover them become stale. `size` may be large."""
    cdef u8* marks = <u8*>cpu.ram - LINE_MAP_BYTES
    cdef u64 end = <u64>physical + size
    cdef u64 line = physical >> LINE_SHIFT
    cdef u64 last = (end - 1) >> LINE_SHIFT
    cdef u64 start, from_line
    cdef Block* block
    cdef Block* after
    while line <= last:
        if marks[line] == 0:
            line += 1
            continue
        # Blocks that reach this line start in it or in the MAX_BLOCK_LINES before it.
        from_line = line - MAX_BLOCK_LINES if line >= MAX_BLOCK_LINES else 0
        start = from_line
        while start <= line:
            block = cpu.lines[start & (LINE_LISTS - 1)]
            while block != NULL:
                after = block.line_next
                if block.physical < end and <u64>block.physical + block.length > physical:
                    make_stale(cpu, block)
                block = after
            start += 1
        line += 1


cdef void stale_linear(CPU* cpu, u32 linear) noexcept nogil:
    """Make blocks stale that cover a linear address: `until` has to begin a block."""
    cdef u32 back
    cdef Block* block
    cdef Block* after
    for back in range(MAX_BLOCK_LINES + 1):
        block = cpu.linears[line_list(linear - (back << LINE_SHIFT))]
        while block != NULL:
            after = block.linear_next
            if linear - block.linear < block.length:
                make_stale(cpu, block)
            block = after


cdef void flush_blocks(CPU* cpu) noexcept nogil:
    """Forget every block (the arena is full, or decoding assumptions of all of them changed)."""
    cdef u32 i
    cdef Block* block
    if cpu.arena_used == 0:
        return
    for i in range(LINE_LISTS):
        block = cpu.lines[i]
        while block != NULL:
            mark_lines(cpu, block.physical, block.length, -1)
            block = block.line_next
        cpu.lines[i] = NULL
        cpu.linears[i] = NULL
    memset(cpu.hash, 0, sizeof(cpu.hash))
    memset(cpu.jump_cache, 0, sizeof(cpu.jump_cache))
    cpu.arena_used = 0
    cpu.open_link = NULL
    cpu.open_cross = NULL
    cpu.flushes += 1


# --- Looking up ------------------------------------------------------------------------------------------------------

cdef Block* find_block(CPU* cpu, u64 physical, u32 linear, u32 mode) noexcept nogil:
    """The block for the code at an address, decoded now unless it is cached and fresh."""
    cdef Block** head = &cpu.hash[hash_of(physical, linear, mode)]
    cdef Block* block = head[0]
    while block != NULL:
        if block.physical == physical and block.linear == linear and block.mode == mode \
                and block.eip == cpu.eip and block.code_limit == cpu.seg[CS].limit:
            if not block.stale:
                return block
            break
        block = block.hash_next
    return install_block(cpu, block, physical, linear, mode)


cdef Block* install_block(CPU* cpu, Block* old, u64 physical, u32 linear, u32 mode) noexcept nogil:
    """Decode, into the old block's place when it fits there, else into the arena."""
    cdef Block* block
    cdef Block** head
    cdef u32 slots
    cdef Scratch scratch
    slots = decode_block(cpu, &scratch, physical, linear, mode)
    if scratch.header.stale and old != NULL and first_uop(old).run == stale_block:
        old = NULL      # for this entry only, where old links lead to: they go on to the dispatcher
    if old != NULL and slots <= old.slots:
        block = old
        slots = old.slots
        if <u64>(<char*>cpu.open_link - <char*>block) < sizeof(Block) + slots * sizeof(Uop):
            cpu.open_link = NULL        # the link to fill is one of the block that goes
        if <u64>(<char*>cpu.open_cross - <char*>block) < sizeof(Block) + slots * sizeof(Uop):
            cpu.open_cross = NULL
    else:
        if cpu.arena_used + sizeof(Block) + slots * sizeof(Uop) > UOP_ARENA_BYTES:
            flush_blocks(cpu)
            old = NULL
        block = <Block*>(cpu.arena + cpu.arena_used)
        cpu.arena_used += sizeof(Block) + slots * sizeof(Uop)
        head = &cpu.hash[hash_of(physical, linear, mode)]
        if old != NULL:
            # Old links still lead to the block that is too small: it forwards to the new one.
            while head[0] != old:
                head = &head[0].hash_next
            block.hash_next = old.hash_next
            old.hash_next = block
            first_uop(old).run = forward_block
        else:
            block.hash_next = head[0]
        head[0] = block
    scratch.header.hash_next = block.hash_next
    scratch.header.slots = <u8>slots
    memcpy(first_uop(block), scratch.uops, scratch.used * sizeof(Uop))
    memcpy(block, &scratch.header, sizeof(Block))       # last: its fields were written last, and stall a wide load
    connect_stubs(first_uop(block) + scratch.header.uops - 1)
    if not block.stale:
        block.line_next = cpu.lines[line_list(physical)]
        cpu.lines[line_list(physical)] = block
        block.linear_next = cpu.linears[line_list(linear)]
        cpu.linears[line_list(linear)] = block
        mark_lines(cpu, physical, block.length, 1)
    return block


cdef void connect_stubs(Uop* terminator) noexcept nogil:
    """Point a terminator's links at the stubs behind it; an unlinked inline cache at nothing."""
    cdef Link* link = <Link*>(terminator + 1)
    link.taken = terminator + 2
    link.fall = terminator + 3
    link.zero = 0


# --- Handlers that lead back to the dispatcher -----------------------------------------------------------------------

cdef void stale_block(CPU* cpu, Uop* op, char* mem) noexcept nogil:
    """First uop of a stale block: take the entry back and look the address up again."""
    cdef Block* block = block_of(op)
    cpu.left += block.cost
    cpu.eip = block.eip


cdef void forward_block(CPU* cpu, Uop* op, char* mem) noexcept nogil:
    """First uop of a block whose replacement did not fit: charge and run that one."""
    cdef Block* block = block_of(op)
    cpu.left += block.cost
    enter(cpu, first_uop(block.hash_next), mem)


cdef void find_taken(CPU* cpu, Uop* op, char* mem) noexcept nogil:
    """Stub: the branch target has not been linked yet."""
    cpu.open_link = <Link*>(op - 1)
    cpu.open_link_taken = True
    cpu.eip = op.imm


cdef void find_fall(CPU* cpu, Uop* op, char* mem) noexcept nogil:
    """Stub: the successor in memory order has not been linked yet."""
    cpu.open_link = <Link*>(op - 2)
    cpu.open_link_taken = False
    cpu.eip = op.imm


cdef void beyond_limit(CPU* cpu, Uop* op, char* mem) noexcept nogil:
    """Stub: the target of a branch that is taken lies beyond CS.limit. #GP(0) at the branch, which has changed at most
    its counter; calls check before they push."""
    cdef Uop* origin = op - 2
    if origin.run == raw_loop or origin.run == raw_loopz or origin.run == raw_loopnz:
        advance(cpu, origin, ECX, 1)
    fault(cpu, origin, VECTOR_GP, 0)


cdef void cross_page(CPU* cpu, Uop* op, char* mem) noexcept nogil:
    """Stub that stays: with paging, a link into another page holds within one mapping generation."""
    cdef CrossLink* cross = <CrossLink*>op
    if cross.generation == cpu.generation:
        enter(cpu, cross.target, mem)
        return
    cpu.open_cross = cross
    cpu.eip = cross.eip


cdef void slice_over(CPU* cpu, Uop* next) noexcept nogil:
    """`left` does not cover the next block: take its cost back and stop before it."""
    cpu.left += (<u64*>next - 1)[0]
    if next.run == beyond_limit:
        beyond_limit(cpu, next, NULL)
    elif next.run == find_taken or next.run == find_fall or next.run == cross_page:
        cpu.eip = next.imm
    else:
        cpu.eip = block_of(next).eip


# --- Leaving a block -------------------------------------------------------------------------------------------------

cdef u32 effective_address(CPU* cpu, Uop* op) noexcept nogil:
    cdef u32 offset = offset_of(cpu, op)
    return offset & 0xFFFF if op.extra & ADDRESS16 else offset


cdef inline u64 packed_cost(u32 instructions, u32 cycles) noexcept nogil:
    return <u64>instructions << 32 | cycles


cdef void leave_before(CPU* cpu, Uop* op) noexcept nogil:
    """Stop before the uop: it and everything behind it in the block are taken back from the counters."""
    cdef Block* block = block_of(op)
    cpu.left += block.cost - packed_cost(op.count, op.cycles_before)
    cpu.eip = block.eip + op.offset
    cpu.predictor.pending = BRANCH_NONE


cdef void leave_after(CPU* cpu, Uop* op) noexcept nogil:
    """Stop behind the uop, an unfused one, which retires."""
    cdef Block* block = block_of(op)
    cpu.left += block.cost - packed_cost(op.count + 1, op.cycles_before + op.cycles)
    cpu.eip = block.eip + op.offset + op.length


cdef void raise_fault(CPU* cpu, Uop* op) noexcept nogil:
    """End an instruction that cannot complete: deliver the noted fault, or let the host serve the noted exit.

    A TLB miss that is charged for is neither: the cycles have to stand at a boundary, so the instruction starts anew.
    """
    leave_before(cpu, op)
    if not miss_is_due(cpu) and cpu.exit == EXIT_NONE:
        deliver_fault(cpu)


cdef inline bint miss_is_due(CPU* cpu) noexcept nogil:
    """Did the instruction stop for a TLB miss that is charged for? Then it runs by itself next."""
    if not cpu.miss_due:
        return False
    cpu.miss_due = False
    cpu.singles = 1
    return True


cdef void deliver_fault(CPU* cpu) noexcept nogil:
    """Deliver the noted fault. It uses up a unit of the budget: a guest that only faults must not run for ever."""
    cpu.faults += 1
    cpu.debug_traps = 0         # of an instruction that did not complete
    cpu.left -= packed_cost(1, 0)
    cpu.surplus += 1
    deliver(cpu, cpu.fault_vector, cpu.fault_error, has_error_code(cpu.fault_vector), False)
    if cpu.exit == EXIT_IO:     # the stack belongs to a device: the instruction faults again when that has been served
        cpu.faults -= 1
        cpu.left += packed_cost(1, 0)
        cpu.surplus -= 1


cdef void fault(CPU* cpu, Uop* op, u32 vector, u32 error) noexcept nogil:
    note_fault(cpu, vector, error)
    raise_fault(cpu, op)


cdef void unfuse(CPU* cpu, Uop* op) noexcept nogil:
    """A fused uop met something its fast path does not do: run its instructions one by one."""
    leave_before(cpu, op)
    cpu.singles = op.extra & ~<u32>ADDRESS16


cdef inline void next_uop(CPU* cpu, Uop* op, char* mem) noexcept nogil:
    check((op + 1).run != NULL)
    (op + 1).run(cpu, op + 1, mem)


cdef inline void finish(CPU* cpu, Uop* op, char* mem) noexcept nogil:
    """Go on with the next uop unless the instruction changed its own block or something waits for the host."""
    if rare(block_of(op).stale or cpu.exit != EXIT_NONE):
        leave_after(cpu, op)
        return
    next_uop(cpu, op, mem)


cdef inline void hold_interrupts(CPU* cpu, Uop* op) noexcept nogil:
    """STI, MOV SS, POP SS: no interrupt at the boundary behind this instruction, which has this unit number."""
    cdef u64 left = cpu.left + block_of(op).cost - packed_cost(op.count + 1, 0)
    cpu.shadow_unit = cpu.slice_end - (left >> 32)


cdef u64 now_cycles(CPU* cpu, Uop* op) noexcept nogil:
    """Modelled cycles since power-on, exact before the uop."""
    cdef u64 left = cpu.left + block_of(op).cost - packed_cost(op.count, op.cycles_before)
    return cpu.cycles + <u64>(<i64><i32><u32>cpu.slice_left - <i64><i32><u32>left)


cdef inline void charge(CPU* cpu, u32 cycles) noexcept nogil:
    """Cycles of an event that decoding could not foresee."""
    cpu.left -= cycles
