# Hardware task switches (SDM 3:7): TSSs and task gates in JMP, CALL and the IDT, IRET to the task it was called from.
#
# Enters: the selector of a TSS. Leaves: the CPU in the new task, or False after noting a fault. Next: transfers.pxi.
#
# Design: the manual's order (SDM 3:7.3, table 7-1) has a commit point. Before it, everything is checked and every byte
# that will be touched is found (Span), so that what follows cannot fail half-way; a fault belongs to the old task, and
# nothing has changed. Behind it, a fault belongs to the new task: the switch is made, CPU.in_new_task is set, and
# whoever delivers the fault finds the new task's registers. Since an instruction behind its commit point cannot run
# again, nothing here waits for a device: a TSS or a segment descriptor in device memory is #TS.

cdef enum TaskSwitch:
    SWITCH_JUMP             # JMP: the old task is no longer busy
    SWITCH_NEST             # CALL, interrupts and exceptions: it stays busy, and is linked to
    SWITCH_RETURN           # IRET with NT: back along the link

cdef enum:
    # A TSS keeps EIP, EFLAGS, eight general and four or six segment registers, LDTR, in words of its width.
    TSS32_STATE = 32        # SDM 3:7.2.1, figure 7-2
    TSS32_CR3 = 28
    TSS32_TRAP = 100        # bit 0: #DB when the task is entered
    TSS16_STATE = 14        # SDM 3:7.6, figure 7-10
    TSS16_LIMIT = 43
    BUSY_BYTE = 5           # of a descriptor: its type

cdef struct Span:           # physical places of linear memory that lies in one or two pages, all of it RAM or ROM
    u64 low
    u64 high                # of the second page
    u32 first               # bytes in the first page


cdef bint in_memory(CPU* cpu, u64 physical, u32 size) noexcept nogil:
    cdef Region* region = find_region(cpu, physical)
    return region != NULL and region.kind != REGION_MMIO and physical + size <= region.end


cdef bint find_span(CPU* cpu, u32 linear, u32 size, bint write, u32 selector, Span* span) noexcept nogil:
    """Where `size` bytes, at most a page, are. #PF when they are not mapped, #TS(selector) when they are a device's."""
    span.first = PAGE_SIZE - (linear & 0xFFF)
    span.high = 0
    if not translate(cpu, linear, write, False, &span.low):
        return False
    if span.first < size and not translate(cpu, linear + span.first, write, False, &span.high):
        return False
    if not in_memory(cpu, span.low, min_u32(size, span.first)) or (
            span.first < size and not in_memory(cpu, span.high, size - span.first)):
        return refuse(cpu, VECTOR_TS, selector & SELECTOR_INDEX)
    return True


cdef inline u32 min_u32(u32 a, u32 b) noexcept nogil:
    return a if a < b else b


cdef u32 span_read(CPU* cpu, Span* span, u32 offset, u32 size) noexcept nogil:
    cdef u32 i, byte
    cdef u32 value = 0
    for i in range(offset, offset + size):
        byte = (<u8*>cpu.ram)[span.low + i if i < span.first else span.high + i - span.first]
        value |= byte << (8 * (i - offset))
    return value


cdef void span_write(CPU* cpu, Span* span, u32 offset, u32 size, u32 value) noexcept nogil:
    cdef u32 i
    for i in range(offset, offset + size):
        physical_write(cpu, span.low + i if i < span.first else span.high + i - span.first, 1,
                       (value >> (8 * (i - offset))) & 0xFF)


cdef inline u32 tss_width(u32 attributes) noexcept nogil:
    return 4 if attributes & TYPE_32 else 2


cdef inline u32 tss_state(u32 attributes) noexcept nogil:
    return TSS32_STATE if attributes & TYPE_32 else TSS16_STATE


cdef inline u32 tss_segments(u32 attributes) noexcept nogil:
    """Segment registers that it keeps: a 16-bit TSS knows no FS and GS."""
    return 6 if attributes & TYPE_32 else 4


