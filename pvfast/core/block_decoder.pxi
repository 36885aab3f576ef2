# Uops to blocks: where a block ends, which neighbours are fused, which flag stores are dropped, its links and stubs.
#
# Enters: an address and a mode. Leaves: a Scratch block for install_block(). Next: prediction.pxi.
#
# Design: three passes over a block of at most MAX_BLOCK_UOPS: decode each instruction to a uop (fusing it with the
# one before where a pattern fits), then a backward pass that picks the handler without flag stores where every flag
# is overwritten before anything can read it or leave the block, then the terminator and its stubs.

cdef bint fuse(Scratch* scratch, u32 n, Uop* op, u32 entry) noexcept nogil:
    """Join a Jcc with the uop before it, in that one's place. True when it was."""
    cdef Uop* before = &scratch.uops[n - 1]
    cdef FormInfo* info = &forms[scratch.form[n - 1]]
    cdef u32 code = forms[entry].condition
    cdef bint memory = (info.attributes & A_MODRM) != 0 and not scratch.register_form[n - 1]
    if code == 255 or info.fuse == FUSE_NONE or before.extra or before.offset + before.length != op.offset:
        return False
    if info.fuse >= FUSE_MEMORY:
        if before.run != info.live[FLAT] and before.run != info.live[PAGED]:
            return False
        before.run = fused_memory[info.fuse - FUSE_MEMORY][before.run == info.live[PAGED]][code]
    elif memory or (info.fuse == FUSE_TEST and before.reg != before.base):
        return False
    elif info.fuse == FUSE_CMP_REG_RM:              # CMP r32, r/m32: the first operand is ModRM.reg
        before.run = fused_branch[info.fuse][code][before.reg]
        before.reg = before.base
    else:
        before.run = fused_branch[info.fuse][code][before.base]
    before.extra = 2
    return True


cdef u32 fuse_stack(Scratch* scratch, u32 n, Uop* op, u32 entry, u32 mode) noexcept nogil:
    """`push; push; call *m` and `pop; pop` in flat modes. Returns how many uops before this one it absorbed."""
    cdef Uop* first
    cdef Uop* second = &scratch.uops[n - 1]
    cdef u32 variant = PAGED if mode & MODE_PAGING else FLAT
    if not mode & MODE_FLAT or second.offset + second.length != op.offset:
        return 0
    if entry == FORM_POP and scratch.form[n - 1] == FORM_POP and op.base != ESP and second.base != ESP \
            and second.extra == 0:
        second.reg = second.base
        second.index = op.base
        second.run = fused_stack[variant][0][second.reg == EDX and second.index == ECX]
        second.extra = 2
        return 1
    if entry == FORM_CALL_MEMORY and n >= 2 and op.base == ZERO and op.index == ZERO and op.extra == 0 \
            and (op.run == forms[entry].live[FLAT] or op.run == forms[entry].live[PAGED]):
        first = &scratch.uops[n - 2]
        if scratch.form[n - 1] == FORM_PUSH and scratch.form[n - 2] == FORM_PUSH and first.extra == 0 \
                and second.extra == 0 and first.base != ESP and second.base != ESP \
                and first.offset + first.length == second.offset:
            first.reg = first.base
            first.index = second.base
            first.disp = op.disp
            first.imm = op.imm
            first.run = fused_stack[variant][1][first.reg == ECX and first.index == EDX]
            first.extra = 3
            return 2
    return 0


cdef void eliminate_flags(Scratch* scratch, u32 n) noexcept nogil:
    """Backward: a flag store is dropped when all it writes is overwritten before it can be seen."""
    cdef u32 live = 0xFF
    cdef u32 i = n
    cdef FormInfo* info
    while i > 0:
        i -= 1
        info = &forms[scratch.form[i]]
        if scratch.uops[i].extra & 3:       # fused: stores its flags, and may start over
            live = 0xFF
            continue
        if info.writes and not info.writes & live and scratch.dead[i] != NULL:     # 16-bit forms have no such twin
            scratch.uops[i].run = scratch.dead[i]
        live = (live & ~<u32>info.kills) | info.reads
        if info.attributes & A_BARRIER:
            # Memory forms may fault; the register form of the same row cannot.
            if not scratch.register_form[i]:
                live = 0xFF


