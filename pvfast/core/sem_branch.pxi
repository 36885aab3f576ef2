# Control flow and the stack: links, inline caches, push and pop, and the fused call-site sequences.
#
# Enters: terminators and stack uops. Leaves: the next block running. Next: sem_string.pxi.
# `variant` (access.pxd) and other `const` arguments are constants in the generated handlers.

cdef inline void enter(CPU* cpu, Uop* next, char* mem) noexcept nogil:
    """Charge the block that starts at `next` and run it; stop before it when the slice does not cover it."""
    check(next != NULL and next.run != NULL)
    cpu.left -= (<u64*>next - 1)[0]
    if rare(cpu.left & OVERDRAWN):
        slice_over(cpu, next)
        return
    if TAIL_CALLS:
        next.run(cpu, next, mem)
    else:
        cpu.next = next


cdef inline void branch(CPU* cpu, Uop* op, char* mem, bint taken) noexcept nogil:
    cdef Link* link = <Link*>(op + 1)
    if taken:       # a branch of its own: two well-predicted indirect jumps, no wait for the condition
        enter(cpu, link.taken, mem)
    else:
        enter(cpu, link.fall, mem)


cdef inline u32 jump_slot(u32 eip) noexcept nogil:
    return (eip ^ (eip >> 10)) & (JUMP_CACHE - 1)


cdef void indirect_miss(CPU* cpu, Uop* op, char* mem, u32 target) noexcept nogil:
    """The inline cache is for another target: try the jump cache, else the dispatcher (which fills it)."""
    cdef JumpCacheEntry* entry = &cpu.jump_cache[jump_slot(target)]
    cdef Link* link = <Link*>(op + 1)
    if entry.eip == target and entry.target != NULL and entry.mode == cpu.mode \
            and entry.generation == cpu.generation:
        link.eip = target
        link.generation = cpu.generation
        link.taken = entry.target
        enter(cpu, link.taken, mem)
        return
    cpu.eip = target


cdef inline void indirect(CPU* cpu, Uop* op, char* mem, u32 target, const u32 variant) noexcept nogil:
    cdef Link* link = <Link*>(op + 1)
    if rare(link.eip != target):
        indirect_miss(cpu, op, mem, target)
        return
    if variant != FLAT:
        if rare(link.generation != cpu.generation):
            indirect_miss(cpu, op, mem, target)
            return
    enter(cpu, link.taken, mem)


# --- Stack -----------------------------------------------------------------------------------------------------------

cdef inline u32 stack_mask(CPU* cpu) noexcept nogil:
    return 0xFFFFFFFFu if cpu.seg[SS].attributes & SEG_DB else 0xFFFFu


cdef inline void set_sp(CPU* cpu, u32 value) noexcept nogil:
    """ESP or SP, by the size of the stack segment."""
    if cpu.seg[SS].attributes & SEG_DB:
        cpu.gpr[ESP].q = value
    else:
        cpu.gpr[ESP].w = <u16>value


cdef bint checked_push(CPU* cpu, u32 size, u32 value) noexcept nogil:
    cdef u32 sp = (cpu.gpr[ESP].d - size) & stack_mask(cpu)
    if not virtual_write(cpu, SS, sp, size, value):
        return False
    set_sp(cpu, sp)
    return True


cdef bint checked_pop(CPU* cpu, u32 size, u32* value) noexcept nogil:
    cdef u32 sp = cpu.gpr[ESP].d & stack_mask(cpu)
    if not virtual_read(cpu, SS, sp, size, value):
        return False
    set_sp(cpu, sp + size)
    return True


cdef inline bint push32(CPU* cpu, char* mem, u32 value, const u32 variant) noexcept nogil:
    cdef u32 sp = cpu.gpr[ESP].d - 4
    cdef char* host
    if rare(not write_at(cpu, mem, SS, sp, 4, variant, &host)):
        return False
    (<u32*>host)[0] = value
    cpu.gpr[ESP].q = sp
    return True