cdef inline u32 tss_limit(u32 attributes) noexcept nogil:
    return TSS32_LIMIT if attributes & TYPE_32 else TSS16_LIMIT


# --- Ways to a task (SDM 3:7.3) --------------------------------------------------------------------------------------

cdef bint names_task(u32 attributes) noexcept nogil:
    """A descriptor that JMP and CALL may name: an available TSS or a task gate."""
    cdef u32 type = attributes & (SEG_S | SEG_TYPE)
    return type == TYPE_TSS16 or type == TYPE_TSS32 or type == TYPE_TASK_GATE


cdef bint transfer_to_task(CPU* cpu, u32 selector, Descriptor* d, TaskSwitch how, u32 return_eip) noexcept nogil:
    """JMP and CALL (SDM 2, JMP, "Task gate" and "Task state segment")."""
    if dpl_of(d.attributes) < cpu.cpl or dpl_of(d.attributes) < selector & SELECTOR_RPL:
        return refuse(cpu, VECTOR_GP, selector & SELECTOR_INDEX)
    if d.attributes & (SEG_S | SEG_TYPE) == TYPE_TASK_GATE:
        if not d.attributes & SEG_P:
            return refuse(cpu, VECTOR_NP, selector & SELECTOR_INDEX)
        selector = d.low >> 16
    return enter_task(cpu, selector, how, return_eip, get_eflags(cpu), NULL)


cdef bint enter_task(CPU* cpu, u32 selector, TaskSwitch how, u32 return_eip, u32 flags, u32* error) noexcept nogil:
    """To an available TSS in the GDT. `flags` and `return_eip` are saved; `error` is the code to push, or NULL."""
    cdef Descriptor tss
    cdef u32 type
    if selector & SELECTOR_TI:
        return refuse(cpu, VECTOR_GP, selector & SELECTOR_INDEX)
    if not fetch_descriptor(cpu, selector, &tss):
        return False
    type = tss.attributes & (SEG_S | SEG_TYPE)
    if type != TYPE_TSS16 and type != TYPE_TSS32:
        return refuse(cpu, VECTOR_GP, selector & SELECTOR_INDEX)
    if not tss.attributes & SEG_P:
        return refuse(cpu, VECTOR_NP, selector & SELECTOR_INDEX)
    return switch_task(cpu, selector, &tss, how, return_eip, flags, error)


cdef bint return_to_task(CPU* cpu, u32 return_eip) noexcept nogil:
    """IRET with NT: the task that the current TSS links to (SDM 2, IRET, "Task return"). It has to be busy."""
    cdef Descriptor tss
    cdef u32 selector, type
    if cpu.tr.attributes & SEG_NULL:
        return refuse(cpu, VECTOR_TS, 0)
    if not linear_read(cpu, <u32>cpu.tr.base, 2, False, &selector):
        return False
    if selector & SELECTOR_TI or selector & SELECTOR_INDEX == NOTHING or not in_table(cpu, selector, &tss.linear):
        return refuse(cpu, VECTOR_TS, selector & SELECTOR_INDEX)
    if not fetch_descriptor(cpu, selector, &tss):
        return False
    type = tss.attributes & (SEG_S | SEG_TYPE)
    if type != TYPE_TSS16_BUSY and type != TYPE_TSS32_BUSY:
        return refuse(cpu, VECTOR_TS, selector & SELECTOR_INDEX)
    if not tss.attributes & SEG_P:
        return refuse(cpu, VECTOR_NP, selector & SELECTOR_INDEX)
    return switch_task(cpu, selector, &tss, SWITCH_RETURN, return_eip, get_eflags(cpu) & ~<u32>NT, NULL)


cdef void end_transfer(CPU* cpu, Uop* op) noexcept nogil:
    """A far transfer that noted a fault: before its commit point it is as if it had not begun; behind that it has
    retired, and the fault is that of the new task at its first instruction."""
    cdef u32 eip = cpu.eip
    if not cpu.in_new_task:
        raise_fault(cpu, op)
        return
    arrive(cpu, op, eip)
    cpu.in_new_task = False
    cpu.faults += 1
    deliver(cpu, cpu.fault_vector, cpu.fault_error, has_error_code(cpu.fault_vector), False)
    if cpu.exit == EXIT_IO:     # a frame on a device: there is no instruction to run again
        shut_down(cpu, cpu.fault_vector, cpu.fault_error)