cdef u32 decode_block(CPU* cpu, Scratch* scratch, u64 physical, u32 linear, u32 mode) noexcept nogil:
    """Fill the scratch block; returns the slots it needs."""
    cdef Fetch fetch
    cdef u8 buffer[MAX_INSTRUCTION]
    cdef Region* region = find_region(cpu, physical)
    cdef u32 eip = <u32>(linear - cpu.seg[CS].base)
    cdef u32 limit = cpu.seg[CS].limit
    cdef u32 n = 0
    cdef u32 instructions = 0
    cdef u32 cycles = 0
    cdef u32 length = 0
    cdef u32 available, entry, absorbed, i
    cdef u64 next_physical
    cdef Uop* op
    cdef bint ends = False
    cdef bint terminated = False
    cdef bint uncached = False
    cdef u32 target = 0
    available = 0
    if region != NULL and region.kind != REGION_MMIO:
        available = <u32>min_u64(region.end - physical, MAX_BLOCK_BYTES + MAX_INSTRUCTION)
        if mode & MODE_PAGING:
            available = <u32>min_u64(available, PAGE_SIZE - (physical & 0xFFF))
    fetch.mode = mode
    fetch.target = 0
    fetch.relative = False
    while not ends:
        op = &scratch.uops[n]
        fetch.bytes = <u8*>cpu.ram + physical + length
        fetch.available = available - length
        fetch.eip = eip + length
        if length and cpu.until_set and linear + length == cpu.until:
            break
        op.length = 0
        entry = decode_one(cpu, &fetch, op, &scratch.dead[n]) if fetch.available else 0
        if op.length == 0:
            if n or length:
                break
            # The instruction reaches into another page, or lies where no memory is (reads as FF).
            uncached = True
            memset(buffer, 0xFF, MAX_INSTRUCTION)
            memcpy(buffer, fetch.bytes, min_u64(fetch.available, MAX_INSTRUCTION))
            if not mode & MODE_PAGING and 0 < fetch.available < MAX_INSTRUCTION:
                copy_physical(cpu, buffer + fetch.available, physical + fetch.available,
                              MAX_INSTRUCTION - fetch.available)
            elif mode & MODE_PAGING and fetch.available < MAX_INSTRUCTION:
                if not translate_fetch(cpu, linear + fetch.available, cpu.cpl == 3, &next_physical):
                    memset(op, 0, sizeof(Uop))
                    op.run = raw_fetch_fault
                    op.disp = <i32>(linear + fetch.available)
                    scratch.dead[0] = op.run
                    scratch.form[0] = UNDEFINED_FORM
                    op.cycles = 1
                    cycles = 1
                    instructions = 1
                    n = 1
                    ends = True
                    break
                copy_physical(cpu, buffer + fetch.available, next_physical, MAX_INSTRUCTION - fetch.available)
            fetch.bytes = buffer
            fetch.available = MAX_INSTRUCTION
            entry = decode_one(cpu, &fetch, op, &scratch.dead[0])
            if op.length == 0:
                op.length = MAX_INSTRUCTION
                op.run = scratch.dead[0] = raw_privileged
            ends = True
        if <u64>eip + length + op.length - 1 > limit:
            if length:
                break
            op.run = scratch.dead[n] = raw_privileged   # #GP(0): the instruction lies across the limit
            entry = UNDEFINED_FORM
        op.offset = <u8>length
        op.count = <u8>instructions
        op.cycles_before = cycles
        scratch.form[n] = <u16>entry
        scratch.register_form[n] = fetch.register_form
        length += op.length
        instructions += 1
        cycles += op.cycles
        terminated = (forms[entry].attributes & A_TERMINATOR) != 0 and op.run != raw_undefined
        ends = ends or terminated or entry == UNDEFINED_FORM or (forms[entry].attributes & A_ENDS) != 0
        if not mode & MODE_SINGLE:
            if forms[entry].attributes & A_NOP and op.run == forms[entry].live[V_REGISTER]:
                if length >= MAX_BLOCK_BYTES or instructions >= MAX_BLOCK_UOPS:
                    break
                continue
            absorbed = 0
            if n:
                if not (fetch.relative and fetch.target > limit) and fuse(scratch, n, op, entry):
                    absorbed = 1
                else:
                    absorbed = fuse_stack(scratch, n, op, entry, mode)
            if absorbed:
                n -= absorbed
                scratch.uops[n].length = <u8>(length - scratch.uops[n].offset)
                scratch.uops[n].cycles = <u16>(cycles - scratch.uops[n].cycles_before)
        else:
            ends = True
        n += 1
        if length >= MAX_BLOCK_BYTES or instructions >= MAX_BLOCK_UOPS:
            break
    eliminate_flags(scratch, n)
    if cpu.predictor.active:
        n = insert_pseudo_uops(scratch, n, branch_kind(forms[entry].cost) if terminated else <u32>BRANCH_NONE,
                               linear + length)
    if not terminated:
        op = &scratch.uops[n]
        memset(op, 0, sizeof(Uop))
        op.run = raw_goto
        op.offset = <u8>length
        op.count = <u8>instructions
        op.cycles_before = cycles
        n += 1
    for i in range(n):
        scratch.uops[i].position = <u8>i
    emit_links(cpu, scratch, n, fetch.target if terminated else eip + length, eip + length, linear, mode)
    if terminated and fetch.relative and fetch.target > limit:
        scratch.uops[n + 1].run = beyond_limit
    memset(&scratch.header, 0, sizeof(Block))
    scratch.header.physical = physical
    scratch.header.linear = linear
    scratch.header.eip = eip
    scratch.header.mode = mode
    scratch.header.length = <u16>length
    scratch.header.uops = <u8>n
    scratch.header.stale = uncached
    scratch.header.code_limit = limit
    scratch.header.instructions = <u8>instructions
    scratch.header.cost = packed_cost(instructions, cycles)
    scratch.used = n + 3
    return n + 3