cdef inline void push_register(CPU* cpu, Uop* op, char* mem, const u32 number, const u32 variant) noexcept nogil:
    if rare(not push32(cpu, mem, cpu.gpr[number].d, variant)):
        raw_push_r32(cpu, op, mem)
        return
    next_uop(cpu, op, mem)


cdef inline void pop_register(CPU* cpu, Uop* op, char* mem, const u32 number, const u32 variant) noexcept nogil:
    cdef u32 sp = cpu.gpr[ESP].d
    cdef char* host
    if rare(not read_at(cpu, mem, SS, sp, 4, variant, &host)):
        raw_pop_r32(cpu, op, mem)
        return
    cpu.gpr[ESP].q = <u32>(sp + 4)
    cpu.gpr[number].q = (<u32*>host)[0]
    next_uop(cpu, op, mem)


cdef void raw_push_r32(CPU* cpu, Uop* op, char* mem) noexcept nogil:
    if not checked_push(cpu, 4, cpu.gpr[op.base].d):
        raise_fault(cpu, op)
        return
    finish(cpu, op, mem)


cdef void raw_push_r16(CPU* cpu, Uop* op, char* mem) noexcept nogil:
    if not checked_push(cpu, 2, cpu.gpr[op.base].w):
        raise_fault(cpu, op)
        return
    finish(cpu, op, mem)


cdef void raw_pop_r32(CPU* cpu, Uop* op, char* mem) noexcept nogil:
    cdef u32 value
    if not checked_pop(cpu, 4, &value):
        raise_fault(cpu, op)
        return
    cpu.gpr[op.base].q = value
    finish(cpu, op, mem)


cdef void raw_pop_r16(CPU* cpu, Uop* op, char* mem) noexcept nogil:
    cdef u32 value
    if not checked_pop(cpu, 2, &value):
        raise_fault(cpu, op)
        return
    cpu.gpr[op.base].w = <u16>value
    finish(cpu, op, mem)


cdef void raw_push_i32(CPU* cpu, Uop* op, char* mem) noexcept nogil:
    if not checked_push(cpu, 4, op.imm):
        raise_fault(cpu, op)
        return
    finish(cpu, op, mem)


cdef void raw_push_i16(CPU* cpu, Uop* op, char* mem) noexcept nogil:
    if not checked_push(cpu, 2, op.imm & 0xFFFF):
        raise_fault(cpu, op)
        return
    finish(cpu, op, mem)


cdef inline void push_memory(CPU* cpu, Uop* op, char* mem, const u32 size) noexcept nogil:
    cdef u32 value
    if not (virtual_read(cpu, op.segment, effective_address(cpu, op), size, &value)
            and checked_push(cpu, size, value)):
        raise_fault(cpu, op)
        return
    finish(cpu, op, mem)


cdef void raw_push_rm32_m(CPU* cpu, Uop* op, char* mem) noexcept nogil:
    push_memory(cpu, op, mem, 4)


cdef void raw_push_rm16_m(CPU* cpu, Uop* op, char* mem) noexcept nogil:
    push_memory(cpu, op, mem, 2)


cdef void raw_push_rm32_r(CPU* cpu, Uop* op, char* mem) noexcept nogil:
    raw_push_r32(cpu, op, mem)


cdef void raw_push_rm16_r(CPU* cpu, Uop* op, char* mem) noexcept nogil:
    raw_push_r16(cpu, op, mem)


cdef inline void pop_memory(CPU* cpu, Uop* op, char* mem, const u32 size) noexcept nogil:
    """POP m: the address is computed with ESP already incremented (SDM 2, POP)."""
    cdef u32 value
    cdef u64 before = cpu.gpr[ESP].q
    if not checked_pop(cpu, size, &value):
        raise_fault(cpu, op)
        return
    if not virtual_write(cpu, op.segment, effective_address(cpu, op), size, value):
        cpu.gpr[ESP].q = before
        raise_fault(cpu, op)
        return
    finish(cpu, op, mem)


