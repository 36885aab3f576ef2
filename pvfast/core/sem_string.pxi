# String instructions and REP (SDM 2, REP; SDM 1:7.3.9).
#
# Enters: string uops; `reg` is the REP prefix (0, REP_Z or REP_NZ), `imm` the modelled cycles of one iteration.
# Leaves: memory and registers after whole iterations. Next: sem_integer.pxi.
#
# A REP instruction retires once. Every iteration charges the budget, so a long REP stops at exact iterations; it runs
# in bulk (memmove, fill) between page, limit, code-mark and budget boundaries. INS and OUTS leave for their device in
# every iteration, which is then replayed (memory.pxi).

cdef enum:
    REP_Z = 1
    REP_NZ = 2

cdef enum StringKind:
    MOVS
    STOS
    LODS
    CMPS
    SCAS
    INS
    OUTS


cdef inline u32 address_mask(Uop* op) noexcept nogil:
    return 0xFFFFu if op.extra & ADDRESS16 else 0xFFFFFFFFu


cdef inline void advance(CPU* cpu, Uop* op, const u32 number, i64 bytes) noexcept nogil:
    if op.extra & ADDRESS16:
        cpu.gpr[number].w = <u16>(cpu.gpr[number].w + bytes)
    else:
        cpu.gpr[number].q = <u32>(cpu.gpr[number].d + bytes)


cdef inline bint iterate_once(CPU* cpu, Uop* op, const u32 kind, const u32 size) noexcept nogil:
    """One iteration with every check; registers change only when it completes."""
    cdef u32 mask = address_mask(op)
    cdef u32 source = cpu.gpr[ESI].d & mask
    cdef u32 target = cpu.gpr[EDI].d & mask
    cdef i64 step = -<i64>size if cpu.eflags & DF else size
    cdef u32 b
    cdef u32 a = 0
    if kind == MOVS:
        if not (virtual_read(cpu, op.segment, source, size, &a) and virtual_write(cpu, ES, target, size, a)):
            return False
    elif kind == STOS:
        if not virtual_write(cpu, ES, target, size, cpu.gpr[EAX].d):
            return False
    elif kind == LODS:
        if not virtual_read(cpu, op.segment, source, size, &a):
            return False
        memcpy(&cpu.gpr[EAX], &a, size)
        if size == 4:
            cpu.gpr[EAX].q = a
    elif kind == INS:       # nothing may fault behind the device
        if not (port_allowed(cpu, cpu.gpr[EDX].w, size) and virtual_probe_write(cpu, ES, target, size)
                and device_access(cpu, IO_PORT_READ, cpu.gpr[EDX].w, size, &a)
                and virtual_write(cpu, ES, target, size, a)):
            return False
    elif kind == OUTS:
        if not (port_allowed(cpu, cpu.gpr[EDX].w, size) and virtual_read(cpu, op.segment, source, size, &a)
                and device_access(cpu, IO_PORT_WRITE, cpu.gpr[EDX].w, size, &a)):
            return False
    else:
        if kind == CMPS:
            if not virtual_read(cpu, op.segment, source, size, &a):
                return False
        else:
            a = cpu.gpr[EAX].d
        if not virtual_read(cpu, ES, target, size, &b):
            return False
        if size == 1:
            cmp[u8](cpu, <u8>a, <u8>b, True)
        elif size == 2:
            cmp[u16](cpu, <u16>a, <u16>b, True)
        else:
            cmp[u32](cpu, a, b, True)
    if kind == MOVS or kind == LODS or kind == CMPS or kind == OUTS:
        advance(cpu, op, ESI, step)
    if kind != LODS and kind != OUTS:
        advance(cpu, op, EDI, step)
    return True


