# Control flow: links, inline caches, jumps, calls and returns, and the fused call-site sequences.
#
# Enters: terminators. Leaves: the next block running. Next: blocks.pxi.
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
    """The inline cache is for another target: try the jump cache, else the dispatcher (which fills it).

    JMP leaves the limit of CS to this; CALL and RET have checked it before they changed ESP.
    """
    cdef JumpCacheEntry* entry = &cpu.jump_cache[jump_slot(target)]
    cdef Link* link = <Link*>(op + 1)
    if entry.eip == target and entry.target != NULL and entry.mode == cpu.mode \
            and entry.generation == cpu.generation:
        link.eip = target
        link.generation = cpu.generation
        link.taken = entry.target
        enter(cpu, link.taken, mem)
        return
    if rare(target > cpu.code_limit):
        fault(cpu, op, VECTOR_GP, 0)
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


cdef inline void checked_call(CPU* cpu, Uop* op, char* mem, const u32 size) noexcept nogil:
    """CALL rel: the stub behind the link knows the target."""
    if not (check_near(cpu, (op + 2).imm) and checked_push(cpu, size, op.imm)):
        raise_fault(cpu, op)
        return
    enter(cpu, (<Link*>(op + 1)).taken, mem)


cdef void raw_call(CPU* cpu, Uop* op, char* mem) noexcept nogil:
    checked_call(cpu, op, mem, 4)


cdef void raw_call16(CPU* cpu, Uop* op, char* mem) noexcept nogil:
    checked_call(cpu, op, mem, 2)


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


cdef inline void checked_call_rm(CPU* cpu, Uop* op, char* mem, const u32 size, const bint memory) noexcept nogil:
    cdef u32 target
    if not (operand_read(cpu, op, size, memory, &target) and check_near(cpu, target)
            and checked_push(cpu, size, op.imm)):
        raise_fault(cpu, op)
        return
    indirect(cpu, op, mem, target, GENERAL)


cdef void raw_call_rm_m(CPU* cpu, Uop* op, char* mem) noexcept nogil:
    checked_call_rm(cpu, op, mem, 4, True)


cdef void raw_call_rm_r(CPU* cpu, Uop* op, char* mem) noexcept nogil:
    checked_call_rm(cpu, op, mem, 4, False)


cdef void raw_call_rm16_m(CPU* cpu, Uop* op, char* mem) noexcept nogil:
    checked_call_rm(cpu, op, mem, 2, True)


cdef void raw_call_rm16_r(CPU* cpu, Uop* op, char* mem) noexcept nogil:
    checked_call_rm(cpu, op, mem, 2, False)


cdef void raw_jmp_rm_r(CPU* cpu, Uop* op, char* mem) noexcept nogil:
    indirect(cpu, op, mem, cpu.gpr[op.base].d, GENERAL)


cdef inline void jmp_memory(CPU* cpu, Uop* op, char* mem, const u32 variant) noexcept nogil:
    cdef char* host
    if rare(not read_at(cpu, mem, op.segment, offset_of(cpu, op), 4, variant, &host)):
        raw_jmp_rm_m(cpu, op, mem)
        return
    indirect(cpu, op, mem, (<u32*>host)[0], variant)


cdef inline void checked_jmp_memory(CPU* cpu, Uop* op, char* mem, const u32 size) noexcept nogil:
    cdef u32 target
    if not virtual_read(cpu, op.segment, effective_address(cpu, op), size, &target):
        raise_fault(cpu, op)
        return
    indirect(cpu, op, mem, target, GENERAL)


cdef void raw_jmp_rm_m(CPU* cpu, Uop* op, char* mem) noexcept nogil:
    checked_jmp_memory(cpu, op, mem, 4)


cdef void raw_jmp_rm16_m(CPU* cpu, Uop* op, char* mem) noexcept nogil:
    checked_jmp_memory(cpu, op, mem, 2)


cdef void raw_jmp_rm16_r(CPU* cpu, Uop* op, char* mem) noexcept nogil:
    indirect(cpu, op, mem, cpu.gpr[op.base].w, GENERAL)


cdef inline void ret(CPU* cpu, Uop* op, char* mem, const u32 variant) noexcept nogil:
    cdef u32 sp = cpu.gpr[ESP].d
    cdef char* host
    if rare(not read_at(cpu, mem, SS, sp, 4, variant, &host)):
        raw_ret(cpu, op, mem)
        return
    cpu.gpr[ESP].q = <u32>(sp + 4)
    indirect(cpu, op, mem, (<u32*>host)[0], variant)


cdef inline void call_word(CPU* cpu, Uop* op, char* mem, const u32 variant) noexcept nogil:
    """CALL rel16 on a 16-bit stack."""
    if rare((op + 2).imm > cpu.code_limit or not push16(cpu, mem, op.imm, variant)):
        raw_call16(cpu, op, mem)
        return
    enter(cpu, (<Link*>(op + 1)).taken, mem)


cdef inline void ret_word(CPU* cpu, Uop* op, char* mem, const u32 variant) noexcept nogil:
    """RET on a 16-bit stack; a return address above CS.limit has to change nothing."""
    cdef u32 target
    if rare(cpu.code_limit < 0xFFFF or not pop16(cpu, mem, &target, variant)):
        raw_ret16(cpu, op, mem)
        return
    indirect(cpu, op, mem, target, GENERAL)


cdef inline void checked_ret(CPU* cpu, Uop* op, char* mem, const u32 size, u32 release) noexcept nogil:
    cdef u32 target
    if not (stack_read(cpu, 0, size, &target) and check_near(cpu, target)):
        raise_fault(cpu, op)
        return
    set_sp(cpu, cpu.gpr[ESP].d + size + release)
    indirect(cpu, op, mem, target, GENERAL)


cdef void raw_ret(CPU* cpu, Uop* op, char* mem) noexcept nogil:
    checked_ret(cpu, op, mem, 4, 0)


cdef void raw_ret16(CPU* cpu, Uop* op, char* mem) noexcept nogil:
    checked_ret(cpu, op, mem, 2, 0)


cdef void raw_ret_i(CPU* cpu, Uop* op, char* mem) noexcept nogil:
    checked_ret(cpu, op, mem, 4, op.imm)


cdef void raw_ret_i16(CPU* cpu, Uop* op, char* mem) noexcept nogil:
    checked_ret(cpu, op, mem, 2, op.imm)


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