cdef void raw_pop_rm32_m(CPU* cpu, Uop* op, char* mem) noexcept nogil:
    pop_memory(cpu, op, mem, 4)


cdef void raw_pop_rm16_m(CPU* cpu, Uop* op, char* mem) noexcept nogil:
    pop_memory(cpu, op, mem, 2)


cdef void raw_pop_rm32_r(CPU* cpu, Uop* op, char* mem) noexcept nogil:
    raw_pop_r32(cpu, op, mem)


cdef void raw_pop_rm16_r(CPU* cpu, Uop* op, char* mem) noexcept nogil:
    raw_pop_r16(cpu, op, mem)


cdef void raw_leave(CPU* cpu, Uop* op, char* mem) noexcept nogil:
    cdef u32 value
    cdef u32 frame = cpu.gpr[EBP].d & stack_mask(cpu)
    if not virtual_read(cpu, SS, frame, 4, &value):
        raise_fault(cpu, op)
        return
    set_sp(cpu, frame + 4)
    cpu.gpr[EBP].q = value
    next_uop(cpu, op, mem)


cdef void raw_enter(CPU* cpu, Uop* op, char* mem) noexcept nogil:
    """ENTER imm16, imm8 (SDM 2): the level is in the third immediate byte."""
    cdef u32 size = op.imm & 0xFFFF
    cdef u32 level = (op.imm >> 16) & 31
    cdef u32 mask = stack_mask(cpu)
    cdef u32 sp = (cpu.gpr[ESP].d - 4) & mask
    cdef u32 frame = sp
    cdef u32 bp = cpu.gpr[EBP].d
    cdef u32 value, i
    if not virtual_write(cpu, SS, sp, 4, bp):
        raise_fault(cpu, op)
        return
    for i in range(1, level):
        bp = (bp - 4) & mask
        sp = (sp - 4) & mask
        if not (virtual_read(cpu, SS, bp, 4, &value) and virtual_write(cpu, SS, sp, 4, value)):
            raise_fault(cpu, op)
            return
    if level:
        sp = (sp - 4) & mask
        if not virtual_write(cpu, SS, sp, 4, frame):
            raise_fault(cpu, op)
            return
    sp = (sp - size) & mask
    if not virtual_probe_write(cpu, SS, sp, 4):
        raise_fault(cpu, op)
        return
    cpu.gpr[EBP].q = frame
    set_sp(cpu, sp)
    finish(cpu, op, mem)


cdef void raw_pusha(CPU* cpu, Uop* op, char* mem) noexcept nogil:
    cdef u32 i
    cdef u32 mask = stack_mask(cpu)
    cdef u32 sp = (cpu.gpr[ESP].d - 32) & mask
    for i in range(8):
        if not virtual_probe_write(cpu, SS, (sp + 4 * i) & mask, 4):
            raise_fault(cpu, op)
            return
    for i in range(8):
        if not virtual_write(cpu, SS, (sp + 4 * i) & mask, 4, cpu.gpr[7 - i].d):
            raise_fault(cpu, op)
            return
    set_sp(cpu, sp)
    finish(cpu, op, mem)


cdef void raw_popa(CPU* cpu, Uop* op, char* mem) noexcept nogil:
    cdef u32 i
    cdef u32 values[8]
    cdef u32 mask = stack_mask(cpu)
    cdef u32 sp = cpu.gpr[ESP].d
    for i in range(8):
        if not virtual_read(cpu, SS, (sp + 4 * i) & mask, 4, &values[i]):
            raise_fault(cpu, op)
            return
    for i in range(8):
        if i != 3:      # the stored ESP is skipped
            cpu.gpr[7 - i].q = values[i]
    set_sp(cpu, sp + 32)
    next_uop(cpu, op, mem)


# --- Jumps, calls, returns -------------------------------------------------------------------------------------------

cdef void raw_jmp(CPU* cpu, Uop* op, char* mem) noexcept nogil:
    enter(cpu, (<Link*>(op + 1)).taken, mem)