cdef char* bulk_range(CPU* cpu, u32 segment, u32 offset, bint write, u32* bytes) noexcept nogil:
    """Host memory of [offset, offset + bytes), with `bytes` cut to what needs no further check; NULL for none."""
    cdef Segment* s = &cpu.seg[segment]
    cdef u32 end = s.write_end if write else s.read_end
    cdef u32 linear
    cdef u64 physical
    cdef bint known
    cdef TlbEntry* entry
    cdef Region* region
    cdef u8* marks
    cdef u64 line, last
    cdef u64 left = cpu.left
    if offset >= end:
        return NULL
    if bytes[0] > end - offset:
        bytes[0] = end - offset
    linear = <u32>(s.base + offset)
    if cpu.cr0 & CR0_PG:
        if bytes[0] > PAGE_SIZE - (linear & 0xFFF):
            bytes[0] = PAGE_SIZE - (linear & 0xFFF)
        entry = &cpu.tlb[cpu.cpl == 3][(linear >> 12) & (TLB_ENTRIES - 1)]
        known = (entry.write_tag if write else entry.read_tag) == linear & 0xFFFFF000u
        if known:
            physical = entry.addend + linear - <u64>cpu.ram
        elif not translate(cpu, linear, write, cpu.cpl == 3, &physical):
            cpu.left = left     # the checked way walks into the same fault, and is charged for its TLB miss
            return NULL
    else:
        physical = linear
        known = linear < cpu.flat_end and bytes[0] <= cpu.flat_end - linear
    if not known:       # of what the TLB holds, and of what is below flat_end, all may be used
        region = find_region(cpu, physical)
        if region == NULL or region.kind == REGION_MMIO or (write and region.kind == REGION_ROM):
            return NULL
        if bytes[0] > region.end - physical:
            bytes[0] = <u32>(region.end - physical)
    if write:
        marks = <u8*>cpu.ram - LINE_MAP_BYTES
        line = physical >> LINE_SHIFT
        last = (physical + bytes[0] - 1) >> LINE_SHIFT
        while line <= last:
            if marks[line]:
                return NULL
            line += 1
    return cpu.ram + physical


cdef void fill(char* target, u32 value, u32 count, const u32 size) noexcept nogil:
    cdef u32 i
    if size == 1:
        memset(target, <int>(value & 0xFF), count)
    elif size == 2:
        for i in range(count):
            (<u16*>target)[i] = <u16>value
    else:
        for i in range(count):
            (<u32*>target)[i] = value


cdef u32 bulk(CPU* cpu, Uop* op, const u32 kind, const u32 size, u32 count) noexcept nogil:
    """As many forward iterations of MOVS or STOS as one range allows; 0: take the checked way."""
    cdef u32 bytes, source_bytes, i
    cdef u32 source_offset = cpu.gpr[ESI].d & address_mask(op)
    cdef u32 target_offset = cpu.gpr[EDI].d & address_mask(op)
    cdef char* target
    cdef char* source
    if cpu.eflags & DF or cpu.mode & MODE_CHECKED or count > 0x10000000:
        return 0
    bytes = before_wrap(op, target_offset, count * size)
    target = bulk_range(cpu, ES, target_offset, True, &bytes)
    if target == NULL:
        return 0
    if kind == MOVS:
        source_bytes = before_wrap(op, source_offset, bytes)
        source = bulk_range(cpu, op.segment, source_offset, False, &source_bytes)
        if source == NULL:
            return 0
        count = source_bytes // size
        bytes = count * size
        if target <= source or target >= source + bytes:
            memmove(target, source, bytes)
        else:
            # The ranges overlap so that earlier iterations feed later ones.
            for i in range(count):
                memmove(target + i * size, source + i * size, size)
        advance(cpu, op, ESI, bytes)
    else:
        count = bytes // size
        fill(target, cpu.gpr[EAX].d, count, size)
    advance(cpu, op, EDI, count * size)
    return count


cdef inline u32 before_wrap(Uop* op, u32 offset, u32 bytes) noexcept nogil:
    """With 16-bit addressing, no more than up to the end of 64 KiB."""
    return <u32>min_u64(bytes, 0x10000 - offset) if op.extra & ADDRESS16 else bytes