cdef inline u64 min_u64(u64 a, u64 b) noexcept nogil:
    return a if a < b else b


cdef void copy_physical(CPU* cpu, u8* target, u64 physical, u32 size) noexcept nogil:
    cdef Region* region = find_region(cpu, physical)
    if region != NULL and region.kind != REGION_MMIO:
        memcpy(target, cpu.ram + physical, min_u64(size, region.end - physical))


cdef void emit_links(CPU* cpu, Scratch* scratch, u32 n, u32 target, u32 fall, u32 linear, u32 mode) noexcept nogil:
    """The Link slot and the two stubs behind a terminator."""
    cdef Uop* terminator = &scratch.uops[n - 1]
    cdef Link* link = <Link*>(terminator + 1)
    cdef u32 i, eip
    cdef Uop* stub
    cdef CrossLink* cross
    memset(link, 0, 3 * sizeof(Uop))
    link.eip = 0xFFFFFFFFu      # an empty inline cache: the stub for this target leads to the dispatcher
    for i in range(2):
        stub = terminator + 2 + i
        eip = fall if i else target
        stub.imm = eip
        stub.run = find_fall if i else find_taken
        if mode & MODE_PAGING and ((eip + <u32>cpu.seg[CS].base) ^ linear) & 0xFFFFF000u:
            cross = <CrossLink*>stub
            cross.run = cross_page
            cross.eip = eip
            cross.generation = ~cpu.generation


cdef void raw_fetch_fault(CPU* cpu, Uop* op, char* mem) noexcept nogil:
    """The second page of the instruction was not there when it was decoded."""
    cdef u64 physical
    if not translate_fetch(cpu, <u32>op.disp, cpu.cpl == 3, &physical):
        raise_fault(cpu, op)
        return
    leave_before(cpu, op)