cdef void raw_goto(CPU* cpu, Uop* op, char* mem) noexcept nogil:
    """Not an instruction: the block ended for its length, and goes on in the next one."""
    enter(cpu, (<Link*>(op + 1)).fall, mem)


cdef inline void call(CPU* cpu, Uop* op, char* mem, const u32 variant) noexcept nogil:
    if rare(not push32(cpu, mem, op.imm, variant)):
        raw_call(cpu, op, mem)
        return
    enter(cpu, (<Link*>(op + 1)).taken, mem)


cdef void raw_call(CPU* cpu, Uop* op, char* mem) noexcept nogil:
    if not checked_push(cpu, 4, op.imm):
        raise_fault(cpu, op)
        return
    leave_branch(cpu, op, mem, (<Link*>(op + 1)).taken)


cdef void leave_branch(CPU* cpu, Uop* op, char* mem, Uop* next) noexcept nogil:
    """End of a checked branch whose store may have changed its own block or its target."""
    if cpu.exit != EXIT_NONE:
        raise_fault(cpu, op)
        return
    enter(cpu, next, mem)


cdef inline void call_memory(CPU* cpu, Uop* op, char* mem, const u32 variant) noexcept nogil:
    cdef char* host
    cdef u32 target
    if rare(not read_at(cpu, mem, op.segment, offset_of(cpu, op), 4, variant, &host)):
        raw_call_rm_m(cpu, op, mem)
        return
    target = (<u32*>host)[0]
    if rare(not push32(cpu, mem, op.imm, variant)):
        raw_call_rm_m(cpu, op, mem)
        return
    indirect(cpu, op, mem, target, variant)


cdef void raw_call_rm_m(CPU* cpu, Uop* op, char* mem) noexcept nogil:
    cdef u32 target
    if not (virtual_read(cpu, op.segment, effective_address(cpu, op), 4, &target)
            and checked_push(cpu, 4, op.imm)):
        raise_fault(cpu, op)
        return
    indirect(cpu, op, mem, target, GENERAL)


cdef inline void call_register(CPU* cpu, Uop* op, char* mem, const u32 variant) noexcept nogil:
    cdef u32 target = cpu.gpr[op.base].d
    if rare(not push32(cpu, mem, op.imm, variant)):
        raw_call_rm_r(cpu, op, mem)
        return
    indirect(cpu, op, mem, target, variant)


cdef void raw_call_rm_r(CPU* cpu, Uop* op, char* mem) noexcept nogil:
    cdef u32 target = cpu.gpr[op.base].d
    if not checked_push(cpu, 4, op.imm):
        raise_fault(cpu, op)
        return
    indirect(cpu, op, mem, target, GENERAL)


cdef void raw_jmp_rm_r(CPU* cpu, Uop* op, char* mem) noexcept nogil:
    indirect(cpu, op, mem, cpu.gpr[op.base].d, GENERAL)


cdef inline void jmp_memory(CPU* cpu, Uop* op, char* mem, const u32 variant) noexcept nogil:
    cdef char* host
    if rare(not read_at(cpu, mem, op.segment, offset_of(cpu, op), 4, variant, &host)):
        raw_jmp_rm_m(cpu, op, mem)
        return
    indirect(cpu, op, mem, (<u32*>host)[0], variant)


cdef void raw_jmp_rm_m(CPU* cpu, Uop* op, char* mem) noexcept nogil:
    cdef u32 target
    if not virtual_read(cpu, op.segment, effective_address(cpu, op), 4, &target):
        raise_fault(cpu, op)
        return
    indirect(cpu, op, mem, target, GENERAL)


cdef inline void ret(CPU* cpu, Uop* op, char* mem, const u32 variant) noexcept nogil:
    cdef u32 sp = cpu.gpr[ESP].d
    cdef char* host
    if rare(not read_at(cpu, mem, SS, sp, 4, variant, &host)):
        raw_ret(cpu, op, mem)
        return
    cpu.gpr[ESP].q = <u32>(sp + 4)
    indirect(cpu, op, mem, (<u32*>host)[0], variant)


