# Branch prediction of a processor model: what a branch that goes elsewhere than predicted costs.
#
# Enters: two pseudo-uops that decode_block() puts into every block while a model predicts. Leaves: cycles charged at
# the boundary behind the branch. Next: run.pxi.
#
# Design: the branch handlers know nothing of this. `mark_branch` stands before a block's terminator and notes it;
# `judge_branch` is the first uop of every block and sees where the branch has gone. A branch that leads to the
# dispatcher is judged there. So every boundary sees the same cycles, however blocks are cut, linked or fused, and a
# machine whose model does not predict has neither uop. A branch is known by the linear address behind it: it is the
# same fused or not.

cdef u32 predict_conditional(Predictor* p, bint taken) noexcept nogil:
    """A table of two-bit counters, by address (a bimodal predictor); they begin at "weakly not taken"."""
    cdef u8* counter = &p.counters[p.behind & (PREDICTOR_COUNTERS - 1)]
    cdef bint wrong = (counter[0] >= 2) != taken
    if taken and counter[0] < 3:
        counter[0] += 1
    elif not taken and counter[0] > 0:
        counter[0] -= 1
    return p.conditional_cycles if wrong else 0


cdef u32 predict_indirect(Predictor* p, u32 target) noexcept nogil:
    """The branch target buffer: the last target of each of its branches; sets by address.

    The least recently used branch of a set goes. A use counts whether it was right or wrong.
    """
    cdef BranchTarget* set = &p.targets[(p.behind & (p.sets - 1)) * p.ways]
    cdef BranchTarget found
    cdef u32 way = 0
    cdef u32 i
    if p.sets == 0:
        return 0
    while way < p.ways - 1 and set[way].behind != p.behind:
        way += 1
    found = set[way]
    i = way
    while i:
        set[i] = set[i - 1]
        i -= 1
    set[0].behind = p.behind
    set[0].target = target
    return 0 if found.behind == p.behind and found.target == target else p.indirect_cycles


cdef u32 predict_return(Predictor* p, u32 target) noexcept nogil:
    """The return stack: a ring that forgets the oldest call."""
    if p.returns_held == 0:
        return p.return_cycles
    p.returns_held -= 1
    p.returns_top = (p.returns_top - 1) & (PREDICTOR_RETURNS - 1)
    return 0 if p.returns[p.returns_top] == target else p.return_cycles


cdef void remember_call(Predictor* p) noexcept nogil:
    p.returns[p.returns_top] = p.behind
    p.returns_top = (p.returns_top + 1) & (PREDICTOR_RETURNS - 1)
    if p.returns_held < p.return_depth:
        p.returns_held += 1


cdef u32 judge(Predictor* p, u32 target) noexcept nogil:
    """Cycles that the noted branch costs beyond its class, now that it has gone to a linear address."""
    cdef u32 kind = p.pending
    cdef u32 cycles
    p.pending = BRANCH_NONE
    if kind == BRANCH_CONDITIONAL:
        return predict_conditional(p, target != p.behind)
    if kind == BRANCH_RETURN:
        return predict_return(p, target)
    if kind == BRANCH_CALL:
        remember_call(p)
        return 0
    cycles = predict_indirect(p, target)
    if kind == BRANCH_INDIRECT_CALL:
        remember_call(p)
    return cycles


cdef void mark_branch(CPU* cpu, Uop* op, char* mem) noexcept nogil:
    """Before a terminator: should it fault, leave_before() forgets it."""
    cpu.predictor.pending = op.reg
    cpu.predictor.behind = op.imm
    next_uop(cpu, op, mem)


cdef void judge_branch(CPU* cpu, Uop* op, char* mem) noexcept nogil:
    """First in a block: the branch before it has come here. The block may be too long for what is left then."""
    if cpu.predictor.pending:
        charge(cpu, judge(&cpu.predictor, block_of(op).linear))
        if rare(cpu.left & OVERDRAWN):
            slice_over(cpu, op)
            return
    next_uop(cpu, op, mem)


cdef void settle_branch(CPU* cpu) noexcept nogil:
    """At a boundary outside of blocks."""
    charge_event(cpu, judge(&cpu.predictor, <u32>cpu.seg[CS].base + cpu.eip))


cdef u32 branch_kind(u32 cost_class) noexcept nogil:
    """What is predicted about instructions of a cost class."""
    if cost_class == COST_BRANCH or cost_class == COST_LOOP:
        return BRANCH_CONDITIONAL
    if cost_class == COST_CALL:
        return BRANCH_CALL
    if cost_class == COST_CALL_INDIRECT:
        return BRANCH_INDIRECT_CALL
    if cost_class == COST_JUMP_INDIRECT:
        return BRANCH_INDIRECT_JUMP
    if cost_class == COST_RET:
        return BRANCH_RETURN
    return BRANCH_NONE


cdef u32 insert_pseudo_uops(Scratch* scratch, u32 n, u32 kind, u32 behind) noexcept nogil:
    """Put judge_branch before the first of n uops, and mark_branch before a terminator that is predicted."""
    cdef Uop* op
    if kind:
        op = &scratch.uops[n - 1]
        (op + 1)[0] = op[0]
        op.run = mark_branch
        op.length = op.extra = 0
        op.cycles = 0
        op.imm = behind
        op.reg = <u8>kind
        n += 1
    memmove(&scratch.uops[1], &scratch.uops[0], n * sizeof(Uop))
    op = &scratch.uops[0]
    memset(op, 0, sizeof(Uop))
    op.run = judge_branch
    return n + 1