cdef inline bint ended(CPU* cpu, Uop* op, const u32 kind) noexcept nogil:
    """CMPS and SCAS end early: REPZ when ZF is clear, REPNZ when it is set."""
    if kind == CMPS or kind == SCAS:
        return get_zf(cpu) == (op.reg == REP_NZ)
    return False


cdef u32 iterate(CPU* cpu, Uop* op, const u32 kind, const u32 size, u32 count, bint* good) noexcept nogil:
    """Up to `count` iterations; how many completed. `good` is False when the next one faulted or left for the host.

    Stops behind the iteration that made its own block stale: the next one may be another instruction.
    """
    cdef u32 done = 0
    cdef u32 n
    good[0] = True
    while done < count:
        n = bulk(cpu, op, kind, size, count - done) if kind == MOVS or kind == STOS else 0
        if n == 0:
            if not iterate_once(cpu, op, kind, size):
                good[0] = False
                break
            n = 1
        done += n
        advance(cpu, op, ECX, -<i64>n)
        if ended(cpu, op, kind) or block_of(op).stale:
            break
    cpu.iterations += done
    return done


cdef enum:
    MAX_WHOLE_REP = 0x4000      # iterations at once: their cycles fit into `left`, whatever one costs


cdef void repeat_in_part(CPU* cpu, Uop* op, const u32 kind, const u32 size, u32 count) noexcept nogil:
    """A REP that may not fit into the slice: as many iterations as fit, then the dispatcher decides."""
    cdef u32 per = op.imm
    cdef i64 cycles
    cdef u64 units
    cdef u32 done
    cdef bint good
    leave_before(cpu, op)
    cycles = <i32>cpu.left
    units = cpu.left >> 32
    if units < count:
        count = <u32>units if units else 1
    if per and cycles < <i64>count * per:
        count = <u32>((cycles + per - 1) // per) if cycles > 0 else 1
    done = iterate(cpu, op, kind, size, count, &good)
    cpu.left -= packed_cost(done, done * per)
    if good and (cpu.gpr[ECX].d & address_mask(op) == 0 or (done and ended(cpu, op, kind))):
        cpu.surplus += done - 1
        cpu.left -= op.cycles
        cpu.eip += op.length
        return
    cpu.surplus += done
    if not good and not miss_is_due(cpu) and cpu.exit == EXIT_NONE:
        deliver_fault(cpu)
    elif done:
        cpu.resume_unit = units_now(cpu)        # RF is set between iterations (SDM 3:17.3.1.1)


cdef inline void string(CPU* cpu, Uop* op, char* mem, const u32 kind, const u32 size) noexcept nogil:
    cdef u32 count, done
    cdef bint good
    cdef u64 left
    if op.reg == 0:
        if not iterate_once(cpu, op, kind, size):
            raise_fault(cpu, op)
            return
        finish(cpu, op, mem)
        return
    count = cpu.gpr[ECX].d & address_mask(op)
    if count == 0:
        next_uop(cpu, op, mem)
        return
    left = cpu.left - packed_cost(count - 1, count * op.imm)
    if rare(count > MAX_WHOLE_REP or left & OVERDRAWN):
        repeat_in_part(cpu, op, kind, size, count)
        return
    done = iterate(cpu, op, kind, size, count, &good)
    if rare(not good):
        cpu.left -= packed_cost(done, done * op.imm)
        cpu.surplus += done
        raise_fault(cpu, op)
        return
    if rare(block_of(op).stale and done < count and not ended(cpu, op, kind)):
        cpu.left -= packed_cost(done, done * op.imm)
        cpu.surplus += done
        leave_before(cpu, op)
        cpu.resume_unit = units_now(cpu)
        return
    cpu.left -= packed_cost(done - 1, done * op.imm)
    cpu.surplus += done - 1
    finish(cpu, op, mem)