cdef void raw_ret(CPU* cpu, Uop* op, char* mem) noexcept nogil:
    cdef u32 target
    if not checked_pop(cpu, 4, &target):
        raise_fault(cpu, op)
        return
    indirect(cpu, op, mem, target, GENERAL)


cdef void raw_ret_i(CPU* cpu, Uop* op, char* mem) noexcept nogil:
    cdef u32 target
    if not checked_pop(cpu, 4, &target):
        raise_fault(cpu, op)
        return
    set_sp(cpu, cpu.gpr[ESP].d + (op.imm & 0xFFFF))
    indirect(cpu, op, mem, target, GENERAL)


cdef inline void jcc(CPU* cpu, Uop* op, char* mem, const u32 code) noexcept nogil:
    branch(cpu, op, mem, condition(cpu, code))


cdef inline u32 count_down(CPU* cpu, Uop* op) noexcept nogil:
    """LOOP's counter: ECX, or CX with 16-bit addresses."""
    if op.extra & ADDRESS16:
        cpu.gpr[ECX].w = <u16>(cpu.gpr[ECX].w - 1)
        return cpu.gpr[ECX].w
    cpu.gpr[ECX].q = <u32>(cpu.gpr[ECX].d - 1)
    return cpu.gpr[ECX].d


cdef void raw_loop(CPU* cpu, Uop* op, char* mem) noexcept nogil:
    branch(cpu, op, mem, count_down(cpu, op) != 0)


cdef void raw_loopz(CPU* cpu, Uop* op, char* mem) noexcept nogil:
    cdef bint more = count_down(cpu, op) != 0
    branch(cpu, op, mem, more and get_zf(cpu))


cdef void raw_loopnz(CPU* cpu, Uop* op, char* mem) noexcept nogil:
    cdef bint more = count_down(cpu, op) != 0
    branch(cpu, op, mem, more and not get_zf(cpu))


cdef void raw_jecxz(CPU* cpu, Uop* op, char* mem) noexcept nogil:
    branch(cpu, op, mem, (cpu.gpr[ECX].w if op.extra & ADDRESS16 else cpu.gpr[ECX].d) == 0)


# --- Fused sequences. `extra` counts their instructions, for unfuse(). -----------------------------------------------

cdef inline void push_push_call(CPU* cpu, Uop* op, char* mem, const u32 first, const u32 second,
                                const u32 variant) noexcept nogil:
    """`push first; push second; call *disp`: the head of every 2.6.20 call site."""
    cdef u32 sp = cpu.gpr[ESP].d - 12
    cdef char* pointer
    cdef char* stack
    cdef u32 target
    # The pointer must not lie where the three stores go: it is read before them here.
    if rare(not read_at(cpu, mem, DS, <u32>op.disp, 4, variant, &pointer)
            or not write_at(cpu, mem, SS, sp, 12, variant, &stack) or <u64>(pointer + 3 - stack) < 15):
        unfuse(cpu, op)
        return
    target = (<u32*>pointer)[0]
    (<u32*>stack)[2] = cpu.gpr[first].d
    (<u32*>stack)[1] = cpu.gpr[second].d
    (<u32*>stack)[0] = op.imm
    cpu.gpr[ESP].q = sp
    indirect(cpu, op, mem, target, variant)


cdef inline void pop_pop(CPU* cpu, Uop* op, char* mem, const u32 first, const u32 second,
                         const u32 variant) noexcept nogil:
    """`pop first; pop second`: the tail of a call site. Neither register is ESP."""
    cdef u32 sp = cpu.gpr[ESP].d
    cdef char* host
    if rare(not read_at(cpu, mem, SS, sp, 8, variant, &host)):
        unfuse(cpu, op)
        return
    cpu.gpr[first].q = (<u32*>host)[0]
    cpu.gpr[second].q = (<u32*>host)[1]
    cpu.gpr[ESP].q = <u32>(sp + 8)
    next_uop(cpu, op, mem)