# --- The switch (SDM 3:7.3, steps 3-14) ------------------------------------------------------------------------------

cdef bint find_busy_byte(CPU* cpu, u32 selector, Span* span, bint* kept) noexcept nogil:
    """The type byte of a TSS descriptor. Not `kept` in memory: a hypervisor's table, whose TSSs are never busy."""
    cdef u32 linear
    if not in_table(cpu, selector, &linear):
        return refuse(cpu, VECTOR_TS, selector & SELECTOR_INDEX)
    kept[0] = linear != NOT_IN_MEMORY
    return not kept[0] or find_span(cpu, linear + BUSY_BYTE, 1, True, selector, span)


cdef void save_task(CPU* cpu, Span* tss, u32 flags, u32 eip) noexcept nogil:
    """The dynamic fields of the current task (SDM 3:7.2.1); CR3 and LDTR are not saved."""
    cdef u32 width = tss_width(cpu.tr.attributes)
    cdef u32 at = tss_state(cpu.tr.attributes)
    cdef u32 i
    span_write(cpu, tss, at, width, eip)
    span_write(cpu, tss, at + width, width, flags)
    for i in range(8):
        span_write(cpu, tss, at + (2 + i) * width, width, cpu.gpr[i].d)
    for i in range(tss_segments(cpu.tr.attributes)):
        span_write(cpu, tss, at + (10 + i) * width, 2, cpu.seg[i].selector)


cdef bint switch_task(CPU* cpu, u32 selector, Descriptor* descriptor, TaskSwitch how, u32 return_eip, u32 flags,
                      u32* error) noexcept nogil:
    """Leave the current task for that of a TSS which may be entered."""
    cdef Span old, new, old_type, new_type
    cdef bint old_kept, new_kept, switched
    cdef u32 old_selector = cpu.tr.selector
    cdef Segment tr
    fill_segment(&tr, selector, descriptor)
    if tr.limit < tss_limit(tr.attributes):
        return refuse(cpu, VECTOR_TS, selector & SELECTOR_INDEX)
    if cpu.tr.attributes & SEG_NULL or cpu.tr.limit < tss_limit(cpu.tr.attributes):
        return refuse(cpu, VECTOR_TS, old_selector & SELECTOR_INDEX)
    if not (find_busy_byte(cpu, selector, &new_type, &new_kept)
            and find_busy_byte(cpu, old_selector, &old_type, &old_kept)
            and find_span(cpu, <u32>cpu.tr.base, tss_limit(cpu.tr.attributes) + 1, True, old_selector, &old)
            and find_span(cpu, <u32>tr.base, tss_limit(tr.attributes) + 1, how == SWITCH_NEST, selector, &new)):
        return False

    # The commit point
    if how != SWITCH_NEST and old_kept:
        span_write(cpu, &old_type, 0, 1, span_read(cpu, &old_type, 0, 1) & ~<u32>TYPE_BUSY)
    save_task(cpu, &old, flags, return_eip)
    if how == SWITCH_NEST:
        span_write(cpu, &new, 0, 2, old_selector)
    if how != SWITCH_RETURN and new_kept:
        span_write(cpu, &new_type, 0, 1, span_read(cpu, &new_type, 0, 1) | TYPE_BUSY)
    cpu.tr = tr
    cpu.tr.attributes |= TYPE_BUSY
    cpu.in_new_task = True
    switched = load_task(cpu, &new, how == SWITCH_NEST, error)
    if cpu.exit == EXIT_IO:
        cpu.exit = EXIT_NONE
        switched = refuse(cpu, VECTOR_TS, selector & SELECTOR_INDEX)
    cpu.in_new_task = not switched
    update_mode(cpu)
    return switched


cdef bint load_task(CPU* cpu, Span* tss, bint nested, u32* error) noexcept nogil:
    """Load the state of the task that TR names; what is wrong with it is a fault in its own context."""
    cdef u32 width = tss_width(cpu.tr.attributes)
    cdef u32 at = tss_state(cpu.tr.attributes)
    cdef u32 count = tss_segments(cpu.tr.attributes)
    cdef u32 selectors[6]
    cdef u32 flags, ldt, i
    cdef u32 cr3 = cpu.cr3
    cdef bint trap = False
    cpu.eip = span_read(cpu, tss, at, width)
    flags = span_read(cpu, tss, at + width, width)
    for i in range(8):      # a 16-bit TSS leaves the upper halves undefined
        cpu.gpr[i].q = span_read(cpu, tss, at + (2 + i) * width, width)
    for i in range(6):
        selectors[i] = span_read(cpu, tss, at + (10 + i) * width, 2) if i < count else NOTHING
        clear_segment(&cpu.seg[i], selectors[i])
    ldt = span_read(cpu, tss, at + (10 + count) * width, 2)
    clear_segment(&cpu.ldtr, ldt)
    if width == 4:
        cr3 = span_read(cpu, tss, TSS32_CR3, 4)
        trap = span_read(cpu, tss, TSS32_TRAP, 1) & 1
    set_eflags(cpu, flags | NT if nested else flags, EFLAGS_WRITABLE)
    cpu.cpl = 3 if flags & VM else selectors[CS] & SELECTOR_RPL
    cpu.cr0 |= CR0_TS
    disable_local_breakpoints(cpu)
    cpu.halted = False
    cpu.shadow_unit = NEVER
    update_mode(cpu)
    if cpu.cr0 & CR0_PG and cr3 != cpu.cr3 and not write_cr(cpu, 3, cr3):
        return False
    if not load_task_segments(cpu, selectors, ldt):
        return False
    if error != NULL and not checked_push(cpu, width, error[0]):
        return False
    if cpu.eip > cpu.seg[CS].limit:
        return refuse(cpu, VECTOR_GP, 0)
    if trap:
        cpu.debug_traps |= DR6_BT
    return True


cdef bint as_invalid_tss(CPU* cpu, u32 also) noexcept nogil:
    """What a segment load notes as #GP, or as `also`, is #TS in a task switch (SDM 3:7.3, table 7-1)."""
    if cpu.fault_vector == VECTOR_GP or cpu.fault_vector == also:
        cpu.fault_vector = VECTOR_TS
    return False


cdef bint load_task_segments(CPU* cpu, u32* selectors, u32 ldt) noexcept nogil:
    """LDTR, CS, SS, then the data segments; the rest stay unusable behind one that is refused."""
    cdef Descriptor d
    cdef u32 code = selectors[CS]
    cdef u32 seg, dpl
    if not load_ldtr(cpu, ldt):
        return as_invalid_tss(cpu, VECTOR_NP)
    if v86_mode(cpu):
        load_v86_segments(cpu, selectors)
        return True
    if not fetch_descriptor(cpu, code, &d):
        return as_invalid_tss(cpu, VECTOR_GP)
    dpl = dpl_of(d.attributes)
    if not is_code(d.attributes) or (
            dpl > cpu.cpl if d.attributes & SEG_CONFORMING else dpl != cpu.cpl):
        return refuse(cpu, VECTOR_TS, code & SELECTOR_INDEX)
    if not d.attributes & SEG_P:
        return refuse(cpu, VECTOR_NP, code & SELECTOR_INDEX)
    if not mark_accessed(cpu, &d):
        return False
    set_code(cpu, code, &d, cpu.cpl)
    if not check_stack_segment(cpu, selectors[SS], cpu.cpl, VECTOR_TS, &d):
        return False
    fill_segment(&cpu.seg[SS], selectors[SS], &d)
    refresh_segment(cpu, SS)
    for seg in range(6):
        if seg == CS or seg == SS:
            continue
        if not load_segment(cpu, seg, selectors[seg]):
            return as_invalid_tss(cpu, VECTOR_GP)
    update_mode(cpu)
    return True
